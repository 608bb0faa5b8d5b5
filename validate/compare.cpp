// SPDX-License-Identifier: BSD-2-Clause
#include "compare.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "answers.hpp"
#include "ledger.hpp"
#include "others.hpp"
#include "path_truth.hpp"
#include "quirks.hpp"

namespace validation {
namespace {

using tcpinfo::Field;
using tcpinfo::FieldInfo;
using tcpinfo::Rule;
using tcpinfo::SourceId;

bool sends(const Iperf3Result& result) {
  return std::any_of(result.streams.begin(), result.streams.end(),
                     [](const Iperf3Stream& stream) { return stream.sender; });
}

bool has_omitted(const Iperf3Result& result) {
  return std::any_of(result.streams.begin(), result.streams.end(), [](const Iperf3Stream& stream) {
    return std::any_of(stream.intervals.begin(), stream.intervals.end(),
                       [](const Iperf3Interval& interval) { return interval.omitted; });
  });
}

bool same_address(const std::string& a, const std::string& b) {
  const auto one = tcpinfo::parse_address(a), other = tcpinfo::parse_address(b);
  return one && other ? std::equal(std::begin(one->bytes), std::end(one->bytes), std::begin(other->bytes)) : a == b;
}

/// Whether `b` is seen from the same end with the same addresses and ports: it is `a`, or of a run before or after.
bool same_ports(const Iperf3Stream& a, const Iperf3Stream& b) {
  return a.local_port == b.local_port && a.peer_port == b.peer_port && same_address(a.local_address, b.local_address) &&
         same_address(a.peer_address, b.peer_address);
}

class Comparer {
 public:
  explicit Comparer(const Input& input) : input_(input) {
    std::map<bool, std::size_t> counts, numbers;
    for (const auto& result : input.results) ++counts[result.is_server];
    for (const auto& result : input.results) {
      std::string name = result.is_server ? "server" : "client";
      if (counts[result.is_server] > 1) name += fmt::format(" {}", ++numbers[result.is_server]);
      Run side{std::move(name), &result, {}};
      for (const auto& stream : result.streams)
        side.endpoints.push_back({&stream, !result.is_server, result.threaded, {}});
      sides_.push_back(std::move(side));
    }
  }

  Verdict operator()() {
    if (sides_.empty()) {
      fail("nothing was compared: there is no result of iperf3");
    } else {
      verdict_.iperf3_version = sides_.front().result->version;
      summarize();
      tell_runs_apart();
      gather();
      identify();
      align();
      compare_answers();
      for (const auto& source : input_.sources) compare_ledger(source.source);
      compare_sources();
      compare_path();
      std::vector<const Answers*> answers;
      for (const auto& entry : answers_) answers.push_back(&entry.answers);
      verdict_.quirks = find_quirks(sides_, input_.sources, answers, !verdict_.alignments.empty());
    }
    conclude();
    return std::move(verdict_);
  }

 private:
  // What iperf3 itself says of the run.
  void summarize() {
    double bits = 0, seconds = 0, rtt = 0;
    std::size_t with_rtt = 0;
    for (const auto& side : sides_) {
      const auto& result = *side.result;
      double last = 0;
      for (const auto& stream : result.streams) {
        if (!stream.intervals.empty()) last = std::max(last, static_cast<double>(stream.intervals.back().end_us) / 1e6);
        if (!result.is_server) bits += 8 * static_cast<double>(stream.received_bytes.value_or(0));
        if (!stream.sender) continue;
        if (const auto found = stream.totals.find("mean_rtt"); found != stream.totals.end()) {
          rtt += static_cast<double>(found->second);
          ++with_rtt;
        }
        if (const auto found = stream.totals.find("retransmits"); found != stream.totals.end())
          verdict_.retransmits = verdict_.retransmits.value_or(0) + found->second;
      }
      if (!result.is_server) seconds += last;
    }
    if (bits > 0 && seconds > 0) verdict_.goodput_mbit = bits / seconds / 1e6;
    if (with_rtt > 0) verdict_.mean_rtt_us = static_cast<std::uint64_t>(rtt / static_cast<double>(with_rtt));
  }

  struct Entry {
    std::size_t side;
    Series series;
  };
  struct AnswersEntry {
    std::size_t side;
    Answers answers;
  };

