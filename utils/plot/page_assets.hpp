// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string_view>

namespace plot {

extern const std::string_view kPageStyle;
extern const std::string_view kPageScript;

}  // namespace plot
