// SPDX-License-Identifier: BSD-2-Clause
#include "run.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <vector>

#include <fmt/format.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include <tcpinfo/iter.hpp>
#include <tcpinfo/monitor.hpp>
#include <tcpinfo/tcpinfo.hpp>

#include "compare.hpp"
#include "files.hpp"
#include "getsockopt.hpp"
#include "iperf3.hpp"
#include "lab/lab.hpp"
#include "lab/path.hpp"

namespace validation {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using namespace std::chrono_literals;
using boost::system::error_code;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using tcpinfo::SourceId;

constexpr int kPort = 5201;

bool in_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream directories(path ? path : "");
  for (std::string directory; std::getline(directories, directory, ':');)
    if (::access((fs::path(directory) / program).c_str(), X_OK) == 0) return true;
  return false;
}

/// What a child writes to its standard output, kept off the disk: a full disk then shows in our own writing.
class Capture {
 public:
  Capture() : fd_(::memfd_create("output", MFD_CLOEXEC)) {
    if (fd_ < 0) throw tcpinfo::Error(std::error_code(errno, std::system_category()), "make a memory file", "");
  }
  Capture(const Capture&) = delete;
  ~Capture() { ::close(fd_); }
  fs::path path() const { return fmt::format("/proc/self/fd/{}", fd_); }
  std::string text() const { return read_text(path()); }

 private:
  int fd_;
};

bool iperf3_has(const std::string& option) {
  const Capture help;
  lab::Process process({.command = {"iperf3", "--help"}, .stdout_file = help.path(), .stderr_file = help.path()});
  process.wait(10s);
  return help.text().find(option) != std::string::npos;
}

void set_sysctls(const lab::Netns& netns, const std::map<std::string, std::string>& values) {
  netns.run([&] {
    for (const auto& [name, value] : values) {
      auto path = "/proc/sys/" + name;
      std::replace(path.begin() + sizeof("/proc/sys/") - 1, path.end(), '.', '/');
      const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
      const bool written = fd >= 0 && ::write(fd, value.data(), value.size()) == static_cast<ssize_t>(value.size());
      const int error = errno;
      if (fd >= 0) ::close(fd);
      if (fd < 0 && error == ENOENT) throw NotPossible(fmt::format("this kernel has no sysctl {}", name));
      if (!written)
        throw tcpinfo::Error(std::error_code(error, std::system_category()), fmt::format("set sysctl {} to {}", name, value),
                             "see the kernel's Documentation/networking/ip-sysctl.rst for what it takes");
    }
  });
}

std::unique_ptr<tcpinfo::SockopsSource> open_sockops(const tcpinfo::SockopsOptions& options) {
  try {
    return std::make_unique<tcpinfo::SockopsSource>(options);
  } catch (const tcpinfo::Error& error) {
    // So the kernel says that it lacks an instruction or a helper.
    if (error.code() == std::errc::invalid_argument) throw NotPossible(error.what());
    throw;
  }
}

WayReport report_way(const lab::Way& asked, const lab::WayCounters& counted) {
  WayReport way;
  way.rate_mbit = asked.rate_mbit;
  way.delay_us = static_cast<std::uint64_t>(asked.delay.count());
  way.jitter_us = static_cast<std::uint64_t>(asked.jitter.count());
  way.loss = asked.loss;
  way.reordering = asked.reordering;
  way.queue_bytes = asked.queue_bytes;
  way.ecn_mark_bytes = asked.ecn_mark_bytes;
  way.busiest_mbit = counted.busiest_mbit;
  if (counted.latest)
    way.latest_us =
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(*counted.latest).count());
  way.packets = counted.packets;
  way.bytes = counted.bytes;
  way.lost = counted.lost;
  way.dropped = counted.dropped;
  way.data_lost = counted.data_lost;
  way.marked = counted.marked;
  way.reordered = counted.reordered;
  return way;
}

/// How busy the machine's processors are.
class Load {
 public:
  Load() : begin_(read()) {}
  /// The share of the time since the beginning, of 1.
  double busy() const {
    const auto now = read();
    const double all = now.all - begin_.all;
    return all > 0 ? 1 - (now.idle - begin_.idle) / all : 0;
  }

