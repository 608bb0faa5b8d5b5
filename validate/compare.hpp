// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <optional>
#include <vector>

#include "iperf3.hpp"
#include "samples.hpp"
#include "verdict.hpp"

namespace validation {

struct Input {
  std::vector<Iperf3Result> results;  ///< of clients and servers, in any order; one at least
  std::vector<SourceRecords> sources;
  LinkReport link;  ///< what the path is known to do
};

/// Compares every field whose row of the field table has a rule: byte counts and retransmissions from any source, and
/// with the source getsockopt all of iperf3's figures, exactly, and every sample of the other sources with what iperf3
/// was answered before and after it. Pure: no clock, no file. The caller adds the title, the kernel and what became of
/// the records.
Verdict compare(const Input& input);

}  // namespace validation
