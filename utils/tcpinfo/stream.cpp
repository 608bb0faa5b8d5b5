// SPDX-License-Identifier: BSD-2-Clause
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>
#include <CLI/CLI.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include <tcpinfo/monitor.hpp>
#include <tcpinfo/tcpinfo.hpp>

#include "command.hpp"
#include "cost.hpp"
#include "json.hpp"
#include "open.hpp"
#include "output.hpp"
#include "stream.hpp"
#include "units.hpp"

namespace cli {
namespace {

namespace asio = boost::asio;
using std::chrono::nanoseconds;
using tcpinfo::Statistics;

void forbid(bool given, std::string_view option, std::string_view with, std::string_view why) {
  if (given) usage_error(fmt::format("{} makes no sense with {}: {}", option, with, why));
}

}  // namespace

StreamSettings check(const StreamArguments& given) {
  static constexpr std::string_view kModes[] = {"polling", "state", "close"};

  StreamSettings settings;
  if (given.source) settings.source = parse_source("--source", *given.source, kAllSources);
  const bool sockops = settings.source == tcpinfo::SourceId::kSockops;
  if (given.mode) settings.mode = static_cast<tcpinfo::Mode>(choose("--mode", *given.mode, kModes));
  if (given.interval) settings.interval = parse_duration("--interval", *given.interval);
  if (given.latency) settings.latency = parse_duration("--latency", *given.latency);
  if (given.ring_size) settings.ring_bytes = parse_size("--ring-size", *given.ring_size);
  if (given.life_cycle_ring_size)
    settings.life_cycle_ring_bytes = parse_size("--life-cycle-ring-size", *given.life_cycle_ring_size);
  if (given.duration) settings.duration = parse_duration("--duration", *given.duration);
  if (given.filter) settings.filter = tcpinfo::Filter::parse(*given.filter);
  settings.filter_text = given.filter.value_or("");
  if (given.trigger) settings.trigger = tcpinfo::Trigger::parse(*given.trigger, settings.source);
  settings.trigger_text = given.trigger.value_or("");
  settings.cgroup = find_cgroup(given.cgroup, given.pid, given.unit);
  settings.netns = given.netns.value_or("");
  if (given.count) settings.count = parse_count("--count", *given.count);
  settings.stats = given.stats;
  settings.cost = given.cost;
  settings.adopt = !given.no_adopt;
  settings.keep_privileges = given.keep_privileges;
  settings.pin = given.pin.value_or("");
  settings.pin_link = given.pin_link;
  settings.owners = given.owner;
  if (given.owner) settings.keep |= {tcpinfo::Privilege::kSysPtrace};  // the executables of others' processes
  if (given.every) settings.every = parse_duration("--every", *given.every);

  if (sockops) {
    forbid(given.netns.has_value(), "--netns", "--source sockops",
           "it follows a cgroup through all network namespaces");
    forbid(given.interval && settings.mode != tcpinfo::Mode::kPolling, "--interval",
           fmt::format("--mode {}", tcpinfo::name(settings.mode)), "only polling takes samples");
    forbid(given.ring_size && settings.mode != tcpinfo::Mode::kPolling, "--ring-size",
           fmt::format("--mode {}", tcpinfo::name(settings.mode)),
           "it is for samples, which only polling takes; see --life-cycle-ring-size");
    forbid(given.trigger && settings.mode != tcpinfo::Mode::kPolling, "--trigger",
           fmt::format("--mode {}", tcpinfo::name(settings.mode)), "it selects samples, which only polling takes");
  } else {
    const auto with = fmt::format("--source {}", tcpinfo::name(settings.source));
    forbid(given.mode && settings.mode != tcpinfo::Mode::kPolling,
           fmt::format("--mode {}", tcpinfo::name(settings.mode)), with, "it gives samples only; sockops sees events");
    forbid(given.ring_size.has_value(), "--ring-size", with, "it has no ring buffer");
    forbid(given.pin.has_value(), "--pin", with, "it has no ring buffer that could stay");
    forbid(given.life_cycle_ring_size.has_value(), "--life-cycle-ring-size", with, "it has no ring buffer");
    forbid(given.no_adopt, "--no-adopt", with, "it gives all connections that there are, old and new");
    forbid(given.latency.has_value(), "--latency", with, "its records come at once with each pass");
    forbid(settings.interval == nanoseconds::zero(), "--interval 0", with,
           "it has to be asked each time; only sockops sees every RTT measurement");
  }
  // Each pass begins in that namespace, where inet_diag has its socket there once and for all.
  if (settings.source == tcpinfo::SourceId::kIter && given.netns) settings.keep |= {tcpinfo::Privilege::kSysAdmin};
  // Else the kernel does not say how long a program's code is.
  if (settings.cost) settings.keep |= {tcpinfo::Privilege::kBpf};
  if (settings.duration == nanoseconds::zero()) usage_error("--duration 0: it is more than 0");
  if (settings.latency == nanoseconds::zero()) usage_error("--latency 0: it is more than 0");
  if (given.pin && given.pin->empty()) usage_error("--pin: the path is empty");
  if (given.pin_link && !given.pin)
    usage_error("--pin-link makes no sense without --pin: it is where the link is pinned");
  if (given.every && !given.cost)
    usage_error("--every makes no sense without --cost: it is the time between its lines");
  // Each line costs some system calls itself.
  if (settings.every < std::chrono::milliseconds(10))
    usage_error(fmt::format("--every {}: it is 10ms or more", *given.every));
  return settings;
}

namespace {

// Who shares the callback flags of these connections; `own` is ours.
void tell_of_others(const std::filesystem::path& cgroup, std::uint32_t own) {
  std::vector<tcpinfo::AttachedProgram> programs;
  try {
    programs = tcpinfo::sock_ops_programs(cgroup);
  } catch (const tcpinfo::Error&) {  // the cgroup went meanwhile, which the source will tell
  }
  for (const auto& program : programs)
    if (program.id != own)
      fmt::print(stderr, "tcpinfo: another sock_ops program is at work here: id {}, {}, attached to {}\n", program.id,
                 program.name.empty() ? "no name without CAP_SYS_ADMIN" : program.name, program.cgroup.string());
}

std::unique_ptr<tcpinfo::Source> open_chosen(const StreamSettings& settings) {
  if (settings.source != tcpinfo::SourceId::kSockops)
    return open_snapshots(settings.source, {.interval = settings.interval,
                                            .filter = settings.filter,
                                            .trigger = settings.trigger,
                                            .cgroup = settings.cgroup,
                                            .netns = settings.netns});
  check_named(settings.cgroup, {});
  return open_source([&]() -> std::unique_ptr<tcpinfo::Source> {
    tcpinfo::SockopsOptions options;
    options.cgroup = settings.cgroup.empty() ? tcpinfo::cgroup2_mount() : std::filesystem::path(settings.cgroup);
    options.mode = settings.mode;
    options.adopt = settings.adopt;
    options.interval = settings.interval;
    options.filter = settings.filter;
    options.trigger = settings.trigger;
    options.ring_bytes = settings.ring_bytes;
    options.life_cycle_ring_bytes = settings.life_cycle_ring_bytes;
    options.latency = settings.latency;
    options.owners = settings.owners;
    options.pin = settings.pin;
    options.pin_link = settings.pin_link;
    auto source = std::make_unique<tcpinfo::SockopsSource>(options);
    tell_of_others(options.cgroup, source->program_id());
    return source;
  });
}

}  // namespace

std::unique_ptr<tcpinfo::Source> open(const StreamSettings& settings) {
  auto source = open_chosen(settings);
  if (!settings.cgroup.empty()) warn_of_sockets_elsewhere(settings.cgroup);
  return source;
}

namespace {

// Calls back when the reader of a pipe has gone, also while nothing is written. The pipe itself is not given to Asio,
// which would make it non-blocking for all that share it: it stands in an epoll instance of its own.
class HangUp {
 public:
  HangUp(asio::io_context& loop, int descriptor, std::function<void()> gone) : epoll_(loop) {
    struct stat status {};
    if (fstat(descriptor, &status) != 0 || !(S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode))) return;
    const int instance = epoll_create1(EPOLL_CLOEXEC);
    if (instance < 0) return;
    epoll_.assign(instance);
    epoll_event nothing_but_errors{};
    if (epoll_ctl(instance, EPOLL_CTL_ADD, descriptor, &nothing_but_errors) != 0) return;
    epoll_.async_wait(asio::posix::stream_descriptor::wait_read, [gone = std::move(gone)](const auto& error) {
      if (!error) gone();
    });
  }

