// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/monitor.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using namespace std::chrono_literals;
using Clock = tcpinfo::Source::Clock;

// What the test sees and steers of its source, and what is left of it when the monitor has destroyed it.
struct Script {
  std::mutex mutex;  // feeding may happen in another thread
  std::deque<std::uint32_t> ready;
  bool endless = false;
  std::error_code tick_error;
  std::error_code drain_error;
  int write_end = -1;

  std::function<void(Clock::time_point now)> on_tick;
  std::optional<Clock::time_point> deadline;

  int ticks = 0;
  int drains = 0;
  std::size_t lost_sink = 0;
  bool draining = false;
  bool closed = false;
  bool closed_in_drain = false;

  void feed(std::initializer_list<std::uint32_t> values) {
    const std::lock_guard lock(mutex);
    ready.insert(ready.end(), values);
    if (write_end >= 0) {
      EXPECT_EQ(::write(write_end, "", 1), 1);
    }
  }
};

class FakeSource final : public tcpinfo::Source {
 public:
  enum class Wakes { kByDescriptor, kByDeadlineOnly };

  FakeSource(std::shared_ptr<Script> script, Wakes wakes) : script_(std::move(script)) {
    if (wakes == Wakes::kByDeadlineOnly) return;
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    read_end_ = ends[0];
    script_->write_end = ends[1];
  }
  ~FakeSource() override { close(); }

  tcpinfo::SourceId id() const noexcept override { return tcpinfo::SourceId::kSockops; }
  int descriptor() const noexcept override { return read_end_; }
  std::optional<Clock::time_point> next_deadline() const noexcept override { return script_->deadline; }

  std::error_code tick(Clock::time_point now) noexcept override {
    ++script_->ticks;
    if (script_->on_tick) script_->on_tick(now);
    return std::exchange(script_->tick_error, {});
  }

  tcpinfo::DrainResult drain(tcpinfo::RecordSink sink, std::size_t limit) noexcept override {
    ++script_->drains;
    script_->draining = true;
    std::vector<std::uint32_t> taken;
    {
      const std::lock_guard lock(script_->mutex);
      char bytes[256];
      while (read_end_ >= 0 && ::read(read_end_, bytes, sizeof(bytes)) > 0) {
      }
      if (script_->endless) script_->ready.resize(limit);
      while (!script_->ready.empty() && taken.size() < limit) {
        taken.push_back(script_->ready.front());
        script_->ready.pop_front();
      }
    }
    for (const auto value : taken) {
      auto raw = tcpinfo::make_record();
      raw.rtt = value;
      tcpinfo::set_present(raw, tcpinfo::Field::rtt);
      try {
        sink(tcpinfo::Record(raw));
      } catch (...) {
        ++script_->lost_sink;
      }
    }
    script_->draining = false;
    return {taken.size(), std::exchange(script_->drain_error, {})};
  }

  tcpinfo::Capabilities capabilities() const override { return {}; }
  tcpinfo::Statistics statistics() const noexcept override {
    tcpinfo::Statistics statistics;
    statistics.lost_sink[TCPINFO_EVENT_SAMPLE] = script_->lost_sink;
    return statistics;
  }

  void stop() noexcept override {}
  void close() noexcept override {
    if (std::exchange(script_->closed, true)) return;
    script_->closed_in_drain = script_->draining;
    const std::lock_guard lock(script_->mutex);
    if (read_end_ >= 0) ::close(std::exchange(read_end_, -1));
    if (script_->write_end >= 0) ::close(std::exchange(script_->write_end, -1));
  }

 private:
  std::shared_ptr<Script> script_;
  int read_end_ = -1;
};

class MonitorTest : public ::testing::Test {
 protected:
  void make(FakeSource::Wakes wakes = FakeSource::Wakes::kByDescriptor, std::size_t records_per_turn = 8) {
    monitor_.emplace(io_, std::make_unique<FakeSource>(script_, wakes), records_per_turn);
  }

  auto collect() {
    return [this](const tcpinfo::Record& record) { seen_.push_back(*record.rtt()); };
  }

  auto note() {
    return [this](error_code error, std::size_t delivered) {
      ++completions_;
      error_ = error;
      delivered_ = delivered;
    };
  }

