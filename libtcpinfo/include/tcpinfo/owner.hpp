// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include <tcpinfo/record.hpp>
#include <tcpinfo/source.hpp>

namespace tcpinfo {

/// What is empty is not known, or there is none.
struct Container {
  std::string runtime;  ///< "docker", "containerd", "cri-o", "podman"; empty where the path has the id alone
  std::string id;       ///< 64 hexadecimal digits
  std::string pod_uid;  ///< Kubernetes' uid of the pod, with its dashes; of a Podman pod its id

  bool operator==(const Container&) const = default;
};

/// What a cgroup's path tells of those inside it.
struct CgroupPath {
  std::string unit;     ///< innermost systemd unit: a service, scope, socket, mount or swap, unescaped; no slice
  Container container;  ///< the innermost one

  bool operator==(const CgroupPath&) const = default;
};

/// Reads the path of a cgroup as Docker, containerd, CRI-O, Podman (with the cgroupfs and the systemd driver), kubelet
/// and systemd make them; nobody is asked. A name is taken for what it looks like: whoever may make cgroups may imitate
/// them. Thread safe. Source: the naming rules of these programs, see docs/owners.md.
TCPINFO_EXPORT CgroupPath parse_cgroup_path(std::string_view path);

/// Who a socket belongs to. What is empty is not known.
struct Owner {
  /// The process, as numbered in the initial process namespace: of those that hold the socket the oldest, the init
  /// process only if nobody else does. If nobody is known to hold it, who made it, or made its listener.
  std::optional<std::uint32_t> pid;
  std::string comm;        ///< name of its main thread, at most 15 bytes
  std::string executable;  ///< as /proc/PID/exe shows it: as seen in its own mount namespace, " (deleted)" behind it
  /// How many processes held it when it was last looked for; 0: none was found, and pid is who held it before, or made
  /// it.
  std::uint32_t holders = 0;
  std::string cgroup;  ///< path below the mount, "/" itself, of the cgroup in which the socket was made
  std::string unit;
  Container container;
  std::string netns;  ///< of the socket: the name in /run/netns, or else as "net:[4026531840]"

  bool operator==(const Owner&) const = default;
};

/// What outputs show of an owner behind the fields of a record; its pid and comm stand in those.
struct OwnerField {
  std::string_view name;
  std::string_view type;  ///< "text" or "u32"
  std::string_view description;
  std::string (*value)(const Owner& owner);  ///< as text; empty: absent
};

/// Their order is the order of every output. Thread safe; lives as long as the program.
TCPINFO_EXPORT std::span<const OwnerField> owner_fields() noexcept;

/// The record with its owner's pid and comm, if they are known. Thread safe.
TCPINFO_EXPORT tcpinfo_record with_owner(const Record& record, const Owner& owner) noexcept;

struct OwnersOptions {
  /// Only holders of sockets made in this cgroup v2 or below it are looked for; empty: of all.
  std::filesystem::path cgroup;
  /// At most so many sockets are remembered, the least recently asked for are forgotten first; each takes about 700
  /// bytes.
  std::size_t capacity = 16384;
  /// A holder is looked for again when asked for after this time, as a socket may be passed on; where none was found,
  /// after a tenth of it.
  std::chrono::nanoseconds recheck = std::chrono::seconds(10);
  /// Holders are looked for during no more than this share of the time, as each look takes all open files of the host;
  /// until it is due again makers alone are known. 1: whenever there is somebody to look for.
  double walk_share = 0.1;
  /// The proc file system, of the initial process namespace.
  std::filesystem::path proc = "/proc";
};

struct OwnersStatistics {
  std::uint64_t hits = 0;      ///< find() knew the socket
  std::uint64_t unknown = 0;   ///< find() did not
  std::uint64_t evicted = 0;   ///< forgotten because there were too many
  std::uint64_t walks = 0;     ///< looks at all open files
  std::uint64_t walk_ns = 0;   ///< time that these took
  std::size_t remembered = 0;  ///< sockets now
};

/// Finds who owns the sockets that records tell of. find() looks into memory; what it does not find there, refresh()
/// resolves, all in one look at the open files of all processes, when its caller finds the time:
///
///   std::vector<tcpinfo_record> turn;   // in the sink: turn.push_back(record.raw()); owners.find(record);
///   owners.refresh();                   // after it
///   for (auto& raw : turn) use(tcpinfo::Record(raw), owners.find(tcpinfo::Record(raw)));
///
/// Who holds a socket is told by the better of two ways that works here: iter/task_file, for sockets of all network
/// namespaces; or the links in /proc/PID/fd against the record's inode, which only inet_diag gives, for processes
/// that this one may look at. A process is its pid and its start time: what was known of another one with the same pid
/// is forgotten. Not seen are sockets that no process has in its table of files: not accepted yet, under way in a
/// message, held by io_uring or a BPF map alone; of these the maker is named, if the record has it
/// (SockopsOptions::owners).
///
/// iter/task_file needs CAP_BPF and CAP_PERFMON to open it and none afterwards, kernel 6.1 and BTF; executables of others' processes CAP_SYS_PTRACE.
/// The cgroup's path is found by its id with CAP_DAC_READ_SEARCH, without by looking through the hierarchy. Not thread
/// safe; different objects are independent of each other. Makes no threads.
class TCPINFO_EXPORT Owners {
 public:
  /// Throws Error: `cgroup` is none (Errc::kNotCgroup2, ENOENT), an option out of range (Errc::kInvalidOption). What
  /// privileges are missing for is done without; capabilities() says so.
  explicit Owners(const OwnersOptions& options = {});
  ~Owners();
  Owners(Owners&&) noexcept;
  Owners& operator=(Owners&&) noexcept;

  /// What is known of the record's socket: nullptr if nothing is yet, and the next refresh() looks for it. Valid until
  /// the next call of refresh() or find(). A record without cookie has no owner.
  const Owner* find(const Record& record);

  /// Looks for all that find() did not know or knew too long ago. It takes up to some ten milliseconds where processes
  /// hold 10,000s of files, and next to nothing if there is nothing to look for. An error leaves what is known as it
  /// was.
  std::error_code refresh() noexcept;

  /// "holders", "executables", "cgroup_paths": how each of them is found here.
  Capabilities capabilities() const;
  OwnersStatistics statistics() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tcpinfo