  void fail(std::string text) { verdict_.failures.push_back(std::move(text)); }
  /// A failure of the byte ledger: where a field of the ledger is wrong, that one is to be named first.
  void fail_ledger(std::string text) { ledger_failures_.push_back(std::move(text)); }

  // A later run may use the ports of an earlier one again. The sockets with these ports, in the order in which they
  // were first seen by any source, are those of the runs, in the order of iperf3's start: it listens on one port, and
  // so its runs follow each other.
  void tell_runs_apart() {
    for (std::size_t a = 0; a < sides_.size(); ++a)
      for (auto& endpoint : sides_[a].endpoints) {
        std::vector<std::pair<std::int64_t, const Iperf3Stream*>> same;
        for (std::size_t b = 0; b < sides_.size(); ++b)
          for (const auto& other : sides_[b].endpoints)
            if (same_ports(*endpoint.stream, *other.stream)) same.emplace_back(sides_[b].result->start_s, other.stream);
        if (same.size() < 2) continue;
        std::stable_sort(same.begin(), same.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
        const auto sockets = sockets_with_ports(*endpoint.stream);
        const auto at = static_cast<std::size_t>(
            std::find_if(same.begin(), same.end(), [&](const auto& one) { return one.second == endpoint.stream; }) -
            same.begin());
        if (sockets.size() == same.size())
          endpoint.cookies = {sockets[at]};
        else
          fail(fmt::format("{} runs have the ports of {}, and the records have {} sockets with them", same.size(),
                           describe(*endpoint.stream), sockets.size()));
      }
  }

  std::vector<std::uint64_t> sockets_with_ports(const Iperf3Stream& stream) const {
    std::map<std::uint64_t, std::uint64_t> first_seen;
    for (const auto& source : input_.sources)
      for (const auto& raw : source.records) {
        if (raw.cookie == 0 || !has_ports(tcpinfo::Record(raw), stream)) continue;
        const auto [at, is_new] = first_seen.try_emplace(raw.cookie, raw.time_ns);
        if (!is_new) at->second = std::min<std::uint64_t>(at->second, raw.time_ns);
      }
    std::vector<std::uint64_t> sockets;
    for (const auto& [cookie, time] : first_seen) sockets.push_back(cookie);
    std::sort(sockets.begin(), sockets.end(),
              [&](std::uint64_t a, std::uint64_t b) { return first_seen.at(a) < first_seen.at(b); });
    return sockets;
  }

  void gather() {
    for (const auto& source : input_.sources)
      for (std::size_t side = 0; side < sides_.size(); ++side)
        for (const auto& endpoint : sides_[side].endpoints) {
          if (source.source == SourceId::kGetsockopt)
            gather_answers(side, find_answers(source, endpoint, sends(*sides_[side].result)));
          gather_series(side, make_series(source, endpoint), source);
        }
  }

  void gather_answers(std::size_t side, Answers answers) {
    for (const auto& problem : answers.problems) fail(fmt::format("getsockopt: {}", problem));
    if (!answers.all.empty()) answers_.push_back({side, std::move(answers)});
  }

  void gather_series(std::size_t side, Series series, const SourceRecords& source) {
    const bool answered = series.source == SourceId::kGetsockopt;
    if (series.samples.empty()) {
      if (!answered && !is_too_short(*series.stream, source))
        fail(fmt::format("{} has no record of the {} of {}", name(series.source), describe(series.end),
                         describe(*series.stream)));
      return;
    }
    if (!answered) check_series(series);
    entries_.push_back({side, std::move(series)});
  }

  // A poll sees what lives from before it began until after it ended: no stream that iperf3 used for less than twice
  // the longest time between two polls, one after the other, needs to be seen.
  static bool is_too_short(const Iperf3Stream& stream, const SourceRecords& source) {
    if (source.source == SourceId::kSockops) return false;
    std::map<std::uint32_t, Time> polls;  // of this end's namespace, by number
    for (const auto& raw : source.records)
      if (same_address(stream.local_address, tcpinfo::to_string(raw.local_address)))
        polls[raw.sequence] = time_of(&raw);
    Time longest = 0;
    for (auto at = polls.begin(); at != polls.end() && std::next(at) != polls.end(); ++at)
      if (std::next(at)->first == at->first + 1) longest = std::max(longest, std::next(at)->second - at->second);
    const auto used = stream.intervals.empty() ? 0 : stream.intervals.back().end_us * 1000;
    return used < 2 * longest;
  }

  void check_series(const Series& series) {
    std::set<std::pair<std::uint64_t, std::uint32_t>> connections;
    for (const auto& sample : series.samples) connections.emplace(sample.raw->cookie, sample.raw->generation);
    if (connections.size() > 1)
      fail(fmt::format("{} has records of {} connections with the ports of {}", name(series.source), connections.size(),
                       describe(*series.stream)));
    Value highest = -kUnbounded;
    for (const auto& sample : series.samples) {
      if (!sample.ledger || series.end != End::kSender) continue;
      if (sample.most < highest) {
        fail_ledger(fmt::format("{}: the bytes of the sender of {} went back by {}", name(series.source),
                                describe(*series.stream), highest - sample.most));
        return;
      }
      highest = sample.most;
    }
  }

  // The peer's view of the same connection: its socket opened while this one lived, so it is of the same run.
  const Iperf3Stream* other_end(const Iperf3Stream& stream) const {
    const auto opposite = [](const Iperf3Stream& a, const Iperf3Stream& b) {
      return a.local_port == b.peer_port && a.peer_port == b.local_port &&
             same_address(a.local_address, b.peer_address);
    };
    // The n-th of this end is the n-th of the other.
    std::vector<std::pair<std::int64_t, const Iperf3Stream*>> here, there;
    for (const auto& side : sides_)
      for (const auto& other : side.result->streams) {
        if (same_ports(stream, other)) here.emplace_back(side.result->start_s, &other);
        if (opposite(stream, other)) there.emplace_back(side.result->start_s, &other);
      }
    const auto sooner = [](const auto& a, const auto& b) { return a.first < b.first; };
    std::stable_sort(here.begin(), here.end(), sooner);
    std::stable_sort(there.begin(), there.end(), sooner);
    const auto at = std::find_if(here.begin(), here.end(), [&](const auto& one) { return one.second == &stream; });
    const auto n = static_cast<std::size_t>(at - here.begin());
    return here.size() == there.size() ? there[n].second : nullptr;
  }

  // By the clients' results where there are any.
  void identify() {
    const bool clients =
        std::any_of(sides_.begin(), sides_.end(), [](const Run& side) { return !side.result->is_server; });
    for (const auto& side : sides_) {
      if (clients && side.result->is_server) continue;
      for (const auto& endpoint : side.endpoints) verdict_.streams.push_back(identity_of(endpoint));
    }
  }

  StreamIdentity identity_of(const Endpoint& endpoint) const {
    const auto& stream = *endpoint.stream;
    StreamIdentity identity;
    identity.socket = stream.socket;
    identity.local_address = stream.local_address;
    identity.local_port = stream.local_port;
    identity.peer_address = stream.peer_address;
    identity.peer_port = stream.peer_port;
    // Also where iperf3's result of the other end is missing.
    Iperf3Stream reversed;
    reversed.local_address = stream.peer_address;
    reversed.peer_address = stream.local_address;
    reversed.local_port = stream.peer_port;
    reversed.peer_port = stream.local_port;
    Endpoint other{&reversed, !endpoint.connects, false, {}};
    for (const auto& side : sides_)
      for (const auto& one : side.endpoints)
        if (const auto* peer = other_end(stream); peer == one.stream) other.cookies = one.cookies;
    for (const auto& source : input_.sources)
      for (const auto& raw : source.records) {
        const tcpinfo::Record record(raw);
        if (belongs(record, endpoint)) (stream.sender ? identity.sender_cookie : identity.receiver_cookie) = raw.cookie;
        if (belongs(record, other)) (stream.sender ? identity.receiver_cookie : identity.sender_cookie) = raw.cookie;
      }
    return identity;
  }

  std::vector<const Series*> select(SourceId source, std::size_t side, End end) const {
    std::vector<const Series*> result;
    for (const auto& entry : entries_)
      if (entry.side == side && entry.series.source == source && entry.series.end == end)
        result.push_back(&entry.series);
    return result;
  }

  // Of all sides.
  std::vector<const Series*> select(SourceId source, End end) const {
    std::vector<const Series*> result;
    for (const auto& entry : entries_)
      if (entry.series.source == source && entry.series.end == end) result.push_back(&entry.series);
    return result;
  }

  // One start a side and source. Senders say more: their count is exact.
  void align() {
    for (std::size_t side = 0; side < sides_.size(); ++side) {
      std::vector<const Answers*> all;
      for (const auto end : {End::kSender, End::kReceiver})
        for (const auto* answers : answers_of(side, end)) all.push_back(answers);
      if (auto alignment = validation::find_start(all)) {
        alignment->file = sides_[side].name;
        auto& list = verdict_.alignments;
        list.insert(answers_of(side, End::kSender).empty() ? list.end() : list.begin(), std::move(*alignment));
      }
    }
    for (const auto& source : input_.sources)
      for (std::size_t side = 0; side < sides_.size(); ++side) {
        if (source.source == SourceId::kGetsockopt || has_omitted(*sides_[side].result)) continue;
        auto series = select(source.source, side, End::kSender);
        const bool senders = !series.empty();
        if (!senders) series = select(source.source, side, End::kReceiver);
        auto start = find_start(series);
        if (start.intervals == 0) continue;
        if (start.conflict > 0)
          fail_ledger(fmt::format("{}: no start of iperf3's clock suits all intervals of the {}'s result: {}",
                                  name(source.source), sides_[side].name, start.conflict_text));
        starts_.push_back({source.source, side, senders, start});
      }
    // Senders' first, then the narrower.
    std::stable_sort(starts_.begin(), starts_.end(), [](const Aligned& a, const Aligned& b) {
      if (a.senders != b.senders) return a.senders;
      return a.source == SourceId::kSockops && b.source != SourceId::kSockops;
    });
    for (const auto& aligned : starts_) {
      Alignment alignment;
      alignment.file = sides_[aligned.side].name;
      alignment.source = name(aligned.source);
      alignment.start_boot_ns = static_cast<std::uint64_t>(aligned.start.middle());
      alignment.uncertainty_ns = static_cast<std::uint64_t>((aligned.start.high - aligned.start.low + 1) / 2);
      alignment.intervals = aligned.start.intervals;
      verdict_.alignments.push_back(std::move(alignment));
    }
    for (std::size_t side = 0; side < sides_.size(); ++side) compare_starts(side);
  }

  static Time apart(const Start& a, const Start& b) { return std::max(a.low - b.high, b.low - a.high); }

  // All sources have to place iperf3 at the same time: one whose clock is off shows here. Of three, two are right.
  void compare_starts(std::size_t side) {
    const auto* best = start_of(side);
    if (!best) return;
    const auto supporters = support(side, *best);
    for (const auto& one : starts_) {
      if (one.side != side || one.start.conflict > 0 || best->start.conflict > 0) continue;
      const auto distance = apart(one.start, best->start);
      if (distance <= 0) continue;
      fail(fmt::format("{} and {} place the start of the {}'s result {} apart: the times of {} are wrong",
                       name(best->source), name(one.source), sides_[side].name, milliseconds(distance),
                       supporters > 0 ? name(one.source) : "one of them"));
    }
  }

  struct Aligned {
    SourceId source;
    std::size_t side;
    bool senders;
    Start start;
  };

  /// How many other sources can agree with it.
  std::size_t support(std::size_t side, const Aligned& start) const {
    return static_cast<std::size_t>(std::count_if(starts_.begin(), starts_.end(), [&](const Aligned& other) {
      return other.side == side && &other != &start && other.start.conflict == 0 &&
             apart(other.start, start.start) <= 0;
    }));
  }

  /// The start that most sources agree with.
  const Aligned* start_of(std::size_t side) const {
    const Aligned* best = nullptr;
    for (const auto& aligned : starts_) {
      if (aligned.side != side) continue;
      const bool better = best && (best->start.conflict > 0 ? aligned.start.conflict == 0
                                                            : support(side, aligned) > support(side, *best));
      if (!best || better) best = &aligned;
    }
    return best;
  }

  std::vector<const Answers*> answers_of(std::size_t side, End end) const {
    std::vector<const Answers*> result;
    for (const auto& entry : answers_)
      if (entry.side == side && entry.answers.end == end) result.push_back(&entry.answers);
    return result;
  }

  void append(std::vector<Comparison> comparisons) {
    std::move(comparisons.begin(), comparisons.end(), std::back_inserter(verdict_.comparisons));
  }

  void compare_answers() {
    const bool given = std::any_of(input_.sources.begin(), input_.sources.end(),
                                   [](const SourceRecords& source) { return source.source == SourceId::kGetsockopt; });
    if (!given) return;
    std::map<End, std::vector<const Answers*>> by_end;
    for (const auto& entry : answers_) by_end[entry.answers.end].push_back(&entry.answers);
    append(compare_with_iperf3(by_end[End::kSender]));
    for (std::size_t side = 0; side < sides_.size(); ++side)
      if (sends(*sides_[side].result) && answers_of(side, End::kSender).empty())
        fail(fmt::format("getsockopt: none of the figures of the {}'s result was compared", sides_[side].name));
    for (const auto end : {End::kSender, End::kReceiver}) {
      if (by_end[end].empty()) continue;
      append(compare_twins(by_end[end]));
      for (const auto& source : input_.sources) {
        if (source.source == SourceId::kGetsockopt) continue;
        std::vector<Bracketed> bracketed;
        for (const auto* series : select(source.source, end))
          for (const auto* answers : by_end[end])
            if (answers->stream == series->stream) bracketed.push_back({series, answers});
        if (bracketed.empty()) continue;
        auto comparisons = compare_samples(bracketed, input_.min_rtt_window);
        if (comparisons.empty())
          fail(fmt::format("{}: no sample of the {} lies beside what iperf3 was answered", name(source.source),
                           describe(end)));
        append(std::move(comparisons));
      }
    }
  }

  // By the bytes alone. They count from --omit's end, which only what iperf3 was answered shows.
  void compare_ledger(SourceId source) {
    if (source == SourceId::kGetsockopt) return;
    const auto without_omitted = [&](End end) {
      std::vector<const Series*> result;
      for (const auto* series : select(source, end))
        if (!has_omitted(*sides_[side_of(*series)].result)) result.push_back(series);
      return result;
    };
    const auto senders = without_omitted(End::kSender), receivers = without_omitted(End::kReceiver);
    const auto others = [this](const Iperf3Stream& stream) { return other_end(stream); };
    for (const auto& field : tcpinfo::fields()) {
      switch (field.rule) {
        case Rule::none:
        case Rule::equal:
        case Rule::times_snd_mss:
          break;  // a gauge moves between two readings: what iperf3 was answered is needed
        case Rule::ledger: {
          const auto& series = field.field == Field::bytes_sent ? senders : receivers;
          if (series.empty()) break;
          std::vector<Placed> placed;
          for (const auto* one : series)
            if (const auto* start = start_of(side_of(*one))) placed.push_back({one, &start->start});
          add(placed.empty() ? begin(source, series.front()->end, field, "bracket") : compare_bytes(placed, field),
              is_long(series) && tells_of_queue(series));
          // A poll does not see the end of a connection.
          if (source == SourceId::kSockops) add(compare_totals(series, field, others), ended_well(series));
          break;
        }
        case Rule::delta:
          if (has_readings(senders, field)) add(compare_counter(senders, field), is_long(senders));
          break;
      }
    }
  }

  std::size_t side_of(const Series& series) const {
    return std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return &entry.series == &series; })
        ->side;
  }

