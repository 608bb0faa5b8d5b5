// SPDX-License-Identifier: BSD-2-Clause
#include <fcntl.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <tcpinfo/tcpinfo.hpp>

#include "lab/fd.hpp"
#include "lab/files.hpp"
#include "lab/lab.hpp"
#include "lab/neighbour.hpp"
#include "load.hpp"
#include "rows.hpp"

namespace endurance {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using lab::read_text;
using std::chrono::steady_clock;
using tcpinfo::Statistics;

constexpr int kBusyFlows = 8;

/// 8 busy flows sampled at every RTT, and who takes the samples, or what they are written to, stands still.
Row stand_still(const FaultOptions& options, const char* name, const std::string& through, bool stop) {
  const lab::Netns netns("endure-still");
  const lab::Cgroup cgroup("endure-still");
  Tcpinfo run(options.tcpinfo, options.out / name, cgroup, {"watch", "--interval", "0", "--ring-size", "64K"},
              Tcpinfo::Start::kAttached, through);
  Load load(netns, cgroup, {.flows = kBusyFlows, .rate = 2});
  std::this_thread::sleep_for(1s);
  if (stop) run.signal(SIGSTOP);
  std::this_thread::sleep_for(options.stop);
  if (stop) run.signal(SIGCONT);
  std::this_thread::sleep_for(2s);
  const auto ends = 2 * (load.stop().size() + kBusyFlows);
  std::this_thread::sleep_for(200ms);
  run.end(SIGINT);
  auto row = account(run, ends);
  row.held &= run.exit_code() == 0 && Statistics::sum(Books(run.stats()).lost) > 0;
  return row;
}

Row stopped(const FaultOptions& options) {
  auto row = stand_still(options, "stopped", "", true);
  row.fault = "The consumer stands still";
  row.injected = fmt::format("SIGSTOP of `tcpinfo watch` for {} s, {} busy flows sampled at every RTT",
                             options.stop.count(), kBusyFlows);
  return row;
}

Row stalled_reader(const FaultOptions& options) {
  auto row = stand_still(options, "stalled", fmt::format("sleep {}; cat", options.stop.count()), false);
  row.fault = "Whoever reads the output stands still";
  row.injected = fmt::format("a reader of the pipe that takes nothing for {} s, the same load", options.stop.count());
  return row;
}

Row cgroup_removed(const FaultOptions& options) {
  const lab::Netns netns("endure-removed");
  auto cgroup = std::make_optional<lab::Cgroup>("endure-removed");
  Tcpinfo run(options.tcpinfo, options.out / "removed", *cgroup, {"watch", "--mode", "close"});
  std::uint64_t ends = 0;
  {
    Load load(netns, *cgroup, {.rate = 500});
    std::this_thread::sleep_for(1s);
    ends = 2 * load.stop().size();
  }
  cgroup.reset();
  run.end(std::nullopt, 10s);
  auto row = account(run, ends);
  row.fault = "The cgroup is removed";
  row.injected = "rmdir of the watched cgroup after its last process left";
  row.seen = fmt::format("exit code {}: {}", run.exit_code().value_or(-1), quoted(run.said()));
  row.held &= run.exit_code() == 1 && run.said().find("was removed") != std::string::npos;
  return row;
}

Row forked(const FaultOptions&) {
  const lab::Cgroup cgroup("endure-forked");
  int answers[2], holds[2];
  if (::pipe2(answers, O_CLOEXEC) != 0 || ::pipe2(holds, O_CLOEXEC) != 0) fail("make a pipe");
  lab::Fd answer(answers[0]), answer_write(answers[1]), hold(holds[0]), hold_write(holds[1]);
  const pid_t parent = ::fork();
  if (parent == 0) {
    hold_write.reset();
    tcpinfo::SockopsOptions wanted;
    wanted.cgroup = cgroup.path();
    tcpinfo::SockopsSource source(wanted);
    if (::fork() == 0) {
      const auto said = source.drain([](const tcpinfo::Record&) {}).error.message();
      char byte;
      if (::write(answer_write.get(), said.data(), said.size()) > 0) [[maybe_unused]]
        const auto got = ::read(hold.get(), &byte, 1);
      ::_exit(0);
    }
    ::pause();
    ::_exit(0);
  }
  answer_write.reset();
  hold.reset();
  char text[256];
  const auto size = ::read(answer.get(), text, sizeof(text));
  const auto before = attached(cgroup);
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  const bool is_detached = detached(cgroup);
  const auto after = attached(cgroup);
  hold_write.reset();
  const std::string said(text, static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  Row row{.fault = "The application forks and dies",
          .injected = "fork without exec, then SIGKILL of the parent; its child goes on"};
  row.lost = fmt::format("programs attached: {} before, {} after", before, after);
  row.seen = fmt::format("`drain()` in the child: {}", quoted(said));
  row.held = before == 1 && is_detached && said == make_error_code(tcpinfo::Errc::kForked).message();
  return row;
}

Row disk_full(const FaultOptions& options) {
  const lab::Netns netns("endure-full");
  const lab::Cgroup cgroup("endure-full");
  const auto disk = options.out / "disk";
  fs::create_directories(disk);
  lab::run_command({"mount", "-t", "tmpfs", "-o", "size=64m", "endure", disk.string()});
  struct Unmount {
    fs::path path;
    ~Unmount() { lab::run_command({"umount", "-l", path.string()}); }
  } const unmount{disk};
  // What it says goes elsewhere.
  Tcpinfo run(options.tcpinfo, options.out / "disk-full", cgroup, {"record", "--interval", "0", "--ring-size", "4M"},
              Tcpinfo::Start::kAttached, "", disk / "records.zst");
  const auto filler = disk / "filler";
  Load load(netns, cgroup, {.flows = kBusyFlows, .rate = 20});
  std::this_thread::sleep_for(500ms);
  {
    std::ofstream all(filler);
    const std::string block(4096, 'x');
    while (all << block << std::flush) {
    }
  }
  // Until what waits in memory is full too.
  for (const auto end = steady_clock::now() + 60s; run.said().find("records wait in memory") == std::string::npos;
       std::this_thread::sleep_for(50ms))
    if (steady_clock::now() > end) fail("fill the disk: " + run.said());
  std::this_thread::sleep_for(3s);
  fs::remove(filler);
  std::this_thread::sleep_for(1500ms);
  load.stop();
  std::this_thread::sleep_for(200ms);
  run.end(SIGINT);
  const Books books(run.stats());
  const auto seen = look(run.records());
  Row row{.fault = "The disk is full while it records",
          .injected = "a tmpfs of 64 MiB, filled for 3 s, then room again"};
  row.lost = fmt::format("{} of {} emitted; gap records in the recording tell of {}", by_event(books.lost),
                         Statistics::sum(books.emitted), by_event(seen.told));
  for (const auto& line : lab::lines(run.said())) row.seen += quoted(line) + "; ";
  row.seen += fmt::format("exit code {}", run.exit_code().value_or(-1));
  row.held = run.exit_code() == 0 && books.balance() && seen.told == books.lost && Statistics::sum(books.lost) > 0 &&
             seen.complaint.empty();
  for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event)
    if (event != TCPINFO_EVENT_GAP) row.held &= seen.records[event] == books.delivered[event];
  return row;
}

Row flags_overwritten(const FaultOptions& options) {
  constexpr int kFlows = 20;
  constexpr auto kOurs = lab::kStateFlag | lab::kRttFlag;
  const lab::Netns netns("endure-flags");
  const lab::Cgroup cgroup("endure-flags");
  const lab::Neighbour neighbour({.cgroup = cgroup.path(), .flags = lab::kRtoFlag, .is_polite = false});
  Tcpinfo run(options.tcpinfo, options.out / "flags", cgroup, {"watch", "--keep-privileges"});
  // Attached behind ours: it has the last word.
  const lab::Neighbour last({.cgroup = cgroup.path(), .flags = lab::kRtoFlag, .is_polite = false});
  std::optional<lab::Flags> flags;
  netns.run([&] { flags.emplace(); });
  const auto with_ours = [&] {
    std::int64_t count = 0;
    netns.run([&] {
      const auto all = flags->all();
      count = std::ranges::count_if(all, [&](const auto& socket) { return (socket.second & kOurs) == kOurs; });
    });
    return count;
  };
  Load load(netns, cgroup, {.flows = kFlows, .rate = 0});
  const auto begin = steady_clock::now();
  const auto first = with_ours();
  auto now = first;
  for (; now < 2 * kFlows && steady_clock::now() < begin + 10s; now = with_ours()) std::this_thread::sleep_for(10ms);
  const std::chrono::duration<double, std::milli> passed = steady_clock::now() - begin;
  std::this_thread::sleep_for(1s);
  load.stop();
  std::this_thread::sleep_for(200ms);
  run.end(SIGINT);
  auto row = account(run, 2 * kFlows);
  row.fault = "Another program overwrites our callback flags";
  row.injected =
      fmt::format("a sock_ops program behind ours that sets its own flags when a connection begins; {} flows", kFlows);
  row.lost = fmt::format("{}; of {} ends {} had our flags when they were established, {} had them {:.0f} ms later",
                         row.lost, 2 * kFlows, first, now, passed.count());
  row.seen = fmt::format("`{}`; {}", lab::lines(run.said() + "\n").front(), run.told());
  row.held &= first < 2 * kFlows && now == 2 * kFlows && passed < 1500ms && Books(run.stats()).rearmed >= 2 * kFlows &&
              run.said().find("another sock_ops program") != std::string::npos && run.exit_code() == 0;
  return row;
}

/// CLOCK_REALTIME moved, and moved back at the end.
class SteppedClock {
 public:
  struct Step {
    std::uint64_t at_ns;    ///< CLOCK_BOOTTIME
    std::int64_t moved_ns;  ///< by all until then
  };

