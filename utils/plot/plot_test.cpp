// SPDX-License-Identifier: BSD-2-Clause
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <regex>
#include <string>
#include <tuple>
#include <vector>

#include <tcpinfo/error.hpp>

#include "command.hpp"
#include "gnuplot.hpp"
#include "options.hpp"
#include "output.hpp"
#include "page.hpp"
#include "quantity.hpp"
#include "recording.hpp"
#include "run_pictures.hpp"

namespace plot {
namespace {

using tcpinfo::Field;
using tcpinfo::SourceId;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr std::uint64_t kStart = 5'000'000'000;

struct Endpoint {
  std::string address;
  std::uint16_t port;
};

tcpinfo_record record(const Endpoint& local, const Endpoint& peer, double time_s,
                      std::uint8_t source = TCPINFO_SOURCE_SOCKOPS) {
  auto r = tcpinfo::make_record();
  tcpinfo::set_number(r, Field::time_ns, kStart + static_cast<std::uint64_t>(std::llround(time_s * 1e9)));
  r.local_address = *tcpinfo::parse_address(local.address);
  r.peer_address = *tcpinfo::parse_address(peer.address);
  tcpinfo::set_present(r, Field::local_address);
  tcpinfo::set_present(r, Field::peer_address);
  tcpinfo::set_number(r, Field::local_port, local.port);
  tcpinfo::set_number(r, Field::peer_port, peer.port);
  tcpinfo::set_number(r, Field::event, TCPINFO_EVENT_SAMPLE);
  tcpinfo::set_number(r, Field::source, source);
  tcpinfo::set_number(r, Field::state, 1);
  return r;
}

const Endpoint kClient{"10.0.0.1", 40000}, kServer{"10.0.0.2", 5201};

validation::Iperf3Stream iperf3_end(const Endpoint& local, const Endpoint& peer, bool sender) {
  validation::Iperf3Stream stream;
  stream.local_address = local.address;
  stream.local_port = local.port;
  stream.peer_address = peer.address;
  stream.peer_port = peer.port;
  stream.sender = sender;
  return stream;
}

/// A second of one stream with what every rule needs. iperf3 asked twice: rtt was 2000 and 3000 us.
Run run_of_one_stream() {
  Run run;
  run.name = "a<b>";
  run.start_boot_ns = kStart;
  run.iperf3_version = "iperf 3.12";
  Stream stream;
  stream.sender.iperf3 = iperf3_end(kClient, kServer, true);
  stream.receiver.iperf3 = iperf3_end(kServer, kClient, false);
  stream.sender.side_sends = true;
  stream.sender.iperf3.intervals = {{.end_us = 500'000, .sender = true, .values = {{"rtt", 2000}}},
                                    {.end_us = 1'000'000, .sender = true, .values = {{"rtt", 3000}}}};
  stream.sender.intervals = {
      {.start_s = 0, .end_s = 0.5, .bytes = 1000, .values = {{Field::rtt, 2000}, {Field::total_retrans, 3}}},
      {.start_s = 0.5, .end_s = 1, .bytes = 500, .values = {{Field::rtt, 3000}, {Field::total_retrans, 2}}}};
  stream.receiver.intervals = {{.start_s = 0, .end_s = 1, .bytes = 1400, .values = {}}};
  for (int i = 0; i <= 10; ++i) {
    auto sender = record(kClient, kServer, i * 0.1);
    tcpinfo::set_number(sender, Field::rtt, 2000 + 100 * static_cast<unsigned>(i));
    tcpinfo::set_number(sender, Field::snd_cwnd, 10);
    tcpinfo::set_number(sender, Field::snd_mss, 1448);
    tcpinfo::set_number(sender, Field::total_retrans, i < 5 ? 0 : 3);
    tcpinfo::set_number(sender, Field::ca_state, i < 5 || i > 7 ? 0 : 3);
    tcpinfo::set_number(sender, Field::bytes_sent, 137 + 100 * static_cast<unsigned>(i));
    tcpinfo::set_number(sender, Field::bytes_retrans, 30);
    tcpinfo::set_number(sender, Field::notsent_bytes, 5);
    run.records[SourceId::kSockops].push_back(sender);
    auto receiver = record(kServer, kClient, i * 0.1, TCPINFO_SOURCE_INET_DIAG);
    tcpinfo::set_number(receiver, Field::bytes_received, 37 + 90 * static_cast<unsigned>(i));
    tcpinfo::set_number(receiver, Field::rtt, 77);
    tcpinfo::set_number(receiver, Field::rcv_wnd, 1000 * static_cast<unsigned>(i));
    run.records[SourceId::kInetDiag].push_back(receiver);
  }
  for (const auto& [time_s, rtt] : {std::pair(0.45, 2000u), std::pair(0.95, 3000u)}) {
    auto answer = record(kClient, kServer, time_s, TCPINFO_SOURCE_GETSOCKOPT);
    tcpinfo::set_number(answer, Field::rtt, rtt);
    run.records[SourceId::kGetsockopt].push_back(answer);
  }
  // The control connection of iperf3, from another port.
  auto other = record({"10.0.0.1", 39999}, kServer, 0.5);
  tcpinfo::set_number(other, Field::rtt, 99999);
  run.records[SourceId::kSockops].push_back(other);
  run.streams.push_back(stream);
  return run;
}

const Picture& named(const std::vector<Picture>& all, std::string_view name) {
  const auto found = std::ranges::find(all, name, &Picture::name);
  if (found == all.end()) throw std::runtime_error("no picture " + std::string(name));
  return *found;
}

const Series& series(const Chart& chart, Look look) {
  for (const auto& s : chart.series)
    if (s.look == look) return s;
  throw std::runtime_error("no series");
}

const std::vector<Point>& points(const Picture& picture, Look look) {
  return series(picture.charts.at(0), look).points;
}

const Chart& below(const Picture& picture) {
  const auto found = std::ranges::find(picture.charts, true, &Chart::is_difference);
  if (found == picture.charts.end()) throw std::runtime_error("no differences");
  return *found;
}

const Lane& lane(const Picture& picture) { return picture.charts.back().lanes.at(0); }

TEST(RunPictures, GaugesComeFromTheSenderInTheUnitsOfThePicture) {
  const auto all = pictures(run_of_one_stream());
  const auto& rtt = named(all, "rtt");
  EXPECT_EQ(rtt.charts.at(0).axis.dimension, Dimension::kSeconds);
  const auto& ebpf = points(rtt, Look::kSockops);
  ASSERT_EQ(ebpf.size(), 11u);
  EXPECT_DOUBLE_EQ(ebpf[3].x, 0.3);
  EXPECT_DOUBLE_EQ(ebpf[3].y, 0.0023);
  EXPECT_THAT(points(rtt, Look::kInetDiag), IsEmpty()) << "the receiver's rtt is not the sender's";
  EXPECT_THAT(points(rtt, Look::kIperf3), ElementsAre(Point{0.5, 0.002, 0}, Point{1, 0.003, 0}));
  EXPECT_THAT(points(rtt, Look::kGetsockopt), ElementsAre(Point{0.45, 0.002, 0}, Point{0.95, 0.003, 0}));
}

TEST(RunPictures, DifferencesAreToTheAnswersBeforeAndAfter) {
  auto run = run_of_one_stream();
  // Between the answers at 0.45 and 0.95 s (2000 and 3000 us) only this one strays, by 500 us.
  tcpinfo::set_number(run.records[SourceId::kSockops][6], Field::rtt, 3500);
  const auto all = pictures(run);
  const auto& chart = below(named(all, "rtt"));
  std::vector<double> times, differences;
  for (const auto& p : series(chart, Look::kSockops).points) {
    times.push_back(p.x);
    differences.push_back(std::round(p.y * 1e6));
  }
  EXPECT_THAT(times, ElementsAre(0.5, 0.6, 0.7, 0.8, 0.9)) << "others have no answer on both sides";
  EXPECT_THAT(differences, ElementsAre(0, 500, 0, 0, 0));
  EXPECT_THAT(series(chart, Look::kIperf3).points, ElementsAre(Point{0.5, 0, 0}, Point{1, 0, 0}));
  EXPECT_THAT(named(all, "rtt").notes, Contains("6 of 7 differences are 0"));

  const auto& curves = named(all, "rtt-differences").charts.at(0);
  const auto& ebpf = series(curves, Look::kSockops);
  EXPECT_THAT(ebpf.label, HasSubstr("5, 80 % at 0"));
  ASSERT_EQ(ebpf.points.size(), 4u);
  EXPECT_DOUBLE_EQ(ebpf.points[0].y, 0);
  EXPECT_DOUBLE_EQ(ebpf.points[1].x, 0);
  EXPECT_DOUBLE_EQ(ebpf.points[1].y, 0.8);
  EXPECT_NEAR(ebpf.points[2].x, 500e-6, 1e-12);
  EXPECT_DOUBLE_EQ(ebpf.points[3].y, 1);
}

TEST(RunPictures, ADifferenceOfIperf3IsShown) {
  auto run = run_of_one_stream();
  run.streams[0].sender.intervals[1].values[Field::rtt] = 3001;
  const auto all = pictures(run);
  const auto& found = series(below(named(all, "rtt")), Look::kIperf3).points;
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].y, 0);
  EXPECT_NEAR(found[1].y, 1e-6, 1e-12);
}

TEST(RunPictures, WhatEbpfReadsAtTheMomentOfAnAnswerIsComparedIfNoPacketCame) {
  auto run = run_of_one_stream();
  auto& answers = run.records[SourceId::kGetsockopt];
  for (auto& answer : answers) tcpinfo::set_number(answer, Field::segs_in, 7);
  auto twin = answers[0];
  tcpinfo::set_number(twin, Field::source, TCPINFO_SOURCE_SOCKOPS);
  tcpinfo::set_number(twin, Field::rtt, 2001);
  auto late = answers[1];
  tcpinfo::set_number(late, Field::source, TCPINFO_SOURCE_SOCKOPS);
  tcpinfo::set_number(late, Field::segs_in, 8);
  answers.push_back(twin);
  answers.push_back(late);
  const auto all = pictures(run);
  const auto& found = series(below(named(all, "rtt")), Look::kFile5).points;
  ASSERT_EQ(found.size(), 1u) << "a packet came between the second answer and what eBPF read";
  EXPECT_NEAR(found[0].y, 1e-6, 1e-12);
}

TEST(RunPictures, WhereNothingDiffersThereIsNoDistribution) {
  const auto all = pictures(run_of_one_stream());
  EXPECT_THAT(named(all, "rtt").notes, Contains("all 7 differences are 0"));
  EXPECT_TRUE(std::ranges::find(all, "rtt-differences", &Picture::name) == all.end());
}

TEST(RunPictures, NotesSayOfIperf3OnlyWhatItReported) {
  auto run = run_of_one_stream();
  const auto note = HasSubstr("of iperf3's figure to its own answer");
  EXPECT_THAT(named(pictures(run), "rtt").notes, Contains(note));
  for (auto& interval : run.streams[0].sender.intervals) interval.values.erase(Field::rtt);
  const auto all = pictures(run);
  EXPECT_THAT(named(all, "rtt").notes, Contains("iperf 3.12 does not report it"));
  EXPECT_THAT(named(all, "rtt").notes, Contains(StartsWith("difference Δ")));
  EXPECT_THAT(named(all, "rtt").notes, Not(Contains(note)));
}

TEST(RunPictures, NoLineIsDrawnThroughValuesThatMostRecordsLack) {
  auto run = run_of_one_stream();
  EXPECT_EQ(series(named(pictures(run), "bytes_sent").charts.at(0), Look::kSockops).form, Form::kSteps);
  for (int i = 0; i < 12; ++i) {
    auto more = record(kClient, kServer, 0.905 + 0.005 * i);
    tcpinfo::set_number(more, Field::rtt, 2900);
    run.records[SourceId::kSockops].push_back(more);
  }
  std::ranges::stable_sort(run.records[SourceId::kSockops], {}, &tcpinfo_record::time_ns);
  const auto all = pictures(run);
  EXPECT_EQ(series(named(all, "bytes_sent").charts.at(0), Look::kSockops).form, Form::kMarks);
  EXPECT_EQ(series(named(all, "throughput").charts.at(0), Look::kSockops).form, Form::kMarks);
  EXPECT_EQ(series(named(all, "rtt").charts.at(0), Look::kSockops).form, Form::kSteps);
}

TEST(RunPictures, TheTimeLineHasRetransmissionsAndRecoveries) {
  const auto all = pictures(run_of_one_stream());
  const auto& events = lane(named(all, "rtt"));
  EXPECT_THAT(events.retransmissions_s, ElementsAre(0.5));
  EXPECT_THAT(events.recoveries, ElementsAre(Recovery{0.5, 0.8, 3}));
  EXPECT_THAT(events.transitions, IsEmpty());
}

TEST(RunPictures, CongestionWindowIsInBytes) {
  const auto all = pictures(run_of_one_stream());
  const auto& cwnd = named(all, "snd_cwnd");
  EXPECT_EQ(cwnd.charts.at(0).axis.dimension, Dimension::kBytes);
  EXPECT_DOUBLE_EQ(points(cwnd, Look::kSockops).at(0).y, 14480);
  EXPECT_THAT(cwnd.notes, Contains("iperf 3.12 does not report it"));
}

TEST(RunPictures, DeltasOfIperf3AreSummed) {
  const auto all = pictures(run_of_one_stream());
  const auto& retransmitted = named(all, "total_retrans");
  EXPECT_THAT(points(retransmitted, Look::kIperf3), ElementsAre(Point{0.5, 3, 0}, Point{1, 5, 0}));
  EXPECT_DOUBLE_EQ(points(retransmitted, Look::kSockops).back().y, 3);
}

TEST(RunPictures, BytesFollowTheLedger) {
  const auto all = pictures(run_of_one_stream());
  const auto& sent = named(all, "bytes_sent");
  EXPECT_DOUBLE_EQ(points(sent, Look::kSockops).back().y, 1137 - 30 + 5 - 37);
  EXPECT_THAT(points(sent, Look::kIperf3), ElementsAre(Point{0.5, 1000, 0}, Point{1, 1500, 0}));
  const auto& received = named(all, "bytes_received");
  EXPECT_DOUBLE_EQ(points(received, Look::kInetDiag).back().y, 900);
  const auto& throughput = named(all, "throughput");
  EXPECT_EQ(throughput.field, "bytes_sent") << "it is shown with the field";
  EXPECT_THAT(points(throughput, Look::kIperf3), ElementsAre(Point{0.25, 16000, 0.25}, Point{0.75, 8000, 0.25}));
  for (const auto& p : points(throughput, Look::kSockops)) EXPECT_NEAR(p.y, 8000, 1e-6);
}

TEST(RunPictures, TheCookieIsOfTheSideThatConnects) {
  auto run = run_of_one_stream();
  run.streams[0].client_sends = false;
  const auto all = pictures(run);
  EXPECT_DOUBLE_EQ(points(named(all, "bytes_sent"), Look::kSockops).back().y, 1137 - 30 + 5);
  EXPECT_DOUBLE_EQ(points(named(all, "bytes_received"), Look::kInetDiag).back().y, 937);
}

TEST(RunPictures, ARunWithoutRecordsHasThePicturesOfIperf3) {
  auto run = run_of_one_stream();
  run.records.clear();
  const auto all = pictures(run);
  EXPECT_EQ(points(named(all, "rtt"), Look::kIperf3).size(), 2u);
  EXPECT_FALSE(std::ranges::find(all, "snd_cwnd", &Picture::name) != all.end());
}

TEST(RunPictures, AnyFieldCanBeDrawnFromTheEndWhereItMoves) {
  const auto all = pictures(run_of_one_stream(), {Field::rcv_wnd});
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].name, "rcv_wnd");
  EXPECT_THAT(all[0].subtitle, HasSubstr("read at the receiver"));
  EXPECT_EQ(points(all[0], Look::kInetDiag).back().y, 10000);
}

