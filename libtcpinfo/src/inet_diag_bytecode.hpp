// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <tcpinfo/tcpinfo_record.h>

namespace tcpinfo::inet_diag {

/// A program for INET_DIAG_REQ_BYTECODE, with which the kernel leaves out of a dump what is not wanted.
struct Program {
  std::vector<std::byte> bytes;  ///< empty: everything passes
  bool selects_cgroups = false;  ///< it tests the cgroup
};

/// More cgroups than this are not tested in the kernel. Each costs every other socket two steps under its bucket's lock,
/// and the kernel's audit of a program takes the square of its length: beyond a few hundred the caller is faster.
inline constexpr std::size_t kMaxCgroups = 256;

/// The program for sockets that pass `filter` and, unless `cgroup_ids` is empty, were made in one of these cgroups. It
/// lets pass all that are wanted and may let pass more: IPv4-mapped addresses that lie below an IPv6 prefix, and any
/// cgroup if there are more than kMaxCgroups. The caller decides again on every record.
Program compile(const tcpinfo_filter& filter, std::span<const std::uint64_t> cgroup_ids);

}  // namespace tcpinfo::inet_diag
