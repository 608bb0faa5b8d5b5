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
#include <limits>
#include <memory>
#include <utility>

#include <tcpinfo/error.hpp>

extern char** environ;  // NOLINT(readability-redundant-declaration): not in every unistd.h

namespace plot {
namespace {

constexpr std::string_view kGrey = "#5f5f5f";
constexpr std::string_view kGrid = "#e6e6e6";
constexpr std::string_view kRetransmissionColour = "#D55E00";

struct Style {
  std::string_view colour;
  std::string_view dash;
  int mark;        ///< gnuplot's pointtype
  double mark_pt;  ///< its diameter
};

// Okabe and Ito's palette: told apart by colour-blind readers. Marks and dashes tell them apart in grey, too.
constexpr std::array<Style, kLooks> kStyles{{
    {"#0072B2", "1", 7, 2.0},
    {"#E69F00", "(8,3)", 9, 3.4},
    {"#009E73", "(3,2)", 4, 3.0},
    {"#CC79A7", "(8,2,2,2)", 2, 4.2},
    {"#000000", "(12,4)", 6, 5.2},
    {"#0072B2", "1", 7, 2.2},
    {"#D55E00", "(8,3)", 9, 3.2},
    {"#009E73", "(3,2)", 4, 3.0},
    {"#CC79A7", "(8,2,2,2)", 2, 3.6},
    {"#56B4E9", "(12,4)", 11, 3.2},
    {"#000000", "(2,3)", 6, 3.2},
}};
const Style& style_of(Look look) { return kStyles[static_cast<std::size_t>(look)]; }

// Light to dark with the severity, so that grey tells it too.
struct RecoveryStyle {
  std::string_view name, colour;
};
constexpr std::array<RecoveryStyle, 5> kRecoveries{
    {{"Open", "#dfe9f0"}, {"Disorder", "#F0E442"}, {"CWR", "#56B4E9"}, {"Recovery", "#0072B2"}, {"Loss", "#1c1e21"}}};

// Points: the sizes that journals ask for in print.
constexpr double kText = 7, kTitle = 8.5, kSmall = 6;
constexpr double kLeft = 48, kRight = 9, kEdge = 5;

/// How a terminal counts: what a font size, a line width and a mark of one point are in its units.
struct Terminal {
  std::string set;
  double font, line, mark;
};

constexpr double kPngDpi = 200;

Terminal terminal(Image image, double width_pt, double height_pt) {
  switch (image) {
    case Image::kPdf:
      return {fmt::format("set terminal pdfcairo size {:.4f}in,{:.4f}in enhanced font 'sans,{}' fontscale 0.75 "
                          "background '#ffffff'",
                          width_pt / 72, height_pt / 72, kText),
              1, 2, 1 / 6.5};
    case Image::kPng: {
      const double scale = kPngDpi / 72;
      return {fmt::format("set terminal pngcairo size {:.0f},{:.0f} enhanced font 'sans,{:.2f}' fontscale 0.75 "
                          "background '#ffffff'",
                          width_pt * scale, height_pt * scale, kText * scale),
              scale, scale, scale / 7};
    }
    case Image::kSvg:
      break;
  }
  const double scale = 96.0 / 72;
  return {fmt::format("set terminal svg size {:.0f},{:.0f} dynamic enhanced font 'sans-serif,{:.2f}' "
                      "background '#ffffff'",
                      width_pt * scale, height_pt * scale, kText * scale),
          scale, scale, 1 / 6.4};
}

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

/// About the width of a text: gnuplot cannot be asked. The characters of the usual sans fonts are 0.53 em wide on
/// average, DejaVu's a little more.
double width_of(std::string_view text, double size) {
  const auto characters =
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
  return 0.58 * size * static_cast<double>(characters);
}

/// A text in lines of a width.
std::vector<std::string> wrapped(std::string_view text, double width, double size) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find(' ', at), text.size());
    const auto word = text.substr(at, end - at);
    at = end + 1;
    if (!lines.empty() && width_of(lines.back(), size) + width_of(word, size) + 0.3 * size <= width)
      (lines.back() += ' ') += word;
    else
      lines.emplace_back(word);
  }
  return lines;
}

std::string joined(const std::vector<std::string>& notes) {
  std::string text;
  for (const auto& note : notes) (text += text.empty() ? "" : "; ") += note;
  return text;
}

