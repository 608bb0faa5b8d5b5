// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <string>

#include "endurance.hpp"
#include "observed.hpp"

/// The faults, each a row of the table. All throw tcpinfo::Error: it could not be injected.
namespace endurance {

/// Of the fault table, in Markdown.
struct Row {
  std::string fault, injected = {}, lost = {};
  std::string seen = {};  ///< printed or returned, as it came
  bool held = false;      ///< what is promised of it
};

/// A run that went on to its orderly end: emitted = delivered + lost, and the records themselves tell the same.
Row account(const Tcpinfo& run, std::uint64_t ends);

// kills.cpp: SIGKILL
Row killed(const FaultOptions& options);
Row recording_killed(const FaultOptions& options);
Row killed_starting(const FaultOptions& options);
Row started_again(const FaultOptions& options);
Row pinned(const FaultOptions& options);
Row pinned_link(const FaultOptions& options);

// refused.cpp: the kernel says no
Row no_socket_storage(const FaultOptions& options);
Row no_map(const FaultOptions& options);

}  // namespace endurance
