// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lab/fd.hpp"
#include "lab/lab.hpp"

namespace lab {

/// What the kernel counts of devices and queues in one network namespace, which it keeps alive. All throw
/// tcpinfo::Error, also for a device that is not there. Thread safe.
class Rtnetlink {
 public:
  explicit Rtnetlink(const Netns& netns);

  struct Device {
    int index = 0;
    std::uint64_t rx_packets = 0, rx_bytes = 0, tx_dropped = 0;
  };
  Device device(std::string_view name) const;

  struct Qdisc {
    std::string kind;
    std::uint32_t parent = 0;
    std::uint32_t packets = 0, drops = 0, requeues = 0, queued = 0;
  };
  std::vector<Qdisc> qdiscs(int device) const;

  /// Of a device that is not there: nothing happens.
  void remove(std::string_view device) const noexcept;

 private:
  using Sink = std::function<void(std::uint16_t type, std::span<const std::byte> payload)>;
  void exchange(std::uint16_t type, std::uint16_t flags, std::span<const std::byte> payload, const std::string& action,
                const Sink& sink) const;

  std::string name_;
  Fd socket_;
  mutable std::uint32_t sequence_ = 0;
  mutable std::unique_ptr<std::mutex> mutex_;
};

}  // namespace lab
