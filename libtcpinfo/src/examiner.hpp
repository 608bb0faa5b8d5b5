// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <unordered_map>

#include <tcpinfo/trigger.hpp>

namespace tcpinfo {

/// Applies a trigger in user space, for sources that read all sockets a pass. Keeps a history of each connection, by
/// its cookie, if the trigger asks for growth, as long as passes come to it.
class Examiner {
 public:
  explicit Examiner(const Trigger& trigger) : trigger_(trigger) {}

  /// Whether a record is wanted; then it says why. Without memory for its history nothing has grown.
  bool wants(tcpinfo_record& record) noexcept {
    if (trigger_.empty()) return true;
    tcpinfo_history unknown{};
    auto* history = &unknown;
    if (trigger_.asks_for_growth()) {
      try {
        auto& known = histories_[record.cookie];
        known.pass = pass_;
        history = &known.history;
      } catch (...) {  // no memory
      }
    }
    const auto triggered = trigger_.examine(Record(record), *history);
    if (triggered == 0) return false;
    set_number(record, Field::triggered, triggered);
    return true;
  }

  /// A connection that two passes did not come to has gone; one alone may have been interrupted.
  void end_pass() noexcept {
    std::erase_if(histories_, [this](const auto& entry) { return pass_ - entry.second.pass > 1; });
    ++pass_;
  }

 private:
  struct Known {
    tcpinfo_history history{};
    std::uint32_t pass = 0;
  };

  Trigger trigger_;
  std::unordered_map<std::uint64_t, Known> histories_;
  std::uint32_t pass_ = 0;
};

}  // namespace tcpinfo
