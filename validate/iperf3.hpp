// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Comparison of our records with iperf3's own figures.
namespace validation {

/// What iperf3 says of one stream at the end of one interval.
struct Iperf3Interval {
  std::int64_t end_us = 0;  ///< since iperf3's start, whose own time is known to the second only
  bool sender = false;
  bool omitted = false;
  /// Every whole number of the interval under its name in the JSON: bytes, retransmits, rtt, snd_cwnd, ...
  std::map<std::string, std::uint64_t, std::less<>> values;

  std::optional<std::uint64_t> value(std::string_view name) const;
};

/// One data connection, as the side that wrote the file sees it.
struct Iperf3Stream {
  int socket = 0;  ///< iperf3's number for it
  std::string local_address, peer_address;
  std::uint16_t local_port = 0, peer_port = 0;
  bool sender = false;  ///< this side sends
  std::vector<Iperf3Interval> intervals;
  /// Totals of the end of the run. The other side's are those that it reported over the control connection.
  std::optional<std::uint64_t> sent_bytes, received_bytes;
  /// Every whole number that the end says of its sender: bytes, retransmits, max_rtt, ... Those of the TCP fields are
  /// this side's own readings.
  std::map<std::string, std::uint64_t, std::less<>> totals;
};

struct Iperf3Result {
  std::string version;             ///< "iperf 3.12"
  std::string system;              ///< host, kernel and machine, as uname gives them
  std::string congestion_control;  ///< of the sender, empty where iperf3 does not say
  std::string error;               ///< empty: the run ended well
  std::int64_t start_s = 0;        ///< since 1970
  bool is_server = false;          ///< printed by the server
  bool reverse = false;            ///< the server sends
  /// From iperf 3.16 on each stream has a thread of its own, which goes on while another one reads its count, then its
  /// tcp_info, and then begins the count anew (src/iperf_api.c iperf_stats_callback()). What it writes (reads)
  /// meanwhile is in no interval: the sum of the intervals is at most what the socket had. The totals of the end have
  /// all.
  bool threaded = false;
  bool repeated_intervals = false;  ///< the file has the last interval twice, here it is once
  std::vector<Iperf3Stream> streams;
};

enum class FailedRuns { kRefuse, kAccept };

/// Understands what `iperf3 -J` and, from 3.17 on, `iperf3 --json-stream` printed, client or server; members that a
/// version does not print are absent. Throws tcpinfo::Error (Errc::kMalformed), with `name` and
/// one sentence: empty or cut off, not JSON, more than one run, no iperf3 result, not TCP, or, with kRefuse, a run that
/// failed, with iperf3's own words. kAccept gives what there is of a failed run.
Iperf3Result parse_iperf3(std::string_view json, std::string_view name, FailedRuns failed = FailedRuns::kRefuse);

/// The same from a file. Throws also what the file system answered.
Iperf3Result read_iperf3(const std::filesystem::path& file, FailedRuns failed = FailedRuns::kRefuse);

}  // namespace validation