TEST(RunPictures, WhatFailedIsDrawnToo) {
  auto run = run_of_one_stream();
  run.verdict.emplace();
  auto& comparison = run.verdict->comparisons.emplace_back();
  comparison.field = "rcv_wnd";
  EXPECT_NO_THROW(named(pictures(run), "rcv_wnd"));
  comparison.passed = true;
  EXPECT_THROW(named(pictures(run), "rcv_wnd"), std::runtime_error);
}

TEST(RunPictures, WhatOnlyIperf3HasIsNotSummedUp) {
  auto run = run_of_one_stream();
  run.records.clear();
  while (run.streams.size() < 7) run.streams.push_back(run.streams.front());
  const auto all = pictures(run);
  const auto& throughput = named(all, "throughput");
  ASSERT_EQ(throughput.charts.size(), 4u);
  EXPECT_TRUE(throughput.charts[3].is_lanes()) << "three streams and the time line, no empty summary";
  EXPECT_THAT(throughput.notes, Not(Contains(StartsWith("ours over"))));
  EXPECT_THAT(named(pictures(run_of_one_stream()), "throughput").notes,
              Contains(AllOf(StartsWith("ours over"), HasSubstr("or more"))));
}

TEST(RunPictures, StreamsBeyondAFewAreSummedUp) {
  auto run = run_of_one_stream();
  const auto ours = run.records[SourceId::kSockops];
  while (run.streams.size() < 7) {
    run.streams.push_back(run.streams.front());
    const auto port = static_cast<std::uint16_t>(41000 + run.streams.size());
    run.streams.back().sender.iperf3.local_port = port;
    for (auto raw : ours) {
      if (raw.local_port != kClient.port) continue;
      tcpinfo::set_number(raw, Field::local_port, port);
      tcpinfo::set_number(raw, Field::rtt, raw.rtt + 1000 * (run.streams.size() - 1));
      run.records[SourceId::kSockops].push_back(raw);
    }
  }
  const auto all = pictures(run);
  const auto& rtt = named(all, "rtt");
  ASSERT_GE(rtt.charts.size(), 5u);
  EXPECT_THAT(rtt.notes, Contains("3 of 7 streams by themselves"));
  EXPECT_EQ(rtt.charts[3].title, "all 7 streams");
  EXPECT_DOUBLE_EQ(rtt.charts[3].series.at(0).points.front().y, 0.002) << "least";
  EXPECT_DOUBLE_EQ(rtt.charts[3].series.at(1).points.front().y, 0.008) << "greatest";
  EXPECT_DOUBLE_EQ(rtt.charts[3].series.at(2).points.front().y, 0.005) << "median";
  const auto& lanes = rtt.charts.back().lanes;
  ASSERT_EQ(lanes.size(), 4u);
  EXPECT_EQ(lanes[3].label, "4 to 7");
  EXPECT_EQ(lanes[3].retransmissions_s.size(), 4u);

  // Where few of eBPF's records have the value, what was polled tells more of it.
  std::vector<tcpinfo_record> polled, bare;
  for (const auto& raw : run.records[SourceId::kSockops]) {
    polled.push_back(raw);
    polled.back().rtt += 50000;
    tcpinfo::set_number(polled.back(), Field::source, TCPINFO_SOURCE_INET_DIAG);
    bare.push_back(record(kClient, kServer, 0));
    bare.back().time_ns = raw.time_ns;
    tcpinfo::set_number(bare.back(), Field::local_port, raw.local_port);
  }
  run.records[SourceId::kInetDiag] = polled;
  EXPECT_DOUBLE_EQ(named(pictures(run), "rtt").charts[3].series.at(0).points.front().y, 0.002);
  for (std::size_t i = 0; i < bare.size(); ++i)
    if (bare[i].time_ns > kStart + 300'000'000) run.records[SourceId::kSockops][i] = bare[i];
  EXPECT_DOUBLE_EQ(named(pictures(run), "rtt").charts[3].series.at(0).points.front().y, 0.052);
}

