// SPDX-License-Identifier: BSD-2-Clause
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/tcpinfo.hpp>

#include "crowd.hpp"
#include "lab/files.hpp"
#include "load.hpp"
#include "rows.hpp"

namespace endurance {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

milliseconds between(milliseconds least, milliseconds most) {
  static std::mt19937 random(std::random_device{}());
  return milliseconds(std::uniform_int_distribution(least.count(), most.count())(random));
}

struct Kills {
  std::vector<std::string> words;  ///< of tcpinfo
  int times;
  milliseconds least, most;  ///< until the kill
};

/// Final records of the connections that had ended by the kill, how many of them are missing, and how long before it
/// the oldest of those ended.
Row killed_often(const FaultOptions& options, const char* name, const Kills& kills) {
  const lab::Netns netns("endure-killed");
  std::uint64_t ends = 0, missing = 0;
  double oldest_ms = 0;
  int left = 0;
  Row row;
  for (int i = 0; i < kills.times; ++i) {
    const lab::Cgroup cgroup("endure-killed");
    Tcpinfo run(options.tcpinfo, options.out / name, cgroup, kills.words);
    Load load(netns, cgroup, {.rate = 2000});
    std::this_thread::sleep_for(between(kills.least, kills.most));
    run.signal(SIGKILL);
    const auto kill_ns = tcpinfo::boot_time_ns();
    run.end(std::nullopt);
    const auto made = load.stop();
    left += !detached(cgroup);
    const auto ended = 2 * static_cast<std::uint64_t>(
                               std::ranges::count_if(made, [&](const auto& one) { return one.end_ns < kill_ns; }));
    const auto seen = look(run.records());
    const auto there = std::min<std::uint64_t>(seen.closed.size(), ended);
    ends += ended;
    missing += ended - there;
    if (there < ended) oldest_ms = std::max(oldest_ms, static_cast<double>(kill_ns - made[there / 2].end_ns) / 1e6);
    if (row.seen.empty() || !seen.complaint.empty())
      row.seen =
          fmt::format("{}; its output: {}", run.told(), seen.complaint.empty() ? "whole" : quoted(seen.complaint));
  }
  row.injected = fmt::format("SIGKILL of `tcpinfo {}` at {} random moments, 2,000 connections a second",
                             kills.words.front(), kills.times);
  row.lost = fmt::format(
      "{} of {} final records; the oldest of them was made {:.0f} ms before the kill; still "
      "attached afterwards: {} of {} times",
      missing, ends, oldest_ms, left, kills.times);
  row.held = ends > 0 && left == 0 && oldest_ms < 1000;
  return row;
}

/// Names in a bpffs that nobody else uses; with what is pinned there gone when this goes.
class PinDirectory {
 public:
  explicit PinDirectory(const std::string& name)
      : path_(fmt::format("/sys/fs/bpf/tcpinfo-endure-{}-{}", name, getpid())) {}
  ~PinDirectory() {
    try {
      if (std::filesystem::exists(path_)) tcpinfo::unpin(path_);
    } catch (const std::exception&) {  // what stays is named by its path
    }
  }
  PinDirectory(const PinDirectory&) = delete;
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace

Row killed(const FaultOptions& options) {
  auto row = killed_often(options, "killed", {{"watch", "--mode", "close"}, 20, 300ms, 800ms});
  row.fault = "The consumer dies";
  return row;
}

Row recording_killed(const FaultOptions& options) {
  auto row = killed_often(options, "recording-killed", {{"record", "--mode", "close"}, 10, 700ms, 2200ms});
  row.fault = "The recorder dies";
  row.held &= row.seen.find("its output: whole") == std::string::npos;
  return row;
}

Row killed_starting(const FaultOptions& options) {
  constexpr std::size_t kSockets = 10'000;
  constexpr int kTimes = 100;
  const lab::Netns netns("endure-starting");
  const lab::Cgroup cgroup("endure-starting");
  const bench::Crowd crowd({.sockets = kSockets, .netns = &netns, .cgroup = &cgroup});
  const auto start = [&](Tcpinfo::Start until) {
    return Tcpinfo(options.tcpinfo, options.out / "killed-starting", cgroup,
                   {"watch", "--owner", "--keep-privileges", "--interval", "1h"}, until);
  };
  const auto adopted = [](const Tcpinfo& run) { return look(run.records()).records[TCPINFO_EVENT_ADOPTED]; };
  const auto all_adopted = [&](const Tcpinfo& run) {
    for (const auto end = steady_clock::now() + 60s; adopted(run) < kSockets; std::this_thread::sleep_for(100ms))
      if (steady_clock::now() > end) fail("adopt all that are there: " + run.said());
  };

  // How long a start takes, from its beginning until the last old connection has been printed.
  const auto begin = steady_clock::now();
  milliseconds whole{};
  {
    auto run = start(Tcpinfo::Start::kAttached);
    all_adopted(run);
    whole = std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin);
    run.end(SIGKILL);
  }

