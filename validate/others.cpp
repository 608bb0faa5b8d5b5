// SPDX-License-Identifier: BSD-2-Clause
#include "others.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace validation {

using tcpinfo::Field;
using tcpinfo::FieldInfo;
using tcpinfo::Kind;
using tcpinfo::Record;
using tcpinfo::SourceId;

namespace {

// About the connection, and the same in every record of it. A record with other addresses or ports is of another one.
constexpr std::array kIdentity{Field::cookie, Field::netns_cookie, Field::cgroup_id, Field::family};

// Grows without the socket's lock, between the stamp of a reading and the reading: no time is certain for it.
constexpr bool grows_without_lock(Field field) { return field == Field::skmem_drops; }

// Between two segments these go one way only: the clock goes on; the application writes, which adds to the send queue,
// and reads, which takes from the receive queue and may move its limits; the device sends what it was handed; a state
// does not come back. Whatever is the same before and after, with no segment between, was the same meanwhile.
bool is_compared_still(const FieldInfo& field) {
  if (field.field == Field::state || field.field == Field::skmem_drops) return true;
  if (field.field == Field::swept || field.field == Field::old_state) return false;  // of the record
  return field.kind != Kind::identity && field.kind != Kind::counter && !is_moved_by_clock(field.field);
}

/// The samples of one series, to be asked for those around a time.
class Around {
 public:
  explicit Around(const Series& series) {
    for (const auto& sample : series.samples) by_end_.push_back(&sample), by_begin_.push_back(&sample);
    std::stable_sort(by_end_.begin(), by_end_.end(),
                     [](const Sample* a, const Sample* b) { return a->latest < b->latest; });
  }

  /// The last that ended before `time`, or null.
  const Sample* before(Time time) const {
    const auto at = std::lower_bound(by_end_.begin(), by_end_.end(), time,
                                     [](const Sample* sample, Time t) { return sample->latest < t; });
    return at == by_end_.begin() ? nullptr : *std::prev(at);
  }
  /// The first that began after `time`, or null.
  const Sample* after(Time time) const {
    const auto at = std::upper_bound(by_begin_.begin(), by_begin_.end(), time,
                                     [](Time t, const Sample* sample) { return t < sample->earliest; });
    return at == by_begin_.end() ? nullptr : *at;
  }

 private:
  std::vector<const Sample*> by_end_, by_begin_;
};

struct Bounds {
  Value low = -kUnbounded, high = kUnbounded;
};

/// What two others agree on: the second highest of what they had before, the second lowest of what they had after.
Bounds bounds_of(const std::vector<const Sample*>& before, const std::vector<const Sample*>& after, Field field) {
  std::vector<Value> lows, highs;
  for (const auto* sample : before)
    if (const auto value = number(sample->raw, field)) lows.push_back(*value);
  for (const auto* sample : after)
    if (const auto value = number(sample->raw, field)) highs.push_back(*value);
  Bounds bounds;
  std::sort(lows.rbegin(), lows.rend());
  std::sort(highs.begin(), highs.end());
  if (lows.size() > 1) bounds.low = lows[1];
  if (highs.size() > 1) bounds.high = highs[1];
  return bounds;
}

class OneEnd {
 public:
  OneEnd(SourceId source, const Seen& seen, std::chrono::seconds min_rtt_window) {
    for (const auto* series : seen) {
      if (series->source == source)
        own_ = series;
      else
        others_.emplace_back(*series);
      // Seen from its birth.
      if (const auto& first = series->samples; series->source == SourceId::kSockops && !first.empty() &&
                                               number(first.front().raw, Field::sequence) == 0)
        young_until_ = first.front().earliest + std::chrono::nanoseconds(min_rtt_window).count();
    }
  }

  bool usable() const { return own_ && others_.size() >= 2; }

  void compare(Tally& counters, Tally& alike) const {
    const auto& samples = own_->samples;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const auto& sample = samples[i];
      const auto before = around(sample.earliest, &Around::before), after = around(sample.latest, &Around::after);
      const auto& shifted_sample = samples[shifted(i, samples.size())];
      const auto control_before = around(shifted_sample.earliest, &Around::before);
      const auto control_after = around(shifted_sample.latest, &Around::after);
      for (const auto& field : tcpinfo::fields()) {
        const auto value = number(sample.raw, field.field);
        // Of a young connection it never rises.
        const bool falls = field.field == Field::min_rtt && sample.latest < young_until_;
        if (!value || (!is_monotone(field) && !falls) || grows_without_lock(field.field)) continue;
        const auto [low, high] = falls ? bounds_of(after, before, field.field) : bounds_of(before, after, field.field);
        if (low == -kUnbounded && high == kUnbounded) continue;
        counters.count(field, low, high, value, sample.raw, *own_->stream);
        const auto control = falls ? bounds_of(control_after, control_before, field.field)
                                   : bounds_of(control_before, control_after, field.field);
        counters.control(field, outside(control.low, control.high, *value) == 0);
      }
      compare_identity(sample, before, alike);
      compare_own(sample, alike);
      compare_still(sample, before, after, counters, alike);
    }
  }

