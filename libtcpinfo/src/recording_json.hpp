// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tcpinfo/recording.hpp>

/// The texts within a recording: what its header and its end say.
namespace tcpinfo::detail {

/// How a record of a file becomes one of this library.
struct RecordLayout {
  struct Move {
    std::uint32_t bit;     // of the field, in the file's presence words
    std::uint32_t offset;  // in the file's record
    std::uint32_t size;    // there
    Field field;
  };
  std::size_t bytes = 0;  // of a record
  std::size_t present_offset = 0;
  bool same = false;  // as this library's, byte by byte
  std::vector<Move> moves;
};

struct HeaderText {
  RecordingHeader header;
  RecordLayout layout;
};

std::string header_json(const RecordingHeader& header);
/// Nothing where it breaks the format.
std::optional<HeaderText> parse_header(std::string_view json);

std::string owner_json(const Owner& owner);
std::optional<Owner> parse_owner(std::string_view json);

std::string end_json(const RecordingEnd& end);
std::optional<RecordingEnd> parse_end(std::string_view json);

}  // namespace tcpinfo::detail
