// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "samples.hpp"

/// Comparisons by the byte ledger alone: iperf3's byte counts say between which of our records it took a reading. They
/// need nothing but iperf3's result and our records, and know no tolerance.
namespace validation {

/// When iperf3's clock started, by one source, for one side's result.
struct Start {
  Time low = 0, high = 0;
  std::uint64_t intervals = 0;
  Time conflict = 0;  // > 0: no start suits all intervals, by this much
  std::string conflict_text;

  Time middle() const { return low + (high - low) / 2; }
};

/// The start lies in the intersection of what every interval of every stream says. If there is none, the point that
/// suits the most intervals is taken: what does not suit it then shows as a difference.
Start find_start(const std::vector<const Series*>& all);

/// A series and when the clock of its result began.
struct Placed {
  const Series* series;
  const Start* start;
};

/// Cumulative bytes at each interval end, against our counts just before and just after it by the clock. `all` holds
/// one at least.
Comparison compare_bytes(const std::vector<Placed>& all, const tcpinfo::FieldInfo& field);

/// Totals of the run, against the connection's last record. `other_end`: the peer's view of a stream, or null.
Comparison compare_totals(const std::vector<const Series*>& all, const tcpinfo::FieldInfo& field,
                          const std::function<const Iperf3Stream*(const Iperf3Stream&)>& other_end);

/// A counter whose growth iperf3 gives: iperf3's sum lies between ours at the last sample that was certainly before its
/// reading and at the first that was certainly after it, both by the byte ledger alone.
Comparison compare_counter(const std::vector<const Series*>& all, const tcpinfo::FieldInfo& field);

}  // namespace validation
