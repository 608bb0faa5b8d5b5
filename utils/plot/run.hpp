// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <tcpinfo/record.hpp>

#include "verdict.hpp"

namespace plot {

/// One end of a connection.
struct Endpoint {
  tcpinfo_address address{};
  std::uint16_t port = 0;
};

/// What iperf3 says of one stream in one interval; times on the axis of the test, also where -O made iperf3's own begin
/// anew.
struct Interval {
  double start_s = 0;
  double end_s = 0;
  std::optional<std::uint64_t> bytes;
  std::map<tcpinfo::Field, double> values;  ///< of the table's rows that iperf3 has a name for, in iperf3's units
};

struct Stream {
  Endpoint sender;
  Endpoint receiver;
  std::vector<Interval> sent;      ///< of the side that sends: these have the TCP fields
  std::vector<Interval> received;  ///< of the other side
};

/// Everything that is known of one run.
struct Run {
  std::string name;  ///< of its folder
  std::filesystem::path directory;
  std::string iperf3_version;
  std::string congestion_control;
  std::vector<Stream> streams;
  std::vector<tcpinfo_record> sockops;
  std::vector<tcpinfo_record> inet_diag;
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
