// SPDX-License-Identifier: BSD-2-Clause
#include "measurements.hpp"

#include <array>

namespace bench {

std::span<const Measurement> measurements() noexcept {
  static constexpr std::array kAll{
      Measurement{"callbacks", "one sock_ops callback, that emits nothing and that emits a record", callbacks, 60, 6, 0},
      Measurement{"bulk", "bulk transfer over loopback, watched and not", bulk, 240, 30, 20},
      Measurement{
          "connections",
          "short connections over loopback, both ends watched: CPU time of the thread that is client and server",
          connections, 60, 8, 30},
      Measurement{"drain", "records read from a ring buffer and decoded", drain, 20, 3, 0},
      Measurement{"json", "JSON lines of records, beside RapidJSON's Writer", json, 30, 6, 0},
      Measurement{"snapshot", "all sockets of a network namespace at once, beside ss", snapshot, 180, 25, 90},
      Measurement{"sweep", "a sweep over k tagged sockets among many others, beside a walk over all", sweep, 60, 8, 20},
      Measurement{"adoption", "connections that are older than the attach, from it to the last record", adoption, 40, 8, 0},
      Measurement{"memory", "what a watched connection takes in the kernel and in user space", memory, 150, 15, 60},
  };
  return kAll;
}

}  // namespace bench
