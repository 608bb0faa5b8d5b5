// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/csv.hpp>

#include <utility>

#include <tcpinfo/format.hpp>

#include "value.hpp"

namespace tcpinfo {
namespace {

void append_text(std::string& out, std::string_view text) {
  // Quotes tell an empty text from an absent one, for readers that look.
  if (!text.empty() && text.find_first_of(",\"\r\n") == std::string_view::npos) {
    out += text;
    return;
  }
  out += '"';
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  out += '"';
}

}  // namespace

CsvWriter::CsvWriter(std::vector<Field> fields) : fields_(std::move(fields)) {
  if (fields_.empty())
    for (const auto& row : tcpinfo::fields()) fields_.push_back(row.field);
}

std::string CsvWriter::header() const {
  std::string header;
  for (const auto field : fields_) {
    if (!header.empty()) header += ',';
    header += info(field).name;
  }
  return header;
}

std::string_view CsvWriter::line(const Record& record) {
  line_.clear();
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    if (i != 0) line_ += ',';
    const auto& row = info(fields_[i]);
    if (row.format != Format::text)
      append_value(line_, record, row.field);
    else if (record.has(row.field))
      append_text(line_, text(detail::load_name(record.raw(), row)));
  }
  return line_;
}

}  // namespace tcpinfo
