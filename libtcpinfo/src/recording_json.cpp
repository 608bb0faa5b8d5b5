// SPDX-License-Identifier: BSD-2-Clause
#include "recording_json.hpp"

#include <algorithm>
#include <limits>
#include <type_traits>

// RapidJSON 1.1.0 adds to the null pointer of an empty internal::Stack: without effect, but UBSan of clang stops there.
#ifdef __clang__
#pragma clang attribute push(__attribute__((no_sanitize("pointer-overflow"))), apply_to = function)
#endif
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#ifdef __clang__
#pragma clang attribute pop
#endif

namespace tcpinfo::detail {
namespace {

using Json = rapidjson::Writer<rapidjson::StringBuffer>;
using rapidjson::Value;

// No record of any version comes near; offsets in it fit easily.
constexpr std::uint64_t kLongestRecord = 1 << 16;

void text(Json& json, std::string_view value) {
  json.String(value.data(), static_cast<rapidjson::SizeType>(value.size()));
}
void put(Json& json, std::string_view key, std::string_view value) {
  text(json, key);
  text(json, value);
}
template <class T>
requires std::is_integral_v<T>
void put(Json& json, std::string_view key, T value) {
  text(json, key);
  if constexpr (std::is_same_v<T, bool>)
    json.Bool(value);
  else if constexpr (std::is_signed_v<T>)
    json.Int64(value);
  else
    json.Uint64(value);
}

const Value* find(const Value& object, std::string_view key) {
  if (!object.IsObject()) return nullptr;
  const auto member = object.FindMember(Value(rapidjson::StringRef(key.data(), key.size())));
  return member == object.MemberEnd() ? nullptr : &member->value;
}
std::string get_text(const Value& object, std::string_view key) {
  const auto* value = find(object, key);
  return value && value->IsString() ? std::string(value->GetString(), value->GetStringLength()) : std::string();
}
std::optional<std::uint64_t> get_number(const Value& object, std::string_view key) {
  const auto* value = find(object, key);
  return value && value->IsUint64() ? std::optional(value->GetUint64()) : std::nullopt;
}
std::int64_t get_signed(const Value& object, std::string_view key) {
  const auto* value = find(object, key);
  return value && value->IsInt64() ? value->GetInt64() : 0;
}
bool get_flag(const Value& object, std::string_view key) {
  const auto* value = find(object, key);
  return value && value->IsTrue();
}

/// The code whose name this is, 0 where this library has none.
template <class Enum>
Enum code_of(std::string_view text, unsigned count) {
  for (unsigned code = 0; code < count; ++code)
    if (!text.empty() && name(static_cast<Enum>(code)) == text) return static_cast<Enum>(code);
  return Enum{};
}

// Every member of Statistics by its name, once.
template <class S, class Counts, class Number>
void each_member(S& s, Counts counts, Number number) {
  counts("emitted", s.emitted);
  counts("delivered", s.delivered);
  counts("lost_ring", s.lost_ring);
  counts("lost_sink", s.lost_sink);
  number("malformed", s.malformed);
  number("connections", s.connections);
  number("filtered", s.filtered);
  number("untracked", s.untracked);
  number("untriggered", s.untriggered);
  number("wakeups", s.wakeups);
  number("sweeps", s.sweeps);
  number("rearmed", s.rearmed);
  number("silenced", s.silenced);
  number("dumps", s.dumps);
  number("dumps_interrupted", s.dumps_interrupted);
}

void put_statistics(Json& json, const Statistics& statistics) {
  json.StartObject();
  each_member(
      statistics,
      [&](std::string_view key, const EventCounts& counts) {
        text(json, key);
        json.StartObject();
        for (std::size_t event = TCPINFO_EVENT_NONE + 1; event < kEventCount; ++event)
          put(json, name(static_cast<Event>(event)), counts[event]);
        json.EndObject();
      },
      [&](std::string_view key, std::uint64_t value) { put(json, key, value); });
  json.EndObject();
}

Statistics get_statistics(const Value& object) {
  Statistics statistics;
  each_member(
      statistics,
      [&](std::string_view key, EventCounts& counts) {
        const auto* by_event = find(object, key);
        for (std::size_t event = TCPINFO_EVENT_NONE + 1; by_event && event < kEventCount; ++event)
          counts[event] = get_number(*by_event, name(static_cast<Event>(event))).value_or(0);
      },
      [&](std::string_view key, std::uint64_t& value) { value = get_number(object, key).value_or(0); });
  return statistics;
}

// The texts of an owner by the names that outputs have for them.
template <class O, class Text>
void each_text(O& owner, Text text) {
  text("comm", owner.comm);
  text("executable", owner.executable);
  text("cgroup", owner.cgroup);
  text("unit", owner.unit);
  text("container_runtime", owner.container.runtime);
  text("container_id", owner.container.id);
  text("pod_uid", owner.container.pod_uid);
  text("netns", owner.netns);
}

void put_layout(Json& json) {
  text(json, "record");
  json.StartObject();
  put(json, "bytes", sizeof(tcpinfo_record));
  put(json, "present_offset", offsetof(tcpinfo_record, present));
  put(json, "present_words", std::uint64_t{TCPINFO_PRESENT_WORDS});
  text(json, "fields");
  json.StartArray();
  for (const auto& row : fields()) {
    json.StartObject();
    put(json, "name", row.name);
    put(json, "type", row.type);
    put(json, "unit", name(row.unit));
    put(json, "kind", name(row.kind));
    put(json, "offset", row.offset);
    put(json, "size", row.size);
    json.EndObject();
  }
  json.EndArray();
  json.EndObject();
}

bool is_number(const FieldInfo& row) {
  return row.format != tcpinfo::Format::address && row.format != tcpinfo::Format::text;
}

std::optional<RecordLayout> get_layout(const Value& document, std::uint64_t version) {
  const auto* record = find(document, "record");
  if (!record) return std::nullopt;
  const auto bytes = get_number(*record, "bytes"), present = get_number(*record, "present_offset"),
             words = get_number(*record, "present_words");
  const auto* rows = find(*record, "fields");
  if (!bytes || !present || !words || !rows || !rows->IsArray()) return std::nullopt;
  if (*bytes > kLongestRecord || *words > kLongestRecord || *present > *bytes || *words * 8 > *bytes - *present ||
      rows->Size() > *words * 64)
    return std::nullopt;
  RecordLayout layout{.bytes = *bytes, .present_offset = *present, .same = false, .moves = {}};
  layout.same = version == TCPINFO_RECORD_VERSION && *bytes == sizeof(tcpinfo_record) &&
                *present == offsetof(tcpinfo_record, present) && *words == TCPINFO_PRESENT_WORDS &&
                rows->Size() == kFieldCount;
  std::vector<bool> taken(kFieldCount);
  for (rapidjson::SizeType bit = 0; bit < rows->Size(); ++bit) {
    const auto& row = (*rows)[bit];
    const auto offset = get_number(row, "offset"), size = get_number(row, "size");
    if (!offset || !size || *offset > *bytes || *size > *bytes - *offset) return std::nullopt;
    const auto* ours = find_field(get_text(row, "name"));
    const auto type = get_text(row, "type");
    const bool number = type == "u8" || type == "u16" || type == "u32" || type == "u64";
    const bool usable = ours && !taken[static_cast<std::size_t>(ours->field)] &&
                        name(ours->unit) == get_text(row, "unit") &&
                        (is_number(*ours) ? number && (*size == 1 || *size == 2 || *size == 4 || *size == 8)
                                          : type == ours->type && *size == ours->size);
    if (!usable) {
      layout.same = false;
      continue;
    }
    taken[static_cast<std::size_t>(ours->field)] = true;
    layout.same =
        layout.same && static_cast<std::size_t>(ours->field) == bit && *offset == ours->offset && *size == ours->size;
    layout.moves.push_back({bit, static_cast<std::uint32_t>(*offset), static_cast<std::uint32_t>(*size), ours->field});
  }
  return layout;
}

bool parse(rapidjson::Document& document, std::string_view json) {
  // Iterative: a text of a million brackets must not overflow the stack.
  document.Parse<rapidjson::kParseIterativeFlag>(json.data(), json.size());
  return !document.HasParseError() && document.IsObject();
}

}  // namespace

std::string header_json(const RecordingHeader& header) {
  rapidjson::StringBuffer buffer;
  Json json(buffer);
  json.StartObject();
  put(json, "schema", "tcpinfo");
  put(json, "version", std::uint64_t{TCPINFO_RECORD_VERSION});
  put(json, "recording", header.recording);
  put(json, "file", header.file);
  put(json, "host", header.host);
  put(json, "kernel", header.kernel);
  put(json, "boot_id", header.boot_id);
  put(json, "start_ns", header.start_ns);
  put(json, "wall_offset_ns", header.wall_offset_ns);
  put(json, "source", name(header.context.source));
  put(json, "mode", name(header.context.mode));
  put(json, "interval_ns", static_cast<std::int64_t>(header.context.interval.count()));
  put(json, "cgroup", header.context.cgroup);
  put(json, "filter", header.context.filter);
  put(json, "trigger", header.context.trigger);
  put(json, "owners", header.context.owners);
  put_layout(json);
  json.EndObject();
  return {buffer.GetString(), buffer.GetSize()};
}

std::optional<HeaderText> parse_header(std::string_view json) {
  rapidjson::Document document;
  if (!parse(document, json) || get_text(document, "schema") != "tcpinfo") return std::nullopt;
  auto layout = get_layout(document, get_number(document, "version").value_or(0));
  if (!layout) return std::nullopt;
  RecordingHeader header;
  header.recording = get_text(document, "recording");
  header.file = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(get_number(document, "file").value_or(0), std::numeric_limits<std::uint32_t>::max()));
  header.host = get_text(document, "host");
  header.kernel = get_text(document, "kernel");
  header.boot_id = get_text(document, "boot_id");
  header.start_ns = get_number(document, "start_ns").value_or(0);
  header.wall_offset_ns = get_signed(document, "wall_offset_ns");
  header.context.source = code_of<SourceId>(get_text(document, "source"), TCPINFO_SOURCES);
  header.context.mode = code_of<Mode>(get_text(document, "mode"), TCPINFO_MODES);
  header.context.interval = std::chrono::nanoseconds(get_signed(document, "interval_ns"));
  header.context.cgroup = get_text(document, "cgroup");
  header.context.filter = get_text(document, "filter");
  header.context.trigger = get_text(document, "trigger");
  header.context.owners = get_flag(document, "owners");
  return HeaderText{std::move(header), std::move(*layout)};
}