/// A round distance of ticks that gives about `ticks` of them: gnuplot's own choice fits pictures of one chart.
double tick_step(double range, double ticks) {
  if (!(range > 0)) return 1;
  const double power = std::pow(10, std::floor(std::log10(range / ticks)));
  for (const double step : {1.0, 2.0, 5.0})
    if (range / (step * power) <= ticks + 0.5) return step * power;
  return 10 * power;
}

struct Entry {
  enum class Kind : std::uint8_t { kSeries, kRecovery, kRetransmission } kind = Kind::kSeries;
  Look look = Look::kSockops;
  Form form = Form::kMarks;
  std::size_t ca_state = 0;
  std::string text;
  double x = 0;
  std::size_t row = 0;
};

constexpr double kMarkWidth = 16;

std::vector<Entry> legend(const Picture& picture, double width_pt) {
  std::vector<Entry> entries;
  const auto add = [&](Entry entry) {
    for (auto& other : entries)
      if (other.kind == entry.kind && other.look == entry.look && other.text == entry.text) {
        // A line says more than the marks that the same source has in another chart.
        if (entry.form != Form::kMarks) other.form = entry.form;
        return;
      }
    entries.push_back(std::move(entry));
  };
  std::array<bool, kRecoveries.size()> recovers{};
  bool retransmits = false;
  for (const auto& chart : picture.charts) {
    for (const auto& series : chart.series)
      if (!series.points.empty() && !series.label.empty())
        add({.look = series.look, .form = series.form, .text = series.label});
    for (const auto& lane : chart.lanes) {
      retransmits |= !lane.retransmissions_s.empty();
      for (const auto& r : lane.recoveries)
        if (r.ca_state < recovers.size()) recovers[r.ca_state] = true;
    }
  }
  if (retransmits) add({.kind = Entry::Kind::kRetransmission, .text = "retransmission"});
  for (std::size_t i = 1; i < recovers.size(); ++i)
    if (recovers[i]) add({.kind = Entry::Kind::kRecovery, .ca_state = i, .text = std::string(kRecoveries[i].name)});
  double x = kEdge;
  std::size_t row = 0;
  for (auto& entry : entries) {
    const double width = kMarkWidth + 4 + width_of(entry.text, kText) + 10;
    if (x > kEdge && x + width > width_pt) {
      x = kEdge;
      ++row;
    }
    entry.x = x;
    entry.row = row;
    x += width;
  }
  return entries;
}

/// Places in points, from the upper left corner.
struct Box {
  double top, bottom;
};

struct Layout {
  std::vector<std::string> title, subtitle, notes;
  std::vector<Entry> entries;
  std::vector<Box> charts;
  double legend_top = 0, height = 0;
};

constexpr double kLane = 10, kLaneWithStates = 16, kLegendRow = 11;

/// Names of states have a row of their own above what happened: they would hide it.
bool has_states(const Chart& chart) {
  return std::ranges::any_of(chart.lanes, [](const Lane& lane) { return !lane.transitions.empty(); });
}

double height_of(const Chart& chart, std::size_t values, bool narrow) {
  if (chart.is_lanes())
    return (has_states(chart) ? kLaneWithStates : kLane) * static_cast<double>(chart.lanes.size()) + 4;
  if (chart.is_difference) return 62;
  if (values > 1) return 76;
  return narrow ? 112 : 142;
}

Layout layout(const Picture& picture, const Paper& paper) {
  Layout result;
  const double inner = paper.width_pt - 2 * kEdge;
  double y = 4;
  if (paper.texts) {
    result.title = wrapped(picture.title, inner, kTitle * 1.1);
    result.subtitle = wrapped(picture.subtitle, inner, kSmall);
    result.notes = wrapped(joined(picture.notes), inner, kSmall);
    y += 11.5 * static_cast<double>(result.title.size()) + 8 * static_cast<double>(result.subtitle.size()) + 3;
  }
  result.entries = legend(picture, paper.width_pt);
  result.legend_top = y;
  if (!result.entries.empty()) y += kLegendRow * static_cast<double>(result.entries.back().row + 1);
  y += 4;
  const auto values = static_cast<std::size_t>(
      std::ranges::count_if(picture.charts, [](const Chart& c) { return !c.is_lanes() && !c.is_difference; }));
  for (const auto& chart : picture.charts) {
    if (!chart.title.empty()) y += 10;
    const double height = height_of(chart, values, paper.width_pt < 300);
    result.charts.push_back({y, y + height});
    y += height + 8;
  }
  y += 19;
  y += 7.5 * static_cast<double>(result.notes.size()) + (result.notes.empty() ? 0 : 4);
  result.height = y;
  return result;
}

