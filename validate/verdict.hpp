// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace validation {

/// When iperf3's clock started, found from the byte counts of its intervals and of our records.
struct Alignment {
  std::string file;                  ///< "client" or "server": whose result it is for
  std::string source;                ///< whose records it was found from
  std::uint64_t start_boot_ns = 0;   ///< middle of what the data allow; getsockopt: the latest
  std::uint64_t uncertainty_ns = 0;  ///< the data allow this much to either side; getsockopt: how late answers came
  std::uint64_t intervals = 0;       ///< interval ends that bound it
};

/// Which sockets a stream of iperf3 is. A cookie is 0 where no record of that end was found.
struct StreamIdentity {
  int socket = 0;  ///< iperf3's number for it, in the client's result if there is one
  std::string local_address, peer_address;
  std::uint16_t local_port = 0, peer_port = 0;
  std::uint64_t sender_cookie = 0, receiver_cookie = 0;
};

/// One way of the path: what the scenario asked for, and what the path counted, as in lab::WayCounters. Absent (null in
/// JSON) is what the path's engine does not tell.
struct WayReport {
  double rate_mbit = 0;
  std::uint64_t delay_us = 0, jitter_us = 0;
  double loss = 0, reordering = 0;  ///< of 1
  std::uint64_t queue_bytes = 0, ecn_mark_bytes = 0;
  std::optional<std::uint64_t> packets, bytes, lost, dropped, data_lost, marked, reordered;
  std::optional<double> busiest_mbit;      ///< the most delivered in 100 ms
  std::optional<std::uint64_t> latest_us;  ///< the longest that a packet came after it was due
};

/// The path that a run went over.
struct LinkReport {
  std::string engine;  ///< "veth", "tbf", "netem", "emulator"; empty: nothing is known of the path
  std::uint64_t mtu = 0;
  std::optional<std::uint64_t> rtt_least_us, rtt_median_us;  ///< of small packets, before iperf3 began
  WayReport there, back;                              ///< from iperf3's client to its server, and back
};

/// One field of one source beside iperf3's, what iperf3 was answered, other sources, or what the path is known to do.
struct Comparison {
  std::string source;  ///< "sockops", "inet_diag", "iter" or "getsockopt"
  std::string field;   ///< of the field table
  std::string iperf3;  ///< iperf3's name for it; empty: compared with other readings, not with iperf3's figures
  std::string rule;    ///< how iperf3's figure follows: of the field table, or total, max, min, mean of a run
  /// None knows a tolerance. "exact", "equal": equal. "bracket": between the readings before and after. "order": not
  /// ahead of an answer where another counter is behind it. "still": equal, where no packet came or went between a
  /// sample and an answer. "twin": the same of the BPF side's own reading at the moment of an answer. "others",
  /// "alike": as two other sources read it. "path": as the path does it. The rules and their reasons stand in
  /// ledger.hpp, answers.hpp, others.hpp and path_truth.hpp.
  std::string method;
  std::string end;   ///< "sender" or "receiver": whose socket was read
  std::string unit;  ///< of the differences
  std::uint64_t compared = 0, agreed = 0;
  double largest_difference = 0;     ///< how far a figure lay outside its bracket, at most
  double median_window = 0;          ///< how sharp the comparison was: the width of the bracket
  std::uint64_t control_agreed = 0;  ///< has_control(): would agree with readings shifted by half the run
  bool passed = false;
  std::string note;   ///< what was compared, where it goes without saying
  std::string first;  ///< the first value that disagreed: what it was, what it had to be, and where; else empty

  /// Where all have to be equal, whatever the moment, a shifted one tells nothing.
  bool has_control() const noexcept { return method == "exact" || method == "bracket" || method == "others"; }
};

/// What came out of a run. As JSON, in a file verdict.json, it is the object that docs/verdict.md describes.
struct Verdict {
  std::string title, iperf3_version, kernel;
  std::string scenario;  ///< its name; empty: of other people's files
  LinkReport link;
  /// Of iperf3's own result: what was received, by the time, of all streams; the mean of the streams' mean round trips;
  /// segments sent again. Absent where it does not say.
  std::optional<double> goodput_mbit;
  std::optional<std::uint64_t> mean_rtt_us, retransmits;
  std::vector<std::string> quirks;   ///< iperf3's own, that were met and handled, a sentence each
  /// Figures that nothing certain bounds, what was left out and why, what this machine could not do as asked.
  std::vector<std::string> remarks;
  std::vector<Alignment> alignments;  ///< the first one is "alignment"
  std::vector<StreamIdentity> streams;
  std::vector<Comparison> comparisons;
  std::map<std::string, std::vector<std::pair<std::string, std::uint64_t>>> records;
  std::vector<std::string> failures;

  bool passed() const noexcept { return failures.empty(); }
};

std::string to_json(const Verdict& verdict);
/// Throws tcpinfo::Error (Errc::kMalformed) that names the file.
Verdict read_verdict(const std::filesystem::path& file);
Verdict parse_verdict(std::string_view json, std::string_view name);

enum class Detail { kSummary, kFull };

/// For a terminal: a line for each figure of iperf3; of comparisons with other readings a line for each source, end and
/// method, with its fields that failed below it, or with kFull all of its fields; then the failures, and the verdict in
/// the last line.
std::string to_table(const Verdict& verdict, Detail detail = Detail::kSummary);

}  // namespace validation
