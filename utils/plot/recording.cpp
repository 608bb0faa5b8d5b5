// SPDX-License-Identifier: BSD-2-Clause
#include "recording.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <compare>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include <tcpinfo/error.hpp>
#include <tcpinfo/json.hpp>
#include <tcpinfo/recording.hpp>

#include "quantity.hpp"

namespace plot {
namespace {

using tcpinfo::Field;
using tcpinfo::FieldInfo;
using tcpinfo::Kind;
using tcpinfo::Record;
using tcpinfo::SourceId;

/// A socket: one end of a connection.
struct Key {
  std::array<std::uint64_t, 4> addresses{};
  std::uint16_t local_port = 0, peer_port = 0;

  auto operator<=>(const Key&) const = default;
};

struct Socket {
  Readings readings;
  std::uint64_t bytes = 0;  ///< that it moved

  std::string name() const {
    const auto& raw = *readings.front();
    return fmt::format("{} → {}", endpoint_text(raw.local_address, raw.local_port),
                       endpoint_text(raw.peer_address, raw.peer_port));
  }
};

/// What one source of one file saw: it looks the same in all charts.
struct Layer {
  Look look = Look::kFile1;
  std::string label;
  Clock clock;
  std::map<Key, Socket> sockets;
};

/// What one chart shows: of each layer a socket or none.
struct Column {
  std::string title;
  std::vector<const Socket*> sockets;
  std::uint64_t bytes = 0;
  std::size_t readings = 0;
};

std::optional<Key> key_of(const Record& record) {
  const auto local = record.local_address(), peer = record.peer_address();
  const auto local_port = record.local_port(), peer_port = record.peer_port();
  if (!local || !peer || !local_port || !peer_port || !record.time_ns()) return std::nullopt;
  return Key{{local->halves[0], local->halves[1], peer->halves[0], peer->halves[1]}, *local_port, *peer_port};
}

struct Times {
  std::uint64_t first = std::numeric_limits<std::uint64_t>::max(), last = 0;
};

Times times_of(const Recording& recording) {
  Times times;
  for (const auto& raw : recording.records)
    if (const auto t = Record(raw).time_ns()) {
      times.first = std::min(times.first, *t);
      times.last = std::max(times.last, *t);
    }
  return times;
}

std::uint64_t lost_of(const Recording& recording) {
  std::uint64_t lost = 0;
  for (const auto& raw : recording.records)
    if (Record(raw).event() == TCPINFO_EVENT_GAP) lost += Record(raw).lost_records().value_or(0);
  return lost;
}

bool overlap(const std::vector<Times>& all) {
  std::uint64_t first = 0, last = std::numeric_limits<std::uint64_t>::max();
  for (const auto& times : all) {
    first = std::max(first, times.first);
    last = std::min(last, times.last);
  }
  return first <= last;
}

std::pair<Look, std::string_view> of_source(SourceId source) {
  switch (source) {
    case SourceId::kSockops:
      return {Look::kSockops, "eBPF (sockops)"};
    case SourceId::kInetDiag:
      return {Look::kInetDiag, "netlink (inet_diag)"};
    case SourceId::kIter:
      return {Look::kIter, "BPF iterator (iter)"};
    case SourceId::kGetsockopt:
      break;
  }
  return {Look::kGetsockopt, "answered (getsockopt)"};
}

SourceId source_of(const Record& record) {
  return static_cast<SourceId>(record.source().value_or(TCPINFO_SOURCE_SOCKOPS));
}

class Maker {
 public:
  Maker(const std::vector<Recording>& recordings, const Selection& selection, std::vector<std::string>& remarks)
      : recordings_(recordings), selection_(selection) {
    std::vector<Times> times;
    std::uint64_t first = std::numeric_limits<std::uint64_t>::max();
    for (const auto& recording : recordings) {
      times.push_back(times_of(recording));
      if (times.back().last == 0)
        throw tcpinfo::Error(tcpinfo::Errc::kMalformed,
                             fmt::format("plot {}: it has no record with time_ns", recording.file.string()),
                             "record it again with all fields, or with time_ns among those of --fields");
      first = std::min(first, times.back().first);
      if (const auto lost = lost_of(recording))
        remarks.push_back(
            fmt::format("{}: {} records were lost; its gap records say when", recording.file.string(), lost));
    }
    by_clock_ = selection.align == Align::kClock || (selection.align == Align::kAuto && overlap(times));
    double end = 0;
    for (std::size_t i = 0; i < recordings.size(); ++i) {
      const Clock clock{by_clock_ ? first : times[i].first};
      end = std::max(end, clock.seconds(times[i].last));
      add_layers(recordings[i], clock);
    }
    from_s_ = selection.from_s.value_or(0);
    to_s_ = std::min(selection.to_s.value_or(end), std::max(end, from_s_));
    if (!(to_s_ > from_s_)) to_s_ = from_s_ + 1e-3;
    if (std::ranges::all_of(layers_, [](const Layer& layer) { return layer.sockets.empty(); }))
      throw tcpinfo::Error(
          std::make_error_code(std::errc::no_message_available), "plot " + names(),
          fmt::format("no record of a connection passes --filter, --from and --to; the records end at {:.3g} s", end));
    // Nothing to be told apart from: the plainest line.
    if (layers_.size() == 1) layers_.front().look = Look::kSockops;
    make_columns(remarks);
  }