  asio::io_context io_;
  std::shared_ptr<Script> script_ = std::make_shared<Script>();
  std::optional<tcpinfo::Monitor> monitor_;
  std::vector<std::uint32_t> seen_;
  int completions_ = 0;
  error_code error_;
  std::size_t delivered_ = 0;
};

using Values = std::vector<std::uint32_t>;

TEST_F(MonitorTest, CallbackGetsWhatIsReady) {
  make();
  script_->feed({1, 2, 3});
  monitor_->async_drain(collect(), note());
  EXPECT_EQ(completions_, 0) << "completed inside the initiating function";
  io_.run();
  EXPECT_EQ(completions_, 1);
  EXPECT_EQ(error_, error_code());
  EXPECT_EQ(delivered_, 3u);
  EXPECT_EQ(seen_, (Values{1, 2, 3}));
}

TEST_F(MonitorTest, WaitsForTheDescriptorAndLeavesNoWorkBehind) {
  make();
  asio::steady_timer later(io_, 5ms);
  later.async_wait([&](error_code) { script_->feed({7}); });
  monitor_->async_drain(collect(), note());
  io_.run();
  EXPECT_EQ(seen_, (Values{7}));
  EXPECT_EQ(script_->drains, 2);
}

TEST_F(MonitorTest, CoroutineDrainsAgainAndAgain) {
  make();
  script_->feed({1});
  asio::co_spawn(
      io_,
      [&]() -> asio::awaitable<void> {
        EXPECT_EQ(co_await monitor_->async_drain(collect(), asio::use_awaitable), 1u);
        script_->feed({2, 3});
        EXPECT_EQ(co_await monitor_->async_drain(collect(), asio::use_awaitable), 2u);
      },
      [](std::exception_ptr failure) { EXPECT_FALSE(failure); });
  io_.run();
  EXPECT_EQ(seen_, (Values{1, 2, 3}));
}

TEST_F(MonitorTest, DeferredStartsWhenItIsLaunched) {
  make();
  auto operation = monitor_->async_drain(collect(), asio::deferred);
  io_.run();
  EXPECT_EQ(script_->drains, 0);
  script_->feed({4});
  std::move(operation)(note());
  io_.restart();
  io_.run();
  EXPECT_EQ(seen_, (Values{4}));
}

TEST_F(MonitorTest, TakesASinkByReference) {
  make();
  script_->feed({5});
  auto sink = collect();
  monitor_->async_drain(tcpinfo::RecordSink(sink), note());
  io_.run();
  EXPECT_EQ(seen_, (Values{5}));
}

TEST_F(MonitorTest, HandlerRunsOnItsOwnExecutor) {
  make();
  script_->feed({1});
  asio::io_context other;
  monitor_->async_drain(collect(), asio::bind_executor(other.get_executor(), note()));
  io_.poll();
  EXPECT_EQ(seen_, (Values{1}));
  EXPECT_EQ(completions_, 0);
  other.run();
  EXPECT_EQ(completions_, 1);
}

TEST_F(MonitorTest, OneTurnIsBounded) {
  make(FakeSource::Wakes::kByDescriptor, 2);
  script_->feed({1, 2, 3});
  monitor_->async_drain(collect(), note());
  io_.run();
  EXPECT_EQ(delivered_, 2u);
  monitor_->async_drain(collect(), note());
  io_.restart();
  io_.run();
  EXPECT_EQ(seen_, (Values{1, 2, 3}));
}

TEST_F(MonitorTest, CancelledByItsSlot) {
  for (const auto type :
       {asio::cancellation_type::terminal, asio::cancellation_type::partial, asio::cancellation_type::total}) {
    make();
    completions_ = 0;
    asio::cancellation_signal signal;
    monitor_->async_drain(collect(), asio::bind_cancellation_slot(signal.slot(), note()));
    asio::steady_timer later(io_, 2ms);
    later.async_wait([&](error_code) { signal.emit(type); });
    io_.restart();
    io_.run();
    EXPECT_EQ(completions_, 1);
    EXPECT_EQ(error_, asio::error::operation_aborted);
    EXPECT_EQ(delivered_, 0u);
    script_ = std::make_shared<Script>();
  }
}

