// SPDX-License-Identifier: BSD-2-Clause
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <tcpinfo/format.hpp>

#include "records.hpp"

namespace tcpinfo {
namespace {

std::string value(const tcpinfo_record& record, Field field) {
  std::string out = "x";
  EXPECT_EQ(append_value(out, Record(record), field), Record(record).has(field));
  return out.substr(1);
}

std::string summary(const tcpinfo_record& record) {
  std::string out;
  append_summary(out, Record(record));
  return out;
}

TEST(Value, IsShownByItsFormat) {
  const auto record = records::sample();
  EXPECT_EQ(value(record, Field::time_ns), "123456789");
  EXPECT_EQ(value(record, Field::event), "sample");
  EXPECT_EQ(value(record, Field::source), "sockops");
  EXPECT_EQ(value(record, Field::family), "ipv4");
  EXPECT_EQ(value(record, Field::peer_address), "10.0.0.2");
  EXPECT_EQ(value(record, Field::peer_port), "5201");
  EXPECT_EQ(value(record, Field::state), "ESTABLISHED");
  EXPECT_EQ(value(record, Field::ca_state), "Loss");
  EXPECT_EQ(value(record, Field::swept), "false");
  EXPECT_EQ(value(record, Field::congestion_control), "cubic");
  EXPECT_EQ(value(record, Field::pacing_rate), "18446744073709551615");
  EXPECT_EQ(value(record, Field::total_retrans), "0");
}

TEST(Value, OfAnAbsentFieldIsNothing) {
  const auto record = make_record();
  for (const auto& row : fields()) EXPECT_EQ(value(record, row.field), "") << row.name;
}

TEST(Value, OfACodeWithoutANameIsTheCode) {
  auto record = make_record();
  for (const auto field : {Field::event, Field::source, Field::state, Field::ca_state, Field::family, Field::swept}) {
    set_number(record, field, 99);
    EXPECT_EQ(value(record, field), "99") << info(field).name;
  }
}

TEST(Value, OfEveryAddressIsWhatTheCLibraryGives) {
  const auto check = [](const tcpinfo_address& address) {
    auto record = make_record();
    records::set_address(record, Field::local_address, address);
    ASSERT_EQ(value(record, Field::local_address), records::ntop(address));
    ASSERT_EQ(to_string(address), records::ntop(address));
  };
  records::Random random(7);
  for (int i = 0; i < 5000; ++i) check(records::random_address(random));
  // Zeros in every set of groups, with hexadecimal numbers of every length.
  for (unsigned zeros = 0; zeros < 256; ++zeros) {
    for (const unsigned group : {0x1u, 0xau, 0x10u, 0xffu, 0x100u, 0xabcu, 0x1000u, 0xffffu}) {
      tcpinfo_address address{};
      for (std::size_t i = 0; i < 8; ++i) {
        if (zeros >> i & 1) continue;
        address.bytes[2 * i] = static_cast<std::uint8_t>(group >> 8);
        address.bytes[2 * i + 1] = static_cast<std::uint8_t>(group & 0xff);
      }
      check(address);
    }
  }
  for (const auto* text :
       {"::", "::1", "::2", "::1.2.3.4", "::ffff:0.0.0.0", "::ffff:255.255.255.255", "1::", "fe80::1"})
    check(records::address(text));
}

TEST(Summary, OfASample) {
  auto record = records::sample();
  set_number(record, Field::rttvar, 987);
  set_number(record, Field::min_rtt, 11000);
  set_number(record, Field::unacked, 8);
  set_number(record, Field::lost, 1);
  set_number(record, Field::bytes_sent, 1'234'567);
  set_number(record, Field::bytes_received, 37);
  set_number(record, Field::notsent_bytes, 0);
  set_number(record, Field::delivery_rate, 11'763'000);
  set_number(record, Field::rwnd_limited, 1'200'000);
  EXPECT_EQ(summary(record),
            "sample 10.0.0.1:43210 -> 10.0.0.2:5201 ESTABLISHED cubic Loss rtt 12.3 ms rttvar 987 us min_rtt 11.0 ms "
            "cwnd 10 unacked 8 lost 1 total_retrans 0 sent 1.23 MB received 37 B notsent 0 B rate 94.1 Mbit/s "
            "rwnd_limited 1.20 s");
  EXPECT_EQ(fmt::format("{}", Record(record)), summary(record));
}

TEST(Summary, LeavesOutWhatIsAbsent) {
  EXPECT_EQ(summary(make_record()), "");
  EXPECT_EQ(summary(records::sample()),
            "sample 10.0.0.1:43210 -> 10.0.0.2:5201 ESTABLISHED cubic Loss rtt 12.3 ms cwnd 10 total_retrans 0");
  auto record = make_record();
  set_number(record, Field::event, TCPINFO_EVENT_GAP);
  EXPECT_EQ(summary(record), "gap");
  set_number(record, Field::rtt, 5);
  EXPECT_EQ(summary(record), "gap rtt 5 us");
}

TEST(Summary, SaysWhatWasLost) {
  auto gap = make_record();
  set_number(gap, Field::event, TCPINFO_EVENT_GAP);
  set_number(gap, Field::lost_records, 132);
  EXPECT_EQ(summary(gap), "gap: 132 records lost");
  set_number(gap, Field::lost_event, TCPINFO_EVENT_SAMPLE);
  EXPECT_EQ(summary(gap), "gap: 132 sample records lost");
  set_number(gap, Field::lost_records, 1);
  EXPECT_EQ(summary(gap), "gap: 1 sample record lost");
  auto sample = make_record();
  set_number(sample, Field::event, TCPINFO_EVENT_SAMPLE);
  set_number(sample, Field::rtt, 5);
  set_number(sample, Field::lost_records, 0);
  EXPECT_EQ(summary(sample), "sample rtt 5 us");
  set_number(sample, Field::lost_records, 3);
  EXPECT_EQ(summary(sample), "sample rtt 5 us 3 records lost");
}

TEST(Summary, TellsAnUnknownEndFromAddressZero) {
  auto record = make_record();
  records::set_address(record, Field::local_address, records::address("0.0.0.0"));
  set_number(record, Field::local_port, 0);
  EXPECT_EQ(summary(record), "0.0.0.0:0 -> ?");
  set_number(record, Field::peer_port, 80);
  EXPECT_EQ(summary(record), "0.0.0.0:0 -> ?:80");
}

TEST(Summary, PutsIpv6InBrackets) {
  auto record = make_record();
  records::set_address(record, Field::local_address, records::address("2001:db8::1"));
  set_number(record, Field::local_port, 443);
  records::set_address(record, Field::peer_address, records::address("::ffff:192.0.2.1"));
  EXPECT_EQ(summary(record), "[2001:db8::1]:443 -> 192.0.2.1");
}

TEST(Summary, OfATransitionShowsBothStates) {
  auto record = make_record();
  set_number(record, Field::event, TCPINFO_EVENT_STATE);
  set_number(record, Field::old_state, 2);
  set_number(record, Field::state, 1);
  EXPECT_EQ(summary(record), "state SYN_SENT -> ESTABLISHED");
}

// A listener's `unacked` and `sacked` are its accept queue and must not look like lost or unacknowledged data.
TEST(Summary, OfAListenerShowsItsAcceptQueue) {
  auto record = make_record();
  set_number(record, Field::state, 10);
  set_number(record, Field::unacked, 3);
  set_number(record, Field::sacked, 128);
  EXPECT_EQ(summary(record), "LISTEN waiting 3 backlog 128");
}

TEST(Summary, AppendsToWhatIsThere) {
  auto record = make_record();
  set_number(record, Field::rtt, 5);
  std::string out = "1.2s: ";
  append_summary(out, Record(record));
  EXPECT_EQ(out, "1.2s: rtt 5 us");
}

TEST(Summary, DurationsHaveThreeDigitsAndTheRightUnit) {
  const std::pair<std::uint64_t, std::string_view> cases[] = {
      {0, "0 us"},        {1, "1 us"},         {999, "999 us"},     {1000, "1.00 ms"},
      {1234, "1.23 ms"},  {9994, "9.99 ms"},   {9995, "10.0 ms"},   {99'940, "99.9 ms"},
      {99'960, "100 ms"}, {999'400, "999 ms"}, {999'600, "1.00 s"}, {4'294'967'295, "4295 s"},
  };
  for (const auto& [us, text] : cases) {
    auto record = make_record();
    set_number(record, Field::rwnd_limited, us);
    EXPECT_EQ(summary(record), "rwnd_limited " + std::string(text));
  }
}

TEST(Summary, BytesAndRatesAreDecimal) {
  const std::pair<std::uint64_t, std::string_view> bytes[] = {
      {0, "0 B"}, {999, "999 B"}, {1000, "1.00 kB"}, {1'500'000, "1.50 MB"}, {~std::uint64_t{0}, "18.4 EB"}};
  for (const auto& [value, text] : bytes) {
    auto record = make_record();
    set_number(record, Field::bytes_sent, value);
    EXPECT_EQ(summary(record), "sent " + std::string(text));
  }
  const std::pair<std::uint64_t, std::string_view> rates[] = {
      {0, "0 bit/s"}, {125, "1.00 kbit/s"}, {12'500'000, "100 Mbit/s"}, {1'250'000'000, "10.0 Gbit/s"}};
  for (const auto& [value, text] : rates) {
    auto record = make_record();
    set_number(record, Field::delivery_rate, value);
    EXPECT_EQ(summary(record), "rate " + std::string(text));
  }
}

TEST(Summary, IsOneLineWhateverTheRecordHolds) {
  records::Random random(8);
  for (int i = 0; i < 2000; ++i) {
    auto record = records::random_record(random, 80);
    records::set_name(record, Field::congestion_control, "a\nb\x1b[2J");
    const auto line = summary(record);
    ASSERT_EQ(line.find_first_of("\n\x1b"), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace tcpinfo
