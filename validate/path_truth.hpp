// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <vector>

#include "samples.hpp"
#include "verdict.hpp"

/// Comparisons with what the path is known to do (method "path"): what was asked of it, and what it counted. Only what
/// is certain is asserted, without a tolerance; what is not is a remark.
namespace validation {

struct PathTruth {
  std::vector<Comparison> comparisons;
  std::vector<std::string> remarks;
};

/// A series, and whether its end connected: then its packets go the way there, else the way back.
struct OnPath {
  const Series* series;
  bool connects = false;
};

/// min_rtt, and so rtt, of every sample is at least what both ways delay every packet. At close, with sockops: the
/// connections of a side, the control connection too, retransmitted at least what the path lost of their data, and none
/// saw an echo of congestion where the path marked nothing. `client_address`: of the side from which the way there
/// begins. `sockops`: all its records, or none.
PathTruth compare_with_path(const LinkReport& link, const std::vector<OnPath>& all, const std::string& client_address,
                            std::span<const tcpinfo_record> sockops);

}  // namespace validation
