// SPDX-License-Identifier: BSD-2-Clause
#include "lab/tun_link.hpp"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <optional>
#include <ranges>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

namespace lab {
namespace {

constexpr const char* kDevice = "tun0";

[[noreturn]] void fail(std::string action) {
  throw tcpinfo::Error(std::error_code(errno, std::system_category()), std::move(action),
                       "needs root and /dev/net/tun");
}

unsigned at(std::span<const std::byte> bytes, std::size_t offset) { return std::to_integer<unsigned>(bytes[offset]); }

unsigned word_at(std::span<const std::byte> bytes, std::size_t offset) {
  return at(bytes, offset) << 8 | at(bytes, offset + 1);
}

// Nothing if it is no whole TCP segment.
std::optional<Segment> parse(std::span<std::byte> bytes, bool from_a) {
  constexpr std::size_t kIpv4Header = 20, kIpv6Header = 40, kTcpHeader = 20;
  if (bytes.size() < kIpv4Header + kTcpHeader) return std::nullopt;
  std::size_t tcp = 0;
  if (at(bytes, 0) >> 4 == 4) {
    tcp = (at(bytes, 0) & 0xf) * 4;
    if (at(bytes, 9) != IPPROTO_TCP) return std::nullopt;
  } else {
    tcp = kIpv6Header;
    if (bytes.size() < tcp + kTcpHeader || at(bytes, 6) != IPPROTO_TCP) return std::nullopt;
  }
  if (bytes.size() < tcp + kTcpHeader) return std::nullopt;
  const auto header = bytes.subspan(tcp);
  Segment segment;
  segment.bytes = bytes;
  segment.from_a = from_a;
  segment.ipv6 = at(bytes, 0) >> 4 == 6;
  segment.source_port = static_cast<std::uint16_t>(word_at(header, 0));
  segment.destination_port = static_cast<std::uint16_t>(word_at(header, 2));
  segment.sequence = word_at(header, 4) << 16 | word_at(header, 6);
  const std::size_t data = (at(header, 12) >> 4) * 4;
  segment.payload = header.size() > data ? header.size() - data : 0;
  const unsigned flags = at(header, 13);
  segment.fin = flags & 1;
  segment.syn = flags & 2;
  segment.rst = flags & 4;
  segment.ack = flags & 16;
  return segment;
}

int open_device(const Netns& netns, int mtu, int host) {
  int fd = -1;
  netns.run([&] {
    fd = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) fail("open /dev/net/tun");
    ifreq request{};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    std::strcpy(request.ifr_name, kDevice);
    if (ioctl(fd, TUNSETIFF, &request) != 0) {
      ::close(fd);
      fail("make a TUN device in " + netns.name());
    }
  });
  try {
    const auto in = [&](std::vector<std::string> arguments) {
      std::vector<std::string> command{"ip", "-n", netns.name()};
      command.insert(command.end(), arguments.begin(), arguments.end());
      run_command(std::move(command));
    };
    in({"address", "add", fmt::format("10.77.0.{}/24", host), "dev", kDevice});
    in({"address", "add", fmt::format("fd77::{}/64", host), "dev", kDevice, "nodad"});
    // The queue holds what waits while nobody pumps.
    in({"link", "set", kDevice, "mtu", std::to_string(mtu), "txqueuelen", "20000", "up"});
  } catch (...) {
    ::close(fd);
    throw;
  }
  return fd;
}

}  // namespace

bool Segment::set_ecn(Ecn code_point) const noexcept {
  const bool ipv4 = at(bytes, 0) >> 4 == 4;
  const unsigned bits = ipv4 ? at(bytes, 1) & 3 : at(bytes, 1) >> 4 & 3;
  if (bits == 0) return false;
  const auto wanted = static_cast<unsigned>(code_point);
  if (!ipv4) {
    bytes[1] = static_cast<std::byte>((at(bytes, 1) & ~0x30u) | wanted << 4);
    return true;
  }
  // RFC 1624: the header's checksum follows the one word that changes.
  const unsigned before = word_at(bytes, 0);
  bytes[1] = static_cast<std::byte>((at(bytes, 1) & ~3u) | wanted);
  unsigned sum = (~word_at(bytes, 10) & 0xffff) + (~before & 0xffff) + word_at(bytes, 0);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = ~(sum + (sum >> 16)) & 0xffff;
  bytes[10] = static_cast<std::byte>(sum >> 8);
  bytes[11] = static_cast<std::byte>(sum & 0xff);
  return true;
}

bool TunLink::available() {
  const auto exists = [] { return ::access("/dev/net/tun", F_OK) == 0; };
  if (exists()) return true;
  try {
    run_command({"modprobe", "tun"});
  } catch (const std::exception&) {  // no such module, or no modprobe
  }
  return exists();
}

TunLink::TunLink(const Netns& a, const Netns& b, int mtu) {
  fds_[0] = open_device(a, mtu, 1);
  try {
    fds_[1] = open_device(b, mtu, 2);
  } catch (...) {
    ::close(fds_[0]);
    throw;
  }
}

TunLink::~TunLink() {
  for (const int fd : fds_) ::close(fd);
}

std::size_t TunLink::pump(std::size_t limit) {
  std::size_t moved = 0;
  // By turns, so that data and acknowledgements interleave.
  for (bool more = true; more && moved < limit;) {
    more = false;
    for (const bool from_a : {true, false})
      if (move(from_a)) {
        more = true;
        ++moved;
      }
  }
  return moved;
}

bool TunLink::move(bool from_a) {
  std::array<std::byte, 65536> buffer;
  const ssize_t got = ::read(fds_[from_a ? 0 : 1], buffer.data(), buffer.size());
  if (got <= 0) return false;
  const std::span<std::byte> bytes(buffer.data(), static_cast<std::size_t>(got));
  Fate fate = Fate::kPass;
  if (decide_)
    if (const auto segment = parse(bytes, from_a)) fate = decide_(*segment);
  switch (fate) {
    case Fate::kDrop:
      break;
    case Fate::kHold:
      held_.push_back({from_a, {bytes.begin(), bytes.end()}});
      break;
    case Fate::kTwice:
      deliver(from_a, bytes);
      [[fallthrough]];
    case Fate::kPass:
      deliver(from_a, bytes);
  }
  return true;
}

// The kernel takes the packet in before write() returns; one that it refuses is lost as on any link.
void TunLink::deliver(bool from_a, std::span<const std::byte> bytes) const noexcept {
  [[maybe_unused]] const auto written = ::write(fds_[from_a ? 1 : 0], bytes.data(), bytes.size());
}

std::size_t TunLink::release(bool reversed) {
  const auto held = std::exchange(held_, {});
  const auto each = [this](const Held& packet) { deliver(packet.from_a, packet.bytes); };
  if (reversed)
    std::ranges::for_each(held | std::views::reverse, each);
  else
    std::ranges::for_each(held, each);
  return held.size();
}

Clog::Clog(const Netns& netns, std::string_view device) : netns_(netns.name()), device_(device) {
  // tbf(8): a packet larger than the bucket is dropped, so that the first one still gets through.
  run_command({"tc", "-n", netns_, "qdisc", "replace", "dev", device_, "root", "tbf", "rate", "800bit", "burst", "2000",
               "limit", "10000000"});
}

Clog::~Clog() {
  try {
    run_command({"tc", "-n", netns_, "qdisc", "del", "dev", device_, "root"});
  } catch (const std::exception&) {  // the namespace is gone
  }
}

}  // namespace lab
