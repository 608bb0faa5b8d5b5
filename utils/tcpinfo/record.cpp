// SPDX-License-Identifier: BSD-2-Clause
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <tcpinfo/tcpinfo.hpp>

#include "command.hpp"
#include "open.hpp"
#include "output.hpp"
#include "record_writer.hpp"
#include "stream.hpp"
#include "units.hpp"

namespace cli {
namespace {

using Clock = tcpinfo::RecordingWriter::Clock;

struct Arguments {
  StreamArguments stream;
  std::string output;
  std::optional<std::string> rotate_size, rotate_time, keep, keep_size, level;
  bool sync = false;
  bool overwrite = false;
};

/// Writes records into files and says on standard error what goes wrong.
class Recorder final : public Consumer {
 public:
  /// Nothing is created before begin(). With `owners`, the recording has them too.
  Recorder(tcpinfo::RecordingOptions options, std::optional<tcpinfo::OwnersOptions> owners)
      : options_(std::move(options)), owners_(std::move(owners)), shows_progress_(is_terminal(STDERR_FILENO)) {}

  void begin() override {
    if (owners_) look_up_.emplace(*owners_);
    writer_.emplace(options_);
    if (shows_progress_) progress_at_ = Clock::now() + kProgress;
  }

  void append(const tcpinfo::Record& record) override {
    if (look_up_) return look_up_->append(record);
    if (writer_->append(record)) {
      ++refused_[event_of(record)];
      throw Refused();
    }
  }
  void flush() override {
    write_waiting();
    say_what_changed();
  }
  std::optional<Clock::time_point> next_deadline() const noexcept override {
    auto due = writer_->next_deadline();
    if (progress_at_) due = due ? std::min(*due, *progress_at_) : *progress_at_;
    return due;
  }
  void tick(const tcpinfo::Statistics& statistics) override {
    const auto now = Clock::now();
    writer_->tick(now);  // its error is told by say_what_changed()
    say_what_changed();
    if (progress_at_ && now >= *progress_at_) {
      show_progress(statistics);
      progress_at_ = now + kProgress;
    }
  }
  tcpinfo::EventCounts refused() const noexcept override { return refused_; }
  tcpinfo::EventCounts unwritten() const noexcept override {
    auto counts = refused_late_;
    if (!writer_) return counts;
    const auto s = writer_->statistics();
    for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event) counts[event] += s.unwritten[event];
    return counts;
  }
  tcpinfo::Capabilities capabilities() const override {
    return look_up_ ? look_up_->capabilities() : tcpinfo::Capabilities();
  }
  void finish() override { write_waiting(); }
  void close(const tcpinfo::Statistics& statistics) override {
    write_waiting();
    end_progress();
    progress_at_.reset();
    auto books = statistics;
    books.lose_delivered(refused_late_);
    closed_with_ = writer_->close(&books);
  }

  /// After the stream. Throws Failure where the recording is not what it should be.
  void conclude() const {
    const auto s = writer_->statistics();
    const auto records = s.written + s.gaps;
    std::string text = fmt::format("tcpinfo: {} records written in {} file{}, {}", s.written, s.files,
                                   s.files == 1 ? "" : "s", human_bytes(s.bytes));
    if (records > 0)
      text += fmt::format(" ({:.1f} bytes a record)", static_cast<double>(s.bytes) / static_cast<double>(records));
    if (s.removed > 0) text += fmt::format(", {} old files removed", s.removed);
    fmt::print(stderr, "{}; {} {}\n", text, s.files == 1 ? "it is" : "the last is", writer_->file().string());
    const auto unwritten = tcpinfo::Statistics::sum(s.unwritten);
    if (closed_with_)
      throw Failure(kFailed, fmt::format("write {}: {}; {} records could not be written", writer_->file().string(),
                                         closed_with_.message(), unwritten));
  }

 private:
  static constexpr std::chrono::seconds kProgress{1};
  struct Refused {};

  /// With owners: too late to refuse anything.
  void write_waiting() {
    if (!look_up_) return;
    look_up_->flush([this](const auto& record, const auto* owner) {
      if (writer_->append(record, owner)) ++refused_late_[event_of(record)];
    });
  }

  void say_what_changed() {
    const auto error = writer_->error();
    if (error == told_) return;
    told_ = error;
    end_progress();
    if (error)
      fmt::print(stderr, "tcpinfo: write {}: {}; records wait in memory ({}), further ones are lost and counted\n",
                 writer_->file().string(), error.message(), human_bytes(options_.buffer_bytes));
    else
      fmt::print(stderr, "tcpinfo: {} can be written again; {} records were lost so far\n", writer_->file().string(),
                 tcpinfo::Statistics::sum(refused_) + tcpinfo::Statistics::sum(refused_late_));
  }

