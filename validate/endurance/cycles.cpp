// SPDX-License-Identifier: BSD-2-Clause
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <tcpinfo/tcpinfo.hpp>

#include "endurance.hpp"
#include "growth.hpp"
#include "lab/connections.hpp"
#include "lab/lab.hpp"
#include "usage.hpp"

namespace endurance {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr std::uint16_t kPort = 7000;

/// Until the source has given the close records of both ends of one connection, or ten seconds are over.
bool use(tcpinfo::Source& source) {
  int closed = 0;
  for (const auto end = steady_clock::now() + 10s; closed < 2 && steady_clock::now() < end;) {
    source.tick(steady_clock::now());
    const auto result = source.drain(
        [&](const tcpinfo::Record& record) { closed += record.event() == std::uint8_t{TCPINFO_EVENT_CLOSE}; });
    if (result.records == 0) std::this_thread::yield();
  }
  return closed == 2;
}

}  // namespace

bool cycles(const CyclesOptions& options) {
  const lab::Netns netns("endure-cycles");
  const lab::Cgroup cgroup("endure-cycles");
  lab::Connections connections(netns);
  const lab::InCgroup inside(cgroup);
  const auto listener = connections.listen(kPort);

  std::filesystem::create_directories(options.out);
  std::ofstream csv(options.out / "cycles.csv");
  fmt::print(csv, "cycle,seconds,resident_bytes,descriptors,programs,maps,links\n");
  Growth growth;
  KernelObjects left;  // of all cycles until now
  std::size_t had = 0;
  int failed = 0;
  const auto begin = steady_clock::now();
  for (int cycle = 0; cycle < options.cycles; ++cycle) {
    tcpinfo::SockopsOptions wanted;
    wanted.cgroup = cgroup.path();
    wanted.mode = static_cast<tcpinfo::Mode>(cycle % TCPINFO_MODES);
    {
      tcpinfo::SockopsSource source(wanted);
      netns.run([&] { connections.one(listener.get(), kPort); });
      failed += !use(source);
      auto held = usage_of(getpid()).objects;
      had += held.programs.size() + held.maps.size() + held.links.size();
      left.merge(std::move(held));
    }
    if (cycle % std::max(1, options.cycles / 200) != 0 && cycle + 1 != options.cycles) continue;
    left.forget_gone(5s);
    auto usage = usage_of(getpid());
    usage.objects.merge(left);
    const double seconds = std::chrono::duration<double>(steady_clock::now() - begin).count();
    fmt::print(csv, "{},{:.1f},{},{},{},{},{}\n", cycle + 1, seconds, usage.resident_bytes, usage.descriptors,
               usage.objects.programs.size(), usage.objects.maps.size(), usage.objects.links.size());
    csv.flush();
    growth.add(usage);
    fmt::print(stderr, "\r{} of {} cycles, {:.0f} s, {} KiB, {} descriptors, left: {} programs, {} maps, {} links ",
               cycle + 1, options.cycles, seconds, usage.resident_bytes / 1024, usage.descriptors,
               usage.objects.programs.size(), usage.objects.maps.size(), usage.objects.links.size());
  }
  fmt::print(stderr, "\n");
  const auto verdict = growth.verdict();
  const auto text = fmt::format(
      "{} cycles of attach, one connection, detach; {} of them without the close records of both ends\n"
      "{} programs, maps and links in the kernel on the way, {} of them left\n{}",
      options.cycles, failed, had, left.programs.size() + left.maps.size() + left.links.size(), verdict.text);
  std::ofstream(options.out / "cycles.txt") << text;
  fmt::print("{}", text);
  return failed == 0 && left.empty() && verdict.is_flat;
}

}  // namespace endurance
