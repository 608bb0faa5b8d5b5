// SPDX-License-Identifier: BSD-2-Clause
#include "adoption.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <new>

#include <tcpinfo/error.hpp>

namespace tcpinfo {
namespace {

// Before kernel 6.17 a pass may skip a socket where a bucket changes between two reads, so that one is not enough; and a
// program that overwrites flags all the time must not keep us going.
constexpr int kMostPasses = 3;

constexpr auto kClearingTime = std::chrono::seconds(1);

std::error_code code_of(int error) noexcept { return {error, std::generic_category()}; }

}  // namespace

void Adoption::attach(const Programs& programs, const std::filesystem::path& cgroup, Mode mode,
                      bool adopts) noexcept {
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
  if (transition_link_) return;
  int error = sys::fault("attach transitions");
  if (!error) {
    transition_link_.reset(bpf_program__attach(programs_.transition));
    if (!transition_link_) error = errno;
  }
  transition_error_ = code_of(error);
}

void Adoption::watch_transitions() noexcept {
  if (!adopts_ || keeps_transition_) return;
  keeps_transition_ = true;
  attach_transition();
}

void Adoption::begin() noexcept {
  if (running_ || !pass_link_) return;
  if (rounds_ > 0) watch_transitions();  // somebody overwrites flags
  running_ = fresh_ = true;
  passes_ = 0;
}

void Adoption::look_at(const std::filesystem::path& directory, std::set<std::pair<dev_t, ino_t>>& known) {
  std::ifstream processes(directory / "cgroup.procs");
  for (long process = 0; processes >> process;) {
    const auto path = "/proc/" + std::to_string(process) + "/ns/net";
    struct stat status {};
    if (process == 0 || ::stat(path.c_str(), &status) != 0) {
      if (process == 0 || (errno != ENOENT && errno != ESRCH)) ++hidden_;
      continue;
    }
    if (!known.emplace(status.st_dev, status.st_ino).second) continue;
    try {
      namespaces_.emplace_back(path);
    } catch (const Error& error) {
      if (error.code() != std::errc::no_such_file_or_directory) ++unvisited_;
    }
  }
}

// The caller's own, where a process may have made its sockets before it moved, and those of the cgroup's processes.
void Adoption::find_namespaces() {
  namespaces_.clear();
  next_ = unvisited_ = hidden_ = 0;
  std::set<std::pair<dev_t, ino_t>> known;
  namespaces_.emplace_back(std::string());
  if (struct stat status {}; ::stat("/proc/thread-self/ns/net", &status) == 0)
    known.emplace(status.st_dev, status.st_ino);
  look_at(cgroup_, known);
  std::error_code ignored;  // cgroups come and go
  for (std::filesystem::recursive_directory_iterator at(cgroup_, ignored), end; at != end; at.increment(ignored))
    if (at->is_directory(ignored)) look_at(at->path(), known);
}

void Adoption::finish_pass() noexcept {
  next_ = 0;
  ++passes_;
  programs_.shared->again = 1;
  // In close mode only the flag tells whom it adopted.
  const bool would_repeat = mode_ == Mode::kClose && !can_set_flags();
  const bool found = std::exchange(programs_.shared->found, 0) > 0;
  if (found && passes_ < kMostPasses && !would_repeat) return;
  running_ = false;
  namespaces_.clear();
  // Everyone is known by now, and has callbacks: the others are spared the tracepoint.
  if (rounds_++ == 0 && !keeps_transition_ && can_set_flags() && unvisited_ == 0 && hidden_ == 0) transition_link_.reset();
}

std::error_code Adoption::step() noexcept {
  std::error_code result;
  auto& shared = *programs_.shared;
  while (running_) try {
      if (fresh_) {
        fresh_ = false;
        shared.found = 0;
        find_namespaces();
      }
      if (!iterator_) {
        if (next_ == namespaces_.size()) {
          finish_pass();
          continue;
        }
        int error = 0;
        namespaces_[next_].run([&]() noexcept {
          error = sys::fault("begin adoption");
          if (error) return;
          iterator_.reset(bpf_iter_create(pass_link_.descriptor()));
          if (!iterator_) error = errno;
        });
        if (error) throw Error(code_of(error), "begin a pass of adoption", "");
      }
      shared.full = 0;
      char nothing[64];
      const auto got = ::read(iterator_.get(), nothing, sizeof(nothing));
      if (got > 0 || (got < 0 && errno == EINTR)) continue;
      if (got < 0 && errno == EAGAIN) {  // without a full ring: a million sockets, none of them wanted
        if (shared.full) return result;
        continue;
      }
      if (got < 0) result = code_of(errno);
      iterator_.reset();
      ++next_;
    } catch (const std::system_error& error) {
      // A namespace that cannot be entered: the others are visited, and describe() tells how many were not.
      ++unvisited_;
      if (error.code() != std::errc::operation_not_permitted) result = error.code();
      if (next_ < namespaces_.size()) namespaces_.erase(namespaces_.begin() + static_cast<std::ptrdiff_t>(next_));
      else running_ = false;
    } catch (...) {
      running_ = false;
      return code_of(ENOMEM);
    }
  return result;
}

void Adoption::clear() noexcept {
  if (!pass_link_ || !can_set_flags()) return;
  iterator_.reset();
  programs_.shared->clearing = 1;
  running_ = fresh_ = true;
  passes_ = kMostPasses - 1;
  const auto end = std::chrono::steady_clock::now() + kClearingTime;
  while (running_ && std::chrono::steady_clock::now() < end) step();
  running_ = false;
  programs_.shared->clearing = 0;
}

void Adoption::detach() noexcept {
  iterator_.reset();
  running_ = false;
  pass_link_.reset();
  transition_link_.reset();
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
        "connections older than the attach, without callbacks, which this kernel cannot be asked for from outside (from "
        "6.12 on): samples come by the sweep, the end by the tracepoint";
  else if (shared.armed)
    detail = "connections older than the attach, with callbacks that the iterator asks for";
  else
    detail = "connections older than the attach; none was there to try it on";
  if (unvisited_ > 0)
    detail += "; " + std::to_string(unvisited_) +
              " network namespaces of the cgroup's processes were not visited: needs CAP_SYS_ADMIN";
  if (hidden_ > 0)
    detail += "; the namespaces of " + std::to_string(hidden_) + " processes are not shown: needs CAP_SYS_PTRACE";
  into.push_back({"adoption", adopts_, detail});
  into.push_back({"rearming", shared.refused == 0,
                  shared.refused ? "callback flags that another program overwrites come back at the connection's next "
                                   "callback only: this kernel takes them from no iterator (from 6.12 on)"
                                 : "callback flags that another program overwrites come back within a second"});
  if (!adopts_) return;
  const bool missing = transition_error_ && !transition_link_;
  into.push_back({"transitions", !missing,
                  missing ? "what changes before it is adopted is not seen" + reason(transition_error_)
                  : transition_link_
                      ? "tp_btf/inet_sock_set_state sees connections without callbacks; it runs at every change of "
                        "state on this host"
                      : "by callbacks; the tracepoint was taken off when all were adopted"});
}

}  // namespace tcpinfo
