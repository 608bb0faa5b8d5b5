// SPDX-License-Identifier: BSD-2-Clause
#include "lab/path.hpp"

#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/pkt_sched.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <exception>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

#include "lab/emulator.hpp"
#include "lab/rtnetlink.hpp"

namespace lab {
namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;
using tcpinfo::Error;

constexpr int kEthernetHeader = 14;

[[noreturn]] void fail(int error, std::string action, std::string way_out = {}) {
  throw Error(std::error_code(error, std::system_category()), std::move(action), std::move(way_out));
}

std::string text(const PathOptions& options, const Netns& a, const Netns& b) {
  return options.engine == Engine::kBest
             ? fmt::format("make a path from {} to {}", a.name(), b.name())
             : fmt::format("make a path by {} from {} to {}", name(options.engine), a.name(), b.name());
}

std::string out_of_range(const Way& way) {
  for (const double share : {way.loss, way.reordering})
    if (!(share >= 0 && share <= 1)) return "loss and reordering are shares, from 0 to 1";
  if (!(way.rate_mbit >= 0 && way.rate_mbit <= 1e6)) return "a rate is from 0 to 1,000,000 Mbit/s";
  for (const auto time : {way.delay, way.jitter})
    if (time < 0us || time > 60s) return "delay and jitter are from 0 to 60 s";
  if (way.rate_mbit == 0 && way.queue_bytes > 0) return "a queue needs a rate that it waits for";
  if (way.rate_mbit == 0 && way.ecn_mark_bytes > 0) return "marks need a rate, for which a queue waits";
  if (way.reordering > 0 && way.delay == 0us) return "reordering needs a delay, which the packets that overtake skip";
  return {};
}

bool shapes(const Way& way) { return way.rate_mbit > 0; }
bool delays(const Way& way) { return way.delay > 0us || way.jitter > 0us || way.loss > 0 || way.reordering > 0; }

/// What of `way` the engine cannot do, or empty.
std::string beyond(Engine engine, const Way& way) {
  if (engine == Engine::kVeth && shapes(way)) return "veth has no rate";
  if (engine != Engine::kEmulator && way.ecn_mark_bytes > 0)
    return fmt::format("{} does not mark by the queue's length", name(engine));
  if ((engine == Engine::kVeth || engine == Engine::kTbf) && delays(way))
    return fmt::format("{} neither delays, loses nor reorders", name(engine));
  if (engine == Engine::kNetem && way.reordering > 0 && shapes(way))
    return "what overtakes in netem would also overtake the rate";
  return {};
}

std::string beyond(Engine engine, const PathOptions& options) {
  const auto there = beyond(engine, options.there);
  return there.empty() ? beyond(engine, options.back) : there;
}

Engine choose(const PathOptions& options, const Netns& middle) {
  for (const auto engine : {Engine::kVeth, Engine::kTbf, Engine::kNetem})
    if (beyond(engine, options).empty() && (engine != Engine::kNetem || netem_available(middle))) return engine;
  return Engine::kEmulator;
}

/// One packet has one segment then, in the queues and their counters too: TCP's GSO packets are cut before they leave.
void cut_segments(const Netns& netns, const char* device) {
  netns.run([&] {
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    for (const auto command : {ETHTOOL_STSO, ETHTOOL_SGSO}) {
      ethtool_value value{static_cast<__u32>(command), 0};
      ifreq request{};
      std::strcpy(request.ifr_name, device);
      request.ifr_data = reinterpret_cast<char*>(&value);
      if (socket.get() < 0 || ::ioctl(socket.get(), SIOCETHTOOL, &request) != 0)
        fail(errno, fmt::format("switch off the offloads of {} in {}", device, netns.name()));
    }
  });
}

std::vector<std::string> qdisc(const Netns& netns, const char* port, std::vector<std::string> rest) {
  std::vector<std::string> command{"tc", "-n", netns.name(), "qdisc", "add", "dev", port};
  command.insert(command.end(), std::make_move_iterator(rest.begin()), std::make_move_iterator(rest.end()));
  return command;
}

std::vector<std::string> tbf_arguments(const Way& way, int mtu, std::vector<std::string> where) {
  // The kernel counts the Ethernet header too: packets of full size, which queue, get the rate that was asked.
  const double frame = mtu + kEthernetHeader;
  const double rate = way.rate_mbit * 1e6 * frame / mtu;
  // tbf(8): the bucket must hold what flows between two timer interrupts; a millisecond's worth keeps bursts short.
  // What is larger than the bucket is dropped.
  const double burst = std::max(rate / 8 / 1000, 2 * frame);
  const double limit = std::max(static_cast<double>(queue_limit(way, mtu)) * frame / mtu, frame);
  for (std::string word :
       {std::string("tbf"), std::string("rate"), fmt::format("{:.0f}bit", rate), std::string("burst"),
        fmt::format("{:.0f}", std::ceil(burst)), std::string("limit"), fmt::format("{:.0f}", std::ceil(limit))})
    where.push_back(std::move(word));
  return where;
}

std::vector<std::string> netem_arguments(const Way& way) {
  // The limit counts what is delayed, too: it must never be reached.
  std::vector<std::string> words{"root", "handle", "1:", "netem", "limit", "1000000"};
  const auto add = [&words](auto... word) { (words.emplace_back(word), ...); };
  const auto us = [](double time) { return fmt::format("{:.3f}us", time); };
  const auto percent = [](double share) { return fmt::format("{:.6f}%", share * 100); };
  const auto delay = static_cast<double>(way.delay.count()), jitter = static_cast<double>(way.jitter.count());
  // netem's is to both sides of the delay.
  if (way.jitter > 0us)
    add("delay", us(delay + jitter / 2), us(jitter / 2));
  else if (way.delay > 0us)
    add("delay", us(delay));
  if (way.loss > 0) add("loss", percent(way.loss));
  if (way.reordering > 0) add("reorder", percent(way.reordering));
  // netem keeps the order of packets with jitter only if it has a rate (kernel v6.12 net/sched/sch_netem.c
  // netem_enqueue()); this one takes no time.
  if (way.jitter > 0us) add("rate", "1000gbit");
  return words;
}

class Veth {
 public:
  Veth(const Netns& a, const Netns& b, const Netns& middle, const PathOptions& options, Engine engine)
      : engine_(engine), options_(options), kernel_(middle) {
    // Of another path, which what follows would take away.
    middle.run([&] {
      if (::if_nametoindex("switch0") != 0)
        fail(EEXIST, fmt::format("make device switch0 in {}", middle.name()), "a path is there already");
    });
    try {
      link(a, b, middle);
      for (const auto& [netns, device] :
           {std::pair(&a, "veth0"), std::pair(&b, "veth0"), std::pair(&middle, "port1"), std::pair(&middle, "port2")})
        if (options.mtu != 1500)
          run_command({"ip", "-n", netns->name(), "link", "set", device, "mtu", std::to_string(options.mtu)});
      if (engine != Engine::kVeth)
        for (const auto* end : {&a, &b}) cut_segments(*end, "veth0");
      treat(middle, "port2", options.there);
      treat(middle, "port1", options.back);
    } catch (...) {
      remove();
      throw;
    }
  }
  Veth(const Veth&) = delete;
  ~Veth() { remove(); }

