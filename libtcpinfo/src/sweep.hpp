// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <filesystem>
#include <string>
#include <system_error>

#include <bpf/libbpf.h>

#include "link.hpp"
#include "socket_pass.hpp"
#include "system.hpp"

namespace tcpinfo {

/// Sweeps over the tagged sockets, one at a time: by iter/bpf_sk_storage_map, which comes to these alone, in whichever
/// network namespace they are. Where the kernel refuses programs of that kind, by passes of iter/tcp over all sockets.
class Sweep {
 public:
  /// An errno, or 0.
  int attach(const bpf_program* program, int tagged_sockets) noexcept;
  int attach_to_all(const bpf_program* program, const std::filesystem::path& cgroup, ThreadNamespaces* remembered);
  bool is_attached() const noexcept { return link_ || pass_.is_attached(); }
  void detach() noexcept;

  bool is_running() const noexcept { return running_; }
  std::error_code begin() noexcept;
  /// Goes on until it is over or the program ends the read, after which it is running still.
  std::error_code step() noexcept;

  /// Of passes: the network namespaces that the last one did not come to. Empty: none.
  std::string not_seen() const { return pass_.not_seen(); }

 private:
  bpf::Link link_;
  sys::Fd iterator_;
  SocketPass pass_{"sweep"};
  bool running_ = false;
};

}  // namespace tcpinfo
