// SPDX-License-Identifier: BSD-2-Clause

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/sockops.hpp>

#include "consumer.hpp"
#include "empty_program.hpp"
#include "lab/connections.hpp"
#include "lab/fd.hpp"
#include "lab/lab.hpp"
#include "measurements.hpp"
#include "placement.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using std::chrono::steady_clock;
using tcpinfo::Mode;

constexpr int kConnectionsASlice = 200;
constexpr int kWarmUp = 20;
constexpr int kLeastRounds = 30;

double thread_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

/// Seconds a connection.
struct Slice {
  double cpu = 0, elapsed = 0;
};

/// Connections that a thread makes in a network namespace, and what they take.
class TimedConnections {
 public:
  explicit TimedConnections(const lab::Netns& netns) : netns_(netns), connections_(netns) {}

  lab::Fd listen(std::uint16_t port) const { return connections_.listen(port); }

  Slice run(int count, int listener, std::uint16_t port) {
    Slice slice;
    netns_.run([&] {
      const auto begin = steady_clock::now();
      const double cpu_begin = thread_cpu_seconds();
      for (int i = 0; i < count; ++i) connections_.one(listener, port);
      slice.cpu = (thread_cpu_seconds() - cpu_begin) / count;
      slice.elapsed = std::chrono::duration<double>(steady_clock::now() - begin).count() / count;
    });
    return slice;
  }

 private:
  const lab::Netns& netns_;
  lab::Connections connections_;
};

/// What is attached to the cgroup, and which ends are in it.
struct Variant {
  enum class Attached { kNothing, kEmpty, kEmptyWithStates, kTcpinfo };

  std::string name;
  Attached attached = Attached::kTcpinfo;
  Mode mode = Mode::kClose;
  bool client = true;  ///< is in the cgroup too
  std::optional<double> goal = {};

  std::vector<std::unique_ptr<lab::Cgroup>> above = {};  ///< the watched one first, if it is not `cgroup` itself
  std::unique_ptr<lab::Cgroup> cgroup = {};
  lab::Fd link = lab::Fd();
  std::unique_ptr<tcpinfo::SockopsSource> source = {};
  std::unique_ptr<Consumer> consumer = {};
  int further = 0;  ///< sources beside that one, each with its consumer
  std::vector<std::pair<std::unique_ptr<tcpinfo::SockopsSource>, std::unique_ptr<Consumer>>> others = {};
  lab::Fd listener = lab::Fd();
  std::uint16_t port = 0;
  std::vector<double> cpu = {}, elapsed = {};  ///< seconds a connection, by round
  double consumer_seconds = 0;
  double made = 0;  ///< connections

  void resume() const {
    if (consumer) consumer->resume();
    for (const auto& other : others) other.second->resume();
  }
  void pause() const {
    if (consumer) consumer->pause();
    for (const auto& other : others) other.second->pause();
  }
};

void attach(Variant& variant) {
  using enum Variant::Attached;
  if (variant.attached == kEmpty || variant.attached == kEmptyWithStates)
    variant.link = attach_empty_program(*variant.cgroup,
                                        variant.attached == kEmptyWithStates ? Callbacks::kState : Callbacks::kNone);
  if (variant.attached != kTcpinfo) return;
  tcpinfo::SockopsOptions options;
  options.cgroup = (variant.above.empty() ? variant.cgroup : variant.above.front())->path();
  options.mode = variant.mode;
  const auto open = [&] {
    auto source = std::make_unique<tcpinfo::SockopsSource>(options);
    auto consumer = std::make_unique<Consumer>(*source);
    return std::pair(std::move(source), std::move(consumer));
  };
  std::tie(variant.source, variant.consumer) = open();
  for (int i = 0; i < variant.further; ++i) variant.others.push_back(open());
}

