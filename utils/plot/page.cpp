// SPDX-License-Identifier: BSD-2-Clause
#include "page.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <boost/archive/iterators/base64_from_binary.hpp>
#include <boost/archive/iterators/transform_width.hpp>
#include <iterator>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>

#include "page_assets.hpp"
#include "picture.hpp"

namespace plot {
namespace {

using validation::Comparison;

std::string identifier(std::string_view name) {
  std::string result;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
    result += plain ? c : '_';
  }
  return result;
}

std::string badge(std::string_view outcome) {
  const auto* kind = outcome == "passed" ? "good" : outcome == "failed" || outcome == "not plotted" ? "bad" : "none";
  return fmt::format(R"(<span class="badge {}">{} {}</span>)", kind,
                     outcome == "passed"   ? "✓"
                     : outcome == "failed" ? "✗"
                                           : "·",
                     escape(outcome));
}

std::string outcome_of(const Section* section, const validation::SuiteRun* run) {
  if (run) return run->outcome;
  if (!section->failure.empty()) return "not plotted";
  if (!section->run.verdict) return "no verdict";
  return section->run.verdict->passed() ? "passed" : "failed";
}

std::string grouped(std::uint64_t value) {
  auto digits = std::to_string(value);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), "\u202f");
  return digits;
}

