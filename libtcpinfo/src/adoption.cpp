// SPDX-License-Identifier: BSD-2-Clause
#include "adoption.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>

#include <tcpinfo/error.hpp>

#include "netns.hpp"
#include "walks.hpp"

namespace tcpinfo {
namespace {

// Before kernel 6.17 a pass may skip a socket where a bucket changes between two reads, so that one is not enough; and
// a program that overwrites flags all the time must not keep us going.
constexpr int kMostPasses = 3;

// Of threads whose namespace is looked at before the owner has its turn: some milliseconds.
constexpr int kLooksAtOnce = 256;

std::error_code code_of(int error) noexcept { return {error, std::generic_category()}; }

[[noreturn]] void throw_error(int error, const std::string& action) { throw Error(code_of(error), action, ""); }

/// What /proc answers of a thread that has ended.
bool has_ended(int error) noexcept { return error == ENOENT || error == ESRCH; }

}  // namespace

void Adoption::attach(const Programs& programs, const std::filesystem::path& cgroup, Mode mode, bool adopts) noexcept {
  programs_ = programs;
  mode_ = mode;
  adopts_ = adopts;
  int error = sys::fault("attach adoption");
  if (!error) {
    pass_link_.reset(bpf_program__attach_iter(programs_.pass, nullptr));
    if (!pass_link_) error = errno;
  }
  pass_error_ = code_of(error);
  if (adopts) attach_transition();
  try {
    cgroup_ = cgroup;
    if (adopts) begin();
  } catch (...) {
    pass_error_ = code_of(ENOMEM);
    pass_link_.reset();
  }
}

void Adoption::attach_transition() noexcept {
  // Before it is there and until it is gone, so that it knows of whoever it may see.
  programs_.shared->transitions = 1;
  int error = sys::fault("attach transitions");
  if (!error) {
    transition_link_.reset(bpf_program__attach(programs_.transition));
    if (!transition_link_) error = errno;
  }
  transition_error_ = code_of(error);
  if (error) programs_.shared->transitions = 0;
}

void Adoption::stop_transitions() noexcept {
  if (!transition_link_) return;
  transition_link_.reset();
  programs_.shared->transitions = 0;
}

void Adoption::watch_transitions() noexcept {
  if (!adopts_ || keeps_transition_) return;
  keeps_transition_ = true;
  if (transition_link_) return;
  was_blind_ = true;
  attach_transition();
}

void Adoption::begin() noexcept {
  if (running_ || !pass_link_) return;
  if (rounds_ > 0) watch_transitions();  // somebody overwrites flags
  put_off_.clear();
  running_ = fresh_ = true;
  passes_ = 0;
}

// A thread's network namespace may be another than its process's.
void Adoption::find_threads() {
  threads_.clear();
  hidden_ = 0;
  int error = walk_cgroups(cgroup_, [&](const std::string& cgroup, std::uint64_t) {
    const auto path = cgroup + "/cgroup.threads";
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
    if (!file && errno != ENOENT && errno != ENODEV) throw_error(errno, "read " + path);
    for (long thread; file && std::fscanf(file.get(), "%ld", &thread) == 1;) {
      if (thread == 0)
        ++hidden_;
      else
        threads_.push_back(static_cast<pid_t>(thread));
    }
    return true;
  });
  if (error && error != ENOENT) throw_error(error, "read the cgroups below " + cgroup_.string());
}

void Adoption::begin_pass() noexcept {
  next_ = unvisited_ = unshown_ = 0;
  known_.clear();
}

// Begins to read in the next namespace, if this pass was not there yet. First the caller's own, where a process may
// have made its sockets before it moved, then those of the cgroup's threads.
void Adoption::enter_next() {
  const bool is_own = next_ == 0;
  const auto path =
      is_own ? std::string("/proc/thread-self/ns/net") : "/proc/" + std::to_string(threads_[next_ - 1]) + "/ns/net";
  ++next_;
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    if (!known_.emplace(status.st_dev, status.st_ino).second) return;
  } else if (!is_own) {
    // With hidepid= a process of others is in no /proc, yet a signal finds it.
    if (!has_ended(errno) || (::kill(threads_[next_ - 2], 0) != 0 && errno == EPERM)) ++unshown_;
    return;
  }
  int error = 0;
  const auto open = [&]() noexcept {
    error = sys::fault("begin adoption");
    if (!error) error = iterator_.begin(pass_link_.descriptor());
  };
  try {
    if (is_own)
      open();
    else
      Netns(path).run(open);
  } catch (const std::system_error& failed) {
    error = failed.code().value();
  }
  if (error == EPERM || error == EACCES)
    ++unvisited_;
  else if (has_ended(error))  // another thread may be there still
    known_.erase({status.st_dev, status.st_ino});
  else if (error)
    throw_error(error, "begin a pass of adoption");
}

void Adoption::finish_pass() noexcept {
  ++passes_;
  programs_.shared->again = 1;
  // In close mode only the flag tells whom it adopted.
  const bool would_repeat = mode_ == Mode::kClose && !can_set_flags();
  const bool found = std::exchange(programs_.shared->found, 0) > 0;
  if (found && passes_ < kMostPasses && !would_repeat) return begin_pass();
  running_ = false;
  threads_.clear();
  known_.clear();
  programs_.shared->all_known = 1;
  ++rounds_;
}

