// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include <tcpinfo/record.hpp>

/// How values become text, for all outputs.
namespace tcpinfo::detail {

/// An integer member of `record`, whether it is present or not. `row`, which must be of an integer, is a FieldInfo or
/// has its offset and size.
template <class Row>
std::uint64_t load(const tcpinfo_record& record, const Row& row) noexcept {
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

template <class Row>
const tcpinfo_address& load_address(const tcpinfo_record& record, const Row& row) noexcept {
  return *reinterpret_cast<const tcpinfo_address*>(reinterpret_cast<const std::byte*>(&record) + row.offset);
}

template <class Row>
const tcpinfo_name& load_name(const tcpinfo_record& record, const Row& row) noexcept {
  return *reinterpret_cast<const tcpinfo_name*>(reinterpret_cast<const std::byte*>(&record) + row.offset);
}

/// What a code of this format is called, as "ESTABLISHED" or "true"; empty for plain numbers and unknown codes, which
/// are shown in decimal.
std::string_view code_name(Format format, std::uint64_t code) noexcept;
/// The inverse of code_name.
std::optional<std::uint64_t> code_of(Format format, std::string_view name) noexcept;

/// Each number below 1000 as three digits, then how many of them are leading zeros. 4 kB stay in the first level cache,
/// where a table of four digits does not.
inline constexpr auto kThreeDigits = [] {
  std::array<char, 4000> table{};
  for (unsigned i = 0; i < 1000; ++i) {
    table[4 * i] = static_cast<char>('0' + i / 100);
    table[4 * i + 1] = static_cast<char>('0' + i / 10 % 10);
    table[4 * i + 2] = static_cast<char>('0' + i % 10);
    table[4 * i + 3] = static_cast<char>(i < 10 ? 2 : i < 100 ? 1 : 0);
  }
  return table;
}();

/// A number below 1000, with and without its leading zeros: the parts of write_decimal(). Four bytes are overwritten.
inline char* write_three(char* out, std::uint32_t number) noexcept {
  std::memcpy(out, &kThreeDigits[4 * number], 4);
  return out + 3;
}
inline char* write_leading(char* out, std::uint32_t number) noexcept {
  const auto zeros = static_cast<unsigned char>(kThreeDigits[4 * number + 3]);
  std::memcpy(out, &kThreeDigits[4 * number + zeros], 4);
  return out + 3 - zeros;
}

/// What write_decimal() may overwrite: 20 digits and what its stores write beyond them.
inline constexpr std::size_t kDecimalRoom = 24;

/// Writes a number and gives back the end of the text. Small numbers, which most are, pass the fewest branches.
inline char* write_decimal(char* out, std::uint64_t value) noexcept {
  const auto low = static_cast<std::uint32_t>(value);
  if (value < 1000) return write_leading(out, low);
  if (value < 1'000'000) return write_three(write_leading(out, low / 1000), low % 1000);
  if (value < 1'000'000'000)
    return write_three(write_three(write_leading(out, low / 1'000'000), low / 1000 % 1000), low % 1000);
  out = write_decimal(out, value / 1'000'000'000);
  const auto rest = static_cast<std::uint32_t>(value % 1'000'000'000);
  return write_three(write_three(write_three(out, rest / 1'000'000), rest / 1000 % 1000), rest % 1000);
}

/// What write_address() may overwrite.
inline constexpr std::size_t kLongestAddress = 48;
/// Writes what to_string() gives and gives back the end of the text.
char* write_address(char* out, const tcpinfo_address& address) noexcept;

void append_decimal(std::string& out, std::uint64_t value);
void append_address(std::string& out, const tcpinfo_address& address);

}  // namespace tcpinfo::detail
