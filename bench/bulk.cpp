// SPDX-License-Identifier: BSD-2-Clause
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <rapidjson/document.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <random>
#include <semaphore>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/cost.hpp>
#include <tcpinfo/error.hpp>
#include <tcpinfo/sockops.hpp>

#include "consumer.hpp"
#include "empty_program.hpp"
#include "lab/fd.hpp"
#include "lab/lab.hpp"
#include "measurements.hpp"
#include "placement.hpp"
#include "program_time.hpp"

namespace bench {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

// Each begins with a sweep and a drain, which at other times come each 10 ms or 100 ms, and each 50 ms.
constexpr double kSliceSeconds = 0.05;
// A flow keeps what its buffers and its window grew to, and where it lies in memory: slices of one flow are no
// independent values. A pair is the medians of two flows.
constexpr int kSlicesAFlow = 8;
// With fewer the goal is left open: six pairs on a noisy machine say anything.
constexpr std::size_t kPairsToJudge = 30;

[[noreturn]] void fail(std::string action) {
  throw tcpinfo::Error({errno, std::system_category()}, std::move(action), "");
}

/// A connection over loopback. Both ends belong to the cgroup that this process is in when it is made.
struct Flow {
  lab::Fd sender = lab::Fd(), receiver = lab::Fd();
};

Flow connect(const lab::Netns& netns) {
  Flow flow;
  netns.run([&] {
    const lab::Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    flow.sender.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* name = reinterpret_cast<sockaddr*>(&address);
    if (::listen(listener.get(), 1) != 0 || ::getsockname(listener.get(), name, &size) != 0)
      fail("listen for a bulk flow");
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(flow.sender.get(), name, size) != 0) fail("connect a bulk flow");
    flow.receiver.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    // A flow that stands still is a failure, not a wait without end.
    // Others, as BBR, pace: then the CPU is not what limits, and what watching takes would not show.
    constexpr std::string_view kReno = "reno";
    for (const int end : {flow.sender.get(), flow.receiver.get()})
      if (::setsockopt(end, IPPROTO_TCP, TCP_CONGESTION, kReno.data(), kReno.size()) != 0) fail("choose reno");
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    if (::setsockopt(flow.receiver.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0 ||
        ::setsockopt(flow.sender.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) != 0)
      fail("set up a bulk flow");
  });
  return flow;
}

double thread_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

/// A thread on a CPU of its own that does one thing after the other.
class Worker {
 public:
  explicit Worker(int cpu) : thread_([this, cpu] { serve(cpu); }) {}
  ~Worker() {
    work_ = nullptr;
    start_.release();
    thread_.join();
  }
  Worker(const Worker&) = delete;

  void start(std::function<void()> work) {
    work_ = std::move(work);
    start_.release();
  }
  void wait() { done_.acquire(); }
  /// After wait(). Throws what the work threw. Gives the CPU time that it took.
  double result() {
    if (auto failure = std::exchange(failure_, nullptr)) std::rethrow_exception(failure);
    return cpu_seconds_;
  }

 private:
  void serve(int cpu) {
    std::optional<Pinned> pinned;
    try {
      pinned.emplace(cpu);
    } catch (...) {
      failure_ = std::current_exception();  // of the first work
    }
    for (;;) {
      start_.acquire();
      if (!work_) return;
      const double begin = thread_cpu_seconds();
      try {
        work_();
      } catch (...) {
        failure_ = std::current_exception();
      }
      cpu_seconds_ = thread_cpu_seconds() - begin;
      done_.release();
    }
  }

