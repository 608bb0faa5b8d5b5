// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
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
  bool threaded = false;        ///< `bytes` are at most what the socket had
};

/// One end of a stream: addresses, ports, and where a later run used the same again, the sockets that are its own.
struct Endpoint {
  const Iperf3Stream* stream;
  bool connects = false;            ///< this end sent the stream's cookie
  bool threaded = false;            ///< of Iperf3Result
  std::set<std::uint64_t> cookies;  ///< empty: all with these addresses and ports

  End end() const noexcept { return stream->sender ? End::kSender : End::kReceiver; }
  Value cookie_bytes() const noexcept;
};

/// Of what iperf3 was answered, the answers without their twins.
Series make_series(const SourceRecords& source, const Endpoint& endpoint);

/// Whether a record has the addresses and ports of this end of the stream.
bool has_ports(const tcpinfo::Record& record, const Iperf3Stream& stream);
/// Whether a record is of this end of the stream.
bool belongs(const tcpinfo::Record& record, const Endpoint& endpoint);

/// What an iperf3 client sends on each data connection before the data: its random name, with the NUL at its end
/// (iperf 3.12 src/iperf_client_api.c iperf_create_streams(), COOKIE_SIZE). iperf3 does not count it.
constexpr Value kCookieBytes = 37;

/// iperf3's count of the bytes that it wrote, as the sender's record has it; nothing where the record cannot tell.
std::optional<Value> written_bytes(const tcpinfo::Record& record, Value cookie_bytes);

std::string describe(const Iperf3Stream& stream);
/// The same with one of its intervals.
std::string describe(const Iperf3Stream& stream, std::size_t interval);
std::string_view describe(End end);
std::string milliseconds(Time ns);

double median(std::vector<double> values);

inline Value outside(Value low, Value high, Value value) { return std::max({Value{0}, low - value, value - high}); }

/// Index of the reading that the control takes in place of reading i.
inline std::size_t shifted(std::size_t i, std::size_t size) { return (i + size / 2) % size; }

inline Time time_of(const tcpinfo_record* record) { return static_cast<Time>(record->time_ns); }

/// A number of the table, or nothing where it is absent.
std::optional<Value> number(const tcpinfo_record* record, tcpinfo::Field field);

/// Grow or change with the clock alone.
bool is_moved_by_clock(tcpinfo::Field field);
/// Change when the application writes or reads, without a packet.
bool is_moved_by_application(tcpinfo::Field field);
/// Whether a later reading has at least as much of it.
bool is_monotone(const tcpinfo::FieldInfo& field);
/// Whether no segment was sent or received between the two: no counter of them moved.
bool is_still(const tcpinfo_record* a, const tcpinfo_record* b);

/// A comparison of a field with iperf3's figure of the table's rule.
Comparison begin(tcpinfo::SourceId source, End end, const tcpinfo::FieldInfo& field, std::string method);

/// Counts one value that has to lie between. `where`, as "interval 3 of stream 5", tells of the first that does not.
void count(Comparison& comparison, Value low, Value high, Value value, const std::string& where);

/// Comparisons of one source and end by one method with other readings, one for each field.
class Tally {
 public:
  Tally(tcpinfo::SourceId source, End end, std::string method)
      : source_(source), end_(end), method_(std::move(method)) {}

  /// Counts one value of a record of `stream` that has to lie between; an absent one does not. Gives whether it did.
  bool count(const tcpinfo::FieldInfo& field, Value low, Value high, std::optional<Value> value,
             const tcpinfo_record* record, const Iperf3Stream& stream);
  /// The same where the values do not tell it: `what` does, as "is ahead of an answer in which segs_in is not".
  void count(const tcpinfo::FieldInfo& field, bool agrees, std::string_view what, const tcpinfo_record* record,
             const Iperf3Stream& stream);
  /// Counts a reading of another time that would agree too.
  void control(const tcpinfo::FieldInfo& field, bool agrees);

  /// Those with values, in the order of the table.
  std::vector<Comparison> done();

 private:
  struct Row {
    Comparison comparison;
    std::vector<double> widths;
  };
  Row& row(const tcpinfo::FieldInfo& field);

  tcpinfo::SourceId source_;
  End end_;
  std::string method_;
  std::map<tcpinfo::Field, Row> rows_;
};

}  // namespace validation
