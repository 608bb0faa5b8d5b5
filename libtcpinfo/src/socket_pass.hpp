// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <bpf/libbpf.h>

#include "link.hpp"
#include "netns.hpp"
#include "tcp_iterator.hpp"

namespace tcpinfo {

/// In which namespaces threads are. Who may not look any more, as after privileges were dropped, takes it that they are
/// where they were.
using ThreadNamespaces = std::unordered_map<pid_t, NetnsId>;

/// Passes of an iter/tcp program over the sockets of the network namespace in which it was attached, where a process
/// may have made its sockets before it moved, and of each that a thread of a cgroup is in.
class SocketPass {
 public:
  /// `purpose`, as "adoption", is for errors and for faults: "attach PURPOSE", "begin PURPOSE".
  explicit SocketPass(const char* purpose) noexcept : purpose_(purpose) {}

  /// `remembered`, if any, may be shared by passes over the same cgroup, one of which runs at a time. An errno, or 0.
  /// Throws std::system_error: the namespace of this thread cannot be opened.
  int attach(const bpf_program* program, const std::filesystem::path& cgroup, ThreadNamespaces* remembered);
  bool is_attached() const noexcept { return static_cast<bool>(link_); }
  void detach() noexcept;

  enum class Progress {
    kOver,
    kStopped,  ///< the program wants to go on later, or came to a million sockets in one read
    kPaused,   ///< many threads were looked at, which took some milliseconds: it is the owner's turn
  };
  /// The step() that follows begins a new pass.
  void begin() noexcept { fresh_ = true; }
  /// Goes on with the pass. Throws std::system_error; the pass cannot be gone on with then.
  Progress step();
  void reset() noexcept;

  bool came_everywhere() const noexcept { return unvisited_ + unshown_ + hidden_ == 0; }
  /// What this pass, or the last one, did not come to, with the privilege that is missing; empty: nothing.
  std::string not_seen() const;

 private:
  void find_threads();
  void enter_next();

  const char* purpose_;
  std::filesystem::path cgroup_;
  bpf::Link link_;
  bool fresh_ = false;
  ThreadNamespaces* remembered_ = nullptr;
  std::vector<pid_t> threads_;  // of the cgroup
  std::optional<Netns> own_;
  std::size_t next_ = 0;       // 0: own_; else of threads_, from 1 on
  std::set<NetnsId> known_;    // namespaces that this pass came to
  std::size_t unvisited_ = 0;  // namespaces that could not be entered
  std::size_t unshown_ = 0;    // threads whose namespace was not shown
  std::size_t hidden_ = 0;     // threads that have no number here
  TcpIterator iterator_;
};

}  // namespace tcpinfo
