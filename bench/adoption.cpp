// SPDX-License-Identifier: BSD-2-Clause
// Connections that are older than the attach: from the attach until the last of them was delivered.
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/tcpinfo.hpp>

#include "crowd.hpp"
#include "lab/lab.hpp"
#include "measurements.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double cpu_ms() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  const auto of = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

struct Times {
  std::vector<double> open, adopt, adopt_cpu, stop;  // ms
};

// With the rings that a source has by default, and the owner there for nothing else.
void adopt_once(const lab::Cgroup& cgroup, tcpinfo::Mode mode, std::size_t sockets, Times& times) {
  tcpinfo::SockopsOptions options;
  options.cgroup = cgroup.path();
  options.mode = mode;
  auto start = Clock::now();
  tcpinfo::SockopsSource source(options);
  times.open.push_back(ms_since(start));

  const double cpu = cpu_ms();
  start = Clock::now();
  std::size_t adopted = 0;
  while (adopted < sockets) {
    const auto ticked = source.tick(Clock::now());
    const auto drained =
        source.drain([&](const tcpinfo::Record& record) { adopted += record.event() == TCPINFO_EVENT_ADOPTED; });
    if (ticked || drained.error) throw std::system_error(ticked ? ticked : drained.error, "adopt");
    if (Clock::now() - start > 60s)
      throw std::runtime_error(
          fmt::format("{} of {} connections were adopted in a minute; beside another sock_ops program "
                      "flags stay, by which close mode takes them for known",
                      adopted, sockets));
  }
  times.adopt.push_back(ms_since(start));
  times.adopt_cpu.push_back(cpu_ms() - cpu);

  start = Clock::now();
  source.stop();
  times.stop.push_back(ms_since(start));
  const auto statistics = source.statistics();
  if (statistics.emitted[TCPINFO_EVENT_ADOPTED] != sockets || tcpinfo::Statistics::sum(statistics.lost_ring) > 0)
    throw std::runtime_error(fmt::format("{} connections gave {} adopted records, {} records were lost", sockets,
                                         statistics.emitted[TCPINFO_EVENT_ADOPTED],
                                         tcpinfo::Statistics::sum(statistics.lost_ring)));
}

}  // namespace

Outcome adoption(const Options& options) {
  if (::geteuid() != 0) throw NotPossible{"needs root"};
  const std::size_t sockets = options.quick ? 10'000 : 100'000;
  const std::size_t rounds = options.quick ? 5 : 10;
  const lab::Netns netns("adoption");
  const lab::Cgroup cgroup("adoption");
  const Crowd crowd({.sockets = sockets, .netns = &netns, .cgroup = &cgroup, .progress = options.progress});

  Outcome outcome;
  for (const auto mode : {tcpinfo::Mode::kPolling, tcpinfo::Mode::kState, tcpinfo::Mode::kClose}) {
    options.progress(fmt::format("{} connections, {} mode", sockets, tcpinfo::name(mode)));
    Times times;
    for (std::size_t round = 0; round < rounds; ++round) adopt_once(cgroup, mode, sockets, times);
    Result result;
    result.what = fmt::format("{} open connections adopted, {} mode", sockets, tcpinfo::name(mode));
    result.unit = "ms";
    result.ours = spread(times.adopt);
    result.goal = 1000;
    result.note = fmt::format(
        "from the attach to the last record, none lost; {:.0f} ms of CPU; to load and attach took {:.0f} ms before, to "
        "take the callback flags back {:.0f} ms after",
        spread(times.adopt_cpu).median, spread(times.open).median, spread(times.stop).median);
    outcome.results.push_back(std::move(result));
  }
  return outcome;
}

}  // namespace bench
