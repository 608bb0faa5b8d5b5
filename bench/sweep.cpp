// SPDX-License-Identifier: BSD-2-Clause
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/tcpinfo.hpp>

#include "crowd.hpp"
#include "lab/fd.hpp"
#include "lab/lab.hpp"
#include "measurements.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

// A sweep stops where a ring is half full: all that any makes here.
constexpr std::size_t kRing = std::size_t{16} << 20;
constexpr std::size_t kFew = 5, kMany = 1000;

int check(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// Still connections of which one end is in the watched cgroup; the other stays in its listener's queue, outside, and
// takes no descriptor.
class Tagged {
 public:
  Tagged(const lab::Netns& netns, const lab::Cgroup& watched) : netns_(netns), watched_(watched) {}
  Tagged(const Tagged&) = delete;
  ~Tagged() {
    const linger reset{.l_onoff = 1, .l_linger = 0};  // no TIME_WAIT
    for (const auto& client : clients_) ::setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  }

  void grow(std::size_t count) {
    netns_.run([&] {
      while (clients_.size() < count) {
        if (clients_.size() % kQueue == 0) listen();
        const lab::InCgroup in(watched_);
        do connect();
        while (clients_.size() < count && clients_.size() % kQueue != 0);
      }
    });
  }

 private:
  static constexpr int kQueue = 1000;

  void listen() {
    lab::Fd listener(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "make a listener"));
    address_ = {};
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address_);
    check(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address_), length), "bind a listener");
    check(::listen(listener.get(), kQueue + 1), "listen");
    check(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address_), &length), "ask for a listener's port");
    listeners_.push_back(std::move(listener));
  }
  void connect() {
    lab::Fd client(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "make a socket"));
    check(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof(address_)), "connect");
    clients_.push_back(std::move(client));
  }

  const lab::Netns& netns_;
  const lab::Cgroup& watched_;
  sockaddr_in address_{};
  std::vector<lab::Fd> listeners_;
  std::vector<lab::Fd> clients_;  // closed before the listeners, which would reset them
};

struct Times {
  std::vector<double> sweep, with_drain;  // us
};

// The interval is the shortest there is: each tick is a sweep in which all are due.
Times time_sweeps(tcpinfo::SockopsSource& source, std::size_t tagged, std::size_t repetitions,
                  std::vector<char>* caches) {
  Times times;
  std::uint64_t cookies = 0;
  const auto touch = [&cookies](const tcpinfo::Record& record) { cookies ^= record.raw().cookie; };
  source.drain(touch);
  const auto before = source.statistics();
  for (std::size_t i = 0; i < repetitions; ++i) {
    if (caches)
      for (std::size_t at = 0; at < caches->size(); at += 64) ++(*caches)[at];
    const auto emitted = tcpinfo::Statistics::sum(source.statistics().emitted);
    const auto start = Clock::now();
    const auto error = source.tick(start);
    const double sweep = us_since(start);
    const auto made = tcpinfo::Statistics::sum(source.statistics().emitted) - emitted;
    const auto resumed = Clock::now();
    const auto drained = source.drain(touch);
    times.with_drain.push_back(sweep + us_since(resumed));
    times.sweep.push_back(sweep);
    if (error || drained.error) throw std::system_error(error ? error : drained.error, "sweep");
    if (made != tagged || drained.records != tagged)
      throw std::runtime_error(fmt::format("a sweep over {} connections gave {} records, {} were drained", tagged, made,
                                           drained.records));
  }
  const auto after = source.statistics();
  if (after.sweeps - before.sweeps != repetitions || after.lost_ring != before.lost_ring)
    throw std::runtime_error("not every tick was a sweep, or records were lost");
  return times;
}

// The same sockets, found by looking at all that there are.
std::vector<double> time_walks(const lab::Netns& netns, const lab::Cgroup& watched, std::size_t tagged,
                               std::size_t repetitions) {
  tcpinfo::IterOptions wanted;
  wanted.interval = std::chrono::nanoseconds(1);
  wanted.cgroup = watched.path();
  wanted.netns = netns.path();
  tcpinfo::IterSource source(wanted);
  std::vector<double> times;
  for (std::size_t i = 0; i < repetitions; ++i) {
    const auto start = Clock::now();
    auto error = source.tick(start);
    const auto drained = source.drain([](const tcpinfo::Record&) {});
    times.push_back(us_since(start));
    if (!error) error = drained.error;
    if (error) throw std::system_error(error, "walk over all sockets");
    if (drained.records != tagged)
      throw std::runtime_error(fmt::format("a walk gave {} records of {} connections", drained.records, tagged));
  }
  return times;
}

