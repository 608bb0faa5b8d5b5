// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <linux/types.h>

#include <filesystem>

namespace tcpinfo {

/// Whether a sock_ops program other than `own` runs for sockets of the cgroup or of one below it; also where that cannot
/// be found out. Looks below only where `deep`.
bool has_other_sock_ops_program(const std::filesystem::path& cgroup, __u32 own, bool deep) noexcept;

}  // namespace tcpinfo