 private:
  struct Times {
    double all = 0, idle = 0;
  };
  static Times read() {
    std::ifstream file("/proc/stat");
    std::string cpu;
    file >> cpu;
    Times times;
    double value = 0;
    // user nice system idle iowait irq softirq steal; guest time is in user's (proc_stat(5)).
    for (int column = 0; column < 8 && file >> value; ++column) {
      times.all += value;
      if (column == 3 || column == 4) times.idle += value;
    }
    return times;
  }
  Times begin_;
};

/// The directory for the results, removed again if it was made here and stays empty.
class OutputDirectory {
 public:
  explicit OutputDirectory(const fs::path& path) : path_(path) {
    std::error_code error;
    made_ = fs::create_directories(path, error);
    if (error || !fs::is_directory(path))
      throw tcpinfo::Error(error ? error : std::make_error_code(std::errc::not_a_directory),
                           "make directory " + path.string(), "give another one by --out");
  }
  ~OutputDirectory() {
    if (made_) ::rmdir(path_.c_str());
  }

 private:
  fs::path path_;
  bool made_ = false;
};

class Run {
 public:
  Run(const Scenario& scenario, const RunOptions& options)
      : scenario_(scenario),
        options_(options),
        directory_(options.out),
        scenario_file_(options.out / "scenario.toml"),
        recordings_(make_recordings(options.out)),
        verdict_file_(options.out / "verdict.json"),
        client_netns_("tcpinfo-client"),
        server_netns_("tcpinfo-server"),
        switch_netns_("tcpinfo-switch"),
        cgroup_("tcpinfo-validate"),
        client_cgroup_("client", cgroup_.path()),
        server_cgroup_("server", cgroup_.path()),
        signals_(loop_, SIGINT, SIGTERM, SIGHUP),
        progress_timer_(loop_),
        deadline_(loop_) {}

  RunOutcome operator()() {
    set_sysctls(client_netns_, scenario_.client_sysctl);
    set_sysctls(server_netns_, scenario_.server_sysctl);
    make_path();
    progress("measuring the path");
    round_trips_ = lab::measure_round_trips(client_netns_, server_netns_);
    await_signal();
    gather();
    load_.emplace();
    begin_ = steady_clock::now();
    start_server();
    if (interrupted_)
      throw tcpinfo::Error(std::make_error_code(std::errc::interrupted), "run iperf3", "nothing was gathered yet");
    start_client();
    show_progress();
    loop_.run();
    if (failure_) std::rethrow_exception(failure_);
    auto outcome = conclude();
    if (options_.keep && !interrupted_) options_.keep(what_there_is());
    return outcome;
  }

 private:
  /// What one source gave.
  struct Recording {
    Recording(SourceId source, const fs::path& directory)
        : id(source), file(directory / fmt::format("{}.jsonl", name(source))) {}

    SourceId id;
    OutputFile file;
    std::vector<tcpinfo_record> records;
    tcpinfo::Statistics statistics;  // of all sources of this kind, at the end
  };

  /// One run of iperf3: both ends.
  struct Iperf3 {
    struct End {
      const char* what;
      OutputFile json;
      Capture output, errors;
      std::optional<lab::Process> process;
      std::optional<int> status;
    };
    Iperf3(const fs::path& directory, int number)
        : client{"client", OutputFile(directory / file_name("iperf3", number)), {}, {}, {}, {}},
          server{"server", OutputFile(directory / file_name("iperf3-server", number)), {}, {}, {}, {}} {}
    static std::string file_name(std::string_view name, int number) {
      return number == 1 ? fmt::format("{}.json", name) : fmt::format("{}-{}.json", name, number);
    }
    End client, server;
  };

  void make_path() {
    try {
      path_.emplace(client_netns_, server_netns_, switch_netns_, scenario_.link);
    } catch (const tcpinfo::Error& error) {
      // This kernel has no netem, or no TUN devices.
      const auto& code = error.code();
      if (code == std::errc::operation_not_supported || code == std::errc::no_such_file_or_directory ||
          code == std::errc::no_such_device)
        throw NotPossible(error.what());
      throw;
    }
  }

  static std::list<Recording> make_recordings(const fs::path& directory) {
    std::list<Recording> all;
    for (const auto id : {SourceId::kSockops, SourceId::kInetDiag, SourceId::kIter, SourceId::kGetsockopt})
      all.emplace_back(id, directory);
    return all;
  }

