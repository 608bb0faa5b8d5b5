// SPDX-License-Identifier: BSD-2-Clause
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstddef>
#include <exception>
#include <fstream>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <tcpinfo/error.hpp>

#include "lab/fd.hpp"
#include "load.hpp"
#include "rows.hpp"

namespace endurance {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

[[noreturn]] void fail_with_errno(const char* action) {
  throw tcpinfo::Error({errno, std::system_category()}, action, "");
}

/// From now on the creation of a BPF map by this thread, and by processes that it begins, waits for the answer of who
/// holds this. A thread cannot get rid of it again.
lab::Fd intercept_map_creation() {
  const sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_bpf, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, BPF_MAP_CREATE, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(filter), const_cast<sock_filter*>(filter)};
  lab::Fd listener(
      static_cast<int>(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program)));
  if (listener.get() < 0) fail_with_errno("intercept the creation of maps");
  return listener;
}

/// The name of the map that a process is about to create.
std::string name_of(const seccomp_notif& call) {
  char name[BPF_OBJ_NAME_LEN + 1] = {};
  const iovec to{name, BPF_OBJ_NAME_LEN};
  const iovec from{reinterpret_cast<void*>(call.data.args[1] + offsetof(bpf_attr, map_name)), BPF_OBJ_NAME_LEN};
  if (::process_vm_readv(static_cast<pid_t>(call.pid), &to, 1, &from, 1, 0) < 0) fail_with_errno("read a map's name");
  return name;
}

struct Trial {
  int asked = 0;        ///< map creations
  std::string refused;  ///< its name; empty: none was
  bool was_attached = false;
  bool is_detached = false;
  std::optional<int> exit_code;
  std::string said, told;
};

/// A tcpinfo of which the map creation with this number, from 0, and all that follow are answered ENOMEM; ended in
/// order where it begins.
Trial try_without(const FaultOptions& options, const lab::Cgroup& cgroup, int number) {
  Trial trial;
  const auto listener = intercept_map_creation();
  Tcpinfo run(options.tcpinfo, options.out / "no-map", cgroup, {"watch", "--owner", "--keep-privileges"},
              Tcpinfo::Start::kBegun);
  for (const auto end = steady_clock::now() + 60s; !run.has_ended();) {
    if (steady_clock::now() > end) fail("answer a tcpinfo that creates maps: it goes on");
    if (!trial.was_attached && attached(cgroup) == 2) {
      trial.was_attached = true;
      run.signal(SIGINT);
    }
    pollfd call_waits{listener.get(), POLLIN, 0};
    if (::poll(&call_waits, 1, 5) <= 0 || (call_waits.revents & POLLIN) == 0) continue;
    seccomp_notif call{};
    if (::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) continue;  // it died meanwhile
    seccomp_notif_resp answer{call.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    if (trial.asked++ >= number) {
      if (trial.refused.empty()) trial.refused = name_of(call);
      answer.flags = 0;
      answer.error = -ENOMEM;
    }
    static_cast<void>(::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_SEND, &answer));
  }
  run.end(std::nullopt);
  trial.is_detached = detached(cgroup);
  trial.exit_code = run.exit_code();
  trial.said = run.said();
  trial.told = run.told();
  return trial;
}

/// In a thread of its own, which takes the filter with it.
Trial try_without_in_thread(const FaultOptions& options, const lab::Cgroup& cgroup, int number) {
  Trial trial;
  std::exception_ptr error;
  std::thread([&] {
    try {
      trial = try_without(options, cgroup, number);
    } catch (...) {
      error = std::current_exception();
    }
  }).join();
  if (error) std::rethrow_exception(error);
  return trial;
}

}  // namespace

Row no_socket_storage(const FaultOptions& options) {
  const lab::Netns netns("endure-memory");
  netns.run([] {
    std::ofstream file("/proc/sys/net/core/optmem_max");
    if (!(file << "64" << std::flush)) fail("write /proc/sys/net/core/optmem_max");
  });
  const lab::Cgroup cgroup("endure-memory");
  Tcpinfo run(options.tcpinfo, options.out / "no-socket-storage", cgroup, {"watch"});
  Load load(netns, cgroup, {.rate = 200});
  std::this_thread::sleep_for(1s);
  const auto ends = 2 * load.stop().size();
  run.end(SIGINT);
  const Books books(run.stats());
  Row row{.fault = "The kernel refuses memory for a connection",
          .injected = "`net.core.optmem_max` = 64: no socket storage"};
  row.lost = fmt::format("{} of {} ends not followed, counted as untracked", books.untracked, ends);
  row.seen = run.told();
  row.held = run.exit_code() == 0 && ends > 0 && books.balance() && books.untracked == ends;
  return row;
}

Row no_map(const FaultOptions& options) {
  const lab::Cgroup cgroup("endure-map");
  const auto all = try_without_in_thread(options, cgroup, INT_MAX);
  bool held = all.was_attached && all.is_detached && all.exit_code == 0 && all.asked > 0;
  int refused = 0;
  std::set<std::string> spared, sentences;
  for (int i = 0; i < all.asked; ++i) {
    const auto trial = try_without_in_thread(options, cgroup, i);
    held &= trial.is_detached;
    if (trial.was_attached) {
      held &= trial.exit_code == 0;
      spared.insert(trial.refused);
      continue;
    }
    ++refused;
    held &= trial.exit_code.value_or(0) != 0 && trial.said.find("Cannot allocate memory") != std::string::npos;
    sentences.insert(trial.told);
  }
  Row row{.fault = "The kernel refuses memory for a map"};
  row.injected = fmt::format(
      "of the {} map creations of a start with `--owner` the first, the second, ... and all after it are answered "
      "ENOMEM "
      "(seccomp)",
      all.asked);
  row.lost = fmt::format("{} starts were refused and left nothing attached", refused);
  if (!spared.empty()) row.lost += fmt::format("; {} went on without {}", all.asked - refused, fmt::join(spared, ", "));
  row.seen = fmt::format("{}", fmt::join(sentences, "; "));
  row.held = held && refused > 0;
  return row;
}

}  // namespace endurance
