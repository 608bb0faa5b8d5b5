// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lab/path.hpp"

namespace validation {

/// One flow watched by several samplers at once: what does each miss? The reference is everything that any of them saw.
struct StudyOptions {
  /// Default: a shallow queue, 0.8 of the bytes that the path itself holds, and some random loss.
  lab::PathOptions link = {
      .there = {.rate_mbit = 20, .delay = std::chrono::milliseconds(10), .loss = 0.003, .queue_bytes = 40000},
      .back = {.delay = std::chrono::milliseconds(10)},
      .engine = lab::Engine::kEmulator};
  std::chrono::milliseconds duration{10000};
  std::string congestion = "cubic";
  std::vector<std::chrono::nanoseconds> sockops = {  ///< intervals; 0: every RTT callback
      std::chrono::nanoseconds(0), std::chrono::milliseconds(1), std::chrono::milliseconds(10),
      std::chrono::milliseconds(100), std::chrono::seconds(1)};
  std::vector<std::chrono::nanoseconds> inet_diag = {std::chrono::milliseconds(1), std::chrono::milliseconds(10),
                                                     std::chrono::milliseconds(100), std::chrono::seconds(1)};
  bool state_mode = true;  ///< a sockops sampler of transitions only, besides
  std::uint64_t short_flow_bytes = 10000;
  std::chrono::milliseconds short_flow_pause{50};  ///< between the end of one and the beginning of the next
  /// Told now and then how long what is under way can take.
  std::function<void(std::chrono::steady_clock::duration left)> progress = {};
};

/// What of one record the study needs.
struct Reading {
  std::uint64_t time_ns = 0, cookie = 0;
  std::optional<std::uint64_t> rtt_us, cwnd, total_retrans, bytes_acked, segs_in, segs_out;
  std::uint8_t state = 0;
};

/// What one sampler saw, or all of them together.
struct Seen {
  std::uint64_t records = 0;       ///< of all flows
  std::uint64_t bulk_records = 0;  ///< of the long flow
  std::uint64_t nothing_new = 0;  ///< no segment was sent or received since the flow's record before, and no transition
  /// Of the long flow; absent if no record had it. The window is in segments, the round trip smoothed.
  std::optional<std::uint64_t> rtt_least_us = {}, rtt_greatest_us = {}, cwnd_least = {}, cwnd_greatest = {};
  /// Bursts of retransmissions of the long flow that are told apart from the ones before and after: there is a record
  /// between each two of them.
  std::uint64_t bursts = 0;
  std::uint64_t short_flows = 0;           ///< of which there is a record
  std::uint64_t short_flows_complete = 0;  ///< of which a record has all of their bytes acknowledged

  bool operator==(const Seen&) const = default;
};

struct Sampler {
  std::string source;             ///< "sockops" or "inet_diag"
  std::string mode = "polling";   ///< or "state"
  std::uint64_t interval_ns = 0;  ///< of polling; 0: every RTT callback
  std::uint64_t lost = 0;         ///< records that it lost
  Seen seen;

  bool operator==(const Sampler&) const = default;
};

/// What came out of a study. As JSON it is an object with the members
///
///     schema     "tcpinfo-study"
///     version    1; raised when a member changes its meaning or goes, not when one is added
///     kernel, path, congestion   texts: "emulator: there 20 Mbit/s, 10 ms, ..."
///     duration_s, rtt_us         of the long flow; the median round trip of small packets before it began
///     retransmissions            the long flow's own counter when it closed
///     short_flows, short_flow_ms how many there were, and their median duration
///     reference  the members of Seen, null for absent, of all records together
///     samplers   array of objects: source, mode, interval_ns, lost, and the members of Seen
struct StudyResult {
  std::string kernel, path, congestion;
  double duration_s = 0;
  std::uint64_t rtt_us = 0;
  std::uint64_t retransmissions = 0;
  std::uint64_t short_flows = 0;
  double short_flow_ms = 0;
  Seen reference;
  std::vector<Sampler> samplers;

  bool operator==(const StudyResult&) const = default;
};

/// What is common to all samplers of a study.
struct Flows {
  std::uint64_t bulk = 0;          ///< cookie
  std::set<std::uint64_t> shorts;  ///< cookies
  std::uint64_t short_flow_bytes = 0;
};

/// The totals of retransmissions between two bursts: after a burst nothing is retransmitted for longer than a round
/// trip. `readings` are those of all samplers; the first total stands before the first burst. Empty: there was none.
std::vector<std::uint64_t> burst_totals(const std::vector<Reading>& readings, std::uint64_t cookie);

/// `readings` in the order in which the sampler gave them; `totals` of burst_totals().
Seen evaluate(const std::vector<Reading>& readings, const Flows& flows, const std::vector<std::uint64_t>& totals);

/// Takes the time of the options and some seconds. SIGINT, SIGTERM and SIGHUP end it (Error: interrupted). Needs what
/// sockops needs, root, and what the path needs. Throws tcpinfo::Error.
StudyResult run_study(const StudyOptions& options);

std::string to_json(const StudyResult& result);
/// Throws tcpinfo::Error (Errc::kMalformed) that names the file.
StudyResult read_study(const std::filesystem::path& file);
StudyResult parse_study(std::string_view json, std::string_view name);

/// For a terminal: a line a sampler, the reference first.
std::string to_table(const StudyResult& result);

}  // namespace validation
