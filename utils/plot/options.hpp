// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gnuplot.hpp"
#include "recording.hpp"

namespace plot {

struct Options {
  std::vector<std::string> inputs;  ///< one folder, or files
  std::filesystem::path out;        ///< may be empty
  std::vector<Image> images;
  Paper paper;
  Selection selection;
  unsigned jobs = 0;  ///< gnuplots at a time; 0: as many as there are processors
  /// An option that only files know, if one was given.
  std::string of_files;
};

/// What the command line asks for; nothing if it asked for help, which is printed. Throws cli::Failure (kUsage), with a
/// sentence unless the parser has printed its own.
std::optional<Options> parse_options(int argc, const char* const* argv);

/// "85mm", "18cm", "3.5in", "240pt" in points. Throws cli::Failure (kUsage).
double parse_width(std::string_view text);
/// Fields by name. Throws cli::Failure (kUsage) that names the nearest one.
std::vector<tcpinfo::Field> parse_fields(const std::vector<std::string>& names);

}  // namespace plot
