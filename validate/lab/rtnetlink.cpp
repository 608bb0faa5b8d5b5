// SPDX-License-Identifier: BSD-2-Clause
#include "lab/rtnetlink.hpp"

#include <linux/gen_stats.h>
#include <linux/netlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

namespace lab {
namespace {

[[noreturn]] void fail(int error, const std::string& action) {
  throw tcpinfo::Error(std::error_code(error, std::system_category()), action, "");
}

template <class T>
std::span<const std::byte> bytes_of(const T& object) {
  return std::as_bytes(std::span(&object, 1));
}

// Netlink aligns to 4 bytes, and the kernel's structures hold 64-bit numbers.
template <class T>
std::optional<T> read(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

std::span<const std::byte> find(std::span<const std::byte> attributes, std::uint16_t type) {
  while (const auto head = read<nlattr>(attributes)) {
    if (head->nla_len < sizeof(nlattr) || head->nla_len > attributes.size()) break;
    if ((head->nla_type & NLA_TYPE_MASK) == type)
      return attributes.subspan(sizeof(nlattr), head->nla_len - sizeof(nlattr));
    attributes = attributes.subspan(std::min<std::size_t>(NLA_ALIGN(head->nla_len), attributes.size()));
  }
  return {};
}

std::string_view text(std::span<const std::byte> bytes) {
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return all.substr(0, all.find('\0'));
}

struct LinkRequest {
  ifinfomsg head{};
  nlattr name_head{};
  std::array<char, IFNAMSIZ> name{};

  explicit LinkRequest(std::string_view device) {
    head.ifi_family = AF_UNSPEC;
    name_head = {sizeof(name_head) + sizeof(name), IFLA_IFNAME};
    device.copy(name.data(), name.size() - 1);
  }
};

}  // namespace

Rtnetlink::Rtnetlink(const Netns& netns) : name_(netns.name()), mutex_(std::make_unique<std::mutex>()) {
  netns.run([&] { socket_.reset(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)); });
  // The kernel answers within the call that asks it: this only keeps a mistake of ours from waiting for ever.
  const timeval timeout{.tv_sec = 5, .tv_usec = 0};
  if (socket_.get() < 0 || ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0)
    fail(errno, "open a netlink socket in " + name_);
}

void Rtnetlink::exchange(std::uint16_t type, std::uint16_t flags, std::span<const std::byte> payload,
                         const std::string& action, const Sink& sink) const {
  const std::lock_guard lock(*mutex_);
  nlmsghdr head{};
  head.nlmsg_len = static_cast<std::uint32_t>(sizeof(head) + payload.size());
  head.nlmsg_type = type;
  // With the acknowledgement each exchange has an end.
  head.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags | (flags & NLM_F_DUMP ? 0 : NLM_F_ACK));
  head.nlmsg_seq = ++sequence_;
  std::vector<std::byte> message(head.nlmsg_len);
  std::memcpy(message.data(), &head, sizeof(head));
  std::memcpy(message.data() + sizeof(head), payload.data(), payload.size());
  if (::send(socket_.get(), message.data(), message.size(), 0) < 0) fail(errno, action);
  std::vector<std::byte> buffer(65536);
  for (;;) {
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail(got < 0 ? errno : EIO, action);
    std::span<const std::byte> left(buffer.data(), static_cast<std::size_t>(got));
    while (const auto answer = read<nlmsghdr>(left)) {
      if (answer->nlmsg_len < sizeof(nlmsghdr) || answer->nlmsg_len > left.size()) fail(EBADMSG, action);
      const auto body = left.subspan(sizeof(nlmsghdr), answer->nlmsg_len - sizeof(nlmsghdr));
      left = left.subspan(std::min<std::size_t>(NLMSG_ALIGN(answer->nlmsg_len), left.size()));
      if (answer->nlmsg_seq != sequence_) continue;  // of an exchange that threw
      if (answer->nlmsg_type == NLMSG_DONE) return;
      if (answer->nlmsg_type == NLMSG_ERROR) {
        const int error = read<int>(body).value_or(-EBADMSG);
        if (error != 0) fail(-error, action);
        return;
      }
      sink(answer->nlmsg_type, body);
    }
  }
}

Rtnetlink::Device Rtnetlink::device(std::string_view name) const {
  Device device;
  exchange(RTM_GETLINK, 0, bytes_of(LinkRequest(name)),
           fmt::format("read the counters of device {} in {}", name, name_),
           [&](std::uint16_t, std::span<const std::byte> payload) {
             const auto head = read<ifinfomsg>(payload);
             if (!head) return;
             device.index = head->ifi_index;
             const auto attribute = find(payload.subspan(NLMSG_ALIGN(sizeof(ifinfomsg))), IFLA_STATS64);
             // Newer kernels append to it.
             rtnl_link_stats64 stats{};
             std::memcpy(&stats, attribute.data(), std::min(sizeof(stats), attribute.size()));
             device.rx_packets = stats.rx_packets;
             device.rx_bytes = stats.rx_bytes;
             device.tx_dropped = stats.tx_dropped;
           });
  return device;
}

std::vector<Rtnetlink::Qdisc> Rtnetlink::qdiscs(int device) const {
  std::vector<Qdisc> qdiscs;
  tcmsg request{};
  request.tcm_family = AF_UNSPEC;
  request.tcm_ifindex = device;
  exchange(RTM_GETQDISC, NLM_F_DUMP, bytes_of(request), "read the queues' counters in " + name_,
           [&](std::uint16_t, std::span<const std::byte> payload) {
             const auto head = read<tcmsg>(payload);
             // Older kernels give those of all devices.
             if (!head || head->tcm_ifindex != device) return;
             const auto attributes = payload.subspan(NLMSG_ALIGN(sizeof(tcmsg)));
             const auto stats = find(attributes, TCA_STATS2);
             const auto basic = read<gnet_stats_basic>(find(stats, TCA_STATS_BASIC));
             const auto queue = read<gnet_stats_queue>(find(stats, TCA_STATS_QUEUE));
             auto& qdisc = qdiscs.emplace_back();
             qdisc.kind = text(find(attributes, TCA_KIND));
             qdisc.parent = head->tcm_parent;
             if (basic) qdisc.packets = basic->packets;
             if (!queue) return;
             qdisc.drops = queue->drops;
             qdisc.requeues = queue->requeues;
             qdisc.queued = queue->qlen;
           });
  return qdiscs;
}

void Rtnetlink::remove(std::string_view device) const noexcept {
  try {
    exchange(RTM_DELLINK, 0, bytes_of(LinkRequest(device)), "remove a device", [](auto, auto) {});
  } catch (const std::exception&) {  // gone already
  }
}

}  // namespace lab