  void progress(const std::string& text) const {
    if (options_.progress) options_.progress(text);
  }

  void gather() {
    for (auto& recording : recordings_) recording.file.write_line(writer_.schema());
    tcpinfo::SockopsOptions sockops;
    sockops.cgroup = cgroup_.path();
    sockops.interval = scenario_.sockops_interval;
    monitors_.emplace_back(loop_, open_sockops(sockops));
    // After sockops, which makes the kernel give each socket its cookie.
    monitors_.emplace_back(loop_, std::make_unique<GetsockoptSource>(GetsockoptOptions{.cgroup = cgroup_.path()}));
    const auto filter = tcpinfo::Filter::parse(fmt::format("port == {}", kPort));
    for (const auto* netns : {&client_netns_, &server_netns_}) {
      tcpinfo::InetDiagOptions inet_diag;
      inet_diag.interval = scenario_.poll;
      inet_diag.filter = filter;
      inet_diag.netns = netns->path();
      monitors_.emplace_back(loop_, std::make_unique<tcpinfo::InetDiagSource>(inet_diag));
      tcpinfo::IterOptions iter;
      iter.interval = scenario_.poll;
      iter.filter = filter;
      iter.netns = netns->path();
      monitors_.emplace_back(loop_, std::make_unique<tcpinfo::IterSource>(iter));
    }
    for (auto& monitor : monitors_) start(monitor);
  }

  Recording& recording_of(const tcpinfo::Monitor& monitor) {
    return *std::ranges::find(recordings_, monitor.source().id(), &Recording::id);
  }

  void start(tcpinfo::Monitor& monitor) {
    monitor.start(
        [this, &recording = recording_of(monitor)](const tcpinfo::Record& record) {
          if (failure_) return;
          try {
            take(recording, record);
          } catch (...) {
            fail();
          }
        },
        [this](error_code error) { ++source_errors_[error.message()]; });
  }

  void take(Recording& recording, const tcpinfo::Record& record) {
    recording.records.push_back(record.raw());
    if (recording.id == SourceId::kSockops) {
      if (record.event() == TCPINFO_EVENT_CLOSE) ++closed_;
      if (record.sequence() == 0u) ++opened_;
    }
    recording.file.write_line(writer_.line(record));
  }

  // Keeps the exception for the caller of loop_.run(): nothing may pass through the library's loop.
  void fail() {
    if (!failure_) failure_ = std::current_exception();
    loop_.stop();
  }

  void await_signal() {
    signals_.async_wait([this](error_code error, int) {
      if (error) return;
      if (!iperf3_.empty()) {
        auto& [client, server] = iperf3_.back();
        for (auto* end : {&client, &server})
          if (end->process && (interrupted_ || end == &client)) end->process->signal(interrupted_ ? SIGKILL : SIGINT);
      }
      interrupted_ = true;
      await_signal();
    });
  }

  void start_server() {
    iperf3_.emplace_back(options_.out, static_cast<int>(iperf3_.size()) + 1);
    auto& server = iperf3_.back().server;
    std::vector<std::string> command{"iperf3", "-s", "-1", "-J", "-p", std::to_string(kPort), "-i", seconds(scenario_.interval)};
    // Without -4 or -6 the listener is an IPv6 socket that takes both: IPv4 clients have mapped addresses there.
    if (scenario_.family == Family::kIpv4) command.emplace_back("-4");
    if (scenario_.family == Family::kIpv6) command.emplace_back("-6");
    if (scenario_.mptcp) command.emplace_back("--mptcp");
    spawn(server, std::move(command), server_cgroup_, server_netns_);
    bool up = false;
    const auto give_up = steady_clock::now() + 5s;
    for (asio::steady_timer pause(loop_); !up && !interrupted_ && steady_clock::now() < give_up;) {
      up = server.process->listens(kPort);
      if (up) break;
      if (server.process->wait(0ms)) break;
      bool over = false;
      pause.expires_after(5ms);
      pause.async_wait([&](error_code) { over = true; });
      while (!over && !failure_) loop_.run_one();
      if (failure_) return;
    }
    if (!up && !interrupted_)
      throw tcpinfo::Error(std::make_error_code(std::errc::connection_refused), "start the iperf3 server", said(server));
  }