  /// Whether an interval ends between others: at the last end, and in short runs there is no other, all is sent, and no
  /// later sample has more bytes.
  static bool is_long(const std::vector<const Series*>& all) {
    return std::any_of(all.begin(), all.end(),
                       [](const Series* series) { return series->stream->intervals.size() > 2 && !series->threaded; });
  }

  /// Without the receive queue nothing is known of what was read of what had arrived.
  static bool tells_of_queue(const std::vector<const Series*>& all) {
    return std::any_of(all.begin(), all.end(), [](const Series* series) {
      return series->end == End::kSender || series->samples.front().record().skmem_rmem_alloc().has_value();
    });
  }

  bool ended_well(const std::vector<const Series*>& all) const {
    return std::all_of(all.begin(), all.end(),
                       [this](const Series* series) { return sides_[side_of(*series)].result->error.empty(); });
  }

  // Each source with the others.
  void compare_sources() {
    for (const auto end : {End::kSender, End::kReceiver}) {
      std::map<const Iperf3Stream*, Seen> streams;
      for (const auto& entry : entries_)
        if (entry.series.end == end) streams[entry.series.stream].push_back(&entry.series);
      std::vector<Seen> all;
      for (auto& [stream, seen] : streams) all.push_back(std::move(seen));
      for (const auto& source : input_.sources) append(compare_with_others(source.source, end, all, input_.min_rtt_window));
    }
  }

