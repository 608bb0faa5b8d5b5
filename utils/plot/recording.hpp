// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tcpinfo/filter.hpp>
#include <tcpinfo/record.hpp>

#include "picture.hpp"

namespace plot {

/// A file of JSON lines, from whatever wrote it, or of tcpinfo record.
struct Recording {
  std::string label;  ///< in legends
  std::filesystem::path file;
  std::vector<tcpinfo_record> records;
  bool truncated = false;  ///< its end was cut off and is left out
};

/// Reads FILE or LABEL=FILE. Throws tcpinfo::Error as tcpinfo::read_json_lines() or tcpinfo::RecordingReader do.
Recording read_recording(std::string_view argument);

/// Where the time axis of files that are laid over each other begins: kClock: with the first record of all, as the
/// machine's clock has it; kStart: each with its own first record; kAuto: kClock for files whose times overlap.
enum class Align { kAuto, kClock, kStart };

struct Selection {
  std::vector<tcpinfo::Field> fields;  ///< none: the most telling of those that the files have
  tcpinfo::Filter filter;
  std::optional<double> from_s, to_s;  ///< since the beginning of the time axis
  bool as_rates = false;               ///< counters by their growth a second
  Align align = Align::kAuto;
};

/// How many connections get a chart of their own: those that moved the most bytes.
inline constexpr std::size_t kConnectionCharts = 4;

/// How many pictures are made where no field is named.
inline constexpr std::size_t kUsualPictures = 8;

/// A picture for each field: the files over each other, the same connection in the same chart. What had to be left out
/// is added to `remarks`, a sentence each. Throws tcpinfo::Error where nothing is left to be drawn.
std::vector<Picture> pictures(const std::vector<Recording>& recordings, const Selection& selection,
                              std::vector<std::string>& remarks);

}  // namespace plot