  WayCounters counters(bool there) const {
    const auto& way = there ? options_.there : options_.back;
    WayCounters counters;
    // None of the engines here does it but where it is set below.
    counters.lost = counters.marked = counters.reordered = 0;
    if (engine_ == Engine::kVeth) return counters;
    const auto in = kernel_.device(there ? "port1" : "port2");
    counters.packets = in.rx_packets;
    counters.bytes = in.rx_bytes - kEthernetHeader * in.rx_packets;
    const auto qdiscs = kernel_.qdiscs(kernel_.device(there ? "port2" : "port1").index);
    const auto find = [&](std::string_view kind) {
      const auto found = std::ranges::find(qdiscs, kind, &Rtnetlink::Qdisc::kind);
      return found == qdiscs.end() ? Rtnetlink::Qdisc{} : *found;
    };
    counters.dropped = find("tbf").drops;
    if (delays(way)) {
      const auto netem = find("netem");
      // It counts what its inner queue drops as well.
      counters.lost = netem.drops - *counters.dropped;
      counters.reordered = netem.requeues;
    }
    if (*counters.lost + *counters.dropped == 0) counters.data_lost = 0;
    return counters;
  }

 private:
  void treat(const Netns& middle, const char* port, const Way& way) const {
    if (delays(way)) run_command(qdisc(middle, port, netem_arguments(way)));
    if (shapes(way))
      run_command(qdisc(
          middle, port,
          tbf_arguments(way, options_.mtu,
                        delays(way) ? std::vector<std::string>{"parent", "1:1"} : std::vector<std::string>{"root"})));
  }

  // Each with its other end.
  void remove() const noexcept {
    for (const char* device : {"port1", "port2", "switch0"}) kernel_.remove(device);
  }

  const Engine engine_;
  const PathOptions options_;
  const Rtnetlink kernel_;
};

}  // namespace

std::string_view name(Engine engine) {
  switch (engine) {
    case Engine::kBest:
      return "best";
    case Engine::kVeth:
      return "veth";
    case Engine::kTbf:
      return "tbf";
    case Engine::kNetem:
      return "netem";
    case Engine::kEmulator:
      return "emulator";
  }
  return {};
}

struct Path::Impl {
  std::unique_ptr<Veth> veth;
  std::unique_ptr<Emulator> emulator;

  WayCounters counters(bool there) const { return veth ? veth->counters(there) : emulator->counters(there); }
};

