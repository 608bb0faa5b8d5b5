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
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/tcpinfo.hpp>

namespace cli {
namespace {

using Clock = tcpinfo::Source::Clock;

constexpr std::chrono::seconds kPatience{5};  // with a busy machine

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

// A cgroup beside this process's, in which the process is while this lives; its own where it may not make one.
class TrialCgroup {
 public:
  TrialCgroup() {
    std::error_code error;
    try {
      path_ = home_ = tcpinfo::own_cgroup();
    } catch (const tcpinfo::Error&) {  // in a container it may lie outside what is mounted
      path_ = home_ = tcpinfo::cgroup2_mount();
    }
    const auto made = home_ / fmt::format("tcpinfo-doctor-{}", getpid());
    if (!std::filesystem::create_directory(made, error)) return;
    if (move_to(made)) {
      path_ = made;
    } else {
      rmdir(made.c_str());
    }
  }
  ~TrialCgroup() {
    if (is_own()) return;
    // A busy kernel may hold on to it for a moment.
    for (int i = 0; i < 100; ++i, std::this_thread::sleep_for(std::chrono::milliseconds(10))) {
      move_to(home_);
      if (rmdir(path_.c_str()) == 0 || errno != EBUSY) break;
    }
  }
  TrialCgroup(const TrialCgroup&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  bool is_own() const noexcept { return path_ == home_; }

 private:
  static bool move_to(const std::filesystem::path& cgroup) {
    std::ofstream processes(cgroup / "cgroup.procs");
    processes << "0" << std::flush;
    return processes.good();
  }

  std::filesystem::path home_, path_;
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

// The two ends of a connection to come.
class Loopback {
 public:
  Loopback() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listens_ = bind(listener_.get(), generic(), size_) == 0 && listen(listener_.get(), 1) == 0 &&
               getsockname(listener_.get(), generic(), &size_) == 0;
  }
  std::uint16_t port() const noexcept { return ntohs(address_.sin_port); }

  // Whether a connection was had; while it was idle, the source was driven until a sweep had found it.
  bool connect_and_drive(tcpinfo::Source& source, Seen& seen) {
    if (!listens_) return false;
    const Socket client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(client.get(), generic(), size_) != 0) return false;
    const Socket server(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (server.get() < 0) return false;
    drive(source, kPatience, seen, [&seen] { return seen.swept > 0; });
    return true;
  }

 private:
  sockaddr* generic() noexcept { return reinterpret_cast<sockaddr*>(&address_); }

  Socket listener_;
  sockaddr_in address_{};
  socklen_t size_ = sizeof(address_);
  bool listens_ = false;
};

// In a process namespace its pid is another one than owners have.
std::string own_name() {
  std::ifstream file("/proc/self/comm");
  std::string name;
  std::getline(file, name);
  return name;
}

void try_sockops(Trial& trial, const TrialCgroup& cgroup, bool drop_then) {
  using tcpinfo::Event;
  Loopback loopback;
  tcpinfo::SockopsOptions options;
  options.cgroup = cgroup.path();
  options.interval = std::chrono::milliseconds(20);
  options.latency = std::chrono::milliseconds(10);
  options.ring_bytes = options.life_cycle_ring_bytes = std::size_t{1} << 18;
  if (loopback.port() != 0) options.filter = tcpinfo::Filter::parse(fmt::format("port == {}", loopback.port()));
  tcpinfo::SockopsSource source(options);
  if (drop_then) tcpinfo::Privileges::drop({});
  trial.works = true;
  trial.detail = fmt::format("attached to {}", cgroup.is_own() ? "this process's own cgroup" : "a temporary cgroup");
  Seen seen;
  if (loopback.connect_and_drive(source, seen)) {
    const auto count = [&seen](Event event) { return seen.events[static_cast<std::size_t>(event)]; };
    drive(source, kPatience, seen, [&count] { return count(Event::kClose) == 2; });
    trial.detail += fmt::format("; a loopback connection gave {} open, {} sample ({} swept) and {} close records",
                                count(Event::kOpen), count(Event::kSample), seen.swept, count(Event::kClose));
    trial.works = count(Event::kOpen) > 0 && count(Event::kClose) > 0 && seen.swept > 0;
    if (!trial.works) trial.way_out = "records are missing: please report this, with the kernel's version";
  } else {
    trial.detail += "; no loopback connection could be made there to see records";
  }
  trial.capabilities = source.capabilities();
}

template <class Source, class Options>
void try_snapshot(Trial& trial, bool drop_then) {
  Source source{Options{}};
  if (drop_then) tcpinfo::Privileges::drop({});
  Seen seen;
  const auto is_over = [&source] { return source.statistics().dumps > 0; };
  drive(source, kPatience, seen, is_over);
  trial.works = is_over();
  trial.detail = trial.works ? fmt::format("this network namespace has {} connections",
                                           seen.events[static_cast<std::size_t>(tcpinfo::Event::kSample)])
                             : "reading the sockets did not end within 5 s";
  trial.capabilities = source.capabilities();
}

}  // namespace

Trial try_source(tcpinfo::SourceId source, const With& with) {
  Trial trial;
  const SignalsWait wait;
  std::optional<TrialCgroup> cgroup;
  const auto run = [&] {
    try {
      if (with.to_open) tcpinfo::Privileges::drop(*with.to_open);
      switch (source) {
        case tcpinfo::SourceId::kSockops:
          return try_sockops(trial, *cgroup, with.drop_then);
        case tcpinfo::SourceId::kInetDiag:
          return try_snapshot<tcpinfo::InetDiagSource, tcpinfo::InetDiagOptions>(trial, with.drop_then);
        case tcpinfo::SourceId::kIter:
          return try_snapshot<tcpinfo::IterSource, tcpinfo::IterOptions>(trial, with.drop_then);
        case tcpinfo::SourceId::kGetsockopt:
          break;
      }
    } catch (const tcpinfo::Error& error) {
      trial.works = false;
      trial.detail = error.what();
      trial.way_out = "see what is missing above";
    }
  };
  try {
    if (source == tcpinfo::SourceId::kSockops) cgroup.emplace();
  } catch (const tcpinfo::Error& error) {
    trial.detail = error.what();
    trial.way_out = "see what is missing above";
    return trial;
  }
  // What a thread drops ends with it.
  std::thread(run).join();
  return trial;
}

Trial try_owners() {
  Trial trial;
  try {
    const Loopback listener;
    tcpinfo::InetDiagOptions options;
    options.states = tcpinfo::kListenState;
    options.filter = tcpinfo::Filter::parse(fmt::format("local_port == {}", listener.port()));
    tcpinfo::InetDiagSource source(options);
    tcpinfo::Owners owners;
    trial.capabilities = owners.capabilities();
    std::vector<tcpinfo_record> found;
    const auto error = source.tick(Clock::now());
    while (!error && source.statistics().dumps == 0)
      if (source.drain([&](const tcpinfo::Record& record) { found.push_back(record.raw()); }).error) break;
    for (const auto& raw : found) owners.find(tcpinfo::Record(raw));
    static_cast<void>(owners.refresh());
    for (const auto& raw : found) {
      const auto* owner = owners.find(tcpinfo::Record(raw));
      trial.works |= owner && owner->comm == own_name();
    }
    trial.detail = trial.works ? "this process was found as the one that holds a listener it made"
                               : "this process was not found as the one that holds a listener it made";
    if (!trial.works) trial.way_out = "records will name no owner, or who made the socket; see below how each is found";
  } catch (const tcpinfo::Error& error) {
    trial.detail = error.what();
  }
  return trial;
}

}  // namespace cli
