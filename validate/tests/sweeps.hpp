// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

namespace lab {

/// Whether every connection has a sample an interval, however seldom a busy machine lets the test run: the source asks
/// to be driven again within an interval, and each sweep samples whoever had no sample for three quarters of one.
class Sweeps {
 public:
  Sweeps(const tcpinfo::Source& source, std::chrono::nanoseconds interval) : source_(source), interval_(interval) {}

  /// Notes whether there is a sweep while `drive` ticks and drains.
  template <class Drive>
  void note(Drive drive) {
    const auto before = source_.statistics().sweeps;
    const auto begin = tcpinfo::boot_time_ns();
    drive();
    if (source_.statistics().sweeps > before) seen_.push_back({begin, tcpinfo::boot_time_ns()});
    const auto next = source_.next_deadline();
    ASSERT_TRUE(next);
    EXPECT_LE(*next, tcpinfo::Source::Clock::now() + interval_);
  }
  std::size_t count() const { return seen_.size(); }
  /// Of a connection that was there all the time.
  void expect_enough(const std::vector<tcpinfo::Record>& samples) const {
    for (const auto& sweep : seen_) {
      std::uint64_t before = 0;
      bool within = false;
      for (const auto& sample : samples) {
        const auto time = *sample.time_ns();
        if (time < sweep.begin)
          before = std::max(before, time);
        else
          within |= time <= sweep.end;
      }
      EXPECT_TRUE(within || sweep.begin - before < static_cast<std::uint64_t>(interval_.count()) * 3 / 4)
          << "a sweep passed it over, " << (sweep.begin - before) / 1000 << " us after its last sample";
    }
  }

 private:
  struct Seen {
    std::uint64_t begin, end;  // boot time: it ran within
  };
  const tcpinfo::Source& source_;
  std::chrono::nanoseconds interval_;
  std::vector<Seen> seen_;
};

}  // namespace lab
