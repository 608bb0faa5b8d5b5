// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "lab/lab.hpp"

namespace lab {

/// One way of a path. What is 0 is not done.
struct Way {
  double rate_mbit = 0;                 ///< of IP packets, Mbit/s; 0: unlimited
  std::chrono::microseconds delay{0};   ///< of every packet
  std::chrono::microseconds jitter{0};  ///< added to it: uniform between 0 and this, order kept
  double loss = 0;                      ///< of 1, independent for each packet
  double reordering = 0;                ///< of 1: packets that are not delayed, and so overtake; needs a delay
  std::size_t queue_bytes = 0;          ///< what may wait for the rate; 0: 20 ms of it
  std::size_t ecn_mark_bytes = 0;       ///< ECN-capable packets that meet a longer queue are marked; 0: never

  bool operator==(const Way&) const = default;
};

/// What makes the path. kBest: the first of kVeth, kTbf, kNetem, kEmulator that can do what is asked.
enum class Engine { kBest, kVeth, kTbf, kNetem, kEmulator };
std::string_view name(Engine engine);  ///< "veth", "tbf", "netem", "emulator"

struct PathOptions {
  Way there, back;  ///< from `a` to `b`, and the other way
  int mtu = 1500;
  std::uint64_t seed = 1;  ///< of the emulator's losses, jitter and reordering
  Engine engine = Engine::kBest;
};

/// What went over one way since the path was made, control connections included. Absent for veth and tbf where the
/// kernel does not count it.
struct WayCounters {
  std::uint64_t packets = 0, bytes = 0;  ///< that arrived to be sent, IP packets as on the wire
  std::uint64_t lost = 0;                ///< at random, as asked
  std::uint64_t dropped = 0;             ///< by the full queue
  std::uint64_t marked = 0, reordered = 0;
  /// Of the lost and dropped: TCP segments with payload.
  std::uint64_t data_lost = 0;
  double busiest_mbit = 0;               ///< the most that was delivered in any 100 ms
  std::chrono::nanoseconds latest{0};    ///< the longest that a packet was delivered after it was due
};

/// A path between two namespaces, whose ends are 10.77.0.1/24 and fd77::1/64 in `a`, 10.77.0.2 and fd77::2 in `b`.
class Path {
 public:
  /// Throws tcpinfo::Error that names what the kernel cannot make.
  Path(const Netns& a, const Netns& b, const Netns& middle, const PathOptions& options);
  ~Path();
  Path(const Path&) = delete;

  Engine engine() const noexcept;
  WayCounters there() const;
  WayCounters back() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Round trips of small UDP packets from `a` to `b` while nothing else is under way.
struct RoundTrips {
  std::chrono::microseconds least{0}, median{0}, most{0};
  int sent = 0, received = 0;
};
RoundTrips measure_round_trips(const Netns& a, const Netns& b, int count = 10);

}  // namespace lab
