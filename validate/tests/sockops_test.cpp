// SPDX-License-Identifier: BSD-2-Clause
// The sockops source against real sockets on the running kernel.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/inet_diag.h>
#include <malloc.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <tuple>

#include <tcpinfo/format.hpp>
#include <tcpinfo/tcpinfo.hpp>

#include "collector.hpp"
#include "lab/attached.hpp"
#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "placed_test.hpp"
#include "sweeps.hpp"

namespace {

using namespace std::chrono_literals;
using lab::Collector;
using lab::Ip;
using tcpinfo::Event;
using tcpinfo::Field;
using tcpinfo::Mode;
using tcpinfo::Record;
using testing::ElementsAre;

constexpr std::uint8_t kEstablished = 1, kSynSent = 2, kSynRecv = 3, kFinWait1 = 4, kFinWait2 = 5, kClose = 7,
                       kCloseWait = 8, kLastAck = 9;

std::size_t count_descriptors() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

class Sockops : public lab::PlacedTest {
 protected:
  tcpinfo::SockopsOptions options(Mode mode = Mode::kPolling) const {
    tcpinfo::SockopsOptions options;
    options.cgroup = cgroup.path();
    options.mode = mode;
    options.interval = 10ms;
    return options;
  }
};

class SockopsIp : public Sockops, public testing::WithParamInterface<Ip> {};
INSTANTIATE_TEST_SUITE_P(All, SockopsIp, testing::Values(Ip::kV4, Ip::kV6, Ip::kMapped),
                         [](const auto& parameter) { return lab::name(parameter.param); });

// Fields of a record that are absent and have bytes other than zero: what an older record left in the ring.
std::vector<std::string_view> dirty_fields(const tcpinfo_record& raw) {
  std::vector<std::string_view> dirty;
  const auto* bytes = reinterpret_cast<const unsigned char*>(&raw);
  for (const auto& row : tcpinfo::fields())
    if (!Record(raw).has(row.field) &&
        std::any_of(bytes + row.offset, bytes + row.offset + row.size, [](unsigned char byte) { return byte != 0; }))
      dirty.push_back(row.name);
  return dirty;
}

// What every record says of who it is about.
void expect_identity(const Record& record, Ip ip, std::uint16_t local_port, std::uint16_t peer_port,
                     const lab::Cgroup& cgroup) {
  EXPECT_EQ(record.source(), TCPINFO_SOURCE_SOCKOPS);
  EXPECT_EQ(record.family(), ip == Ip::kV4 ? AF_INET : AF_INET6);
  EXPECT_EQ(tcpinfo::to_string(*record.local_address()), ip == Ip::kV6 ? "::1" : "127.0.0.1");
  EXPECT_EQ(tcpinfo::to_string(*record.peer_address()), ip == Ip::kV6 ? "::1" : "127.0.0.1");
  EXPECT_EQ(record.local_port(), local_port);
  EXPECT_EQ(record.peer_port(), peer_port);
  EXPECT_EQ(record.cgroup_id(), tcpinfo::cgroup_id(cgroup.path()));
  EXPECT_TRUE(record.netns_cookie());
  const auto now = tcpinfo::boot_time_ns();
  EXPECT_LE(*record.time_ns(), now);
  EXPECT_LT(now - *record.time_ns(), 60'000'000'000u);
}

// A ring of a few records, so that each is written where others were: of BBR, of a socket with a protocol on top, of
// one that has just begun and knows no round trip.
TEST_P(SockopsIp, WhatIsAbsentIsZeroWhereverTheRecordLies) {
  inside([&] {
    auto wanted = options();
    wanted.interval = 0ns;
    wanted.ring_bytes = wanted.life_cycle_ring_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    tcpinfo::SockopsSource source(wanted);
    Collector collected(source);
    const auto listener = lab::listen(GetParam());
    for (int round = 0; round < 10; ++round) {
      for (const char* algorithm : {"bbr", "reno"}) {
        auto pair = lab::connected(listener, GetParam());
        collected.drain();
        pair.client.set_congestion_control(algorithm);
        for (int i = 0; i < 10; ++i) {
          pair.client.send(1);
          pair.server.receive(1);
          collected.drain();
        }
        pair.client.close();
        collected.drain();
        pair.server.close();
        collected.drain();
      }
    }
    std::set<std::string> algorithms;
    for (const auto& raw : collected.all()) {
      EXPECT_THAT(dirty_fields(raw), testing::IsEmpty()) << fmt::format("{}", Record(raw));
      algorithms.emplace(*Record(raw).congestion_control());
    }
    EXPECT_THAT(algorithms, testing::IsSupersetOf({"bbr", "reno"}));
    EXPECT_GT(collected.all().size(), 10 * wanted.ring_bytes / sizeof(tcpinfo_record));
  });
}

TEST_P(SockopsIp, StateModeReportsEachTransitionOfBothEnds) {
  inside([&] {
    tcpinfo::SockopsSource source(options(Mode::kState));
    Collector collected(source);
    auto listener = lab::listen(GetParam());
    auto pair = lab::connected(listener, GetParam());
    const auto client = pair.client.cookie(), server = pair.server.cookie();
    const auto client_port = pair.client.local_port(), server_port = listener.local_port();
    pair.client.send(10);
    pair.server.receive(10);
    pair.client.close();
    ASSERT_TRUE(collected.until([&] {
      const auto last = collected.of(server);
      return !last.empty() && last.back().state() == kCloseWait;
    }));
    pair.server.close();
    ASSERT_TRUE(collected.until([&] { return collected.closed(client) && collected.closed(server); }));

    using Step = std::tuple<Event, int, int>;  // event, old state (-1: absent), state
    const auto steps = [&](std::uint64_t cookie) {
      std::vector<Step> found;
      std::uint32_t sequence = 0;
      for (const auto& record : collected.of(cookie)) {
        found.emplace_back(static_cast<Event>(*record.event()), record.old_state() ? *record.old_state() : -1,
                           *record.state());
        EXPECT_EQ(record.sequence(), sequence++);
        EXPECT_EQ(record.generation(), 0u);
        EXPECT_EQ(record.swept(), false);
      }
      return found;
    };
    EXPECT_THAT(steps(client),
                ElementsAre(Step{Event::kOpen, kClose, kSynSent}, Step{Event::kState, kSynSent, kEstablished},
                            Step{Event::kState, kEstablished, kFinWait1}, Step{Event::kState, kFinWait1, kFinWait2},
                            Step{Event::kClose, kFinWait2, kClose}));
    EXPECT_THAT(steps(server),
                ElementsAre(Step{Event::kOpen, -1, kSynRecv}, Step{Event::kState, kSynRecv, kEstablished},
                            Step{Event::kState, kEstablished, kCloseWait}, Step{Event::kState, kCloseWait, kLastAck},
                            Step{Event::kClose, kLastAck, kClose}));
    for (const auto& record : collected.of(client))
      expect_identity(record, GetParam(), client_port, server_port, cgroup);
    for (const auto& record : collected.of(server))
      expect_identity(record, GetParam(), server_port, client_port, cgroup);
  });
}

// The kernel sets a state anew by close() after shutdown(), and tells its callback.
TEST_P(SockopsIp, AStateThatStaysIsNoTransition) {
  inside([&] {
    tcpinfo::SockopsSource source(options(Mode::kState));
    Collector collected(source);
    auto listener = lab::listen(GetParam());
    auto pair = lab::connected(listener, GetParam());
    const auto client = pair.client.cookie(), server = pair.server.cookie();
    lab::check(::shutdown(pair.client.fd(), SHUT_WR), "shutdown");
    ASSERT_TRUE(collected.until([&] {
      const auto last = collected.of(client);
      return !last.empty() && last.back().state() == kFinWait2;
    }));
    pair.client.close();
    pair.server.close();
    ASSERT_TRUE(collected.until([&] { return collected.closed(client) && collected.closed(server); }));
    for (const auto cookie : {client, server})
      for (const auto& record : collected.of(cookie)) EXPECT_NE(record.old_state(), record.state());
    EXPECT_EQ(collected.of(client).size(), 5u);
  });
}

TEST_P(SockopsIp, PollingSamplesBothEndsAlsoTheReceiverAndWhenIdle) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    Collector collected(source);
    auto listener = lab::listen(GetParam());
    auto pair = lab::connected(listener, GetParam());
    const auto client = pair.client.cookie(), server = pair.server.cookie();
    lab::Sweeps sweeps(source, options().interval);
    for (int i = 0; i < 50; ++i) {
      pair.client.send(1000);
      pair.server.receive(1000);
      sweeps.note([&] { collected.during(5ms); });
    }
    // Traffic is over: only the sweep can see them now. How many sweeps there are depends on how busy the machine is.
    const auto busy = sweeps.count();
    for (const auto end = std::chrono::steady_clock::now() + 300ms; std::chrono::steady_clock::now() < end;)
      sweeps.note([&] { collected.during(1ms); });
    EXPECT_GE(sweeps.count(), busy + 2) << "of 30";
    for (const auto cookie : {client, server}) {
      sweeps.expect_enough(collected.of(cookie));
      const auto samples = collected.of(cookie, Event::kSample);
      EXPECT_TRUE(*samples.back().swept());
      EXPECT_EQ(samples.back().state(), kEstablished);
    }
    EXPECT_EQ(collected.of(client).back().bytes_sent(), 50'000u);
    EXPECT_EQ(collected.of(server).back().bytes_received(), 50'000u);
    EXPECT_TRUE(collected.of(client).back().rtt());
    EXPECT_EQ(collected.of(client, Event::kOpen).size(), 1u);
    EXPECT_FALSE(collected.of(client, Event::kOpen)[0].rtt()) << "no round trip was measured at the first SYN";
    EXPECT_FALSE(collected.of(client, Event::kOpen)[0].notsent_bytes()) << "snd_nxt is not set at TCP_CONNECT";
  });
}

// Every member of the C library's tcp_info that the table has too, of a socket that holds still.
TEST_P(SockopsIp, SweptRecordOfAStillSocketEqualsGetsockopt) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    Collector collected(source);
    auto listener = lab::listen(GetParam());
    auto pair = lab::connected(listener, GetParam());
    pair.client.send(100'000);
    pair.server.receive(60'000);
    pair.server.send(20'000);
    collected.during(300ms);  // delayed ACKs are over
    for (const auto* socket : {&pair.client, &pair.server}) {
      const auto seen = collected.of(socket->cookie()).size();
      const auto before = socket->info();
      ASSERT_TRUE(collected.until([&] { return collected.of(socket->cookie()).size() > seen + 1; }));
      const auto after = socket->info();
      const auto record = collected.of(socket->cookie()).back();
      int compared = 0;
      const auto expect_equal = [&](std::string_view name, Field field, std::uint64_t low, std::uint64_t high) {
        const auto value = record.number(field);
        if (!value) {
          // Absent: never filled by the kernel, or without meaning yet.
          const bool unset = field == Field::fackets || field == Field::last_ack_sent ||
                             (field == Field::snd_ssthresh && low >= 0x7fffffff) || low == 0;
          EXPECT_TRUE(unset) << name << " is absent, getsockopt says " << low;
          return;
        }
        ++compared;
        if (name.starts_with("last_")) {  // moves with the clock
          EXPECT_GE(*value, low) << name;
          EXPECT_LE(*value, high) << name;
        } else {
          EXPECT_EQ(low, high) << name << ": the socket did not hold still";
          EXPECT_EQ(*value, low) << name;
        }
      };
      const auto compare = [&](const auto& old_info, const auto& new_info) {
#define X(id, ...) \
  if constexpr (requires { old_info.tcpi_##id; }) expect_equal(#id, Field::id, old_info.tcpi_##id, new_info.tcpi_##id);
        TCPINFO_FIELDS(X)
#undef X
      };
      compare(before, after);
      EXPECT_GE(compared, 50);
      EXPECT_LT(*record.ato(), 1'000'000u);        // a peer reports 1.9e9
      EXPECT_LT(*record.rcv_mss(), 100'000u);      // a peer reports 98,304,536
      EXPECT_LT(*record.busy_time(), 10'000'000u)  // a peer reports 99 days
          << "differences of jiffies are taken in 32 bits";
    }
  });
}

TEST_P(SockopsIp, FinalTotalsEqualGetsockoptJustBeforeAnAbort) {
  inside([&] {
    for (const auto mode : {Mode::kPolling, Mode::kState, Mode::kClose}) {
      tcpinfo::SockopsSource source(options(mode));
      Collector collected(source);
      auto listener = lab::listen(GetParam());
      auto pair = lab::connected(listener, GetParam());
      pair.client.send(123'456);
      pair.server.receive(123'456);
      pair.server.send(777);
      pair.client.receive(777);
      std::this_thread::sleep_for(100ms);
      const auto client = pair.client.cookie(), server = pair.server.cookie();
      const auto client_info = pair.client.info(), server_info = pair.server.info();
      pair.client.abort();
      ASSERT_TRUE(collected.until([&] { return collected.closed(client) && collected.closed(server); }));
      const auto expect_totals = [&](std::uint64_t cookie, const tcp_info& info) {
        const auto close = collected.of(cookie).back();
        ASSERT_EQ(close.event(), static_cast<std::uint8_t>(Event::kClose));
        EXPECT_EQ(close.old_state(), kEstablished);
        EXPECT_EQ(close.bytes_sent(), info.tcpi_bytes_sent);
        EXPECT_EQ(close.bytes_acked(), info.tcpi_bytes_acked);
        EXPECT_EQ(close.bytes_received(), info.tcpi_bytes_received);
        EXPECT_EQ(close.bytes_retrans(), info.tcpi_bytes_retrans);
        EXPECT_EQ(close.total_retrans(), info.tcpi_total_retrans);
        EXPECT_EQ(close.data_segs_out(), info.tcpi_data_segs_out);
        EXPECT_EQ(close.data_segs_in(), info.tcpi_data_segs_in);
        EXPECT_EQ(close.delivered(), info.tcpi_delivered);
      };
      expect_totals(client, client_info);
      expect_totals(server, server_info);
      // On a busy machine a timer sends again what nobody lost.
      EXPECT_EQ(collected.of(client).back().bytes_sent().value_or(0) - client_info.tcpi_bytes_retrans, 123'456u);
      EXPECT_EQ(collected.of(server).back().bytes_received(), 123'456u);
      if (mode == Mode::kClose) {
        EXPECT_EQ(collected.of(client).size(), 1u) << "one record a connection";
        EXPECT_EQ(collected.of(server).size(), 1u);
      }
    }
  });
}

// Nothing is kept of a connection: the flag that an earlier watch left on the socket is enough.
TEST_P(SockopsIp, InCloseModeTheEndOfAConnectionIsSeenThatWasWatchedBefore) {
  inside([&] {
    const auto listener = lab::listen(GetParam());
    std::optional<lab::Pair> pair;
    {
      tcpinfo::SockopsSource earlier(options());
      pair = lab::connected(listener, GetParam());
    }
    const auto client = pair->client.cookie(), server = pair->server.cookie();
    tcpinfo::SockopsSource source(options(Mode::kClose));
    Collector collected(source);
    pair->client.abort();
    ASSERT_TRUE(collected.until([&] { return collected.closed(client) && collected.closed(server); }));
    for (const auto cookie : {client, server}) {
      ASSERT_EQ(collected.of(cookie).size(), 1u);
      EXPECT_EQ(collected.of(cookie)[0].old_state(), kEstablished);
      EXPECT_EQ(collected.of(cookie)[0].sequence(), 0u);
      EXPECT_FALSE(collected.of(cookie)[0].generation());
    }
    EXPECT_EQ(source.statistics().connections, 0u) << "it did not begin here";
  });
}

TEST_P(SockopsIp, FinalTotalsAfterFinFollowTheLedger) {
  inside([&] {
    tcpinfo::SockopsSource source(options(Mode::kClose));
    Collector collected(source);
    auto listener = lab::listen(GetParam());
    auto pair = lab::connected(listener, GetParam());
    pair.client.send(5000);
    pair.server.receive(5000);
    pair.server.send(300);
    pair.client.receive(300);
    const auto client = pair.client.cookie(), server = pair.server.cookie();
    // Half closed, not closed: an orphan in FIN_WAIT2 may become a TIME_WAIT socket before the peer's FIN comes, and
    // the final record then lacks its +1.
    ASSERT_EQ(::shutdown(pair.client.fd(), SHUT_WR), 0);
    char byte;
    ASSERT_EQ(::recv(pair.server.fd(), &byte, 1, 0), 0);
    pair.server.close();
    ASSERT_TRUE(collected.until([&] { return collected.closed(client) && collected.closed(server); }));
    const auto active = collected.of(client).back(), passive = collected.of(server).back();
    EXPECT_EQ(active.bytes_sent(), 5000u);
    EXPECT_EQ(active.bytes_acked(), 5000u + 1 /* SYN */ + 1 /* FIN */);
    EXPECT_EQ(active.bytes_received(), 300u + 1 /* the peer's FIN */);
    EXPECT_EQ(passive.bytes_sent(), 300u);
    EXPECT_EQ(passive.bytes_acked(), 300u + 1 /* FIN */);
    EXPECT_EQ(passive.bytes_received(), 5000u + 1 /* the peer's FIN */);
  });
}

TEST_F(Sockops, RefusedConnectionHasAFinalRecord) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    Collector collected(source);
    lab::Socket socket(Ip::kV4);
    const auto cookie = socket.cookie();
    EXPECT_THROW(lab::connect(socket, Ip::kV4, 9), std::system_error);
    ASSERT_TRUE(collected.until([&] { return collected.closed(cookie); }));
    const auto close = collected.of(cookie).back();
    EXPECT_EQ(close.old_state(), kSynSent);
    EXPECT_EQ(close.bytes_sent(), 0u);
    EXPECT_FALSE(close.rtt());
  });
}

TEST_F(Sockops, ASocketThatConnectsAgainBeginsANewGeneration) {
  inside([&] {
    tcpinfo::SockopsSource source(options(Mode::kState));
    Collector collected(source);
    auto listener = lab::listen(Ip::kV4);
    auto pair = lab::connected(listener, Ip::kV4);
    const auto cookie = pair.client.cookie();
    pair.client.send(1000);
    pair.server.receive(1000);
    sockaddr unspecified{};
    unspecified.sa_family = AF_UNSPEC;
    ASSERT_EQ(::connect(pair.client.fd(), &unspecified, sizeof(unspecified)), 0);
    lab::connect(pair.client, Ip::kV4, listener.local_port());
    auto again = lab::accept(listener);
    pair.client.send(7);
    again.receive(7);
    ASSERT_EQ(pair.client.cookie(), cookie);
    pair.client.abort();
    ASSERT_TRUE(collected.until([&] { return collected.of(cookie, Event::kClose).size() == 2; }));
    std::map<std::uint32_t, std::vector<Record>> generations;
    for (const auto& record : collected.of(cookie)) generations[*record.generation()].push_back(record);
    ASSERT_EQ(generations.size(), 2u);
    for (const auto& [generation, records] : generations) {
      std::uint32_t sequence = 0;
      for (const auto& record : records) EXPECT_EQ(record.sequence(), sequence++) << "generation " << generation;
      EXPECT_EQ(records.front().event(), static_cast<std::uint8_t>(Event::kOpen));
      EXPECT_EQ(records.back().event(), static_cast<std::uint8_t>(Event::kClose));
    }
    EXPECT_EQ(generations[0].back().bytes_sent(), 1000u);
    EXPECT_EQ(generations[1].back().bytes_sent(), 7u);
  });
}

TEST_F(Sockops, ChildrenThatInheritCallbackFlagsBeginOnce) {
  inside([&] {
    // The listener itself connects first and so carries our flags when it becomes a listener; children inherit them.
    tcpinfo::SockopsSource source(options());
    Collector collected(source);
    auto first = lab::listen(Ip::kV4);
    lab::Socket listener(Ip::kV4);
    listener.set(SOL_SOCKET, SO_REUSEADDR, 1);
    lab::connect(listener, Ip::kV4, first.local_port());
    auto peer = lab::accept(first);
    sockaddr unspecified{};
    unspecified.sa_family = AF_UNSPEC;
    ASSERT_EQ(::connect(listener.fd(), &unspecified, sizeof(unspecified)), 0);
    const auto endpoint = lab::loopback(Ip::kV4, 0);
    lab::check(::bind(listener.fd(), endpoint.get(), endpoint.length), "bind");
    lab::check(::listen(listener.fd(), 16), "listen");
    const auto listener_cookie = listener.cookie();
    const auto before = collected.of(listener_cookie).size();

    auto pair = lab::connected(listener, Ip::kV4);
    const auto child = pair.server.cookie();
    pair.client.send(10);
    pair.server.receive(10);
    pair.server.abort();
    ASSERT_TRUE(collected.until([&] { return collected.closed(child); }));
    const auto records = collected.of(child);
    EXPECT_EQ(records.front().event(), static_cast<std::uint8_t>(Event::kOpen))
        << "nothing before the connection's birth";
    std::uint32_t sequence = 0;
    for (const auto& record : records) {
      EXPECT_EQ(record.sequence(), sequence++);
      EXPECT_TRUE(record.rtt()) << "a passive connection has measured its handshake";
    }
    EXPECT_EQ(collected.of(child, Event::kOpen).size(), 1u);
    for (const auto& record : collected.of(listener_cookie))
      EXPECT_NE(record.state(), 10) << "listeners are not connections";
    EXPECT_LE(before, collected.of(listener_cookie).size());
  });
}

TEST_F(Sockops, AFilterIsDecidedInTheKernelByPortsAndPrefixes) {
  inside([&] {
    auto wanted = lab::listen(Ip::kV4), other = lab::listen(Ip::kV4), six = lab::listen(Ip::kV6),
         mapped = lab::listen(Ip::kMapped);
    struct Case {
      std::string filter;
      std::set<std::string> expected;  // which of the connections' ends pass
    };
    const auto port = std::to_string(wanted.local_port());
    const std::vector<Case> cases = {
        {"peer_port == " + port, {"wanted.client"}},
        {"local_port == " + port, {"wanted.server"}},
        {"port == " + port, {"wanted.client", "wanted.server"}},
        {"peer_address in 127.0.0.0/8 and port == " + port, {"wanted.client", "wanted.server"}},
        {"address in 10.0.0.0/8", {}},
        {"address in ::1/128", {"six.client", "six.server"}},
        {"address in 127.0.0.1/32 and port == " + std::to_string(mapped.local_port()),
         {"mapped.client", "mapped.server"}},
        {"address in ::/0", {"six.client", "six.server"}},
        {"local_port == " + port + " or peer_port == " + std::to_string(other.local_port()),
         {"wanted.server", "other.client"}},
    };
    for (const auto& test : cases) {
      auto chosen = options(Mode::kClose);
      chosen.filter = tcpinfo::Filter::parse(test.filter);
      tcpinfo::SockopsSource source(chosen);
      Collector collected(source);
      std::map<std::uint64_t, std::string> names;
      const auto make = [&](const lab::Socket& listener, Ip ip, const std::string& name) {
        auto pair = lab::connected(listener, ip);
        names[pair.client.cookie()] = name + ".client";
        names[pair.server.cookie()] = name + ".server";
        pair.client.abort();
      };
      make(wanted, Ip::kV4, "wanted");
      make(other, Ip::kV4, "other");
      make(six, Ip::kV6, "six");
      make(mapped, Ip::kMapped, "mapped");
      collected.during(20ms);
      std::set<std::string> seen;
      for (const auto& record : collected.all()) seen.insert(names[record.cookie]);
      EXPECT_EQ(seen, test.expected) << test.filter;
      EXPECT_EQ(source.statistics().filtered, 8 - test.expected.size()) << test.filter;
      EXPECT_EQ(source.statistics().connections, test.expected.size()) << test.filter;
    }
  });
}

TEST_F(Sockops, FieldsOfTheCongestionControl) {
  inside([&] {
    // A module's types are known to a source that is opened after the module was loaded; choosing it loads it.
    for (const char* algorithm : {"bbr", "cubic", "reno"}) lab::Socket(Ip::kV4).set_congestion_control(algorithm);
    tcpinfo::SockopsSource source(options());
    Collector collected(source);
    auto listener = lab::listen(Ip::kV4);
    for (const std::string algorithm : {"bbr", "cubic", "reno"}) {
      lab::Socket client(Ip::kV4);
      client.set_congestion_control(algorithm.c_str());
      lab::connect(client, Ip::kV4, listener.local_port());
      auto server = lab::accept(listener);
      client.send(100'000);
      server.receive(100'000);
      collected.during(100ms);
      const auto record = collected.of(client.cookie()).back();
      EXPECT_EQ(record.congestion_control(), algorithm);
      EXPECT_EQ(record.bbr_bw().has_value(), algorithm == "bbr");
      EXPECT_FALSE(record.vegas_rtt());
      EXPECT_FALSE(record.dctcp_alpha());
      if (algorithm != "bbr") continue;
      tcp_bbr_info info{};
      socklen_t length = sizeof(info);
      ASSERT_EQ(getsockopt(client.fd(), IPPROTO_TCP, TCP_CC_INFO, &info, &length), 0);
      ASSERT_EQ(length, sizeof(info));
      EXPECT_EQ(record.bbr_bw(), info.bbr_bw_lo | static_cast<std::uint64_t>(info.bbr_bw_hi) << 32);
      EXPECT_EQ(record.bbr_min_rtt(), info.bbr_min_rtt);
      EXPECT_EQ(record.bbr_pacing_gain(), info.bbr_pacing_gain);
      EXPECT_EQ(record.bbr_cwnd_gain(), info.bbr_cwnd_gain);
      EXPECT_GT(*record.bbr_bw(), 0u);
    }
  });
}

TEST_F(Sockops, LostRecordsAreCountedWithARingOfOnePage) {
  inside([&] {
    auto chosen = options(Mode::kState);
    chosen.life_cycle_ring_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    tcpinfo::SockopsSource source(chosen);
    auto listener = lab::listen(Ip::kV4);
    constexpr int kConnections = 50;
    for (int i = 0; i < kConnections; ++i) {  // the consumer is stopped
      auto pair = lab::connected(listener, Ip::kV4);
      pair.client.abort();
      char byte;  // the reset is there before the other end closes, which would be transitions more
      ASSERT_EQ(recv(pair.server.fd(), &byte, 1, 0), -1);
      ASSERT_EQ(errno, ECONNRESET);
    }
    Collector collected(source);
    collected.drain();
    const auto statistics = source.statistics();
    using tcpinfo::Statistics;
    EXPECT_EQ(statistics.connections, 2u * kConnections);
    EXPECT_EQ(statistics.emitted[TCPINFO_EVENT_GAP], 3u) << "one for each event";
    EXPECT_EQ(Statistics::sum(statistics.emitted), 2u * kConnections * 3 + 3) << "open, established, close";
    EXPECT_EQ(statistics.emitted[TCPINFO_EVENT_CLOSE], 2u * kConnections);
    EXPECT_GT(Statistics::sum(statistics.lost_ring), 200u);
    EXPECT_GT(collected.all().size(), 2u);
    EXPECT_EQ(Statistics::sum(statistics.delivered), collected.all().size());
    for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event)
      EXPECT_EQ(statistics.emitted[event], statistics.delivered[event] + statistics.lost_ring[event]) << event;

    // A lost record leaves a hole in its connection's sequence, and the ring works again.
    auto pair = lab::connected(listener, Ip::kV4);
    const auto cookie = pair.client.cookie();
    ASSERT_TRUE(collected.until([&] { return collected.of(cookie).size() == 2; }));
    source.close();
    EXPECT_EQ(Statistics::sum(source.statistics().emitted), Statistics::sum(statistics.emitted) + 4);
  });
}

void stay_on(unsigned cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  lab::check(sched_setaffinity(0, sizeof(one), &one), "sched_setaffinity");
}

// The callbacks of a connection run on the CPU of whoever sends, receives or is interrupted, and each CPU has a ring.
TEST_F(Sockops, RecordsOfAConnectionKeepTheirOrderAcrossCpus) {
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "needs two CPUs";
  for (const auto mode : {Mode::kPolling, Mode::kState}) {
    SCOPED_TRACE(name(mode));
    auto chosen = options(mode);
    chosen.interval = mode == Mode::kPolling ? 0ns : 1h;
    chosen.ring_bytes = std::size_t{4} << 20;
    inside([&] {
      tcpinfo::SockopsSource source(chosen);
      const auto listener = lab::listen(Ip::kV4);
      constexpr std::size_t kPairs = 4;
      std::atomic<bool> over = false;
      std::map<std::uint64_t, std::set<std::uint16_t>> cpus;  // of each connection's records
      std::map<std::uint64_t, std::set<std::uint32_t>> sequences;
      std::map<std::uint64_t, std::uint32_t> from_callbacks;  // the sequence number that may come next
      std::uint64_t changes = 0, last_cpu = 0;
      const auto check = [&](const Record& record) {
        auto& seen = sequences[*record.cookie()];
        // A swept record is made without the socket's lock, and may change places with one made at the same time.
        if (!*record.swept()) {
          auto& expected = from_callbacks[*record.cookie()];
          EXPECT_GE(*record.sequence(), expected) << *record.cookie();
          expected = *record.sequence() + 1;
        }
        EXPECT_TRUE(seen.insert(*record.sequence()).second) << *record.cookie();
        cpus[*record.cookie()].insert(static_cast<std::uint16_t>(*record.cpu()));
        changes += std::exchange(last_cpu, *record.cpu()) != *record.cpu();
      };
      const auto drain = [&] {
        EXPECT_FALSE(source.tick(std::chrono::steady_clock::now()));
        EXPECT_FALSE(source.drain(check, 64).error);
      };
      // Each thread has one end of every connection; both send and both receive.
      const auto hammer = [&](unsigned cpu, std::vector<lab::Socket*> ends) {
        stay_on(cpu);
        char buffer[512]{};
        while (!over)
          for (auto* end : ends) {
            [[maybe_unused]] auto sent = ::send(end->fd(), buffer, 64, MSG_DONTWAIT | MSG_NOSIGNAL);
            [[maybe_unused]] auto got = ::recv(end->fd(), buffer, sizeof(buffer), MSG_DONTWAIT);
          }
      };
      // On a busy machine the two threads seldom run at once: then more rounds.
      const auto is_mixed = [&] {
        return changes > (mode == Mode::kPolling ? 100u : 10u) &&
               std::ranges::count_if(cpus, [](const auto& one) { return one.second.size() > 1; }) > 10;
      };
      std::size_t rounds = 0;
      for (const auto end = std::chrono::steady_clock::now() + 40s;
           rounds < 20 || (!is_mixed() && std::chrono::steady_clock::now() < end); ++rounds) {
        std::vector<lab::Pair> pairs;
        std::vector<lab::Socket*> clients, servers;
        for (std::size_t i = 0; i < kPairs; ++i) pairs.push_back(lab::connected(listener, Ip::kV4));
        for (auto& pair : pairs) {
          clients.push_back(&pair.client);
          servers.push_back(&pair.server);
        }
        over = false;
        std::thread first(hammer, 0, clients), second(hammer, 1, servers);
        for (const auto enough = std::chrono::steady_clock::now() + 50ms; std::chrono::steady_clock::now() < enough;)
          drain();
        over = true;
        first.join();
        second.join();
        // And both ends close at the same time.
        std::thread closer([&] {
          stay_on(1);
          for (auto& pair : pairs) pair.server.close();
        });
        for (auto& pair : pairs) pair.client.close();
        closer.join();
      }
      source.stop();
      while (source.drain(check).records > 0) {
      }
      const auto statistics = source.statistics();
      ASSERT_EQ(tcpinfo::Statistics::sum(statistics.lost_ring), 0u);
      EXPECT_EQ(statistics.emitted, statistics.delivered);
      for (const auto& [cookie, seen] : sequences) EXPECT_EQ(*seen.rbegin() + 1, seen.size()) << "of " << cookie;
      EXPECT_EQ(cpus.size(), 2 * kPairs * rounds);
      EXPECT_TRUE(is_mixed()) << "the rings were read in turn " << changes << " times only";
    });
  }
}

TEST_F(Sockops, ASweepOfMoreSocketsThanRingsHoldLosesNothing) {
  inside([&] {
    auto chosen = options();
    chosen.ring_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    tcpinfo::SockopsSource source(chosen);
    Collector collected(source);
    const auto listener = lab::listen(Ip::kV4);
    std::vector<lab::Pair> pairs;
    for (std::size_t i = 0; i < chosen.ring_bytes / sizeof(tcpinfo_record) * 4; ++i) {
      pairs.push_back(lab::connected(listener, Ip::kV4));
      collected.drain();
    }
    const auto before = source.statistics();
    const auto begin = tcpinfo::boot_time_ns();
    ASSERT_TRUE(collected.until([&] { return source.statistics().sweeps > before.sweeps + 3; }));
    EXPECT_EQ(source.statistics().lost_ring, before.lost_ring);
    std::set<std::uint64_t> sampled;
    for (const auto& record : collected.all())
      if (record.time_ns > begin && record.swept) sampled.insert(record.cookie);
    EXPECT_EQ(sampled.size(), 2 * pairs.size());

    // A limit leaves the rest of a sweep to the calls that follow, also where it falls on the last record of a ring.
    for (const std::size_t limit : {1, 2, 3, 4, 5}) {
      SCOPED_TRACE(limit);
      const auto from = tcpinfo::boot_time_ns();
      sampled.clear();
      const auto note = [&](const Record& record) {
        if (*record.time_ns() > from) sampled.insert(*record.cookie());
      };
      // Who was sampled just before is due again an interval later, for the sweep that begins then: not the one under
      // way.
      std::optional<std::uint64_t> enough;
      for (const auto end = std::chrono::steady_clock::now() + 5s;
           (!enough || source.statistics().sweeps < *enough) && std::chrono::steady_clock::now() < end;) {
        if (!enough && tcpinfo::boot_time_ns() - from > static_cast<std::uint64_t>(chosen.interval.count()))
          enough = source.statistics().sweeps + 2;
        const auto now = std::chrono::steady_clock::now();
        EXPECT_FALSE(source.tick(now));
        const auto result = source.drain(note, limit);
        EXPECT_LE(result.records, limit);
        if (result.records == 0) {
          EXPECT_GT(source.next_deadline(), now) << "nothing to do, and no wait";
        }
      }
      source.drain(note);  // a sweep is over before the last that it made are drained
      EXPECT_GE(source.statistics().sweeps, enough.value_or(~0ULL)) << "a sweep was not gone on with";
      EXPECT_EQ(sampled.size(), 2 * pairs.size());
    }
    EXPECT_EQ(source.statistics().lost_ring, before.lost_ring);
  });
}

// As an owner that waits as Monitor does: for the descriptor or the deadline.
struct Waits {
  std::uint64_t readable = 0, due = 0;
};
Waits wait_for(tcpinfo::Source& source, std::chrono::milliseconds time) {
  Waits waits;
  for (const auto end = std::chrono::steady_clock::now() + time; std::chrono::steady_clock::now() < end;) {
    const auto until = std::min(end, source.next_deadline().value_or(end)) - std::chrono::steady_clock::now();
    pollfd ready{source.descriptor(), POLLIN, 0};
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(until).count();
    const int got = ::poll(&ready, 1, static_cast<int>(std::max<std::int64_t>(wait, 0)));
    waits.readable += got == 1;
    waits.due += got == 0 && std::chrono::steady_clock::now() < end;
    EXPECT_FALSE(source.tick(std::chrono::steady_clock::now()));
    EXPECT_FALSE(source.drain([](const Record&) {}).error);
  }
  return waits;
}

TEST_F(Sockops, NobodyIsWokenWhereThereIsNothingToDo) {
  inside([&] {
    for (const auto mode : {Mode::kPolling, Mode::kClose}) {
      SCOPED_TRACE(name(mode));
      tcpinfo::SockopsSource source(options(mode));
      auto listener = lab::listen(Ip::kV4);
      // In close mode nothing tells that there are connections: each second it looks who else runs for the cgroup.
      const unsigned looks = mode == Mode::kClose ? 1 : 0;
      const auto is_asleep = [&] {
        const auto due = source.next_deadline();
        return !due || (looks > 0 && *due > std::chrono::steady_clock::now() + tcpinfo::SockopsOptions{}.latency);
      };
      const auto until_asleep = [&] {
        for (const auto end = std::chrono::steady_clock::now() + 5s;
             !is_asleep() && std::chrono::steady_clock::now() < end;)
          wait_for(source, 10ms);
        return is_asleep();
      };
      ASSERT_TRUE(until_asleep());
      const auto idle = wait_for(source, 300ms);
      EXPECT_EQ(idle.readable, 0u);
      EXPECT_LE(idle.due, looks);
      EXPECT_EQ(source.statistics().wakeups, 0u);

      // The first record wakes, and what follows it waits for the deadline.
      const auto connect_and_close = [&] {
        auto pair = lab::connected(listener, Ip::kV4);
        pair.client.abort();
      };
      connect_and_close();
      pollfd ready{source.descriptor(), POLLIN, 0};
      EXPECT_EQ(::poll(&ready, 1, 5000), 1);
      EXPECT_FALSE(source.tick(std::chrono::steady_clock::now()));
      EXPECT_GT(source.drain([](const Record&) {}).records, 0u);
      EXPECT_EQ(::poll(&ready, 1, 0), 0) << "readable until it was drained";
      EXPECT_EQ(source.statistics().wakeups, 1u);
      EXPECT_TRUE(source.next_deadline());
      if (mode == Mode::kClose) {
        connect_and_close();
        EXPECT_EQ(::poll(&ready, 1, 20), 0) << "the deadline will do";
        EXPECT_EQ(source.statistics().wakeups, 1u);
      }
      ASSERT_TRUE(until_asleep()) << "again";
      const auto after = wait_for(source, 300ms);
      EXPECT_EQ(after.readable, 0u);
      EXPECT_LE(after.due, looks);
    }
  });
}

TEST_F(Sockops, TheWatermarkWakesBeforeTheDeadline) {
  inside([&] {
    auto chosen = options(Mode::kClose);  // the others sweep
    chosen.latency = 1h;
    chosen.wakeup_bytes = 8 * sizeof(tcpinfo_record);
    tcpinfo::SockopsSource source(chosen);
    auto listener = lab::listen(Ip::kV4);
    const auto connect = [&](int times) {
      for (int i = 0; i < times; ++i) {
        auto pair = lab::connected(listener, Ip::kV4);
        pair.client.abort();
      }
    };
    connect(1);  // wakes from sleep
    EXPECT_GT(source.drain([](const Record&) {}).records, 0u);
    EXPECT_GT(*source.next_deadline(), std::chrono::steady_clock::now()) << "of the look who else runs";
    EXPECT_EQ(source.statistics().wakeups, 1u);
    connect(20);  // 40 records
    pollfd ready{source.descriptor(), POLLIN, 0};
    EXPECT_EQ(::poll(&ready, 1, 5000), 1);
    EXPECT_EQ(source.statistics().wakeups, 2u) << "once a drain";
    EXPECT_EQ(source.drain([](const Record&) {}).records, 40u);
    EXPECT_EQ(::poll(&ready, 1, 0), 0);
    // What a limit leaves is due at once.
    connect(2);
    EXPECT_EQ(source.drain([](const Record&) {}, 1).records, 1u);
    EXPECT_LE(*source.next_deadline(), std::chrono::steady_clock::now());
  });
}

TEST_F(Sockops, UserSpaceKeepsNothingOfAConnection) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    auto listener = lab::listen(Ip::kV4);
    std::size_t records = 0;
    const auto watch = [&](int connections) {
      for (int i = 0; i < connections; ++i) {
        auto pair = lab::connected(listener, Ip::kV4);
        pair.client.abort();
        ASSERT_FALSE(source.tick(std::chrono::steady_clock::now()));
        source.drain([&records](const Record&) { ++records; });
      }
    };
    watch(10);
    const auto before = mallinfo2();
    watch(500);
    const auto after = mallinfo2();
    EXPECT_LE(after.uordblks + after.hblkhd, before.uordblks + before.hblkhd);
    EXPECT_GE(records, 2u * 510 * 2) << "open and close of both ends";
  });
}

TEST_F(Sockops, ManyFlowsAtOnceAreToldApart) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    Collector collected(source);
    auto listener = lab::listen(Ip::kV4);
    std::vector<lab::Pair> pairs;
    for (int i = 0; i < 40; ++i) pairs.push_back(lab::connected(listener, Ip::kV4));
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      pairs[i].client.send(100 * (i + 1));
      pairs[i].server.receive(100 * (i + 1));
    }
    collected.during(200ms);
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      EXPECT_EQ(collected.of(pairs[i].client.cookie()).back().bytes_sent(), 100 * (i + 1));
      EXPECT_EQ(collected.of(pairs[i].server.cookie()).back().bytes_received(), 100 * (i + 1));
    }
  });
}

