// SPDX-License-Identifier: BSD-2-Clause
#include "record_writer.hpp"

#include <unistd.h>

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "command.hpp"
#include "units.hpp"

namespace cli {

std::size_t event_of(const tcpinfo::Record& record) noexcept {
  const auto event = record.event().value_or(TCPINFO_EVENT_NONE);
  return event < tcpinfo::kEventCount ? event : 0u;
}

Format parse_format(const std::optional<std::string>& given, int descriptor) {
  static constexpr std::string_view kFormats[] = {"table", "jsonl", "csv"};
  if (given) return static_cast<Format>(choose("--format", *given, kFormats));
  return is_terminal(descriptor) ? Format::kTable : Format::kJsonLines;
}

std::vector<tcpinfo::Field> parse_fields(const std::vector<std::string>& names) {
  std::vector<tcpinfo::Field> fields;
  for (const auto& name : names) {
    const auto* row = tcpinfo::find_field(name);
    if (!row) {
      std::vector<std::string_view> all;
      for (const auto& field : tcpinfo::fields()) all.push_back(field.name);
      usage_error(fmt::format("--fields: unknown field {} (did you mean {}? tcpinfo fields lists them)", name,
                              nearest(name, all)));
    }
    fields.push_back(row->field);
  }
  return fields;
}

RecordWriter::RecordWriter(Format format, const std::vector<tcpinfo::Field>& fields, TableKind kind, Output& output,
                           std::optional<tcpinfo::OwnersOptions> owners, std::uint64_t start_ns, bool owners_are_given)
    : format_(format),
      output_(output),
      tells_gaps_(fields.empty() || std::ranges::any_of(fields,
                                                        [](auto field) {
                                                          using enum tcpinfo::Field;
                                                          return field == event || field == lost_records ||
                                                                 field == lost_event;
                                                        })),
      json_(fields, owners || owners_are_given),
      csv_(fields, owners || owners_are_given),
      table_(kind, terminal_size(output.descriptor()), start_ns, fields, owners || owners_are_given) {
  if (owners) look_up_.emplace(*owners);
  if (format_ == Format::kJsonLines) output_.buffer() += json_.schema() + '\n';
  if (format_ == Format::kCsv) output_.buffer() += csv_.header() + '\n';
  output_.flush();
}

void RecordWriter::append(const tcpinfo::Record& record) {
  if (look_up_)
    look_up_->append(record);
  else
    append(record, nullptr);
}

void RecordWriter::append(const tcpinfo::Record& record, const tcpinfo::Owner* owner) {
  // A line of nothing but absent values would say nothing, and be taken for a record of a connection.
  if (!tells_gaps_ && format_ != Format::kTable && record.event() == TCPINFO_EVENT_GAP) return;
  auto& buffer = output_.buffer();
  switch (format_) {
    case Format::kTable:
      if (owner)
        table_.append(buffer, tcpinfo::Record(with_owner(record, *owner)), owner);
      else
        table_.append(buffer, record);
      break;
    case Format::kJsonLines:
      (buffer += json_.line(record, owner)) += '\n';
      break;
    case Format::kCsv:
      (buffer += csv_.line(record, owner)) += '\n';
      break;
  }
  lines_.push_back({output_.written() + buffer.size(), event_of(record)});
}

void RecordWriter::flush() {
  if (look_up_) look_up_->flush([this](const auto& record, const auto* owner) { append(record, owner); });
  output_.flush();
  lines_.clear();
  if (format_ == Format::kTable) table_.resize(terminal_size(output_.descriptor()));
}

tcpinfo::EventCounts RecordWriter::unwritten() const noexcept {
  tcpinfo::EventCounts counts{};
  for (const auto& line : lines_)
    if (line.end > output_.written()) ++counts[line.event];
  if (look_up_)
    for (const auto& raw : look_up_->waiting()) ++counts[event_of(tcpinfo::Record(raw))];
  return counts;
}

tcpinfo::Capabilities RecordWriter::capabilities() const {
  return look_up_ ? look_up_->capabilities() : tcpinfo::Capabilities();
}

}  // namespace cli
