// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include <tcpinfo/tcpinfo.hpp>

#include "command.hpp"

namespace cli {

/// What the subcommands that follow a source share. As on the command line: what is empty was not given.
struct StreamArguments {
  std::optional<std::string> cgroup, pid, unit, source, mode, interval, filter, trigger, duration, stats, latency,
      ring_size, life_cycle_ring_size, netns, count, every, pin;
  bool owner = false, cost = false, keep_privileges = false, no_adopt = false, pin_link = false;
};

void add_stream_options(CLI::App& command, StreamArguments& given);

/// Checked and without contradictions.
struct StreamSettings {
  std::string cgroup;  // empty: none was given
  std::string netns;
  tcpinfo::SourceId source = tcpinfo::SourceId::kSockops;
  tcpinfo::Mode mode = tcpinfo::Mode::kPolling;
  std::chrono::nanoseconds interval = std::chrono::milliseconds(100);
  std::chrono::nanoseconds latency = std::chrono::milliseconds(50);
  std::size_t ring_bytes = tcpinfo::SockopsOptions{}.ring_bytes;
  std::size_t life_cycle_ring_bytes = tcpinfo::SockopsOptions{}.life_cycle_ring_bytes;
  tcpinfo::Filter filter;
  tcpinfo::Trigger trigger;
  std::string filter_text, trigger_text;  // what they were made from
  bool replay = false;      // the source reads recordings
  std::optional<std::chrono::nanoseconds> duration;
  std::uint64_t count = std::numeric_limits<std::uint64_t>::max();
  std::optional<std::string> stats;
  bool owners = false;
  bool cost = false;
  bool adopt = true;
  std::string pin;  // empty: nothing is pinned
  bool pin_link = false;
  std::chrono::nanoseconds every = std::chrono::seconds(1);
  /// What is needed once the source is open and has adopted older connections; all else is dropped then. What a feature
  /// needs, it adds.
  tcpinfo::Privileges keep;
  /// Nothing is dropped.
  bool keep_privileges = false;
  /// A command of the user's runs beside it, which has our privileges, too, and may be sudo; signals are passed on to
  /// it and its cgroup is removed at the end: nothing is dropped.
  bool executes = false;
};

/// Throws Failure (kUsage).
StreamSettings check(const StreamArguments& given);
/// The source that was asked for. Throws Failure, tcpinfo::Error.
std::unique_ptr<tcpinfo::Source> open(const StreamSettings& settings);

/// Where the records of a stream go. What its functions throw ends the stream: OutputClosed, OutputInterrupted,
/// Failure. Only append() may refuse a record by throwing anything: then it is counted as lost in the sink.
class Consumer {
 public:
  virtual ~Consumer() = default;
  /// When the source is open, before its first record.
  virtual void begin() = 0;
  /// Of the pipe whose reader may go away, -1 if there is none.
  virtual int descriptor() const noexcept { return -1; }
  virtual void append(const tcpinfo::Record& record) = 0;
  /// After all the records of a turn.
  virtual void flush() = 0;
  /// When tick() is due; asked again after each turn and each tick().
  virtual std::optional<tcpinfo::Source::Clock::time_point> next_deadline() const noexcept { return std::nullopt; }
  virtual void tick(const tcpinfo::Statistics&) {}
  /// Records that append() refused, by event.
  virtual tcpinfo::EventCounts refused() const noexcept { return {}; }
  /// Records that append() took and that were not written after all, by event; asked for after close().
  virtual tcpinfo::EventCounts unwritten() const noexcept { return {}; }
  /// What it can and cannot do here, after begin().
  virtual tcpinfo::Capabilities capabilities() const { return {}; }
  /// At the end, once.
  virtual void finish() = 0;
  /// After it, and after a failure too: the source's books are closed.
  virtual void close(const tcpinfo::Statistics&) {}
};

/// What runs beside a stream and decides when it ends; signals are its own until then.
class Companion {
 public:
  enum class Next {
    kWait,  ///< descriptor() will be readable once more
    kLast,  ///< nothing new begins: what still closes is given a moment
    kEnd,
  };

  virtual ~Companion() = default;
  /// The source is open. What it throws ends the stream.
  virtual void start() = 0;
  /// Readable when proceed() is wanted.
  virtual int descriptor() const noexcept = 0;
  virtual Next proceed() = 0;
  /// A signal interrupted a write to `output`: waits until there is room, or the companion has ended (false) and
  /// signals are meant for the stream.
  virtual bool goes_on(int output) = 0;
  /// A signal came that was not passed on: there was nobody to take it any more.
  virtual bool signalled() const noexcept = 0;
};

/// Passes records to `consumer` until --duration, --count, a signal or a failure ends it, then says on standard error
/// what was emitted, delivered and lost. `open_source` is called when signals are already handled; after it, this
/// thread has no capabilities but `settings.keep`. With a `companion` it is that, instead of a signal, that ends it.
Exit run_stream(const StreamSettings& settings, const std::function<std::unique_ptr<tcpinfo::Source>()>& open_source,
                Consumer& consumer, Companion* companion = nullptr);

}  // namespace cli
