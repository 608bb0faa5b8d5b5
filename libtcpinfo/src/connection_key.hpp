// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace tcpinfo::detail {

/// A connection of one boot, in all network namespaces.
struct ConnectionKey {
  std::uint64_t cookie;
  std::uint32_t generation;
  bool operator==(const ConnectionKey&) const = default;
};
struct ConnectionKeyHash {
  std::size_t operator()(const ConnectionKey& key) const noexcept {
    return std::hash<std::uint64_t>()(key.cookie * 31 + key.generation);
  }
};

}  // namespace tcpinfo::detail
