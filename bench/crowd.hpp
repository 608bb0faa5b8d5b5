// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>

#include "lab/lab.hpp"

namespace bench {

struct CrowdOptions {
  std::size_t sockets = 0;                              ///< both ends of a connection count; even
  const lab::Netns* netns = nullptr;                    ///< where; not null
  const lab::Cgroup* cgroup = nullptr;                  ///< in which they are made; nullptr: this process's
  std::function<void(std::string_view)> progress = {};  ///< a line about every two seconds; empty: nothing is said
};

/// Established TCP connections over loopback (IPv4) that stand still, both ends held by child processes of which each
/// holds less than RLIMIT_NOFILE. They end, without leaving TIME_WAIT behind, and are reaped when this goes, or when
/// the thread that made it ends.
class Crowd {
 public:
  /// Returns when all are established: 100,000 sockets take some seconds, and 5 KB of the kernel's memory each. Throws
  /// tcpinfo::Error; then nothing is left behind.
  explicit Crowd(const CrowdOptions& options);
  Crowd(Crowd&&) noexcept;
  Crowd& operator=(Crowd&&) noexcept;
  ~Crowd();

  std::size_t size() const noexcept;  ///< as asked for

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bench