 private:
  asio::posix::stream_descriptor epoll_;
};

// What became of the records, the source's books closed: emitted = delivered + lost, event by event.
struct Account {
  Account(const Statistics& final, const Consumer& consumer) : statistics(final), unwritten(consumer.refused()) {
    const auto thrown_away = consumer.unwritten();
    statistics.lose_delivered(thrown_away);
    for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event) {
      left[event] = final.emitted[event] - final.delivered[event] - final.lost_ring[event] - final.lost_sink[event];
      unwanted[event] = final.lost_sink[event] - unwritten[event];
      unwritten[event] += thrown_away[event];
    }
  }
  std::uint64_t lost() const {
    return Statistics::sum(statistics.lost_ring) + Statistics::sum(statistics.lost_sink) + Statistics::sum(left);
  }

  Statistics statistics;
  tcpinfo::EventCounts left{};  // made between the last look into the ring and the end
  // What was lost in the sink:
  tcpinfo::EventCounts unwritten;   // the consumer could not write it
  tcpinfo::EventCounts unwanted{};  // it came after the end
};

// Before the programs are loaded, so that their first run is counted. A source without programs needs no privilege.
std::optional<tcpinfo::KernelStatistics> take_statistics(const StreamSettings& settings) {
  if (!settings.cost || settings.source == tcpinfo::SourceId::kInetDiag) return std::nullopt;
  return tcpinfo::KernelStatistics();
}

