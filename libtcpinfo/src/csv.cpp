// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/csv.hpp>

#include <utility>

#include "line_writer.hpp"

namespace tcpinfo {
namespace {

struct CsvStyle {
  static constexpr std::string_view kAbsent = "", kQuote = "", kEnd = "";
  // Each byte of a name may be a quote, which is doubled.
  static constexpr std::size_t kLongestText = 2 * sizeof(tcpinfo_name) + 2;
  static constexpr auto kPlain = [] {
    detail::PlainBytes plain{};
    for (unsigned c = 1; c < plain.size(); ++c) plain[c] = c != ',' && c != '"' && c != '\r' && c != '\n';
    return plain;
  }();

  static std::string_view prefix(const FieldInfo&, bool first) noexcept { return first ? "" : ","; }

  static char* write_text(char* out, const tcpinfo_name& name) noexcept {
    const auto text = tcpinfo::text(name);
    // Quotes tell an empty text from an absent one, for readers that look.
    if (!text.empty())
      if (char* end = detail::write_plain(out, name, kPlain)) return end;
    *out++ = '"';
    for (const char c : text) {
      if (c == '"') *out++ = '"';
      *out++ = c;
    }
    *out++ = '"';
    return out;
  }
};

}  // namespace

struct CsvWriter::Impl {
  detail::LineWriter<CsvStyle> line;
};

CsvWriter::CsvWriter(std::vector<Field> fields) : impl_(new Impl{detail::LineWriter<CsvStyle>(std::move(fields))}) {}
CsvWriter::~CsvWriter() = default;
CsvWriter::CsvWriter(CsvWriter&&) noexcept = default;
CsvWriter& CsvWriter::operator=(CsvWriter&&) noexcept = default;

std::string CsvWriter::header() const {
  std::string header;
  for (const auto field : impl_->line.fields()) {
    if (!header.empty()) header += ',';
    header += info(field).name;
  }
  return header;
}

std::string_view CsvWriter::line(const Record& record) { return impl_->line.write(record); }

}  // namespace tcpinfo