/// Slices of each in random order until the time is over, the floor among them.
void run(const Options& options, TimedConnections& connections, std::vector<Variant>& variants,
         std::chrono::seconds time) {
  const lab::Cgroup elsewhere("bench-connections");
  std::uint16_t port = 7000;
  for (auto& variant : variants) {
    if (!variant.cgroup) variant.cgroup = std::make_unique<lab::Cgroup>("bench-connections");
    variant.port = port++;
    const lab::InCgroup inside(*variant.cgroup);
    variant.listener = connections.listen(variant.port);
    attach(variant);
  }
  const Pinned pinned(0);
  const lab::InCgroup and_back(elsewhere);
  std::mt19937 random(1);
  std::vector<Variant*> order;
  for (auto& variant : variants) order.push_back(&variant);
  const auto end = steady_clock::now() + time;
  for (int round = 0; round <= kLeastRounds || steady_clock::now() < end; ++round) {
    if (round % 10 == 0) options.progress(fmt::format("round {}", round));
    std::ranges::shuffle(order, random);
    for (auto* variant : order) {
      (variant->client ? *variant->cgroup : elsewhere).enter();
      const double before = variant->consumer ? variant->consumer->cpu_seconds() : 0;
      variant->resume();
      connections.run(kWarmUp, variant->listener.get(), variant->port);
      const auto slice = connections.run(kConnectionsASlice, variant->listener.get(), variant->port);
      variant->pause();
      variant->made += kWarmUp + kConnectionsASlice;
      if (variant->consumer) variant->consumer_seconds += variant->consumer->cpu_seconds() - before;
      if (round == 0) continue;  // fills caches and slabs
      variant->cpu.push_back(slice.cpu);
      variant->elapsed.push_back(slice.elapsed);
    }
  }
}

/// What a connection takes more than one that nothing watches, in us; the first variant is the latter.
Spread more_than_first(const std::vector<Variant>& variants, const Variant& variant) {
  std::vector<double> more;
  for (std::size_t i = 0; i < variant.cpu.size(); ++i) more.push_back((variant.cpu[i] - variants.front().cpu[i]) * 1e6);
  return spread(more);
}

Curve grow(const Options& options, TimedConnections& connections, std::string name, std::string x,
           const std::vector<int>& xs, const std::function<void(Variant&, int)>& prepare) {
  std::vector<Variant> variants;
  variants.push_back({.name = "nothing", .attached = Variant::Attached::kNothing});
  for (const int at : xs) {
    variants.push_back({.name = name});
    prepare(variants.back(), at);
  }
  run(options, connections, variants, options.quick ? 1s : 8s);
  Curve curve{.name = std::move(name), .x = std::move(x), .y = "us more a connection, close mode", .points = {}};
  for (std::size_t i = 0; i < xs.size(); ++i)
    curve.points.emplace_back(xs[i], more_than_first(variants, variants[i + 1]));
  return curve;
}

std::unique_ptr<lab::Cgroup> cgroup_below(const fs::path& parent) {
  return std::make_unique<lab::Cgroup>("bench-connections", parent);
}

/// Connections on several CPUs at once, each made by a thread that is pinned there.
Curve grow_cpus(const Options& options, const lab::Netns& netns) {
  Curve curve{
      .name = "CPUs", .x = "CPUs that make connections at once", .y = "us more a connection, close mode", .points = {}};
  const int cpus = static_cast<int>(std::thread::hardware_concurrency());
  for (int count = 1; count <= cpus; count *= 2) {
    std::array<Variant, 2> variants{Variant{.name = "nothing", .attached = Variant::Attached::kNothing},
                                    Variant{.name = "close mode"}};
    std::array<std::vector<lab::Fd>, 2> listeners;
    std::vector<TimedConnections> makers;
    for (int i = 0; i < count; ++i) makers.emplace_back(netns);
    constexpr std::uint16_t kPort = 7000;
    const auto port_of = [&](std::size_t variant, int cpu) {
      return static_cast<std::uint16_t>(kPort + static_cast<int>(variant) * cpus + cpu);
    };
    for (std::size_t v = 0; v < variants.size(); ++v) {
      variants[v].cgroup = cgroup_below({});
      attach(variants[v]);
      const lab::InCgroup inside(*variants[v].cgroup);
      for (int i = 0; i < count; ++i) listeners[v].push_back(makers.front().listen(port_of(v, i)));
    }
    std::vector<double> more;
    const auto end = steady_clock::now() + (options.quick ? 500ms : 4s);
    for (int round = 0; round < kLeastRounds || steady_clock::now() < end; ++round) {
      if (round % 10 == 0) options.progress(fmt::format("{} CPUs, round {}", count, round));
      std::array<double, 2> cpu{};
      for (const std::size_t v : round % 2 == 0 ? std::array<std::size_t, 2>{0, 1} : std::array<std::size_t, 2>{1, 0}) {
        const lab::InCgroup inside(*variants[v].cgroup);
        variants[v].resume();
        std::vector<std::future<double>> slices;
        for (int i = 0; i < count; ++i)
          slices.push_back(std::async(std::launch::async, [&, v, i] {
            const Pinned pinned(i);
            auto& maker = makers[static_cast<std::size_t>(i)];
            const int listener = listeners[v][static_cast<std::size_t>(i)].get();
            maker.run(kWarmUp, listener, port_of(v, i));
            return maker.run(kConnectionsASlice, listener, port_of(v, i)).cpu;
          }));
        for (auto& slice : slices) cpu[v] += slice.get() / count;
        variants[v].pause();
      }
      if (round > 0) more.push_back((cpu[1] - cpu[0]) * 1e6);
    }
    curve.points.emplace_back(count, spread(more));
  }
  return curve;
}

