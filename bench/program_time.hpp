// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>

namespace bench {

struct ProgramTime {
  std::size_t programs = 0;
  std::uint64_t runs = 0;
  double seconds = 0;
};

/// Of the sock_ops programs that are attached to the cgroup itself, since they were loaded, whoever loaded them, as far
/// as tcpinfo::KernelStatistics were on. Throws tcpinfo::Error.
ProgramTime program_time(const std::filesystem::path& cgroup);

}  // namespace bench
