// SPDX-License-Identifier: BSD-2-Clause
#include <bpf/bpf.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <rapidjson/document.h>

#include <tcpinfo/tcpinfo.hpp>

#include "endurance.hpp"
#include "lab/fd.hpp"
#include "lab/files.hpp"
#include "lab/lab.hpp"
#include "load.hpp"

namespace endurance {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using lab::read_text;
using std::chrono::steady_clock;
using tcpinfo::EventCounts;
using tcpinfo::Statistics;

[[noreturn]] void fail(const std::string& action) {
  throw tcpinfo::Error(std::make_error_code(std::errc::protocol_error), action, "");
}

std::string last_line(const std::string& text) {
  const auto end = text.find_last_not_of('\n');
  if (end == std::string::npos) return {};
  const auto begin = text.rfind('\n', end);
  return text.substr(begin == std::string::npos ? 0 : begin + 1,
                     end - (begin == std::string::npos ? 0 : begin + 1) + 1);
}

/// "3 sample, 1 close", or "nothing".
std::string by_event(const EventCounts& counts) {
  std::string text;
  for (std::size_t event = 1; event < tcpinfo::kEventCount; ++event)
    if (counts[event] > 0)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", counts[event],
                          tcpinfo::name(static_cast<tcpinfo::Event>(event)));
  return text.empty() ? "nothing" : text;
}

/// What a stream of records says by itself.
struct Seen {
  EventCounts records{}, told{};  ///< told by gap records, by the event of what was lost
  std::uint64_t owed = 0;         ///< by connection: what `lost_records` of its records add up to
  std::uint64_t holes = 0;        ///< by connection: sequence numbers that are missing
};

Seen look(const fs::path& jsonl) {
  Seen seen;
  bool truncated = false;  // the last line, where it was killed
  struct Connection {
    std::uint64_t records = 0, last = 0;
  };
  std::map<std::pair<std::uint64_t, std::uint32_t>, Connection> connections;
  for (const auto& raw : tcpinfo::read_json_lines(jsonl, &truncated)) {
    const tcpinfo::Record record(raw);
    const auto event = record.event().value_or(0);
    ++seen.records[event];
    if (event == TCPINFO_EVENT_GAP) {
      seen.told[record.lost_event().value_or(0)] += record.lost_records().value_or(0);
      continue;
    }
    seen.owed += record.lost_records().value_or(0);
    if (!record.generation()) continue;
    auto& connection = connections[{*record.cookie(), *record.generation()}];
    ++connection.records;
    connection.last = std::max<std::uint64_t>(connection.last, *record.sequence());
  }
  for (const auto& [id, connection] : connections) seen.holes += connection.last + 1 - connection.records;
  return seen;
}

/// tcpinfo watch, with its records in a file.
class Watched {
 public:
  Watched(const FaultOptions& options, const std::string& name, const lab::Cgroup& cgroup,
          std::vector<std::string> words, const std::string& through = "cat", const lab::Netns* netns = nullptr)
      : directory_(options.out / name) {
    fs::remove_all(directory_);
    fs::create_directories(directory_);
    // The shell only joins them: tcpinfo takes its place, and `through` reads what it prints.
    std::vector<std::string> command = {
        "bash",
        "-c",
        R"(file=$1 through=$2; shift 2; exec "$@" > >(trap '' INT; eval "$through" > "$file"))",
        "bash",
        records().string(),
        through,
        options.tcpinfo.string(),
        "watch",
        "--cgroup",
        cgroup.path().string(),
        "--format",
        "jsonl",
        "--stats",
        stats().string()};
    command.insert(command.end(), words.begin(), words.end());
    process_.emplace(lab::SpawnOptions{.command = command, .netns = netns, .stderr_file = directory_ / "stderr"});
    for (const auto end = steady_clock::now() + 30s; steady_clock::now() < end; std::this_thread::sleep_for(5ms)) {
      if (attached(cgroup) > 0) return;
      if (process_->wait(0ms)) break;
    }
    fail("start tcpinfo watch: " + read_text(directory_ / "stderr"));
  }

