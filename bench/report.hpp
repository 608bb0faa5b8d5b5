// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "machine.hpp"
#include "measurement.hpp"

/// What tcpinfo-bench found, as a table and as JSON.
///
/// The JSON, bench.json, is one object; what could not be found out is null.
///   schema              1
///   date                begin, UTC, as "2026-11-21T13:45:00Z"
///   seconds             that it took
///   options             quick, growth (booleans), only (names; empty: all)
///   revision            git's, of the clone that the program lies in
///   machine             kernel, architecture, cpu_model, cores, memory_bytes, hz, clock_source
///   load_before         as `load`, in the second before the first measurement
///   measurements[]      in the order of the table
///     name, description
///     outcome           "measured", "not possible" or "failed"
///     reason            why it was not measured
///     seconds           that it took
///     load              loadavg (of the last minute), foreign_cores (kept busy by processes that were not ours),
///                       steal (share of the CPUs' time), busy (whether that is too much to trust the figures)
///     results[]         what, unit, ours, floor_name, floor, ratio, note,
///                       goal (of the ratio's median, or of that of `ours` where there is no ratio),
///                       sense ("at most", "at least"), whole_interval (whether the whole interval has to meet the
///                       goal), reached (null without a goal)
///     curves[]          name, x, y, points[]: x and the members of a spread
/// ours, floor and ratio are spreads: median, low and high (95 % interval of the median), count.
namespace bench {

/// One measurement and what became of it.
struct Entry {
  enum class Kind { kMeasured, kNotPossible, kFailed };

  std::string name, description;
  Kind kind = Kind::kMeasured;
  std::string reason = {};
  double seconds = 0;
  Load load = {};
  Outcome outcome = {};
};

struct Report {
  std::string date;
  double seconds = 0;
  bool quick = false, growth = false;
  std::vector<std::string> only = {};
  std::string revision = {};
  Machine machine = {};
  Load load_before = {};
  std::vector<Entry> entries = {};
};

/// Lines of at most 140 columns, what is longer wrapped: what was measured, what we cost, the floor or the peer, the
/// ratio with its interval, the goal, reached or missed; the notes under it.
std::string to_table(const Report& report);

std::string to_json(const Report& report);

/// Three significant digits, with k, M and G from 10,000 on: "1.78 M".
std::string format_number(double number);

/// "at most", "at least"
std::string_view name(Sense sense) noexcept;
/// "measured", "not possible", "failed"
std::string_view name(Entry::Kind kind) noexcept;

}  // namespace bench
