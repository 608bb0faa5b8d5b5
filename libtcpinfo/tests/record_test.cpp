// SPDX-License-Identifier: BSD-2-Clause
#include <cstring>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include <tcpinfo/record.hpp>

#include "records.hpp"

namespace tcpinfo {
namespace {

TEST(View, ShowsTheBytesThatItWasGiven) {
  const auto raw = records::sample();
  const auto record = Record::view(records::bytes(raw));
  ASSERT_TRUE(record);
  EXPECT_EQ(&record->raw(), &raw);
  EXPECT_EQ(record->rtt(), 12345U);
}

TEST(View, TakesMoreBytesThanARecord) {
  alignas(tcpinfo_record) std::byte buffer[sizeof(tcpinfo_record) + 5] = {};
  const auto raw = records::sample();
  std::memcpy(buffer, &raw, sizeof(raw));
  const auto record = Record::view(buffer);
  ASSERT_TRUE(record);
  EXPECT_TRUE(records::same_bytes(record->raw(), raw));
}

TEST(View, RejectsEveryShorterLength) {
  const auto raw = records::sample();
  for (std::size_t length = 0; length < sizeof(raw); ++length)
    EXPECT_FALSE(Record::view(records::bytes(raw).first(length))) << length;
}

TEST(View, RejectsMisalignedBytes) {
  alignas(tcpinfo_record) std::byte buffer[sizeof(tcpinfo_record) + 8] = {};
  const auto raw = records::sample();
  for (std::size_t shift = 1; shift < 8; ++shift) {
    std::memcpy(buffer + shift, &raw, sizeof(raw));
    EXPECT_FALSE(Record::view(std::span(buffer).subspan(shift))) << shift;
  }
}

TEST(View, RejectsAnotherVersionOrSize) {
  auto raw = records::sample();
  raw.version = TCPINFO_RECORD_VERSION + 1;
  EXPECT_FALSE(Record::view(records::bytes(raw)));
  raw.version = 0;
  EXPECT_FALSE(Record::view(records::bytes(raw)));
  raw = records::sample();
  raw.size = sizeof(raw) - 8;
  EXPECT_FALSE(Record::view(records::bytes(raw)));
  raw.size = sizeof(raw) + 8;
  EXPECT_FALSE(Record::view(records::bytes(raw)));
}

TEST(Presence, IsAbsentEvenWhereTheMemberIsNotZero) {
  auto raw = make_record();
  raw.rtt = 7;
  raw.peer_address.bytes[0] = 1;
  raw.ulp.text[0] = 't';
  const Record record(raw);
  EXPECT_EQ(record.rtt(), std::nullopt);
  EXPECT_EQ(record.number(Field::rtt), std::nullopt);
  EXPECT_EQ(record.peer_address(), std::nullopt);
  EXPECT_EQ(record.ulp(), std::nullopt);
}

TEST(Presence, ZeroIsAValue) {
  auto raw = make_record();
  set_number(raw, Field::lost, 0);
  const Record record(raw);
  EXPECT_TRUE(record.has(Field::lost));
  EXPECT_EQ(record.lost(), 0U);
  EXPECT_FALSE(record.has(Field::sacked));
  EXPECT_FALSE(record.has(Field::retrans));
}

TEST(Presence, IsOneBitAField) {
  for (const auto& row : fields()) {
    auto raw = make_record();
    set_present(raw, row.field);
    for (const auto& other : fields())
      EXPECT_EQ(Record(raw).has(other.field), other.field == row.field) << row.name << ' ' << other.name;
  }
}

// A peer reads u16 members with 32-bit loads and so shows its neighbours' bytes: with every other byte set, a value is
// still the member's own.
TEST(Accessors, ReadTheirMemberAndNothingElse){
#define X(id, ...)                                                             \
  {                                                                            \
    tcpinfo_record raw;                                                        \
    std::memset(&raw, 0xff, sizeof(raw));                                      \
    std::memset(&raw.id, 0, sizeof(raw.id));                                   \
    reinterpret_cast<unsigned char*>(&raw.id)[0] = 'A';                        \
    const auto value = Record(raw).id();                                       \
    ASSERT_TRUE(value.has_value()) << #id;                                     \
    if constexpr (std::is_integral_v<std::remove_cvref_t<decltype(*value)>>) { \
      EXPECT_EQ(*value, 'A') << #id;                                           \
      EXPECT_EQ(Record(raw).number(Field::id), std::uint64_t{'A'}) << #id;     \
      EXPECT_EQ(sizeof(*value), sizeof(raw.id)) << #id;                        \
    } else {                                                                   \
      EXPECT_EQ(Record(raw).number(Field::id), std::nullopt) << #id;           \
    }                                                                          \
  }
    TCPINFO_FIELDS(X)
#undef X
}

TEST(Accessors, AddressesAndNames) {
  auto raw = make_record();
  records::set_address(raw, Field::local_address, records::address("192.0.2.7"));
  records::set_name(raw, Field::congestion_control, "bbr");
  records::set_name(raw, Field::ulp, "sixteen_bytes_ab");
  const Record record(raw);
  EXPECT_EQ(to_string(record.local_address().value()), "192.0.2.7");
  EXPECT_EQ(record.congestion_control(), "bbr");
  EXPECT_EQ(record.ulp(), "sixteen_bytes_ab");
}

TEST(SetNumber, SetsValueAndPresenceOfThatFieldOnly) {
  for (const auto& row : fields()) {
    auto raw = make_record();
    set_number(raw, row.field, 0xa1a2a3a4a5a6a7a8);
    const bool is_number = row.size <= 8;
    EXPECT_EQ(Record(raw).has(row.field), is_number) << row.name;
    auto expected = make_record();
    if (is_number) {
      const auto value = 0xa1a2a3a4a5a6a7a8 & (~std::uint64_t{0} >> (64 - 8 * row.size));
      EXPECT_EQ(Record(raw).number(row.field), value) << row.name;
      set_present(expected, row.field);
      std::memcpy(reinterpret_cast<std::byte*>(&expected) + row.offset, &value, row.size);
    }
    EXPECT_TRUE(records::same_bytes(raw, expected)) << row.name;
  }
}

TEST(Name, EndsAtTheFirstNulOrAfterSixteenBytes) {
  EXPECT_EQ(text(records::name("")), "");
  EXPECT_EQ(text(records::name("reno")), "reno");
  EXPECT_EQ(text(records::name("0123456789abcdef")), "0123456789abcdef");
  EXPECT_EQ(text(records::name({"ab\0cd", 5})), "ab");
}

struct AddressText {
  const char* text;
  std::vector<unsigned char> bytes;
};

TEST(Address, TextAndBytesBothWays) {
  const AddressText cases[] = {
      {"192.0.2.1", {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1}},
      {"0.0.0.0", {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}},
      {"255.255.255.255", {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 255, 255, 255, 255}},
      {"::", {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
      {"::1", {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
      {"2001:db8::1", {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
      {"fe80::1:2:3:4", {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0, 4}},
  };
  for (const auto& [text, bytes] : cases) {
    const auto address = parse_address(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(std::memcmp(address->bytes, bytes.data(), 16), 0) << text;
    EXPECT_EQ(to_string(*address), text);
  }
}

TEST(Address, MappedIsShownAsIpv4) {
  EXPECT_EQ(to_string(records::address("::ffff:10.1.2.3")), "10.1.2.3");
  EXPECT_EQ(to_string(records::address("::ffff:a01:203")), "10.1.2.3");
  EXPECT_EQ(to_string(records::address("2001:DB8:0:0::1")), "2001:db8::1");
}

TEST(Address, RandomOnesComeBack) {
  records::Random random(1);
  for (int i = 0; i < 20000; ++i) {
    const auto address = records::random_address(random);
    const auto back = parse_address(to_string(address));
    ASSERT_TRUE(back) << to_string(address);
    ASSERT_EQ(std::memcmp(back->bytes, address.bytes, 16), 0) << to_string(address);
  }
}

TEST(Address, WhatIsNoneIsRejected) {
  for (const std::string_view text : {"", " ", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4/8",
                                      ":", ":::", "1::2::3", "fe80::1%lo", "localhost", "12345::", "[::1]",
                                      "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"})
    EXPECT_FALSE(parse_address(text)) << text;
  EXPECT_FALSE(parse_address(std::string_view("10.0.0.1\0x", 10))) << "a NUL ends it for the C library only";
}

TEST(StateName, IsTheKernels) {
  EXPECT_EQ(state_name(0), "");
  EXPECT_EQ(state_name(1), "ESTABLISHED");
  EXPECT_EQ(state_name(2), "SYN_SENT");
  EXPECT_EQ(state_name(3), "SYN_RECV");
  EXPECT_EQ(state_name(4), "FIN_WAIT1");
  EXPECT_EQ(state_name(5), "FIN_WAIT2");
  EXPECT_EQ(state_name(6), "TIME_WAIT");
  EXPECT_EQ(state_name(7), "CLOSE");
  EXPECT_EQ(state_name(8), "CLOSE_WAIT");
  EXPECT_EQ(state_name(9), "LAST_ACK");
  EXPECT_EQ(state_name(10), "LISTEN");
  EXPECT_EQ(state_name(11), "CLOSING");
  EXPECT_EQ(state_name(12), "NEW_SYN_RECV");
  EXPECT_EQ(state_name(13), "BOUND_INACTIVE");
  EXPECT_EQ(state_name(14), "");
  EXPECT_EQ(state_name(255), "");
}

TEST(CaStateName, IsTheKernels) {
  EXPECT_EQ(ca_state_name(0), "Open");
  EXPECT_EQ(ca_state_name(1), "Disorder");
  EXPECT_EQ(ca_state_name(2), "CWR");
  EXPECT_EQ(ca_state_name(3), "Recovery");
  EXPECT_EQ(ca_state_name(4), "Loss");
  EXPECT_EQ(ca_state_name(5), "");
}

}  // namespace
}  // namespace tcpinfo
