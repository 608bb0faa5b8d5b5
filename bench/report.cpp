// SPDX-License-Identifier: BSD-2-Clause
#include "report.hpp"

#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <span>

#include <fmt/format.h>

namespace bench {
namespace {

using Writer = rapidjson::PrettyWriter<rapidjson::StringBuffer>;

void put(Writer& writer, std::string_view key, std::string_view text) {
  writer.Key(key.data(), static_cast<rapidjson::SizeType>(key.size()));
  if (text.empty())
    writer.Null();
  else
    writer.String(text.data(), static_cast<rapidjson::SizeType>(text.size()));
}

void put(Writer& writer, const char* key, double number) {
  writer.Key(key);
  // JSON has no infinity and no NaN.
  if (std::isfinite(number))
    writer.Double(number);
  else
    writer.Null();
}

void put(Writer& writer, const char* key, std::uint64_t number) {
  writer.Key(key);
  if (number != 0)
    writer.Uint64(number);
  else
    writer.Null();
}

void put_flag(Writer& writer, const char* key, std::optional<bool> flag) {
  writer.Key(key);
  if (flag)
    writer.Bool(*flag);
  else
    writer.Null();
}

void put_members(Writer& writer, const Spread& spread) {
  put(writer, "median", spread.median);
  put(writer, "low", spread.low);
  put(writer, "high", spread.high);
  put(writer, "count", spread.count);
}

void put(Writer& writer, const char* key, const std::optional<Spread>& spread) {
  writer.Key(key);
  if (!spread) {
    writer.Null();
    return;
  }
  writer.StartObject();
  put_members(writer, *spread);
  writer.EndObject();
}

void put(Writer& writer, const char* key, const Load& load) {
  writer.Key(key);
  writer.StartObject();
  put(writer, "loadavg", load.loadavg);
  put(writer, "foreign_cores", load.foreign_cores);
  put(writer, "steal", load.steal);
  put_flag(writer, "busy", load.busy());
  writer.EndObject();
}

void put(Writer& writer, const Result& result) {
  writer.StartObject();
  put(writer, "what", result.what);
  put(writer, "unit", result.unit);
  put(writer, "ours", std::optional(result.ours));
  put(writer, "floor_name", result.floor_name);
  put(writer, "floor", result.floor);
  put(writer, "ratio", result.ratio);
  put(writer, "goal", result.goal.value_or(std::nan("")));
  put(writer, "sense", name(result.sense));
  put_flag(writer, "whole_interval", result.whole_interval);
  put_flag(writer, "reached", result.reached());
  put(writer, "note", result.note);
  writer.EndObject();
}

void put(Writer& writer, const Curve& curve) {
  writer.StartObject();
  put(writer, "name", curve.name);
  put(writer, "x", curve.x);
  put(writer, "y", curve.y);
  writer.Key("points");
  writer.StartArray();
  for (const auto& [x, y] : curve.points) {
    writer.StartObject();
    put(writer, "x", x);
    put_members(writer, y);
    writer.EndObject();
  }
  writer.EndArray();
  writer.EndObject();
}

void put(Writer& writer, const Entry& entry) {
  writer.StartObject();
  put(writer, "name", entry.name);
  put(writer, "description", entry.description);
  put(writer, "outcome", name(entry.kind));
  put(writer, "reason", entry.reason);
  put(writer, "seconds", entry.seconds);
  put(writer, "load", entry.load);
  writer.Key("results");
  writer.StartArray();
  for (const auto& result : entry.outcome.results) put(writer, result);
  writer.EndArray();
  writer.Key("curves");
  writer.StartArray();
  for (const auto& curve : entry.outcome.curves) put(writer, curve);
  writer.EndArray();
  writer.EndObject();
}

constexpr std::size_t kWidth = 140;

// In code points, which here are all one column wide.
std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

// Where `columns` code points end.
std::size_t cut(std::string_view text, std::size_t columns) {
  std::size_t at = 0;
  while (at < text.size() && width(text.substr(0, at + 1)) <= columns) ++at;
  return at;
}

// At spaces; a word that is longer than a line is cut.
std::vector<std::string> wrap(std::string_view text, std::size_t columns) {
  std::vector<std::string> lines;
  while (width(text) > columns) {
    auto end = cut(text, columns + 1);
    const auto space = text.substr(0, end).rfind(' ');
    end = space == std::string_view::npos || space == 0 ? cut(text, columns) : space;
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
    while (text.starts_with(' ')) text.remove_prefix(1);
  }
  lines.emplace_back(text);
  return lines;
}

struct Column {
  std::string_view title;
  std::size_t width;
};
constexpr std::array kColumns{Column{"what", 37},         Column{"ours", 16}, Column{"floor or peer", 35},
                              Column{"ratio [95 %]", 24}, Column{"goal", 11}, Column{"", 8}};
using Row = std::array<std::string, kColumns.size()>;

void append(std::string& text, const Row& row) {
  std::array<std::vector<std::string>, kColumns.size()> cells;
  std::size_t height = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    cells[i] = wrap(row[i], kColumns[i].width);
    height = std::max(height, cells[i].size());
  }
  for (std::size_t line = 0; line < height; ++line) {
    std::string out;
    for (std::size_t i = 0; i < row.size(); ++i)
      out += fmt::format("{:<{}}{}", line < cells[i].size() ? cells[i][line] : "", kColumns[i].width,
                         i + 1 < row.size() ? " " : "");
    out.erase(out.find_last_not_of(' ') + 1);
    text += out + '\n';
  }
}

void append_wrapped(std::string& text, std::string_view first, std::string_view rest, std::string_view content) {
  for (const auto& line : wrap(content, kWidth - std::max(width(first), width(rest)))) {
    text += fmt::format("{}{}\n", first, line);
    first = rest;
  }
}

std::string with_unit(const Spread& spread, const std::string& unit) {
  return fmt::format("{}{}{}", format_number(spread.median), unit.empty() ? "" : " ", unit);
}

// Three digits, but so many behind the point that a thousandth beside 1 shows.
std::string format_ratio(double ratio) {
  if (!std::isfinite(ratio)) return "none";
  return std::abs(ratio) < 10 ? fmt::format("{:.{}f}", ratio, std::abs(ratio) < 0.1 ? 5 : 4) : format_number(ratio);
}

std::string describe(const Load& load) {
  return fmt::format("load {:.1f}, others used {:.2f} cores, {:.1f} % stolen", load.loadavg, load.foreign_cores,
                     100 * load.steal);
}

Row row_of(const Result& result, const std::string& note_mark, bool busy) {
  Row row;
  row[0] = result.what + note_mark;
  row[1] = with_unit(result.ours, result.unit);
  // Without a ratio the interval belongs to the figure itself.
  if (!result.ratio && result.ours.count > 1)
    row[3] = fmt::format("[{}, {}]", format_number(result.ours.low), format_number(result.ours.high));
  if (result.floor) row[2] = with_unit(*result.floor, result.unit) + "  ";
  row[2] += result.floor_name;
  if (result.ratio)
    row[3] = fmt::format("{} [{}, {}]", format_ratio(result.ratio->median), format_ratio(result.ratio->low),
                         format_ratio(result.ratio->high));
  if (result.goal)
    row[4] = fmt::format("{} {:.4g}{}{}", result.sense == Sense::kAtMost ? "≤" : "≥", *result.goal,
                         result.ratio || result.unit.empty() ? "" : " ", result.ratio ? "x" : result.unit);
  if (const auto reached = result.reached())
    row[5] = fmt::format("{}{}", *reached ? "reached" : "missed", busy ? "*" : "");
  return row;
}

}  // namespace

