// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <dirent.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

namespace tcpinfo::cgroup {

/// Calls `visit` for the cgroup and for each below it, parents first, until it answers false. Cgroups come and go
/// meanwhile: of one that has gone nothing is said, and it hides no other. 0, or why a directory could not be read.
template <class Visit>
int visit_tree(const std::filesystem::path& cgroup, Visit&& visit) {
  std::vector<std::filesystem::path> waiting{cgroup};
  while (!waiting.empty()) {
    const auto path = std::move(waiting.back());
    waiting.pop_back();
    if (!visit(path)) return 0;
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
    if (!directory && errno != ENOENT && errno != ENODEV) return errno;
    if (!directory) continue;
    while (const dirent* entry = ::readdir(directory.get()))
      if (const std::string_view name = entry->d_name; entry->d_type == DT_DIR && name != "." && name != "..")
        waiting.push_back(path / name);
  }
  return 0;
}

}  // namespace tcpinfo::cgroup
