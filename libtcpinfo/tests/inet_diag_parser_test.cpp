// SPDX-License-Identifier: BSD-2-Clause
// The fixtures are what kernel 6.18 answered to a dump; tests/data/record_inet_diag.py made them.
#include "inet_diag_parser.hpp"

#include <linux/inet_diag.h>
#include <linux/tcp.h>
#include <sys/socket.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include <tcpinfo/record.hpp>

#include "tcp_info_members.hpp"

namespace {

using tcpinfo::Field;
using tcpinfo::Record;
using tcpinfo::inet_diag::Outcome;
using tcpinfo::inet_diag::Reading;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kTcpInfoBytes = 280;  // of kernel 6.18

Bytes fixture(const char* name) {
  std::ifstream file(std::string(TCPINFO_TEST_DATA) + "/" + name, std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(file), {}};
  EXPECT_FALSE(chars.empty()) << name;
  const auto* begin = reinterpret_cast<const std::byte*>(chars.data());
  return {begin, begin + chars.size()};
}

// The last four bytes of 280: two u16 in kernel 6.18, bit-fields in 7.2.
constexpr tcpinfo::TcpInfoLayout kLayout618{{276 * 8, 16}, {278 * 8, 16}};
constexpr tcpinfo::TcpInfoLayout kLayout72{{276 * 8 + 4, 4}, {276 * 8 + 2, 2}};
const Reading kReading{123456789, 77, 5, kLayout618};
constexpr std::uint32_t kIpv4Sequence = 41, kIpv6Sequence = 42;

struct Read {
  Outcome outcome;
  std::vector<tcpinfo_record> records;
  std::uint64_t malformed = 0;
};

Read read(std::span<const std::byte> chunk, std::uint32_t sequence) {
  Read read;
  tcpinfo_record record;
  read.outcome = tcpinfo::inet_diag::read_chunk(chunk, sequence, kReading, record, read.malformed,
                                                [&](const tcpinfo_record& r) { read.records.push_back(r); });
  return read;
}

// Bytes that a member has for every field that is absent, and padding of names: zero.
bool absent_is_zero(const tcpinfo_record& record) {
  for (const auto& row : tcpinfo::fields()) {
    const auto* member = reinterpret_cast<const std::byte*>(&record) + row.offset;
    if (!Record(record).has(row.field) &&
        std::any_of(member, member + row.size, [](std::byte byte) { return byte != std::byte{}; }))
      return false;
  }
  return record.version == TCPINFO_RECORD_VERSION && record.size == sizeof(record);
}

// What `some` has it has from `all`.
testing::AssertionResult is_part_of(const tcpinfo_record& some, const tcpinfo_record& all) {
  if (!absent_is_zero(some)) return testing::AssertionFailure() << "an absent field is not zero";
  for (const auto& row : tcpinfo::fields()) {
    if (!Record(some).has(row.field)) continue;
    if (!Record(all).has(row.field)) return testing::AssertionFailure() << row.name << " was made up";
    if (std::memcmp(reinterpret_cast<const std::byte*>(&some) + row.offset,
                    reinterpret_cast<const std::byte*>(&all) + row.offset, row.size) != 0)
      return testing::AssertionFailure() << row.name << " differs";
  }
  return testing::AssertionSuccess();
}

bool operator==(const tcpinfo_record& a, const tcpinfo_record& b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

// The payload of an answer, made by hand.
class Payload {
 public:
  explicit Payload(std::uint8_t family = AF_INET, std::uint8_t state = 1) {
    inet_diag_msg message{};
    message.idiag_family = family;
    message.idiag_state = state;
    append(&message, sizeof(message));
  }
  Payload& add(std::uint16_t type, const void* data, std::size_t size) {
    const nlattr head{static_cast<__u16>(sizeof(nlattr) + size), type};
    append(&head, sizeof(head));
    append(data, size);
    bytes_.resize(NLA_ALIGN(bytes_.size()));
    return *this;
  }
  template <class T>
  Payload& add(std::uint16_t type, const T& value) {
    return add(type, &value, sizeof(value));
  }
  Payload& add(std::uint16_t type, const Bytes& data) { return add(type, data.data(), data.size()); }
  Payload& add_text(std::uint16_t type, std::string_view text) {
    return add(type, std::string(text).c_str(), text.size() + 1);
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  void append(const void* data, std::size_t size) {
    if (size == 0) return;
    bytes_.resize(bytes_.size() + size);
    std::memcpy(bytes_.data() + bytes_.size() - size, data, size);
  }
  Bytes bytes_;
};

struct Filled {
  tcpinfo_record raw{};
  std::uint64_t malformed = 0;
  bool ok = false;
  Record view() const { return Record(raw); }
};

Filled fill(std::span<const std::byte> payload, const Reading& reading = kReading) {
  Filled filled;
  // In memory of its own, of just this size and at an odd address, so that the sanitizers see every step too far.
  const auto memory = std::make_unique<std::byte[]>(payload.size() + 1);
  std::copy(payload.begin(), payload.end(), memory.get() + 1);
  filled.ok = tcpinfo::inet_diag::fill({memory.get() + 1, payload.size()}, reading, filled.raw, filled.malformed);
  if (filled.ok) {
    EXPECT_TRUE(absent_is_zero(filled.raw));
  }
  return filled;
}

// Each byte of it is another than its neighbours, and none makes a value that stands for "not set".
Bytes numbered_tcp_info(std::size_t size = kTcpInfoBytes) {
  Bytes info(size);
  for (std::size_t i = 0; i < size; ++i) info[i] = static_cast<std::byte>(i % 0x7b + 1);
  return info;
}

template <class T>
void put(Bytes& info, std::size_t offset, T value) {
  std::memcpy(info.data() + offset, &value, sizeof(value));
}

TEST(InetDiagParser, ReadsRecordedIpv4Sockets) {
  const auto chunk = fixture("inet_diag_ipv4.bin");
  const auto got = read(chunk, kIpv4Sequence);
  EXPECT_EQ(got.malformed, 0u);
  EXPECT_TRUE(got.outcome.ours);
  EXPECT_TRUE(got.outcome.done);
  EXPECT_FALSE(got.outcome.interrupted);
  EXPECT_EQ(got.outcome.error, 0);
  ASSERT_EQ(got.records.size(), 4u);

  const Record client(got.records[3]);
  EXPECT_TRUE(absent_is_zero(client.raw()));
  EXPECT_EQ(client.time_ns(), 123456789u);
  EXPECT_EQ(client.netns_cookie(), 77u);
  EXPECT_EQ(client.sequence(), 5u);
  EXPECT_EQ(client.cookie(), 1934u);
  EXPECT_EQ(client.cgroup_id(), 1u);
  EXPECT_EQ(client.event(), TCPINFO_EVENT_SAMPLE);
  EXPECT_EQ(client.source(), TCPINFO_SOURCE_INET_DIAG);
  EXPECT_EQ(client.family(), AF_INET);
  EXPECT_EQ(client.state(), 1);
  EXPECT_EQ(tcpinfo::to_string(*client.local_address()), "127.0.0.1");
  EXPECT_EQ(tcpinfo::to_string(*client.peer_address()), "127.0.0.1");
  EXPECT_EQ(client.local_port(), 57648);
  EXPECT_EQ(client.peer_port(), 5001);
  EXPECT_EQ(client.congestion_control(), "cubic");
  EXPECT_EQ(client.shutdown(), 0);
  EXPECT_EQ(client.tos(), 0x10);
  EXPECT_EQ(client.options(), 7);
  EXPECT_EQ(client.snd_wscale(), 10);
  EXPECT_EQ(client.rcv_wscale(), 10);
  EXPECT_EQ(client.delivery_rate_app_limited(), 0);
  EXPECT_EQ(client.rto(), 204000u);
  EXPECT_EQ(client.ato(), 40000u);
  EXPECT_EQ(client.snd_mss(), 47616u);
  EXPECT_EQ(client.rcv_mss(), 1000u);
  EXPECT_EQ(client.unacked(), 0u);
  EXPECT_EQ(client.last_data_sent(), 300u);
  EXPECT_EQ(client.pmtu(), 65535u);
  EXPECT_EQ(client.rtt(), 18u);
  EXPECT_EQ(client.rttvar(), 6u);
  EXPECT_EQ(client.snd_cwnd(), 10u);
  EXPECT_EQ(client.reordering(), 3u);
  EXPECT_EQ(client.pacing_rate(), 52541793103u);
  EXPECT_EQ(client.max_pacing_rate(), ~std::uint64_t{0});
  EXPECT_EQ(client.bytes_acked(), 100001u);
  EXPECT_EQ(client.bytes_received(), 1000u);
  EXPECT_EQ(client.segs_out(), 6u);
  EXPECT_EQ(client.segs_in(), 4u);
  EXPECT_EQ(client.min_rtt(), 13u);
  EXPECT_EQ(client.delivery_rate(), 5952000000u);
  EXPECT_EQ(client.delivered(), 4u);
  EXPECT_EQ(client.bytes_sent(), 100000u);
  EXPECT_EQ(client.snd_wnd(), 95232u);
  EXPECT_EQ(client.rcv_wnd(), 70656u);
  EXPECT_EQ(client.total_rto(), 0);
  EXPECT_EQ(client.accecn_fail_mode(), 0);
  EXPECT_EQ(client.accecn_opt_seen(), 0);
  EXPECT_EQ(client.skmem_rmem_alloc(), 0u);
  EXPECT_EQ(client.skmem_rcvbuf(), 131072u);
  EXPECT_EQ(client.skmem_sndbuf(), 2626560u);
  EXPECT_EQ(client.skmem_drops(), 0u);
  for (const auto field : {Field::generation, Field::cpu, Field::swept, Field::old_state, Field::is_mptcp, Field::ulp,
                           Field::snd_ssthresh, Field::fackets, Field::last_ack_sent, Field::bbr_bw, Field::bbr_min_rtt,
                           Field::vegas_enabled, Field::dctcp_enabled})
    EXPECT_FALSE(client.has(field)) << tcpinfo::info(field).name;

  const Record server(got.records[2]);
  EXPECT_EQ(server.congestion_control(), "bbr");
  EXPECT_EQ(server.delivery_rate_app_limited(), 1);
  EXPECT_EQ(server.bbr_bw(), 8832000000u);  // 0x020e6da000: both halves
  EXPECT_EQ(server.bbr_min_rtt(), 4u);
  EXPECT_EQ(server.bbr_pacing_gain(), 739u);
  EXPECT_EQ(server.bbr_cwnd_gain(), 739u);
}

TEST(InetDiagParser, ReadsARecordedListener) {
  const auto got = read(fixture("inet_diag_ipv4.bin"), kIpv4Sequence);
  const Record listener(got.records.at(0));
  EXPECT_TRUE(absent_is_zero(listener.raw()));
  EXPECT_EQ(listener.state(), 10);
  EXPECT_EQ(listener.local_port(), 5001);
  EXPECT_EQ(tcpinfo::to_string(*listener.peer_address()), "0.0.0.0");
  EXPECT_EQ(listener.unacked(), 0u);
  EXPECT_EQ(listener.sacked(), 7u);
  EXPECT_EQ(listener.snd_cwnd(), 10u);
  EXPECT_EQ(listener.reordering(), 3u);
  EXPECT_EQ(listener.pacing_rate(), ~std::uint64_t{0});
  EXPECT_EQ(listener.congestion_control(), "bbr");
  for (const auto& member : expected::members()) {
    const bool common = member.field == Field::unacked || member.field == Field::sacked ||
                        member.field == Field::snd_cwnd || member.field == Field::reordering ||
                        member.field == Field::pacing_rate || member.field == Field::max_pacing_rate;
    EXPECT_EQ(listener.has(member.field), common) << tcpinfo::info(member.field).name;
  }
}

TEST(InetDiagParser, ReadsARecordedTimeWaitSocketThatHasNoTcpInfo) {
  const auto got = read(fixture("inet_diag_ipv4.bin"), kIpv4Sequence);
  const Record gone(got.records.at(1));
  EXPECT_TRUE(absent_is_zero(gone.raw()));
  EXPECT_EQ(gone.state(), 6);
  EXPECT_EQ(gone.cookie(), 1932u);
  EXPECT_EQ(gone.local_port(), 58754);
  EXPECT_EQ(gone.peer_port(), 5004);
  for (const auto& member : expected::members())
    EXPECT_FALSE(gone.has(member.field)) << tcpinfo::info(member.field).name;
  for (const auto field : {Field::congestion_control, Field::cgroup_id, Field::tos, Field::shutdown,
                           Field::skmem_rmem_alloc, Field::skmem_drops})
    EXPECT_FALSE(gone.has(field)) << tcpinfo::info(field).name;
}

TEST(InetDiagParser, ReadsRecordedIpv6AndMappedSockets) {
  const auto got = read(fixture("inet_diag_ipv6.bin"), kIpv6Sequence);
  EXPECT_EQ(got.malformed, 0u);
  ASSERT_EQ(got.records.size(), 6u);
  const Record mapped(got.records[2]);
  EXPECT_EQ(mapped.family(), AF_INET6);
  EXPECT_EQ(tcpinfo::to_string(*mapped.local_address()), "127.0.0.1");
  EXPECT_EQ(tcpinfo::to_string(*mapped.peer_address()), "127.0.0.1");
  EXPECT_EQ(mapped.local_port(), 49564);
  EXPECT_EQ(mapped.peer_port(), 5003);
  EXPECT_EQ(mapped.congestion_control(), "reno");
  EXPECT_EQ(mapped.rtt(), 7u);
  EXPECT_EQ(mapped.bytes_acked(), 100001u);
  const Record ipv6(got.records[4]);
  EXPECT_EQ(ipv6.family(), AF_INET6);
  EXPECT_EQ(tcpinfo::to_string(*ipv6.local_address()), "::1");
  EXPECT_EQ(tcpinfo::to_string(*ipv6.peer_address()), "::1");
  EXPECT_EQ(ipv6.congestion_control(), "bbr");
  EXPECT_EQ(ipv6.rtt(), 16u);
  EXPECT_EQ(ipv6.snd_cwnd(), 13u);
  EXPECT_EQ(ipv6.bbr_bw(), 0x01'95'72'a2'fcull);
  EXPECT_EQ(ipv6.bbr_min_rtt(), 7u);
}

TEST(InetDiagParser, EveryTruncationOfARecordedDumpGivesWholeSocketsOnly) {
  for (const auto& [name, sequence] :
       {std::pair{"inet_diag_ipv4.bin", kIpv4Sequence}, std::pair{"inet_diag_ipv6.bin", kIpv6Sequence}}) {
    const auto chunk = fixture(name);
    const auto whole = read(chunk, sequence);
    std::size_t cut_between = 0;
    for (std::size_t length = 0; length < chunk.size(); ++length) {
      const Bytes part(chunk.begin(), chunk.begin() + static_cast<long>(length));
      const auto got = read(part, sequence);
      ASSERT_FALSE(got.outcome.done);
      ASSERT_LE(got.records.size(), whole.records.size());
      for (std::size_t i = 0; i < got.records.size(); ++i) ASSERT_TRUE(got.records[i] == whole.records[i]);
      ASSERT_LE(got.malformed, 1u);
      cut_between += got.malformed == 0;
    }
    EXPECT_EQ(cut_between, whole.records.size() + 1) << name;  // before each message
  }
}

TEST(InetDiagParser, EveryTruncationOfAMessageGivesAPartOfItsFields) {
  const auto chunk = fixture("inet_diag_ipv4.bin");
  tcpinfo::inet_diag::Messages messages(chunk);
  for (tcpinfo::inet_diag::Message message; messages.next(message);) {
    if (message.type != SOCK_DIAG_BY_FAMILY) continue;
    const auto whole = fill(message.payload);
    ASSERT_TRUE(whole.ok);
    for (std::size_t length = 0; length < message.payload.size(); ++length) {
      const auto part = fill(message.payload.first(length));
      ASSERT_EQ(part.ok, length >= sizeof(inet_diag_msg));
      if (part.ok) {
        ASSERT_TRUE(is_part_of(part.raw, whole.raw)) << length;
      }
      if (!part.ok) {
        ASSERT_EQ(part.malformed, 1u);
      }
    }
  }
}

TEST(InetDiagParser, TheOrderOfAttributesDoesNotMatterAndUnknownOnesArePassedOver) {
  const auto chunk = fixture("inet_diag_ipv4.bin");
  tcpinfo::inet_diag::Messages messages(chunk);
  std::mt19937 random(1);
  for (tcpinfo::inet_diag::Message message; messages.next(message);) {
    if (message.type != SOCK_DIAG_BY_FAMILY) continue;
    std::vector<Bytes> attributes;
    for (std::size_t at = sizeof(inet_diag_msg); at + sizeof(nlattr) <= message.payload.size();) {
      nlattr head;
      std::memcpy(&head, message.payload.data() + at, sizeof(head));
      const auto size = std::min<std::size_t>(NLA_ALIGN(head.nla_len), message.payload.size() - at);
      attributes.emplace_back(message.payload.begin() + static_cast<long>(at),
                              message.payload.begin() + static_cast<long>(at + size));
      attributes.back().resize(NLA_ALIGN(head.nla_len));
      at += size;
    }
    const nlattr unknown{8, 999};
    Bytes extra(8, std::byte{0xff});
    std::memcpy(extra.data(), &unknown, sizeof(unknown));
    attributes.push_back(extra);
    const nlattr empty{4, 1000};
    extra.resize(4);
    std::memcpy(extra.data(), &empty, sizeof(empty));
    attributes.push_back(extra);
    const auto whole = fill(message.payload);
    EXPECT_EQ(whole.malformed, 0u);
    for (int i = 0; i < 20; ++i) {
      std::shuffle(attributes.begin(), attributes.end(), random);
      Bytes payload(message.payload.begin(), message.payload.begin() + sizeof(inet_diag_msg));
      for (const auto& attribute : attributes) payload.insert(payload.end(), attribute.begin(), attribute.end());
      const auto got = fill(payload);
      ASSERT_TRUE(got.ok);
      ASSERT_TRUE(got.raw == whole.raw);
      ASSERT_EQ(got.malformed, 0u);
    }
  }
}

TEST(InetDiagParser, SurvivesAnyChangedByte) {
  std::mt19937 random(1);
  for (const auto& [name, sequence] :
       {std::pair{"inet_diag_ipv4.bin", kIpv4Sequence}, std::pair{"inet_diag_ipv6.bin", kIpv6Sequence}}) {
    const auto chunk = fixture(name);
    for (int i = 0; i < 20000; ++i) {
      auto changed = chunk;
      for (int j = 0; j < 3; ++j) changed[random() % changed.size()] = static_cast<std::byte>(random());
      for (const auto& record : read(changed, sequence).records) ASSERT_TRUE(absent_is_zero(record));
    }
  }
}

TEST(InetDiagParser, AMemberOfTcpInfoIsPresentWhereItIsWhollyInside) {
  for (std::size_t length = 0; length <= kTcpInfoBytes + 120; ++length) {
    const auto info = numbered_tcp_info(length);
    const auto got = fill(Payload().add(INET_DIAG_INFO, info).bytes());
    ASSERT_TRUE(got.ok);
    ASSERT_EQ(got.malformed, length == 0 ? 1u : 0u);
    std::size_t present = 0;
    for (const auto& member : expected::members()) {
      // rttvar counts only where rtt says that there was a measurement: it stands behind it, so that needs no case.
      const bool inside = member.offset + member.size <= length;
      ASSERT_EQ(got.view().has(member.field), inside) << tcpinfo::info(member.field).name << " of " << length;
      if (inside) {
        ASSERT_EQ(got.view().number(member.field), expected::value_in(info, member))
            << tcpinfo::info(member.field).name;
      }
      present += inside;
    }
    if (length == 232) {
      EXPECT_EQ(present, expected::members().size() - 14);
    }
    if (length == 240) {
      EXPECT_EQ(present, expected::members().size() - 12);
    }
    if (length == 248) {
      EXPECT_EQ(present, expected::members().size() - 9);
    }
    if (length >= 280) {
      ASSERT_EQ(present, expected::members().size());
    }
  }
}

TEST(InetDiagParser, EveryFieldOfTcpInfoIsRead) {
  // fackets and last_ack_sent are never filled; what is left of the table is no member of tcp_info.
  const auto got = fill(Payload().add(INET_DIAG_INFO, numbered_tcp_info()).bytes());
  for (auto i = static_cast<std::size_t>(Field::ca_state); i <= static_cast<std::size_t>(Field::accecn_opt_seen); ++i) {
    const auto field = static_cast<Field>(i);
    EXPECT_EQ(got.view().has(field), field != Field::fackets && field != Field::last_ack_sent)
        << tcpinfo::info(field).name;
  }
}

TEST(InetDiagParser, TheLastFourBytesNeedALayoutThatIsKnown) {
  auto reading = kReading;
  reading.layout = {};
  for (const std::size_t length : {280u, 300u}) {
    const auto got = fill(Payload().add(INET_DIAG_INFO, numbered_tcp_info(length)).bytes(), reading);
    EXPECT_FALSE(got.view().accecn_fail_mode());
    EXPECT_FALSE(got.view().accecn_opt_seen());
    EXPECT_TRUE(got.view().received_ce_bytes());
  }
}

TEST(InetDiagParser, TheLastFourBytesAreReadAsTheKernelLaysThemOut) {
  auto info = numbered_tcp_info();
  put<std::uint32_t>(info, 276, 0xabcdef00u | 9u << 4 | 2u << 2 | 3u);
  auto reading = kReading;
  reading.layout = kLayout72;
  const auto bits = fill(Payload().add(INET_DIAG_INFO, info).bytes(), reading);
  EXPECT_EQ(bits.view().accecn_fail_mode(), 9);
  EXPECT_EQ(bits.view().accecn_opt_seen(), 2);
  put<std::uint32_t>(info, 276, 0x00020009);
  const auto whole = fill(Payload().add(INET_DIAG_INFO, info).bytes());
  EXPECT_EQ(whole.view().accecn_fail_mode(), 9);
  EXPECT_EQ(whole.view().accecn_opt_seen(), 2);
  for (std::size_t length = 270; length < 280; ++length) {
    const auto cut = fill(Payload().add(INET_DIAG_INFO, info.data(), length).bytes(), reading);
    EXPECT_EQ(cut.view().accecn_fail_mode().has_value(), length > 276) << length;
  }
}

TEST(InetDiagParser, WhatWasNotMeasuredIsAbsent) {
  auto info = numbered_tcp_info();
  put<std::uint32_t>(info, offsetof(tcp_info, tcpi_rtt), 0);
  put<std::uint32_t>(info, offsetof(tcp_info, tcpi_min_rtt), ~0u);
  put<std::uint32_t>(info, offsetof(tcp_info, tcpi_snd_ssthresh), 0x7fffffff);
  auto got = fill(Payload().add(INET_DIAG_INFO, info).bytes());
  EXPECT_FALSE(got.view().rtt());
  EXPECT_FALSE(got.view().rttvar());
  EXPECT_FALSE(got.view().min_rtt());
  EXPECT_FALSE(got.view().snd_ssthresh());
  put<std::uint32_t>(info, offsetof(tcp_info, tcpi_rtt), 1);
  put<std::uint32_t>(info, offsetof(tcp_info, tcpi_rttvar), 0);
  put<std::uint32_t>(info, offsetof(tcp_info, tcpi_min_rtt), 0);
  put<std::uint32_t>(info, offsetof(tcp_info, tcpi_snd_ssthresh), 0x7ffffffe);
  got = fill(Payload().add(INET_DIAG_INFO, info).bytes());
  EXPECT_EQ(got.view().rtt(), 1u);
  EXPECT_EQ(got.view().rttvar(), 0u);
  EXPECT_EQ(got.view().min_rtt(), 0u);
  EXPECT_EQ(got.view().snd_ssthresh(), 0x7ffffffeu);
  put<std::uint32_t>(info, offsetof(tcp_info, tcpi_snd_ssthresh), ~0u);
  EXPECT_FALSE(fill(Payload().add(INET_DIAG_INFO, info).bytes()).view().snd_ssthresh());
}

TEST(InetDiagParser, AListenerHasItsQueueAndLittleElse) {
  auto info = numbered_tcp_info();
  info[0] = std::byte{10};
  const auto got = fill(Payload(AF_INET6, 10).add(INET_DIAG_INFO, info).bytes());
  EXPECT_EQ(got.view().state(), 10);
  const std::vector<Field> common{Field::pacing_rate, Field::max_pacing_rate, Field::reordering,
                                  Field::snd_cwnd,    Field::unacked,         Field::sacked};
  for (const auto& member : expected::members())
    EXPECT_EQ(got.view().has(member.field), std::find(common.begin(), common.end(), member.field) != common.end())
        << tcpinfo::info(member.field).name;
}

TEST(InetDiagParser, TheStateIsThatOfTheFieldsBesideIt) {
  auto info = numbered_tcp_info();
  info[0] = std::byte{4};
  EXPECT_EQ(fill(Payload(AF_INET, 1).add(INET_DIAG_INFO, info).bytes()).view().state(), 4);
  info[0] = std::byte{0};
  EXPECT_EQ(fill(Payload(AF_INET, 1).add(INET_DIAG_INFO, info).bytes()).view().state(), 1);
  EXPECT_EQ(fill(Payload(AF_INET, 6).bytes()).view().state(), 6);
}

TEST(InetDiagParser, CongestionControlStates) {
  const tcpvegas_info vegas{1, 2, 3, 4};
  auto got = fill(Payload().add(INET_DIAG_VEGASINFO, vegas).add_text(INET_DIAG_CONG, "vegas").bytes());
  EXPECT_EQ(got.view().vegas_enabled(), 1u);
  EXPECT_EQ(got.view().vegas_rttcnt(), 2u);
  EXPECT_EQ(got.view().vegas_rtt(), 3u);
  EXPECT_EQ(got.view().vegas_minrtt(), 4u);
  // Others use its attribute for values of their own.
  for (const char* other : {"westwood", "illinois", "nv", ""}) {
    Payload payload;
    if (*other) payload.add_text(INET_DIAG_CONG, other);
    got = fill(payload.add(INET_DIAG_VEGASINFO, vegas).bytes());
    for (const auto field : {Field::vegas_enabled, Field::vegas_rttcnt, Field::vegas_rtt, Field::vegas_minrtt})
      EXPECT_FALSE(got.view().has(field)) << other;
    EXPECT_EQ(got.malformed, 0u);
  }

  tcp_dctcp_info dctcp{1, 1, 512, 1000, 2000};
  got = fill(Payload().add(INET_DIAG_DCTCPINFO, dctcp).bytes());
  EXPECT_EQ(got.view().dctcp_enabled(), 1);
  EXPECT_EQ(got.view().dctcp_ce_state(), 1);
  EXPECT_EQ(got.view().dctcp_alpha(), 512u);
  EXPECT_EQ(got.view().dctcp_ab_ecn(), 1000u);
  EXPECT_EQ(got.view().dctcp_ab_tot(), 2000u);
  dctcp = {};  // fallen back to reno
  got = fill(Payload().add(INET_DIAG_DCTCPINFO, dctcp).bytes());
  EXPECT_FALSE(got.view().dctcp_enabled());
  EXPECT_FALSE(got.view().dctcp_alpha());
  EXPECT_EQ(got.malformed, 0u);

  const tcp_bbr_info bbr{0xfffffff0, 0x12, 30, 739, 512};
  got = fill(Payload().add(INET_DIAG_BBRINFO, bbr).bytes());
  EXPECT_EQ(got.view().bbr_bw(), 0x12fffffff0ull);
  EXPECT_EQ(got.view().bbr_cwnd_gain(), 512u);
}

TEST(InetDiagParser, UpperLayerProtocols) {
  const auto tls = Payload().add_text(INET_ULP_INFO_NAME, "tls");
  auto got = fill(Payload()
                      .add(INET_DIAG_ULP_INFO | NLA_F_NESTED, tls.bytes().data() + sizeof(inet_diag_msg),
                           tls.bytes().size() - sizeof(inet_diag_msg))
                      .bytes());
  EXPECT_EQ(got.view().ulp(), "tls");
  EXPECT_FALSE(got.view().is_mptcp());
  EXPECT_EQ(got.malformed, 0u);
  const auto mptcp = Payload().add(INET_ULP_INFO_MPTCP, 1).add_text(INET_ULP_INFO_NAME, "mptcp");
  got = fill(Payload()
                 .add(INET_DIAG_ULP_INFO, mptcp.bytes().data() + sizeof(inet_diag_msg),
                      mptcp.bytes().size() - sizeof(inet_diag_msg))
                 .bytes());
  EXPECT_EQ(got.view().ulp(), "mptcp");
  EXPECT_EQ(got.view().is_mptcp(), 1);
  got = fill(Payload().add(INET_DIAG_ULP_INFO, std::uint16_t{3}).bytes());
  EXPECT_FALSE(got.view().ulp());
  EXPECT_EQ(got.malformed, 1u);
}

TEST(InetDiagParser, MemoryIsReadAsFarAsItGoes) {
  const std::uint32_t words[12]{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  constexpr std::size_t kKnown = 9;
  for (std::size_t length = 0; length <= sizeof(words); ++length) {
    const auto got = fill(Payload().add(INET_DIAG_SKMEMINFO, words, length).bytes());
    EXPECT_EQ(got.malformed, length < 4 ? 1u : 0u);
    for (std::size_t i = 0; i < kKnown; ++i) {
      const auto field = static_cast<Field>(static_cast<std::size_t>(Field::skmem_rmem_alloc) + i);
      ASSERT_EQ(got.view().number(field), (i + 1) * 4 <= length ? std::optional<std::uint64_t>(i + 1) : std::nullopt);
    }
  }
}

TEST(InetDiagParser, AttributesThatBreakTheirFormatAreCountedAndSkipped) {
  struct Case {
    std::uint16_t type;
    std::size_t size;
    Field field;
  };
  const Bytes bytes(64, std::byte{'a'});
  for (const auto& [type, size, field] :
       {Case{INET_DIAG_TOS, 0, Field::tos}, Case{INET_DIAG_SHUTDOWN, 0, Field::shutdown},
        Case{INET_DIAG_CGROUP_ID, 7, Field::cgroup_id}, Case{INET_DIAG_BBRINFO, 19, Field::bbr_bw},
        Case{INET_DIAG_VEGASINFO, 15, Field::vegas_enabled}, Case{INET_DIAG_DCTCPINFO, 15, Field::dctcp_enabled},
        Case{INET_DIAG_CONG, 0, Field::congestion_control}, Case{INET_DIAG_CONG, 16, Field::congestion_control},
        Case{INET_DIAG_CONG, 64, Field::congestion_control}, Case{INET_DIAG_INFO, 0, Field::rto}}) {
    const auto got = fill(Payload().add(type, bytes.data(), size).add(INET_DIAG_MARK, 1).bytes());
    EXPECT_TRUE(got.ok);
    EXPECT_EQ(got.malformed, 1u) << type << " of " << size;
    EXPECT_FALSE(got.view().has(field)) << tcpinfo::info(field).name;
  }
  // Longer than today is a newer kernel, not an error.
  EXPECT_EQ(fill(Payload().add(INET_DIAG_BBRINFO, bytes.data(), 40).bytes()).malformed, 0u);
  EXPECT_EQ(fill(Payload().add(INET_DIAG_TOS, bytes.data(), 4).bytes()).view().tos(), 'a');
  // A name without its NUL, and one with something behind it.
  EXPECT_EQ(fill(Payload().add(INET_DIAG_CONG, bytes.data(), 15).bytes()).view().congestion_control(),
            "aaaaaaaaaaaaaaa");
  EXPECT_EQ(fill(Payload().add(INET_DIAG_CONG, "bbr\0xyz", 8).bytes()).view().congestion_control(), "bbr");
  // Lengths that lead nowhere end the message.
  for (const std::uint16_t length : std::initializer_list<std::uint16_t>{0, 3, 9, 0xffff}) {
    Payload payload;
    payload.add(INET_DIAG_TOS, std::uint8_t{8});
    Bytes broken(payload.bytes().begin(), payload.bytes().end());
    const nlattr head{length, INET_DIAG_CONG};
    broken.resize(broken.size() + 8);
    std::memcpy(broken.data() + broken.size() - 8, &head, sizeof(head));
    const auto got = fill(broken);
    EXPECT_EQ(got.malformed, 1u) << length;
    EXPECT_EQ(got.view().tos(), 8);
    EXPECT_FALSE(got.view().congestion_control());
  }
}

TEST(InetDiagParser, AMessageOfAnotherFamilyIsMalformed) {
  const auto got = fill(Payload(AF_UNIX).bytes());
  EXPECT_FALSE(got.ok);
  EXPECT_EQ(got.malformed, 1u);
}

Bytes message(std::uint16_t type, std::uint16_t flags, std::uint32_t sequence, std::span<const std::byte> payload) {
  nlmsghdr head{};
  head.nlmsg_len = static_cast<__u32>(NLMSG_HDRLEN + payload.size());
  head.nlmsg_type = type;
  head.nlmsg_flags = flags;
  head.nlmsg_seq = sequence;
  Bytes bytes(NLMSG_ALIGN(head.nlmsg_len));
  std::memcpy(bytes.data(), &head, sizeof(head));
  std::copy(payload.begin(), payload.end(), bytes.begin() + NLMSG_HDRLEN);
  return bytes;
}

Bytes message(std::uint16_t type, std::uint16_t flags, std::uint32_t sequence, int error) {
  return message(type, flags, sequence, std::as_bytes(std::span(&error, 1)));
}

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(InetDiagParser, SaysHowADumpEnds) {
  const Payload socket;
  const auto found = message(SOCK_DIAG_BY_FAMILY, NLM_F_MULTI, 9, socket.bytes());
  auto got = read(found + message(NLMSG_DONE, NLM_F_MULTI, 9, 0) + found, 9);
  EXPECT_TRUE(got.outcome.done);
  EXPECT_EQ(got.records.size(), 1u);  // what follows the end is not of this dump

  got = read(found + message(NLMSG_DONE, NLM_F_MULTI, 9, -ENOMEM), 9);
  EXPECT_TRUE(got.outcome.done);
  EXPECT_EQ(got.outcome.error, ENOMEM);
  EXPECT_EQ(got.records.size(), 1u);

  got = read(message(NLMSG_ERROR, 0, 9, -EPERM), 9);
  EXPECT_TRUE(got.outcome.done);
  EXPECT_EQ(got.outcome.error, EPERM);

  got = read(message(NLMSG_ERROR, 0, 9, 0) + found, 9);  // an acknowledgement
  EXPECT_FALSE(got.outcome.done);
  EXPECT_EQ(got.outcome.error, 0);
  EXPECT_EQ(got.records.size(), 1u);

  got = read(message(NLMSG_DONE, 0, 9, std::span<const std::byte>()), 9);
  EXPECT_FALSE(got.outcome.done);
  EXPECT_EQ(got.malformed, 1u);
}

TEST(InetDiagParser, SaysWhetherADumpWasInterrupted) {
  const Payload socket;
  const auto done = message(NLMSG_DONE, NLM_F_MULTI, 9, 0);
  EXPECT_FALSE(read(message(SOCK_DIAG_BY_FAMILY, NLM_F_MULTI, 9, socket.bytes()) + done, 9).outcome.interrupted);
  auto got = read(message(SOCK_DIAG_BY_FAMILY, NLM_F_MULTI | NLM_F_DUMP_INTR, 9, socket.bytes()) + done, 9);
  EXPECT_TRUE(got.outcome.interrupted);
  EXPECT_EQ(got.records.size(), 1u);
  EXPECT_TRUE(read(message(NLMSG_DONE, NLM_F_MULTI | NLM_F_DUMP_INTR, 9, 0), 9).outcome.interrupted);
  EXPECT_TRUE(read(message(NLMSG_OVERRUN, 0, 9, 0) + done, 9).outcome.interrupted);
}

TEST(InetDiagParser, MessagesOfADumpThatWasGivenUpArePassedOver) {
  const Payload socket;
  const auto got = read(message(SOCK_DIAG_BY_FAMILY, NLM_F_MULTI | NLM_F_DUMP_INTR, 8, socket.bytes()) +
                            message(NLMSG_DONE, NLM_F_MULTI, 8, -EPERM),
                        9);
  EXPECT_FALSE(got.outcome.ours);
  EXPECT_FALSE(got.outcome.done);
  EXPECT_FALSE(got.outcome.interrupted);
  EXPECT_TRUE(got.records.empty());
  EXPECT_EQ(got.malformed, 0u);
}

}  // namespace
