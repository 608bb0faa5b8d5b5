// SPDX-License-Identifier: BSD-2-Clause
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>
#include <tcpinfo/recording.hpp>

#include "connection_key.hpp"
#include "lru.hpp"

namespace tcpinfo {
namespace {

using Clock = Source::Clock;

/// Connections of which is known what they were, for a trigger that asks for growth: 10 MiB.
constexpr std::size_t kHistories = 65536;

struct File {
  std::filesystem::path path;
  RecordingHeader header;
};

std::int64_t wall_ns(const RecordingHeader& header) {
  return static_cast<std::int64_t>(header.start_ns) + header.wall_offset_ns;
}

/// Within a boot by its clock, which nobody sets; boots by the wall clock.
void sort_by_time(std::vector<File>& files) {
  std::map<std::string, std::int64_t> boots;
  for (const auto& file : files) {
    const auto wall = wall_ns(file.header);
    const auto [boot, is_new] = boots.try_emplace(file.header.boot_id, wall);
    if (!is_new) boot->second = std::min(boot->second, wall);
  }
  std::ranges::stable_sort(files, {}, [&](const File& file) {
    return std::tuple(boots[file.header.boot_id], file.header.boot_id, file.header.start_ns, file.header.file);
  });
}

}  // namespace

struct ReplaySource::Impl {
  explicit Impl(ReplayOptions given) : options(std::move(given)) {
    if (options.files.empty())
      throw Error(Errc::kInvalidOption, "set the recordings to replay", "one file at least is needed");
    if (!(options.speed >= 0) || !std::isfinite(options.speed))
      throw Error(Errc::kInvalidOption, "set the speed of the replay", "it is 0 or more");
    for (auto& path : options.files) {
      const RecordingReader one(path);
      files.push_back({path, one.header()});
    }
    sort_by_time(files);
    for (const auto& file : files) headers.push_back(file.header);
    from = options.from_ns;
    to = options.to_ns;
    advance();
  }

  /// As the kernel decides: of samples, and every record but the last says what grows until the next.
  bool is_triggered(const Record& record) noexcept {
    const auto event = record.event();
    if (options.trigger.empty() || event == TCPINFO_EVENT_GAP || event == TCPINFO_EVENT_CLOSE) return true;
    tcpinfo_history unknown{};
    auto* history = &unknown;
    if (options.trigger.asks_for_growth()) {
      try {
        history = &histories.insert({record.cookie().value_or(0), record.generation().value_or(0)});
      } catch (...) {  // no memory: nothing has grown
      }
    }
    const auto triggered = options.trigger.examine(record, *history);
    if (event != TCPINFO_EVENT_SAMPLE) return true;
    if (triggered == 0) {
      ++totals.untriggered;
      return false;
    }
    chosen = record.raw();
    set_number(*chosen, Field::triggered, triggered);
    return true;
  }

  bool is_wanted(const Record& record, std::uint64_t wall) {
    const auto& raw = record.raw();
    // Records that tell of gaps belong to no connection.
    if (!options.filter.empty() && record.event() != TCPINFO_EVENT_GAP &&
        !options.filter.matches(raw.local_address, raw.local_port, raw.peer_address, raw.peer_port))
      return false;
    if (from && wall < *from) return false;
    if (options.duration) {
      const auto length = static_cast<std::uint64_t>(std::max<std::int64_t>(options.duration->count(), 0));
      const auto begin = from.value_or(wall);
      const auto last = begin > std::numeric_limits<std::uint64_t>::max() - length
                            ? std::numeric_limits<std::uint64_t>::max()
                            : begin + length;
      to = std::min(to.value_or(last), last);
      options.duration.reset();
    }
    return !to || wall <= *to;
  }

  /// Makes `pending` the next record that is wanted.
  void advance() noexcept {
    pending.reset();
    while (!closed && !stopped) {
      if (!reader && !open_next()) return;
      while (const auto record = reader->next()) {
        const auto time = record->time_ns().value_or(0);
        const auto wall = time + static_cast<std::uint64_t>(reader->wall_offset_ns());
        chosen.reset();
        if (!is_wanted(*record, wall) || !is_triggered(*record)) continue;
        place(time, wall);
        pending = chosen ? Record(*chosen) : *record;
        return;
      }
      const auto& path = files[next_file - 1].path;
      if (reader->error()) fail(path, reader->error());
      if (reader->cut_off()) add(cut_off, path);
      // What is torn at the end of a file that was cut off is no damage.
      if (reader->damaged_bytes() > 0 && !reader->cut_off()) {
        add(damaged, path);
        ++totals.malformed;
      }
      ++read;
      release();
    }
  }

  void release() noexcept {
    if (reader) wall_offset = reader->wall_offset_ns();
    reader.reset();
  }

  static void add(std::string& names, const std::filesystem::path& path) noexcept {
    try {
      names += (names.empty() ? "" : ", ") + path.string();
    } catch (...) {
      names = "?";  // no memory
    }
  }

  void fail(const std::filesystem::path& path, const std::error_code& why) noexcept {
    error = why;
    try {
      failed += fmt::format("{}{}: {}", failed.empty() ? "" : ", ", path.string(), why.message());
    } catch (...) {
      failed = "?";
    }
  }

