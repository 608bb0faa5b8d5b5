// SPDX-License-Identifier: BSD-2-Clause
#include "compare.hpp"

#include <algorithm>
#include <iterator>
#include <set>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "answers.hpp"
#include "ledger.hpp"

namespace validation {
namespace {

using tcpinfo::Field;
using tcpinfo::FieldInfo;
using tcpinfo::Rule;
using tcpinfo::SourceId;

struct Side {
  const char* name;  // "client", "server"
  const Iperf3Result* result;
};

class Comparer {
 public:
  explicit Comparer(const Input& input) : input_(input) {
    for (const auto& result : input.results) sides_.push_back({result.is_server ? "server" : "client", &result});
  }

  Verdict operator()() {
    if (!sides_.empty()) verdict_.iperf3_version = sides_.front().result->version;
    bool usable = !sides_.empty();
    if (!usable) verdict_.failures.emplace_back("nothing was compared: there is no result of iperf3");
    if (usable) {
      gather();
      identify();
      align();
      for (std::size_t side = 0; side < sides_.size(); ++side) compare_answers(side);
      for (const auto& source : input_.sources)
        for (std::size_t side = 0; side < sides_.size(); ++side) compare_side(source.source, side);
    }
    conclude();
    return std::move(verdict_);
  }

 private:
  struct Entry {
    std::size_t side;
    Series series;
  };
  struct AnswersEntry {
    std::size_t side;
    Answers answers;
  };

  void fail(std::string text) { verdict_.failures.push_back(std::move(text)); }

  static bool has_omitted(const Iperf3Result& result) {
    return std::any_of(result.streams.begin(), result.streams.end(), [](const Iperf3Stream& stream) {
      return std::any_of(stream.intervals.begin(), stream.intervals.end(),
                         [](const Iperf3Interval& interval) { return interval.omitted; });
    });
  }

  void gather() {
    for (const auto& source : input_.sources)
      for (std::size_t side = 0; side < sides_.size(); ++side) {
        const auto& result = *sides_[side].result;
        const bool sends = std::any_of(result.streams.begin(), result.streams.end(),
                                       [](const Iperf3Stream& stream) { return stream.sender; });
        for (const auto& stream : result.streams) {
          const bool connects = !result.is_server;
          if (source.source == SourceId::kGetsockopt)
            gather_answers(side, find_answers(source, stream, connects, sends));
          else
            gather_series(side, make_series(source, stream, connects));
        }
      }
  }

  void gather_answers(std::size_t side, Answers answers) {
    for (const auto& problem : answers.problems) fail(fmt::format("getsockopt: {}", problem));
    if (!answers.all.empty()) answers_.push_back({side, std::move(answers)});
  }

  void gather_series(std::size_t side, Series series) {
    if (series.samples.empty()) {
      fail(fmt::format("{} has no record of the {} of {}", name(series.source), describe(series.end),
                       describe(*series.stream)));
      return;
    }
    check_series(series);
    entries_.push_back({side, std::move(series)});
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
        fail(fmt::format("{}: the bytes of the sender of {} went back by {}", name(series.source),
                         describe(*series.stream), highest - sample.most));
        return;
      }
      highest = sample.most;
    }
  }

  // The peer's view of the same connection.
  const Iperf3Stream* other_end(const Iperf3Stream& stream) const {
    for (const auto& side : sides_)
      for (const auto& other : side.result->streams)
        if (&other != &stream && other.local_port == stream.peer_port && other.peer_port == stream.local_port)
          return &other;
    return nullptr;
  }

  void identify() {
    const auto& first = *sides_.front().result;
    for (const auto& stream : first.streams) {
      StreamIdentity identity;
      identity.socket = stream.socket;
      identity.local_address = stream.local_address;
      identity.local_port = stream.local_port;
      identity.peer_address = stream.peer_address;
      identity.peer_port = stream.peer_port;
      // Also where iperf3's result of the other end is missing.
      for (const auto& source : input_.sources)
        for (const auto& raw : source.records) {
          const bool here = raw.local_port == stream.local_port && raw.peer_port == stream.peer_port;
          const bool there = raw.local_port == stream.peer_port && raw.peer_port == stream.local_port;
          if (here) (stream.sender ? identity.sender_cookie : identity.receiver_cookie) = raw.cookie;
          if (there) (stream.sender ? identity.receiver_cookie : identity.sender_cookie) = raw.cookie;
        }
      verdict_.streams.push_back(std::move(identity));
    }
  }

