// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// For programs that use Boost.Asio; link tcpinfo::asio.

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/system/error_code.hpp>

#include <tcpinfo/error.hpp>
#include <tcpinfo/source.hpp>

namespace tcpinfo {

namespace detail {

// Boost wraps a std::error_code of any category, but only its own two compare equal to boost::system::errc.
inline boost::system::error_code to_boost(const std::error_code& error) {
  if (error.category() == std::system_category()) return {error.value(), boost::system::system_category()};
  if (error.category() == std::generic_category()) return {error.value(), boost::system::generic_category()};
  return error;
}

// What the monitor and its handlers under way share, so that it outlives whichever of them goes first. Only touched on
// the monitor's executor.
class MonitorState : public std::enable_shared_from_this<MonitorState> {
 public:
  using Clock = Source::Clock;

  struct Turn {
    std::size_t delivered = 0;
    bool drained = false;   // the source gave records, whatever the sink made of them
    bool finished = false;  // and has come to its end
    boost::system::error_code error;
  };

  MonitorState(boost::asio::any_io_executor executor, std::unique_ptr<Source> source, std::size_t records_per_turn)
      : executor_(executor),
        source_(std::move(source)),
        records_per_turn_(records_per_turn),
        descriptor_(executor),
        timer_(executor) {
    if (source_->descriptor() < 0) return;
    const int copy = ::fcntl(source_->descriptor(), F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
      throw Error({errno, std::system_category()}, "duplicate the source's descriptor",
                  "raise the limit of open files");
    boost::system::error_code error;
    descriptor_.assign(copy, error);
    if (error) {
      ::close(copy);
      throw Error({error.value(), std::system_category()}, "watch the source's descriptor", "");
    }
  }

  const boost::asio::any_io_executor& executor() const noexcept { return executor_; }
  Source& source() noexcept { return *source_; }
  boost::asio::steady_timer& timer() noexcept { return timer_; }
  bool closed() const noexcept { return closed_; }
  std::uint64_t run() const noexcept { return run_; }

  // The number of the operation that begins, 0 if another one is under way.
  std::uint64_t begin() noexcept { return active_ != 0 ? 0 : active_ = ++operations_; }
  bool is_active(std::uint64_t operation) const noexcept { return active_ == operation; }

  // Leaves nothing outstanding, so that the loop can run out of work.
  void end(std::uint64_t operation) {
    if (active_ != operation) return;
    active_ = 0;
    ignore_readable();
  }

  void stop() {
    ++run_;
    active_ = 0;
    ignore_readable();
    timer_.cancel();
  }

  void close() {
    if (closed_) return;
    closed_ = true;
    stop();
    boost::system::error_code ignored;
    descriptor_.close(ignored);
    // Called from the sink, the source is still busy: turn() closes it.
    if (!in_turn_) source_->close();
  }

  bool pausing() const { return pause_ && Clock::now() < *pause_; }

  template <class Sink>
  Turn turn(std::uint64_t operation, Sink& sink) {
    Turn turn;
    // A throw makes the source count the record as lost in the sink: nobody wants it any more, yet it stays accounted.
    const auto deliver = [&](const Record& record) {
      if (!is_active(operation)) throw Unwanted{};
      sink(record);
      ++turn.delivered;
    };
    pause_.reset();
    in_turn_ = true;
    const std::error_code ticked = source_->tick(Clock::now());
    const DrainResult result = source_->drain(deliver, records_per_turn_);
    in_turn_ = false;
    if (closed_) source_->close();
    turn.drained = result.records > 0;
    turn.finished = !turn.drained && source_->finished();
    if (ticked || result.error) {
      turn.error = to_boost(ticked ? ticked : result.error);
      pause_ = Clock::now() + kPause;
    }
    return turn;
  }

  // Sets the timer that the operation waits for; a readable descriptor cancels it, which wakes the operation as well.
  void prepare_wait() {
    if (pausing()) {
      timer_.expires_at(*pause_);
      return;
    }
    const auto deadline = source_->next_deadline();
    timer_.expires_at(deadline ? *deadline : Clock::time_point::max());
    await_readable();
  }

 private:
  struct Unwanted {};

  // A source that fails at once each time must not keep the processor busy.
  static constexpr std::chrono::milliseconds kPause{10};

  void await_readable() {
    if (!descriptor_.is_open() || waiting_ != 0) return;
    waiting_ = ++waits_;
    descriptor_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                           [self = shared_from_this(), wait = waiting_](const boost::system::error_code& error) {
                             if (error || self->waiting_ != wait) return;
                             self->waiting_ = 0;
                             self->timer_.cancel();
                           });
  }

  // The handler may already be queued: its number tells it that it is out of date.
  void ignore_readable() {
    if (waiting_ == 0) return;
    waiting_ = 0;
    boost::system::error_code ignored;
    descriptor_.cancel(ignored);
  }

