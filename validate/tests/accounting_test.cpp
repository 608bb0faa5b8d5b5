// SPDX-License-Identifier: BSD-2-Clause
// Nothing is lost unseen: what does not fit into a ring is counted, told by the next record of its connection and by
// gap records, exactly; and a flood of samples pushes out no other record.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <map>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "placed_test.hpp"

namespace {

using namespace std::chrono_literals;
using lab::Ip;
using tcpinfo::Event;
using tcpinfo::EventCounts;
using tcpinfo::Field;
using tcpinfo::Mode;
using tcpinfo::Record;
using tcpinfo::Statistics;

constexpr std::size_t kPairs = 30;

/// What came of one connection.
struct Seen {
  std::uint64_t records = 0, lost = 0;
  std::uint32_t last = 0;  // sequence number
  std::uint64_t opened = 0, closed = 0, tellers = 0;
};

/// The books of a consumer that knows nothing but the records.
class Books {
 public:
  void take(const Record& record) {
    ++taken[*record.event()];
    if (record.event() == TCPINFO_EVENT_GAP) {
      EXPECT_EQ(record.source(), TCPINFO_SOURCE_SOCKOPS);
      EXPECT_GT(*record.lost_records(), 0u);
      EXPECT_LE(*record.time_ns(), tcpinfo::boot_time_ns());
      for (const auto& row : tcpinfo::fields()) {
        using enum Field;
        const auto f = row.field;
        EXPECT_EQ(record.has(f), f == time_ns || f == event || f == source || f == lost_records || f == lost_event)
            << row.name;
      }
      told[*record.lost_event()] += *record.lost_records();
      return;
    }
    auto& one = connections[*record.cookie()];
    ++one.records;
    one.lost += record.lost_records().value_or(0);  // absent in close mode
    one.tellers += record.lost_records().value_or(0) > 0;
    one.last = std::max(one.last, *record.sequence());
    one.opened += record.event() == TCPINFO_EVENT_OPEN;
    one.closed += record.event() == TCPINFO_EVENT_CLOSE;
  }
  void drain(tcpinfo::Source& source, std::size_t limit = SIZE_MAX) {
    while (source.drain([this](const Record& record) { take(record); }, limit).records > 0) {
    }
  }
  std::uint64_t lost_of_connections() const {
    std::uint64_t sum = 0;
    for (const auto& [cookie, one] : connections) sum += one.lost;
    return sum;
  }
  void expect_exact(const tcpinfo::Source& source) const {
    const auto statistics = source.statistics();
    for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event) {
      SCOPED_TRACE(tcpinfo::name(static_cast<Event>(event)));
      EXPECT_EQ(statistics.emitted[event],
                statistics.delivered[event] + statistics.lost_ring[event] + statistics.lost_sink[event]);
      EXPECT_EQ(statistics.delivered[event], taken[event]);
      EXPECT_EQ(statistics.lost_ring[event], told[event]) << "told by gap records";
    }
  }
  // Sequence numbers are dense: what did not come was lost, and the records say so.
  void expect_each_connection_exact() const {
    for (const auto& [cookie, one] : connections)
      EXPECT_EQ(one.records + one.lost, std::uint64_t{one.last} + 1) << "of " << cookie;
  }

  EventCounts taken{}, told{};
  std::map<std::uint64_t, Seen> connections;
};

class Accounting : public lab::PlacedTest {
 protected:
  /// Rings of samples that hold seven records.
  tcpinfo::SockopsOptions options(Mode mode = Mode::kPolling) const {
    tcpinfo::SockopsOptions options;
    options.cgroup = cgroup.path();
    options.mode = mode;
    options.interval = 0ns;
    options.ring_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return options;
  }
  static std::vector<lab::Pair> connect(const lab::Socket& listener, std::size_t pairs = kPairs) {
    std::vector<lab::Pair> made;
    for (std::size_t i = 0; i < pairs; ++i) made.push_back(lab::connected(listener, Ip::kV4));
    return made;
  }
  /// Some round trips of each connection, of which each gives a sample.
  static void talk(const std::vector<lab::Pair>& pairs, int times = 10) {
    for (int i = 0; i < times; ++i)
      for (const auto& pair : pairs) {
        pair.client.send(1);
        pair.server.receive(1);
        pair.server.send(1);
        pair.client.receive(1);
      }
  }
  static void close(std::vector<lab::Pair>& pairs) {
    for (auto& pair : pairs) {
      pair.client.close();
      pair.server.close();
    }
  }
};

