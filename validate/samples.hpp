// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tcpinfo/record.hpp>

#include "iperf3.hpp"
#include "verdict.hpp"

/// What the comparisons share: our records beside iperf3's streams.
namespace validation {

using Value = std::int64_t;
using Time = std::int64_t;  ///< CLOCK_BOOTTIME, ns

constexpr Value kUnbounded = std::numeric_limits<Value>::max() / 4;

/// All that one source gathered, of both ends and in any order.
struct SourceRecords {
  tcpinfo::SourceId source;
  std::span<const tcpinfo_record> records;
};

enum class End { kSender, kReceiver };

/// One of our records of a stream, as far as it tells how many bytes iperf3 had written or read at that moment.
struct Sample {
  const tcpinfo_record* raw;
  Time earliest, latest;  ///< the reading happened between
  bool ledger = false;    ///< least and most are known
  Value least = 0, most = 0;
  bool ended = false;  ///< iperf3 had closed the socket

  tcpinfo::Record record() const { return tcpinfo::Record(*raw); }
};

/// One end of a stream as one source saw it.
struct Series {
  tcpinfo::SourceId source;
  End end;
  const Iperf3Stream* stream;
  std::uint64_t cookie = 0;
  std::vector<Sample> samples;  ///< by time
  std::vector<Value> bytes;     ///< iperf3's count at each interval end
};

/// `connects`: this end sent the stream's cookie.
Series make_series(const SourceRecords& source, const Iperf3Stream& stream, bool connects);

/// Whether a record is of this end of the stream.
bool belongs(const tcpinfo::Record& record, const Iperf3Stream& stream);

/// What an iperf3 client sends on each data connection before the data: its random name, with the NUL at its end
/// (iperf 3.12 src/iperf_client_api.c iperf_create_streams(), COOKIE_SIZE). iperf3 does not count it.
constexpr Value kCookieBytes = 37;

/// iperf3's count of the bytes that it wrote, as the sender's record has it; nothing where the record cannot tell.
std::optional<Value> written_bytes(const tcpinfo::Record& record, Value cookie_bytes);

std::string describe(const Iperf3Stream& stream);
std::string_view describe(End end);
std::string milliseconds(Time ns);

double median(std::vector<double> values);

inline Value outside(Value low, Value high, Value value) { return std::max({Value{0}, low - value, value - high}); }

/// Index of the reading that the control takes in place of reading i.
inline std::size_t shifted(std::size_t i, std::size_t size) { return (i + size / 2) % size; }

/// A comparison of a field with iperf3's figure of the table's rule.
Comparison begin(tcpinfo::SourceId source, End end, const tcpinfo::FieldInfo& field, std::string method);

/// Counts one value that has to lie between.
void count(Comparison& comparison, Value low, Value high, Value value);

}  // namespace validation
