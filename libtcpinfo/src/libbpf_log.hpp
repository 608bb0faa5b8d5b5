// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>

#include <bpf/libbpf.h>

namespace tcpinfo {

/// libbpf prints to standard error by default, and a library prints nothing: while this lives, libbpf is silent and its
/// first warning in this thread is kept for our own error. The print function is the process's: it is put back for others
/// who use libbpf.
class LibbpfLog {
 public:
  LibbpfLog() noexcept;
  ~LibbpfLog() { libbpf_set_print(old_); }
  LibbpfLog(const LibbpfLog&) = delete;
  LibbpfLog& operator=(const LibbpfLog&) = delete;

  /// One line, or nothing.
  static std::string first_warning();

 private:
  libbpf_print_fn_t old_;
};

}  // namespace tcpinfo
