// SPDX-License-Identifier: BSD-2-Clause
#include <time.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#include <CLI/CLI.hpp>

#include <tcpinfo/tcpinfo.hpp>

#include "command.hpp"
#include "json.hpp"
#include "output.hpp"
#include "printer.hpp"
#include "stream.hpp"
#include "units.hpp"

namespace cli {
namespace {

struct Arguments {
  std::vector<std::string> files, fields;
  std::optional<std::string> speed, filter, trigger, format, from, to, duration, count, stats;
  bool info = false, owner = false;
};

/// "2026-01-31 23:59:59.123 UTC"
std::string wall_text(std::int64_t wall_ns) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  const auto seconds = static_cast<time_t>(wall_ns / kSecond - (wall_ns % kSecond < 0 ? 1 : 0));
  tm utc{};
  char text[32] = "?";
  if (gmtime_r(&seconds, &utc)) std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &utc);
  return fmt::format("{}.{:03} UTC", text, (wall_ns - static_cast<std::int64_t>(seconds) * kSecond) / 1'000'000);
}

/// A moment: RFC 3339, as 2026-01-31T23:59:59.5Z or with +01:00, UTC where nothing is said; or a time since the
/// beginning.
std::uint64_t parse_moment(std::string_view option, const std::string& text, std::uint64_t begin_ns) {
  tm parts{};
  const char* rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (!rest) rest = strptime(text.c_str(), "%Y-%m-%d %H:%M:%S", &parts);
  if (!rest) {
    if (text.find(':') == std::string::npos && text.find('-') == std::string::npos)
      return begin_ns + static_cast<std::uint64_t>(parse_duration(option, text).count());
    usage_error(fmt::format("{} {}: not a moment (as 2026-01-31T23:59:59Z, or 90s after the beginning)", option, text));
  }
  const char* const end = text.c_str() + text.size();
  double fraction = 0;
  if (*rest == '.') {
    const auto [after, error] = std::from_chars(rest, end, fraction, std::chars_format::fixed);
    if (error != std::errc()) usage_error(fmt::format("{} {}: not a fraction of a second: {}", option, text, rest));
    rest = after;
  }
  int zone = 0;
  if (*rest == 'Z') {
    ++rest;
  } else if (*rest == '+' || *rest == '-') {
    int hours = 0, minutes = 0, used = 0;
    if (std::sscanf(rest + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || used != 5)
      usage_error(fmt::format("{} {}: not a time zone (as Z or +01:00): {}", option, text, rest));
    zone = (*rest == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    rest += 1 + used;
  }
  if (rest != end) usage_error(fmt::format("{} {}: not understood: {}", option, text, rest));
  const auto seconds = timegm(&parts) - zone;
  if (seconds < 0) usage_error(fmt::format("{} {}: it is after 1970", option, text));
  return static_cast<std::uint64_t>(seconds) * 1'000'000'000 + static_cast<std::uint64_t>(std::llround(fraction * 1e9));
}

double parse_speed(const std::string& text) {
  if (text == "max") return 0;
  double speed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), speed, std::chars_format::fixed);
  if (error != std::errc() || end != text.data() + text.size() || !(speed > 0) || !std::isfinite(speed))
    usage_error(fmt::format("--speed {}: not a speed (1 is real time, 10 ten times as fast, or max)", text));
  return speed;
}

std::int64_t begin_of(const tcpinfo::RecordingHeader& header) {
  return static_cast<std::int64_t>(header.start_ns) + header.wall_offset_ns;
}

/// Everything that a file says of itself and of what it holds.
struct Info {
  explicit Info(const std::string& path) : file(path) {
    tcpinfo::RecordingReader reader(path);
    header = reader.header();
    while (const auto record = reader.next()) {
      ++records;
      if (const auto event = record->event(); event && *event < tcpinfo::kEventCount) ++by_event[*event];
      if (record->event() == TCPINFO_EVENT_GAP) lost += record->lost_records().value_or(0);
      if (const auto time = record->time_ns()) {
        const auto wall = static_cast<std::int64_t>(*time) + reader.wall_offset_ns();
        first = records == 1 ? wall : std::min(first, wall);
        last = records == 1 ? wall : std::max(last, wall);
      }
    }
    if (reader.error()) throw Failure(kFailed, fmt::format("read {}: {}", path, reader.error().message()));
    end = reader.end();
    damaged = reader.damaged_bytes();
    bytes = std::filesystem::file_size(path);
  }
  std::string_view how_it_ends() const {
    if (!end) return "cut off, or still being written";
    return end->rotated ? "complete; the recording goes on in the next file" : "complete";
  }

  std::string file;
  tcpinfo::RecordingHeader header;
  std::uint64_t records = 0, lost = 0, damaged = 0, bytes = 0;
  tcpinfo::EventCounts by_event{};
  std::int64_t first = 0, last = 0;
  std::optional<tcpinfo::RecordingEnd> end;
};

