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

// Read without the socket's lock by inet_diag, and moved without it: by the device that has sent, by packets that
// arrive while the socket is locked.
constexpr std::array kMovedWithoutLock{Field::skmem_wmem_alloc, Field::skmem_backlog, Field::skmem_drops};

template <std::size_t N>
bool is_one_of(const std::array<Field, N>& fields, Field field) {
  return std::find(fields.begin(), fields.end(), field) != fields.end();
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
  OneEnd(SourceId source, const Seen& seen) {
    for (const auto* series : seen)
      if (series->source == source)
        own_ = series;
      else
        others_.emplace_back(*series);
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
        if (!value || !is_monotone(field) || is_one_of(kMovedWithoutLock, field.field)) continue;
        const auto [low, high] = bounds_of(before, after, field.field);
        if (low == -kUnbounded && high == kUnbounded) continue;
        counters.count(field, low, high, value, sample.raw, *own_->stream);
        const auto control = bounds_of(control_before, control_after, field.field);
        counters.control(field, outside(control.low, control.high, *value) == 0);
      }
      compare_identity(sample, before, alike);
      compare_still(sample, before, after, alike);
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

  // No packet came or went from the earliest of the readings to the latest of them.
  void compare_still(const Sample& sample, const std::vector<const Sample*>& before,
                     const std::vector<const Sample*>& after, Tally& alike) const {
    // A record of a callback is made in the middle of what it is called for.
    if (own_->source == SourceId::kSockops && sample.raw->swept == 0) return;
    if (sample.ended) return;
    std::vector<const Sample*> still;
    for (const auto* one : before)
      for (const auto* other : after)
        if (one->raw->source == other->raw->source && is_moment(*one) && is_moment(*other) &&
            is_still(one->raw, other->raw) && is_still(one->raw, sample.raw))
          still.push_back(one), still.push_back(other);
    for (const auto& field : tcpinfo::fields()) {
      if (field.kind == Kind::identity || field.kind == Kind::counter || field.field == Field::swept ||
          field.field == Field::old_state || is_moved_by_clock(field.field) ||
          is_moved_by_application(field.field) || is_one_of(kMovedWithoutLock, field.field))
        continue;
      std::vector<Value> values;
      std::vector<std::uint8_t> sources;
      bool alike_all = true;
      for (const auto* one : still) {
        const auto value = number(one->raw, field.field);
        if (!value) continue;
        if (!values.empty() && values.front() != *value) alike_all = false;
        values.push_back(*value);
        if (std::find(sources.begin(), sources.end(), one->raw->source) == sources.end())
          sources.push_back(one->raw->source);
      }
      // Netlink, and iperf3's short tcp_info, do not say all that the others do.
      const auto ours = number(sample.raw, field.field);
      if (!alike_all || sources.size() < 2 || !ours) continue;
      alike.count(field, values.front(), values.front(), ours, sample.raw, *own_->stream);
    }
  }

  static bool is_moment(const Sample& sample) {
    return sample.raw->source != TCPINFO_SOURCE_SOCKOPS || sample.raw->swept != 0;
  }

  const Series* own_ = nullptr;
  std::vector<Around> others_;
};

}  // namespace

std::vector<Comparison> compare_with_others(SourceId source, End end, const std::vector<Seen>& all) {
  Tally counters(source, end, "others"), alike(source, end, "alike");
  for (const auto& seen : all)
    if (const OneEnd one(source, seen); one.usable()) one.compare(counters, alike);
  auto result = counters.done();
  for (auto& comparison : alike.done()) result.push_back(std::move(comparison));
  return result;
}

}  // namespace validation
