// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <memory>

#include "lab/lab.hpp"

namespace bench {

struct CrowdOptions {
  std::size_t sockets = 0;  ///< both ends of a connection count; even
  const lab::Netns* netns = nullptr;  ///< where; not null
  const lab::Cgroup* cgroup = nullptr;  ///< in which they are made; nullptr: this process's
};

/// Established TCP connections over loopback that stand still, both ends held by child processes of which each holds
/// less than RLIMIT_NOFILE. They end, without leaving TIME_WAIT behind, and are reaped when this goes, or when this
/// process dies.
class Crowd {
 public:
  /// Returns when all are established. Throws tcpinfo::Error.
  explicit Crowd(const CrowdOptions& options);
  Crowd(Crowd&&) noexcept;
  ~Crowd();

  std::size_t size() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bench