std::string_view name(Sense sense) noexcept { return sense == Sense::kAtMost ? "at most" : "at least"; }

std::string_view name(Entry::Kind kind) noexcept {
  switch (kind) {
    case Entry::Kind::kMeasured:
      return "measured";
    case Entry::Kind::kNotPossible:
      return "not possible";
    case Entry::Kind::kFailed:
      break;
  }
  return "failed";
}

std::string format_number(double number) {
  if (!std::isfinite(number)) return "none";
  const char* suffix = "";
  for (const auto& [from, divisor, letter] :
       {std::tuple(1e9, 1e9, " G"), std::tuple(1e6, 1e6, " M"), std::tuple(1e4, 1e3, " k")})
    if (std::abs(number) >= from) {
      number /= divisor;
      suffix = letter;
      break;
    }
  if (std::abs(number) >= 100) return fmt::format("{:.0f}{}", number, suffix);
  return fmt::format("{:.3g}{}", number, suffix);
}

std::string to_table(const Report& report) {
  std::string text;
  const auto& machine = report.machine;
  const auto heading = [](const std::string& part) { return part.empty() ? "" : ", " + part; };
  append_wrapped(
      text, "", "  ",
      fmt::format("tcpinfo-bench{}{}, {}{}, {:.0f} s", report.quick ? " --quick" : "", report.growth ? " --growth" : "",
                  report.date, report.revision.empty() ? "" : ", revision " + report.revision, report.seconds));
  append_wrapped(text, "", "  ",
                 fmt::format("Linux {}{}, {} cores{}{}, HZ {}", machine.kernel, heading(machine.architecture),
                             machine.cores, heading(machine.cpu_model),
                             machine.clock_source.empty() ? "" : ", clock " + machine.clock_source, machine.hz));
  text += fmt::format("before: {}{}\n\n", describe(report.load_before), report.load_before.busy() ? " (busy)" : "");

  Row titles;
  for (std::size_t i = 0; i < titles.size(); ++i) titles[i] = kColumns[i].title;
  append(text, titles);
  std::vector<std::string_view> notes;
  bool any_busy = false;
  std::array<int, 2> goals{};
  for (const auto& entry : report.entries) {
    text += std::string(kWidth, '-') + '\n';
    const bool measured = entry.kind == Entry::Kind::kMeasured;
    const bool busy = measured && entry.load.busy();
    any_busy |= busy;
    const auto how = measured
                         ? fmt::format(" ({:.0f} s, {}{})", entry.seconds, describe(entry.load), busy ? ": busy" : "")
                         : std::string();
    append_wrapped(text, "", "  ", fmt::format("{}: {}{}", entry.name, entry.description, how));
    if (!measured) append_wrapped(text, "  ", "  ", fmt::format("{}: {}", name(entry.kind), entry.reason));
    for (const auto& result : entry.outcome.results) {
      std::string mark;
      if (!result.note.empty()) {
        // What holds for several is said once.
        auto found = std::ranges::find(notes, std::string_view(result.note));
        if (found == notes.end()) found = notes.insert(notes.end(), result.note);
        mark = fmt::format(" [{}]", found - notes.begin() + 1);
      }
      append(text, row_of(result, mark, busy));
      if (const auto reached = result.reached()) ++goals[*reached];
    }
    for (const auto& curve : entry.outcome.curves) {
      std::string points;
      for (const auto& [x, y] : curve.points)
        points += fmt::format("{}{:g}: {:.4g}", points.empty() ? "" : ", ", x, y.median);
      append_wrapped(text, "  ", "      ", fmt::format("{} ({} over {}): {}", curve.name, curve.y, curve.x, points));
    }
  }
  text += std::string(kWidth, '-') + '\n';
  text += fmt::format("{} of {} goals reached\n", goals[true], goals[true] + goals[false]);
  if (any_busy)
    append_wrapped(text, "* ", "  ",
                   "Measured on a busy machine (others used more than 0.15 cores, or more than 2 % was stolen): trust "
                   "ratios, not the figures beside them.");
  for (std::size_t i = 0; i < notes.size(); ++i) {
    const auto first = fmt::format("[{}] ", i + 1);
    append_wrapped(text, first, std::string(first.size(), ' '), notes[i]);
  }
  return text;
}