  std::vector<const Series*> select(SourceId source, std::size_t side, End end) const {
    std::vector<const Series*> result;
    for (const auto& entry : entries_)
      if (entry.side == side && entry.series.source == source && entry.series.end == end)
        result.push_back(&entry.series);
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
        if (has_omitted(*sides_[side].result)) continue;
        auto series = select(source.source, side, End::kSender);
        const bool senders = !series.empty();
        if (!senders) series = select(source.source, side, End::kReceiver);
        auto start = find_start(series);
        if (start.intervals == 0) continue;
        if (start.conflict > 0)
          fail(fmt::format("{}: no start of iperf3's clock suits all intervals of the {}'s result: {}",
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
    compare_starts();
  }

  // Both sources have to place iperf3 at the same time: a source whose clock is off shows here.
  void compare_starts() {
    for (std::size_t a = 0; a < starts_.size(); ++a)
      for (std::size_t b = a + 1; b < starts_.size(); ++b) {
        const auto &one = starts_[a], &other = starts_[b];
        if (one.side != other.side || one.start.conflict > 0 || other.start.conflict > 0) continue;
        const auto apart = std::max(one.start.low - other.start.high, other.start.low - one.start.high);
        if (apart > 0)
          fail(fmt::format("{} and {} place the start of the {}'s result {} apart: the times of one of them are wrong",
                           name(one.source), name(other.source), sides_[one.side].name, milliseconds(apart)));
      }
  }

  const Start* start_of(std::size_t side) const {
    for (const auto& aligned : starts_)
      if (aligned.side == side) return &aligned.start;
    return nullptr;
  }

  std::vector<const Answers*> answers_of(std::size_t side, End end) const {
    std::vector<const Answers*> result;
    for (const auto& entry : answers_)
      if (entry.side == side && entry.answers.end == end) result.push_back(&entry.answers);
    return result;
  }

  void compare_answers(std::size_t side) {
    const bool given = std::any_of(input_.sources.begin(), input_.sources.end(),
                                   [](const SourceRecords& source) { return source.source == SourceId::kGetsockopt; });
    const auto senders = answers_of(side, End::kSender);
    const auto& streams = sides_[side].result->streams;
    if (given && std::any_of(streams.begin(), streams.end(), [](const Iperf3Stream& s) { return s.sender; })) {
      auto comparisons = compare_with_iperf3(senders);
      if (comparisons.empty())
        fail(fmt::format("getsockopt: none of the figures of the {}'s result was compared", sides_[side].name));
      std::move(comparisons.begin(), comparisons.end(), std::back_inserter(verdict_.comparisons));
    }
    for (const auto end : {End::kSender, End::kReceiver}) {
      const auto all = answers_of(side, end);
      if (all.empty()) continue;
      add(compare_twins(all), false);
      for (const auto& source : input_.sources) {
        std::vector<Bracketed> bracketed;
        for (const auto* series : select(source.source, side, end))
          for (const auto* answers : all)
            if (answers->stream == series->stream) bracketed.push_back({series, answers});
        if (bracketed.empty()) continue;
        auto comparisons = compare_samples(bracketed);
        if (comparisons.empty())
          fail(fmt::format("{}: no sample of the {} lies beside what iperf3 was answered", name(source.source),
                           describe(end)));
        std::move(comparisons.begin(), comparisons.end(), std::back_inserter(verdict_.comparisons));
      }
    }
  }

  // By the bytes alone. They count from --omit's end, which only what iperf3 was answered shows.
  void compare_side(SourceId source, std::size_t side) {
    if (has_omitted(*sides_[side].result)) return;
    const auto* start = start_of(side);
    const auto senders = select(source, side, End::kSender), receivers = select(source, side, End::kReceiver);
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
          add(start ? compare_bytes(series, field, *start) : begin(source, series.front()->end, field, "bracket"),
              true);
          // A poll does not see the end of a connection.
          if (source == SourceId::kSockops)
            add(compare_totals(series, field, others), sides_[side].result->error.empty());
          break;
        }
        case Rule::delta:
          if (has_readings(senders, field)) add(compare_counter(senders, field), true);
          break;
      }
    }
  }

  // A quantity that iperf3 gives and that could not be compared is no success.
  void add(Comparison comparison, bool expected) {
    if (comparison.compared > 0)
      verdict_.comparisons.push_back(std::move(comparison));
    else if (expected)
      fail(fmt::format("{}: {} of the {} was not compared ({}): no record just before and just after iperf3's readings",
                       comparison.source, comparison.field, comparison.end, comparison.method));
  }

  static bool has_readings(const std::vector<const Series*>& all, const FieldInfo& field) {
    return std::any_of(all.begin(), all.end(), [&](const Series* series) {
      return std::any_of(series->stream->intervals.begin(), series->stream->intervals.end(),
                         [&](const Iperf3Interval& interval) { return interval.value(field.iperf3).has_value(); });
    });
  }

  void conclude() {
    for (const auto& c : verdict_.comparisons) {
      if (c.passed) continue;
      fail(fmt::format("{}: {} of the {} disagrees with {}: {} of {} agreed, the largest difference is {:g} {}{}",
                       c.source, c.field, c.end, c.iperf3.empty() ? "what iperf3 was answered" : "iperf3's " + c.iperf3,
                       c.agreed, c.compared, c.largest_difference, c.unit == "none" ? "" : c.unit,
                       c.iperf3.empty() ? "; " + c.note : ""));
    }
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

  struct Aligned {
    SourceId source;
    std::size_t side;
    bool senders;
    Start start;
  };

  const Input& input_;
  std::vector<Side> sides_;
  std::vector<Entry> entries_;
  std::vector<AnswersEntry> answers_;
  std::vector<Aligned> starts_;
  Verdict verdict_;
};

}  // namespace

Verdict compare(const Input& input) { return Comparer(input)(); }

}  // namespace validation
