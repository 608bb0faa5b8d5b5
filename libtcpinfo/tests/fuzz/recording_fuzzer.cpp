// SPDX-License-Identifier: BSD-2-Clause
// A file is either refused with Errc::kMalformed or gives records that can be shown, then ends. The first byte says
// what the rest is: a file; the text of a header, NUL, the entries of a frame; or the entries of a frame behind a
// proper header. Compressed here, since the fuzzer does not hit upon a checksum.
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <tcpinfo/csv.hpp>
#include <tcpinfo/error.hpp>
#include <tcpinfo/recording.hpp>

#include "recording_format.hpp"
#include "recording_json.hpp"

namespace {

using namespace tcpinfo;

std::string compressed(std::string_view content) {
  std::string frame(ZSTD_compressBound(content.size()), '\0');
  frame.resize(ZSTD_compress(frame.data(), frame.size(), content.data(), content.size(), 1));
  return frame;
}

std::string header_frame(std::string_view json) {
  const detail::EntryHead head{1, static_cast<std::uint32_t>(detail::kMagicBytes + json.size())};
  std::string entry(reinterpret_cast<const char*>(&head), sizeof(head));
  entry.append(detail::kRecordingMagic, detail::kMagicBytes).append(json);
  entry.resize(detail::padded(entry.size()));
  return compressed(entry);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data + 1), size - 1);
  std::string bytes;
  switch (data[0] % 3) {
    case 0:
      bytes = input;
      break;
    case 1: {
      const auto text = std::min(input.find('\0'), input.size());
      bytes = header_frame(input.substr(0, text)) + compressed(input.substr(std::min(text + 1, input.size())));
      break;
    }
    default:
      static const auto proper = header_frame(detail::header_json({}));
      bytes = proper + compressed(input);
  }

  static const int file = memfd_create("recording", 0);
  static const auto path = "/proc/self/fd/" + std::to_string(file);
  if (ftruncate(file, 0) != 0 || pwrite(file, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    std::abort();
  try {
    RecordingReader reader(path);
    static CsvWriter writer({}, true);
    while (const auto record = reader.next()) (void)writer.line(*record, reader.owner());
    if (reader.error() || reader.damaged_bytes() > bytes.size() || reader.cut_off() == reader.end().has_value())
      std::abort();
    static const auto trigger = Trigger::parse("total_retrans grows or rtt > 1ms");
    ReplaySource source({.files = {path}, .speed = 1e9, .trigger = trigger});
    (void)source.next_deadline();
    (void)source.drain([&](const Record& record) { (void)writer.line(record, source.owner()); }, 100);
  } catch (const Error& error) {
    if (error.code() != make_error_code(Errc::kMalformed)) std::abort();
  }
  return 0;
}
