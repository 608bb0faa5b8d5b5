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
#include <array>
#include <cerrno>
#include <csignal>
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

#include <tcpinfo/monitor.hpp>
#include <tcpinfo/tcpinfo.hpp>

#include "compare.hpp"
#include "files.hpp"
#include "getsockopt.hpp"
#include "iperf3.hpp"
#include "lab/lab.hpp"

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

void check_possible(const RunOptions& options) {
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
  // Asked for, the kernel loads the module; asking needs a socket, and a wrong name is the user's mistake.
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int result = ::setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, options.congestion.data(),
                                  static_cast<socklen_t>(options.congestion.size()));
  const int error = result != 0 ? errno : 0;
  ::close(socket);
  if (error == ENOENT)
    throw NotPossible(
        fmt::format("this kernel has no congestion control {}: choose one of "
                    "/proc/sys/net/ipv4/tcp_available_congestion_control",
                    options.congestion));
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

class Progress {
 public:
  explicit Progress(std::chrono::seconds duration) : duration_(duration), terminal_(::isatty(STDERR_FILENO) == 1) {}
  ~Progress() { clear(); }

  milliseconds period() const { return terminal_ ? 200ms : 3000ms; }

  void show(milliseconds elapsed, std::size_t sockops, std::size_t inet_diag) {
    const auto text = fmt::format("{:.1f} s of {} s: {} records by sockops, {} by inet_diag",
                                  static_cast<double>(elapsed.count()) / 1000, duration_.count(), sockops, inet_diag);
    fmt::print(stderr, fmt::runtime(terminal_ ? "\r{}\033[K" : "{}\n"), text);
    std::fflush(stderr);
    shown_ = true;
  }

  void clear() {
    if (terminal_ && shown_) fmt::print(stderr, "\r\033[K");
    shown_ = false;
  }

 private:
  std::chrono::seconds duration_;
  bool terminal_;
  bool shown_ = false;
};