/// A file of one connection whose bytes and rtt grow.
Recording recording(const std::string& label, std::uint16_t port, double start_s, unsigned rtt) {
  Recording result{.label = label, .file = label + ".jsonl", .records = {}};
  for (unsigned i = 0; i <= 100; ++i) {
    auto r = record({"10.0.0.1", port}, {"10.0.0.9", 443}, start_s + i * 0.1, TCPINFO_SOURCE_INET_DIAG);
    tcpinfo::set_number(r, Field::rtt, rtt + i);
    tcpinfo::set_number(r, Field::bytes_acked, 1000 * i);
    tcpinfo::set_number(r, Field::busy_time, 50'000 * i);
    tcpinfo::set_number(r, Field::snd_cwnd, 10);
    result.records.push_back(r);
  }
  return result;
}

TEST(Recordings, OneFileIsDrawnByConnection) {
  auto file = recording("a", 1000, 0, 500);
  auto more = recording("a", 2000, 0, 900).records;
  for (auto& r : more) tcpinfo::set_number(r, Field::bytes_acked, 2 * r.bytes_acked);
  file.records.insert(file.records.end(), more.begin(), more.end());
  Selection selection;
  selection.fields = {Field::rtt};
  std::vector<std::string> remarks;
  const auto all = pictures({file}, selection, remarks);
  ASSERT_EQ(all.size(), 1u);
  ASSERT_EQ(all[0].charts.size(), 2u);
  EXPECT_EQ(all[0].charts[0].title, "10.0.0.1:2000 → 10.0.0.9:443") << "the one that moved more comes first";
  EXPECT_DOUBLE_EQ(all[0].charts[0].series.at(0).points.at(3).y, 903e-6);
  EXPECT_EQ(all[0].charts[0].series.at(0).label, "netlink (inet_diag)");

  selection.filter = tcpinfo::Filter::parse("local_port == 1000");
  const auto filtered = pictures({file}, selection, remarks);
  ASSERT_EQ(filtered[0].charts.size(), 1u);
  EXPECT_DOUBLE_EQ(filtered[0].charts[0].series.at(0).points.at(0).y, 500e-6);
}

TEST(Recordings, AGapIsNoConnectionAndIsRemarked) {
  auto file = recording("a", 1000, 0, 500);
  auto gap = tcpinfo::make_record();
  tcpinfo::set_number(gap, Field::time_ns, file.records.back().time_ns);
  tcpinfo::set_number(gap, Field::event, TCPINFO_EVENT_GAP);
  tcpinfo::set_number(gap, Field::source, TCPINFO_SOURCE_SOCKOPS);
  tcpinfo::set_number(gap, Field::lost_records, 132);
  tcpinfo::set_number(gap, Field::lost_event, TCPINFO_EVENT_SAMPLE);
  Selection selection;
  selection.fields = {Field::rtt};
  std::vector<std::string> remarks;
  const auto without = pictures({file}, selection, remarks);
  EXPECT_THAT(remarks, testing::IsEmpty());
  file.records.insert(file.records.begin() + 50, gap);
  const auto with = pictures({file}, selection, remarks);
  ASSERT_EQ(with.size(), without.size());
  ASSERT_EQ(with[0].charts.size(), without[0].charts.size());
  EXPECT_EQ(with[0].charts[0].series.at(0).readings, without[0].charts[0].series.at(0).readings);
  EXPECT_THAT(remarks, testing::ElementsAre("a.jsonl: 132 records were lost; its gap records say when"));
}

TEST(Recordings, ATimeRangeLeavesOutTheRest) {
  Selection selection;
  selection.fields = {Field::rtt};
  selection.from_s = 2;
  selection.to_s = 4.05;
  std::vector<std::string> remarks;
  const auto all = pictures({recording("a", 1000, 7, 500)}, selection, remarks);
  const auto& found = all.at(0).charts.at(0).series.at(0).points;
  ASSERT_EQ(found.size(), 21u);
  EXPECT_NEAR(found.front().x, 2, 1e-9);
  EXPECT_NEAR(found.back().x, 4, 1e-9);
  EXPECT_DOUBLE_EQ(found.front().y, 520e-6);
  EXPECT_NEAR(all[0].x_from, 2 - 0.0205, 1e-9);
}

TEST(Recordings, CountersAsRates) {
  Selection selection;
  selection.fields = {Field::bytes_acked, Field::busy_time, Field::rtt};
  selection.as_rates = true;
  std::vector<std::string> remarks;
  const auto all = pictures({recording("a", 1000, 0, 500)}, selection, remarks);
  const auto& bytes = named(all, "bytes_acked-rate").charts.at(0);
  EXPECT_EQ(bytes.axis.dimension, Dimension::kBitsPerSecond);
  for (const auto& p : bytes.series.at(0).points) EXPECT_NEAR(p.y, 80'000, 1e-3);
  const auto& busy = named(all, "busy_time-rate").charts.at(0);
  EXPECT_EQ(busy.axis.dimension, Dimension::kShare);
  for (const auto& p : busy.series.at(0).points) EXPECT_NEAR(p.y, 0.5, 1e-9);
  EXPECT_NO_THROW(named(all, "rtt")) << "a gauge has no rate";
}

TEST(Recordings, FilesOfOneTimeShareTheirClockAndConnections) {
  auto other = recording("b", 1000, 3, 700);
  Selection selection;
  selection.fields = {Field::rtt};
  std::vector<std::string> remarks;
  auto all = pictures({recording("a", 1000, 0, 500), other}, selection, remarks);
  ASSERT_EQ(all.at(0).charts.size(), 1u);
  const auto& both = all[0].charts[0].series;
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[0].label, "a");
  EXPECT_EQ(both[1].label, "b");
  EXPECT_NE(both[0].look, both[1].look);
  EXPECT_NEAR(both[1].points.front().x, 3, 1e-9);
  EXPECT_EQ(all[0].x.label, "Time since the first record");

  selection.align = Align::kStart;
  all = pictures({recording("a", 1000, 0, 500), other}, selection, remarks);
  EXPECT_NEAR(all[0].charts[0].series[1].points.front().x, 0, 1e-9);
  EXPECT_EQ(all[0].x.label, "Time since the first record of each file");
}

TEST(Recordings, FilesOfDifferentRunsBeginTogether) {
  Selection selection;
  selection.fields = {Field::rtt};
  std::vector<std::string> remarks;
  const auto all = pictures({recording("cubic", 1000, 0, 500), recording("bbr", 2000, 50, 700)}, selection, remarks);
  ASSERT_EQ(all.at(0).charts.size(), 1u);
  const auto& both = all[0].charts[0].series;
  ASSERT_EQ(both.size(), 2u);
  EXPECT_NEAR(both[1].points.front().x, 0, 1e-9);
  EXPECT_THAT(remarks, ElementsAre(HasSubstr("no socket in common")));
}

TEST(Recordings, WithoutFieldsTheMostTellingAreTaken) {
  std::vector<std::string> remarks;
  const auto all = pictures({recording("a", 1000, 0, 500)}, {}, remarks);
  ASSERT_FALSE(all.empty());
  EXPECT_NO_THROW(named(all, "rtt"));
  EXPECT_TRUE(std::ranges::find(all, "snd_cwnd", &Picture::name) == all.end()) << "it never changes";
  EXPECT_LE(all.size(), kUsualPictures);
}

TEST(Recordings, WhatCannotBeDrawnIsNamed) {
  Selection selection;
  selection.fields = {Field::rtt, Field::bbr_bw};
  std::vector<std::string> remarks;
  EXPECT_EQ(pictures({recording("a", 1000, 0, 500)}, selection, remarks).size(), 1u);
  EXPECT_THAT(remarks, ElementsAre(HasSubstr("No record has bbr_bw")));
  selection.filter = tcpinfo::Filter::parse("port == 9");
  try {
    pictures({recording("a", 1000, 0, 500)}, selection, remarks);
    FAIL() << "no record passes";
  } catch (const tcpinfo::Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("a.jsonl"), HasSubstr("--filter")));
  }
}

