// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
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
  std::size_t queue_bytes = 0;          ///< what may wait for the rate; 0: 20 ms of it, two packets at least
  std::size_t ecn_mark_bytes = 0;       ///< ECN-capable packets that meet a longer queue are marked; 0: never

  bool operator==(const Way&) const = default;
};

/// What makes the path. kBest: the first of kVeth, kTbf, kNetem, kEmulator that can do what is asked.
///
///              device   rate, queue  delay, jitter, loss  reordering            marks  IP packets on it
///   veth       veth0    no           no                   no                    no     GSO packets, up to 64 KiB
///   tbf        veth0    yes          no                   no                    no     segments
///   netem      veth0    yes          yes                  if there is no rate   no     segments
///   emulator   tun0     yes          yes                  yes                   yes    segments
///
/// The first three pass a switch in the middle, whose ports hold the queues. netem delays before the rate, the emulator
/// after it: the sum is the same, but netem's jitter makes the queue vary. The emulator is a thread of ours.
enum class Engine { kBest, kVeth, kTbf, kNetem, kEmulator };
std::string_view name(Engine engine);  ///< "veth", "tbf", "netem", "emulator"

struct PathOptions {
  Way there = {}, back = {};  ///< from `a` to `b`, and the other way
  int mtu = 1500;             ///< from 1280, which IPv6 needs, to 65535
  std::uint64_t seed = 1;     ///< of the emulator's losses, jitter and reordering
  Engine engine = Engine::kBest;

  bool operator==(const PathOptions&) const = default;
};

/// What went over one way since the path was made, control connections included. Absent is what the engine does not
/// tell: veth tells nothing of its packets, the kernel's queues nothing of what was in them and of moments.
struct WayCounters {
  std::optional<std::uint64_t> packets, bytes;  ///< that arrived to be sent, IP packets as on the wire
  std::optional<std::uint64_t> lost;            ///< at random, as asked
  std::optional<std::uint64_t> dropped;         ///< by the full queue, or because the emulator could not keep up
  std::optional<std::uint64_t> marked;
  std::optional<std::uint64_t> reordered;  ///< not delayed
  /// Of the lost and dropped: TCP segments with payload.
  std::optional<std::uint64_t> data_lost;
  std::optional<double> busiest_mbit;  ///< the most that was delivered in one of the 100 ms that time is divided into
  /// The longest that a packet was delivered after it was due; that it was taken late from its sender does not count.
  std::optional<std::chrono::nanoseconds> latest;
};

/// A path between two namespaces, whose ends are 10.77.0.1/24 and fd77::1/64 in `a`, 10.77.0.2 and fd77::2 in `b`. Its
/// devices, and its thread, go with it. Not thread safe, but for the counters of the emulator.
class Path {
 public:
  /// Throws tcpinfo::Error: an option out of range, what the engine cannot do (operation_not_supported), what the
  /// kernel cannot make.
  Path(const Netns& a, const Netns& b, const Netns& middle, const PathOptions& options);
  ~Path();
  Path(const Path&) = delete;

  Engine engine() const noexcept;  ///< never kBest
  /// Throws tcpinfo::Error if the kernel does not answer.
  WayCounters there() const;
  WayCounters back() const;

  struct Impl;

 private:
  Engine engine_;
  std::unique_ptr<Impl> impl_;
};

/// Whether this kernel has netem, found by trying in `netns`.
bool netem_available(const Netns& netns);

/// Round trips of small UDP packets from `a` to `b` while nothing else is under way.
struct RoundTrips {
  std::chrono::microseconds least{0}, median{0}, most{0};  ///< rounded down; 0 if none came back
  int sent = 0, received = 0;
};

/// One packet every 10 ms, over IPv4, after one that finds the way; waits for the last ones for 2 s at most.
RoundTrips measure_round_trips(const Netns& a, const Netns& b, int count = 10);

}  // namespace lab
