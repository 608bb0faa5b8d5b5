// SPDX-License-Identifier: BSD-2-Clause
#include "compare.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace validation {
namespace {

using tcpinfo::Event;
using tcpinfo::Field;
using tcpinfo::FieldInfo;
using tcpinfo::Record;
using tcpinfo::Rule;
using tcpinfo::SourceId;
using Value = std::int64_t;
using Time = std::int64_t;  // CLOCK_BOOTTIME, ns

constexpr Value kUnbounded = std::numeric_limits<Value>::max() / 4;

// What an iperf3 client sends on each data connection before the data: its random name, with the NUL at its end
// (iperf 3.12 src/iperf_client_api.c iperf_create_streams(), COOKIE_SIZE). iperf3 does not count it.
constexpr Value kCookieBytes = 37;
// iperf 3.12 src/iperf_time.c cuts both ends of a difference to whole microseconds.
constexpr Time kIperf3Rounding = 1000;
// The sweep reads a socket without its lock, and inet_diag reads the queue's memory before the counters. What one
// segment adds to them may be seen in one and not yet in the other; a segment holds at most this many bytes.
constexpr Value kSegmentBytes = 65536;
// How improbable a set of readings must be, if all is right, to be called wrong.
constexpr double kSignificance = 0.001;
// Share of our own readings that lies beyond the allowance.
constexpr double kBeyond = 0.05;

enum class End { kSender, kReceiver };

/// One of our records of a stream, as far as it tells how many bytes iperf3 had written or read at that moment.
struct Sample {
  const tcpinfo_record* raw;
  Time earliest, latest;  // the reading happened between
  bool ledger = false;    // least and most are known
  Value least = 0, most = 0;
  bool ended = false;  // iperf3 had closed the socket

  Record record() const { return Record(*raw); }
};

/// One end of a stream as one source saw it.
struct Series {
  SourceId source;
  End end;
  const Iperf3Stream* stream;
  std::uint64_t cookie = 0;
  std::vector<Sample> samples;      // by time
  std::vector<std::size_t> gauges;  // those read while iperf3 could read
  std::vector<Value> bytes;         // iperf3's count at each interval end
};

struct Bounds {
  Time low = -kUnbounded, high = kUnbounded;
  bool bounded() const { return low > -kUnbounded && high < kUnbounded; }
};

/// When iperf3's clock started, by one source, for one side's result.
struct Start {
  Time low = 0, high = 0;
  std::uint64_t intervals = 0;
  Time conflict = 0;  // > 0: no start suits all intervals, by this much
  std::string conflict_text;