TEST(Recordings, OnlyZerosGetNoChartBesideOthers) {
  auto file = recording("a", 1000, 0, 500);
  for (auto r : recording("a", 2000, 0, 0).records) {
    tcpinfo::set_number(r, Field::bytes_acked, 0);
    file.records.push_back(r);
  }
  Selection selection;
  selection.fields = {Field::bytes_acked};
  std::vector<std::string> remarks;
  const auto all = pictures({file}, selection, remarks);
  EXPECT_EQ(all.at(0).charts.size(), 1u);
  EXPECT_THAT(all[0].notes, Contains("1 of 2 sockets have anything but 0"));
}

TEST(Quantity, UnitsOfTheTableBecomeThoseOfAxes) {
  auto r = tcpinfo::make_record();
  tcpinfo::set_number(r, Field::rto, 204'000);
  tcpinfo::set_number(r, Field::last_data_sent, 12);
  tcpinfo::set_number(r, Field::pacing_rate, ~std::uint64_t{0});
  tcpinfo::set_number(r, Field::bbr_cwnd_gain, 512);
  const tcpinfo::Record view(r);
  EXPECT_EQ(value_of(view, tcpinfo::info(Field::rto)), 0.204);
  EXPECT_EQ(value_of(view, tcpinfo::info(Field::last_data_sent)), 0.012);
  EXPECT_EQ(value_of(view, tcpinfo::info(Field::pacing_rate)), std::nullopt) << "unlimited is no rate";
  EXPECT_EQ(value_of(view, tcpinfo::info(Field::bbr_cwnd_gain)), 2);
  EXPECT_EQ(value_of(view, tcpinfo::info(Field::rtt)), std::nullopt);
  // Every quantity says what it counts, but ratios.
  for (const auto& row : tcpinfo::fields())
    if (is_plottable(row) && row.unit != tcpinfo::Unit::scale256) {
      EXPECT_NE(scale_for(axis_of(row), 5).unit, "") << row.name;
      EXPECT_NE(scale_for(axis_of(row, true), 5).unit, "") << row.name;
    }
}

TEST(Differences, AreZeroBetweenReadings) {
  const std::vector<Point> reference{{1, 10}, {2, 20}, {3, 5}};
  const auto at = [&](double earliest, double latest, double value) {
    const std::vector<Sampled> samples{{.time_s = latest, .earliest_s = earliest, .latest_s = latest, .value = value}};
    return differences(samples, reference);
  };
  EXPECT_THAT(at(1.5, 1.5, 15), ElementsAre(Point{1.5, 0, 0}));
  EXPECT_THAT(at(1.5, 1.5, 8), ElementsAre(Point{1.5, -2, 0}));
  EXPECT_THAT(at(1.5, 1.5, 23), ElementsAre(Point{1.5, 3, 0}));
  EXPECT_THAT(at(2.5, 2.5, 4), ElementsAre(Point{2.5, -1, 0})) << "the later reading is the lower one";
  EXPECT_THAT(at(0.5, 0.5, 15), IsEmpty()) << "nothing was read before";
  EXPECT_THAT(at(3.5, 3.5, 15), IsEmpty()) << "nothing was read after";
  // Read somewhere between 1.5 and 2.5: all three bound it.
  EXPECT_THAT(at(1.5, 2.5, 6), ElementsAre(Point{2.5, 0, 0}));
  EXPECT_THAT(at(1.5, 2.5, 4), ElementsAre(Point{2.5, -1, 0}));
  EXPECT_THAT(at(2, 2, 20), ElementsAre(Point{2, 0, 0}));
  EXPECT_THAT(at(2, 2, 19), ElementsAre(Point{2, -1, 0})) << "at the moment of a reading that alone counts";
}

TEST(Distribution, CountsWhatIsAtMostSoLarge) {
  EXPECT_THAT(cumulative_shares({3, 0, 0, -1}), ElementsAre(Point{-1, 0.25, 0}, Point{0, 0.75, 0}, Point{3, 1, 0}));
  EXPECT_THAT(cumulative_shares({}), IsEmpty());
}

TEST(Spread, TakesEachCurveWhereItIs) {
  const std::vector<std::vector<Point>> curves{{{0, 1}, {4, 1}}, {{0, 5}, {2, 7}, {4, 7}}, {{2, 9}, {4, 9}}};
  const auto all = spread(curves, 0, 4, 4);
  EXPECT_THAT(all.least, ElementsAre(Point{0, 1}, Point{1, 1}, Point{2, 1}, Point{3, 1}, Point{4, 1}));
  EXPECT_THAT(all.median, ElementsAre(Point{0, 5}, Point{1, 5}, Point{2, 7}, Point{3, 7}, Point{4, 7}));
  EXPECT_THAT(all.greatest, ElementsAre(Point{0, 5}, Point{1, 5}, Point{2, 9}, Point{3, 9}, Point{4, 9}));
}

TEST(Thin, KeepsExtremesEndsAndOrder) {
  std::vector<Point> all;
  for (int i = 0; i < 100000; ++i) all.push_back({i * 1e-3, std::sin(i * 0.01), 0});
  all[31415].y = 50;
  all[27182].y = -50;
  const auto kept = thin(all, 500);
  EXPECT_LE(kept.size(), 1002u);
  EXPECT_GE(kept.size(), 900u);
  EXPECT_EQ(kept.front(), all.front());
  EXPECT_EQ(kept.back(), all.back());
  EXPECT_TRUE(std::ranges::is_sorted(kept, {}, &Point::x));
  EXPECT_TRUE(std::ranges::find(kept, all[31415]) != kept.end());
  EXPECT_TRUE(std::ranges::find(kept, all[27182]) != kept.end());
}

TEST(Thin, LeavesShortSeriesAlone) {
  const std::vector<Point> all{{0, 1, 0}, {1, 2, 0}, {2, 3, 0}};
  EXPECT_EQ(thin(all, 2), all);
  EXPECT_EQ(thin({}, 10).size(), 0u);
  // All at one time: nothing to divide.
  EXPECT_EQ(thin(std::vector<Point>(100, Point{1, 7, 0}), 4).front().y, 7);
}

TEST(Rates, AreMeansOverWindowsAndBeginAnewWhereACounterFalls) {
  const std::vector<Point> bytes{{0, 0, 0}, {0.05, 10, 0}, {0.1, 100, 0}, {0.2, 300, 0}, {0.3, 5, 0}, {0.4, 105, 0}};
  const auto r = rates(bytes, 0.1);
  ASSERT_EQ(r.size(), 3u);
  EXPECT_NEAR(r[0].y, 1000, 1e-6);
  EXPECT_NEAR(r[0].x, 0.05, 1e-9);
  EXPECT_NEAR(r[1].y, 2000, 1e-6);
  EXPECT_NEAR(r[2].y, 1000, 1e-6);
}

TEST(Scale, IsTheLargestUnitThatTheMaximumFills) {
  const auto unit = [](Dimension dimension, double maximum) { return scale_for({{}, dimension, {}}, maximum).unit; };
  EXPECT_EQ(unit(Dimension::kSeconds, 0.012), "ms");
  EXPECT_EQ(unit(Dimension::kSeconds, 0.0009), "µs");
  EXPECT_EQ(unit(Dimension::kBytes, 65535), "kB");
  EXPECT_EQ(unit(Dimension::kBitsPerSecond, 2.5e9), "Gbit/s");
  EXPECT_EQ(unit(Dimension::kBytes, 0), "bytes");
  EXPECT_EQ(scale_for({{}, Dimension::kNumber, "segments"}, 34).unit, "segments");
  EXPECT_EQ(scale_for({{}, Dimension::kNumber, "segments"}, 34e6).unit, "10⁶ segments");
  EXPECT_EQ(time_scale(10).unit, "s");
  EXPECT_EQ(time_scale(7200).unit, "min");
  EXPECT_EQ(time_scale(86400).unit, "h");
}

Options parsed(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "tcpinfo-plot");
  return *parse_options(static_cast<int>(arguments.size()), arguments.data());
}

