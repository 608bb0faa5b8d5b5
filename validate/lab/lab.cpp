// SPDX-License-Identifier: BSD-2-Clause
#include "lab/lab.hpp"

#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/error.hpp>

namespace lab {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using tcpinfo::Error;

constexpr const char* kNetnsDirectory = "/run/netns";

[[noreturn]] void fail(int error, std::string action, std::string way_out = {}) {
  throw Error(std::error_code(error, std::system_category()), std::move(action), std::move(way_out));
}

std::string way_out_for(int error) { return error == EPERM || error == EACCES ? "needs root" : ""; }

// Several programs, and several objects in each, make theirs at the same time.
std::string unique_name(std::string_view prefix) {
  static std::atomic<unsigned> counter{0};
  return fmt::format("{}-{}-{}", prefix, getpid(), counter++);
}

int write_text(const fs::path& path, std::string_view text) noexcept {
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.get() < 0 || ::write(fd.get(), text.data(), text.size()) < 0) return errno;
  return 0;
}

void move_to(const fs::path& cgroup, pid_t pid) {
  if (const int error = write_text(cgroup / "cgroup.procs", std::to_string(pid)))
    fail(error, fmt::format("move process {} to cgroup {}", pid, cgroup.string()), way_out_for(error));
}

// Depth first: a cgroup with children cannot be removed.
void remove_cgroup(const fs::path& path, const fs::path& refuge) noexcept {
  try {
    std::vector<fs::path> children;
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.is_directory()) children.push_back(entry.path());
    for (const auto& child : children) remove_cgroup(child, refuge);
    // A process that is forking or exiting meanwhile keeps the cgroup busy for a moment.
    for (int attempt = 0; attempt < 200; ++attempt) {
      std::ifstream processes(path / "cgroup.procs");
      for (std::string pid; std::getline(processes, pid);) write_text(refuge / "cgroup.procs", pid);
      if (::rmdir(path.c_str()) == 0 || errno != EBUSY) return;
      std::this_thread::sleep_for(5ms);
    }
  } catch (const std::exception&) {  // gone already
  }
}

// Runs `function` in a thread of its own, which may leave its namespaces behind for good.
void in_thread(const std::function<void()>& function) {
  std::exception_ptr exception;
  std::thread([&] {
    try {
      function();
    } catch (...) {
      exception = std::current_exception();
    }
  }).join();
  if (exception) std::rethrow_exception(exception);
}

void loopback_up() {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  if (socket.get() < 0 || ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0) fail(errno, "bring up the loopback");
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (ioctl(socket.get(), SIOCSIFFLAGS, &request) != 0) fail(errno, "bring up the loopback");
}

}  // namespace

Cgroup::Cgroup(std::string_view prefix, const fs::path& parent) {
  const auto path = (parent.empty() ? tcpinfo::cgroup2_mount() : parent) / unique_name(prefix);
  if (::mkdir(path.c_str(), 0755) != 0) fail(errno, "make cgroup " + path.string(), way_out_for(errno));
  path_ = path;
}

Cgroup::Cgroup(Cgroup&& other) noexcept { path_.swap(other.path_); }

Cgroup::~Cgroup() {
  if (!path_.empty()) remove_cgroup(path_, path_.parent_path());
}

void Cgroup::enter(pid_t pid) const { move_to(path_, pid); }

