// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>

#include <tcpinfo/filter.hpp>
#include <tcpinfo/source.hpp>
#include <tcpinfo/trigger.hpp>

namespace tcpinfo {

struct SockopsOptions {
  /// Directory of the cgroup v2 whose sockets, and those of all cgroups below it, are followed. A socket belongs to the
  /// cgroup that its process was in when it made the socket, or when it made the listener.
  std::filesystem::path cgroup;
  Mode mode = Mode::kPolling;
  /// Polling: each connection is sampled this often, by RTT callbacks and, where none come, by a sweep. 0: at every RTT
  /// callback, and a sweep every 100 ms.
  std::chrono::nanoseconds interval = std::chrono::milliseconds(100);
  /// Decided in the kernel, once a connection, when it begins.
  Filter filter;
  /// Polling: of the samples that are due only those of which it holds are emitted; the others count as untriggered.
  /// Open and close records always come. Decided in the kernel, which keeps some 100 bytes more of a connection if the
  /// trigger asks for growth. In the other modes there are no samples to select: it has to be empty.
  Trigger trigger;
  /// Follow connections that are older than the attach, too. Each begins with an adopted record instead of an open one,
  /// with the totals that it has by then; all its records say so (`adopted`). The first tick() and drain() begin with
  /// it: 100,000 sockets take less than a second. Those are found that are in the network namespace in which it was
  /// opened or of a thread of the cgroup; those of others need CAP_SYS_ADMIN. From kernel 6.12 on they have callbacks
  /// as all others; before, they are sampled by the sweep and their transitions come by a tracepoint, which then runs
  /// at every change of state of any TCP socket of the host. In close mode the callback flag alone tells whom the
  /// source knows: a connection that has it already, from another program or a source that was killed, has its close
  /// record and no adopted one. See capabilities().
  bool adopt = true;
  /// Polling: size of each ring buffer of samples, of which every CPU has one: a power of two and a multiple of the
  /// page size. What comes while it is full is lost, counted, and told by gap records; a sweep waits instead, while it
  /// is half full, and each time has to walk past what it has seen: where hundreds of thousands of connections are
  /// sampled, let it hold some ten thousand records. The other modes make no samples and no such rings.
  std::size_t ring_bytes = std::size_t{512} << 10;
  /// Size of each ring buffer of all other records (open, state, close, adopted), of which every CPU has one too: no
  /// flood of samples pushes them out. As ring_bytes; the default holds some 900 records.
  std::size_t life_cycle_ring_bytes = std::size_t{512} << 10;
  /// Records are drained at the latest this long after they were made, if the owner keeps next_deadline().
  std::chrono::nanoseconds latency = std::chrono::milliseconds(50);
  /// The descriptor becomes readable when a ring holds this much; 0: a quarter of it. A life-cycle ring is not left to
  /// fill further than a quarter in any case.
  std::size_t wakeup_bytes = 0;
  /// Open and close records carry `pid` and `comm` of the process that made the socket, or of an accepted one its
  /// listener, while this was attached. A second program (cgroup/sock_create) writes it down, in an element of socket
  /// storage of each TCP socket that is made in the cgroup or accepted from one, 96 bytes, and 192 more where the
  /// kernel keeps nothing else of the socket (close mode, listeners). See Owners for who holds the socket.
  bool owners = false;
  /// A directory below a bpffs (/sys/fs/bpf) in which the maps stay when this process ends, however it ends; it is made
  /// where it is not there. Empty: nothing stays. The next source with the same directory, which has to have the same
  /// options, drains what the rings still hold, goes on with the same statistics, and follows the connections that it
  /// finds followed. What happened while nobody was attached it tells by one gap record without a number. What a killed
  /// process was passing on when it died may come twice. One source at a time; unpin() removes it all. Needs
  /// kernel 5.19 and, to be used again, CAP_BPF or to be its owner.
  std::filesystem::path pin;
  /// With `pin`: the program stays attached as well, so that nothing is lost while the rings have room. Samples then
  /// come by RTT callbacks alone until the next source sweeps. stop() and close() leave it attached; only unpin(), or
  /// the removal of the cgroup, ends it.
  bool pin_link = false;
};

/// Removes what sources left in `directory`, and the directory: programs that were left attached are detached. Throws
/// Error: it does not exist, a source uses it (EBUSY), or what the system answered. Thread safe.
TCPINFO_EXPORT void unpin(const std::filesystem::path& directory);

/// Streams records of every connection that begins in a cgroup while it is attached, both ends if both are there, in
/// any network namespace, IPv4, IPv6 and IPv4-mapped, and of those that are older than the attach
/// (SockopsOptions::adopt).
///
/// Callback flags are one word a socket that all sock_ops programs share. Ours are added to what is there; where
/// another program overwrites them, they come back within a second (from kernel 6.12 on; before, at the connection's
/// next callback, and until then it is sampled by the sweep: Statistics::rearmed, silenced). What such a connection
/// does until then, its end too, a tracepoint sees in its place. It is used with SockopsOptions::adopt only and,
/// because it runs at every change of state on the host, from when another program is known: at the attach, when a
/// connection begins for which it runs too, and within a second where it is attached to the cgroup or above it and
/// CAP_NET_ADMIN is there still. What a program that came later hid before that is missed, and told by one gap record
/// without a number. What the tracepoint misses, because an interrupt brings it while it runs on that CPU, is counted
/// in Capability "transitions" and ProgramCost::recursion_misses, for the whole host; the kernel runs the other
/// programs in any case.
///
/// stop() takes back what was added, on listeners too, from kernel 6.12 on, except from sockets for which another
/// sock_ops program runs: it may have asked for the same flags since, and nobody can tell. It walks past every socket
/// of the network namespaces that it visits. What stays, as after SIGKILL, makes the kernel call programs that are
/// attached, and where none is costs a test of a bit.
///
/// User space keeps nothing of a connection: it takes the rings and what the owner's sink keeps, however many there
/// are. Except in close mode the kernel keeps an element of socket storage of each, about 320 bytes; a connection for
/// which it has no memory is not followed and counts as untracked.
///
/// Where the kernel refuses iter/bpf_sk_storage_map, as some that are hardened do, sweeps go by iter/tcp over all
/// sockets of the network namespace that it was opened in and of those that threads of the cgroup are in, each of which
/// they lock in passing: 30 ms of 100,000 sockets, 0.6 to 2.5 ms of none. Those other namespaces need CAP_SYS_ADMIN at
/// each sweep, and CAP_SYS_PTRACE for threads of others; Capability "sweep" tells which it is, and what was not come
/// to.
///
/// Cgroups that are made below it while it is attached are followed too. When the cgroup itself is removed, sockets of
/// it that other processes hold are followed to their end; after the last one the kernel detaches and tick() gives
/// Errc::kCgroupGone, once.
///
/// Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, a kernel from 6.1 with CONFIG_CGROUP_BPF and BTF, and a cgroup v2
/// mount, which may be part of a hybrid hierarchy. The program is attached by a bpf_link together with whatever else is
/// attached there: when the process dies, the kernel detaches it. A child made by fork() does not keep it attached; its
/// copy of the source gives Errc::kForked, and only destroying it is of use there. Source: BPF_PROG_TYPE_SOCK_OPS,
/// iter/bpf_sk_storage_map or iter/tcp.
class TCPINFO_EXPORT SockopsSource final : public Source {
 public:
  /// Loads and attaches. Throws Error: the path does not exist, is no directory or not in cgroup v2
  /// (Errc::kNotCgroup2), no privilege (EPERM), no BTF (Errc::kNoBtf), a value out of range (Errc::kInvalidOption), or
  /// what the kernel answered. After a throw nothing stays attached.
  explicit SockopsSource(const SockopsOptions& options);
  ~SockopsSource() override;

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

  /// The id of the program that is attached, as sock_ops_programs() and `bpftool prog show id` have it: with
  /// SockopsOptions::pin_link that of a program that stayed attached. 0 if the kernel did not say.
  std::uint32_t program_id() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tcpinfo
