// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

/// What a picture shows, before anybody draws it.
namespace plot {

struct Point {
  double x = 0;
  double y = 0;
  double half = 0;  ///< for a mean: half of the stretch of x that it is of

  bool operator==(const Point&) const = default;
};

/// Who a series is from. Each looks unlike all others, by colour and by mark or dash. The last ones are for files that
/// are laid over each other.
enum class Look : std::uint8_t {
  kSockops,
  kInetDiag,
  kIter,
  kGetsockopt,
  kIperf3,
  kFile1,
  kFile2,
  kFile3,
  kFile4,
  kFile5,
  kFile6
};
inline constexpr std::size_t kLooks = 11;

/// kSteps: a reading holds until the next one. kLine: straight from point to point. kMarks: a mark a reading. kMeans: a
/// bar over the stretch of each mean.
enum class Form : std::uint8_t { kSteps, kLine, kMarks, kMeans };

struct Series {
  Look look = Look::kSockops;
  Form form = Form::kSteps;
  std::string label;  ///< in the legend; what has the same label and look shares an entry
  std::vector<Point> points;
  std::size_t readings = 0;  ///< how many there were before thinning
};

struct Transition {
  double time_s = 0;
  std::string state;

  bool operator==(const Transition&) const = default;
};

/// A stretch of time in one state of loss recovery: 1 Disorder, 2 CWR, 3 Recovery, 4 Loss.
struct Recovery {
  double from_s = 0, to_s = 0;
  std::uint8_t ca_state = 0;

  bool operator==(const Recovery&) const = default;
};

/// What happened to one connection.
struct Lane {
  std::string label;
  std::vector<Recovery> recoveries;
  std::vector<double> retransmissions_s;
  std::vector<Transition> transitions;
};

/// What values measure; decides the scaling of an axis.
enum class Dimension : std::uint8_t { kSeconds, kBytes, kBitsPerSecond, kBytesPerSecond, kShare, kNumber };

struct Axis {
  std::string label;  ///< without unit
  Dimension dimension = Dimension::kNumber;
  std::string unit;  ///< of kNumber: "segments"; may be empty
};

/// One of the charts of a picture, which stand above each other on one axis.
struct Chart {
  std::string title;  ///< a few words above it, or empty
  Axis axis;
  bool is_difference = false;  ///< both signs count: the axis has 0 in the middle or at one end
  std::vector<Series> series;
  std::vector<Lane> lanes;  ///< a time line, in place of series

  bool is_lanes() const noexcept { return !lanes.empty(); }
};

struct Picture {
  std::string name;      ///< of its files, without extension
  std::string field;     ///< of the table, whose picture this is; empty: of all
  std::string title;     ///< what
  std::string subtitle;  ///< where
  std::vector<std::string> notes;
  std::vector<Chart> charts;
  Axis x{"Time since the start of the test", Dimension::kSeconds, {}};
  double x_from = 0, x_to = 1;

  /// Whether all values of each chart are the same: such a picture says least.
  bool is_constant() const;
  /// All points of its series.
  std::size_t points() const;
};

/// A dimension's values are divided by `divisor` and named `unit`.
struct Scale {
  double divisor;
  std::string unit;
};
/// For values up to `maximum` in size.
Scale scale_for(const Axis& axis, double maximum);
/// For an axis of time that long: a time line of hours is not read in seconds.
Scale time_scale(double length_s);

/// At most two points for each of `columns` equal parts of the x axis between the first and the last point: the least
/// and the greatest value, in their order. The first and the last point stay. What is short enough stays as it is.
/// `points` are ordered by x.
std::vector<Point> thin(std::span<const Point> points, std::size_t columns);

/// Mean rates a second of a cumulative series over parts of about `window_s`. A counter that falls begins anew.
std::vector<Point> rates(std::span<const Point> cumulative, double window_s);

/// A value, and between which times it was read.
struct Sampled {
  double time_s = 0;  ///< its stamp
  double earliest_s = 0, latest_s = 0;
  double value = 0;
};

/// How far each sample lies outside of what was read before and after it: 0 between the least and the greatest of
/// `reference` from the last reading before `earliest_s` to the first one after `latest_s`, positive above. Samples
/// without a reading on both sides are left out. Both are ordered by time.
std::vector<Point> differences(std::span<const Sampled> samples, std::span<const Point> reference);

/// The share of `values` that are at most x, as steps: one point for each different value.
std::vector<Point> cumulative_shares(std::vector<double> values);

/// The least, the median and the greatest of several step curves at `columns` equal distances; a curve counts from its
/// first point to its last.
struct Spread {
  std::vector<Point> least, median, greatest;
};
Spread spread(std::span<const std::vector<Point>> curves, double from, double to, std::size_t columns);

}  // namespace plot
