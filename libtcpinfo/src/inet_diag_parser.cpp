// SPDX-License-Identifier: BSD-2-Clause
#include "inet_diag_parser.hpp"

#include <sys/socket.h>

#include <linux/inet_diag.h>

#include <cstring>
#include <limits>
#include <string_view>

#include <tcpinfo/record.hpp>

namespace tcpinfo::inet_diag {
namespace {

// struct tcp_info of kernel v6.18 (include/uapi/linux/tcp.h); the header that we are built with may be older. Older
// kernels give a prefix of it, newer ones append. Members that are fields of the record have its names.
struct TcpInfo {
  std::uint8_t state;
  std::uint8_t ca_state;
  std::uint8_t retransmits;
  std::uint8_t probes;
  std::uint8_t backoff;
  std::uint8_t options;
  std::uint8_t snd_wscale : 4, rcv_wscale : 4;
  std::uint8_t delivery_rate_app_limited : 1, fastopen_client_fail : 2;
  std::uint32_t rto;
  std::uint32_t ato;
  std::uint32_t snd_mss;
  std::uint32_t rcv_mss;
  std::uint32_t unacked;
  std::uint32_t sacked;
  std::uint32_t lost;
  std::uint32_t retrans;
  std::uint32_t fackets;
  std::uint32_t last_data_sent;
  std::uint32_t last_ack_sent;
  std::uint32_t last_data_recv;
  std::uint32_t last_ack_recv;
  std::uint32_t pmtu;
  std::uint32_t rcv_ssthresh;
  std::uint32_t rtt;
  std::uint32_t rttvar;
  std::uint32_t snd_ssthresh;
  std::uint32_t snd_cwnd;
  std::uint32_t advmss;
  std::uint32_t reordering;
  std::uint32_t rcv_rtt;
  std::uint32_t rcv_space;
  std::uint32_t total_retrans;
  std::uint64_t pacing_rate;
  std::uint64_t max_pacing_rate;
  std::uint64_t bytes_acked;
  std::uint64_t bytes_received;
  std::uint32_t segs_out;
  std::uint32_t segs_in;
  std::uint32_t notsent_bytes;
  std::uint32_t min_rtt;
  std::uint32_t data_segs_in;
  std::uint32_t data_segs_out;
  std::uint64_t delivery_rate;
  std::uint64_t busy_time;
  std::uint64_t rwnd_limited;
  std::uint64_t sndbuf_limited;
  std::uint32_t delivered;
  std::uint32_t delivered_ce;
  std::uint64_t bytes_sent;
  std::uint64_t bytes_retrans;
  std::uint32_t dsack_dups;
  std::uint32_t reord_seen;
  std::uint32_t rcv_ooopack;
  std::uint32_t snd_wnd;
  std::uint32_t rcv_wnd;
  std::uint32_t rehash;
  std::uint16_t total_rto;
  std::uint16_t total_rto_recoveries;
  std::uint32_t total_rto_time;
  std::uint32_t received_ce;
  std::uint32_t delivered_e1_bytes;
  std::uint32_t delivered_e0_bytes;
  std::uint32_t delivered_ce_bytes;
  std::uint32_t received_e1_bytes;
  std::uint32_t received_e0_bytes;
  std::uint32_t received_ce_bytes;
  std::uint16_t accecn_fail_mode;
  std::uint16_t accecn_opt_seen;
};
static_assert(sizeof(TcpInfo) == 280);
static_assert(offsetof(TcpInfo, rto) == 8);
static_assert(offsetof(TcpInfo, pacing_rate) == 104);
static_assert(offsetof(TcpInfo, delivery_rate) == 160);
static_assert(offsetof(TcpInfo, snd_wnd) == 228);
static_assert(offsetof(TcpInfo, total_rto) == 240);
static_assert(offsetof(TcpInfo, received_ce) == 248);
static_assert(offsetof(TcpInfo, accecn_fail_mode) == 276);

constexpr std::size_t kWscaleByte = 6;
constexpr std::size_t kFlagsByte = 7;

// Members that mean what they hold in every state but LISTEN. The others are below, each with its rule; fackets and
// last_ack_sent are never filled by the kernel.
// clang-format off
#define TCPINFO_CONNECTION_MEMBERS(X) \
  X(ca_state) X(retransmits) X(probes) X(backoff) X(options) X(rto) X(ato) X(snd_mss) X(rcv_mss) X(lost) X(retrans) \
  X(last_data_sent) X(last_data_recv) X(last_ack_recv) X(pmtu) X(rcv_ssthresh) X(advmss) X(rcv_rtt) X(rcv_space) \
  X(total_retrans) X(bytes_acked) X(bytes_received) X(segs_out) X(segs_in) X(notsent_bytes) X(data_segs_in) \
  X(data_segs_out) X(delivery_rate) X(busy_time) X(rwnd_limited) X(sndbuf_limited) X(delivered) X(delivered_ce) \
  X(bytes_sent) X(bytes_retrans) X(dsack_dups) X(reord_seen) X(rcv_ooopack) X(snd_wnd) X(rcv_wnd) X(rehash) \
  X(total_rto) X(total_rto_recoveries) X(total_rto_time) X(received_ce) X(delivered_e1_bytes) X(delivered_e0_bytes) \
  X(delivered_ce_bytes) X(received_e1_bytes) X(received_e0_bytes) X(received_ce_bytes)
// Of a listener the kernel fills these only; unacked and sacked are its accept queue.
#define TCPINFO_COMMON_MEMBERS(X) X(pacing_rate) X(max_pacing_rate) X(reordering) X(snd_cwnd) X(unacked) X(sacked)
// clang-format on

constexpr std::uint8_t kListen = 10;
constexpr std::uint32_t kInfiniteSsthresh = 0x7fffffff;  // kernel v6.18 include/net/tcp.h TCP_INFINITE_SSTHRESH
constexpr std::uint32_t kNoMinRtt = ~std::uint32_t{0};

// A record under way. The presence bits gather here, where the compiler can keep them in registers.
struct Draft {
  tcpinfo_record& record;
  std::uint64_t present[TCPINFO_PRESENT_WORDS];

