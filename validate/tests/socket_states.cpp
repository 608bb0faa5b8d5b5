// SPDX-License-Identifier: BSD-2-Clause
#include "socket_states.hpp"

#include <fcntl.h>
#include <linux/filter.h>
#include <poll.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include <fmt/format.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

namespace states {
namespace {

using namespace std::chrono_literals;
using lab::Ip;
using Clock = std::chrono::steady_clock;

// Options newer than the C library's header; a kernel that lacks one says so and the socket goes without.
constexpr int kRtoMaxMs = 44, kRtoMinUs = 45, kDelackMaxUs = 46, kTxRehash = 74;

void set_sysctl(const std::string& name, int value) {
  std::ofstream file("/proc/sys/net/ipv4/" + name);
  file << value << std::flush;
}

template <class T>
void set(int fd, int level, int option, T value, std::string_view name, std::string& story) {
  const bool done = setsockopt(fd, level, option, &value, sizeof(value)) == 0;
  story += fmt::format(" {}={}{}", name, value, done ? "" : "(refused)");
}

void set_congestion_control(int fd, Random& random, std::string& story) {
  const auto& name = congestion_controls()[random.below(congestion_controls().size())];
  if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) == 0)
    story += " " + name;
}

void set_pacing(int fd, Random& random, std::string& story) {
  set<std::uint64_t>(fd, SOL_SOCKET, SO_MAX_PACING_RATE,
                     random.pick<std::uint64_t>({1000, 20'000, 1'000'000, 5'000'000'000, 123'456'789'012, ~0ull}),
                     "pacing", story);
}

// One option, of those that leave a mark in what is compared.
void set_some_option(int fd, Random& random, std::string& story) {
  const auto number = [&](int level, int option, std::string_view name, std::initializer_list<int> values) {
    set<int>(fd, level, option, random.pick(values), name, story);
  };
  switch (random.below(19)) {
    case 0:
      return number(IPPROTO_TCP, TCP_NODELAY, "nodelay", {0, 1});
    case 1:
      return number(IPPROTO_TCP, TCP_CORK, "cork", {0, 1});
    case 2:
      return number(IPPROTO_TCP, TCP_QUICKACK, "quickack", {0, 1});
    case 3:
      return number(SOL_SOCKET, SO_SNDBUF, "sndbuf", {2304, 10'000, 100'000, 2'000'000});
    case 4:
      return number(SOL_SOCKET, SO_RCVBUF, "rcvbuf", {1152, 4000, 30'000, 1'000'000});
    case 5:
      return number(IPPROTO_TCP, TCP_NOTSENT_LOWAT, "notsent_lowat", {1, 5000, 200'000});
    case 6:
      return number(IPPROTO_IP, IP_TOS, "tos", {0, 0x10, 0x28, 0xb8, 0xfc});
    case 7:
      return number(IPPROTO_IPV6, IPV6_TCLASS, "tclass", {0, 0x28, 0xb8});
    case 8:
      return number(IPPROTO_TCP, TCP_USER_TIMEOUT, "user_timeout", {300, 1500, 20'000});
    case 9:
      return set_pacing(fd, random, story);
    case 10:
      return set_congestion_control(fd, random, story);
    case 11:
      return number(IPPROTO_TCP, TCP_WINDOW_CLAMP, "window_clamp", {1000, 10'000, 200'000});
    case 12:
      return number(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, "thin", {0, 1});
    case 13:
      return number(IPPROTO_TCP, kRtoMinUs, "rto_min_us", {8'000, 40'000, 100'000, 500'000});
    case 14:
      return number(IPPROTO_TCP, kDelackMaxUs, "delack_max_us", {4'000, 20'000, 100'000});
    case 15:
      return number(IPPROTO_TCP, kRtoMaxMs, "rto_max_ms", {1000, 5000, 60'000});
    case 16:
      return number(SOL_SOCKET, kTxRehash, "txrehash", {0, 1});
    case 17:  // where the kernel has it; without keys everything passes as it is
      if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) == 0) story += " tls";
      return;
    default: {
      // Lets everything pass; its memory is the socket's.
      sock_filter pass = BPF_STMT(BPF_RET | BPF_K, 0xffffffff);
      const sock_fprog program{1, &pass};
      if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0) story += " filter";
    }
  }
}

lab::Endpoint endpoint(Ip ip, bool loopback, int host, std::uint16_t port) {
  if (loopback) return lab::loopback(ip, port);
  lab::Endpoint result;
  if (ip == Ip::kV4) {
    auto& address = reinterpret_cast<sockaddr_in&>(result.storage);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    inet_pton(AF_INET, fmt::format("10.77.0.{}", host).c_str(), &address.sin_addr);
    result.length = sizeof(address);
  } else {
    auto& address = reinterpret_cast<sockaddr_in6&>(result.storage);
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(port);
    const auto text = ip == Ip::kV6 ? fmt::format("fd77::{}", host) : fmt::format("::ffff:10.77.0.{}", host);
    inet_pton(AF_INET6, text.c_str(), &address.sin6_addr);
    result.length = sizeof(address);
  }
  return result;
}

lab::Socket make_socket(Ip ip, bool mptcp) {
  const int family = ip == Ip::kV4 ? AF_INET : AF_INET6;
  const int fd =
      lab::check(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, mptcp ? IPPROTO_MPTCP : 0), "socket");
  lab::Socket socket(fd);
  // Of an MPTCP socket the change does not reach the subflow, and before v6.17 inet_diag tells the former's owner.
  static uid_t owner = 0;
  if (!mptcp) lab::check(::fchown(fd, owner++ % 3, static_cast<gid_t>(-1)), "fchown");
  return socket;
}

bool has_mptcp() {
  static const bool has = [] {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
  }();
  return has;
}

std::uint16_t peer_port(int fd) {
  sockaddr_in6 address{};
  socklen_t length = sizeof(address);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return ntohs(address.sin6_port);  // at the same place in sockaddr_in
}

const std::string& payload() {
  static const std::string bytes(4 << 20, 'x');
  return bytes;
}

}  // namespace

const std::vector<std::string>& congestion_controls() {
  static const auto list = [] {
    const lab::Socket socket(Ip::kV4);
    for (const std::string_view name : {"bbr", "cubic", "reno", "vegas", "dctcp", "westwood", "illinois", "htcp", "bic", "highspeed", "hybla", "lp",
          "scalable", "veno", "yeah", "nv", "cdg"})
      setsockopt(socket.fd(), IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size()));
    std::vector<std::string> names;
    std::ifstream file("/proc/sys/net/ipv4/tcp_available_congestion_control");
    for (std::string name; file >> name;) names.push_back(name);
    return names;
  }();
  return list;
}

bool accurate_ecn() {
  static const bool has = [] {
    // Older kernels take the number for one of their own.
    if (!std::filesystem::exists("/proc/sys/net/ipv4/tcp_ecn_option")) return false;
    const lab::Netns netns("tcpinfo-equal");
    bool taken = false;
    netns.run([&] {
      std::ofstream file("/proc/sys/net/ipv4/tcp_ecn");
      taken = static_cast<bool>(file << 3 << std::flush);
    });
    return taken;
  }();
  return has;
}

Settings Settings::random(Random& random, bool all_on) {
  Settings settings;
  settings.sack = all_on || random.chance(0.75);
  settings.timestamps = all_on || random.chance(0.75);
  settings.window_scaling = all_on || random.chance(0.75);
  if (all_on)
    settings.ecn = accurate_ecn() ? 3 : 1;
  else
    settings.ecn = accurate_ecn() ? random.pick({0, 1, 2, 3, 3}) : random.pick({0, 1, 1, 2});
  settings.fastopen = random.pick({0x207, 0x207, 0x3, 0x5});
  settings.early_retrans = random.pick({0, 3});
  settings.recovery = random.pick({0, 1, 1});
  settings.min_rtt_wlen = all_on ? 1 : random.pick({0, 1, 300});
  settings.mtu = random.pick({1500, 1500, 1280, 9000});
  settings.route_rto_min_ms = all_on ? 30 : random.pick({0, 0, 0, 12, 30, 400});
  return settings;
}

std::string Settings::text() const {
  return fmt::format(
      "sack={} timestamps={} window_scaling={} ecn={} fastopen={:#x} early_retrans={} recovery={} mtu={} "
      "route_rto_min={}ms min_rtt_wlen={}",
      sack, timestamps, window_scaling, ecn, fastopen, early_retrans, recovery, mtu, route_rto_min_ms, min_rtt_wlen);
}

const char* name(Kind kind) {
  static constexpr std::array<const char*, kKinds> names{
      "ordinary",      "lossy",     "reordered",   "duplicated", "marked",      "recovered", "black hole",
      "closed window", "keepalive", "smallbuf",    "paced",      "corked",      "tfo",       "tfo lost",
      "mptcp",         "syn sent",  "half open",   "waiting",    "half closed", "closing",   "closed",
      "abandoned",     "reset",     "reconnected", "urgent",     "loopback"};
  return names[static_cast<std::size_t>(kind)];
}

Batch::Batch(std::uint64_t seed, bool all_on, std::size_t connections, std::function<void()> idle)
    : random_(seed),
      settings_(Settings::random(random_, all_on)),
      wanted_(connections),
      clogged_round_(static_cast<int>(random_.below(kRounds))),
      idle_(std::move(idle)),
      a_("tcpinfo-equal-a"),
      b_("tcpinfo-equal-b"),
      link_(a_, b_, settings_.mtu),
      story_(fmt::format("seed {} {}", seed, settings_.text())) {
  for (const auto* side : {&a_, &b_}) {
    side->run([&] {
      set_sysctl("tcp_sack", settings_.sack);
      set_sysctl("tcp_timestamps", settings_.timestamps);
      set_sysctl("tcp_window_scaling", settings_.window_scaling);
      set_sysctl("tcp_ecn", settings_.ecn);
      set_sysctl("tcp_fastopen", settings_.fastopen);
      set_sysctl("tcp_early_retrans", settings_.early_retrans);
      set_sysctl("tcp_recovery", settings_.recovery);
      set_sysctl("tcp_min_rtt_wlen", settings_.min_rtt_wlen);
    });
    if (settings_.route_rto_min_ms == 0) continue;
    const auto least = fmt::format("{}ms", settings_.route_rto_min_ms);
    // The kernel's own routes, with the metric that it gave them.
    for (const auto& [network, metric] : {std::pair("10.77.0.0/24", "0"), std::pair("fd77::/64", "256")})
      lab::run_command({"ip", "-n", side->name(), "route", "replace", network, "dev", "tun0", "proto", "kernel",
                        "metric", metric, "rto_min", least});
  }
  link_.on_segment([this](const lab::Segment& segment) { return decide(segment); });
}

void Batch::add_listener(Ip ip, bool in_a, bool fast_open, bool mptcp, bool waits) {
  Listener listener{make_socket(ip, mptcp), ip, in_a, fast_open, mptcp, waits, "listener"};
  const int fd = listener.socket.fd();
  if (ip == Ip::kMapped) set<int>(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0, "v6only", listener.story);
  if (random_.chance(0.5))
    set<int>(fd, SOL_SOCKET, SO_RCVBUF, random_.pick({1152, 6000, 50'000, 3'000'000}), "rcvbuf", listener.story);
  if (random_.chance(0.5)) set_congestion_control(fd, random_, listener.story);
  if (random_.chance(0.3)) set_pacing(fd, random_, listener.story);
  if (random_.chance(0.3)) set_some_option(fd, random_, listener.story);
  if (fast_open) set<int>(fd, IPPROTO_TCP, TCP_FASTOPEN, 1000, "tfo", listener.story);
  const auto address = endpoint(ip, false, in_a ? 1 : 2, 0);
  lab::check(::bind(fd, address.get(), address.length), "bind");
  const int backlog = waits ? static_cast<int>(random_.between(1, 6)) : 500;
  lab::check(::listen(fd, backlog), "listen");
  listener.story +=
      fmt::format(" {} backlog={}{}{}", lab::name(ip), backlog, mptcp ? " mptcp" : "", in_a ? "" : " in b");
  listeners_.push_back(std::move(listener));
}

void Batch::open() {
  for (const auto ip : {Ip::kV4, Ip::kV6, Ip::kMapped}) {
    for (const bool in_a : {true, false}) {
      const auto& side = in_a ? a_ : b_;
      side.run([&] {
        add_listener(ip, in_a, false, false, false);
        if (in_a) return;
        add_listener(ip, false, true, false, false);
        if (has_mptcp()) add_listener(ip, false, false, true, false);
        add_listener(ip, false, false, false, true);
      });
    }
  }
  a_.run([&] {
    for (std::size_t i = 0; i < wanted_; ++i)
      add_connection(i < kKinds ? static_cast<Kind>(i) : static_cast<Kind>(random_.below(kKinds)));
  });
  pump(3ms);
  for (auto& connection : connections_)
    for (auto& end : connection->ends)
      if (end.socket.fd() >= 0 && connection->kind != Kind::kSmallBuffer && connection->random->chance(0.4))
        set_some_option(end.socket.fd(), *connection->random, connection->story);
}

void Batch::add_connection(Kind kind) {
  if (kind == Kind::kMptcp && !has_mptcp()) kind = Kind::kOrdinary;
  auto made = std::make_unique<Connection>();
  auto& connection = *made;
  connection.kind = kind;
  connection.random = std::make_unique<Random>(random_.seed());
  auto& random = *connection.random;
  connection.ip = random.pick({Ip::kV4, Ip::kV6, Ip::kMapped});
  connection.loopback = kind == Kind::kLoopback;
  connection.mptcp = kind == Kind::kMptcp;
  connection.fast_open = kind == Kind::kFastOpen || kind == Kind::kFastOpenLost;
  connection.accepted_never = kind == Kind::kWaiting;
  connection.story = fmt::format("{} {}", name(kind), lab::name(connection.ip));

  // What it does, at random; then what its kind is about.
  for (std::size_t i = 0; i < 2; ++i) {
    connection.sends[i] = random.pick({0.0, 0.3, 0.9});
    connection.reads[i] = random.pick({0.0, 0.5, 1.0});
    auto& path = connection.paths[i];
    if (random.chance(0.2)) path.lose = 0.05;
    if (random.chance(0.2)) path.hold = 0.05;
    if (random.chance(0.2)) path.twice = 0.05;
    if (random.chance(0.3)) path.mark = 0.1;
  }
  connection.largest = random.pick<std::size_t>({100, 3000, 20'000, 20'000, 200'000, 1'000'000});
  connection.freezes = random.pick({0.0, 0.3, 0.9});
  if (random.chance(0.1)) connection.ends_in = static_cast<int>(random.between(1, 3));
  auto& [forth, back] = connection.paths;
  switch (kind) {
    case Kind::kLossy:
      forth.lose = back.lose = 0.15;
      connection.sends[0] = 0.9;
      connection.reads[1] = 1;
      break;
    case Kind::kReordered:
      forth.hold = 0.2;
      forth.lose = 0;
      connection.sends[0] = connection.reads[1] = 1;
      connection.largest = 200'000;
      break;
    case Kind::kDuplicated:
      forth.twice = back.twice = 0.3;
      connection.sends[0] = connection.reads[1] = 1;
      break;
    case Kind::kMarked:
      forth.mark = back.mark = 0.5;
      connection.sends[0] = connection.reads[1] = 1;
      connection.largest = 200'000;
      break;
    case Kind::kRecovered:
      connection.sends[0] = connection.reads[1] = 1;
      connection.freezes = 0.9;
      connection.ends_in.reset();
      break;
    case Kind::kBlackHole:
      connection.sends[0] = connection.sends[1] = 1;
      connection.freezes = 1;
      break;
    case Kind::kClosedWindow:
      connection.sends[0] = 1;
      connection.largest = 1'000'000;
      connection.reads[1] = 0;
      forth = back = {};
      break;
    case Kind::kKeepAlive:
      connection.sends = {0.5, 0.5};
      connection.freezes = 1;
      break;
    case Kind::kSmallBuffer:
      connection.sends[0] = connection.reads[1] = 1;
      connection.largest = 100'000;
      connection.freezes = 1;
      forth = back = {};
      break;
    case Kind::kUrgent:
      connection.sends[0] = 1;
      connection.reads[1] = 0;
      forth = {};
      break;
    case Kind::kAbandoned:
      forth = back = {};
      connection.sends = {0.5, 0};
      connection.reads[1] = 1;
      connection.largest = 3000;
      connection.freezes = 0;
      connection.ends_in = 0;
      break;
    case Kind::kSynSent:
      forth.black_hole = true;
      break;
    case Kind::kFastOpenLost:
      forth.lose_syn = 1;
      break;
    case Kind::kHalfOpen:
      forth.only_syn = true;
      break;
    case Kind::kHalfClosed:
    case Kind::kClosing:
    case Kind::kClosed:
    case Kind::kReset:
    case Kind::kReconnected:
      connection.ends_in = static_cast<int>(random.between(0, 3));
      break;
    default:
      break;
  }

  std::vector<std::size_t> fitting;
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    const auto& listener = listeners_[i];
    // A fast open that the server does not know is a state of its own.
    const bool fits_fast_open =
        kind == Kind::kFastOpen ? !listener.waits && !listener.mptcp : listener.fast_open == connection.fast_open;
    if (listener.ip == connection.ip && listener.in_a == connection.loopback && fits_fast_open &&
        listener.mptcp == connection.mptcp && listener.waits == connection.accepted_never)
      fitting.push_back(i);
  }
  connection.listener = fitting.at(random.below(fitting.size()));
  const auto& listener = listeners_[connection.listener];

  auto& client = connection.ends[0];
  client.socket = make_socket(connection.ip, connection.mptcp);
  connection.ends[1].in_a = connection.loopback;
  const int fd = client.socket.fd();
  auto& story = connection.story;
  if (kind == Kind::kKeepAlive) {
    set<int>(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "keepalive", story);
    set<int>(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1, "idle", story);
    set<int>(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1, "interval", story);
    set<int>(fd, IPPROTO_TCP, TCP_KEEPCNT, 20, "count", story);
  }
  if (kind == Kind::kSmallBuffer) set<int>(fd, SOL_SOCKET, SO_SNDBUF, 2304, "sndbuf", story);
  if (kind == Kind::kPaced) set_pacing(fd, random, story);
  if (kind == Kind::kCorked) set<int>(fd, IPPROTO_TCP, TCP_CORK, 1, "cork", story);
  // Limited by the send buffer is who is limited by nothing else.
  const bool plain = kind == Kind::kSmallBuffer;
  if (!plain && random.chance(0.3))
    set<int>(fd, IPPROTO_TCP, TCP_MAXSEG, random.pick({88, 536, 1000, 1400}), "mss", story);
  if (random.chance(0.2)) set<int>(fd, SOL_SOCKET, SO_RCVBUF, random.pick({1152, 5000, 4'000'000}), "rcvbuf", story);
  if (random.chance(0.5)) set_congestion_control(fd, random, story);
  if (!plain && random.chance(0.2)) set_some_option(fd, random, story);

  // The client's SYN says what it wants; the server's settings are the world's.
  for (const char* option : {"tcp_sack", "tcp_timestamps", "tcp_window_scaling", "tcp_ecn"}) {
    const bool on = random.chance(0.8);
    if (!on) story += fmt::format(" -{}", option + 4);
    set_sysctl(option, !on ? 0 : option == std::string_view("tcp_ecn") ? settings_.ecn : 1);
  }
  const auto address = endpoint(connection.ip, false, connection.loopback ? 1 : 2, listener.socket.local_port());
  if (connection.fast_open) {
    const auto sent = ::sendto(fd, payload().data(), random.pick<std::size_t>({1, 300, 1000}),
                               MSG_FASTOPEN | MSG_NOSIGNAL, address.get(), address.length);
    story += fmt::format(" tfo={}", sent);
    if (random.chance(0.3)) forth.only_syn = true;  // stays in SYN_RECV, with data
  } else if (::connect(fd, address.get(), address.length) != 0 && errno != EINPROGRESS) {
    lab::check(-1, "connect");
  }
  name_it(connection);
  connections_.push_back(std::move(made));
}

void Batch::name_it(Connection& connection) {
  connection.name = {connection.ip == Ip::kV6, connection.loopback, connection.ends[0].socket.local_port(),
                     listeners_[connection.listener].socket.local_port()};
  by_name_[connection.name] = &connection;
}

void Batch::accept_all() {
  for (auto& listener : listeners_) {
    if (listener.waits) continue;
    for (;;) {
      lab::Socket accepted(::accept4(listener.socket.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (accepted.fd() < 0) break;
      const auto found = by_name_.find(
          {listener.ip == Ip::kV6, listener.in_a, peer_port(accepted.fd()), listener.socket.local_port()});
      if (found != by_name_.end()) found->second->ends[1].socket = std::move(accepted);
    }
  }
}

lab::Fate Batch::decide(const lab::Segment& segment) {
  using lab::Fate;
  const auto [client, server] = segment.from_a ? std::pair(segment.source_port, segment.destination_port)
                                               : std::pair(segment.destination_port, segment.source_port);
  const auto found = by_name_.find({segment.ipv6, false, client, server});
  if (found == by_name_.end()) return Fate::kPass;
  auto& connection = *found->second;
  auto& path = connection.paths[segment.from_a ? 0 : 1];
  auto& random = *connection.random;
  if (path.black_hole || (path.only_syn && !segment.syn)) return Fate::kDrop;
  if (segment.syn) return path.lose_syn > 0 && path.lose_syn-- ? Fate::kDrop : Fate::kPass;
  if (segment.payload > 0 && path.lose_data > 0 && path.lose_data--) return Fate::kDrop;
  if (path.mark > 0 && random.chance(path.mark))
    segment.set_ecn(random.chance(0.8) ? lab::Ecn::kCongestionExperienced : lab::Ecn::kEct1);
  if (path.lose > 0 && random.chance(path.lose)) return Fate::kDrop;
  if (path.hold > 0 && random.chance(path.hold)) return Fate::kHold;
  if (path.twice > 0 && random.chance(path.twice)) return Fate::kTwice;
  return Fate::kPass;
}

void Batch::act(Connection& connection, int round) {
  auto& random = *connection.random;
  std::string buffer;
  for (std::size_t i = 0; i < 2; ++i) {
    const int fd = connection.ends[i].socket.fd();
    if (fd < 0) continue;
    const bool quiet = connection.kind == Kind::kKeepAlive && round > 0;
    if (!quiet && random.chance(connection.sends[i])) {
      const auto bytes = random.chance(0.3) ? random.between(1, 2000) : random.between(1, connection.largest);
      const bool urgent = i == 0 && (connection.kind == Kind::kUrgent || random.chance(0.01));
      const auto sent = ::send(fd, payload().data(), bytes, MSG_NOSIGNAL | (urgent ? MSG_OOB : 0));
      if (sent >= 0) connection.story += fmt::format(" {}sent {}", i == 0 ? 'c' : 's', sent);
    }
    if (random.chance(connection.reads[i])) {
      buffer.resize(random.chance(0.3) ? 1000 : std::size_t{1} << 20);
      const auto got = ::recv(fd, buffer.data(), buffer.size(), 0);
      if (got > 0) connection.story += fmt::format(" {}read {}", i == 0 ? 'c' : 's', got);
    }
    if (connection.kind != Kind::kSmallBuffer && random.chance(0.03)) set_some_option(fd, random, connection.story);
  }
}

void Batch::end(Connection& connection) {
  auto& random = *connection.random;
  const auto shut = [&](std::size_t i, int how) {
    if (::shutdown(connection.ends[i].socket.fd(), how) == 0)
      connection.story += fmt::format(" {}shutdown {}", i == 0 ? 'c' : 's', how);
  };
  const std::size_t i = random.below(2);
  switch (connection.kind) {
    case Kind::kClosing:
      shut(0, SHUT_WR);
      shut(1, SHUT_WR);
      break;
    case Kind::kClosed:
      connection.story += " closed";
      connection.ends[i].socket.close();
      break;
    case Kind::kAbandoned:
      connection.story += " cclosed";
      connection.ends[0].socket.close();
      break;
    case Kind::kReset:
      connection.story += " aborted";
      if (connection.ends[i].socket.fd() >= 0) connection.ends[i].socket.abort();
      break;
    case Kind::kReconnected:
      reconnect(connection);
      break;
    default:
      shut(i, random.pick({SHUT_WR, SHUT_WR, SHUT_RD, SHUT_RDWR}));
      if (random.chance(0.4)) {
        pump(1ms);
        shut(1 - i, SHUT_WR);
        if (random.chance(0.6))  // stays in LAST_ACK
          for (auto& path : connection.paths) path.black_hole = connection.frozen = true;
      }
  }
}

// The same socket, another connection.
void Batch::reconnect(Connection& connection) {
  const int fd = connection.ends[0].socket.fd();
  const sockaddr nobody{AF_UNSPEC, {}};
  if (::connect(fd, &nobody, sizeof(nobody)) != 0) return;
  connection.story += " reconnected";
  by_name_.erase(connection.name);
  connection.ends[1].socket.close();
  for (auto& path : connection.paths) path = {};
  const auto address = endpoint(connection.ip, false, 2, listeners_[connection.listener].socket.local_port());
  if (::connect(fd, address.get(), address.length) != 0 && errno != EINPROGRESS) return;
  name_it(connection);
  pump(1ms);
}

void Batch::freeze(Connection& connection, int round) {
  auto& random = *connection.random;
  if (connection.loopback) return;
  auto& [forth, back] = connection.paths;
  // A timeout in the second round, a link that works in the third.
  const bool recovers = connection.kind == Kind::kRecovered && round >= 2;
  if (connection.kind == Kind::kClosedWindow ? round < 2 : recovers || !random.chance(connection.freezes)) return;
  connection.frozen = true;
  const auto which =
      connection.kind == Kind::kKeepAlive || connection.kind == Kind::kClosedWindow ? 2 : random.below(3);
  forth.black_hole = which != 0;
  back.black_hole = which != 1;
  connection.story += fmt::format(" frozen{}", which);
}

void Batch::pump(std::chrono::microseconds time) {
  const auto until = Clock::now() + time;
  for (;;) {
    link_.pump(20'000);
    if (random_.chance(0.5)) {
      link_.release(true);
      link_.pump(20'000);
    }
    accept_all();
    idle_();
    const auto now = Clock::now();
    if (now >= until) break;
    pollfd waiting[2]{{link_.descriptors()[0], POLLIN, 0}, {link_.descriptors()[1], POLLIN, 0}};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - now);
    ::poll(waiting, 2, static_cast<int>(std::min<std::int64_t>(left.count() + 1, 5)));
  }
}

void Batch::play(int round) {
  clog_.reset();
  for (auto& connection : connections_)
    if (std::exchange(connection->frozen, false) && connection->random->chance(0.7))
      for (auto& path : connection->paths) path.black_hole = false;
  pump(2ms);
  for (auto steps = random_.between(1, 4); steps > 0; --steps) {
    for (auto& connection : connections_) act(*connection, round);
    pump(std::chrono::microseconds(random_.pick({200, 2000, 8000})));
  }
  for (auto& connection : connections_) {
    if (connection->ends_in == round) end(*connection);
    freeze(*connection, round);
  }
  if (round == clogged_round_) clog_.emplace(a_, "tun0");
  for (auto& connection : connections_)
    if (connection->kind == Kind::kSmallBuffer || connection->random->chance(0.5)) act(*connection, round);
  // In the first round what was sent last is still on its way; later ones let timers run.
  const std::chrono::milliseconds waits[kRounds]{std::chrono::milliseconds(random_.pick({0, 0, 3})),
                                                 std::chrono::milliseconds(random_.between(50, 350)),
                                                 std::chrono::milliseconds(random_.between(1050, 1700)),
                                                 std::chrono::milliseconds(random_.pick({0, 10, 100, 700}))};
  const auto wait = waits[round % kRounds];
  if (wait > 0ms) pump(wait);
}

std::vector<Seen> Batch::sockets() const {
  std::vector<Seen> seen;
  for (const auto& connection : connections_)
    for (std::size_t i = 0; i < 2; ++i) {
      const auto& end = connection->ends[i];
      if (end.socket.fd() < 0) continue;
      seen.push_back({end.socket.fd(), connection->mptcp, end.in_a, false,
                      (i == 0 ? "client of: " : "server of: ") + connection->story});
    }
  for (const auto& listener : listeners_)
    seen.push_back({listener.socket.fd(), listener.mptcp, listener.in_a, true, listener.story});
  return seen;
}

}  // namespace states