TEST_F(Sockops, IntervalZeroSamplesEveryRoundTrip) {
  inside([&] {
    auto chosen = options();
    chosen.interval = 0ns;
    tcpinfo::SockopsSource source(chosen);
    Collector collected(source);
    auto listener = lab::listen(Ip::kV4);
    auto pair = lab::connected(listener, Ip::kV4);
    constexpr std::size_t kRoundTrips = 200;
    for (std::size_t i = 0; i < kRoundTrips; ++i) {  // each send is acknowledged before the next
      pair.client.send(1);
      pair.server.receive(1);
      pair.server.send(1);
      pair.client.receive(1);
    }
    collected.drain();
    EXPECT_GE(collected.of(pair.client.cookie(), Event::kSample).size(), kRoundTrips - 1);
  });
}

// Programs share one word of callback flags a socket, and the last writer wins: whoever sets has to OR.
TEST_F(Sockops, AnotherProgramsCallbackFlagsAreKept) {
  inside([&] {
    auto every_round_trip = options();
    every_round_trip.interval = 0ns;
    tcpinfo::SockopsSource first(every_round_trip);
    tcpinfo::SockopsSource second(options(Mode::kState));  // runs after the first and wants fewer callbacks
    Collector from_first(first), from_second(second);
    auto listener = lab::listen(Ip::kV4);
    auto pair = lab::connected(listener, Ip::kV4);
    const auto cookie = pair.client.cookie();
    for (int i = 0; i < 20; ++i) {
      pair.client.send(1);
      pair.server.receive(1);
      pair.server.send(1);
      pair.client.receive(1);
    }
    pair.client.abort();
    ASSERT_TRUE(from_first.until([&] { return from_first.closed(cookie); }));
    ASSERT_TRUE(from_second.until([&] { return from_second.closed(cookie); }));
    const auto samples = from_first.of(cookie, Event::kSample);
    EXPECT_GE(std::ranges::count_if(samples, [](const Record& sample) { return !*sample.swept(); }), 19);
    EXPECT_EQ(from_second.of(cookie).size(), 3u) << "open, established, close";
  });
}

