// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <tcpinfo/owner.hpp>
#include <tcpinfo/record.hpp>

#include "output.hpp"

namespace cli {

/// kLive: records as they come, the header repeated on every screen. kSockets: one row a socket, one header.
enum class TableKind { kLive, kSockets };

/// Records as aligned rows for a terminal. What fits into the width is shown.
class RecordTable {
 public:
  /// All that matters most, or the given fields in that order, and with owners one behind them. Times count from
  /// `start_ns`, boot time.
  RecordTable(TableKind kind, TerminalSize size, std::uint64_t start_ns, std::vector<tcpinfo::Field> fields = {},
              bool owners = false);

  void resize(TerminalSize size);
  /// The owner, where there is one, has the record's pid and comm.
  void append(std::string& out, const tcpinfo::Record& record, const tcpinfo::Owner* owner = nullptr);

 private:
  enum class Align : std::uint8_t { kLeft, kRight, kAddress };
  struct Column {
    std::string_view header;
    std::size_t width;
    Align align;
    std::function<std::string(const tcpinfo::Record&)> text;
  };

  void lay_out();
  void lay_out_fields();

  TableKind kind_;
  TerminalSize size_;
  std::uint64_t start_ns_;
  std::vector<tcpinfo::Field> fields_;
  bool owners_;
  std::vector<Column> columns_;
  std::size_t rows_until_header_ = 0;
};

/// Appends `text`, broken between words so that no line is longer than `width`; lines after the first are indented.
void append_wrapped(std::string& out, std::string_view text, std::size_t indent, std::size_t width);

}  // namespace cli
