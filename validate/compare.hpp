// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
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
  /// The kernel forgets the least round trip after so long: net.ipv4.tcp_min_rtt_wlen, here its default. Until then it
  /// never rises.
  std::chrono::seconds min_rtt_window{300};
};

/// Compares every field whose row of the field table has a rule: byte counts and retransmissions from any source, and
/// with the source getsockopt all of iperf3's figures, exactly, and every sample of the other sources with what iperf3
/// was answered before and after it. Pure: no clock, no file. The caller adds the title, the kernel and what became of
/// the records.
Verdict compare(const Input& input);

}  // namespace validation
