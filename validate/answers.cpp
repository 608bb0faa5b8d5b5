// SPDX-License-Identifier: BSD-2-Clause
#include "answers.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include <fmt/format.h>

namespace validation {

using tcpinfo::Field;
using tcpinfo::FieldInfo;
using tcpinfo::Kind;
using tcpinfo::Record;
using tcpinfo::Rule;
using tcpinfo::SourceId;

namespace {

// Agreed or fixed when the connection begins; the path of a run does not change.
constexpr std::array kConstants{Field::snd_wscale, Field::rcv_wscale, Field::advmss, Field::snd_mss, Field::pmtu};

// The kernel reads these before it takes the socket's lock for the others (v6.18 net/ipv4/tcp.c tcp_get_info()): an ACK
// that comes in between changes them after they were read, and the counters before.
constexpr std::array kReadBeforeLock{Field::pacing_rate, Field::max_pacing_rate, Field::reordering, Field::snd_cwnd};

template <std::size_t N>
bool is_one_of(const std::array<Field, N>& fields, Field field) {
  return std::find(fields.begin(), fields.end(), field) != fields.end();
}

/// The value as iperf3 prints it. What is absent, as rtt before the first measurement, is 0 in tcp_info.
Value printed(const tcpinfo_record* record, const FieldInfo& field) {
  const auto value = number(record, field.field).value_or(0);
  return field.rule == Rule::times_snd_mss ? value * number(record, Field::snd_mss).value_or(0) : value;
}

/// A cumulative quantity of the table's rules delta and ledger; nothing where the record cannot tell.
std::optional<Value> total(const Answers& answers, std::size_t reading, const FieldInfo& field) {
  const auto* record = answers.all[reading];
  return field.rule == Rule::ledger ? written_bytes(Record(*record), answers.cookie_bytes)
                                    : number(record, field.field);
}

/// Its growth from one reading, or from the beginning, to another.
std::optional<Value> growth(const Answers& answers, std::optional<std::size_t> from, std::size_t to,
                            const FieldInfo& field) {
  const auto before = from ? total(answers, *from, field) : std::optional<Value>(0);
  const auto after = total(answers, to, field);
  return before && after ? std::optional(*after - *before) : std::nullopt;
}

std::string_view figure(const FieldInfo& field) {
  return field.rule == Rule::ledger ? std::string_view("bytes") : field.iperf3;
}

bool is_cumulative(const FieldInfo& field) { return field.rule == Rule::delta || field.rule == Rule::ledger; }

struct Equal {
  Value ours, iperf3;
  std::string where;
};

Comparison conclude(Comparison comparison, const std::vector<Equal>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    count(comparison, values[i].ours, values[i].ours, values[i].iperf3, values[i].where);
    comparison.control_agreed += values[i].ours == values[shifted(i, values.size())].iperf3;
  }
  comparison.passed = comparison.agreed == comparison.compared;
  return comparison;
}

/// The bytes of iperf3's intervals are all in the socket's count; with threads that is all that is known of them.
Comparison compare_threaded(const std::vector<const Answers*>& senders, const FieldInfo& field) {
  auto comparison = begin(SourceId::kGetsockopt, End::kSender, field, "bracket");
  comparison.note = "at least iperf3's sum: what its threads write while it reads is in no interval";
  for (const auto* answers : senders) {
    Value sum = 0;
    for (std::size_t i = 0; i < answers->at.size() && !answers->omitted; ++i) {
      const auto iperf3 = answers->stream->intervals[i].value(figure(field));
      const auto ours = growth(*answers, std::nullopt, answers->at[i], field);
      if (!iperf3 || !ours) break;
      sum += static_cast<Value>(*iperf3);
      count(comparison, sum, kUnbounded, *ours, describe(*answers->stream, i));
      const auto control = answers->at[shifted(i, answers->at.size())];
      comparison.control_agreed += growth(*answers, std::nullopt, control, field).value_or(0) >= sum;
    }
  }
  comparison.passed = comparison.agreed == comparison.compared;
  return comparison;
}

Comparison compare_intervals(const std::vector<const Answers*>& senders, const FieldInfo& field) {
  std::vector<Equal> values;
  for (const auto* answers : senders) {
    for (std::size_t i = 0; i < answers->at.size(); ++i) {
      const auto iperf3 = answers->stream->intervals[i].value(figure(field));
      if (!iperf3) continue;
      const auto at = answers->at[i];
      std::optional<Value> ours = printed(answers->all[at], field);
      if (is_cumulative(field)) ours = growth(*answers, at > 0 ? std::optional(at - 1) : std::nullopt, at, field);
      if (ours) values.push_back({*ours, static_cast<Value>(*iperf3), describe(*answers->stream, i)});
    }
  }
  return conclude(begin(SourceId::kGetsockopt, End::kSender, field, "exact"), values);
}

/// iperf 3.12 gathers these at each interval's end, also of the time that --omit leaves out, and divides whole numbers.
std::optional<Value> summary(const Answers& answers, const FieldInfo& field, std::string_view of) {
  Value max = 0, min = 0, sum = 0, readings = 0;
  for (std::size_t i = 0; i < answers.all.size(); ++i) {
    if (i == answers.omitted) continue;
    const auto value = printed(answers.all[i], field);
    max = std::max(max, value);
    if (min == 0 || value < min) min = value;
    sum += value;
    ++readings;
  }
  if (readings == 0) return std::nullopt;
  return of == "max_" ? max : of == "min_" ? min : sum / readings;
}

Comparison compare_ends(const std::vector<const Answers*>& senders, const FieldInfo& field, std::string_view of) {
  const auto name = fmt::format("{}{}", of, figure(field));
  std::vector<Equal> values;
  for (const auto* answers : senders) {
    const auto iperf3 = answers->stream->totals.find(name);
    if (iperf3 == answers->stream->totals.end() || answers->all.empty()) continue;
    const auto ours = is_cumulative(field) ? growth(*answers, answers->omitted, answers->all.size() - 1, field)
                                           : summary(*answers, field, of);
    if (ours) values.push_back({*ours, static_cast<Value>(iperf3->second), describe(*answers->stream)});
  }
  auto comparison = begin(SourceId::kGetsockopt, End::kSender, field, "exact");
  comparison.iperf3 = "end." + name;
  comparison.rule = of.empty() ? "total" : of.substr(0, of.size() - 1);
  return conclude(std::move(comparison), values);
}

/// The readings around a sample: the last that ended before it began, the first that began after it ended. A reading is
/// stamped when the kernel has read; that it had not begun before the one before it ended is all that is known of its
/// beginning, as one process asks one thing at a time.
struct Neighbours {
  std::size_t first_undecided;  ///< [0, this) were before
  std::size_t after;            ///< [this, size) are after

