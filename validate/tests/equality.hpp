// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tcpinfo/record.hpp>

/// Comparison of what several sources say of one socket that stands still.
namespace equality {

using tcpinfo::Field;
using Fields = std::bitset<tcpinfo::kFieldCount>;

constexpr std::size_t index(Field field) { return static_cast<std::size_t>(field); }

/// A socket of this process, and what is known of it without asking.
struct Subject {
  int fd = -1;
  bool mptcp = false;  ///< an MPTCP socket: the kernel answers for its first subflow, but for what belongs to both
  std::uint64_t netns_cookie = 0;
  std::uint64_t cgroup_id = 0;
};

/// The kernel's own answer: a record made from getsockopt() without a line of the library, the fields of which
/// getsockopt() speaks (present or absent), and the bytes of tcp_info.
struct Answer {
  tcpinfo_record record = tcpinfo::make_record();
  Fields spoken;
  std::vector<std::byte> info;

  bool speaks(Field field) const { return spoken[index(field)]; }
};
Answer ask(const Subject& subject);

/// One source's record of the socket; `source` names it in messages.
struct Opinion {
  std::string_view source;
  tcpinfo_record record;
};

/// Why a field of one source is not compared, or only within bounds.
enum class Treatment : std::uint8_t {
  kEqual,
  kOwn,    ///< the source's own: about the record and not about the socket
  kClock,  ///< goes on while the socket stands still: not less than before the reading and not more than after it
};
Treatment treatment(Field field);
/// Whether `source` leaves the field out for a reason, which is in the table of exceptions.
bool left_out(std::string_view source, Field field, const tcpinfo_record& record);
/// Whether this kernel's tcp_info is too short for the field.
bool lacks(Field field);
/// The table, for the report: "source field: reason".
std::vector<std::string> exceptions();

/// Whether nothing but clocks went on between the two.
bool stands_still(const tcpinfo_record& before, const tcpinfo_record& after);
bool stands_still(const Answer& before, const Answer& after);

/// What differs, one line a field with the values of all; empty: all agree. With `before` and `after` the kernel's
/// answer decides where it speaks; elsewhere the first opinion does, and of clocks `first_after`, its second reading.
struct Comparison {
  std::vector<std::string> differences;
  std::size_t fields = 0;  ///< present and compared
};
Comparison compare(const Answer* before, const Answer* after, const std::vector<Opinion>& opinions,
                   const tcpinfo_record& first_after);

/// What differs for a record from inside ACK processing: its counters lie between those of two still moments around it,
/// and it is about the same connection.
std::vector<std::string> bracket(const tcpinfo_record& before, const tcpinfo_record& record,
                                 const tcpinfo_record& after);

/// Fields that hold something: a number that is not 0, an address that is not all zeroes, a text.
Fields nonzero(const tcpinfo_record& record);

std::string show(const tcpinfo_record& record, Field field);

}  // namespace equality
