// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <vector>

#include "answers.hpp"
#include "samples.hpp"

namespace validation {

/// One result of iperf3 with the sockets of its streams, and what was read of them.
struct Run {
  std::string name;  ///< "client", "server"; where there are several "client 2"
  const Iperf3Result* result;
  std::vector<Endpoint> endpoints;
};

/// What in these results does not mean what it seems to mean, and how it was handled: a sentence each, only of what
/// occurs in them, and once where it occurs in several.
std::vector<std::string> find_quirks(const std::vector<Run>& runs, const std::vector<SourceRecords>& sources,
                                     const std::vector<const Answers*>& answers, bool placed_in_time);

}  // namespace validation
