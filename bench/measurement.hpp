// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// What tcpinfo-bench measures and how it is told: each measurement is one function in a file of its own, entered in
/// the table of measurements.cpp.
namespace bench {

/// A median and its spread: of what was repeated, or of the ratios of interleaved pairs.
struct Spread {
  double median = 0;
  double low = 0, high = 0;  ///< interval that holds the true median with at least 95 %, by order statistics
  std::size_t count = 0;     ///< of the values that it is taken from
};

/// Of fewer than six values the interval is their whole range, which covers less than 95 %. Throws
/// std::invalid_argument if there is none.
Spread spread(std::span<const double> values);
/// Of ours[i] / floor[i]: what stands at the same place was measured side by side. Throws std::invalid_argument if they
/// are not equally long or empty.
Spread ratio(std::span<const double> ours, std::span<const double> floor);

enum class Sense { kAtMost, kAtLeast };

/// A line of the table: what we cost, the floor or the peer beside it, the goal.
struct Result {
  std::string what;  ///< as "full record emitted"
  std::string unit;  ///< of `ours` and `floor`, as "ns" or "sockets/s"
  Spread ours;
  std::string floor_name = {};  ///< what it is compared with; empty: with nothing, the goal is one of `ours`
  std::optional<Spread> floor = {};
  std::optional<Spread> ratio = {};  ///< ours / floor of interleaved pairs
  std::optional<double> goal = {};   ///< of the ratio's median, or of that of `ours` where there is no ratio
  Sense sense = Sense::kAtMost;
  std::string note = {};        ///< what the reader has to know: losses, what was left out, why a goal is missed
  bool whole_interval = false;  ///< the goal is met only if the whole interval meets it

  /// What is compared with the goal.
  double judged() const noexcept;
  /// Nothing where there is no goal.
  std::optional<bool> reached() const noexcept;
};

/// A curve for the growth plots: cost over something that grows.
struct Curve {
  std::string name;  ///< as "snapshot_iter"
  std::string x, y;  ///< what they are, with units: "sockets", "ms"
  std::vector<std::pair<double, Spread>> points;
};

struct Outcome {
  std::vector<Result> results = {};
  std::vector<Curve> curves = {};
};

struct Options {
  bool quick = false;              ///< a tenth of the time; figures are less sure
  bool growth = false;             ///< measure curves too
  std::filesystem::path binaries;  ///< directory of the programs that were built with this one
  /// One line to the person who waits; never empty. Throws when that person wants no more: let it through. Call it at
  /// least every few seconds, outside of what is timed.
  std::function<void(std::string_view)> progress;
};

/// A measurement cannot be made here: what is missing.
struct NotPossible {
  std::string reason;
};

struct Measurement {
  std::string_view name;  ///< as "callbacks"
  std::string_view description;
  Outcome (*run)(const Options& options);  ///< throws NotPossible or std::exception; leaves nothing behind
  int seconds = 60, quick_seconds = 10;    ///< about; for the time left
  int growth_seconds = 60;                 ///< more with Options::growth, and a tenth of it with Options::quick
};

/// All, in the order of the table.
std::span<const Measurement> measurements() noexcept;

}  // namespace bench
