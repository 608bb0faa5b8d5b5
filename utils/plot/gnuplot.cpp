// SPDX-License-Identifier: BSD-2-Clause
#include "gnuplot.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <iterator>
#include <utility>

#include <tcpinfo/error.hpp>

extern char** environ;  // NOLINT(readability-redundant-declaration): not in every unistd.h

namespace plot {
namespace {

// Okabe and Ito's palette: told apart by colour-blind readers, and in grey by their lightness.
constexpr std::string_view kBlue = "#0072B2";
constexpr std::string_view kOrange = "#E69F00";
constexpr std::string_view kBlack = "#000000";
constexpr std::string_view kPurple = "#CC79A7";
constexpr std::string_view kGrey = "#6b6b6b";
constexpr std::string_view kGrid = "#e3e3e3";

constexpr double kWidth = 1200;
// Pixels around the panels: title, subtitle and legend above, time and notes below.
constexpr double kHeader = 140, kFooter = 138, kLeft = 132, kRight = 28, kGap = 44;

std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    // gnuplot runs what stands between backquotes, in strings too, before it looks at escapes.
    if (c == '`') {
      result += "\\140";
      continue;
    }
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return result + '"';
}

std::string label(std::string_view text) { return in_quotes(enhanced(text)); }

/// Notes in lines of a picture's width.
std::vector<std::string> wrapped(const std::vector<std::string>& notes, std::size_t width) {
  std::vector<std::string> lines;
  for (const auto& note : notes) {
    if (!lines.empty() && lines.back().size() + note.size() + 2 <= width)
      lines.back() += "; " + note;
    else
      lines.push_back(note);
  }
  return lines;
}

/// A round distance of ticks that gives about `ticks` of them: gnuplot's own choice fits pictures of one panel.
double tick_step(double range, double ticks) {
  if (range <= 0) return 1;
  const double power = std::pow(10, std::floor(std::log10(range / ticks)));
  for (const double step : {1.0, 2.0, 5.0})
    if (range / (step * power) <= ticks + 0.5) return step * power;
  return 10 * power;
}

struct Layout {
  std::size_t rows, columns;
  double height;
};

Layout layout(std::size_t panels) {
  const std::size_t columns = panels <= 3 ? 1 : panels <= 8 ? 2 : 3;
  const std::size_t rows = (panels + columns - 1) / columns;
  return {rows, columns, rows == 1 ? 700 : kHeader + kFooter + 300 * static_cast<double>(rows)};
}

void append_data(std::string& script, std::string_view name, const Series& series, const Scale& scale, bool is_rate) {
  auto out = std::back_inserter(script);
  fmt::format_to(out, "${} << END\n", name);
  for (const auto& p : series.points) {
    const double value = p.value / scale.divisor;
    // A line shows a mean from its beginning to its end.
    if (is_rate && series.origin == Origin::kEbpf)
      fmt::format_to(out, "{:.6f} {:.7g}\n{:.6f} {:.7g}\n", p.time_s - p.half_s, value, p.time_s + p.half_s, value);
    else
      fmt::format_to(out, "{:.6f} {:.7g} {:.6f}\n", p.time_s, value, p.half_s);
  }
  script += "END\n";
}

/// Transitions that are too near to be told apart share a line, the last one's name included.
std::vector<Transition> merged(std::vector<Transition> transitions, double end_s) {
  std::vector<Transition> result;
  for (auto& t : transitions) {
    if (!result.empty() && t.time_s - result.back().time_s < 0.025 * end_s)
      result.back().state += " → " + t.state;
    else
      result.push_back(std::move(t));
  }
  return result;
}

/// One tick a column, or thousands of retransmissions would make the picture heavy.
std::vector<double> rug(const std::vector<double>& times, double end_s) {
  std::vector<double> result;
  for (const double t : times)
    if (result.empty() || t - result.back() > end_s / 500) result.push_back(t);
  return result;
}

std::string style(const Series& series, bool is_rate, bool dense, double point) {
  switch (series.origin) {
    case Origin::kEbpf:
      return fmt::format("using 1:2 with {} lc rgb '{}' lw {}", is_rate ? "lines" : "steps", kBlue, dense ? 1.5 : 2.2);
    case Origin::kNetlink:
      return fmt::format("using 1:2 with points pt 9 ps {:.3g} lc rgb '{}'", point * (dense ? 0.8 : 1.3), kOrange);
    case Origin::kIperf3:
      break;
  }
  const bool crowded = series.points.size() > 40;
  return fmt::format("using {} pt 6 ps {:.3g} lw {} lc rgb '{}'", is_rate ? "1:2:3 with xerrorbars" : "1:2 with points",
                     point * (crowded ? 1.5 : 2.4), crowded ? 1.6 : 2.4, kBlack);
}

/// One row above the panels, drawn by hand: gnuplot's own key fits itself to the first panel.
void append_legend(std::string& script, const Picture& picture, double height, double point) {
  std::array<bool, 3> used{};
  bool retransmitted = false;
  for (const auto& panel : picture.panels) {
    for (const auto& s : panel.series) used[static_cast<std::size_t>(s.origin)] |= !s.points.empty();
    retransmitted |= !panel.retransmissions_s.empty();
  }
  auto out = std::back_inserter(script);
  double x = 28;
  int tag = 900;
  const double y = 1 - 112 / height;
  const auto entry = [&](std::string_view mark, std::string_view name, double mark_width) {
    if (mark.empty())
      fmt::format_to(out, "set arrow {} from screen {:.5f},{:.5f} rto screen {:.5f},0 nohead lw 4 lc rgb '{}'\n", tag,
                     x / kWidth, y, mark_width / kWidth, kBlue);
    else if (mark == "|")
      fmt::format_to(out, "set arrow {} from screen {:.5f},{:.5f} rto screen 0,{:.5f} nohead lw 2.5 lc rgb '{}'\n", tag,
                     (x + mark_width / 2) / kWidth, y - 9 / height, 18 / height, kPurple);
    else
      fmt::format_to(out, "set label {} '' at screen {:.5f},{:.5f} point {}\n", tag, (x + mark_width / 2) / kWidth, y,
                     mark);
    ++tag;
    fmt::format_to(out, "set label {} {} at screen {:.5f},{:.5f} left\n", tag++, label(name),
                   (x + mark_width + 10) / kWidth, y);
    x += mark_width + 52 + 12.6 * static_cast<double>(name.size());
  };
  if (used[static_cast<std::size_t>(Origin::kEbpf)]) entry("", "eBPF (sockops)", 36);
  if (used[static_cast<std::size_t>(Origin::kNetlink)])
    entry(fmt::format("pt 9 ps {:.3g} lc rgb '{}'", 1.8 * point, kOrange), "netlink (inet_diag)", 20);
  if (used[static_cast<std::size_t>(Origin::kIperf3)])
    entry(fmt::format("pt 6 ps {:.3g} lw 2.4 lc rgb '{}'", 2.4 * point, kBlack), "iperf3", 24);
  if (retransmitted) entry("|", "retransmission", 10);
}

void append_panel(std::string& script, const Picture& picture, std::size_t index, const Scale& scale, double top,
                  bool is_lowest, double point) {
  const auto& panel = picture.panels[index];
  auto out = std::back_inserter(script);
  // The first panel carries what belongs to the whole picture.
  if (index > 0) script += "unset label\nunset arrow\n";
  if (!panel.title.empty())
    fmt::format_to(out, "set label 10 {} at graph 0.5,1 center offset 0,0.7 tc rgb '{}'\n", label(panel.title), kGrey);
  int tag = 20;
  if (picture.panels.size() == 1) {
    for (const auto& t : merged(panel.transitions, picture.end_s)) {
      fmt::format_to(out,
                     "set arrow {} from {:.6f}, graph 0 to {:.6f}, graph 1 nohead dt (6,6) lw 1.5 lc rgb '{}' back\n",
                     tag, t.time_s, t.time_s, kGrey);
      fmt::format_to(out,
                     "set label {} {} at {:.6f}, graph 0.06 rotate by 90 left offset 0.7,0 font ',14' tc rgb '{}' "
                     "front\n",
                     tag, label(t.state), t.time_s, kGrey);
      ++tag;
    }
  }
  const auto ticks = rug(panel.retransmissions_s, picture.end_s);
  if (!ticks.empty()) {
    script += "$rug << END\n";
    for (const double t : ticks) fmt::format_to(out, "{:.6f} 0\n", t);
    script += "END\n";
  }
  for (std::size_t i = 0; i < panel.series.size(); ++i)
    append_data(script, fmt::format("s{}", i), panel.series[i], scale, picture.is_rate);

  script += is_lowest ? "set format x '%g'\n" : "set format x ''\n";
  script += "plot \\\n";
  bool dense = false;
  for (const auto& series : panel.series) dense |= series.points.size() > 300;
  if (!ticks.empty())
    fmt::format_to(out, "$rug using 1:({:.7g}) with impulses lw 1.5 lc rgb '{}' notitle, \\\n", top * 0.035, kPurple);
  // Netlink's marks lie under the thin line of eBPF, which would vanish below them; iperf3's open ones on top.
  for (const auto origin : {Origin::kNetlink, Origin::kEbpf, Origin::kIperf3})
    for (std::size_t i = 0; i < panel.series.size(); ++i)
      if (panel.series[i].origin == origin && !panel.series[i].points.empty())
        fmt::format_to(out, "$s{} {} notitle, \\\n", i, style(panel.series[i], picture.is_rate, dense, point));
  script += "NaN notitle\n";
}

/// A file in memory that ends with its descriptor.
class MemoryFile {
 public:
  explicit MemoryFile(const char* name) : fd_(memfd_create(name, MFD_CLOEXEC)) {
    if (fd_ < 0) throw tcpinfo::Error({errno, std::generic_category()}, "make a file in memory for gnuplot", {});
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  int fd() const noexcept { return fd_; }

  void write(std::string_view text) const {
    while (!text.empty()) {
      const auto n = ::write(fd_, text.data(), text.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw tcpinfo::Error({errno, std::generic_category()}, "keep gnuplot's input in memory", {});
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    ::lseek(fd_, 0, SEEK_SET);
  }

  std::string read() const {
    struct stat status {};
    if (::fstat(fd_, &status) != 0) return {};
    std::string text(static_cast<std::size_t>(status.st_size), '\0');
    std::size_t done = 0;
    while (done < text.size()) {
      const auto n = ::pread(fd_, text.data() + done, text.size() - done, static_cast<off_t>(done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
    text.resize(done);
    return text;
  }

 private:
  int fd_;
};

/// Runs gnuplot and gives its exit status; 127 with errno's value in `error` if it cannot be started.
int run_gnuplot(const MemoryFile& input, const MemoryFile& output, const MemoryFile& errors, bool version_only,
                int& error) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.fd(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output.fd(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors.fd(), STDERR_FILENO);
  // -d: the user's own settings would change the pictures.
  std::string program = "gnuplot", option = version_only ? "--version" : "-d";
  char* arguments[] = {program.data(), option.data(), nullptr};
  pid_t child = -1;
  error = posix_spawnp(&child, "gnuplot", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return 127;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return 127;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string first_line(std::string_view text) {
  // gnuplot echoes the line that it rejects before it says why.
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = text.substr(at, end - at);
    if (line.find_first_not_of(" \t^") != std::string_view::npos) result = line;
    at = end + 1;
  }
  return result.substr(0, 300);
}

}  // namespace

std::string enhanced(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (std::string_view("\\{}^_@&~").find(c) != std::string_view::npos) result += '\\';
    result += c;
  }
  return result;
}

std::string gnuplot_script(const Picture& picture, Image image) {
  const auto grid = layout(picture.panels.size());
  const double largest = picture.maximum();
  const auto scale = scale_for(picture.dimension, largest);
  const double top = largest > 0 ? largest / scale.divisor * 1.08 : 1;
  const auto height = grid.height;

  std::string script;
  auto out = std::back_inserter(script);
  if (image == Image::kPng)
    fmt::format_to(out, "set terminal pngcairo size {:.0f},{:.0f} enhanced font 'sans,19' background '#ffffff'\n",
                   kWidth, height);
  else
    fmt::format_to(out,
                   "set terminal svg size {:.0f},{:.0f} dynamic enhanced font 'sans-serif,23' background '#ffffff'\n",
                   kWidth, height);
  // The SVG terminal counts in pixels and makes marks larger with the font.
  const double point = image == Image::kPng ? 1 : 0.42, font = image == Image::kPng ? 1 : 1.21;
  const double title_size = 24 * font, tiny_size = 13 * font;
  const double small_size = font * std::clamp(15 * 96 / static_cast<double>(picture.subtitle.size()), 10.0, 15.0);

  fmt::format_to(out, "set encoding utf8\nset multiplot\nset border 3 lc rgb '{}' lw 1\n", kGrey);
  fmt::format_to(
      out, "set grid lc rgb '{}' lw 1 lt 1\nset errorbars 0\nset tics nomirror out textcolor rgb '#202020'\n", kGrid);
  fmt::format_to(out, "set xrange [{:.6g}:{:.6g}]\nset yrange [0:{:.7g}]\n", -0.01 * picture.end_s,
                 picture.end_s * 1.02, top);
  if (grid.rows > 1) fmt::format_to(out, "set ytics {:.4g}\n", tick_step(top, 4));
  if (grid.columns > 1) fmt::format_to(out, "set xtics {:.4g}\n", tick_step(picture.end_s, 5));
  if (top < 1.5 && picture.dimension == Dimension::kNumber) script += "set ytics 1\n";
  script += "unset key\nset tics scale 0.5\nset xtics offset 0,0.25\n";
  append_legend(script, picture, height, point);
  fmt::format_to(out, "set label 8 'Time since the start of the test (s)' at screen {:.5f},{:.5f} center\n",
                 (kLeft + (kWidth - kLeft - kRight) / 2) / kWidth, 76 / height);
  fmt::format_to(out, "set label 1 {} at screen {:.5f},{:.5f} left font ',{:.3g}'\n",
                 in_quotes("{/:Bold " + enhanced(picture.title) + "}"), 28 / kWidth, 1 - 34 / height, title_size);
  fmt::format_to(out, "set label 2 {} at screen {:.5f},{:.5f} left font ',{:.3g}' tc rgb '{}'\n",
                 label(picture.subtitle), 28 / kWidth, 1 - 72 / height, small_size, kGrey);
  const auto lines = wrapped(picture.notes, 125);
  for (std::size_t i = 0; i < lines.size(); ++i)
    fmt::format_to(out, "set label {} {} at screen {:.5f},{:.5f} left font ',{:.3g}' tc rgb '{}'\n", i + 3,
                   label(lines[i]), 28 / kWidth, (20 + 22 * static_cast<double>(lines.size() - 1 - i)) / height,
                   tiny_size, kGrey);
  fmt::format_to(out, "set label 9 {} at screen {:.5f},{:.5f} center rotate by 90\n",
                 label(scale.unit.empty() ? picture.axis : fmt::format("{} ({})", picture.axis, scale.unit)),
                 26 / kWidth, (kFooter + (height - kHeader - kFooter) / 2) / height);

  const double cell_width = (kWidth - kLeft - kRight + kGap) / static_cast<double>(grid.columns);
  const double cell_height = (height - kHeader - kFooter) / static_cast<double>(grid.rows);
  const bool several = picture.panels.size() > 1;
  for (std::size_t i = 0; i < picture.panels.size(); ++i) {
    const auto row = static_cast<double>(i / grid.columns), column = static_cast<double>(i % grid.columns);
    const double left = kLeft + column * cell_width, right = left + cell_width - kGap;
    const double upper = height - kHeader - row * cell_height - (several ? 36 : 0);
    const double lower = height - kHeader - (row + 1) * cell_height + (several ? 10 : 0);
    fmt::format_to(out, "set lmargin at screen {:.5f}\nset rmargin at screen {:.5f}\n", left / kWidth, right / kWidth);
    fmt::format_to(out, "set tmargin at screen {:.5f}\nset bmargin at screen {:.5f}\n", upper / height, lower / height);
    script += column == 0 ? "set format y '%g'\n" : "set format y ''\n";
    append_panel(script, picture, i, scale, top, i + grid.columns >= picture.panels.size(), point);
  }
  script += "unset multiplot\n";
  return script;
}

bool gnuplot_exists() {
  const MemoryFile input("input"), output("output"), errors("errors");
  int error = 0;
  return run_gnuplot(input, output, errors, true, error) == 0;
}

std::string render(const Picture& picture, Image image) {
  const MemoryFile input("gnuplot-input"), output("gnuplot-output"), errors("gnuplot-errors");
  input.write(gnuplot_script(picture, image));
  int error = 0;
  const int status = run_gnuplot(input, output, errors, false, error);
  const auto action = fmt::format("draw {} as {} with gnuplot", picture.name, image == Image::kPng ? "PNG" : "SVG");
  if (error != 0)
    throw tcpinfo::Error({error, std::generic_category()}, action, "install it: apt-get install gnuplot-nox");
  auto bytes = output.read();
  if (status != 0 || bytes.empty())
    throw tcpinfo::Error({EIO, std::generic_category()}, action,
                         fmt::format("gnuplot ended with {}: {}; 5.4 with the terminals pngcairo and svg is needed: "
                                     "apt-get install gnuplot-nox",
                                     status, first_line(errors.read())));
  return bytes;
}

}  // namespace plot