  std::function<void()> work_;
  std::exception_ptr failure_;
  double cpu_seconds_ = 0;
  std::binary_semaphore start_{0}, done_{0};
  std::thread thread_;
};

struct Slice {
  double seconds = 0;  ///< from the first send to the last byte received
  double cpu = 0;      ///< of sender and receiver
};

/// Sends through one flow at a time, always by the same two threads.
class Transfer {
 public:
  Slice run(const Flow& flow, std::uint64_t bytes) {
    steady_clock::time_point begin, end;
    receiver_.start([&] {
      for (std::uint64_t done = 0; done < bytes;) {
        const auto got = ::recv(flow.receiver.get(), in_.data(), std::min<std::uint64_t>(in_.size(), bytes - done), 0);
        if (got <= 0) fail("receive from a bulk flow");
        done += static_cast<std::uint64_t>(got);
      }
      end = steady_clock::now();
    });
    sender_.start([&] {
      begin = steady_clock::now();
      for (std::uint64_t done = 0; done < bytes;) {
        const auto put =
            ::send(flow.sender.get(), out_.data(), std::min<std::uint64_t>(out_.size(), bytes - done), MSG_NOSIGNAL);
        if (put <= 0) fail("send to a bulk flow");
        done += static_cast<std::uint64_t>(put);
      }
    });
    sender_.wait();
    receiver_.wait();  // what one of them throws, the other still writes here
    Slice slice;
    slice.cpu = sender_.result() + receiver_.result();
    slice.seconds = std::chrono::duration<double>(end - begin).count();
    return slice;
  }

 private:
  // As much at once as iperf3 sends and receives.
  std::vector<char> in_ = std::vector<char>(128 << 10), out_ = std::vector<char>(128 << 10, 'x');
  Worker sender_{0}, receiver_{1};
};

/// A cgroup and what watches it.
struct Side {
  std::string name;
  std::optional<std::chrono::nanoseconds> interval;  ///< nothing: not watched
  double cpu_goal = 0;                               ///< % of a core
  std::chrono::nanoseconds wakes_each = {};          ///< the consumer: for a sweep or a drain

  bool has_empty_program = false;  ///< that asks for RTT callbacks and does nothing in them

  std::unique_ptr<lab::Cgroup> cgroup = {};
  std::unique_ptr<tcpinfo::SockopsSource> source = {};
  std::unique_ptr<Consumer> consumer = {};
  lab::Fd empty_program = lab::Fd();
  Flow flow = Flow();
  std::vector<Slice> slices = {};              ///< of this flow
  std::vector<double> seconds = {}, cpu = {};  ///< of a slice: medians of one flow after the other

