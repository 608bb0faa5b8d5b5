// SPDX-License-Identifier: BSD-2-Clause
#include "compare.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <rapidjson/document.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>
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
using namespace std::chrono_literals;

constexpr int kIntervals = 20;
constexpr std::int64_t kRunUs = kIntervals * 250'000;

// One stream, 200 Mbit/s, everything a smooth function of the time since the client's start.
std::int64_t written(std::int64_t us) { return std::clamp<std::int64_t>(us, 0, kRunUs) * 25; }
std::int64_t read_by_server(std::int64_t us) { return written(us - 10'000); }
std::int64_t retransmitted(std::int64_t us) { return us <= 0 ? 0 : 1 + us / 110'000; }
std::int64_t rtt(std::int64_t us) { return 20'000 + us / 500; }
std::int64_t min_rtt(std::int64_t us) { return 19'000 - us / 2000; }
std::int64_t cwnd(std::int64_t us) { return 100 + us / 100'000; }

struct Scenario {
  int streams = 1;
  std::string family = "10.77.0.";
  std::int64_t still_from = 10 * kRunUs;  // nothing is written, sent or received any more
  std::int64_t omit_us = 0;               // iperf3 counts from here on; a whole number of intervals

  std::int64_t when(std::int64_t us) const { return std::min(us, still_from); }
  static std::int64_t end_of(int interval, int stream) {
    return interval == 0 ? std::int64_t{0} : interval * 250'000 + interval % 3 * 70 + 11 * stream;
  }
  // iperf3 reads once more when the time to be omitted is over.
  static constexpr std::int64_t kResetLaterUs = 40;

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
      std::int64_t sum = 0;
      for (int i = 1; i <= kIntervals; ++i) sum += rtt(when(end_of(i, s)));
      const auto last = when(end_of(kIntervals, s)), restart = omit_us > 0 ? when(omitted_at(s)) : 0;
      const auto own =
          fmt::format(R"("retransmits":{},"max_snd_cwnd":{},"max_snd_wnd":{},"max_rtt":{},"min_rtt":{},"mean_rtt":{})",
                      retransmitted(last) - retransmitted(restart), cwnd(last) * 1448, 3'000'000 + last / 10, rtt(last),
                      rtt(when(end_of(1, s))), sum / kIntervals);
      join(
          totals,
          fmt::format(R"({{"sender":{{"socket":{0},"bytes":{1},{3}}},"receiver":{{"socket":{0},"bytes":{2}}}}})", 5 + s,
                      server ? 0 : written(last) - written(restart), read_by_server(when(kRunUs + 10'000)), own));
    }
    for (int i = 1; i <= kIntervals; ++i) {
      std::string list;
      for (int s = 0; s < streams; ++s) {
        const auto to = end_of(i, s);
        const bool omitted = to - 1000 <= omit_us;
        const bool restarted = omit_us > 0 && !omitted && end_of(i - 1, s) - 1000 <= omit_us;
        const auto from = restarted ? end_of(i - 1, s) + kResetLaterUs : end_of(i - 1, s);
        const auto shown = static_cast<double>(omitted || omit_us == 0 ? to : to - omit_us - kResetLaterUs) / 1e6;
        const bool first = i == 1;
        if (server) {
          const auto counted = [&](std::int64_t us) { return read_by_server(when(us + kServerLaterUs)); };
          join(list, fmt::format(R"({{"socket":{},"end":{:.6f},"bytes":{},"omitted":{},"sender":false}})", 5 + s, shown,
                                 counted(to) - (first ? 0 : counted(from)), omitted));
        } else {
          join(
              list,
              fmt::format(
                  R"({{"socket":{},"end":{:.6f},"bytes":{},"retransmits":{},"snd_cwnd":{},"snd_wnd":{},"rtt":{},"rttvar":{},"pmtu":1500,"omitted":{},"sender":true}})",
                  5 + s, shown, written(when(to)) - written(when(from)),
                  retransmitted(when(to)) - (first ? 0 : retransmitted(when(from))), cwnd(when(to)) * 1448,
                  3'000'000 + when(to) / 10, rtt(when(to)), 500 + when(to) / 10'000, omitted));
        }
      }
      join(intervals, fmt::format(R"({{"streams":[{}],"sum":{{}}}})", list));
    }
    return fmt::format(
        R"({{"start":{{"connected":[{}],"version":"iperf 3.12","system_info":"Linux test","timestamp":{{"timesecs":1}},{},"test_start":{{"protocol":"TCP","reverse":0}}}},"intervals":[{}],"end":{{"streams":[{}],"sender_tcp_congestion":"cubic"}}}})",
        connected, server ? R"("accepted_connection":{})" : R"("connecting_to":{})", intervals, totals);
  }

  std::int64_t omitted_at(int stream) const {
    int i = 0;
    while (end_of(i + 1, stream) - 1000 <= omit_us) ++i;
    return end_of(i, stream) + kResetLaterUs;
  }

  /// What iperf3 was answered of every stream, each answer with its twin.
  std::vector<tcpinfo_record> answers() const {
    std::vector<tcpinfo_record> result;
    for (int s = 0; s < streams; ++s)
      for (const bool server : {false, true}) {
        std::vector<std::int64_t> times;
        for (int i = 1; i <= kIntervals; ++i) times.push_back(end_of(i, s) + (server ? kServerLaterUs : 0));
        if (omit_us > 0 && !server) times.push_back(omitted_at(s));
        for (const auto us : times) {
          result.push_back(record(tcpinfo::SourceId::kGetsockopt, s, server, us, false));
          result.push_back(record(tcpinfo::SourceId::kSockops, s, server, us, false));
          tcpinfo::set_number(result.back(), tcpinfo::Field::swept, 1);
        }
      }
    return result;
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
    us = when(us);
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
    set(Field::min_rtt, min_rtt(us));
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
  std::vector<tcpinfo_record> sockops, inet_diag, iter, answers;

  void gather() {
    sockops = scenario.records(tcpinfo::SourceId::kSockops, 10'000);
    inet_diag = scenario.records(tcpinfo::SourceId::kInetDiag, 20'000);
    iter = scenario.records(tcpinfo::SourceId::kIter, 20'000);
    answers = scenario.answers();
  }

  void SetUp() override { gather(); }

  std::chrono::seconds min_rtt_window{300};

  Verdict verdict() {
    Input input;
    input.min_rtt_window = min_rtt_window;
    input.results.push_back(parse_iperf3(scenario.iperf3(false), "client"));
    input.results.push_back(parse_iperf3(scenario.iperf3(true), "server"));
    input.sources = {{tcpinfo::SourceId::kSockops, sockops}, {tcpinfo::SourceId::kInetDiag, inet_diag}};
    if (!iter.empty()) input.sources.push_back({tcpinfo::SourceId::kIter, iter});
    if (!answers.empty()) input.sources.push_back({tcpinfo::SourceId::kGetsockopt, answers});
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

  static std::uint64_t compared(const Verdict& verdict, std::string_view source, std::string_view method) {
    std::uint64_t sum = 0;
    for (const auto& c : verdict.comparisons)
      if (c.source == source && c.method == method && c.iperf3.empty()) sum += c.compared;
    return sum;
  }

  static const Comparison* find_end(const Verdict& verdict, std::string_view source, std::string_view iperf3) {
    const auto found = std::find_if(verdict.comparisons.begin(), verdict.comparisons.end(),
                                    [&](const Comparison& c) { return c.source == source && c.iperf3 == iperf3; });
    return found == verdict.comparisons.end() ? nullptr : &*found;
  }

  static std::vector<std::string> failed(const Verdict& verdict) {
    std::vector<std::string> result;
    for (const auto& c : verdict.comparisons)
      if (!c.passed) result.push_back(c.source + " " + c.field);
    return result;
  }
};

/// Without what iperf3 was answered: the byte ledger alone.
class Ledger : public Compare {
 protected:
  void SetUp() override {
    Compare::SetUp();
    answers.clear();
    iter.clear();
  }
};

TEST_F(Ledger, AgreesWithItself) {
  const auto v = verdict();
  EXPECT_THAT(v.failures, IsEmpty());
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

TEST_F(Compare, TheLeastRoundTripNeverRisesInAYoungConnection) {
  const auto sound = verdict();
  EXPECT_THAT(sound.failures, IsEmpty());
  ASSERT_NE(find(sound, "inet_diag", "min_rtt", "bracket"), nullptr);
  EXPECT_GT(find(sound, "inet_diag", "min_rtt", "bracket")->compared, 100u);
  change(inet_diag, tcpinfo::Field::min_rtt, [](auto value) { return value + 200; });
  const auto v = verdict();
  ASSERT_FALSE(v.failures.empty());
  EXPECT_THAT(v.failures.front(), testing::StartsWith("inet_diag: min_rtt of the sender"));
  min_rtt_window = 2s;
  const auto forgotten = verdict();
  EXPECT_EQ(find(forgotten, "inet_diag", "min_rtt", "bracket"), nullptr) << "it may have risen";
}

// A timer that is late is followed at once by the next one: iperf3 reads twice and prints one interval.
TEST_F(Compare, AReadingRightAfterALateOneIsOfNoInterval) {
  auto doubled = answers;
  for (const auto& answer : answers)
    if (const auto us = static_cast<std::int64_t>((answer.time_ns - kStartNs) / 1000);
        us >= Scenario::end_of(7, 0) && us < Scenario::end_of(7, 0) + kServerLaterUs + 1000) {
      doubled.push_back(answer);
      doubled.back().time_ns += 50'000;
    }
  ASSERT_EQ(doubled.size(), answers.size() + 4) << "an answer and its twin of each end";
  answers = doubled;
  const auto v = verdict();
  // The reading counts for the mean, which this iperf3 has not heard of.
  for (const auto& failure : v.failures) EXPECT_THAT(failure, HasSubstr("mean_rtt"));
  EXPECT_THAT(v.quirks, testing::Contains(HasSubstr("read and not printed")));
  std::uint64_t exact = 0;
  for (const auto& comparison : v.comparisons)
    if (comparison.field == "rtt" && comparison.iperf3 == "rtt") exact = comparison.agreed;
  EXPECT_EQ(exact, static_cast<std::uint64_t>(kIntervals));

  // Where something was written before it, it is an answer too many.
  for (auto& answer : answers)
    if (&answer >= &answers[answers.size() - 4] && answer.bytes_sent > 0) answer.bytes_sent += 1448;
  EXPECT_THAT(verdict().failures, testing::Contains(HasSubstr("iperf3 printed no interval")));
}

TEST_F(Compare, AgreesWithItself) {
  const auto v = verdict();
  EXPECT_THAT(v.failures, IsEmpty());
  for (const char* field : {"rtt", "rttvar", "snd_cwnd", "snd_wnd", "pmtu", "total_retrans", "bytes_sent"}) {
    const auto* c = find(v, "getsockopt", field, "exact");
    ASSERT_NE(c, nullptr) << field;
    EXPECT_EQ(c->compared, 20u) << field;
    EXPECT_EQ(c->agreed, 20u) << field;
    if (tcpinfo::find_field(field)->kind == tcpinfo::Kind::gauge && field != std::string_view("pmtu")) {
      EXPECT_EQ(c->control_agreed, 0u) << field;
    }
  }
  for (const char* end : {"end.bytes", "end.retransmits", "end.max_snd_cwnd", "end.max_snd_wnd", "end.max_rtt",
                          "end.min_rtt", "end.mean_rtt"}) {
    ASSERT_NE(find_end(v, "getsockopt", end), nullptr) << end;
    EXPECT_EQ(find_end(v, "getsockopt", end)->compared, 1u) << end;
  }
  EXPECT_GE(compared(v, "getsockopt", "twin"), 20u * 6);
  for (const char* source : {"sockops", "inet_diag", "iter"}) {
    EXPECT_GE(compared(v, source, "bracket"), 250u * 4) << source;
    EXPECT_GE(compared(v, source, "equal"), 220u * 2) << source;
    EXPECT_GE(compared(v, source, "others"), 250u * 4) << source;
    EXPECT_GE(compared(v, source, "alike"), 200u) << source;
    for (const char* field : {"bytes_sent", "bytes_retrans", "total_retrans", "bytes_received"})
      EXPECT_GE(find(v, source, field, "others")->compared, 200u) << source << " " << field;
  }
}

/// One unit more in one place, a field at a time.
class OneUnit : public Compare, public testing::WithParamInterface<tcpinfo::Field> {
 protected:
  void last_ack_came(std::uint64_t ms_ago) {
    for (auto* records : {&sockops, &inet_diag, &iter, &answers})
      for (auto& record : *records) tcpinfo::set_number(record, tcpinfo::Field::last_ack_recv, ms_ago);
  }
  static std::vector<tcpinfo_record> with_fault(std::vector<tcpinfo_record> records,
                                                const std::function<bool(const tcpinfo_record&)>& where) {
    bool done = false;
    for (auto& record : records)
      if (!done && record.time_ns > kStartNs + 2'600'000'000 && record.local_port == 40'000 && where(record)) {
        tcpinfo::set_number(record, GetParam(), *tcpinfo::Record(record).number(GetParam()) + 1);
        done = true;
      }
    return records;
  }
};

TEST_P(OneUnit, InAnAnswerIsFound) {
  last_ack_came(8);
  const auto sound = answers;
  answers = with_fault(sound, [](const auto& r) { return r.source == TCPINFO_SOURCE_GETSOCKOPT; });
  auto v = verdict();
  EXPECT_THAT(failed(v), Contains(testing::StartsWith("getsockopt"))) << "iperf3 printed something else";
  EXPECT_THAT(v.failures, Not(IsEmpty()));

  answers = with_fault(sound, [](const auto& r) { return r.source == TCPINFO_SOURCE_SOCKOPS; });
  v = verdict();
  const bool counts = tcpinfo::info(GetParam()).kind == tcpinfo::Kind::counter;
  // A twin with another count is one beside which a packet came: not one that can be compared.
  if (!counts) {
    EXPECT_THAT(failed(v), ElementsAre("getsockopt " + std::string(tcpinfo::info(GetParam()).name)));
  }
}

TEST_P(OneUnit, InASampleOfAStillSocketIsFound) {
  scenario.still_from = 2'000'000;
  gather();
  last_ack_came(8);
  for (auto& record : sockops)
    if (record.time_ns / 10'000'000 % 3 == 0 && record.event == TCPINFO_EVENT_SAMPLE)
      tcpinfo::set_number(record, tcpinfo::Field::swept, 1);
  const auto sound = verdict();
  EXPECT_THAT(sound.failures, IsEmpty());
  const bool counts = tcpinfo::info(GetParam()).kind == tcpinfo::Kind::counter;
  if (!counts && GetParam() != tcpinfo::Field::notsent_bytes) {
    const auto name = tcpinfo::info(GetParam()).name;
    EXPECT_GE(find(sound, "sockops", name, "still")->compared, 60u);
    EXPECT_GE(find(sound, "inet_diag", name, "still")->compared, 100u);
    EXPECT_GE(find(sound, "iter", name, "still")->compared, 100u);
  }
  if (GetParam() == tcpinfo::Field::notsent_bytes) return;  // moves by the application's writing
  for (const std::string source : {"sockops", "inet_diag", "iter"}) {
    auto& records = source == "sockops" ? sockops : source == "iter" ? iter : inet_diag;
    const auto before = records;
    records = with_fault(before, [&](const auto& r) { return source != "sockops" || r.swept == 1; });
    const auto v = verdict();
    const auto blamed = source + " " + std::string(tcpinfo::info(GetParam()).name);
    // The byte ledger is made of three fields.
    EXPECT_THAT(failed(v), AllOf(Contains(blamed), Each(testing::AnyOf(blamed, source + " bytes_sent"))));
    ASSERT_THAT(v.failures, Not(IsEmpty()));
    EXPECT_THAT(v.failures.front(), testing::StartsWith(source + ": " + std::string(tcpinfo::info(GetParam()).name)));
    records = before;
  }
}

// The kernel reads the congestion window before it takes the socket's lock for the rest: an ACK may come in between.
TEST_P(OneUnit, OfWhatIsReadWithoutTheLockIsNotBlamedWhereAnAckCameJustThen) {
  last_ack_came(0);
  answers = with_fault(answers, [](const auto& r) { return r.source == TCPINFO_SOURCE_SOCKOPS; });
  EXPECT_EQ(failed(verdict()).empty(),
            GetParam() == tcpinfo::Field::snd_cwnd || tcpinfo::info(GetParam()).kind == tcpinfo::Kind::counter);
}

INSTANTIATE_TEST_SUITE_P(Fields, OneUnit,
                         testing::Values(tcpinfo::Field::rtt, tcpinfo::Field::rttvar, tcpinfo::Field::snd_cwnd,
                                         tcpinfo::Field::snd_mss, tcpinfo::Field::snd_wnd, tcpinfo::Field::pmtu,
                                         tcpinfo::Field::total_retrans, tcpinfo::Field::bytes_sent,
                                         tcpinfo::Field::bytes_retrans, tcpinfo::Field::notsent_bytes),
                         [](const auto& i) { return std::string(tcpinfo::info(i.param).name); });

TEST_F(Compare, BlamesEachFigureOfTheEnd) {
  for (const std::string figure :
       {"bytes", "retransmits", "max_snd_cwnd", "max_snd_wnd", "max_rtt", "min_rtt", "mean_rtt"}) {
    auto json = scenario.iperf3(false);
    const auto end = json.find(R"("end":{"streams")");
    const auto at = json.find("\"" + figure + "\":", end) + figure.size() + 3;
    const auto number = std::stoll(json.substr(at));
    json.replace(at, std::to_string(number).size(), std::to_string(number + 1));
    Input input;
    input.results.push_back(parse_iperf3(json, "client"));
    input.sources = {{tcpinfo::SourceId::kGetsockopt, answers}};
    const auto v = compare(input);
    EXPECT_THAT(v.failures, ElementsAre(HasSubstr("iperf3's end." + figure))) << figure;
  }
}

TEST_F(Compare, ASampleAheadInOneCounterAndBehindInAnotherIsFound) {
  iter.clear();  // the others must not know better
  // Read between the moment of an answer and its stamp, or so it claims: it may be on either side of it.
  auto& answer = *std::find_if(answers.begin(), answers.end(), [](const auto& r) {
    return r.source == TCPINFO_SOURCE_GETSOCKOPT && r.local_port == 40'000 && r.time_ns > kStartNs + 2'600'000'000;
  });
  auto sample = scenario.record(tcpinfo::SourceId::kSockops, 0, false,
                                static_cast<std::int64_t>((answer.time_ns - kStartNs) / 1000) - 1, false);
  sockops.push_back(sample);
  EXPECT_THAT(verdict().failures, IsEmpty());
  sockops.back().bytes_retrans = answer.bytes_retrans + 1448;
  sockops.back().bytes_sent = answer.bytes_sent + 1448;
  EXPECT_THAT(verdict().failures, IsEmpty()) << "after it";
  sockops.back().bytes_retrans = answer.bytes_retrans - 1448;
  EXPECT_THAT(failed(verdict()), AllOf(Contains("sockops bytes_sent"), Contains("sockops bytes_retrans")));
}

TEST_F(Compare, BlamesAnAnswerThatIsMissing) {
  const auto gone = std::find_if(answers.begin(), answers.end(), [](const auto& r) {
    return r.source == TCPINFO_SOURCE_GETSOCKOPT && r.local_port == 40'000;
  });
  answers.erase(gone);
  EXPECT_THAT(verdict().failures, Contains(HasSubstr("iperf3 was answered 19 times of stream 5")));
  answers.clear();
  answers.push_back(scenario.record(tcpinfo::SourceId::kGetsockopt, -1, false, 0, false));
  EXPECT_THAT(verdict().failures, Contains(HasSubstr("none of the figures of the client's result was compared")));
}

TEST_F(Compare, AnAnswerBeyondThePrintedIntervalsIsOneWithoutData) {
  auto more = scenario.record(tcpinfo::SourceId::kGetsockopt, 0, false, Scenario::end_of(kIntervals, 0), false);
  more.time_ns += 1000;
  answers.push_back(more);
  EXPECT_THAT(verdict().failures, ElementsAre(HasSubstr("mean_rtt"))) << "it counts for the mean";
  answers.back().bytes_sent += 1;
  EXPECT_THAT(verdict().failures, Contains(HasSubstr("though 1 bytes were written")));
}

TEST_F(Compare, CountsFromWhereOmitEnds) {
  scenario.omit_us = 1'000'000;
  gather();
  const auto sound = verdict();
  EXPECT_THAT(sound.failures, IsEmpty());
  EXPECT_EQ(find(sound, "getsockopt", "bytes_sent", "exact")->compared, 20u);
  EXPECT_EQ(find(sound, "getsockopt", "total_retrans", "exact")->compared, 20u);
  EXPECT_THAT(
      sound.comparisons,
      Not(Contains(testing::Truly([](const Comparison& c) { return c.source == "sockops" && !c.iperf3.empty(); }))));
  EXPECT_NEAR(static_cast<double>(sound.alignments.front().start_boot_ns), static_cast<double>(kStartNs), 2000);
  // The reading at its end is what iperf3 counts from.
  for (auto& answer : answers)
    if (answer.source == TCPINFO_SOURCE_GETSOCKOPT && answer.local_port == 40'000 &&
        answer.time_ns == kStartNs + static_cast<std::uint64_t>(scenario.omitted_at(0)) * 1000 + 300)
      answer.bytes_sent += 1;
  EXPECT_THAT(verdict().failures, Contains(HasSubstr("iperf3's end.bytes")));
}

TEST_F(Ledger, FindsWhenIperf3StartedAndWhichSocketsItUsed) {
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
  EXPECT_EQ(find(v, "getsockopt", "rtt", "exact")->compared, 4 * 20u);
  EXPECT_THAT(v.streams, SizeIs(4));
}

TEST_F(Ledger, MappedAddressesAreIpv4) {
  auto json = scenario.iperf3(true);
  for (std::size_t at = 0; (at = json.find("\"10.77.0.", at)) != std::string::npos; at += 10)
    json.insert(at + 1, "::ffff:");
  Input input;
  input.results.push_back(parse_iperf3(scenario.iperf3(false), "client"));
  input.results.push_back(parse_iperf3(json, "server"));
  input.sources = {{tcpinfo::SourceId::kSockops, sockops}};
  EXPECT_THAT(compare(input).failures, IsEmpty());
}

TEST_F(Compare, BlamesTheSourceWhoseClockIsLate) {
  for (const std::string source : {"sockops", "inet_diag", "iter"}) {
    auto& records = source == "sockops" ? sockops : source == "iter" ? iter : inet_diag;
    const auto sound = records;
    change(records, tcpinfo::Field::time_ns, [](auto value) { return value + 50'000'000; });
    const auto v = verdict();
    EXPECT_THAT(failed(v), AllOf(Contains(source + " bytes_sent"), Each(testing::StartsWith(source))));
    EXPECT_THAT(v.failures, Contains(AllOf(HasSubstr("place the start of the client's result"),
                                           HasSubstr("the times of " + source + " are wrong"))));
    records = sound;
  }
  // That the answers of one interval are not later than those of the next is all that is known of how late they are.
  change(answers, tcpinfo::Field::time_ns, [](auto value) { return value + 300'000'000; });
  const auto v = verdict();
  EXPECT_THAT(v.failures, Each(testing::StartsWith("getsockopt: ")));
  EXPECT_THAT(v.failures, Contains(HasSubstr("getsockopt: bytes_sent of the sender differs from what two other")));
}

TEST_F(Compare, BlamesACookieThatIsNotTheSocketsOwn) {
  change(iter, tcpinfo::Field::cookie, [](auto value) { return value + 1; });
  EXPECT_THAT(failed(verdict()), ElementsAre("iter cookie", "iter cookie"));
}

TEST_F(Compare, BlamesAConstantThatDiffers) {
  change(sockops, tcpinfo::Field::pmtu, [](auto) { return 1492; });
  EXPECT_THAT(failed(verdict()), ElementsAre("sockops pmtu", "sockops pmtu"));
}

TEST_F(Ledger, BlamesOneRetransmissionTooMany) {
  change(sockops, tcpinfo::Field::total_retrans, [](auto value) { return value > 20 ? value + 1 : value; });
  const auto v = verdict();
  EXPECT_THAT(failed(v), ElementsAre("sockops total_retrans"));
  EXPECT_EQ(find(v, "sockops", "total_retrans", "bracket")->largest_difference, 1);
}

TEST_F(Ledger, BlamesBytesThatAreOffByOnePercent) {
  change(sockops, tcpinfo::Field::bytes_sent, [](auto value) { return value * 101 / 100; });
  const auto v = verdict();
  EXPECT_THAT(failed(v), Contains("sockops bytes_sent"));
  EXPECT_THAT(failed(v), Not(Contains(HasSubstr("inet_diag rtt"))));
  EXPECT_THAT(v.failures, Contains(HasSubstr("sockops: no start of iperf3's clock suits all intervals")));
}

TEST_F(Ledger, BlamesOneByteAtTheEnd) {
  for (auto& record : sockops)
    if (record.event == TCPINFO_EVENT_CLOSE && record.local_port == 40'000) record.bytes_sent += 1;
  const auto v = verdict();
  EXPECT_THAT(failed(v), ElementsAre("sockops bytes_sent"));
  EXPECT_EQ(find(v, "sockops", "bytes_sent", "exact")->largest_difference, 1);
}

TEST_F(Ledger, DataThatArrivedAndWasNotReadIsNoError) {
  // The receiver closes early: iperf3 has read less than came, and the queue is empty in the last record.
  for (auto& record : sockops)
    if (record.event == TCPINFO_EVENT_CLOSE && record.local_port == 5201) {
      record.time_ns = kStartNs + static_cast<std::uint64_t>(kRunUs) * 1000;
      record.bytes_received = static_cast<std::uint64_t>(written(kRunUs)) + 37;
    }
  EXPECT_THAT(verdict().failures, IsEmpty());
}

TEST_F(Ledger, BlamesReceivedBytesThatNobodySent) {
  for (auto& record : sockops)
    if (record.event == TCPINFO_EVENT_CLOSE && record.local_port == 5201) record.bytes_received += 1;
  EXPECT_THAT(failed(verdict()), ElementsAre("sockops bytes_received"));
}

TEST_F(Ledger, BlamesASourceWhoseClockIsLate) {
  change(sockops, tcpinfo::Field::time_ns, [](auto value) { return value + 50'000'000; });
  const auto v = verdict();
  EXPECT_THAT(v.failures, Contains(AllOf(HasSubstr("sockops and inet_diag place the start of the client's result"),
                                         HasSubstr("apart"))));
  EXPECT_THAT(failed(v), Contains("inet_diag bytes_sent"));
}

TEST_F(Ledger, BlamesAClockThatJumpsInTheMiddle) {
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

TEST_F(Ledger, AQuantityThatCouldNotBeComparedFails) {
  for (auto& record : sockops)
    record.present[TCPINFO_FIELD_total_retrans / 64] &= ~(std::uint64_t{1} << TCPINFO_FIELD_total_retrans % 64);
  EXPECT_THAT(verdict().failures, ElementsAre(HasSubstr("sockops: total_retrans of the sender was not compared")));
}

TEST_F(Ledger, SweptSamplesDoNotCount) {
  for (auto& record : sockops)
    if (record.time_ns / 10'000'000 % 3 != 0 && record.event == TCPINFO_EVENT_SAMPLE) {
      tcpinfo::set_number(record, tcpinfo::Field::swept, 1);
      record.notsent_bytes += 1'000'000;
    }
  EXPECT_THAT(verdict().failures, IsEmpty());
}

TEST_F(Ledger, ComparingNothingFails) {
  sockops.clear();
  std::erase_if(inet_diag, [](const tcpinfo_record& record) { return record.local_port % 1000 < 100; });
  for (auto& record : inet_diag) record.local_port = 1;
  const auto v = verdict();
  EXPECT_FALSE(v.passed());
  EXPECT_THAT(v.failures, Contains(HasSubstr("nothing of sockops was compared")));
  EXPECT_THAT(v.failures, Contains(HasSubstr("nothing of inet_diag was compared")));
  EXPECT_FALSE(compare(Input{}).passed());
}

TEST_F(Ledger, SockopsAloneAndInetDiagAlone) {
  for (const bool use_sockops : {true, false}) {
    Input input;
    input.results.push_back(parse_iperf3(scenario.iperf3(false), "client"));
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
  EXPECT_THROW(parse_verdict(R"({"schema":"tcpinfo-verdict","version":1})", "test"), tcpinfo::Error);
}

// docs/verdict.md names every member that is written, and no other.
TEST_F(Compare, EveryMemberOfTheVerdictIsDocumented) {
  auto v = verdict();
  v.link.engine = "emulator";
  rapidjson::Document document;
  document.Parse(to_json(v).c_str());
  std::map<std::string, std::set<std::string>> written;
  const auto add = [&](const std::string& where, const rapidjson::Value& object) {
    for (const auto& member : object.GetObject()) written[where].insert(member.name.GetString());
  };
  add("The object", document);
  add("link", document["link"]);
  add("link.there, link.back", document["link"]["there"]);
  add("link.there, link.back", document["link"]["back"]);
  add("alignment, alignments[]", document["alignment"]);
  add("streams[]", document["streams"][0]);
  add("comparisons[]", document["comparisons"][0]);

  std::map<std::string, std::set<std::string>> documented;
  std::ifstream in(TCPINFO_VERDICT_DOCUMENT);
  std::string section, table;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("## ")) section = line.substr(3);
    if (line.starts_with("| m")) table = line.substr(2, 6);
    if (line.starts_with("| `") && table == "member") documented[section].insert(line.substr(3, line.find('`', 3) - 3));
  }
  EXPECT_EQ(documented, written);
  for (const auto& c : v.comparisons) {
    std::stringstream text;
    text << std::ifstream(TCPINFO_VERDICT_DOCUMENT).rdbuf();
    EXPECT_THAT(text.str(), HasSubstr("| `" + c.method + "` |"));
  }
}

TEST_F(Compare, TheTableSumsUpAndShowsWhatFailed) {
  change(sockops, tcpinfo::Field::pmtu, [](auto) { return 1492; });
  const auto v = verdict();
  const auto summary = to_table(v), full = to_table(v, Detail::kFull);
  const auto lines = [](const std::string& text, const std::string& what) {
    std::size_t count = 0;
    for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; ++at) ++count;
    return count;
  };
  EXPECT_EQ(lines(summary, "sockops    pmtu "), 2u) << "it failed at both ends";
  EXPECT_EQ(lines(summary, "sockops    snd_mss "), 0u);
  EXPECT_EQ(lines(summary, "inet_diag  pmtu "), 0u);
  EXPECT_EQ(lines(summary, "sockops    2 fields "), 2u) << "method equal, each end";
  EXPECT_GE(lines(full, "sockops    snd_mss "), 2u);
  EXPECT_GE(lines(full, "inet_diag  pmtu "), 2u);
  EXPECT_EQ(lines(full, " fields "), 0u);
}

TEST_F(Compare, TellsWhatIperf3SaysOfTheRun) {
  const auto v = verdict();
  ASSERT_TRUE(v.goodput_mbit && v.mean_rtt_us && v.retransmits);
  EXPECT_NEAR(*v.goodput_mbit, 200, 0.5);
  EXPECT_NEAR(static_cast<double>(*v.mean_rtt_us), 25'250, 10);
  EXPECT_EQ(*v.retransmits, 1u + kRunUs / 110'000);
}

TEST_F(Compare, QuirksAreThoseThatOccur) {
  auto v = verdict();
  EXPECT_THAT(v.quirks, Contains(HasSubstr("37 bytes that are in no count")));
  EXPECT_THAT(v.quirks, Contains(HasSubstr("1 control connection to the same port was not compared")));
  EXPECT_THAT(v.quirks, Not(Contains(HasSubstr("of the handshake"))));
  EXPECT_THAT(v.quirks, Contains("snd_cwnd of the client is in bytes: compared with snd_cwnd times snd_mss"));
  for (const char* absent : {"--omit", "--bidir", "-R", "threads", "twice", "not printed", "ports of another"})
    EXPECT_THAT(v.quirks, Not(Contains(HasSubstr(absent)))) << absent;

  sockops.push_back(scenario.record(tcpinfo::SourceId::kSockops, 0, false, 100, false));
  sockops.back().bytes_sent = 0;
  EXPECT_THAT(verdict().quirks, Contains(HasSubstr("retransmits of the first interval include 1 of the handshake")));
  scenario.omit_us = 1'000'000;
  gather();
  EXPECT_THAT(verdict().quirks, Contains(HasSubstr("read once more when --omit was over")));
  scenario.omit_us = 0;
  gather();
  change(sockops, tcpinfo::Field::local_port, [](auto port) { return port == 39'998 ? 0 : port; });
  for (auto* records : {&inet_diag, &iter, &sockops})
    std::erase_if(*records, [](const auto& r) { return r.local_port == 39'998 || r.local_port == 0; });
  EXPECT_THAT(verdict().quirks, Not(Contains(HasSubstr("control connection"))));
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
