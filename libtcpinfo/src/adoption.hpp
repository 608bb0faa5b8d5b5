// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <filesystem>
#include <system_error>
#include <utility>

#include <tcpinfo/source.hpp>

#include "adoption.h"
#include "bpf.hpp"
#include "socket_pass.hpp"

namespace tcpinfo {

/// The sockets of a cgroup that are older than the attach: passes of an iterator over every network namespace that a
/// thread of the cgroup is in, and a tracepoint that sees those change which the passes did not come to yet. The same
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
  /// `remembered`: see SocketPass.
  void attach(const Programs& programs, const std::filesystem::path& cgroup, Mode mode, bool adopts,
              ThreadNamespaces* remembered) noexcept;

  /// A round of passes. The step() that follows begins it.
  void begin() noexcept;
  bool is_running() const noexcept { return running_; }
  /// The first round is not over: later ones bring back callback flags.
  bool is_adopting() const noexcept { return (running_ || put_off_) && rounds_ == 0 && adopts_; }
  /// Goes on with the round until it is over, a ring is half full, or many threads were looked at. After an error, as
  /// of a process without free descriptors, the round is put off: begin() begins it anew.
  std::error_code step() noexcept;
  bool is_put_off() const noexcept { return static_cast<bool>(put_off_); }

  /// The kernel takes callback flags from a pass, as far as is known.
  bool can_set_flags() const noexcept { return pass_.is_attached() && programs_.shared->refused == 0; }
  /// The tracepoint stays: another program may overwrite callback flags at any time.
  void watch_transitions() noexcept;
  /// Everyone is known, and has callbacks: if nobody else can take those, the host is spared the tracepoint.
  bool can_spare_transitions() const noexcept;
  /// True once if it was not there before, when what another program hid from the callbacks was not seen.
  bool take_blindness() noexcept { return std::exchange(was_blind_, false); }
  void stop_transitions() noexcept;

  /// The source is detached: one more pass takes back the callback flags that we added.
  void clear() noexcept;
  void detach() noexcept;

  void describe(Capabilities& into) const;

 private:
  void finish_pass() noexcept;
  std::error_code put_off(int error) noexcept;
  void attach_transition() noexcept;

  Programs programs_{};
  Mode mode_ = Mode::kPolling;
  SocketPass pass_{"adoption"};
  bpf::Link transition_link_;
  std::error_code pass_error_, transition_error_;

  bool running_ = false;
  int passes_ = 0;  // of this round, that are over
  int rounds_ = 0;  // that are over
  bool adopts_ = true;
  bool keeps_transition_ = false;
  bool was_blind_ = false;
  std::error_code put_off_;
};

}  // namespace tcpinfo
