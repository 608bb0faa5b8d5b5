// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "lab/fd.hpp"
#include "lab/lab.hpp"
#include "lab/segment.hpp"

namespace lab {

enum class Fate : std::uint8_t {
  kPass,
  kDrop,
  kHold,   ///< kept until TunLink::release(): what comes later overtakes it
  kTwice,  ///< delivered twice
};

/// A link between two namespaces of which every packet passes through the caller's hands: two TUN devices, tun0 in
/// each, 10.77.0.1/24 and fd77::1/64 in `a`, 10.77.0.2 and fd77::2 in `b`. Nothing moves but inside pump(): while the
/// caller does not pump, packets wait in the devices. No thread, no offloads: what the decision sees is what goes over
/// the link. The devices go with the object. Throws tcpinfo::Error.
class TunLink {
 public:
  using Decide = std::function<Fate(const Segment&)>;

  TunLink(const Netns& a, const Netns& b, int mtu = 1500);
  TunLink(const TunLink&) = delete;

  /// Asked for each TCP segment; other packets pass. Without one everything passes.
  void on_segment(Decide decide) { decide_ = std::move(decide); }
  /// Moves what waits, both ways, until nothing does, at most `limit` packets; how many there were.
  std::size_t pump(std::size_t limit = SIZE_MAX);
  /// Delivers what was held, the last one first if `reversed`; how many there were.
  std::size_t release(bool reversed = false);
  /// Readable when something waits: one for each direction.
  std::array<int, 2> descriptors() const noexcept { return {fds_[0].get(), fds_[1].get()}; }

 private:
  struct Held {
    bool from_a;
    std::vector<std::byte> bytes;
  };

  bool move(bool from_a);
  void deliver(bool from_a, std::span<const std::byte> bytes) const noexcept;

  std::array<Fd, 2> fds_;
  Decide decide_;
  std::deque<Held> held_;
};

/// Lets the packets that leave `device` of `netns` wait in its queue (tbf at a few bits per second) while this lives:
/// they stay charged to the memory of the sockets that sent them.
class Clog {
 public:
  Clog(const Netns& netns, std::string_view device);
  ~Clog();
  Clog(const Clog&) = delete;

 private:
  std::string netns_, device_;
};

}  // namespace lab
