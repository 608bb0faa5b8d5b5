// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tcpinfo/record.hpp>

#include "picture.hpp"

/// From records to what pictures show.
namespace plot {

/// One socket's records of one source, in the order of time. None is without time.
using Readings = std::vector<const tcpinfo_record*>;

/// When 0 of a time axis was, in the records' time.
struct Clock {
  std::uint64_t zero_ns = 0;

  double seconds(std::uint64_t time_ns) const {
    return static_cast<double>(static_cast<std::int64_t>(time_ns - zero_ns)) / 1e9;
  }
  double seconds(const tcpinfo_record& raw) const { return seconds(raw.time_ns); }
};

/// Whether a field is a number that a curve can show: no name, no address, no identity but the state.
bool is_plottable(const tcpinfo::FieldInfo& row);

/// The axis for a field, or for its rate of change.
Axis axis_of(const tcpinfo::FieldInfo& row, bool as_rate = false);

/// The value of a field in the unit of its axis. Rates without a limit are none.
std::optional<double> value_of(const tcpinfo::Record& record, const tcpinfo::FieldInfo& row);

/// The factor from a rate of value_of() to that of axis_of(): bytes are shown as bits.
double rate_factor(const tcpinfo::FieldInfo& row);

/// What the field table says of a row, up to its first semicolon.
std::string summary_of(const tcpinfo::FieldInfo& row);
/// That and the row's name, unless it ends with a name already.
std::string title_of(const tcpinfo::FieldInfo& row);

std::vector<Point> points_of(const Readings& readings, const tcpinfo::FieldInfo& row, const Clock& clock);

/// When what was retransmitted grew, which states a connection went through, and its recoveries from loss, within a
/// stretch of time.
Lane lane_of(const Readings& readings, const Clock& clock, double from_s, double to_s);

std::string endpoint_text(const tcpinfo_address& address, std::uint16_t port);

/// How far the records of a counter have to be apart to make a mean: about a sixtieth of the time, a round number.
double rate_window_s(double length_s);

/// Points that a curve over a width may have: more would only make it heavy.
inline constexpr std::size_t kColumns = 180;

}  // namespace plot
