// SPDX-License-Identifier: BSD-2-Clause
// All sockets of a network namespace once: by ss, by our netlink source, by our iterator.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/inet_diag.hpp>
#include <tcpinfo/iter.hpp>

#include "crowd.hpp"
#include "lab/fd.hpp"
#include "measurements.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr std::string_view kSs = "ss -tinOH";
constexpr std::size_t kMillion = 1'000'000;

// A namespace whose sockets are in a table of their own, as large as the machine's: where all share one, a walk is as
// slow as the sockets of everybody else make it.
lab::Netns own_table() {
  const lab::Netns parent("snapshot");
  std::optional<lab::Netns> made;
  parent.run([&] {
    int entries = 0;
    // Negative where this namespace shares the machine's.
    std::ifstream("/proc/sys/net/ipv4/tcp_ehash_entries") >> entries;
    std::ofstream("/proc/sys/net/ipv4/tcp_child_ehash_entries") << std::abs(entries);
    made.emplace("snapshot");
  });
  return std::move(*made);
}

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// One pass, with a consumer that looks at five fields of each socket. Throws if it was not whole.
std::size_t pass(tcpinfo::Source& source) {
  const auto before = source.statistics();
  if (const auto error = source.tick(source.next_deadline().value_or(Clock::now())))
    throw std::system_error(error, "begin a pass");
  std::size_t records = 0;
  std::uint64_t sum = 0;
  do {
    const auto result = source.drain([&](const tcpinfo::Record& record) {
      sum += record.cookie().value_or(0) + record.state().value_or(0) + record.rtt().value_or(0) +
             record.snd_cwnd().value_or(0) + record.bytes_acked().value_or(0);
    });
    if (result.error) throw std::system_error(result.error, "read a pass");
    records += result.records;
  } while (source.statistics().dumps == before.dumps);
  // The compiler must not find out that nobody wants the sum.
  asm volatile("" : : "r"(sum));
  if (source.statistics().dumps_interrupted != before.dumps_interrupted)
    throw std::runtime_error("a pass was interrupted");
  return records;
}

class Ss {
 public:
  explicit Ss(const lab::Netns& netns) : netns_(netns) {}

  void run(const std::filesystem::path& output = {}) const {
    lab::SpawnOptions options;
    options.command = {"ss", "-tinOH"};
    options.netns = &netns_;
    options.stdout_file = output;
    lab::Process process(options);
    const auto status = process.wait(120s);
    if (!status) throw std::runtime_error("ss did not come to its end in two minutes");
    if (*status != 0) throw std::runtime_error("ss failed");
  }
  // How many it shows.
  std::size_t count() const {
    char name[] = "/tmp/tcpinfo-bench-XXXXXX";
    const lab::Fd file(::mkstemp(name));
    if (file.get() < 0) throw std::system_error(errno, std::generic_category(), "make a temporary file");
    ::unlink(name);
    const auto path = fmt::format("/proc/self/fd/{}", file.get());
    run(path);
    std::ifstream lines(path);
    return static_cast<std::size_t>(
        std::count(std::istreambuf_iterator<char>(lines), std::istreambuf_iterator<char>(), '\n'));
  }

 private:
  const lab::Netns& netns_;
};

