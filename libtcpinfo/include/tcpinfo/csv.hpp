// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <tcpinfo/record.hpp>

namespace tcpinfo {

/// Writes CSV (RFC 4180, without the newline): a header of field names, then a line a record, nothing between the commas
/// for an absent field. Not thread safe.
class TCPINFO_EXPORT CsvWriter {
 public:
  /// All fields, or those given, in that order.
  explicit CsvWriter(std::vector<Field> fields = {});
  ~CsvWriter();
  CsvWriter(CsvWriter&&) noexcept;
  CsvWriter& operator=(CsvWriter&&) noexcept;

  std::string header() const;
  /// Valid until the next call.
  std::string_view line(const Record& record);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tcpinfo
