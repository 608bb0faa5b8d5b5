// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <filesystem>
#include <istream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// What /proc says of cgroups. Pure functions of its texts.
namespace tcpinfo::cgroup {

struct Mount {
  std::string root;  // what of the hierarchy is mounted, as seen from this process's cgroup namespace
  std::filesystem::path point;
};

/// The mounts of cgroup v2 in a text like /proc/self/mountinfo.
std::vector<Mount> mounts_of(std::istream& mountinfo);

/// The path of the v2 hierarchy in a text like /proc/PID/cgroup, without the mark of a removed one.
std::optional<std::string> path_of(std::istream& cgroups);

/// Where `cgroup`, a path as path_of() gives it, lies below the mount; nothing if the mount does not show it.
std::optional<std::filesystem::path> place_of(std::string_view cgroup, const Mount& mount);

/// The directory names that the cgroup of `unit` may have: systemd puts a _ before names that the kernel could take for
/// one of its own files.
bool is_unit(std::string_view directory, std::string_view unit);

}  // namespace tcpinfo::cgroup
