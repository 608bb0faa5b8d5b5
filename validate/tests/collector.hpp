// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

namespace lab {

/// All records of a source, in the order of delivery.
class Collector {
 public:
  explicit Collector(tcpinfo::Source& source) : source_(source) {}

  const tcpinfo::Source& source() const { return source_; }
  void drain() {
    const auto result = source_.drain([this](const tcpinfo::Record& record) { records_.push_back(record.raw()); });
    ASSERT_FALSE(result.error) << result.error.message();
  }
  /// Drives the source as its owner would until `done` or ten seconds have passed.
  template <class Done>
  bool until(Done done) {
    using namespace std::chrono_literals;
    for (const auto end = Clock::now() + 10s; Clock::now() < end; std::this_thread::sleep_for(1ms)) {
      EXPECT_FALSE(source_.tick(Clock::now()));
      drain();
      if (done()) return true;
    }
    return false;
  }
  void during(std::chrono::milliseconds time) {
    const auto end = Clock::now() + time;
    until([end] { return Clock::now() >= end; });
  }
  std::vector<tcpinfo::Record> of(std::uint64_t cookie) const {
    std::vector<tcpinfo::Record> found;
    for (const auto& record : records_)
      if (record.cookie == cookie) found.emplace_back(record);
    return found;
  }
  std::vector<tcpinfo::Record> of(std::uint64_t cookie, tcpinfo::Event event) const {
    auto found = of(cookie);
    std::erase_if(found, [event](const auto& record) { return record.event() != static_cast<std::uint8_t>(event); });
    return found;
  }
  bool closed(std::uint64_t cookie) const { return !of(cookie, tcpinfo::Event::kClose).empty(); }
  const std::vector<tcpinfo_record>& all() const { return records_; }

 private:
  using Clock = tcpinfo::Source::Clock;
  tcpinfo::Source& source_;
  std::vector<tcpinfo_record> records_;
};

}  // namespace lab