  std::optional<Picture> picture(const FieldInfo& row, bool as_rate) const {
    Picture picture;
    picture.name = as_rate ? fmt::format("{}-rate", row.name) : std::string(row.name);
    picture.field = row.name;
    picture.title = title_of(row) + (as_rate ? ", its growth a second" : "");
    picture.subtitle = subtitle();
    picture.x.label = by_clock_ ? "Time since the first record" : "Time since the first record of each file";
    const double room = 0.01 * (to_s_ - from_s_);
    picture.x_from = from_s_ - room;
    picture.x_to = to_s_ + room;
    const double window_s = rate_window_s(to_s_ - from_s_);
    std::size_t readings = 0, drawn = 0;
    const auto told = telling(row);
    const bool all = told.size() <= kConnectionCharts || layers_.size() > 1;
    const std::vector<const Column*> shown(
        told.begin(), told.begin() + static_cast<std::ptrdiff_t>(
                                         std::min(told.size(), all ? kConnectionCharts : kConnectionCharts - 1)));
    for (const auto* column : shown) {
      Chart chart;
      chart.axis = axis_of(row, as_rate);
      if (columns_.size() > 1) chart.title = column->title;
      for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
        const auto* socket = column->sockets[layer];
        if (!socket) continue;
        auto points = curve(*socket, layers_[layer].clock, row, as_rate, window_s);
        readings += points.size();
        const auto thinned = thin(points, kColumns);
        drawn += thinned.size();
        chart.series.push_back({.look = layers_[layer].look,
                                .form = points.size() < 3 ? Form::kMarks
                                        : as_rate         ? Form::kLine
                                                          : Form::kSteps,
                                .label = layers_[layer].label,
                                .points = thinned,
                                .readings = points.size()});
      }
      picture.charts.push_back(std::move(chart));
    }
    if (!all) {
      std::vector<std::vector<Point>> curves;
      for (const auto& [key, socket] : layers_[0].sockets)
        curves.push_back(curve(socket, layers_[0].clock, row, as_rate, window_s));
      auto sum = spread(curves, from_s_, to_s_, kColumns);
      Chart chart;
      chart.title = fmt::format("all {} sockets", layers_[0].sockets.size());
      chart.axis = axis_of(row, as_rate);
      chart.series = {
          {.look = Look::kFile5, .form = Form::kSteps, .label = "least and greatest", .points = std::move(sum.least)},
          {.look = Look::kFile5,
           .form = Form::kSteps,
           .label = "least and greatest",
           .points = std::move(sum.greatest)},
          {.look = Look::kFile2,
           .form = Form::kSteps,
           .label = "median of all sockets",
           .points = std::move(sum.median)}};
      picture.charts.push_back(std::move(chart));
    }
    if (picture.points() == 0) return std::nullopt;
    picture.notes.push_back(fmt::format("{} {}", readings, as_rate ? "means" : "readings"));
    if (as_rate) picture.notes.push_back(fmt::format("over {:.3g} s each", window_s));
    if (drawn < readings) picture.notes.push_back("thinned to the least and greatest of each column");
    if (told.size() < columns_.size())
      picture.notes.push_back(fmt::format("{} of {} sockets have anything but 0", told.size(), columns_.size()));
    if (shown.size() < told.size())
      picture.notes.push_back(fmt::format("the {} of {} sockets that moved most bytes{}", shown.size(), told.size(),
                                          all ? "" : ", and all together"));
    add_lanes(picture, shown);
    return picture;
  }

 private:
  std::string names() const {
    std::vector<std::string> all;
    for (const auto& recording : recordings_) all.push_back(recording.file.string());
    return fmt::format("{}", fmt::join(all, ", "));
  }

