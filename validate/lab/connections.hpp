// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>

#include "fd.hpp"
#include "lab.hpp"

namespace lab {

/// Short TCP connections over the loopback of a network namespace, made one after the other by the calling thread, which
/// is their client and their server: connect, accept, one byte, FIN from the client's side first.
class Connections {
 public:
  /// Bounds what waits out TIME_WAIT in `netns`, which has to outlive this.
  explicit Connections(const Netns& netns);

  /// A listener: it, and all it accepts, belong to the cgroup that this process is in.
  Fd listen(std::uint16_t port) const;

  /// Makes one, while the thread is inside the namespace (Netns::run). Throws tcpinfo::Error.
  void one(int listener, std::uint16_t port);

 private:
  const Netns& netns_;
  std::uint32_t destination_ = 0;
};

}  // namespace lab
