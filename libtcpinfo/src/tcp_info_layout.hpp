// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "draft.hpp"

namespace tcpinfo {

/// A member as BTF places it, bit-field or not; of 0 bits where the kernel has none of that name.
struct BitField {
  std::uint32_t bit_offset = 0;
  std::uint32_t bits = 0;

  /// Nothing where the member is none or does not lie inside `length`.
  std::optional<std::uint32_t> read(const std::byte* bytes, std::size_t length) const noexcept;
};

/// The members of tcp_info whose place is not told by its length: the last four bytes of 280 are two u16 in kernel 6.18
/// and bit-fields in others.
struct TcpInfoLayout {
  BitField accecn_fail_mode, accecn_opt_seen;
};

/// The running kernel's; without them where its type information cannot be read. Thread safe.
const TcpInfoLayout& tcp_info_layout();

/// Sets and marks the fields of which `info` has the members.
void fill_tcp_info(Draft& draft, std::span<const std::byte> info, const TcpInfoLayout& layout) noexcept;

}  // namespace tcpinfo
