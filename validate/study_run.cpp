// SPDX-License-Identifier: BSD-2-Clause
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/utsname.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include <tcpinfo/monitor.hpp>
#include <tcpinfo/tcpinfo.hpp>

#include "lab/fd.hpp"
#include "lab/lab.hpp"
#include "study.hpp"

namespace validation {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using boost::system::error_code;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr std::uint16_t kPort = 5201;

[[noreturn]] void fail(std::string action, std::string way_out = {}) {
  throw tcpinfo::Error(std::error_code(errno, std::system_category()), std::move(action), std::move(way_out));
}

/// The long flow and the short ones, from `a` to `b`, in threads of their own. Sockets belong to the cgroup that the
/// process is in.
class Traffic {
 public:
  Traffic(const lab::Netns& a, const lab::Netns& b, const StudyOptions& options) : a_(a), options_(options) {
    flows_.short_flow_bytes = options.short_flow_bytes;
    b.run([&] { listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); });
    const auto address = endpoint(INADDR_ANY);
    if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
        ::listen(listener_.get(), 128) != 0)
      fail("listen for the study's flows");
    server_ = std::jthread([this](const std::stop_token& stop) { guard([&] { serve(stop); }); });
    bulk_ = std::jthread([this](const std::stop_token& stop) { guard([&] { send_bulk(stop); }); });
    shorts_ = std::jthread([this](const std::stop_token& stop) { guard([&] { send_shorts(stop); }); });
  }
  Traffic(const Traffic&) = delete;

  void stop() noexcept {
    bulk_.request_stop();
    shorts_.request_stop();
  }
  /// Whether the flows are over; throws what ended them early.
  bool over() {
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
    return senders_ == 0;
  }
  /// Once they are over.
  const Flows& flows() const { return flows_; }
  std::uint64_t retransmissions() const { return retransmissions_; }
  double median_ms() {
    if (durations_.empty()) return 0;
    std::ranges::sort(durations_);
    return durations_[durations_.size() / 2];
  }

 private:
  static sockaddr_in endpoint(in_addr_t address) {
    sockaddr_in result{};
    result.sin_family = AF_INET;
    result.sin_port = htons(kPort);
    result.sin_addr.s_addr = address;
    return result;
  }

  template <class Function>
  void guard(Function function) {
    try {
      function();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
  }

  void sender_is_over() {
    const std::lock_guard lock(mutex_);
    --senders_;
  }

  lab::Fd connect(std::uint64_t& cookie) const {
    lab::Fd socket;
    a_.run([&] { socket.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); });
    // So that stop requests are seen, and nothing lasts for ever.
    const timeval send{.tv_sec = 1, .tv_usec = 0}, receive{.tv_sec = 5, .tv_usec = 0};
    // What waits in the socket would delay the end.
    const int waiting = 65536;
    socklen_t length = sizeof(cookie);
    if (socket.get() < 0 || ::setsockopt(socket.get(), IPPROTO_TCP, TCP_CONGESTION, options_.congestion.data(),
                                         static_cast<socklen_t>(options_.congestion.size())) != 0)
      fail("use congestion control " + options_.congestion,
           "choose one of /proc/sys/net/ipv4/tcp_available_congestion_control");
    if (::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &send, sizeof(send)) != 0 ||
        ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &receive, sizeof(receive)) != 0 ||
        ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &waiting, sizeof(waiting)) != 0 ||
        ::getsockopt(socket.get(), SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0)
      fail("set the options of the study's flows");
    const auto address = endpoint(::inet_addr("10.77.0.2"));
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return lab::Fd();
    return socket;
  }

  // Until the peer has read everything.
  static bool finish(const lab::Fd& socket) {
    char byte = 0;
    return ::shutdown(socket.get(), SHUT_WR) == 0 && ::recv(socket.get(), &byte, 1, 0) == 0;
  }

  void send_bulk(const std::stop_token& stop) {
    const auto socket = connect(flows_.bulk);
    if (socket.get() < 0) fail("connect the study's long flow");
    const std::vector<char> data(65536, 'x');
    while (!stop.stop_requested())
      if (::send(socket.get(), data.data(), data.size(), MSG_NOSIGNAL) < 0 && errno != EAGAIN && errno != EINPROGRESS)
        fail("send over the study's long flow");
    if (!finish(socket)) fail("end the study's long flow");
    tcp_info info{};
    socklen_t length = sizeof(info);
    if (::getsockopt(socket.get(), IPPROTO_TCP, TCP_INFO, &info, &length) != 0) fail("read TCP_INFO");
    retransmissions_ = info.tcpi_total_retrans;
    sender_is_over();
  }

  void send_shorts(const std::stop_token& stop) {
    const std::vector<char> data(options_.short_flow_bytes, 'x');
    while (!stop.stop_requested()) {
      const auto begin = steady_clock::now();
      std::uint64_t cookie = 0;
      // One whose handshake is lost over and over is none of those that are counted.
      if (const auto socket = connect(cookie); socket.get() >= 0) {
        flows_.shorts.insert(cookie);
        if (::send(socket.get(), data.data(), data.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(data.size()) &&
            finish(socket))
          durations_.push_back(std::chrono::duration<double, std::milli>(steady_clock::now() - begin).count());
      }
      std::this_thread::sleep_for(options_.short_flow_pause);
    }
    sender_is_over();
  }

  void serve(const std::stop_token& stop) {
    std::vector<lab::Fd> peers;
    std::vector<char> buffer(1 << 20);
    while (!stop.stop_requested()) {
      std::vector<pollfd> ready{{listener_.get(), POLLIN, 0}};
      for (const auto& peer : peers) ready.push_back({peer.get(), POLLIN, 0});
      if (::poll(ready.data(), ready.size(), 50) <= 0) continue;
      for (std::size_t i = peers.size(); i-- > 0;)
        if (ready[i + 1].revents != 0 && ::recv(peers[i].get(), buffer.data(), buffer.size(), MSG_DONTWAIT) <= 0)
          peers.erase(peers.begin() + static_cast<std::ptrdiff_t>(i));
      if (ready[0].revents != 0)
        if (lab::Fd peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)); peer.get() >= 0)
          peers.push_back(std::move(peer));
    }
  }

  const lab::Netns& a_;
  const StudyOptions& options_;
  lab::Fd listener_;
  std::mutex mutex_;
  std::exception_ptr failure_;
  int senders_ = 2;
  Flows flows_;
  std::uint64_t retransmissions_ = 0;
  std::vector<double> durations_;
  // The server last: who waits for it ends first.
  std::jthread server_, shorts_, bulk_;
};

