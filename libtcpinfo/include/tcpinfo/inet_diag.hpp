// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include <tcpinfo/filter.hpp>
#include <tcpinfo/source.hpp>
#include <tcpinfo/trigger.hpp>

namespace tcpinfo {

/// A connection, named by both of its ends as records have them.
struct Connection {
  tcpinfo_address local_address{}, peer_address{};  ///< IPv4 as ::ffff:a.b.c.d
  std::uint16_t local_port = 0, peer_port = 0;
  /// Index of the interface that its socket is bound to (SO_BINDTODEVICE, and always with link-local addresses); 0: none.
  std::uint32_t interface_index = 0;

  bool operator==(const Connection& other) const noexcept {
    return local_address.halves[0] == other.local_address.halves[0] &&
           local_address.halves[1] == other.local_address.halves[1] &&
           peer_address.halves[0] == other.peer_address.halves[0] &&
           peer_address.halves[1] == other.peer_address.halves[1] && local_port == other.local_port &&
           peer_port == other.peer_port && interface_index == other.interface_index;
  }
};

struct InetDiagOptions {
  /// Time between the beginnings of two dumps; the first one is due at once.
  std::chrono::nanoseconds interval = std::chrono::milliseconds(100);
  /// Compiled to inet_diag bytecode, so that the kernel leaves out what is not wanted. Where each alternative names one
  /// connection by both full addresses and both ports, these are looked up; only if one of them is not found does the
  /// kernel walk over its sockets, since one that is bound to an interface is not found without its index.
  Filter filter;
  /// Of the sockets that pass, those of which it holds are delivered; the others count as untriggered. Decided in user
  /// space; growth is from one dump to the next.
  Trigger trigger = {};
  /// Only these, any number: each dump looks every one up, at some microseconds, and one that is not found is left out. Of two sockets that differ in their interface alone the one that is named is found. Filter, cgroup and
  /// states select among them. Empty: all.
  std::vector<Connection> connections = {};
  /// Sockets of this cgroup v2 and all below it only; empty: all. The cgroups below are looked up for each dump; while it does not
  /// exist, tick() gives Errc::kCgroupGone. The
  /// kernel keeps no cgroup of a socket in TIME_WAIT, of a half-open one and of an orphan in FIN_WAIT2: these are left out.
  std::filesystem::path cgroup;
  /// A network namespace file, as /run/netns/NAME or /proc/PID/ns/net; empty: the caller's. Needs CAP_SYS_ADMIN.
  std::filesystem::path netns;
  /// Bit i: sockets in TCP state i. Default: all connections, without LISTEN, TIME_WAIT and CLOSE.
  std::uint32_t states = kConnectionStates;
};

/// Polls the sockets of one network namespace by netlink (sock_diag). Each dump gives a sample record a socket; records
/// carry the dump's number as their sequence. A socket that is missing in an interrupted dump
/// (Statistics::dumps_interrupted) is unknown, not closed.
///
/// time_ns is the moment when the kernel had read the chunk of the dump that the socket was in, 32 KiB of them at most:
/// the values are not younger, and older by no more than that reading took. A socket of which the kernel keeps no
/// tcp_info (TIME_WAIT, FIN_WAIT2 of a closed one, half-open) gives a record with its identity only. The kernel adds
/// half-open connections to SYN_RECV, and a socket that changed its state while it was read comes with the later one.
///
/// A dump walks over all sockets of the machine, whatever it selects; to look one up takes a few microseconds (see
/// InetDiagOptions::connections).
///
/// Needs no privilege but for other namespaces, and in older kernels CAP_NET_ADMIN for ulp; no BPF. Source: kernel
/// net/ipv4/inet_diag.c, net/ipv4/tcp_diag.c.
class TCPINFO_EXPORT InetDiagSource final : public Source {
 public:
  /// Opens the netlink socket. Throws Error: the namespace file cannot be opened or entered (EPERM, ENOENT), the cgroup
  /// is none (Errc::kNotCgroup2), the kernel has no inet_diag (ENOENT, EOPNOTSUPP).
  explicit InetDiagSource(const InetDiagOptions& options);
  ~InetDiagSource() override;

  SourceId id() const noexcept override;
  int descriptor() const noexcept override;
  std::optional<Clock::time_point> next_deadline() const noexcept override;
  std::error_code tick(Clock::time_point now) noexcept override;
  DrainResult drain(RecordSink sink, std::size_t limit = SIZE_MAX) noexcept override;
  Capabilities capabilities() const override;
  Statistics statistics() const noexcept override;
  void stop() noexcept override;
  void close() noexcept override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tcpinfo
