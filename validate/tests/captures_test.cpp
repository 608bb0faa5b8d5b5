// SPDX-License-Identifier: BSD-2-Clause
// Other versions of iperf3, captures of ss, and several runs in one recording.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

#include "files.hpp"
#include "recording.hpp"
#include "ss.hpp"

namespace validation {
namespace {

namespace fs = std::filesystem;
using tcpinfo::Field;
using tcpinfo::SourceId;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

const fs::path kData = TCPINFO_TEST_DATA;

const Comparison* find(const Verdict& verdict, std::string_view source, std::string_view iperf3) {
  const auto found = std::find_if(verdict.comparisons.begin(), verdict.comparisons.end(),
                                  [&](const Comparison& c) { return c.source == source && c.iperf3 == iperf3; });
  return found == verdict.comparisons.end() ? nullptr : &*found;
}

Recording with_client(const fs::path& file) {
  auto recording = read_recording(kData / "pauses");
  recording.results.front() = read_iperf3(file);
  return recording;
}

TEST(Versions, WhatAVersionDoesNotPrintIsNotCompared) {
  const auto recording = with_client(kData / "iperf3/3.9.json");
  const auto v = compare(recording.input());
  EXPECT_THAT(v.failures, IsEmpty());
  EXPECT_EQ(find(v, "getsockopt", "snd_wnd"), nullptr);
  EXPECT_EQ(find(v, "getsockopt", "end.max_snd_wnd"), nullptr);
  ASSERT_NE(find(v, "getsockopt", "rtt"), nullptr);
  EXPECT_THAT(v.quirks, Contains("iperf 3.9 of the client prints no reorder, snd_wnd: not compared"));
}

TEST(Versions, ReorderOf320IsCompared) {
  auto recording = with_client(kData / "iperf3/3.20.json");
  const auto v = compare(recording.input());
  EXPECT_THAT(v.failures, IsEmpty());
  ASSERT_NE(find(v, "getsockopt", "reorder"), nullptr);
  EXPECT_EQ(find(v, "getsockopt", "reorder")->compared, find(v, "getsockopt", "rtt")->compared);
  recording.results.front().streams.front().intervals.front().values["reorder"] = 4;
  EXPECT_THAT(compare(recording.input()).failures, ElementsAre(HasSubstr("differs from iperf3's reorder: 1 of")));
}

TEST(Versions, WithThreadsTheSumsOfIntervalsAreBoundsFromBelow) {
  auto recording = with_client(kData / "iperf3/3.16.json");
  auto v = compare(recording.input());
  EXPECT_THAT(v.failures, IsEmpty());
  ASSERT_NE(find(v, "getsockopt", "bytes"), nullptr);
  EXPECT_EQ(find(v, "getsockopt", "bytes")->method, "bracket");
  EXPECT_EQ(find(v, "sockops", "bytes")->method, "bracket") << "of the receiver";
  EXPECT_THAT(v.quirks, Contains(HasSubstr("bounds from below")));

  auto& stream = recording.results.front().streams.front();
  auto& bytes = stream.intervals.front().values["bytes"];
  bytes -= 1;  // written while it read: in no interval
  EXPECT_THAT(compare(recording.input()).failures, IsEmpty());
  bytes += 2;
  EXPECT_THAT(compare(recording.input()).failures,
              Contains(HasSubstr("bytes_sent of the sender differs from iperf3's bytes")));
  bytes -= 1;
  *stream.sent_bytes += 1;  // totals are exact also then
  EXPECT_THAT(compare(recording.input()).failures,
              ElementsAre(AllOf(HasSubstr("sockops: bytes_sent"), HasSubstr("at the close"))));
}

TEST(Versions, EventsAreTheSameAsOneObject) {
  const auto events = read_iperf3(kData / "iperf3/3.17-stream.json"), whole = read_iperf3(kData / "iperf3/3.16.json");
  EXPECT_EQ(events.version, "iperf 3.17.1");
  EXPECT_TRUE(events.threaded);
  ASSERT_EQ(events.streams.size(), whole.streams.size());
  for (std::size_t i = 0; i < whole.streams.size(); ++i) {
    EXPECT_EQ(events.streams[i].totals, whole.streams[i].totals);
    ASSERT_EQ(events.streams[i].intervals.size(), whole.streams[i].intervals.size());
    for (std::size_t k = 0; k < whole.streams[i].intervals.size(); ++k)
      EXPECT_EQ(events.streams[i].intervals[k].values, whole.streams[i].intervals[k].values);
  }
  EXPECT_THAT(compare(with_client(kData / "iperf3/3.17-stream.json").input()).failures, IsEmpty());
}

std::string complaint(const std::string& text, bool ss) {
  try {
    if (ss)
      parse_ss(text, "F");
    else
      parse_iperf3(text, "F");
  } catch (const tcpinfo::Error& error) {
    return error.what();
  }
  return "none";
}

TEST(Versions, BadEventsAreOneSentence) {
  const auto text = read_text(kData / "iperf3/3.17-stream.json");
  const auto lines = std::count(text.begin(), text.end(), '\n');
  EXPECT_THAT(complaint(text.substr(0, text.size() - 20), false), HasSubstr(fmt::format("line {} is cut off", lines)));
  const auto last = text.rfind('\n', text.size() - 2);
  EXPECT_THAT(complaint(text.substr(0, last + 1), false), HasSubstr("it has no event \"end\""));
  EXPECT_THAT(complaint(text + text, false), HasSubstr(fmt::format("line {} begins another run", lines + 1)));
  const auto second = text.find('\n') + 1;
  EXPECT_THAT(complaint(text.substr(0, second) + "hello\n" + text.substr(second), false),
              HasSubstr("line 2 is no event of iperf3 --json-stream"));
}

TEST(Versions, LargeNumbersWithAnExponentAreWhole) {
  auto text = read_text(kData / "iperf3/3.9.json");
  const auto at = text.find("\"bytes\":", text.find("\"end\":{"));
  const auto comma = text.find(',', at);
  text.replace(at, comma - at, "\"bytes\":1.2e+15");
  const auto result = parse_iperf3(text, "F");
  EXPECT_EQ(result.streams.front().sent_bytes, 1'200'000'000'000'000u);
}

TEST(Ss, WhatItPrintsIsComparedWithIperf3) {
  auto capture = read_ss(kData / "ss/ss.txt");
  Input input;
  input.results.push_back(read_iperf3(kData / "ss/iperf3.json"));
  input.sources.push_back({SourceId::kInetDiag, capture.records});
  const auto v = compare(input);
  EXPECT_THAT(v.failures, IsEmpty());
  ASSERT_NE(find(v, "inet_diag", "bytes"), nullptr);
  EXPECT_GE(find(v, "inet_diag", "bytes")->compared, 10u);
  EXPECT_GE(find(v, "inet_diag", "retransmits")->compared, 10u);
  EXPECT_THAT(capture.quirks, Contains(HasSubstr("ss prints no 0")));

  // Ten captures a second bound iperf3's bytes to what is sent in a tenth of a second and more: no 1 % of them.
  const auto sound = capture.records;
  for (const auto field : {Field::bytes_sent, Field::total_retrans}) {
    capture.records = sound;
    for (auto& record : capture.records)
      tcpinfo::set_number(record, field, *tcpinfo::Record(record).number(field) * 3 / 2 + 1);
    input.sources = {{SourceId::kInetDiag, capture.records}};
    EXPECT_THAT(compare(input).failures,
                Contains(HasSubstr(
                    fmt::format("inet_diag: {} of the sender differs from iperf3's", tcpinfo::info(field).name))));
  }
}

const std::string kSocket =
    "ESTAB 0 0 10.77.0.1:40000 [::ffff:10.77.0.2]:5201 cubic wscale:10,10 rto:204 rtt:13.336/2.904 mss:1448 cwnd:68 "
    "bytes_sent:100 retrans:0/7 minrtt:0.009";

TEST(Ss, TakesWhatIsExactAndNothingElse) {
  const auto capture = parse_ss("100.000000000\nState Recv-Q\n" + kSocket + " pacing_rate 70.9Mbps\n" +
                                    "ESTAB 0 0 10.0.0.1%eth0:1 10.0.0.2:2\n\t cubic rtt:1234.57/9 mss:1448\n" +
                                    "LISTEN 0 5 *:5201 *:*\n100.500000000\n" + kSocket + "\n",
                                "F");
  ASSERT_THAT(capture.records, SizeIs(2));
  const tcpinfo::Record one(capture.records[0]), other(capture.records[1]);
  EXPECT_EQ(one.time_ns(), 100'500'000'000u) << "read before the next time";
  EXPECT_EQ(one.rtt(), 13336u);
  EXPECT_EQ(one.rttvar(), 2904u);
  EXPECT_EQ(one.min_rtt(), 9u);
  EXPECT_EQ(one.total_retrans(), 7u);
  EXPECT_EQ(one.bytes_sent(), 100u);
  EXPECT_EQ(one.bytes_retrans(), 0u) << "hidden, and the kernel has it as it has bytes_sent";
  EXPECT_EQ(one.pacing_rate(), std::nullopt);
  EXPECT_EQ(one.snd_ssthresh(), std::nullopt);
  EXPECT_EQ(tcpinfo::to_string(one.raw().peer_address), "10.77.0.2");
  EXPECT_EQ(other.rtt(), std::nullopt) << "six digits do not hold it";
  EXPECT_EQ(other.rttvar(), 9000u);
  EXPECT_EQ(other.local_port(), 1);
  EXPECT_THAT(capture.quirks, Contains(HasSubstr("1 sockets after the last time were left out")));
}

TEST(Ss, BadFilesAreOneSentence) {
  EXPECT_THAT(complaint("", true), HasSubstr("two times at least"));
  EXPECT_THAT(complaint(kSocket, true), AllOf(HasSubstr("F line 1"), HasSubstr("expected a time first")));
  EXPECT_THAT(complaint("100.000000000\nhello world\n", true),
              AllOf(HasSubstr("F line 2"), HasSubstr("not \"hello\"")));
  EXPECT_THAT(complaint("100.000000000\nESTAB 0 0 a\n", true), HasSubstr("it is cut off"));
  EXPECT_THAT(complaint("100.000000000\nESTAB 0 0 10.0.0.1:http 10.0.0.2:1 x\n", true), HasSubstr("print with ss -n"));
  EXPECT_THAT(complaint("100.000000000\nESTAB 0 0 10.0.0.1:1 10.0.0.2:1 cwnd:x\n", true), HasSubstr("whole number"));
  EXPECT_THAT(complaint("100.000000000\n99.000000000\n", true), HasSubstr("not after the one before"));
}

// The same run again, a minute later, on the same ports.
Recording twice() {
  auto recording = read_recording(kData / "pauses");
  const auto once = recording;
  for (auto result : once.results) {
    result.start_s += 60;
    recording.results.push_back(std::move(result));
  }
  for (auto& [source, records] : recording.records)
    for (auto record : once.records.at(source)) {
      record.time_ns += 60'000'000'000;
      record.cookie += 1'000'000;
      // The clocks of what nobody moves go on meanwhile as they did: the run begins anew.
      if (source == SourceId::kInetDiag || source == SourceId::kIter) record.sequence += 100'000;
      records.push_back(record);
    }
  return recording;
}

TEST(SeveralRuns, EachHasItsOwnSocketsAlsoOnTheSamePorts) {
  auto recording = twice();
  auto v = compare(recording.input());
  EXPECT_THAT(v.failures, IsEmpty());
  ASSERT_THAT(v.streams, SizeIs(4));
  EXPECT_NE(v.streams[0].sender_cookie, v.streams[2].sender_cookie);
  EXPECT_EQ(v.streams[0].sender_cookie + 1'000'000, v.streams[2].sender_cookie);
  EXPECT_EQ(v.streams[0].receiver_cookie + 1'000'000, v.streams[2].receiver_cookie);
  const auto once = compare(read_recording(kData / "pauses").input());
  EXPECT_EQ(find(v, "getsockopt", "rtt")->compared, 2 * find(once, "getsockopt", "rtt")->compared);
  EXPECT_THAT(v.alignments, Contains(testing::Field(&Alignment::file, "client 2")));
  EXPECT_THAT(v.quirks, Contains(HasSubstr("has the ports of another run")));
  EXPECT_EQ(std::count(v.quirks.begin(), v.quirks.end(),
                       "snd_cwnd of the client is in bytes: compared with snd_cwnd times snd_mss"),
            1);

  // The order of the files does not matter.
  std::reverse(recording.results.begin(), recording.results.end());
  EXPECT_THAT(compare(recording.input()).failures, IsEmpty());

  // A fault in the second run is not one of the first.
  for (auto& record : recording.records[SourceId::kSockops])
    if (record.event == TCPINFO_EVENT_CLOSE && record.cookie == v.streams[2].sender_cookie) record.bytes_sent += 1;
  EXPECT_THAT(compare(recording.input()).failures, ElementsAre(HasSubstr("1 of 4 values, by 1 bytes at most")));

  std::erase_if(recording.records[SourceId::kSockops],
                [&](const auto& r) { return r.cookie == v.streams[2].sender_cookie; });
  std::erase_if(recording.records[SourceId::kIter],
                [&](const auto& r) { return r.cookie == v.streams[2].sender_cookie; });
  EXPECT_THAT(compare(recording.input()).failures, Contains(HasSubstr("has no record of the sender of stream")));
}

// A run that is over before an interval is: one interval, all bytes, and polls that may have come too late.
TEST(SeveralRuns, AFlowTooShortForAnIntervalIsComparedByItsTotals) {
  auto recording = read_recording(kData / "pauses");
  for (auto& result : recording.results)
    for (auto& stream : result.streams) {
      Iperf3Interval all = stream.intervals.front();
      all.end_us = 5000;
      all.values = {{"bytes", stream.sender ? *stream.sent_bytes : *stream.received_bytes}};
      stream.intervals = {all};
    }
  recording.records.erase(SourceId::kGetsockopt);
  const auto ports = recording.results.front().streams;
  for (const auto source : {SourceId::kInetDiag, SourceId::kIter})
    std::erase_if(recording.records[source], [&](const auto& r) {
      return r.local_port == ports.front().local_port || r.peer_port == ports.front().local_port;
    });
  const auto v = compare(recording.input());
  EXPECT_THAT(v.failures, IsEmpty());
  const auto* total = find(v, "sockops", "bytes");
  ASSERT_NE(total, nullptr);
  EXPECT_EQ(std::count_if(
                v.comparisons.begin(), v.comparisons.end(),
                [](const Comparison& c) { return c.method == "exact" && c.field == "bytes_sent" && c.compared == 2; }),
            1);
  // The same is missing of a flow that lasted: that is a fault.
  recording.results.front().streams.front().intervals.front().end_us = 500'000;
  EXPECT_THAT(compare(recording.input()).failures,
              Contains(HasSubstr("inet_diag has no record of the sender of stream 5")));
}

}  // namespace
}  // namespace validation
