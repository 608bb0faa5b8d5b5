// SPDX-License-Identifier: BSD-2-Clause
#include "sampling.hpp"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <iterator>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

#include "gnuplot.hpp"

extern char** environ;  // NOLINT(readability-redundant-declaration): not in every unistd.h

namespace plot {
namespace {

using validation::Sampler;
using validation::Seen;
using validation::StudyResult;

constexpr std::string_view kGrey = "#6b6b6b", kGrid = "#e3e3e3";

// In points of 1/72 inch.
constexpr double kWidth = 241, kHeight = 290;
constexpr double kLeft = 24, kRight = 8, kGap = 11, kTop = 27, kBottom = 22, kPanelTitle = 13;
constexpr int kRows = 3, kColumns = 2;

// Where transitions stand on the axis of milliseconds, beyond all intervals.
constexpr double kStateAt = 5000;

struct Panel {
  std::string title;
  std::function<std::optional<double>(const Seen&)> share;  // percent
};

std::optional<double> percent(double part, double whole) {
  return whole > 0 ? std::optional(100 * part / whole) : std::nullopt;
}

using Extreme = std::optional<std::uint64_t> Seen::*;

Panel range_panel(std::string title, const StudyResult& result, Extreme least, Extreme greatest) {
  const auto width = [=](const Seen& seen) {
    return seen.*least && seen.*greatest ? static_cast<double>(*(seen.*greatest) - *(seen.*least)) : 0;
  };
  return {std::move(title),
          [=, whole = width(result.reference)](const Seen& seen) { return percent(width(seen), whole); }};
}

Panel count_panel(std::string title, std::uint64_t Seen::*count, std::uint64_t whole) {
  return {std::move(title),
          [=](const Seen& seen) { return percent(static_cast<double>(seen.*count), static_cast<double>(whole)); }};
}

std::array<Panel, kRows * kColumns> panels(const StudyResult& result) {
  return {count_panel("Retransmission bursts told apart", &Seen::bursts, result.reference.bursts),
          range_panel("Range of rtt seen", result, &Seen::rtt_least_us, &Seen::rtt_greatest_us),
          count_panel("Short flows seen", &Seen::short_flows, result.short_flows),
          range_panel("Range of snd_cwnd seen", result, &Seen::cwnd_least, &Seen::cwnd_greatest),
          count_panel("Short flows seen to their end", &Seen::short_flows_complete, result.short_flows),
          Panel{"Records that tell something new", [](const Seen& seen) {
                  return percent(static_cast<double>(seen.records - seen.nothing_new),
                                 static_cast<double>(seen.records));
                }}};
}

bool is_every_rtt(const Sampler& sampler) { return sampler.mode == "polling" && sampler.interval_ns == 0; }

/// Milliseconds; of what has no interval, the mean time between its records.
double place(const Sampler& sampler, const StudyResult& result) {
  if (sampler.mode == "state") return kStateAt;
  if (!is_every_rtt(sampler)) return static_cast<double>(sampler.interval_ns) / 1e6;
  return result.duration_s * 1e3 / static_cast<double>(std::max<std::uint64_t>(sampler.seen.bulk_records, 1));
}

struct Style {
  std::string_view name, legend, mark;
  std::function<bool(const Sampler&)> has;
};

// Okabe and Ito's blue and orange: told apart by colour-blind readers, and in grey by their lightness. The mark of what
// is drawn first is larger, so that both show where they agree.
const std::array<Style, 4>& styles() {
  static const std::array<Style, 4> all{
      Style{"inet_diag", "inet\\_diag, polled", "linespoints pt 9 ps 0.62 lw 1.1 dt (6,3) lc rgb '#E69F00'",
            [](const Sampler& s) { return s.source == "inet_diag"; }},
      Style{"sockops", "sockops, polled", "linespoints pt 7 ps 0.33 lw 1.1 lc rgb '#0072B2'",
            [](const Sampler& s) { return s.source == "sockops" && s.mode == "polling" && !is_every_rtt(s); }},
      Style{"rtt", "sockops, every RTT", "points pt 6 ps 0.6 lw 1.2 lc rgb '#0072B2'",
            [](const Sampler& s) { return is_every_rtt(s); }},
      Style{"state", "sockops, transitions", "points pt 2 ps 0.5 lw 1.2 lc rgb '#0072B2'",
            [](const Sampler& s) { return s.mode == "state"; }}};
  return all;
}

std::string terminal(StudyImage image) {
  switch (image) {
    case StudyImage::kPng:
      return fmt::format(
          "set terminal pngcairo size {:.0f},{:.0f} enhanced font 'Liberation Sans,6.5' fontscale {:.3f} "
          "linewidth {:.3f} pointscale {:.3f} background '#ffffff'\n",
          kWidth * 600 / 72, kHeight * 600 / 72, 600.0 / 96, 600.0 / 96, 600.0 / 96);
    case StudyImage::kSvg:
      return fmt::format(
          "set terminal svg size {:.0f},{:.0f} dynamic enhanced font 'Liberation Sans,8.7' "
          "background '#ffffff'\n",
          kWidth * 96 / 72, kHeight * 96 / 72);
    case StudyImage::kPdf:
      break;
  }
  return fmt::format(
      "set terminal pdfcairo size {:.3f}in,{:.3f}in enhanced font 'Liberation Sans,6.5' fontscale 0.75 linewidth 1.5 "
      "pointscale 0.85\n",
      kWidth / 72, kHeight / 72);
}

class MemoryFile {
 public:
  explicit MemoryFile(std::string_view text) : fd_(::memfd_create("gnuplot", MFD_CLOEXEC)) {
    if (fd_ < 0 || ::write(fd_, text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
        ::lseek(fd_, 0, SEEK_SET) != 0)
      throw tcpinfo::Error({errno, std::generic_category()}, "make a file in memory for gnuplot", {});
  }
  MemoryFile(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(fd_); }

  int fd() const noexcept { return fd_; }
  std::string read() const {
    struct stat status {};
    if (::fstat(fd_, &status) != 0) return {};
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    const auto got = ::pread(fd_, text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }

 private:
  int fd_;
};

std::string run_gnuplot(const std::string& script, std::string_view name) {
  const MemoryFile input(script), output(""), errors("");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.fd(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output.fd(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors.fd(), STDERR_FILENO);
  // -d: the user's own settings would change the figure.
  std::string program = "gnuplot", option = "-d";
  char* arguments[] = {program.data(), option.data(), nullptr};
  pid_t child = -1;
  const int error = ::posix_spawnp(&child, "gnuplot", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  const auto action = fmt::format("draw {} with gnuplot", name);
  if (error != 0)
    throw tcpinfo::Error({error, std::generic_category()}, action, "install it: apt-get install gnuplot-nox");
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) break;
  auto bytes = output.read();
  if (status != 0 || bytes.empty())
    throw tcpinfo::Error(
        {EIO, std::generic_category()}, action,
        fmt::format("gnuplot 5.4 with its cairo terminals is needed: {}", errors.read().substr(0, 300)));
  return bytes;
}

}  // namespace

std::string study_script(const StudyResult& result, StudyImage image) {
  std::string script = terminal(image);
  auto out = std::back_inserter(script);
  const auto x = [](double points) { return points / kWidth; };
  const auto y = [](double points) { return 1 - points / kHeight; };
  fmt::format_to(
      out,
      "set encoding utf8\nset multiplot\nset border 3 lc rgb '{0}' lw 0.6\nset grid lc rgb '{1}' lw 0.6 lt 1\n"
      "set tics nomirror out scale 0.4 textcolor rgb '#202020'\nset logscale x\nset xrange [0.6:9000]\n"
      "set yrange [-4:104]\nset ytics 0,25,100 offset 0.6,0\nset key off\n",
      kGrey, kGrid);
  // By hand: gnuplot's own ticks on a logarithmic axis come with small ones.
  const std::string ticks = fmt::format("('1 ms' 1, '10' 10, '100' 100, '1 s' 1000, 'state' {:.0f})", kStateAt);
  fmt::format_to(out, "set arrow 50 from 2200,-4 to 2200,104 nohead lc rgb '{}' lw 0.6 dt (2,2)\n", kGrey);

  const auto used = [&](const Style& style) { return std::ranges::any_of(result.samplers, style.has); };
  int entry = 0;
  // Row by row: lines beside lines, single marks beside single marks.
  for (const std::size_t i : {1, 0, 2, 3}) {
    const auto& style = styles()[i];
    if (!used(style)) continue;
    const double left = entry % 2 == 0 ? kLeft : kWidth / 2 + 8, top = 8 + 11 * (entry / 2);
    const auto point = style.mark.substr(style.mark.find("pt "));
    if (style.mark.starts_with("linespoints"))
      fmt::format_to(out, "set arrow {} from screen {:.5f},{:.5f} rto screen {:.5f},0 nohead {}\n", 60 + entry, x(left),
                     y(top), x(18), point.substr(point.find("lw ")));
    fmt::format_to(out, "set label {} '' at screen {:.5f},{:.5f} point {} front\n", 70 + entry, x(left + 9), y(top),
                   fmt::format("{} {}", point.substr(0, point.find(" lw")), point.substr(point.find("lc "))));
    fmt::format_to(out, "set label {} '{}' at screen {:.5f},{:.5f} left\n", 80 + entry, style.legend, x(left + 23),
                   y(top));
    ++entry;
  }
  fmt::format_to(out, "set label 90 'Sampling interval' at screen {:.5f},{:.5f} center\n",
                 x(kLeft + (kWidth - kLeft - kRight) / 2), y(kHeight - 6));
  fmt::format_to(out, "set label 91 'Share of all (%)' at screen {:.5f},{:.5f} center rotate by 90\n", x(5),
                 y(kTop + (kHeight - kTop - kBottom) / 2));

  const auto all = panels(result);
  const double width = (kWidth - kLeft - kRight - kGap) / kColumns;
  const double height = (kHeight - kTop - kBottom) / kRows;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto column = static_cast<double>(i % kColumns), row = static_cast<double>(i / kColumns);
    const double left = kLeft + column * (width + kGap), top = kTop + row * height + kPanelTitle;
    const double bottom = kTop + (row + 1) * height - 2;
    fmt::format_to(out,
                   "set lmargin at screen {:.5f}\nset rmargin at screen {:.5f}\nset tmargin at screen {:.5f}\n"
                   "set bmargin at screen {:.5f}\n",
                   x(left), x(left + width), y(top), y(bottom));
    fmt::format_to(out, "set label 1 '{{/:Bold {}}}' at screen {:.5f},{:.5f} left\n", enhanced(all[i].title), x(left),
                   y(top - 6));
    script += column == 0 ? "set format y '%g'\n" : "set format y ''\n";
    fmt::format_to(out, "set xtics {} offset 0,0.4\n", row + 1 == kRows ? ticks : "('' 1, '' 10, '' 100, '' 1000)");
    std::string plots;
    for (const auto& style : styles()) {
      std::vector<std::pair<double, double>> points;
      for (const auto& sampler : result.samplers)
        if (style.has(sampler))
          if (const auto share = all[i].share(sampler.seen)) points.emplace_back(place(sampler, result), *share);
      if (points.empty()) continue;
      std::ranges::sort(points);
      const auto name = fmt::format("${}{}", style.name, i);
      fmt::format_to(out, "{} << END\n", name);
      for (const auto& [at, share] : points) fmt::format_to(out, "{:.4f} {:.4f}\n", at, share);
      script += "END\n";
      plots += fmt::format("{}{} using 1:2 with {}", plots.empty() ? "plot " : ", ", name, style.mark);
    }
    // Without a line, the panel still stands there.
    script += plots.empty() ? "plot NaN" : plots;
    script += '\n';
    // The legend and the names of the axes belong to the page, and are drawn once.
    if (i == 0) script += "unset label\nunset for [tag = 60:69] arrow tag\n";
  }
  script += "unset multiplot\n";
  return script;
}

std::vector<StudyFigure> draw_study(const StudyResult& result) {
  std::vector<StudyFigure> figures;
  for (const auto& [name, image] :
       {std::pair("sampling.png", StudyImage::kPng), std::pair("sampling.svg", StudyImage::kSvg),
        std::pair("sampling.pdf", StudyImage::kPdf)})
    figures.push_back({name, run_gnuplot(study_script(result, image), name)});
  return figures;
}

}  // namespace plot
