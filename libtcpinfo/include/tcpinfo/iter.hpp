// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>

#include <tcpinfo/filter.hpp>
#include <tcpinfo/source.hpp>
#include <tcpinfo/trigger.hpp>

namespace tcpinfo {

struct IterOptions {
  /// Time between the beginnings of two passes; the first one is due at once.
  std::chrono::nanoseconds interval = std::chrono::milliseconds(100);
  /// Decided in the kernel, before a socket is read.
  Filter filter;
  /// Of the sockets that pass, those of which it holds are delivered; the others count as untriggered. Decided in user
  /// space; growth is from one pass to the next.
  Trigger trigger;
  /// Sockets of this cgroup v2 and all below it, up to 64 levels below, only; empty: all. The kernel keeps no cgroup of a
  /// socket in TIME_WAIT, of a half-open one and of an orphan in FIN_WAIT2: these are left out.
  std::filesystem::path cgroup;
  /// A network namespace file, as /run/netns/NAME or /proc/PID/ns/net; empty: the caller's. Needs CAP_SYS_ADMIN.
  std::filesystem::path netns;
  /// Bit i: sockets in TCP state i, as InetDiagOptions::states.
  std::uint32_t states = kConnectionStates;
};

/// Reads every socket of one network namespace by a BPF iterator, with the very code that fills the records of sockops.
/// Each pass gives a sample record a socket; records carry the pass's number as their sequence. The kernel locks each
/// socket while it is read: a record is of one moment.
///
/// A socket of which the kernel keeps no tcp_sock (TIME_WAIT, FIN_WAIT2 of a closed one, half-open) gives a record with
/// its identity only; a half-open one is in SYN_RECV, as netlink has it. The pass walks the tables while they change: a
/// socket that moved between two reads of the iterator may be missing or come twice, with the same cookie.
///
/// The state of a congestion control whose module was loaded after the source was opened is absent.
///
/// Needs CAP_BPF and CAP_PERFMON, CAP_SYS_ADMIN for other namespaces, a kernel from 6.1 with BTF. Source: iter/tcp,
/// kernel net/ipv4/tcp_ipv4.c.
class TCPINFO_EXPORT IterSource final : public Source {
 public:
  /// Loads the program. Throws Error: no privilege (EPERM), no BTF (Errc::kNoBtf), the namespace file cannot be opened
  /// or entered (EPERM, ENOENT), the cgroup is none (Errc::kNotCgroup2), a value out of range (Errc::kInvalidOption), or
  /// what the kernel answered. After a throw nothing stays loaded.
  explicit IterSource(const IterOptions& options);
  ~IterSource() override;

  SourceId id() const noexcept override;
  int descriptor() const noexcept override;
  std::optional<Clock::time_point> next_deadline() const noexcept override;
  std::error_code tick(Clock::time_point now) noexcept override;
  DrainResult drain(RecordSink sink, std::size_t limit = SIZE_MAX) noexcept override;
  Capabilities capabilities() const override;
  Statistics statistics() const noexcept override;
  Cost cost() const override;
  void stop() noexcept override;
  void close() noexcept override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tcpinfo
