// SPDX-License-Identifier: BSD-2-Clause
// Any bytes that pass for a record can be read and encoded, and what JSON kept comes back.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <type_traits>

#include <tcpinfo/csv.hpp>
#include <tcpinfo/format.hpp>
#include <tcpinfo/json.hpp>

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

template <class T>
void check(const tcpinfo::Record& record, tcpinfo::Field field, const std::optional<T>& value) {
  require(value.has_value() == record.has(field));
  if constexpr (std::is_integral_v<T>)
    require(value == record.number(field));
  else
    require(!record.number(field));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tcpinfo;
  // As given: lengths and, within the fuzzer's buffer, alignments of all kinds.
  (void)Record::view(std::as_bytes(std::span(data, size)));

  // Right version and size, else almost no input would come further.
  tcpinfo_record raw{};
  std::memcpy(&raw, data, size < sizeof(raw) ? size : sizeof(raw));
  raw.version = TCPINFO_RECORD_VERSION;
  raw.size = sizeof(raw);
  const auto record = Record::view(std::as_bytes(std::span(&raw, 1)));
  require(record.has_value());

#define X(id, ...) check(*record, Field::id, record->id());
  TCPINFO_FIELDS(X)
#undef X

  static JsonWriter writer;
  static CsvWriter csv;
  const std::string line(writer.line(*record));
  (void)csv.line(*record);
  std::string summary;
  append_summary(summary, *record);
  require(summary.find('\n') == std::string::npos);

  const auto back = parse_json(line);
  require(writer.line(Record(back)) == line);
  for (const auto& row : fields()) {
    require(Record(back).has(row.field) == record->has(row.field));
    require(Record(back).number(row.field) == record->number(row.field));
  }
  return 0;
}