void grow(const Options& options, TimedConnections& connections, Outcome& outcome) {
  outcome.curves.push_back(grow(options, connections, "nested cgroups", "cgroups from the watched one down", {1, 4, 16},
                                [](Variant& variant, int depth) {
                                  fs::path parent;
                                  for (int i = 1; i < depth; ++i) {
                                    variant.above.push_back(cgroup_below(parent));
                                    parent = variant.above.back()->path();
                                  }
                                  variant.cgroup = cgroup_below(parent);
                                }));
  outcome.curves.push_back(grow(options, connections, "cgroups side by side", "cgroups below the watched one",
                                {1, 16, 128}, [](Variant& variant, int width) {
                                  variant.above.push_back(cgroup_below({}));
                                  const auto parent = variant.above.front()->path();
                                  for (int i = 1; i < width; ++i) variant.above.push_back(cgroup_below(parent));
                                  variant.cgroup = cgroup_below(parent);
                                }));
  outcome.curves.push_back(grow(options, connections, "sources", "sources at one cgroup", {1, 2, 4},
                                [](Variant& variant, int sources) { variant.further = sources - 1; }));
}

}  // namespace

Outcome connections(const Options& options) {
  const lab::Netns netns("bench-connections");
  using enum Variant::Attached;
  std::vector<Variant> variants;
  variants.push_back({.name = "nothing", .attached = kNothing});
  variants.push_back({.name = "an empty program", .attached = kEmpty});
  variants.push_back({.name = "an empty program with state callbacks", .attached = kEmptyWithStates});
  variants.push_back({.name = "close mode", .mode = Mode::kClose, .goal = 1.03});
  variants.push_back({.name = "state mode", .mode = Mode::kState, .goal = 1.05});
  variants.push_back({.name = "polling, 100 ms", .mode = Mode::kPolling});
  variants.push_back({.name = "close mode, server's end alone", .mode = Mode::kClose, .client = false});
  variants.push_back({.name = "state mode, server's end alone", .mode = Mode::kState, .client = false});

  TimedConnections connections(netns);
  run(options, connections, variants, options.quick ? 7s : 55s);

  Outcome outcome;
  const auto in_us = [](std::vector<double> seconds) {
    for (auto& value : seconds) value *= 1e6;
    return spread(seconds);
  };
  const auto& nothing = variants.front();
  const auto& with_states = *std::ranges::find(variants, kEmptyWithStates, &Variant::attached);
  for (const auto& variant : variants) {
    if (variant.attached == kNothing) continue;
    Result result;
    result.what = variant.name;
    result.unit = "us";
    result.ours = in_us(variant.cpu);
    result.floor_name = "nothing attached";
    result.floor = in_us(nothing.cpu);
    result.ratio = ratio(variant.cpu, nothing.cpu);
    result.goal = variant.goal;
    result.note = fmt::format("On the clock {:.3f} times the floor.", ratio(variant.elapsed, nothing.elapsed).median);
    if (variant.source) {
      const auto [emitted, lost] = losses_of(*variant.source);
      result.note += fmt::format(
          " {:.1f} records a connection, {} of {} lost. The consumer, in a thread of its own, takes {:.2f} us a "
          "connection beside that.",
          static_cast<double>(emitted) / variant.made, lost, emitted, variant.consumer_seconds * 1e6 / variant.made);
    }
    if (result.goal)
      result.note += fmt::format(
          " State callbacks that do nothing take {:.1f} % already; the rest is {}.",
          100 * (ratio(with_states.cpu, nothing.cpu).median - 1),
          variant.mode == tcpinfo::Mode::kClose ? "two records" : "the storage of two sockets and the records");
    outcome.results.push_back(std::move(result));
  }
  if (options.growth) {
    variants.clear();
    grow(options, connections, outcome);
    outcome.curves.push_back(grow_cpus(options, netns));
  }
  return outcome;
}

}  // namespace bench