  boost::asio::any_io_executor executor_;
  std::unique_ptr<Source> source_;
  std::size_t records_per_turn_;
  boost::asio::posix::stream_descriptor descriptor_;
  boost::asio::steady_timer timer_;
  std::optional<Clock::time_point> pause_;
  std::uint64_t operations_ = 0;
  std::uint64_t active_ = 0;  // operation under way, 0: none
  std::uint64_t waits_ = 0;
  std::uint64_t waiting_ = 0;  // wait for the descriptor under way, 0: none
  std::uint64_t run_ = 0;      // raised by stop(): what start() began before is over
  bool in_turn_ = false;
  bool closed_ = false;
};

template <class Sink>
class DrainOperation {
 public:
  DrainOperation(std::shared_ptr<MonitorState> state, Sink sink) : state_(std::move(state)), sink_(std::move(sink)) {}

  template <class Self>
  void operator()(Self& self, const boost::system::error_code& = {}) {
    switch (step_) {
      case Step::kBegin:
        return begin(self);
      case Step::kTurn:
        return turn(self);
      case Step::kComplete:
        state_.reset();
        return self.complete(error_, delivered_);
    }
  }

 private:
  enum class Step { kBegin, kTurn, kComplete };

  // The first turn is posted: a handler never runs inside the initiating function, and other handlers get their turn.
  template <class Self>
  void begin(Self& self) {
    self.reset_cancellation_state(boost::asio::enable_total_cancellation());
    operation_ = state_->begin();
    if (operation_ == 0) {
      error_ = boost::asio::error::already_started;
      step_ = Step::kComplete;
      return boost::asio::post(std::move(self));
    }
    step_ = Step::kTurn;
    post_turn(self);
  }

  template <class Self>
  void turn(Self& self) {
    if (is_over(self)) return complete(self, boost::asio::error::operation_aborted);
    if (state_->pausing()) return wait(self);
    const MonitorState::Turn turn = state_->turn(operation_, sink_);
    delivered_ = turn.delivered;
    if (!state_->is_active(operation_)) return complete(self, boost::asio::error::operation_aborted);
    if (turn.error || turn.delivered > 0) return complete(self, turn.error);
    if (turn.drained) return post_turn(self);
    if (turn.finished) return complete(self, boost::asio::error::eof);
    wait(self);
  }

  template <class Self>
  bool is_over(Self& self) const {
    return state_->closed() || !state_->is_active(operation_) ||
           self.cancelled() != boost::asio::cancellation_type::none;
  }

  template <class Self>
  void post_turn(Self& self) {
    const auto executor = state_->executor();
    boost::asio::post(boost::asio::bind_executor(executor, std::move(self)));
  }

  template <class Self>
  void wait(Self& self) {
    const auto executor = state_->executor();
    const auto state = state_;  // self takes state_ along
    state->prepare_wait();
    state->timer().async_wait(boost::asio::bind_executor(executor, std::move(self)));
  }

  template <class Self>
  void complete(Self& self, const boost::system::error_code& error) {
    state_->end(operation_);
    error_ = error;
    step_ = Step::kComplete;
    boost::asio::dispatch(std::move(self));
  }

  std::shared_ptr<MonitorState> state_;
  Sink sink_;
  Step step_ = Step::kBegin;
  std::uint64_t operation_ = 0;
  std::size_t delivered_ = 0;
  boost::system::error_code error_;
};

template <class Sink, class CompletionToken>
auto async_drain(std::shared_ptr<MonitorState> state, Sink sink, CompletionToken&& token) {
  const auto executor = state->executor();
  return boost::asio::async_compose<CompletionToken, void(boost::system::error_code, std::size_t)>(
      DrainOperation<Sink>(std::move(state), std::move(sink)), token, executor);
}

template <class OnRecord, class OnError>
struct Callbacks {
  OnRecord on_record;
  OnError on_error;
};

template <class OnRecord, class OnError>
void keep_draining(const std::shared_ptr<MonitorState>& state,
                   const std::shared_ptr<Callbacks<OnRecord, OnError>>& callbacks) {
  detail::async_drain(
      state, [callbacks](const Record& record) { callbacks->on_record(record); },
      [state, callbacks, run = state->run()](const boost::system::error_code& error, std::size_t) {
        const auto is_over = [&] { return state->closed() || state->run() != run; };
        if (is_over()) return;
        if (error) callbacks->on_error(error);
        if (is_over() || error == boost::asio::error::already_started || error == boost::asio::error::eof) return;
        keep_draining(state, callbacks);
      });
}

}  // namespace detail

/// Drives one Source inside a Boost.Asio event loop, without a thread of its own: waits until the source's descriptor
/// is readable or its deadline has come, ticks, drains a bounded number of records, and lets other handlers run.
///
///     tcpinfo::Monitor monitor(io_context, std::make_unique<tcpinfo::SockopsSource>(options));
///     monitor.start([](const tcpinfo::Record& record) { ... }, [](boost::system::error_code error) { ... });
///
/// Errors of the source arrive as an error_code and leave the monitor usable; the turn after an error comes at the
/// earliest 10 ms later, so that a lasting error makes no busy loop. An error of category Errc keeps it:
/// `std::error_code(error) == Errc::kMalformed`.
///
/// Not thread safe: where more than one thread runs the loop, give it a strand, and call every function (construction,
/// destruction and the emission of cancellation signals too) on that strand. Sinks and callbacks of start() run on the
/// monitor's executor; a completion handler runs on its own associated executor. The loop must outlive the monitor.
class Monitor {
 public:
  using executor_type = boost::asio::any_io_executor;

