// SPDX-License-Identifier: BSD-2-Clause
#include <fmt/format.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigprocmask

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include <tcpinfo/error.hpp>

#include "gnuplot.hpp"
#include "output.hpp"
#include "page.hpp"
#include "run.hpp"
#include "series.hpp"

namespace {

namespace fs = std::filesystem;

constexpr int kFailed = 1, kUsage = 2, kImpossible = 77;

/// Ctrl-C waits while files are put in their places: none is left half-way.
class SignalsHeld {
 public:
  SignalsHeld() {
    sigset_t held;
    sigemptyset(&held);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&held, signal);
    sigprocmask(SIG_BLOCK, &held, &old_);
  }
  ~SignalsHeld() { sigprocmask(SIG_SETMASK, &old_, nullptr); }
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

 private:
  sigset_t old_{};
};

void complain(std::string_view text) { fmt::print(stderr, "tcpinfo-plot: {}\n", text); }

/// The folders of the runs in `directory`: itself, or those below it that are runs, by name.
std::vector<fs::path> find_runs(const fs::path& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error)) {
    if (!error) error = std::make_error_code(std::errc::not_a_directory);
    throw tcpinfo::Error(error, "read " + directory.string(), "give the folder that tcpinfo-validate run --out wrote");
  }
  if (fs::exists(directory / "iperf3.json", error)) return {directory};
  std::vector<fs::path> runs;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    std::error_code ignored;
    if (entry.is_directory(ignored) && fs::exists(entry.path() / "iperf3.json", ignored)) runs.push_back(entry.path());
  }
  if (error) throw tcpinfo::Error(error, "read " + directory.string(), {});
  if (runs.empty())
    throw tcpinfo::Error(std::make_error_code(std::errc::no_such_file_or_directory),
                         "read " + (directory / "iperf3.json").string(),
                         "give the folder that tcpinfo-validate run --out wrote, or one that holds such folders");
  std::ranges::sort(runs);
  return runs;
}

plot::Section draw(const fs::path& directory) {
  plot::Section section;
  section.run = plot::read_run(directory);
  section.name = section.run.name;
  for (auto& picture : plot::pictures(section.run)) {
    auto png = std::async(std::launch::async, [&] { return plot::render(picture, plot::Image::kPng); });
    auto svg = plot::render(picture, plot::Image::kSvg);
    auto bytes = png.get();
    section.drawings.push_back({.picture = std::move(picture), .png = std::move(bytes), .svg = std::move(svg)});
  }
  return section;
}

int run(const fs::path& directory, const fs::path& out) {
  const auto runs = find_runs(directory);
  const bool is_set = runs.front() != directory;
  bool whole = true;
  std::size_t pictures = 0;
  std::vector<plot::Section> sections;
  for (const auto& one : runs) {
    try {
      sections.push_back(draw(one));
    } catch (const tcpinfo::Error& error) {
      // Of a set, the other runs are still worth their pictures.
      if (!is_set) throw;
      sections.push_back({.name = one.filename().string(), .failure = error.what(), .run = {}, .drawings = {}});
      complain(error.what());
      whole = false;
    }
    const auto& section = sections.back();
    pictures += section.drawings.size();
    for (const auto& defect : section.run.defects) complain(defect);
    for (const auto& remark : section.run.remarks) complain(remark);
    whole &= section.run.defects.empty();
  }
  const auto index = out / "index.html";
  const auto name = fs::absolute(directory).lexically_normal();
  const SignalsHeld held;
  plot::OutputFiles files;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const auto plots = (is_set ? out / runs[i].filename() : out) / "plots";
    for (const auto& drawing : sections[i].drawings) {
      files.add(plots / (drawing.picture.name + ".png"), drawing.png);
      files.add(plots / (drawing.picture.name + ".svg"), drawing.svg);
    }
  }
  files.add(index, plot::page((name.has_filename() ? name : name.parent_path()).filename().string(), sections));
  files.commit();
  fmt::print("{}: {} picture{} of {} run{}\n", index.string(), pictures, pictures == 1 ? "" : "s", runs.size(),
             runs.size() == 1 ? "" : "s");
  return whole ? 0 : kFailed;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Draws a run of tcpinfo-validate: for each quantity a picture that lays iperf3, netlink and eBPF over each "
      "other,\n"
      "as PNG and SVG, and one index.html with verdict and pictures that needs nothing beside it.");
  app.name("tcpinfo-plot");
  std::string directory, out;
  app.add_option("DIR", directory,
                 "Folder with iperf3.json, iperf3-server.json, sockops.jsonl, inet_diag.jsonl and verdict.json, or a "
                 "folder of such folders")
      ->required();
  app.add_option("--out", out, "Where index.html and plots/ go; DIR if not given");
  app.footer(
      "Examples:\n"
      "  tcpinfo-validate run --out /tmp/run && tcpinfo-plot /tmp/run   pictures in /tmp/run/plots\n"
      "  tcpinfo-plot /tmp/runs                                         all runs below it, one index.html\n"
      "  tcpinfo-plot --out /tmp/figures /media/readonly/run            leaves DIR as it is\n"
      "\n"
      "Exit codes: 0 all was drawn, 1 something was missing or cut off (what could be drawn was), 2 usage,\n"
      "77 not possible here: gnuplot is missing.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  try {
    if (!plot::gnuplot_exists()) {
      complain("gnuplot is not installed (apt-get install gnuplot-nox)");
      return kImpossible;
    }
    return run(directory, out.empty() ? directory : out);
  } catch (const std::exception& error) {
    complain(error.what());
    return kFailed;
  }
}
