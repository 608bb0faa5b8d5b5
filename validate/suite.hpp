// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace validation {

/// What became of one scenario: "passed", "failed", "not possible" (on this machine, `reason` says why), "interrupted",
/// or "not run" (yet).
struct SuiteRun {
  std::string name;       ///< of the scenario, and "#2" and so on with --repeat: "bulk-ipv4", "bulk-ipv4#2"
  std::string directory;  ///< with its verdict.json, iperf3.json, ..., beside suite.json
  std::string scenario, description;
  std::string outcome = "not run";
  std::string reason;   ///< first failure, or what is missing
  std::string command;  ///< repeats just this one
  std::uint64_t compared = 0;  ///< values that were compared
  double seconds = 0;
};

/// Several scenarios, run one after another. As JSON, in a file suite.json, it is an object with schema "tcpinfo-suite",
/// version 1, and the members below under their names.
struct Suite {
  std::string started;  ///< "2026-11-21 10:00:00 UTC"
  std::string kernel, iperf3_version, machine;
  std::string command;
  std::uint64_t seed = 1;
  double seconds = 0;
  std::vector<SuiteRun> runs;

  bool passed() const noexcept;  ///< one run passed at least, and none failed, was interrupted or is yet to run
};

std::string to_json(const Suite& suite);
/// Throws tcpinfo::Error (Errc::kMalformed) that names the file.
Suite read_suite(const std::filesystem::path& file);

}  // namespace validation
