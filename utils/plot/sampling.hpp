// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "study.hpp"

namespace plot {

enum class StudyImage { kPng, kSvg, kPdf };

/// The whole input of gnuplot for the figure of a study, data included: it writes the image to standard output. A
/// column of a printed page wide (85 mm; the PNG with 600 dots an inch): six panels against the sampling interval, each
/// with the share of all that there was to see.
std::string study_script(const validation::StudyResult& result, StudyImage image);

struct StudyFigure {
  std::string name;  ///< of its file: "sampling.png"
  std::string bytes;
};

/// The figure as PNG, SVG and PDF. Throws tcpinfo::Error: gnuplot cannot be started (ENOENT), or it failed, with what
/// it said.
std::vector<StudyFigure> draw_study(const validation::StudyResult& result);

}  // namespace plot