std::string refused(const std::vector<const char*>& arguments) {
  try {
    parsed(arguments);
  } catch (const cli::Failure& failure) {
    EXPECT_EQ(failure.code(), cli::kUsage);
    return failure.what();
  }
  return "accepted";
}

TEST(Options, HaveTheirDefaults) {
  const auto options = parsed({"a.jsonl"});
  EXPECT_THAT(options.inputs, ElementsAre("a.jsonl"));
  EXPECT_THAT(options.images, ElementsAre(Image::kPng, Image::kSvg, Image::kPdf));
  EXPECT_NEAR(options.paper.width_pt, 510.24, 0.01);
  EXPECT_EQ(options.paper, Paper()) << "the page's pictures are those that are drawn anyway";
  EXPECT_TRUE(options.selection.fields.empty());
  EXPECT_TRUE(options.selection.filter.empty());
  EXPECT_EQ(options.of_files, "");
}

TEST(Options, SayWhatIsWanted) {
  const auto options =
      parsed({"--field", "rtt,snd_cwnd", "x=a.jsonl", "b.jsonl", "--format", "pdf,svg", "--width", "85mm", "--from",
              "2s", "--to", "2500ms", "--filter", "peer_port == 443", "--rate", "--no-title"});
  EXPECT_THAT(options.selection.fields, ElementsAre(Field::rtt, Field::snd_cwnd));
  EXPECT_THAT(options.inputs, ElementsAre("x=a.jsonl", "b.jsonl"));
  EXPECT_THAT(options.images, ElementsAre(Image::kSvg, Image::kPdf));
  EXPECT_NEAR(options.paper.width_pt, 240.94, 0.01);
  EXPECT_FALSE(options.paper.texts);
  EXPECT_EQ(options.selection.from_s, 2);
  EXPECT_EQ(options.selection.to_s, 2.5);
  EXPECT_FALSE(options.selection.filter.empty());
  EXPECT_TRUE(options.selection.as_rates);
  EXPECT_NE(options.of_files, "");
}

