// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <tcpinfo/record.hpp>

namespace plot {

/// One end of a connection.
struct Endpoint {
  tcpinfo_address address{};
  std::uint16_t port = 0;
};

/// What iperf3 says of one stream in one interval; times on the axis of the test, omitted seconds included.
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

/// A row of the verdict: one field of one source against iperf3.
struct Judgement {
  std::string source;
  std::string field;
  std::string rule;
  std::uint64_t compared = 0;
  std::uint64_t agreed = 0;
  std::string largest_difference;  ///< with its unit
  std::string window;              ///< what readings were allowed to lie between
  std::string control;             ///< the same comparison where it has to fail
  bool passed = false;
};

/// What became of a source's records.
struct Ledger {
  std::string source;
  std::uint64_t emitted = 0;
  std::uint64_t delivered = 0;
  std::uint64_t lost = 0;
};

struct Verdict {
  bool passed = false;
  std::vector<std::string> reasons;
  std::optional<std::uint64_t> start_boot_ns;
  std::optional<double> uncertainty_s;
  std::vector<Judgement> judgements;
  std::vector<Ledger> ledgers;
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
  std::optional<Verdict> verdict;
  std::uint64_t start_boot_ns = 0;  ///< 0 of the time axis
  /// What was missing or cut off, a sentence each: what could be read is here all the same.
  std::vector<std::string> defects;
  /// What a reader of the plots should know, a sentence each.
  std::vector<std::string> remarks;
};

/// Reads the folder of a run. Throws tcpinfo::Error where nothing can be plotted: iperf3.json is missing, cut off or
/// names no stream.
Run read_run(const std::filesystem::path& directory);

}  // namespace plot
