// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include <tcpinfo/record.hpp>

/// How values become text, for all outputs.
namespace tcpinfo::detail {

/// An integer member of `record`, whether it is present or not; `row` must be of an integer.
inline std::uint64_t load(const tcpinfo_record& record, const FieldInfo& row) noexcept {
  const auto* member = reinterpret_cast<const std::byte*>(&record) + row.offset;
  const auto read = [member]<class T>(T value) -> std::uint64_t {
    std::memcpy(&value, member, sizeof(value));
    return value;
  };
  switch (row.size) {
    case 1:
      return read(std::uint8_t{});
    case 2:
      return read(std::uint16_t{});
    case 4:
      return read(std::uint32_t{});
    default:
      return read(std::uint64_t{});
  }
}

inline const tcpinfo_address& load_address(const tcpinfo_record& record, const FieldInfo& row) noexcept {
  return *reinterpret_cast<const tcpinfo_address*>(reinterpret_cast<const std::byte*>(&record) + row.offset);
}

inline const tcpinfo_name& load_name(const tcpinfo_record& record, const FieldInfo& row) noexcept {
  return *reinterpret_cast<const tcpinfo_name*>(reinterpret_cast<const std::byte*>(&record) + row.offset);
}

/// What a code of this format is called, as "ESTABLISHED" or "true"; empty for plain numbers and unknown codes, which
/// are shown in decimal.
std::string_view code_name(Format format, std::uint64_t code) noexcept;
/// The inverse of code_name.
std::optional<std::uint64_t> code_of(Format format, std::string_view name) noexcept;

void append_decimal(std::string& out, std::uint64_t value);
/// What to_string() gives, without its allocation.
void append_address(std::string& out, const tcpinfo_address& address);

}  // namespace tcpinfo::detail
