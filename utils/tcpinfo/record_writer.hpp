// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <unistd.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <tcpinfo/csv.hpp>
#include <tcpinfo/json.hpp>
#include <tcpinfo/owner.hpp>
#include <tcpinfo/source.hpp>

#include "output.hpp"
#include "table.hpp"

namespace cli {

enum class Format { kTable, kJsonLines, kCsv };

/// What --format says; where it was not given, a table on a terminal behind `descriptor` and JSON lines elsewhere.
/// Throws Failure (kUsage).
Format parse_format(const std::optional<std::string>& given, int descriptor = STDOUT_FILENO);
/// The fields that --fields names. Throws Failure (kUsage).
std::vector<tcpinfo::Field> parse_fields(const std::vector<std::string>& names);

/// Records in the format that was asked for, gathered in the output's buffer. JSON and CSV with fields of which a gap
/// record has none leave gap records out. With owners, records wait for flush(), which looks for the owners of all of
/// them at once.
class RecordWriter {
 public:
  /// The table counts times from `start_ns`, boot time.
  RecordWriter(Format format, const std::vector<tcpinfo::Field>& fields, TableKind kind, Output& output,
               std::optional<tcpinfo::OwnersOptions> owners = std::nullopt,
               std::uint64_t start_ns = tcpinfo::boot_time_ns());

  void append(const tcpinfo::Record& record);
  /// As Output::flush().
  void flush();
  /// Records that were appended and are not written, or not whole, by event.
  tcpinfo::EventCounts unwritten() const noexcept;
  /// What can be said of owners here.
  tcpinfo::Capabilities capabilities() const;

 private:
  struct Line {
    std::uint64_t end;  // of all that the output is given
    std::size_t event;
  };

  void write(const tcpinfo::Record& record, const tcpinfo::Owner* owner);

  Format format_;
  Output& output_;
  bool tells_gaps_;  // the fields that were asked for can
  tcpinfo::JsonWriter json_;
  tcpinfo::CsvWriter csv_;
  RecordTable table_;
  std::optional<tcpinfo::Owners> owners_;
  std::vector<tcpinfo_record> waiting_;
  std::vector<Line> lines_;  // that the buffer holds
};

}  // namespace cli
