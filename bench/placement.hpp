// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <sched.h>

#include <string_view>

namespace bench {

/// This thread runs on one CPU while this lives: the `index`-th of those it may use, counted round.
/// Throws tcpinfo::Error.
class Pinned {
 public:
  explicit Pinned(int index);
  ~Pinned();
  Pinned(const Pinned&) = delete;

 private:
  cpu_set_t old_;
};

/// Writes a sysctl of the network namespace that this thread is in. Throws tcpinfo::Error.
void write_setting(const char* file, std::string_view value);

}  // namespace bench
