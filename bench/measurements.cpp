// SPDX-License-Identifier: BSD-2-Clause
#include "measurements.hpp"

#include <array>

namespace bench {

std::span<const Measurement> measurements() noexcept {
  static constexpr std::array kAll{
      Measurement{"callbacks", "one sock_ops callback, that emits nothing and that emits a record", callbacks},
  };
  return kAll;
}

}  // namespace bench
