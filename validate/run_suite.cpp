// SPDX-License-Identifier: BSD-2-Clause
#include "run_suite.hpp"

#include <fcntl.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>

#include <tcpinfo/error.hpp>

#include "files.hpp"
#include "run.hpp"

namespace validation {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using boost::system::error_code;
using std::chrono::duration;
using std::chrono::steady_clock;

// A run takes this long beside iperf3's time, until there are runs to learn it from.
constexpr double kOverheadSeconds = 1.5;

std::string human_time(double seconds) {
  if (seconds < 100) return fmt::format("{:.0f} s", seconds);
  return fmt::format("{:.0f} min {:02.0f} s", std::floor(seconds / 60), std::fmod(seconds, 60));
}

/// One line at the bottom of a terminal, or a line now and then where there is none.
class Progress {
 public:
  Progress() : terminal_(::isatty(STDERR_FILENO) == 1) {}
  ~Progress() { clear(); }

  void show(const std::string& text) {
    constexpr auto kPeriod = std::chrono::seconds(5);
    if (!terminal_) {
      if (steady_clock::now() - last_ < kPeriod) return;
      last_ = steady_clock::now();
    }
    fmt::print(stderr, fmt::runtime(terminal_ ? "\r{}\033[K" : "{}\n"), text);
    std::fflush(stderr);
    shown_ = true;
  }
  void line(const std::string& text) {
    clear();
    last_ = steady_clock::now();
    fmt::print(stderr, "{}\n", text);
  }
  void clear() {
    if (terminal_ && shown_) fmt::print(stderr, "\r\033[K");
    shown_ = false;
  }

 private:
  bool terminal_, shown_ = false;
  steady_clock::time_point last_ = steady_clock::now();
};

class SuiteRunner {
 public:
  explicit SuiteRunner(const SuiteOptions& options) : options_(options), signals_(loop_, SIGINT, SIGTERM, SIGHUP) {
    signals_.async_wait([this](error_code error, int) { interrupted_ |= !error; });
    describe_machine();
    for (std::size_t i = 0; i < options.scenarios.size(); ++i)
      for (int repetition = 0; repetition < options.repeat; ++repetition) add(i, repetition);
    const auto file = options.out / "suite.json";
    std::error_code none;
    if (!fs::exists(file, none)) return;
    const auto earlier = read_suite(file);
    if (options.resume) {
      take_over(earlier);
      return;
    }
    for (const auto& old : earlier.runs)
      if (std::ranges::count(suite_.runs, old.name, &SuiteRun::name) == 0)
        throw tcpinfo::Error(make_error_code(tcpinfo::Errc::kInvalidOption), "write " + file.string(),
                             fmt::format("it has other runs, as {}: --resume keeps them, or give another --out", old.name));
  }

  Suite operator()() {
    std::error_code error;
    fs::create_directories(options_.out, error);
    if (error || !fs::is_directory(options_.out))
      throw tcpinfo::Error(error ? error : std::make_error_code(std::errc::not_a_directory),
                           "make directory " + options_.out.string(), "give another one by --out");
    save();
    std::vector<std::thread> workers;
    for (int i = 1; i < options_.jobs; ++i) workers.emplace_back([this] { work(); });
    work();
    for (auto& worker : workers) worker.join();
    if (failure_) std::rethrow_exception(failure_);
    save();
    OutputFile junit(options_.out / "junit.xml");
    junit.write(to_junit(whole()));
    junit.flush();
    junit.keep();
    return whole();
  }

 private:
  struct Job {
    Scenario scenario;
    double expected = 0;  // seconds
    bool begun = false;
  };

  void describe_machine() {
    suite_.started = fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(std::time(nullptr)));
    suite_.seed = options_.seed;
    suite_.command = options_.command;
    utsname system{};
    if (::uname(&system) == 0) suite_.kernel = fmt::format("{} {} {}", system.sysname, system.release, system.machine);
    struct sysinfo memory {};
    ::sysinfo(&memory);
    suite_.machine = fmt::format("{} processors, {:.0f} GB", std::thread::hardware_concurrency(),
                                 static_cast<double>(memory.totalram) * memory.mem_unit / 1e9);
  }

