// SPDX-License-Identifier: BSD-2-Clause
#include "empty_program.hpp"

#include <fcntl.h>
#include <linux/bpf.h>

#include <bpf/bpf.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <system_error>

#include <tcpinfo/error.hpp>

namespace bench {

lab::Fd attach_empty_program(const lab::Cgroup& cgroup, Callbacks wanted) {
  const auto fail = [](const std::string& action) {
    throw tcpinfo::Error({errno, std::generic_category()}, action, "needs CAP_BPF and CAP_NET_ADMIN");
  };
  const bool rtt = wanted == Callbacks::kRtt;
  const std::array<bpf_insn, 6> asking{
      bpf_insn{BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, offsetof(bpf_sock_ops, op), 0},
      bpf_insn{BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_2, 0, 2, rtt ? BPF_SOCK_OPS_RTT_CB : BPF_SOCK_OPS_STATE_CB},
      bpf_insn{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_2, 0, 0,
               rtt ? BPF_SOCK_OPS_RTT_CB_FLAG : BPF_SOCK_OPS_STATE_CB_FLAG},
      bpf_insn{BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_sock_ops_cb_flags_set},
      bpf_insn{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1},
      bpf_insn{BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  const std::size_t first = wanted == Callbacks::kNone ? 4 : 0;
  const lab::Fd loaded(
      bpf_prog_load(BPF_PROG_TYPE_SOCK_OPS, "floor", "GPL", asking.data() + first, asking.size() - first, nullptr));
  if (loaded.get() < 0) fail("load an empty sock_ops program");
  const lab::Fd directory(::open(cgroup.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  lab::Fd link(bpf_link_create(loaded.get(), directory.get(), BPF_CGROUP_SOCK_OPS, nullptr));
  if (link.get() < 0) fail("attach an empty sock_ops program to " + cgroup.path().string());
  return link;
}

}  // namespace bench
