// SPDX-License-Identifier: BSD-2-Clause
#include "lab/emulator.hpp"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <deque>
#include <span>
#include <stop_token>
#include <system_error>
#include <utility>
#include <vector>

#include <tcpinfo/error.hpp>

#include "lab/segment.hpp"
#include "lab/tun_device.hpp"

namespace lab {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

constexpr auto kWindow = 100ms;
constexpr std::size_t kPacketsPerTurn = 64;

nanoseconds to_ns(double ns) { return nanoseconds(static_cast<nanoseconds::rep>(ns)); }

}  // namespace

Chance::Chance(std::uint64_t seed, bool there, Purpose purpose) {
  std::seed_seq sequence{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32),
                         static_cast<std::uint32_t>(there), static_cast<std::uint32_t>(purpose)};
  generator_.seed(sequence);
}

// std::uniform_real_distribution differs between libraries.
double Chance::operator()() noexcept { return static_cast<double>(generator_() >> 11) * 0x1p-53; }

std::size_t queue_limit(const Way& way, int mtu) {
  if (way.queue_bytes > 0) return way.queue_bytes;
  return std::max(static_cast<std::size_t>(way.rate_mbit * 1e6 / 8 * 0.020), 2 * static_cast<std::size_t>(mtu));
}

/// One way: what was taken from one device and is not yet written to the other.
class Emulator::Lane {
 public:
  Lane(const Way& way, int mtu, std::uint64_t seed, bool there)
      : way_(way),
        mtu_(static_cast<std::size_t>(mtu)),
        queue_limit_(queue_limit(way, mtu)),
        ns_per_byte_(way.rate_mbit > 0 ? 8e3 / way.rate_mbit : 0),
        loss_(seed, there, Chance::kLoss),
        jitter_(seed, there, Chance::kJitter),
        reordering_(seed, there, Chance::kReordering) {}

  /// Takes what `device` has, some packets at most.
  void take(int from, int to) {
    for (std::size_t i = 0; i < kPacketsPerTurn; ++i) {
      auto buffer = new_buffer();
      const ssize_t got = ::read(from, buffer.get(), mtu_);
      if (got <= 0) {
        free_.push_back(std::move(buffer));
        return;
      }
      take({std::move(buffer), static_cast<std::size_t>(got)}, Clock::now());
      deliver(to);
    }
  }

  /// Writes what is due to `device`.
  void deliver(int to) {
    while (auto* queue = next()) {
      const auto now = Clock::now();
      auto& packet = queue->front();
      if (packet.due > now) return;
      latest_ = std::max(latest_, nanoseconds(now - packet.due));
      // One that the kernel refuses is lost as on any link.
      if (::write(to, packet.bytes.get(), packet.size) == static_cast<ssize_t>(packet.size))
        count_delivered(packet.size, now);
      else
        drop(packet);
      free_.push_back(std::move(packet.bytes));
      queue->pop_front();
    }
  }

  std::optional<Clock::time_point> next_due() {
    const auto* queue = next();
    return queue ? std::optional(queue->front().due) : std::nullopt;
  }

  WayCounters counters(std::uint64_t dropped_by_device) const {
    WayCounters counters;
    counters.packets = packets_ + dropped_by_device;
    if (dropped_by_device == 0) {
      counters.bytes = bytes_;
      counters.data_lost = data_lost_;
    }
    counters.lost = lost_;
    counters.dropped = dropped_ + dropped_by_device;
    counters.marked = marked_;
    counters.reordered = reordered_;
    counters.busiest_mbit = static_cast<double>(std::max(busiest_, window_bytes_)) * 8 / 1e6 /
                            std::chrono::duration<double>(kWindow).count();
    counters.latest = latest_;
    return counters;
  }

 private:
  struct Packet {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t size;
    Clock::time_point due = {};

    std::span<std::byte> span() const { return {bytes.get(), size}; }
  };

  std::unique_ptr<std::byte[]> new_buffer() {
    if (free_.empty()) return std::make_unique_for_overwrite<std::byte[]>(mtu_);
    auto buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }

  void take(Packet packet, Clock::time_point now) {
    ++packets_;
    bytes_ += packet.size;
    // Drawn for each packet, so that which ones are lost does not depend on the queue.
    if (way_.loss > 0 && loss_() < way_.loss) {
      ++lost_;
      count_data(packet);
      free_.push_back(std::move(packet.bytes));
      return;
    }
    packet.due = now;
    if (way_.rate_mbit > 0) {
      const auto start = std::max(now, line_free_);
      const auto waiting =
          static_cast<std::size_t>(static_cast<double>(nanoseconds(start - now).count()) / ns_per_byte_);
      if (waiting > 0 && waiting + packet.size > queue_limit_) {
        drop(packet);
        free_.push_back(std::move(packet.bytes));
        return;
      }
      if (way_.ecn_mark_bytes > 0 && waiting > way_.ecn_mark_bytes &&
          set_ecn(packet.span(), Ecn::kCongestionExperienced))
        ++marked_;
      line_free_ = start + to_ns(static_cast<double>(packet.size) * ns_per_byte_);
      packet.due = line_free_;
    }
    if (way_.reordering > 0 && reordering_() < way_.reordering) {
      ++reordered_;
      undelayed_.push_back(std::move(packet));
      return;
    }
    packet.due += way_.delay;
    if (way_.jitter > 0us) packet.due += to_ns(static_cast<double>(nanoseconds(way_.jitter).count()) * jitter_());
    last_due_ = packet.due = std::max(packet.due, last_due_);
    delayed_.push_back(std::move(packet));
  }