std::string span_of(double seconds) {
  if (seconds < 60) return fmt::format("{:.3g} s", seconds);
  const auto whole = static_cast<std::uint64_t>(seconds + 0.5);
  return whole < 3600 ? fmt::format("{} min {} s", whole / 60, whole % 60)
                      : fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

/// A number of the verdict with its unit, as "166 µs" or "3.74 MB".
std::string amount(double value, std::string_view unit) {
  if (value == 0) return "0";
  const bool bytes = unit == "bytes", time = unit == "us";
  if (!bytes && !time) return fmt::format("{:.4g}{}{}", value, unit.empty() || unit == "none" ? "" : " ", escape(unit));
  const auto scale = scale_for({{}, bytes ? Dimension::kBytes : Dimension::kSeconds, {}}, bytes ? value : value / 1e6);
  return fmt::format("{:.3g} {}", (bytes ? value : value / 1e6) / scale.divisor, scale.unit);
}

/// A line and its cells of a table of comparisons.
void append_comparison(std::string& html, const Comparison& c) {
  auto out = std::back_inserter(html);
  fmt::format_to(
      out,
      "<tr><td>{}<td><code>{}</code><td><code>{}</code><td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{}"
      "<td class=n>{}<td class=n>{}<td><span class=\"badge {}\">{}</span></tr>\n",
      escape(c.source), escape(c.field), escape(c.iperf3), escape(c.end), escape(c.method), grouped(c.compared),
      grouped(c.agreed), amount(c.largest_difference, c.unit), amount(c.median_window, c.unit),
      c.has_control() ? grouped(c.control_agreed) : std::string(), c.passed ? "good" : "bad",
      c.passed ? "✓ agrees" : "✗ differs");
  if (!c.note.empty()) fmt::format_to(out, "<tr class=\"remark\"><td><td colspan=10>{}</tr>\n", escape(c.note));
}

void append_comparisons(std::string& html, const std::vector<Comparison>& comparisons, std::string_view field = {}) {
  html +=
      "<div class=\"table\"><table>\n<tr><th>Source<th>Field<th>iperf3<th>Read at<th>Method<th class=n>Compared"
      "<th class=n>Agreed<th class=n>Largest difference<th class=n>Window<th class=n>Control<th>Verdict</tr>\n";
  for (const auto& c : comparisons)
    if (field.empty() || c.field == field) append_comparison(html, c);
  html += "</table></div>\n";
}

using Records = std::map<std::string, std::vector<std::pair<std::string, std::uint64_t>>>;

std::optional<std::uint64_t> count(const std::vector<std::pair<std::string, std::uint64_t>>& counts,
                                   std::string_view name) {
  for (const auto& [key, value] : counts)
    if (key == name) return value;
  return std::nullopt;
}

void append_records(std::string& html, const Records& records) {
  std::vector<std::string> names{"emitted", "delivered", "lost"};
  for (const auto& [source, counts] : records)
    for (const auto& [name, value] : counts)
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  auto out = std::back_inserter(html);
  html += "<h3>What became of the records</h3>\n<div class=\"table\"><table>\n<tr><th>Source";
  for (const auto& name : names) fmt::format_to(out, "<th class=n>{}", escape(name));
  html += "</tr>\n";
  for (const auto& [source, counts] : records) {
    fmt::format_to(out, "<tr><td>{}", escape(source));
    for (const auto& name : names) {
      const auto value = count(counts, name);
      fmt::format_to(out, "<td class=n>{}", value ? grouped(*value) : std::string("–"));
    }
    html += "</tr>\n";
  }
  html += "</table></div>\n";
}

std::string megabits(double value) {
  return value > 0 ? fmt::format("{:.4g} Mbit/s", value) : std::string("unlimited");
}
std::string milliseconds(std::uint64_t us) { return fmt::format("{:.4g} ms", static_cast<double>(us) / 1e3); }
std::string percent(double share) { return fmt::format("{:.3g} %", share * 100); }

constexpr const char* kAbsent = "–";
using Count = std::optional<std::uint64_t>;

std::string share_of(Count part, Count whole) {
  if (!part) return kAbsent;
  if (whole.value_or(0) == 0) return grouped(*part);
  return fmt::format("{} ({})", grouped(*part), percent(static_cast<double>(*part) / static_cast<double>(*whole)));
}

/// What the path was asked for, and what it was found to do.
void append_link(std::string& html, const validation::LinkReport& link) {
  if (link.engine.empty()) return;
  auto out = std::back_inserter(html);
  fmt::format_to(out,
                 "<h3>Path</h3>\n<p>Made by {}, MTU {}; round trip before the test {} at least, {} in the median.</p>\n"
                 "<div class=\"table\"><table>\n<tr><th><th class=n>Client to server, asked<th class=n>measured<th "
                 "class=n>Server to client, asked<th class=n>measured</tr>\n",
                 escape(link.engine), link.mtu, link.rtt_least_us ? milliseconds(*link.rtt_least_us) : kAbsent,
                 link.rtt_median_us ? milliseconds(*link.rtt_median_us) : kAbsent);
  const auto line = [&](std::string_view what, const auto& asked, const auto& measured) {
    fmt::format_to(out, "<tr><td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}</tr>\n", what,
                   asked(link.there), measured(link.there), asked(link.back), measured(link.back));
  };
  using Way = validation::WayReport;
  line(
      "Rate; the most in 100 ms", [](const Way& w) { return megabits(w.rate_mbit); },
      [](const Way& w) { return w.busiest_mbit ? megabits(*w.busiest_mbit) : std::string(kAbsent); });
  line(
      "Delay; the latest after it was due", [](const Way& w) { return milliseconds(w.delay_us); },
      [](const Way& w) { return w.latest_us ? milliseconds(*w.latest_us) : std::string(kAbsent); });
  line(
      "Jitter", [](const Way& w) { return milliseconds(w.jitter_us); }, [](const Way&) { return "–"; });
  line(
      "Loss", [](const Way& w) { return percent(w.loss); }, [](const Way& w) { return share_of(w.lost, w.packets); });
  line(
      "Queue; what it dropped",
      [](const Way& w) {
        return w.queue_bytes > 0 ? amount(static_cast<double>(w.queue_bytes), "bytes") : std::string("–");
      },
      [](const Way& w) { return share_of(w.dropped, w.packets); });
  line(
      "Reordering", [](const Way& w) { return percent(w.reordering); },
      [](const Way& w) { return share_of(w.reordered, w.packets); });
  line(
      "Marks from a queue of",
      [](const Way& w) {
        return w.ecn_mark_bytes > 0 ? amount(static_cast<double>(w.ecn_mark_bytes), "bytes") : std::string("–");
      },
      [](const Way& w) { return share_of(w.marked, w.packets); });
  line(
      "Packets", [](const Way&) { return "–"; }, [](const Way& w) { return w.packets ? grouped(*w.packets) : std::string(kAbsent); });
  html += "</table></div>\n";
}

void append_alignments(std::string& html, const std::vector<validation::Alignment>& alignments) {
  if (alignments.empty()) return;
  auto out = std::back_inserter(html);
  html +=
      "<h3>Alignment of the clocks</h3>\n<div class=\"table\"><table>\n<tr><th>iperf3’s<th>Found from<th "
      "class=n>Known to<th class=n>Intervals</tr>\n";
  for (const auto& a : alignments)
    fmt::format_to(out, "<tr><td>{}<td>{}<td class=n>±{:.3g} ms<td class=n>{}</tr>\n", escape(a.file), escape(a.source),
                   static_cast<double>(a.uncertainty_ns) / 1e6, a.intervals);
  html += "</table></div>\n";
}

/// The fields of a run that there is anything to show of, in the order of its pictures, then of the comparisons.
std::vector<std::string> fields_of(const Section& section) {
  std::vector<std::string> fields;
  const auto add = [&](const std::string& field) {
    if (!field.empty() && std::ranges::find(fields, field) == fields.end()) fields.push_back(field);
  };
  for (const auto& drawing : section.drawings) add(drawing.field);
  if (section.run.verdict)
    for (const auto& c : section.run.verdict->comparisons) add(c.field);
  return fields;
}

void append_field(std::string& html, const Section& section, const std::string& field) {
  auto out = std::back_inserter(html);
  fmt::format_to(out, "<div class=\"field\" data-field=\"{0}\">\n<h3><code>{0}</code></h3>\n", escape(field));
  if (const auto* row = tcpinfo::find_field(field))
    fmt::format_to(out, "<p class=\"quiet small\">{}.</p>\n", escape(row->description));
  if (section.run.verdict &&
      std::ranges::any_of(section.run.verdict->comparisons, [&](const Comparison& c) { return c.field == field; }))
    append_comparisons(html, section.run.verdict->comparisons, field);
  bool drawn = false;
  for (const auto& drawing : section.drawings) {
    if (drawing.field != field) continue;
    drawn = true;
    const auto id = fmt::format("svg-{}-{}", identifier(section.name), identifier(drawing.name));
    fmt::format_to(out,
                   "<figure data-picture=\"{}\" aria-label=\"{}\"><p class=\"quiet\">{}: without JavaScript see "
                   "plots/{}.png.</p></figure>\n<script type=\"text/plain\" id=\"{}\">{}</script>\n",
                   id, escape(drawing.title), escape(drawing.title), escape(drawing.name), id, drawing.packed);
  }
  if (!drawn)
    fmt::format_to(out, "<p class=\"quiet\">Not drawn; <code>tcpinfo-plot --field {} {}</code> does.</p>\n",
                   escape(field), escape(section.run.directory.string()));
  html += "</div>\n";
}

void append_section(std::string& html, const Section& section, const validation::SuiteRun* of_suite) {
  auto out = std::back_inserter(html);
  const auto& run = section.run;
  fmt::format_to(out, "<section class=\"run\" data-name=\"{0}\" id=\"run-{1}\">\n<h2>{0} {2}</h2>\n",
                 escape(section.name), identifier(section.name), badge(outcome_of(&section, of_suite)));
  if (of_suite) {
    if (!of_suite->description.empty()) fmt::format_to(out, "<p>{}</p>\n", escape(of_suite->description));
    if (!of_suite->command.empty())
      fmt::format_to(out, "<p class=\"small\">Again: <code>{}</code></p>\n", escape(of_suite->command));
  }
  if (!section.failure.empty()) {
    fmt::format_to(out, "<p class=\"note failure\">{}</p>\n</section>\n", escape(section.failure));
    return;
  }
  if (run.verdict) {
    for (const auto& failure : run.verdict->failures)
      fmt::format_to(out, "<p class=\"note failure\">{}</p>\n", escape(failure));
    if (!run.verdict->title.empty())
      fmt::format_to(out, "<p>{}{}{}.</p>\n", escape(run.verdict->title), run.verdict->kernel.empty() ? "" : "; ",
                     escape(run.verdict->kernel));
  }
  if (!run.streams.empty()) {
    const auto& first = run.streams.front().sender.iperf3;
    fmt::format_to(out, "<p>{} port {} → {} port {}{}{}{}. Clocks {}.</p>\n", escape(first.local_address),
                   first.local_port, escape(first.peer_address), first.peer_port,
                   run.streams.size() > 1 ? fmt::format(", the first of {} streams", run.streams.size()) : "",
                   run.congestion_control.empty() ? "" : ", " + escape(run.congestion_control),
                   run.iperf3_version.empty() ? "" : ", " + escape(run.iperf3_version),
                   run.uncertainty_s ? fmt::format("aligned to ±{:.3g} ms", *run.uncertainty_s * 1e3)
                                     : std::string("not aligned"));
  }
  for (const auto& defect : run.defects) fmt::format_to(out, "<p class=\"note\">{}</p>\n", escape(defect));
  if (run.verdict)
    for (const auto& remark : run.verdict->remarks)
      fmt::format_to(out, "<p class=\"note\">{}</p>\n", escape(remark));
  for (const auto& remark : run.remarks) fmt::format_to(out, "<p class=\"note\">{}</p>\n", escape(remark));
  if (run.verdict)
    for (const auto& quirk : run.verdict->quirks)
      fmt::format_to(out, "<p class=\"note\">iperf3: {}</p>\n", escape(quirk));

  const auto fields = fields_of(section);
  fmt::format_to(out, "<nav class=\"fields\" aria-label=\"Fields of {0}\"><a href=\"{1}\">every field</a>",
                 escape(section.name), fragment(section.name));
  for (const auto& field : fields)
    fmt::format_to(out, " <a href=\"{}\" data-field=\"{}\"><code>{}</code></a>", fragment(section.name, field),
                   escape(field), escape(field));
  html += "</nav>\n";
  if (section.drawings.empty()) html += "<p>No reading of any source: there is nothing to draw.</p>\n";
  for (const auto& field : fields) append_field(html, section, field);

  if (run.verdict) {
    append_link(html, run.verdict->link);
    html += "<details>\n<summary>Comparisons with iperf3, clocks and records</summary>\n";
    if (!run.verdict->comparisons.empty()) {
      // Those of the sources with each other stand with their fields.
      auto with_iperf3 = run.verdict->comparisons;
      std::erase_if(with_iperf3, [](const Comparison& c) { return c.iperf3.empty() && c.passed; });
      append_comparisons(html, with_iperf3);
      html +=
          "<p class=\"quiet small\">getsockopt is what the kernel answered iperf3 itself; without a name of iperf3, a "
          "source’s samples are compared with those answers. Largest difference: how far a figure lay outside the "
          "readings around it. Window: the median width of what lies between those readings. Control: how many would "
          "agree with readings shifted by half the run; the fewer, the more the agreement proves.</p>\n";
    }
    append_alignments(html, run.verdict->alignments);
    if (!run.verdict->records.empty()) append_records(html, run.verdict->records);
    html += "</details>\n";
  }
  html += "</section>\n";
}

/// What is known of a field in a run.
struct Cell {
  std::uint64_t compared = 0;
  bool passed = true;
  std::map<std::string, std::pair<std::uint64_t, bool>> sources;  ///< compared, passed
  std::string details;
};

Cell cell_of(const Section& section, const std::string& field) {
  Cell cell;
  if (!section.run.verdict) return cell;
  for (const auto& c : section.run.verdict->comparisons) {
    if (c.field != field) continue;
    cell.compared += c.compared;
    cell.passed &= c.passed;
    auto& source = cell.sources.try_emplace(c.source, 0, true).first->second;
    source.first += c.compared;
    source.second &= c.passed;
  }
  for (const auto& [source, found] : cell.sources)
    cell.details +=
        fmt::format("\n{}: {} compared, {}", source, found.first, found.second ? "all agree" : "not all agree");
  return cell;
}

/// One row of the summary: a run of the suite, its folder, or both.
struct Row {
  const Section* section = nullptr;
  const validation::SuiteRun* run = nullptr;

  const std::string& name() const { return run ? run->name : section->name; }
};

/// The name of a row, which opens its run if there is anything of it.
std::string name_of(const Row& row) {
  const auto described = row.run && !row.run->description.empty()
                             ? fmt::format(" title=\"{}\"", escape(row.run->description))
                             : std::string();
  if (!row.section) return fmt::format("<span{}>{}</span>", described, escape(row.name()));
  return fmt::format("<a href=\"{}\"{}>{}</a>", fragment(row.name()), described, escape(row.name()));
}

std::vector<Row> rows_of(const std::vector<Section>& sections, const std::optional<validation::Suite>& suite) {
  std::vector<Row> rows;
  std::set<const Section*> used;
  if (suite)
    for (const auto& run : suite->runs) {
      Row row{.section = nullptr, .run = &run};
      for (const auto& section : sections)
        if (section.name == run.name) used.insert(row.section = &section);
      rows.push_back(row);
    }
  for (const auto& section : sections)
    if (!used.contains(&section)) rows.push_back({.section = &section, .run = nullptr});
  return rows;
}

/// Every field of any run: those that iperf3 reports first, then as the table has them, then what is none of it.
std::vector<std::string> columns_of(const std::vector<Section>& sections) {
  std::set<std::string> all;
  for (const auto& section : sections)
    for (auto& field : fields_of(section)) all.insert(std::move(field));
  std::vector<std::string> columns;
  for (const bool of_iperf3 : {true, false})
    for (const auto& row : tcpinfo::fields())
      if (of_iperf3 == (row.rule != tcpinfo::Rule::none))
        if (const auto found = all.find(std::string(row.name)); found != all.end()) {
          columns.push_back(*found);
          all.erase(found);
        }
  std::ranges::copy(all, std::back_inserter(columns));
  return columns;
}

void append_cell(std::string& html, const Row& row, const std::string& field) {
  auto out = std::back_inserter(html);
  const auto name = row.name();
  if (!row.section || !row.section->failure.empty()) {
    fmt::format_to(out, "<td><span class=\"skip\" title=\"{} in {}: not compared\">·</span>", escape(field),
                   escape(name));
    return;
  }
  const auto cell = cell_of(*row.section, field);
  const bool known = cell.compared > 0 || !cell.sources.empty() ||
                     std::ranges::any_of(row.section->drawings, [&](const Drawing& d) { return d.field == field; });
  if (!known) {
    fmt::format_to(out, "<td><span class=\"skip\" title=\"{} in {}: not compared\">·</span>", escape(field),
                   escape(name));
    return;
  }
  const auto* state = cell.sources.empty() ? "skip" : cell.passed ? "pass" : "fail";
  const auto told = cell.sources.empty() ? fmt::format("{} in {}: not compared", field, name)
                                         : fmt::format("{} in {}: {}, {} compared{}", field, name,
                                                       cell.passed ? "passed" : "failed", cell.compared, cell.details);
  std::string by_source;
  for (const auto& [source, found] : cell.sources)
    by_source += fmt::format("{}{}:{}", by_source.empty() ? "" : " ", source, found.second ? "pass" : "fail");
  fmt::format_to(out, "<td><a class=\"{}\" href=\"{}\" title=\"{}\" aria-label=\"{}\" data-s=\"{}\">{}</a>", state,
                 fragment(name, field), escape(told), escape(told), escape(by_source),
                 cell.sources.empty() ? "·"
                 : cell.passed        ? "✓"
                                      : "✗");
}

void append_summary(std::string& html, const std::vector<Row>& rows, const std::vector<Section>& sections) {
  const auto columns = columns_of(sections);
  auto out = std::back_inserter(html);
  html +=
      "<h2>Scenarios and fields</h2>\n<div class=\"key\"><span><b class=\"pass\">✓</b>all values agree</span>"
      "<span><b class=\"fail\">✗</b>at least one differs</span><span><b>·</b>not compared</span>";
  std::set<std::string> sources;
  for (const auto& section : sections)
    if (section.run.verdict)
      for (const auto& c : section.run.verdict->comparisons) sources.insert(c.source);
  if (sources.size() > 1) {
    html += "<label class=\"screen\">Source <select id=\"source\"><option value=\"\">all";
    for (const auto& source : sources) fmt::format_to(out, "<option value=\"{0}\">{0}", escape(source));
    html += "</select></label>";
  }
  html +=
      "<span class=\"quiet screen\">A cell opens its pictures below; arrow keys go from cell to cell, Escape "
      "back.</span></div>\n"
      "<div class=\"table wide\"><table class=\"grid\">\n<thead><tr><th>Scenario<th>";
  for (const auto& column : columns) fmt::format_to(out, "<th scope=\"col\"><span>{}</span>", escape(column));
  html += "</tr></thead>\n<tbody>\n";
  for (const auto& row : rows) {
    fmt::format_to(out, "<tr><th scope=\"row\">{}<td class=\"outcome\">{}", name_of(row),
                   badge(outcome_of(row.section, row.run)));
    for (const auto& column : columns) append_cell(html, row, column);
    html += "</tr>\n";
  }
  html += "</tbody></table></div>\n";
}

void append_fact(std::string& html, std::string_view name, std::string_view value, bool is_code = false) {
  if (value.empty()) return;
  fmt::format_to(std::back_inserter(html), "<dt>{}<dd>{}{}{}\n", name, is_code ? "<code>" : "", escape(value),
                 is_code ? "</code>" : "");
}

void append_header(std::string& html, const std::vector<Row>& rows, const std::optional<validation::Suite>& suite) {
  std::map<std::string, std::size_t> outcomes;
  std::uint64_t compared = 0;
  for (const auto& row : rows) {
    ++outcomes[outcome_of(row.section, row.run)];
    std::uint64_t of_verdict = 0;
    if (row.section && row.section->run.verdict)
      for (const auto& c : row.section->run.verdict->comparisons) of_verdict += c.compared;
    compared += row.run ? row.run->compared : of_verdict;
  }
  std::string counts;
  for (const auto& [outcome, count] : outcomes)
    counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count, outcome);
  const bool bad = outcomes.contains("failed") || outcomes.contains("not plotted");
  const bool passed = suite ? suite->passed() : !bad && outcomes.contains("passed") && outcomes.size() == 1;
  fmt::format_to(std::back_inserter(html), "<p>{} {}</p>\n",
                 badge(passed ? "passed"
                       : bad  ? "failed"
                              : "not all passed"),
                 rows.size() > 1 ? escape(counts) : std::string());
  html += "<dl>\n";
  append_fact(html, "Values compared", grouped(compared));
  if (suite) {
    append_fact(html, "Machine", suite->machine);
    append_fact(html, "Kernel", suite->kernel);
    append_fact(html, "iperf3", suite->iperf3_version);
    append_fact(html, "Command", suite->command, true);
    append_fact(html, "Started", suite->started);
    append_fact(html, "Duration", span_of(suite->seconds));
    append_fact(html, "Seed", std::to_string(suite->seed));
  } else if (rows.front().section && rows.front().section->run.verdict) {
    append_fact(html, "Kernel", rows.front().section->run.verdict->kernel);
    append_fact(html, "iperf3", rows.front().section->run.iperf3_version);
  }
  html += "</dl>\n";
}

