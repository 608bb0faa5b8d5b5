// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/json.hpp>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>

#include <fmt/format.h>
// RapidJSON 1.1.0 adds to the null pointer of an empty internal::Stack: without effect, but UBSan of clang stops there.
#ifdef __clang__
#pragma clang attribute push(__attribute__((no_sanitize("pointer-overflow"))), apply_to = function)
#endif
#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/reader.h>
#ifdef __clang__
#pragma clang attribute pop
#endif

#include <tcpinfo/error.hpp>

#include "line_writer.hpp"
#include "value.hpp"

namespace tcpinfo {
namespace {

constexpr std::string_view kSchemaName = "tcpinfo";
constexpr std::string_view kSchemaKey = "\"schema\"";

/// Length of the UTF-8 character that `text` begins with, 0 where it is none (RFC 3629, section 4).
std::size_t utf8_length(std::string_view text) noexcept {
  const auto byte = [text](std::size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const unsigned first = byte(0);
  const auto continues = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
    return byte(i) >= low && byte(i) <= high;
  };
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return continues(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    const bool second = first == 0xe0 ? continues(1, 0xa0) : first == 0xed ? continues(1, 0x80, 0x9f) : continues(1);
    return second && continues(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const bool second = first == 0xf0 ? continues(1, 0x90) : first == 0xf4 ? continues(1, 0x80, 0x8f) : continues(1);
    return second && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

std::size_t first_invalid_utf8(std::string_view text) noexcept {
  constexpr std::uint64_t kNotAscii = 0x8080808080808080;
  std::size_t at = 0;
  while (at < text.size()) {
    // Nearly all of every line is ASCII.
    std::uint64_t eight = kNotAscii;
    if (text.size() - at >= sizeof(eight)) std::memcpy(&eight, text.data() + at, sizeof(eight));
    if ((eight & kNotAscii) == 0) {
      at += sizeof(eight);
      continue;
    }
    const auto length = utf8_length(text.substr(at));
    if (length == 0) break;
    at += length;
  }
  return at;
}

struct JsonStyle {
  static constexpr std::string_view kAbsent = "null", kQuote = "\"", kEnd = "}";
  // Each byte of a name may take the six of an escape.
  static constexpr std::size_t kLongestText = 6 * sizeof(tcpinfo_name) + 2;
  static constexpr auto kPlain = [] {
    detail::PlainBytes plain{};
    for (unsigned c = 0x20; c < 0x80; ++c) plain[c] = c != '"' && c != '\\';
    return plain;
  }();
#define X(id, ...) static_assert(sizeof(",\"" #id "\":") - 1 <= detail::kLongestPrefix);
  TCPINFO_FIELDS(X)
#undef X

  static std::string prefix(const FieldInfo& row, bool first) {
    return fmt::format("{}\"{}\":", first ? '{' : ',', row.name);
  }

  static char* write_text(char* out, const tcpinfo_name& name) noexcept {
    *out++ = '"';
    char* end = detail::write_plain(out, name, kPlain);
    if (!end) end = write_escaped(out, text(name));
    *end++ = '"';
    return end;
  }

  /// Six bytes at most for each of the text's.
  static char* write_escaped(char* out, std::string_view text) noexcept {
    while (!text.empty()) {
      const auto length = utf8_length(text);
      const char c = text.front();
      if (length == 0) {
        *out++ = '?';  // a line has to be valid UTF-8, and one byte for one keeps a name within its 16
      } else if (c == '"' || c == '\\') {
        *out++ = '\\';
        *out++ = c;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        out = fmt::format_to(out, "\\u{:04x}", static_cast<unsigned>(c));
      } else {
        out += text.copy(out, length);
      }
      text.remove_prefix(length == 0 ? 1 : length);
    }
    return out;
  }
};

/// Common to what we read: one object, of which the keys at the top count. A handler's functions return false to stop
/// the parser, and say why in problem().
template <class Derived>
class ObjectHandler {
 public:
  const std::string& problem() const noexcept { return problem_; }
  /// The key whose value is being read; empty outside of one.
  const std::string& key() const noexcept { return key_; }

  bool Null() { return value(nullptr); }
  bool Bool(bool b) { return value(b); }
  bool Int(int i) { return value(std::int64_t{i}); }
  bool Int64(std::int64_t i) { return value(i); }
  bool Uint(unsigned u) { return value(std::uint64_t{u}); }
  bool Uint64(std::uint64_t u) { return value(u); }
  bool Double(double d) { return value(d); }
  bool RawNumber(const char*, rapidjson::SizeType, bool) { return fail("unexpected number"); }
  bool String(const char* s, rapidjson::SizeType n, bool) { return value(std::string_view(s, n)); }
  bool StartObject() { return start(); }
  bool StartArray() { return depth_ == 0 ? fail("not an object") : start(); }
  bool EndObject(rapidjson::SizeType) { return end(); }
  bool EndArray(rapidjson::SizeType) { return end(); }
  bool Key(const char* s, rapidjson::SizeType n, bool) {
    if (depth_ != 1) return true;
    key_.assign(s, n);
    return self().begin_member(key_);
  }

 protected:
  struct Nested {};

  bool fail(std::string why) {
    problem_ = key_.empty() ? std::move(why) : fmt::format("key '{}': {}", key_, why);
    return false;
  }

 private:
  Derived& self() noexcept { return static_cast<Derived&>(*this); }
  template <class T>
  bool value(T v) {
    if (depth_ == 0) return fail("not an object");
    return depth_ > 1 || finish(self().member(v));
  }
  bool start() { return ++depth_ != 2 || self().member(Nested{}); }
  bool end() { return --depth_ != 1 || finish(true); }
  bool finish(bool ok) {
    if (ok) key_.clear();
    return ok;
  }

  std::string problem_;
  std::string key_;
  unsigned depth_ = 0;
};

/// Whether `line` is one JSON object that `handler` accepts; if not, the reason is given back.
template <class Handler>
std::optional<std::string> parse_object(std::string_view line, Handler& handler) {
  // The reader's own check of the encoding more than doubles the time of a line.
  if (const auto at = first_invalid_utf8(line); at != line.size()) return fmt::format("column {}: not UTF-8", at + 1);
  // Iterative: a line of a million brackets must not overflow the stack.
  constexpr unsigned kFlags = rapidjson::kParseIterativeFlag;
  rapidjson::MemoryStream stream(line.data(), line.size());
  rapidjson::Reader reader;
  const auto result = reader.Parse<kFlags>(stream, handler);
  if (!handler.problem().empty()) return handler.problem();
  if (!result) {
    auto where = fmt::format("column {}: {}", result.Offset() + 1, rapidjson::GetParseError_En(result.Code()));
    return handler.key().empty() ? where : fmt::format("key '{}': {}", handler.key(), where);
  }
  // The reader takes a NUL for the end of its input.
  if (stream.Tell() != line.size()) return fmt::format("column {}: NUL after the object", stream.Tell() + 1);
  return std::nullopt;
}

class RecordHandler : public ObjectHandler<RecordHandler> {
 public:
  const tcpinfo_record& record() const noexcept { return record_; }

  bool begin_member(std::string_view key) {
    // Keys mostly come in the table's order.
    row_ = next_ < kFieldCount && fields()[next_].name == key ? &fields()[next_] : find_field(key);
    if (!row_) return true;
    const auto index = static_cast<std::size_t>(row_->field);
    if (seen_[index]) return fail("given twice");
    seen_[index] = true;
    next_ = index + 1;
    return true;
  }

  template <class T>
  bool member(T v) {
    if (!row_) return true;
    if constexpr (std::is_same_v<T, std::nullptr_t>)
      return true;
    else
      return set(v);
  }

 private:
  bool wants_number() const noexcept { return row_->format != Format::address && row_->format != Format::text; }
  std::string wanted() const {
    switch (row_->format) {
      case Format::number:
        return fmt::format("a whole number that fits {}", row_->type);
      case Format::address:
        return "an address as text";
      case Format::text:
        return "a text";
      case Format::boolean:
        return "true or false";
      default:
        return fmt::format("the name of a {} or its number", name(row_->format));
    }
  }
  bool wrong(std::string_view found) { return fail(fmt::format("{} where {} belongs", found, wanted())); }

  bool set(std::uint64_t v) {
    if (!wants_number()) return wrong("a number");
    if (v > std::numeric_limits<std::uint64_t>::max() >> (64 - 8 * row_->size))
      return fail(fmt::format("{} does not fit {}", v, row_->type));
    set_number(record_, row_->field, v);
    return true;
  }
  bool set(std::int64_t v) {
    if (v >= 0) return set(static_cast<std::uint64_t>(v));
    return wants_number() ? fail(fmt::format("{} does not fit {}", v, row_->type)) : wrong("a number");
  }
  bool set(double) { return wrong("a fraction or too large a number"); }
  bool set(Nested) { return wrong("an object or array"); }
  bool set(bool v) {
    if (row_->format != Format::boolean) return wrong(v ? "true" : "false");
    set_number(record_, row_->field, v ? 1 : 0);
    return true;
  }
  bool set(std::string_view v) {
    auto* member = reinterpret_cast<std::byte*>(&record_) + row_->offset;
    switch (row_->format) {
      case Format::number:
      case Format::boolean:
        return wrong("a text");
      case Format::address: {
        const auto address = parse_address(v);
        if (!address) return fail(fmt::format("'{}' is no address", v));
        std::memcpy(member, &*address, sizeof(*address));
        break;
      }
      case Format::text:
        if (v.size() > row_->size) return fail(fmt::format("'{}' is longer than {} bytes", v, row_->size));
        if (v.find('\0') != std::string_view::npos) return fail("a NUL within a text");
        // RapidJSON 1.1.0 takes the escape of a lone low surrogate.
        if (first_invalid_utf8(v) != v.size()) return fail("a surrogate without its pair");
        std::memcpy(member, v.data(), v.size());
        break;
      default: {
        const auto code = detail::code_of(row_->format, v);
        if (!code) return fail(fmt::format("unknown {} '{}'", name(row_->format), v));
        set_number(record_, row_->field, *code);
        return true;
      }
    }
    set_present(record_, row_->field);
    return true;
  }

  tcpinfo_record record_ = make_record();
  bool seen_[kFieldCount] = {};
  const FieldInfo* row_ = nullptr;
  std::size_t next_ = 0;
};

class SchemaHandler : public ObjectHandler<SchemaHandler> {
 public:
  bool is_schema() const noexcept { return is_schema_; }
  const std::optional<std::uint64_t>& version() const noexcept { return version_; }

  bool begin_member(std::string_view) { return true; }
  template <class T>
  bool member(T v) {
    if constexpr (std::is_same_v<T, std::string_view>) {
      if (key() == "schema") is_schema_ = v == kSchemaName;
    } else if constexpr (std::is_same_v<T, std::uint64_t>) {
      if (key() == "version") version_ = v;
    }
    return true;
  }

 private:
  bool is_schema_ = false;
  std::optional<std::uint64_t> version_;
};

/// Why a line can be no record, or nothing and `record` is set.
std::optional<std::string> record_problem(std::string_view line, tcpinfo_record& record) {
  RecordHandler handler;
  auto problem = parse_object(line, handler);
  if (!problem) record = handler.record();
  return problem;
}

/// Why a line can be neither a schema line nor another object, or nothing and `schema` is set.
std::optional<std::string> schema_problem(std::string_view line, bool& schema) {
  SchemaHandler handler;
  if (auto problem = parse_object(line, handler)) return problem;
  schema = handler.is_schema();
  if (!schema) return std::nullopt;
  if (!handler.version()) return "the schema has no version";
  if (*handler.version() != TCPINFO_RECORD_VERSION)
    return fmt::format("schema version {}, this library reads {}", *handler.version(), TCPINFO_RECORD_VERSION);
  return std::nullopt;
}

class LineReader {
 public:
  explicit LineReader(const std::filesystem::path& path) : path_(path), file_(std::fopen(path.c_str(), "re")) {
    if (!file_) fail();
  }
  ~LineReader() {
    std::fclose(file_);
    std::free(line_);
  }
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// The next line with its newline, valid until the next call; nothing at the end.
  std::optional<std::string_view> next() {
    errno = 0;
    const auto length = getline(&line_, &capacity_, file_);
    if (length >= 0) return std::string_view(line_, static_cast<std::size_t>(length));
    if (errno != 0) fail();
    return std::nullopt;
  }

 private:
  [[noreturn]] void fail() const {
    throw Error(std::error_code(errno, std::generic_category()), "read " + path_.string(), {});
  }

  const std::filesystem::path path_;
  std::FILE* file_;
  char* line_ = nullptr;
  std::size_t capacity_ = 0;
};

}  // namespace

struct JsonWriter::Impl {
  detail::LineWriter<JsonStyle> line;
  bool owners;
  std::string with_owner;  // the last line
};

JsonWriter::JsonWriter(std::vector<Field> fields, bool owners)
    : impl_(new Impl{detail::LineWriter<JsonStyle>(std::move(fields)), owners, {}}) {}
JsonWriter::~JsonWriter() = default;
JsonWriter::JsonWriter(JsonWriter&&) noexcept = default;
JsonWriter& JsonWriter::operator=(JsonWriter&&) noexcept = default;

std::string JsonWriter::schema() const {
  auto text = fmt::format("{{{}:\"{}\",\"version\":{},\"fields\":[", kSchemaKey, kSchemaName, TCPINFO_RECORD_VERSION);
  std::string_view separator;
  for (const auto field : impl_->line.fields()) {
    const auto& row = info(field);
    fmt::format_to(std::back_inserter(text), "{}{{\"name\":\"{}\",\"type\":\"{}\",\"unit\":\"{}\",\"kind\":\"{}\"}}",
                   std::exchange(separator, ","), row.name, row.type, name(row.unit), name(row.kind));
  }
  if (impl_->owners)
    for (const auto& field : owner_fields())
      fmt::format_to(std::back_inserter(text),
                     "{}{{\"name\":\"{}\",\"type\":\"{}\",\"unit\":\"none\",\"kind\":\"{}\"}}",
                     std::exchange(separator, ","), field.name, field.type, name(Kind::identity));
  return text + "]}";
}

std::string_view JsonWriter::line(const Record& record) { return line(record, nullptr); }

std::string_view JsonWriter::line(const Record& record, const Owner* owner) {
  if (!impl_->owners) return impl_->line.write(record);
  auto& text = impl_->with_owner;
  text = owner ? impl_->line.write(Record(with_owner(record, *owner))) : impl_->line.write(record);
  text.pop_back();
  for (const auto& field : owner_fields()) {
    const auto value = owner ? field.value(*owner) : std::string();
    fmt::format_to(std::back_inserter(text), ",\"{}\":", field.name);
    if (value.empty()) {
      text += JsonStyle::kAbsent;
    } else if (field.type != "text") {
      text += value;
    } else {
      text += '"';
      const auto begin = text.size();
      text.resize(begin + 6 * value.size());
      const char* end = JsonStyle::write_escaped(text.data() + begin, value);
      text.resize(static_cast<std::size_t>(end - text.data()));
      text += '"';
    }
  }
  text += JsonStyle::kEnd;
  return text;
}

tcpinfo_record parse_json(std::string_view line) {
  tcpinfo_record record;
  if (const auto problem = record_problem(line, record))
    throw Error(Errc::kMalformed, "read a JSON record: " + *problem, {});
  return record;
}

bool is_schema(std::string_view line) {
  bool schema = false;
  if (const auto problem = schema_problem(line, schema))
    throw Error(Errc::kMalformed, "read a JSON schema line: " + *problem, {});
  return schema;
}

std::vector<tcpinfo_record> read_json_lines(const std::filesystem::path& path, bool* truncated) {
  if (truncated) *truncated = false;
  LineReader reader(path);
  std::vector<tcpinfo_record> records;
  std::size_t number = 0;
  const auto fail = [&](std::string_view problem, std::string way_out = {}) {
    throw Error(Errc::kMalformed, fmt::format("read {}: line {}: {}", path.string(), number, problem),
                std::move(way_out));
  };
  const auto no_schema = [&] {
    fail("no schema line", "a recording begins with JsonWriter::schema(), as tcpinfo record writes it");
  };

  while (auto line = reader.next()) {
    ++number;
    if (!line->ends_with('\n')) {
      if (number == 1) no_schema();
      if (truncated) *truncated = true;
      break;
    }
    line->remove_suffix(1);
    // Recordings that were put together have a schema line in their middle too.
    if (number == 1 || line->starts_with("{\"schema\"")) {
      bool schema = false;
      if (const auto problem = schema_problem(*line, schema)) fail(*problem);
      if (schema) continue;
      if (number == 1) no_schema();
    }
    if (const auto problem = record_problem(*line, records.emplace_back())) fail(*problem);
  }
  if (number == 0) no_schema();
  return records;
}

}  // namespace tcpinfo
