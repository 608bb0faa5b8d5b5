// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include <tcpinfo/filter.hpp>
#include <tcpinfo/owner.hpp>
#include <tcpinfo/record.hpp>
#include <tcpinfo/source.hpp>
#include <tcpinfo/trigger.hpp>

namespace tcpinfo {

/// What was asked for when the records were made. The writer stores it, readers give it back; nothing acts on it.
struct RecordingContext {
  SourceId source = SourceId::kSockops;
  Mode mode = Mode::kPolling;
  std::chrono::nanoseconds interval{0};
  std::string cgroup = {};   ///< empty: none was given
  std::string filter = {};   ///< the expression; empty: all passed
  std::string trigger = {};  ///< the expression; empty: all samples were wanted
  bool owners = false;       ///< the owners of the connections were looked for
};

/// What a file of a recording says of itself in its first frame.
struct RecordingHeader {
  RecordingContext context;
  std::string recording;   ///< the same random text in all files of one writer
  std::uint32_t file = 0;  ///< place of this file among them, from 1
  std::string host;
  std::string kernel;               ///< release, as "6.18.5"
  std::string boot_id;              ///< /proc/sys/kernel/random/boot_id: times of one boot can be compared
  std::uint64_t start_ns = 0;       ///< CLOCK_BOOTTIME when the file was begun
  std::int64_t wall_offset_ns = 0;  ///< CLOCK_REALTIME - CLOCK_BOOTTIME then
};

/// What the last entry of a file says. A file without it was cut off, or is still being written.
struct RecordingEnd {
  std::uint64_t time_ns = 0;         ///< CLOCK_BOOTTIME when it was written
  std::uint64_t records = 0;         ///< in this file, those that tell of gaps included
  std::uint64_t lost = 0;            ///< by this writer so far: refused, or not written at the end
  bool rotated = false;              ///< the recording goes on in another file
  std::optional<Statistics> source;  ///< of the source, where it was known; counts that this library knows
};

/// What became of the records of a writer: appended = written + waiting + unwritten, and refused ones beside them.
struct RecordingStatistics {
  EventCounts appended{};       ///< accepted by append()
  EventCounts refused{};        ///< append() gave an error: nothing more could wait
  EventCounts unwritten{};      ///< accepted, but close() could not write them
  std::uint64_t waiting = 0;    ///< accepted, not yet handed to the kernel
  std::uint64_t written = 0;    ///< handed to the kernel, without `gaps`
  std::uint64_t gaps = 0;       ///< records of event gap that the writer made for refused ones
  std::uint64_t bytes = 0;      ///< of all files of this writer, compressed
  std::uint64_t raw_bytes = 0;  ///< the same before compression
  std::uint64_t frames = 0;
  std::uint64_t files = 0;     ///< begun
  std::uint64_t removed = 0;   ///< files removed to keep the limits
  std::uint64_t failures = 0;  ///< times that a frame or a new file could not be written
};

struct RecordingOptions {
  /// The file, or a directory that exists: then the file gets a name of its own there. With rotation, and in a
  /// directory, files are named PREFIX-YYYYmmddTHHMMSSZ-NNNNNN.zst by their first moment (UTC) and their place; PREFIX
  /// is the file's name without .zst, or "tcpinfo".
  std::filesystem::path path;
  RecordingContext context = {};
  int level = 3;  ///< of zstd, 1 to 19
  /// How long a record may wait before it is handed to the kernel, and what waits at most meanwhile.
  std::chrono::nanoseconds flush_interval = std::chrono::milliseconds(500);
  std::size_t frame_bytes = 1 << 20;
  /// Memory for records that wait for a disk that is full, at least frame_bytes, at most 16 MiB. Touched when needed.
  std::size_t buffer_bytes = 4 << 20;
  std::uint64_t rotate_bytes = 0;           ///< largest file, compressed; 0: no limit
  std::chrono::nanoseconds rotate_time{0};  ///< longest time that a file covers; 0: no limit
  /// With rotation: the oldest files of this name in the directory, those of earlier runs too, are removed so that no
  /// more than these are left, the file being written included. Files that other writers are at count for nothing and
  /// stay, by flock(2). 0: all are kept.
  std::size_t keep_files = 0;
  std::uint64_t keep_bytes = 0;  ///< needs rotate_bytes, of which it is twice at least
  bool sync = false;             ///< fdatasync() after each frame: a power cut loses no more than a crash
  bool overwrite = false;        ///< empties a file that exists, instead of failing with EEXIST; not with rotation
};

/// Writes records into files that stay readable whatever ends the process: docs/recording.md describes the format.
///
/// When the disk is full (or any other write fails), the records wait in memory and the write is tried again every
/// second; once `buffer_bytes` wait, append() refuses records and counts them, and as soon as there is room again
/// records of event gap tell how many of which event were refused. A frame that could be written in part only is taken
/// away again.
///
/// Not thread safe. Starts no thread. The owner calls tick() at next_deadline(). In a child made by fork() it writes
/// nothing, and gives Errc::kForked.
class TCPINFO_EXPORT RecordingWriter {
 public:
  using Clock = std::chrono::steady_clock;