  Neighbours(const Answers& answers, const Sample& sample) {
    const auto& all = answers.all;
    const auto later = [](Time time, const tcpinfo_record* record) { return time < time_of(record); };
    const auto sooner = [](const tcpinfo_record* record, Time time) { return time_of(record) < time; };
    first_undecided =
        static_cast<std::size_t>(std::upper_bound(all.begin(), all.end(), sample.earliest, later) - all.begin());
    after = static_cast<std::size_t>(std::lower_bound(all.begin(), all.end(), sample.latest, sooner) - all.begin());
    if (after < all.size()) ++after;
  }
};

/// What happens between two answers, of one source and end.
struct Tallies {
  Tally bracket, order, equal, still;

  Tallies(SourceId source, End end)
      : bracket(source, end, "bracket"),
        order(source, end, "order"),
        equal(source, end, "equal"),
        still(source, end, "still") {}
};

/// Until when a stream's connection is certainly younger than the window: it began before the first interval, by the time
/// that iperf3 takes to connect all streams, here 10 s and so in truth later.
Time end_of_youth(const Answers& answers, std::chrono::seconds window) {
  const auto& intervals = answers.stream->intervals;
  if (answers.all.empty() || intervals.empty()) return -kUnbounded;
  return time_of(answers.all.front()) - intervals.front().end_us * 1000 +
         std::chrono::nanoseconds(window - std::chrono::seconds(10)).count();
}

void compare_between(const Answers& answers, const Sample& sample, const Neighbours& around, Tally& tally,
                     const Neighbours& control, bool is_young) {
  const auto bound = [&](const Neighbours& of, Field field) {
    // Rising fields lie between the one before and the one after, a falling one between the one after and the one before.
    const bool falls = field == Field::min_rtt;
    Value low = -kUnbounded, high = kUnbounded;
    const auto bind = [&](std::size_t reading, bool is_low) {
      if (const auto value = number(answers.all[reading], field)) (is_low ? low : high) = *value;
    };
    if (of.first_undecided > 0) bind(of.first_undecided - 1, !falls);
    if (of.after < answers.all.size()) bind(of.after, falls);
    return std::pair(low, high);
  };
  for (const auto& field : tcpinfo::fields()) {
    const bool falls = field.field == Field::min_rtt && is_young;
    if (!is_monotone(field) && !falls) continue;
    const auto value = number(sample.raw, field.field);
    const auto [low, high] = bound(around, field.field);
    if (!value || (low == -kUnbounded && high == kUnbounded)) continue;
    tally.count(field, low, high, value, sample.raw, *answers.stream);
    const auto [control_low, control_high] = bound(control, field.field);
    tally.control(field, outside(control_low, control_high, *value) == 0);
  }
}

/// Two snapshots, each taken at one moment: what grows is ahead in all of it in one of them.
void compare_order(const Answers& answers, const Sample& sample, std::size_t reading, Tally& tally) {
  std::vector<const FieldInfo*> ahead, behind, equal;
  for (const auto& field : tcpinfo::fields()) {
    if (!is_monotone(field)) continue;
    const auto ours = number(sample.raw, field.field), theirs = number(answers.all[reading], field.field);
    if (ours && theirs) (*ours > *theirs ? ahead : *ours < *theirs ? behind : equal).push_back(&field);
  }
  const bool agrees = ahead.empty() || behind.empty();
  const auto add = [&](const std::vector<const FieldInfo*>& fields, std::size_t blamed_if_at_most,
                       std::string_view text, const std::vector<const FieldInfo*>& others) {
    for (const auto* field : fields) {
      const bool sound = agrees || fields.size() > blamed_if_at_most;
      tally.count(*field, sound,
                  sound ? std::string() : fmt::format("{} an answer in which {} is not", text, others.front()->name),
                  sample.raw, *answers.stream);
    }
  };
  add(ahead, behind.size(), "ahead of", behind);
  add(behind, ahead.size(), "behind", ahead);
  add(equal, 0, "", equal);
}

void compare_constants(const Answers& answers, const Sample& sample, const Neighbours& around, Tally& tally) {
  if (around.first_undecided == 0 || around.after == answers.all.size() || sample.ended) return;
  for (const auto field : kConstants) {
    const auto before = number(answers.all[around.first_undecided - 1], field);
    const auto after = number(answers.all[around.after], field), ours = number(sample.raw, field);
    if (!before || before != after || !ours) continue;
    tally.count(tcpinfo::info(field), *before, *before, ours, sample.raw, *answers.stream);
  }
}

/// Every field of the answer that does not move by itself. The sample has to have what the answer has. Counters that
/// both have are equal, or this would be no still moment: to count them would prove nothing.
void compare_still(const Answers& answers, const tcpinfo_record* sample, const tcpinfo_record* answer,
                   bool application_waits, Tally& tally) {
  // 0: an ACK came in this jiffy, and perhaps at the wrong moment.
  const bool no_ack =
      Record(*sample).last_ack_recv().value_or(0) > 0 && Record(*answer).last_ack_recv().value_or(0) > 0;
  for (const auto& field : tcpinfo::fields()) {
    const auto theirs = number(answer, field.field), ours = number(sample, field.field);
    if (field.kind == Kind::identity || !theirs || (field.kind == Kind::counter && ours)) continue;
    if (is_moved_by_clock(field.field) || (!no_ack && is_one_of(kReadBeforeLock, field.field))) continue;
    if (!application_waits && is_moved_by_application(field.field)) continue;
    tally.count(field, *theirs, *theirs, ours, sample, *answers.stream);
  }
}

/// The twin is read after the answer: clocks have not gone back.
void compare_clocks(const Answers& answers, const tcpinfo_record* twin, const tcpinfo_record* answer, Tally& tally) {
  for (const auto& field : tcpinfo::fields()) {
    const auto theirs = number(twin, field.field), ours = number(answer, field.field);
    if (is_moved_by_clock(field.field) && ours && theirs)
      tally.count(field, -kUnbounded, *theirs, ours, answer, *answers.stream);
  }
}

}  // namespace