  void spawn(Iperf3::End& end, std::vector<std::string> command, const lab::Cgroup& cgroup, const lab::Netns& netns) {
    end.process.emplace(lab::SpawnOptions{.command = std::move(command),
                                          .cgroup = &cgroup,
                                          .netns = &netns,
                                          .stdout_file = end.output.path(),
                                          .stderr_file = end.errors.path()});
  }

  static std::string seconds(milliseconds time) { return fmt::format("{:g}", static_cast<double>(time.count()) / 1000); }

  void start_client() {
    const char* address = scenario_.family == Family::kIpv6 ? "fd77::2" : "10.77.0.2";
    std::vector<std::string> command{"iperf3", "-c", address, "-J", "-p", std::to_string(kPort)};
    const auto add = [&](const char* name, const std::string& value) {
      command.emplace_back(name);
      command.push_back(value);
    };
    add("-i", seconds(scenario_.interval));
    if (scenario_.bytes > 0)
      add("-n", std::to_string(scenario_.bytes));
    else
      add("-t", seconds(scenario_.duration));
    add("-P", std::to_string(scenario_.parallel));
    add("-C", scenario_.congestion);
    if (scenario_.omit > 0s) add("-O", seconds(scenario_.omit));
    if (scenario_.bitrate_mbit > 0)
      add("-b", fmt::format("{:.0f}{}", scenario_.bitrate_mbit * 1e6,
                            scenario_.burst > 0 ? fmt::format("/{}", scenario_.burst) : ""));
    if (scenario_.length > 0) add("-l", std::to_string(scenario_.length));
    if (scenario_.window > 0) add("-w", std::to_string(scenario_.window));
    if (scenario_.mss > 0) add("-M", std::to_string(scenario_.mss));
    if (scenario_.mptcp) command.emplace_back("--mptcp");
    if (scenario_.flow == Flow::kReverse) command.emplace_back("-R");
    if (scenario_.flow == Flow::kBidirectional) command.emplace_back("--bidir");
    auto& [client, server] = iperf3_.back();
    spawn(client, std::move(command), client_cgroup_, client_netns_);
    // What waits in the queues of the path is what takes longest after the time is over.
    give_up_after(10 * scenario_.expected_time() / scenario_.runs + 30s, *client.process);
    on_end(client, [this, &client = client, &server = server] {
      if (interrupted_) server.process->signal(SIGINT);
      // A server whose client was killed waits for it.
      give_up_after(client.status == 0 ? 10s : 1s, *server.process);
      on_end(server, [this, &client = client] {
        deadline_.cancel();
        const bool more = static_cast<int>(iperf3_.size()) < scenario_.runs && !interrupted_ && client.status == 0;
        if (more) start_server();
        if (more && !interrupted_ && !failure_)
          start_client();
        else
          finish_gathering(steady_clock::now() + 2s);
      });
    });
  }

  // A source of TCP's own making is not waited for for ever.
  void give_up_after(steady_clock::duration time, lab::Process& process) {
    deadline_.expires_after(time);
    deadline_.async_wait([&process, this](error_code error) {
      if (error) return;
      timed_out_ = true;
      process.signal(SIGINT);
      give_up_for_good(process);
    });
  }

  void give_up_for_good(lab::Process& process) {
    deadline_.expires_after(2s);
    deadline_.async_wait([&process](error_code error) {
      if (!error) process.signal(SIGKILL);
    });
  }

  template <class Function>
  void on_end(Iperf3::End& end, Function function) {
    auto pidfd = std::make_shared<asio::posix::stream_descriptor>(
        loop_, ::fcntl(end.process->pidfd(), F_DUPFD_CLOEXEC, 0));
    pidfd->async_wait(asio::posix::stream_descriptor::wait_read,
                      [this, pidfd, &end, function = std::move(function)](error_code error) {
                        if (error || failure_) return;
                        try {
                          end.status = end.process->wait(0ms);
                          function();
                        } catch (...) {
                          fail();
                        }
                      });
  }

