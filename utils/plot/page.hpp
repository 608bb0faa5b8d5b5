// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "run.hpp"
#include "series.hpp"

namespace plot {

/// A picture with its images.
struct Drawing {
  Picture picture;
  std::string png, svg;
};

/// A run as the page shows it; a folder that could not be plotted has just a name and what was wrong.
struct Section {
  std::string name;
  std::string failure;
  Run run;
  std::vector<Drawing> drawings;
};

/// Text for HTML, in elements and in attributes.
std::string escape(std::string_view text);

/// An SVG for use inside HTML: without its XML declaration, its identifiers made unlike those of all others on the
/// page.
std::string inline_svg(std::string_view svg, std::string_view prefix, std::string_view description);

/// A page that needs nothing beside it.
std::string page(std::string_view title, const std::vector<Section>& sections);

}  // namespace plot
