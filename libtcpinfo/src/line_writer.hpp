// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <tcpinfo/record.hpp>

#include "value.hpp"

namespace tcpinfo::detail {

/// What stands before a column's value at most: the separator from the column before it, and the key.
inline constexpr std::size_t kLongestPrefix = 32;

/// Which bytes of a name a format takes as they are.
using PlainBytes = std::array<bool, 256>;

/// Writes a name that ends before its first byte that is not plain: the end of the text, or nullptr where an other byte
/// comes first. 16 bytes are overwritten.
inline char* write_plain(char* out, const tcpinfo_name& name, const PlainBytes& plain) noexcept {
  std::size_t length = 0;
  while (length < sizeof(name.text) && plain[static_cast<unsigned char>(name.text[length])]) ++length;
  if (length < sizeof(name.text) && name.text[length] != '\0') return nullptr;
  std::memcpy(out, name.text, sizeof(name.text));
  return out + length;
}

/// Writes the columns of a record as one line. What comes before a value and the names of codes are prepared and copied
/// as chunks of one size, a store or two each, into a buffer for the longest line, so that its end is never looked at.
///
/// Style has:
///   kAbsent        what an absent field shows
///   kQuote         what stands around addresses and the names of codes
///   kEnd           what follows the last column
///   kLongestText   how long a name can become, not less than 16
///   prefix(row, first)      the text before a value, up to kLongestPrefix
///   write_text(out, name)   writes a name and gives back the end of the text
template <class Style>
class LineWriter {
 public:
  /// All fields, or those given, in that order.
  explicit LineWriter(std::vector<Field> fields) : fields_(std::move(fields)) {
    if (fields_.empty())
      for (const auto& row : tcpinfo::fields()) fields_.push_back(row.field);
    for (const auto field : fields_) {
      const auto& row = info(field);
      auto& column = columns_.emplace_back(Column{{}, 0, row.format, field, row.offset, row.size});
      const auto length =
          std::string_view(Style::prefix(row, columns_.size() == 1)).copy(column.prefix, kLongestPrefix);
      column.prefix_length = static_cast<std::uint8_t>(length);
    }
    for (std::size_t format = 0; format < names_.size(); ++format)
      for (std::size_t code = 0; code < kCodes; ++code) prepare(static_cast<Format>(format), code);
    line_ = std::make_unique<char[]>(columns_.size() * kLongestColumn + Style::kEnd.size());
  }

  const std::vector<Field>& fields() const noexcept { return fields_; }

  /// Valid until the next call.
  std::string_view write(const Record& record) noexcept {
    char* out = line_.get();
    for (const auto& column : columns_) {
      std::memcpy(out, column.prefix, kLongestPrefix);
      out += column.prefix_length;
      if (!record.has(column.field))
        out = append(out, Style::kAbsent);
      else if (column.format == Format::number)
        out = write_decimal(out, load(record.raw(), column));
      else
        out = write_other(out, record.raw(), column);
    }
    out = append(out, Style::kEnd);
    return {line_.get(), static_cast<std::size_t>(out - line_.get())};
  }

 private:
  struct Column {
    char prefix[kLongestPrefix];
    std::uint8_t prefix_length;
    Format format;
    Field field;
    std::uint16_t offset, size;
  };
  /// With its quotes; of length 0 where the code has none.
  struct Name {
    char text[23];
    std::uint8_t length;
  };
  static constexpr std::size_t kCodes = 16;  // those with a name are fewer
  static constexpr std::size_t kLongestColumn =
      kLongestPrefix + std::max({kDecimalRoom, sizeof(Name), kLongestAddress + 2, Style::kLongestText});

  static char* append(char* out, std::string_view text) noexcept {
    std::memcpy(out, text.data(), text.size());
    return out + text.size();
  }

  void prepare(Format format, std::size_t code) noexcept {
    const auto name = code_name(format, code);
    const std::string_view quote = format == Format::boolean ? "" : Style::kQuote;
    auto& prepared = names_[static_cast<std::size_t>(format)][code];
    if (name.empty() || name.size() + 2 * quote.size() > sizeof(prepared.text)) return;
    const auto* end = append(append(append(prepared.text, quote), name), quote);
    prepared.length = static_cast<std::uint8_t>(end - prepared.text);
  }

  // Not inlined: what is rare would take registers from the loop over numbers.
  [[gnu::noinline]] char* write_other(char* out, const tcpinfo_record& record, const Column& column) const noexcept {
    switch (column.format) {
      case Format::text:
        return Style::write_text(out, load_name(record, column));
      case Format::address:
        out = append(out, Style::kQuote);
        out = write_address(out, load_address(record, column));
        return append(out, Style::kQuote);
      default: {
        const auto code = load(record, column);
        const auto& names = names_[static_cast<std::size_t>(column.format)];
        if (code >= kCodes || names[code].length == 0) return write_decimal(out, code);
        std::memcpy(out, names[code].text, sizeof(names[code].text));
        return out + names[code].length;
      }
    }
  }

  std::vector<Field> fields_;
  std::vector<Column> columns_;
  std::array<std::array<Name, kCodes>, static_cast<std::size_t>(Format::text) + 1> names_{};
  std::unique_ptr<char[]> line_;
};

}  // namespace tcpinfo::detail
