// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>

#include <fmt/format.h>

#include <tcpinfo/record.hpp>

namespace tcpinfo {

/// Appends a field's value as every text output shows it: numbers in decimal, addresses and names as text, booleans as
/// true and false. Appends nothing and returns false if the field is absent. Thread safe.
TCPINFO_EXPORT bool append_value(std::string& out, const Record& record, Field field);

/// Appends one line for people: event, both ends, state, congestion control and the fields that matter most.
TCPINFO_EXPORT void append_summary(std::string& out, const Record& record);

}  // namespace tcpinfo

/// fmt::format("{}", record) gives append_summary's line.
template <>
struct fmt::formatter<tcpinfo::Record> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const tcpinfo::Record& record, Context& context) const {
    std::string text;
    tcpinfo::append_summary(text, record);
    return fmt::formatter<std::string_view>::format(text, context);
  }
};
