// SPDX-License-Identifier: BSD-2-Clause
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gnuplot.hpp"
#include "page.hpp"
#include "series.hpp"

namespace plot {
namespace {

using tcpinfo::Field;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr std::uint64_t kStart = 5'000'000'000;

Endpoint endpoint(std::string_view address, std::uint16_t port) {
  return {.address = *tcpinfo::parse_address(address), .port = port};
}

tcpinfo_record record(const Endpoint& local, const Endpoint& peer, double time_s) {
  auto r = tcpinfo::make_record();
  tcpinfo::set_number(r, Field::time_ns, kStart + static_cast<std::uint64_t>(std::llround(time_s * 1e9)));
  r.local_address = local.address;
  r.peer_address = peer.address;
  tcpinfo::set_present(r, Field::local_address);
  tcpinfo::set_present(r, Field::peer_address);
  tcpinfo::set_number(r, Field::local_port, local.port);
  tcpinfo::set_number(r, Field::peer_port, peer.port);
  tcpinfo::set_number(r, Field::event, TCPINFO_EVENT_SAMPLE);
  tcpinfo::set_number(r, Field::state, 1);
  return r;
}

/// A second of one stream with what every rule needs.
Run run_of_one_stream() {
  Run run;
  run.name = "a<b>";
  run.start_boot_ns = kStart;
  run.iperf3_version = "iperf 3.12";
  Stream stream{
      .sender = endpoint("10.0.0.1", 40000), .receiver = endpoint("10.0.0.2", 5201), .sent = {}, .received = {}};
  stream.sent = {{.start_s = 0, .end_s = 0.5, .bytes = 1000, .values = {{Field::rtt, 2000}, {Field::total_retrans, 3}}},
                 {.start_s = 0.5, .end_s = 1, .bytes = 500, .values = {{Field::rtt, 3000}, {Field::total_retrans, 2}}}};
  stream.received = {{.start_s = 0, .end_s = 1, .bytes = 1400, .values = {}}};
  for (int i = 0; i <= 10; ++i) {
    auto sender = record(stream.sender, stream.receiver, i * 0.1);
    tcpinfo::set_number(sender, Field::rtt, 2000 + 100 * static_cast<unsigned>(i));
    tcpinfo::set_number(sender, Field::snd_cwnd, 10);
    tcpinfo::set_number(sender, Field::snd_mss, 1448);
    tcpinfo::set_number(sender, Field::total_retrans, i < 5 ? 0 : 3);
    tcpinfo::set_number(sender, Field::bytes_sent, 137 + 100 * static_cast<unsigned>(i));
    tcpinfo::set_number(sender, Field::bytes_retrans, 30);
    tcpinfo::set_number(sender, Field::notsent_bytes, 5);
    run.sockops.push_back(sender);
    auto receiver = record(stream.receiver, stream.sender, i * 0.1);
    tcpinfo::set_number(receiver, Field::bytes_received, 37 + 90 * static_cast<unsigned>(i));
    tcpinfo::set_number(receiver, Field::rtt, 77);
    run.inet_diag.push_back(receiver);
  }
  // The control connection of iperf3, from another port.
  auto other = record(endpoint("10.0.0.1", 39999), stream.receiver, 0.5);
  tcpinfo::set_number(other, Field::rtt, 99999);
  run.sockops.push_back(other);
  run.streams.push_back(stream);
  return run;
}

const Picture& named(const std::vector<Picture>& all, std::string_view name) {
  const auto found = std::ranges::find(all, name, &Picture::name);
  if (found == all.end()) throw std::runtime_error("no picture " + std::string(name));
  return *found;
}

const std::vector<Point>& points(const Picture& picture, Origin origin) {
  for (const auto& s : picture.panels.at(0).series)
    if (s.origin == origin) return s.points;
  throw std::runtime_error("no series");
}

TEST(Series, GaugesComeFromTheSenderInTheUnitsOfThePicture) {
  const auto all = pictures(run_of_one_stream());
  const auto& rtt = named(all, "rtt");
  EXPECT_EQ(rtt.dimension, Dimension::kSeconds);
  const auto& ebpf = points(rtt, Origin::kEbpf);
  ASSERT_EQ(ebpf.size(), 11u);
  EXPECT_DOUBLE_EQ(ebpf[3].time_s, 0.3);
  EXPECT_DOUBLE_EQ(ebpf[3].value, 0.0023);
  EXPECT_THAT(points(rtt, Origin::kNetlink), testing::IsEmpty()) << "the receiver's rtt is not the sender's";
  EXPECT_THAT(points(rtt, Origin::kIperf3), ElementsAre(Point{0.5, 0.002, 0}, Point{1, 0.003, 0}));
}

TEST(Series, CongestionWindowIsInBytes) {
  const auto all = pictures(run_of_one_stream());
  const auto& cwnd = named(all, "snd_cwnd");
  EXPECT_EQ(cwnd.dimension, Dimension::kBytes);
  EXPECT_DOUBLE_EQ(points(cwnd, Origin::kEbpf).at(0).value, 14480);
  EXPECT_THAT(cwnd.notes, testing::Contains(std::string("iperf 3.12 does not report it")));
}

TEST(Series, DeltasOfIperf3AreSummed) {
  const auto all = pictures(run_of_one_stream());
  const auto& retransmitted = named(all, "total_retrans");
  EXPECT_THAT(points(retransmitted, Origin::kIperf3), ElementsAre(Point{0.5, 3, 0}, Point{1, 5, 0}));
  EXPECT_DOUBLE_EQ(points(retransmitted, Origin::kEbpf).back().value, 3);
  EXPECT_THAT(named(all, "rtt").panels[0].retransmissions_s, ElementsAre(0.5));
}

TEST(Series, BytesFollowTheLedger) {
  const auto all = pictures(run_of_one_stream());
  const auto& sent = named(all, "bytes_sent");
  EXPECT_DOUBLE_EQ(points(sent, Origin::kEbpf).back().value, 1137 - 30 + 5 - 37);
  EXPECT_THAT(points(sent, Origin::kIperf3), ElementsAre(Point{0.5, 1000, 0}, Point{1, 1500, 0}));
  const auto& received = named(all, "bytes_received");
  EXPECT_DOUBLE_EQ(points(received, Origin::kNetlink).back().value, 900);
  EXPECT_TRUE(received.at_receiver);
  const auto& throughput = named(all, "throughput");
  EXPECT_THAT(points(throughput, Origin::kIperf3), ElementsAre(Point{0.25, 16000, 0.25}, Point{0.75, 8000, 0.25}));
  for (const auto& p : points(throughput, Origin::kEbpf)) EXPECT_NEAR(p.value, 8000, 1e-6);
}

TEST(Series, ARunWithoutRecordsHasThePicturesOfIperf3) {
  auto run = run_of_one_stream();
  run.sockops.clear();
  run.inet_diag.clear();
  const auto all = pictures(run);
  EXPECT_EQ(points(named(all, "rtt"), Origin::kIperf3).size(), 2u);
  EXPECT_FALSE(std::ranges::find(all, "snd_cwnd", &Picture::name) != all.end());
}

TEST(Series, MorePanelsThanFitAreSaidToBeLeftOut) {
  auto run = run_of_one_stream();
  while (run.streams.size() < kPanelsMax + 3) {
    run.streams.push_back(run.streams.front());
    run.streams.back().sender.port = static_cast<std::uint16_t>(41000 + run.streams.size());
  }
  const auto all = pictures(run);
  const auto& rtt = named(all, "rtt");
  EXPECT_EQ(rtt.panels.size(), kPanelsMax);
  EXPECT_THAT(rtt.notes, testing::Contains(std::string("the first 12 of 15 streams")));
  EXPECT_THAT(gnuplot_script(rtt, Image::kPng), HasSubstr("41002"));
}

TEST(Thin, KeepsExtremesEndsAndOrder) {
  std::vector<Point> all;
  for (int i = 0; i < 100000; ++i) all.push_back({i * 1e-3, std::sin(i * 0.01), 0});
  all[31415].value = 50;
  all[27182].value = -50;
  const auto kept = thin(all, 500);
  EXPECT_LE(kept.size(), 1002u);
  EXPECT_GE(kept.size(), 900u);
  EXPECT_EQ(kept.front(), all.front());
  EXPECT_EQ(kept.back(), all.back());
  EXPECT_TRUE(std::ranges::is_sorted(kept, {}, &Point::time_s));
  EXPECT_TRUE(std::ranges::find(kept, all[31415]) != kept.end());
  EXPECT_TRUE(std::ranges::find(kept, all[27182]) != kept.end());
}

TEST(Thin, LeavesShortSeriesAlone) {
  const std::vector<Point> all{{0, 1, 0}, {1, 2, 0}, {2, 3, 0}};
  EXPECT_EQ(thin(all, 2), all);
  EXPECT_EQ(thin({}, 10).size(), 0u);
  // All at one time: nothing to divide.
  EXPECT_EQ(thin(std::vector<Point>(100, Point{1, 7, 0}), 4).front().value, 7);
}

TEST(Rates, AreMeansOverWindowsAndBeginAnewWhereACounterFalls) {
  const std::vector<Point> bytes{{0, 0, 0}, {0.05, 10, 0}, {0.1, 100, 0}, {0.2, 300, 0}, {0.3, 5, 0}, {0.4, 105, 0}};
  const auto r = rates(bytes, 0.1);
  ASSERT_EQ(r.size(), 3u);
  EXPECT_NEAR(r[0].value, 8000, 1e-6);
  EXPECT_NEAR(r[0].time_s, 0.05, 1e-9);
  EXPECT_NEAR(r[1].value, 16000, 1e-6);
  EXPECT_NEAR(r[2].value, 8000, 1e-6);
}

TEST(Scale, IsTheLargestUnitThatTheMaximumFills) {
  EXPECT_EQ(scale_for(Dimension::kSeconds, 0.012).unit, "ms");
  EXPECT_EQ(scale_for(Dimension::kSeconds, 0.0009).unit, "µs");
  EXPECT_EQ(scale_for(Dimension::kBytes, 65535).unit, "kB");
  EXPECT_EQ(scale_for(Dimension::kBitsPerSecond, 2.5e9).unit, "Gbit/s");
  EXPECT_EQ(scale_for(Dimension::kBytes, 0).unit, "B");
  EXPECT_EQ(scale_for(Dimension::kNumber, 34).unit, "");
}

TEST(Page, EscapesTexts) {
  EXPECT_EQ(escape("<script>&\"'\x01</script>"), "&lt;script&gt;&amp;&quot;&#39;&lt;/script&gt;");
  Section section{.name = "a<b>", .failure = {}, .run = run_of_one_stream(), .drawings = {}};
  section.run.verdict.emplace();
  section.run.verdict->failures = {"<img src=x>"};
  auto& comparison = section.run.verdict->comparisons.emplace_back();
  comparison.source = "<i>";
  comparison.note = "a & b";
  const auto html = page("<title>", {section, section});
  EXPECT_THAT(html, Not(HasSubstr("<img")));
  EXPECT_THAT(html, Not(HasSubstr("<i>")));
  EXPECT_THAT(html, Not(HasSubstr("a<b>")));
  EXPECT_THAT(html, HasSubstr("&lt;img src=x&gt;"));
  EXPECT_THAT(html, HasSubstr("a &amp; b"));
  EXPECT_THAT(html, HasSubstr("failed"));
  EXPECT_THAT(html, Not(HasSubstr("<script")));
}

TEST(Page, InlineSvgsShareNoIdentifiers) {
  const auto svg = inline_svg(
      "<?xml version=\"1.0\"?>\n<svg width=\"1\"><path id='gpPt1'/><use xlink:href='#gpPt1'/></svg>", "x-", "a \"b\"");
  EXPECT_EQ(svg,
            "<svg role=\"img\" aria-label=\"a &quot;b&quot;\" width=\"1\"><path id='x-gpPt1'/>"
            "<use xlink:href='#x-gpPt1'/></svg>");
}

TEST(Gnuplot, TextsCannotBecomeCommands) {
  EXPECT_EQ(enhanced("snd_cwnd {a}^2"), "snd\\_cwnd \\{a\\}\\^2");
  auto all = pictures(run_of_one_stream());
  all[0].subtitle = "x\"\nsystem 'true'\n`id`";
  const auto script = gnuplot_script(all[0], Image::kSvg);
  EXPECT_THAT(script, Not(HasSubstr("\nsystem")));
  EXPECT_THAT(script, Not(HasSubstr("`")));
}

}  // namespace
}  // namespace plot
