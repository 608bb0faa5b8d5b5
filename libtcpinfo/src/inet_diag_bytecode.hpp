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

/// More cgroups than this are not tested in the kernel. Each costs every other socket 1.4 ns there, under its bucket's
/// lock (kernel 6.18, 19,000 sockets): at about 750 it would be as dear as to give the socket, and the audit of a
/// program takes the square of its length.
inline constexpr std::size_t kMaxCgroups = 512;

/// The program for sockets that pass `filter` and, unless `cgroup_ids` is empty, were made in one of these cgroups. It
/// lets pass all that are wanted and may let pass more: IPv4-mapped addresses that lie below an IPv6 prefix, and any
/// cgroup if there are more than kMaxCgroups. The caller decides again on every record.
Program compile(const tcpinfo_filter& filter, std::span<const std::uint64_t> cgroup_ids);

}  // namespace tcpinfo::inet_diag
