// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <span>

#include <tcpinfo/record.hpp>

namespace tcpinfo {

/// Reads what the running kernel gave for getsockopt(IPPROTO_TCP, TCP_INFO), or as INET_DIAG_INFO, into `record`: `state`
/// and the fields that are members of tcp_info, each marked present. `info` may be of any length: members that do not lie
/// whole inside it stay as they were, what follows the last known one is passed over. A member without meaning (rtt
/// before the first measurement, all but a few in LISTEN) is not marked.
///
/// Where the length of tcp_info does not tell what it holds, the kernel's BTF does; without it accecn_fail_mode and
/// accecn_opt_seen stay absent. Thread safe. Source: kernel net/ipv4/tcp.c tcp_get_info().
TCPINFO_EXPORT void read_tcp_info(std::span<const std::byte> info, tcpinfo_record& record) noexcept;

}  // namespace tcpinfo
