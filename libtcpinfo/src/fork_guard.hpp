// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <cstddef>

namespace tcpinfo {

/// What a child made by fork() would otherwise share with its parent. A link lives as long as any process has a
/// descriptor of it: without this, programs would stay attached when the parent dies and its children live on. The
/// kernel closes no descriptor at a fork, so here the child replaces its copies, at once and by the only call that
/// leaves their numbers taken: whoever closes them later closes nothing else.
///
/// Children of vfork() and of a bare clone() run no handlers; they are expected to exec, and every descriptor is closed
/// then.
class ForkGuard {
 public:
  /// Of the caller, who keeps all of them open while this lives; -1: none. `harmless`: may stay open in the child.
  /// Throws Error.
  ForkGuard(std::array<int, 2> links, int harmless);
  ~ForkGuard();
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;

  /// This process is a child of the one that made this.
  bool in_child() const noexcept { return in_child_; }

 private:
  friend struct ForkHandlers;

  std::array<int, 2> links_;
  int harmless_;
  bool in_child_ = false;
  ForkGuard* next_ = nullptr;
  ForkGuard* before_ = nullptr;
};

}  // namespace tcpinfo
