// SPDX-License-Identifier: BSD-2-Clause
#include "equality.hpp"

#include <linux/inet_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include <tcpinfo/format.hpp>

#include "../../libtcpinfo/tests/tcp_info_members.hpp"

#ifndef TCP_IS_MPTCP
#define TCP_IS_MPTCP 43  // kernel v6.9
#endif

namespace equality {
namespace {

constexpr std::uint8_t kListen = 10;
constexpr std::uint32_t kInfiniteSsthresh = 0x7fffffff;

using tcpinfo::Record;

template <class T>
bool get(int fd, int level, int option, T& value) {
  socklen_t length = sizeof(value);
  return getsockopt(fd, level, option, &value, &length) == 0;
}

class Writer {
 public:
  explicit Writer(Answer& answer) : answer_(answer) {}

  void put(Field field, std::uint64_t value) {
    answer_.spoken.set(index(field));
    tcpinfo::set_number(answer_.record, field, value);
  }
  void leave_out(Field field) { answer_.spoken.set(index(field)); }
  void put(Field field, tcpinfo_name& name, std::string_view text) {
    answer_.spoken.set(index(field));
    std::memcpy(name.text, text.data(), std::min(text.size(), sizeof(name.text) - 1));
    tcpinfo::set_present(answer_.record, field);
  }
  void put(Field field, tcpinfo_address& address, const sockaddr_storage& storage) {
    answer_.spoken.set(index(field));
    if (storage.ss_family == AF_INET6) {
      std::memcpy(address.bytes, &reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr, 16);
    } else {
      address.bytes[10] = address.bytes[11] = 0xff;
      std::memcpy(address.bytes + 12, &reinterpret_cast<const sockaddr_in&>(storage).sin_addr, 4);
    }
    tcpinfo::set_present(answer_.record, field);
  }

