// SPDX-License-Identifier: BSD-2-Clause
#include "series.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>

namespace plot {
namespace {

using tcpinfo::Field;
using tcpinfo::FieldInfo;
using tcpinfo::Record;
using tcpinfo::Rule;

/// iperf3 3.12 src/iperf.h COOKIE_SIZE: each data stream begins with it, and iperf3 does not count it.
constexpr double kCookieBytes = 37;

/// A column of a picture of one panel: fewer than its 1,000 pixels, as a mark is some pixels wide.
constexpr std::size_t kColumns = 500;

enum class Side { kSender, kReceiver };

bool is_at(const Endpoint& endpoint, const tcpinfo_address& address, std::uint16_t port) {
  return endpoint.port == port && std::memcmp(&endpoint.address, &address, sizeof(address)) == 0;
}

bool belongs(const Record& record, const Endpoint& local, const Endpoint& peer) {
  const auto local_address = record.local_address(), peer_address = record.peer_address();
  const auto local_port = record.local_port(), peer_port = record.peer_port();
  return local_address && peer_address && local_port && peer_port && is_at(local, *local_address, *local_port) &&
         is_at(peer, *peer_address, *peer_port);
}

/// One socket's records of one source, in the order of time.
using Readings = std::vector<const tcpinfo_record*>;

Readings readings(std::span<const tcpinfo_record> records, const Stream& stream, Side side) {
  const auto& local = side == Side::kSender ? stream.sender : stream.receiver;
  const auto& peer = side == Side::kSender ? stream.receiver : stream.sender;
  Readings found;
  for (const auto& raw : records) {
    const Record record(raw);
    if (record.time_ns() && belongs(record, local, peer)) found.push_back(&raw);
  }
  std::ranges::stable_sort(found, {}, [](const tcpinfo_record* r) { return *Record(*r).time_ns(); });
  return found;
}

double seconds(const Record& record, const Run& run) {
  return static_cast<double>(static_cast<std::int64_t>(*record.time_ns() - run.start_boot_ns)) / 1e9;
}

std::optional<double> number(const Record& record, Field field) {
  const auto value = record.number(field);
  return value ? std::optional<double>(static_cast<double>(*value)) : std::nullopt;
}

/// The value of a row in the unit of its picture: seconds, bytes, a number.
std::optional<double> value(const Record& record, const FieldInfo& row) {
  const auto plain = number(record, row.field);
  if (!plain) return std::nullopt;
  switch (row.rule) {
    case Rule::times_snd_mss: {
      const auto mss = number(record, Field::snd_mss);
      return mss ? std::optional<double>(*plain * *mss) : std::nullopt;
    }
    case Rule::ledger: {
      if (row.field == Field::bytes_received) return std::max(0.0, *plain - kCookieBytes);
      const auto retransmitted = number(record, Field::bytes_retrans), waiting = number(record, Field::notsent_bytes);
      if (!retransmitted || !waiting) return std::nullopt;
      return std::max(0.0, *plain - *retransmitted + *waiting - kCookieBytes);
    }
    case Rule::none:
    case Rule::equal:
    case Rule::delta:
      break;
  }
  return row.unit == tcpinfo::Unit::us ? *plain / 1e6 : *plain;
}

Dimension dimension(const FieldInfo& row) {
  using tcpinfo::Unit;
  if (row.rule == Rule::times_snd_mss || row.unit == Unit::bytes) return Dimension::kBytes;
  return row.unit == Unit::us ? Dimension::kSeconds : Dimension::kNumber;
}

std::vector<Point> from_records(const Readings& records, const FieldInfo& row, const Run& run) {
  std::vector<Point> points;
  points.reserve(records.size());
  for (const auto* raw : records) {
    const Record record(*raw);
    // After the end a gauge tells nothing of the path, a counter has its final total.
    if (row.kind == tcpinfo::Kind::gauge && record.event() == TCPINFO_EVENT_CLOSE) continue;
    if (const auto v = value(record, row)) points.push_back({.time_s = seconds(record, run), .value = *v});
  }
  return points;
}

std::vector<Point> from_iperf3(const std::vector<Interval>& intervals, const FieldInfo& row) {
  std::vector<Point> points;
  double sum = 0;
  for (const auto& interval : intervals) {
    std::optional<double> v;
    if (row.rule == Rule::ledger) {
      if (interval.bytes) v = sum += static_cast<double>(*interval.bytes);
    } else if (const auto found = interval.values.find(row.field); found != interval.values.end()) {
      v = row.rule == Rule::delta ? sum += found->second : found->second;
      if (row.unit == tcpinfo::Unit::us) *v /= 1e6;
    }
    if (v) points.push_back({.time_s = interval.end_s, .value = *v});
  }
  return points;
}

std::vector<Point> rates_from_iperf3(const std::vector<Interval>& intervals) {
  std::vector<Point> points;
  for (const auto& interval : intervals) {
    const double length = interval.end_s - interval.start_s;
    if (!interval.bytes || length <= 0) continue;
    points.push_back({.time_s = (interval.start_s + interval.end_s) / 2,
                      .value = static_cast<double>(*interval.bytes) * 8 / length,
                      .half_s = length / 2});
  }
  return points;
}

std::vector<double> retransmissions(const Readings& records, const Run& run) {
  std::vector<double> times;
  std::uint32_t before = 0;
  for (const auto* raw : records) {
    const Record record(*raw);
    const auto total = record.total_retrans();
    if (!total) continue;
    if (*total > before) times.push_back(seconds(record, run));
    before = *total;
  }
  return times;
}

std::vector<Transition> transitions(const Readings& records, const Run& run) {
  std::vector<Transition> found;
  std::optional<std::uint8_t> before;
  for (const auto* raw : records) {
    const Record record(*raw);
    const auto state = record.state();
    if (!state) continue;
    if (before && *before != *state)
      found.push_back({.time_s = seconds(record, run), .state = std::string(tcpinfo::state_name(*state))});
    before = *state;
  }
  return found;
}

std::string upper_first(std::string_view text) {
  std::string result(text);
  if (!result.empty() && result[0] >= 'a' && result[0] <= 'z') result[0] = static_cast<char>(result[0] - 'a' + 'A');
  return result;
}

std::string endpoint_text(const Endpoint& endpoint, bool with_port) {
  const auto address = tcpinfo::to_string(endpoint.address);
  if (!with_port) return address;
  return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, endpoint.port)
                                                : fmt::format("[{}]:{}", address, endpoint.port);
}

std::string family_text(const Endpoint& endpoint) {
  return tcpinfo_address_is_ipv4(&endpoint.address) ? "IPv4" : "IPv6";
}

std::string where(const Run& run, Side side) {
  const auto& first = run.streams.front();
  const bool one = run.streams.size() == 1;
  std::string text;
  if (run.verdict && !run.verdict->title.empty()) {
    text = run.verdict->title;
  } else {
    text = family_text(first.sender);
    if (!one) text += fmt::format(", {} streams", run.streams.size());
    if (!run.congestion_control.empty()) text += ", " + run.congestion_control;
  }
  return fmt::format("{}; {} → {}; read at the {}", text, endpoint_text(first.sender, one),
                     endpoint_text(first.receiver, one), side == Side::kSender ? "sender" : "receiver");
}

/// The right end of the time axis: that of the test, and a little more where records follow it.
double end_of_axis(const Run& run) {
  double end = 0;
  for (const auto& stream : run.streams)
    for (const auto* intervals : {&stream.sent, &stream.received})
      if (!intervals->empty()) end = std::max(end, intervals->back().end_s);
  double last = 0;
  for (const auto* records : {&run.sockops, &run.inet_diag})
    for (const auto& raw : *records)
      if (Record(raw).time_ns()) last = std::max(last, seconds(Record(raw), run));
  if (end <= 0) return last > 0 ? last : 1;
  return std::min(std::max(end, last), end * 1.04);
}

/// The part of a series that the axis shows.
void crop(std::vector<Point>& points, double end_s) {
  std::erase_if(points, [&](const Point& p) { return p.time_s < -0.02 * end_s || p.time_s > end_s; });
}

/// A stream's sockets in both sources, looked up once for all pictures.
struct Sockets {
  std::array<Readings, 2> sockops;
  std::array<Readings, 2> inet_diag;
};

/// A quarter of iperf3's interval, but long enough for several of the blocks that iperf3 writes.
double rate_window_s(const Run& run) {
  std::vector<double> lengths;
  for (const auto& stream : run.streams)
    for (const auto& i : stream.sent) lengths.push_back(i.end_s - i.start_s);
  if (lengths.empty()) return 0.1;
  std::ranges::nth_element(lengths, lengths.begin() + static_cast<std::ptrdiff_t>(lengths.size() / 2));
  return std::clamp(std::round(lengths[lengths.size() / 2] * 100) / 400, 0.1, 1.0);
}

void add_series(Panel& panel, Picture& picture, Origin origin, std::vector<Point> points, std::size_t columns) {
  crop(points, picture.end_s);
  const auto all = points.size();
  panel.series.push_back({.origin = origin, .points = thin(points, columns), .readings = all});
}

Picture make_picture(const Run& run, const FieldInfo& row, const std::vector<Sockets>& sockets, bool as_rate,
                     double end_s) {
  const Side side = row.field == Field::bytes_received ? Side::kReceiver : Side::kSender;
  const auto at = static_cast<std::size_t>(side);
  Picture picture;
  picture.end_s = end_s;
  picture.is_rate = as_rate;
  picture.at_receiver = side == Side::kReceiver;
  picture.dimension = as_rate ? Dimension::kBitsPerSecond : dimension(row);
  picture.subtitle = fmt::format("{}: {}", run.name, where(run, side));
  const std::string what(row.description.substr(0, row.description.find(';')));
  if (as_rate) {
    picture.name = side == Side::kSender ? "throughput" : "throughput_received";
    picture.title = side == Side::kSender ? "Throughput of the sender" : "Throughput at the receiver";
    picture.axis = "Throughput";
  } else {
    picture.name = row.name;
    picture.axis = std::string(row.name);
    picture.title = fmt::format("{} ({})", what, row.name);
    if (row.rule == Rule::equal) {
      picture.title = what.find('(') == std::string::npos ? picture.title : what;
    } else if (row.rule == Rule::delta) {
      picture.title = fmt::format("{}, since the start ({})", what.substr(0, what.find(',')), row.name);
      picture.axis = upper_first(tcpinfo::name(row.unit));
    } else if (row.rule == Rule::times_snd_mss) {
      picture.title = fmt::format("{} ({} × snd_mss)", what, row.name);
    } else if (side == Side::kSender) {
      picture.title = "Bytes sent since the start";
      picture.axis = "Bytes sent";
      picture.notes.push_back(
          fmt::format("bytes_sent − bytes_retrans + notsent_bytes − {} for the cookie of the stream", kCookieBytes));
    } else {
      picture.title = "Bytes received since the start";
      picture.axis = "Bytes received";
      picture.notes.push_back(fmt::format("bytes_received − {} for the cookie of the stream", kCookieBytes));
    }
  }

  const auto shown = std::min(run.streams.size(), kPanelsMax);
  const auto columns = shown <= 3 ? kColumns : shown <= 8 ? kColumns / 2 : kColumns / 3;
  const double window_s = rate_window_s(run);
  for (std::size_t i = 0; i < shown; ++i) {
    const auto& stream = run.streams[i];
    Panel panel;
    if (run.streams.size() > 1)
      panel.title = fmt::format("stream {}, port {} → {}", i + 1, stream.sender.port, stream.receiver.port);
    auto add_records = [&](Origin origin, const Readings& records) {
      auto points = from_records(records, row, run);
      if (as_rate) points = rates(points, window_s);
      add_series(panel, picture, origin, std::move(points), columns);
    };
    add_records(Origin::kEbpf, sockets[i].sockops[at]);
    add_records(Origin::kNetlink, sockets[i].inet_diag[at]);
    const auto& intervals = side == Side::kSender ? stream.sent : stream.received;
    add_series(panel, picture, Origin::kIperf3, as_rate ? rates_from_iperf3(intervals) : from_iperf3(intervals, row),
               columns);
    if (side == Side::kSender && row.rule != Rule::delta)
      panel.retransmissions_s = retransmissions(sockets[i].sockops[at], run);
    panel.transitions = transitions(sockets[i].sockops[at], run);
    std::erase_if(panel.retransmissions_s, [&](double t) { return t > end_s; });
    // The beginning of a connection is where its curves begin.
    std::erase_if(panel.transitions, [&](const Transition& t) { return t.time_s < 0.02 * end_s || t.time_s > end_s; });
    picture.panels.push_back(std::move(panel));
  }

  if (shown < run.streams.size())
    picture.notes.push_back(fmt::format("the first {} of {} streams", shown, run.streams.size()));
  if (as_rate) picture.notes.push_back(fmt::format("eBPF and netlink as means over {:.3g} s", window_s));
  return picture;
}

/// What is below every picture: how many readings it shows, and how sure the time axis is.
void add_counts(Picture& picture, const Run& run) {
  std::array<std::size_t, 3> readings{};
  bool thinned = false;
  for (const auto& panel : picture.panels) {
    for (const auto& series : panel.series) {
      readings[static_cast<std::size_t>(series.origin)] += series.readings;
      thinned |= series.points.size() < series.readings;
    }
  }
  picture.notes.push_back(fmt::format("eBPF {}, netlink {}, iperf3 {} {}", readings[0], readings[1], readings[2],
                                      picture.is_rate ? "means" : "readings"));
  if (thinned) picture.notes.push_back("thinned to the least and greatest of each column");
  picture.notes.push_back(run.uncertainty_s ? fmt::format("clocks aligned to ±{:.2g} ms", *run.uncertainty_s * 1e3)
                                            : std::string("clocks not aligned: 0 is the first record"));
}

}  // namespace

