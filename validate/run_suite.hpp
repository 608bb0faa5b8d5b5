// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "scenario.hpp"
#include "suite.hpp"

namespace validation {

struct SuiteOptions {
  std::filesystem::path out;
  std::vector<Scenario> scenarios;
  std::vector<std::string> commands;  ///< of each scenario: runs it again, but for --out and --seed
  std::string command;                ///< as the user gave it
  int repeat = 1;
  int jobs = 1;            ///< at the same time; more than one disturb each other's rates, not their figures
  std::uint64_t seed = 1;  ///< of the paths; a repetition has the next one
  bool resume = false;     ///< keeps what has passed already in `out`, and the other runs there
  bool keep = false;       ///< after each run waits for Enter or Ctrl-C, with everything still there
};

/// Runs them one after another, each into a directory of `out` of its name, writes suite.json after each and junit.xml
/// at the end. Progress goes to standard error. SIGINT, SIGTERM and SIGHUP end it, with what there is. Throws tcpinfo::Error.
Suite run_suite(const SuiteOptions& options);

}  // namespace validation
