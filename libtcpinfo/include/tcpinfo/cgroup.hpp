// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include <tcpinfo/export.hpp>

namespace tcpinfo {

/// Where the cgroup v2 hierarchy is mounted, found by its type in /proc/self/mountinfo: /sys/fs/cgroup on most systems,
/// below it on hybrid ones. Throws Error (ENODEV) where none is mounted. Thread safe.
TCPINFO_EXPORT std::filesystem::path cgroup2_mount();

/// The cgroup v2 that this process is in, as a path below the mount. Throws Error as cgroup_of_process(). Thread safe.
TCPINFO_EXPORT std::filesystem::path own_cgroup();

/// The cgroup v2 that process `pid` is in now, as a path below the mount; also where v1 hierarchies have it elsewhere.
/// Its sockets may belong to other cgroups, those that it was in when it made them. Throws Error: there is no such
/// process (ESRCH), no cgroup v2 is mounted (ENODEV), or the process is where no mount shows it, as one of the host seen
/// from inside a container's cgroup namespace (Errc::kCgroupNotVisible). Thread safe. Source: the line 0:: of
/// /proc/PID/cgroup, the mount's root in /proc/self/mountinfo.
TCPINFO_EXPORT std::filesystem::path cgroup_of_process(pid_t pid);

/// The cgroup of a systemd unit that runs: a service, scope, slice, socket, mount or swap, at any depth below `root`
/// (empty: the whole mount). A name without such an ending is a service's; one that ends in `@.service` stands for its
/// instances. Asks the tree of cgroups, not systemd. Throws Error: none has the name (ENOENT), several have it, as units
/// of users or of containers beside the system's (Errc::kAmbiguousUnit, which lists them), or Errc::kInvalidOption: it
/// is no unit's name. Thread safe.
TCPINFO_EXPORT std::filesystem::path cgroup_of_unit(std::string_view unit, const std::filesystem::path& root = {});

/// The id that records carry in cgroup_id. Throws Error: `path` does not exist (ENOENT), is no directory (ENOTDIR), is
/// in no cgroup v2 hierarchy (Errc::kNotCgroup2). Thread safe.
TCPINFO_EXPORT std::uint64_t cgroup_id(const std::filesystem::path& path);

/// The processes of the cgroup `path` and of all below it that this process can see. What goes meanwhile is left out, and
/// of a cgroup that is gone there are none. Thread safe.
TCPINFO_EXPORT std::vector<pid_t> cgroup_processes(const std::filesystem::path& path);

/// The TCP sockets of a cgroup and of its processes, which are not the same: a socket belongs to the cgroup that its process
/// was in when it made the socket, what a listener accepts belongs to the listener's cgroup, and both stay there when the
/// process moves or passes them on.
struct CgroupSurvey {
  /// Sockets that processes of the cgroup hold and that belong to another one: whoever follows this cgroup misses them.
  struct Elsewhere {
    std::uint64_t cgroup_id = 0;
    std::filesystem::path cgroup;  ///< empty: removed, or not mounted here
    std::size_t sockets = 0;
    std::size_t listeners = 0;  ///< of these; all that they accept belongs there too
    std::size_t processes = 0;  ///< that hold them
  };

  std::size_t processes = 0;     ///< in the cgroup and below it
  std::size_t not_examined = 0;  ///< of these: beyond the limit, or they may not be looked at
  std::size_t sockets = 0;       ///< that belong to the cgroup or one below it, in the network namespaces of its processes
  std::vector<Elsewhere> elsewhere;  ///< by number of sockets, most first
};

/// Looks at the descriptors of at most `most_processes` processes, and at the sockets of their network namespaces by
/// inet_diag: some milliseconds, and half a millisecond for each thousand sockets of the machine. What comes and goes
/// meanwhile may be missed. Needs CAP_SYS_PTRACE for processes of others and CAP_SYS_ADMIN for other network namespaces;
/// where they are missing, not_examined says so. Throws Error as cgroup_id(). Thread safe.
TCPINFO_EXPORT CgroupSurvey survey_cgroup(const std::filesystem::path& path, std::size_t most_processes = 1000);

/// A cgroup v2 of one's own for as long as this lives: attach to it, then let a process be born in it (clone3 with
/// CLONE_INTO_CGROUP) or enter() it, and none of its sockets is missed. It is in force beside every limit of its parent
/// and sets none itself.
///
/// Its directory is locked (flock) while it is owned; one whose owner was killed stays until its processes have ended,
/// and then remove_stale() takes it away. A forked process does not own it. Not thread safe.
class TCPINFO_EXPORT TransientCgroup {
 public:
  /// Makes `prefix`-PID-N, N the first number that is free, below `parent`; if that is empty, below own_cgroup(). Throws
  /// Error that names the path: `parent` is none (as cgroup_id()), no right to write there (EACCES, EPERM, EROFS), too many
  /// cgroups or too deep (EAGAIN), a parent in a threaded subtree, whose children cannot hold processes (EOPNOTSUPP).
  explicit TransientCgroup(std::string_view prefix = "tcpinfo", const std::filesystem::path& parent = {});
  TransientCgroup(TransientCgroup&& other) noexcept;
  TransientCgroup& operator=(TransientCgroup&& other) noexcept;
  /// remove(); what it cannot remove stays.
  ~TransientCgroup();

  const std::filesystem::path& path() const noexcept { return path_; }
  /// The directory, for CLONE_INTO_CGROUP; close-on-exec, owned by this.
  int descriptor() const noexcept { return directory_; }

  /// Moves a process into it (0: this one); its sockets stay where they were made. Throws Error: EACCES, EPERM, ESRCH,
  /// EBUSY or EOPNOTSUPP where controllers or threads that somebody switched on keep processes out.
  void enter(pid_t pid = 0) const;
  /// Whether a process is in it or below it.
  bool populated() const noexcept;
  /// Removes it with the cgroups below it. EBUSY: processes are left in it (see cgroup_processes()), it stays and can be
  /// removed later. No error if it was removed before, by whomever.
  std::error_code remove() noexcept;

  /// Removes those in `parent` (empty: own_cgroup()) named `prefix`-PID-N that nobody owns and that have no process left;
  /// how many. Throws Error only as own_cgroup().
  static std::size_t remove_stale(std::string_view prefix = "tcpinfo", const std::filesystem::path& parent = {});

 private:
  std::filesystem::path path_;
  int directory_ = -1;
  pid_t owner_ = 0;
};

}  // namespace tcpinfo
