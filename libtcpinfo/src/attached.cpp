// SPDX-License-Identifier: BSD-2-Clause
#include "attached.hpp"

#include <fcntl.h>

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <tcpinfo/attached.hpp>
#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/error.hpp>

#include "system.hpp"
#include "walks.hpp"

namespace tcpinfo {
namespace {

// kernel v6.18 include/linux/bpf-cgroup-defs.h has BPF_CGROUP_MAX_PROGS, 64, for one cgroup; more are effective on one
// that lies deep.
constexpr std::size_t kFirstGuess = 64;

/// What is attached to the cgroup itself, or with BPF_F_QUERY_EFFECTIVE what runs for it. An errno, or 0.
int query(const std::filesystem::path& cgroup, __u32 flags, std::vector<__u32>& ids) {
  const sys::Fd directory(::open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return errno;
  for (ids.resize(kFirstGuess);; ids.resize(ids.size() * 2)) {
    auto count = static_cast<__u32>(ids.size());
    if (bpf_prog_query(directory.get(), BPF_CGROUP_SOCK_OPS, flags, nullptr, ids.data(), &count) == 0) {
      ids.resize(count);
      return 0;
    }
    if (errno != ENOSPC) return errno;
  }
}

std::string name_of(__u32 id) {
  const sys::Fd program(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  __u32 size = sizeof(info);
  if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) return {};
  return info.name;
}

}  // namespace

std::vector<AttachedProgram> sock_ops_programs(const std::filesystem::path& cgroup) {
  cgroup_id(cgroup);
  std::vector<__u32> effective, own;
  int error = sys::fault("query sock_ops");
  if (!error) error = query(cgroup, BPF_F_QUERY_EFFECTIVE, effective);
  if (error)
    throw Error({error, std::generic_category()}, "list the sock_ops programs of " + cgroup.string(),
                error == EPERM ? "needs CAP_NET_ADMIN" : "");

  std::vector<AttachedProgram> programs;
  for (const auto id : effective) programs.push_back({id, name_of(id), {}});
  const auto mount = cgroup2_mount();
  auto path = std::filesystem::weakly_canonical(cgroup);
  for (bool more = true; more; path = path.parent_path()) {
    if (query(path, 0, own) == 0)
      for (auto& program : programs)
        if (program.cgroup.empty() && std::ranges::find(own, program.id) != own.end()) program.cgroup = path;
    more = path != mount && path.has_relative_path();
  }
  walk_cgroups(cgroup, [&](const std::string& below, std::uint64_t) {
    if (below != cgroup && query(below, 0, own) == 0)
      for (const auto id : own) programs.push_back({id, name_of(id), below});
    return true;
  });
  return programs;
}

std::optional<bool> has_other_sock_ops_program(const std::filesystem::path& cgroup, __u32 own, bool deep) noexcept {
  try {
    std::vector<__u32> ids;
    const auto is_other = [own](__u32 id) { return id != own; };
    if (query(cgroup, BPF_F_QUERY_EFFECTIVE, ids) != 0) return std::nullopt;
    bool found = std::ranges::any_of(ids, is_other);
    if (!found && deep)
      walk_cgroups(cgroup, [&](const std::string& below, std::uint64_t) {
        found = query(below, 0, ids) == 0 && std::ranges::any_of(ids, is_other);
        return !found;
      });
    return found;
  } catch (...) {
    return std::nullopt;
  }
}

}  // namespace tcpinfo
