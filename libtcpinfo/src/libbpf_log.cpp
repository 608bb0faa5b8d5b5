// SPDX-License-Identifier: BSD-2-Clause
#include "libbpf_log.hpp"

#include <cstdarg>
#include <cstdio>

namespace tcpinfo {
namespace {

thread_local char first[256];

int keep_first_warning(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_WARN && !first[0]) std::vsnprintf(first, sizeof(first), format, arguments);
  return 0;
}

}  // namespace

LibbpfLog::LibbpfLog() noexcept : old_(libbpf_set_print(keep_first_warning)) { first[0] = '\0'; }

std::string LibbpfLog::first_warning() {
  const std::string text = first;
  return text.substr(0, text.find('\n'));
}

}  // namespace tcpinfo