  std::string subtitle() const {
    std::string text = names();
    if (columns_.size() == 1 && !columns_.front().title.empty()) text += "; " + columns_.front().title;
    return text;
  }

  void add_layers(const Recording& recording, const Clock& clock) {
    std::map<SourceId, Layer> layers;
    for (const auto& raw : recording.records) {
      const Record record(raw);
      const auto key = key_of(record);
      if (!key || !selection_.filter.matches(raw.local_address, raw.local_port, raw.peer_address, raw.peer_port))
        continue;
      const double at = clock.seconds(raw);
      if (at < selection_.from_s.value_or(at) || at > selection_.to_s.value_or(at)) continue;
      auto& socket = layers[source_of(record)].sockets[*key];
      socket.readings.push_back(&raw);
      socket.bytes = std::max(socket.bytes, record.bytes_acked().value_or(0) + record.bytes_received().value_or(0));
    }
    for (auto& [source, layer] : layers) {
      for (auto& [key, socket] : layer.sockets)
        std::ranges::stable_sort(socket.readings, {}, [](const tcpinfo_record* r) { return r->time_ns; });
      layer.clock = clock;
      const auto [look, label] = of_source(source);
      layer.look = look;
      layer.label = label;
      if (recordings_.size() > 1) {
        const auto next =
            static_cast<std::size_t>(Look::kFile1) + layers_.size() % (kLooks - static_cast<std::size_t>(Look::kFile1));
        layer.look = static_cast<Look>(next);
        layer.label = layers.size() == 1 ? recording.label : fmt::format("{}, {}", recording.label, label);
      }
      layers_.push_back(std::move(layer));
    }
    if (layers.empty())
      layers_.push_back({.look = Look::kFile1, .label = recording.label, .clock = clock, .sockets = {}});
  }

  void make_columns(std::vector<std::string>& remarks) {
    std::map<Key, Column> shared;
    bool is_shared = layers_.size() == 1;
    for (std::size_t i = 0; i < layers_.size(); ++i)
      for (const auto& [key, socket] : layers_[i].sockets) {
        auto& column = shared[key];
        column.sockets.resize(layers_.size());
        is_shared |= column.readings > 0;
        column.sockets[i] = &socket;
        column.bytes = std::max(column.bytes, socket.bytes);
        column.readings += socket.readings.size();
        column.title = socket.name();
      }
    const auto by_weight = [](const Column& a, const Column& b) {
      return std::pair(a.bytes, a.readings) > std::pair(b.bytes, b.readings);
    };
    if (is_shared) {
      for (auto& [key, column] : shared) columns_.push_back(std::move(column));
      std::ranges::stable_sort(columns_, by_weight);
      return;
    }
    // Different runs: the connections of the same rank belong together.
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      std::vector<const Socket*> ranked;
      for (const auto& [key, socket] : layers_[i].sockets) ranked.push_back(&socket);
      std::ranges::stable_sort(ranked, [](const Socket* a, const Socket* b) {
        return std::pair(a->bytes, a->readings.size()) > std::pair(b->bytes, b->readings.size());
      });
      for (std::size_t rank = 0; rank < ranked.size(); ++rank) {
        if (rank >= columns_.size()) columns_.emplace_back().sockets.resize(layers_.size());
        columns_[rank].sockets[i] = ranked[rank];
        columns_[rank].title = fmt::format("of each file the socket that moved most bytes, number {}", rank + 1);
      }
    }
    remarks.push_back(
        "The files have no socket in common: those that moved most bytes are laid over each other (--filter chooses "
        "others)");
  }

  std::vector<Point> curve(const Socket& socket, const Clock& clock, const FieldInfo& row, bool as_rate,
                           double window_s) const {
    auto points = points_of(socket.readings, row, clock);
    if (as_rate) {
      points = rates(points, window_s);
      for (auto& p : points) p.y *= rate_factor(row);
    }
    return points;
  }

  /// The sockets of which a field has anything but 0, which says little in a chart of its own; all if none has.
  std::vector<const Column*> telling(const FieldInfo& row) const {
    std::vector<const Column*> all, found;
    for (const auto& column : columns_) {
      all.push_back(&column);
      if (std::ranges::any_of(column.sockets, [&](const Socket* socket) {
            return socket && std::ranges::any_of(socket->readings, [&](const tcpinfo_record* raw) {
                     return value_of(Record(*raw), row).value_or(0) != 0;
                   });
          }))
        found.push_back(&column);
    }
    return found.empty() ? all : found;
  }

