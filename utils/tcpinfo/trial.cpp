// SPDX-License-Identifier: BSD-2-Clause
#include "trial.hpp"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include <fmt/format.h>

#include <tcpinfo/tcpinfo.hpp>

namespace cli {
namespace {

using Clock = tcpinfo::Source::Clock;

class SignalsWait {
 public:
  SignalsWait() noexcept {
    sigset_t ending;
    sigemptyset(&ending);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&ending, signal);
    sigprocmask(SIG_BLOCK, &ending, &old_);
  }
  ~SignalsWait() { sigprocmask(SIG_SETMASK, &old_, nullptr); }
  SignalsWait(const SignalsWait&) = delete;

 private:
  sigset_t old_;
};

// A cgroup beside this process's, in which the process is while enter() has its effect.
class TemporaryCgroup {
 public:
  TemporaryCgroup() {
    std::error_code error;
    home_ = tcpinfo::own_cgroup();
    // In a container the process's own cgroup may lie outside what is mounted.
    if (!std::filesystem::is_directory(home_, error)) home_ = tcpinfo::cgroup2_mount();
    path_ = home_ / fmt::format("tcpinfo-doctor-{}", getpid());
    if (!std::filesystem::create_directory(path_, error))
      throw tcpinfo::Error(error ? error : std::make_error_code(std::errc::file_exists),
                           "make cgroup " + path_.string(), "needs write access to the cgroup v2 hierarchy");
  }
  ~TemporaryCgroup() {
    if (entered_) move_to(home_);
    rmdir(path_.c_str());
  }
  TemporaryCgroup(const TemporaryCgroup&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  bool enter() { return entered_ = move_to(path_); }

 private:
  static bool move_to(const std::filesystem::path& cgroup) {
    std::ofstream processes(cgroup / "cgroup.procs");
    processes << "0" << std::flush;
    return processes.good();
  }

  std::filesystem::path home_, path_;
  bool entered_ = false;
};

class Socket {
 public:
  explicit Socket(int descriptor) noexcept : descriptor_(descriptor) {}
  ~Socket() {
    if (descriptor_ < 0) return;
    // Aborts: leaves no TIME_WAIT.
    const linger abort{1, 0};
    setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
    close(descriptor_);
  }
  Socket(const Socket&) = delete;
  int get() const noexcept { return descriptor_; }

 private:
  int descriptor_;
};

struct Seen {
  std::array<unsigned, tcpinfo::kEventCount> events{};
  unsigned swept = 0;
};

void drive(tcpinfo::Source& source, std::chrono::milliseconds time, Seen& seen, auto&& done) {
  const auto end = Clock::now() + time;
  while (!done() && Clock::now() < end) {
    const auto due = std::min(end, source.next_deadline().value_or(end));
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(due - Clock::now()).count();
    pollfd readable{source.descriptor(), POLLIN, 0};
    poll(&readable, 1, static_cast<int>(std::max<std::int64_t>(wait, 0)));
    if (const auto error = source.tick(Clock::now())) throw tcpinfo::Error(error, "run the source", "");
    const auto result = source.drain([&seen](const tcpinfo::Record& record) {
      if (const auto event = record.event(); event && *event < seen.events.size()) ++seen.events[*event];
      if (record.swept().value_or(0) != 0) ++seen.swept;
    });
    if (result.error) throw tcpinfo::Error(result.error, "run the source", "");
  }
}

// Whether a connection was had; while it was idle, the source was driven long enough for a few sweeps.
bool have_connection(tcpinfo::Source& source, Seen& seen) {
  const Socket listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof(address);
  if (bind(listener.get(), generic, size) != 0 || listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), generic, &size) != 0)
    return false;
  const Socket client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(client.get(), generic, size) != 0) return false;
  const Socket server(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (server.get() < 0) return false;
  drive(source, std::chrono::milliseconds(100), seen, [] { return false; });
  return true;
}

}  // namespace

Trial try_sockops() {
  using tcpinfo::Event;
  Trial trial;
  const SignalsWait wait;
  try {
    TemporaryCgroup cgroup;
    tcpinfo::SockopsOptions options;
    options.cgroup = cgroup.path();
    options.interval = std::chrono::milliseconds(20);
    options.latency = std::chrono::milliseconds(10);
    options.ring_bytes = options.life_cycle_ring_bytes = std::size_t{1} << 18;
    tcpinfo::SockopsSource source(options);
    trial.works = true;
    trial.detail = "attached to a temporary cgroup";
    Seen seen;
    if (cgroup.enter() && have_connection(source, seen)) {
      drive(source, std::chrono::milliseconds(50), seen, [] { return false; });
      const auto count = [&seen](Event event) { return seen.events[static_cast<std::size_t>(event)]; };
      trial.detail += fmt::format("; a loopback connection gave {} open, {} sample ({} swept) and {} close records",
                                  count(Event::kOpen), count(Event::kSample), seen.swept, count(Event::kClose));
      trial.works = count(Event::kOpen) > 0 && count(Event::kClose) > 0 && seen.swept > 0;
      if (!trial.works) trial.way_out = "records are missing: please report this, with the kernel's version";
    } else {
      trial.detail += "; no loopback connection could be made there to see records";
    }
    trial.capabilities = source.capabilities();
  } catch (const tcpinfo::Error& error) {
    trial.works = false;
    trial.detail = error.what();
    trial.way_out = "see what is missing above";
  }
  return trial;
}

namespace {

template <class Source, class Options>
Trial try_snapshot() {
  Trial trial;
  try {
    Source source{Options{}};
    Seen seen;
    const auto is_over = [&source] { return source.statistics().dumps > 0; };
    drive(source, std::chrono::seconds(5), seen, is_over);
    trial.works = is_over();
    trial.detail = trial.works ? fmt::format("this network namespace has {} connections",
                                             seen.events[static_cast<std::size_t>(tcpinfo::Event::kSample)])
                               : "reading the sockets did not end within 5 s";
    trial.capabilities = source.capabilities();
  } catch (const tcpinfo::Error& error) {
    trial.detail = error.what();
    trial.way_out = "see what is missing above";
  }
  return trial;
}

}  // namespace

Trial try_inet_diag() { return try_snapshot<tcpinfo::InetDiagSource, tcpinfo::InetDiagOptions>(); }
Trial try_iter() { return try_snapshot<tcpinfo::IterSource, tcpinfo::IterOptions>(); }

}  // namespace cli
