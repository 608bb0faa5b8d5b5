// SPDX-License-Identifier: BSD-2-Clause
#include "adoption.hpp"

#include <bpf/bpf.h>

#include <cerrno>
#include <string>

namespace tcpinfo {
namespace {

// Before kernel 6.17 a pass may skip a socket where a bucket changes between two reads, so that one is not enough; and
// a program that overwrites flags all the time must not keep us going.
constexpr int kMostPasses = 3;

std::error_code code_of(int error) noexcept { return {error, std::generic_category()}; }

}  // namespace

void Adoption::attach(const Programs& programs, const std::filesystem::path& cgroup, Mode mode, bool adopts,
                      ThreadNamespaces* remembered) noexcept {
  programs_ = programs;
  mode_ = mode;
  adopts_ = adopts;
  try {
    pass_error_ = code_of(pass_.attach(programs_.pass, cgroup, remembered));
  } catch (const std::system_error& error) {
    pass_error_ = error.code();
  } catch (...) {
    pass_error_ = code_of(ENOMEM);
  }
  if (!adopts) return;
  attach_transition();
  begin();
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
  if (running_ || !pass_.is_attached()) return;
  if (rounds_ > 0) watch_transitions();  // somebody overwrites flags
  put_off_.clear();
  running_ = true;
  passes_ = 0;
  programs_.shared->found = 0;
  pass_.begin();
}

void Adoption::finish_pass() noexcept {
  ++passes_;
  programs_.shared->again = 1;
  // In close mode only the flag tells whom it adopted.
  const bool would_repeat = mode_ == Mode::kClose && !can_set_flags();
  const bool found = std::exchange(programs_.shared->found, 0) > 0;
  if (found && passes_ < kMostPasses && !would_repeat) return pass_.begin();
  running_ = false;
  programs_.shared->all_known = 1;
  ++rounds_;
}

bool Adoption::can_spare_transitions() const noexcept {
  return transition_link_ && !keeps_transition_ && !running_ && rounds_ > 0 && can_set_flags() &&
         pass_.came_everywhere();
}

std::error_code Adoption::put_off(int error) noexcept {
  pass_.reset();
  running_ = false;
  put_off_ = code_of(error);
  return put_off_;
}

std::error_code Adoption::step() noexcept try {
  auto& shared = *programs_.shared;
  while (running_) {
    shared.full = 0;
    const auto progress = pass_.step();
    if (progress == SocketPass::Progress::kOver)
      finish_pass();
    else if (progress == SocketPass::Progress::kPaused || shared.full)
      return {};
    // Else it came to a million sockets, none of them wanted.
  }
  return {};
} catch (const std::system_error& error) {
  return put_off(error.code().value());
} catch (...) {
  return put_off(ENOMEM);
}

void Adoption::clear() noexcept {
  if (!can_set_flags()) return;
  programs_.shared->clearing = 1;
  running_ = true;
  passes_ = kMostPasses - 1;
  pass_.begin();
  while (running_) step();
  programs_.shared->clearing = 0;
}

void Adoption::detach() noexcept {
  running_ = false;
  pass_.detach();
  stop_transitions();
}

void Adoption::describe(Capabilities& into) const {
  const auto reason = [](const std::error_code& error) { return ": " + error.message(); };
  if (!pass_.is_attached()) {
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
  auto not_seen = pass_.not_seen();
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
