// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "run.hpp"

namespace plot {

enum class Origin { kEbpf, kNetlink, kIperf3 };

struct Point {
  double time_s = 0;
  double value = 0;
  double half_s = 0;  ///< for a mean over a time: half of it

  bool operator==(const Point&) const = default;
};

struct Series {
  Origin origin;
  std::vector<Point> points;
  std::size_t readings = 0;  ///< how many there were before thinning
};

struct Transition {
  double time_s;
  std::string state;
};

/// One stream.
struct Panel {
  std::string title;
  std::vector<Series> series;
  std::vector<double> retransmissions_s;
  std::vector<Transition> transitions;
};

/// What a picture's values measure; decides the scaling of its axis.
enum class Dimension { kSeconds, kBytes, kBitsPerSecond, kNumber };

struct Picture {
  std::string name;      ///< of its files, without extension
  std::string title;     ///< what
  std::string subtitle;  ///< where
  std::string axis;      ///< the value axis, without unit
  std::vector<std::string> notes;
  Dimension dimension = Dimension::kNumber;
  bool is_rate = false;  ///< points are means over a time, not readings that hold until the next
  bool at_receiver = false;
  std::vector<Panel> panels;
  double end_s = 0;  ///< right end of the time axis

  /// The largest value of any series.
  double maximum() const;
  /// Whether all values are the same: such a picture says least and comes last.
  bool is_constant() const;
};

/// A dimension's values are divided by `divisor` and named `unit`.
struct Scale {
  double divisor;
  std::string unit;
};
Scale scale_for(Dimension dimension, double maximum);

/// At most two points for each of `columns` equal parts of the time between the first and the last point: the least and
/// the greatest value, in the order of time. The first and the last point stay. What is short enough stays as it is.
/// `points` are in the order of time.
std::vector<Point> thin(std::span<const Point> points, std::size_t columns);

/// Mean rates of a cumulative series over parts of about `window_s`. A counter that falls begins anew.
std::vector<Point> rates(std::span<const Point> cumulative, double window_s);

/// How many streams get a panel; pictures say so where there are more.
inline constexpr std::size_t kPanelsMax = 12;

/// A picture for each quantity of the field table that iperf3 reports too, the most telling first.
std::vector<Picture> pictures(const Run& run);

}  // namespace plot