double Picture::maximum() const {
  double result = 0;
  for (const auto& panel : panels)
    for (const auto& one : panel.series)
      for (const auto& point : one.points) result = std::max(result, point.value);
  return result;
}

bool Picture::is_constant() const {
  std::optional<double> first;
  for (const auto& panel : panels)
    for (const auto& one : panel.series)
      for (const auto& point : one.points) {
        if (first && point.value != *first) return false;
        first = point.value;
      }
  return true;
}

Scale scale_for(Dimension dimension, double maximum) {
  static const std::vector<Scale> seconds{{1, "s"}, {1e-3, "ms"}, {1e-6, "µs"}};
  static const std::vector<Scale> bytes{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}, {1, "B"}};
  static const std::vector<Scale> rate{{1e9, "Gbit/s"}, {1e6, "Mbit/s"}, {1e3, "kbit/s"}, {1, "bit/s"}};
  static const std::vector<Scale> number{{1e9, "10⁹"}, {1e6, "10⁶"}, {1, ""}};
  const auto& scales = dimension == Dimension::kSeconds         ? seconds
                       : dimension == Dimension::kBytes         ? bytes
                       : dimension == Dimension::kBitsPerSecond ? rate
                                                                : number;
  for (const auto& scale : scales)
    if (maximum >= scale.divisor) return scale;
  return scales.back();
}

