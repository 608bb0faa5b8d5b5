// SPDX-License-Identifier: BSD-2-Clause
#include "placement.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include <tcpinfo/error.hpp>

#include "lab/fd.hpp"

namespace bench {

Pinned::Pinned(int index) {
  const auto check = [](int result, const char* action) {
    if (result != 0) throw tcpinfo::Error({errno, std::system_category()}, action, "");
  };
  check(sched_getaffinity(0, sizeof(old_), &old_), "ask for the CPUs of a thread");
  index %= CPU_COUNT(&old_);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &old_) || index-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    check(sched_setaffinity(0, sizeof(one), &one), "keep a thread on one CPU");
    return;
  }
}

Pinned::~Pinned() { sched_setaffinity(0, sizeof(old_), &old_); }

void write_setting(const char* file, std::string_view value) {
  const lab::Fd setting(::open(file, O_WRONLY | O_CLOEXEC));
  if (setting.get() < 0 || ::write(setting.get(), value.data(), value.size()) < 0)
    throw tcpinfo::Error({errno, std::system_category()}, std::string("write ") + file, "needs root");
}

}  // namespace bench
