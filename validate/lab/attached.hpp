// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <bpf/bpf.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "lab/fd.hpp"
#include "lab/sockets.hpp"

/// What is attached of a test's own. What else the host has is not counted: others come and go.
namespace lab {

/// Programs that are attached to the cgroup itself.
inline unsigned count_attached(const std::filesystem::path& cgroup, bpf_attach_type type = BPF_CGROUP_SOCK_OPS) {
  const Fd directory(check(::open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open the cgroup"));
  __u32 count = 0;
  check(bpf_prog_query(directory.get(), type, 0, nullptr, nullptr, &count), "bpf_prog_query");
  return count;
}

/// Ids of the BPF links of which the process has a descriptor.
inline std::set<__u32> links_of(pid_t pid) {
  std::set<__u32> links;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fdinfo")) {
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);)
      if (line.starts_with("link_id:")) links.insert(static_cast<__u32>(std::stoul(line.substr(8))));
  }
  return links;
}

/// Those of the links that the kernel still has.
inline std::set<__u32> living(std::set<__u32> links) {
  std::erase_if(links, [](__u32 id) { return Fd(bpf_link_get_fd_by_id(id)).get() < 0; });
  return links;
}

}  // namespace lab