std::string describe(const RunOptions& options) {
  const char* family = options.family == Family::kIpv4   ? "IPv4"
                       : options.family == Family::kIpv6 ? "IPv6"
                                                         : "IPv4-mapped IPv6";
  return fmt::format("{}, {} stream{}{}{}, {}, {}", family, options.parallel, options.parallel == 1 ? "" : "s",
                     options.bitrate_mbit > 0 ? fmt::format(" of {:g} Mbit/s", options.bitrate_mbit) : "",
                     options.bidirectional ? " each way"
                     : options.reverse     ? ", server sends"
                                           : "",
                     options.congestion,
                     options.rate_mbit > 0 ? fmt::format("{:g} Mbit/s", options.rate_mbit) : "unlimited");
}

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
  explicit Run(const RunOptions& options)
      : options_(options),
        directory_(options.out),
        client_json_(options.out / "iperf3.json"),
        server_json_(options.out / "iperf3-server.json"),
        sockops_(SourceId::kSockops, options.out),
        inet_diag_(SourceId::kInetDiag, options.out),
        getsockopt_(SourceId::kGetsockopt, options.out),
        verdict_file_(options.out / "verdict.json"),
        client_netns_("tcpinfo-client"),
        server_netns_("tcpinfo-server"),
        switch_netns_("tcpinfo-switch"),
        cgroup_("tcpinfo-validate"),
        client_cgroup_("client", cgroup_.path()),
        server_cgroup_("server", cgroup_.path()),
        signals_(loop_, SIGINT, SIGTERM),
        progress_timer_(loop_),
        deadline_(loop_),
        progress_(options.omit + options.duration) {}

  RunOutcome operator()() {
    lab::link(client_netns_, server_netns_, switch_netns_, {.rate_mbit = options_.rate_mbit});
    await_signal();
    gather();
    start_server();
    if (interrupted_)
      throw tcpinfo::Error(std::make_error_code(std::errc::interrupted), "run iperf3", "nothing was gathered yet");
    start_client();
    loop_.run();
    if (failure_) std::rethrow_exception(failure_);
    return conclude();
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

  void gather() {
    for (auto* recording : recordings()) recording->file.write_line(writer_.schema());
    tcpinfo::SockopsOptions sockops;
    sockops.cgroup = cgroup_.path();
    sockops.interval = options_.interval;
    monitors_.emplace_back(loop_, open_sockops(sockops));
    // After sockops, which makes the kernel give each socket its cookie.
    monitors_.emplace_back(loop_, std::make_unique<GetsockoptSource>(GetsockoptOptions{.cgroup = cgroup_.path()}));
    for (const auto* netns : {&client_netns_, &server_netns_}) {
      tcpinfo::InetDiagOptions inet_diag;
      inet_diag.interval = options_.poll;
      inet_diag.filter = tcpinfo::Filter::parse(fmt::format("port == {}", kPort));
      inet_diag.netns = netns->path();
      monitors_.emplace_back(loop_, std::make_unique<tcpinfo::InetDiagSource>(inet_diag));
    }
    for (auto& monitor : monitors_) start(monitor);
  }

  std::array<Recording*, 3> recordings() { return {&sockops_, &inet_diag_, &getsockopt_}; }

  Recording& recording_of(const tcpinfo::Monitor& monitor) {
    const auto all = recordings();
    return **std::find_if(all.begin(), all.end(), [&](const auto* one) { return one->id == monitor.source().id(); });
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
      if (interrupted_) {
        if (client_) client_->signal(SIGKILL);
        if (server_) server_->signal(SIGKILL);
      } else {
        interrupted_ = true;
        if (client_) client_->signal(SIGINT);
      }
      await_signal();
    });
  }

  void start_server() {
    std::vector<std::string> command{"iperf3", "-s", "-1", "-J", "-p", std::to_string(kPort), "-i", interval_text()};
    // Without -4 or -6 the listener is an IPv6 socket that takes both: IPv4 clients have mapped addresses there.
    if (options_.family == Family::kIpv4) command.emplace_back("-4");
    if (options_.family == Family::kIpv6) command.emplace_back("-6");
    server_.emplace(lab::SpawnOptions{.command = command,
                                      .cgroup = &server_cgroup_,
                                      .netns = &server_netns_,
                                      .stdout_file = server_output_.path(),
                                      .stderr_file = server_errors_.path()});
    bool up = false;
    const auto give_up = steady_clock::now() + 5s;
    for (asio::steady_timer pause(loop_); !up && !interrupted_ && steady_clock::now() < give_up;) {
      up = server_->listens(kPort);
      if (up) break;
      if (server_->wait(0ms)) break;
      bool over = false;
      pause.expires_after(5ms);
      pause.async_wait([&](error_code) { over = true; });
      while (!over && !failure_) loop_.run_one();
      if (failure_) return;
    }
    if (!up && !interrupted_)
      throw tcpinfo::Error(std::make_error_code(std::errc::connection_refused), "start the iperf3 server",
                           said(server_output_, server_errors_));
  }

  std::string interval_text() const {
    return fmt::format("{:g}", static_cast<double>(options_.iperf3_interval.count()) / 1000);
  }

  void start_client() {
    const char* address = options_.family == Family::kIpv6 ? "fd77::2" : "10.77.0.2";
    std::vector<std::string> command{"iperf3", "-c", address, "-J", "-p", std::to_string(kPort)};
    const auto add = [&](const char* name, const std::string& value) {
      command.emplace_back(name);
      command.push_back(value);
    };
    add("-i", interval_text());
    add("-t", std::to_string(options_.duration.count()));
    add("-P", std::to_string(options_.parallel));
    add("-C", options_.congestion);
    if (options_.omit > 0s) add("-O", std::to_string(options_.omit.count()));
    if (options_.bitrate_mbit > 0) add("-b", fmt::format("{:g}M", options_.bitrate_mbit));
    if (options_.reverse) command.emplace_back("-R");
    if (options_.bidirectional) command.emplace_back("--bidir");
    client_.emplace(lab::SpawnOptions{.command = command,
                                      .cgroup = &client_cgroup_,
                                      .netns = &client_netns_,
                                      .stdout_file = client_output_.path(),
                                      .stderr_file = client_errors_.path()});
    begin_ = steady_clock::now();
    show_progress();
    give_up_after(options_.omit + options_.duration + 15s, *client_);
    on_end(*client_, [this] {
      client_status_ = client_->wait(0ms);
      progress_timer_.cancel();
      if (interrupted_) server_->signal(SIGINT);
      give_up_after(5s, *server_);
      on_end(*server_, [this] {
        server_status_ = server_->wait(0ms);
        deadline_.cancel();
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
  void on_end(lab::Process& process, Function function) {
    auto pidfd = std::make_shared<asio::posix::stream_descriptor>(loop_, ::fcntl(process.pidfd(), F_DUPFD_CLOEXEC, 0));
    pidfd->async_wait(asio::posix::stream_descriptor::wait_read,
                      [this, pidfd, function = std::move(function)](error_code error) {
                        if (error || failure_) return;
                        try {
                          function();
                        } catch (...) {
                          fail();
                        }
                      });
  }

  // The last segments and acknowledgements pass the queues after iperf3 has ended; then every connection has closed.
  void finish_gathering(steady_clock::time_point give_up) {
    if (closed_ >= opened_ || steady_clock::now() >= give_up) {
      for (auto& monitor : monitors_) {
        monitor.stop();
        monitor.source().stop();
      }
      // What is still in a ring.
      for (auto& monitor : monitors_)
        monitor.source().drain([&](const tcpinfo::Record& record) { take(recording_of(monitor), record); });
      signals_.cancel();
      loop_.stop();
      return;
    }
    deadline_.expires_after(10ms);
    deadline_.async_wait([this, give_up](error_code) { finish_gathering(give_up); });
  }

  void show_progress() {
    if (steady_clock::now() - begin_ > 50ms)
      progress_.show(std::chrono::duration_cast<milliseconds>(steady_clock::now() - begin_), sockops_.records.size(),
                     inet_diag_.records.size());
    progress_timer_.expires_after(progress_.period());
    progress_timer_.async_wait([this](error_code error) {
      if (!error) show_progress();
    });
  }

  static std::string said(const Capture& output, const Capture& errors) {
    auto text = errors.text();
    if (text.empty()) {
      try {
        text = parse_iperf3(output.text(), "", FailedRuns::kAccept).error;
      } catch (const tcpinfo::Error&) {
        text = output.text().substr(0, 200);
      }
    }
    std::replace(text.begin(), text.end(), '\n', ' ');
    return "iperf3 says: " + text;
  }

  RunOutcome conclude() {
    progress_.clear();
    client_json_.write(client_output_.text());
    server_json_.write(server_output_.text());
    for (auto* file : files()) file->flush();

    RunOutcome outcome;
    outcome.interrupted = interrupted_;
    outcome.verdict = compare_all();
    auto& verdict = outcome.verdict;
    verdict.title = describe(options_);
    utsname system{};
    if (::uname(&system) == 0) verdict.kernel = fmt::format("{} {} {}", system.sysname, system.release, system.machine);
    add_statistics(verdict);
    for (const auto& [message, times] : source_errors_)
      verdict.failures.push_back(fmt::format("a source failed {} times: {}", times, message));
    if (timed_out_) verdict.failures.push_back("iperf3 did not end in time and was stopped");
    if (interrupted_) verdict.failures.insert(verdict.failures.begin(), "the run was interrupted");
    verdict_file_.write_line(to_json(verdict));
    verdict_file_.flush();
    for (auto* file : files()) file->keep();
    return outcome;
  }

  std::array<OutputFile*, 6> files() {
    return {&client_json_, &server_json_, &sockops_.file, &inet_diag_.file, &getsockopt_.file, &verdict_file_};
  }

  Verdict compare_all() {
    Input input;
    std::vector<std::string> failures;
    const auto failed_runs = interrupted_ ? FailedRuns::kAccept : FailedRuns::kRefuse;
    try {
      input.results.push_back(parse_iperf3(client_output_.text(), "iperf3.json", failed_runs));
    } catch (const tcpinfo::Error& error) {
      failures.emplace_back(error.what());
    }
    try {
      input.results.push_back(parse_iperf3(server_output_.text(), "iperf3-server.json", failed_runs));
    } catch (const tcpinfo::Error& error) {
      failures.emplace_back(error.what());
    }
    for (const auto* recording : recordings()) input.sources.push_back({recording->id, recording->records});
    auto verdict = compare(input);
    verdict.failures.insert(verdict.failures.begin(), failures.begin(), failures.end());
    return verdict;
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
    for (const auto* recording : recordings()) {
      const auto& sum = recording->statistics;
      auto& counts = verdict.records[std::string(name(recording->id))];
      counts = {{"emitted", Statistics::sum(sum.emitted)},
                {"delivered", Statistics::sum(sum.delivered)},
                {"lost", Statistics::sum(sum.lost_ring)}};
      if (recording->id == SourceId::kSockops) counts.emplace_back("connections", sum.connections);
      if (recording->id == SourceId::kInetDiag) {
        counts.emplace_back("dumps", sum.dumps);
        counts.emplace_back("interrupted", sum.dumps_interrupted);
      }
      counts.emplace_back("malformed", sum.malformed);
    }
  }

  const RunOptions& options_;
  OutputDirectory directory_;
  OutputFile client_json_, server_json_;
  Recording sockops_, inet_diag_, getsockopt_;
  OutputFile verdict_file_;
  Capture client_output_, client_errors_, server_output_, server_errors_;
  tcpinfo::JsonWriter writer_;
  std::uint64_t opened_ = 0, closed_ = 0;
  std::map<std::string, std::uint64_t> source_errors_;
  std::exception_ptr failure_;
  bool interrupted_ = false, timed_out_ = false;
  std::optional<int> client_status_, server_status_;

  lab::Netns client_netns_, server_netns_, switch_netns_;
  lab::Cgroup cgroup_, client_cgroup_, server_cgroup_;
  asio::io_context loop_;
  asio::signal_set signals_;
  asio::steady_timer progress_timer_, deadline_;
  Progress progress_;
  steady_clock::time_point begin_;
  // The processes before the sources: these still see how those end.
  std::list<tcpinfo::Monitor> monitors_;
  std::optional<lab::Process> server_, client_;
};

}  // namespace

RunOutcome run(const RunOptions& options) {
  check_possible(options);
  return Run(options)();
}

}  // namespace validation
