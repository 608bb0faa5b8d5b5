// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>

#include <tcpinfo/export.hpp>

namespace tcpinfo {

/// Where the cgroup v2 hierarchy is mounted, found by its type in /proc/self/mountinfo: /sys/fs/cgroup on most systems,
/// below it on hybrid ones. Throws Error (ENODEV) where none is mounted. Thread safe.
TCPINFO_EXPORT std::filesystem::path cgroup2_mount();

/// The cgroup v2 that this process is in, as a path below the mount. Throws Error (ENODEV). Thread safe.
TCPINFO_EXPORT std::filesystem::path own_cgroup();

/// The id that records carry in cgroup_id. Throws Error: `path` does not exist (ENOENT), is no directory (ENOTDIR), is
/// in no cgroup v2 hierarchy (Errc::kNotCgroup2). Thread safe.
TCPINFO_EXPORT std::uint64_t cgroup_id(const std::filesystem::path& path);

}  // namespace tcpinfo
