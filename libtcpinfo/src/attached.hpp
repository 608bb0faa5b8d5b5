// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <linux/types.h>

#include <filesystem>
#include <optional>

namespace tcpinfo {

/// Whether a sock_ops program other than `own` runs for sockets of the cgroup or, where `deep`, of one below it, which
/// takes some 20 us a cgroup. Nothing where that cannot be found out, as without CAP_NET_ADMIN.
std::optional<bool> has_other_sock_ops_program(const std::filesystem::path& cgroup, __u32 own, bool deep) noexcept;

}  // namespace tcpinfo