  static unsigned attached(const lab::Cgroup& cgroup) {
    const lab::Fd directory(::open(cgroup.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    __u32 programs[64], count = std::size(programs);
    if (bpf_prog_query(directory.get(), BPF_CGROUP_SOCK_OPS, 0, nullptr, programs, &count) != 0)
      fail("ask which programs are attached to " + cgroup.path().string());
    return count;
  }

  /// Soon: the kernel releases what a killed process held a grace period later.
  static bool detached(const lab::Cgroup& cgroup) {
    for (const auto end = steady_clock::now() + 5s; attached(cgroup) > 0; std::this_thread::sleep_for(1ms))
      if (steady_clock::now() > end) return false;
    return true;
  }

  void signal(int number) { process_->signal(number); }
  /// Its exit code, -1 where a signal ended it. Then all it printed is in the file.
  int end(std::optional<int> number, std::chrono::seconds timeout = 60s) {
    if (number) signal(*number);
    const auto status = process_->wait(timeout);
    if (!status) fail("end tcpinfo watch: it still runs");
    std::this_thread::sleep_for(300ms);  // who reads its output
    return WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
  }
  fs::path records() const { return directory_ / "records.jsonl"; }
  fs::path stats() const { return directory_ / "stats.json"; }
  std::string said() const { return read_text(directory_ / "stderr"); }

 private:
  fs::path directory_;
  std::optional<lab::Process> process_;
};

/// The books as tcpinfo watch closes them.
struct Books {
  EventCounts emitted{}, delivered{}, lost{};
  std::uint64_t untracked = 0;

  explicit Books(const fs::path& file) {
    rapidjson::Document json;
    json.Parse(read_text(file).c_str());
    if (json.HasParseError() || !json.IsObject()) fail("read " + file.string());
    for (std::size_t event = 1; event < tcpinfo::kEventCount; ++event) {
      const std::string name(tcpinfo::name(static_cast<tcpinfo::Event>(event)));
      emitted[event] = json["emitted"][name.c_str()].GetUint64();
      delivered[event] = json["delivered"][name.c_str()].GetUint64();
      for (const char* cause : {"ring", "sink"}) lost[event] += json["lost"][cause][name.c_str()].GetUint64();
    }
    untracked = json["untracked"].GetUint64();
  }
  bool balance() const {
    for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event)
      if (emitted[event] != delivered[event] + lost[event]) return false;
    return true;
  }
};

struct Row {
  std::string fault, injected, lost = {}, seen = {};
  bool held = false;  ///< what was promised of it
};

/// The end of a run that went on to its orderly end: emitted = delivered + lost, and the records themselves tell the
/// same.
Row account(const Watched& watched, std::uint64_t ends) {
  const Books books(watched.stats());
  const auto seen = look(watched.records());
  Row row;
  const auto life_cycle_lost = Statistics::sum(books.lost) - books.lost[TCPINFO_EVENT_SAMPLE];
  row.lost =
      fmt::format("{} of {} emitted; gap records tell of {}; of {} final records {} are there", by_event(books.lost),
                  Statistics::sum(books.emitted), by_event(seen.told), ends, seen.records[TCPINFO_EVENT_CLOSE]);
  row.seen = last_line(watched.said());
  row.held = books.balance() && seen.told == books.lost && seen.records[TCPINFO_EVENT_CLOSE] == ends &&
             seen.records == books.delivered && life_cycle_lost == 0 &&
             seen.holes == books.lost[TCPINFO_EVENT_SAMPLE] && seen.owed == seen.holes;
  return row;
}

std::uint64_t ends_of(std::size_t short_ones, int flows) { return 2 * (short_ones + static_cast<std::size_t>(flows)); }

Row stopped(const FaultOptions& options) {
  const lab::Netns netns("endure-stopped");
  const lab::Cgroup cgroup("endure-stopped");
  Watched watched(options, "stopped", cgroup, {"--interval", "0", "--ring-size", "64K"});
  Load load(netns, cgroup, {.flows = 8, .rate = 2});
  std::this_thread::sleep_for(1s);
  watched.signal(SIGSTOP);
  std::this_thread::sleep_for(options.stop);
  watched.signal(SIGCONT);
  std::this_thread::sleep_for(2s);
  const int flows = load.flows();
  const auto made = load.stop();
  std::this_thread::sleep_for(200ms);
  const int code = watched.end(SIGINT);
  auto row = account(watched, ends_of(made.size(), flows));
  row.fault = "The consumer stands still";
  row.injected =
      fmt::format("SIGSTOP of tcpinfo watch for {} s, 8 busy flows sampled at every RTT", options.stop.count());
  row.held &= code == 0 && Statistics::sum(Books(watched.stats()).lost) > 0;
  return row;
}

Row stalled_reader(const FaultOptions& options) {
  const lab::Netns netns("endure-stalled");
  const lab::Cgroup cgroup("endure-stalled");
  Watched watched(options, "stalled", cgroup, {"--interval", "0", "--ring-size", "64K"},
                  fmt::format("sleep {}; cat", options.stop.count()));
  Load load(netns, cgroup, {.flows = 8, .rate = 2});
  std::this_thread::sleep_for(options.stop + 2s);
  const int flows = load.flows();
  const auto made = load.stop();
  std::this_thread::sleep_for(200ms);
  const int code = watched.end(SIGINT);
  auto row = account(watched, ends_of(made.size(), flows));
  row.fault = "Whoever reads the output stands still";
  row.injected = fmt::format("a reader of the pipe that takes nothing for {} s", options.stop.count());
  row.held &= code == 0 && Statistics::sum(Books(watched.stats()).lost) > 0;
  return row;
}

Row killed(const FaultOptions& options) {
  const lab::Netns netns("endure-killed");
  std::mt19937 random(std::random_device{}());
  std::uint64_t closed = 0, missing = 0;
  double oldest = 0;
  bool held = true;
  constexpr int kTimes = 20;
  for (int i = 0; i < kTimes; ++i) {
    const lab::Cgroup cgroup("endure-killed");
    Watched watched(options, "killed", cgroup, {"--mode", "close"});
    Load load(netns, cgroup, {.rate = 2000});
    std::this_thread::sleep_for(300ms + std::chrono::milliseconds(random() % 500));
    watched.signal(SIGKILL);
    const auto kill_ns = tcpinfo::boot_time_ns();
    watched.end(std::nullopt);
    const auto made = load.stop();
    held &= Watched::detached(cgroup);
    const auto before = std::ranges::count_if(made, [&](const auto& one) { return one.end_ns < kill_ns; });
    const auto there = look(watched.records()).records[TCPINFO_EVENT_CLOSE];
    closed += ends_of(static_cast<std::size_t>(before), 0);
    const auto ends = ends_of(static_cast<std::size_t>(before), 0);
    if (there >= ends) continue;
    missing += ends - there;
    oldest = std::max(oldest, static_cast<double>(kill_ns - made[there / 2].end_ns) / 1e6);
  }
  Row row{.fault = "The consumer dies",
          .injected = fmt::format("kill -9 of tcpinfo watch at {} random moments, 2,000 connections a second", kTimes)};
  row.lost = fmt::format("{} of {} final records; the oldest of them was made {:.1f} ms before the kill", missing,
                         closed, oldest);
  row.seen = "nothing stays attached";
  // 50 ms until they are drained, and what the process needed until then.
  row.held = held && oldest < 1000;
  return row;
}

Row no_memory(const FaultOptions& options) {
  const lab::Netns netns("endure-memory");
  netns.run([] {
    std::ofstream file("/proc/sys/net/core/optmem_max");
    if (!(file << "64" << std::flush)) fail("write /proc/sys/net/core/optmem_max");
  });
  const lab::Cgroup cgroup("endure-memory");
  Watched watched(options, "memory", cgroup, {});
  Load load(netns, cgroup, {.rate = 200});
  std::this_thread::sleep_for(1s);
  const auto made = load.stop();
  const int code = watched.end(SIGINT);
  const Books books(watched.stats());
  Row row{.fault = "The kernel refuses memory for a connection",
          .injected = "net.core.optmem_max = 64: no socket storage"};
  row.lost = fmt::format("{} of {} ends not followed, counted as untracked", books.untracked, ends_of(made.size(), 0));
  row.seen = last_line(watched.said());
  row.held = code == 0 && books.balance() && books.untracked == ends_of(made.size(), 0);
  return row;
}

Row recording_killed(const FaultOptions& options) {
  const lab::Netns netns("endure-recording");
  std::mt19937 random(std::random_device{}());
  std::uint64_t closed = 0, missing = 0;
  double oldest = 0;
  bool held = true;
  constexpr int kTimes = 10;
  std::string said;
  for (int i = 0; i < kTimes; ++i) {
    const lab::Cgroup cgroup("endure-recording");
    const auto file = options.out / "killed.zst";
    lab::Process process({.command = {options.tcpinfo.string(), "record", "-o", file.string(), "--overwrite",
                                      "--cgroup", cgroup.path().string(), "--mode", "close"},
                          .stderr_file = options.out / "killed.stderr"});
    for (const auto end = steady_clock::now() + 30s; Watched::attached(cgroup) == 0; std::this_thread::sleep_for(5ms))
      if (steady_clock::now() > end) fail("start tcpinfo record: " + read_text(options.out / "killed.stderr"));
    Load load(netns, cgroup, {.rate = 2000});
    std::this_thread::sleep_for(700ms + std::chrono::milliseconds(random() % 1500));
    process.signal(SIGKILL);
    const auto kill_ns = tcpinfo::boot_time_ns();
    process.wait(10s);
    const auto made = load.stop();
    held &= Watched::detached(cgroup);
    tcpinfo::ReplaySource replay({.files = {file}});
    std::uint64_t there = 0;
    while (
        replay.drain([&](const tcpinfo::Record& record) { there += record.event() == TCPINFO_EVENT_CLOSE; }).records >
        0) {
    }
    for (const auto& capability : replay.capabilities())
      if (!capability.available) said = capability.detail;
    const auto before = std::ranges::count_if(made, [&](const auto& one) { return one.end_ns < kill_ns; });
    const auto ends = ends_of(static_cast<std::size_t>(before), 0);
    closed += ends;
    if (there >= ends) continue;
    missing += ends - there;
    oldest = std::max(oldest, static_cast<double>(kill_ns - made[there / 2].end_ns) / 1e6);
  }
  Row row{
      .fault = "The recorder dies",
      .injected = fmt::format("kill -9 of tcpinfo record at {} random moments, 2,000 connections a second", kTimes)};
  row.lost = fmt::format("{} of {} final records; the oldest of them was made {:.0f} ms before the kill", missing,
                         closed, oldest);
  row.seen = said;
  row.held = held && oldest < 1000 && !said.empty();
  return row;
}

Row cgroup_removed(const FaultOptions& options) {
  const lab::Netns netns("endure-removed");
  auto cgroup = std::make_optional<lab::Cgroup>("endure-removed");
  Watched watched(options, "removed", *cgroup, {"--mode", "close"});
  std::size_t made = 0;
  {
    Load load(netns, *cgroup, {.rate = 500});
    std::this_thread::sleep_for(1s);
    made = load.stop().size();
  }
  cgroup.reset();
  const int code = watched.end(std::nullopt, 10s);
  auto row = account(watched, ends_of(made, 0));
  row.fault = "The cgroup is removed";
  row.injected = "rmdir of the watched cgroup after its last process left";
  row.held &= code == 1 && row.seen.find("was removed") != std::string::npos;
  return row;
}

Row started_again(const FaultOptions& options) {
  const lab::Netns netns("endure-again");
  const lab::Cgroup cgroup("endure-again");
  Load load(netns, cgroup, {.flows = 20, .rate = 0});
  {
    Watched first(options, "again-1", cgroup, {}, "cat", &netns);
    std::this_thread::sleep_for(500ms);
    first.signal(SIGKILL);
    first.end(std::nullopt);
  }
  // Its own network namespace is looked through, as are those of the cgroup's processes; ours is another one, in which
  // only a thread has gone into that one.
  Watched second(options, "again-2", cgroup, {}, "cat", &netns);
  std::this_thread::sleep_for(1s);
  const int flows = load.flows();
  load.stop();
  std::this_thread::sleep_for(200ms);
  const int code = second.end(SIGINT);
  auto row = account(second, ends_of(0, flows));
  const auto adopted = look(second.records()).records[TCPINFO_EVENT_ADOPTED];
  row.fault = "It is started again after it was killed";
  row.injected = "kill -9, then another tcpinfo watch; 20 flows that last";
  row.lost = fmt::format("{}; {} of {} ends adopted", row.lost, adopted, ends_of(0, flows));
  row.held &= code == 0 && adopted == ends_of(0, flows);
  return row;
}

Row forked(const FaultOptions&) {
  const lab::Cgroup cgroup("endure-forked");
  int ready[2], held[2];
  if (::pipe2(ready, O_CLOEXEC) != 0 || ::pipe2(held, O_CLOEXEC) != 0) fail("make a pipe");
  const pid_t parent = ::fork();
  if (parent == 0) {
    ::close(held[1]);
    tcpinfo::SockopsOptions wanted;
    wanted.cgroup = cgroup.path();
    const tcpinfo::SockopsSource source(wanted);
    if (::fork() == 0) {
      char byte = 'x';
      if (::write(ready[1], &byte, 1) == 1) [[maybe_unused]]
        const auto got = ::read(held[0], &byte, 1);
      ::_exit(0);
    }
    ::pause();
    ::_exit(0);
  }
  ::close(held[0]);
  char byte;
  if (::read(ready[0], &byte, 1) != 1) fail("fork an application that watches itself");
  const auto before = Watched::attached(cgroup);
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  const bool after = !Watched::detached(cgroup);
  for (const int descriptor : {held[1], ready[0], ready[1]}) ::close(descriptor);
  Row row{.fault = "The application forks and dies",
          .injected = "fork without exec, then kill -9 of the parent; its child goes on"};
  row.lost = fmt::format("{} program attached before, {} after", before, after ? "still" : "none");
  row.seen = "a drain in the child: it belongs to the parent of this process";
  row.held = before == 1 && !after;
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
  const auto file = disk / "records.zst", stats = options.out / "full.json", said = options.out / "full.stderr";
  lab::Process process({.command = {options.tcpinfo.string(), "record", "-o", file.string(), "--interval", "0",
                                    "--ring-size", "4M", "--cgroup", cgroup.path().string(), "--stats", stats.string()},
                        .stderr_file = said});
  for (const auto end = steady_clock::now() + 30s; Watched::attached(cgroup) == 0; std::this_thread::sleep_for(5ms))
    if (steady_clock::now() > end) fail("start tcpinfo record: " + read_text(said));
  const auto filler = disk / "filler";
  Load load(netns, cgroup, {.flows = 8, .rate = 20});
  std::this_thread::sleep_for(500ms);
  {
    std::ofstream all(filler);
    const std::string block(4096, 'x');
    while (all << block << std::flush) {
    }
  }
  // Until what waits in memory is full too.
  for (const auto end = steady_clock::now() + 60s; read_text(said).find("records wait in memory") == std::string::npos;
       std::this_thread::sleep_for(50ms))
    if (steady_clock::now() > end) fail("fill the disk: " + read_text(said));
  std::this_thread::sleep_for(3s);
  fs::remove(filler);
  std::this_thread::sleep_for(1500ms);
  load.stop();
  std::this_thread::sleep_for(200ms);
  process.signal(SIGINT);
  const auto status = process.wait(60s);
  const Books books(stats);
  Seen seen;
  tcpinfo::ReplaySource replay({.files = {file}});
  while (replay
             .drain([&](const tcpinfo::Record& record) {
               ++seen.records[record.event().value_or(0)];
               if (record.event() == TCPINFO_EVENT_GAP)
                 seen.told[record.lost_event().value_or(0)] += record.lost_records().value_or(0);
             })
             .records > 0) {
  }
  Row row{.fault = "The disk is full while it records",
          .injected = "a tmpfs of 64 MiB, filled for 3 s, then room again"};
  row.lost = fmt::format("{} of {} emitted; gap records in the recording tell of {}", by_event(books.lost),
                         Statistics::sum(books.emitted), by_event(seen.told));
  row.seen = read_text(said).substr(0, read_text(said).find('\n'));
  row.held = status && WIFEXITED(*status) && WEXITSTATUS(*status) == 0 && books.balance() && seen.told == books.lost;
  for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event)
    if (event != TCPINFO_EVENT_GAP) row.held &= seen.records[event] == books.delivered[event];
  return row;
}

