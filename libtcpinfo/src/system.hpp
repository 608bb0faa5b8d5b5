// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string_view>
#include <utility>

#include <unistd.h>

namespace tcpinfo::sys {

/// A file descriptor that closes itself.
class Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~Fd() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  void reset(int fd = -1) noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// The seam for tests that fail each step of a set-up in turn. Every step of a set-up names itself here just before its
/// system call; where the hook answers an errno, the step fails with it instead of being done.
using FaultHook = int (*)(std::string_view step) noexcept;
// constinit: no call finds out at each use whether it is initialised.
extern constinit thread_local FaultHook fault_hook;

/// 0, or the errno with which this step has to fail.
inline int fault(std::string_view step) noexcept { return fault_hook ? fault_hook(step) : 0; }

}  // namespace tcpinfo::sys
