// SPDX-License-Identifier: BSD-2-Clause
#include "cgroup_path.hpp"

namespace tcpinfo::cgroup {
namespace {

// /proc/self/mountinfo writes space, tab, newline and backslash as three octal digits (proc(5)).
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digits = text.substr(i + 1, 3);
    if (text[i] == '\\' && digits.size() == 3 && digits.find_first_not_of("01234567") == digits.npos) {
      out += static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 + (digits[2] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

std::vector<Mount> mounts_of(std::istream& mountinfo) {
  std::vector<Mount> mounts;
  for (std::string line; std::getline(mountinfo, line);) {
    const auto separator = line.find(" - ");
    if (separator == line.npos || line.compare(separator + 3, 8, "cgroup2 ") != 0) continue;
    // id parent major:minor root mount-point options... - type source options
    std::size_t begin = 0;
    for (int i = 0; i < 3; ++i) begin = line.find(' ', begin) + 1;
    const auto end = line.find(' ', begin);
    mounts.push_back({unescape(std::string_view(line).substr(begin, end - begin)),
                      unescape(std::string_view(line).substr(end + 1, line.find(' ', end + 1) - end - 1))});
  }
  return mounts;
}

std::optional<std::string> path_of(std::istream& cgroups) {
  constexpr std::string_view kRemoved = " (deleted)";
  for (std::string line; std::getline(cgroups, line);) {
    if (!line.starts_with("0::/")) continue;
    if (line.ends_with(kRemoved)) line.resize(line.size() - kRemoved.size());
    return line.substr(3);
  }
  return std::nullopt;
}

std::optional<std::filesystem::path> place_of(std::string_view cgroup, const Mount& mount) {
  if (mount.root != "/") {
    if (!cgroup.starts_with(mount.root)) return std::nullopt;
    cgroup.remove_prefix(mount.root.size());
    if (!cgroup.empty() && cgroup.front() != '/') return std::nullopt;
  }
  while (cgroup.starts_with('/')) cgroup.remove_prefix(1);
  // Outside the cgroup namespace, or above what is mounted.
  if (cgroup == ".." || cgroup.starts_with("../")) return std::nullopt;
  return cgroup.empty() ? mount.point : mount.point / cgroup;
}

bool is_unit(std::string_view directory, std::string_view unit) {
  if (directory.starts_with('_') && !unit.starts_with('_')) directory.remove_prefix(1);
  // foo@.service stands for foo@INSTANCE.service.
  const auto instance = unit.find("@.");
  if (instance == unit.npos) return directory == unit;
  const auto stem = unit.substr(0, instance + 1), ending = unit.substr(instance + 1);
  return directory.size() > unit.size() && directory.starts_with(stem) && directory.ends_with(ending);
}

}  // namespace tcpinfo::cgroup
