// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <string_view>

#include "series.hpp"

namespace plot {

enum class Image { kPng, kSvg };

/// The text of gnuplot's enhanced mode that shows `text` as it is.
std::string enhanced(std::string_view text);

/// The whole input of gnuplot for a picture, data included: it writes the image to standard output.
std::string gnuplot_script(const Picture& picture, Image image);

/// Whether gnuplot can be started.
bool gnuplot_exists();

/// The bytes of the image. Everything goes through memory: nothing is left behind. Throws tcpinfo::Error: gnuplot
/// cannot be started (ENOENT), or it failed, with what it said.
std::string render(const Picture& picture, Image image);

}  // namespace plot
