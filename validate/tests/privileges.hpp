// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lab/sockets.hpp"

namespace lab {

/// Takes all capabilities from this thread. They belong to a thread, and the C library has no call for them.
inline void drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2]{};
  check(static_cast<int>(syscall(SYS_capset, &header, none)), "capset");
}

}  // namespace lab
