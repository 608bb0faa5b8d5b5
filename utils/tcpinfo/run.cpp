// SPDX-License-Identifier: BSD-2-Clause
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <tcpinfo/tcpinfo.hpp>

#include "command.hpp"
#include "open.hpp"
#include "output.hpp"
#include "printer.hpp"
#include "record_writer.hpp"
#include "stream.hpp"

namespace cli {
namespace {

constexpr const char* kPrefix = "tcpinfo-run";

struct Arguments {
  StreamArguments stream;
  std::optional<std::string> format, output, parent;
  std::vector<std::string> fields;
  bool wait = false;
};

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const noexcept { return fd_; }

 private:
  int fd_ = -1;
};

// While the command runs, the signals that would end it are its own: those that somebody sent to us are passed on to
// it. What a terminal sends reaches it anyway, as a member of the foreground group.
namespace relay {

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGQUIT};

volatile std::sig_atomic_t command = 0;  // its pid, while it runs
volatile std::sig_atomic_t own = 0;      // what came before it ran, or after

bool command_runs() noexcept {
  siginfo_t ended{};
  return command != 0 &&
         (::waitid(P_PID, static_cast<id_t>(command), &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid == 0);
}

void pass_on(int number, siginfo_t* info, void*) {
  const int saved = errno;
  if (!command_runs())
    own = number;
  else if (info->si_code != SI_KERNEL)
    ::kill(static_cast<pid_t>(command), number);
  errno = saved;
}

// Not restarted: after the command's end a write to a reader that takes nothing has to end.
void install() {
  struct sigaction action {};
  action.sa_sigaction = pass_on;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  for (const int number : kSignals) {
    struct sigaction old {};
    // What nohup or a shell's & ignores stays ignored, by the command too.
    if (sigaction(number, nullptr, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
}

}  // namespace relay

// What goes wrong in the child between its birth and exec.
struct Stumble {
  bool in_cgroup;
  int error;
};

// Only calls that are safe in a signal handler: in a program with threads others may hold any lock.
[[noreturn]] void become(char* const* words, int enter, int report, const sigset_t& mask) noexcept {
  Stumble stumble{false, 0};
  if (enter >= 0 && ::write(enter, "0", 1) != 1) {
    stumble = {true, errno};
  } else {
    for (const int number : relay::kSignals) {
      struct sigaction action {};
      if (sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) ::signal(number, SIG_DFL);
    }
    ::signal(SIGPIPE, sigpipe_at_start);
    ::sigprocmask(SIG_SETMASK, &mask, nullptr);
    ::execvp(words[0], words);
    stumble.error = errno;
  }
  [[maybe_unused]] const auto written = ::write(report, &stumble, sizeof(stumble));
  ::_exit(127);
}

class Child final : public Companion {
 public:
  Child(std::vector<std::string> words, tcpinfo::TransientCgroup& cgroup, bool wait_for_all)
      : words_(std::move(words)), cgroup_(cgroup), wait_for_all_(wait_for_all) {}

  bool started() const noexcept { return pid_ > 0; }
  int descriptor() const noexcept override { return events_.get() >= 0 ? events_.get() : process_.get(); }

  void start() override {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("start", errno);
    const Descriptor report(ends[0]);
    Descriptor report_end(ends[1]);
    std::vector<char*> words;
    for (auto& word : words_) words.push_back(word.data());
    words.push_back(nullptr);

    sigset_t all, mask;
    sigfillset(&all);
    ::sigprocmask(SIG_SETMASK, &all, &mask);
    // From here on a signal waits, and is passed on.
    const int early = relay::own;
    const int error = early ? 0 : bear(words.data(), report_end.get(), mask);
    relay::command = pid_;
    ::sigprocmask(SIG_SETMASK, &mask, nullptr);
    if (early) throw Failure(static_cast<Exit>(128 + early), "a signal came before the command began");
    if (error) fail(fmt::format("start, in cgroup {},", cgroup_.path().string()), error);

    report_end = {};
    Stumble stumble{};
    ssize_t got;
    do got = ::read(report.get(), &stumble, sizeof(stumble));
    while (got < 0 && errno == EINTR);
    if (got != sizeof(stumble)) return;
    reap();
    pid_ = 0;
    if (stumble.in_cgroup) fail(fmt::format("start, in cgroup {},", cgroup_.path().string()), stumble.error);
    throw Failure(static_cast<Exit>(stumble.error == ENOENT ? 127 : 126),
                  fmt::format("start {}: {}", words_[0], std::strerror(stumble.error)));
  }

  Next proceed() override {
    reap();
    // Removed while its sockets are still closing, it tells the source when the last of them is gone.
    if (!cgroup_.remove()) return Next::kLast;
    if (!wait_for_all_) return Next::kEnd;
    if (events_.get() < 0) {
      events_ = Descriptor(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
      const auto path = cgroup_.path() / "cgroup.events";
      if (events_.get() < 0 || ::inotify_add_watch(events_.get(), path.c_str(), IN_MODIFY) < 0)
        throw Failure(kFailed, fmt::format("watch {}: {}", path.string(), std::strerror(errno)));
      // It may have become empty before it was watched.
      if (!cgroup_.populated()) return proceed();
    }
    char events[4096];
    while (::read(events_.get(), events, sizeof(events)) > 0) {
    }
    return Next::kWait;
  }

  bool goes_on(int output) override {
    pollfd events[] = {{output, POLLOUT, 0}, {process_.get(), POLLIN, 0}};
    while (!reaped_ && ::poll(events, std::size(events), -1) < 0 && errno == EINTR) {
    }
    return !reaped_ && events[1].revents == 0;
  }
  bool signalled() const noexcept override { return relay::own != 0; }

  /// Waits until it has ended; what a shell would say of its end.
  int exit_code() {
    reap();
    return WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_);
  }

 private:
  [[noreturn]] void fail(const std::string& action, int error) const {
    throw tcpinfo::Error({error, std::generic_category()}, fmt::format("{} {}", action, words_[0]),
                         error == EACCES || error == EPERM ? "needs the right to put processes there" : "");
  }

  // Born in the cgroup, or where that is refused, as by the seccomp filters of containers, moved there before exec.
  int bear(char* const* words, int report, const sigset_t& mask) {
    int process = -1;
    clone_args arguments{};
    arguments.flags = CLONE_PIDFD | CLONE_INTO_CGROUP;
    arguments.pidfd = reinterpret_cast<std::uintptr_t>(&process);
    arguments.exit_signal = SIGCHLD;
    arguments.cgroup = static_cast<std::uint64_t>(cgroup_.descriptor());
    auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof(arguments)));
    if (pid == 0) become(words, -1, report, mask);
    if (pid < 0 && (errno == ENOSYS || errno == EPERM)) {
      const Descriptor enter(::openat(cgroup_.descriptor(), "cgroup.procs", O_WRONLY | O_CLOEXEC));
      if (enter.get() < 0) return errno;
      pid = ::fork();
      if (pid == 0) become(words, enter.get(), report, mask);
      if (pid > 0) process = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
    }
    if (pid < 0) return errno;
    process_ = Descriptor(process);
    pid_ = pid;
    return 0;
  }

  void reap() {
    if (reaped_ || pid_ <= 0) return;
    siginfo_t ended{};
    // The pid must not become another's while a signal may still be passed on to it.
    while (::waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
    }
    relay::command = 0;
    while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
    }
    reaped_ = true;
  }

  std::vector<std::string> words_;
  tcpinfo::TransientCgroup& cgroup_;
  bool wait_for_all_;
  pid_t pid_ = 0;
  Descriptor process_, events_;
  int status_ = 0;
  bool reaped_ = false;
};

std::string name_of(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/comm", pid));
  std::string name;
  std::getline(file, name);
  return fmt::format("{} ({})", pid, name);
}

void tell_of_left_overs(const tcpinfo::TransientCgroup& cgroup) {
  constexpr std::size_t kMost = 10;
  const auto processes = tcpinfo::cgroup_processes(cgroup.path());
  std::vector<std::string> names;
  for (std::size_t i = 0; i < std::min(kMost, processes.size()); ++i) names.push_back(name_of(processes[i]));
  if (processes.size() > kMost) names.push_back("...");
  fmt::print(
      stderr,
      "tcpinfo: {} process{} that the command started {} on, watched no more: {}; cgroup {} stays. When they have "
      "ended, the next tcpinfo run removes it, or rmdir does\n",
      processes.size(), processes.size() == 1 ? "" : "es", processes.size() == 1 ? "goes" : "go",
      fmt::join(names, ", "), cgroup.path().string());
}

Output open_output(const std::optional<std::string>& name) {
  if (!name) return Output::standard_error();
  return *name == "-" ? Output::standard() : Output::create(*name);
}

Exit run(const Arguments& given, const std::vector<std::string>& words) {
  if (words.empty()) usage_error("no command: it comes after --, as tcpinfo run -- curl http://example.org");
  if (given.output && given.output->empty()) usage_error("--output: the name is empty");
  if (given.parent && given.parent->empty()) usage_error("--parent: the path is empty");
  auto settings = check(given.stream);
  const auto fields = parse_fields(given.fields);
  const auto home = given.parent ? std::filesystem::path(*given.parent) : tcpinfo::own_cgroup();

  tcpinfo::TransientCgroup::remove_stale(kPrefix, home);
  tcpinfo::TransientCgroup cgroup(kPrefix, home);
  settings.cgroup = cgroup.path();
  settings.executes = true;
  relay::install();
  Child child(words, cgroup, given.wait);
  std::optional<std::string> failure;
  try {
    auto output = open_output(given.output);
    const auto format = parse_format(given.format, output.descriptor());
    Printer printer(std::move(output), format, fields,
                    settings.owners ? std::optional(owners_of(settings.cgroup)) : std::nullopt);
    run_stream(
        settings, [&] { return open(settings); }, printer, &child);
  } catch (const OutputClosed& error) {
    failure = error.what();
    if (!child.started()) throw Failure(kFailed, *failure);
  } catch (const std::exception& error) {
    if (!child.started()) throw;
    failure = error.what();
  }
  // The records may have ended before the command.
  if (failure) fmt::print(stderr, "tcpinfo: {}\n", *failure);
  const int code = child.exit_code();
  if (cgroup.remove()) tell_of_left_overs(cgroup);
  return static_cast<Exit>(code == 0 && failure ? kFailed : code);
}

}  // namespace

