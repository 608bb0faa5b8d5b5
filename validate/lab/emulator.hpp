// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "lab/fd.hpp"
#include "lab/path.hpp"
#include "lab/rtnetlink.hpp"

namespace lab {

/// Random numbers that are the same for the same seed on every machine. Each decision has a stream of its own: what one
/// path does besides changes nothing in which packets it loses.
class Chance {
 public:
  enum Purpose : std::uint32_t { kLoss, kJitter, kReordering };

  Chance(std::uint64_t seed, bool there, Purpose purpose);
  double operator()() noexcept;  ///< from 0 to 1, without 1

 private:
  std::mt19937_64 generator_;
};

/// How many bytes may wait for the rate of `way`.
std::size_t queue_limit(const Way& way, int mtu);

/// A link between two namespaces in user space: two TUN devices, tun0 in each, and a thread that carries each packet
/// from one to the other as the options say. Needs no module but tun.
class Emulator {
 public:
  Emulator(const Netns& a, const Netns& b, const PathOptions& options);
  ~Emulator();
  Emulator(const Emulator&) = delete;

  /// `there`: from a to b. Thread safe. Throws tcpinfo::Error if the kernel does not tell its device's counters.
  WayCounters counters(bool there) const;

 private:
  class Lane;

  void run(const std::stop_token& stop);

  mutable std::mutex mutex_;  // of the lanes
  std::array<Fd, 2> devices_;
  Fd wake_;
  std::array<Rtnetlink, 2> kernel_;
  std::array<std::unique_ptr<Lane>, 2> lanes_;
  std::jthread thread_;
};

}  // namespace lab
