// SPDX-License-Identifier: BSD-2-Clause
#include "crowd.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

#include "lab/fd.hpp"

namespace bench {
namespace {

using lab::Fd;

// The local ports of one address and port are about 28,000, and connect() takes every second one of them at once.
constexpr std::size_t kMaxConnections = 10'000;
constexpr std::size_t kOtherDescriptors = 100;

[[noreturn]] void fail(int error, std::string action, std::string way_out = {}) {
  throw tcpinfo::Error(std::error_code(error, std::system_category()), std::move(action), std::move(way_out));
}

// What a child is told, all made by the parent: it makes only async-signal-safe calls.
struct Plan {
  pid_t parent;
  int netns;
  int report;
  rlimit descriptors;
  std::uint32_t address;  // of its listener, host byte order
  std::size_t connections;
  std::atomic<std::uint32_t>* made;  // shared with the parent
};

// errno of the step that failed, or 0: all are established.
struct Report {
  int error;
  enum Step : int { kDone, kNetns, kListen, kConnect, kAccept } step;
};

const char* text(Report::Step step) {
  switch (step) {
    case Report::kNetns:
      return "enter the network namespace";
    case Report::kListen:
      return "listen";
    case Report::kConnect:
      return "connect";
    case Report::kAccept:
      return "accept";
    case Report::kDone:
      break;
  }
  return "";
}

// Whichever end goes first resets the connection.
bool set_abortive(int socket) noexcept {
  const linger option{.l_onoff = 1, .l_linger = 0};
  return ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &option, sizeof(option)) == 0;
}

Report fill(const Plan& plan) noexcept {
  if (::setns(plan.netns, CLONE_NEWNET) != 0) return {errno, Report::kNetns};
  // Descriptors of the parent would count here, and what they keep alive would outlive it.
  ::dup2(plan.report, 0);
  ::close_range(1, ~0U, 0);
  ::setrlimit(RLIMIT_NOFILE, &plan.descriptors);

  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(plan.address);
  socklen_t length = sizeof(address);
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  if (listener < 0 || !set_abortive(listener) || ::bind(listener, name, length) != 0 || ::listen(listener, 16) != 0 ||
      ::getsockname(listener, name, &length) != 0)
    return {errno, Report::kListen};
  for (std::size_t i = 0; i < plan.connections; ++i) {
    const int client = ::socket(AF_INET, SOCK_STREAM, 0);
    if (client < 0 || !set_abortive(client) || ::connect(client, name, length) != 0) return {errno, Report::kConnect};
    if (::accept(listener, nullptr, nullptr) < 0) return {errno, Report::kAccept};
    plan.made->fetch_add(1, std::memory_order_relaxed);
  }
  ::close(listener);
  return {0, Report::kDone};
}

[[noreturn]] void hold(const Plan& plan) noexcept {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != plan.parent) ::_exit(127);
  ::setpgid(0, 0);  // a Ctrl-C is for the parent
  const Report report = fill(plan);
  const int descriptor = report.step == Report::kNetns ? plan.report : 0;
  if (::write(descriptor, &report, sizeof(report)) != sizeof(report) || report.error) ::_exit(1);
  for (;;) ::pause();
}

// Counters that the children write and the parent reads.
class Shared {
 public:
  explicit Shared(std::size_t count) : bytes_(count * sizeof(std::atomic<std::uint32_t>)) {
    memory_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) fail(errno, "share memory with the processes of a crowd");
    counters_ = {new (memory_) std::atomic<std::uint32_t>[count], count};
  }
  ~Shared() { ::munmap(memory_, bytes_); }
  Shared(const Shared&) = delete;

  std::atomic<std::uint32_t>& operator[](std::size_t i) const { return counters_[i]; }
  std::size_t sum() const {
    std::size_t total = 0;
    for (const auto& counter : counters_) total += counter.load(std::memory_order_relaxed);
    return total;
  }

 private:
  std::size_t bytes_;
  void* memory_;
  std::span<std::atomic<std::uint32_t>> counters_;
};

struct Child {
  pid_t pid;
  Fd pidfd;
  Fd report;
};

}  // namespace

struct Crowd::Impl {
  std::size_t sockets = 0;
  std::vector<Child> children;

