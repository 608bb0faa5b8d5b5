// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <linux/tcp.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <tcpinfo/record.hpp>

/// Where the fields of the record lie in the bytes that getsockopt(TCP_INFO) gives, told without the library's parser.
namespace expected {

using tcpinfo::Field;

struct Member {
  Field field;
  std::size_t offset;
  std::size_t size;
};

// Where the members are, by the header of the kernel for those that it has.
// clang-format off
inline const std::vector<Member>& members() {
#define M(id) {Field::id, offsetof(::tcp_info, tcpi_##id), sizeof(::tcp_info::tcpi_##id)}
  static const std::vector<Member> list{
      M(ca_state), M(retransmits), M(probes), M(backoff), M(options), M(rto), M(ato), M(snd_mss), M(rcv_mss),
      M(unacked), M(sacked), M(lost), M(retrans), M(last_data_sent), M(last_data_recv), M(last_ack_recv), M(pmtu), M(rcv_ssthresh),
      M(rtt), M(rttvar), M(snd_ssthresh), M(snd_cwnd), M(advmss), M(reordering), M(rcv_rtt), M(rcv_space),
      M(total_retrans), M(pacing_rate), M(max_pacing_rate), M(bytes_acked), M(bytes_received), M(segs_out), M(segs_in),
      M(notsent_bytes), M(min_rtt), M(data_segs_in), M(data_segs_out), M(delivery_rate), M(busy_time), M(rwnd_limited),
      M(sndbuf_limited), M(delivered), M(delivered_ce), M(bytes_sent), M(bytes_retrans), M(dsack_dups), M(reord_seen),
      M(rcv_ooopack), M(snd_wnd),
      {Field::rcv_wnd, 232, 4}, {Field::rehash, 236, 4}, {Field::total_rto, 240, 2},
      {Field::total_rto_recoveries, 242, 2}, {Field::total_rto_time, 244, 4}, {Field::received_ce, 248, 4},
      {Field::delivered_e1_bytes, 252, 4}, {Field::delivered_e0_bytes, 256, 4}, {Field::delivered_ce_bytes, 260, 4},
      {Field::received_e1_bytes, 264, 4}, {Field::received_e0_bytes, 268, 4}, {Field::received_ce_bytes, 272, 4},
      {Field::accecn_fail_mode, 276, 2}, {Field::accecn_opt_seen, 278, 2},
      {Field::snd_wscale, 6, 1}, {Field::rcv_wscale, 6, 1},
      {Field::delivery_rate_app_limited, 7, 1}, {Field::fastopen_client_fail, 7, 1}};
#undef M
  return list;
}
// clang-format on

inline std::uint64_t value_in(std::span<const std::byte> info, const Member& member) {
  std::uint64_t value = 0;
  std::memcpy(&value, info.data() + member.offset, member.size);
  const auto byte = static_cast<unsigned>(info[member.offset]);
  switch (member.field) {
    case Field::snd_wscale:
      return byte & 0xf;
    case Field::rcv_wscale:
      return byte >> 4;
    case Field::delivery_rate_app_limited:
      return byte & 1;
    case Field::fastopen_client_fail:
      return byte >> 1 & 3;
    default:
      return value;
  }
}

}  // namespace expected
