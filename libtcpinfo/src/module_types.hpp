// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <filesystem>

#include "system.hpp"

namespace tcpinfo::bpf {

/// The kernel's types and, of those congestion controls that are modules, the structures that the BPF programs read, as
/// one file of BTF; nothing if no such module is there or its types cannot be read. `directory` is /sys/kernel/btf,
/// whose files need no privilege. Only while a LibbpfLog lives.
sys::Fd types_with_modules(const std::filesystem::path& directory) noexcept;

}  // namespace tcpinfo::bpf
