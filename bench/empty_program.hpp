// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "lab/fd.hpp"
#include "lab/lab.hpp"

namespace bench {

enum class Callbacks { kNone, kState, kRtt };

/// Attaches a sock_ops program that does nothing, or nothing but ask for callbacks where a connection begins: what the
/// kernel takes for calling, whoever is called. Attached as long as the descriptor lives. Throws tcpinfo::Error.
lab::Fd attach_empty_program(const lab::Cgroup& cgroup, Callbacks wanted);

}  // namespace bench
