// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "lab/fd.hpp"

/// What tests and the validator make on the real kernel and take away again: cgroups, network namespaces, processes.
/// Every object undoes itself in its destructor, also when a test or a run fails. Needs root. All throw tcpinfo::Error.
namespace lab {

/// A new cgroup below the cgroup v2 mount (or below `parent`), named `prefix` and a unique number.
class Cgroup {
 public:
  explicit Cgroup(std::string_view prefix, const std::filesystem::path& parent = {});
  Cgroup(Cgroup&&) noexcept;
  ~Cgroup();  ///< moves its processes to the parent's cgroup, removes it and the cgroups below it

  const std::filesystem::path& path() const noexcept { return path_; }
  /// Moves a process into it (0: this one). Sockets that exist already stay where they were made.
  void enter(pid_t pid = 0) const;

 private:
  std::filesystem::path path_;
};

/// This process is inside `cgroup` while this lives, and back in its old one afterwards, also where a thread has
/// dropped its privileges meanwhile (kernel 5.16 and newer).
class InCgroup {
 public:
  explicit InCgroup(const Cgroup& cgroup) : InCgroup(cgroup.path()) {}
  explicit InCgroup(const std::filesystem::path& cgroup);
  ~InCgroup();  ///< ends the process if it cannot go back: all that follows would be in the wrong cgroup
  InCgroup(const InCgroup&) = delete;

 private:
  Fd back_;
};

/// A new network namespace, visible as /run/netns/NAME, with its loopback up.
class Netns {
 public:
  explicit Netns(std::string_view prefix);
  Netns(Netns&&) noexcept;
  ~Netns();

  const std::string& name() const noexcept { return name_; }
  std::filesystem::path path() const;
  /// Calls `function` with this thread inside the namespace: sockets made there stay in it.
  void run(const std::function<void()>& function) const;

 private:
  std::string name_;
};

/// A thread of this process that does nothing in a namespace. Who looks for the namespaces of a cgroup's threads finds it.
class Resident {
 public:
  explicit Resident(const Netns& netns);
  ~Resident();
  Resident(const Resident&) = delete;

 private:
  std::promise<void> over_;
  std::thread thread_;
};

struct LinkOptions {
  double rate_mbit = 0;  ///< both ways, by tbf; 0: unlimited
  std::chrono::milliseconds queue{20};  ///< the longest that tbf keeps a packet
};

/// A pair of virtual Ethernet devices between two namespaces: 10.77.0.1/24, fd77::1/64 in `a`, 10.77.0.2, fd77::2 in `b`.
/// Gone with the namespaces.
void link(const Netns& a, const Netns& b, const LinkOptions& options = {});

/// The same through a switch in a third namespace, which holds the queues. A packet that the sender's own queue drops is
/// sent again without counting as retransmitted, and TCP small queues keep that queue short: losses as on a real path
/// need a queue elsewhere.
void link(const Netns& a, const Netns& b, const Netns& middle, const LinkOptions& options = {});

struct SpawnOptions {
  std::vector<std::string> command = {};
  const Cgroup* cgroup = nullptr;  ///< born inside it (clone3, CLONE_INTO_CGROUP)
  const Netns* netns = nullptr;
  std::filesystem::path stdout_file = {};  ///< empty: /dev/null
  std::filesystem::path stderr_file = {};
};

/// A child process; ended (SIGTERM, then SIGKILL) and reaped when this goes.
class Process {
 public:
  explicit Process(const SpawnOptions& options);
  Process(Process&&) noexcept;
  ~Process();

  pid_t pid() const noexcept { return pid_; }
  int pidfd() const noexcept { return pidfd_; }  ///< readable when it has ended
  /// Its exit status as waitpid gives it, or nothing if it still runs after `timeout`.
  std::optional<int> wait(std::chrono::milliseconds timeout);
  /// Whether a TCP socket in its network namespace listens on `port`.
  bool listens(int port) const;
  void signal(int number) const;

 private:
  pid_t pid_ = -1;
  int pidfd_ = -1;
  std::optional<int> status_;
};

/// Runs a command to its end; throws with what it printed if it failed.
void run_command(std::vector<std::string> command);

}  // namespace lab