  ~Impl() {
    for (const auto& child : children) ::syscall(SYS_pidfd_send_signal, child.pidfd.get(), SIGKILL, nullptr, 0);
    // A process that is reaped has closed its sockets.
    for (const auto& child : children)
      while (::waitpid(child.pid, nullptr, 0) < 0 && errno == EINTR) {
      }
  }

  void start(const Plan& common, int cgroup, Fd report) {
    int pidfd = -1;
    clone_args arguments{};
    arguments.flags = CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0);
    arguments.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
    arguments.exit_signal = SIGCHLD;
    arguments.cgroup = cgroup >= 0 ? static_cast<std::uint64_t>(cgroup) : 0;
    children.reserve(children.size() + 1);  // what was started is not lost
    const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof(arguments)));
    if (pid == 0) hold(common);
    if (pid < 0) fail(errno, "start a process of a crowd", errno == EPERM ? "needs root" : "");
    children.push_back({pid, Fd(pidfd), std::move(report)});
  }

  void wait(const Shared& made, const std::function<void(std::string_view)>& progress) {
    using namespace std::chrono_literals;
    std::vector<pollfd> waiting;
    for (const auto& child : children) waiting.push_back({child.report.get(), POLLIN, 0});
    auto next_line = std::chrono::steady_clock::now() + 2s;
    while (!waiting.empty()) {
      if (::poll(waiting.data(), waiting.size(), 200) < 0 && errno != EINTR) fail(errno, "wait for a crowd");
      std::erase_if(waiting, [](const pollfd& one) {
        if (!one.revents) return false;
        Report report{};
        const auto got = ::read(one.fd, &report, sizeof(report));
        if (got != sizeof(report)) fail(ECHILD, "make a crowd of sockets", "one of its processes died: out of memory?");
        if (report.error)
          fail(report.error, fmt::format("make a crowd of sockets: {}", text(report.step)),
               report.error == EMFILE || report.error == ENFILE ? "raise the limits of open files" : "");
        return true;
      });
      if (const auto now = std::chrono::steady_clock::now(); progress && !waiting.empty() && now >= next_line) {
        next_line = now + 2s;
        progress(fmt::format("{} of {} sockets", 2 * made.sum(), sockets));
      }
    }
  }
};

Crowd::Crowd(const CrowdOptions& options) : impl_(std::make_unique<Impl>()) {
  impl_->sockets = options.sockets;
  const Fd netns(::open(options.netns->path().c_str(), O_RDONLY | O_CLOEXEC));
  if (netns.get() < 0) fail(errno, "open network namespace " + options.netns->path().string());
  const Fd cgroup(options.cgroup ? ::open(options.cgroup->path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC) : -1);
  if (options.cgroup && cgroup.get() < 0) fail(errno, "open cgroup " + options.cgroup->path().string());

  Plan plan{};
  plan.parent = ::getpid();
  plan.netns = netns.get();
  if (::getrlimit(RLIMIT_NOFILE, &plan.descriptors) != 0) fail(errno, "read the limit of open files");
  plan.descriptors.rlim_cur = plan.descriptors.rlim_max;
  if (plan.descriptors.rlim_max < kOtherDescriptors + 2)
    fail(EMFILE, "make a crowd of sockets", "raise the hard limit of open files (ulimit -Hn)");
  const std::size_t each = std::min<std::size_t>(kMaxConnections, (plan.descriptors.rlim_max - kOtherDescriptors) / 2);

  const std::size_t connections = options.sockets / 2;
  const std::size_t processes = (connections + each - 1) / each;
  if (processes == 0) return;
  const Shared made(processes);
  for (std::size_t i = 0; i < processes; ++i) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail(errno, "make a crowd of sockets");
    Fd read_end(ends[0]);
    const Fd write_end(ends[1]);
    plan.report = write_end.get();
    plan.address = (127u << 24 | 1u << 16) + static_cast<std::uint32_t>(i + 1);
    plan.connections = connections / processes + (i < connections % processes ? 1 : 0);
    plan.made = &made[i];
    impl_->start(plan, cgroup.get(), std::move(read_end));
  }
  impl_->wait(made, options.progress);
}

Crowd::Crowd(Crowd&&) noexcept = default;
Crowd& Crowd::operator=(Crowd&&) noexcept = default;
Crowd::~Crowd() = default;

std::size_t Crowd::size() const noexcept { return impl_->sockets; }

}  // namespace bench
