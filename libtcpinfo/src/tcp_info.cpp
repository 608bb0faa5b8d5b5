// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/tcp_info.hpp>

#include <unistd.h>

#include <bpf/btf.h>

#include <bit>
#include <cstddef>
#include <memory>
#include <string_view>

#include "libbpf_log.hpp"
#include "tcp_info_layout.hpp"

namespace tcpinfo {
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
  std::uint32_t tail;  // see TcpInfoLayout
};
static_assert(sizeof(TcpInfo) == 280);
static_assert(offsetof(TcpInfo, rto) == 8);
static_assert(offsetof(TcpInfo, pacing_rate) == 104);
static_assert(offsetof(TcpInfo, delivery_rate) == 160);
static_assert(offsetof(TcpInfo, snd_wnd) == 228);
static_assert(offsetof(TcpInfo, total_rto) == 240);
static_assert(offsetof(TcpInfo, received_ce) == 248);
static_assert(offsetof(TcpInfo, tail) == 276);

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

// From rto on the record has the members of tcp_info in its order: one copy takes all of a whole one.
constexpr std::size_t kRunBytes =
    offsetof(TcpInfo, received_ce_bytes) + sizeof(TcpInfo::received_ce_bytes) - offsetof(TcpInfo, rto);
static_assert(kRunBytes == offsetof(tcpinfo_record, received_ce_bytes) + sizeof(tcpinfo_record::received_ce_bytes) -
                               offsetof(tcpinfo_record, rto));
#define TCPINFO_IN_RUN(id) (offsetof(TcpInfo, id) >= offsetof(TcpInfo, rto))

// One member of tcp_info into the field of its name, if it lies inside `length`. kWhole: it does, and those of the run
// are there already.
#define TCPINFO_MEMBER(id)                                                                                \
  static_assert(sizeof(TcpInfo::id) == sizeof(tcpinfo_record::id));                                       \
  static_assert(!TCPINFO_IN_RUN(id) || offsetof(TcpInfo, id) - offsetof(TcpInfo, rto) ==                  \
                                           offsetof(tcpinfo_record, id) - offsetof(tcpinfo_record, rto)); \
  if (kWhole || offsetof(TcpInfo, id) + sizeof(TcpInfo::id) <= length) {                                  \
    if (!kWhole || !TCPINFO_IN_RUN(id))                                                                   \
      std::memcpy(&draft.record.id, info + offsetof(TcpInfo, id), sizeof(TcpInfo::id));                   \
    draft.mark(Field::id);                                                                                \
  }

// What is absent is 0.
#define TCPINFO_CLEAR(id)    \
  if (kWhole) {              \
    draft.record.id = 0;     \
    draft.unmark(Field::id); \
  }

template <bool kWhole>
void fill_from(Draft& draft, const std::byte* info, std::size_t length, const TcpInfoLayout& layout) noexcept {
  const auto inside = [length](std::size_t offset, std::size_t size) { return kWhole || offset + size <= length; };

  // The socket may have moved on since idiag_state was read: the members below belong to this state.
  if (!inside(0, 1)) return;
  if (const auto state = load<std::uint8_t>(info)) TCPINFO_PUT(state, state);

  if (kWhole) {
    if (draft.record.state == kListen) return fill_from<false>(draft, info, length, layout);
    std::memcpy(reinterpret_cast<std::byte*>(&draft.record) + offsetof(tcpinfo_record, rto),
                info + offsetof(TcpInfo, rto), kRunBytes);
  }
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
  } else {
    TCPINFO_CLEAR(rtt)
    TCPINFO_CLEAR(rttvar)
  }
  if (inside(offsetof(TcpInfo, snd_ssthresh), 4) &&
      load<std::uint32_t>(info + offsetof(TcpInfo, snd_ssthresh)) < kInfiniteSsthresh) {
    TCPINFO_MEMBER(snd_ssthresh)
  } else {
    TCPINFO_CLEAR(snd_ssthresh)
  }
  if (inside(offsetof(TcpInfo, min_rtt), 4) && load<std::uint32_t>(info + offsetof(TcpInfo, min_rtt)) != kNoMinRtt) {
    TCPINFO_MEMBER(min_rtt)
  } else {
    TCPINFO_CLEAR(min_rtt)
  }
  TCPINFO_CLEAR(fackets)
  TCPINFO_CLEAR(last_ack_sent)
  if (const auto value = layout.accecn_fail_mode.read(info, length)) TCPINFO_PUT(accecn_fail_mode, *value);
  if (const auto value = layout.accecn_opt_seen.read(info, length)) TCPINFO_PUT(accecn_opt_seen, *value);
}

BitField find_member(const btf* types, const btf_type* structure, std::string_view name) noexcept {
  for (std::uint32_t i = 0; i < btf_vlen(structure); ++i) {
    const auto& member = btf_members(structure)[i];
    if (name != btf__name_by_offset(types, member.name_off)) continue;
    std::uint32_t bits = btf_member_bitfield_size(structure, i);
    if (bits == 0) {
      const auto bytes = btf__resolve_size(types, member.type);
      if (bytes <= 0 || bytes > 4) return {};
      bits = static_cast<std::uint32_t>(bytes) * 8;
    }
    return {btf_member_bit_offset(structure, i), bits};
  }
  return {};
}

TcpInfoLayout find_layout() {
  // Where bytes go the other way, so do the bits that BTF counts.
  if (std::endian::native != std::endian::little || access("/sys/kernel/btf/vmlinux", R_OK) != 0) return {};
  const LibbpfLog log;
  const std::unique_ptr<btf, void (*)(btf*)> types(btf__load_vmlinux_btf(), btf__free);
  if (!types) return {};
  const int id = btf__find_by_name_kind(types.get(), "tcp_info", BTF_KIND_STRUCT);
  if (id < 0) return {};
  const auto* structure = btf__type_by_id(types.get(), static_cast<__u32>(id));
  return {find_member(types.get(), structure, "tcpi_accecn_fail_mode"),
          find_member(types.get(), structure, "tcpi_accecn_opt_seen")};
}

}  // namespace

std::optional<std::uint32_t> BitField::read(const std::byte* bytes, std::size_t length) const noexcept {
  const std::size_t first = bit_offset / 8, end = (bit_offset + bits + 7) / 8;
  if (bits == 0 || bits > 32 || end > length) return std::nullopt;
  std::uint64_t value = 0;
  std::memcpy(&value, bytes + first, end - first);
  return static_cast<std::uint32_t>(value >> bit_offset % 8 & ((std::uint64_t{1} << bits) - 1));
}

const TcpInfoLayout& tcp_info_layout() {
  // Reading the kernel's types takes some milliseconds, and they do not change: once a process.
  static const TcpInfoLayout layout = find_layout();
  return layout;
}

void fill_tcp_info(Draft& draft, std::span<const std::byte> info, const TcpInfoLayout& layout) noexcept {
  if (info.size() >= sizeof(TcpInfo))
    fill_from<true>(draft, info.data(), info.size(), layout);
  else
    fill_from<false>(draft, info.data(), info.size(), layout);
}

void read_tcp_info(std::span<const std::byte> info, tcpinfo_record& record) noexcept {
  Draft draft{record, {}};
  std::memcpy(draft.present, record.present, sizeof(draft.present));
  fill_tcp_info(draft, info, tcp_info_layout());
  draft.finish();
}

}  // namespace tcpinfo