// Opened before, as the kernel looks at the privileges of whoever opened it (kernel v6.18 kernel/cgroup/cgroup.c
// __cgroup_procs_write()).
InCgroup::InCgroup(const fs::path& cgroup)
    : back_(::open((tcpinfo::own_cgroup() / "cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC)) {
  if (back_.get() < 0) fail(errno, "open the way back to cgroup " + tcpinfo::own_cgroup().string(), way_out_for(errno));
  move_to(cgroup, 0);
}

InCgroup::~InCgroup() {
  if (::write(back_.get(), "0", 1) != 1) std::terminate();
}

Netns::Netns(std::string_view prefix) {
  const auto name = unique_name(prefix);
  const auto file = fs::path(kNetnsDirectory) / name;
  if (::mkdir(kNetnsDirectory, 0755) != 0 && errno != EEXIST)
    fail(errno, std::string("make directory ") + kNetnsDirectory, way_out_for(errno));
  const Fd mount_point(::open(file.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0));
  if (mount_point.get() < 0) fail(errno, "make " + file.string(), way_out_for(errno));
  try {
    in_thread([&] {
      if (::unshare(CLONE_NEWNET) != 0) fail(errno, "make network namespace " + name, way_out_for(errno));
      loopback_up();
      if (::mount("/proc/thread-self/ns/net", file.c_str(), "none", MS_BIND, nullptr) != 0)
        fail(errno, "mount network namespace " + file.string(), way_out_for(errno));
    });
  } catch (...) {
    ::unlink(file.c_str());
    throw;
  }
  name_ = name;
}

Netns::Netns(Netns&& other) noexcept { name_.swap(other.name_); }

Netns::~Netns() {
  if (name_.empty()) return;
  const auto file = std::string(kNetnsDirectory) + "/" + name_;
  ::umount2(file.c_str(), MNT_DETACH);
  ::unlink(file.c_str());
}

fs::path Netns::path() const { return fs::path(kNetnsDirectory) / name_; }

void Netns::run(const std::function<void()>& function) const {
  const Fd before(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  const Fd inside(::open(path().c_str(), O_RDONLY | O_CLOEXEC));
  if (before.get() < 0 || inside.get() < 0 || ::setns(inside.get(), CLONE_NEWNET) != 0)
    fail(errno, "enter network namespace " + path().string(), way_out_for(errno));
  struct Return {
    int fd;
    // A thread that stayed inside would do all that follows in the wrong namespace.
    ~Return() {
      if (::setns(fd, CLONE_NEWNET) != 0) std::terminate();
    }
  } const go_back{before.get()};
  function();
}

Resident::Resident(const Netns& netns) {
  std::promise<void> entered;
  auto is_inside = entered.get_future();
  thread_ = std::thread([&netns, entered = std::move(entered), over = over_.get_future()]() mutable {
    try {
      netns.run([&] {
        entered.set_value();
        over.wait();
      });
    } catch (...) {
      entered.set_exception(std::current_exception());
    }
  });
  try {
    is_inside.get();
  } catch (...) {
    thread_.join();
    throw;
  }
}

Resident::~Resident() {
  over_.set_value();
  thread_.join();
}

namespace {

void connect(const Netns& a, const std::string& a_device, const Netns& b, const std::string& b_device) {
  run_command(
      {"ip", "link", "add", a_device, "netns", a.name(), "type", "veth", "peer", "name", b_device, "netns", b.name()});
}

void set_up_end(const Netns& end, int host) {
  run_command({"ip", "-n", end.name(), "address", "add", fmt::format("10.77.0.{}/24", host), "dev", "veth0"});
  // Without nodad the address cannot be bound during the first second.
  run_command({"ip", "-n", end.name(), "address", "add", fmt::format("fd77::{}/64", host), "dev", "veth0", "nodad"});
  run_command({"ip", "-n", end.name(), "link", "set", "veth0", "up"});
}

void shape(const Netns& netns, const std::string& device, const LinkOptions& options) {
  if (options.rate_mbit <= 0) return;
  // tbf(8): the bucket must hold what flows between two timer interrupts; a millisecond's worth keeps bursts short, and
  // a few packets are the least that works.
  const auto burst = std::max(options.rate_mbit * 1e6 / 8 / 1000, 10000.0);
  run_command({"tc", "-n", netns.name(), "qdisc", "add", "dev", device, "root", "tbf", "rate",
               fmt::format("{:.0f}bit", options.rate_mbit * 1e6), "burst", fmt::format("{:.0f}", burst), "latency",
               fmt::format("{}ms", options.queue.count())});
}

}  // namespace

void link(const Netns& a, const Netns& b, const LinkOptions& options) {
  connect(a, "veth0", b, "veth0");
  set_up_end(a, 1);
  set_up_end(b, 2);
  shape(a, "veth0", options);
  shape(b, "veth0", options);
}

void link(const Netns& a, const Netns& b, const Netns& middle, const LinkOptions& options) {
  run_command({"ip", "-n", middle.name(), "link", "add", "switch0", "type", "bridge"});
  connect(a, "veth0", middle, "port1");
  connect(b, "veth0", middle, "port2");
  for (const char* port : {"port1", "port2"}) {
    run_command({"ip", "-n", middle.name(), "link", "set", port, "master", "switch0", "up"});
    shape(middle, port, options);
  }
  run_command({"ip", "-n", middle.name(), "link", "set", "switch0", "up"});
  set_up_end(a, 1);
  set_up_end(b, 2);
}

namespace {

// What the child does between its birth and exec: only async-signal-safe calls, all it needs made by the parent.
struct ChildPlan {
  pid_t parent;
  int netns;
  int in, out, err;
  const char* const* argv;
  int report;  // written to when a step fails: errno and the step
};

struct ChildFailure {
  int error;
  enum Step : int { kNetns, kExec } step;
};

[[noreturn]] void become(const ChildPlan& plan) noexcept {
  // PR_SET_PDEATHSIG acts when the thread that made the child ends; the check covers a parent that is gone already.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != plan.parent) ::_exit(127);
  // A Ctrl-C is for us: we tell the children in order.
  ::setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int number : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::signal(number, SIG_DFL);
  ChildFailure failure{0, ChildFailure::kNetns};
  if (plan.netns >= 0 && ::setns(plan.netns, CLONE_NEWNET) != 0) {
    failure.error = errno;
  } else {
    ::dup2(plan.in, 0);
    ::dup2(plan.out, 1);
    ::dup2(plan.err, 2);
    ::execvp(plan.argv[0], const_cast<char* const*>(plan.argv));
    failure = {errno, ChildFailure::kExec};
  }
  [[maybe_unused]] const auto written = ::write(plan.report, &failure, sizeof(failure));
  ::_exit(127);
}

int open_output(const fs::path& file) {
  const auto path = file.empty() ? fs::path("/dev/null") : file;
  // Above the standard descriptors, so that dup2 overwrites none of them.
  const Fd opened(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  const int fd = opened.get() < 0 ? -1 : ::fcntl(opened.get(), F_DUPFD_CLOEXEC, 3);
  if (fd < 0) fail(errno, "open " + path.string());
  return fd;
}

}  // namespace

void run_command(std::vector<std::string> command) {
  const auto text = fmt::format("{}", fmt::join(command, " "));
  Fd output(::memfd_create("command", MFD_CLOEXEC));
  if (output.get() < 0) fail(errno, text);
  SpawnOptions options;
  options.command = std::move(command);
  options.stderr_file = fmt::format("/proc/self/fd/{}", output.get());
  options.stdout_file = options.stderr_file;
  Process process(options);
  const auto status = process.wait(20s);
  if (status && *status == 0) return;
  std::string printed(2000, '\0');
  const auto size = ::pread(output.get(), printed.data(), printed.size(), 0);
  printed.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  std::replace(printed.begin(), printed.end(), '\n', ' ');
  while (printed.ends_with(' ')) printed.pop_back();
  fail(status ? EIO : ETIMEDOUT, "run " + text, printed);
}

Process::Process(const SpawnOptions& options) {
  if (options.command.empty()) fail(EINVAL, "start a process", "the command is empty");
  const auto text = fmt::format("{}", fmt::join(options.command, " "));
  std::vector<const char*> argv;
  for (const auto& argument : options.command) argv.push_back(argument.c_str());
  argv.push_back(nullptr);

  const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Fd in(::fcntl(null.get(), F_DUPFD_CLOEXEC, 3));
  const Fd out(open_output(options.stdout_file));
  const Fd err(options.stderr_file == options.stdout_file ? ::fcntl(out.get(), F_DUPFD_CLOEXEC, 3)
                                                          : open_output(options.stderr_file));
  const Fd netns(options.netns ? ::open(options.netns->path().c_str(), O_RDONLY | O_CLOEXEC) : -1);
  if (options.netns && netns.get() < 0) fail(errno, "open network namespace " + options.netns->path().string());
  const Fd cgroup(options.cgroup ? ::open(options.cgroup->path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC) : -1);
  if (options.cgroup && cgroup.get() < 0) fail(errno, "open cgroup " + options.cgroup->path().string());
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail(errno, "start " + text);
  const Fd report(ends[0]);
  Fd report_write(ends[1]);

  const ChildPlan plan{getpid(), netns.get(), in.get(), out.get(), err.get(), argv.data(), report_write.get()};
  int pidfd = -1;
  clone_args arguments{};
  arguments.flags = CLONE_PIDFD | (options.cgroup ? CLONE_INTO_CGROUP : 0);
  arguments.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  arguments.cgroup = options.cgroup ? static_cast<std::uint64_t>(cgroup.get()) : 0;
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof(arguments)));
  if (pid == 0) become(plan);
  if (pid < 0) fail(errno, "start " + text, way_out_for(errno));
  pid_ = pid;
  pidfd_ = pidfd;

  report_write.reset();
  ChildFailure failure{};
  ssize_t got;
  do got = ::read(report.get(), &failure, sizeof(failure));
  while (got < 0 && errno == EINTR);
  if (got != sizeof(failure)) return;  // exec closed the pipe
  ::waitpid(pid_, nullptr, 0);
  ::close(pidfd_);
  if (failure.step == ChildFailure::kNetns)
    fail(failure.error, "enter network namespace " + options.netns->path().string(), way_out_for(failure.error));
  fail(failure.error, "start " + text,
       failure.error == ENOENT ? fmt::format("{} is not installed or not in PATH", options.command[0]) : "");
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::exchange(other.pidfd_, -1)),
      status_(std::exchange(other.status_, std::nullopt)) {}

Process::~Process() {
  if (pid_ < 0) return;
  if (!status_) {
    signal(SIGTERM);
    try {
      if (!wait(2s)) {
        signal(SIGKILL);
        wait(10s);
      }
    } catch (const std::exception&) {  // not ours to wait for any more
    }
  }
  ::close(pidfd_);
}

std::optional<int> Process::wait(std::chrono::milliseconds timeout) {
  if (status_) return status_;
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd ended{pidfd_, POLLIN, 0};
    const int ready = ::poll(&ended, 1, static_cast<int>(std::max<std::chrono::milliseconds::rep>(left.count(), 0)));
    if (ready == 0) return std::nullopt;
    if (ready < 0 && errno == EINTR) continue;
    int status = 0;
    if (ready < 0 || ::waitpid(pid_, &status, 0) != pid_) fail(errno, fmt::format("wait for process {}", pid_));
    return status_ = status;
  }
}

bool Process::listens(int port) const {
  for (const char* table : {"tcp", "tcp6"}) {
    std::ifstream sockets(fmt::format("/proc/{}/net/{}", pid_, table));
    const auto wanted = fmt::format(":{:04X}", port);
    for (std::string line; std::getline(sockets, line);) {
      std::istringstream columns(line);
      std::string number, local, peer, state;
      columns >> number >> local >> peer >> state;
      if (state == "0A" && local.ends_with(wanted)) return true;
    }
  }
  return false;
}

void Process::signal(int number) const {
  // By the pidfd: the number of a process that was reaped may belong to another one.
  if (pidfd_ >= 0) ::syscall(SYS_pidfd_send_signal, pidfd_, number, nullptr, 0);
}

}  // namespace lab