struct Recording {
  Sampler sampler;
  std::vector<Reading> readings;
  std::unique_ptr<tcpinfo::Monitor> monitor;
  std::uint64_t opened = 0, closed = 0;
};

Reading reading_of(const tcpinfo::Record& record) {
  Reading reading;
  reading.time_ns = record.time_ns().value_or(0);
  reading.cookie = record.cookie().value_or(0);
  reading.rtt_us = record.rtt();
  reading.cwnd = record.snd_cwnd();
  reading.total_retrans = record.total_retrans();
  reading.bytes_acked = record.bytes_acked();
  reading.segs_in = record.segs_in();
  reading.segs_out = record.segs_out();
  reading.state = record.state().value_or(0);
  return reading;
}

class Study {
 public:
  explicit Study(const StudyOptions& options)
      : options_(options),
        signals_(loop_, SIGINT, SIGTERM, SIGHUP),
        a_("tcpinfo-study-a"),
        b_("tcpinfo-study-b"),
        middle_("tcpinfo-study-m"),
        path_(a_, b_, middle_, options.link),
        cgroup_("tcpinfo-study"),
        timer_(loop_) {
    signals_.async_wait([this](error_code error, int) {
      if (!error) error_ = std::make_error_code(std::errc::interrupted);
    });
  }

  StudyResult operator()() {
    StudyResult result;
    result.rtt_us = static_cast<std::uint64_t>(lab::measure_round_trips(a_, b_).median.count());
    watch();
    const auto begin = steady_clock::now();
    {
      const lab::InCgroup inside(cgroup_);
      Traffic traffic(a_, b_, options_);
      run_until(begin + options_.duration, [&] { return traffic.over(); });
      result.duration_s = std::chrono::duration<double>(steady_clock::now() - begin).count();
      traffic.stop();
      run_until(steady_clock::now() + 15s, [&] { return traffic.over(); });
      if (!traffic.over()) {
        errno = ETIMEDOUT;
        fail("end the study's flows");
      }
      result.retransmissions = traffic.retransmissions();
      result.short_flow_ms = traffic.median_ms();
      flows_ = traffic.flows();
    }
    // The last acknowledgements are still under way.
    run_until(steady_clock::now() + 3s, [&] {
      return std::ranges::all_of(recordings_, [](const Recording& one) { return one.closed >= one.opened; });
    });
    for (auto& one : recordings_) {
      one.monitor->stop();
      one.monitor->source().stop();
      one.monitor->source().drain([&](const tcpinfo::Record& record) { take(one, record); });
    }
    conclude(result);
    return result;
  }

