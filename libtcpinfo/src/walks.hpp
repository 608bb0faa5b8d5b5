// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace tcpinfo {

/// Calls `visit` with the path and the id of the cgroup `root` and of each below it, parents first, until it says
/// false. Those that go meanwhile are left out. The errno of the first that could not be read, the root included, or 0.
int walk_cgroups(const std::filesystem::path& root,
                 const std::function<bool(const std::string& path, std::uint64_t id)>& visit);

/// Calls `visit` with the inode of each descriptor in `directory`, as /proc/PID/fd, that is a socket, and with 0 for
/// each that is not, until it says false. An errno if not all could be looked at (ENOENT: the process has ended), or 0.
int walk_sockets(const std::string& directory, const std::function<bool(std::uint64_t inode)>& visit);

}  // namespace tcpinfo
