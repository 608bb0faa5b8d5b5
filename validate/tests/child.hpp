// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <functional>
#include <stdexcept>

#include "lab/sockets.hpp"

namespace lab {

// A child of this process, called `name`, that speaks with it over a socket pair. Killed and reaped when this goes.
class Child {
 public:
  Child(const char* name, const std::function<void(const Socket& parent)>& body) {
    int ends[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
    pid_ = check(fork(), "fork");
    if (pid_ == 0) {
      close(ends[0]);
      const Socket parent(ends[1]);
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      prctl(PR_SET_NAME, name);
      try {
        body(parent);
      } catch (...) {
        _exit(1);
      }
      _exit(0);
    }
    close(ends[1]);
    end_ = Socket(ends[0]);
    timeval patience{.tv_sec = 10, .tv_usec = 0};
    end_.set(SOL_SOCKET, SO_RCVTIMEO, patience);
  }
  Child(const Child&) = delete;
  ~Child() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  pid_t pid() const { return pid_; }
  const Socket& end() const { return end_; }
  void wait() {
    int status = 0;
    ASSERT_EQ(waitpid(pid_, &status, 0), pid_);
    EXPECT_EQ(status, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
  Socket end_;
};

inline void tell(const Socket& end, std::uint64_t value) {
  check(static_cast<int>(::send(end.fd(), &value, sizeof(value), MSG_NOSIGNAL)), "send");
}
inline std::uint64_t hear(const Socket& end) {
  std::uint64_t value = 0;
  if (check(static_cast<int>(::recv(end.fd(), &value, sizeof(value), MSG_WAITALL)), "recv") != sizeof(value))
    throw std::runtime_error("the other process ended");
  return value;
}

}  // namespace lab
