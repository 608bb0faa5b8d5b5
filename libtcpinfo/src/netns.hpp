// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <system_error>

#include "system.hpp"

namespace tcpinfo {

/// A network namespace to do something in: what is made there (a netlink socket, an iterator) sees its sockets. An empty
/// path is the caller's own, where nothing is to be done.
class Netns {
 public:
  /// Throws Error: the file cannot be opened.
  explicit Netns(const std::string& path);

  /// Calls `function` with this thread inside, and comes back. Throws Error: the namespace cannot be entered (EINVAL:
  /// the file is no network namespace; EPERM: needs CAP_SYS_ADMIN), or left, in which case the thread is stranded.
  template <class F>
  void run(F&& function) const {
    if (path_.empty()) return static_cast<void>(function());
    const sys::Fd here = enter();
    function();
    leave(here);
  }

 private:
  sys::Fd enter() const;
  void leave(const sys::Fd& here) const;

  std::string path_;
  sys::Fd there_;
};

}  // namespace tcpinfo