class Stream {
 public:
  Stream(const StreamSettings& settings, const std::function<std::unique_ptr<tcpinfo::Source>()>& open_source,
         Consumer& consumer, Companion* companion)
      : settings_(settings),
        kernel_statistics_(take_statistics(settings)),
        consumer_(consumer),
        companion_(companion),
        signals_(loop_),
        companion_moves_(loop_),
        end_(loop_),
        adoption_timer_(loop_),
        cost_timer_(loop_),
        consumer_timer_(loop_),
        monitor_(loop_, handling_signals(open_source)),
        stats_(settings.stats ? std::optional(Output::create(*settings.stats)) : std::nullopt) {
    consumer_.begin();
    // With the privileges that we were given, which are its own to drop.
    if (companion_) companion_->start();
  }

  Exit run() {
    if (settings_.duration) stop_after(*settings_.duration);
    const HangUp hang_up(loop_, consumer_.descriptor(), [this] {
      reader_gone_ = true;
      loop_.stop();
    });
    if (settings_.cost) {
      first_cost_ = last_cost_ = read_cost(monitor_.source());
      cost_timer_.expires_at(first_cost_.time);
      show_cost_later();
    }
    monitor_.start([this](const tcpinfo::Record& record) { on_record(record); },
                   [this](const boost::system::error_code& error) { on_error(error); });

    if (companion_) await_companion();
    tick_consumer_later();

    std::optional<Failure> failure;
    try {
      await_adoption();
      loop_.run();
      monitor_.stop();
      note_what_is_missing();
      monitor_.source().stop();
      if (!reader_gone_) take_what_is_left();
      flush();
      consumer_.finish();
    } catch (const OutputClosed&) {
      reader_gone_ = true;
    } catch (const OutputInterrupted&) {  // what could not be written is among the lost
    } catch (const Failure& error) {
      failure = error;
    } catch (const tcpinfo::Error& error) {
      failure.emplace(exit_code(error), error.what());
    }
    if (!failure) failure = failure_;
    if (settings_.cost) last_cost_ = read_cost(monitor_.source());
    monitor_.close();
    consumer_.close(monitor_.statistics());

    const Account account(monitor_.statistics(), consumer_);
    if (stats_) write_statistics(account);
    if (!reader_gone_) {
      print_summary(account);
      if (!settings_.pin.empty()) tell_of_pins();
      if (settings_.cost) say(cost_table(first_cost_, last_cost_));
    }
    if (failure) throw *failure;
    return kOk;
  }

