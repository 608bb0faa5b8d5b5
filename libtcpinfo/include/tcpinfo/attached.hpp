// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <tcpinfo/export.hpp>

namespace tcpinfo {

/// A sock_ops program that runs for sockets of a cgroup.
struct AttachedProgram {
  std::uint32_t id = 0;          ///< as `bpftool prog show id` takes it
  std::string name;              ///< empty without CAP_SYS_ADMIN
  std::filesystem::path cgroup;  ///< that it is attached to: the one asked for, one above or one below it
};

/// The sock_ops programs that run for sockets of the cgroup v2 `cgroup` and of those below it: first those that are
/// effective on it, in the order in which they run, then those attached below. All of them share one word of callback
/// flags a socket. Throws Error: `cgroup` is none (as cgroup_id()), no privilege (EPERM), or what the kernel answered.
/// Thread safe.
///
/// Needs CAP_NET_ADMIN and a kernel with CONFIG_CGROUP_BPF. Source: BPF_PROG_QUERY of BPF_CGROUP_SOCK_OPS.
TCPINFO_EXPORT std::vector<AttachedProgram> sock_ops_programs(const std::filesystem::path& cgroup);

}  // namespace tcpinfo