  Time middle() const { return low + (high - low) / 2; }
};

struct Side {
  const char* name;  // "client", "server"
  const Iperf3Result* result;
};

std::string describe(const Iperf3Stream& stream) {
  return fmt::format("stream {} ({} port {} to {} port {})", stream.socket, stream.local_address, stream.local_port,
                     stream.peer_address, stream.peer_port);
}

std::string_view describe(End end) { return end == End::kSender ? "sender" : "receiver"; }

std::string milliseconds(Time ns) { return fmt::format("{:.3f} ms", static_cast<double>(ns) / 1e6); }

// An address with a scope or a name is not compared: the ports tell streams apart.
bool same_address(const std::string& text, const tcpinfo_address& address) {
  const auto parsed = tcpinfo::parse_address(text);
  return !parsed || std::equal(std::begin(parsed->bytes), std::end(parsed->bytes), std::begin(address.bytes));
}

bool belongs(const Record& record, const Iperf3Stream& stream) {
  return record.local_port() == stream.local_port && record.peer_port() == stream.peer_port &&
         same_address(stream.local_address, record.raw().local_address) &&
         same_address(stream.peer_address, record.raw().peer_address);
}

bool fin_is_queued(const Record& record) {
  constexpr std::uint8_t kFinWait1 = 4, kLastAck = 9, kClosing = 11;
  const auto state = record.event() == TCPINFO_EVENT_CLOSE ? record.old_state() : record.state();
  return state == kFinWait1 || state == kLastAck || state == kClosing;
}

// iperf3's count of the bytes that it wrote is what went out for the first time and what waits, without its cookie if
// this end sent it. A FIN that waits counts as a byte of the queue, at its end: if anything waits, the FIN does.
std::optional<Value> written_bytes(const Record& record, Value cookie_bytes) {
  const auto sent = record.bytes_sent(), again = record.bytes_retrans();
  const auto waiting = record.notsent_bytes();
  if (!sent || !again || !waiting || record.swept() == 1) return std::nullopt;
  const Value fin = *waiting > 0 && fin_is_queued(record) ? 1 : 0;
  return static_cast<Value>(*sent) - static_cast<Value>(*again) + static_cast<Value>(*waiting) - fin - cookie_bytes;
}

void fill_ledger(Sample& sample, End end, Value cookie_bytes) {
  const auto record = sample.record();
  if (end == End::kSender) {
    if (const auto written = written_bytes(record, cookie_bytes)) {
      sample.ledger = true;
      sample.least = sample.most = *written;
    }
    return;
  }
  // iperf3 has read at most what arrived, and at least that without what the receive queue can hold: a buffer's memory
  // is never less than its data. Closing empties the queue unread. The peer's FIN counts as a byte.
  if (const auto received = record.bytes_received()) {
    sample.ledger = true;
    sample.most = static_cast<Value>(*received) - cookie_bytes;
    sample.least = -kUnbounded;
    if (sample.ended) return;
    sample.least = sample.most - 1 - kSegmentBytes -
                   static_cast<Value>(record.number(Field::skmem_rmem_alloc).value_or(std::uint64_t{1} << 40)) -
                   static_cast<Value>(record.number(Field::skmem_backlog).value_or(0));
  }
}

bool has_ended(const Record& record) {
  constexpr std::uint8_t kEstablished = 1, kCloseWait = 8, kSynSent = 2, kSynRecv = 3, kNewSynRecv = 12;
  const auto state = record.state().value_or(0);
  return state != kEstablished && state != kCloseWait && state != kSynSent && state != kSynRecv && state != kNewSynRecv;
}

Series make_series(const SourceRecords& source, const Iperf3Stream& stream, bool connects) {
  Series series{source.source, stream.sender ? End::kSender : End::kReceiver, &stream, 0, {}, {}, {}};
  // The side that connects sends the cookie.
  const Value cookie_bytes = connects == stream.sender ? kCookieBytes : 0;
  for (const auto& raw : source.records) {
    const Record record(raw);
    if (!belongs(record, stream) || !record.time_ns()) continue;
    Sample sample{&raw, static_cast<Time>(raw.time_ns), static_cast<Time>(raw.time_ns)};
    sample.ended = has_ended(record);
    fill_ledger(sample, series.end, cookie_bytes);
    series.samples.push_back(sample);
  }
  std::stable_sort(series.samples.begin(), series.samples.end(),
                   [](const Sample& a, const Sample& b) { return a.earliest < b.earliest; });
  if (!series.samples.empty()) series.cookie = series.samples.back().raw->cookie;
  // inet_diag stamps a reading before it asks for it, and the sweep before it reads, without the socket's lock and with
  // interrupts on: anything may happen in between. Both are done when they begin the next one.
  Time next = kUnbounded;
  for (auto sample = series.samples.rbegin(); sample != series.samples.rend(); ++sample) {
    if (source.source != SourceId::kInetDiag && sample->raw->swept == 0) continue;
    sample->latest = next;
    next = sample->earliest;
  }
  for (std::size_t i = 0; i < series.samples.size(); ++i) {
    const auto& sample = series.samples[i];
    if (!sample.ended && sample.record().rtt()) series.gauges.push_back(i);
  }
  Value total = 0;
  for (const auto& interval : stream.intervals)
    series.bytes.push_back(total += static_cast<Value>(interval.value("bytes").value_or(0)));
  return series;
}

/// What the byte counts say about the moment at which iperf3 took its reading of interval `i`: after every sample that
/// had fewer bytes, before every sample that had more. iperf3 reads between two of its own writes (reads), so that the
/// count stands still meanwhile.
Bounds reading_time(const Series& series, std::size_t i) {
  Bounds bounds;
  for (const auto& sample : series.samples) {
    if (!sample.ledger) continue;
    if (sample.most < series.bytes[i]) bounds.low = std::max(bounds.low, sample.earliest);
    if (sample.least > series.bytes[i]) bounds.high = std::min(bounds.high, sample.latest);
  }
  return bounds;
}

Time end_of(const Series& series, std::size_t i) { return series.stream->intervals[i].end_us * 1000; }

/// The start lies in the intersection of what every interval of every stream says. If there is none, the point that
/// suits the most intervals is taken: what does not suit it then shows as a difference.
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

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Value outside(Value low, Value high, Value value) { return std::max({Value{0}, low - value, value - high}); }

// Index of the reading that the control takes in place of reading i.
std::size_t shifted(std::size_t i, std::size_t size) { return (i + size / 2) % size; }

Comparison begin(const Series& series, const FieldInfo& field, std::string method) {
  Comparison comparison;
  comparison.source = name(series.source);
  comparison.field = field.name;
  comparison.iperf3 = field.iperf3;
  comparison.rule = name(field.rule);
  comparison.method = std::move(method);
  comparison.end = describe(series.end);
  comparison.unit = field.rule == Rule::times_snd_mss ? "bytes" : name(field.unit);
  return comparison;
}

void count(Comparison& comparison, Value low, Value high, Value value) {
  const auto difference = outside(low, high, value);
  ++comparison.compared;
  comparison.agreed += difference == 0;
  comparison.inside += difference == 0;
  comparison.largest_difference = std::max(comparison.largest_difference, static_cast<double>(difference));
}

/// Cumulative bytes at each interval end, against our counts just before and just after it by the clock.
Comparison compare_bytes(const std::vector<const Series*>& all, const FieldInfo& field, const Start& start) {
  auto comparison = begin(*all.front(), field, "bracket");
  std::vector<double> widths;
  for (const auto* series : all) {
    struct Bracket {
      std::size_t interval;
      Value least, most;
    };
    std::vector<Bracket> brackets;
    for (std::size_t i = 0; i < series->bytes.size(); ++i) {
      Value least = -kUnbounded, most = kUnbounded;
      for (const auto& sample : series->samples) {
        if (!sample.ledger) continue;
        if (sample.latest <= start.low + end_of(*series, i) - kIperf3Rounding) least = std::max(least, sample.least);
        if (sample.earliest >= start.high + end_of(*series, i) + kIperf3Rounding) most = std::min(most, sample.most);
      }
      if (least > -kUnbounded && most < kUnbounded) brackets.push_back({i, least, most});
    }
    for (std::size_t b = 0; b < brackets.size(); ++b) {
      const auto& bracket = brackets[b];
      count(comparison, bracket.least, bracket.most, series->bytes[bracket.interval]);
      widths.push_back(static_cast<double>(bracket.most - bracket.least));
      const auto other = series->bytes[brackets[shifted(b, brackets.size())].interval];
      comparison.control_agreed += outside(bracket.least, bracket.most, other) == 0;
    }
  }
  comparison.median_window = median(widths);
  comparison.passed = comparison.agreed == comparison.compared;
  return comparison;
}

/// Totals of the run, against the connection's last record.
Comparison compare_totals(const std::vector<const Series*>& all, const FieldInfo& field,
                          const std::function<const Iperf3Stream*(const Iperf3Stream&)>& other_end) {
  auto comparison = begin(*all.front(), field, all.front()->end == End::kSender ? "exact" : "bracket");
  std::vector<double> widths;
  std::vector<std::pair<Value, Value>> windows;
  std::vector<Value> totals;
  for (const auto* series : all) {
    // A sweep that was under way may be stamped later.
    const auto close = std::find_if(series->samples.rbegin(), series->samples.rend(),
                                    [](const Sample& sample) { return sample.raw->event == TCPINFO_EVENT_CLOSE; });
    if (close == series->samples.rend()) continue;
    const auto& last = *close;
    if (!last.ledger) continue;
    const auto* peer = other_end(*series->stream);
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
  }
  for (std::size_t i = 0; i < totals.size(); ++i) {
    count(comparison, windows[i].first, windows[i].second, totals[i]);
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

/// A counter whose growth iperf3 gives: iperf3's sum lies between ours at the last sample that was certainly before its
/// reading and at the first that was certainly after it, both by the byte ledger alone.
Comparison compare_counter(const std::vector<const Series*>& all, const FieldInfo& field) {
  auto comparison = begin(*all.front(), field, "bracket");
  std::vector<double> widths;
  for (const auto* series : all) {
    struct Bracket {
      Value low, high, value;
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
        if (sample.least > series->bytes[i] || sample.ended) high = std::min(high.value_or(value), value);
      }
      if (low && high) brackets.push_back({*low, *high, sum});
    }
    for (std::size_t b = 0; b < brackets.size(); ++b) {
      count(comparison, brackets[b].low, brackets[b].high, brackets[b].value);
      widths.push_back(static_cast<double>(brackets[b].high - brackets[b].low));
      const auto other = brackets[shifted(b, brackets.size())].value;
      comparison.control_agreed += outside(brackets[b].low, brackets[b].high, other) == 0;
    }
  }
  comparison.median_window = median(widths);
  comparison.passed = comparison.agreed == comparison.compared;
  return comparison;
}

std::optional<Value> gauge(const Record& record, const FieldInfo& field) {
  const auto number = record.number(field.field);
  if (!number) return std::nullopt;
  if (field.rule != Rule::times_snd_mss) return static_cast<Value>(*number);
  const auto mss = record.snd_mss();
  return mss ? std::optional(static_cast<Value>(*number) * static_cast<Value>(*mss)) : std::nullopt;
}

/// A gauge of a series: the samples that have it.
struct Gauge {
  std::vector<const Sample*> samples;
  std::vector<Value> values;

  Gauge(const Series& series, const FieldInfo& field) {
    for (const auto i : series.gauges)
      if (const auto value = gauge(series.samples[i].record(), field)) {
        samples.push_back(&series.samples[i]);
        values.push_back(*value);
      }
  }

  bool constant() const {
    return std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) == values.end();
  }

  /// Smallest and largest of samples [first, last] and one more on each side, without `left_out`; nothing where the
  /// window would reach over an end of the series.
  std::optional<std::pair<Value, Value>> window(std::size_t first, std::size_t last,
                                                std::size_t left_out = SIZE_MAX) const {
    if (first == 0 || last + 1 >= values.size()) return std::nullopt;
    Value low = kUnbounded, high = -kUnbounded;
    for (std::size_t i = first - 1; i <= last + 1; ++i) {
      if (i == left_out) continue;
      low = std::min(low, values[i]);
      high = std::max(high, values[i]);
    }
    return std::pair(low, high);
  }
};

// The samples around iperf3's reading of interval i: the last one certainly before and the first one certainly after
// it, by the bytes or, for swept samples, by the clock.
std::optional<std::pair<std::size_t, std::size_t>> around(const Gauge& gauge, const Series& series, std::size_t i,
                                                          const Start* start) {
  const auto by_clock = [&](const Sample& sample) {
    if (!start) return 0;
    if (sample.latest <= start->low + end_of(series, i) - kIperf3Rounding) return -1;
    return sample.earliest >= start->high + end_of(series, i) + kIperf3Rounding ? 1 : 0;
  };
  std::optional<std::size_t> before, after;
  for (std::size_t g = 0; g < gauge.samples.size(); ++g) {
    const auto& sample = *gauge.samples[g];
    const int side = !sample.ledger                   ? by_clock(sample)
                     : sample.most < series.bytes[i]  ? -1
                     : sample.least > series.bytes[i] ? 1
                                                      : 0;
    if (side < 0) before = g;
    if (side > 0 && !after) after = g;
  }
  if (!before || !after || *before >= *after) return std::nullopt;
  return std::pair(*before, *after);
}

std::optional<std::pair<Value, Value>> window_around(const Gauge& gauge, const Series& series, std::size_t i,
                                                     const Start* start) {
  const auto samples = around(gauge, series, i, start);
  return samples ? gauge.window(samples->first, samples->second) : std::nullopt;
}

/// How far each sample lies outside the same kind of window of its neighbours, sorted.
std::vector<Value> excursions(const Gauge& gauge) {
  std::vector<Value> result;
  for (std::size_t i = 1; i + 1 < gauge.values.size(); ++i)
    if (const auto window = gauge.window(i - 1, i + 1, i))
      result.push_back(outside(window->first, window->second, gauge.values[i]));
  std::sort(result.begin(), result.end());
  return result;
}

// The most that may lie beyond by chance: the smallest k with P(more than k of n) < kSignificance.
std::uint64_t most_by_chance(std::uint64_t n, double probability) {
  double term = std::pow(1 - probability, static_cast<double>(n)), sum = term;
  std::uint64_t k = 0;
  while (k < n && 1 - sum >= kSignificance) {
    term *= static_cast<double>(n - k) / static_cast<double>(k + 1) * probability / (1 - probability);
    sum += term;
    ++k;
  }
  return k;
}

/// Gauges. Between two of our samples a gauge may move beyond both: srtt and mdev move at each ACK, with a memory of 8
/// and 4 of them, while RTT callbacks come once a round trip and polls less often. How far it moves is measured by the
/// polls of the connection by inet_diag. Each poll is left out in turn and compared with a window of its neighbours,
/// made as those for iperf3's readings are; the 95 % quantile of what they exceed it by is the allowance. A source
/// other than inet_diag reads at the same place of every round trip (the first ACK of a new window), where srtt may
/// always be low, or always high, while iperf3 reads anywhere: it is allowed, besides, by what the polls around that
/// reading differ among themselves. Only differences between polls enter, so that no error of the source can widen what
/// it is compared by. Of iperf3's readings, no more may exceed the allowance than chance explains (binomial, 0.1 %;
/// streams that are read at the same moment share a queue and count as one reading). A gauge that is constant in our
/// samples has to be equal. Where there are no polls, the source's own samples take their place.
Comparison compare_gauge(const std::vector<const Series*>& all, const std::vector<const Series*>& yardsticks,
                         const FieldInfo& field, const Start* start) {
  auto comparison = begin(*all.front(), field, "window");
  std::vector<double> widths, allowances;
  std::size_t moments = 0, own_beyond = 0, own_readings = 0;
  bool constant = true;
  for (std::size_t s = 0; s < all.size(); ++s) {
    const auto& series = *all[s];
    const Gauge ours(series, field);
    if (ours.values.empty()) continue;
    constant = constant && ours.constant();
    const bool polled = yardsticks[s] == all[s];
    const Gauge polls(*yardsticks[s], field);
    const auto own = excursions(polls);
    const Value allowance =
        own.empty()
            ? 0
            : own[std::min(own.size() - 1, static_cast<std::size_t>((1 - kBeyond) * static_cast<double>(own.size())))];
    own_readings += own.size();
    own_beyond += static_cast<std::size_t>(own.end() - std::upper_bound(own.begin(), own.end(), allowance));

    struct Reading {
      Value low, high, value, allowance;
    };
    std::vector<Reading> readings;
    for (std::size_t i = 0; i < series.bytes.size(); ++i) {
      const auto value = series.stream->intervals[i].value(field.iperf3);
      const auto window = window_around(ours, series, i, start);
      if (!value || !window) continue;
      const auto moved = polled || allowance == 0 ? std::nullopt : window_around(polls, *yardsticks[s], i, start);
      readings.push_back({window->first, window->second, static_cast<Value>(*value),
                          allowance + (moved ? moved->second - moved->first : 0)});
    }
    moments = std::max(moments, readings.size());
    for (std::size_t i = 0; i < readings.size(); ++i) {
      const auto& reading = readings[i];
      const auto difference = outside(reading.low, reading.high, reading.value);
      ++comparison.compared;
      comparison.inside += difference == 0;
      comparison.agreed += difference <= reading.allowance;
      comparison.largest_difference = std::max(comparison.largest_difference, static_cast<double>(difference));
      widths.push_back(static_cast<double>(reading.high - reading.low));
      allowances.push_back(static_cast<double>(reading.allowance));
      const auto other = readings[shifted(i, readings.size())].value;
      comparison.control_agreed += outside(reading.low, reading.high, other) <= reading.allowance;
    }
  }
  comparison.median_window = median(widths);
  comparison.median_allowance = median(allowances);
  if (comparison.compared == 0) return comparison;
  const auto beyond = comparison.compared - comparison.agreed;
  std::uint64_t may_exceed = 0;
  if (constant) {
    comparison.note = "constant: has to be equal";
  } else {
    const auto share = std::min(kBeyond, static_cast<double>(own_beyond + 1) / static_cast<double>(own_readings + 1));
    const auto together = comparison.compared / std::max<std::size_t>(moments, 1);
    may_exceed = most_by_chance(moments, own_readings > 0 ? share : kBeyond) * std::max<std::uint64_t>(together, 1);
    comparison.note = fmt::format("passes with at most {} beyond the allowance", may_exceed);
    if (comparison.control_agreed >= comparison.agreed)
      comparison.note += "; proves little: the shifted readings agree as well";
  }
  comparison.passed = beyond <= may_exceed;
  return comparison;
}

class Comparer {
 public:
  explicit Comparer(const Input& input) : input_(input) {
    for (const auto* result : {&input.first, &input.second})
      if (*result) sides_.push_back({(*result)->is_server ? "server" : "client", &**result});
  }

