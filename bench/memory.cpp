// SPDX-License-Identifier: BSD-2-Clause
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/tcpinfo.hpp>

#include "crowd.hpp"
#include "empty_storage.skel.h"
#include "lab/fd.hpp"
#include "lab/lab.hpp"
#include "measurements.hpp"
#include "program_time.hpp"

namespace bench {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kManyConnections = 1'000'000;
// A sweep that waits for room walks past what it has seen when it goes on.
constexpr std::size_t kRingForMany = std::size_t{32} << 20;
constexpr std::uint64_t kBytesASocket = 6000;  // of the kernel's memory, with the file and what else hangs on it

// The number behind `key` in a file of "key: number" lines.
std::uint64_t number_in(const fs::path& file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(key) && line.size() > key.size() && line[key.size()] == ':')
      return std::strtoull(line.c_str() + key.size() + 1, nullptr, 10);
  throw NotPossible{fmt::format("{} has no {}", file.string(), key)};
}

double anonymous_bytes(pid_t pid) {
  return 1024.0 * static_cast<double>(number_in(fmt::format("/proc/{}/status", pid), "RssAnon"));
}

// In those general caches of the kernel's allocator from which elements of socket storage are taken.
double kmalloc_bytes() {
  constexpr double kLargest = 256;
  std::ifstream in("/proc/slabinfo");
  double bytes = 0;
  for (std::string line; std::getline(in, line);) {
    std::istringstream columns(line);
    std::string name;
    double active = 0, all = 0, size = 0;
    columns >> name >> active >> all >> size;
    // kmalloc-rcl-*: names of files and the like.
    if (name.starts_with("kmalloc-") && name.find("rcl") == std::string::npos && size <= kLargest)
      bytes += active * size;
  }
  if (bytes == 0) throw NotPossible{"/proc/slabinfo names no kmalloc caches"};
  return bytes;
}

// What was freed is given back after a grace period.
double settled_kmalloc_bytes() {
  double last = kmalloc_bytes();
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(250ms);
    const double now = kmalloc_bytes();
    if (now > last - 64 * 1024) return now;
    last = now;
  }
  return last;
}