double cpu_seconds(int whose) {
  rusage usage{};
  ::getrusage(whose, &usage);
  const auto of = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

template <class Source, class SourceOptions>
std::unique_ptr<tcpinfo::Source> open(const lab::Netns& netns, std::uint32_t states) {
  SourceOptions options;
  options.netns = netns.path();
  options.states = states;
  return std::make_unique<Source>(options);
}

struct Reader {
  const char* name;
  double goal;  // of the ratio of rates
  std::unique_ptr<tcpinfo::Source> (*open)(const lab::Netns& netns, std::uint32_t states);
};
constexpr std::array kReaders{
    Reader{"inet_diag", 10, open<tcpinfo::InetDiagSource, tcpinfo::InetDiagOptions>},
    Reader{"iter", 12, open<tcpinfo::IterSource, tcpinfo::IterOptions>},
};

// Seconds, round by round; those of what was measured in the same round stand at the same place.
struct Times {
  std::vector<double> ss;
  std::array<std::vector<double>, kReaders.size()> readers;
  std::vector<double> ss_cpu;
  std::array<std::vector<double>, kReaders.size()> readers_cpu;
  std::array<std::vector<double>, kReaders.size()> walks_cpu;  // of passes that want no socket
  std::array<double, kReaders.size()> opening{};
};
constexpr std::uint32_t kNobody = 1u << 9;  // LAST_ACK
constexpr auto kEnough = 40s;               // on a machine that is busy with other things

void expect(std::size_t seen, std::size_t sockets, std::string_view who) {
  if (seen != sockets) throw std::runtime_error(fmt::format("{} saw {} of {} sockets", who, seen, sockets));
}

Times measure(const lab::Netns& netns, std::size_t sockets, std::size_t rounds, bool with_ss) {
  Times times;
  const Ss ss(netns);
  if (with_ss) expect(ss.count(), sockets, "ss");
  std::array<std::unique_ptr<tcpinfo::Source>, kReaders.size()> sources, walks;
  for (std::size_t i = 0; i < kReaders.size(); ++i) {
    // The first one also reads the kernel's types, once a process.
    walks[i] = kReaders[i].open(netns, kNobody);
    const auto begin = Clock::now();
    sources[i] = kReaders[i].open(netns, tcpinfo::kConnectionStates);
    times.opening[i] = seconds(Clock::now() - begin);
    expect(pass(*sources[i]), sockets, kReaders[i].name);
  }
  const auto end = Clock::now() + kEnough;
  for (std::size_t round = 0; round < rounds && (round < 5 || Clock::now() < end); ++round) {
    if (with_ss) {
      const auto cpu = cpu_seconds(RUSAGE_CHILDREN);
      const auto begin = Clock::now();
      ss.run();
      times.ss.push_back(seconds(Clock::now() - begin));
      times.ss_cpu.push_back(cpu_seconds(RUSAGE_CHILDREN) - cpu);
    }
    for (std::size_t i = 0; i < kReaders.size(); ++i) {
      auto cpu = cpu_seconds(RUSAGE_SELF);
      const auto begin = Clock::now();
      const auto seen = pass(*sources[i]);
      times.readers[i].push_back(seconds(Clock::now() - begin));
      times.readers_cpu[i].push_back(cpu_seconds(RUSAGE_SELF) - cpu);
      expect(seen, sockets, kReaders[i].name);
      cpu = cpu_seconds(RUSAGE_SELF);
      expect(pass(*walks[i]), 0, kReaders[i].name);
      times.walks_cpu[i].push_back(cpu_seconds(RUSAGE_SELF) - cpu);
    }
  }
  if (with_ss) expect(ss.count(), sockets, "ss");
  return times;
}

std::vector<double> scaled(std::vector<double> values, double factor) {
  for (auto& value : values) value *= factor;
  return values;
}

std::vector<double> rates(const std::vector<double>& times, std::size_t sockets) {
  std::vector<double> result;
  for (const double time : times) result.push_back(static_cast<double>(sockets) / time);
  return result;
}

void add_ratios(Outcome& outcome, const Times& times, std::size_t sockets) {
  const auto floor = rates(times.ss, sockets);
  for (std::size_t i = 0; i < kReaders.size(); ++i) {
    const auto ours = rates(times.readers[i], sockets);
    Result result;
    result.what = fmt::format("{} sockets once, decoded, by {}", sockets, kReaders[i].name);
    result.unit = "sockets/s";
    result.ours = spread(ours);
    result.floor_name = kSs;
    result.floor = spread(floor);
    result.ratio = ratio(ours, floor);
    result.goal = kReaders[i].goal;
    result.sense = Sense::kAtLeast;
    result.note = fmt::format(
        "{:.1f} ms beside {:.0f} ms, of CPU {:.1f} ms beside {:.0f} ms; the kernel's walk alone, no socket wanted, "
        "{:.1f} "
        "ms of CPU; to open the source takes {:.1f} ms more, once",
        spread(times.readers[i]).median * 1e3, spread(times.ss).median * 1e3, spread(times.readers_cpu[i]).median * 1e3,
        spread(times.ss_cpu).median * 1e3, spread(times.walks_cpu[i]).median * 1e3, times.opening[i] * 1e3);
    outcome.results.push_back(std::move(result));
  }
}

void add_million(Outcome& outcome, const Times& times, double ss) {
  for (std::size_t i = 0; i < kReaders.size(); ++i) {
    Result result;
    result.what = fmt::format("{} sockets once, decoded, by {}", kMillion, kReaders[i].name);
    result.unit = "s";
    result.ours = spread(times.readers[i]);
    result.goal = 1;
    result.note = fmt::format("{:.2f} s of CPU, the kernel's walk alone {:.2f} s; {}: {:.1f} s, once",
                              spread(times.readers_cpu[i]).median, spread(times.walks_cpu[i]).median, kSs, ss);
    outcome.results.push_back(std::move(result));
  }
}

// Every n-th of the sockets there are.
std::vector<tcpinfo::Connection> some_connections(const lab::Netns& netns, std::size_t count) {
  tcpinfo::InetDiagOptions options;
  options.netns = netns.path();
  tcpinfo::InetDiagSource source(options);
  std::vector<tcpinfo::Connection> all, chosen;
  if (const auto error = source.tick(Clock::now())) throw std::system_error(error, "begin a pass");
  while (source.statistics().dumps == 0)
    source.drain([&](const tcpinfo::Record& record) {
      const auto& raw = record.raw();
      all.push_back({raw.local_address, raw.peer_address, raw.local_port, raw.peer_port});
    });
  for (std::size_t i = 0; i < count; ++i) chosen.push_back(all.at(i * all.size() / count));
  return chosen;
}

// By ranges of ports, that the source does not look them up. Empty where a filter cannot name so many.
tcpinfo::Filter filter_of(const std::vector<tcpinfo::Connection>& connections) {
  std::string text;
  if (connections.size() > TCPINFO_FILTER_CLAUSES) return {};
  for (const auto& one : connections)
    text += fmt::format(
        "{}local_address in {}/32 and peer_address in {}/32 and local_port in {}..{} and peer_port in {}..{}",
        text.empty() ? "" : " or ", tcpinfo::to_string(one.local_address), tcpinfo::to_string(one.peer_address),
        one.local_port - 1, one.local_port, one.peer_port - 1, one.peer_port);
  return tcpinfo::Filter::parse(text);
}

void add_lookups(Outcome& outcome, const lab::Netns& netns, std::size_t sockets, std::size_t rounds) {
  constexpr int kRepeats = 10;  // a look-up alone is too short for the clock and its interruptions
  for (const std::size_t count : {1, 5, 16, 1000}) {
    tcpinfo::InetDiagOptions options;
    options.netns = netns.path();
    options.connections = some_connections(netns, count);
    tcpinfo::InetDiagSource looking_up(options);
    options.filter = filter_of(options.connections);
    const bool filtered = !options.filter.empty();
    options.connections.clear();
    tcpinfo::InetDiagSource walking(options);
    std::vector<double> ours, floor;
    for (std::size_t round = 0; round < rounds; ++round) {
      auto begin = Clock::now();
      for (int i = 0; i < kRepeats; ++i) expect(pass(looking_up), count, "inet_diag looking up");
      ours.push_back(seconds(Clock::now() - begin) / kRepeats * 1e6);
      begin = Clock::now();
      const auto seen = pass(walking);
      floor.push_back(seconds(Clock::now() - begin) * 1e6);
      if (filtered && seen < count) expect(seen, count, "inet_diag filtering");
    }
    Result result;
    result.what = fmt::format("{} known sockets among {}, exact look-ups", count, sockets);
    result.unit = "us";
    result.ours = spread(ours);
    result.floor_name = filtered ? "the same by a filtered dump" : "a dump of all";
    result.floor = spread(floor);
    result.ratio = ratio(ours, floor);
    outcome.results.push_back(std::move(result));
  }
}

void add_points(std::vector<Curve>& curves, const Times& times, std::size_t sockets) {
  const auto x = static_cast<double>(sockets);
  for (std::size_t i = 0; i < kReaders.size(); ++i)
    curves[i].points.emplace_back(x, spread(scaled(times.readers[i], 1e3)));
  if (!times.ss.empty()) curves.back().points.emplace_back(x, spread(scaled(times.ss, 1e3)));
}

}  // namespace