std::string owner_json(const Owner& owner) {
  rapidjson::StringBuffer buffer;
  Json json(buffer);
  json.StartObject();
  if (owner.pid) put(json, "pid", *owner.pid);
  put(json, "holders", owner.holders);
  each_text(owner, [&](std::string_view key, const std::string& value) {
    if (!value.empty()) put(json, key, value);
  });
  json.EndObject();
  return {buffer.GetString(), buffer.GetSize()};
}

std::optional<Owner> parse_owner(std::string_view text) {
  rapidjson::Document document;
  if (!parse(document, text)) return std::nullopt;
  Owner owner;
  const auto number = [&](std::string_view key) -> std::optional<std::uint32_t> {
    const auto value = get_number(document, key);
    return value && *value <= std::numeric_limits<std::uint32_t>::max() ? std::optional<std::uint32_t>(*value)
                                                                        : std::nullopt;
  };
  owner.pid = number("pid");
  owner.holders = number("holders").value_or(0);
  each_text(owner, [&](std::string_view key, std::string& value) { value = get_text(document, key); });
  return owner;
}

std::string end_json(const RecordingEnd& end) {
  rapidjson::StringBuffer buffer;
  Json json(buffer);
  json.StartObject();
  put(json, "time_ns", end.time_ns);
  put(json, "records", end.records);
  put(json, "lost", end.lost);
  put(json, "rotated", end.rotated);
  if (end.source) {
    text(json, "source");
    put_statistics(json, *end.source);
  }
  json.EndObject();
  return {buffer.GetString(), buffer.GetSize()};
}

std::optional<RecordingEnd> parse_end(std::string_view json) {
  rapidjson::Document document;
  if (!parse(document, json)) return std::nullopt;
  RecordingEnd end;
  end.time_ns = get_number(document, "time_ns").value_or(0);
  end.records = get_number(document, "records").value_or(0);
  end.lost = get_number(document, "lost").value_or(0);
  end.rotated = get_flag(document, "rotated");
  if (const auto* source = find(document, "source")) end.source = get_statistics(*source);
  return end;
}

}  // namespace tcpinfo::detail