 private:
  std::vector<const Sample*> around(Time time, const Sample* (Around::*which)(Time) const) const {
    std::vector<const Sample*> result;
    for (const auto& other : others_)
      if (const auto* sample = (other.*which)(time)) result.push_back(sample);
    return result;
  }

  /// The value that two of them have, or nothing.
  static std::optional<Value> common(const std::vector<const Sample*>& samples, Field field) {
    for (std::size_t a = 0; a < samples.size(); ++a)
      for (std::size_t b = a + 1; b < samples.size(); ++b) {
        const auto one = number(samples[a]->raw, field);
        if (one && one == number(samples[b]->raw, field)) return one;
      }
    return std::nullopt;
  }

  void compare_identity(const Sample& sample, const std::vector<const Sample*>& before, Tally& alike) const {
    for (const auto field : kIdentity) {
      const auto theirs = common(before, field), ours = number(sample.raw, field);
      if (theirs && ours) alike.count(tcpinfo::info(field), *theirs, *theirs, ours, sample.raw, *own_->stream);
    }
  }

  // What only the source itself can know follows from what it is.
  void compare_own(const Sample& sample, Tally& alike) const {
    const auto expect = [&](Field field, Value value) {
      if (const auto ours = number(sample.raw, field))
        alike.count(tcpinfo::info(field), value, value, ours, sample.raw, *own_->stream);
    };
    expect(Field::source, static_cast<Value>(own_->source));
    expect(Field::generation, 0);  // iperf3 connects no socket again
    const bool opens = sample.raw->event == TCPINFO_EVENT_OPEN || sample.raw->event == TCPINFO_EVENT_ADOPTED;
    if (own_->source != SourceId::kSockops || (!number(sample.raw, Field::old_state) && !opens))
      expect(Field::event, TCPINFO_EVENT_SAMPLE);
    else
      expect(Field::swept, 0);  // it tells of a transition
    if (opens) expect(Field::sequence, 0);
  }

  // No segment came or went from the earliest of the readings to the latest of them.
  void compare_still(const Sample& sample, const std::vector<const Sample*>& before,
                     const std::vector<const Sample*>& after, Tally& counters, Tally& alike) const {
    // A record of a callback is made in the middle of what it is called for.
    if (!is_moment(sample) || sample.ended) return;
    std::vector<const Sample*> earlier, later;
    for (const auto* one : before)
      for (const auto* other : after)
        if (one->raw->source == other->raw->source && is_moment(*one) && is_moment(*other) &&
            is_still(one->raw, other->raw) && is_still(one->raw, sample.raw))
          earlier.push_back(one), later.push_back(other);
    if (earlier.size() < 2) return;
    for (const auto& field : tcpinfo::fields()) {
      // Netlink, and iperf3's short tcp_info, do not say all that the others do.
      const auto ours = number(sample.raw, field.field);
      if (!ours) continue;
      if (is_moved_by_clock(field.field) && !is_monotone(field)) {
        const auto [low, high] = bounds_of(earlier, later, field.field);
        if (low > -kUnbounded && high < kUnbounded && low <= high)
          counters.count(field, low, high, ours, sample.raw, *own_->stream);
        continue;
      }
      if (!is_compared_still(field)) continue;
      std::optional<Value> theirs;
      std::size_t having = 0;
      bool same = true;
      for (std::size_t i = 0; i < earlier.size(); ++i) {
        const auto first = number(earlier[i]->raw, field.field), last = number(later[i]->raw, field.field);
        if (!first || !last) continue;
        ++having;
        same = same && *first == *last && theirs.value_or(*first) == *first;
        theirs = first;
      }
      if (same && having >= 2) alike.count(field, *theirs, *theirs, ours, sample.raw, *own_->stream);
    }
  }

  static bool is_moment(const Sample& sample) {
    return sample.raw->source != TCPINFO_SOURCE_SOCKOPS || sample.raw->swept != 0;
  }

  const Series* own_ = nullptr;
  std::vector<Around> others_;
  Time young_until_ = -kUnbounded;
};

}  // namespace

std::vector<Comparison> compare_with_others(SourceId source, End end, const std::vector<Seen>& all,
                                            std::chrono::seconds min_rtt_window) {
  Tally counters(source, end, "others"), alike(source, end, "alike");
  for (const auto& seen : all)
    if (const OneEnd one(source, seen, min_rtt_window); one.usable()) one.compare(counters, alike);
  auto result = counters.done();
  for (auto& comparison : alike.done()) result.push_back(std::move(comparison));
  return result;
}

}  // namespace validation
