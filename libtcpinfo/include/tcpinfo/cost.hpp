// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <tcpinfo/export.hpp>

namespace tcpinfo {

/// What a program of a source cost since it was loaded. Source: kernel v6.18 kernel/bpf/syscall.c
/// bpf_prog_get_info_by_fd().
struct ProgramCost {
  std::string name;
  std::uint32_t id = 0;                ///< as `bpftool prog show id` takes it
  std::uint64_t runs = 0;              ///< while statistics were on, see KernelStatistics
  std::uint64_t run_time_ns = 0;       ///< the sum over all processors, while statistics were on
  std::uint64_t recursion_misses = 0;  ///< times that it was due and did not run because it was running already
  std::uint32_t instructions = 0;      ///< that the verifier looked at; 0 before kernel 5.16
  std::uint32_t code_bytes = 0;        ///< of machine code; 0 where the JIT is off or without privilege
  /// It runs inside a system call of whoever drives the source: its time is part of that process's system time, as is
  /// the kernel's walk to the sockets, which is not in `run_time_ns`. The others run wherever the kernel handles a
  /// packet or a call, at the expense of whoever is there.
  bool in_own_process = false;
};

struct MapCost {
  std::string name;
  std::uint32_t id = 0;     ///< as `bpftool map show id` takes it
  std::uint64_t bytes = 0;  ///< of kernel memory, as the kernel has it; exact from 6.4
  /// Socket storage: what an element takes, one a connection, which the kernel does not count into `bytes`; 0 for other
  /// maps. A socket that had no storage, of nobody, takes 192 bytes more.
  std::uint32_t element_bytes = 0;
};

/// What a source costs in the kernel, beyond the system calls of the process that drives it.
struct Cost {
  std::vector<ProgramCost> programs;
  std::vector<MapCost> maps;
};

/// While one lives, the kernel counts the runs and the run time of every BPF program of the host. It counts nothing
/// otherwise. Counting slows every run by 20 to 80 ns and adds 20 to 60 ns to the time it counts: on a guest with
/// kernel 6.18 an empty program took 36 ns a run without and 110 ns with it, and 54 ns by its own account.
///
/// Needs CAP_SYS_ADMIN and a kernel from 5.8, unless the administrator has switched the statistics on for all
/// (`sysctl kernel.bpf_stats_enabled=1`). Several may live at a time, in several processes; the kernel stops when the
/// last one goes, also when its process dies. Source: BPF_ENABLE_STATS.
class TCPINFO_EXPORT KernelStatistics {
 public:
  /// Throws Error: no privilege (EPERM), or what the kernel answered.
  KernelStatistics();
  KernelStatistics(KernelStatistics&& other) noexcept;
  KernelStatistics& operator=(KernelStatistics&& other) noexcept;
  ~KernelStatistics();

 private:
  int descriptor_;  // -1: somebody else switched them on
};

}  // namespace tcpinfo