/// All that did not pass, in full, with what repeats it.
void append_failures(std::string& html, const std::vector<Row>& rows) {
  auto out = std::back_inserter(html);
  bool any = false;
  for (const auto& row : rows) {
    const auto outcome = outcome_of(row.section, row.run);
    if (outcome == "passed" || (rows.size() == 1 && !row.run)) continue;
    if (!any) html += "<h2>What did not pass</h2>\n";
    any = true;
    fmt::format_to(out, "<h3>{} {}</h3>\n", name_of(row), badge(outcome));
    std::vector<std::string> sentences;
    if (row.section && row.section->run.verdict) sentences = row.section->run.verdict->failures;
    if (row.section && !row.section->failure.empty()) sentences.push_back(row.section->failure);
    if (sentences.empty() && row.run && !row.run->reason.empty()) sentences.push_back(row.run->reason);
    for (const auto& sentence : sentences)
      fmt::format_to(out, "<p class=\"note{}\">{}</p>\n", outcome == "failed" ? " failure" : "", escape(sentence));
    if (row.run && !row.run->command.empty())
      fmt::format_to(out, "<p class=\"small\">Again: <code>{}</code></p>\n", escape(row.run->command));
  }
}

}  // namespace

std::string escape(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        // Other control characters are not allowed in HTML.
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\t' || c == '\n') result += c;
    }
  }
  return result;
}

