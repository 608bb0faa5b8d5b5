// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include <tcpinfo/source.hpp>

#include "lab/fd.hpp"

namespace bench {

/// Drives a source as its user would, in a thread of its own: waits for the descriptor and the deadline, ticks, drains,
/// reads a few fields of each record. Rests at first.
class Consumer {
 public:
  /// `source` has to outlive it, and to be left alone while it does not rest. Throws tcpinfo::Error.
  explicit Consumer(tcpinfo::Source& source);
  ~Consumer();

  void resume();
  /// Returns when the thread rests, everything drained.
  void pause();

  /// Of its thread, so far: what tick() runs in the kernel is in it.
  double cpu_seconds() const noexcept;

 private:
  void serve() noexcept;
  void run() noexcept;

  tcpinfo::Source& source_;
  lab::Fd wake_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool rests_ = false;
  bool end_ = false;
  std::thread thread_;
};

/// How often a source's records were due, and how many of them were lost.
struct Losses {
  std::uint64_t emitted = 0, lost = 0;
};
Losses losses_of(const tcpinfo::Source& source) noexcept;

}  // namespace bench