TEST_F(Sockops, SocketsOfOtherCgroupsAreNotSeen) {
  const lab::Cgroup other("tcpinfo-test-other");
  const lab::Cgroup below("below", cgroup.path());
  netns.run([&] {
    tcpinfo::SockopsSource source(options(Mode::kClose));
    Collector collected(source);
    auto listener = lab::listen(Ip::kV4);
    std::uint64_t unseen = 0, seen = 0;
    {
      const lab::InCgroup in(other);
      lab::Socket socket(Ip::kV4);
      unseen = socket.cookie();
      lab::connect(socket, Ip::kV4, listener.local_port());
    }
    {
      const lab::InCgroup in(below);
      lab::Socket socket(Ip::kV4);
      seen = socket.cookie();
      lab::connect(socket, Ip::kV4, listener.local_port());
      socket.abort();
    }
    ASSERT_TRUE(collected.until([&] { return collected.closed(seen); }));
    EXPECT_TRUE(collected.of(unseen).empty());
    EXPECT_EQ(collected.of(seen).back().cgroup_id(), tcpinfo::cgroup_id(below.path()));
  });
}

TEST_F(Sockops, StopDetachesAndWhatWasMadeIsStillDrained) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    const auto links = lab::links_of(getpid());
    auto listener = lab::listen(Ip::kV4);
    auto pair = lab::connected(listener, Ip::kV4);
    source.stop();
    EXPECT_EQ(lab::count_attached(cgroup.path()), 0u);
    EXPECT_THAT(lab::living(links), testing::IsEmpty());
    const auto later = lab::connected(listener, Ip::kV4);
    Collector collected(source);
    collected.drain();
    const auto statistics = source.statistics();
    EXPECT_EQ(collected.of(pair.client.cookie(), Event::kOpen).size(), 1u);
    EXPECT_TRUE(collected.of(later.client.cookie()).empty());
    EXPECT_EQ(statistics.connections, 2u);
    EXPECT_EQ(statistics.emitted, statistics.delivered) << "to the last record";
  });
}