  bool open_next() noexcept {
    while (next_file < files.size()) {
      const auto& file = files[next_file++];
      try {
        reader.emplace(file.path);
        new_clock = !is_placed || file.header.boot_id != boot_id;
        if (new_clock) histories.clear();  // cookies begin anew
        boot_id = file.header.boot_id;
        return true;
      } catch (const Error& failure) {
        fail(file.path, failure.code());
      } catch (...) {
        fail(file.path, std::make_error_code(std::errc::not_enough_memory));
      }
      ++read;
    }
    return false;
  }

  /// Where the record lies on the time axis of the replay, which begins with the first record. Within a boot it is the
  /// boot's clock; from one to the next the wall clock tells how much time went by.
  void place(std::uint64_t time, std::uint64_t wall) noexcept {
    if (std::exchange(new_clock, false)) {
      if (is_placed && wall > last_wall) position += static_cast<double>(wall - last_wall);
      base = position;
      first_time = time;
      is_placed = true;
    }
    if (time > first_time) position = std::max(position, base + static_cast<double>(time - first_time));
    last_wall = wall;
  }

  std::optional<Clock::time_point> due() const noexcept {
    if (!pending) return std::nullopt;
    if (options.speed == 0 || !begun) return Clock::time_point{};
    constexpr double kLongest = 1e18;  // 31 years
    return *begun + std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(position / options.speed, kLongest)));
  }

  ReplayOptions options;
  std::vector<File> files;
  std::vector<RecordingHeader> headers;
  std::optional<std::uint64_t> from, to;
  std::optional<RecordingReader> reader;
  detail::Lru<detail::ConnectionKey, tcpinfo_history, detail::ConnectionKeyHash> histories{kHistories};
  std::size_t next_file = 0, read = 0;
  std::string cut_off, damaged, failed;  // names of files
  std::optional<Record> pending;
  std::optional<tcpinfo_record> chosen;  // `pending`, where it says why
  std::string boot_id;
  bool new_clock = true, is_placed = false;
  double position = 0, base = 0;  // ns
  std::uint64_t first_time = 0, last_wall = 0;
  std::int64_t wall_offset = 0;
  std::optional<Clock::time_point> begun;
  Statistics totals;
  std::error_code error;  // that drain() has not told yet
  bool stopped = false, closed = false, draining = false;
};

ReplaySource::ReplaySource(ReplayOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
ReplaySource::~ReplaySource() = default;

SourceId ReplaySource::id() const noexcept { return impl_->headers.front().context.source; }

std::optional<Source::Clock::time_point> ReplaySource::next_deadline() const noexcept {
  if (impl_->closed) return std::nullopt;
  if (impl_->error) return Clock::time_point{};
  return impl_->due();
}

std::error_code ReplaySource::tick(Clock::time_point now) noexcept {
  if (!impl_->begun) impl_->begun = now;
  return {};
}

DrainResult ReplaySource::drain(RecordSink sink, std::size_t limit) noexcept {
  auto& self = *impl_;
  DrainResult result;
  const auto now = Clock::now();
  if (!self.begun) self.begun = now;
  self.draining = true;
  while (self.pending && result.records < limit && self.due() <= now) {
    const Record record = *self.pending;  // the sink may close the source
    const auto event = record.event().value_or(TCPINFO_EVENT_NONE);
    const std::size_t kind = event < kEventCount ? event : 0;
    ++self.totals.emitted[kind];
    ++result.records;
    try {
      sink(record);
      ++self.totals.delivered[kind];
    } catch (...) {
      ++self.totals.lost_sink[kind];
    }
    self.advance();
  }
  self.draining = false;
  if (self.closed) self.release();
  result.error = std::exchange(self.error, {});
  return result;
}

bool ReplaySource::finished() const noexcept { return !impl_->pending && !impl_->error; }

Capabilities ReplaySource::capabilities() const {
  const auto& self = *impl_;
  return {{"complete", self.cut_off.empty(),
           self.cut_off.empty() ? fmt::format("{} of {} files read", self.read, self.files.size())
                                : fmt::format("cut off, or still being written: {}", self.cut_off)},
          {"undamaged", self.damaged.empty(),
           self.damaged.empty() ? "" : fmt::format("parts cannot be read: {}", self.damaged)},
          {"readable", self.failed.empty(),
           self.failed.empty() ? "" : fmt::format("cannot be read any more: {}", self.failed)}};
}

Statistics ReplaySource::statistics() const noexcept { return impl_->totals; }

void ReplaySource::stop() noexcept {
  impl_->stopped = true;
  impl_->pending.reset();
}

void ReplaySource::close() noexcept {
  stop();
  impl_->closed = true;
  // Called from the sink, the record in use lies in the reader: drain() releases it.
  if (!impl_->draining) impl_->release();
}

const std::vector<RecordingHeader>& ReplaySource::headers() const noexcept { return impl_->headers; }
const Owner* ReplaySource::owner() const noexcept {
  return impl_->draining && impl_->reader ? impl_->reader->owner() : nullptr;
}
std::int64_t ReplaySource::wall_offset_ns() const noexcept {
  return impl_->reader ? impl_->reader->wall_offset_ns() : impl_->wall_offset;
}

}  // namespace tcpinfo