  void resume() const {
    if (consumer) consumer->resume();
  }
  void pause() const {
    if (consumer) consumer->pause();
  }
};

std::vector<Side> make_sides() {
  std::vector<Side> sides;
  sides.push_back({.name = "nothing attached", .interval = {}});
  sides.push_back({.name = "nothing attached, again", .interval = {}});
  sides.push_back({.name = "an empty program at every RTT", .interval = {}, .has_empty_program = true});
  sides.push_back({.name = "polling at 10 ms", .interval = 10ms, .cpu_goal = 0.3, .wakes_each = 10ms});
  sides.push_back({.name = "polling at every RTT", .interval = 0ns, .cpu_goal = 1, .wakes_each = 50ms});
  for (auto& side : sides) {
    side.cgroup = std::make_unique<lab::Cgroup>("bench-bulk");
    if (side.has_empty_program) side.empty_program = attach_empty_program(*side.cgroup, Callbacks::kRtt);
    if (!side.interval) continue;
    tcpinfo::SockopsOptions options;
    options.cgroup = side.cgroup->path();
    options.interval = *side.interval;
    side.source = std::make_unique<tcpinfo::SockopsSource>(options);
    side.consumer = std::make_unique<Consumer>(*side.source);
  }
  return sides;
}

void connect(std::vector<Side>& sides, const lab::Netns& netns) {
  for (auto& side : sides) {
    const lab::InCgroup inside(*side.cgroup);
    side.flow = connect(netns);
  }
}

std::string describe(const Losses& losses) {
  return fmt::format("{} records, {} of them lost", losses.emitted, losses.lost);
}

Slice run_watched(Transfer& transfer, const Side& side, std::uint64_t bytes) {
  side.resume();
  const auto slice = transfer.run(side.flow, bytes);
  side.pause();
  return slice;
}

double median_of(const std::vector<Slice>& slices, double Slice::*member) {
  std::vector<double> values;
  values.reserve(slices.size());
  for (const auto& slice : slices) values.push_back(slice.*member);
  return spread(values).median;
}

void measure_slices(const Options& options, const lab::Netns& netns, Transfer& transfer, std::vector<Side>& sides,
                    Outcome& outcome) {
  const std::size_t least = options.quick ? 6 : kPairsToJudge;
  const auto end = steady_clock::now() + (options.quick ? 10s : 100s);
  std::mt19937 random(1);
  std::vector<Side*> order;
  for (auto& side : sides) order.push_back(&side);
  std::uint64_t bytes = 0;
  for (std::size_t pair = 0; pair < least || steady_clock::now() < end; ++pair) {
    options.progress(fmt::format("slices, pair {}", pair + 1));
    std::ranges::shuffle(order, random);
    for (auto* side : order) {
      const lab::InCgroup inside(*side->cgroup);
      side->flow = connect(netns);
    }
    for (auto* side : order) {
      constexpr std::uint64_t kWarmUp = 100 << 20;
      const double seconds = run_watched(transfer, *side, kWarmUp).seconds;
      if (bytes == 0) bytes = static_cast<std::uint64_t>(kWarmUp / seconds * kSliceSeconds);
      side->slices.clear();
    }
    for (int i = 0; i < kSlicesAFlow; ++i) {
      std::ranges::shuffle(order, random);
      for (auto* side : order) side->slices.push_back(run_watched(transfer, *side, bytes));
    }
    for (auto& side : sides) {
      side.seconds.push_back(median_of(side.slices, &Slice::seconds));
      side.cpu.push_back(median_of(side.slices, &Slice::cpu));
    }
  }

  const auto& nothing = sides.front();
  const auto gbit = [&](std::vector<double> seconds) {
    for (auto& value : seconds) value = static_cast<double>(bytes) * 8 / 1e9 / value;
    return spread(seconds);
  };
  const auto seconds_a_gigabyte = [&](std::vector<double> seconds) {
    for (auto& value : seconds) value *= 1e9 / static_cast<double>(bytes);
    return spread(seconds);
  };
  std::vector<Result> of_both_ends;
  for (const auto& side : sides) {
    if (&side == &nothing) continue;
    Result result;
    result.what = "throughput, " + side.name;
    result.unit = "Gbit/s";
    result.ours = gbit(side.seconds);
    result.floor_name = nothing.name;
    result.floor = gbit(nothing.seconds);
    // The same bytes: throughput is the inverse of time.
    result.ratio = ratio(nothing.seconds, side.seconds);
    result.sense = Sense::kAtLeast;
    result.note = side.source ? fmt::format(
                                    "Pairs of flows, of each the median of {} slices of {:.0f} ms, all of the same "
                                    "bytes, in random order; "
                                    "Reno; both ends in the cgroup, on a CPU each, the consumer where it likes. The "
                                    "whole interval has to "
                                    "meet the goal, which takes 30 pairs. {}.",
                                    kSlicesAFlow, kSliceSeconds * 1e3, describe(losses_of(*side.source)))
                  : side.has_empty_program ? "What the kernel takes for calling, whoever is called."
                                           : "Nothing against nothing: what this machine lets one see.";
    if (side.source && side.seconds.size() >= kPairsToJudge) {
      result.goal = 0.995;
      result.whole_interval = true;
    }
    outcome.results.push_back(std::move(result));

    Result cpu;
    cpu.what = "CPU time of both ends, " + side.name;
    cpu.unit = "s/GB";
    cpu.ours = seconds_a_gigabyte(side.cpu);
    cpu.floor_name = nothing.name;
    cpu.floor = seconds_a_gigabyte(nothing.cpu);
    cpu.ratio = ratio(side.cpu, nothing.cpu);
    cpu.note = "Of the same slices: what others on the machine do shows less in it. Without the consumer.";
    of_both_ends.push_back(std::move(cpu));
  }
  std::ranges::move(of_both_ends, std::back_inserter(outcome.results));
}

/// % of a core that a thread takes which only wakes each `period`, while the flow is used.
double wake_beside(Transfer& transfer, const Side& side, std::uint64_t bytes, std::chrono::nanoseconds period) {
  double cpu = 0;
  std::jthread thread([&](const std::stop_token& stop) {
    const double begin = thread_cpu_seconds();
    for (auto due = steady_clock::now(); !stop.stop_requested(); due += period) std::this_thread::sleep_until(due);
    cpu = thread_cpu_seconds() - begin;
  });
  const double seconds = run_watched(transfer, side, bytes).seconds;
  thread.request_stop();
  thread.join();
  return 100 * cpu / seconds;
}

void measure_cpu(const Options& options, Transfer& transfer, std::vector<Side>& sides, Outcome& outcome) {
  const int slices = options.quick ? 6 : 12;
  const tcpinfo::KernelStatistics statistics;
  for (auto& side : sides) {
    if (!side.source) continue;
    constexpr std::uint64_t kProbe = 200 << 20;
    const double probe = run_watched(transfer, side, kProbe).seconds;
    const auto bytes = static_cast<std::uint64_t>(kProbe / probe * (options.quick ? 0.3 : 0.7));
    std::vector<double> programs, consumer, all, runs, waker;
    // What waking, sweeping and draining take without the flow's own work on the same CPUs.
    const double cpu_before = side.consumer->cpu_seconds();
    side.resume();
    std::this_thread::sleep_for(1s);
    side.pause();
    const double idle = 100 * (side.consumer->cpu_seconds() - cpu_before);
    const auto losses = losses_of(*side.source);
    for (int i = 0; i < slices; ++i) {
      options.progress(fmt::format("CPU, {}", side.name));
      const auto time = program_time(side.cgroup->path());
      const double cpu = side.consumer->cpu_seconds();
      const double seconds = run_watched(transfer, side, bytes).seconds;
      const auto end = program_time(side.cgroup->path());
      programs.push_back(100 * (end.seconds - time.seconds) / seconds);
      consumer.push_back(100 * (side.consumer->cpu_seconds() - cpu) / seconds);
      all.push_back(programs.back() + consumer.back());
      waker.push_back(wake_beside(transfer, sides.front(), bytes, side.wakes_each));
      runs.push_back(static_cast<double>(end.runs - time.runs) / seconds);
    }
    const auto now = losses_of(*side.source);
    Result result;
    result.what = "CPU of tcpinfo, " + side.name;
    result.unit = "% of a core";
    result.ours = spread(all);
    result.floor_name = "a thread that only wakes as often";
    result.floor = spread(waker);
    result.goal = side.cpu_goal;
    result.whole_interval = true;
    result.note = fmt::format(
        "Programs {:.3f} %, {:.0f} runs a second of {:.0f} ns each (with the cost of counting them); consumer with its "
        "sweeps {:.3f} %, and {:.3f} % while the flow rests: it wakes to sweep, as a receiver has no RTT callbacks. "
        "{}.",
        spread(programs).median, spread(runs).median, 1e7 * spread(programs).median / spread(runs).median,
        spread(consumer).median, idle, describe({now.emitted - losses.emitted, now.lost - losses.lost}));
    outcome.results.push_back(std::move(result));
  }
}

/// One byte there and back, one after the other, `rate` times a second (0: as often as it goes), by this thread. Gives
/// how often it went.
double exchange(const Flow& flow, double rate, std::chrono::duration<double> time) {
  const auto begin = steady_clock::now();
  const auto pass = [](const lab::Fd& from, const lab::Fd& to) {
    char byte = 'x';
    if (::send(from.get(), &byte, 1, MSG_NOSIGNAL) != 1 || ::recv(to.get(), &byte, 1, 0) != 1) fail("exchange a byte");
  };
  for (std::uint64_t count = 0;; ++count) {
    const std::chrono::duration<double> elapsed = steady_clock::now() - begin;
    if (elapsed >= time) return static_cast<double>(count) / elapsed.count();
    if (const double due = rate > 0 ? static_cast<double>(count) / rate : 0; due > elapsed.count())
      std::this_thread::sleep_for(std::chrono::duration<double>(due - elapsed.count()));
    pass(flow.sender, flow.receiver);
    pass(flow.receiver, flow.sender);
  }
}

void grow(const Options& options, const lab::Netns& netns, std::vector<Side>& sides, Outcome& outcome) {
  connect(sides, netns);
  const tcpinfo::KernelStatistics statistics;
  for (const auto& side : sides) {
    if (!side.source) continue;
    Curve curve{
        .name = "packet rate, " + side.name, .x = "round trips/s", .y = "% of a core for the programs", .points = {}};
    for (const double rate : {1000.0, 4000.0, 16000.0, 0.0}) {
      std::vector<double> percent, rates;
      for (int i = 0; i < (options.quick ? 3 : 7); ++i) {
        options.progress(curve.name);
        const auto before = program_time(side.cgroup->path());
        side.resume();
        const auto begin = steady_clock::now();
        rates.push_back(exchange(side.flow, rate, options.quick ? 50ms : 300ms));
        const std::chrono::duration<double> elapsed = steady_clock::now() - begin;
        side.pause();
        percent.push_back(100 * (program_time(side.cgroup->path()).seconds - before.seconds) / elapsed.count());
      }
      curve.points.emplace_back(spread(rates).median, spread(percent));
    }
    outcome.curves.push_back(std::move(curve));
  }
}

/// Bits a second that arrived, as iperf3 says.
double run_iperf3(const lab::Netns& netns, const Side& side, std::uint16_t port) {
  const lab::Fd output(memfd_create("iperf3", MFD_CLOEXEC));
  lab::SpawnOptions options;
  options.command = {"iperf3", "-c", "127.0.0.1", "-p", std::to_string(port), "-t", "1", "-J"};
  options.cgroup = side.cgroup.get();
  options.netns = &netns;
  options.stdout_file = fmt::format("/proc/self/fd/{}", output.get());
  lab::Process client(options);
  const auto status = client.wait(30s);
  std::string text(1 << 20, '\0');
  const auto size = ::pread(output.get(), text.data(), text.size(), 0);
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  rapidjson::Document json;
  json.Parse(text.c_str());
  if (status != 0 || json.HasParseError() || !json.HasMember("end") || !json["end"].HasMember("sum_received"))
    throw tcpinfo::Error(std::make_error_code(std::errc::io_error), "run iperf3", text.substr(0, 300));
  return json["end"]["sum_received"]["bits_per_second"].GetDouble();
}

void measure_iperf3(const Options& options, const lab::Netns& netns, std::vector<Side>& sides, Outcome& outcome) {
  const int rounds = options.quick ? 4 : 30;
  std::vector<lab::Process> servers;
  struct Pair {
    const Side* side;
    std::uint16_t port;
    std::vector<double> gbit = {};
  };
  std::vector<Pair> measured;
  std::uint16_t port = 5201;
  for (const auto& side : sides) {
    if (!side.source && &side != &sides.front()) continue;
    lab::SpawnOptions server;
    server.command = {"iperf3", "-s", "-p", std::to_string(port)};
    server.cgroup = side.cgroup.get();
    server.netns = &netns;
    servers.emplace_back(server);
    for (int attempt = 0; !servers.back().listens(port); ++attempt) {
      if (attempt == 200) throw tcpinfo::Error(std::make_error_code(std::errc::timed_out), "start iperf3 -s", "");
      std::this_thread::sleep_for(25ms);
    }
    measured.push_back({&side, port++});
  }
  std::mt19937 random(1);
  std::vector<std::size_t> order{0, 1, 2};
  for (int round = 0; round < rounds; ++round) {
    std::ranges::shuffle(order, random);
    for (const auto i : order) {
      options.progress(fmt::format("iperf3, round {} of {}", round, rounds));
      auto& [side, its_port, gbit] = measured[i];
      side->resume();
      gbit.push_back(run_iperf3(netns, *side, its_port) / 1e9);
      side->pause();
    }
  }
  for (const auto& pair : measured) {
    if (!pair.side->source) continue;
    Result result;
    result.what = "iperf3, " + pair.side->name;
    result.unit = "Gbit/s";
    result.ours = spread(pair.gbit);
    result.floor_name = sides.front().name;
    result.floor = spread(measured.front().gbit);
    result.ratio = ratio(pair.gbit, measured.front().gbit);
    result.sense = Sense::kAtLeast;
    result.note =
        "Runs of 1 s in random order, client and server in the cgroup, the host's congestion control: the interval "
        "shows how far iperf3 itself "
        "can tell.";
    outcome.results.push_back(std::move(result));
  }
}

}  // namespace

Outcome bulk(const Options& options) {
  Outcome outcome;
  const lab::Netns netns("bench-bulk");
  auto sides = make_sides();
  {
    Transfer transfer;
    measure_slices(options, netns, transfer, sides, outcome);
    measure_cpu(options, transfer, sides, outcome);
  }
  if (options.growth) grow(options, netns, sides, outcome);
  for (auto& side : sides) side.flow = Flow();
  measure_iperf3(options, netns, sides, outcome);
  return outcome;
}

}  // namespace bench
