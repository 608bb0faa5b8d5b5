// SPDX-License-Identifier: BSD-2-Clause
#include "path_truth.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "recording.hpp"

namespace validation {
namespace {

using tcpinfo::SourceId;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class PathTruthTest : public testing::Test {
 protected:
  LinkReport link;
  Iperf3Stream stream;
  std::vector<tcpinfo_record> records;
  std::vector<tcpinfo_record> sockops;

  void SetUp() override {
    link.engine = "emulator";
    link.there.delay_us = 10'500;
    link.back.delay_us = 10'000;
    link.there.rate_mbit = 100;
    for (auto* way : {&link.there, &link.back}) way->data_lost = way->marked = 0;
    stream.sender = true;
    stream.local_address = "10.77.0.1";
    stream.peer_address = "10.77.0.2";
    stream.local_port = 40'000;
    stream.peer_port = 5201;
    for (int i = 0; i < 3; ++i) records.push_back(sample(20'500 + i, 0));
    sockops.push_back(close(1, "10.77.0.1", 100, 7));
    sockops.push_back(close(2, "10.77.0.1", 10, 0));  // the control connection
    sockops.push_back(close(3, "10.77.0.2", 2, 0));
  }

  tcpinfo_record sample(std::uint64_t min_rtt, std::uint64_t retransmitted) const {
    auto record = tcpinfo::make_record();
    tcpinfo::set_number(record, tcpinfo::Field::time_ns, 1000 + records.size());
    tcpinfo::set_number(record, tcpinfo::Field::local_port, 40'000);
    tcpinfo::set_number(record, tcpinfo::Field::peer_port, 5201);
    tcpinfo::set_number(record, tcpinfo::Field::state, 1);
    record.local_address = *tcpinfo::parse_address("10.77.0.1");
    record.peer_address = *tcpinfo::parse_address("10.77.0.2");
    tcpinfo::set_number(record, tcpinfo::Field::min_rtt, min_rtt);
    tcpinfo::set_number(record, tcpinfo::Field::rtt, min_rtt + 100);
    tcpinfo::set_number(record, tcpinfo::Field::total_retrans, retransmitted);
    tcpinfo::set_number(record, tcpinfo::Field::delivery_rate, 6'250'000);
    return record;
  }

  static tcpinfo_record close(std::uint64_t cookie, const char* address, std::uint64_t segments,
                              std::uint64_t retransmitted) {
    auto record = tcpinfo::make_record();
    tcpinfo::set_number(record, tcpinfo::Field::event, TCPINFO_EVENT_CLOSE);
    tcpinfo::set_number(record, tcpinfo::Field::cookie, cookie);
    tcpinfo::set_number(record, tcpinfo::Field::snd_mss, 1448);
    tcpinfo::set_number(record, tcpinfo::Field::data_segs_out, segments);
    tcpinfo::set_number(record, tcpinfo::Field::bytes_sent, segments * 1448);
    tcpinfo::set_number(record, tcpinfo::Field::bytes_retrans, retransmitted * 1448);
    tcpinfo::set_number(record, tcpinfo::Field::bytes_acked, (segments - retransmitted) * 1448 + 2);
    tcpinfo::set_number(record, tcpinfo::Field::total_retrans, retransmitted);
    tcpinfo::set_number(record, tcpinfo::Field::delivered_ce, 0);
    record.local_address = *tcpinfo::parse_address(address);
    return record;
  }

  PathTruth truth() const {
    const auto series = make_series({SourceId::kIter, records}, {&stream, true, false, {}});
    return compare_with_path(link, {{&series, true}}, "10.77.0.1", sockops);
  }

  static std::vector<std::string> failed(const PathTruth& truth) {
    std::vector<std::string> result;
    for (const auto& c : truth.comparisons)
      if (!c.passed) result.push_back(c.source + " " + c.field);
    return result;
  }
};

TEST_F(PathTruthTest, AgreesWithWhatThePathDid) {
  link.there.data_lost = 7;
  const auto all = truth();
  EXPECT_THAT(failed(all), IsEmpty());
  ASSERT_THAT(all.comparisons, SizeIs(2 + 1 + 2)) << "min_rtt and rtt; losses of the way that lost something; marks of both";
  EXPECT_EQ(all.comparisons[0].compared, 3u);
  EXPECT_THAT(all.remarks,
              ElementsAre("iter: the median of delivery_rate is 0.500 of the rate that was asked of the path"));
  EXPECT_THAT(all.comparisons, Contains(AllOf(Field(&Comparison::field, "min_rtt"),
                                              Field(&Comparison::note, HasSubstr("the least is 0 us more")))));
}

TEST_F(PathTruthTest, GapRecordsAreOfNoStream) {
  link.there.data_lost = 7;
  auto gap = tcpinfo::make_record();
  tcpinfo::set_number(gap, tcpinfo::Field::time_ns, records.front().time_ns);
  tcpinfo::set_number(gap, tcpinfo::Field::event, TCPINFO_EVENT_GAP);
  tcpinfo::set_number(gap, tcpinfo::Field::source, TCPINFO_SOURCE_SOCKOPS);
  tcpinfo::set_number(gap, tcpinfo::Field::lost_records, 132);
  tcpinfo::set_number(gap, tcpinfo::Field::lost_event, TCPINFO_EVENT_SAMPLE);
  for (auto* all : {&records, &sockops}) all->insert(all->begin() + 1, gap);
  const auto all = truth();
  EXPECT_THAT(failed(all), IsEmpty());
  ASSERT_THAT(all.comparisons, SizeIs(5));
  EXPECT_EQ(all.comparisons[0].compared, 3u);
}

TEST_F(PathTruthTest, ARoundTripShorterThanTheDelayIsFound) {
  records.push_back(sample(20'499, 0));
  EXPECT_THAT(failed(truth()), ElementsAre("iter min_rtt"));
  records.back() = sample(20'300, 0);
  EXPECT_THAT(failed(truth()), ElementsAre("iter rtt", "iter min_rtt"));
}

TEST_F(PathTruthTest, AfterARetransmissionItMayBeMeasuredInMilliseconds) {
  records.push_back(sample(20'000, 1));
  EXPECT_THAT(failed(truth()), IsEmpty());
  records.push_back(sample(19'999, 1));
  EXPECT_THAT(failed(truth()), ElementsAre("iter min_rtt"));
}

TEST_F(PathTruthTest, AReorderedPacketDoesNotWait) {
  link.there.reordering = 0.01;
  records.push_back(sample(10'001, 0));
  EXPECT_THAT(failed(truth()), IsEmpty());
  records.push_back(sample(9'999, 0));
  EXPECT_THAT(failed(truth()), ElementsAre("iter min_rtt"));
}

TEST_F(PathTruthTest, ALostSegmentThatWasNotSentAgainIsFound) {
  link.there.data_lost = 8;
  EXPECT_THAT(failed(truth()), ElementsAre("sockops total_retrans"));
  // Two short segments may have been put together.
  sockops[0].bytes_sent -= 1448;
  sockops[0].bytes_acked -= 1448;
  EXPECT_THAT(failed(truth()), IsEmpty());
  link.there.data_lost = 9;
  EXPECT_THAT(failed(truth()), ElementsAre("sockops total_retrans"));
  // The other way has its own.
  link.there.data_lost = 0;
  link.back.data_lost = 1;
  EXPECT_THAT(failed(truth()), ElementsAre("sockops total_retrans"));
}

TEST_F(PathTruthTest, WhatWasNotAcknowledgedIsNotAsserted) {
  link.there.data_lost = 8;
  sockops[0].bytes_acked = 1000;
  const auto all = truth();
  EXPECT_THAT(failed(all), IsEmpty());
  EXPECT_THAT(all.remarks, Contains(HasSubstr("not every connection was acknowledged to its end")));
}

TEST_F(PathTruthTest, AnEchoOfCongestionWithoutAMarkIsFound) {
  sockops[0].delivered_ce = 1;
  EXPECT_THAT(failed(truth()), ElementsAre("sockops delivered_ce"));
  link.there.marked = 1;
  EXPECT_THAT(failed(truth()), IsEmpty());
}

TEST_F(PathTruthTest, OtherEnginesSaySo) {
  link.engine = "tbf";
  link.there.data_lost.reset();
  records.push_back(sample(1, 0));
  const auto all = truth();
  EXPECT_THAT(all.comparisons, IsEmpty());
  EXPECT_THAT(all.remarks,
              AllOf(Contains(HasSubstr("its engine is tbf")), Contains(HasSubstr("tbf does not count each packet"))));
  link.engine = "netem";
  EXPECT_THAT(failed(truth()), ElementsAre("iter rtt", "iter min_rtt"));
  link.engine.clear();
  EXPECT_THAT(truth().comparisons, IsEmpty());
  EXPECT_THAT(truth().remarks, IsEmpty());
}

// In a whole comparison: the field and the source are named.
TEST(PathOfARecording, IsComparedAndBlamed) {
  const auto recording = read_recording(TCPINFO_TEST_DATA "/pauses");
  auto input = recording.input();
  input.link.engine = "emulator";
  for (auto* way : {&input.link.there, &input.link.back}) {
    way->data_lost = way->marked = 0;
    way->delay_us = 1;
  }
  auto v = compare(input);
  EXPECT_THAT(v.failures, IsEmpty());
  const auto of_path =
      std::count_if(v.comparisons.begin(), v.comparisons.end(), [](const Comparison& c) { return c.method == "path"; });
  EXPECT_EQ(of_path, 2 * 4 * 2 + 2) << "rtt and min_rtt of four sources at two ends, and the marks of both ways";
  input.link.back.delay_us = 2'000'000;
  v = compare(input);
  EXPECT_THAT(v.failures,
              Contains(testing::StartsWith("iter: min_rtt of the sender differs from what the path does: ")));
}

}  // namespace
}  // namespace validation
