// SPDX-License-Identifier: BSD-2-Clause
#include "system.hpp"

namespace tcpinfo::sys {

constinit thread_local FaultHook fault_hook = nullptr;

}  // namespace tcpinfo::sys