std::string info_text(const Info& info) {
  std::string text = info.file + "\n";
  const auto line = [&text](std::string_view name, std::string_view value) {
    text += fmt::format("  {:<10} {}\n", name, value);
  };
  const auto& context = info.header.context;
  line("begun",
       fmt::format("{} on {}, kernel {}", wall_text(begin_of(info.header)), info.header.host, info.header.kernel));
  std::string source = fmt::format("{}, {}", tcpinfo::name(context.source), tcpinfo::name(context.mode));
  if (context.mode == tcpinfo::Mode::kPolling)
    source += fmt::format(" every {}", human_nanoseconds(static_cast<double>(context.interval.count())));
  line("source", source);
  if (!context.cgroup.empty()) line("cgroup", context.cgroup);
  if (!context.filter.empty()) line("filter", context.filter);
  if (!context.trigger.empty()) line("trigger", context.trigger);
  if (context.owners) line("owners", "recorded: replay --owner shows them");
  line("recording", fmt::format("{}, file {}", info.header.recording, info.header.file));
  std::string counts;
  for (std::size_t event = TCPINFO_EVENT_NONE + 1; event < tcpinfo::kEventCount; ++event)
    if (info.by_event[event] > 0)
      counts += fmt::format("{}{} {}", counts.empty() ? " (" : ", ", info.by_event[event],
                            tcpinfo::name(static_cast<tcpinfo::Event>(event)));
  line("records", fmt::format("{}{}{}", info.records, counts, counts.empty() ? "" : ")"));
  if (info.records > 0) {
    line("from", wall_text(info.first));
    line("to",
         fmt::format("{}, {:.3f} s later", wall_text(info.last), static_cast<double>(info.last - info.first) / 1e9));
    line("size", fmt::format("{}, {:.1f} bytes a record", human_bytes(info.bytes),
                             static_cast<double>(info.bytes) / static_cast<double>(info.records)));
  }
  if (info.lost > 0) line("gaps", fmt::format("{} records were lost, as its gap records say", info.lost));
  line("end", info.how_it_ends());
  if (info.damaged > 0) line("unreadable", fmt::format("{} bytes", info.damaged));
  return text;
}

std::string info_json(const Info& info) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> json(buffer);
  const auto number = [&json](std::string_view name, auto value) {
    key(json, name);
    if constexpr (std::is_signed_v<decltype(value)>)
      json.Int64(value);
    else
      json.Uint64(value);
  };
  const auto flag = [&json](std::string_view name, bool value) {
    key(json, name);
    json.Bool(value);
  };
  const auto& context = info.header.context;
  json.StartObject();
  put(json, "file", info.file);
  put(json, "recording", info.header.recording);
  number("number", std::uint64_t{info.header.file});
  put(json, "host", info.header.host);
  put(json, "kernel", info.header.kernel);
  put(json, "boot_id", info.header.boot_id);
  number("start_ns", info.header.start_ns);
  number("wall_offset_ns", info.header.wall_offset_ns);
  put(json, "source", tcpinfo::name(context.source));
  put(json, "mode", tcpinfo::name(context.mode));
  number("interval_ns", static_cast<std::int64_t>(context.interval.count()));
  put(json, "cgroup", context.cgroup);
  put(json, "filter", context.filter);
  put(json, "trigger", context.trigger);
  flag("owners", context.owners);
  key(json, "records");
  json.StartObject();
  number("total", info.records);
  for (std::size_t event = TCPINFO_EVENT_NONE + 1; event < tcpinfo::kEventCount; ++event)
    number(tcpinfo::name(static_cast<tcpinfo::Event>(event)), info.by_event[event]);
  json.EndObject();
  number("lost", info.lost);
  if (info.records > 0) {
    number("first_wall_ns", info.first);
    number("last_wall_ns", info.last);
  }
  number("bytes", info.bytes);
  number("unreadable_bytes", info.damaged);
  flag("complete", info.end.has_value());
  flag("rotated", info.end && info.end->rotated);
  json.EndObject();
  return {buffer.GetString(), buffer.GetSize()};
}

Exit show_info(const Arguments& given) {
  const auto format = parse_format(given.format);
  if (format == Format::kCsv) usage_error("--format csv makes no sense with --info: it is table or jsonl");
  auto output = Output::standard();
  for (const auto& file : given.files) {
    const Info info(file);
    output.buffer() += format == Format::kTable ? info_text(info) : info_json(info) + '\n';
    output.flush();
  }
  output.finish();
  return kOk;
}

/// Prints records and, at the end, what is wrong with the files.
class ReplayPrinter final : public Printer {
 public:
  using Printer::Printer;
  void follow(const tcpinfo::ReplaySource& source) { source_ = &source; }

  void append(const tcpinfo::Record& record) override { Printer::append(record, source_->owner()); }

  void close(const tcpinfo::Statistics&) override {
    for (const auto& capability : source_->capabilities())
      if (!capability.available) fmt::print(stderr, "tcpinfo: {}\n", capability.detail);
  }

