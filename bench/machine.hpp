// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace bench {

/// What figures depend on; empty or 0 where it cannot be found out.
struct Machine {
  std::string kernel;        ///< release and version, as uname(2) has them
  std::string architecture;  ///< as "x86_64"
  std::string cpu_model;
  unsigned cores = 0;  ///< online
  std::uint64_t memory_bytes = 0;
  unsigned hz = 0;           ///< ticks a second
  std::string clock_source;  ///< as "tsc"
};
Machine machine();

/// Of the git clone that holds `directory`, with "-dirty" if files in it were changed; empty if none does.
std::string git_revision(const std::filesystem::path& directory);

/// What the machine did since a moment, beside us.
struct Load {
  double loadavg = 0;        ///< of the last minute, at the end
  double foreign_cores = 0;  ///< cores kept busy by processes that are not ours
  double steal = 0;          ///< share of the CPUs' time that the hypervisor gave to others

  /// Too much for figures that are to be compared with others.
  bool busy() const noexcept { return foreign_cores > 0.15 || steal > 0.02; }
};

/// Counts from its making on. Our children count as ours once they were waited for; kernel threads work for us.
class LoadMeter {
 public:
  LoadMeter();
  Load read() const;

 private:
  struct Times {
    double elapsed = 0, busy = 0, steal = 0, ours = 0;  ///< seconds
  };
  static Times now();
  Times start_;
};

}  // namespace bench
