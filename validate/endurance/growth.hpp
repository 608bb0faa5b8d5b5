// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <vector>

#include "usage.hpp"

namespace endurance {

/// Whether what a process holds grew after it had warmed up.
class Growth {
 public:
  struct Verdict {
    bool is_flat;
    std::string text;  ///< a line a quantity
  };

  void add(const Usage& usage) { readings_.push_back(usage); }

  /// The first fifth of the readings is warm-up. Counts must not be greater in the last fifth than in the second;
  /// memory may be by 1 MiB, as an allocator keeps what it was once given in pieces.
  Verdict verdict() const;

 private:
  std::vector<Usage> readings_;
};

}  // namespace endurance
