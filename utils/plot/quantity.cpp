// SPDX-License-Identifier: BSD-2-Clause
#include "quantity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace plot {

using tcpinfo::Field;
using tcpinfo::FieldInfo;
using tcpinfo::Kind;
using tcpinfo::Record;
using tcpinfo::Unit;

bool is_plottable(const FieldInfo& row) {
  if (row.format == tcpinfo::Format::address || row.format == tcpinfo::Format::text) return false;
  return row.kind != Kind::identity || row.field == Field::state;
}

Axis axis_of(const FieldInfo& row, bool as_rate) {
  Axis axis{std::string(row.name), Dimension::kNumber, {}};
  switch (row.unit) {
    case Unit::ns:
    case Unit::us:
    case Unit::ms:
      axis.dimension = as_rate ? Dimension::kShare : Dimension::kSeconds;
      return axis;
    case Unit::bytes:
      axis.dimension = as_rate ? Dimension::kBitsPerSecond : Dimension::kBytes;
      return axis;
    case Unit::bytes_per_s:
      axis.dimension = Dimension::kBytesPerSecond;
      return axis;
    case Unit::scale256:
      return axis;
    case Unit::none:
      axis.unit = row.format == tcpinfo::Format::boolean ? "0 or 1" : "code";
      return axis;
    case Unit::segments:
    case Unit::packets:
    case Unit::count:
      break;
  }
  axis.unit = row.unit == Unit::count ? "" : std::string(tcpinfo::name(row.unit));
  if (as_rate) axis.unit = axis.unit.empty() ? "1/s" : axis.unit + "/s";
  if (axis.unit.empty()) axis.unit = "count";
  return axis;
}

double rate_factor(const FieldInfo& row) { return row.unit == Unit::bytes ? 8 : 1; }

std::optional<double> value_of(const Record& record, const FieldInfo& row) {
  const auto value = record.number(row.field);
  if (!value) return std::nullopt;
  const auto plain = static_cast<double>(*value);
  switch (row.unit) {
    case Unit::ns:
      return plain / 1e9;
    case Unit::us:
      return plain / 1e6;
    case Unit::ms:
      return plain / 1e3;
    case Unit::scale256:
      return plain / 256;
    case Unit::bytes_per_s:
      if (*value == std::numeric_limits<std::uint64_t>::max()) return std::nullopt;
      return plain;
    default:
      return plain;
  }
}

std::string summary_of(const FieldInfo& row) {
  return std::string(row.description.substr(0, row.description.find(';')));
}

std::string title_of(const FieldInfo& row) {
  auto what = summary_of(row);
  return what.ends_with(')') ? what : fmt::format("{} ({})", what, row.name);
}

std::vector<Point> points_of(const Readings& readings, const FieldInfo& row, const Clock& clock) {
  std::vector<Point> points;
  points.reserve(readings.size());
  for (const auto* raw : readings) {
    const Record record(*raw);
    // After the end a gauge tells nothing of the path, a counter has its final total.
    if (row.kind == Kind::gauge && record.event() == TCPINFO_EVENT_CLOSE) continue;
    if (const auto v = value_of(record, row)) points.push_back({.x = clock.seconds(*raw), .y = *v});
  }
  return points;
}

Lane lane_of(const Readings& readings, const Clock& clock, double from_s, double to_s) {
  Lane lane;
  std::optional<std::uint32_t> retransmitted;
  std::optional<std::uint8_t> state;
  std::optional<Recovery> recovery;
  const auto end_recovery = [&](double at) {
    if (!recovery) return;
    recovery->to_s = std::min(at, to_s);
    recovery->from_s = std::max(recovery->from_s, from_s);
    if (recovery->to_s >= recovery->from_s) lane.recoveries.push_back(*recovery);
    recovery.reset();
  };
  double last = 0;
  for (const auto* raw : readings) {
    const Record record(*raw);
    const double at = last = clock.seconds(*raw);
    const bool shown = at >= from_s && at <= to_s;
    if (const auto total = record.total_retrans()) {
      if (shown && retransmitted && *retransmitted < *total) lane.retransmissions_s.push_back(at);
      retransmitted = *total;
    }
    if (const auto now = record.state()) {
      if (shown && state && *state != *now)
        lane.transitions.push_back({.time_s = at, .state = std::string(tcpinfo::state_name(*now))});
      state = *now;
    }
    if (const auto now = record.ca_state(); now && (!recovery || recovery->ca_state != *now)) {
      end_recovery(at);
      if (*now != 0) recovery = Recovery{.from_s = at, .to_s = at, .ca_state = *now};
    }
  }
  end_recovery(last);
  return lane;
}

std::string endpoint_text(const tcpinfo_address& address, std::uint16_t port) {
  const auto text = tcpinfo::to_string(address);
  return text.find(':') == std::string::npos ? fmt::format("{}:{}", text, port) : fmt::format("[{}]:{}", text, port);
}

double rate_window_s(double length_s) {
  double best = 0.01;
  for (double step = 0.01; step < 1e6; step *= 10)
    for (const double factor : {1.0, 2.0, 5.0})
      if (step * factor <= length_s / 50) best = step * factor;
  return best;
}

}  // namespace plot