/// Transitions that are too near to be told apart share a line, the last one's name included.
std::vector<Transition> merged(const std::vector<Transition>& transitions, double least_distance) {
  std::vector<Transition> result;
  double last = 0;
  for (const auto& t : transitions) {
    if (!result.empty() && t.time_s - last < least_distance)
      result.back().state += " → " + t.state;
    else
      result.push_back(t);
    last = t.time_s;
  }
  return result;
}

/// One mark a column, or thousands of retransmissions would make the picture heavy.
std::vector<double> columns_of(const std::vector<double>& times, double width) {
  std::vector<double> result;
  for (const double t : times)
    if (result.empty() || t - result.back() > width) result.push_back(t);
  return result;
}

class Script {
 public:
  Script(const Picture& picture, const Paper& paper)
      : picture_(picture), paper_(paper), layout_(layout(picture, paper)) {
    x_scale_ = picture.x.dimension == Dimension::kSeconds && is_time()
                   ? time_scale(picture.x_to - picture.x_from)
                   : scale_for(picture.x, std::max(std::fabs(picture.x_from), std::fabs(picture.x_to)));
    // Charts of streams that are alike are compared by eye: they share a scale.
    double least = 1e300;
    for (const auto& chart : picture.charts)
      if (is_value(chart) && std::ranges::any_of(chart.series, [](const Series& s) { return !s.points.empty(); })) {
        least = std::min(least, size_of(chart));
        common_ = std::max(common_, size_of(chart));
      }
    if (least < common_ / 4) common_ = 0;
    for (const auto& chart : picture.charts)
      scales_.push_back(scale_for(chart.axis, is_value(chart) ? std::max(common_, size_of(chart)) : size_of(chart)));
  }

  std::string text(std::span<const Image> images, const std::vector<std::string>& outputs) {
    put("reset\nset encoding utf8\n");
    for (std::size_t i = 0; i < picture_.charts.size(); ++i) put_data(i);
    for (std::size_t i = 0; i < images.size(); ++i) {
      terminal_ = terminal(images[i], paper_.width_pt, layout_.height);
      put("reset\n{}\nset output {}\n", terminal_.set, in_quotes(outputs[i]));
      put_picture();
      put("unset output\n");
    }
    return std::move(text_);
  }