TEST_F(Accounting, AFloodOfSamplesPushesOutNoOtherRecordAndEveryLossIsTold) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    const auto listener = lab::listen(Ip::kV4);
    Books books;
    auto pairs = connect(listener);
    talk(pairs, 40);  // nobody drains
    source.drain([&](const Record& record) {
      EXPECT_TRUE(books.taken[TCPINFO_EVENT_GAP] == 1 || record.event() == TCPINFO_EVENT_GAP)
          << "told before further records";
      books.take(record);
    });
    for (int i = 0; i < 5; ++i) {  // and now and then
      talk(pairs);
      source.drain([&](const Record& record) { books.take(record); });
    }
    talk(pairs, 20);
    close(pairs);
    source.stop();
    books.drain(source);

    books.expect_exact(source);
    books.expect_each_connection_exact();
    const auto statistics = source.statistics();
    EXPECT_GT(statistics.lost_ring[TCPINFO_EVENT_SAMPLE], 10 * books.taken[TCPINFO_EVENT_SAMPLE]);
    EXPECT_EQ(Statistics::sum(statistics.lost_ring), statistics.lost_ring[TCPINFO_EVENT_SAMPLE]);
    EXPECT_EQ(books.lost_of_connections(), statistics.lost_ring[TCPINFO_EVENT_SAMPLE]);
    EXPECT_EQ(books.taken[TCPINFO_EVENT_OPEN], 2 * kPairs);
    EXPECT_EQ(books.taken[TCPINFO_EVENT_CLOSE], 2 * kPairs);
    EXPECT_EQ(books.taken[TCPINFO_EVENT_GAP], 7u) << "one a drain after losses";
    ASSERT_EQ(books.connections.size(), 2 * kPairs);
    for (const auto& [cookie, one] : books.connections) {
      EXPECT_EQ(one.opened, 1u);
      EXPECT_EQ(one.closed, 1u);
      EXPECT_GT(one.lost, 0u);
    }
    EXPECT_TRUE(std::ranges::any_of(books.connections, [](const auto& one) { return one.second.tellers > 1; }))
        << "samples tell too, not only the last record";
  });
}

// Callbacks on two CPUs, sweeps beside them, and a consumer that is too slow.
TEST_F(Accounting, IsExactWhileAllAreAtWork) {
  inside([&] {
    auto chosen = options();
    chosen.latency = 1ms;
    tcpinfo::SockopsSource source(chosen);
    const auto listener = lab::listen(Ip::kV4);
    Books books;
    auto pairs = connect(listener, 8);
    std::atomic<bool> over = false;
    const auto hammer = [&](unsigned number, lab::Socket lab::Pair::*end) {
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(number % std::max(std::thread::hardware_concurrency(), 1u), &one);
      lab::check(sched_setaffinity(0, sizeof(one), &one), "sched_setaffinity");
      char buffer[512]{};
      while (!over)
        for (auto& pair : pairs) {
          [[maybe_unused]] auto sent = ::send((pair.*end).fd(), buffer, 64, MSG_DONTWAIT | MSG_NOSIGNAL);
          [[maybe_unused]] auto got = ::recv((pair.*end).fd(), buffer, sizeof(buffer), MSG_DONTWAIT);
        }
    };
    std::thread first(hammer, 0, &lab::Pair::client), second(hammer, 1, &lab::Pair::server);
    const auto begin = source.statistics().sweeps;
    for (const auto give_up = std::chrono::steady_clock::now() + 20s;
         (source.statistics().sweeps < begin + 5 || books.told[TCPINFO_EVENT_SAMPLE] < 1000) &&
         std::chrono::steady_clock::now() < give_up;) {
      EXPECT_FALSE(source.tick(std::chrono::steady_clock::now()));
      EXPECT_FALSE(source.drain([&](const Record& record) { books.take(record); }, 64).error);
      std::this_thread::sleep_for(1ms);
    }
    over = true;
    first.join();
    second.join();
    close(pairs);
    source.stop();
    books.drain(source);
    books.expect_exact(source);
    books.expect_each_connection_exact();
    EXPECT_EQ(books.lost_of_connections(), books.told[TCPINFO_EVENT_SAMPLE]);
    EXPECT_GE(books.told[TCPINFO_EVENT_SAMPLE], 1000u);
    EXPECT_EQ(books.taken[TCPINFO_EVENT_CLOSE], 16u);
  });
}