 private:
  // Connections that are older than the attach may be in namespaces that only CAP_SYS_ADMIN enters: they come first.
  void await_adoption() {
    if (monitor_.source().statistics().adopting != 0) {
      adoption_timer_.expires_after(std::chrono::milliseconds(1));
      adoption_timer_.async_wait([this](const auto& error) {
        if (!error) await_adoption();
      });
      return;
    }
    note_what_is_missing();
    if (settings_.keep_privileges || settings_.executes) return;
    tcpinfo::Privileges::drop(settings_.keep);
    tcpinfo::forbid_new_privileges();
    if (!is_sockops() || settings_.mode != tcpinfo::Mode::kPolling) return;
    adoption_timer_.expires_after(kFirstSweepsTake);
    adoption_timer_.async_wait([this](const auto& error) {
      if (!error) note_what_is_missing();
    });
  }

  // Once, after adoption: later rounds lack the privileges that were dropped. What sweeps lack without them shows
  // later.
  void note_what_is_missing() {
    if (settings_.replay) return;
    const bool is_first = !std::exchange(is_missing_noted_, true);
    const bool is_sweep_noted = std::ranges::find(missing_, "sweep", &tcpinfo::Capability::name) != missing_.end();
    const auto note = [this](const tcpinfo::Capability& capability, bool tell) {
      if (tell && !reader_gone_)
        say(fmt::format("tcpinfo: missing here: {}: {}\n", capability.name, capability.detail));
      missing_.push_back(capability);
    };
    if (is_first && monitor_.source().statistics().adopting != 0)
      note({"adoption", false, "it ended before all older connections were found"}, written_ < settings_.count);
    for (const auto& capability : monitor_.source().capabilities()) {
      if (!is_first && (capability.name != "sweep" || is_sweep_noted)) continue;
      const bool was_asked_for = capability.name == "sweep"      ? settings_.mode == tcpinfo::Mode::kPolling
                                 : capability.name == "adoption" ? settings_.adopt
                                                                 : true;
      if (!capability.available && was_asked_for) note(capability, is_sockops());
    }
    if (!is_first) return;
    for (const auto& capability : consumer_.capabilities())
      if (!capability.available) note({"owner " + capability.name, false, capability.detail}, true);
  }

  // A signal that was passed on to the companion does not end the records.
  void flush() {
    for (;;) try {
        return consumer_.flush();
      } catch (const OutputInterrupted&) {
        if (!companion_ || !companion_->goes_on(consumer_.descriptor())) throw;
      }
  }

  static constexpr std::size_t kTurn = 256;
  static constexpr std::chrono::seconds kFirstSweepsTake{2};  // they are a second apart at most