bool Adoption::can_spare_transitions() const noexcept {
  return transition_link_ && !keeps_transition_ && !running_ && rounds_ > 0 && can_set_flags() &&
         unvisited_ + unshown_ + hidden_ == 0;
}

std::error_code Adoption::put_off(int error) noexcept {
  iterator_.reset();
  running_ = false;
  put_off_ = code_of(error);
  return put_off_;
}

std::error_code Adoption::step() noexcept try {
  auto& shared = *programs_.shared;
  for (int looks = 0; running_;) {
    if (fresh_) {
      find_threads();
      fresh_ = false;
      shared.found = 0;
      begin_pass();
    }
    if (!iterator_) {
      if (next_ > threads_.size())
        finish_pass();
      else if (++looks > kLooksAtOnce)
        return {};
      else
        enter_next();
      continue;
    }
    shared.full = 0;
    char nothing[64];
    const auto got = ::read(iterator_.get(), nothing, sizeof(nothing));
    if (got > 0 || (got < 0 && errno == EINTR)) continue;
    if (got < 0 && errno == EAGAIN) {  // without a full ring: a million sockets, none of them wanted
      if (shared.full) return {};
      continue;
    }
    if (got < 0) return put_off(errno);
    iterator_.reset();
  }
  return {};
} catch (const std::system_error& error) {
  return put_off(error.code().value());
} catch (...) {
  return put_off(ENOMEM);
}

void Adoption::clear() noexcept {
  if (!pass_link_ || !can_set_flags()) return;
  iterator_.reset();
  programs_.shared->clearing = 1;
  running_ = fresh_ = true;
  passes_ = kMostPasses - 1;
  while (running_) step();
  programs_.shared->clearing = 0;
}

void Adoption::detach() noexcept {
  iterator_.reset();
  running_ = false;
  pass_link_.reset();
  stop_transitions();
}

void Adoption::describe(Capabilities& into) const {
  const auto reason = [](const std::error_code& error) { return ": " + error.message(); };
  if (!pass_link_) {
    into.push_back({"adoption", false,
                    "connections older than the attach are not seen" +
                        (pass_error_ ? reason(pass_error_) + "; try tcpinfo doctor" : std::string())});
    return;
  }
  const auto& shared = *programs_.shared;
  std::string detail;
  if (!adopts_)
    detail = "connections older than the attach are not seen: it was not asked for";
  else if (rounds_ == 0)
    detail = "under way: connections older than the attach";
  else if (shared.refused)
    detail =
        "connections older than the attach, without callbacks, which this kernel cannot be asked for from outside "
        "(from 6.12 on): samples come by the sweep, the end by the tracepoint";
  else if (shared.armed)
    detail = "connections older than the attach, with callbacks that the iterator asks for";
  else
    detail = "connections older than the attach; none was there to try it on";
  if (put_off_) detail += "; put off, and tried again after a second" + reason(put_off_);
  into.push_back({"adoption", adopts_, detail});
  const bool knows_nobody = mode_ == Mode::kClose && !adopts_;
  into.push_back(
      {"rearming", shared.refused == 0 && !knows_nobody,
       knows_nobody     ? "close mode keeps nothing of a connection: whom another program silences can be told "
                          "only where older connections are adopted too"
       : shared.refused ? "callback flags that another program overwrites come back at the connection's next "
                          "callback only: this kernel takes them from no iterator (from 6.12 on)"
       : shared.armed   ? "callback flags that another program overwrites come back within a second"
                        : "callback flags that another program overwrites come back within a second, where the "
                          "kernel takes them from an iterator (from 6.12 on); not tried yet"});
  if (!adopts_) return;
  std::string not_seen;
  const auto add = [&](const char* before, std::size_t count, const char* after) {
    if (count > 0) not_seen += (not_seen.empty() ? "" : "; ") + (before + std::to_string(count)) + after;
  };
  add("", unvisited_, " of the cgroup's could not be entered: needs CAP_SYS_ADMIN");
  add("those of ", unshown_, " threads are not shown: needs CAP_SYS_PTRACE");
  add("those of ", hidden_, " threads of other pid namespaces are not known");
  if (not_seen.empty() && is_adopting()) not_seen = "not all were visited yet";
  into.push_back({"network_namespaces", not_seen.empty(),
                  not_seen.empty() ? "those of all the cgroup's threads were visited"
                                   : not_seen + "; older connections there are not seen"});
  const bool missing = transition_error_ && !transition_link_;
  bpf_prog_info info{};
  __u32 size = sizeof(info);
  std::string missed;
  if (bpf_obj_get_info_by_fd(bpf_program__fd(programs_.transition), &info, &size) == 0 && info.recursion_misses > 0)
    missed = "; it missed " + std::to_string(info.recursion_misses) +
             " changes of state of the host's sockets, which interrupts brought while it ran on that CPU";
  into.push_back({"transitions", !missing,
                  (missing ? "what changes before it is adopted is not seen" + reason(transition_error_)
                   : transition_link_
                       ? "tp_btf/inet_sock_set_state sees connections without callbacks; it runs at every change of "
                         "state on this host"
                       : "by callbacks; the tracepoint was taken off when all were adopted") +
                      missed});
}

}  // namespace tcpinfo
