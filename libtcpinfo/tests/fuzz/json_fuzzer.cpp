// SPDX-License-Identifier: BSD-2-Clause
// A line is either refused with Errc::kMalformed or gives a record that the writer and the parser agree on.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include <tcpinfo/error.hpp>
#include <tcpinfo/json.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tcpinfo;
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  const auto malformed = [](const Error& e) {
    if (e.code() != make_error_code(Errc::kMalformed)) std::abort();
  };
  try {
    (void)is_schema(line);
  } catch (const Error& e) {
    malformed(e);
  }
  try {
    const auto record = parse_json(line);
    static JsonWriter writer;
    const auto again = parse_json(writer.line(Record(record)));
    if (std::memcmp(&record, &again, sizeof(record)) != 0) std::abort();
  } catch (const Error& e) {
    malformed(e);
  }
  return 0;
}
