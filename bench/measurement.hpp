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

/// What tcpinfo-bench measures and how it is told: each measurement is one function in a file of its own, entered in the
/// table of measurements.cpp.
namespace bench {

/// A median and its spread: of what was repeated, or of the ratios of interleaved pairs.
struct Spread {
  double median = 0;
  double low = 0, high = 0;  ///< 95 % interval of the median, by order statistics
  std::size_t count = 0;     ///< of the values that it is taken from
};

/// Of at least one value.
Spread spread(std::span<const double> values);
/// Of ours[i] / floor[i]: the two spans are equally long, and what stands at the same place was measured side by side.
Spread ratio(std::span<const double> ours, std::span<const double> floor);

enum class Sense { kAtMost, kAtLeast };

/// A line of the table: what we cost, the floor or the peer beside it, the goal.
struct Result {
  std::string what;           ///< as "full record emitted"
  std::string unit;           ///< of `ours` and `floor`, as "ns" or "sockets/s"
  Spread ours;
  std::string floor_name = {};   ///< what it is compared with; empty: with nothing, the goal is one of `ours`
  std::optional<Spread> floor = {};
  std::optional<Spread> ratio = {};  ///< ours / floor of interleaved pairs
  std::optional<double> goal = {};   ///< of the ratio's median, or of that of `ours` where there is no ratio
  Sense sense = Sense::kAtMost;
  std::string note = {};         ///< what the reader has to know: load, losses, what was left out

  double judged() const noexcept { return ratio ? ratio->median : ours.median; }
  /// Nothing where there is no goal.
  std::optional<bool> reached() const noexcept;
};

/// A curve for the growth plots: cost over something that grows.
struct Curve {
  std::string name;    ///< as "snapshot_iter"
  std::string x, y;    ///< what they are, with units: "sockets", "ms"
  std::vector<std::pair<double, Spread>> points;
};

struct Outcome {
  std::vector<Result> results = {};
  std::vector<Curve> curves = {};
};

struct Options {
  bool quick = false;  ///< a tenth of the time; figures are less sure
  bool growth = false;  ///< measure curves too
  std::filesystem::path binaries;  ///< directory of the programs that were built with this one
  std::function<void(std::string_view)> progress;  ///< one line to the person who waits; never empty
};

/// A measurement cannot be made here: what is missing.
struct NotPossible {
  std::string reason;
};

struct Measurement {
  std::string_view name;         ///< as "callbacks"
  std::string_view description;
  Outcome (*run)(const Options& options);  ///< throws NotPossible or std::exception; leaves nothing behind
};

/// All, in the order of the table.
std::span<const Measurement> measurements() noexcept;

}  // namespace bench
