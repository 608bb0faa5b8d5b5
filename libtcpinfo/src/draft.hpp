// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <tcpinfo/record.hpp>

namespace tcpinfo {

/// A record under way. The presence bits gather here, where the compiler can keep them in registers.
struct Draft {
  tcpinfo_record& record;
  std::uint64_t present[TCPINFO_PRESENT_WORDS];

  void mark(Field field) noexcept {
    const auto bit = static_cast<unsigned>(field);
    present[bit / 64] |= std::uint64_t{1} << (bit % 64);
  }
  void unmark(Field field) noexcept {
    const auto bit = static_cast<unsigned>(field);
    present[bit / 64] &= ~(std::uint64_t{1} << (bit % 64));
  }
  bool has(Field field) const noexcept {
    const auto bit = static_cast<unsigned>(field);
    return (present[bit / 64] >> (bit % 64)) & 1;
  }
  void finish() const noexcept { std::memcpy(record.present, present, sizeof(present)); }
};

#define TCPINFO_PUT(id, value)                                       \
  do {                                                               \
    draft.record.id = static_cast<decltype(draft.record.id)>(value); \
    draft.mark(Field::id);                                           \
  } while (0)

template <class T>
T load(const std::byte* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

}  // namespace tcpinfo