  static constexpr std::size_t kRecordsPerTurn = 256;

  /// Takes the source over and watches a duplicate of its descriptor; nothing is drained before start() or
  /// async_drain(). `records_per_turn` bounds how many records are drained before other handlers of the loop run, in
  /// so far as the source keeps the limit. Throws Error: no file descriptor is free (EMFILE, ENFILE), or the
  /// descriptor cannot be polled (EPERM).
  Monitor(executor_type executor, std::unique_ptr<Source> source, std::size_t records_per_turn = kRecordsPerTurn)
      : state_(std::make_shared<detail::MonitorState>(std::move(executor), std::move(source), records_per_turn)) {}

  /// The same, on the executor of a context, as an io_context.
  template <class ExecutionContext>
    requires std::convertible_to<ExecutionContext&, boost::asio::execution_context&>
  Monitor(ExecutionContext& context, std::unique_ptr<Source> source, std::size_t records_per_turn = kRecordsPerTurn)
      : Monitor(executor_type(context.get_executor()), std::move(source), records_per_turn) {}

  /// A monitor that was moved from can only be destroyed or assigned to.
  Monitor(Monitor&& other) noexcept = default;
  Monitor& operator=(Monitor&& other) noexcept {
    if (this != &other) {
      if (state_) state_->close();
      state_ = std::move(other.state_);
    }
    return *this;
  }

  /// As close(). May happen inside a sink, a callback or a completion handler.
  ~Monitor() {
    if (state_) state_->close();
  }

  executor_type get_executor() const noexcept { return state_->executor(); }

  /// Waits for records and passes those of one turn to `sink`, a callable that takes a `const Record&`; the operation
  /// owns it (of a RecordSink, which is a reference, only that). Completes, with the number of records that reached the
  /// sink, when that is one at least, or with an error:
  /// - what tick() or drain() of the source gave; records may have been delivered before it;
  /// - operation_aborted: cancelled by its cancellation slot (any type), stop(), close() or the monitor's destruction;
  /// - already_started: another operation, or start(), is under way;
  /// - eof: the source has finished, and every record was passed.
  /// After a stop inside the sink, the records of that turn that are left count as lost in the sink. A source with
  /// neither descriptor nor deadline makes it wait until it is cancelled.
  template <class Sink, boost::asio::completion_token_for<void(boost::system::error_code, std::size_t)> CompletionToken>
    requires std::invocable<std::decay_t<Sink>&, const Record&>
  auto async_drain(Sink&& sink, CompletionToken&& token) {
    return detail::async_drain<std::decay_t<Sink>>(state_, std::forward<Sink>(sink),
                                                   std::forward<CompletionToken>(token));
  }

  /// Calls `on_record` with every record (`const Record&`) and `on_error` with every error
  /// (`boost::system::error_code`) until stop(), or until the source has finished (eof). Both may call any function of the monitor, or destroy it. If an
  /// operation is under way or the monitor was started before, `on_error` gets already_started and nothing else
  /// happens; after close() nothing does.
  template <class OnRecord, class OnError>
    requires std::invocable<OnRecord&, const Record&> && std::invocable<OnError&, boost::system::error_code>
  void start(OnRecord on_record, OnError on_error) {
    detail::keep_draining(state_, std::make_shared<detail::Callbacks<OnRecord, OnError>>(
                                      detail::Callbacks<OnRecord, OnError>{std::move(on_record), std::move(on_error)}));
  }

  /// Ends what start() began: its callbacks are not called again. Cancels a pending async_drain(). Records stay in the
  /// source; start() and async_drain() may follow at once.
  void stop() { state_->stop(); }

  /// stop(), and closes the source. Operations begun afterwards complete with operation_aborted. Called again, it does
  /// nothing.
  void close() { state_->close(); }

  /// The source, which the monitor owns. Do not tick or drain it while the monitor does.
  Source& source() noexcept { return state_->source(); }
  const Source& source() const noexcept { return state_->source(); }

  /// Statistics of the source, also after close().
  Statistics statistics() const noexcept { return state_->source().statistics(); }

 private:
  std::shared_ptr<detail::MonitorState> state_;
};

}  // namespace tcpinfo