namespace {

/// The time between one interval's end and the one before it, in us. Where --omit is over iperf3 counts from 0 again.
Value length(const std::vector<Iperf3Interval>& intervals, std::size_t i) {
  const bool first = i == 0 || intervals[i].omitted != intervals[i - 1].omitted;
  return intervals[i].end_us - (first ? 0 : intervals[i - 1].end_us);
}

/// Finds the reading of each interval.
void match(Answers& answers) {
  const auto& stream = *answers.stream;
  const auto& intervals = stream.intervals;
  std::vector<double> lengths;
  for (std::size_t i = 0; i < intervals.size(); ++i) lengths.push_back(static_cast<double>(length(intervals, i)));
  // In us; of iperf3's own interval.
  const auto a_tenth = static_cast<Value>(median(lengths) / 10);
  const auto written = [&](std::size_t reading) {
    return written_bytes(Record(*answers.all[reading]), answers.cookie_bytes);
  };
  // Of no interval: iperf3 was late, and read again at once.
  const auto is_short = [&](std::size_t reading) {
    if (reading == 0 || time_of(answers.all[reading]) - time_of(answers.all[reading - 1]) >= a_tenth * 1000) return false;
    return answers.end == End::kReceiver || written(reading) == written(reading - 1);
  };
  const auto expected = intervals.size() + (answers.omitted ? 1 : 0);
  std::size_t reading = 0;
  for (std::size_t i = 0; i < intervals.size(); ++i) {
    if (answers.omitted == reading) ++reading;
    while (answers.all.size() - std::min(reading, answers.all.size()) > intervals.size() - i && is_short(reading) &&
           length(intervals, i) >= a_tenth) {
      answers.more_than_printed = true;
      ++reading;
    }
    answers.at.push_back(reading++);
  }
  if (!answers.at.empty() && reading + 1 == answers.all.size()) {
    // Read once more at the end. A receiver's record does not tell what iperf3 read of it.
    answers.more_than_printed = true;
    if (answers.end == End::kSender && written(reading) != written(reading - 1))
      answers.problems.push_back(
          fmt::format("iperf3 printed no interval for the last answer of {}, though {} bytes were written before it",
                      describe(stream), written(reading).value_or(0) - written(reading - 1).value_or(0)));
  } else if (reading != answers.all.size()) {
    answers.at.clear();
    answers.problems.push_back(fmt::format("iperf3 was answered {} times of {}, and its {} intervals make {}",
                                           answers.all.size(), describe(stream), intervals.size(), expected));
  }
}

}  // namespace

