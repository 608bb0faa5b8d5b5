// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "lab/tun_link.hpp"

/// Sockets of this process in randomised TCP states, made over a link that loses, delays, doubles and marks what it is
/// told to. What happens follows from a seed, as far as the kernel's own timers let it.
namespace states {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t below(std::uint64_t bound) { return engine_() % bound; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + below(high - low + 1); }
  bool chance(double probability) { return static_cast<double>(engine_() >> 11) * 0x1p-53 < probability; }
  template <class T>
  const T& pick(std::span<const T> choices) {
    return choices[below(choices.size())];
  }
  template <class T>
  T pick(std::initializer_list<T> choices) {
    return *(choices.begin() + below(choices.size()));
  }
  std::uint64_t seed() { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

/// What the two namespaces of a world are set to.
struct Settings {
  bool sack = true, timestamps = true, window_scaling = true;
  int ecn = 2;
  int fastopen = 0x207;  // without cookies
  int early_retrans = 3, recovery = 1;
  int mtu = 1500;
  int min_rtt_wlen = 300;
  int route_rto_min_ms = 0;  // 0: the routes say nothing of it

  static Settings random(Random& random, bool all_on);
  std::string text() const;
};

/// Those that this kernel has, their modules loaded: to be asked before the sources are opened.
const std::vector<std::string>& congestion_controls();

/// Whether this kernel negotiates accurate ECN (net.ipv4.tcp_ecn=3).
bool accurate_ecn();

/// How a connection begins, lives and ends; each kind makes something sure that chance alone seldom gives.
enum class Kind : std::uint8_t {
  kOrdinary,
  kLossy,  ///< segments lost both ways
  kReordered,
  kDuplicated,
  kMarked,        ///< congestion experienced, where ECN is on
  kRecovered,     ///< a timeout, and then the link works again
  kBlackHole,     ///< nothing gets through any more
  kClosedWindow,  ///< the receiver does not read; probes
  kKeepAlive,
  kSmallBuffer,  ///< limited by the send buffer
  kPaced,
  kCorked,
  kFastOpen,
  kFastOpenLost,  ///< the SYN with the data is lost
  kMptcp,
  kSynSent,
  kHalfOpen,  ///< the handshake's last ACK is lost
  kWaiting,   ///< not accepted
  kHalfClosed,
  kClosing,    ///< both ends close at once
  kClosed,     ///< one end's descriptor is gone
  kAbandoned,  ///< closed, and the other end goes on: FIN_WAIT2 without a socket
  kReset,
  kReconnected,  ///< disconnected, and the same socket connected again
  kUrgent,       ///< urgent data not read
  kLoopback,
};
inline constexpr std::size_t kKinds = static_cast<std::size_t>(Kind::kLoopback) + 1;
const char* name(Kind kind);

/// Chances a segment of one direction.
struct Path {
  double lose = 0, hold = 0, twice = 0, mark = 0;
  bool black_hole = false;
  bool only_syn = false;
  unsigned lose_syn = 0, lose_data = 0;  ///< the next so many
};

/// What tells a connection from others on the wire: a client's port alone may be taken twice, to different servers.
struct Name {
  bool ipv6, loopback;
  std::uint16_t client_port, server_port;
  auto operator<=>(const Name&) const = default;
};

struct End {
  lab::Socket socket;
  bool in_a = true;
};

struct Connection {
  Kind kind = Kind::kOrdinary;
  lab::Ip ip = lab::Ip::kV4;
  bool fast_open = false, mptcp = false, loopback = false, accepted_never = false;
  Name name{};
  std::size_t listener = 0;
  std::array<End, 2> ends;    ///< client, server
  std::array<Path, 2> paths;  ///< from the client, from the server
  std::array<double, 2> sends{}, reads{};
  std::size_t largest = 0;
  double freezes = 0;  ///< chance that the link turns into a black hole before a reading
  bool frozen = false;
  std::optional<int> ends_in;  ///< the round in which it is closed, half or whole
  std::string story;
  std::unique_ptr<Random> random;
};

/// One socket to be looked at.
struct Seen {
  int fd;
  bool mptcp;
  bool in_a;
  bool listening;
  std::string story;
};

/// A world of its own with some tens of connections, played in rounds. After each round nothing moves but the kernel's
/// timers, until the next one.
class Batch {
 public:
  static constexpr int kRounds = 4;

  /// `all_on`: with every TCP option that a sysctl may turn off. `idle` is called now and then, so that records do not
  /// pile up.
  Batch(std::uint64_t seed, bool all_on, std::size_t connections, std::function<void()> idle);

  const lab::Netns& a() const { return a_; }
  const lab::Netns& b() const { return b_; }
  const std::string& story() const { return story_; }

  /// Makes the sockets; what watches them is there by now.
  void open();
  void play(int round);
  std::vector<Seen> sockets() const;

 private:
  struct Listener {
    lab::Socket socket;
    lab::Ip ip;
    bool in_a, fast_open, mptcp, waits;
    std::string story;
  };

  void add_listener(lab::Ip ip, bool in_a, bool fast_open, bool mptcp, bool waits);
  void add_connection(Kind kind);
  void name_it(Connection& connection);
  void accept_all();
  void act(Connection& connection, int round);
  void end(Connection& connection);
  void reconnect(Connection& connection);
  void freeze(Connection& connection, int round);
  void pump(std::chrono::microseconds time);
  lab::Fate decide(const lab::Segment& segment);

  Random random_;
  Settings settings_;
  std::size_t wanted_;
  int clogged_round_;
  std::function<void()> idle_;
  lab::Netns a_, b_;
  lab::TunLink link_;
  std::optional<lab::Clog> clog_;
  std::string story_;
  std::vector<Listener> listeners_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::map<Name, Connection*> by_name_;
};

}  // namespace states
