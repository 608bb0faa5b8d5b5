// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <tcpinfo/owner.hpp>
#include <tcpinfo/record.hpp>

namespace tcpinfo {

/// Writes JSON lines: a line that describes the schema, then one object a record with the table's names as keys, in the
/// table's order and units, null for an absent field. The lines have no newline at their end. Not thread safe.
class TCPINFO_EXPORT JsonWriter {
 public:
  /// All fields, or those given, in that order; with owners, those of owner_fields() behind them.
  explicit JsonWriter(std::vector<Field> fields = {}, bool owners = false);
  ~JsonWriter();
  JsonWriter(JsonWriter&&) noexcept;
  JsonWriter& operator=(JsonWriter&&) noexcept;

  /// {"schema":"tcpinfo","version":1,"fields":[{"name":"rtt","type":"u32","unit":"us","kind":"gauge"}, ...]}
  std::string schema() const;
  /// Valid until the next call.
  std::string_view line(const Record& record);
  /// With its owner, or without where that is nullptr: then what the record has of it is shown. For a writer with owners.
  std::string_view line(const Record& record, const Owner* owner);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Reads a line of JsonWriter back. Keys that are not in the table are ignored, null and missing keys are absent.
/// Throws Error (Errc::kMalformed) that says what is wrong with the line. Thread safe.
TCPINFO_EXPORT tcpinfo_record parse_json(std::string_view line);

/// Whether a line is the schema line that a file begins with. Throws as parse_json, also for another version.
TCPINFO_EXPORT bool is_schema(std::string_view line);

/// All records of a JSON lines file. Throws Error: the file cannot be read (errno), a line is malformed (named by its
/// number), the schema line is missing. A last line that was cut off (no newline) is left out and `truncated`, if given,
/// is set.
TCPINFO_EXPORT std::vector<tcpinfo_record> read_json_lines(const std::filesystem::path& path,
                                                           bool* truncated = nullptr);

}  // namespace tcpinfo
