// SPDX-License-Identifier: BSD-2-Clause
#include "lab/tun_link.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <ranges>
#include <utility>

#include "lab/tun_device.hpp"

namespace lab {

TunLink::TunLink(const Netns& a, const Netns& b, int mtu) : fds_{open_tun(a, 1, mtu), open_tun(b, 2, mtu)} {}

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
  const ssize_t got = ::read(fds_[from_a ? 0 : 1].get(), buffer.data(), buffer.size());
  if (got <= 0) return false;
  const std::span<std::byte> bytes(buffer.data(), static_cast<std::size_t>(got));
  Fate fate = Fate::kPass;
  if (decide_)
    if (const auto segment = parse_segment(bytes, from_a)) fate = decide_(*segment);
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
  [[maybe_unused]] const auto written = ::write(fds_[from_a ? 1 : 0].get(), bytes.data(), bytes.size());
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
