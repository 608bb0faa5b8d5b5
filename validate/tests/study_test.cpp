// SPDX-License-Identifier: BSD-2-Clause
// What a study makes of its samplers' records, without a kernel.
#include "study.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tcpinfo/error.hpp>

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using validation::burst_totals;
using validation::Flows;
using validation::Reading;

constexpr std::uint64_t kMs = 1'000'000;

Reading at(std::uint64_t ms, std::uint64_t total, std::uint64_t cookie = 1) {
  Reading reading;
  reading.time_ns = ms * kMs;
  reading.cookie = cookie;
  reading.rtt_us = 20'000;
  reading.cwnd = 10;
  reading.total_retrans = total;
  reading.segs_in = reading.segs_out = ms;
  reading.state = 1;
  return reading;
}

TEST(Study, RetransmissionsWithinARoundTripAreOneBurst) {
  EXPECT_THAT(burst_totals({}, 1), IsEmpty());
  EXPECT_THAT(burst_totals({at(0, 0), at(500, 0)}, 1), IsEmpty());
  EXPECT_THAT(burst_totals({at(0, 0), at(100, 3), at(110, 5), at(130, 6), at(151, 7), at(900, 7)}, 1),
              ElementsAre(0, 6, 7));
  EXPECT_THAT(burst_totals({at(0, 0), at(100, 3), at(300, 9, 2)}, 1), ElementsAre(0, 3)) << "another flow's";
}

TEST(Study, ATotalWasReachedWhenAGreaterOneWasSeen) {
  // The clock of the second source is late: its total of 3 came before the 6 of the first one.
  EXPECT_THAT(burst_totals({at(0, 0), at(100, 6), at(150, 3)}, 1), ElementsAre(0, 6));
}

TEST(Study, BurstsAreToldApartByARecordBetweenThem) {
  const Flows flows{.bulk = 1, .shorts = {}, .short_flow_bytes = 0};
  const std::vector<std::uint64_t> totals{0, 3, 5, 9};
  const auto bursts = [&](const std::vector<Reading>& readings) {
    return validation::evaluate(readings, flows, totals).bursts;
  };
  EXPECT_EQ(bursts({at(0, 0), at(100, 3), at(200, 5), at(300, 9)}), 3u);
  EXPECT_EQ(bursts({at(0, 0), at(100, 3), at(300, 9)}), 1u) << "the last two run together";
  EXPECT_EQ(bursts({at(100, 4), at(200, 9)}), 0u) << "in the middle of one";
  EXPECT_EQ(bursts({}), 0u);
}

TEST(Study, EachSamplersExtremesFlowsAndIdleRecordsAreCounted) {
  const Flows flows{.bulk = 1, .shorts = {2, 3, 4}, .short_flow_bytes = 1000};
  std::vector<Reading> readings{at(0, 0), at(10, 0), at(20, 0), at(20, 0), at(30, 0, 2), at(40, 0, 3)};
  readings[0].rtt_us = 0;  // not measured yet
  readings[1].rtt_us = 25'000;
  readings[2].cwnd = 40;
  readings[2].rtt_us.reset();
  readings[4].bytes_acked = 1001;
  readings[5].bytes_acked = 999;
  const auto seen = validation::evaluate(readings, flows, {});
  EXPECT_EQ(seen.records, 6u);
  EXPECT_EQ(seen.bulk_records, 4u);
  EXPECT_EQ(seen.nothing_new, 1u);
  EXPECT_EQ(seen.rtt_least_us, 20'000u);
  EXPECT_EQ(seen.rtt_greatest_us, 25'000u);
  EXPECT_EQ(seen.cwnd_least, 10u);
  EXPECT_EQ(seen.cwnd_greatest, 40u);
  EXPECT_EQ(seen.short_flows, 2u);
  EXPECT_EQ(seen.short_flows_complete, 1u);
}

validation::StudyResult example() {
  validation::StudyResult result;
  result.kernel = "Linux 6.18";
  result.path = "emulator: there 20 Mbit/s; back \"unlimited\"";
  result.congestion = "cubic";
  result.duration_s = 10.5;
  result.rtt_us = 20'100;
  result.retransmissions = 77;
  result.short_flows = 100;
  result.short_flow_ms = 62.5;
  result.reference = {.records = 9000, .rtt_least_us = 20'000, .rtt_greatest_us = 37'000, .bursts = 12};
  result.samplers = {
      {.source = "sockops", .interval_ns = 0, .seen = {.records = 300, .cwnd_least = 2, .cwnd_greatest = 70}},
      {.source = "sockops", .mode = "state", .seen = {}},
      {.source = "inet_diag", .interval_ns = 1000 * kMs, .lost = 1, .seen = {}}};
  return result;
}

TEST(Study, JsonHoldsEverything) {
  const auto json = to_json(example());
  EXPECT_EQ(validation::parse_study(json, "study.json"), example());
  EXPECT_THAT(json, HasSubstr("\"cwnd_least\": null"));
}

TEST(Study, RefusesWhatIsNoStudy) {
  const auto error = [](std::string_view json) -> std::string {
    try {
      validation::parse_study(json, "study.json");
    } catch (const tcpinfo::Error& caught) {
      EXPECT_EQ(caught.code(), tcpinfo::Errc::kMalformed);
      return caught.what();
    }
    return "no error";
  };
  auto json = to_json(example());
  EXPECT_THAT(error(json.substr(0, 100)), HasSubstr("read study study.json: "));
  EXPECT_THAT(error("{}"), HasSubstr("it is no study"));
  EXPECT_THAT(error("[]"), HasSubstr("it is no study"));
  json.replace(json.find("\"version\": 1"), 12, "\"version\": 9");
  EXPECT_THAT(error(json), HasSubstr("its version is 9, this program reads 1"));
}

TEST(Study, TheTableHasALineForEachSampler) {
  const auto table = to_table(example());
  EXPECT_THAT(table, HasSubstr("reference "));
  EXPECT_THAT(table, HasSubstr("every RTT"));
  EXPECT_THAT(table, HasSubstr("transitions"));
  EXPECT_THAT(table, HasSubstr("inet_diag  1 s"));
  EXPECT_THAT(table, HasSubstr("20-37"));
}

}  // namespace
