// SPDX-License-Identifier: BSD-2-Clause
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>
#include <CLI/CLI.hpp>

#include <tcpinfo/record.hpp>

#include "command.hpp"
#include "json.hpp"
#include "output.hpp"
#include "table.hpp"
#include "units.hpp"

namespace cli {
namespace {

using tcpinfo::FieldInfo;

std::string_view unit_text(const FieldInfo& field) {
  return field.unit == tcpinfo::Unit::none ? std::string_view() : tcpinfo::name(field.unit);
}

// iperf3's name and how its figure follows from ours.
std::string iperf3_text(const FieldInfo& field) {
  if (field.iperf3.empty()) return {};
  if (field.rule == tcpinfo::Rule::none) return std::string(field.iperf3);
  return fmt::format("{} ({})", field.iperf3, tcpinfo::name(field.rule));
}

// The sources that give it.
std::string sources_text(const FieldInfo& field) {
  std::string text;
  for (unsigned source = 1; source < TCPINFO_SOURCES; ++source) {
    const auto id = static_cast<tcpinfo::SourceId>(source);
    if (tcpinfo::gives(id, field.field)) text += (text.empty() ? "" : ", ") + std::string(tcpinfo::name(id));
  }
  return text;
}

std::string as_table(std::size_t width) {
  constexpr std::size_t kIndent = 4;
  std::string out = fmt::format("{:<26}{:<6}{:<13}{:<10}{}\n", "name", "type", "unit", "kind", "iperf3 (rule)");
  for (const auto& field : tcpinfo::fields()) {
    std::string line = fmt::format("{:<26}{:<6}{:<13}{:<10}{}", field.name, field.type, unit_text(field),
                                   tcpinfo::name(field.kind), iperf3_text(field));
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
    out.append(kIndent, ' ');
    append_wrapped(out, field.description, kIndent, width);
    out += '\n';
    out.append(kIndent, ' ');
    append_wrapped(
        out,
        fmt::format("from {}{}; {}", field.kernel, field.since.empty() ? "" : fmt::format(" (kernel {})", field.since),
                    field.sources == tcpinfo::Sources::nobody ? "no source" : sources_text(field)),
        kIndent, width);
    out += '\n';
  }
  return out;
}

std::string as_json() {
  rapidjson::StringBuffer buffer;
  rapidjson::PrettyWriter<rapidjson::StringBuffer> json(buffer);
  json.SetIndent(' ', 2);
  json.StartArray();
  for (const auto& field : tcpinfo::fields()) {
    json.StartObject();
    put(json, "name", field.name);
    put(json, "type", field.type);
    put(json, "unit", tcpinfo::name(field.unit));
    put(json, "kind", tcpinfo::name(field.kind));
    put(json, "format", tcpinfo::name(field.format));
    put(json, "kernel", field.kernel);
    put(json, "since", field.since);
    json.Key("sources");
    json.StartArray();
    for (unsigned source = 1; source < TCPINFO_SOURCES; ++source) {
      const auto id = static_cast<tcpinfo::SourceId>(source);
      const auto name = tcpinfo::name(id);
      if (tcpinfo::gives(id, field.field)) json.String(name.data(), static_cast<rapidjson::SizeType>(name.size()));
    }
    json.EndArray();
    put(json, "iperf3", field.iperf3);
    put(json, "rule", tcpinfo::name(field.rule));
    put(json, "description", field.description);
    json.EndObject();
  }
  json.EndArray();
  return std::string(buffer.GetString(), buffer.GetSize()) + '\n';
}

// A bar would end a cell of a Markdown table.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

std::string as_markdown() {
  std::string out =
      "| name | type | unit | kind | kernel source | since kernel | sources | iperf3 (rule) | description |\n"
      "|---|---|---|---|---|---|---|---|---|\n";
  for (const auto& field : tcpinfo::fields())
    out += fmt::format("| `{}` | {} | {} | {} | {} | {} | {} | {} | {} |\n", field.name, field.type, unit_text(field),
                       tcpinfo::name(field.kind), cell("`" + std::string(field.kernel) + "`"), field.since,
                       sources_text(field), cell(iperf3_text(field)), cell(field.description));
  return out;
}

Exit print_fields(const std::string& format) {
  static constexpr std::string_view kFormats[] = {"table", "json", "markdown"};
  Output output = Output::standard();
  switch (choose("--format", format, kFormats)) {
    case 0:
      output.write(as_table(terminal_size(output.descriptor()).columns));
      break;
    case 1:
      output.write(as_json());
      break;
    default:
      output.write(as_markdown());
  }
  return kOk;
}

}  // namespace

void add_fields(CLI::App& app, Command& chosen) {
  auto* command = app.add_subcommand("fields", "List the fields: name, type, unit, kind, where they come from");
  auto format = std::make_shared<std::string>("table");
  command->add_option("--format", *format, "table, json or markdown")->type_name("FORMAT")->capture_default_str();
  command->footer(
      "Examples:\n"
      "  tcpinfo fields | grep -A 2 '^rtt'\n"
      "  tcpinfo fields --format json | jq '.[] | select(.kind == \"counter\") | .name'");
  command->callback([format, &chosen] { chosen = [format] { return print_fields(*format); }; });
}

}  // namespace cli
