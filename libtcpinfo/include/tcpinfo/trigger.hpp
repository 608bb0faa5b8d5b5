// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include <tcpinfo/record.hpp>

namespace tcpinfo {

/// Which samples are wanted, by conditions on their values. A Filter decides once which connections are followed; a
/// trigger decides at each sample that is due. The first, the last and the state records of a connection always come.
/// The kernel and user space decide by the same code.
///
///     rtt > 20ms
///     rtt > 2 * min_rtt and peer_port == 443
///     total_retrans grows or rwnd_limited grows
///     unacked > 0 and last_ack_recv > 1s
///     ca_state == Loss or delivery_rate < 1Mbit/s and state in (ESTABLISHED, CLOSE_WAIT)
///
/// Fields are those of the table, by its names; `port` and `address` mean either end. A comparison (`==` `!=` `<` `<=`
/// `>` `>=`) stands between two of: a field, a field times a number, a constant with the unit that the field asks for.
/// - Times: `ns`, `us`, `ms`, `s`. Only 0 goes without one.
/// - Bytes: none or `B`, `K`, `M`, `G` in powers of 1024. Rates: none (bytes a second), `bit/s`, `Kbit/s`, `Mbit/s`,
///   `Gbit/s`, `B/s`, `KB/s`, `MB/s`, `GB/s` in powers of 1000.
/// - All else is plain numbers. States and other codes go by their names, with `==`, `!=` and `in (A, B)`; texts with
///   `==` and `!=`, quoted where they have blanks; addresses with `==`, `!=` and `in` a prefix; numbers also with `in
///   FIRST..LAST`.
/// Fields of different units do not compare, times of any unit do. What is computed does not wrap.
///
/// `FIELD grows`, for counters, holds if the value is greater than when the connection was last examined, that is at
/// its last sample that was due, whether it was wanted or not, or its first record. At the first look at a connection
/// it does not hold. At most 4 different fields.
///
/// `not`, `and`, `or`, parentheses. A condition on an absent field does not hold, and neither does its opposite: `rtt
/// != 5ms` and `not rtt == 5ms` hold of samples that have an rtt.
///
/// An expression is expanded to alternatives, joined by `or`, at most 16 and with 64 conditions in all. `triggered` in
/// the record says which of them held, the first one as written by its lowest bit. A list of names has one for each,
/// `!=` of a text or an address may have several. A value type; reading is thread safe.
class TCPINFO_EXPORT Trigger {
 public:
  /// Wants every sample.
  Trigger() noexcept : raw_{} {}

  /// Throws Error (Errc::kInvalidTrigger) that names the column and what was expected there. Fields that are in no
  /// sample (pid, comm, old_state), or are not given by `source`, or without it by none, are refused: nothing would
  /// ever hold. An empty text wants all.
  static Trigger parse(std::string_view expression, std::optional<SourceId> source = std::nullopt);

  bool empty() const noexcept { return raw_.clauses == 0; }
  /// Whether it asks for growth, so that it takes more than one look at a connection.
  bool asks_for_growth() const noexcept { return raw_.grows != 0; }

  /// Which alternatives hold of a record, bit by bit; 0: none. `history` is of its connection, zero at first, and takes
  /// the record's values.
  std::uint16_t examine(const Record& record, tcpinfo_history& history) const noexcept {
    return static_cast<std::uint16_t>(
        tcpinfo_trigger_holds(&raw_, &record.raw(), tcpinfo_trigger_grown(&raw_, &record.raw(), &history)));
  }

  const tcpinfo_trigger& raw() const noexcept { return raw_; }

 private:
  tcpinfo_trigger raw_;
};

}  // namespace tcpinfo