  void stop_at_signals() {
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
      // SIGHUP: a terminal that went away. SIGQUIT aborts, unless it was the companion's.
      if (number == SIGQUIT && !companion_) continue;
      struct sigaction action {};  // nohup has SIGHUP ignored
      if (sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_IGN) signals_.add(number);
    }
    signals_.async_wait([this](const auto& error, int) {
      if (!error) loop_.stop();
    });
  }

  // Before the source is open and anything is written.
  std::unique_ptr<tcpinfo::Source> handling_signals(
      const std::function<std::unique_ptr<tcpinfo::Source>()>& open_source) {
    if (!companion_) stop_at_signals();
    return open_source();
  }

  void stop_after(nanoseconds time) {
    end_.expires_after(std::chrono::duration_cast<asio::steady_timer::duration>(time));
    end_.async_wait([this](const auto& error) {
      if (!error) loop_.stop();
    });
  }

  void await_companion() {
    const int copy = fcntl(companion_->descriptor(), F_DUPFD_CLOEXEC, 0);
    if (copy < 0) throw Failure(kFailed, fmt::format("watch the command: {}", std::strerror(errno)));
    companion_moves_.close();
    companion_moves_.assign(copy);
    companion_moves_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const auto& error) {
      if (error) return;
      const auto next = companion_->proceed();
      if (!std::exchange(companion_signals_over_, true)) stop_at_signals();
      if (companion_->signalled()) return loop_.stop();
      if (next == Companion::Next::kWait) return await_companion();
      if (next == Companion::Next::kEnd) return loop_.stop();
      is_last_ = true;
      stop_after(kLastMoment);
    });
  }

  bool is_sockops() const { return !settings_.replay && settings_.source == tcpinfo::SourceId::kSockops; }

  // With pinned rings a record is written before the ring gives up its room, so that one who is killed in between loses
  // nothing. Not with owners, which are looked for once a turn. The flush at the turn's end meets the same error again.
  void append(const tcpinfo::Record& record) {
    consumer_.append(record);
    if (settings_.pin.empty() || settings_.owners) return;
    try {
      consumer_.flush();
    } catch (...) {
    }
  }

  void on_record(const tcpinfo::Record& record) {
    append(record);
    // One write for all the records of a turn.
    if (!flush_posted_) {
      flush_posted_ = true;
      asio::post(loop_, [this] {
        flush_posted_ = false;
        flush();
        tick_consumer_later();
      });
    }
    if (++written_ == settings_.count) {
      monitor_.stop();
      loop_.stop();
    }
  }

  void tick_consumer_later() {
    const auto due = consumer_.next_deadline();
    if (due == consumer_due_) return;
    consumer_due_ = due;
    if (!due) {
      consumer_timer_.cancel();
      return;
    }
    consumer_timer_.expires_at(*due);
    consumer_timer_.async_wait([this](const auto& error) {
      if (error) return;
      consumer_due_.reset();
      consumer_.tick(monitor_.statistics());
      tick_consumer_later();
    });
  }

  // The next moment counts from the one that was due, so that the lines keep their pace; after a stall it starts anew.
  void show_cost_later() {
    const auto step = std::chrono::duration_cast<asio::steady_timer::duration>(settings_.every);
    cost_timer_.expires_at(std::max(cost_timer_.expiry() + step, last_cost_.time));
    cost_timer_.async_wait([this](const auto& error) {
      if (error) return;
      const auto now = read_cost(monitor_.source());
      say(cost_line(last_cost_, now) + '\n');
      last_cost_ = now;
      show_cost_later();
    });
  }

  // Nobody is left to be told that standard error cannot be written.
  static void say(const std::string& text) { std::fputs(text.c_str(), stderr); }

  void on_error(const boost::system::error_code& error) {
    if (error == asio::error::eof) return loop_.stop();
    const bool is_gone = error == boost::system::error_code(make_error_code(tcpinfo::Errc::kCgroupGone));
    if (is_gone && is_last_) return loop_.stop();
    ++errors_;
    if (is_gone) {
      failure_.emplace(kFailed, fmt::format("cgroup {} was removed: nothing more comes from it", settings_.cgroup));
      return loop_.stop();
    }
    switch (error.value()) {
      case EINTR:
      case EAGAIN:
      case ENOMEM:
      case ENOBUFS:
        return;  // the next turn tries again
      default:
        break;
    }
    const tcpinfo::Error told(
        error, fmt::format("read from {}", settings_.replay ? "a recording" : tcpinfo::name(monitor_.source().id())),
        {});
    failure_.emplace(exit_code(told), told.what());
    loop_.stop();
  }

  // What was made before the end is shown, within bounds: a host that is busy enough makes more all the time.
  void take_what_is_left() {
    const auto cpus = static_cast<std::uint64_t>(sysconf(_SC_NPROCESSORS_CONF));
    for (std::uint64_t most = is_sockops() ? (settings_.ring_bytes + settings_.life_cycle_ring_bytes) / 64 * cpus : 0;
         most > 0 && written_ < settings_.count;) {
      const auto wanted = std::min<std::uint64_t>({kTurn, most, settings_.count - written_});
      const auto got = monitor_.source().drain(
          [this](const tcpinfo::Record& record) {
            append(record);
            ++written_;
          },
          wanted);
      if (got.records == 0) break;
      most -= std::min<std::uint64_t>(most, got.records);
      flush();
    }
  }

  void write_statistics(const Account& account) {
    const Statistics& s = account.statistics;
    rapidjson::StringBuffer buffer;
    rapidjson::PrettyWriter<rapidjson::StringBuffer> json(buffer);
    json.SetIndent(' ', 2);
    const auto number = [&json](std::string_view name, std::uint64_t value) {
      key(json, name);
      json.Uint64(value);
    };
    const auto counts = [&](std::string_view name, const tcpinfo::EventCounts& by_event) {
      key(json, name);
      json.StartObject();
      number("total", Statistics::sum(by_event));
      for (std::size_t event = TCPINFO_EVENT_NONE + 1; event < tcpinfo::kEventCount; ++event)
        number(tcpinfo::name(static_cast<tcpinfo::Event>(event)), by_event[event]);
      json.EndObject();
    };
    json.StartObject();
    put(json, "source", tcpinfo::name(monitor_.source().id()));
    counts("emitted", s.emitted);
    counts("delivered", s.delivered);
    key(json, "lost");
    json.StartObject();
    number("total", account.lost());
    counts("ring", s.lost_ring);
    counts("sink", s.lost_sink);
    counts("left", account.left);
    json.EndObject();
    number("written", Statistics::sum(s.delivered));
    number("errors", errors_);
    number("malformed", s.malformed);
    number("untriggered", s.untriggered);
    if (is_sockops()) {
      number("connections", s.connections);
      number("filtered", s.filtered);
      number("untracked", s.untracked);
      number("wakeups", s.wakeups);
      number("sweeps", s.sweeps);
      number("rearmed", s.rearmed);
      number("silenced", s.silenced);
    } else {
      number("dumps", s.dumps);
      number("dumps_interrupted", s.dumps_interrupted);
    }
    key(json, "missing");
    json.StartArray();
    for (const auto& capability : missing_) {
      json.StartObject();
      put(json, "name", capability.name);
      put(json, "detail", capability.detail);
      json.EndObject();
    }
    json.EndArray();
    if (settings_.cost) put_cost(json, first_cost_, last_cost_);
    json.EndObject();
    stats_->write(std::string(buffer.GetString(), buffer.GetSize()) + '\n');
  }

  void tell_of_pins() const {
    fmt::print(stderr, "tcpinfo: {} in {} for the next one; tcpinfo unpin {} removes {}\n",
               settings_.pin_link ? "the program stays attached, and its ring buffers stay" : "the ring buffers stay",
               settings_.pin, settings_.pin, settings_.pin_link ? "both" : "them");
  }

  void print_summary(const Account& account) const {
    const Statistics& s = account.statistics;
    std::string text = fmt::format("tcpinfo: {} records emitted, {} delivered, {} lost", Statistics::sum(s.emitted),
                                   Statistics::sum(s.delivered), account.lost());
    std::string_view separator = " (";
    const auto cause = [&](std::string_view name, const tcpinfo::EventCounts& lost) {
      if (Statistics::sum(lost) == 0) return;
      text += fmt::format("{}{}:", separator, name);
      separator = "; ";
      std::string_view comma = "";
      for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event) {
        if (lost[event] == 0) continue;
        text += fmt::format("{} {} {}", comma, lost[event], tcpinfo::name(static_cast<tcpinfo::Event>(event)));
        comma = ",";
      }
    };
    cause("ring full", s.lost_ring);
    cause("not written", account.unwritten);
    cause("not wanted after the end", account.unwanted);
    cause("left in the ring at the end", account.left);
    if (account.lost() > 0) text += ')';
    if (is_sockops())
      text += fmt::format("; {} connections, {} adopted, {} filtered out, {} untracked", s.connections,
                          s.emitted[TCPINFO_EVENT_ADOPTED], s.filtered, s.untracked);
    else if (!settings_.replay)
      text += fmt::format("; {} dumps, {} interrupted", s.dumps, s.dumps_interrupted);
    if (s.rearmed > 0) text += fmt::format("; callback flags came back {} times", s.rearmed);
    if (s.silenced > 0) text += fmt::format("; {} connections without callbacks", s.silenced);
    if (!settings_.trigger.empty()) text += fmt::format("; {} samples not triggered", s.untriggered);
    if (s.malformed > 0) text += fmt::format("; {} malformed", s.malformed);
    fmt::print(stderr, "{}\n", text);
  }

  // For connections that a command's end left to the kernel to close.
  static constexpr nanoseconds kLastMoment = std::chrono::seconds(1);

  StreamSettings settings_;
  std::optional<tcpinfo::KernelStatistics> kernel_statistics_;
  Consumer& consumer_;
  asio::io_context loop_{1};
  Companion* companion_;
  asio::signal_set signals_;
  asio::posix::stream_descriptor companion_moves_;
  asio::steady_timer end_;
  asio::steady_timer adoption_timer_;
  asio::steady_timer cost_timer_;
  asio::steady_timer consumer_timer_;
  std::optional<tcpinfo::Source::Clock::time_point> consumer_due_;
  tcpinfo::Monitor monitor_;
  std::optional<Output> stats_;
  std::optional<Failure> failure_;
  CostReading first_cost_, last_cost_;  // with --cost
  tcpinfo::Capabilities missing_;       // of what was asked for
  bool is_missing_noted_ = false;
  std::uint64_t written_ = 0;
  std::uint64_t errors_ = 0;
  bool companion_signals_over_ = false;
  bool is_last_ = false;
  bool flush_posted_ = false;
  bool reader_gone_ = false;
};

}  // namespace

