// SPDX-License-Identifier: BSD-2-Clause
// What one sock_ops callback costs: ours beside an empty program, beside one that only reserves, stamps and submits, and
// beside the naive way. Each program has a cgroup and a connection of its own; the same exchanges go over one connection
// after the other, in slices, and the kernel's run-time statistics say what each program took in its slice.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <tuple>

#include <fmt/format.h>
#include <tcpinfo/cost.hpp>
#include <tcpinfo/error.hpp>
#include <tcpinfo/sockops.hpp>

#include "callbacks.skel.h"
#include "lab/fd.hpp"
#include "lab/lab.hpp"
#include "measurements.hpp"
#include "program_time.hpp"

namespace bench {
namespace {

[[noreturn]] void fail(const std::string& action) {
  throw tcpinfo::Error({errno, std::generic_category()}, action, "try tcpinfo doctor");
}

struct SkeletonDeleter {
  void operator()(struct callbacks* skeleton) const noexcept { callbacks__destroy(skeleton); }
};
struct RingDeleter {
  void operator()(ring_buffer* ring) const noexcept { ring_buffer__free(ring); }
};
struct LinkDeleter {
  void operator()(bpf_link* link) const noexcept { bpf_link__destroy(link); }
};
using Skeleton = std::unique_ptr<struct callbacks, SkeletonDeleter>;
using Link = std::unique_ptr<bpf_link, LinkDeleter>;
using Ring = std::unique_ptr<ring_buffer, RingDeleter>;

Link attach(const bpf_program* program, const lab::Cgroup& cgroup) {
  const lab::Fd directory(::open(cgroup.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0) fail("open " + cgroup.path().string());
  Link link(bpf_program__attach_cgroup(program, directory.get()));
  if (!link) fail("attach " + std::string(bpf_program__name(program)) + " to " + cgroup.path().string());
  return link;
}

// Both ends of a connection over loopback, made inside a cgroup.
class Pair {
 public:
  explicit Pair(const lab::Cgroup& cgroup) {
    const lab::InCgroup inside(cgroup);
    const lab::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    client_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::bind(listener.get(), generic, length) != 0 || ::listen(listener.get(), 1) != 0 ||
        ::getsockname(listener.get(), generic, &length) != 0 || ::connect(client_.get(), generic, length) != 0)
      fail("connect over loopback");
    server_.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const int on = 1;
    for (const auto* end : {&client_, &server_})
      if (setsockopt(end->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) fail("set TCP_NODELAY");
  }

  /// There and back, `count` times: each acknowledgement measures a round trip.
  void exchange(std::size_t count) const {
    char byte = 'x';
    for (std::size_t i = 0; i < count; ++i)
      if (::send(client_.get(), &byte, 1, 0) != 1 || ::recv(server_.get(), &byte, 1, 0) != 1 ||
          ::send(server_.get(), &byte, 1, 0) != 1 || ::recv(client_.get(), &byte, 1, 0) != 1)
        fail("exchange a byte over loopback");
  }

 private:
  lab::Fd client_, server_;
};

// A program under test with its cgroup, its connection and what takes its records.
struct Variant {
  std::string name;
  std::size_t records_an_exchange;  // 0: none are made
  lab::Cgroup cgroup{"tcpinfo-bench"};
  Skeleton skeleton = nullptr;
  Ring ring = nullptr;
  Link link = nullptr;
  std::unique_ptr<tcpinfo::SockopsSource> source = nullptr;
  std::unique_ptr<Pair> pair = nullptr;
  std::uint64_t drained = 0;
  std::vector<double> ns{};  // a callback, slice by slice

  void drain() {
    if (ring)
      while (ring_buffer__consume(ring.get()) > 0) {
      }
    if (source) source->drain([this](const tcpinfo::Record&) { ++drained; });
  }
};

int count_record(void* context, void*, std::size_t) {
  ++*static_cast<std::uint64_t*>(context);
  return 0;
}

template <class Choose>
std::unique_ptr<Variant> plain(std::string name, bool emits, Choose choose) {
  auto variant = std::make_unique<Variant>(Variant{.name = std::move(name), .records_an_exchange = emits ? 2u : 0u});
  variant->skeleton.reset(callbacks__open_and_load());
  if (!variant->skeleton) fail("load the programs of the benchmark");
  variant->ring.reset(
      ring_buffer__new(bpf_map__fd(variant->skeleton->maps.records), count_record, &variant->drained, nullptr));
  if (!variant->ring) fail("map the ring of the benchmark");
  {
    const Link arm = attach(variant->skeleton->progs.bench_arm, variant->cgroup);
    variant->pair = std::make_unique<Pair>(variant->cgroup);
  }
  variant->link = attach(choose(*variant->skeleton), variant->cgroup);
  return variant;
}

std::unique_ptr<Variant> ours(std::string name, tcpinfo::Mode mode, std::chrono::nanoseconds interval, bool emits) {
  auto variant = std::make_unique<Variant>(Variant{.name = std::move(name), .records_an_exchange = emits ? 2u : 0u});
  tcpinfo::SockopsOptions options;
  options.cgroup = variant->cgroup.path();
  options.mode = mode;
  options.interval = interval;
  variant->source = std::make_unique<tcpinfo::SockopsSource>(options);
  variant->pair = std::make_unique<Pair>(variant->cgroup);
  variant->drain();
  variant->drained = 0;
  return variant;
}

// The consumer of the naive way's ring, there to be woken.
class Waiter {
 public:
  explicit Waiter(Ring ring)
      : thread_([ring = std::move(ring)](const std::stop_token& stop) {
          while (!stop.stop_requested()) ring_buffer__poll(ring.get(), 50);
        }) {}

 private:
  std::jthread thread_;
};

constexpr std::size_t kExchanges = 250;  // a slice; its records fit into every ring

void run_slice(Variant& variant) {
  const auto before = program_time(variant.cgroup.path());
  const auto drained = variant.drained;
  variant.pair->exchange(kExchanges);
  const auto after = program_time(variant.cgroup.path());
  if (after.programs != 1)
    throw std::runtime_error(fmt::format("{}: {} programs, not the one under test", variant.name, after.programs));
  const auto runs = after.runs - before.runs;
  // Acknowledgements may ride on data or not: one round trip is measured an exchange and end, now and then none.
  if (runs < kExchanges)
    throw std::runtime_error(fmt::format("{}: {} callbacks in {} exchanges", variant.name, runs, kExchanges));
  variant.ns.push_back((after.seconds - before.seconds) * 1e9 / static_cast<double>(runs));
  variant.drain();
  if (variant.records_an_exchange > 0 && variant.skeleton == nullptr && variant.drained - drained < runs)
    throw std::runtime_error(fmt::format("{}: {} callbacks, {} records", variant.name, runs, variant.drained - drained));
}

Result compare(std::string what, const Variant& ours, const Variant& floor, std::string floor_name, double goal) {
  return {.what = std::move(what),
          .unit = "ns",
          .ours = spread(ours.ns),
          .floor_name = std::move(floor_name),
          .floor = spread(floor.ns),
          .ratio = ratio(ours.ns, floor.ns),
          .goal = goal};
}

}  // namespace

Outcome callbacks(const Options& options) {
  std::optional<tcpinfo::KernelStatistics> statistics;
  try {
    statistics.emplace();
  } catch (const tcpinfo::Error& error) {
    throw NotPossible{error.what()};
  }

  using namespace std::chrono_literals;
  std::vector<std::unique_ptr<Variant>> variants;
  variants.push_back(plain("empty", false, [](auto& s) { return s.progs.bench_empty; }));
  variants.push_back(ours("nothing due", tcpinfo::Mode::kPolling, 1h, false));
  variants.push_back(plain("floor", true, [](auto& s) { return s.progs.bench_floor; }));
  variants.push_back(ours("every RTT", tcpinfo::Mode::kPolling, 0s, true));
  variants.push_back(plain("naive", true, [](auto& s) { return s.progs.bench_naive; }));
  const Waiter waiter(std::move(variants.back()->ring));

  const std::size_t rounds = options.quick ? 200 : 2000;
  std::mt19937 random(1);
  std::vector<Variant*> order;
  for (const auto& variant : variants) order.push_back(variant.get());
  for (std::size_t round = 0; round < rounds; ++round) {
    if (round % (rounds / 4) == 0) options.progress(fmt::format("{} of {} rounds", round, rounds));
    std::ranges::shuffle(order, random);
    for (auto* variant : order) run_slice(*variant);
  }

  const auto& [empty, idle, floor, full, naive] =
      std::tie(*variants[0], *variants[1], *variants[2], *variants[3], *variants[4]);
  Outcome outcome;
  outcome.results.push_back(
      compare("callback that emits nothing", idle, empty, "an empty sock_ops program", 1.4));
  outcome.results.push_back(
      compare("full record emitted", full, floor, "reserve, stamp and submit of that size", 1.5));
  outcome.results.push_back(
      compare("full record emitted", full, naive, "one helper call a field, default wake-ups", 1.0 / 8));
  const auto lost = tcpinfo::Statistics::sum(full.source->statistics().lost_ring);
  for (auto& result : outcome.results)
    result.note = fmt::format("run_time_ns / run_cnt, with the cost of taking them; {} slices of {} exchanges, {} records lost",
                              rounds, kExchanges, lost);
  return outcome;
}

}  // namespace bench
