// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <tcpinfo/owner.hpp>
#include <tcpinfo/record.hpp>

namespace tcpinfo {

/// Writes CSV (RFC 4180, without the newline): a header of field names, then a line a record, nothing between the commas
/// for an absent field. Not thread safe.
class TCPINFO_EXPORT CsvWriter {
 public:
  /// All fields, or those given, in that order; with owners, those of owner_fields() behind them.
  explicit CsvWriter(std::vector<Field> fields = {}, bool owners = false);
  ~CsvWriter();
  CsvWriter(CsvWriter&&) noexcept;
  CsvWriter& operator=(CsvWriter&&) noexcept;

  std::string header() const;
  /// Valid until the next call.
  std::string_view line(const Record& record);
  /// With its owner, or without where that is nullptr: then what the record has of it is shown. For a writer with owners.
  std::string_view line(const Record& record, const Owner* owner);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tcpinfo