TEST_F(Sockops, CloseDetachesAndKeepsTheStatistics) {
  inside([&] {
    const auto descriptors = count_descriptors();
    tcpinfo::SockopsSource source(options());
    const auto links = lab::links_of(getpid());
    EXPECT_THAT(links, testing::SizeIs(4)) << "the sock_ops program, the sweep, and two that adopt";
    auto listener = lab::listen(Ip::kV4);
    lab::connected(listener, Ip::kV4);
    source.close();
    EXPECT_EQ(lab::count_attached(cgroup.path()), 0u);
    EXPECT_THAT(lab::living(links), testing::IsEmpty());
    EXPECT_EQ(source.descriptor(), -1);
    EXPECT_FALSE(source.next_deadline());
    EXPECT_EQ(source.statistics().connections, 2u);
    source.close();
    listener.close();
    EXPECT_EQ(count_descriptors(), descriptors);
  });
}

TEST_F(Sockops, TheKernelDetachesAfterSigkill) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    try {
      tcpinfo::SockopsSource source(options());
      [[maybe_unused]] auto written = write(ready[1], "x", 1);
      pause();
    } catch (...) {
    }
    _exit(1);
  }
  close(ready[1]);
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  const auto links = lab::links_of(child);
  EXPECT_THAT(links, testing::SizeIs(4));
  kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  // The kernel frees links a grace period after the last reference.
  for (int i = 0; i < 2000 && !lab::living(links).empty(); ++i) std::this_thread::sleep_for(1ms);
  EXPECT_THAT(lab::living(links), testing::IsEmpty());
  EXPECT_EQ(lab::count_attached(cgroup.path()), 0u);
}