// Whoever does what the source asks for hears of a loss within its latency: a sleeping source wakes, and one that is
// awake names a time.
TEST_F(Accounting, ALossAsksToBeToldAndTheNextDrainTellsAll) {
  inside([&] {
    auto chosen = options(Mode::kState);
    chosen.life_cycle_ring_bytes = chosen.ring_bytes;
    EXPECT_LE(chosen.latency, 1s);
    tcpinfo::SockopsSource source(chosen);
    const auto listener = lab::listen(Ip::kV4);
    Books books;
    for (const bool asleep : {true, false}) {
      SCOPED_TRACE(asleep);
      const auto pairs = connect(listener);
      const auto lost = source.statistics().lost_ring;
      ASSERT_GT(Statistics::sum(lost), Statistics::sum(books.told));
      pollfd ready{source.descriptor(), POLLIN, 0};
      if (asleep)
        EXPECT_EQ(::poll(&ready, 1, 0), 1);
      else
        EXPECT_LE(*source.next_deadline(), std::chrono::steady_clock::now() + chosen.latency);
      source.drain([&](const Record& record) { books.take(record); });
      EXPECT_EQ(books.told, lost);
    }
  });
}

/// This thread, and what it makes the network do, stays on one CPU while this lives.
class OneCpu {
 public:
  OneCpu() {
    sched_getaffinity(0, sizeof(before_), &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(sched_getcpu()), &one);
    sched_setaffinity(0, sizeof(one), &one);
  }
  ~OneCpu() { sched_setaffinity(0, sizeof(before_), &before_); }
  OneCpu(const OneCpu&) = delete;

 private:
  cpu_set_t before_{};
};

// The ring is full, so that all that is made meanwhile is lost, and no record that gets through wakes it.
TEST_F(Accounting, ALossWhileItDrainsWakesItAgain) {
  inside([&] {
    const OneCpu one_ring;
    auto chosen = options(Mode::kClose);
    chosen.life_cycle_ring_bytes = chosen.ring_bytes;
    chosen.adopt = false;
    chosen.latency = 1h;
    tcpinfo::SockopsSource source(chosen);
    const auto listener = lab::listen(Ip::kV4);
    const auto connect_and_abort = [&](std::size_t pairs) {
      for (auto& pair : connect(listener, pairs)) pair.client.abort();
    };
    connect_and_abort(4);
    Books books;
    bool flooded = false;
    source.drain([&](const Record& record) {
      if (!std::exchange(flooded, true)) connect_and_abort(20);
      books.take(record);
    });
    const auto lost = source.statistics().lost_ring;
    ASSERT_GT(lost[TCPINFO_EVENT_CLOSE], books.told[TCPINFO_EVENT_CLOSE]);
    pollfd ready{source.descriptor(), POLLIN, 0};
    EXPECT_EQ(::poll(&ready, 1, 0), 1);
    source.drain([&](const Record& record) { books.take(record); });
    EXPECT_EQ(books.told, lost);
  });
}

TEST_F(Accounting, EachKindOfRecordHasItsGapRecord) {
  for (const auto mode : {Mode::kState, Mode::kClose}) {
    SCOPED_TRACE(name(mode));
    inside([&] {
      auto chosen = options(mode);
      chosen.life_cycle_ring_bytes = chosen.ring_bytes;
      tcpinfo::SockopsSource source(chosen);
      const auto listener = lab::listen(Ip::kV4);
      auto pairs = connect(listener);
      close(pairs);
      EventCounts lost = source.statistics().lost_ring;
      EXPECT_GT(lost[TCPINFO_EVENT_CLOSE], 20u);
      EXPECT_EQ(lost[TCPINFO_EVENT_STATE] > 20, mode == Mode::kState);
      EXPECT_EQ(lost[TCPINFO_EVENT_OPEN] > 20, mode == Mode::kState);
      // One at a time, as a consumer that takes few at once.
      std::vector<std::uint8_t> gaps;
      Statistics statistics = source.statistics();
      while (source
                 .drain(
                     [&](const Record& record) {
                       if (record.event() != TCPINFO_EVENT_GAP) return;
                       gaps.push_back(*record.lost_event());
                       EXPECT_EQ(record.lost_records(), statistics.lost_ring[gaps.back()]);
                     },
                     1)
                 .records == 1) {
      }
      if (mode == Mode::kState)
        EXPECT_THAT(gaps, testing::ElementsAre(TCPINFO_EVENT_STATE, TCPINFO_EVENT_OPEN, TCPINFO_EVENT_CLOSE));
      else
        EXPECT_THAT(gaps, testing::ElementsAre(TCPINFO_EVENT_CLOSE));
      statistics = source.statistics();
      EXPECT_EQ(statistics.emitted[TCPINFO_EVENT_GAP], gaps.size());
      EXPECT_EQ(statistics.delivered[TCPINFO_EVENT_GAP], gaps.size());
    });
  }
}

