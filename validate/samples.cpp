// SPDX-License-Identifier: BSD-2-Clause
#include "samples.hpp"

#include <array>
#include <iterator>
#include <utility>

#include <fmt/format.h>

namespace validation {

using tcpinfo::Field;
using tcpinfo::FieldInfo;
using tcpinfo::Kind;
using tcpinfo::Record;
using tcpinfo::Rule;
using tcpinfo::SourceId;

namespace {

// The sweep reads a socket without its lock, and inet_diag reads the queue's memory before the counters. What one
// segment adds to them may be seen in one and not yet in the other; a segment holds at most this many bytes.
constexpr Value kSegmentBytes = 65536;

// An address with a scope or a name is not compared: the ports tell streams apart.
bool same_address(const std::string& text, const tcpinfo_address& address) {
  const auto parsed = tcpinfo::parse_address(text);
  return !parsed || std::equal(std::begin(parsed->bytes), std::end(parsed->bytes), std::begin(address.bytes));
}

bool fin_is_queued(const Record& record) {
  constexpr std::uint8_t kFinWait1 = 4, kLastAck = 9, kClosing = 11;
  const auto state = record.event() == TCPINFO_EVENT_CLOSE ? record.old_state() : record.state();
  return state == kFinWait1 || state == kLastAck || state == kClosing;
}

void fill_ledger(Sample& sample, End end, Value cookie_bytes) {
  const auto record = sample.record();
  if (end == End::kSender) {
    if (const auto written = written_bytes(record, cookie_bytes)) {
      sample.ledger = true;
      sample.least = sample.most = *written;
    }
    return;
  }
  // iperf3 has read at most what arrived, and at least that without what the receive queue can hold: a buffer's memory
  // is never less than its data. Closing empties the queue unread. The peer's FIN counts as a byte.
  if (const auto received = record.bytes_received()) {
    sample.ledger = true;
    sample.most = static_cast<Value>(*received) - cookie_bytes;
    sample.least = -kUnbounded;
    if (sample.ended) return;
    sample.least = sample.most - 1 - kSegmentBytes -
                   static_cast<Value>(record.number(Field::skmem_rmem_alloc).value_or(std::uint64_t{1} << 40)) -
                   static_cast<Value>(record.number(Field::skmem_backlog).value_or(0));
  }
}

bool has_ended(const Record& record) {
  constexpr std::uint8_t kEstablished = 1, kCloseWait = 8, kSynSent = 2, kSynRecv = 3, kNewSynRecv = 12;
  const auto state = record.state().value_or(0);
  return state != kEstablished && state != kCloseWait && state != kSynSent && state != kSynRecv && state != kNewSynRecv;
}

}  // namespace

std::string describe(const Iperf3Stream& stream) {
  return fmt::format("stream {} ({} port {} to {} port {})", stream.socket, stream.local_address, stream.local_port,
                     stream.peer_address, stream.peer_port);
}

std::string describe(const Iperf3Stream& stream, std::size_t interval) {
  return fmt::format("in the interval that ends at {:.6f} s of {}",
                     static_cast<double>(stream.intervals[interval].end_us) / 1e6, describe(stream));
}

std::string_view describe(End end) { return end == End::kSender ? "sender" : "receiver"; }

std::string milliseconds(Time ns) { return fmt::format("{:.3f} ms", static_cast<double>(ns) / 1e6); }

Value Endpoint::cookie_bytes() const noexcept { return connects == stream->sender ? kCookieBytes : 0; }

bool has_ports(const Record& record, const Iperf3Stream& stream) {
  return record.local_port() == stream.local_port && record.peer_port() == stream.peer_port &&
         same_address(stream.local_address, record.raw().local_address) &&
         same_address(stream.peer_address, record.raw().peer_address);
}

bool belongs(const Record& record, const Endpoint& endpoint) {
  return has_ports(record, *endpoint.stream) &&
         (endpoint.cookies.empty() || endpoint.cookies.contains(record.raw().cookie));
}

// iperf3's count of the bytes that it wrote is what went out for the first time and what waits, without its cookie if
// this end sent it. A FIN that waits counts as a byte of the queue, at its end: if anything waits, the FIN does.
std::optional<Value> written_bytes(const Record& record, Value cookie_bytes) {
  const auto sent = record.bytes_sent(), again = record.bytes_retrans();
  const auto waiting = record.notsent_bytes();
  if (!sent || !again || !waiting || record.swept() == 1) return std::nullopt;
  const Value fin = *waiting > 0 && fin_is_queued(record) ? 1 : 0;
  return static_cast<Value>(*sent) - static_cast<Value>(*again) + static_cast<Value>(*waiting) - fin - cookie_bytes;
}

Series make_series(const SourceRecords& source, const Endpoint& endpoint) {
  const auto& stream = *endpoint.stream;
  Series series{.source = source.source, .end = endpoint.end(), .stream = &stream, .samples = {}, .bytes = {}};
  for (const auto& raw : source.records) {
    const Record record(raw);
    if (!belongs(record, endpoint) || !record.time_ns()) continue;
    if (source.source == SourceId::kGetsockopt && raw.source != TCPINFO_SOURCE_GETSOCKOPT) continue;
    Sample sample{&raw, time_of(&raw), time_of(&raw)};
    sample.ended = has_ended(record);
    fill_ledger(sample, series.end, endpoint.cookie_bytes());
    series.samples.push_back(sample);
  }
  std::stable_sort(series.samples.begin(), series.samples.end(),
                   [](const Sample& a, const Sample& b) { return a.earliest < b.earliest; });
  if (!series.samples.empty()) series.cookie = series.samples.back().raw->cookie;
  // The sweep stamps a reading before it reads, without the socket's lock and with interrupts on: anything may happen
  // in between, but it is done when the next one begins. inet_diag stamps after the kernel has read, and asks when it
  // is done with the dump before; iperf3's answers are stamped so too, and its one thread asks one thing at a time. The
  // callbacks of sockops and, from v5.15 on, iter/tcp (net/ipv4/tcp_ipv4.c bpf_iter_tcp_seq_show(): lock_sock()) stamp
  // and read while the socket is locked: what others read with the lock is wholly before or wholly after.
  auto& samples = series.samples;
  if (source.source == SourceId::kInetDiag || source.source == SourceId::kGetsockopt) {
    for (std::size_t i = 0; i < samples.size(); ++i) samples[i].earliest = i > 0 ? samples[i - 1].latest : -kUnbounded;
  } else {
    Time next = kUnbounded;
    for (auto sample = samples.rbegin(); sample != samples.rend(); ++sample) {
      if (sample->raw->swept == 0) continue;
      sample->latest = next;
      next = sample->earliest;
    }
  }
  series.threaded = endpoint.threaded;
  Value total = 0;
  for (const auto& interval : stream.intervals)
    series.bytes.push_back(total += static_cast<Value>(interval.value("bytes").value_or(0)));
  return series;
}

std::optional<Value> number(const tcpinfo_record* record, Field field) {
  const auto value = Record(*record).number(field);
  return value ? std::optional(static_cast<Value>(*value)) : std::nullopt;
}

bool is_moved_by_clock(Field field) {
  constexpr std::array kFields{Field::last_data_sent, Field::last_data_recv, Field::last_ack_recv, Field::busy_time,
                               Field::rwnd_limited,   Field::sndbuf_limited, Field::total_rto_time};
  return std::find(kFields.begin(), kFields.end(), field) != kFields.end();
}

bool is_moved_by_application(Field field) {
  constexpr std::array kFields{Field::notsent_bytes, Field::rcv_space, Field::rcv_ssthresh, Field::rcv_wnd};
  return std::find(kFields.begin(), kFields.end(), field) != kFields.end();
}

bool is_monotone(const FieldInfo& field) { return field.kind == Kind::counter; }

bool is_still(const tcpinfo_record* a, const tcpinfo_record* b) {
  for (const auto& field : tcpinfo::fields()) {
    if (field.kind != Kind::counter || is_moved_by_clock(field.field) || field.field == Field::skmem_drops) continue;
    const auto one = number(a, field.field), other = number(b, field.field);
    if (one && other && *one != *other) return false;
  }
  return true;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Comparison begin(SourceId source, End end, const FieldInfo& field, std::string method) {
  Comparison comparison;
  comparison.source = name(source);
  comparison.field = field.name;
  comparison.iperf3 = field.iperf3;
  comparison.rule = name(field.rule);
  comparison.method = std::move(method);
  comparison.end = describe(end);
  comparison.unit = field.rule == Rule::times_snd_mss ? "bytes" : name(field.unit);
  return comparison;
}

void count(Comparison& comparison, Value low, Value high, Value value, const std::string& where) {
  const auto difference = outside(low, high, value);
  ++comparison.compared;
  comparison.agreed += difference == 0;
  comparison.largest_difference = std::max(comparison.largest_difference, static_cast<double>(difference));
  if (difference == 0 || comparison.first.size()) return;
  comparison.first = low == high ? fmt::format("{} and not {}, {}", value, low, where)
                                 : fmt::format("{} and not in [{}, {}], {}", value, low, high, where);
}

Tally::Row& Tally::row(const FieldInfo& field) {
  auto [at, is_new] = rows_.try_emplace(field.field);
  auto& comparison = at->second.comparison;
  if (is_new) {
    comparison = begin(source_, end_, field, method_);
    comparison.iperf3.clear();
    comparison.rule = "none";
    comparison.unit = name(field.unit);
  }
  return at->second;
}

bool Tally::count(const FieldInfo& field, Value low, Value high, std::optional<Value> value,
                  const tcpinfo_record* record, const Iperf3Stream& stream) {
  auto& [comparison, widths] = row(field);
  if (low > -kUnbounded && high < kUnbounded) widths.push_back(static_cast<double>(high - low));
  const auto difference = value ? outside(low, high, *value) : 0;
  if (value && difference == 0) {
    ++comparison.compared;
    ++comparison.agreed;
    return true;
  }
  const auto bound = [](Value limit) {
    return limit <= -kUnbounded || limit >= kUnbounded ? std::string("any") : std::to_string(limit);
  };
  comparison.largest_difference = std::max(comparison.largest_difference, static_cast<double>(difference));
  const auto ours = value ? std::to_string(*value) : "absent";
  count(field, false,
        low == high ? fmt::format("{} and not {}", ours, low)
                    : fmt::format("{} and not in [{}, {}]", ours, bound(low), bound(high)),
        record, stream);
  return false;
}

void Tally::count(const FieldInfo& field, bool agrees, std::string_view what, const tcpinfo_record* record,
                  const Iperf3Stream& stream) {
  auto& comparison = row(field).comparison;
  ++comparison.compared;
  comparison.agreed += agrees;
  if (!agrees && comparison.first.empty())
    comparison.first = fmt::format("{}, at {} ns of {}", what, record->time_ns, describe(stream));
}

void Tally::control(const FieldInfo& field, bool agrees) { row(field).comparison.control_agreed += agrees; }

std::vector<Comparison> Tally::done() {
  std::vector<Comparison> result;
  for (auto& [field, row] : rows_) {
    auto& comparison = row.comparison;
    if (comparison.compared == 0) continue;
    comparison.median_window = median(std::move(row.widths));
    comparison.passed = comparison.agreed == comparison.compared;
    result.push_back(std::move(comparison));
  }
  rows_.clear();
  return result;
}

}  // namespace validation
