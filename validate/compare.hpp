// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <optional>
#include <span>
#include <vector>

#include <tcpinfo/record.hpp>

#include "iperf3.hpp"
#include "verdict.hpp"

namespace validation {

/// All that one source gathered, of both ends and in any order.
struct SourceRecords {
  tcpinfo::SourceId source;
  std::span<const tcpinfo_record> records;
};

struct Input {
  std::optional<Iperf3Result> first, second;  ///< of client and server, in any order; one of them at least
  std::vector<SourceRecords> sources;
};

/// Compares every field whose row of the field table has a rule. Pure: no clock, no file. The caller adds the title,
/// the kernel and what became of the records.
Verdict compare(const Input& input);

}  // namespace validation