TEST(Options, ErrorsNameTheWayOut) {
  EXPECT_THAT(refused({"--field", "rttt", "a"}), AllOf(HasSubstr("rttt"), HasSubstr("did you mean rtt?")));
  EXPECT_THAT(refused({"--field", "peer_port", "a"}), HasSubstr("--filter"));
  EXPECT_THAT(refused({"--filter", "port = 3", "a"}), HasSubstr("--filter"));
  EXPECT_THAT(refused({"--from", "3s", "--to", "1s", "a"}), HasSubstr("nothing is between"));
  EXPECT_THAT(refused({"--from", "3q", "a"}), HasSubstr("--from"));
  EXPECT_THAT(refused({"--width", "85", "a"}), HasSubstr("85mm"));
  EXPECT_THAT(refused({"--width", "3mm", "a"}), HasSubstr("between"));
}

TEST(Options, WidthsAreLengths) {
  EXPECT_NEAR(parse_width("18cm"), 510.24, 0.01);
  EXPECT_NEAR(parse_width("3.5in"), 252, 1e-9);
  EXPECT_NEAR(parse_width("240pt"), 240, 1e-9);
}

validation::Comparison comparison(std::string source, std::string field, std::uint64_t compared, bool passed) {
  validation::Comparison result;
  result.source = std::move(source);
  result.field = std::move(field);
  result.compared = compared;
  result.agreed = passed ? compared : compared - 1;
  result.passed = passed;
  return result;
}

Section section(const std::string& name, std::vector<validation::Comparison> comparisons) {
  Section result{.name = name, .failure = {}, .run = run_of_one_stream(), .drawings = {}};
  result.run.verdict.emplace();
  for (const auto& one : comparisons)
    if (!one.passed) result.run.verdict->failures.push_back(one.field + " differs");
  result.run.verdict->comparisons = std::move(comparisons);
  return result;
}