 private:
  const tcpinfo::ReplaySource* source_ = nullptr;
};

Exit replay(const Arguments& given) {
  if (given.info) {
    if (given.speed || given.filter || given.trigger || given.owner || given.from || given.to || given.duration ||
        given.count || given.stats || !given.fields.empty())
      usage_error("--info takes no option but --format: it tells of whole files");
    return show_info(given);
  }
  tcpinfo::ReplayOptions options;
  options.files.assign(given.files.begin(), given.files.end());
  if (given.speed) options.speed = parse_speed(*given.speed);
  if (given.filter) options.filter = tcpinfo::Filter::parse(*given.filter);
  if (given.duration) options.duration = parse_duration("--duration", *given.duration);
  const auto format = parse_format(given.format);
  const auto fields = parse_fields(given.fields);

  // The first file is known once all headers were read.
  const tcpinfo::ReplaySource first({.files = options.files});
  const auto& begin = first.headers().front();
  if (given.trigger) options.trigger = tcpinfo::Trigger::parse(*given.trigger, first.id());
  const auto begin_ns = static_cast<std::uint64_t>(begin_of(begin));
  if (given.from) options.from_ns = parse_moment("--from", *given.from, begin_ns);
  if (given.to) options.to_ns = parse_moment("--to", *given.to, begin_ns);
  if (options.from_ns && options.to_ns && *options.from_ns > *options.to_ns)
    usage_error(fmt::format("--from {} is after --to {}", *given.from, *given.to));

  StreamSettings settings;
  settings.replay = true;
  settings.keep = {tcpinfo::Privilege::kDacReadSearch};  // further files are opened when it comes to them
  settings.stats = given.stats;
  settings.trigger = options.trigger;
  if (given.count) settings.count = parse_count("--count", *given.count);
  if (given.owner && std::ranges::none_of(first.headers(), [](const auto& header) { return header.context.owners; }))
    fmt::print(stderr, "tcpinfo: no owners were recorded; tcpinfo record --owner does so\n");
  ReplayPrinter printer(Output::standard(), format, fields, std::nullopt, begin.start_ns, given.owner);
  return run_stream(
      settings,
      [&] {
        auto source = std::make_unique<tcpinfo::ReplaySource>(options);
        printer.follow(*source);
        return source;
      },
      printer);
}

}  // namespace

void add_replay(CLI::App& app, Command& chosen) {
  auto* command = app.add_subcommand("replay", "Print the records of recordings, as watch would have");
  auto given = std::make_shared<Arguments>();
  command->add_option("files", given->files, "Files of tcpinfo record, in any order")->type_name("FILE")->required();
  const auto option = [&](const char* name, auto& into, const char* type, const char* text) {
    command->add_option(name, into, text)->type_name(type);
  };
  option("--speed", given->speed, "X", "1: as fast as it happened, 10: ten times as fast, max: without waiting [max]");
  option("--filter", given->filter, "EXPR", "Only these connections, as 'peer_port == 443 and address in 10.0.0.0/8'");
  option("--trigger", given->trigger, "EXPR",
         "Of the samples only those of which this holds, as 'rtt > 2 * min_rtt or total_retrans grows'");
  command->add_flag("--owner", given->owner, "Add the owners that were recorded, as watch --owner shows them");
  option("--from", given->from, "MOMENT", "Only from here on: 2026-01-31T23:59:59Z, or 90s after the beginning");
  option("--to", given->to, "MOMENT", "Only until here");
  option("--duration", given->duration, "TIME", "Only so much of recorded time");
  option("--count", given->count, "N", "End after this many records");
  option("--stats", given->stats, "FILE", "At the end, write as JSON what was read, printed and lost");
  command
      ->add_option("--fields", given->fields, "Only these fields, in this order, as rtt,snd_cwnd (see tcpinfo fields)")
      ->type_name("NAMES")
      ->delimiter(',')
      ->allow_extra_args(false);  // files follow
  option("--format", given->format, "FORMAT", "table, jsonl or csv [table on a terminal, else jsonl]");
  command->add_flag("--info", given->info, "Say what the files are and hold instead");
  command->footer(
      "Examples:\n"
      "  tcpinfo replay --info incident.zst\n"
      "  tcpinfo replay --speed 1 incident.zst\n"
      "  tcpinfo replay --from 2026-01-31T23:50:00Z --duration 10min --filter 'peer_port == 443' "
      "/var/log/tcpinfo/*.zst\n"
      "  tcpinfo replay --owner --trigger 'rtt > 20ms' incident.zst\n"
      "  tcpinfo replay --format jsonl incident.zst | jq .rtt\n"
      "\n"
      "Times of records are boot time, as everywhere; moments given here are wall clock time, which the recording "
      "knows.\n"
      "In the table, times count from the beginning of the recording.\n"
      "A recording that was cut off or is damaged is read as far as it can be, and standard error says so.");
  command->callback([given, &chosen] { chosen = [given] { return replay(*given); }; });
}

}  // namespace cli