 private:
  Answer& answer_;
};

// What the table says of a field without meaning yet, and of listeners.
bool is_absent(const expected::Member& member, std::uint64_t value, std::uint8_t state, std::uint32_t rtt) {
  switch (member.field) {
    case Field::snd_cwnd:
    case Field::reordering:
    case Field::pacing_rate:
    case Field::max_pacing_rate:
    case Field::unacked:
    case Field::sacked:
      return false;
    default:
      break;
  }
  if (state == kListen) return true;
  switch (member.field) {
    case Field::rtt:
    case Field::rttvar:
      return rtt == 0;
    case Field::snd_ssthresh:
      return value >= kInfiniteSsthresh;
    case Field::min_rtt:
      return value == ~std::uint32_t{0};
    default:
      return false;
  }
}

// The last four bytes of 280 are two u16 in kernel 6.18 and bit-fields later: read by the library through BTF, and here
// not at all but where they are known.
bool knows_layout_of(const expected::Member& member) {
  static const bool two_u16 = [] {
    utsname name{};
    return uname(&name) == 0 && std::string_view(name.release).starts_with("6.18.");
  }();
  return two_u16 || (member.field != Field::accecn_fail_mode && member.field != Field::accecn_opt_seen);
}

std::size_t tcp_info_length() {
  static const std::size_t length = [] {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    std::array<std::byte, 1024> info{};
    socklen_t size = info.size();
    const bool done = fd >= 0 && getsockopt(fd, IPPROTO_TCP, TCP_INFO, info.data(), &size) == 0;
    if (fd >= 0) ::close(fd);
    return done ? size : socklen_t{0};
  }();
  return length;
}

void ask_info(const Subject& subject, Answer& answer, Writer& writer) {
  answer.info.resize(1024);
  auto length = static_cast<socklen_t>(answer.info.size());
  if (getsockopt(subject.fd, IPPROTO_TCP, TCP_INFO, answer.info.data(), &length) != 0)
    throw std::system_error(errno, std::generic_category(), "TCP_INFO");
  answer.info.resize(length);
  const auto state = static_cast<std::uint8_t>(answer.info[0]);
  writer.put(Field::state, state);
  std::uint32_t rtt = 0;
  std::memcpy(&rtt, answer.info.data() + offsetof(tcp_info, tcpi_rtt), sizeof(rtt));
  for (const auto& member : expected::members()) {
    if (member.offset + member.size > answer.info.size() || !knows_layout_of(member)) continue;
    const auto value = expected::value_in(answer.info, member);
    if (is_absent(member, value, state, rtt))
      writer.leave_out(member.field);
    else
      writer.put(member.field, value);
  }
}

void ask_congestion_control(const Subject& subject, Answer& answer, Writer& writer) {
  char name[16]{};
  socklen_t length = sizeof(name);
  if (getsockopt(subject.fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) != 0) return;
  writer.put(Field::congestion_control, answer.record.congestion_control, name);
  for (const auto field :
       {Field::bbr_bw, Field::bbr_min_rtt, Field::bbr_pacing_gain, Field::bbr_cwnd_gain, Field::vegas_enabled,
        Field::vegas_rttcnt, Field::vegas_rtt, Field::vegas_minrtt, Field::dctcp_enabled, Field::dctcp_ce_state,
        Field::dctcp_alpha, Field::dctcp_ab_ecn, Field::dctcp_ab_tot})
    writer.leave_out(field);
  if (answer.record.state == kListen) return;
  tcp_cc_info info{};
  length = sizeof(info);
  if (getsockopt(subject.fd, IPPROTO_TCP, TCP_CC_INFO, &info, &length) != 0) return;
  const std::string_view algorithm = name;
  // What the algorithm has not begun, or not measured yet, means nothing.
  constexpr std::uint32_t kBbrNone = ~0u, kVegasNone = 0x7fffffff;
  if (algorithm == "bbr" && length == sizeof(info.bbr) && info.bbr.bbr_pacing_gain != 0) {
    writer.put(Field::bbr_bw, info.bbr.bbr_bw_lo | std::uint64_t{info.bbr.bbr_bw_hi} << 32);
    if (info.bbr.bbr_min_rtt != kBbrNone) writer.put(Field::bbr_min_rtt, info.bbr.bbr_min_rtt);
    writer.put(Field::bbr_pacing_gain, info.bbr.bbr_pacing_gain);
    writer.put(Field::bbr_cwnd_gain, info.bbr.bbr_cwnd_gain);
  } else if (algorithm == "vegas" && length == sizeof(info.vegas) && info.vegas.tcpv_rtt != 0) {
    writer.put(Field::vegas_enabled, info.vegas.tcpv_enabled);
    writer.put(Field::vegas_rttcnt, info.vegas.tcpv_rttcnt);
    if (info.vegas.tcpv_rtt != kVegasNone) writer.put(Field::vegas_rtt, info.vegas.tcpv_rtt);
    if (info.vegas.tcpv_minrtt != kVegasNone) writer.put(Field::vegas_minrtt, info.vegas.tcpv_minrtt);
  } else if (algorithm == "dctcp" && length == sizeof(info.dctcp) && info.dctcp.dctcp_enabled) {
    writer.put(Field::dctcp_enabled, info.dctcp.dctcp_enabled);
    writer.put(Field::dctcp_ce_state, info.dctcp.dctcp_ce_state);
    writer.put(Field::dctcp_alpha, info.dctcp.dctcp_alpha);
    writer.put(Field::dctcp_ab_ecn, info.dctcp.dctcp_ab_ecn);
    writer.put(Field::dctcp_ab_tot, info.dctcp.dctcp_ab_tot);
  }
}

void ask_identity(const Subject& subject, Answer& answer, Writer& writer) {
  writer.put(Field::netns_cookie, subject.netns_cookie);
  writer.put(Field::cgroup_id, subject.cgroup_id);
  sockaddr_storage local{}, peer{};
  socklen_t length = sizeof(local);
  if (getsockname(subject.fd, reinterpret_cast<sockaddr*>(&local), &length) == 0) {
    writer.put(Field::local_address, answer.record.local_address, local);
    writer.put(Field::local_port, ntohs(reinterpret_cast<const sockaddr_in&>(local).sin_port));
    writer.put(Field::family, local.ss_family);
  }
  length = sizeof(peer);
  if (getpeername(subject.fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0) {
    writer.put(Field::peer_address, answer.record.peer_address, peer);
    writer.put(Field::peer_port, ntohs(reinterpret_cast<const sockaddr_in&>(peer).sin_port));
  }
}

// What an MPTCP socket keeps for itself, and answers itself.
void ask_socket(const Subject& subject, Answer& answer, Writer& writer) {
  std::uint64_t cookie = 0;
  if (get(subject.fd, SOL_SOCKET, SO_COOKIE, cookie)) writer.put(Field::cookie, cookie);
  struct stat status {};
  if (fstat(subject.fd, &status) == 0) writer.put(Field::uid, status.st_uid);
  std::array<std::uint32_t, 9> memory{};
  socklen_t length = sizeof(memory);
  if (getsockopt(subject.fd, SOL_SOCKET, SO_MEMINFO, memory.data(), &length) == 0)
    for (std::size_t i = 0; i < length / sizeof(memory[0]); ++i)
      writer.put(static_cast<Field>(index(Field::skmem_rmem_alloc) + i), memory[i]);
  int tos = 0;
  if (get(subject.fd, IPPROTO_IP, IP_TOS, tos)) writer.put(Field::tos, static_cast<unsigned>(tos));
  char ulp[16]{};
  length = sizeof(ulp);
  if (getsockopt(subject.fd, IPPROTO_TCP, TCP_ULP, ulp, &length) == 0) {
    if (length > 0)
      writer.put(Field::ulp, answer.record.ulp, ulp);
    else
      writer.leave_out(Field::ulp);
  }
  int is_mptcp = 0;
  if (get(subject.fd, IPPROTO_TCP, TCP_IS_MPTCP, is_mptcp))
    writer.put(Field::is_mptcp, static_cast<unsigned>(is_mptcp));
}

struct Exception {
  std::string_view source;
  Field field;
  bool (*applies)(const tcpinfo_record&);
  std::string_view reason;
};

// kernel v6.18 net/ipv4/inet_diag.c inet_sk_diag_fill(): asked of sockets in states below TIME_WAIT only
bool is_beyond_time_wait(const tcpinfo_record& record) { return record.state > 6; }
constexpr const char* kNoControlState =
    "netlink gives it in the states before TIME_WAIT only, not in CLOSE_WAIT, LAST_ACK, CLOSING";

constexpr std::array kExceptions{
    Exception{"inet_diag", Field::is_mptcp, [](const tcpinfo_record& record) { return !record.is_mptcp; },
              "netlink names the upper layer protocol of a subflow and says nothing of other sockets"},
    Exception{"inet_diag", Field::uid, [](const tcpinfo_record& record) { return record.inode == 0; },
              "it is not to be told from 0, which older kernels say, where no process holds the socket"},
    Exception{"inet_diag", Field::bbr_bw, is_beyond_time_wait, kNoControlState},
    Exception{"inet_diag", Field::bbr_min_rtt, is_beyond_time_wait, kNoControlState},
    Exception{"inet_diag", Field::bbr_pacing_gain, is_beyond_time_wait, kNoControlState},
    Exception{"inet_diag", Field::bbr_cwnd_gain, is_beyond_time_wait, kNoControlState},
    Exception{"inet_diag", Field::vegas_enabled, is_beyond_time_wait, kNoControlState},
    Exception{"inet_diag", Field::vegas_rttcnt, is_beyond_time_wait, kNoControlState},
    Exception{"inet_diag", Field::vegas_rtt, is_beyond_time_wait, kNoControlState},
    Exception{"inet_diag", Field::vegas_minrtt, is_beyond_time_wait, kNoControlState},
    Exception{"inet_diag", Field::dctcp_enabled, is_beyond_time_wait, kNoControlState},
    Exception{"inet_diag", Field::dctcp_ce_state, is_beyond_time_wait, kNoControlState},
    Exception{"inet_diag", Field::dctcp_alpha, is_beyond_time_wait, kNoControlState},
    Exception{"inet_diag", Field::dctcp_ab_ecn, is_beyond_time_wait, kNoControlState},
    Exception{"inet_diag", Field::dctcp_ab_tot, is_beyond_time_wait, kNoControlState},
};

}  // namespace

Answer ask(const Subject& subject) {
  Answer answer;
  Writer writer(answer);
  ask_info(subject, answer, writer);
  ask_congestion_control(subject, answer, writer);
  ask_identity(subject, answer, writer);
  if (!subject.mptcp) ask_socket(subject, answer, writer);
  return answer;
}

Treatment treatment(Field field) {
  switch (field) {
    case Field::time_ns:
    case Field::sequence:
    case Field::generation:
    case Field::event:
    case Field::source:
    case Field::cpu:
    case Field::old_state:
    case Field::swept:
    case Field::lost_records:
    case Field::pid:
    case Field::triggered:
    case Field::lost_event:
    case Field::adopted:
    case Field::inode:
    case Field::comm:
      return Treatment::kOwn;
    case Field::last_data_sent:
    case Field::last_data_recv:
    case Field::last_ack_recv:
    case Field::busy_time:
    case Field::rwnd_limited:
    case Field::sndbuf_limited:
    case Field::total_rto_time:
      return Treatment::kClock;
    default:
      return Treatment::kEqual;
  }
}

bool lacks(Field field) {
  return std::ranges::any_of(expected::members(), [field](const expected::Member& member) {
    return member.field == field && member.offset + member.size > tcp_info_length();
  });
}

bool left_out(std::string_view source, Field field, const tcpinfo_record& record) {
  // An older kernel may keep in tcp_sock what its tcp_info does not tell.
  if (source == "inet_diag" && lacks(field)) return true;
  return std::ranges::any_of(kExceptions, [&](const Exception& exception) {
    return exception.source == source && exception.field == field && exception.applies(record);
  });
}

std::vector<std::string> exceptions() {
  std::vector<std::string> lines;
  for (const auto& exception : kExceptions)
    lines.push_back(std::string(exception.source) + " " + std::string(tcpinfo::info(exception.field).name) + ": " +
                    std::string(exception.reason));
  return lines;
}

std::string show(const tcpinfo_record& record, Field field) {
  std::string text;
  if (!tcpinfo::append_value(text, Record(record), field)) return "absent";
  return text;
}

bool stands_still(const tcpinfo_record& before, const tcpinfo_record& after) {
  for (const auto& row : tcpinfo::fields()) {
    const bool has = Record(before).has(row.field);
    if (has != Record(after).has(row.field)) return false;
    if (!has || treatment(row.field) != Treatment::kEqual) continue;
    const auto* a = reinterpret_cast<const std::byte*>(&before) + row.offset;
    const auto* b = reinterpret_cast<const std::byte*>(&after) + row.offset;
    if (std::memcmp(a, b, row.size) != 0) return false;
  }
  return true;
}

bool stands_still(const Answer& before, const Answer& after) {
  if (before.info.size() != after.info.size() || !stands_still(before.record, after.record)) return false;
  auto a = before.info, b = after.info;
  for (const auto& member : expected::members()) {
    if (treatment(member.field) != Treatment::kClock || member.offset + member.size > a.size()) continue;
    std::fill_n(a.begin() + static_cast<std::ptrdiff_t>(member.offset), member.size, std::byte{0});
    std::fill_n(b.begin() + static_cast<std::ptrdiff_t>(member.offset), member.size, std::byte{0});
  }
  return a == b;
}

Comparison compare(const Answer* before, const Answer* after, const std::vector<Opinion>& opinions,
                   const tcpinfo_record& first_after) {
  Comparison result;
  for (const auto& row : tcpinfo::fields()) {
    const auto how = treatment(row.field);
    if (how == Treatment::kOwn) continue;
    const bool spoken = before && before->speaks(row.field);
    // Where nobody else speaks the first opinion that does not leave the field out is the measure.
    const tcpinfo_record* low = spoken ? &before->record : nullptr;
    const tcpinfo_record* high = spoken ? &after->record : nullptr;
    if (!low)
      for (const auto& opinion : opinions) {
        if (left_out(opinion.source, row.field, opinion.record)) continue;
        low = &opinion.record;
        high = &opinion == &opinions.front() ? &first_after : low;
        break;
      }
    if (!low) continue;
    const bool wanted = Record(*low).has(row.field);
    bool agree = true;
    for (const auto& opinion : opinions) {
      if (&opinion.record == low || left_out(opinion.source, row.field, opinion.record)) continue;
      if (Record(opinion.record).has(row.field) != wanted) {
        agree = false;
      } else if (!wanted) {
        continue;
      } else if (how == Treatment::kClock) {
        const auto value = Record(opinion.record).number(row.field);
        agree &= value >= Record(*low).number(row.field) && value <= Record(*high).number(row.field);
      } else {
        agree &= std::memcmp(reinterpret_cast<const std::byte*>(&opinion.record) + row.offset,
                             reinterpret_cast<const std::byte*>(low) + row.offset, row.size) == 0;
      }
    }
    if (wanted) ++result.fields;
    if (agree) continue;
    std::string line = std::string(row.name) + ":";
    if (spoken) line += " getsockopt " + show(*low, row.field);
    if (spoken && how == Treatment::kClock) line += ".." + show(*high, row.field);
    for (const auto& opinion : opinions)
      line += " " + std::string(opinion.source) + " " + show(opinion.record, row.field);
    result.differences.push_back(std::move(line));
  }
  return result;
}

std::vector<std::string> bracket(const tcpinfo_record& before, const tcpinfo_record& record,
                                 const tcpinfo_record& after) {
  std::vector<std::string> differences;
  for (const auto& row : tcpinfo::fields()) {
    // Who it is about does not change; the congestion control may.
    if (row.kind == tcpinfo::Kind::identity && treatment(row.field) == Treatment::kEqual && row.field != Field::state &&
        row.field != Field::congestion_control && Record(before).has(row.field) &&
        show(record, row.field) != show(before, row.field))
      differences.push_back(std::string(row.name) + ": " + show(record, row.field) + " is not " +
                            show(before, row.field));
    if (row.kind != tcpinfo::Kind::counter) continue;
    const auto low = Record(before).number(row.field), high = Record(after).number(row.field),
               value = Record(record).number(row.field);
    if (!low || !high) continue;
    if (!value || *value < *low || *value > *high)
      differences.push_back(std::string(row.name) + ": " + show(record, row.field) + " is not in " +
                            show(before, row.field) + ".." + show(after, row.field));
  }
  return differences;
}

Fields nonzero(const tcpinfo_record& record) {
  Fields fields;
  for (const auto& row : tcpinfo::fields()) {
    if (!Record(record).has(row.field)) continue;
    const auto* bytes = reinterpret_cast<const std::byte*>(&record) + row.offset;
    // ::ffff:0.0.0.0 is the address of nobody.
    const auto from = row.format == tcpinfo::Format::address && bytes[10] == std::byte{0xff} ? bytes + 12 : bytes;
    if (std::any_of(from, bytes + row.size, [](std::byte byte) { return byte != std::byte{0}; }))
      fields.set(index(row.field));
  }
  return fields;
}

}  // namespace equality
