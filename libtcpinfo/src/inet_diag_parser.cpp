// SPDX-License-Identifier: BSD-2-Clause
#include "inet_diag_parser.hpp"

#include <sys/socket.h>

#include <linux/inet_diag.h>

#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include <tcpinfo/record.hpp>

#include "draft.hpp"

namespace tcpinfo::inet_diag {
namespace {

// kernel v6.18 net/ipv4/tcp_bbr.c bbr_init(), tcp_vegas.c tcp_vegas_init(): nothing was measured yet.
constexpr std::uint32_t kNoMinRtt = ~std::uint32_t{0}, kVegasNoRtt = 0x7fffffff;

// Members of the attribute's array of u32, as many as it has.
void fill_memory(Draft& draft, std::span<const std::byte> data) noexcept {
  std::size_t i = 0;
  const auto next = [&](std::uint32_t& value) {
    if ((i + 1) * sizeof(value) > data.size()) return false;
    value = load<std::uint32_t>(data.data() + i++ * sizeof(value));
    return true;
  };
  // kernel v6.18 include/uapi/linux/sock_diag.h SK_MEMINFO_*
#define TCPINFO_NEXT(id) \
  if (std::uint32_t value; next(value)) TCPINFO_PUT(id, value);
  TCPINFO_NEXT(skmem_rmem_alloc)
  TCPINFO_NEXT(skmem_rcvbuf)
  TCPINFO_NEXT(skmem_wmem_alloc)
  TCPINFO_NEXT(skmem_sndbuf)
  TCPINFO_NEXT(skmem_fwd_alloc)
  TCPINFO_NEXT(skmem_wmem_queued)
  TCPINFO_NEXT(skmem_optmem)
  TCPINFO_NEXT(skmem_backlog)
  TCPINFO_NEXT(skmem_drops)
#undef TCPINFO_NEXT
}

// A text with its NUL, or one that fills the attribute. False if it is none that the record can hold.
bool load_name(std::span<const std::byte> data, tcpinfo_name& name) noexcept {
  const auto* text = reinterpret_cast<const char*>(data.data());
  const std::size_t length = strnlen(text, data.size());
  if (length == 0 || length >= sizeof(name.text)) return false;
  name = {};
  std::memcpy(name.text, text, length);
  return true;
}

void fill_addresses(Draft& draft, const inet_diag_msg& message) noexcept {
  const auto address = [&](const __be32(&words)[4], tcpinfo_address& out) {
    if (message.idiag_family == AF_INET6) {
      std::memcpy(out.bytes, words, sizeof(out.bytes));
      return;
    }
    out.halves[0] = 0;
    out.bytes[8] = out.bytes[9] = 0;
    out.bytes[10] = out.bytes[11] = 0xff;
    std::memcpy(out.bytes + 12, words, 4);
  };
  address(message.id.idiag_src, draft.record.local_address);
  draft.mark(Field::local_address);
  address(message.id.idiag_dst, draft.record.peer_address);
  draft.mark(Field::peer_address);
}

constexpr std::uint16_t from_network(__be16 value) noexcept {
  if constexpr (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) return value;
  return static_cast<std::uint16_t>(value << 8 | value >> 8);
}

template <class T>
bool load_whole(std::span<const std::byte> data, T& value) noexcept {
  if (data.size() < sizeof(value)) return false;
  std::memcpy(&value, data.data(), sizeof(value));
  return true;
}

// The attributes inside INET_DIAG_ULP_INFO, or those of a message. False where they break their format.
template <class Visit>
bool for_each_attribute(std::span<const std::byte> rest, Visit&& visit) noexcept {
  while (rest.size() >= sizeof(nlattr)) {
    const auto head = load<nlattr>(rest.data());
    if (head.nla_len < sizeof(head) || head.nla_len > rest.size()) return false;
    visit(static_cast<std::uint16_t>(head.nla_type & NLA_TYPE_MASK),
          rest.subspan(sizeof(head), head.nla_len - sizeof(head)));
    const std::size_t step = NLA_ALIGN(head.nla_len);
    if (step >= rest.size()) return true;  // the last one may go without its padding
    rest = rest.subspan(step);
  }
  return rest.empty();
}

// False if the attribute breaks its format.
bool fill_attribute(Draft& draft, std::uint16_t type, std::span<const std::byte> data,
                    const Reading& reading) noexcept {
  switch (type) {
    case INET_DIAG_INFO:
      fill_tcp_info(draft, data, reading.layout);
      return !data.empty();
    case INET_DIAG_CONG:
      if (!load_name(data, draft.record.congestion_control)) return false;
      draft.mark(Field::congestion_control);
      return true;
    case INET_DIAG_SKMEMINFO:
      fill_memory(draft, data);
      return data.size() >= sizeof(std::uint32_t);
    case INET_DIAG_SHUTDOWN:
    case INET_DIAG_TOS: {
      std::uint8_t value;
      if (!load_whole(data, value)) return false;
      if (type == INET_DIAG_TOS)
        TCPINFO_PUT(tos, value);
      else
        TCPINFO_PUT(shutdown, value);
      return true;
    }
    case INET_DIAG_CGROUP_ID: {
      std::uint64_t value;
      if (!load_whole(data, value)) return false;
      if (value != 0) TCPINFO_PUT(cgroup_id, value);
      return true;
    }
    case INET_DIAG_ULP_INFO: {
      bool sound = true;
      const bool whole = for_each_attribute(data, [&](std::uint16_t nested, std::span<const std::byte> value) {
        if (nested != INET_ULP_INFO_NAME) return;
        if (!load_name(value, draft.record.ulp)) {
          sound = false;
          return;
        }
        draft.mark(Field::ulp);
        // kernel v6.18 net/mptcp/subflow.c subflow_ulp_init(): whoever has this ULP has the flag.
        if (text(draft.record.ulp) == "mptcp") TCPINFO_PUT(is_mptcp, 1);
      });
      return sound && whole;
    }
    case INET_DIAG_BBRINFO: {
      tcp_bbr_info value;
      if (!load_whole(data, value)) return false;
      if (value.bbr_pacing_gain == 0) return true;  // the algorithm has not begun yet, all is 0
      TCPINFO_PUT(bbr_bw, value.bbr_bw_lo | std::uint64_t{value.bbr_bw_hi} << 32);
      if (value.bbr_min_rtt != kNoMinRtt) TCPINFO_PUT(bbr_min_rtt, value.bbr_min_rtt);
      TCPINFO_PUT(bbr_pacing_gain, value.bbr_pacing_gain);
      TCPINFO_PUT(bbr_cwnd_gain, value.bbr_cwnd_gain);
      return true;
    }
    case INET_DIAG_DCTCPINFO: {
      tcp_dctcp_info value;
      if (!load_whole(data, value)) return false;
      // Without ECN the kernel falls back to reno (dctcp-reno) and the other members are only zeroed.
      if (value.dctcp_enabled == 0) return true;
      TCPINFO_PUT(dctcp_enabled, value.dctcp_enabled);
      TCPINFO_PUT(dctcp_ce_state, value.dctcp_ce_state);
      TCPINFO_PUT(dctcp_alpha, value.dctcp_alpha);
      TCPINFO_PUT(dctcp_ab_ecn, value.dctcp_ab_ecn);
      TCPINFO_PUT(dctcp_ab_tot, value.dctcp_ab_tot);
      return true;
    }
    default:
      return true;
  }
}

}  // namespace

bool fill(std::span<const std::byte> payload, const Reading& reading, tcpinfo_record& record,
          std::uint64_t& malformed) noexcept {
  inet_diag_msg message;
  if (!load_whole(payload, message) || (message.idiag_family != AF_INET && message.idiag_family != AF_INET6)) {
    ++malformed;
    return false;
  }
  record = make_record();
  Draft draft{record, {}};
  TCPINFO_PUT(time_ns, reading.time_ns);
  TCPINFO_PUT(cookie, message.id.idiag_cookie[0] | std::uint64_t{message.id.idiag_cookie[1]} << 32);
  if (reading.netns_cookie) TCPINFO_PUT(netns_cookie, *reading.netns_cookie);
  fill_addresses(draft, message);
  TCPINFO_PUT(sequence, reading.sequence);
  TCPINFO_PUT(event, TCPINFO_EVENT_SAMPLE);
  TCPINFO_PUT(source, TCPINFO_SOURCE_INET_DIAG);
  TCPINFO_PUT(family, message.idiag_family);
  TCPINFO_PUT(state, message.idiag_state);
  TCPINFO_PUT(local_port, from_network(message.id.idiag_sport));
  TCPINFO_PUT(peer_port, from_network(message.id.idiag_dport));

  std::optional<tcpvegas_info> vegas;
  const bool whole =
      for_each_attribute(payload.subspan(sizeof(message)), [&](std::uint16_t type, std::span<const std::byte> data) {
        const bool sound = type == INET_DIAG_VEGASINFO ? load_whole(data, vegas.emplace())
                                                       : fill_attribute(draft, type, data, reading);
        if (sound) return;
        ++malformed;
        if (type == INET_DIAG_VEGASINFO) vegas.reset();
      });
  if (!whole) ++malformed;
  // Illinois, Westwood and NV show values of their own in this attribute (kernel v6.18 net/ipv4/tcp_westwood.c
  // tcp_westwood_info()): Vegas is who has the name.
  if (vegas && vegas->tcpv_rtt != 0 && text(record.congestion_control) == "vegas") {
    TCPINFO_PUT(vegas_enabled, vegas->tcpv_enabled);
    TCPINFO_PUT(vegas_rttcnt, vegas->tcpv_rttcnt);
    if (vegas->tcpv_rtt != kVegasNoRtt) TCPINFO_PUT(vegas_rtt, vegas->tcpv_rtt);
    if (vegas->tcpv_minrtt != kVegasNoRtt) TCPINFO_PUT(vegas_minrtt, vegas->tcpv_minrtt);
  }
  // Of what no process holds the kernel tells 0: half-open, TIME_WAIT, and before v6.17 whatever was closed or not accepted.
  if (message.idiag_inode != 0) {
    TCPINFO_PUT(uid, message.idiag_uid);
    TCPINFO_PUT(inode, message.idiag_inode);
  }
  draft.finish();
  return true;
}

bool Messages::next(Message& message) noexcept {
  if (rest_.empty()) return false;
  nlmsghdr head;
  if (!load_whole(rest_, head) || head.nlmsg_len < sizeof(head) || head.nlmsg_len > rest_.size()) {
    malformed_ = true;
    rest_ = {};
    return false;
  }
  message.type = head.nlmsg_type;
  message.flags = head.nlmsg_flags;
  message.sequence = head.nlmsg_seq;
  message.payload = rest_.subspan(NLMSG_HDRLEN, head.nlmsg_len - NLMSG_HDRLEN);
  const std::size_t step = NLMSG_ALIGN(std::size_t{head.nlmsg_len});
  rest_ = step < rest_.size() ? rest_.subspan(step) : std::span<const std::byte>();
  return true;
}

std::optional<int> error_of(const Message& message) noexcept {
  int error;
  if (!load_whole(message.payload, error) || error == std::numeric_limits<int>::min()) return std::nullopt;
  return error < 0 ? -error : 0;
}

}  // namespace tcpinfo::inet_diag
