// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>

#include "system.hpp"

namespace tcpinfo {

/// One pass of an iter/tcp program over the sockets of the network namespace that the thread was in when it began.
class TcpIterator {
 public:
  TcpIterator() noexcept = default;

  /// `link` is the program's. An errno, or 0.
  int begin(int link) noexcept;
  int get() const noexcept { return iterator_.get(); }
  explicit operator bool() const noexcept { return static_cast<bool>(iterator_); }
  void reset() noexcept;

  /// Cookie of a listener that is there for this pass alone and that nobody wants to see; 0: there is none.
  std::uint64_t own_listener() const noexcept { return own_listener_; }

 private:
  void listen() noexcept;

  sys::Fd iterator_, listener_;
  std::uint64_t own_listener_ = 0;
};

}  // namespace tcpinfo
