// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

#include "system.hpp"

namespace tcpinfo {

/// Notices that a cgroup was removed, without looking again and again.
class CgroupWatch {
 public:
  CgroupWatch() = default;
  /// The root of a mount, which cannot be removed, is not watched, and nothing is where the kernel has no inotify left.
  explicit CgroupWatch(const std::filesystem::path& cgroup) noexcept;

  /// Readable when removed() may have become true; -1 if nothing is watched.
  int descriptor() const noexcept { return events_.get(); }
  /// Whether the path leads to the cgroup no more, also where another one has its name by now.
  bool removed() noexcept;

 private:
  void begin(const std::filesystem::path& cgroup);

  std::string path_;
  ino_t inode_ = 0;
  sys::Fd events_;
};

}  // namespace tcpinfo
