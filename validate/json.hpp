// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <rapidjson/document.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

/// Members of C++ structures as members of JSON objects, for the files that the validator writes and reads again.
namespace validation::json {

using Writer = rapidjson::PrettyWriter<rapidjson::StringBuffer>;

inline void write(Writer& writer, const std::string& value) {
  writer.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
}
inline void write(Writer& writer, std::uint64_t value) { writer.Uint64(value); }
inline void write(Writer& writer, std::uint16_t value) { writer.Uint(value); }
inline void write(Writer& writer, int value) { writer.Int(value); }
inline void write(Writer& writer, bool value) { writer.Bool(value); }
inline void write(Writer& writer, double value) {
  // Most are whole numbers of a unit: 123, not 123.0.
  if (std::trunc(value) == value && std::abs(value) < 9e15)
    writer.Int64(static_cast<std::int64_t>(value));
  else
    writer.Double(value);
}

template <class T>
void write(Writer& writer, const std::optional<T>& value) {
  if (value)
    write(writer, *value);
  else
    writer.Null();
}

/// Reads the members that are there and of the right type; the others stay as they are.
struct Reader {
  const rapidjson::Value& object;

  const rapidjson::Value* find(const char* name) const {
    if (!object.IsObject()) return nullptr;
    const auto member = object.FindMember(name);
    return member == object.MemberEnd() ? nullptr : &member->value;
  }
  void operator()(const char* name, std::string& value) const {
    const auto* json = find(name);
    if (json && json->IsString()) value.assign(json->GetString(), json->GetStringLength());
  }
  void operator()(const char* name, std::uint64_t& value) const {
    const auto* json = find(name);
    if (json && json->IsUint64()) value = json->GetUint64();
  }
  void operator()(const char* name, std::uint16_t& value) const {
    const auto* json = find(name);
    if (json && json->IsUint()) value = static_cast<std::uint16_t>(json->GetUint());
  }
  void operator()(const char* name, int& value) const {
    const auto* json = find(name);
    if (json && json->IsInt()) value = json->GetInt();
  }
  void operator()(const char* name, double& value) const {
    const auto* json = find(name);
    if (json && json->IsNumber()) value = json->GetDouble();
  }
  void operator()(const char* name, bool& value) const {
    const auto* json = find(name);
    if (json && json->IsBool()) value = json->GetBool();
  }
  template <class T>
  void operator()(const char* name, std::optional<T>& value) const {
    const auto* json = find(name);
    const bool suits = json && (std::is_floating_point_v<T> ? json->IsNumber() : json->IsUint64());
    if (!suits) return;
    T read{};
    (*this)(name, read);
    value = read;
  }
};

template <class Function>
void each(const rapidjson::Value* array, Function function) {
  if (!array || !array->IsArray()) return;
  for (const auto& element : array->GetArray()) function(element);
}

}  // namespace validation::json