Path::Path(const Netns& a, const Netns& b, const Netns& middle, const PathOptions& options)
    : engine_(options.engine), impl_(std::make_unique<Impl>()) {
  const auto action = text(options, a, b);
  for (const auto* way : {&options.there, &options.back})
    if (auto reason = out_of_range(*way); !reason.empty()) fail(EINVAL, action, std::move(reason));
  if (options.mtu < 1280 || options.mtu > 65535) fail(EINVAL, action, "an MTU is from 1280, for IPv6, to 65535");
  if (engine_ == Engine::kBest) engine_ = choose(options, middle);
  if (const auto reason = beyond(engine_, options); !reason.empty())
    fail(EOPNOTSUPP, action, reason + ": choose the engine emulator, or best");
  if (engine_ == Engine::kNetem && !netem_available(middle))
    fail(
        EOPNOTSUPP, action,
        "this kernel has no netem (CONFIG_NET_SCH_NETEM; try modprobe sch_netem): choose the engine emulator, or best");
  if (engine_ == Engine::kEmulator)
    impl_->emulator = std::make_unique<Emulator>(a, b, options);
  else
    impl_->veth = std::make_unique<Veth>(a, b, middle, options, engine_);
}

Path::~Path() = default;

Engine Path::engine() const noexcept { return engine_; }

WayCounters Path::there() const { return impl_->counters(true); }

WayCounters Path::back() const { return impl_->counters(false); }

bool netem_available(const Netns& netns) {
  try {
    run_command({"tc", "-n", netns.name(), "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"});
    run_command({"tc", "-n", netns.name(), "qdisc", "del", "dev", "lo", "root"});
  } catch (const Error&) {
    return false;
  }
  return true;
}

namespace {

using Clock = std::chrono::steady_clock;

class Echo {
 public:
  Echo(const Netns& a, const Netns& b) {
    b.run([&] { far_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); });
    a.run([&] { near_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); });
    sockaddr_in address{};
    address.sin_family = AF_INET;
    ::inet_pton(AF_INET, "10.77.0.2", &address.sin_addr);
    socklen_t length = sizeof(address);
    auto* any = reinterpret_cast<sockaddr*>(&address);
    if (far_.get() < 0 || near_.get() < 0 || ::bind(far_.get(), any, length) != 0 ||
        ::getsockname(far_.get(), any, &length) != 0 || ::connect(near_.get(), any, length) != 0)
      fail(errno, fmt::format("send packets from {} to {}", a.name(), b.name()), "the path is gone");
  }

  void send() {
    const auto number = static_cast<std::uint32_t>(sent_.size());
    sent_.push_back(Clock::now());
    // What a full queue refuses counts as lost.
    [[maybe_unused]] const auto size = ::send(near_.get(), &number, sizeof(number), 0);
  }

  /// Echoes and receives until `end`, or until everything came back.
  void wait(Clock::time_point end, bool until_all) {
    while (!until_all || trips_.size() < sent_.size()) {
      const auto left = std::chrono::nanoseconds(end - Clock::now());
      if (left <= 0ns) return;
      const timespec timeout{.tv_sec = left / 1s, .tv_nsec = (left % 1s).count()};
      pollfd ready[2]{{far_.get(), POLLIN, 0}, {near_.get(), POLLIN, 0}};
      ::ppoll(ready, 2, &timeout, nullptr);
      echo();
      receive();
    }
  }

  const std::vector<microseconds>& trips() const { return trips_; }
  int sent() const { return static_cast<int>(sent_.size()); }

 private:
  void echo() {
    sockaddr_in from{};
    socklen_t length = sizeof(from);
    std::uint32_t number = 0;
    while (::recvfrom(far_.get(), &number, sizeof(number), 0, reinterpret_cast<sockaddr*>(&from), &length) ==
           sizeof(number))
      [[maybe_unused]] const auto size =
          ::sendto(far_.get(), &number, sizeof(number), 0, reinterpret_cast<sockaddr*>(&from), length);
  }

  void receive() {
    std::uint32_t number = 0;
    while (::recv(near_.get(), &number, sizeof(number), 0) == sizeof(number))
      if (number < sent_.size())
        trips_.push_back(std::chrono::duration_cast<microseconds>(Clock::now() - sent_[number]));
  }

  Fd near_, far_;
  std::vector<Clock::time_point> sent_;
  std::vector<microseconds> trips_;
};

}  // namespace

RoundTrips measure_round_trips(const Netns& a, const Netns& b, int count) {
  // The first packet waits for the neighbour's address; where it is lost, another one finds it.
  for (int attempt = 0; attempt < 3; ++attempt) {
    Echo first(a, b);
    first.send();
    first.wait(Clock::now() + 1s, true);
    if (!first.trips().empty()) break;
  }
  Echo echo(a, b);
  for (int i = 0; i < count; ++i) {
    echo.send();
    echo.wait(Clock::now() + 10ms, false);
  }
  echo.wait(Clock::now() + 2s, true);
  RoundTrips result;
  result.sent = echo.sent();
  result.received = static_cast<int>(echo.trips().size());
  auto trips = echo.trips();
  if (trips.empty()) return result;
  std::ranges::sort(trips);
  result.least = trips.front();
  result.median = trips[trips.size() / 2];
  result.most = trips.back();
  return result;
}

}  // namespace lab
