// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include <tcpinfo/cost.hpp>
#include <tcpinfo/record.hpp>

namespace tcpinfo {

/// Sets of TCP states, as the options of sources have them: bit i for state i. A half-open connection counts as SYN_RECV.
inline constexpr std::uint32_t kListenState = 1u << 10, kTimeWaitState = 1u << 6;
inline constexpr std::uint32_t kAllStates = 0x0fff & ~1u;
inline constexpr std::uint32_t kConnectionStates = kAllStates & ~(kListenState | kTimeWaitState | 1u << 7 /* CLOSE */);

/// A reference to a callable that takes a `const Record&`. It does not own the callable, which has to outlive the call
/// that it is passed to. The callable should not throw: a record whose sink threw is counted as lost there.
class RecordSink {
 public:
  template <class F>
    requires std::is_invocable_v<F&, const Record&> && (!std::is_same_v<std::remove_cvref_t<F>, RecordSink>)
  RecordSink(F&& f) noexcept  // NOLINT(google-explicit-constructor): made to be passed a lambda
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, const Record& record) { (*static_cast<std::remove_reference_t<F>*>(object))(record); }) {}

  void operator()(const Record& record) const { call_(object_, record); }

 private:
  void* object_;
  void (*call_)(void*, const Record&);
};

using EventCounts = std::array<std::uint64_t, kEventCount>;  ///< indexed by tcpinfo_event

/// What became of the records: emitted = delivered + lost_ring + lost_sink + what the ring still holds, event by event.
///
/// Records that did not fit into a ring are told in the stream too. The next record of the same connection that gets
/// through carries their number in `lost_records` (not in close mode, where nothing is kept of a connection). And the
/// source passes gap records, one for each event of which some were lost, as soon as it is driven after the loss, which
/// wakes its owner: `lost_event` of `lost_records` records, of no connection. Once stop() was called and drain() gives
/// nothing more, the gap records' numbers add up to lost_ring, event by event.
///
/// A gap record is the source's own: as event gap it counts as emitted when it is passed, and as delivered, or as
/// lost_sink where the sink threw; its number is then told again by the next drain().
/// What the sink refuses is told by lost_sink only: whoever throws knows. There is no queue between rings and sink in
/// which more could be lost.
struct Statistics {
  EventCounts emitted{};    ///< records that were due
  EventCounts delivered{};  ///< records that reached a sink
  EventCounts lost_ring{};  ///< lost because the ring buffer was full
  EventCounts lost_sink{};  ///< lost because the sink threw, or could not keep them
  std::uint64_t malformed = 0;    ///< messages or attributes that broke their format, skipped
  std::uint64_t connections = 0;  ///< sockops: connections that passed the filter
  std::uint64_t filtered = 0;     ///< sockops: connections that did not
  /// sockops: connections that were not followed when they began, or when the first pass over older ones came to them,
  /// because the kernel had no memory. With SockopsOptions::adopt one may still be followed later, as an adopted one, if a
  /// callback or a further pass comes to it and there is memory; that there is none again is not counted.
  std::uint64_t untracked = 0;
  std::uint64_t untriggered = 0;  ///< samples that were due and not wanted by the trigger; not among the emitted
  std::uint64_t wakeups = 0;      ///< sockops: times that the kernel woke the consumer
  std::uint64_t adopting = 0;     ///< sockops: 1 while connections older than the attach are still looked for
  std::uint64_t sweeps = 0;       ///< sockops: sweeps over the tagged sockets
  std::uint64_t rearmed = 0;      ///< sockops: times that callback flags came back which another program had overwritten
  std::uint64_t silenced = 0;     ///< sockops: connections that lacked callbacks when it was last looked, each second
  std::uint64_t dumps = 0;              ///< inet_diag, iter: dumps or passes that came to their end
  std::uint64_t dumps_interrupted = 0;  ///< inet_diag, iter: of these, incomplete; what they lack is unknown

  static std::uint64_t sum(const EventCounts& counts) noexcept {
    std::uint64_t total = 0;
    for (auto count : counts) total += count;
    return total;
  }
  /// What the sink took and could not keep, as for a full disk: it was not delivered but lost there.
  void lose_delivered(const EventCounts& counts) noexcept {
    for (std::size_t event = 0; event < counts.size(); ++event) {
      delivered[event] -= counts[event];
      lost_sink[event] += counts[event];
    }
  }
};

/// One thing that a source can or cannot do here, found by trying.
struct Capability {
  std::string name;     ///< as "callbacks", "sweep", "cgroup_filter"
  bool available;
  std::string detail;   ///< what was seen; for one that is missing, the way out
};
using Capabilities = std::vector<Capability>;

struct DrainResult {
  std::size_t records = 0;
  std::error_code error;  ///< set where the source failed; what came before it was delivered
};

/// Where records come from. The owner drives it from one thread: wait until descriptor() is readable or
/// next_deadline() has come, call tick(), call drain(), again. Monitor does so inside Boost.Asio. A source starts no
/// thread and prints nothing. Not thread safe; different sources are independent of each other.
class TCPINFO_EXPORT Source {
 public:
  using Clock = std::chrono::steady_clock;

  virtual ~Source();
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  virtual SourceId id() const noexcept = 0;

  /// Becomes readable when drain() is wanted before next_deadline(), and is so until drain() was called; owned by the
  /// source, -1 if it has none.
  virtual int descriptor() const noexcept = 0;

  /// When tick() and drain() are due next (sweeps, polls, records that waited long enough, what a limit left over);
  /// nothing if not before the descriptor is readable. Ask again after each drain().
  virtual std::optional<Clock::time_point> next_deadline() const noexcept = 0;

  /// Does what is due at `now`. May be called at any time. An error leaves the source usable: the next tick tries again.
  virtual std::error_code tick(Clock::time_point now) noexcept = 0;

  /// Passes what is ready to `sink`, without waiting, and returns when nothing is left or `limit` records were passed
  /// (a source may pass a few more: what one system call gave). The records are valid inside the sink only.
  virtual DrainResult drain(RecordSink sink, std::size_t limit = SIZE_MAX) noexcept = 0;

  /// Whether nothing will come any more: a recording was replayed to its end. Live sources never finish.
  virtual bool finished() const noexcept;

  virtual Capabilities capabilities() const = 0;
  virtual Statistics statistics() const noexcept = 0;

  /// What it costs in the kernel: its programs and maps. Nothing of a source that has none, as inet_diag, which costs
  /// the system time of whoever drives it and no more, and nothing after close(). Run counts and times grow only while
  /// the kernel takes them, see KernelStatistics. Takes a few system calls a program and map.
  virtual Cost cost() const;

  /// Makes no new records: detaches, asks for no further dump. What was made before can still be drained; once drain()
  /// gives nothing more, every record that was due is in statistics() as delivered or lost. Called again, it does nothing.
  virtual void stop() noexcept = 0;

  /// Stops and releases everything; called again, and before destruction, it does nothing. After it the descriptor
  /// is -1, drain() gives nothing, statistics() stays as it was at the end. May be called from inside the sink; then
  /// drain() passes no further record.
  virtual void close() noexcept = 0;

 protected:
  Source();
};

/// Nanoseconds of CLOCK_BOOTTIME now: the clock of Record::time_ns(). Thread safe.
TCPINFO_EXPORT std::uint64_t boot_time_ns() noexcept;

}  // namespace tcpinfo
