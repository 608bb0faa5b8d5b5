// SPDX-License-Identifier: BSD-2-Clause
#include "page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <utility>

namespace plot {
namespace {

constexpr std::string_view kStyle = R"css(
:root { color-scheme: light dark; --text: #1c1e21; --quiet: #62676d; --line: #dcdfe3; --ground: #fbfbfa; --card: #fff;
  --good: #00664b; --good-ground: #e1f3ec; --bad: #a63a00; --bad-ground: #fdeadf; --note: #f4f1e4; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e7e9; --quiet: #a0a6ad; --line: #34383d; --ground: #16181a; --card: #1e2124;
    --good: #6fd6b4; --good-ground: #0f3a2d; --bad: #ffb089; --bad-ground: #4a2110; --note: #2b2a20; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 68rem; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 .4rem; padding-top: 1rem; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.8rem 0 .5rem; }
p { margin: .4rem 0; max-width: 46rem; } .quiet { color: var(--quiet); }
.badge { display: inline-block; padding: .05rem .6rem; border-radius: 1rem; font-size: .9rem; font-weight: 600; }
.good { color: var(--good); background: var(--good-ground); } .bad { color: var(--bad); background: var(--bad-ground); }
.none { color: var(--quiet); background: var(--note); }
.note { background: var(--note); border-left: 3px solid var(--quiet); padding: .4rem .8rem; margin: .6rem 0; max-width: none; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--quiet); border-bottom: 1px solid var(--quiet); vertical-align: bottom; }
td { border-bottom: 1px solid var(--line); vertical-align: top; } th, td { padding: .3rem .7rem .3rem 0; }
td.n, th.n { text-align: right; white-space: nowrap; } code { font: .92em ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
.small { font-size: .85rem; } .failure { border-color: var(--bad); }
tr.remark td { color: var(--quiet); font-size: .82rem; padding-top: 0; } tr:has(+ .remark) td { border-bottom: 0; }
figure { margin: 1.2rem 0; padding: .6rem; background: #fff; border: 1px solid var(--line); border-radius: 6px; }
figure svg { display: block; width: 100%; height: auto; }
a { color: inherit; text-decoration-color: var(--quiet); text-underline-offset: .15em; }
footer { margin-top: 3rem; color: var(--quiet); font-size: .85rem; }
@media print { :root { --ground: #fff; --card: #fff; --text: #000; --quiet: #555; --line: #ccc; --good: #00664b;
    --bad: #a63a00; --good-ground: #fff; --bad-ground: #fff; --note: #fff; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } figure { break-inside: avoid; border: 0; padding: 0; }
  h2 { break-before: page; border: 0; } tr { break-inside: avoid; } h3 { break-after: avoid; } }
)css";

std::string anchor(std::string_view name) {
  std::string result = "run-";
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
    result += plain ? c : '_';
  }
  return result;
}

std::string badge(const Section& section) {
  if (!section.failure.empty()) return R"(<span class="badge bad">not plotted</span>)";
  if (!section.run.verdict) return R"(<span class="badge none">no verdict</span>)";
  return section.run.verdict->passed() ? R"(<span class="badge good">passed</span>)"
                                       : R"(<span class="badge bad">failed</span>)";
}

std::string grouped(std::uint64_t value) {
  auto digits = std::to_string(value);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), "\u202f");
  return digits;
}

std::string endpoint_text(const Endpoint& endpoint) {
  const auto address = tcpinfo::to_string(endpoint.address);
  return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, endpoint.port)
                                                : fmt::format("[{}]:{}", address, endpoint.port);
}

std::string uncertainty(const Run& run) {
  return run.uncertainty_s ? fmt::format("±{:.3g} ms", *run.uncertainty_s * 1e3) : std::string("not aligned");
}

/// A number of the verdict with its unit, as "166 µs" or "3.74 MB".
std::string amount(double value, std::string_view unit) {
  if (value == 0) return "0";
  const bool bytes = unit == "bytes", time = unit == "us";
  if (!bytes && !time) return fmt::format("{:.4g}{}{}", value, unit.empty() || unit == "none" ? "" : " ", escape(unit));
  const auto scale = scale_for(bytes ? Dimension::kBytes : Dimension::kSeconds, bytes ? value : value / 1e6);
  return fmt::format("{:.3g} {}", (bytes ? value : value / 1e6) / scale.divisor, scale.unit);
}

