// SPDX-License-Identifier: BSD-2-Clause
#include "consumer.hpp"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>

#include <tcpinfo/error.hpp>

namespace bench {

using Clock = tcpinfo::Source::Clock;

Consumer::Consumer(tcpinfo::Source& source) : source_(source), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (wake_.get() < 0) throw tcpinfo::Error({errno, std::system_category()}, "make an eventfd", "");
  thread_ = std::thread([this] { serve(); });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return rests_; });
}

Consumer::~Consumer() {
  pause();
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Consumer::resume() {
  {
    const std::lock_guard lock(mutex_);
    rests_ = false;
  }
  changed_.notify_all();
}

void Consumer::pause() {
  std::unique_lock lock(mutex_);
  if (rests_) return;
  // Seen also by a thread that has not begun to run yet.
  eventfd_write(wake_.get(), 1);
  changed_.wait(lock, [this] { return rests_; });
}

double Consumer::cpu_seconds() const noexcept {
  clockid_t clock{};
  timespec time{};
  if (pthread_getcpuclockid(const_cast<std::thread&>(thread_).native_handle(), &clock) != 0 ||
      clock_gettime(clock, &time) != 0)
    return 0;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

void Consumer::serve() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    rests_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return end_ || !rests_; });
    if (end_) return;
    lock.unlock();
    run();
    lock.lock();
  }
}

void Consumer::run() noexcept {
  std::uint64_t sum = 0;
  const auto read_record = [&sum](const tcpinfo::Record& record) {
    sum += record.rtt().value_or(0) + record.snd_cwnd().value_or(0) + record.bytes_acked().value_or(0);
  };
  for (bool stop = false; !stop;) {
    std::array<pollfd, 2> waited{pollfd{wake_.get(), POLLIN, 0}, pollfd{source_.descriptor(), POLLIN, 0}};
    const auto deadline = source_.next_deadline();
    timespec timeout{};
    if (deadline) {
      const auto left = std::max<std::chrono::nanoseconds>(*deadline - Clock::now(), std::chrono::nanoseconds::zero());
      timeout.tv_sec = static_cast<time_t>(left.count() / 1'000'000'000);
      timeout.tv_nsec = static_cast<long>(left.count() % 1'000'000'000);
    }
    ppoll(waited.data(), waited.size(), deadline ? &timeout : nullptr, nullptr);
    if (eventfd_t count = 0; waited[0].revents != 0) stop = eventfd_read(wake_.get(), &count) == 0;
    source_.tick(Clock::now());
    source_.drain(read_record);
  }
  // Or the compiler would see that nobody needs the fields.
  asm volatile("" : : "r"(sum));
}

Losses losses_of(const tcpinfo::Source& source) noexcept {
  const auto statistics = source.statistics();
  return {tcpinfo::Statistics::sum(statistics.emitted),
          tcpinfo::Statistics::sum(statistics.lost_ring) + tcpinfo::Statistics::sum(statistics.lost_sink)};
}

}  // namespace bench