std::string inline_svg(std::string_view svg, std::string_view prefix, std::string_view description) {
  const auto start = svg.find("<svg");
  if (start == std::string_view::npos) return {};
  svg.remove_prefix(start);
  std::string result = fmt::format("<svg role=\"img\" aria-label=\"{}\"", escape(description));
  svg.remove_prefix(4);
  // gnuplot names its marks gpDot, gpPt0, ... and its curves gnuplot_plot_1, ... in every file.
  bool in_tag = true;
  const auto digit = [&](std::size_t at) { return at < svg.size() && svg[at] >= '0' && svg[at] <= '9'; };
  for (std::size_t at = 0; at < svg.size();) {
    if (svg[at] == '<' || svg[at] == '>') in_tag = svg[at] == '<';
    // Hundredths of a pixel are a fifth of the bytes, and nobody sees them.
    if (in_tag && svg[at] == '.' && digit(at + 1) && digit(at + 2) && !digit(at + 3)) {
      result += svg.substr(at, 2);
      at += 3;
      continue;
    }
    const auto rest = svg.substr(at);
    for (const std::string_view opening : {"id=\"", "id='", "href='#", "href=\"#", "url(#"}) {
      if (!rest.starts_with(opening)) continue;
      result += opening;
      result += prefix;
      at += opening.size();
      break;
    }
    if (at < svg.size()) result += svg[at++];
  }
  return result;
}

