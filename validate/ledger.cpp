// SPDX-License-Identifier: BSD-2-Clause
#include "ledger.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

namespace validation {

using tcpinfo::FieldInfo;

namespace {

// iperf 3.12 src/iperf_time.c cuts both ends of a difference to whole microseconds.
constexpr Time kIperf3Rounding = 1000;

struct Bounds {
  Time low = -kUnbounded, high = kUnbounded;
  bool bounded() const { return low > -kUnbounded && high < kUnbounded; }
};

/// What the byte counts say about the moment at which iperf3 took its reading of interval `i`: after every sample that
/// had fewer bytes, before every sample that had more. Up to 3.15 iperf3 reads between two of its own writes (reads),
/// so that the count stands still meanwhile; with threads there may have been more bytes than it counted.
Bounds reading_time(const Series& series, std::size_t i) {
  Bounds bounds;
  for (const auto& sample : series.samples) {
    if (!sample.ledger) continue;
    if (sample.most < series.bytes[i]) bounds.low = std::max(bounds.low, sample.earliest);
    if (sample.least > series.bytes[i] && !series.threaded) bounds.high = std::min(bounds.high, sample.latest);
  }
  return bounds;
}

Time end_of(const Series& series, std::size_t i) { return series.stream->intervals[i].end_us * 1000; }

}  // namespace

Start find_start(const std::vector<const Series*>& all) {
  struct Edge {
    Time at;
    int step;
  };
  std::vector<Edge> edges;
  Start start;
  Time low = -kUnbounded, high = kUnbounded;
  std::string low_text, high_text;
  for (const auto* series : all) {
    for (std::size_t i = 0; i < series->bytes.size(); ++i) {
      auto bounds = reading_time(*series, i);
      if (bounds.low > -kUnbounded) bounds.low -= end_of(*series, i) + kIperf3Rounding;
      if (bounds.high < kUnbounded) bounds.high -= end_of(*series, i) - kIperf3Rounding;
      const auto text = [&] {
        return fmt::format("the interval of stream {} that ends at {:.6f} s", series->stream->socket,
                           static_cast<double>(end_of(*series, i)) / 1e9);
      };
      if (bounds.low > low) low = bounds.low, low_text = text();
      if (bounds.high < high) high = bounds.high, high_text = text();
      if (!bounds.bounded()) continue;
      ++start.intervals;
      edges.push_back({bounds.low, 1});
      edges.push_back({bounds.high, -1});
    }
  }
  if (edges.empty()) return start;
  if (low <= high) {
    start.low = low;
    start.high = high;
    return start;
  }
  start.conflict = low - high;
  start.conflict_text =
      fmt::format("{} needs a start at least {} later than {}", low_text, milliseconds(start.conflict), high_text);
  std::sort(edges.begin(), edges.end(),
            [](const Edge& a, const Edge& b) { return a.at != b.at ? a.at < b.at : a.step > b.step; });
  int open = 0, most = -1;
  for (std::size_t e = 0; e < edges.size(); ++e) {
    open += edges[e].step;
    if (edges[e].step < 0 || open <= most) continue;
    most = open;
    start.low = edges[e].at;
    start.high = e + 1 < edges.size() ? edges[e + 1].at : edges[e].at;
  }
  return start;
}

Comparison compare_bytes(const std::vector<Placed>& all, const FieldInfo& field) {
  auto comparison = begin(all.front().series->source, all.front().series->end, field, "bracket");
  std::vector<double> widths;
  for (const auto& [series, start] : all) {
    struct Bracket {
      std::size_t interval;
      Value least, most;
    };
    std::vector<Bracket> brackets;
    for (std::size_t i = 0; i < series->bytes.size(); ++i) {
      Value least = -kUnbounded, most = kUnbounded;
      for (const auto& sample : series->samples) {
        if (!sample.ledger) continue;
        if (sample.latest <= start->low + end_of(*series, i) - kIperf3Rounding) least = std::max(least, sample.least);
        if (sample.earliest >= start->high + end_of(*series, i) + kIperf3Rounding) most = std::min(most, sample.most);
      }
      if (least > -kUnbounded && most < kUnbounded) brackets.push_back({i, least, most});
    }
    for (std::size_t b = 0; b < brackets.size(); ++b) {
      const auto& bracket = brackets[b];
      count(comparison, bracket.least, bracket.most, series->bytes[bracket.interval],
            describe(*series->stream, bracket.interval));
      widths.push_back(static_cast<double>(bracket.most - bracket.least));
      const auto other = series->bytes[brackets[shifted(b, brackets.size())].interval];
      comparison.control_agreed += outside(bracket.least, bracket.most, other) == 0;
    }
  }
  comparison.median_window = median(widths);
  comparison.passed = comparison.agreed == comparison.compared;
  return comparison;
}

Comparison compare_totals(const std::vector<const Series*>& all, const FieldInfo& field,
                          const std::function<const Iperf3Stream*(const Iperf3Stream&)>& other_end) {
  auto comparison =
      begin(all.front()->source, all.front()->end, field, all.front()->end == End::kSender ? "exact" : "bracket");
  std::vector<double> widths;
  std::vector<std::pair<Value, Value>> windows;
  std::vector<Value> totals;
  std::vector<const Iperf3Stream*> streams;
  for (const auto* series : all) {
    // A sweep that was under way may be stamped later.
    const auto close = std::find_if(series->samples.rbegin(), series->samples.rend(),
                                    [](const Sample& sample) { return sample.raw->event == TCPINFO_EVENT_CLOSE; });
    if (close == series->samples.rend()) continue;
    const auto& last = *close;
    if (!last.ledger) continue;
    const auto* peer = other_end(*series->stream);
    const auto known = totals.size();
    if (series->end == End::kSender) {
      if (!series->stream->sent_bytes) continue;
      windows.emplace_back(last.most, last.most);
      totals.push_back(static_cast<Value>(*series->stream->sent_bytes));
    } else {
      // Data may have arrived that iperf3 did not read any more, but none that was not sent, and one byte for a FIN.
      const auto sent = peer ? peer->sent_bytes : series->stream->sent_bytes;
      const auto read = series->stream->received_bytes;
      if (!sent || !read) continue;
      windows.emplace_back(static_cast<Value>(*read),
                           std::max<Value>(static_cast<Value>(*sent) + 1, static_cast<Value>(*read)));
      totals.push_back(last.most);
    }
    if (totals.size() > known) streams.push_back(series->stream);
  }
  for (std::size_t i = 0; i < totals.size(); ++i) {
    count(comparison, windows[i].first, windows[i].second, totals[i], "at the close of " + describe(*streams[i]));
    widths.push_back(static_cast<double>(windows[i].second - windows[i].first));
    if (totals.size() > 1) {
      const auto& control = windows[shifted(i, windows.size())];
      comparison.control_agreed += outside(control.first, control.second, totals[i]) == 0;
    }
  }
  comparison.median_window = median(widths);
  comparison.passed = comparison.agreed == comparison.compared;
  comparison.note = all.front()->end == End::kSender
                        ? "total at close: bytes_sent - bytes_retrans + notsent_bytes - iperf3's cookie"
                        : "total at close: at least what iperf3 read, at most what its peer wrote and a FIN";
  return comparison;
}

Comparison compare_counter(const std::vector<const Series*>& all, const FieldInfo& field) {
  auto comparison = begin(all.front()->source, all.front()->end, field, "bracket");
  std::vector<double> widths;
  for (const auto* series : all) {
    struct Bracket {
      Value low, high, value;
      std::size_t interval;
    };
    std::vector<Bracket> brackets;
    Value sum = 0;
    for (std::size_t i = 0; i < series->bytes.size(); ++i) {
      const auto grown = series->stream->intervals[i].value(field.iperf3);
      if (!grown) break;
      sum += static_cast<Value>(*grown);
      std::optional<Value> low, high;
      for (const auto& sample : series->samples) {
        const auto number = sample.record().number(field.field);
        if (!number || !sample.ledger) continue;
        const auto value = static_cast<Value>(*number);
        if (sample.most < series->bytes[i] && !sample.ended) low = std::max(low.value_or(value), value);
        if ((sample.least > series->bytes[i] && !series->threaded) || sample.ended)
          high = std::min(high.value_or(value), value);
      }
      if (low && high) brackets.push_back({*low, *high, sum, i});
    }
    for (std::size_t b = 0; b < brackets.size(); ++b) {
      count(comparison, brackets[b].low, brackets[b].high, brackets[b].value,
            describe(*series->stream, brackets[b].interval));
      widths.push_back(static_cast<double>(brackets[b].high - brackets[b].low));
      const auto other = brackets[shifted(b, brackets.size())].value;
      comparison.control_agreed += outside(brackets[b].low, brackets[b].high, other) == 0;
    }
  }
  comparison.median_window = median(widths);
  comparison.passed = comparison.agreed == comparison.compared;
  return comparison;
}

}  // namespace validation
