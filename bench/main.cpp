// SPDX-License-Identifier: BSD-2-Clause
// tcpinfo-bench: what tcpinfo costs on this machine, beside floors and peers.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <tcpinfo/error.hpp>

#include "machine.hpp"
#include "measurement.hpp"
#include "report.hpp"

namespace {

namespace fs = std::filesystem;
using bench::Entry;
using bench::Measurement;
using bench::Report;
using std::chrono::steady_clock;

enum Exit { kOk = 0, kFailed = 1, kUsage = 2, kNotPossible = 77 };

volatile std::sig_atomic_t interrupted = 0;

struct Interrupted {};

// The first time the measurement is left in order, which takes its cgroups and namespaces away; the second time at
// once.
void on_signal(int) noexcept { interrupted = 1; }

void take_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  for (const int number : {SIGINT, SIGTERM}) sigaction(number, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

int seconds_of(const Measurement& measurement, const bench::Options& options) {
  return (options.quick ? measurement.quick_seconds : measurement.seconds) +
         (options.growth ? options.quick ? measurement.growth_seconds / 10 : measurement.growth_seconds : 0);
}

/// Lines on standard error: what is done and how long the rest takes. On a terminal each replaces the one before.
class Progress {
 public:
  explicit Progress(int seconds) : left_(seconds), terminal_(isatty(STDERR_FILENO) == 1) {}

  void begin(std::string_view name, int seconds) {
    name_ = name;
    seconds_ = seconds;
    begin_ = steady_clock::now();
    say("");
  }
  /// Throws Interrupted once that is wanted.
  void say(std::string_view text) {
    if (interrupted) throw Interrupted();
    const auto elapsed = std::chrono::duration_cast<std::chrono::seconds>(steady_clock::now() - begin_).count();
    // It may take longer than thought.
    const auto left = left_ - std::min<std::int64_t>(elapsed, seconds_);
    fmt::print(stderr, "{}{:2}:{:02} left  {}{}{}{}", terminal_ ? "\r\033[K" : "", left / 60, left % 60, name_,
               text.empty() ? "" : ": ", text, terminal_ ? "" : "\n");
    std::fflush(stderr);
  }
  void end() {
    left_ -= seconds_;
    if (terminal_) fmt::print(stderr, "\r\033[K");
  }

 private:
  std::int64_t left_, seconds_ = 0;
  bool terminal_;
  std::string name_;
  steady_clock::time_point begin_;
};

double seconds_since(steady_clock::time_point begin) {
  return std::chrono::duration<double>(steady_clock::now() - begin).count();
}

bool lacks_privilege(const std::error_code& error) { return error.value() == EPERM || error.value() == EACCES; }

Entry measure(const Measurement& measurement, const bench::Options& options) {
  Entry entry;
  entry.name = measurement.name;
  entry.description = measurement.description;
  const bench::LoadMeter load;
  const auto begin = steady_clock::now();
  const auto not_measured = [&](Entry::Kind kind, std::string reason) {
    entry.kind = kind;
    entry.reason = std::move(reason);
  };
  try {
    entry.outcome = measurement.run(options);
  } catch (const bench::NotPossible& missing) {
    not_measured(Entry::Kind::kNotPossible, missing.reason);
  } catch (const std::system_error& error) {
    not_measured(lacks_privilege(error.code()) ? Entry::Kind::kNotPossible : Entry::Kind::kFailed, error.what());
  } catch (const std::exception& error) {
    not_measured(Entry::Kind::kFailed, error.what());
  } catch (const Interrupted&) {
    not_measured(Entry::Kind::kFailed, "interrupted");
  }
  entry.seconds = seconds_since(begin);
  entry.load = load.read();
  return entry;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  return std::string(text, std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts));
}

void write_file(const fs::path& file, std::string_view content) {
  std::ofstream stream(file);
  stream << content << std::flush;
  if (!stream) throw tcpinfo::Error({errno, std::system_category()}, "write " + file.string(), "");
}

void write_files(const fs::path& directory, const Report& report) {
  fs::create_directories(directory);
  write_file(directory / "bench.json", bench::to_json(report));
  write_file(directory / "bench.txt", bench::to_table(report));
}

std::vector<Measurement> choose(const std::vector<std::string>& only) {
  const auto all = bench::measurements();
  for (const auto& name : only) {
    if (std::ranges::find(all, name, &Measurement::name) != all.end()) continue;
    std::string names;
    for (const auto& measurement : all) names += fmt::format("{}{}", names.empty() ? "" : ", ", measurement.name);
    throw CLI::ValidationError("--only", fmt::format("there is no measurement {} (there are: {})", name, names));
  }
  std::vector<Measurement> chosen;
  std::ranges::copy_if(all, std::back_inserter(chosen), [&](const Measurement& measurement) {
    return only.empty() || std::ranges::find(only, measurement.name) != only.end();
  });
  return chosen;
}

void list(const bench::Options& options) {
  for (const auto& measurement : bench::measurements())
    fmt::print("{:<12} {:>4} s  {}\n", measurement.name, seconds_of(measurement, options), measurement.description);
}

int conclude(const Report& report) {
  bool failed = false, measured = false;
  for (const auto& entry : report.entries) {
    measured |= entry.kind == Entry::Kind::kMeasured;
    failed |= entry.kind == Entry::Kind::kFailed;
    if (entry.kind != Entry::Kind::kMeasured)
      fmt::print(stderr, "tcpinfo-bench: {}: {}: {}\n", entry.name, bench::name(entry.kind), entry.reason);
  }
  return failed ? kFailed : measured || report.entries.empty() ? kOk : kNotPossible;
}

int run(int argc, char** argv) {
  CLI::App app("Measures what tcpinfo costs on this machine, beside floors and peers.", "tcpinfo-bench");
  app.get_formatter()->column_width(22);
  app.footer(
      "Examples:\n"
      "  tcpinfo-bench                        everything, in under 20 minutes\n"
      "  tcpinfo-bench --quick                the same in 3; the figures are less sure\n"
      "  tcpinfo-bench --list                 what can be measured, and how long it takes\n"
      "  tcpinfo-bench --only json --only callbacks\n"
      "  tcpinfo-bench --growth --out results/bench\n"
      "\n"
      "Most measurements need root. The table goes to standard output, progress to standard error.\n"
      "Exit codes: 0 measured, also where goals are missed; 1 a measurement failed (the others are made all the "
      "same);\n"
      "2 usage; 77 nothing could be measured here (the message says what is missing).");
  bench::Options options;
  std::vector<std::string> only;
  bool only_list = false;
  fs::path out;
  app.add_flag("--quick", options.quick, "A tenth of the time; the figures are less sure");
  app.add_flag("--growth", options.growth, "Also how cost grows with sockets, packets, cgroups and CPUs");
  app.add_option("--only", only, "A measurement, by name; may be repeated")->type_name("NAME")->allow_extra_args(false);
  app.add_flag("--list", only_list, "Name the measurements and how long each takes, and end");
  app.add_option("--out", out, "Directory for bench.json and bench.txt")->type_name("DIR");
  std::vector<Measurement> chosen;
  try {
    app.parse(argc, argv);
    chosen = choose(only);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return kOk;
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "tcpinfo-bench: {} (see tcpinfo-bench --help)\n", error.what());
    return kUsage;
  }
  if (only_list) {
    list(options);
    return kOk;
  }

