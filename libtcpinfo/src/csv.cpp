// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/csv.hpp>

#include <string>
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
    return write_quoted(out, text);
  }

  /// Two bytes at most for each of the text's, and two.
  static char* write_quoted(char* out, std::string_view text) noexcept {
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
  bool owners;
  std::string with_owner;  // the last line
};

CsvWriter::CsvWriter(std::vector<Field> fields, bool owners)
    : impl_(new Impl{detail::LineWriter<CsvStyle>(std::move(fields)), owners, {}}) {}
CsvWriter::~CsvWriter() = default;
CsvWriter::CsvWriter(CsvWriter&&) noexcept = default;
CsvWriter& CsvWriter::operator=(CsvWriter&&) noexcept = default;

std::string CsvWriter::header() const {
  std::string header;
  for (const auto field : impl_->line.fields()) {
    if (!header.empty()) header += ',';
    header += info(field).name;
  }
  if (!impl_->owners) return header;
  for (const auto& field : owner_fields()) {
    header += ',';
    header += field.name;
  }
  return header;
}

std::string_view CsvWriter::line(const Record& record) { return line(record, nullptr); }

std::string_view CsvWriter::line(const Record& record, const Owner* owner) {
  if (!impl_->owners) return impl_->line.write(record);
  auto& text = impl_->with_owner;
  text = owner ? impl_->line.write(Record(with_owner(record, *owner))) : impl_->line.write(record);
  for (const auto& field : owner_fields()) {
    text += ',';
    const auto value = owner ? field.value(*owner) : std::string();
    if (value.find_first_of(",\"\r\n") == std::string::npos) {
      text += value;
      continue;
    }
    const auto begin = text.size();
    text.resize(begin + 2 * value.size() + 2);
    const char* end = CsvStyle::write_quoted(text.data() + begin, value);
    text.resize(static_cast<std::size_t>(end - text.data()));
  }
  return text;
}

}  // namespace tcpinfo