Answers find_answers(const SourceRecords& source, const Endpoint& endpoint, bool side_sends) {
  const auto& stream = *endpoint.stream;
  Answers answers;
  answers.stream = &stream;
  answers.end = endpoint.end();
  answers.cookie_bytes = endpoint.cookie_bytes();
  answers.threaded = endpoint.threaded;
  std::vector<const tcpinfo_record*> twins;
  std::set<std::uint64_t> cookies;
  for (const auto& raw : source.records) {
    const Record record(raw);
    if (!belongs(record, endpoint) || !record.time_ns()) continue;
    (record.source() == TCPINFO_SOURCE_GETSOCKOPT ? answers.all : twins).push_back(&raw);
    cookies.insert(raw.cookie);
  }
  const auto by_time = [](const tcpinfo_record* a, const tcpinfo_record* b) { return a->time_ns < b->time_ns; };
  std::stable_sort(answers.all.begin(), answers.all.end(), by_time);
  std::stable_sort(twins.begin(), twins.end(), by_time);
  for (const auto* answer : answers.all) {
    const auto twin = std::lower_bound(twins.begin(), twins.end(), answer, by_time);
    answers.twins.push_back(twin != twins.end() && (*twin)->time_ns == answer->time_ns ? *twin : nullptr);
  }
  const auto& intervals = stream.intervals;
  if (cookies.size() > 1)
    answers.problems.push_back(fmt::format("{} sockets have the ports of {}", cookies.size(), describe(stream)));

  const auto omitted = static_cast<std::size_t>(
      std::find_if(intervals.begin(), intervals.end(), [](const Iperf3Interval& i) { return !i.omitted; }) -
      intervals.begin());
  if (omitted > 0 && side_sends && omitted < answers.all.size()) answers.omitted = omitted;
  match(answers);
  return answers;
}