 private:
  template <class... T>
  void put(fmt::format_string<T...> format, T&&... arguments) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<T>(arguments)...);
  }

  /// The x axis is that of the records' time, not one of differences.
  bool is_time() const {
    return std::ranges::any_of(picture_.charts, [](const Chart& c) { return c.is_lanes(); }) || picture_.x_from >= 0;
  }

  static bool is_value(const Chart& chart) { return !chart.is_lanes() && !chart.is_difference; }

  /// Least value of all charts, so that those which share a scale share its lower end too.
  double least_of_all() const {
    double least = std::numeric_limits<double>::infinity();
    for (const auto& chart : picture_.charts)
      if (is_value(chart))
        for (const auto& series : chart.series)
          for (const auto& p : series.points) least = std::min(least, p.y);
    return least;
  }

  static double size_of(const Chart& chart) {
    double largest = 0;
    for (const auto& series : chart.series)
      for (const auto& p : series.points) largest = std::max(largest, std::fabs(p.y));
    return largest;
  }

  double x(double pt) const { return pt / paper_.width_pt; }
  double y(double pt) const { return 1 - pt / layout_.height; }
  double font(double pt) const { return pt * terminal_.font; }
  double line(double pt) const { return pt * terminal_.line; }
  double mark(double pt) const { return pt * terminal_.mark; }

  std::string points(const Style& style, double factor = 1) const {
    return fmt::format("pt {} ps {:.3g} lw {:.3g} lc rgb '{}'", style.mark, mark(style.mark_pt * factor), line(0.7),
                       style.colour);
  }
  std::string lines(const Style& style, double width) const {
    return fmt::format("lw {:.3g} lc rgb '{}' dt {}", line(width), style.colour, style.dash);
  }

  void put_data(std::size_t chart) {
    const auto& series = picture_.charts[chart].series;
    const double divisor = scales_[chart].divisor;
    for (std::size_t i = 0; i < series.size(); ++i) {
      put("$c{}s{} << END\n", chart, i);
      const auto& points = series[i].points;
      for (std::size_t k = 0; k < points.size(); ++k) {
        const auto& p = points[k];
        // Along a step each point would begin the dashes anew: what is level would look solid.
        if (series[i].form == Form::kSteps && k > 0 && k + 1 < points.size() && points[k - 1].y == p.y &&
            p.y == points[k + 1].y)
          continue;
        put("{:.6g} {:.6g}", p.x / x_scale_.divisor, p.y / divisor);
        if (series[i].form == Form::kMeans) put(" {:.6g}", p.half / x_scale_.divisor);
        put("\n");
      }
      put("END\n");
    }
  }

  void put_text(double at_x, double at_y, std::string_view text, double size, std::string_view colour,
                std::string_view more = "left") {
    put("set label {} {} at screen {:.5f},{:.5f} {} font ',{:.3g}' tc rgb '{}'\n", ++label_, text, x(at_x), y(at_y),
        more, font(size), colour);
  }

  void put_legend() {
    for (const auto& entry : layout_.entries) {
      const double middle = layout_.legend_top + kLegendRow * (static_cast<double>(entry.row) + 0.5);
      const auto& style = style_of(entry.look);
      const double centre = entry.x + kMarkWidth / 2;
      if (entry.kind == Entry::Kind::kRetransmission) {
        put("set arrow {} from screen {:.5f},{:.5f} rto screen 0,{:.5f} nohead lw {:.3g} lc rgb '{}'\n", ++arrow_,
            x(centre), y(middle + 3.5), 7 / layout_.height, line(0.9), kRetransmissionColour);
      } else if (entry.kind == Entry::Kind::kRecovery) {
        put("set object {} rectangle from screen {:.5f},{:.5f} to screen {:.5f},{:.5f} fs solid noborder fc rgb '{}'\n",
            ++object_, x(entry.x + 3), y(middle + 3), x(entry.x + kMarkWidth - 1), y(middle - 3),
            kRecoveries[entry.ca_state].colour);
      } else {
        if (entry.form != Form::kMarks)
          put("set arrow {} from screen {:.5f},{:.5f} rto screen {:.5f},0 nohead {}\n", ++arrow_, x(entry.x), y(middle),
              x(kMarkWidth), lines(style, entry.form == Form::kMeans ? 1.0 : 1.3));
        if (entry.form == Form::kMarks || entry.form == Form::kMeans)
          put("set label {} '' at screen {:.5f},{:.5f} point {}\n", ++label_, x(centre), y(middle), points(style));
      }
      put_text(entry.x + kMarkWidth + 4, middle, label(entry.text), kText, "#202020");
    }
  }

  void put_frame() {
    double at = 4;
    for (const auto& one : layout_.title)
      put_text(kEdge, (at += 11.5) - 5.5, in_quotes("{/:Bold " + enhanced(one) + "}"), kTitle, "#000000");
    for (const auto& one : layout_.subtitle) put_text(kEdge, (at += 8) - 3, label(one), kSmall, kGrey);
    at = layout_.height - 3.5;
    for (auto one = layout_.notes.rbegin(); one != layout_.notes.rend(); ++one, at -= 7.5)
      put_text(kEdge, at - 2, label(*one), kSmall, kGrey);
    put_text(kLeft + (paper_.width_pt - kLeft - kRight) / 2, layout_.charts.back().bottom + 18,
             label(with_unit(picture_.x.label, x_scale_.unit)), kText, "#202020", "center");
    put_legend();
  }

  static std::string with_unit(const std::string& name, const std::string& unit) {
    return unit.empty() ? name : fmt::format("{} ({})", name, unit);
  }

  void put_picture() {
    label_ = arrow_ = object_ = 0;
    put("set multiplot\nunset key\nset border 3 lc rgb '{}' lw {:.3g}\n", kGrey, line(0.5));
    put("set grid lc rgb '{}' lw {:.3g} lt 1\nset errorbars 0\n", kGrid, line(0.4));
    put("set tics nomirror out scale 0.4 textcolor rgb '#202020' font ',{:.3g}'\n", font(kText));
    put("set xtics offset 0,0.3\nset ytics offset 0.4,0\n");
    const double from = picture_.x_from / x_scale_.divisor, to = picture_.x_to / x_scale_.divisor;
    put("set xrange [{:.7g}:{:.7g}]\nset xtics {:.4g}\n", from, to,
        tick_step(to - from, (paper_.width_pt - kLeft - kRight) / 36));
    put("set lmargin at screen {:.5f}\nset rmargin at screen {:.5f}\n", x(kLeft), x(paper_.width_pt - kRight));
    put_frame();
    for (std::size_t i = 0; i < picture_.charts.size(); ++i) {
      // The first chart carries what belongs to the whole picture.
      if (i > 0) {
        put("unset label\nunset arrow\nunset object\n");
        label_ = arrow_ = object_ = 0;
      }
      const auto& box = layout_.charts[i];
      put("set tmargin at screen {:.5f}\nset bmargin at screen {:.5f}\n", y(box.top), y(box.bottom));
      put("set format x '{}'\n", i + 1 == picture_.charts.size() ? "%g" : "");
      if (!picture_.charts[i].title.empty())
        put_text(kLeft, box.top - 5, label(picture_.charts[i].title), kSmall, kGrey);
      if (picture_.charts[i].is_lanes())
        put_lanes(picture_.charts[i]);
      else
        put_chart(i);
    }
    put("unset multiplot\n");
  }

  void put_chart(std::size_t index) {
    const auto& chart = picture_.charts[index];
    const auto& box = layout_.charts[index];
    const auto& scale = scales_[index];
    double least = 0, greatest = is_value(chart) ? common_ / scale.divisor : 0;
    for (const auto& series : chart.series)
      for (const auto& p : series.points) {
        least = std::min(least, p.y / scale.divisor);
        greatest = std::max(greatest, p.y / scale.divisor);
      }
    // Of what never comes near 0 the differences are of interest, not the distance from it.
    const double floor = is_value(chart) ? least_of_all() / scale.divisor : 0;
    if (floor > greatest / 2 && floor < greatest) least = floor;
    if (chart.axis.dimension == Dimension::kShare) greatest = std::max(greatest, 100.0);
    if (least == 0 && greatest == 0) {
      greatest = 1;
      if (chart.is_difference) least = -1;
    }
    const double room = 0.07 * (greatest - least);
    put("set yrange [{:.6g}:{:.6g}]\n",
        least != 0            ? least - room
        : chart.is_difference ? -room
                              : 0,
        greatest > 0 ? greatest + room : room);
    double step = tick_step(greatest - least, (box.bottom - box.top) / 19);
    if (chart.axis.dimension == Dimension::kNumber && scale.divisor == 1) step = std::max(step, 1.0);
    put("set ytics {:.4g}\nset format y '%g'\n", step);
    // What is longer than the chart would reach into the next one's.
    const auto name = with_unit(chart.axis.label, scale.unit);
    auto axis_label = label(name);
    if (const auto unit = axis_label.find(" (");
        unit != std::string::npos && width_of(name, kText) > box.bottom - box.top + 8)
      axis_label.replace(unit, 1, "\\n");
    put_text(8, (box.top + box.bottom) / 2, axis_label, kText, "#202020", "center rotate by 90");
    if (chart.is_difference)
      put("set arrow {} from graph 0, first 0 to graph 1, first 0 nohead back lw {:.3g} lc rgb '{}'\n", ++arrow_,
          line(0.6), kGrey);
    std::string plots;
    // Marks of many lie below the thin line, which would hide them less than they it; iperf3's open ones on top.
    for (const auto* looks : {"12", "056789A", "3", "4"})
      for (std::size_t i = 0; i < chart.series.size(); ++i) {
        const auto& series = chart.series[i];
        if (series.points.empty() ||
            std::string_view(looks).find("0123456789A"[static_cast<std::size_t>(series.look)]) ==
                std::string_view::npos)
          continue;
        plots += fmt::format("$c{}s{} {} notitle, \\\n", index, i, how(series));
      }
    put("plot \\\n{}-1e300 notitle\n", plots);
  }

  std::string how(const Series& series) const {
    const auto& style = style_of(series.look);
    const bool dense = series.points.size() > 250;
    switch (series.form) {
      case Form::kSteps:
        return fmt::format("using 1:2 with steps {}", lines(style, dense ? 0.7 : 1.0));
      case Form::kLine:
        return fmt::format("using 1:2 with lines {}", lines(style, dense ? 0.7 : 1.0));
      case Form::kMeans:
        return fmt::format("using 1:2:3 with xerrorbars {} dt 1", points(style, dense ? 0.7 : 1));
      case Form::kMarks:
        break;
    }
    return fmt::format("using 1:2 with points {}", points(style, dense ? 0.75 : 1));
  }

  void put_lanes(const Chart& chart) {
    const double pixel = (picture_.x_to - picture_.x_from) / (paper_.width_pt - kLeft - kRight) / x_scale_.divisor;
    const auto count = static_cast<double>(chart.lanes.size());
    put("set yrange [{:.1f}:0]\nunset ytics\nset ytics scale 0 offset 0.4,0 font ',{:.3g}' (", count, font(kText));
    for (std::size_t i = 0; i < chart.lanes.size(); ++i)
      put("{}{} {:.1f}", i > 0 ? ", " : "", label(chart.lanes[i].label), static_cast<double>(i) + 0.5);
    put(")\n");
    const auto bar = [&](double from, double to, double top, double bottom, std::string_view colour) {
      put("set object {} rectangle from first {:.6g},{:.3f} to first {:.6g},{:.3f} fs solid noborder fc rgb '{}' "
          "clip\n",
          ++object_, from, top, std::max(to, from + pixel), bottom, colour);
    };
    const bool states = has_states(chart);
    std::string ticks;
    for (std::size_t i = 0; i < chart.lanes.size(); ++i) {
      const auto& lane = chart.lanes[i];
      const auto row = static_cast<double>(i);
      const double top = row + (states ? 0.48 : 0.1), bottom = row + 0.94;
      for (std::size_t k = 0; k < lane.recoveries.size(); ++k) {
        auto one = lane.recoveries[k];
        if (one.ca_state == 0 || one.ca_state >= kRecoveries.size()) continue;
        // What is nearer than a point is one.
        while (k + 1 < lane.recoveries.size() && lane.recoveries[k + 1].ca_state == one.ca_state &&
               lane.recoveries[k + 1].from_s - one.to_s < 0.7 * pixel * x_scale_.divisor)
          one.to_s = lane.recoveries[++k].to_s;
        bar(one.from_s / x_scale_.divisor, one.to_s / x_scale_.divisor, top + 0.08, bottom - 0.08,
            kRecoveries[one.ca_state].colour);
      }
      for (const auto& t : merged(lane.transitions, 0.04 * (picture_.x_to - picture_.x_from))) {
        const double at = t.time_s / x_scale_.divisor;
        put("set arrow {} from first {:.6g},{:.3f} to first {:.6g},{:.3f} nohead front lw {:.3g} lc rgb '#000000'\n",
            ++arrow_, at, row + 0.04, at, bottom, line(0.8));
        // Near the right end there is room on the left only.
        const bool leftwards = t.time_s > picture_.x_from + 0.6 * (picture_.x_to - picture_.x_from);
        put("set label {} {} at first {:.6g},{:.3f} {} offset {},0 front font ',{:.3g}' tc rgb '#000000'\n", ++label_,
            label(t.state), at, row + 0.26, leftwards ? "right" : "left", leftwards ? -0.5 : 0.5, font(kSmall - 0.5));
      }
      for (const double t : columns_of(lane.retransmissions_s, 0.7 * pixel * x_scale_.divisor))
        ticks += fmt::format("{:.6g} {:.3f} 0 {:.3f}\n", t / x_scale_.divisor, top, bottom - top);
    }
    if (ticks.empty()) {
      put("plot -1e300 notitle\n");
    } else {
      put("$ticks << END\n{}END\nplot $ticks with vectors nohead lw {:.3g} lc rgb '{}' notitle\n", ticks, line(0.6),
          kRetransmissionColour);
    }
    put("unset ytics\nset ytics nomirror out scale 0.4 offset 0.4,0 textcolor rgb '#202020' font ',{:.3g}'\n",
        font(kText));
  }

  const Picture& picture_;
  const Paper& paper_;
  Layout layout_;
  Scale x_scale_;
  std::vector<Scale> scales_;
  double common_ = 0;  ///< greatest value of all charts where they share a scale
  Terminal terminal_;
  std::string text_;
  int label_ = 0, arrow_ = 0, object_ = 0;
};

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

  void append(std::string_view text) const {
    while (!text.empty()) {
      const auto n = ::write(fd_, text.data(), text.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) throw tcpinfo::Error({errno, std::generic_category()}, "keep gnuplot's input in memory", {});
      text.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  void rewind() const { ::lseek(fd_, 0, SEEK_SET); }

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

/// Pictures of one gnuplot: each image is an open descriptor, here and there.
constexpr std::size_t kTogether = 24;

/// Runs gnuplot and gives its exit status; 127 with errno's value in `error` if it cannot be started. `outputs` keep
/// their descriptors there.
int run_gnuplot(const MemoryFile& input, const MemoryFile& errors, std::span<const std::unique_ptr<MemoryFile>> outputs,
                const char* option, int& error) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.fd(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors.fd(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors.fd(), STDERR_FILENO);
  // Onto itself: stays open across exec (glibc 2.29).
  for (const auto& output : outputs) posix_spawn_file_actions_adddup2(&actions, output->fd(), output->fd());
  std::string program = "gnuplot", argument = option;
  char* arguments[] = {program.data(), argument.data(), nullptr};
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

std::string_view extension(Image image) { return image == Image::kPng ? "png" : image == Image::kSvg ? "svg" : "pdf"; }

std::string gnuplot_script(const Picture& picture, std::span<const Image> images,
                           const std::vector<std::string>& outputs, const Paper& paper) {
  return Script(picture, paper).text(images, outputs);
}

bool gnuplot_exists() {
  const MemoryFile input("input"), errors("errors");
  int error = 0;
  return run_gnuplot(input, errors, {}, "--version", error) == 0;
}

std::vector<std::vector<std::string>> render(std::span<const Picture> pictures, std::span<const Image> images,
                                             const Paper& paper) {
  if (pictures.size() > kTogether) {
    auto result = render(pictures.first(kTogether), images, paper);
    std::ranges::move(render(pictures.subspan(kTogether), images, paper), std::back_inserter(result));
    return result;
  }
  const MemoryFile input("gnuplot-input"), errors("gnuplot-errors");
  std::vector<std::unique_ptr<MemoryFile>> files;
  for (const auto& picture : pictures) {
    std::vector<std::string> outputs;
    for (std::size_t i = 0; i < images.size(); ++i) {
      files.push_back(std::make_unique<MemoryFile>("gnuplot-output"));
      outputs.push_back(fmt::format("/dev/fd/{}", files.back()->fd()));
    }
    input.append(gnuplot_script(picture, images, outputs, paper));
  }
  input.rewind();
  int error = 0;
  // -d: the user's own settings would change the pictures.
  const int status = run_gnuplot(input, errors, files, "-d", error);
  std::vector<std::vector<std::string>> result(pictures.size());
  std::string missing;
  for (std::size_t i = 0; i < files.size(); ++i) {
    auto& bytes = result[i / images.size()].emplace_back(files[i]->read());
    if (bytes.empty() && missing.empty())
      missing = fmt::format("{}.{}", pictures[i / images.size()].name, extension(images[i % images.size()]));
  }
  const auto action = fmt::format("draw {} with gnuplot", missing.empty() ? "pictures" : missing);
  if (error != 0)
    throw tcpinfo::Error({error, std::generic_category()}, action, "install it: apt-get install gnuplot-nox");
  if (status != 0 || !missing.empty())
    throw tcpinfo::Error({EIO, std::generic_category()}, action,
                         fmt::format("gnuplot ended with {}: {}; 5.4 with the terminals pngcairo, pdfcairo and svg is "
                                     "needed: apt-get install gnuplot-nox",
                                     status, first_line(errors.read())));
  return result;
}

}  // namespace plot