  void add_lanes(Picture& picture, const std::vector<const Column*>& shown) const {
    Chart chart;
    for (std::size_t i = 0; i < shown.size(); ++i)
      for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
        if (!shown[i]->sockets[layer]) continue;
        auto lane = lane_of(shown[i]->sockets[layer]->readings, layers_[layer].clock, from_s_, to_s_);
        if (lane.recoveries.empty() && lane.retransmissions_s.empty() && lane.transitions.empty()) continue;
        // The left margin has room for a short word.
        lane.label = shown.size() == 1 && layers_.size() == 1 ? "events"
                     : layers_.size() == 1                    ? fmt::format("chart {}", i + 1)
                     : shown.size() == 1                      ? layers_[layer].label.substr(0, 11)
                                         : fmt::format("{}: {}", i + 1, layers_[layer].label.substr(0, 8));
        chart.lanes.push_back(std::move(lane));
      }
    if (!chart.lanes.empty() && chart.lanes.size() <= 8) picture.charts.push_back(std::move(chart));
  }

  const std::vector<Recording>& recordings_;
  const Selection& selection_;
  bool by_clock_ = true;
  double from_s_ = 0, to_s_ = 1;
  std::vector<Layer> layers_;
  std::vector<Column> columns_;
};

struct Usual {
  Field field;
  bool as_rate;
};
/// What tells most of a connection, the most telling first.
constexpr Usual kUsual[] = {{Field::bytes_sent, true},     {Field::bytes_received, true}, {Field::rtt, false},
                            {Field::snd_cwnd, false},      {Field::total_retrans, false}, {Field::delivery_rate, false},
                            {Field::unacked, false},       {Field::rwnd_limited, true},   {Field::sndbuf_limited, true},
                            {Field::notsent_bytes, false}, {Field::rttvar, false},        {Field::rcv_rtt, false},
                            {Field::pacing_rate, false},   {Field::min_rtt, false},       {Field::lost, false},
                            {Field::snd_wnd, false},       {Field::rcv_wnd, false},       {Field::rto, false}};

/// Whether it begins as a zstd frame does, and so as the files of tcpinfo record.
bool is_compressed(const std::filesystem::path& path) {
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof(magic));
  return std::string_view(magic, sizeof(magic)) == "\x28\xb5\x2f\xfd";
}

}  // namespace

Recording read_recording(std::string_view argument) {
  Recording recording;
  recording.file = argument;
  std::error_code ignored;
  if (const auto at = argument.find('=');
      at != std::string_view::npos && !std::filesystem::exists(recording.file, ignored)) {
    recording.label = argument.substr(0, at);
    recording.file = argument.substr(at + 1);
  } else {
    recording.label = recording.file.stem().string();
  }
  if (!is_compressed(recording.file)) {
    recording.records = tcpinfo::read_json_lines(recording.file, &recording.truncated);
    return recording;
  }
  tcpinfo::RecordingReader reader(recording.file);
  while (const auto record = reader.next()) recording.records.push_back(record->raw());
  if (reader.error()) throw tcpinfo::Error(reader.error(), "read " + recording.file.string(), {});
  recording.truncated = reader.cut_off();
  return recording;
}

std::vector<Picture> pictures(const std::vector<Recording>& recordings, const Selection& selection,
                              std::vector<std::string>& remarks) {
  const Maker maker(recordings, selection, remarks);
  std::vector<Picture> result, constant;
  if (selection.fields.empty()) {
    for (const auto& one : kUsual) {
      const auto& row = tcpinfo::info(one.field);
      if (auto picture = maker.picture(row, one.as_rate || (selection.as_rates && row.kind == Kind::counter)))
        (picture->is_constant() ? constant : result).push_back(std::move(*picture));
      if (result.size() == kUsualPictures) break;
    }
    // What never changes says least, but more than nothing.
    if (result.empty()) std::swap(result, constant);
  }
  for (const auto field : selection.fields) {
    const auto& row = tcpinfo::info(field);
    if (auto picture = maker.picture(row, selection.as_rates && row.kind == Kind::counter))
      result.push_back(std::move(*picture));
    else
      remarks.push_back(
          fmt::format("No record has {}: its kernel or its source does not give it, or it was not recorded", row.name));
  }
  if (result.empty())
    throw tcpinfo::Error(
        std::make_error_code(std::errc::no_message_available), "plot " + recordings.front().file.string(),
        selection.fields.empty() ? "it has none of the usual fields; name some with --field"
                                 : "no record has a field of --field; tcpinfo fields tells which source has which");
  return result;
}

}  // namespace plot
