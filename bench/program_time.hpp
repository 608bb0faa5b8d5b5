// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>

#include "lab/fd.hpp"

namespace bench {

/// While it lives the kernel counts how long BPF programs run, which itself costs something at each run. Throws
/// tcpinfo::Error; needs CAP_SYS_ADMIN.
class ProgramStatistics {
 public:
  ProgramStatistics();

 private:
  lab::Fd enabled_;
};

struct ProgramTime {
  std::uint64_t runs = 0;
  double seconds = 0;
};

/// Of the sock_ops programs that are attached to the cgroup itself, since they were loaded, as far as statistics were
/// on.
ProgramTime program_time(const std::filesystem::path& cgroup);

}  // namespace bench