  ~SteppedClock() { set(-moved_); }
  void step(std::chrono::seconds by) {
    if (!set(by)) fail("step the clock: needs CAP_SYS_TIME");
    moved_ += by;
    steps_.push_back({tcpinfo::boot_time_ns(), std::chrono::nanoseconds(moved_).count()});
  }
  const std::vector<Step>& steps() const noexcept { return steps_; }

 private:
  static bool set(std::chrono::seconds by) noexcept {
    timex change{};
    change.modes = ADJ_SETOFFSET;
    change.time.tv_sec = by.count();
    return ::clock_adjtime(CLOCK_REALTIME, &change) >= 0;
  }

  std::chrono::seconds moved_{0};
  std::vector<Step> steps_;
};

Row clock_step(const FaultOptions& options) {
  constexpr int kFlows = 4;
  constexpr std::chrono::hours kSteps[] = {1h, -3h, 2h};
  constexpr std::int64_t kHalfAnHour = std::chrono::nanoseconds(30min).count();
  const lab::Netns netns("endure-clock");
  const lab::Cgroup cgroup("endure-clock");
  Tcpinfo run(options.tcpinfo, options.out / "clock", cgroup, {"record"});
  const auto begin_ns = tcpinfo::boot_time_ns();
  Load load(netns, cgroup, {.flows = kFlows, .rate = 20});
  SteppedClock clock;
  for (const auto by : kSteps) {
    std::this_thread::sleep_for(2s);
    clock.step(by);
  }
  std::this_thread::sleep_for(2s);
  const auto ends = 2 * (load.stop().size() + kFlows);
  std::this_thread::sleep_for(500ms);
  run.end(SIGINT);
  const auto end_ns = tcpinfo::boot_time_ns();

  // What the recording says of the wall clock at each record, beside what it was.
  std::uint64_t wrong = 0, farthest_ns = 0;
  std::vector<std::uint64_t> samples(std::size(kSteps) + 1);  // before and after each step
  tcpinfo::RecordingReader reader(run.records());
  const auto first_offset = reader.header().wall_offset_ns;
  while (const auto record = reader.next()) {
    const auto time = record->time_ns().value_or(0);
    const auto next = std::ranges::upper_bound(clock.steps(), time, {}, &SteppedClock::Step::at_ns);
    samples[static_cast<std::size_t>(next - clock.steps().begin())] += record->event() == TCPINFO_EVENT_SAMPLE;
    const auto moved = next == clock.steps().begin() ? 0 : std::prev(next)->moved_ns;
    if (std::abs(reader.wall_offset_ns() - first_offset - moved) < kHalfAnHour) continue;
    ++wrong;
    std::uint64_t nearest_ns = UINT64_MAX;
    for (const auto& step : clock.steps())
      nearest_ns = std::min(nearest_ns, std::max(step.at_ns, time) - std::min(step.at_ns, time));
    farthest_ns = std::max(farthest_ns, nearest_ns);
  }

  auto row = account(run, ends);
  const auto seen = look(run.records());
  row.fault = "The wall clock is set";
  row.injected = "CLOCK_REALTIME 1 h on, 3 h back, 2 h on, 2 s each, while it records (in a guest)";
  row.lost = fmt::format(
      "{}; samples before and after each step: {}; times of records are boot time, all between begin and end; the wall "
      "clock of {} of {} records is that of the other side of a step, which is {:.0f} ms away at most",
      row.lost, fmt::join(samples, ", "), wrong, Statistics::sum(seen.records), static_cast<double>(farthest_ns) / 1e6);
  row.held &= run.exit_code() == 0 && seen.first_ns >= begin_ns && seen.last_ns <= end_ns &&
              std::ranges::all_of(samples, [](auto count) { return count > 0; }) && farthest_ns < 1'000'000'000;
  return row;
}

struct Fault {
  std::string_view name;
  Row (*run)(const FaultOptions&);
};

constexpr Fault kFaults[] = {
    {"stopped", stopped},
    {"stalled-reader", stalled_reader},
    {"killed", killed},
    {"killed-starting", killed_starting},
    {"started-again", started_again},
    {"pinned", pinned},
    {"pinned-link", pinned_link},
    {"recording-killed", recording_killed},
    {"disk-full", disk_full},
    {"no-socket-storage", no_socket_storage},
    {"no-map", no_map},
    {"cgroup-removed", cgroup_removed},
    {"flags-overwritten", flags_overwritten},
    {"forked", forked},
    {kClockStep, clock_step},
};

}  // namespace