  void show_progress(const tcpinfo::Statistics& statistics) {
    const auto s = writer_->statistics();
    const auto lost = tcpinfo::Statistics::sum(statistics.lost_ring) + tcpinfo::Statistics::sum(statistics.lost_sink) +
                      tcpinfo::Statistics::sum(refused_late_);
    auto line = fmt::format("{} records, {}, {} lost, {}", s.written + s.waiting, human_bytes(s.bytes), lost,
                            writer_->file().filename().string());
    line.resize(std::min(line.size(), terminal_size(STDERR_FILENO).columns - 1));
    fmt::print(stderr, "\r\033[K{}", line);
    std::fflush(stderr);
    progress_shown_ = true;
  }
  void end_progress() {
    if (progress_shown_) fmt::print(stderr, "\r\033[K");
    progress_shown_ = false;
  }

  tcpinfo::RecordingOptions options_;
  std::optional<tcpinfo::OwnersOptions> owners_;
  std::optional<OwnerLookUp> look_up_;
  std::optional<tcpinfo::RecordingWriter> writer_;
  bool shows_progress_;
  bool progress_shown_ = false;
  std::optional<Clock::time_point> progress_at_;
  std::error_code told_, closed_with_;
  tcpinfo::EventCounts refused_{}, refused_late_{};
};

tcpinfo::RecordingOptions recording_options(const Arguments& given, const StreamSettings& settings) {
  tcpinfo::RecordingOptions options;
  options.path = given.output;
  if (given.output.empty()) usage_error("--output: the path is empty");
  options.context.source = settings.source;
  options.context.mode = settings.mode;
  options.context.interval = settings.interval;
  options.context.cgroup = settings.cgroup;
  options.context.filter = settings.filter_text;
  options.context.trigger = settings.trigger_text;
  options.context.owners = settings.owners;
  if (given.rotate_size) options.rotate_bytes = parse_size("--rotate-size", *given.rotate_size);
  if (given.rotate_time) options.rotate_time = parse_duration("--rotate-time", *given.rotate_time);
  if (given.keep) options.keep_files = parse_count("--keep", *given.keep);
  if (given.keep_size) options.keep_bytes = parse_size("--keep-size", *given.keep_size);
  if (given.level)
    options.level = static_cast<int>(std::min<std::uint64_t>(parse_count("--level", *given.level), 1000));
  options.sync = given.sync;
  options.overwrite = given.overwrite;
  return options;
}

Exit record(const Arguments& given) {
  // A limit of the size of files is as a full disk: it shall not end us.
  std::signal(SIGXFSZ, SIG_IGN);
  auto settings = check(given.stream);
  // Where root may write, further files are created, and old ones removed, as the first was.
  if (given.rotate_size || given.rotate_time) settings.keep |= {tcpinfo::Privilege::kDacOverride};
  Recorder recorder(recording_options(given, settings),
                    settings.owners ? std::optional(owners_of(settings.cgroup)) : std::nullopt);
  const auto result = run_stream(
      settings, [&] { return open(settings); }, recorder);
  recorder.conclude();
  return result;
}

}  // namespace

void add_record(CLI::App& app, Command& chosen) {
  auto* command = app.add_subcommand("record", "Write records of TCP connections into compressed files");
  auto given = std::make_shared<Arguments>();
  command
      ->add_option(
          "-o,--output", given->output,
          "The file; or a directory, in which the file gets a name of its own, as tcpinfo-20260131T235959Z-000001.zst")
      ->type_name("PATH")
      ->required();
  const auto option = [&](const char* name, auto& into, const char* type, const char* text) {
    command->add_option(name, into, text)->type_name(type);
  };
  option("--rotate-size", given->rotate_size, "SIZE", "Go on in a new file before one is larger than this, as 100M");
  option("--rotate-time", given->rotate_time, "TIME", "Go on in a new file after this time, as 1h");
  option("--keep", given->keep, "N", "Remove the oldest files of this name, those of earlier runs too: leave N");
  option("--keep-size", given->keep_size, "SIZE",
         "Remove the oldest ones so that all together are no larger than this; needs --rotate-size");
  option("--level", given->level, "N", "zstd's, 1 (fast) to 19 (small) [3]");
  command->add_flag("--sync", given->sync,
                    "fdatasync after each write, so that a power cut loses no more than a crash");
  command->add_flag("--overwrite", given->overwrite, "Empty the file if it exists");
  add_stream_options(*command, given->stream);
  command->footer(
      "Examples:\n"
      "  tcpinfo record -o incident.zst --duration 10min\n"
      "  tcpinfo record -o /var/log/tcpinfo/ --mode close --rotate-size 100M --rotate-time 1h --keep-size 10G\n"
      "  tcpinfo record -o web.zst --cgroup /sys/fs/cgroup/system.slice/nginx.service --filter 'port == 443'\n"
      "  tcpinfo record -o who.zst --owner --trigger 'total_retrans grows'      later: tcpinfo replay --owner who.zst\n"
      "\n"
      "Records are handed to the kernel twice a second: whatever ends this process, what was recorded up to the\n"
      "second before can be read. What the kernel has not written when the power fails is lost, except with --sync.\n"
      "When the disk is full, records wait in memory; then they are lost, counted, and the recording says where and\n"
      "how many; it goes on once there is room. Read it with tcpinfo replay.\n"
      "\n"
      "Privileges are dropped as by tcpinfo watch, but for CAP_DAC_OVERRIDE where rotation may need it.");
  command->callback([given, &chosen] { chosen = [given] { return record(*given); }; });
}

}  // namespace cli