void add_stream_options(CLI::App& command, StreamArguments& given) {
  const auto option = [&](const char* name, auto& into, const char* type, const char* text) {
    command.add_option(name, into, text)->type_name(type);
  };
  option("--cgroup", given.cgroup, "PATH",
         "Connections of this cgroup v2 and all below it [sockops: the whole mount; others: all sockets]");
  option("--pid", given.pid, "PID", "Instead of --cgroup: the cgroup that this process is in");
  option("--unit", given.unit, "NAME", "Instead of --cgroup: that of a systemd unit that runs, as nginx.service");
  option("--source", given.source, "SOURCE",
         "sockops (eBPF callbacks), inet_diag (netlink) or iter (eBPF iterator) [sockops]");
  option("--mode", given.mode, "MODE",
         "polling (samples), state (a record a transition) or close (final totals only) [polling]");
  option("--interval", given.interval, "TIME",
         "Time between samples of a connection, in ns, us, ms, s, min or h; 0: at every RTT measurement [100ms]");
  option("--filter", given.filter, "EXPR", "Only these connections, as 'peer_port == 443 and address in 10.0.0.0/8'");
  option("--trigger", given.trigger, "EXPR",
         "Of the samples that are due only those of which this holds, as 'rtt > 2 * min_rtt or total_retrans grows'");
  option("--duration", given.duration, "TIME", "End after this time");
  option("--count", given.count, "N", "End after this many records");
  option("--stats", given.stats, "FILE", "At the end, write as JSON what was emitted, delivered and lost");
  option("--latency", given.latency, "TIME",
         "sockops: print records at the latest this long after they were made [50ms]");
  command.add_flag("--owner", given.owner, kOwnerHelp);
  command.add_flag("--no-adopt", given.no_adopt, "sockops: leave out connections that are older than the start");
  command.add_flag(
      "--cost", given.cost,
      "Say on standard error what this costs: CPU time of its programs and of this process, wake-ups, memory; "
      "sockops and iter: needs CAP_SYS_ADMIN");
  command.add_flag("--keep-privileges", given.keep_privileges,
                   "Keep the capabilities, which are dropped once the source is open");
  option("--every", given.every, "TIME", "Time between two lines of --cost [1s]");
  option("--ring-size", given.ring_size, "SIZE",
         "sockops, polling: bytes of the ring buffer of each CPU for samples, a power of two, as 64K [512K]");
  option("--life-cycle-ring-size", given.life_cycle_ring_size, "SIZE",
         "sockops: bytes of the ring buffer of each CPU for all other records, which samples cannot push out [512K]");
  option(
      "--pin", given.pin, "DIR",
      "sockops: leave the ring buffers in this directory of a bpffs, as /sys/fs/bpf/web, and take what is there first");
  command.add_flag("--pin-link", given.pin_link,
                   "With --pin: leave the program attached too; tcpinfo unpin DIR takes it away");
  option("--netns", given.netns, "PATH", "inet_diag, iter: look in this network namespace, as /run/netns/NAME");
}

Exit run_stream(const StreamSettings& settings, const std::function<std::unique_ptr<tcpinfo::Source>()>& open_source,
                Consumer& consumer, Companion* companion) {
  return Stream(settings, open_source, consumer, companion).run();
}

}  // namespace cli