TEST_F(MonitorTest, CancelledBeforeItsFirstTurn) {
  make();
  script_->feed({1});
  asio::cancellation_signal signal;
  monitor_->async_drain(collect(), asio::bind_cancellation_slot(signal.slot(), note()));
  signal.emit(asio::cancellation_type::terminal);
  io_.run();
  EXPECT_EQ(error_, asio::error::operation_aborted);
  EXPECT_EQ(seen_, Values{});
  EXPECT_EQ(script_->ready.size(), 1u) << "a record was taken for nobody";
}

TEST_F(MonitorTest, LosesARaceAgainstATimer) {
  using namespace asio::experimental::awaitable_operators;
  make();
  asio::co_spawn(
      io_,
      [&]() -> asio::awaitable<void> {
        asio::steady_timer timeout(io_, 2ms);
        const auto first =
            co_await (monitor_->async_drain(collect(), asio::use_awaitable) || timeout.async_wait(asio::use_awaitable));
        EXPECT_EQ(first.index(), 1u);
        script_->feed({9});
        EXPECT_EQ(co_await monitor_->async_drain(collect(), asio::use_awaitable), 1u);
      },
      [](std::exception_ptr failure) { EXPECT_FALSE(failure); });
  io_.run();
  EXPECT_EQ(seen_, (Values{9}));
}

TEST_F(MonitorTest, OneOperationAtATime) {
  make();
  monitor_->async_drain(collect(), note());
  error_code second;
  monitor_->async_drain(collect(), [&](error_code error, std::size_t) {
    second = error;
    script_->feed({1});
  });
  io_.run();
  EXPECT_EQ(second, asio::error::already_started);
  EXPECT_EQ(error_, error_code());
  EXPECT_EQ(seen_, (Values{1}));
}

TEST_F(MonitorTest, StartKeepsGoingUntilStopped) {
  make();
  script_->feed({1});
  monitor_->start(
      [&](const tcpinfo::Record& record) {
        seen_.push_back(*record.rtt());
        if (seen_.size() < 20) script_->feed({static_cast<std::uint32_t>(seen_.size() + 1)});
        if (seen_.size() == 20) monitor_->stop();
      },
      [](error_code error) { ADD_FAILURE() << error.message(); });
  io_.run();
  ASSERT_EQ(seen_.size(), 20u);
  EXPECT_EQ(seen_.back(), 20u);
}

TEST_F(MonitorTest, StopInsideTheCallbackDeliversNoMoreAndAccountsForTheRest) {
  make();
  script_->feed({1, 2, 3});
  monitor_->start(
      [&](const tcpinfo::Record& record) {
        seen_.push_back(*record.rtt());
        monitor_->stop();
      },
      [](error_code error) { ADD_FAILURE() << error.message(); });
  io_.run();
  EXPECT_EQ(seen_, (Values{1}));
  EXPECT_EQ(tcpinfo::Statistics::sum(monitor_->statistics().lost_sink), 2u);
}

TEST_F(MonitorTest, StartsAgainRightAfterStop) {
  make();
  const auto no_error = [](error_code error) { ADD_FAILURE() << error.message(); };
  monitor_->start([](const tcpinfo::Record&) { ADD_FAILURE() << "of the run that was stopped"; }, no_error);
  io_.poll();
  monitor_->stop();
  monitor_->start(
      [&](const tcpinfo::Record& record) {
        seen_.push_back(*record.rtt());
        monitor_->stop();
      },
      no_error);
  script_->feed({1});
  io_.run();
  EXPECT_EQ(seen_, (Values{1}));
}

TEST_F(MonitorTest, StartTwiceIsAnError) {
  make();
  error_code second;
  monitor_->start(collect(), [](error_code error) { ADD_FAILURE() << error.message(); });
  monitor_->start(collect(), [&](error_code error) {
    second = error;
    monitor_->stop();
  });
  io_.run();
  EXPECT_EQ(second, asio::error::already_started);
}

TEST_F(MonitorTest, DestroyedInsideTheCallback) {
  make();
  script_->feed({1, 2, 3});
  monitor_->start(
      [&](const tcpinfo::Record& record) {
        seen_.push_back(*record.rtt());
        monitor_.reset();
        EXPECT_FALSE(script_->closed) << "the source was closed while it drained";
      },
      [](error_code error) { ADD_FAILURE() << error.message(); });
  io_.run();
  EXPECT_EQ(seen_, (Values{1}));
  EXPECT_TRUE(script_->closed);
  EXPECT_FALSE(script_->closed_in_drain);
}