  // The last segments and acknowledgements pass the queues after iperf3 has ended; then every connection has closed.
  void finish_gathering(steady_clock::time_point give_up) {
    if (closed_ >= opened_ || steady_clock::now() >= give_up) {
      busy_ = load_->busy();
      for (auto& monitor : monitors_) {
        monitor.stop();
        monitor.source().stop();
      }
      // What is still in a ring.
      for (auto& monitor : monitors_)
        monitor.source().drain([&](const tcpinfo::Record& record) {
          if (failure_) return;
          try {
            take(recording_of(monitor), record);
          } catch (...) {
            fail();
          }
        });
      signals_.cancel();
      loop_.stop();
      return;
    }
    deadline_.expires_after(10ms);
    deadline_.async_wait([this, give_up](error_code) { finish_gathering(give_up); });
  }

  void show_progress() {
    std::string text;
    const auto elapsed = std::chrono::duration<double>(steady_clock::now() - begin_).count();
    if (scenario_.runs > 1)
      text = fmt::format("run {} of {}", iperf3_.size(), scenario_.runs);
    else
      text = fmt::format("{:.1f} s of {} s", elapsed, seconds(scenario_.omit + scenario_.duration));
    for (const auto& recording : recordings_)
      if (recording.id != SourceId::kGetsockopt)
        text += fmt::format("{} {} by {}", &recording == &recordings_.front() ? ": records" : ",", recording.records.size(),
                            name(recording.id));
    progress(text);
    progress_timer_.expires_after(200ms);
    progress_timer_.async_wait([this](error_code error) {
      if (!error) show_progress();
    });
  }

  static std::string said(const Iperf3::End& end) {
    auto text = end.errors.text();
    if (text.empty()) {
      try {
        text = parse_iperf3(end.output.text(), "", FailedRuns::kAccept).error;
      } catch (const tcpinfo::Error&) {
        text = end.output.text().substr(0, 200);
      }
    }
    std::replace(text.begin(), text.end(), '\n', ' ');
    return "iperf3 says: " + text;
  }

  RunOutcome conclude() {
    progress("comparing");
    scenario_file_.write(to_toml(scenario_));
    for (auto& run : iperf3_)
      for (auto* end : {&run.client, &run.server}) end->json.write(end->output.text());
    // Of an earlier scenario that had more runs.
    std::error_code none;
    for (auto number = static_cast<int>(iperf3_.size()) + 1;; ++number) {
      const bool client = fs::remove(options_.out / Iperf3::file_name("iperf3", number), none);
      const bool server = fs::remove(options_.out / Iperf3::file_name("iperf3-server", number), none);
      if (!client && !server) break;
    }
    each_file([](OutputFile& file) { file.flush(); });

    RunOutcome outcome;
    outcome.interrupted = interrupted_;
    outcome.verdict = compare_all();
    auto& verdict = outcome.verdict;
    verdict.scenario = scenario_.name;
    verdict.title = describe(scenario_);
    utsname system{};
    if (::uname(&system) == 0) verdict.kernel = fmt::format("{} {} {}", system.sysname, system.release, system.machine);
    add_remarks(verdict);
    add_statistics(verdict);
    for (const auto& [message, times] : source_errors_)
      verdict.failures.push_back(fmt::format("a source failed {} times: {}", times, message));
    if (timed_out_) verdict.failures.push_back("iperf3 did not end in time and was stopped");
    if (interrupted_) verdict.failures.insert(verdict.failures.begin(), "the run was interrupted");
    verdict_file_.write_line(to_json(verdict));
    verdict_file_.flush();
    each_file([](OutputFile& file) { file.keep(); });
    return outcome;
  }

  template <class Function>
  void each_file(Function function) {
    function(scenario_file_);
    for (auto& run : iperf3_)
      for (auto* end : {&run.client, &run.server}) function(end->json);
    for (auto& recording : recordings_) function(recording.file);
    function(verdict_file_);
  }