 private:
  void watch() {
    const auto filter = tcpinfo::Filter::parse(fmt::format("peer_port == {}", kPort));
    const auto sockops = [&](tcpinfo::Mode mode, nanoseconds interval) {
      tcpinfo::SockopsOptions options;
      options.cgroup = cgroup_.path();
      options.mode = mode;
      if (mode == tcpinfo::Mode::kPolling) options.interval = interval;
      options.filter = filter;
      start("sockops", mode, interval, std::make_unique<tcpinfo::SockopsSource>(options));
    };
    for (const auto interval : options_.sockops) sockops(tcpinfo::Mode::kPolling, interval);
    if (options_.state_mode) sockops(tcpinfo::Mode::kState, 0ns);
    for (const auto interval : options_.inet_diag) {
      tcpinfo::InetDiagOptions options;
      options.interval = interval;
      options.filter = filter;
      options.netns = a_.path();
      start("inet_diag", tcpinfo::Mode::kPolling, interval, std::make_unique<tcpinfo::InetDiagSource>(options));
    }
  }

  void start(std::string source, tcpinfo::Mode mode, nanoseconds interval, std::unique_ptr<tcpinfo::Source> made) {
    auto& one = recordings_.emplace_back();
    one.sampler = {.source = std::move(source),
                   .mode = std::string(name(mode)),
                   .interval_ns = static_cast<std::uint64_t>(interval.count()),
                   .seen = {}};
    one.monitor = std::make_unique<tcpinfo::Monitor>(loop_, std::move(made));
    one.monitor->start([&one](const tcpinfo::Record& record) { take(one, record); },
                       [this](error_code error) {
                         if (!error_) error_ = error;
                       });
  }

  static void take(Recording& one, const tcpinfo::Record& record) {
    if (record.event() == TCPINFO_EVENT_OPEN) ++one.opened;
    if (record.event() == TCPINFO_EVENT_CLOSE) ++one.closed;
    one.readings.push_back(reading_of(record));
  }

  template <class Done>
  void run_until(steady_clock::time_point end, Done done) {
    while (!done() && steady_clock::now() < end) {
      bool over = false;
      timer_.expires_after(10ms);
      timer_.async_wait([&](error_code) { over = true; });
      while (!over) loop_.run_one();
      if (options_.progress) options_.progress(std::max<steady_clock::duration>(end - steady_clock::now(), 0s));
      if (error_) throw tcpinfo::Error(error_, "watch the study's flows", "");
    }
  }

  void conclude(StudyResult& result) {
    utsname system{};
    if (::uname(&system) == 0) result.kernel = fmt::format("{} {} {}", system.sysname, system.release, system.machine);
    const auto way = [](const lab::Way& w) {
      std::vector<std::string> words;
      if (w.rate_mbit > 0) words.push_back(fmt::format("{:g} Mbit/s", w.rate_mbit));
      if (w.delay > 0us) words.push_back(fmt::format("{:g} ms", static_cast<double>(w.delay.count()) / 1000));
      if (w.jitter > 0us) words.push_back(fmt::format("jitter {:g} ms", static_cast<double>(w.jitter.count()) / 1000));
      if (w.loss > 0) words.push_back(fmt::format("loss {:g} %", w.loss * 100));
      if (w.reordering > 0) words.push_back(fmt::format("reordering {:g} %", w.reordering * 100));
      if (w.queue_bytes > 0) words.push_back(fmt::format("queue {:g} kB", static_cast<double>(w.queue_bytes) / 1000));
      return words.empty() ? std::string("unlimited") : fmt::format("{}", fmt::join(words, ", "));
    };
    result.path =
        fmt::format("{}: there {}; back {}", name(path_.engine()), way(options_.link.there), way(options_.link.back));
    result.congestion = options_.congestion;
    result.short_flows = flows_.shorts.size();
    std::vector<Reading> all;
    for (const auto& one : recordings_) all.insert(all.end(), one.readings.begin(), one.readings.end());
    std::ranges::stable_sort(all, {}, &Reading::time_ns);
    const auto totals = burst_totals(all, flows_.bulk);
    result.reference = evaluate(all, flows_, totals);
    for (auto& one : recordings_) {
      one.sampler.seen = evaluate(one.readings, flows_, totals);
      const auto statistics = one.monitor->statistics();
      one.sampler.lost =
          tcpinfo::Statistics::sum(statistics.lost_ring) + tcpinfo::Statistics::sum(statistics.lost_sink);
      result.samplers.push_back(one.sampler);
    }
  }

  const StudyOptions& options_;
  asio::io_context loop_;
  asio::signal_set signals_;  // before what a signal must not leave behind
  lab::Netns a_, b_, middle_;
  lab::Path path_;
  lab::Cgroup cgroup_;
  asio::steady_timer timer_;
  error_code error_;
  std::list<Recording> recordings_;
  Flows flows_;
};

}  // namespace

StudyResult run_study(const StudyOptions& options) { return Study(options)(); }

}  // namespace validation
