// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <sys/types.h>

#include <string>
#include <system_error>
#include <utility>

#include "system.hpp"

namespace tcpinfo {

/// By device and inode.
using NetnsId = std::pair<dev_t, ino_t>;

/// A network namespace to do something in: what is made there (a netlink socket, an iterator) sees its sockets.
class Netns {
 public:
  /// The one of the file `path`; if that is empty, the one that this thread is in now. Throws Error: the file cannot be
  /// opened.
  explicit Netns(const std::string& path);

  NetnsId id() const noexcept { return id_; }

  /// Calls `function` with this thread inside, and comes back; a thread that is there already needs no privilege.
  /// Throws Error: the namespace cannot be entered (EINVAL: the file is no network namespace; EPERM: needs
  /// CAP_SYS_ADMIN), or left, in which case the thread is stranded.
  template <class F>
  void run(F&& function) const {
    if (is_here()) return static_cast<void>(function());
    const sys::Fd here = enter();
    function();
    leave(here);
  }

 private:
  bool is_here() const noexcept;
  sys::Fd enter() const;
  void leave(const sys::Fd& here) const;

  std::string path_;
  sys::Fd there_;
  NetnsId id_{};
};

}  // namespace tcpinfo