  Verdict compare_all() {
    Input input;
    std::vector<std::string> failures;
    for (const auto& run : iperf3_)
      for (const auto* end : {&run.client, &run.server}) {
        if (end->status && WIFSIGNALED(*end->status) && !interrupted_ && !timed_out_)
          failures.push_back(fmt::format("iperf3's {} was killed by signal {} ({})", end->what, WTERMSIG(*end->status),
                                         ::strsignal(WTERMSIG(*end->status))));
        try {
          input.results.push_back(parse_iperf3(end->output.text(), end->json.path().filename().string(),
                                               interrupted_ ? FailedRuns::kAccept : FailedRuns::kRefuse));
        } catch (const tcpinfo::Error& error) {
          failures.emplace_back(error.what());
        }
      }
    for (const auto& recording : recordings_) input.sources.push_back({recording.id, recording.records});
    for (const auto* sysctls : {&scenario_.client_sysctl, &scenario_.server_sysctl})
      if (const auto found = sysctls->find("net.ipv4.tcp_min_rtt_wlen"); found != sysctls->end())
        input.min_rtt_window = std::min(input.min_rtt_window, std::chrono::seconds(std::atoi(found->second.c_str())));
    input.link.engine = name(path_->engine());
    input.link.mtu = static_cast<std::uint64_t>(scenario_.link.mtu);
    if (round_trips_.received > 0) {
      input.link.rtt_least_us = static_cast<std::uint64_t>(round_trips_.least.count());
      input.link.rtt_median_us = static_cast<std::uint64_t>(round_trips_.median.count());
    }
    input.link.there = report_way(scenario_.link.there, path_->there());
    input.link.back = report_way(scenario_.link.back, path_->back());
    auto verdict = compare(input);
    verdict.link = input.link;
    verdict.failures.insert(verdict.failures.begin(), failures.begin(), failures.end());
    return verdict;
  }

  // What is no fault of a field: this machine could not do what the scenario asks.
  void add_remarks(Verdict& verdict) const {
    if (round_trips_.received == 0) verdict.remarks.emplace_back("no packet came back when the path was measured");
    constexpr double kSlow = 0.9;
    constexpr std::uint64_t kLateUs = 5000;
    const auto& link = verdict.link;
    // What limits itself, or is limited by losses, says nothing of the machine.
    const bool tries_all = scenario_.bitrate_mbit <= 0 && scenario_.bytes == 0 && scenario_.window == 0 &&
                           scenario_.client_sysctl.empty() && scenario_.server_sysctl.empty() &&
                           link.there.loss <= 0 && link.back.loss <= 0;
    for (const auto& [way, which] : {std::pair(&link.there, "there"), std::pair(&link.back, "back")}) {
      const bool has_data = scenario_.flow != (way == &link.there ? Flow::kReverse : Flow::kForward);
      if (tries_all && has_data && way->rate_mbit > 0 && way->busiest_mbit && *way->busiest_mbit < kSlow * way->rate_mbit)
        verdict.remarks.push_back(
            fmt::format("the path carried {:.1f} Mbit/s {} at most, of {:g} asked for; the machine's processors were busy "
                        "for {:.0f} % of the time",
                        *way->busiest_mbit, which, way->rate_mbit, busy_ * 100));
      if (way->latest_us && *way->latest_us > std::max<std::uint64_t>(kLateUs, (way->delay_us + way->jitter_us) / 10))
        verdict.remarks.push_back(
            fmt::format("the machine was too slow for the path's times: a packet came {:.1f} ms after it was due {}",
                        static_cast<double>(*way->latest_us) / 1000, which));
    }
  }