  void compare_path() {
    verdict_.link = input_.link;
    std::vector<OnPath> all;
    for (const auto& entry : entries_) all.push_back({&entry.series, !sides_[entry.side].result->is_server});
    std::string client;
    for (const auto& side : sides_)
      for (const auto& stream : side.result->streams)
        client = side.result->is_server ? stream.peer_address : stream.local_address;
    std::span<const tcpinfo_record> sockops;
    for (const auto& source : input_.sources)
      if (source.source == SourceId::kSockops) sockops = source.records;
    auto truth = compare_with_path(input_.link, all, client, sockops);
    append(std::move(truth.comparisons));
    std::move(truth.remarks.begin(), truth.remarks.end(), std::back_inserter(verdict_.remarks));
  }

  // A quantity that iperf3 gives and that could not be compared is no success.
  void add(Comparison comparison, bool expected) {
    if (comparison.compared > 0)
      verdict_.comparisons.push_back(std::move(comparison));
    else if (expected)
      fail_ledger(
          fmt::format("{}: {} of the {} was not compared ({}): no record just before and just after iperf3's readings; record more often, as tcpinfo watch --interval 0 does",
                      comparison.source, comparison.field, comparison.end, comparison.method));
  }

  static bool has_readings(const std::vector<const Series*>& all, const FieldInfo& field) {
    return std::any_of(all.begin(), all.end(), [&](const Series* series) {
      return std::any_of(series->stream->intervals.begin(), series->stream->intervals.end(),
                         [&](const Iperf3Interval& interval) { return interval.value(field.iperf3).has_value(); });
    });
  }

