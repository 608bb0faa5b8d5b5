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

/// The place of its event in counts by event.
std::size_t event_of(const tcpinfo::Record& record) noexcept;

/// Records that wait until the owners of all of them are looked for at once.
class OwnerLookUp {
 public:
  explicit OwnerLookUp(const tcpinfo::OwnersOptions& options) : owners_(options) {}

  void append(const tcpinfo::Record& record) {
    owners_.find(record);
    waiting_.push_back(record.raw());
  }
  tcpinfo::Capabilities capabilities() const { return owners_.capabilities(); }
  const std::vector<tcpinfo_record>& waiting() const noexcept { return waiting_; }
  /// Passes on what waits, in its order, with the owners that are known.
  template <class Use>
  void flush(Use use) {
    if (waiting_.empty()) return;
    // Where it fails, records are passed on with what is known.
    static_cast<void>(owners_.refresh());
    for (const auto& raw : waiting_) use(tcpinfo::Record(raw), owners_.find(tcpinfo::Record(raw)));
    waiting_.clear();
  }

 private:
  tcpinfo::Owners owners_;
  std::vector<tcpinfo_record> waiting_;
};

/// Records in the format that was asked for, gathered in the output's buffer. JSON and CSV with fields of which a gap
/// record has none leave gap records out.
class RecordWriter {
 public:
  /// Owners are shown if they are to be looked for, or are given with the records. The table counts times from
  /// `start_ns`, boot time.
  RecordWriter(Format format, const std::vector<tcpinfo::Field>& fields, TableKind kind, Output& output,
               std::optional<tcpinfo::OwnersOptions> owners = std::nullopt,
               std::uint64_t start_ns = tcpinfo::boot_time_ns(), bool owners_are_given = false);

  void append(const tcpinfo::Record& record);
  void append(const tcpinfo::Record& record, const tcpinfo::Owner* owner);
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

  Format format_;
  Output& output_;
  bool tells_gaps_;  // the fields that were asked for can
  tcpinfo::JsonWriter json_;
  tcpinfo::CsvWriter csv_;
  RecordTable table_;
  std::vector<Line> lines_;  // that the buffer holds
  std::optional<OwnerLookUp> look_up_;
};

}  // namespace cli
