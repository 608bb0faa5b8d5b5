// SPDX-License-Identifier: BSD-2-Clause
#include "cgroup_watch.hpp"

#include <linux/magic.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <new>

namespace tcpinfo {

// The directory above tells of it: kernfs sends no IN_DELETE_SELF.
void CgroupWatch::begin(const std::filesystem::path& cgroup) {
  path_ = cgroup.string();
  const auto above = path_ + "/..";
  struct stat status {
  }, parent{};
  struct statfs filesystem {};
  if (stat(path_.c_str(), &status) != 0 || stat(above.c_str(), &parent) != 0 || parent.st_dev != status.st_dev ||
      statfs(above.c_str(), &filesystem) != 0 || filesystem.f_type != CGROUP2_SUPER_MAGIC)
    return;
  inode_ = status.st_ino;
  events_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (events_ && ::inotify_add_watch(events_.get(), above.c_str(), IN_DELETE | IN_ONLYDIR) < 0) events_.reset();
}

CgroupWatch::CgroupWatch(const std::filesystem::path& cgroup) noexcept {
  try {
    begin(cgroup);
  } catch (const std::bad_alloc&) {
    events_.reset();
  }
}

bool CgroupWatch::removed() noexcept {
  if (!events_) return false;
  char events[4096];
  while (::read(events_.get(), events, sizeof(events)) > 0) {
  }
  struct stat status {};
  return stat(path_.c_str(), &status) != 0 || status.st_ino != inode_;
}

}  // namespace tcpinfo