  void add(std::size_t i, int repetition) {
    Job job{options_.scenarios[i]};
    job.scenario.link.seed = options_.seed + static_cast<std::uint64_t>(repetition);
    job.expected = duration<double>(job.scenario.expected_time()).count();
    SuiteRun run;
    run.name = job.scenario.name + (repetition > 0 ? fmt::format(".{}", repetition + 1) : "");
    run.directory = run.name;
    run.scenario = job.scenario.name;
    run.description = describe(job.scenario);
    run.command = fmt::format("{} --out {} --seed {}", options_.commands[i], shell_word((options_.out / "again").string()),
                              job.scenario.link.seed);
    suite_.runs.push_back(std::move(run));
    jobs_.push_back(std::move(job));
  }

  // What an earlier, interrupted suite has finished, if it was of the same scenarios and seed; and its other runs.
  void take_over(const Suite& earlier) {
    std::size_t taken = 0;
    for (const auto& old : earlier.runs) {
      const auto found = std::ranges::find(suite_.runs, old.name, &SuiteRun::name);
      if (found == suite_.runs.end()) {
        others_.push_back(old);
        continue;
      }
      if (old.outcome != "passed" && old.outcome != "not possible") continue;
      const auto& job = jobs_[static_cast<std::size_t>(found - suite_.runs.begin())];
      if (earlier.seed != suite_.seed || !is_same(old, job.scenario)) continue;
      *found = old;
      jobs_[static_cast<std::size_t>(found - suite_.runs.begin())].begun = true;
      ++taken;
    }
    before_ = suite_.seconds = earlier.seconds;
    progress_.line(fmt::format("{}: {} of {} runs have ended already", (options_.out / "suite.json").string(), taken,
                               suite_.runs.size()));
  }

  // Whether a run was of this very scenario.
  bool is_same(const SuiteRun& run, const Scenario& scenario) const {
    if (run.outcome == "not possible") return run.description == describe(scenario);
    try {
      return read_text(options_.out / run.directory / "scenario.toml") == to_toml(scenario);
    } catch (const tcpinfo::Error&) {
      return false;
    }
  }

  bool interrupted() {
    loop_.poll();
    return interrupted_;
  }

