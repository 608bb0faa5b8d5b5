// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "run.hpp"
#include "suite.hpp"

namespace plot {

/// A picture as the page keeps it.
struct Drawing {
  std::string name, field, title;
  std::string packed;  ///< the SVG, packed()
};

/// A run as the page shows it; a folder that could not be plotted has just a name and what was wrong.
struct Section {
  std::string name;
  std::string failure;
  Run run;  ///< its records are not needed
  std::vector<Drawing> drawings;
};

/// Text for HTML, in elements and in attributes.
std::string escape(std::string_view text);

/// An SVG for use inside HTML: without its XML declaration, its identifiers made unlike those of all others on the
/// page, its coordinates to a tenth of a pixel.
std::string inline_svg(std::string_view svg, std::string_view prefix, std::string_view description);

/// A text in the form that the page's script unpacks: gzip (RFC 1952) in base64 (RFC 4648).
std::string packed(std::string_view text);

/// The place of a run or of one of its fields on the page, as its links have it: "#bulk-ipv4/rtt".
std::string fragment(std::string_view run, std::string_view field = {});

/// A page that needs nothing beside it: with a suite a summary of all runs and fields, whose cells open the pictures.
std::string page(std::string_view title, const std::vector<Section>& sections,
                 const std::optional<validation::Suite>& suite = std::nullopt);

}  // namespace plot