class EmptyStorage {
 public:
  explicit EmptyStorage(const lab::Cgroup& cgroup) : skeleton_(empty_storage__open_and_load()) {
    if (!skeleton_) throw std::system_error(errno, std::system_category(), "load the floor's program");
    const lab::Fd directory(::open(cgroup.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    link_.reset(bpf_program__attach_cgroup(skeleton_->progs.create, directory.get()));
    if (!link_) throw std::system_error(errno, std::system_category(), "attach the floor's program");
  }

 private:
  struct Destroy {
    void operator()(empty_storage* skeleton) const noexcept { empty_storage__destroy(skeleton); }
    void operator()(bpf_link* link) const noexcept { bpf_link__destroy(link); }
  };
  std::unique_ptr<empty_storage, Destroy> skeleton_;
  std::unique_ptr<bpf_link, Destroy> link_;
};

tcpinfo::SockopsOptions watching(const lab::Cgroup& cgroup, std::chrono::nanoseconds interval) {
  tcpinfo::SockopsOptions options;
  options.cgroup = cgroup.path();
  options.interval = interval;
  return options;
}

enum class Watched { kNot, kEmptyElement, kByUs };

// Bytes a socket that a crowd of this size takes from the general caches.
double kernel_bytes(Watched how, std::size_t sockets, const lab::Netns& netns) {
  const lab::Cgroup cgroup("tcpinfo-bench");
  std::optional<EmptyStorage> empty;
  std::optional<tcpinfo::SockopsSource> source;
  if (how == Watched::kEmptyElement) empty.emplace(cgroup);
  if (how == Watched::kByUs) source.emplace(watching(cgroup, 1h));
  const double before = settled_kmalloc_bytes();
  const Crowd crowd({.sockets = sockets, .netns = &netns, .cgroup = &cgroup});
  return (kmalloc_bytes() - before) / static_cast<double>(sockets);
}

// What the maps of this process take that does not grow, and the size of a connection's value.
struct Maps {
  std::uint64_t bytes = 0, value = 0;
};

Maps own_maps() {
  Maps maps;
  for (const auto& entry : fs::directory_iterator("/proc/self/fdinfo")) {
    std::ifstream in(entry.path());
    std::uint64_t type = BPF_MAP_TYPE_UNSPEC, value = 0, bytes = 0;
    for (std::string line; std::getline(in, line);) {
      const auto read = [&line](std::string_view key, std::uint64_t& into) {
        if (line.starts_with(key)) into = std::strtoull(line.c_str() + key.size(), nullptr, 10);
      };
      read("map_type:", type);
      read("value_size:", value);
      read("memlock:", bytes);
    }
    if (type == BPF_MAP_TYPE_SK_STORAGE) maps.value = value;
    if (type != BPF_MAP_TYPE_UNSPEC) maps.bytes += bytes;
  }
  return maps;
}

// Drives a source as its owner would, in a thread of its own, while this one does something else.
class Driver {
 public:
  explicit Driver(tcpinfo::Source& source) : source_(source), thread_([this] { run(); }) {}
  ~Driver() { stop(); }
  Driver(const Driver&) = delete;

  // Afterwards the source is the caller's again.
  void stop() {
    ended_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  void run() {
    // A crowd in the making has more processes than there are CPUs, which never wait.
    ::setpriority(PRIO_PROCESS, 0, -10);
    while (!ended_) {
      source_.tick(Clock::now());
      if (source_.drain([](const tcpinfo::Record&) {}).records == 0) std::this_thread::sleep_for(1ms);
    }
  }

  tcpinfo::Source& source_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

// tcpinfo watch, with its output thrown away.
class Watch {
 public:
  Watch(const Options& options, const lab::Cgroup& cgroup, std::string_view format)
      : summary_(::memfd_create("summary", MFD_CLOEXEC)),
        process_({.command = {(options.binaries / "tcpinfo").string(), "watch", "--cgroup", cgroup.path().string(),
                              "--interval", "1s", "--format", std::string(format)},
                  .stderr_file = fmt::format("/proc/self/fd/{}", summary_.get())}) {}

  double bytes() const { return anonymous_bytes(process_.pid()); }

  // Ends it. How many connections it saw, by its own summary.
  std::uint64_t connections() {
    process_.signal(SIGINT);
    process_.wait(20s);
    std::string text(2000, '\0');
    const auto size = ::pread(summary_.get(), text.data(), text.size(), 0);
    text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    const auto end = text.find(" connections");
    if (end == std::string::npos) throw std::runtime_error(fmt::format("tcpinfo watch: {}", text));
    return std::strtoull(text.c_str() + text.rfind(' ', end - 1) + 1, nullptr, 10);
  }

 private:
  lab::Fd summary_;
  lab::Process process_;
};

void wait_until_attached(const lab::Cgroup& cgroup, std::size_t programs) {
  for (int i = 0; i < 2000; ++i) {
    if (program_time(cgroup.path()).programs >= programs) return;
    std::this_thread::sleep_for(10ms);
  }
  throw std::runtime_error("tcpinfo watch did not attach");
}

struct UserBytes {
  double library, json, table;  // a socket
};

UserBytes user_bytes(const Options& options, std::size_t sockets, const lab::Netns& netns) {
  constexpr std::size_t kWarmUp = 2000;  // after them the buffers have grown to what they need
  const lab::Cgroup cgroup("tcpinfo-bench");
  tcpinfo::SockopsSource source(watching(cgroup, 1s));
  Watch json(options, cgroup, "jsonl"), table(options, cgroup, "table");
  wait_until_attached(cgroup, 3);
  const Driver driver(source);
  const Crowd few({.sockets = kWarmUp, .netns = &netns, .cgroup = &cgroup});
  std::this_thread::sleep_for(2500ms);
  UserBytes before{anonymous_bytes(::getpid()), json.bytes(), table.bytes()};
  const Crowd crowd({.sockets = sockets, .netns = &netns, .cgroup = &cgroup, .progress = options.progress});
  std::this_thread::sleep_for(2500ms);  // two sweeps over all
  const UserBytes after{anonymous_bytes(::getpid()), json.bytes(), table.bytes()};
  for (auto* watch : {&json, &table})
    if (const auto seen = watch->connections(); seen != sockets + kWarmUp)
      throw std::runtime_error(fmt::format("tcpinfo watch saw {} of {} connections", seen, sockets + kWarmUp));
  const auto each = [&](double from, double to) { return std::max(to - from, 0.0) / static_cast<double>(sockets); };
  return {each(before.library, after.library), each(before.json, after.json), each(before.table, after.table)};
}

Spread one(double value) { return {.median = value, .low = value, .high = value, .count = 1}; }

// As many as there is room for: all records of them are drained, then they are swept.
void watch_many(const Options& options, const lab::Netns& netns, Outcome& outcome) {
  constexpr auto kInterval = 10s;
  const auto room = 1024 * number_in("/proc/meminfo", "MemAvailable") / 10 * 7 / kBytesASocket / 2 * 2;
  const auto wanted = std::min<std::uint64_t>(kManyConnections, room);
  const lab::Cgroup cgroup("tcpinfo-bench");
  auto chosen = watching(cgroup, kInterval);
  chosen.ring_bytes = chosen.life_cycle_ring_bytes = kRingForMany;
  tcpinfo::SockopsSource source(chosen);
  const double kernel_before = settled_kmalloc_bytes(), user_before = anonymous_bytes(::getpid());
  std::optional<Driver> driver(source);
  const Crowd crowd({.sockets = wanted, .netns = &netns, .cgroup = &cgroup, .progress = options.progress});
  driver.reset();
  const double kernel = kmalloc_bytes() - kernel_before, user = anonymous_bytes(::getpid()) - user_before;

  const auto sink = [](const tcpinfo::Record&) {};
  while (source.drain(sink).records > 0) {
  }
  const auto made = source.statistics();
  std::this_thread::sleep_for(kInterval);
  options.progress("a sweep over all of them");
  const auto start = Clock::now();
  std::size_t swept = 0, turns = 0;
  do {
    if (const auto error = source.tick(Clock::now())) throw std::system_error(error, "sweep");
    swept += source.drain(sink).records;
    ++turns;
  } while (source.statistics().sweeps == made.sweeps && Clock::now() < start + 60s);
  if (swept < wanted) throw std::runtime_error(fmt::format("a sweep over {} sockets gave {} records", wanted, swept));
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const auto after = source.statistics();

  const auto lost = tcpinfo::Statistics::sum(after.lost_ring), emitted = tcpinfo::Statistics::sum(after.emitted);
  const auto sockets = static_cast<double>(wanted);
  outcome.results.push_back(
      {.what = "connections watched at once",
       .unit = "sockets",
       .ours = one(static_cast<double>(made.connections)),
       .goal = static_cast<double>(kManyConnections),
       .sense = Sense::kAtLeast,
       .note = fmt::format(
           "{} loopback connections with both ends watched; {} untracked; {} of {} records lost with {} MiB "
           "of ring a CPU, drained at nice -10; {:.1f} MB of the kernel's general caches ({:.0f} B each, with what "
           "every socket has there); our process grew by {:.0f} KiB",
           wanted / 2, after.untracked, lost, emitted, kRingForMany >> 20, kernel / 1e6, kernel / sockets,
           user / 1024)});
  outcome.results.push_back({.what = fmt::format("sweep of {} tagged, drained", wanted),
                             .unit = "s",
                             .ours = one(seconds),
                             .note = fmt::format("{} records in {} turns of sweep and drain, {} lost in them", swept,
                                                 turns, lost - tcpinfo::Statistics::sum(made.lost_ring))});
}

}  // namespace

Outcome memory(const Options& options) {
  if (!fs::exists(options.binaries / "tcpinfo"))
    throw NotPossible{"tcpinfo was not built: " + (options.binaries / "tcpinfo").string()};
  const std::size_t sockets = options.quick ? 10'000 : 100'000;
  const int rounds = options.quick ? 3 : 2;
  const lab::Netns netns("tcpinfo-bench");
  Outcome outcome;

  Maps maps;
  {
    const lab::Cgroup cgroup("tcpinfo-bench");
    const tcpinfo::SockopsSource source(watching(cgroup, 1h));
    maps = own_maps();
  }
  std::vector<double> not_watched, empty, ours, beyond;
  for (int i = 0; i < rounds; ++i) {
    options.progress(
        fmt::format("{} sockets: not watched, with an empty element, watched; {} of {}", sockets, i + 1, rounds));
    not_watched.push_back(kernel_bytes(Watched::kNot, sockets, netns));
    empty.push_back(kernel_bytes(Watched::kEmptyElement, sockets, netns));
    ours.push_back(kernel_bytes(Watched::kByUs, sockets, netns));
    beyond.push_back(ours.back() - empty.back());
  }
  const double base = spread(not_watched).median;
  outcome.results.push_back(
      {.what = "kernel memory beyond an empty element",
       .unit = "B/socket",
       .ours = spread(beyond),
       .goal = 64,
       .note = fmt::format(
           "of {} sockets in the kernel's general caches: an empty element (1 B) adds {:.1f} B a socket, ours "
           "({} B) {:.1f} B, by size classes; beside that {} KiB of maps, however many connections",
           sockets, spread(empty).median - base, maps.value, spread(ours).median - base, maps.bytes / 1024)});

  options.progress(fmt::format("what user space keeps of {} sockets", sockets));
  const auto user = user_bytes(options, sockets, netns);
  const auto add_user = [&](std::string_view who, double bytes) {
    outcome.results.push_back({.what = fmt::format("user space memory, {}", who),
                               .unit = "B/connection",
                               .ours = one(bytes),
                               .goal = 160,
                               .note = fmt::format("growth of its anonymous memory while {} connections began and were "
                                                   "sampled twice; it keeps nothing of a connection",
                                                   sockets)});
  };
  add_user("library", user.library);
  add_user("tcpinfo watch, JSON lines", user.json);
  add_user("tcpinfo watch, table", user.table);

  if (options.growth) {
    Curve floor{.name = "memory_empty_element", .x = "sockets", .y = "B/socket", .points = {}};
    Curve curve{.name = "memory_watched", .x = "sockets", .y = "B/socket", .points = {}};
    for (std::size_t count = 1000; count < sockets; count *= 10) {
      const double none = kernel_bytes(Watched::kNot, count, netns);
      floor.points.emplace_back(count, one(kernel_bytes(Watched::kEmptyElement, count, netns) - none));
      curve.points.emplace_back(count, one(kernel_bytes(Watched::kByUs, count, netns) - none));
    }
    floor.points.emplace_back(sockets, one(spread(empty).median - base));
    curve.points.emplace_back(sockets, one(spread(ours).median - base));
    outcome.curves = {std::move(floor), std::move(curve)};
  }
  if (!options.quick) {
    options.progress("a million connections");
    watch_many(options, netns, outcome);
  }
  return outcome;
}

}  // namespace bench
