// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <string>

/// What a kernel must have for a test, found by trying, and without the sources that are under test: a source that does
/// not load where it should is a failure.
namespace lab {

/// Empty, or what this kernel lacks for the sources that load BPF programs. Kernels without atomic fetch-and-add in BPF
/// have no bpf_get_socket_cookie() in iterators either (both came with 5.12).
inline std::string missing_for_bpf() {
  static const std::string missing = [] {
    const bpf_insn program[] = {
        {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1},
        {BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, BPF_REG_0, -8, 0},
        {BPF_STX | BPF_ATOMIC | BPF_DW, BPF_REG_10, BPF_REG_0, -8, BPF_ADD | BPF_FETCH},
        {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
    };
    const int fd = bpf_prog_load(BPF_PROG_TYPE_SOCKET_FILTER, "probe", "GPL", program, 4, nullptr);
    if (fd >= 0) close(fd);
    return std::string(fd == -EINVAL ? "needs a kernel with atomic fetch-and-add in BPF" : "");
  }();
  return missing;
}

}  // namespace lab

/// Inside a test or SetUp().
#define TCPINFO_NEEDS_BPF() \
  if (const auto missing = lab::missing_for_bpf(); !missing.empty()) GTEST_SKIP() << missing
