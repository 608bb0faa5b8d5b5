// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "lab/fd.hpp"
#include "lab/lab.hpp"

namespace endurance {

/// Connections that last and carry data, and short ones at a rate, made by a process of its own that is in a cgroup and
/// in a network namespace.
class Load {
 public:
  struct Options {
    int flows = 0;    ///< that last, busy all the time
    double rate = 0;  ///< short connections a second
  };
  struct Short {
    std::uint64_t begin_ns, end_ns;  ///< CLOCK_BOOTTIME, before connect() and after both ends were closed
  };

  /// Returns when the flows are established. Throws tcpinfo::Error.
  Load(const lab::Netns& netns, const lab::Cgroup& cgroup, const Options& options);
  ~Load();
  Load(const Load&) = delete;

  /// Ends it: every connection is closed when this returns. Gives the short ones, in order. Throws tcpinfo::Error: what
  /// it died of.
  std::vector<Short> stop();

 private:
  pid_t pid_ = -1;
  lab::Fd result_;
};

}  // namespace endurance
