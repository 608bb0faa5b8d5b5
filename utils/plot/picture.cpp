// SPDX-License-Identifier: BSD-2-Clause
#include "picture.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace plot {

bool Picture::is_constant() const {
  return std::ranges::all_of(charts, [](const Chart& chart) {
    std::optional<double> first;
    for (const auto& one : chart.series)
      for (const auto& point : one.points)
        if (point.y != first.value_or(point.y))
          return false;
        else
          first = point.y;
    return true;
  });
}

std::size_t Picture::points() const {
  std::size_t count = 0;
  for (const auto& chart : charts)
    for (const auto& one : chart.series) count += one.points.size();
  return count;
}

Scale scale_for(const Axis& axis, double maximum) {
  static const std::vector<Scale> seconds{{1, "s"}, {1e-3, "ms"}, {1e-6, "µs"}};
  static const std::vector<Scale> bytes{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}, {1, "bytes"}};
  static const std::vector<Scale> bits{{1e9, "Gbit/s"}, {1e6, "Mbit/s"}, {1e3, "kbit/s"}, {1, "bit/s"}};
  static const std::vector<Scale> speeds{{1e9, "GB/s"}, {1e6, "MB/s"}, {1e3, "kB/s"}, {1, "B/s"}};
  static const std::vector<Scale> shares{{0.01, "%"}};
  static const std::vector<Scale> numbers{{1e9, "10⁹"}, {1e6, "10⁶"}, {1, ""}};
  const auto& scales = [&]() -> const std::vector<Scale>& {
    switch (axis.dimension) {
      case Dimension::kSeconds:
        return seconds;
      case Dimension::kBytes:
        return bytes;
      case Dimension::kBitsPerSecond:
        return bits;
      case Dimension::kBytesPerSecond:
        return speeds;
      case Dimension::kShare:
        return shares;
      case Dimension::kNumber:
        break;
    }
    return numbers;
  }();
  auto scale = scales.back();
  for (const auto& one : scales)
    if (maximum >= one.divisor) {
      scale = one;
      break;
    }
  if (axis.dimension == Dimension::kNumber && !axis.unit.empty())
    scale.unit = scale.unit.empty() ? axis.unit : scale.unit + " " + axis.unit;
  return scale;
}

Scale time_scale(double length_s) {
  if (length_s >= 3 * 3600) return {3600, "h"};
  if (length_s >= 15 * 60) return {60, "min"};
  return length_s >= 0.5 ? Scale{1, "s"} : Scale{1e-3, "ms"};
}

std::vector<Point> thin(std::span<const Point> points, std::size_t columns) {
  if (points.size() <= 2 * columns || columns == 0) return {points.begin(), points.end()};
  const double start = points.front().x, length = points.back().x - start;
  const auto column = [&](const Point& p) {
    if (length <= 0) return std::size_t{0};
    return std::min(columns - 1, static_cast<std::size_t>((p.x - start) / length * static_cast<double>(columns)));
  };
  std::vector<Point> kept{points.front()};
  for (std::size_t begin = 0; begin < points.size();) {
    std::size_t least = begin, greatest = begin, end = begin + 1;
    for (; end < points.size() && column(points[end]) == column(points[begin]); ++end) {
      if (points[end].y < points[least].y) least = end;
      if (points[end].y > points[greatest].y) greatest = end;
    }
    for (const auto i : {std::min(least, greatest), std::max(least, greatest)})
      if (i != 0 && points[i] != kept.back()) kept.push_back(points[i]);
    begin = end;
  }
  if (kept.back() != points.back()) kept.push_back(points.back());
  return kept;
}

std::vector<Point> rates(std::span<const Point> cumulative, double window_s) {
  std::vector<Point> result;
  const Point* from = nullptr;
  for (const auto& to : cumulative) {
    if (!from || to.y < from->y) {
      from = &to;
      continue;
    }
    const double length = to.x - from->x;
    // Readings come a little early or late: nine tenths of a window are one.
    if (length < 0.9 * window_s || length <= 0) continue;
    result.push_back({.x = (from->x + to.x) / 2, .y = (to.y - from->y) / length, .half = length / 2});
    from = &to;
  }
  return result;
}

std::vector<Point> differences(std::span<const Sampled> samples, std::span<const Point> reference) {
  std::vector<Point> result;
  for (const auto& sample : samples) {
    const auto after = std::ranges::lower_bound(reference, sample.latest_s, {}, &Point::x);
    const auto beyond = std::ranges::upper_bound(reference, sample.earliest_s, {}, &Point::x);
    if (after == reference.end() || beyond == reference.begin()) continue;
    // Two readings of one moment: both are met.
    const auto first = std::min(beyond - 1, after), last = std::max(beyond - 1, after);
    const auto [least, greatest] =
        std::minmax_element(first, last + 1, [](const Point& a, const Point& b) { return a.y < b.y; });
    result.push_back({.x = sample.time_s, .y = sample.value - std::clamp(sample.value, least->y, greatest->y)});
  }
  return result;
}

std::vector<Point> cumulative_shares(std::vector<double> values) {
  std::ranges::sort(values);
  std::vector<Point> steps;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (i + 1 == values.size() || values[i + 1] != values[i])
      steps.push_back({.x = values[i], .y = static_cast<double>(i + 1) / static_cast<double>(values.size())});
  return steps;
}

Spread spread(std::span<const std::vector<Point>> curves, double from, double to, std::size_t columns) {
  Spread result;
  std::vector<double> values;
  for (std::size_t i = 0; i <= columns; ++i) {
    const double x = from + (to - from) * static_cast<double>(i) / static_cast<double>(columns);
    values.clear();
    for (const auto& curve : curves) {
      if (curve.empty() || x < curve.front().x || x > curve.back().x) continue;
      values.push_back((std::ranges::upper_bound(curve, x, {}, &Point::x) - 1)->y);
    }
    if (values.empty()) continue;
    std::ranges::sort(values);
    result.least.push_back({.x = x, .y = values.front()});
    result.median.push_back({.x = x, .y = values[values.size() / 2]});
    result.greatest.push_back({.x = x, .y = values.back()});
  }
  return result;
}

}  // namespace plot
