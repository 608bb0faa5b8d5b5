// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>

#include "scenario.hpp"
#include "verdict.hpp"

namespace validation {

struct RunOptions {
  std::filesystem::path out;
  /// Called with the namespaces, cgroups and path still in place, when all is written; what is to be looked at.
  std::function<void(const std::string& what)> keep = {};
  /// Told now and then how far it is.
  std::function<void(const std::string& text)> progress = {};
};

/// This machine cannot do it; the text says what is missing and how to get it.
class NotPossible : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws NotPossible if no scenario can run: root, iperf3, iproute2, BTF or cgroup v2 is missing.
void check_machine();
/// The same if this kernel's TCP, or iperf3, cannot do what the scenario asks.
void check_possible(const Scenario& scenario);

struct RunOutcome {
  Verdict verdict;
  bool interrupted = false;
};

/// Makes a path between network namespaces and cgroups, lets iperf3 run over it, gathers with sockops, inet_diag, iter
/// and what iperf3's own getsockopt calls are answered, and compares. Into `out` go scenario.toml, iperf3.json and
/// iperf3-server.json (of further runs iperf3-2.json, iperf3-server-2.json and so on), sockops.jsonl, inet_diag.jsonl,
/// iter.jsonl, getsockopt.jsonl and verdict.json. SIGINT, SIGTERM and SIGHUP end it early, with what was gathered. Nothing but
/// the files is left, and those only if all could be written. Throws NotPossible and tcpinfo::Error.
///
/// One thread each; several threads may run scenarios at the same time.
RunOutcome run(const Scenario& scenario, const RunOptions& options);

}  // namespace validation