  void work() {
    for (;;) {
      std::size_t i = 0;
      {
        const std::lock_guard lock(mutex_);
        if (failure_ || interrupted()) return;
        while (i < jobs_.size() && jobs_[i].begun) ++i;
        if (i == jobs_.size()) return;
        jobs_[i].begun = true;
      }
      try {
        run_one(i);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!failure_) failure_ = std::current_exception();
      }
    }
  }

  void run_one(std::size_t i) {
    auto result = suite_.runs[i];
    const auto begin = steady_clock::now();
    const auto place = fmt::format("[{}/{}] {}", i + 1, jobs_.size(), result.name);
    RunOptions options;
    options.out = options_.out / result.directory;
    options.progress = [&](const std::string& text) {
      const std::lock_guard lock(mutex_);
      const auto done = duration<double>(steady_clock::now() - begin).count();
      progress_.show(fmt::format("{}: {}; {} left", place, text, human_time(std::max(0.0, time_left() - done))));
    };
    if (options_.keep) options.keep = [this](const std::string& what) { wait_for_user(what); };
    try {
      const auto outcome = validation::run(jobs_[i].scenario, options);
      const auto& verdict = outcome.verdict;
      result.outcome = outcome.interrupted ? "interrupted" : verdict.passed() ? "passed" : "failed";
      result.reason = verdict.passed() ? "" : verdict.failures.front();
      for (const auto& comparison : verdict.comparisons) result.compared += comparison.compared;
      result.goodput_mbit = verdict.goodput_mbit;
      result.mean_rtt_us = verdict.mean_rtt_us;
      result.retransmits = verdict.retransmits;
      const std::lock_guard lock(mutex_);
      if (suite_.iperf3_version.empty()) suite_.iperf3_version = verdict.iperf3_version;
    } catch (const NotPossible& error) {
      result.outcome = "not possible";
      result.reason = error.what();
    } catch (const tcpinfo::Error& error) {
      result.outcome = error.code() == std::errc::interrupted ? "interrupted" : "failed";
      result.reason = error.what();
    } catch (const std::exception& error) {
      result.outcome = "failed";
      result.reason = error.what();
    }
    result.seconds = duration<double>(steady_clock::now() - begin).count();
    const std::lock_guard lock(mutex_);
    interrupted_ |= result.outcome == "interrupted";
    if (result.outcome == "passed") {
      spent_ += result.seconds;
      expected_ += jobs_[i].expected;
      ++ended_;
    }
    suite_.runs[i] = result;
    suite_.seconds = before_ + duration<double>(steady_clock::now() - begin_).count();
    if (jobs_.size() > 1)
      progress_.line(fmt::format("{}: {}{}; {} left", place, result.outcome,
                                 result.reason.empty() ? fmt::format(", {} values, {:.1f} s", result.compared, result.seconds)
                                                       : ": " + result.reason,
                                 human_time(time_left())));
    else
      progress_.clear();
    save();
  }

  // Of what has not ended.
  double time_left() const {
    const double overhead = ended_ > 0 ? std::max(0.0, (spent_ - expected_) / ended_) : kOverheadSeconds;
    double left = 0;
    for (std::size_t i = 0; i < jobs_.size(); ++i)
      if (suite_.runs[i].outcome == "not run") left += jobs_[i].expected + overhead;
    return left / options_.jobs;
  }

  /// With the runs of an earlier suite that are not to be run now.
  Suite whole() const {
    auto suite = suite_;
    suite.runs.insert(suite.runs.end(), others_.begin(), others_.end());
    return suite;
  }

  // Whole at any time: written beside its place and renamed.
  void save() const {
    const auto path = options_.out / "suite.json", fresh = options_.out / "suite.json.new";
    {
      OutputFile file(fresh);
      file.write_line(to_json(whole()));
      file.flush();
      file.keep();
    }
    std::error_code error;
    fs::rename(fresh, path, error);
    if (error) throw tcpinfo::Error(error, "rename " + fresh.string(), "give another directory by --out");
  }

  void wait_for_user(const std::string& what) {
    const std::lock_guard lock(mutex_);
    progress_.clear();
    const bool terminal = ::isatty(STDIN_FILENO) == 1;
    fmt::print(stderr, "{}\nEverything is kept until {}Ctrl-C or SIGTERM.\n", what, terminal ? "Enter, " : "");
    asio::io_context loop;
    asio::signal_set signals(loop, SIGINT, SIGTERM, SIGHUP);
    signals.async_wait([&](error_code error, int) {
      if (error) return;
      interrupted_ = true;
      loop.stop();
    });
    std::optional<asio::posix::stream_descriptor> input;
    if (terminal) {
      input.emplace(loop, ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
      input->async_wait(asio::posix::stream_descriptor::wait_read, [&](error_code) {
        // The line is for us, not for the shell.
        char line[256];
        [[maybe_unused]] const auto got = ::read(STDIN_FILENO, line, sizeof(line));
        loop.stop();
      });
    }
    loop.run();
  }

  const SuiteOptions& options_;
  Suite suite_;
  std::vector<SuiteRun> others_;
  std::vector<Job> jobs_;
  std::mutex mutex_;  // of all that follows, and of suite_ and jobs_ while workers run
  Progress progress_;
  asio::io_context loop_;
  asio::signal_set signals_;
  bool interrupted_ = false;
  std::exception_ptr failure_;
  steady_clock::time_point begin_ = steady_clock::now();
  double before_ = 0, spent_ = 0, expected_ = 0;
  int ended_ = 0;
};

}  // namespace

Suite run_suite(const SuiteOptions& options) { return SuiteRunner(options)(); }

}  // namespace validation