void append_comparisons(std::string& html, const std::vector<validation::Comparison>& comparisons) {
  auto out = std::back_inserter(html);
  html +=
      "<h3>Compared with iperf3</h3>\n<div class=\"table\"><table>\n<tr><th>Source<th>Field<th>iperf3<th>Read "
      "at<th>Method"
      "<th class=n>Compared<th class=n>Agreed<th class=n>Largest difference<th class=n>Window<th class=n>Control"
      "<th>Verdict</tr>\n";
  for (const auto& c : comparisons) {
    fmt::format_to(
        out,
        "<tr><td>{}<td><code>{}</code><td><code>{}</code><td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{}"
        "<td class=n>{}<td class=n>{}<td><span class=\"badge {}\">{}</span></tr>\n",
        escape(c.source), escape(c.field), escape(c.iperf3), escape(c.end), escape(c.method), grouped(c.compared),
        grouped(c.agreed), amount(c.largest_difference, c.unit), amount(c.median_window, c.unit),
        c.has_control() ? grouped(c.control_agreed) : std::string(), c.passed ? "good" : "bad",
        c.passed ? "agrees" : "differs");
    if (!c.note.empty()) fmt::format_to(out, "<tr class=\"remark\"><td><td colspan=10>{}</tr>\n", escape(c.note));
  }
  html +=
      "</table></div>\n<p class=\"quiet small\">getsockopt is what the kernel answered iperf3 itself; without a name "
      "of "
      "iperf3, a source’s samples are compared with those answers. Largest difference: how far a figure lay outside "
      "the "
      "readings around it. Window: the median width of what lies between those readings. Control: how many would agree "
      "with readings shifted by half the run; the fewer, the more the agreement proves.</p>\n";
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
  html += "<h3>Records</h3>\n<div class=\"table\"><table>\n<tr><th>Source";
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

void append_section(std::string& html, const Section& section, bool is_only) {
  auto out = std::back_inserter(html);
  const auto& run = section.run;
  const auto id = anchor(section.name);
  if (is_only)
    html += "<p>" + badge(section) + "</p>\n";
  else
    fmt::format_to(out, "<section id=\"{}\">\n<h2>{} {}</h2>\n", id, escape(section.name), badge(section));
  if (!section.failure.empty()) {
    fmt::format_to(out, "<p class=\"note\">{}</p>\n", escape(section.failure));
    if (!is_only) html += "</section>\n";
    return;
  }

  const auto& first = run.streams.front();
  if (run.verdict && !run.verdict->title.empty())
    fmt::format_to(out, "<p>{}{}{}.</p>\n", escape(run.verdict->title), run.verdict->kernel.empty() ? "" : "; ",
                   escape(run.verdict->kernel));
  fmt::format_to(out, "<p>{} → {}{}{}{}.", escape(endpoint_text(first.sender)), escape(endpoint_text(first.receiver)),
                 run.streams.size() > 1 ? fmt::format(" and {} more streams", run.streams.size() - 1) : "",
                 run.congestion_control.empty() ? "" : ", " + escape(run.congestion_control),
                 run.iperf3_version.empty() ? "" : ", " + escape(run.iperf3_version));
  if (run.uncertainty_s) fmt::format_to(out, " Clocks aligned to {}.", uncertainty(run));
  html += "</p>\n";
  if (run.verdict)
    for (const auto& failure : run.verdict->failures)
      fmt::format_to(out, "<p class=\"note failure\">{}</p>\n", escape(failure));
  for (const auto& defect : run.defects) fmt::format_to(out, "<p class=\"note\">{}</p>\n", escape(defect));
  for (const auto& remark : run.remarks) fmt::format_to(out, "<p class=\"note\">{}</p>\n", escape(remark));
  if (run.verdict && !run.verdict->comparisons.empty()) append_comparisons(html, run.verdict->comparisons);
  if (run.verdict && !run.verdict->records.empty()) append_records(html, run.verdict->records);

  html += "<h3>Against time</h3>\n";
  if (section.drawings.empty()) html += "<p>No reading of any source: there is nothing to draw.</p>\n";
  for (const auto& drawing : section.drawings)
    fmt::format_to(out, "<figure id=\"{}-{}\">\n{}</figure>\n", id, drawing.picture.name,
                   inline_svg(drawing.svg, fmt::format("{}-{}-", id, drawing.picture.name), drawing.picture.title));
  if (!is_only) html += "</section>\n";
}

void append_summary(std::string& html, const std::vector<Section>& sections) {
  auto out = std::back_inserter(html);
  html +=
      "<div class=\"table\"><table>\n<tr><th>Run<th>Verdict<th>Family<th class=n>Streams<th>Congestion control"
      "<th class=n>Compared<th class=n>Agreed<th class=n>Records lost<th class=n>Clocks</tr>\n";
  for (const auto& section : sections) {
    const auto& run = section.run;
    fmt::format_to(out, "<tr><td><a href=\"#{}\">{}</a><td>{}", anchor(section.name), escape(section.name),
                   badge(section));
    if (section.failure.empty()) {
      std::uint64_t compared = 0, agreed = 0, lost = 0;
      if (run.verdict) {
        for (const auto& c : run.verdict->comparisons) compared += c.compared, agreed += c.agreed;
        for (const auto& [source, counts] : run.verdict->records) lost += count(counts, "lost").value_or(0);
      }
      fmt::format_to(out, "<td>{}<td class=n>{}<td>{}",
                     tcpinfo_address_is_ipv4(&run.streams.front().sender.address) ? "IPv4" : "IPv6", run.streams.size(),
                     escape(run.congestion_control));
      if (run.verdict)
        fmt::format_to(out, "<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{}", grouped(compared),
                       grouped(agreed), grouped(lost), uncertainty(run));
      else
        html += "<td><td><td><td>";
    } else {
      html += "<td><td><td><td><td><td><td>";
    }
    html += "</tr>\n";
  }
  html += "</table></div>\n";
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
  for (std::size_t at = 0; at < svg.size();) {
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

std::string page(std::string_view title, const std::vector<Section>& sections) {
  std::string html;
  auto out = std::back_inserter(html);
  fmt::format_to(out,
                 "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                 "<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n",
                 escape(title), kStyle);
  html +=
      "<p class=\"quiet\">TCP telemetry from eBPF (sockops) and from netlink (inet_diag), compared with iperf3 and "
      "with what "
      "the kernel answered it (getsockopt).</p>\n";
  const bool is_only = sections.size() == 1;
  if (!is_only) append_summary(html, sections);
  for (const auto& section : sections) append_section(html, section, is_only);
  html +=
      "<footer>Made by tcpinfo-plot. All is compared without tolerance: iperf3's figures with what the kernel answered "
      "iperf3, our samples with the answers before and after them, byte counts with iperf3's "
      "own.</footer>\n</body>\n</html>\n";
  return html;
}

}  // namespace plot
