// SPDX-License-Identifier: BSD-2-Clause
#include "program_time.hpp"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>

#include <array>
#include <cerrno>
#include <string>

#include <tcpinfo/error.hpp>

#include "lab/fd.hpp"

namespace bench {
namespace {

[[noreturn]] void fail(int error, std::string action) {
  throw tcpinfo::Error({error, std::system_category()}, std::move(action), {});
}

}  // namespace

ProgramTime program_time(const std::filesystem::path& cgroup) {
  const lab::Fd directory(::open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0) fail(errno, "open cgroup " + cgroup.string());
  std::array<__u32, 64> ids{};
  __u32 count = ids.size();
  if (bpf_prog_query(directory.get(), BPF_CGROUP_SOCK_OPS, 0, nullptr, ids.data(), &count) != 0)
    fail(errno, "list the programs of cgroup " + cgroup.string());
  ProgramTime sum;
  for (__u32 i = 0; i < count; ++i) {
    const lab::Fd program(bpf_prog_get_fd_by_id(ids[i]));
    if (program.get() < 0) continue;  // gone since
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    if (bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) fail(errno, "ask for a program's run time");
    ++sum.programs;
    sum.runs += info.run_cnt;
    sum.seconds += static_cast<double>(info.run_time_ns) / 1e9;
  }
  return sum;
}

}  // namespace bench
