// SPDX-License-Identifier: BSD-2-Clause
#include "run_pictures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <optional>
#include <utility>

#include "answers.hpp"
#include "quantity.hpp"

namespace plot {
namespace {

using tcpinfo::Field;
using tcpinfo::FieldInfo;
using tcpinfo::Record;
using tcpinfo::Rule;
using tcpinfo::SourceId;

enum class Side : std::uint8_t { kSender, kReceiver };

struct SourceLook {
  SourceId source;
  Look look;
  std::string_view label, brief;
};
constexpr std::array<SourceLook, 3> kSources{{{SourceId::kSockops, Look::kSockops, "eBPF (sockops)", "eBPF"},
                                              {SourceId::kInetDiag, Look::kInetDiag, "netlink (inet_diag)", "netlink"},
                                              {SourceId::kIter, Look::kIter, "BPF iterator (iter)", "iterator"}}};
constexpr std::string_view kTwin = "eBPF at the answer's moment";

/// What is known of one end of a stream, looked up once for all pictures.
struct End {
  const StreamEnd* stream = nullptr;
  double cookie_bytes = 0;
  std::array<validation::Series, kSources.size()> samples;
  validation::Answers answers;

  Readings readings(std::size_t source) const {
    Readings result;
    for (const auto& sample : samples[source].samples) result.push_back(sample.raw);
    return result;
  }
};

class Ends {
 public:
  explicit Ends(const Run& run) : run_(run) {
    for (const auto& stream : run.streams) {
      senders_.push_back(make(stream.sender, stream.client_sends, stream.client_sends));
      receivers_.push_back(make(stream.receiver, !stream.client_sends, stream.client_sends));
    }
  }
  const std::vector<End>& of(Side side) const { return side == Side::kSender ? senders_ : receivers_; }

 private:
  /// `connects`: this end is that of iperf3's client, which sent its cookie.
  End make(const StreamEnd& stream, bool connects, bool client_sends) const {
    End end;
    end.stream = &stream;
    end.cookie_bytes = client_sends ? static_cast<double>(validation::kCookieBytes) : 0;
    const validation::Endpoint endpoint{&stream.iperf3, connects, stream.threaded, {}};
    for (std::size_t i = 0; i < kSources.size(); ++i)
      end.samples[i] = validation::make_series(records(kSources[i].source), endpoint);
    end.answers = validation::find_answers(records(SourceId::kGetsockopt), endpoint, stream.side_sends);
    return end;
  }

  validation::SourceRecords records(SourceId source) const {
    const auto found = run_.records.find(source);
    if (found == run_.records.end()) return {source, {}};
    return {source, found->second};
  }