std::vector<Comparison> compare_with_iperf3(const std::vector<const Answers*>& senders) {
  std::vector<Comparison> result;
  for (const auto& field : tcpinfo::fields()) {
    if (field.rule == Rule::none || field.field == Field::bytes_received) continue;
    const bool threaded =
        std::any_of(senders.begin(), senders.end(), [](const Answers* answers) { return answers->threaded; });
    if (field.rule == Rule::ledger && threaded) {
      result.push_back(compare_threaded(senders, field));
      continue;
    }
    result.push_back(compare_intervals(senders, field));
    for (const std::string_view of : {"", "max_", "min_", "mean_"})
      if (is_cumulative(field) == of.empty()) result.push_back(compare_ends(senders, field, of));
  }
  std::erase_if(result, [](const Comparison& comparison) { return comparison.compared == 0; });
  return result;
}

std::optional<Alignment> find_start(const std::vector<const Answers*>& all) {
  Time low = kUnbounded, high = -kUnbounded;
  Alignment alignment;
  for (const auto* answers : all)
    for (std::size_t i = 0; i < answers->at.size(); ++i) {
      const auto& interval = answers->stream->intervals[i];
      // After --omit's time iperf3 counts from 0 again.
      if (interval.omitted != answers->stream->intervals.front().omitted) break;
      const auto start = time_of(answers->all[answers->at[i]]) - interval.end_us * 1000;
      low = std::min(low, start);
      high = std::max(high, start);
      ++alignment.intervals;
    }
  if (alignment.intervals == 0) return std::nullopt;
  alignment.source = name(SourceId::kGetsockopt);
  alignment.start_boot_ns = static_cast<std::uint64_t>(low);
  alignment.uncertainty_ns = static_cast<std::uint64_t>(high - low);
  return alignment;
}

std::vector<Comparison> compare_samples(const std::vector<Bracketed>& all, std::chrono::seconds min_rtt_window) {
  const auto& first = *all.front().series;
  Tallies tallies(first.source, first.end);
  for (const auto& [series, answers] : all) {
    const auto& samples = series->samples;
    const auto young_until = end_of_youth(*answers, min_rtt_window);
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const auto& sample = samples[i];
      const Neighbours around(*answers, sample);
      compare_between(*answers, sample, around, tallies.bracket,
                      Neighbours(*answers, samples[shifted(i, samples.size())]), sample.latest < young_until);
      compare_constants(*answers, sample, around, tallies.equal);
      const bool swept = sample.raw->swept != 0;
      if (!swept)
        for (auto reading = around.first_undecided; reading < around.after; ++reading)
          compare_order(*answers, sample, reading, tallies.order);
      // A record of a callback is made in the middle of what it is called for.
      if ((series->source == SourceId::kSockops && !swept) || around.first_undecided == 0) continue;
      const auto* before = answers->all[around.first_undecided - 1];
      // A swept one is of no single moment: nothing may have happened from before it to after it.
      if (swept && (around.after == answers->all.size() || !is_still(before, answers->all[around.after]))) continue;
      if (sample.raw->state == before->state && is_still(sample.raw, before))
        compare_still(*answers, sample.raw, before, false, tallies.still);
    }
  }
  std::vector<Comparison> result;
  for (auto* tally : {&tallies.bracket, &tallies.order, &tallies.equal, &tallies.still})
    for (auto& comparison : tally->done()) result.push_back(std::move(comparison));
  return result;
}

std::vector<Comparison> compare_twins(const std::vector<const Answers*>& all) {
  Tally tally(SourceId::kGetsockopt, all.front()->end, "twin");
  for (const auto* answers : all)
    for (std::size_t i = 0; i < answers->all.size(); ++i)
      // iperf3's only thread is in the call.
      if (const auto* twin = answers->twins[i]; twin && is_still(twin, answers->all[i])) {
        compare_still(*answers, twin, answers->all[i], true, tally);
        compare_clocks(*answers, twin, answers->all[i], tally);
      }
  return tally.done();
}

}  // namespace validation