TEST(Page, HasACellForEachRunAndField) {
  validation::Suite suite;
  suite.command = "tcpinfo-validate run --all <&>";
  for (const auto& [name, outcome, reason, command] :
       {std::tuple("bulk", "passed", "", "repeat bulk"), std::tuple("loss", "failed", "", "repeat <loss>"),
        std::tuple("dctcp", "not possible", "no tcp_dctcp", "")}) {
    auto& run = suite.runs.emplace_back();
    run.name = name;
    run.outcome = outcome;
    run.reason = reason;
    run.command = command;
  }
  auto bulk = section("bulk", {comparison("sockops", "rtt", 4250, true), comparison("iter", "rtt", 50, true)});
  bulk.drawings.push_back({"rtt", "rtt", "Smoothed", packed("<svg></svg>")});
  const auto html =
      page("all",
           {bulk, section("loss", {comparison("sockops", "rtt", 9, true), comparison("iter", "rtt", 7, false),
                                   comparison("sockops", "bytes_sent", 3, true)})},
           suite);
  EXPECT_THAT(html,
              HasSubstr("<a class=\"pass\" href=\"#bulk/rtt\" title=\"rtt in bulk: passed, 4300 compared\niter: 50 "
                        "compared, all agree\nsockops: 4250 compared, all agree\""));
  EXPECT_THAT(html, HasSubstr("<a class=\"fail\" href=\"#loss/rtt\" title=\"rtt in loss: failed, 16 compared"));
  EXPECT_THAT(html, HasSubstr("data-s=\"iter:fail sockops:pass\">✗</a>"));
  EXPECT_THAT(html, HasSubstr("<a class=\"pass\" href=\"#loss/bytes_sent\""));
  EXPECT_THAT(html, HasSubstr("title=\"bytes_sent in bulk: not compared\""));
  EXPECT_THAT(html, HasSubstr("title=\"rtt in dctcp: not compared\""));
  // What did not pass, in full.
  EXPECT_THAT(html, HasSubstr("rtt differs"));
  EXPECT_THAT(html, HasSubstr("<code>repeat &lt;loss&gt;</code>"));
  EXPECT_THAT(html, HasSubstr("no tcp_dctcp"));
  EXPECT_THAT(html, HasSubstr("href=\"#loss\""));
  EXPECT_EQ(html.find("href=\"#dctcp\""), std::string::npos) << "there is nothing of it to open";
  EXPECT_THAT(html, HasSubstr("tcpinfo-validate run --all &lt;&amp;&gt;"));
  EXPECT_THAT(html, HasSubstr("1 failed, 1 not possible, 1 passed"));
  // The picture, where the cell finds it.
  EXPECT_THAT(html, HasSubstr("data-name=\"bulk\""));
  EXPECT_THAT(html, HasSubstr("<figure data-picture=\"svg-bulk-rtt\""));
  EXPECT_THAT(html,
              HasSubstr("<script type=\"text/plain\" id=\"svg-bulk-rtt\">" + packed("<svg></svg>") + "</script>"));
}

TEST(Page, RefersToNothingOutside) {
  auto one = section("bulk", {comparison("sockops", "rtt", 4250, true)});
  one.drawings.push_back({"rtt", "rtt", "Smoothed", packed("<svg></svg>")});
  const auto html = page("all", {one, one});
  for (const auto* elsewhere :
       {"<img", "<link", "<iframe", "src=", "url(", "@import", "import(", "fetch(", "http:", "https:", "=\"//"})
    EXPECT_EQ(html.find(elsewhere), std::string::npos) << elsewhere;
  // Links stay on the page.
  const std::regex link("href=\"([^\"])");
  for (auto at = std::sregex_iterator(html.begin(), html.end(), link); at != std::sregex_iterator(); ++at)
    EXPECT_EQ((*at)[1].str(), "#");
}

TEST(Page, ShowsPathQuirksAndClocks) {
  auto one = section("bulk", {comparison("sockops", "rtt", 4250, true)});
  auto& verdict = *one.run.verdict;
  verdict.quirks = {"a quirk & more"};
  verdict.alignments = {
      {.file = "client", .source = "getsockopt", .start_boot_ns = 1, .uncertainty_ns = 43000, .intervals = 20}};
  verdict.link.engine = "emulator";
  verdict.link.there.rate_mbit = 50;
  verdict.link.there.busiest_mbit = 49.5;
  verdict.link.there.packets = 200;
  verdict.link.there.lost = 3;
  const auto html = page("all", {one});
  EXPECT_THAT(html, HasSubstr("a quirk &amp; more"));
  EXPECT_THAT(html, HasSubstr("<tr><td>client<td>getsockopt<td class=n>±0.043 ms<td class=n>20"));
  EXPECT_THAT(html, HasSubstr("<td class=n>50 Mbit/s<td class=n>49.5 Mbit/s"));
  EXPECT_THAT(html, HasSubstr("3 (1.5 %)"));
}

TEST(Page, EscapesTexts) {
  EXPECT_EQ(escape("<script>&\"'\x01</script>"), "&lt;script&gt;&amp;&quot;&#39;&lt;/script&gt;");
  auto odd = section("a<b>", {comparison("<i>", "</script>", 1, false)});
  odd.run.verdict->failures = {"<img src=x>"};
  odd.run.verdict->comparisons[0].note = "a & b";
  const auto html = page("<title>", {odd, odd});
  for (const auto* raw : {"<img", "<i>", "a<b>", "<title><title>"}) EXPECT_THAT(html, Not(HasSubstr(raw))) << raw;
  EXPECT_THAT(html, HasSubstr("&lt;img src=x&gt;"));
  EXPECT_THAT(html, HasSubstr("a &amp; b"));
  EXPECT_THAT(html, HasSubstr("href=\"#a%3Cb%3E/%3C%2Fscript%3E\""));
}

TEST(Page, FragmentsAreFoundAgain) {
  EXPECT_EQ(fragment("bulk-ipv4", "rtt"), "#bulk-ipv4/rtt");
  EXPECT_EQ(fragment("bulk#2"), "#bulk%232");
  EXPECT_EQ(fragment("a/b", "ä"), "#a%2Fb/%C3%A4");
}