std::string packed(std::string_view text) {
  z_stream stream{};
  // 16: with the header and trailer of gzip.
  if (deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::bad_alloc();
  std::string bytes(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_out = static_cast<uInt>(bytes.size());
  const int result = deflate(&stream, Z_FINISH);
  bytes.resize(stream.total_out);
  deflateEnd(&stream);
  if (result != Z_STREAM_END) throw std::runtime_error("zlib: a text does not fit the bound that it gave");
  using namespace boost::archive::iterators;
  using Base64 = base64_from_binary<transform_width<std::string::const_iterator, 6, 8>>;
  const auto padding = (3 - bytes.size() % 3) % 3;
  bytes.append(padding, '\0');
  std::string result64(Base64(bytes.cbegin()), Base64(bytes.cend()));
  result64.replace(result64.size() - padding, padding, padding, '=');
  return result64;
}

std::string fragment(std::string_view run, std::string_view field) {
  std::string result = "#";
  const auto add = [&](std::string_view text) {
    for (const char c : text) {
      const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                         c == '_' || c == '.';
      if (plain)
        result += c;
      else
        fmt::format_to(std::back_inserter(result), "%{:02X}", static_cast<unsigned char>(c));
    }
  };
  add(run);
  if (!field.empty()) {
    result += '/';
    add(field);
  }
  return result;
}

std::string page(std::string_view title, const std::vector<Section>& sections,
                 const std::optional<validation::Suite>& suite) {
  std::string html;
  auto out = std::back_inserter(html);
  fmt::format_to(out,
                 "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                 "<title>{0} – tcpinfo validation</title>\n<style>{1}</style>\n</head>\n<body>\n<h1>tcpinfo "
                 "validation: {0}</h1>\n",
                 escape(title), kPageStyle);
  const auto rows = rows_of(sections, suite);
  append_header(html, rows, suite);
  append_failures(html, rows);
  if (rows.size() > 1 || suite) append_summary(html, rows, sections);
  for (const auto& row : rows)
    if (row.section) append_section(html, *row.section, row.run);
  html +=
      "<footer>Made by tcpinfo-plot. TCP telemetry from eBPF (sockops, iter) and from netlink (inet_diag), compared "
      "with "
      "iperf3 and with what the kernel answered it (getsockopt), without tolerance: iperf3's figures with what the "
      "kernel "
      "answered iperf3, our samples with the answers before and after them, byte counts with iperf3's own.</footer>\n";
  fmt::format_to(out, "<script>{}</script>\n</body>\n</html>\n", kPageScript);
  return html;
}

}  // namespace plot
