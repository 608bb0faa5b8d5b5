// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <tcpinfo/source.hpp>

#include "adoption.h"
#include "bpf.hpp"
#include "netns.hpp"
#include "system.hpp"

namespace tcpinfo {

/// The sockets of a cgroup that are older than the attach: passes of an iterator over every network namespace that a
/// process of the cgroup is in, and a tracepoint that sees those change which the passes did not come to yet. The same
/// passes bring back callback flags that others overwrote, and take back what we set.
class Adoption {
 public:
  struct Programs {
    bpf_program* pass;
    bpf_program* transition;
    tcpinfo_adoption* shared;
  };

  /// Before the sock_ops program: the tracepoint has to be there when it begins. Of what fails here the source can do
  /// without, and describe() tells it.
  /// Where connections are not adopted, the passes only bring back and take back flags.
  void attach(const Programs& programs, const std::filesystem::path& cgroup, Mode mode, bool adopts) noexcept;

  /// A round of passes. The step() that follows begins it.
  void begin() noexcept;
  bool is_running() const noexcept { return running_; }
  /// Goes on with the round until it is over or a ring is half full.
  std::error_code step() noexcept;

  /// The kernel takes callback flags from a pass, as far as is known.
  bool can_set_flags() const noexcept { return pass_link_ && programs_.shared->refused == 0; }
  /// The tracepoint stays: another program may overwrite callback flags at any time.
  void watch_transitions() noexcept;

  void stop_transitions() noexcept { transition_link_.reset(); }

  /// The source is detached: one more pass takes back the callback flags that we added.
  void clear() noexcept;
  void detach() noexcept;

  void describe(Capabilities& into) const;

 private:
  void find_namespaces();
  void look_at(const std::filesystem::path& directory, std::set<std::pair<dev_t, ino_t>>& known);
  void finish_pass() noexcept;
  void attach_transition() noexcept;

  Programs programs_{};
  std::filesystem::path cgroup_;
  Mode mode_ = Mode::kPolling;
  bpf::Link pass_link_, transition_link_;
  std::error_code pass_error_, transition_error_;

  bool running_ = false;
  bool fresh_ = false;  // the namespaces are still to be found
  int passes_ = 0;      // of this round, that are over
  int rounds_ = 0;      // that are over
  bool adopts_ = true;
  bool keeps_transition_ = false;
  std::vector<Netns> namespaces_;
  std::size_t next_ = 0;            // of namespaces_
  std::size_t unvisited_ = 0;       // namespaces, in this round
  std::size_t hidden_ = 0;          // processes whose namespace was not shown
  sys::Fd iterator_;
};

}  // namespace tcpinfo