Row account(const Tcpinfo& run, std::uint64_t ends) {
  const Books books(run.stats());
  const auto seen = look(run.records());
  Row row;
  const auto life_cycle_lost = Statistics::sum(books.lost) - books.lost[TCPINFO_EVENT_SAMPLE];
  row.lost =
      fmt::format("{} of {} emitted; gap records tell of {}; of {} final records {} are there", by_event(books.lost),
                  Statistics::sum(books.emitted), by_event(seen.told), ends, seen.records[TCPINFO_EVENT_CLOSE]);
  row.seen = run.told();
  row.held = books.balance() && seen.told == books.lost && seen.records[TCPINFO_EVENT_CLOSE] == ends &&
             seen.records == books.delivered && life_cycle_lost == 0 &&
             seen.holes == books.lost[TCPINFO_EVENT_SAMPLE] && seen.owed == seen.holes && seen.complaint.empty();
  return row;
}

std::vector<std::string> fault_names() {
  std::vector<std::string> names;
  for (const auto& fault : kFaults) names.emplace_back(fault.name);
  return names;
}

bool faults(const FaultOptions& options) {
  const auto rows = options.out / "rows";
  fs::create_directories(rows);
  bool held = true;
  for (const auto& fault : kFaults) {
    const bool is_chosen =
        options.only.empty() ? fault.name != kClockStep || options.steps_clock : options.only == fault.name;
    if (!is_chosen) continue;
    fmt::print(stderr, "{} ...\n", fault.name);
    Row row{.fault = std::string(fault.name)};
    try {
      row = fault.run(options);
    } catch (const std::exception& error) {
      row.injected = "could not be";
      row.seen = quoted(error.what());
    }
    held &= row.held;
    for (auto* cell : {&row.lost, &row.seen}) std::ranges::replace(*cell, '|', '/');
    const auto line = fmt::format("| {} | {} | {} | {} | {} |\n", row.fault, row.injected, row.lost, row.seen,
                                  row.held ? "held" : "**not held**");
    fmt::print(stderr, "{}", line);
    std::ofstream(rows / fault.name) << line;
  }
  // Of what was run before into the same directory, too.
  std::string table = "| fault | how injected | what was lost | what the user saw | |\n|---|---|---|---|---|\n";
  for (const auto& fault : kFaults) table += read_text(rows / fault.name);
  std::ofstream(options.out / "faults.md") << table;
  fmt::print("{}", table);
  return held;
}

}  // namespace endurance