std::vector<Point> thin(std::span<const Point> points, std::size_t columns) {
  if (points.size() <= 2 * columns || columns == 0) return {points.begin(), points.end()};
  const double start = points.front().time_s, length = points.back().time_s - start;
  const auto column = [&](const Point& p) {
    if (length <= 0) return std::size_t{0};
    return std::min(columns - 1, static_cast<std::size_t>((p.time_s - start) / length * static_cast<double>(columns)));
  };
  std::vector<Point> kept{points.front()};
  for (std::size_t begin = 0; begin < points.size();) {
    std::size_t least = begin, greatest = begin, end = begin + 1;
    for (; end < points.size() && column(points[end]) == column(points[begin]); ++end) {
      if (points[end].value < points[least].value) least = end;
      if (points[end].value > points[greatest].value) greatest = end;
    }
    for (const auto i : {std::min(least, greatest), std::max(least, greatest)})
      if (i != 0 && points[i] != kept.back()) kept.push_back(points[i]);
    begin = end;
  }
  if (kept.back() != points.back()) kept.push_back(points.back());
  return kept;
}

std::vector<Point> rates(std::span<const Point> cumulative, double window_s) {
  std::vector<Point> result;
  const Point* from = nullptr;
  for (const auto& to : cumulative) {
    if (!from || to.value < from->value) {
      from = &to;
      continue;
    }
    const double length = to.time_s - from->time_s;
    // Readings come a little early or late: nine tenths of a window are one.
    if (length < 0.9 * window_s || length <= 0) continue;
    result.push_back({.time_s = (from->time_s + to.time_s) / 2,
                      .value = (to.value - from->value) * 8 / length,
                      .half_s = length / 2});
    from = &to;
  }
  return result;
}

