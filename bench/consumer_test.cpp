// SPDX-License-Identifier: BSD-2-Clause
#include "consumer.hpp"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <atomic>
#include <chrono>

namespace bench {
namespace {

/// Has one record's worth of work whenever its descriptor is readable, and is never due by itself.
class Fake final : public tcpinfo::Source {
 public:
  tcpinfo::SourceId id() const noexcept override { return tcpinfo::SourceId::kSockops; }
  int descriptor() const noexcept override { return readable_.get(); }
  std::optional<Clock::time_point> next_deadline() const noexcept override { return std::nullopt; }
  std::error_code tick(Clock::time_point /*now*/) noexcept override {
    ++ticks;
    return {};
  }
  tcpinfo::DrainResult drain(tcpinfo::RecordSink /*sink*/, std::size_t /*limit*/) noexcept override {
    eventfd_t count = 0;
    if (eventfd_read(readable_.get(), &count) == 0) drained += count;
    return {};
  }
  tcpinfo::Capabilities capabilities() const override { return {}; }
  tcpinfo::Statistics statistics() const noexcept override { return {}; }
  void stop() noexcept override {}
  void close() noexcept override {}

  void produce() { eventfd_write(readable_.get(), 1); }

  std::atomic<int> ticks = 0;
  std::atomic<std::uint64_t> drained = 0;

 private:
  lab::Fd readable_ = lab::Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
};

TEST(Consumer, RestsAtFirstAndTouchesNothingThen) {
  Fake source;
  source.produce();
  const Consumer consumer(source);
  EXPECT_EQ(source.ticks, 0);
  EXPECT_EQ(source.drained, 0u);
}

TEST(Consumer, HasDrainedWhatWasThereWhenItRests) {
  Fake source;
  Consumer consumer(source);
  for (std::uint64_t i = 1; i <= 100; ++i) {
    consumer.resume();
    source.produce();
    consumer.pause();
    ASSERT_EQ(source.drained, i);
  }
  const int ticks = source.ticks;
  source.produce();
  EXPECT_EQ(source.ticks, ticks);
  EXPECT_EQ(source.drained, 100u);
}

// Often before the thread has woken: neither may that pause be lost, nor end the next time.
TEST(Consumer, PausedAtOnceItStillRuns) {
  Fake source;
  Consumer consumer(source);
  for (int i = 1; i <= 2000; ++i) {
    consumer.resume();
    consumer.pause();
    ASSERT_GE(source.ticks, i);
  }
  consumer.pause();
  consumer.resume();
  source.produce();
  while (source.drained == 0) std::this_thread::yield();
  consumer.pause();
  EXPECT_EQ(source.drained, 1u);
}

}  // namespace
}  // namespace bench