TEST_F(MonitorTest, DestroyedInsideTheSinkOfAnOperation) {
  make();
  script_->feed({1, 2});
  monitor_->async_drain([&](const tcpinfo::Record&) { monitor_.reset(); }, note());
  io_.run();
  EXPECT_EQ(error_, asio::error::operation_aborted);
  EXPECT_EQ(delivered_, 1u);
  EXPECT_TRUE(script_->closed);
}

TEST_F(MonitorTest, DestroyedInsideTheErrorCallback) {
  make();
  script_->drain_error = {EIO, std::system_category()};
  monitor_->start(collect(), [&](error_code) { monitor_.reset(); });
  io_.run();
  EXPECT_TRUE(script_->closed);
}

TEST_F(MonitorTest, DestroyedWhileAnOperationWaits) {
  make();
  monitor_->async_drain(collect(), note());
  io_.poll();
  EXPECT_EQ(completions_, 0);
  monitor_.reset();
  EXPECT_TRUE(script_->closed);
  io_.run();
  EXPECT_EQ(completions_, 1);
  EXPECT_EQ(error_, asio::error::operation_aborted);
}

TEST_F(MonitorTest, LoopDestroyedWhileAnOperationWaits) {
  auto io = std::make_unique<asio::io_context>();
  {
    tcpinfo::Monitor monitor(*io, std::make_unique<FakeSource>(script_, FakeSource::Wakes::kByDescriptor));
    monitor.async_drain(collect(), note());
    io->poll();
  }
  io.reset();
  EXPECT_EQ(completions_, 0);
  EXPECT_TRUE(script_->closed);
}

TEST_F(MonitorTest, ClosedAborts) {
  make();
  monitor_->close();
  monitor_->close();
  monitor_->async_drain(collect(), note());
  monitor_->start(collect(), [](error_code error) { ADD_FAILURE() << error.message(); });
  io_.run();
  EXPECT_EQ(error_, asio::error::operation_aborted);
  EXPECT_EQ(script_->drains, 0);
}

TEST_F(MonitorTest, MoveAssignmentClosesWhatItReplaces) {
  make();
  auto other = std::make_shared<Script>();
  *monitor_ = tcpinfo::Monitor(io_, std::make_unique<FakeSource>(other, FakeSource::Wakes::kByDescriptor));
  EXPECT_TRUE(script_->closed);
  EXPECT_FALSE(other->closed);
  other->feed({3});
  monitor_->async_drain(collect(), note());
  io_.run();
  EXPECT_EQ(seen_, (Values{3}));
}

TEST_F(MonitorTest, ErrorsArePassedOnAndItGoesOn) {
  make();
  script_->drain_error = tcpinfo::Errc::kMalformed;
  script_->feed({1});
  monitor_->async_drain(collect(), note());
  io_.run();
  EXPECT_EQ(std::error_code(error_), tcpinfo::Errc::kMalformed);
  EXPECT_EQ(error_.message(), std::error_code(tcpinfo::Errc::kMalformed).message());
  EXPECT_EQ(delivered_, 1u) << "delivered before the error";

  script_->tick_error = {ENOBUFS, std::system_category()};
  monitor_->async_drain(collect(), note());
  io_.restart();
  io_.run();
  EXPECT_EQ(error_, boost::system::errc::no_buffer_space);

  script_->feed({2});
  monitor_->async_drain(collect(), note());
  io_.restart();
  io_.run();
  EXPECT_EQ(error_, error_code());
  EXPECT_EQ(seen_, (Values{1, 2}));
}

TEST_F(MonitorTest, StartGoesOnAfterErrorsAtADecentPace) {
  make();
  int errors = 0;
  script_->on_tick = [&](Clock::time_point) { script_->tick_error = {EIO, std::system_category()}; };
  const auto began = Clock::now();
  monitor_->start(collect(), [&](error_code error) {
    EXPECT_EQ(error, boost::system::errc::io_error);
    if (++errors == 3) monitor_->stop();
  });
  io_.run();
  EXPECT_EQ(errors, 3);
  EXPECT_GE(Clock::now() - began, 20ms);
}

