// SPDX-License-Identifier: BSD-2-Clause
#include "options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <utility>

#include <tcpinfo/error.hpp>

#include "command.hpp"
#include "quantity.hpp"
#include "units.hpp"

namespace plot {
namespace {

constexpr double kNarrowest_pt = 150, kWidest_pt = 2880;

double seconds(std::string_view option, const std::string& text) {
  return std::chrono::duration<double>(cli::parse_duration(option, text)).count();
}

}  // namespace

double parse_width(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  for (const auto& [name, points] :
       {std::pair(std::string_view("mm"), 72 / 25.4), std::pair(std::string_view("cm"), 72 / 2.54),
        std::pair(std::string_view("in"), 72.0), std::pair(std::string_view("pt"), 1.0)}) {
    if (error != std::errc() || unit != name) continue;
    if (number * points < kNarrowest_pt || number * points > kWidest_pt)
      cli::usage_error(fmt::format("--width {}: it is between 53mm and 1016mm", text));
    return number * points;
  }
  cli::usage_error(fmt::format("--width {}: not a length (as 85mm, 18cm, 3.5in or 240pt)", text));
}

std::vector<tcpinfo::Field> parse_fields(const std::vector<std::string>& names) {
  std::vector<tcpinfo::Field> fields;
  std::vector<std::string_view> known;
  for (const auto& row : tcpinfo::fields())
    if (is_plottable(row)) known.push_back(row.name);
  for (const auto& name : names) {
    const auto* row = tcpinfo::find_field(name);
    if (!row)
      cli::usage_error(fmt::format("--field: unknown field {} (did you mean {}? tcpinfo fields lists them)", name,
                                   cli::nearest(name, known)));
    if (!is_plottable(*row))
      cli::usage_error(
          fmt::format("--field: {} tells whose a record is, and is no quantity to be drawn (--filter chooses "
                      "connections; tcpinfo fields lists all)",
                      name));
    if (std::ranges::find(fields, row->field) == fields.end()) fields.push_back(row->field);
  }
  return fields;
}

std::optional<Options> parse_options(int argc, const char* const* argv) {
  CLI::App app(
      "Draws what tcpinfo and tcpinfo-validate recorded, as PNG, SVG and PDF.\n"
      "\n"
      "FILE: of tcpinfo record, or JSON lines of tcpinfo watch, tcpinfo snapshot or a validation. A picture for each\n"
      "field; several files are laid over each other, the same connection in the same chart.\n"
      "DIR: what tcpinfo-validate run wrote: one run, or a folder of runs. For each field all sources over each "
      "other,\n"
      "how far they are from what iperf3 was answered, how these differences are distributed, and what happened to "
      "the\n"
      "connections; and one index.html with verdicts and pictures that needs nothing beside it.");
  app.name("tcpinfo-plot");
  Options options;
  std::vector<std::string> formats{"png", "svg", "pdf"}, fields;
  std::string width = "180mm", filter, from, to, align = "auto";
  bool no_title = false;
  app.add_option("INPUT", options.inputs, "FILE or LABEL=FILE, several of them, or one DIR")->required()->type_name("");
  app.add_option(
         "--out", options.out,
         "Where pictures go: for files DIR itself [plots], for a folder DIR/plots and DIR/index.html [the folder]")
      ->type_name("DIR");
  app.add_option("--format", formats, "Of the pictures: png, svg, pdf or several")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"png", "svg", "pdf"}).description(""))
      ->type_name("LIST")
      ->default_str("png,svg,pdf");
  app.add_option("--width", width,
                 "Of the pictures, in print: texts have 6 to 8.5 pt whatever it is; 85mm fits a column")
      ->type_name("LENGTH")
      ->capture_default_str();
  app.add_flag("--no-title", no_title, "Leave title and notes out, where a caption says it");
  app.add_option("--field", fields,
                 "Which fields [the most telling; of a run those that iperf3 reports or that failed]")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("LIST");
  auto* of_files = app.add_option_group("For files");
  of_files->add_option("--filter", filter, "Which connections, as 'peer_port == 443 and address in 10.0.0.0/8'")
      ->type_name("EXPR");
  of_files->add_option("--from", from, "Leave out what is before, since the first record, as 2s")->type_name("TIME");
  of_files->add_option("--to", to, "Leave out what is after")->type_name("TIME");
  of_files->add_flag("--rate", options.selection.as_rates, "Draw counters by their growth a second");
  of_files
      ->add_option(
          "--align", align,
          "Where several files begin: clock (as recorded), start (each with its first record), auto: as recorded "
          "if their times overlap")
      ->check(CLI::IsMember({"auto", "clock", "start"}).description(""))
      ->type_name("HOW")
      ->capture_default_str();
  app.add_option("--jobs", options.jobs, "Runs that are drawn at a time [as many as there are processors]")
      ->check(CLI::Range(1, 64).description(""))
      ->type_name("N");
  app.footer(
      "Examples:\n"
      "  tcpinfo watch --duration 30s > a.jsonl; tcpinfo-plot a.jsonl      the most telling fields, in ./plots\n"
      "  tcpinfo-plot --field rtt,snd_cwnd --filter 'peer_port == 443' --from 2s --to 10s a.jsonl\n"
      "  tcpinfo-plot --rate --field bytes_acked cubic=a.jsonl bbr=b.jsonl  two files over each other\n"
      "  tcpinfo-plot --format pdf --width 85mm --no-title --field rtt a.jsonl   for a column of a paper\n"
      "  tcpinfo-validate run --out /tmp/run && tcpinfo-plot /tmp/run      pictures in /tmp/run/plots, and index.html\n"
      "  tcpinfo-plot --out /tmp/figures /media/readonly/runs              all runs below it, which stays as it is\n"
      "  index.html#bulk-ipv4/rtt                                          opens a run and a field of the page\n"
      "\n"
      "Exit codes: 0 all was drawn, 1 something was missing or cut off (what could be drawn was), 2 usage,\n"
      "77 not possible here: gnuplot is missing.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (app.exit(error) == 0) return std::nullopt;
    throw cli::Failure(cli::kUsage, "");
  }
  for (const auto image : {Image::kPng, Image::kSvg, Image::kPdf})
    if (std::ranges::find(formats, extension(image)) != formats.end()) options.images.push_back(image);
  options.paper.width_pt = parse_width(width);
  options.paper.texts = !no_title;
  options.selection.fields = parse_fields(fields);
  try {
    options.selection.filter = tcpinfo::Filter::parse(filter);
  } catch (const tcpinfo::Error& error) {
    cli::usage_error(fmt::format("--filter: {}", error.what()));
  }
  if (!from.empty()) options.selection.from_s = seconds("--from", from);
  if (!to.empty()) options.selection.to_s = seconds("--to", to);
  if (options.selection.from_s && options.selection.to_s && *options.selection.from_s >= *options.selection.to_s)
    cli::usage_error(fmt::format("--from {} --to {}: nothing is between them", from, to));
  options.selection.align = align == "clock" ? Align::kClock : align == "start" ? Align::kStart : Align::kAuto;
  for (const auto* option : of_files->get_options())
    if (option->count() > 0) options.of_files = option->get_name();
  return options;
}

}  // namespace plot