std::vector<Picture> pictures(const Run& run) {
  std::vector<Sockets> sockets;
  for (std::size_t i = 0; i < std::min(run.streams.size(), kPanelsMax); ++i) {
    auto& of = sockets.emplace_back();
    for (const auto side : {Side::kSender, Side::kReceiver}) {
      const auto at = static_cast<std::size_t>(side);
      of.sockops[at] = readings(run.sockops, run.streams[i], side);
      of.inet_diag[at] = readings(run.inet_diag, run.streams[i], side);
    }
  }
  const double end_s = end_of_axis(run);
  std::vector<Picture> result;
  for (const auto& row : tcpinfo::fields()) {
    if (row.rule == Rule::none) continue;
    for (const bool as_rate : {true, false}) {
      if (as_rate && row.rule != Rule::ledger) continue;
      auto picture = make_picture(run, row, sockets, as_rate, end_s);
      std::size_t points = 0, of_iperf3 = 0;
      for (const auto& panel : picture.panels)
        for (const auto& one : panel.series) {
          points += one.points.size();
          if (one.origin == Origin::kIperf3) of_iperf3 += one.points.size();
        }
      if (points == 0) continue;
      if (of_iperf3 == 0)
        picture.notes.push_back(
            fmt::format("{} does not report it", run.iperf3_version.empty() ? "iperf3" : run.iperf3_version));
      add_counts(picture, run);
      result.push_back(std::move(picture));
    }
  }
  // Throughput, times, then the others as the table has them; what never changes says least.
  std::ranges::stable_sort(result, {}, [](const Picture& p) {
    return p.is_constant() ? 4 : p.is_rate ? (p.at_receiver ? 1 : 0) : p.dimension == Dimension::kSeconds ? 2 : 3;
  });
  return result;
}

}  // namespace plot