// What a connection lost is told by its next record, also where that is none of samples.
TEST_F(Accounting, AConnectionThatBeginsAnewOwesNothing) {
  inside([&] {
    auto chosen = options(Mode::kState);
    chosen.life_cycle_ring_bytes = chosen.ring_bytes;
    tcpinfo::SockopsSource source(chosen);
    const auto listener = lab::listen(Ip::kV4);
    auto fill = connect(listener);
    auto pair = lab::connected(listener, Ip::kV4);  // open, established: lost
    sockaddr unspecified{};
    unspecified.sa_family = AF_UNSPEC;
    ASSERT_EQ(::connect(pair.client.fd(), &unspecified, sizeof(unspecified)), 0);  // close: lost
    Books books;
    books.drain(source);
    EXPECT_FALSE(books.connections.contains(pair.client.cookie()));
    lab::connect(pair.client, Ip::kV4, listener.local_port());
    const auto cookie = pair.client.cookie();
    books.drain(source);
    ASSERT_TRUE(books.connections.contains(cookie));
    EXPECT_EQ(books.connections[cookie].opened, 1u);
    EXPECT_EQ(books.connections[cookie].lost, 0u) << "those were of another connection";
    books.expect_exact(source);
  });
}

TEST_F(Accounting, AGapRecordThatTheSinkRefusesIsToldAgain) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    const auto listener = lab::listen(Ip::kV4);
    auto pairs = connect(listener, 4);
    talk(pairs);
    source.stop();
    const auto lost = source.statistics().lost_ring;
    ASSERT_GT(lost[TCPINFO_EVENT_SAMPLE], 0u);

    // A sink that takes nothing: the drain comes to its end all the same.
    const auto refuse = [](const Record&) { throw std::runtime_error("no room"); };
    std::size_t drains = 0;
    while (source.drain(refuse).records > 0) ASSERT_LT(++drains, 100u);
    auto statistics = source.statistics();
    EXPECT_EQ(Statistics::sum(statistics.delivered), 0u);
    EXPECT_GT(statistics.lost_sink[TCPINFO_EVENT_GAP], 0u);
    EXPECT_EQ(statistics.lost_sink[TCPINFO_EVENT_OPEN], 8u);
    EXPECT_TRUE(source.next_deadline()) << "there is something to tell";

    // It is told although nothing more is lost, and nothing else comes.
    Books books;
    books.drain(source);
    EXPECT_EQ(books.told, lost);
    EXPECT_EQ(books.taken[TCPINFO_EVENT_GAP], 1u);
    statistics = source.statistics();
    EXPECT_EQ(statistics.lost_ring, lost);
    for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event)
      EXPECT_EQ(statistics.emitted[event],
                statistics.delivered[event] + statistics.lost_ring[event] + statistics.lost_sink[event]);
  });
}

TEST_F(Accounting, AGapRecordsSinkMayCloseTheSource) {
  inside([&] {
    auto chosen = options();
    chosen.life_cycle_ring_bytes = chosen.ring_bytes;
    tcpinfo::SockopsSource source(chosen);
    const auto listener = lab::listen(Ip::kV4);
    auto pairs = connect(listener);
    talk(pairs);
    Books books;
    EXPECT_EQ(source
                  .drain([&](const Record& record) {
                    books.take(record);
                    source.close();
                  })
                  .records,
              1u);
    EXPECT_EQ(books.taken[TCPINFO_EVENT_GAP], 1u);
    EXPECT_EQ(source.descriptor(), -1);
    EXPECT_EQ(source.statistics().delivered, books.taken);
    EXPECT_EQ(source.statistics().emitted[TCPINFO_EVENT_GAP], 1u);
  });
}

// A socket that connects to itself opens simultaneously: TCP_CONNECT and PASSIVE_ESTABLISHED both come for it.
TEST_F(Accounting, ASimultaneousOpenIsOneConnection) {
  for (const auto mode : {Mode::kPolling, Mode::kState, Mode::kClose}) {
    SCOPED_TRACE(name(mode));
    inside([&] {
      auto chosen = options(mode);
      chosen.ring_bytes = chosen.life_cycle_ring_bytes;
      tcpinfo::SockopsSource source(chosen);
      lab::Socket socket(Ip::kV4);
      const auto any = lab::loopback(Ip::kV4, 0);
      lab::check(::bind(socket.fd(), any.get(), any.length), "bind");
      lab::connect(socket, Ip::kV4, socket.local_port());
      socket.send(10);
      socket.receive(10);
      socket.abort();
      source.stop();
      Books books;
      books.drain(source);
      EXPECT_EQ(source.statistics().connections, 1u);
      EXPECT_EQ(books.connections.size(), 1u);
      EXPECT_EQ(books.taken[TCPINFO_EVENT_OPEN], mode == Mode::kClose ? 0u : 1u);
      EXPECT_EQ(books.taken[TCPINFO_EVENT_CLOSE], 1u);
    });
  }
}

}  // namespace
