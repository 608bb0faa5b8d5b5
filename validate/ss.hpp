// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <tcpinfo/record.hpp>

namespace validation {

/// What ss of iproute2 printed again and again, as records of source inet_diag, which it asks. `time_ns` is of the wall
/// clock, and no other source's.
struct SsCapture {
  std::vector<tcpinfo_record> records;
  std::vector<std::string> quirks;  ///< what ss hides of what it was told, a sentence each
};

/// Understands `while sleep 0.1; do date +%s.%N; ss -tinO; done`, also without O and with m. Each time is of the moment
/// before ss asked, so that what follows was read between it and the next: the last, after which no other comes, is
/// left out. Only what is printed exactly is taken. Throws tcpinfo::Error (Errc::kMalformed) with name, line and what
/// was expected.
SsCapture parse_ss(std::string_view text, std::string_view name);

/// The same from a file. Throws also what the file system answered.
SsCapture read_ss(const std::filesystem::path& file);

}  // namespace validation