  void add_statistics(Verdict& verdict) {
    using tcpinfo::Statistics;
    for (const auto& monitor : monitors_) {
      auto& sum = recording_of(monitor).statistics;
      const auto one = monitor.statistics();
      for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event) {
        sum.emitted[event] += one.emitted[event];
        sum.delivered[event] += one.delivered[event];
        sum.lost_ring[event] += one.lost_ring[event] + one.lost_sink[event];
      }
      sum.connections += one.connections;
      sum.dumps += one.dumps;
      sum.dumps_interrupted += one.dumps_interrupted;
      sum.malformed += one.malformed;
    }
    for (const auto& recording : recordings_) {
      const auto& sum = recording.statistics;
      auto& counts = verdict.records[std::string(name(recording.id))];
      const auto emitted = Statistics::sum(sum.emitted), delivered = Statistics::sum(sum.delivered),
                 lost = Statistics::sum(sum.lost_ring);
      counts = {{"emitted", emitted}, {"delivered", delivered}, {"lost", lost}};
      if (emitted != delivered + lost)
        verdict.failures.push_back(fmt::format("{} does not account for its records: {} emitted, {} delivered, {} lost",
                                               name(recording.id), emitted, delivered, lost));
      if (sum.malformed > 0)
        verdict.failures.push_back(fmt::format("{}: {} records were malformed", name(recording.id), sum.malformed));
      if (lost > 0) verdict.remarks.push_back(fmt::format("{} lost {} of {} records", name(recording.id), lost, emitted));
      if (recording.id == SourceId::kSockops) counts.emplace_back("connections", sum.connections);
      if (recording.id == SourceId::kInetDiag || recording.id == SourceId::kIter) counts.emplace_back("dumps", sum.dumps);
      if (recording.id == SourceId::kInetDiag) counts.emplace_back("interrupted", sum.dumps_interrupted);
      counts.emplace_back("malformed", sum.malformed);
    }
  }

  std::string what_there_is() const {
    return fmt::format(
        "client: network namespace {}, 10.77.0.1 and fd77::1, cgroup {}\n"
        "server: network namespace {}, 10.77.0.2 and fd77::2, cgroup {}\n"
        "path:   {}, in network namespace {}\n"
        "as in:  ip netns exec {} iperf3 -s -1 & ip netns exec {} iperf3 -c 10.77.0.2",
        client_netns_.name(), client_cgroup_.path().string(), server_netns_.name(), server_cgroup_.path().string(),
        name(path_->engine()), switch_netns_.name(), server_netns_.name(), client_netns_.name());
  }

  const Scenario& scenario_;
  const RunOptions& options_;
  OutputDirectory directory_;
  OutputFile scenario_file_;
  std::list<Recording> recordings_;
  OutputFile verdict_file_;
  tcpinfo::JsonWriter writer_;
  std::uint64_t opened_ = 0, closed_ = 0;
  std::map<std::string, std::uint64_t> source_errors_;
  std::exception_ptr failure_;
  bool interrupted_ = false, timed_out_ = false;
  std::optional<Load> load_;
  double busy_ = 0;
  lab::RoundTrips round_trips_;

  lab::Netns client_netns_, server_netns_, switch_netns_;
  std::optional<lab::Path> path_;
  lab::Cgroup cgroup_, client_cgroup_, server_cgroup_;
  asio::io_context loop_;
  asio::signal_set signals_;
  asio::steady_timer progress_timer_, deadline_;
  steady_clock::time_point begin_;
  // The processes before the sources: these still see how those end.
  std::list<tcpinfo::Monitor> monitors_;
  std::list<Iperf3> iperf3_;
};

}  // namespace

void check_machine() {
  if (::geteuid() != 0) throw NotPossible("needs root, to make network namespaces and attach eBPF: run it with sudo");
  if (!in_path("iperf3")) throw NotPossible("iperf3 is not installed: apt-get install iperf3");
  for (const char* program : {"ip", "tc"})
    if (!in_path(program)) throw NotPossible(fmt::format("{} is not installed: apt-get install iproute2", program));
  if (::access("/sys/kernel/btf/vmlinux", R_OK) != 0)
    throw NotPossible("the kernel offers no BTF (/sys/kernel/btf/vmlinux): use one with CONFIG_DEBUG_INFO_BTF=y");
  try {
    tcpinfo::cgroup2_mount();
  } catch (const tcpinfo::Error& error) {
    throw NotPossible(error.what());
  }
}

void check_possible(const Scenario& scenario) {
  if (scenario.mptcp && !iperf3_has("--mptcp"))
    throw NotPossible("this iperf3 has no option --mptcp: use a newer one, which has it in iperf3 --help");
  // Asked for, the kernel loads the module; asking needs a socket, and a wrong name is the user's mistake.
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int result = ::setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, scenario.congestion.data(),
                                  static_cast<socklen_t>(scenario.congestion.size()));
  const int error = result != 0 ? errno : 0;
  ::close(socket);
  if (error == ENOENT)
    throw NotPossible(
        fmt::format("this kernel has no congestion control {}: choose one of "
                    "/proc/sys/net/ipv4/tcp_available_congestion_control",
                    scenario.congestion));
}

RunOutcome run(const Scenario& scenario, const RunOptions& options) {
  check_machine();
  check_possible(scenario);
  return Run(scenario, options)();
}

}  // namespace validation