// A server that forks its workers: they must neither keep the program attached nor take its records.
TEST_F(Sockops, AForkedChildNeitherKeepsItAttachedNorDrains) {
  int told[2], held[2];
  ASSERT_EQ(pipe2(told, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(held, O_CLOEXEC), 0);  // the grandchild ends when the test closes it
  const pid_t parent = fork();
  ASSERT_GE(parent, 0);
  if (parent == 0) {
    close(held[1]);
    tcpinfo::SockopsSource source(options());
    if (const pid_t child = fork(); child == 0) {
      const auto tell = [&](bool good) {
        const char verdict = good ? 'y' : 'n';
        if (write(told[1], &verdict, 1) != 1) _exit(1);
      };
      const auto drains = [&] { return source.drain([](const Record&) {}).error != tcpinfo::Errc::kForked; };
      tell(source.tick(std::chrono::steady_clock::now()) == tcpinfo::Errc::kForked && !drains());
      char byte;
      static_cast<void>(read(held[0], &byte, 1));
      source.stop();
      tell(!drains());
      _exit(0);
    }
    pause();
    _exit(0);
  }
  close(held[0]);
  char verdict = 0;
  ASSERT_EQ(read(told[0], &verdict, 1), 1);
  EXPECT_EQ(verdict, 'y');
  const auto links = lab::links_of(parent);
  EXPECT_THAT(links, testing::SizeIs(4));
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  // The kernel frees links a grace period after the last reference. The child is still there.
  for (int i = 0; i < 5000 && !lab::living(links).empty(); ++i) std::this_thread::sleep_for(1ms);
  EXPECT_THAT(lab::living(links), testing::IsEmpty());
  EXPECT_EQ(lab::count_attached(cgroup.path()), 0u);
  close(held[1]);
  verdict = 0;
  ASSERT_EQ(read(told[0], &verdict, 1), 1);
  EXPECT_EQ(verdict, 'y');
  close(told[0]);
  close(told[1]);
}

TEST_F(Sockops, ErrorsNameTheObjectAndTheWayOut) {
  const auto message = [&](tcpinfo::SockopsOptions chosen) -> std::string {
    try {
      tcpinfo::SockopsSource source(chosen);
    } catch (const tcpinfo::Error& error) {
      return error.what();
    }
    return "no error";
  };
  const auto with_cgroup = [&](const std::filesystem::path& path) {
    auto chosen = options();
    chosen.cgroup = path;
    return message(chosen);
  };
  using testing::AllOf;
  using testing::HasSubstr;
  EXPECT_THAT(with_cgroup(cgroup.path() / "none"), AllOf(HasSubstr("open cgroup " + (cgroup.path() / "none").string()),
                                                         HasSubstr("No such file"), HasSubstr("tcpinfo doctor")));
  EXPECT_THAT(with_cgroup("/etc/hostname"), HasSubstr("Not a directory"));
  EXPECT_THAT(with_cgroup("/tmp"), AllOf(HasSubstr("not a directory of a cgroup v2 hierarchy"),
                                         HasSubstr(tcpinfo::cgroup2_mount().string())));
  auto chosen = options();
  chosen.ring_bytes = 5000;
  EXPECT_THAT(message(chosen), HasSubstr("power of two"));
  chosen = options();
  chosen.interval = -1ms;
  EXPECT_THAT(message(chosen), HasSubstr("interval"));
}

}  // namespace
