// SPDX-License-Identifier: BSD-2-Clause
#include "compare.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

namespace validation {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr std::uint64_t kStartNs = 5'000'000'000'123;  // of the client's clock, boot time
constexpr std::int64_t kServerLaterUs = 3000;
constexpr int kIntervals = 20;
constexpr std::int64_t kRunUs = kIntervals * 250'000;

// One stream, 200 Mbit/s, everything a smooth function of the time since the client's start.
std::int64_t written(std::int64_t us) { return std::clamp<std::int64_t>(us, 0, kRunUs) * 25; }
std::int64_t read_by_server(std::int64_t us) { return written(us - 10'000); }
std::int64_t retransmitted(std::int64_t us) { return us <= 0 ? 0 : 1 + us / 110'000; }
std::int64_t rtt(std::int64_t us) { return 20'000 + us / 500; }
std::int64_t cwnd(std::int64_t us) { return 100 + us / 100'000; }

struct Scenario {
  int streams = 1;
  std::string family = "10.77.0.";

  int client_port(int stream) const { return 40'000 + 2 * stream; }

  std::string iperf3(bool server) const {
    std::string connected, intervals, totals;
    const auto join = [](std::string& list, const std::string& element) {
      list += (list.empty() ? "" : ",") + element;
    };
    const int here = server ? 2 : 1;
    for (int s = 0; s < streams; ++s) {
      join(connected,
           fmt::format(R"({{"socket":{},"local_host":"{}{}","local_port":{},"remote_host":"{}{}","remote_port":{}}})",
                       5 + s, family, here, server ? 5201 : client_port(s), family, 3 - here,
                       server ? client_port(s) : 5201));
      join(totals, fmt::format(R"({{"sender":{{"socket":{0},"bytes":{1}}},"receiver":{{"socket":{0},"bytes":{2}}}}})",
                               5 + s, server ? 0 : written(kRunUs), read_by_server(kRunUs + 10'000)));
    }
    for (int i = 1; i <= kIntervals; ++i) {
      std::string list;
      for (int s = 0; s < streams; ++s) {
        const auto at = [&](int n) { return n == 0 ? std::int64_t{0} : n * 250'000 + n % 3 * 70 + 11 * s; };
        const auto from = at(i - 1), to = at(i);
        if (server) {
          const auto counted = [&](std::int64_t us) { return read_by_server(us + kServerLaterUs); };
          join(list, fmt::format(R"({{"socket":{},"end":{:.6f},"bytes":{},"omitted":false,"sender":false}})", 5 + s,
                                 static_cast<double>(to) / 1e6, counted(to) - (i == 1 ? 0 : counted(from))));
        } else {
          join(
              list,
              fmt::format(
                  R"({{"socket":{},"end":{:.6f},"bytes":{},"retransmits":{},"snd_cwnd":{},"snd_wnd":{},"rtt":{},"rttvar":{},"pmtu":1500,"omitted":false,"sender":true}})",
                  5 + s, static_cast<double>(to) / 1e6, written(to) - written(from),
                  retransmitted(to) - (i == 1 ? 0 : retransmitted(from)), cwnd(to) * 1448, 3'000'000 + to / 10, rtt(to),
                  500 + to / 10'000));
        }
      }
      join(intervals, fmt::format(R"({{"streams":[{}],"sum":{{}}}})", list));
    }
    return fmt::format(
        R"({{"start":{{"connected":[{}],"version":"iperf 3.12","system_info":"Linux test","timestamp":{{"timesecs":1}},{},"test_start":{{"protocol":"TCP","reverse":0}}}},"intervals":[{}],"end":{{"streams":[{}],"sender_tcp_congestion":"cubic"}}}})",
        connected, server ? R"("accepted_connection":{})" : R"("connecting_to":{})", intervals, totals);
  }

  /// Both ends of every stream and the control connection, every `every_us`.
  std::vector<tcpinfo_record> records(tcpinfo::SourceId source, std::int64_t every_us) const {
    std::vector<tcpinfo_record> result;
    for (int s = -1; s < streams; ++s)
      for (const bool server : {false, true})
        for (std::int64_t us = -5000;; us += every_us) {
          const bool last = us > kRunUs + 20'000;
          if (last && source != tcpinfo::SourceId::kSockops) break;
          result.push_back(record(source, s, server, us, last));
          if (last) break;
        }
    return result;
  }

  tcpinfo_record record(tcpinfo::SourceId source, int stream, bool server, std::int64_t us, bool last) const {
    using tcpinfo::Field;
    auto record = tcpinfo::make_record();
    const auto set = [&](Field field, std::int64_t value) {
      tcpinfo::set_number(record, field, static_cast<std::uint64_t>(value));
    };
    set(Field::time_ns, static_cast<std::int64_t>(kStartNs) + us * 1000 + 300);
    set(Field::source, static_cast<std::int64_t>(source));
    set(Field::event, last ? TCPINFO_EVENT_CLOSE : TCPINFO_EVENT_SAMPLE);
    set(Field::state, last ? 7 : 1);
    if (last) set(Field::old_state, server ? 9 : 5);
    set(Field::cookie, 100 + 2 * stream + server);
    set(Field::local_port, server ? 5201 : client_port(stream));
    set(Field::peer_port, server ? client_port(stream) : 5201);
    const auto here = tcpinfo::parse_address(family + (server ? "2" : "1"));
    const auto there = tcpinfo::parse_address(family + (server ? "1" : "2"));
    record.local_address = *here;
    record.peer_address = *there;
    tcpinfo::set_present(record, Field::local_address);
    tcpinfo::set_present(record, Field::peer_address);
    const bool control = stream < 0;
    const auto waiting = control || server ? 0 : written(us) - written(us - 2000);
    const auto again = server ? 0 : 1448 * retransmitted(us);
    set(Field::bytes_retrans, again);
    set(Field::total_retrans, server ? 0 : retransmitted(us));
    set(Field::bytes_sent, control ? 700 : server ? 0 : written(us) + 37 - waiting + again);
    set(Field::notsent_bytes, waiting);
    set(Field::bytes_received, server && !control ? read_by_server(us) + 37 + (last ? 1 : 0) : 0);
    set(Field::skmem_rmem_alloc, 0);
    set(Field::skmem_backlog, 0);
    set(Field::rtt, rtt(us));
    set(Field::rttvar, 500 + us / 10'000);
    set(Field::snd_cwnd, cwnd(us));
    set(Field::snd_mss, 1448);
    set(Field::snd_wnd, 3'000'000 + us / 10);
    set(Field::pmtu, 1500);
    return record;
  }
};

class Compare : public testing::Test {
 protected:
  Scenario scenario;
  std::vector<tcpinfo_record> sockops, inet_diag;

  void gather() {
    sockops = scenario.records(tcpinfo::SourceId::kSockops, 10'000);
    inet_diag = scenario.records(tcpinfo::SourceId::kInetDiag, 20'000);
  }

  void SetUp() override { gather(); }

  Verdict verdict() {
    Input input;
    input.first = parse_iperf3(scenario.iperf3(false), "client");
    input.second = parse_iperf3(scenario.iperf3(true), "server");
    input.sources = {{tcpinfo::SourceId::kSockops, sockops}, {tcpinfo::SourceId::kInetDiag, inet_diag}};
    return compare(input);
  }

  static void change(std::vector<tcpinfo_record>& records, tcpinfo::Field field,
                     const std::function<std::uint64_t(std::uint64_t)>& function) {
    for (auto& record : records)
      if (const auto number = tcpinfo::Record(record).number(field))
        tcpinfo::set_number(record, field, function(*number));
  }

  static const Comparison* find(const Verdict& verdict, std::string_view source, std::string_view field,
                                std::string_view method) {
    const auto found = std::find_if(verdict.comparisons.begin(), verdict.comparisons.end(), [&](const Comparison& c) {
      return c.source == source && c.field == field && c.method == method;
    });
    return found == verdict.comparisons.end() ? nullptr : &*found;
  }

  static std::vector<std::string> failed(const Verdict& verdict) {
    std::vector<std::string> result;
    for (const auto& c : verdict.comparisons)
      if (!c.passed) result.push_back(c.source + " " + c.field);
    return result;
  }
};

TEST_F(Compare, AgreesWithItself) {
  const auto v = verdict();
  EXPECT_THAT(v.failures, IsEmpty());
  for (const char* source : {"sockops", "inet_diag"})
    for (const char* field : {"rtt", "rttvar", "snd_cwnd", "snd_wnd", "pmtu"}) {
      const auto* c = find(v, source, field, "window");
      ASSERT_NE(c, nullptr) << source << " " << field;
      EXPECT_GE(c->compared, 18u) << source << " " << field;
      EXPECT_EQ(c->agreed, c->compared) << source << " " << field;
      EXPECT_EQ(c->inside, c->compared) << source << " " << field;
      EXPECT_EQ(c->largest_difference, 0) << source << " " << field;
      EXPECT_EQ(c->control_agreed, field == std::string_view("pmtu") ? c->compared : 0) << source << " " << field;
    }
  for (const char* source : {"sockops", "inet_diag"})
    for (const char* field : {"total_retrans", "bytes_sent", "bytes_received"}) {
      const auto* c = find(v, source, field, "bracket");
      ASSERT_NE(c, nullptr) << source << " " << field;
      EXPECT_GE(c->compared, 18u) << source << " " << field;
      EXPECT_EQ(c->control_agreed, 0u) << source << " " << field;
    }
  const auto* totals = find(v, "sockops", "bytes_sent", "exact");
  ASSERT_NE(totals, nullptr);
  EXPECT_EQ(totals->compared, 1u);
}

TEST_F(Compare, FindsWhenIperf3StartedAndWhichSocketsItUsed) {
  const auto v = verdict();
  ASSERT_FALSE(v.alignments.empty());
  const auto& a = v.alignments.front();
  EXPECT_EQ(a.file, "client");
  EXPECT_EQ(a.source, "sockops");
  EXPECT_NEAR(static_cast<double>(a.start_boot_ns), static_cast<double>(kStartNs),
              static_cast<double>(a.uncertainty_ns));
  EXPECT_LT(a.uncertainty_ns, 6'000'000u);
  EXPECT_GE(a.intervals, 18u);
  const auto server = std::find_if(v.alignments.begin(), v.alignments.end(),
                                   [](const Alignment& x) { return x.file == "server" && x.source == "sockops"; });
  ASSERT_NE(server, v.alignments.end());
  EXPECT_NEAR(static_cast<double>(server->start_boot_ns), static_cast<double>(kStartNs + kServerLaterUs * 1000),
              static_cast<double>(server->uncertainty_ns));
  ASSERT_THAT(v.streams, SizeIs(1));
  EXPECT_EQ(v.streams[0].sender_cookie, 100u);
  EXPECT_EQ(v.streams[0].receiver_cookie, 101u);
  EXPECT_EQ(v.streams[0].local_port, 40'000);
}

TEST_F(Compare, SeveralStreamsAndIpv6) {
  scenario.streams = 4;
  scenario.family = "fd77::";
  gather();
  const auto v = verdict();
  EXPECT_THAT(v.failures, IsEmpty());
  EXPECT_GE(find(v, "sockops", "rtt", "window")->compared, 4 * 18u);
  EXPECT_THAT(v.streams, SizeIs(4));
}

TEST_F(Compare, MappedAddressesAreIpv4) {
  auto json = scenario.iperf3(true);
  for (std::size_t at = 0; (at = json.find("\"10.77.0.", at)) != std::string::npos; at += 10)
    json.insert(at + 1, "::ffff:");
  Input input;
  input.first = parse_iperf3(scenario.iperf3(false), "client");
  input.second = parse_iperf3(json, "server");
  input.sources = {{tcpinfo::SourceId::kSockops, sockops}};
  EXPECT_THAT(compare(input).failures, IsEmpty());
}

TEST_F(Compare, BlamesAGaugeThatIsOffByOnePercent) {
  change(sockops, tcpinfo::Field::rtt, [](auto value) { return value * 101 / 100; });
  const auto v = verdict();
  EXPECT_THAT(failed(v), ElementsAre("sockops rtt"));
  EXPECT_THAT(v.failures, ElementsAre(AllOf(HasSubstr("sockops: rtt"), HasSubstr("0 of "))));
  EXPECT_NEAR(find(v, "sockops", "rtt", "window")->largest_difference, 250, 60);
}

TEST_F(Compare, BlamesInetDiagAlone) {
  change(inet_diag, tcpinfo::Field::rttvar, [](auto value) { return value + 50; });
  EXPECT_THAT(failed(verdict()), ElementsAre("inet_diag rttvar"));
}

TEST_F(Compare, BlamesAConstantThatDiffers) {
  change(sockops, tcpinfo::Field::pmtu, [](auto) { return 1492; });
  EXPECT_THAT(failed(verdict()), ElementsAre("sockops pmtu"));
}

TEST_F(Compare, BlamesACwndInSegmentsOfTheWrongSize) {
  change(inet_diag, tcpinfo::Field::snd_mss, [](auto) { return 1460; });
  EXPECT_THAT(failed(verdict()), ElementsAre("inet_diag snd_cwnd"));
}

TEST_F(Compare, BlamesOneRetransmissionTooMany) {
  change(sockops, tcpinfo::Field::total_retrans, [](auto value) { return value > 20 ? value + 1 : value; });
  const auto v = verdict();
  EXPECT_THAT(failed(v), ElementsAre("sockops total_retrans"));
  EXPECT_EQ(find(v, "sockops", "total_retrans", "bracket")->largest_difference, 1);
}

TEST_F(Compare, BlamesBytesThatAreOffByOnePercent) {
  change(sockops, tcpinfo::Field::bytes_sent, [](auto value) { return value * 101 / 100; });
  const auto v = verdict();
  EXPECT_THAT(failed(v), Contains("sockops bytes_sent"));
  EXPECT_THAT(failed(v), Not(Contains(HasSubstr("inet_diag rtt"))));
  EXPECT_THAT(v.failures, Contains(HasSubstr("sockops: no start of iperf3's clock suits all intervals")));
}

TEST_F(Compare, BlamesOneByteAtTheEnd) {
  for (auto& record : sockops)
    if (record.event == TCPINFO_EVENT_CLOSE && record.local_port == 40'000) record.bytes_sent += 1;
  const auto v = verdict();
  EXPECT_THAT(failed(v), ElementsAre("sockops bytes_sent"));
  EXPECT_EQ(find(v, "sockops", "bytes_sent", "exact")->largest_difference, 1);
}

TEST_F(Compare, DataThatArrivedAndWasNotReadIsNoError) {
  // The receiver closes early: iperf3 has read less than came, and the queue is empty in the last record.
  for (auto& record : sockops)
    if (record.event == TCPINFO_EVENT_CLOSE && record.local_port == 5201) {
      record.time_ns = kStartNs + static_cast<std::uint64_t>(kRunUs) * 1000;
      record.bytes_received = static_cast<std::uint64_t>(written(kRunUs)) + 37;
    }
  EXPECT_THAT(verdict().failures, IsEmpty());
}

TEST_F(Compare, BlamesReceivedBytesThatNobodySent) {
  for (auto& record : sockops)
    if (record.event == TCPINFO_EVENT_CLOSE && record.local_port == 5201) record.bytes_received += 1;
  EXPECT_THAT(failed(verdict()), ElementsAre("sockops bytes_received"));
}

TEST_F(Compare, BlamesASourceWhoseClockIsLate) {
  change(sockops, tcpinfo::Field::time_ns, [](auto value) { return value + 50'000'000; });
  const auto v = verdict();
  EXPECT_THAT(v.failures, Contains(AllOf(HasSubstr("sockops and inet_diag place the start of the client's result"),
                                         HasSubstr("apart"))));
  EXPECT_THAT(failed(v), Contains("inet_diag bytes_sent"));
}

TEST_F(Compare, BlamesAClockThatJumpsInTheMiddle) {
  change(sockops, tcpinfo::Field::time_ns,
         [](auto value) { return value > kStartNs + 2'500'000'000 ? value + 50'000'000 : value; });
  EXPECT_THAT(verdict().failures, Contains(HasSubstr("sockops: no start of iperf3's clock suits all intervals")));
}

TEST_F(Compare, NamesTheStreamThatIsMissing) {
  scenario.streams = 2;
  gather();
  std::erase_if(sockops, [](const tcpinfo_record& record) { return record.local_port == 40'002; });
  const auto v = verdict();
  EXPECT_THAT(v.failures, ElementsAre(AllOf(HasSubstr("sockops has no record of the sender of stream 6"),
                                            HasSubstr("port 40002"))));
}

TEST_F(Compare, AQuantityThatCouldNotBeComparedFails) {
  for (auto& record : sockops) record.present[0] &= ~(std::uint64_t{1} << TCPINFO_FIELD_pmtu);
  EXPECT_THAT(verdict().failures, ElementsAre(HasSubstr("sockops: pmtu of the sender was not compared")));
}

TEST_F(Compare, SweptSamplesCountForGaugesButNotForTheLedger) {
  for (auto& record : sockops)
    if (record.time_ns / 10'000'000 % 3 != 0 && record.event == TCPINFO_EVENT_SAMPLE) {
      tcpinfo::set_number(record, tcpinfo::Field::swept, 1);
      record.notsent_bytes += 1'000'000;
    }
  EXPECT_THAT(verdict().failures, IsEmpty());
}

TEST_F(Compare, ComparingNothingFails) {
  sockops.clear();
  std::erase_if(inet_diag, [](const tcpinfo_record& record) { return record.local_port % 1000 < 100; });
  for (auto& record : inet_diag) record.local_port = 1;
  const auto v = verdict();
  EXPECT_FALSE(v.passed());
  EXPECT_THAT(v.failures, Contains(HasSubstr("nothing of sockops was compared")));
  EXPECT_THAT(v.failures, Contains(HasSubstr("nothing of inet_diag was compared")));
  EXPECT_FALSE(compare(Input{}).passed());
}

TEST_F(Compare, SockopsAloneAndInetDiagAlone) {
  for (const bool use_sockops : {true, false}) {
    Input input;
    input.first = parse_iperf3(scenario.iperf3(false), "client");
    if (use_sockops)
      input.sources = {{tcpinfo::SourceId::kSockops, sockops}};
    else
      input.sources = {{tcpinfo::SourceId::kInetDiag, inet_diag}};
    const auto v = compare(input);
    EXPECT_THAT(v.failures, IsEmpty());
    EXPECT_FALSE(v.comparisons.empty());
  }
}

TEST_F(Compare, VerdictSurvivesItsFile) {
  auto v = verdict();
  v.title = "a \"title\"";
  v.kernel = "Linux";
  v.records["sockops"] = {{"emitted", 7}, {"lost", 0}};
  v.failures = {"one", "two"};
  const auto again = parse_verdict(to_json(v), "test");
  EXPECT_EQ(to_json(again), to_json(v));
  EXPECT_FALSE(again.passed());
  EXPECT_THAT(to_table(v), AllOf(HasSubstr("snd_cwnd"), HasSubstr("failure: two"), HasSubstr("FAILED")));
  EXPECT_THROW(parse_verdict("{}", "test"), tcpinfo::Error);
  EXPECT_THROW(parse_verdict(R"({"schema":"tcpinfo-verdict","version":2})", "test"), tcpinfo::Error);
}

std::string complaint(const std::string& json) {
  try {
    parse_iperf3(json, "F");
  } catch (const tcpinfo::Error& error) {
    EXPECT_EQ(error.code(), make_error_code(tcpinfo::Errc::kMalformed));
    return error.what();
  }
  return "none";
}

TEST(Iperf3, CutOffAnywhereIsCalledCutOff) {
  const auto json = Scenario().iperf3(false);
  for (std::size_t size = 1; size < json.size(); size += 7)
    ASSERT_THAT(complaint(json.substr(0, size)), HasSubstr("cut off"))
        << json.substr(0, size).substr(size > 40 ? size - 40 : 0);
}

TEST(Iperf3, WhatIsNoResultIsRefused) {
  EXPECT_THAT(complaint(""), HasSubstr("it is empty"));
  EXPECT_THAT(complaint("\n"), HasSubstr("it is empty"));
  EXPECT_THAT(complaint("{}"), HasSubstr("it is no iperf3 result"));
  EXPECT_THAT(complaint("[1, 2]"), HasSubstr("it is no iperf3 result"));
  EXPECT_THAT(complaint("Connecting to host 10.0.0.1, port 5201\n[  5] local\n"), HasSubstr("line 1 is not JSON"));
  EXPECT_THAT(complaint("{\"start\": 1,\n ,}\n"), HasSubstr("line 2 is not JSON"));
  const auto json = Scenario().iperf3(false);
  EXPECT_THAT(complaint(json + "\n" + json), HasSubstr("more than one run"));
  auto udp = json;
  udp.replace(udp.find("\"TCP\""), 5, "\"UDP\"");
  EXPECT_THAT(complaint(udp), HasSubstr("only TCP"));
}

TEST(Iperf3, AFailedRunSaysWhatIperf3Said) {
  const std::string failed =
      R"({"start":{"connected":[],"version":"iperf 3.12"},"intervals":[],"end":{},"error":"unable to connect to server: Connection refused"})";
  EXPECT_THAT(complaint(failed), HasSubstr("unable to connect to server: Connection refused"));
  EXPECT_EQ(parse_iperf3(failed, "F", FailedRuns::kAccept).error, "unable to connect to server: Connection refused");
}

TEST(Iperf3, ReadsBothSides) {
  const auto client = parse_iperf3(Scenario().iperf3(false), "client");
  EXPECT_FALSE(client.is_server);
  EXPECT_EQ(client.version, "iperf 3.12");
  EXPECT_EQ(client.congestion_control, "cubic");
  ASSERT_THAT(client.streams, SizeIs(1));
  const auto& stream = client.streams[0];
  EXPECT_TRUE(stream.sender);
  EXPECT_EQ(stream.local_address, "10.77.0.1");
  EXPECT_EQ(stream.peer_port, 5201);
  EXPECT_EQ(stream.sent_bytes, static_cast<std::uint64_t>(written(kRunUs)));
  ASSERT_THAT(stream.intervals, SizeIs(kIntervals));
  EXPECT_EQ(stream.intervals[0].end_us, 250'070);
  EXPECT_EQ(stream.intervals[0].value("rtt"), static_cast<std::uint64_t>(rtt(250'070)));
  EXPECT_EQ(stream.intervals[0].value("reorder"), std::nullopt);
  const auto server = parse_iperf3(Scenario().iperf3(true), "server");
  EXPECT_TRUE(server.is_server);
  EXPECT_FALSE(server.streams.at(0).sender);
}

}  // namespace
}  // namespace validation