TEST(Page, PackedTextsUnpack) {
  for (const auto& text : {std::string(), std::string("a"), std::string("<svg>é</svg>"), std::string(100'000, 'x')}) {
    const auto base64 = packed(text);
    EXPECT_EQ(base64.size() % 4, 0u);
    std::string bytes;
    unsigned bits = 0, count = 0;
    for (const char c : base64) {
      if (c == '=') break;
      const std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
      bits = (bits << 6) | static_cast<unsigned>(alphabet.find(c));
      if ((count += 6) >= 8) bytes += static_cast<char>((bits >> (count -= 8)) & 0xff);
    }
    z_stream stream{};
    ASSERT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
    std::string result(text.size() + 1, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(bytes.data());
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = reinterpret_cast<Bytef*>(result.data());
    stream.avail_out = static_cast<uInt>(result.size());
    EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
    EXPECT_EQ(stream.avail_in, 0u);
    result.resize(stream.total_out);
    inflateEnd(&stream);
    EXPECT_EQ(result, text);
  }
}

TEST(Page, InlineSvgsShareNoIdentifiers) {
  const auto svg = inline_svg(
      "<?xml version=\"1.0\"?>\n<svg width=\"1\"><path id='gpPt1'/><use xlink:href='#gpPt1'/></svg>", "x-", "a \"b\"");
  EXPECT_EQ(svg,
            "<svg role=\"img\" aria-label=\"a &quot;b&quot;\" width=\"1\"><path id='x-gpPt1'/>"
            "<use xlink:href='#x-gpPt1'/></svg>");
}

TEST(OutputFiles, LeaveNothingHalfWritten) {
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("tcpinfo-plot-test-{}", ::getpid());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  {
    OutputFiles files;
    files.add(folder / "plots" / "small.png", "whole");
    const rlimit full{.rlim_cur = 16384, .rlim_max = before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &full), 0);
    std::string said;
    try {
      files.add(folder / "plots" / "large.png", std::string(100'000, 'x'));
    } catch (const tcpinfo::Error& error) {
      said = error.what();
    }
    ::setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_THAT(said, AllOf(HasSubstr("write"), HasSubstr("large.png")));
    EXPECT_FALSE(std::filesystem::exists(folder / "plots" / "small.png")) << "they appear together";
  }
  std::signal(SIGXFSZ, handler);
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST(Page, InlineSvgsAreShortenedButForTheirTexts) {
  EXPECT_EQ(inline_svg("<svg><path d='M1.25,22.99 L3,4.567'/><text>0.25</text></svg>", "x-", "a"),
            "<svg role=\"img\" aria-label=\"a\"><path d='M1.2,22.9 L3,4.567'/><text>0.25</text></svg>");
}

TEST(Gnuplot, TextsCannotBecomeCommands) {
  EXPECT_EQ(enhanced("snd_cwnd {a}^2"), "snd\\_cwnd \\{a\\}\\^2");
  auto all = pictures(run_of_one_stream());
  all[0].subtitle = "x\"\nsystem 'true'\n`id`";
  all[0].charts[0].series[0].label = "`id`";
  const Image image = Image::kSvg;
  const auto script = gnuplot_script(all[0], {&image, 1}, {"out"}, {});
  EXPECT_THAT(script, Not(HasSubstr("\nsystem")));
  EXPECT_THAT(script, Not(HasSubstr("`")));
}

TEST(Gnuplot, ChartsThatAreAlikeShareAScale) {
  Picture picture;
  for (const double y : {0.010, 0.004}) {
    auto& chart = picture.charts.emplace_back();
    chart.axis = {"rtt", Dimension::kSeconds, {}};
    chart.series.emplace_back().points = {{0, y}, {1, y}};
  }
  const Image image = Image::kSvg;
  const auto ranges = [&] {
    const auto script = gnuplot_script(picture, {&image, 1}, {"out"}, {});
    std::vector<std::string> found;
    for (auto at = script.find("set yrange"); at != std::string::npos; at = script.find("set yrange", at + 1))
      found.push_back(script.substr(at + 11, script.find('\n', at) - at - 11));
    return found;
  };
  EXPECT_THAT(ranges(), ElementsAre("[0:10.7]", "[0:10.7]"));
  picture.charts[1].series[0].points = {{0, 0.0004}, {1, 0.0004}};
  EXPECT_THAT(ranges(), ElementsAre("[0:10.7]", "[0:428]"))
      << "in microseconds: one would not be seen beside the other";
  picture.charts[1].series[0].points.clear();
  picture.charts[0].series[0].points = {{0, 0.009}, {1, 0.010}};
  EXPECT_THAT(ranges(), ElementsAre("[8.93:10.07]", "[8.93:10.07]")) << "an empty one takes part";
}

TEST(Gnuplot, UnitsOfLongNamesHaveALineOfTheirOwn) {
  Picture picture;
  auto& chart = picture.charts.emplace_back();
  chart.axis = {"total_retrans", Dimension::kNumber, "segments"};
  chart.series.emplace_back().points = {{0, 1}, {1, 2}};
  const Image image = Image::kSvg;
  EXPECT_THAT(gnuplot_script(picture, {&image, 1}, {"out"}, {}), HasSubstr("retrans (segments)"));
  picture.charts.push_back(chart);
  EXPECT_THAT(gnuplot_script(picture, {&image, 1}, {"out"}, {}), HasSubstr("retrans\\n(segments)"))
      << "two charts are lower";
}

TEST(Gnuplot, ALevelStepIsOneLine) {
  Picture picture;
  auto& chart = picture.charts.emplace_back();
  auto& series = chart.series.emplace_back();
  series.points = {{0, 5}, {0.25, 5}, {0.5, 5}, {0.75, 7}, {1, 7}};
  const Image image = Image::kSvg;
  EXPECT_THAT(gnuplot_script(picture, {&image, 1}, {"out"}, {}), HasSubstr("<< END\n0 5\n0.5 5\n0.75 7\n1 7\nEND"));
  series.form = Form::kMarks;
  EXPECT_THAT(gnuplot_script(picture, {&image, 1}, {"out"}, {}), HasSubstr("\n0.25 5\n"));
}

TEST(Gnuplot, ImagesAreWholeAndOfTheAskedWidth) {
  if (!gnuplot_exists()) GTEST_SKIP() << "gnuplot is missing: apt-get install gnuplot-nox";
  const auto all = pictures(run_of_one_stream());
  const std::vector<Image> images{Image::kPng, Image::kSvg, Image::kPdf};
  const auto bytes = render(all, images, {.width_pt = 241, .texts = true});
  ASSERT_EQ(bytes.size(), all.size());
  for (const auto& one : bytes) {
    ASSERT_EQ(one.size(), 3u);
    EXPECT_THAT(one[0], StartsWith("\x89PNG"));
    EXPECT_EQ(one[0].substr(one[0].size() - 8, 4), "IEND");
    EXPECT_EQ(static_cast<unsigned char>(one[0][18]) * 256 + static_cast<unsigned char>(one[0][19]), 669)
        << "241 pt at 200 dpi";
    EXPECT_THAT(one[1], HasSubstr("</svg>"));
    EXPECT_THAT(one[1], HasSubstr("viewBox=\"0 0 321 "));
    EXPECT_THAT(one[2], StartsWith("%PDF"));
    EXPECT_THAT(one[2].substr(one[2].size() - 7), HasSubstr("%%EOF"));
  }
}

}  // namespace
}  // namespace plot
