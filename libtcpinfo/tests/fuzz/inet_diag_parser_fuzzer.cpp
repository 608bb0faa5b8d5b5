// SPDX-License-Identifier: BSD-2-Clause
// Any bytes as what recv() gave: no crash, and what is absent is zero. Seeds: tests/data/inet_diag_*.bin.
#include <cstdint>
#include <cstdlib>
#include <span>

#include <tcpinfo/record.hpp>

#include "inet_diag_parser.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto chunk = std::as_bytes(std::span(data, size));
  // The number of the first message, so that a mutation there does not hide all that follows.
  tcpinfo::inet_diag::Message first;
  tcpinfo::inet_diag::Messages messages(chunk);
  const std::uint32_t sequence = messages.next(first) ? first.sequence : 0;

  tcpinfo_record record;
  std::uint64_t malformed = 0;
  const tcpinfo::inet_diag::Reading reading{1, 2, 3, {{276 * 8 + 4, 4}, {276 * 8 + 2, 2}}};
  tcpinfo::inet_diag::read_chunk(chunk, sequence, reading, record, malformed, [](const tcpinfo_record& raw) {
    const tcpinfo::Record view(raw);
    for (const auto& row : tcpinfo::fields()) {
      if (view.has(row.field)) continue;
      const auto* member = reinterpret_cast<const std::uint8_t*>(&raw) + row.offset;
      for (std::size_t i = 0; i < row.size; ++i)
        if (member[i] != 0) std::abort();
    }
  });
  return 0;
}
