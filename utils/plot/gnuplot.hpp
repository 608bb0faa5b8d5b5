// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "picture.hpp"

namespace plot {

enum class Image : std::uint8_t { kPng, kSvg, kPdf };
std::string_view extension(Image image);  ///< "png"

/// What a picture is drawn on. Fonts and lines keep their size, whatever the width.
struct Paper {
  double width_pt = 180 / 25.4 * 72;  ///< a page's text; a column of two has about 85 mm
  bool texts = true;                  ///< title, subtitle and notes; without them for papers, which have captions

  bool operator==(const Paper&) const = default;
};

/// The text of gnuplot's enhanced mode that shows `text` as it is.
std::string enhanced(std::string_view text);

/// gnuplot's input for a picture, data included: `outputs` are the files to which each of the images goes.
std::string gnuplot_script(const Picture& picture, std::span<const Image> images,
                           const std::vector<std::string>& outputs, const Paper& paper);

/// Whether gnuplot can be started.
bool gnuplot_exists();

/// The bytes of the images of each picture, by one gnuplot. Everything goes through memory: nothing is left behind.
/// Throws tcpinfo::Error: gnuplot cannot be started (ENOENT), or it failed, with what it said.
std::vector<std::vector<std::string>> render(std::span<const Picture> pictures, std::span<const Image> images,
                                             const Paper& paper);

}  // namespace plot