  Verdict operator()() {
    if (!sides_.empty()) verdict_.iperf3_version = sides_.front().result->version;
    bool usable = !sides_.empty();
    if (!usable) verdict_.failures.emplace_back("nothing was compared: there is no result of iperf3");
    for (const auto& side : sides_) usable = check(side) && usable;
    if (usable) {
      gather_series();
      identify();
      align();
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

  void fail(std::string text) { verdict_.failures.push_back(std::move(text)); }

  bool check(const Side& side) {
    for (const auto& stream : side.result->streams)
      for (const auto& interval : stream.intervals)
        if (interval.omitted) {
          fail("iperf3 restarted its counts after --omit: run it without");
          return false;
        }
    return true;
  }

  void gather_series() {
    for (const auto& source : input_.sources)
      for (std::size_t side = 0; side < sides_.size(); ++side)
        for (const auto& stream : sides_[side].result->streams) {
          auto series = make_series(source, stream, !sides_[side].result->is_server);
          if (series.samples.empty()) {
            fail(fmt::format("{} has no record of the {} of {}", name(source.source), describe(series.end),
                             describe(stream)));
            continue;
          }
          check_series(series);
          entries_.push_back({side, std::move(series)});
        }
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
    for (const auto& source : input_.sources)
      for (std::size_t side = 0; side < sides_.size(); ++side) {
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

  void compare_side(SourceId source, std::size_t side) {
    const auto* start = start_of(side);
    const auto senders = select(source, side, End::kSender), receivers = select(source, side, End::kReceiver);
    const auto others = [this](const Iperf3Stream& stream) { return other_end(stream); };
    for (const auto& field : tcpinfo::fields()) {
      switch (field.rule) {
        case Rule::none:
          break;
        case Rule::ledger: {
          const auto& series = field.field == Field::bytes_sent ? senders : receivers;
          if (series.empty()) break;
          add(start ? compare_bytes(series, field, *start) : begin(*series.front(), field, "bracket"), true);
          // A poll does not see the end of a connection.
          if (source == SourceId::kSockops)
            add(compare_totals(series, field, others), sides_[side].result->error.empty());
          break;
        }
        case Rule::delta:
          if (has_readings(senders, field)) add(compare_counter(senders, field), true);
          break;
        case Rule::equal:
        case Rule::times_snd_mss:
          if (has_readings(senders, field)) add(compare_gauge(senders, yardsticks(senders), field, start), true);
          break;
      }
    }
  }

  std::vector<const Series*> yardsticks(const std::vector<const Series*>& all) const {
    std::vector<const Series*> result;
    for (const auto* series : all) {
      const Series* yardstick = series;
      for (const auto& entry : entries_)
        if (entry.series.source == SourceId::kInetDiag && entry.series.stream == series->stream)
          yardstick = &entry.series;
      result.push_back(yardstick);
    }
    return result;
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
      fail(
          fmt::format("{}: {} of the {} disagrees with iperf3's {}: {} of {} agreed, the largest difference is {:g} {}",
                      c.source, c.field, c.end, c.iperf3, c.agreed, c.compared, c.largest_difference, c.unit));
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
  std::vector<Aligned> starts_;
  Verdict verdict_;
};

}  // namespace

Verdict compare(const Input& input) { return Comparer(input)(); }

}  // namespace validation