void add_run(CLI::App& app, Command& chosen, std::vector<std::string> words) {
  auto* command = app.add_subcommand(
      "run", "Run a command and print records of every TCP connection that it and its children make");
  auto given = std::make_shared<Arguments>();
  add_stream_options(*command, given->stream);
  // The cgroup is new, its command is started where this is, and what it needs of privileges nobody knows.
  for (const char* name :
       {"--cgroup", "--pid", "--unit", "--netns", "--no-adopt", "--keep-privileges", "--pin", "--pin-link"})
    command->remove_option(command->get_option(name));
  const auto option = [&](const char* name, auto& into, const char* type, const char* text) {
    return command->add_option(name, into, text)->type_name(type);
  };
  option("-o,--output", given->output, "FILE",
         "Where records go; -: standard output, shared with the command [standard error]");
  command->add_flag("--wait", given->wait, "Go on after the command's end until its last descendant has ended");
  option("--parent", given->parent, "PATH", "Make the command's cgroup below this one [the caller's own]");
  option("--fields", given->fields, "NAMES", "Only these fields, in this order, as rtt,snd_cwnd (see tcpinfo fields)")
      ->delimiter(',');
  option("--format", given->format, "FORMAT", "table, jsonl or csv [table on a terminal, else jsonl]");
  command->footer(
      "After the options: -- COMMAND [ARGUMENT...]\n"
      "\n"
      "Examples:\n"
      "  tcpinfo run -- curl -sO http://example.org/file                 a table on the terminal, beside its output\n"
      "  tcpinfo run --mode close -o totals.jsonl -- make download       final totals of each connection\n"
      "  tcpinfo run -o records.csv --format csv -- pg_dump shop | gzip > shop.gz\n"
      "  tcpinfo run --wait -o - -- /etc/init.d/nginx start              until the last of its processes has ended\n"
      "\n"
      "The command is born in a new cgroup to which the source is attached already: no connection is missed,\n"
      "whoever of its descendants makes it. It keeps standard input, output and error, and every descriptor that it\n"
      "was given; records go to standard error unless --output names a file, so that its output stays as it is.\n"
      "SIGTERM, SIGHUP, SIGINT and SIGQUIT that are sent to tcpinfo are passed on to the command while it runs, and\n"
      "what a terminal sends reaches both; the records go on. After its end, with --wait, each of them ends the\n"
      "stream. No privileges are dropped: the command has them too. The stream ends with the command, after a\n"
      "second at most in which its last connections close. Its other processes are left alone and named. After\n"
      "--duration or --count nothing more is printed, and the command goes on. If tcpinfo is killed (SIGKILL) the\n"
      "command goes on; its cgroup, tcpinfo-run-PID-N, is removed by the next tcpinfo run once it is empty.\n"
      "\n"
      "Exit code: that of the command, 128 + N if signal N ended it, 127 if it is not found, 126 if it cannot be\n"
      "started. Where it never began, 1, 2 or 77 as everywhere; 1 also where it succeeded and its records could not\n"
      "be written.");
  command->callback(
      [given, &chosen, words = std::move(words)] { chosen = [given, words] { return run(*given, words); }; });
}

}  // namespace cli
