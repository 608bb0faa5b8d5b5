// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace validation {

/// One run of a scenario. As JSON, the members under their names.
struct SuiteRun {
  std::string name;                   ///< of the scenario, and with --repeat its number: "bulk-ipv4", "bulk-ipv4.2"
  std::string directory;              ///< beside suite.json, with verdict.json, iperf3.json, ...
  std::string scenario, description;  ///< the scenario's name, and its parameters in a line
  /// "passed", "failed", "not possible" (on this machine), "interrupted" or "not run" (yet).
  std::string outcome = "not run";
  std::string reason;          ///< the first failure, or what is missing; empty if passed
  std::string command;         ///< runs just this one again
  std::uint64_t compared = 0;  ///< values that were compared
  /// As in the verdict; absent where iperf3 does not say.
  std::optional<double> goodput_mbit;
  std::optional<std::uint64_t> mean_rtt_us, retransmits;
  double seconds = 0;
};

/// Several runs. As JSON, in a file suite.json, an object with schema "tcpinfo-suite", version 1, passed, the members
/// here under their names, and runs, an array. The file is whole after every run: what is missing can be run later.
struct Suite {
  std::string started;  ///< "2026-11-21 10:00:00 UTC"
  std::string kernel;   ///< "Linux 6.18.0 x86_64"
  std::string machine;  ///< "2 processors, 24 GB"
  std::string iperf3_version;
  std::string command;
  std::uint64_t seed = 1;
  double seconds = 0;
  std::vector<SuiteRun> runs;

  /// One passed at least, and none failed, was interrupted or is yet to run.
  bool passed() const noexcept;
  std::uint64_t compared() const noexcept;  ///< values, of all runs
};

std::string to_json(const Suite& suite);
/// Throws tcpinfo::Error (Errc::kMalformed) that names the file, and what the file system answered.
Suite read_suite(const std::filesystem::path& file);

/// An argument as a shell takes it.
std::string shell_word(const std::string& argument);

/// JUnit's XML, for CI systems: a test case a run.
std::string to_junit(const Suite& suite);

/// For a terminal: a line a run, those that failed with the command that repeats them, and the verdict in the last line.
std::string to_table(const Suite& suite);

}  // namespace validation