  take_signals();
  options.binaries = fs::read_symlink("/proc/self/exe").parent_path();
  int total = 0;
  for (const auto& measurement : chosen) total += seconds_of(measurement, options);
  Progress progress(total);
  options.progress = [&](std::string_view text) { progress.say(text); };

  Report report;
  report.date = utc_now();
  report.quick = options.quick;
  report.growth = options.growth;
  report.only = only;
  report.revision = bench::git_revision(options.binaries);
  report.machine = bench::machine();
  const auto begin = steady_clock::now();
  const bench::LoadMeter before;
  std::this_thread::sleep_for(std::chrono::seconds(1));
  report.load_before = before.read();
  try {
    for (const auto& measurement : chosen) {
      progress.begin(measurement.name, seconds_of(measurement, options));
      report.entries.push_back(measure(measurement, options));
      progress.end();
      report.seconds = seconds_since(begin);
      // After each: what was measured so far outlives whatever happens to the rest.
      if (!out.empty()) write_files(out, report);
    }
  } catch (const Interrupted&) {  // before a measurement began
  }
  fmt::print("{}", bench::to_table(report));
  const int result = conclude(report);
  if (interrupted) fmt::print(stderr, "tcpinfo-bench: interrupted\n");
  return interrupted ? kFailed : result;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "tcpinfo-bench: {}\n", error.what());
    return kFailed;
  }
}
