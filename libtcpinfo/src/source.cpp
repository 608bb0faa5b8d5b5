// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/source.hpp>

#include <time.h>

namespace tcpinfo {

Source::Source() = default;
Source::~Source() = default;

bool Source::finished() const noexcept { return false; }

Cost Source::cost() const { return {}; }

std::uint64_t boot_time_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace tcpinfo
