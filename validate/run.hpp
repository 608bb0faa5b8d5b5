// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "verdict.hpp"

namespace validation {

enum class Family { kIpv4, kIpv6, kMapped };

struct RunOptions {
  std::filesystem::path out;
  Family family = Family::kIpv4;
  std::chrono::seconds duration{5};
  std::chrono::seconds omit{0};  ///< before the duration: iperf3 sends and does not count
  double bitrate_mbit = 0;       ///< of a stream, by iperf3; 0: as much as it can
  int parallel = 1;
  bool reverse = false;
  bool bidirectional = false;
  std::string congestion = "cubic";
  double rate_mbit = 200;                                         ///< 0: unlimited
  std::chrono::nanoseconds interval{0};                           ///< of sockops; 0: every RTT callback
  std::chrono::nanoseconds poll = std::chrono::milliseconds(20);  ///< of inet_diag
  std::chrono::milliseconds iperf3_interval{250};
};

/// This machine cannot do it; the text says what is missing and how to get it.
class NotPossible : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct RunOutcome {
  Verdict verdict;
  bool interrupted = false;
};

/// Makes network namespaces and cgroups, lets iperf3 run between them, gathers with sockops, inet_diag and what
/// iperf3's own getsockopt calls are answered, writes iperf3.json, iperf3-server.json, sockops.jsonl, inet_diag.jsonl,
/// getsockopt.jsonl and verdict.json into `out` and compares. SIGINT and
/// SIGTERM end it early, with what was gathered. Nothing but the files is left, and those only if all could be written.
/// Throws NotPossible and tcpinfo::Error.
RunOutcome run(const RunOptions& options);

}  // namespace validation
