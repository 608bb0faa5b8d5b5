// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/cgroup.hpp>

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <fstream>
#include <string>

#include <tcpinfo/error.hpp>

namespace tcpinfo {
namespace {

// /proc/self/mountinfo writes space, tab, newline and backslash as three octal digits (proc(5)).
std::string unescape(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

std::filesystem::path cgroup2_mount() {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    const auto separator = line.find(" - ");
    if (separator == std::string::npos || line.compare(separator + 3, 8, "cgroup2 ") != 0) continue;
    // id parent major:minor root mount-point options... - type source options
    std::size_t begin = 0;
    for (int i = 0; i < 4; ++i) begin = line.find(' ', begin) + 1;
    return unescape(line.substr(begin, line.find(' ', begin) - begin));
  }
  throw Error(std::error_code(ENODEV, std::generic_category()), "find the cgroup v2 mount in /proc/self/mountinfo",
              "mount it: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified");
}

std::filesystem::path own_cgroup() {
  const auto mount = cgroup2_mount();
  std::ifstream cgroups("/proc/self/cgroup");
  for (std::string line; std::getline(cgroups, line);)
    if (line.starts_with("0::/")) return line.size() == 4 ? mount : mount / line.substr(4);
  throw Error(std::error_code(ENODEV, std::generic_category()), "find the cgroup v2 of this process in /proc/self/cgroup",
              "");
}

std::uint64_t cgroup_id(const std::filesystem::path& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0)
    throw Error(std::error_code(errno, std::generic_category()), "open cgroup " + path.string(),
                "create it with mkdir below the cgroup v2 mount, or see tcpinfo doctor for where that is");
  if (!S_ISDIR(status.st_mode))
    throw Error(std::error_code(ENOTDIR, std::generic_category()), "open cgroup " + path.string(),
                "a cgroup is a directory below the cgroup v2 mount");
  struct statfs filesystem {};
  if (statfs(path.c_str(), &filesystem) != 0)
    throw Error(std::error_code(errno, std::generic_category()), "open cgroup " + path.string(), "");
  if (filesystem.f_type != CGROUP2_SUPER_MAGIC) {
    const bool v1 = filesystem.f_type == CGROUP_SUPER_MAGIC;
    throw Error(make_error_code(Errc::kNotCgroup2), "open cgroup " + path.string(),
                (v1 ? "it belongs to a cgroup v1 hierarchy; use a directory below "
                    : "use a directory below ") +
                    cgroup2_mount().string());
  }
  // kernfs: the inode number is the id wherever ino_t has 64 bits.
  return status.st_ino;
}

}  // namespace tcpinfo
