// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <vector>

#include "samples.hpp"

/// Comparisons of the sources with each other. A source is wrong only where two others say so: one of them may be wrong
/// itself. They know no tolerance.
namespace validation {

/// One end of a stream, as every source saw it: three sources at least, or nothing can be said.
using Seen = std::vector<const Series*>;

/// "others": a counter is at least what one of two others had before, and at most what one of two others had after, and
/// min_rtt, which falls, the other way round as long as a connection seen from its birth is younger than the window;
/// "alike": what belongs to the connection (identity, and at a still moment every gauge) is what two others read alike,
/// and what tells of the record itself (source, event, sequence, swept) fits to what it is.
std::vector<Comparison> compare_with_others(tcpinfo::SourceId source, End end, const std::vector<Seen>& all,
                                            std::chrono::seconds min_rtt_window);

}  // namespace validation