  int before = 0, during = 0, after = 0, left = 0;
  Row row{.fault = "The consumer dies while it starts"};
  for (int i = 0; i < kTimes; ++i) {
    auto run = start(Tcpinfo::Start::kBegun);
    std::this_thread::sleep_for(between(0ms, whole));
    const bool is_attached = attached(cgroup) > 0;
    run.end(SIGKILL);
    left += !detached(cgroup);
    ++(!is_attached ? before : adopted(run) < kSockets ? during : after);
    row.seen = run.told();
  }
  auto run = start(Tcpinfo::Start::kAttached);
  all_adopted(run);
  run.end(SIGINT);
  const auto last = account(run, 0);
  row.injected = fmt::format(
      "SIGKILL at {} random moments of the start beside {} sockets that are adopted: {} before the attach, {} between "
      "it "
      "and the last adopted record, {} after it",
      kTimes, kSockets, before, during, after);
  row.lost = fmt::format("still attached afterwards: {} of {} times; the next start adopts {} of {}; its books: {}",
                         left, kTimes, adopted(run), kSockets, last.lost);
  row.seen = fmt::format("{}; the next: {}", row.seen, run.told());
  row.held = left == 0 && before > 0 && during > 0 && last.held && run.exit_code() == 0 && adopted(run) == kSockets;
  return row;
}

Row started_again(const FaultOptions& options) {
  const lab::Netns netns("endure-again");
  const lab::Cgroup cgroup("endure-again");
  constexpr int kFlows = 20;
  Load load(netns, cgroup, {.flows = kFlows, .rate = 0});
  {
    Tcpinfo first(options.tcpinfo, options.out / "again-1", cgroup, {"watch"});
    std::this_thread::sleep_for(500ms);
    first.end(SIGKILL);
  }
  Tcpinfo second(options.tcpinfo, options.out / "again-2", cgroup, {"watch"});
  std::this_thread::sleep_for(1s);
  load.stop();
  std::this_thread::sleep_for(200ms);
  second.end(SIGINT);
  auto row = account(second, 2 * kFlows);
  const auto adopted = look(second.records()).records[TCPINFO_EVENT_ADOPTED];
  row.fault = "It is started again after it was killed";
  row.injected = fmt::format("SIGKILL, then another `tcpinfo watch`; {} flows that last", kFlows);
  row.lost = fmt::format("{}; {} of {} ends adopted", row.lost, adopted, 2 * kFlows);
  row.held &= second.exit_code() == 0 && adopted == 2 * kFlows;
  return row;
}

Row pinned(const FaultOptions& options) {
  const lab::Netns netns("endure-pinned");
  const lab::Cgroup cgroup("endure-pinned");
  const PinDirectory pins("pinned");
  const std::vector<std::string> words = {
      "watch", "--mode", "close", "--pin", pins.path().string(), "--life-cycle-ring-size", "4M"};
  const auto some = [&] {
    Load load(netns, cgroup, {.rate = 500});
    std::this_thread::sleep_for(1s);
    return 2 * load.stop().size();
  };
  Tcpinfo first(options.tcpinfo, options.out / "pinned-1", cgroup, words);
  auto watched = some();
  // What comes now stays in the rings.
  std::this_thread::sleep_for(500ms);
  first.signal(SIGSTOP);
  const auto waited = some();
  first.end(SIGKILL);
  const bool is_detached = detached(cgroup);
  const auto unseen = some();
  Tcpinfo second(options.tcpinfo, options.out / "pinned-2", cgroup, words);
  watched += some();
  std::this_thread::sleep_for(200ms);
  second.end(SIGINT);
  const auto before = look(first.records()), after = look(second.records());
  auto closed = before.closed;
  closed.insert(after.closed.begin(), after.closed.end());
  const auto twice = before.closed.size() + after.closed.size() - closed.size();

  Row row{.fault = "The consumer dies, its rings are pinned"};
  row.injected = fmt::format(
      "`--pin`; SIGSTOP while {} connections end, SIGKILL, {} more while nobody is there, then the same command again",
      waited / 2, unseen / 2);
  row.lost = fmt::format(
      "of {} final records, {} of them in the rings at the kill, {} are missing and {} came twice; the {} of ends "
      "while "
      "nobody was there are told by {} gap record without a number",
      watched + waited, waited, watched + waited - closed.size(), twice, unseen, after.untold);
  row.seen = fmt::format("{}; then {}", first.told(), second.told());
  row.held = is_detached && closed.size() == watched + waited && before.untold == 0 && after.untold == 1 &&
             Books(second.stats()).balance() && second.exit_code() == 0;
  return row;
}

Row pinned_link(const FaultOptions& options) {
  constexpr int kTimes = 20;
  const lab::Netns netns("endure-link");
  const lab::Cgroup cgroup("endure-link");
  const PinDirectory pins("link");
  const std::vector<std::string> words = {
      "watch", "--mode", "close", "--pin", pins.path().string(), "--pin-link", "--life-cycle-ring-size", "4M"};
  const auto start = [&] {
    return Tcpinfo(options.tcpinfo, options.out / "pinned-link", cgroup, words, Tcpinfo::Start::kBegun);
  };
  std::set<std::uint64_t> closed;
  std::uint64_t printed = 0, untold = 0;
  const auto take = [&](const Tcpinfo& run) {
    const auto seen = look(run.records());
    printed += seen.closed.size();
    untold += seen.untold;
    closed.insert(seen.closed.begin(), seen.closed.end());
  };
  {
    Tcpinfo first(options.tcpinfo, options.out / "pinned-link", cgroup, words);
    first.end(SIGINT);
    take(first);
  }
  Load load(netns, cgroup, {.rate = 1000});
  for (int i = 0; i < kTimes; ++i) {
    auto run = start();
    std::this_thread::sleep_for(between(0ms, 1500ms));
    run.end(SIGKILL);
    take(run);
  }
  const auto made = 2 * load.stop().size();
  auto last = start();
  for (const auto end = steady_clock::now() + 30s; look(last.records()).closed.size() + closed.size() < made;
       std::this_thread::sleep_for(50ms))
    if (steady_clock::now() > end) break;  // some are missing
  last.end(SIGINT);
  take(last);
  const Books books(last.stats());
  const bool stays = attached(cgroup) == 1;
  tcpinfo::unpin(pins.path());
  const bool goes = detached(cgroup);

  Row row{.fault = "The consumer dies, its program is pinned"};
  row.injected = fmt::format(
      "`--pin --pin-link`; SIGKILL at {} random moments and started anew each time, 1,000 connections a second "
      "throughout",
      kTimes);
  row.lost = fmt::format("{} of {} final records are missing, {} came twice; {} lost by the books",
                         made - closed.size(), made, printed - closed.size(), by_event(books.lost));
  row.seen = last.told();
  row.held = closed.size() == made && untold == 0 && books.balance() && stays && goes && last.exit_code() == 0;
  return row;
}

}  // namespace endurance
