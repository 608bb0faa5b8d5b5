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
#include "lab/lab.hpp"
#include "load.hpp"

namespace endurance {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using std::chrono::steady_clock;
using tcpinfo::EventCounts;
using tcpinfo::Statistics;

[[noreturn]] void fail(const std::string& action) {
  throw tcpinfo::Error(std::make_error_code(std::errc::protocol_error), action, "");
}

std::string read(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
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
  std::uint64_t truncated_lines = 0;
};

Seen look(const fs::path& jsonl) {
  Seen seen;
  bool truncated = false;
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
  seen.truncated_lines = truncated;
  return seen;
}

/// tcpinfo watch, with its records in a file.
class Watched {
 public:
  Watched(const FaultOptions& options, const std::string& name, const lab::Cgroup& cgroup,
          std::vector<std::string> words, const std::string& through = "cat")
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
    process_.emplace(lab::SpawnOptions{.command = command, .stderr_file = directory_ / "stderr"});
    for (const auto end = steady_clock::now() + 30s; steady_clock::now() < end; std::this_thread::sleep_for(5ms)) {
      if (attached(cgroup) > 0) return;
      if (process_->wait(0ms)) break;
    }
    fail("start tcpinfo watch: " + read(directory_ / "stderr"));
  }

  static unsigned attached(const lab::Cgroup& cgroup) {
    const lab::Fd directory(::open(cgroup.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    __u32 programs[64], count = std::size(programs);
    if (bpf_prog_query(directory.get(), BPF_CGROUP_SOCK_OPS, 0, nullptr, programs, &count) != 0)
      fail("ask which programs are attached to " + cgroup.path().string());
    return count;
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
  std::string said() const { return read(directory_ / "stderr"); }

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
    json.Parse(read(file).c_str());
    if (json.HasParseError() || !json.IsObject()) fail("read " + file.string());
    for (std::size_t event = 1; event < tcpinfo::kEventCount; ++event) {
      const std::string name(tcpinfo::name(static_cast<tcpinfo::Event>(event)));
      emitted[event] = json["emitted"][name.c_str()].GetUint64();
      delivered[event] = json["delivered"][name.c_str()].GetUint64();
      for (const char* cause : {"ring", "sink", "left"}) lost[event] += json["lost"][cause][name.c_str()].GetUint64();
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
    held &= Watched::attached(cgroup) == 0;
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

struct Fault {
  const char* name;
  Row (*run)(const FaultOptions&);
};

constexpr Fault kFaults[] = {
    {"stopped", stopped},
    {"stalled-reader", stalled_reader},
    {"killed", killed},
    {"no-memory", no_memory},
};

}  // namespace

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