  void mark(Field field) noexcept {
    const auto bit = static_cast<unsigned>(field);
    present[bit / 64] |= std::uint64_t{1} << (bit % 64);
  }
};

#define TCPINFO_PUT(id, value)                                       \
  do {                                                               \
    draft.record.id = static_cast<decltype(draft.record.id)>(value); \
    draft.mark(Field::id);                                           \
  } while (0)

template <class T>
T load(const std::byte* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// One member of tcp_info into the field of its name, if it lies inside `length`. kWhole: it does.
#define TCPINFO_MEMBER(id)                                                            \
  static_assert(sizeof(TcpInfo::id) == sizeof(tcpinfo_record::id));                   \
  if (kWhole || offsetof(TcpInfo, id) + sizeof(TcpInfo::id) <= length) {              \
    std::memcpy(&draft.record.id, info + offsetof(TcpInfo, id), sizeof(TcpInfo::id)); \
    draft.mark(Field::id);                                                            \
  }

template <bool kWhole>
void fill_tcp_info(Draft& draft, const std::byte* info, [[maybe_unused]] std::size_t length,
                   TcpInfoTail tail) noexcept {
  const auto inside = [length](std::size_t offset, std::size_t size) { return kWhole || offset + size <= length; };

  // The socket may have moved on since idiag_state was read: the members below belong to this state.
  if (!inside(0, 1)) return;
  if (const auto state = load<std::uint8_t>(info)) TCPINFO_PUT(state, state);

  TCPINFO_COMMON_MEMBERS(TCPINFO_MEMBER)
  if (draft.record.state == kListen) return;
  TCPINFO_CONNECTION_MEMBERS(TCPINFO_MEMBER)

  // Bit-fields lie as the ABI has it: let the compiler take them apart.
  TcpInfo bits{};
  if (inside(kWscaleByte, 1)) {
    std::memcpy(reinterpret_cast<std::byte*>(&bits) + kWscaleByte, info + kWscaleByte, 1);
    TCPINFO_PUT(snd_wscale, bits.snd_wscale);
    TCPINFO_PUT(rcv_wscale, bits.rcv_wscale);
  }
  if (inside(kFlagsByte, 1)) {
    std::memcpy(reinterpret_cast<std::byte*>(&bits) + kFlagsByte, info + kFlagsByte, 1);
    TCPINFO_PUT(delivery_rate_app_limited, bits.delivery_rate_app_limited);
    TCPINFO_PUT(fastopen_client_fail, bits.fastopen_client_fail);
  }

  // 0 is no round trip: nothing was measured yet.
  if (inside(offsetof(TcpInfo, rtt), 4) && load<std::uint32_t>(info + offsetof(TcpInfo, rtt)) != 0) {
    TCPINFO_MEMBER(rtt)
    TCPINFO_MEMBER(rttvar)
  }
  if (inside(offsetof(TcpInfo, snd_ssthresh), 4) &&
      load<std::uint32_t>(info + offsetof(TcpInfo, snd_ssthresh)) < kInfiniteSsthresh) {
    TCPINFO_MEMBER(snd_ssthresh)
  }
  if (inside(offsetof(TcpInfo, min_rtt), 4) && load<std::uint32_t>(info + offsetof(TcpInfo, min_rtt)) != kNoMinRtt) {
    TCPINFO_MEMBER(min_rtt)
  }
  if (tail == TcpInfoTail::kTwoU16) {
    TCPINFO_MEMBER(accecn_fail_mode)
    TCPINFO_MEMBER(accecn_opt_seen)
  }
}

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
      if (data.size() >= sizeof(TcpInfo))
        fill_tcp_info<true>(draft, data.data(), data.size(), reading.tail);
      else
        fill_tcp_info<false>(draft, data.data(), data.size(), reading.tail);
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
      TCPINFO_PUT(bbr_bw, value.bbr_bw_lo | std::uint64_t{value.bbr_bw_hi} << 32);
      TCPINFO_PUT(bbr_min_rtt, value.bbr_min_rtt);
      TCPINFO_PUT(bbr_pacing_gain, value.bbr_pacing_gain);
      TCPINFO_PUT(bbr_cwnd_gain, value.bbr_cwnd_gain);
      return true;
    }
    case INET_DIAG_VEGASINFO: {
      tcpvegas_info value;
      if (!load_whole(data, value)) return false;
      TCPINFO_PUT(vegas_enabled, value.tcpv_enabled);
      TCPINFO_PUT(vegas_rttcnt, value.tcpv_rttcnt);
      TCPINFO_PUT(vegas_rtt, value.tcpv_rtt);
      TCPINFO_PUT(vegas_minrtt, value.tcpv_minrtt);
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

  const bool whole =
      for_each_attribute(payload.subspan(sizeof(message)), [&](std::uint16_t type, std::span<const std::byte> data) {
        if (!fill_attribute(draft, type, data, reading)) ++malformed;
      });
  if (!whole) ++malformed;
  std::memcpy(record.present, draft.present, sizeof(record.present));
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