  const Run& run_;
  std::vector<End> senders_, receivers_;
};

/// What one picture is of.
struct Subject {
  const FieldInfo* row = nullptr;
  Side side = Side::kSender;
  bool as_rate = false;
};

/// The value of a row in the unit of its picture; where iperf3 has a figure, what that is made of.
std::optional<double> value(const Record& record, const Subject& subject, const End& end) {
  const auto& row = *subject.row;
  if (row.kind == tcpinfo::Kind::gauge && record.event() == TCPINFO_EVENT_CLOSE) return std::nullopt;
  const auto plain = value_of(record, row);
  if (!plain) return std::nullopt;
  switch (row.rule) {
    case Rule::times_snd_mss: {
      const auto mss = record.snd_mss();
      return mss ? std::optional<double>(*plain * *mss) : std::nullopt;
    }
    case Rule::ledger: {
      if (row.field == Field::bytes_received) return std::max(0.0, *plain - end.cookie_bytes);
      const auto written = validation::written_bytes(record, static_cast<validation::Value>(end.cookie_bytes));
      return written ? std::optional<double>(std::max(0.0, static_cast<double>(*written))) : std::nullopt;
    }
    case Rule::none:
    case Rule::equal:
    case Rule::delta:
      break;
  }
  return plain;
}

Axis axis(const Subject& subject) {
  auto axis = axis_of(*subject.row, subject.as_rate);
  if (subject.row->rule == Rule::times_snd_mss) axis.dimension = Dimension::kBytes;
  return axis;
}

bool is_cumulative(const FieldInfo& row) { return row.rule == Rule::delta || row.rule == Rule::ledger; }

/// iperf3's figure of one interval, in the unit of the picture.
std::optional<double> figure(const Interval& interval, const FieldInfo& row) {
  if (row.rule == Rule::ledger)
    return interval.bytes ? std::optional<double>(static_cast<double>(*interval.bytes)) : std::nullopt;
  const auto found = interval.values.find(row.field);
  if (found == interval.values.end()) return std::nullopt;
  return row.unit == tcpinfo::Unit::us ? found->second / 1e6 : found->second;
}

std::vector<Point> from_iperf3(const StreamEnd& end, const Subject& subject) {
  std::vector<Point> points;
  double sum = 0;
  for (const auto& interval : end.intervals) {
    const auto v = figure(interval, *subject.row);
    if (!v) continue;
    const double length = interval.end_s - interval.start_s;
    if (subject.as_rate) {
      // iperf3's last interval may be of a fraction of a millisecond, whose rate would tell nothing.
      if (length > 0.01)
        points.push_back({.x = (interval.start_s + interval.end_s) / 2,
                          .y = *v / length * rate_factor(*subject.row),
                          .half = length / 2});
    } else {
      points.push_back({.x = interval.end_s, .y = is_cumulative(*subject.row) ? sum += *v : *v});
    }
  }
  return points;
}

/// A quarter of iperf3's interval, but long enough for several of the blocks that iperf3 writes.
double window_s(const Run& run) {
  std::vector<double> lengths;
  for (const auto& stream : run.streams)
    for (const auto& i : stream.sender.intervals) lengths.push_back(i.end_s - i.start_s);
  if (lengths.empty()) return 0.1;
  std::ranges::nth_element(lengths, lengths.begin() + static_cast<std::ptrdiff_t>(lengths.size() / 2));
  return std::clamp(std::round(lengths[lengths.size() / 2] * 100) / 400, 0.1, 1.0);
}

/// The right end of the time axis: that of the test, and a little more where records follow it.
double end_of_axis(const Run& run, const Clock& clock) {
  double end = 0, last = 0;
  for (const auto& stream : run.streams)
    for (const auto* side : {&stream.sender, &stream.receiver})
      if (!side->intervals.empty()) end = std::max(end, side->intervals.back().end_s);
  for (const auto& [source, records] : run.records)
    for (const auto& raw : records)
      if (Record(raw).time_ns()) last = std::max(last, clock.seconds(raw));
  if (end <= 0) return last > 0 ? last : 1;
  return std::min(std::max(end, last), end * 1.04);
}

std::string with_commas(std::size_t value) {
  auto digits = std::to_string(value);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

/// Whether no packet came or went between two readings of a socket. What only the clock moves is no sign of one.
bool is_of_one_moment(const tcpinfo_record& a, const tcpinfo_record& b) {
  const Record one(a), other(b);
  return std::ranges::none_of(tcpinfo::fields(), [&](const FieldInfo& row) {
    if (row.kind != tcpinfo::Kind::counter || row.unit == tcpinfo::Unit::us || row.unit == tcpinfo::Unit::ms)
      return false;
    const auto x = one.number(row.field), y = other.number(row.field);
    return x && y && *x != *y;
  });
}

class Maker {
 public:
  explicit Maker(const Run& run)
      : run_(run), ends_(run), clock_{run.start_boot_ns}, end_s_(end_of_axis(run, clock_)), window_s_(window_s(run)) {}

  Picture picture(const Subject& subject) const {
    Picture picture;
    name(picture, subject);
    picture.x_from = -0.01 * end_s_;
    picture.x_to = end_s_ * 1.02;
    const auto& ends = ends_.of(subject.side);
    const bool all = ends.size() <= kStreamCharts;
    const auto shown = all ? ends.size() : kStreamCharts - 1;
    for (std::size_t i = 0; i < shown; ++i) picture.charts.push_back(chart(subject, i));
    if (!all)
      if (auto chart = summary(subject); !chart.series.front().points.empty())
        picture.charts.push_back(std::move(chart));
    add_notes(picture, subject, shown);
    return picture;
  }

  /// How far samples of all streams are from the answers, by who read them.
  std::vector<Series> differences(const Subject& subject) const {
    std::vector<Series> result;
    for (std::size_t source = 0; source < kSources.size(); ++source)
      result.push_back({.look = kSources[source].look,
                        .form = Form::kMarks,
                        .label = std::string(kSources[source].label),
                        .points = {}});
    // A look that nothing else in this picture has.
    Series twins{.look = Look::kFile5, .form = Form::kMarks, .label = std::string(kTwin), .points = {}};
    Series iperf3{.look = Look::kIperf3, .form = Form::kMarks, .label = "iperf3", .points = {}};
    for (const auto& end : ends_.of(subject.side)) {
      const auto reference = points(end.answers.all, subject, end);
      for (std::size_t source = 0; source < kSources.size(); ++source) {
        std::vector<Sampled> samples;
        for (const auto& sample : end.samples[source].samples)
          if (const auto v = value(sample.record(), subject, end))
            samples.push_back({.time_s = clock_.seconds(*sample.raw),
                               .earliest_s = seconds(sample.earliest),
                               .latest_s = seconds(sample.latest),
                               .value = *v});
        std::ranges::move(plot::differences(samples, reference), std::back_inserter(result[source].points));
      }
      for (std::size_t i = 0; i < end.answers.twins.size(); ++i) {
        // Counters are what tells that both are of one moment: they say nothing more.
        if (subject.row->kind == tcpinfo::Kind::counter || !end.answers.twins[i] ||
            !is_of_one_moment(*end.answers.twins[i], *end.answers.all[i]))
          continue;
        const auto ours = value_of(Record(*end.answers.twins[i]), *subject.row),
                   theirs = value_of(Record(*end.answers.all[i]), *subject.row);
        if (ours && theirs) twins.points.push_back({.x = clock_.seconds(*end.answers.twins[i]), .y = *ours - *theirs});
      }
      add_iperf3(iperf3.points, subject, end);
    }
    result.push_back(std::move(twins));
    result.push_back(std::move(iperf3));
    std::erase_if(result, [](const Series& series) { return series.points.empty(); });
    for (auto& series : result) {
      std::ranges::stable_sort(series.points, {}, &Point::x);
      series.readings = series.points.size();
    }
    return result;
  }

  /// Below the series: the differences, and what happened meanwhile.
  void add_below(Picture& picture, const Subject& subject, const std::vector<Series>& differences) const {
    if (!differences.empty()) {
      Chart chart;
      chart.axis = axis(subject);
      chart.axis.label = "Δ";
      chart.is_difference = true;
      chart.series = differences;
      for (auto& series : chart.series) {
        crop(series.points);
        series.points = thin(series.points, kColumns / 2);
      }
      picture.charts.push_back(std::move(chart));
    }
    Chart lanes;
    const auto& ends = ends_.of(subject.side);
    const auto shown = ends.size() <= kStreamCharts ? ends.size() : kStreamCharts - 1;
    for (std::size_t i = 0; i < shown; ++i) {
      lanes.lanes.push_back(lane(ends[i]));
      lanes.lanes.back().label = ends.size() == 1 ? "events" : fmt::format("stream {}", i + 1);
    }
    if (shown < ends.size()) {
      Lane others;
      others.label = fmt::format("{} to {}", shown + 1, ends.size());
      for (auto i = shown; i < ends.size(); ++i)
        std::ranges::move(lane(ends[i]).retransmissions_s, std::back_inserter(others.retransmissions_s));
      std::ranges::sort(others.retransmissions_s);
      lanes.lanes.push_back(std::move(others));
    }
    picture.charts.push_back(std::move(lanes));
  }

  /// How the differences are distributed. Nothing if all are 0.
  std::optional<Picture> distribution(const Picture& of, const Subject& subject,
                                      const std::vector<Series>& differences) const {
    double least = 0, greatest = 0;
    for (const auto& series : differences)
      for (const auto& p : series.points) least = std::min(least, p.y), greatest = std::max(greatest, p.y);
    if (least == 0 && greatest == 0) return std::nullopt;
    Picture picture;
    picture.name = of.name + "-differences";
    picture.field = of.field;
    picture.title = fmt::format("How far {} is from what iperf3 was answered", subject.row->name);
    picture.subtitle = of.subtitle;
    picture.notes = {difference_note(subject, differences),
                     "each curve: the share of the differences that are at most so large"};
    if (of.charts.size() > 2 && run_.streams.size() > 1)
      picture.notes.push_back(fmt::format("all {} streams", run_.streams.size()));
    picture.x = axis(subject);
    picture.x.label = fmt::format("difference of {}", subject.row->name);
    const double room = 0.05 * (greatest - least);
    picture.x_from = least - room;
    picture.x_to = greatest + room;
    Chart chart;
    chart.axis = {"share of the samples", Dimension::kShare, {}};
    for (const auto& series : differences) {
      std::vector<double> values;
      for (const auto& p : series.points) values.push_back(p.y);
      const auto zeros = static_cast<double>(std::ranges::count(values, 0.0));
      Series curve{.look = series.look, .form = Form::kSteps, .label = {}, .points = {}};
      curve.readings = values.size();
      curve.label = fmt::format("{}: {}, {:.3g} % at 0", series.label, with_commas(values.size()),
                                100 * zeros / static_cast<double>(values.size()));
      curve.points = thin(cumulative_shares(std::move(values)), kColumns / 2);
      curve.points.insert(curve.points.begin(), {.x = picture.x_from, .y = 0});
      curve.points.push_back({.x = picture.x_to, .y = 1});
      chart.series.push_back(std::move(curve));
    }
    picture.charts.push_back(std::move(chart));
    return picture;
  }

  /// Whether all values of a field at one side are the same.
  bool is_still(const FieldInfo& row, Side side) const {
    std::optional<double> first;
    for (const auto& end : ends_.of(side))
      for (std::size_t source = 0; source < kSources.size(); ++source)
        for (const auto& sample : end.samples[source].samples)
          if (const auto v = value_of(sample.record(), row)) {
            if (first && *first != *v) return false;
            first = v;
          }
    return true;
  }

  static std::string difference_note(const Subject& subject, const std::vector<Series>& differences) {
    std::string text =
        "difference Δ: of a sample to what iperf3 was answered (getsockopt) before and after it, 0 between the two";
    if (subject.row->kind == tcpinfo::Kind::gauge) text += ", from which a gauge may stray meanwhile";
    if (std::ranges::find(differences, Look::kIperf3, &Series::look) != differences.end())
      text += "; of iperf3's figure to its own answer";
    return text;
  }

 private:
  double seconds(validation::Time time) const {
    return time >= validation::kUnbounded / 2 || time <= -validation::kUnbounded / 2
               ? (time > 0 ? 1e12 : -1e12)
               : clock_.seconds(static_cast<std::uint64_t>(time));
  }

  template <class Records>
  std::vector<Point> points(const Records& records, const Subject& subject, const End& end) const {
    std::vector<Point> points;
    for (const auto* raw : records)
      if (const auto v = value(Record(*raw), subject, end)) points.push_back({.x = clock_.seconds(*raw), .y = *v});
    return points;
  }

  /// The part of a series that the axis shows.
  void crop(std::vector<Point>& points) const {
    std::erase_if(points, [&](const Point& p) { return p.x < -0.01 * end_s_ || p.x > end_s_ * 1.02; });
  }

  Series make(Look look, Form form, std::string label, std::vector<Point> points) const {
    crop(points);
    const auto all = points.size();
    return {.look = look, .form = form, .label = std::move(label), .points = thin(points, kColumns), .readings = all};
  }

  std::string where(Side side) const {
    const auto& first = run_.streams.front().sender.iperf3;
    const bool one = run_.streams.size() == 1;
    std::string text;
    if (run_.verdict && !run_.verdict->title.empty()) {
      text = run_.verdict->title;
    } else {
      text = fmt::format("{} stream{}", run_.streams.size(), one ? "" : "s");
      if (!run_.congestion_control.empty()) text += ", " + run_.congestion_control;
    }
    return fmt::format("{}; {} → {}{}; read at the {}", text, first.local_address, first.peer_address,
                       one ? fmt::format(", port {} → {}", first.local_port, first.peer_port) : "",
                       side == Side::kSender ? "sender" : "receiver");
  }

  void name(Picture& picture, const Subject& subject) const {
    const auto& row = *subject.row;
    const bool sender = subject.side == Side::kSender;
    picture.field = row.name;
    picture.subtitle = fmt::format("{}: {}", run_.name, where(subject.side));
    const auto what = summary_of(row);
    if (subject.as_rate) {
      picture.name = sender ? "throughput" : "throughput_received";
      picture.title = sender ? "Throughput of the sender" : "Throughput at the receiver";
      return;
    }
    picture.name = row.name;
    picture.title = title_of(row);
    if (row.rule == Rule::delta)
      picture.title = fmt::format("{}, since the start ({})", what.substr(0, what.find(',')), row.name);
    if (row.rule == Rule::times_snd_mss) picture.title = fmt::format("{} ({} × snd_mss)", what, row.name);
    if (row.rule == Rule::ledger && sender) {
      picture.title = "Bytes that iperf3 wrote, since the start";
      picture.notes.push_back("bytes_sent − bytes_retrans + notsent_bytes" + cookie_text());
    } else if (row.rule == Rule::ledger) {
      picture.title = "Bytes received since the start";
      if (!cookie_text().empty()) picture.notes.push_back("bytes_received" + cookie_text());
    }
  }

  std::string cookie_text() const {
    if (std::ranges::none_of(run_.streams, &Stream::client_sends)) return {};
    return fmt::format(" − {} for iperf3's cookie", validation::kCookieBytes);
  }

  std::string axis_label(const Subject& subject) const {
    if (subject.as_rate) return "throughput";
    if (subject.row->rule == Rule::ledger) return subject.side == Side::kSender ? "written" : "received";
    return std::string(subject.row->name);
  }

  Chart chart(const Subject& subject, std::size_t index) const {
    const auto& end = ends_.of(subject.side)[index];
    Chart chart;
    chart.axis = axis(subject);
    chart.axis.label = axis_label(subject);
    if (run_.streams.size() > 1)
      chart.title = fmt::format("stream {}, port {} → {}", index + 1, run_.streams[index].sender.iperf3.local_port,
                                run_.streams[index].sender.iperf3.peer_port);
    for (std::size_t source = 0; source < kSources.size(); ++source) {
      const auto readings = end.readings(source);
      auto of = points(readings, subject, end);
      // The stream of records is a line, the polls are marks. Where most records lack the value, a line would say that
      // it stood still meanwhile.
      const bool line = kSources[source].source == SourceId::kSockops && 2 * of.size() >= readings.size();
      if (subject.as_rate) {
        of = rates(of, window_s_);
        for (auto& p : of) p.y *= rate_factor(*subject.row);
      }
      chart.series.push_back(make(kSources[source].look,
                                  !line             ? Form::kMarks
                                  : subject.as_rate ? Form::kLine
                                                    : Form::kSteps,
                                  std::string(kSources[source].label), std::move(of)));
    }
    if (!subject.as_rate)
      chart.series.push_back(make(Look::kGetsockopt, Form::kMarks, "answered to iperf3 (getsockopt)",
                                  points(end.answers.all, subject, end)));
    chart.series.push_back(make(Look::kIperf3, subject.as_rate ? Form::kMeans : Form::kMarks, "iperf3",
                                from_iperf3(*end.stream, subject)));
    return chart;
  }

  Chart summary(const Subject& subject) const {
    const auto& ends = ends_.of(subject.side);
    std::vector<std::vector<Point>> curves;
    for (const auto& end : ends) {
      const auto readings = end.readings(0);
      auto of = points(readings, subject, end);
      // As in the chart of one stream: a few values do not tell what was between them.
      if (of.empty() || 2 * of.size() < readings.size())
        if (auto polled = points(end.readings(1), subject, end); polled.size() > of.size()) of = std::move(polled);
      if (subject.as_rate) {
        of = rates(of, window_s_);
        for (auto& p : of) p.y *= rate_factor(*subject.row);
      }
      crop(of);
      curves.push_back(std::move(of));
    }
    auto all = spread(curves, 0, end_s_, kColumns);
    Chart chart;
    chart.title = fmt::format("all {} streams", ends.size());
    chart.axis = axis(subject);
    chart.axis.label = axis_label(subject);
    // The same sample can be in many places here: it is a summary, not readings.
    chart.series = {
        {.look = Look::kFile5, .form = Form::kSteps, .label = "least and greatest", .points = std::move(all.least)},
        {.look = Look::kFile5, .form = Form::kSteps, .label = "least and greatest", .points = std::move(all.greatest)},
        {.look = Look::kFile2,
         .form = Form::kSteps,
         .label = "median of all streams",
         .points = std::move(all.median)}};
    return chart;
  }

  /// iperf3's figures beside the answers that they are from.
  void add_iperf3(std::vector<Point>& points, const Subject& subject, const End& end) const {
    // What a receiver's application has read is less than what arrived, and no answer tells by how much.
    if (subject.row->rule == Rule::none || subject.side == Side::kReceiver) return;
    const auto& answers = end.answers;
    for (std::size_t i = 0; i < answers.at.size() && i < end.stream->intervals.size(); ++i) {
      const auto figure = plot::figure(end.stream->intervals[i], *subject.row);
      auto answered = value(Record(*answers.all[answers.at[i]]), subject, end);
      if (!figure || !answered) continue;
      if (is_cumulative(*subject.row) && answers.at[i] > 0) {
        const auto before = value(Record(*answers.all[answers.at[i] - 1]), subject, end);
        if (!before) continue;
        *answered -= *before;
      }
      // Both are whole numbers of a unit: less than a thousandth of it is the division's.
      const double difference = *figure - *answered;
      points.push_back({.x = end.stream->intervals[i].end_s, .y = std::fabs(difference) < 1e-10 ? 0 : difference});
    }
  }

  Lane lane(const End& end) const {
    for (std::size_t source = 0; source < kSources.size(); ++source)
      if (const auto readings = end.readings(source); !readings.empty()) {
        auto lane = lane_of(readings, clock_, 0, end_s_);
        // The beginning of a connection is where its curves begin.
        std::erase_if(lane.transitions, [&](const Transition& t) { return t.time_s < 0.02 * end_s_; });
        return lane;
      }
    return {};
  }

  void add_notes(Picture& picture, const Subject& subject, std::size_t shown) const {
    std::array<std::size_t, kLooks> readings{};
    bool thinned = false;
    for (const auto& chart : picture.charts)
      for (const auto& series : chart.series) {
        readings[static_cast<std::size_t>(series.look)] += series.readings;
        thinned |= series.points.size() < series.readings;
      }
    std::string counts;
    for (const auto& [look, brief] :
         {std::pair(Look::kSockops, "eBPF"), std::pair(Look::kInetDiag, "netlink"), std::pair(Look::kIter, "iterator"),
          std::pair(Look::kGetsockopt, "getsockopt"), std::pair(Look::kIperf3, "iperf3")})
      if (const auto n = readings[static_cast<std::size_t>(look)])
        counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", brief, with_commas(n));
    if (!counts.empty()) picture.notes.push_back(counts + (subject.as_rate ? " means" : " readings"));
    const bool ours = std::ranges::any_of(
        kSources, [&](const SourceLook& s) { return readings[static_cast<std::size_t>(s.look)] > 0; });
    if (subject.as_rate && ours) picture.notes.push_back(fmt::format("ours over {:.3g} s or more each", window_s_));
    if (thinned) picture.notes.push_back("thinned to the least and greatest of each column");
    if (shown < run_.streams.size())
      picture.notes.push_back(fmt::format("{} of {} streams by themselves", shown, run_.streams.size()));
    picture.notes.push_back(run_.uncertainty_s ? fmt::format("clocks aligned to ±{:.2g} ms", *run_.uncertainty_s * 1e3)
                                               : std::string("clocks not aligned: 0 is the first record"));
    if (subject.row->rule != Rule::none && readings[static_cast<std::size_t>(Look::kIperf3)] == 0)
      picture.notes.push_back(
          fmt::format("{} does not report it", run_.iperf3_version.empty() ? "iperf3" : run_.iperf3_version));
  }

  const Run& run_;
  Ends ends_;
  Clock clock_;
  double end_s_, window_s_;
};

/// What iperf3 reports too, and what failed.
std::vector<Field> usual_fields(const Run& run) {
  std::vector<Field> fields;
  for (const auto& row : tcpinfo::fields()) {
    bool wanted = row.rule != Rule::none;
    if (run.verdict)
      for (const auto& c : run.verdict->comparisons) wanted |= !c.passed && c.field == row.name && is_plottable(row);
    if (wanted) fields.push_back(row.field);
  }
  return fields;
}

}  // namespace

std::vector<Picture> pictures(const Run& run, const std::vector<Field>& fields) {
  const Maker maker(run);
  struct Set {
    int rank;
    std::vector<Picture> pictures;
  };
  std::vector<Set> sets;
  for (const auto field : fields.empty() ? usual_fields(run) : fields) {
    const auto& row = tcpinfo::info(field);
    Subject subject{.row = &row};
    // A receiver's own matters stand still at the sender.
    if (field == Field::bytes_received ||
        (row.rule == Rule::none && maker.is_still(row, Side::kSender) && !maker.is_still(row, Side::kReceiver)))
      subject.side = Side::kReceiver;
    auto picture = maker.picture(subject);
    if (picture.points() == 0) continue;
    const bool constant = picture.is_constant();
    const auto differences = maker.differences(subject);
    std::size_t count = 0, zeros = 0;
    for (const auto& series : differences) {
      count += series.points.size();
      zeros += static_cast<std::size_t>(std::ranges::count(series.points, 0.0, &Point::y));
    }
    if (count > 0) {
      picture.notes.push_back(Maker::difference_note(subject, differences));
      picture.notes.push_back(zeros == count
                                  ? fmt::format("all {} differences are 0", with_commas(count))
                                  : fmt::format("{} of {} differences are 0", with_commas(zeros), with_commas(count)));
    }
    auto distribution = maker.distribution(picture, subject, differences);
    maker.add_below(picture, subject, differences);
    Set set{constant                        ? 4
            : row.rule == Rule::ledger      ? (subject.side == Side::kSender ? 0 : 1)
            : row.unit == tcpinfo::Unit::us ? 2
                                            : 3,
            {}};
    if (row.rule == Rule::ledger) {
      subject.as_rate = true;
      auto throughput = maker.picture(subject);
      maker.add_below(throughput, subject, {});
      if (throughput.points() > 0) set.pictures.push_back(std::move(throughput));
    }
    set.pictures.push_back(std::move(picture));
    if (distribution) set.pictures.push_back(std::move(*distribution));
    sets.push_back(std::move(set));
  }
  // Throughput, times, then the others as the table has them; what never changes says least.
  std::ranges::stable_sort(sets, {}, &Set::rank);
  std::vector<Picture> result;
  for (auto& set : sets) std::ranges::move(set.pictures, std::back_inserter(result));
  return result;
}

}  // namespace plot
