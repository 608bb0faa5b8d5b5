// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <set>

namespace endurance {

/// Ids of what the kernel holds of eBPF.
struct KernelObjects {
  std::set<std::uint32_t> programs, maps, links;

  bool empty() const noexcept { return programs.empty() && maps.empty() && links.empty(); }
  void merge(KernelObjects other);
  /// Leaves those that still exist, after `patience` at the latest: the kernel frees what nobody holds any more a
  /// moment later. Throws tcpinfo::Error: needs CAP_SYS_ADMIN.
  void forget_gone(std::chrono::milliseconds patience);
};

/// What a process holds.
struct Usage {
  std::uint64_t resident_bytes = 0;  ///< VmRSS without what it maps of files, as the rings
  std::uint64_t descriptors = 0;
  std::uint64_t map_bytes = 0;  ///< kernel memory of its maps
  KernelObjects objects;        ///< that it has descriptors of
};

/// Of the process now. Throws tcpinfo::Error: the process does not exist.
Usage usage_of(pid_t pid);

}  // namespace endurance
