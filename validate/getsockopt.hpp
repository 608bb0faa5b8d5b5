// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <filesystem>
#include <memory>

#include <tcpinfo/source.hpp>

namespace validation {

struct GetsockoptOptions {
  /// Directory of the cgroup v2 whose sockets, and those of all cgroups below it, are listened to: made, or accepted
  /// from a listener that was made, by a process inside. Who asks does not matter.
  std::filesystem::path cgroup;
  std::chrono::nanoseconds latency = std::chrono::milliseconds(50);  ///< records are drained at the latest after this
};

/// What processes are answered when they ask getsockopt(IPPROTO_TCP, TCP_INFO) of a socket of a cgroup: a record of
/// source `getsockopt` made of the very bytes, stamped after the kernel had read them and before the process had them.
/// The answers stay as they are, as do those to all other questions. Beside each, from kernel 6.2 on, its twin: what
/// the BPF side of sockops and iter (tcpinfo_fill()) reads from the socket at that moment; a record of source `sockops`
/// that is swept, with the same time_ns and cookie. A twin during whose reading a packet came or went is left out.
///
/// The cookie is 0 where nobody has asked for it before: attach the sockops source first. Needs CAP_BPF, CAP_NET_ADMIN,
/// CAP_PERFMON and cgroup v2. Source: cgroup/getsockopt by bpf_link, kernel kernel/bpf/cgroup.c.
class GetsockoptSource final : public tcpinfo::Source {
 public:
  /// Loads and attaches. Throws tcpinfo::Error: the path is no cgroup v2, no privilege, what the kernel answered. After
  /// a throw nothing stays attached.
  explicit GetsockoptSource(const GetsockoptOptions& options);
  ~GetsockoptSource() override;

  tcpinfo::SourceId id() const noexcept override;
  int descriptor() const noexcept override;  ///< -1: drain by next_deadline()
  std::optional<Clock::time_point> next_deadline() const noexcept override;
  std::error_code tick(Clock::time_point now) noexcept override;
  tcpinfo::DrainResult drain(tcpinfo::RecordSink sink, std::size_t limit = SIZE_MAX) noexcept override;
  tcpinfo::Capabilities capabilities() const override;
  tcpinfo::Statistics statistics() const noexcept override;
  void stop() noexcept override;
  void close() noexcept override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace validation