Outcome snapshot(const Options& options) {
  if (::geteuid() != 0) throw NotPossible{"needs root"};
  Outcome outcome;
  std::vector<Curve> curves;
  for (const auto& reader : kReaders) curves.push_back({fmt::format("snapshot_{}", reader.name), "sockets", "ms", {}});
  curves.push_back({"snapshot_ss", "sockets", "ms", {}});

  const auto with_crowd = [&](std::size_t sockets, const std::function<void(const lab::Netns&)>& function) {
    options.progress(fmt::format("{} sockets", sockets));
    const auto netns = own_table();
    const Crowd crowd({.sockets = sockets, .netns = &netns, .progress = options.progress});
    function(netns);
  };

  if (options.growth)
    for (std::size_t sockets = 10; sockets < 100'000; sockets *= 10)
      with_crowd(sockets, [&](const lab::Netns& netns) {
        add_points(curves, measure(netns, sockets, options.quick ? 5 : 20, true), sockets);
      });
  const std::size_t sockets = options.quick ? 10'000 : 100'000;
  with_crowd(sockets, [&](const lab::Netns& netns) {
    const auto times = measure(netns, sockets, options.quick ? 20 : 40, true);
    add_ratios(outcome, times, sockets);
    add_lookups(outcome, netns, sockets, options.quick ? 10 : 20);
    if (sockets == 100'000) add_points(curves, times, sockets);
  });
  if (!options.quick)
    with_crowd(kMillion, [&](const lab::Netns& netns) {
      const auto times = measure(netns, kMillion, 5, false);
      const auto begin = Clock::now();
      Ss(netns).run();
      add_million(outcome, times, seconds(Clock::now() - begin));
      add_points(curves, times, kMillion);
    });
  if (options.growth) outcome.curves = std::move(curves);
  return outcome;
}

}  // namespace bench
