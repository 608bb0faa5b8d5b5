// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <vector>

#include "picture.hpp"
#include "run.hpp"

namespace plot {

/// How many streams get a chart of their own; where there are more, the last chart sums up all.
inline constexpr std::size_t kStreamCharts = 4;

/// The pictures of a validation run, the most telling first: of each field all sources over each other, below it how
/// far their samples are from what iperf3 was answered, and what happened to the connections meanwhile; and how these
/// differences are distributed. `fields`: which ones; none: those that iperf3 reports too, and those that failed.
std::vector<Picture> pictures(const Run& run, const std::vector<tcpinfo::Field>& fields = {});

}  // namespace plot
