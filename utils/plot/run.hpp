// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <tcpinfo/record.hpp>

#include "iperf3.hpp"
#include "verdict.hpp"

namespace plot {

/// What iperf3 says of one stream in one interval; times on the axis of the test, also where -O made iperf3's own begin
/// anew.
struct Interval {
  double start_s = 0;
  double end_s = 0;
  std::optional<std::uint64_t> bytes;
  std::map<tcpinfo::Field, double> values;  ///< of the table's rows that iperf3 has a name for, in iperf3's units
};

/// One end of a stream.
struct StreamEnd {
  /// As iperf3 said it on this side; where it did not, the addresses only.
  validation::Iperf3Stream iperf3;
  std::vector<Interval> intervals;  ///< those of iperf3, in their order
  bool side_sends = false;          ///< some stream of this side sends
  bool threaded = false;            ///< of Iperf3Result
};

struct Stream {
  StreamEnd sender, receiver;  ///< the sender's intervals have the TCP fields
  bool client_sends = true;
};

/// Everything that is known of one run.
struct Run {
  std::string name;  ///< of its folder
  std::filesystem::path directory;
  std::string iperf3_version;
  std::string congestion_control;
  std::vector<Stream> streams;
  std::map<tcpinfo::SourceId, std::vector<tcpinfo_record>> records;
  std::optional<validation::Verdict> verdict;
  std::uint64_t start_boot_ns = 0;      ///< 0 of the time axis
  std::optional<double> uncertainty_s;  ///< of that; nothing: the first record is taken for the start
  /// What was missing or cut off, a sentence each: what could be read is here all the same.
  std::vector<std::string> defects;
  /// What a reader of the plots should know, a sentence each.
  std::vector<std::string> remarks;
};

/// Reads the folder of a run. Throws tcpinfo::Error where nothing can be plotted: iperf3.json is missing, cut off or
/// names no stream. All else that is missing is a defect.
Run read_run(const std::filesystem::path& directory);

}  // namespace plot