struct Fault {
  const char* name;
  Row (*run)(const FaultOptions&);
};

constexpr Fault kFaults[] = {
    {"stopped", stopped},
    {"stalled-reader", stalled_reader},
    {"killed", killed},
    {"started-again", started_again},
    {"recording-killed", recording_killed},
    {"disk-full", disk_full},
    {"no-memory", no_memory},
    {"cgroup-removed", cgroup_removed},
    {"forked", forked},
};

}  // namespace

std::vector<std::string> fault_names() {
  std::vector<std::string> names;
  for (const auto& fault : kFaults) names.emplace_back(fault.name);
  return names;
}

bool faults(const FaultOptions& options) {
  fs::create_directories(options.out);
  std::string table = "| fault | how injected | what was lost | what the user saw | |\n|---|---|---|---|---|\n";
  bool held = true;
  for (const auto& fault : kFaults) {
    if (!options.only.empty() && options.only != fault.name) continue;
    fmt::print(stderr, "{} ...\n", fault.name);
    const auto row = fault.run(options);
    held &= row.held;
    const auto line = fmt::format("| {} | {} | {} | `{}` | {} |\n", row.fault, row.injected, row.lost, row.seen,
                                  row.held ? "held" : "**not held**");
    fmt::print(stderr, "{}", line);
    table += line;
  }
  std::ofstream(options.out / "faults.md") << table;
  fmt::print("{}", table);
  return held;
}

}  // namespace endurance
