// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "lab/connections.hpp"
#include "lab/fd.hpp"
#include "lab/lab.hpp"

namespace endurance {

/// Connections that last and carry data, and short ones at a rate, made by a thread of its own inside a cgroup and a
/// network namespace. The whole process is in the cgroup while this lives.
class Load {
 public:
  struct Options {
    int flows = 0;    ///< that last, busy all the time
    double rate = 0;  ///< short connections a second
  };
  struct Short {
    std::uint64_t begin_ns, end_ns;  ///< CLOCK_BOOTTIME, before connect() and after both ends were closed
  };

  Load(const lab::Netns& netns, const lab::Cgroup& cgroup, const Options& options);
  ~Load();
  Load(const Load&) = delete;

  /// Ends it: every connection is closed when this returns. Gives the short ones, in order. Throws what its thread
  /// threw.
  std::vector<Short> stop();
  int flows() const noexcept { return static_cast<int>(clients_.size()); }

 private:
  void run(double rate);

  lab::InCgroup inside_;
  const lab::Netns& netns_;
  lab::Connections connections_;
  lab::Fd listener_;
  std::vector<lab::Fd> clients_, servers_;
  std::vector<Short> made_;
  std::exception_ptr error_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace endurance
