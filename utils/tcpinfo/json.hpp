// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string_view>

#include <rapidjson/rapidjson.h>

namespace cli {

inline rapidjson::SizeType json_size(std::string_view text) { return static_cast<rapidjson::SizeType>(text.size()); }

template <class Writer>
void key(Writer& json, std::string_view name) {
  json.Key(name.data(), json_size(name));
}

template <class Writer>
void put(Writer& json, std::string_view name, std::string_view value) {
  key(json, name);
  json.String(value.data() ? value.data() : "", json_size(value));
}

}  // namespace cli
