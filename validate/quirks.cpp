// SPDX-License-Identifier: BSD-2-Clause
#include "quirks.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <set>
#include <utility>

#include <fmt/format.h>

namespace validation {

using tcpinfo::Field;
using tcpinfo::Record;
using tcpinfo::SourceId;

namespace {

template <class Test>
bool any_stream(const Iperf3Result& result, Test test) {
  return std::any_of(result.streams.begin(), result.streams.end(), test);
}

template <class Test>
bool any_interval(const Iperf3Result& result, Test test) {
  return any_stream(result, [&](const Iperf3Stream& stream) {
    return std::any_of(stream.intervals.begin(), stream.intervals.end(),
                       [&](const Iperf3Interval& interval) { return test(stream, interval); });
  });
}

class Finder {
 public:
  Finder(const std::vector<Run>& runs, const std::vector<SourceRecords>& sources,
         const std::vector<const Answers*>& answers)
      : runs_(runs), sources_(sources), answers_(answers) {}

  std::vector<std::string> operator()(bool placed_in_time) {
    if (placed_in_time) say("the start of the run is told in whole seconds: it was found from the readings themselves");
    count_cookies();
    count_control_connections();
    find_handshakes();
    count_answers();
    for (const auto& run : runs_) look_at(run);
    return std::move(quirks_);
  }

 private:
  template <class... T>
  void say(fmt::format_string<T...> text, T&&... arguments) {
    auto sentence = fmt::format(text, std::forward<T>(arguments)...);
    // Once for all runs that have it.
    if (std::find(quirks_.begin(), quirks_.end(), sentence) == quirks_.end()) quirks_.push_back(std::move(sentence));
  }

  void count_cookies() {
    std::size_t connections = 0;
    for (const auto& run : runs_)
      for (const auto& endpoint : run.endpoints) connections += endpoint.cookie_bytes() > 0 && endpoint.stream->sender;
    if (connections > 0)
      say("each data connection begins with {} bytes that are in no count (the client's random name): taken off {} of "
          "them",
          kCookieBytes, connections);
  }

  // To the port of the streams, from a port that is of none.
  void count_control_connections() {
    std::set<std::pair<std::uint16_t, std::uint64_t>> found;
    for (const auto& run : runs_)
      for (const auto& endpoint : run.endpoints) {
        const auto& stream = *endpoint.stream;
        const auto server_port = endpoint.connects ? stream.peer_port : stream.local_port;
        for (const auto& source : sources_)
          for (const auto& raw : source.records)
            if (raw.peer_port == server_port && raw.local_port != 0 && !is_of_a_stream(raw.local_port, server_port))
              found.emplace(raw.local_port, raw.cookie);
      }
    if (!found.empty())
      say("{} control connection{} to the same port {} not compared: iperf3 tells nothing of {}", found.size(),
          found.size() == 1 ? "" : "s", found.size() == 1 ? "was" : "were", found.size() == 1 ? "it" : "them");
  }

  bool is_of_a_stream(std::uint16_t client_port, std::uint16_t server_port) const {
    for (const auto& run : runs_)
      for (const auto& endpoint : run.endpoints) {
        const auto& stream = *endpoint.stream;
        const auto of_client = endpoint.connects ? stream.local_port : stream.peer_port;
        const auto of_server = endpoint.connects ? stream.peer_port : stream.local_port;
        if (of_client == client_port && of_server == server_port) return true;
      }
    return false;
  }

  void find_handshakes() {
    Value again = 0;
    for (const auto& run : runs_)
      for (const auto& endpoint : run.endpoints) {
        if (!endpoint.stream->sender) continue;
        Value most = 0;
        for (const auto& source : sources_)
          for (const auto& raw : source.records)
            if (belongs(Record(raw), endpoint) && number(&raw, Field::bytes_sent) == Value{0})
              most = std::max(most, number(&raw, Field::total_retrans).value_or(0));
        again += most;
      }
    if (again > 0)
      say("retransmits of the first interval include {} of the handshake: compared from the beginning of the "
          "connection",
          again);
  }

  void count_answers() {
    std::size_t unprinted = 0, after_omit = 0;
    for (const auto* answers : answers_) {
      unprinted += answers->more_than_printed;
      after_omit += answers->omitted.has_value();
    }
    if (unprinted > 0)
      say("an interval of {} stream{} was read and not printed, as it was short and without data: it counts for the "
          "figures of the end",
          unprinted, unprinted == 1 ? "" : "s");
    if (after_omit > 0)
      say("tcp_info of {} stream{} was read once more when --omit was over: iperf3 counts from that reading",
          after_omit, after_omit == 1 ? "" : "s");
  }

  void look_at(const Run& run) {
    const auto& result = *run.result;
    const std::string_view side = result.is_server ? "server" : "client";
    const auto sends = [](const Iperf3Stream& stream) { return stream.sender; };
    const bool sender = any_stream(result, sends);
    const bool receiver = any_stream(result, [](const Iperf3Stream& stream) { return !stream.sender; });
    if (!result.error.empty()) say("the {} ended with an error: {}", side, result.error);
    if (any_interval(result, [](const auto&, const Iperf3Interval& interval) { return interval.omitted; }))
      say("the {}'s times and bytes begin again at 0 when --omit is over: bytes are compared by what iperf3 was "
          "answered "
          "only",
          side);
    if (result.repeated_intervals)
      say("the {} printed its last interval twice, as it was interrupted: taken once", side);
    if (sender && receiver)
      say("the {} sends on some streams and receives on others (--bidir): told apart by \"sender\" of each interval",
          side);
    else if (receiver && !result.is_server)
      say("the {}'s intervals have no TCP figures, as the server sends (-R): compared with those of the server's "
          "result",
          side);
    if (any_interval(result, [](const auto&, const Iperf3Interval& i) { return i.value("snd_cwnd").has_value(); }))
      say("snd_cwnd of the {} is in bytes: compared with snd_cwnd times snd_mss", side);
    if (result.threaded)
      say("{} of the {} writes on while it reads its counts, and what is written meanwhile is in no interval: the sums "
          "of "
          "intervals are bounds from below, the totals exact",
          result.version, side);
    if (sender) find_missing(result, side);
    for (const auto& endpoint : run.endpoints)
      if (!endpoint.cookies.empty())
        say("{} of the {} has the ports of another run: its sockets are told by the order in which they were seen",
            describe(*endpoint.stream), side);
  }

  void find_missing(const Iperf3Result& result, std::string_view side) {
    std::string missing;
    for (const auto& field : tcpinfo::fields()) {
      if (field.iperf3.empty() || field.kind == tcpinfo::Kind::identity || field.rule == tcpinfo::Rule::none) continue;
      const bool printed = any_interval(result, [&](const Iperf3Stream& stream, const Iperf3Interval& interval) {
        return stream.sender && interval.value(field.iperf3).has_value();
      });
      if (!printed) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", field.iperf3);
    }
    if (!missing.empty()) say("{} of the {} prints no {}: not compared", result.version, side, missing);
  }

  const std::vector<Run>& runs_;
  const std::vector<SourceRecords>& sources_;
  const std::vector<const Answers*>& answers_;
  std::vector<std::string> quirks_;
};

}  // namespace

std::vector<std::string> find_quirks(const std::vector<Run>& runs, const std::vector<SourceRecords>& sources,
                                     const std::vector<const Answers*>& answers, bool placed_in_time) {
  return Finder(runs, sources, answers)(placed_in_time);
}

}  // namespace validation