TEST_F(MonitorTest, KeepsDeadlinesWithoutADescriptor) {
  make(FakeSource::Wakes::kByDeadlineOnly);
  const auto began = Clock::now();
  std::vector<Clock::time_point> due;
  script_->deadline = began + 5ms;
  script_->on_tick = [&](Clock::time_point now) {
    if (now < *script_->deadline) return;
    due.push_back(now);
    script_->ready.push_back(static_cast<std::uint32_t>(due.size()));
    script_->deadline = *script_->deadline + 5ms;
  };
  monitor_->start(
      [&](const tcpinfo::Record& record) {
        seen_.push_back(*record.rtt());
        if (seen_.size() == 3) monitor_->stop();
      },
      [](error_code error) { ADD_FAILURE() << error.message(); });
  io_.run();
  EXPECT_EQ(seen_, (Values{1, 2, 3}));
  ASSERT_EQ(due.size(), 3u);
  for (std::size_t i = 0; i < due.size(); ++i) EXPECT_GE(due[i] - began, (i + 1) * 5ms);
  EXPECT_LE(script_->ticks, 7) << "a wake a deadline, and a turn after each";
}

TEST_F(MonitorTest, ADeadlineWakesWhatWaitsForTheDescriptor) {
  make();
  script_->deadline = Clock::now() + 2ms;
  script_->on_tick = [&](Clock::time_point now) {
    if (!script_->deadline || now < *script_->deadline) return;
    script_->deadline.reset();
    script_->ready.push_back(1);
  };
  monitor_->async_drain(collect(), note());
  io_.run();
  EXPECT_EQ(seen_, (Values{1}));
}

TEST_F(MonitorTest, AFloodStarvesNobody) {
  make();
  script_->endless = true;
  std::size_t records = 0;
  monitor_->start([&](const tcpinfo::Record&) { ++records; },
                  [](error_code error) { ADD_FAILURE() << error.message(); });
  int rounds = 0;
  std::size_t before = 0;
  std::size_t most = 0;
  std::function<void()> post = [&] {
    most = std::max(most, records - before);
    before = records;
    if (++rounds < 100) asio::post(io_, post);
  };
  asio::post(io_, post);
  asio::steady_timer timer(io_, 5ms);
  bool expired = false;
  timer.async_wait([&](error_code) {
    expired = true;
    monitor_->stop();
  });
  io_.run_for(10s);
  EXPECT_TRUE(expired);
  EXPECT_EQ(rounds, 100);
  EXPECT_LE(most, 2u * 8u) << "more than a turn or two between two rounds of another handler";
}

TEST_F(MonitorTest, AStrandMakesItSafeWithThreads) {
  constexpr std::uint32_t kRecords = 2000;
  auto strand = asio::make_strand(io_);
  monitor_.emplace(strand, std::make_unique<FakeSource>(script_, FakeSource::Wakes::kByDescriptor), 8);
  std::uint32_t sum = 0;
  asio::co_spawn(
      strand,
      [&]() -> asio::awaitable<void> {
        for (std::size_t records = 0; records < kRecords;) {
          records += co_await monitor_->async_drain([&](const tcpinfo::Record& record) { sum += *record.rtt(); },
                                                    asio::use_awaitable);
        }
        monitor_.reset();
      },
      asio::detached);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back([this] { io_.run(); });
  for (std::uint32_t i = 0; i < kRecords; ++i) {
    script_->feed({1});
    if (i % 16 == 0) std::this_thread::yield();
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(sum, kRecords);
}

TEST(MonitorConstruction, LeavesTheDescriptorToItsSource) {
  auto script = std::make_shared<Script>();
  asio::io_context io;
  auto source = std::make_unique<FakeSource>(script, FakeSource::Wakes::kByDescriptor);
  const int descriptor = source->descriptor();
  tcpinfo::Monitor monitor(io, std::move(source));
  EXPECT_EQ(monitor.source().descriptor(), descriptor);
  monitor.async_drain([](const tcpinfo::Record&) {}, [](error_code, std::size_t) {});
  io.poll();
  monitor.stop();
  io.run();
  EXPECT_NE(::fcntl(descriptor, F_GETFD), -1);
}

}  // namespace