  // Each of the two queues is in the order of time.
  std::deque<Packet>* next() {
    if (undelayed_.empty()) return delayed_.empty() ? nullptr : &delayed_;
    return delayed_.empty() || undelayed_.front().due <= delayed_.front().due ? &undelayed_ : &delayed_;
  }

  void drop(const Packet& packet) {
    ++dropped_;
    count_data(packet);
  }

  void count_data(const Packet& packet) {
    if (const auto segment = parse_segment(packet.span(), false); segment && segment->payload > 0) ++data_lost_;
  }

  void count_delivered(std::size_t bytes, Clock::time_point now) {
    const auto window = now.time_since_epoch() / kWindow;
    if (window != window_) {
      busiest_ = std::max(busiest_, window_bytes_);
      window_ = window;
      window_bytes_ = 0;
    }
    window_bytes_ += bytes;
  }

  const Way way_;
  const std::size_t mtu_, queue_limit_;
  const double ns_per_byte_;
  Chance loss_, jitter_, reordering_;
  Clock::time_point line_free_{}, last_due_{};
  std::deque<Packet> delayed_, undelayed_;
  std::vector<std::unique_ptr<std::byte[]>> free_;  // the allocator would cost as much as the packet
  std::uint64_t packets_ = 0, bytes_ = 0, lost_ = 0, dropped_ = 0, marked_ = 0, reordered_ = 0, data_lost_ = 0;
  std::uint64_t busiest_ = 0, window_bytes_ = 0;
  Clock::rep window_ = 0;
  nanoseconds latest_{0};
};

Emulator::Emulator(const Netns& a, const Netns& b, const PathOptions& options)
    : devices_{open_tun(a, 1, options.mtu), open_tun(b, 2, options.mtu)},
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      kernel_{Rtnetlink(a), Rtnetlink(b)},
      lanes_{std::make_unique<Lane>(options.there, options.mtu, options.seed, true),
             std::make_unique<Lane>(options.back, options.mtu, options.seed, false)} {
  if (wake_.get() < 0) throw tcpinfo::Error({errno, std::system_category()}, "make an eventfd", "");
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

Emulator::~Emulator() = default;

void Emulator::run(const std::stop_token& stop) {
  const std::stop_callback wake(stop, [this] {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof(one));
  });
  // By default timers come up to 50 us late.
  ::prctl(PR_SET_TIMERSLACK, 1);
  // On a busy machine a packet should not wait for others' time slices; without the privilege it does.
  const sched_param first{.sched_priority = 1};
  if (::sched_setscheduler(0, SCHED_RR, &first) != 0) ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), -20);
  const int ends[2]{devices_[0].get(), devices_[1].get()};
  while (!stop.stop_requested()) {
    std::optional<Clock::time_point> due;
    {
      const std::lock_guard lock(mutex_);
      for (std::size_t i = 0; i < 2; ++i) {
        lanes_[i]->deliver(ends[1 - i]);
        if (const auto next = lanes_[i]->next_due()) due = due ? std::min(*due, *next) : *next;
      }
    }
    timespec timeout{};
    if (due) {
      const auto left = std::max(nanoseconds(*due - Clock::now()), 0ns);
      timeout = {.tv_sec = left / 1s, .tv_nsec = (left % 1s).count()};
    }
    pollfd ready[3]{{ends[0], POLLIN, 0}, {ends[1], POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (::ppoll(ready, 3, due ? &timeout : nullptr, nullptr) <= 0) continue;
    // A device that somebody removed is not waited for for ever.
    if ((ready[0].revents | ready[1].revents) & (POLLERR | POLLHUP | POLLNVAL)) return;
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < 2; ++i)
      if (ready[i].revents & POLLIN) lanes_[i]->take(ends[i], ends[1 - i]);
  }
}

WayCounters Emulator::counters(bool there) const {
  const std::size_t index = there ? 0 : 1;
  const auto device = kernel_[index].device(kTunDevice);
  const std::lock_guard lock(mutex_);
  return lanes_[index]->counters(device.tx_dropped);
}

}  // namespace lab