  /// Creates the (first) file with mode 0640 and writes its header. Throws Error: Errc::kInvalidOption for options
  /// outside their range; EEXIST where the file exists, EBUSY where another writer is at it; what open, write or
  /// getrandom answered.
  explicit RecordingWriter(RecordingOptions options);
  /// close(), unless it was called.
  ~RecordingWriter();
  RecordingWriter(RecordingWriter&&) noexcept;
  RecordingWriter& operator=(RecordingWriter&&) noexcept;

  /// Takes a copy of the record, and of who owns its connection, if that is known: it is written where it is new or
  /// has changed. An error means that the record was refused: no room to wait (the error of the last write, as ENOSPC),
  /// or closed (EBADF). Where there is room for the record alone, the owner is left out.
  std::error_code append(const Record& record, const Owner* owner = nullptr) noexcept;
  /// Hands what waits to the kernel now. An error leaves it waiting.
  std::error_code flush() noexcept;
  /// When tick() is due next; nothing if nothing waits and no file has to be changed.
  std::optional<Clock::time_point> next_deadline() const noexcept;
  /// Does what is due at `now`: writes what waited long enough, changes files, notes a step of the wall clock.
  std::error_code tick(Clock::time_point now) noexcept;
  /// Writes what waits and the end entry, with the statistics of the source if given. An error says that records were
  /// not written (statistics().unwritten) or that the end entry is missing; the files are readable nevertheless. Called
  /// again, it does nothing.
  std::error_code close(const Statistics* source = nullptr) noexcept;

  /// Why writing failed the last time that it was tried; no error where it did not.
  std::error_code error() const noexcept;
  /// The file being written.
  const std::filesystem::path& file() const noexcept;
  RecordingStatistics statistics() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Reads one file of a recording, also one that was cut off, is damaged, is still being written or was written by
/// another version of the library: fields are found by name; those that this library does not know are left out, those
/// that the file does not have are absent. Memory is bounded by 48 MiB whatever the file holds. Not thread safe.
class TCPINFO_EXPORT RecordingReader {
 public:
  /// Throws Error: the file cannot be opened or read (errno); Errc::kMalformed: it is no recording or of another
  /// format. A file cut off within its header has an empty header and no records.
  explicit RecordingReader(const std::filesystem::path& path);
  ~RecordingReader();
  RecordingReader(RecordingReader&&) noexcept;
  RecordingReader& operator=(RecordingReader&&) noexcept;

  const RecordingHeader& header() const noexcept;

  /// The next record, valid until the next call; nothing at the end. A frame's records come only when all of it was
  /// read and its checksum is right.
  std::optional<Record> next() noexcept;

  /// Who owned the last record's connection then; nullptr: the recording does not say. Valid until the next call of
  /// next().
  const Owner* owner() const noexcept;

  /// CLOCK_REALTIME - CLOCK_BOOTTIME in force at the last record: it changes where the wall clock was set.
  std::int64_t wall_offset_ns() const noexcept;

  // What follows is known when next() gave nothing.
  const std::optional<RecordingEnd>& end() const noexcept;
  /// Whether the end entry is missing: the writer was killed, or is still at work.
  bool cut_off() const noexcept;
  /// Bytes of the file that could not be read, the torn frame at the end included.
  std::uint64_t damaged_bytes() const noexcept;
  /// What a read answered, or ENOMEM.
  std::error_code error() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct ReplayOptions {
  std::vector<std::filesystem::path> files;  ///< in any order; they are replayed in the order of their making
  double speed = 0;                          ///< 1: real time, 10: ten times as fast, 0: without waiting
  Filter filter = {};
  /// Of the samples only those of which it holds. What grows is remembered of 65536 connections.
  Trigger trigger = {};
  std::optional<std::uint64_t> from_ns = {}, to_ns = {};  ///< only records of this time, CLOCK_REALTIME, both included
  /// Only records so long from the first one (or from `from_ns`) on, in recorded time.
  std::optional<std::chrono::nanoseconds> duration = {};
};

/// The records of recordings as a source: what consumes records live can consume them again. id() is the source that
/// was recorded. finished() once the last record was passed. It has no descriptor.
class TCPINFO_EXPORT ReplaySource final : public Source {
 public:
  /// Reads the headers. Throws Error: Errc::kInvalidOption: no file or a negative speed; as RecordingReader.
  explicit ReplaySource(ReplayOptions options);
  ~ReplaySource() override;

  SourceId id() const noexcept override;
  int descriptor() const noexcept override { return -1; }
  std::optional<Clock::time_point> next_deadline() const noexcept override;
  std::error_code tick(Clock::time_point now) noexcept override;
  /// A file that can no longer be read is an error once; draining goes on with the next file.
  DrainResult drain(RecordSink sink, std::size_t limit = SIZE_MAX) noexcept override;
  bool finished() const noexcept override;
  /// "complete": every file has its end; "undamaged": nothing had to be left out; "readable": each could be opened
  /// again and read; those of which it is not true are named. Known of the files read so far.
  Capabilities capabilities() const override;
  /// Of this replay; `malformed` counts files with damage, `untriggered` samples that the trigger did not want.
  Statistics statistics() const noexcept override;
  void stop() noexcept override;
  void close() noexcept override;

  /// Of the files, in the order of replay.
  const std::vector<RecordingHeader>& headers() const noexcept;
  /// Who owned the connection of the record that drain() is passing to its sink, as recorded; nullptr: not recorded, or
  /// called outside of a sink.
  const Owner* owner() const noexcept;
  /// Of the file that is being read.
  std::int64_t wall_offset_ns() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tcpinfo
