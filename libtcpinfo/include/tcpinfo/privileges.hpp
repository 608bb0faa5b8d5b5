// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include <tcpinfo/export.hpp>

namespace tcpinfo {

/// Capabilities that something in this library, or a program that uses it, may need; the values are the kernel's
/// (capabilities(7)).
enum class Privilege : std::uint8_t {
  kDacOverride = 1,    ///< CAP_DAC_OVERRIDE: files and directories of others
  kDacReadSearch = 2,  ///< CAP_DAC_READ_SEARCH: the same to read, and cgroups by their id
  kNetAdmin = 12,      ///< CAP_NET_ADMIN: load sock_ops; in older kernels ulp by inet_diag
  kSysPtrace = 19,     ///< CAP_SYS_PTRACE: the executable and the descriptors of others' processes
  kSysAdmin = 21,      ///< CAP_SYS_ADMIN: enter network namespaces, switch BPF run-time statistics on
  kPerfmon = 38,       ///< CAP_PERFMON: load programs that read the kernel's structures
  kBpf = 39,           ///< CAP_BPF: load BPF programs, make maps
};

/// "CAP_BPF". Thread safe.
TCPINFO_EXPORT std::string_view name(Privilege privilege) noexcept;

/// A set of capabilities. Thread safe.
///
/// What needs them:
/// - SockopsSource: CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON to open it, none afterwards to stream and to sweep. To adopt
///   older connections of other network namespaces, which the first tick() and drain() do, and to bring back callback
///   flags there, or to sweep there on a kernel that refuses iter/bpf_sk_storage_map: CAP_SYS_ADMIN, and
///   CAP_SYS_PTRACE for processes of others. To notice other programs that are attached
///   later: CAP_NET_ADMIN; flags that they overwrite come back without, too.
/// - IterSource: CAP_BPF and CAP_PERFMON to open it, none afterwards; in another namespace (IterOptions::netns)
///   CAP_SYS_ADMIN as well, to open it and for each pass.
/// - InetDiagSource: none (in older kernels CAP_NET_ADMIN for ulp); in another namespace CAP_SYS_ADMIN to open it, none
///   afterwards.
/// - Owners: CAP_BPF and CAP_PERFMON to open it; to look for owners none, but CAP_SYS_PTRACE for the executables of
///   others' processes, and CAP_DAC_READ_SEARCH for paths of cgroups at once.
/// - KernelStatistics: CAP_SYS_ADMIN to switch them on, none to read them.
/// - Source::cost(): none, but for ProgramCost::code_bytes CAP_BPF.
///
/// "None afterwards" holds whatever kernel.unprivileged_bpf_disabled is: from Linux 5.19 on (c8644cd0efe7) it forbids
/// to load programs and to make maps, not to use those that one holds.
class TCPINFO_EXPORT Privileges {
 public:
  constexpr Privileges() noexcept = default;
  constexpr Privileges(std::initializer_list<Privilege> privileges) noexcept {
    for (const auto privilege : privileges) bits_ |= bit(static_cast<int>(privilege));
  }

  /// Those in effect in the calling thread.
  static Privileges effective() noexcept;

  constexpr bool contains(Privilege privilege) const noexcept {
    return (bits_ & bit(static_cast<int>(privilege))) != 0;
  }
  constexpr bool empty() const noexcept { return bits_ == 0; }
  constexpr Privileges operator|(Privileges other) const noexcept { return Privileges(bits_ | other.bits_); }
  constexpr Privileges& operator|=(Privileges other) noexcept { return *this = *this | other; }
  constexpr Privileges operator-(Privileges other) const noexcept { return Privileges(bits_ & ~other.bits_); }
  constexpr bool operator==(const Privileges&) const noexcept = default;

  /// As a message has it: "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON". Those that are not in Privilege go by number.
  std::string to_string() const;

  /// Leaves the calling thread, for good, no capability but those of `keep` that it has: takes the others from its
  /// permitted, effective, inheritable and ambient sets.
  ///
  /// **Capabilities belong to a thread** (capabilities(7)): other threads that exist keep theirs, and those that this
  /// one starts later have what is left. So call it before the program starts its threads, or in each of them (libpsx,
  /// which is to do so in all, knows none that std::thread started). A program that the thread executes gets new ones
  /// if its user is root or its file has some: see forbid_new_privileges(). The identity does not change: root without
  /// capabilities still owns root's files.
  ///
  /// Throws Error: the kernel refuses capset(2), as under a seccomp filter; then nothing has changed.
  static void drop(Privileges keep);

 private:
  constexpr explicit Privileges(std::uint64_t bits) noexcept : bits_(bits) {}
  static constexpr std::uint64_t bit(int capability) noexcept { return std::uint64_t{1} << capability; }

  std::uint64_t bits_ = 0;
};

/// From now on no program that this thread, or one that it starts, executes gets more than the thread has: no
/// set-user-ID, no file capabilities, nothing for being root (PR_SET_NO_NEW_PRIVS). Cannot be undone. Not for a program
/// that runs commands of its user, such as sudo. Throws Error.
TCPINFO_EXPORT void forbid_new_privileges();

}  // namespace tcpinfo