  /// Whether other readings stand against the answers themselves, so that nothing follows from a difference to them.
  bool is_in_doubt(const std::string& end, const std::string& field) const {
    return std::any_of(verdict_.comparisons.begin(), verdict_.comparisons.end(), [&](const Comparison& c) {
      return !c.passed && c.source == name(SourceId::kGetsockopt) && c.end == end &&
             (c.field == field || c.method == "others");
    });
  }

  void conclude() {
    std::map<std::string, std::set<std::string>> doubtful;
    for (const auto& c : verdict_.comparisons) {
      if (c.passed) continue;
      const auto reference = reference_of(c);
      if (reference == kAnswers && c.source != name(SourceId::kGetsockopt) && is_in_doubt(c.end, c.field)) {
        doubtful[c.end].insert(c.source);
        continue;
      }
      auto text =
          fmt::format("{}: {} of the {} differs from {}: {} of {} values, by {:g}{}{} at most; the first is {}",
                      c.source, c.field, c.end, reference, c.compared - c.agreed, c.compared, c.largest_difference,
                      c.unit == "none" ? "" : " ", c.unit == "none" ? "" : c.unit, c.first);
      // iperf3's figures follow from several fields: the one that is wrong itself comes first.
      if (c.iperf3.empty())
        fail(std::move(text));
      else
        fail_ledger(std::move(text));
    }
    for (auto& text : ledger_failures_) fail(std::move(text));
    for (const auto& [end, sources] : doubtful)
      fail(
          fmt::format("getsockopt: what is said to have been answered of the {} is wrong itself, as above: {} "
                      "differ{} from it too",
                      end, fmt::join(sources, ", "), sources.size() == 1 ? "s" : ""));
    for (const auto& source : input_.sources) {
      const auto found = std::find_if(verdict_.comparisons.begin(), verdict_.comparisons.end(),
                                      [&](const Comparison& c) { return c.source == name(source.source); });
      if (found == verdict_.comparisons.end() && !sides_.empty())
        fail(fmt::format(
            "nothing of {} was compared: it holds {} records, of which none can be placed beside iperf3's intervals",
            name(source.source), source.records.size()));
    }
    if (input_.sources.empty()) fail("nothing was compared: there are no records");
  }

  static constexpr std::string_view kAnswers = "what iperf3 was answered";

  static std::string reference_of(const Comparison& c) {
    if (!c.iperf3.empty()) return "iperf3's " + c.iperf3;
    if (c.method == "others" || c.method == "alike") return "what two other sources read";
    if (c.method == "path") return "what the path does";
    if (c.method == "twin") return "what the BPF side read beside it";
    return std::string(kAnswers);
  }

  const Input& input_;
  std::vector<Run> sides_;
  std::vector<Entry> entries_;
  std::vector<AnswersEntry> answers_;
  std::vector<Aligned> starts_;
  std::vector<std::string> ledger_failures_;
  Verdict verdict_;
};

}  // namespace

Verdict compare(const Input& input) { return Comparer(input)(); }

}  // namespace validation
