// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace endurance {

/// What a process holds, and what of eBPF there is on the host.
struct Usage {
  std::uint64_t resident_bytes = 0;  ///< VmRSS without what it maps of files, as the rings
  std::uint64_t descriptors = 0;
  std::uint64_t map_bytes = 0;                      ///< kernel memory of the maps that it has descriptors of
  std::uint64_t programs = 0, maps = 0, links = 0;  ///< of the whole host
};

/// Of the process now. Throws tcpinfo::Error: the process does not exist; needs CAP_SYS_ADMIN to count what others
/// loaded.
Usage usage_of(pid_t pid);

}  // namespace endurance