struct Measured {
  explicit Measured(std::size_t count) : tagged(count) {}

  std::size_t tagged;
  Spread alone, in_crowd, in_crowd_drained, cold, walk;
};

}  // namespace

Outcome sweep(const Options& options) {
  const std::size_t others = options.quick ? 10'000 : 100'000;
  std::vector<Measured> all;
  for (const std::size_t tagged : {std::size_t{1}, kFew, std::size_t{10}, std::size_t{100}, kMany, std::size_t{10'000}})
    all.emplace_back(tagged);
  rlimit descriptors{};
  ::getrlimit(RLIMIT_NOFILE, &descriptors);
  std::erase_if(all, [&](const Measured& m) { return m.tagged + 100 > descriptors.rlim_cur; });

  const lab::Netns netns("tcpinfo-bench");
  const auto repetitions = [&](std::size_t tagged) {
    return std::clamp<std::size_t>((options.quick ? 20'000 : 200'000) / tagged, 20, options.quick ? 400 : 4000);
  };
  std::vector<char> caches(std::size_t{64} << 20);

  // A source a round, so that both begin with nothing tagged.
  const auto round = [&](auto measure) {
    const lab::Cgroup watched("tcpinfo-bench");
    tcpinfo::SockopsOptions chosen;
    chosen.cgroup = watched.path();
    chosen.interval = std::chrono::nanoseconds(1);
    chosen.ring_bytes = chosen.life_cycle_ring_bytes = kRing;
    tcpinfo::SockopsSource source(chosen);
    Tagged tagged(netns, watched);
    for (auto& m : all) {
      tagged.grow(m.tagged);
      measure(m, source, watched);
    }
  };
  options.progress("sweeps over tagged sockets, alone");
  round([&](Measured& m, tcpinfo::SockopsSource& source, const lab::Cgroup&) {
    m.alone = spread(time_sweeps(source, m.tagged, repetitions(m.tagged), nullptr).sweep);
  });
  options.progress(fmt::format("{} other sockets", others));
  const Crowd crowd({.sockets = others, .netns = &netns, .cgroup = nullptr, .progress = options.progress});
  options.progress("sweeps over tagged sockets among them, and walks over all");
  round([&](Measured& m, tcpinfo::SockopsSource& source, const lab::Cgroup& watched) {
    const auto times = time_sweeps(source, m.tagged, repetitions(m.tagged), nullptr);
    m.in_crowd = spread(times.sweep);
    m.in_crowd_drained = spread(times.with_drain);
    m.cold = spread(time_sweeps(source, m.tagged, options.quick ? 20 : 100, &caches).sweep);
    m.walk = spread(time_walks(netns, watched, m.tagged, options.quick ? 7 : 15));
  });

  Outcome outcome;
  for (const auto& m : all) {
    Result result{.what = fmt::format("sweep of {} tagged among {}", m.tagged, others),
                  .unit = "us",
                  .ours = m.in_crowd,
                  .floor_name = "walk over the whole hash",
                  .floor = m.walk};
    if (m.tagged == kFew) result.goal = 5;
    if (m.tagged == kMany) result.goal = 1000;
    result.note = fmt::format(
        "all of them due, rings of 16 MiB, so that a sweep is one read; {:.3g} us without the other sockets, {:.3g} us with the drain of the records, {:.3g} us "
        "after "
        "other work filled the caches",
        m.alone.median, m.in_crowd_drained.median, m.cold.median);
    outcome.results.push_back(std::move(result));
  }
  if (options.growth) {
    const auto curve = [&](std::string name, Spread Measured::*times) {
      Curve result{.name = std::move(name), .x = "tagged connections", .y = "us", .points = {}};
      for (const auto& m : all) result.points.emplace_back(static_cast<double>(m.tagged), m.*times);
      outcome.curves.push_back(std::move(result));
    };
    curve("sweep_alone", &Measured::alone);
    curve("sweep_among_others", &Measured::in_crowd);
    curve("walk_over_all", &Measured::walk);
  }
  return outcome;
}

}  // namespace bench