std::string to_json(const Report& report) {
  rapidjson::StringBuffer buffer;
  Writer writer(buffer);
  writer.SetIndent(' ', 2);
  writer.StartObject();
  put(writer, "schema", std::uint64_t{1});
  put(writer, "date", report.date);
  put(writer, "seconds", report.seconds);
  writer.Key("options");
  writer.StartObject();
  put_flag(writer, "quick", report.quick);
  put_flag(writer, "growth", report.growth);
  writer.Key("only");
  writer.StartArray();
  for (const auto& only : report.only) writer.String(only.data(), static_cast<rapidjson::SizeType>(only.size()));
  writer.EndArray();
  writer.EndObject();
  put(writer, "revision", report.revision);
  writer.Key("machine");
  writer.StartObject();
  put(writer, "kernel", report.machine.kernel);
  put(writer, "architecture", report.machine.architecture);
  put(writer, "cpu_model", report.machine.cpu_model);
  put(writer, "cores", std::uint64_t{report.machine.cores});
  put(writer, "memory_bytes", report.machine.memory_bytes);
  put(writer, "hz", std::uint64_t{report.machine.hz});
  put(writer, "clock_source", report.machine.clock_source);
  writer.EndObject();
  put(writer, "load_before", report.load_before);
  writer.Key("measurements");
  writer.StartArray();
  for (const auto& entry : report.entries) put(writer, entry);
  writer.EndArray();
  writer.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + '\n';
}

}  // namespace bench
