// SPDX-License-Identifier: BSD-2-Clause
// Connections older than the attach, and other users of sock_ops beside us, on the running kernel.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

#include "crowd.hpp"
#include "lab/lab.hpp"
#include "lab/neighbour.hpp"
#include "lab/sockets.hpp"
#include "placed_test.hpp"
#include "sweeps.hpp"

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using lab::Ip;
using tcpinfo::Event;
using tcpinfo::Mode;
using tcpinfo::Record;

// Since 6.12 an iterator can set callback flags; Debian has it in no older kernel.
bool kernel_sets_flags() {
  utsname system{};
  uname(&system);
  int major = 0, minor = 0;
  if (std::sscanf(system.release, "%d.%d", &major, &minor) != 2) return false;
  return major > 6 || (major == 6 && minor >= 12);
}

class Watch {
 public:
  explicit Watch(const tcpinfo::SockopsOptions& options) : source_(options) {}

  tcpinfo::SockopsSource& source() { return source_; }
  void drain() {
    EXPECT_FALSE(source_
                     .drain([this](const Record& record) {
                       // Of no connection: the source did not see for a while what another program hid.
                       if (record.event() == TCPINFO_EVENT_GAP) return static_cast<void>(gaps_.push_back(record.raw()));
                       records_[*record.cookie()].push_back(record.raw());
                     })
                     .error);
  }
  /// Until `done` or the time is over.
  template <class Done>
  bool until(Done done, std::chrono::milliseconds time = 10s) {
    for (const auto end = Clock::now() + time; Clock::now() < end; std::this_thread::sleep_for(1ms)) {
      EXPECT_FALSE(source_.tick(Clock::now()));
      drain();
      if (done()) return true;
    }
    return false;
  }
  void during(std::chrono::milliseconds time) {
    until([] { return false; }, time);
  }
  void drain_all() {
    source_.stop();
    for (std::uint64_t before = ~0ull; before != delivered();) {
      before = delivered();
      drain();
    }
  }
  std::vector<Record> of(std::uint64_t cookie) const {
    std::vector<Record> found;
    if (const auto at = records_.find(cookie); at != records_.end())
      for (const auto& raw : at->second) found.emplace_back(raw);
    return found;
  }
  std::vector<Record> of(std::uint64_t cookie, Event event) const {
    auto found = of(cookie);
    std::erase_if(found, [event](const Record& record) { return record.event() != static_cast<std::uint8_t>(event); });
    return found;
  }
  bool has(std::uint64_t cookie, Event event) const { return !of(cookie, event).empty(); }
  const std::map<std::uint64_t, std::vector<tcpinfo_record>>& all() const { return records_; }
  const std::vector<tcpinfo_record>& gaps() const { return gaps_; }

 private:
  std::uint64_t delivered() const { return tcpinfo::Statistics::sum(source_.statistics().delivered); }
  tcpinfo::SockopsSource source_;
  std::map<std::uint64_t, std::vector<tcpinfo_record>> records_;
  std::vector<tcpinfo_record> gaps_;
};

class Adoption : public lab::PlacedTest {
 protected:
  tcpinfo::SockopsOptions options(Mode mode = Mode::kPolling) const {
    tcpinfo::SockopsOptions options;
    options.cgroup = cgroup.path();
    options.mode = mode;
    options.interval = 20ms;
    return options;
  }
  static std::uint8_t expected_mark() { return kernel_sets_flags() ? 1 : 2; }
};

class AdoptionIp : public Adoption, public testing::WithParamInterface<Ip> {};
INSTANTIATE_TEST_SUITE_P(All, AdoptionIp, testing::Values(Ip::kV4, Ip::kV6, Ip::kMapped),
                         [](const auto& parameter) { return lab::name(parameter.param); });

void expect_sequence(const std::vector<Record>& records) {
  std::uint32_t sequence = 0;
  for (const auto& record : records) EXPECT_EQ(record.sequence(), sequence++);
}

TEST_P(AdoptionIp, AnOlderConnectionHasItsTotalsAndAllThatFollows) {
  inside([&] {
    const auto listener = lab::listen(GetParam());
    auto pair = lab::connected(listener, GetParam());
    lab::exchange(pair);
    std::this_thread::sleep_for(100ms);  // delayed ACKs are over
    const auto client = pair.client.cookie(), server = pair.server.cookie();
    const auto client_info = pair.client.info(), server_info = pair.server.info();
    for (const auto mode : {Mode::kPolling, Mode::kState}) {
      SCOPED_TRACE(name(mode));
      Watch watch(options(mode));
      ASSERT_TRUE(
          watch.until([&] { return watch.has(client, Event::kAdopted) && watch.has(server, Event::kAdopted); }));
      const auto later = lab::connected(listener, GetParam());
      watch.during(200ms);
      for (const auto& [cookie, info] : {std::pair(client, &client_info), std::pair(server, &server_info)}) {
        ASSERT_EQ(watch.of(cookie, Event::kAdopted).size(), 1u);
        EXPECT_FALSE(watch.has(cookie, Event::kOpen));
        const auto first = watch.of(cookie).front();
        EXPECT_EQ(first.event(), static_cast<std::uint8_t>(Event::kAdopted));
        EXPECT_EQ(first.state(), 1);
        EXPECT_EQ(first.generation(), 0u);
        EXPECT_EQ(first.bytes_sent(), info->tcpi_bytes_sent);
        EXPECT_EQ(first.bytes_acked(), info->tcpi_bytes_acked);
        EXPECT_EQ(first.bytes_received(), info->tcpi_bytes_received);
        EXPECT_EQ(first.data_segs_out(), info->tcpi_data_segs_out);
        EXPECT_EQ(first.cgroup_id(), tcpinfo::cgroup_id(cgroup.path()));
        for (const auto& record : watch.of(cookie)) EXPECT_EQ(record.adopted(), expected_mark());
        EXPECT_EQ(watch.has(cookie, Event::kSample), mode == Mode::kPolling);
        expect_sequence(watch.of(cookie));
      }
      for (const auto cookie : {later.client.cookie(), later.server.cookie()}) {
        EXPECT_TRUE(watch.has(cookie, Event::kOpen));
        EXPECT_FALSE(watch.has(cookie, Event::kAdopted));
        for (const auto& record : watch.of(cookie)) EXPECT_EQ(record.adopted(), 0);
      }
      EXPECT_EQ(watch.source().statistics().emitted[TCPINFO_EVENT_ADOPTED], 2u);
      EXPECT_EQ(watch.source().statistics().connections, 2u) << "those that began";
    }
  });
}

TEST_P(AdoptionIp, ItsTransitionsAndItsEndAreSeenInEachMode) {
  inside([&] {
    const auto listener = lab::listen(GetParam());
    for (const auto mode : {Mode::kPolling, Mode::kState, Mode::kClose}) {
      SCOPED_TRACE(name(mode));
      auto pair = lab::connected(listener, GetParam());
      lab::exchange(pair);
      const auto client = pair.client.cookie(), server = pair.server.cookie();
      Watch watch(options(mode));
      ASSERT_TRUE(
          watch.until([&] { return watch.has(client, Event::kAdopted) && watch.has(server, Event::kAdopted); }));
      // Half closed, not closed: an orphan in FIN_WAIT2 may become a TIME_WAIT socket before the peer's FIN comes.
      ASSERT_EQ(::shutdown(pair.client.fd(), SHUT_WR), 0);
      char byte;
      ASSERT_EQ(::recv(pair.server.fd(), &byte, 1, 0), 0);
      pair.server.close();
      ASSERT_TRUE(watch.until([&] { return watch.has(client, Event::kClose) && watch.has(server, Event::kClose); }));
      for (const auto cookie : {client, server}) {
        EXPECT_EQ(watch.of(cookie).front().event(), static_cast<std::uint8_t>(Event::kAdopted));
        EXPECT_EQ(watch.of(cookie).back().event(), static_cast<std::uint8_t>(Event::kClose));
        EXPECT_EQ(watch.of(cookie, Event::kAdopted).size(), 1u);
        EXPECT_EQ(watch.of(cookie, Event::kClose).size(), 1u);
        if (mode != Mode::kClose) expect_sequence(watch.of(cookie));
      }
      EXPECT_EQ(watch.of(client).back().bytes_received(), 2'000u + 1 /* the peer's FIN */);
      if (mode != Mode::kState) continue;
      std::vector<int> states;
      for (const auto& record : watch.of(server, Event::kState)) states.push_back(*record.state());
      EXPECT_THAT(states, testing::ElementsAre(8, 9)) << "CLOSE_WAIT, LAST_ACK";
    }
  });
}

// The end comes before the first pass: the tracepoint, which was there before the callbacks, has seen it.
TEST_F(Adoption, AnEndBeforeTheFirstPassIsSeen) {
  inside([&] {
    const auto listener = lab::listen(Ip::kV4);
    for (const auto mode : {Mode::kPolling, Mode::kState, Mode::kClose}) {
      SCOPED_TRACE(name(mode));
      auto pair = lab::connected(listener, Ip::kV4);
      pair.client.send(5000);
      pair.server.receive(5000);
      const auto client = pair.client.cookie(), server = pair.server.cookie();
      Watch watch(options(mode));
      pair.client.abort();
      ASSERT_TRUE(watch.until([&] { return watch.has(client, Event::kClose) && watch.has(server, Event::kClose); }));
      EXPECT_EQ(watch.of(client).back().bytes_sent(), 5000u);
      EXPECT_EQ(watch.of(server).back().bytes_received(), 5000u);
      for (const auto cookie : {client, server}) {
        EXPECT_EQ(watch.of(cookie).size(), mode == Mode::kClose ? 1u : 2u) << "adopted and closed";
        for (const auto& record : watch.of(cookie)) EXPECT_EQ(record.adopted(), 2);
      }
    }
  });
}

TEST_F(Adoption, OnlyWhatPassesTheFilterAndIsInTheCgroup) {
  const lab::Cgroup other("tcpinfo-test-other");
  const lab::Cgroup below("below", cgroup.path());
  netns.run([&] {
    std::optional<lab::InCgroup> in(std::in_place, cgroup);
    const auto wanted = lab::listen(Ip::kV4), unwanted = lab::listen(Ip::kV4);
    const auto kept = lab::connected(wanted, Ip::kV4), filtered = lab::connected(unwanted, Ip::kV4);
    in.emplace(below);
    const auto child = lab::connected(lab::listen(Ip::kV4), Ip::kV4);
    in.emplace(other);
    const lab::Socket stranger(Ip::kV4);
    lab::connect(stranger, Ip::kV4, wanted.local_port());
    in.reset();

    Watch all(options());
    auto chosen = options();
    chosen.filter = tcpinfo::Filter::parse("port == " + std::to_string(wanted.local_port()));
    Watch some(chosen);
    auto none = options();
    none.adopt = false;
    Watch nobody(none);
    all.during(100ms);
    some.during(100ms);
    nobody.during(100ms);
    EXPECT_TRUE(all.has(kept.client.cookie(), Event::kAdopted));
    EXPECT_TRUE(all.has(filtered.client.cookie(), Event::kAdopted));
    EXPECT_TRUE(all.has(child.client.cookie(), Event::kAdopted));
    EXPECT_TRUE(all.of(stranger.cookie()).empty());
    EXPECT_TRUE(some.has(kept.client.cookie(), Event::kAdopted));
    EXPECT_TRUE(some.of(filtered.client.cookie()).empty());
    EXPECT_TRUE(some.of(child.client.cookie()).empty());
    EXPECT_TRUE(nobody.all().empty());
    EXPECT_EQ(all.of(wanted.cookie()).size(), 0u) << "listeners are not connections";
  });
}

std::map<std::string, tcpinfo::Capability> capabilities(const tcpinfo::Source& source) {
  std::map<std::string, tcpinfo::Capability> found;
  for (const auto& one : source.capabilities()) found[one.name] = one;
  return found;
}

// An iterator sees one namespace: those of the cgroup's processes are visited one after the other.
TEST_F(Adoption, ConnectionsInNamespacesOfTheCgroupsProcesses) {
  const lab::Netns elsewhere("tcpinfo-test");
  const bench::Crowd crowd({.sockets = 20, .netns = &elsewhere, .cgroup = &cgroup});
  inside([&] {
    const auto pair = lab::connected(lab::listen(Ip::kV4), Ip::kV4);
    Watch watch(options());
    EXPECT_TRUE(capabilities(watch.source()).at("transitions").available);
    ASSERT_TRUE(watch.until([&] { return watch.all().size() >= 22; }));
    watch.during(100ms);
    EXPECT_EQ(watch.all().size(), 22u);
    std::set<std::uint64_t> namespaces;
    for (const auto& [cookie, records] : watch.all()) {
      EXPECT_EQ(records.front().event, TCPINFO_EVENT_ADOPTED);
      namespaces.insert(records.front().netns_cookie);
    }
    EXPECT_EQ(namespaces.size(), 2u);
    const auto found = capabilities(watch.source());
    EXPECT_TRUE(found.at("adoption").available);
    EXPECT_TRUE(found.at("network_namespaces").available) << found.at("network_namespaces").detail;
    EXPECT_EQ(found.at("rearming").available, kernel_sets_flags());
    EXPECT_THAT(found.at("transitions").detail,
                testing::HasSubstr(kernel_sets_flags() ? "taken off" : "every change of state"));
  });
}

TEST_F(Adoption, TwentyThousandAndMoreNoneMissedOrDoubled) {
  constexpr std::size_t kSockets = 24'000;
  const bench::Crowd crowd({.sockets = kSockets, .netns = &netns, .cgroup = &cgroup});
  inside([&] {
    for (const auto mode : {Mode::kState, Mode::kClose}) {
      SCOPED_TRACE(name(mode));
      Watch watch(options(mode));
      const auto begin = Clock::now();
      ASSERT_TRUE(watch.until([&] { return watch.all().size() >= kSockets; }, 30s))
          << watch.all().size() << ", " << watch.source().statistics().untracked << " untracked";
      RecordProperty(name(mode) == std::string("close") ? "close_ms" : "state_ms",
                     static_cast<int>((Clock::now() - begin) / 1ms));
      watch.during(50ms);
      EXPECT_EQ(watch.all().size(), kSockets);
      const auto statistics = watch.source().statistics();
      EXPECT_EQ(statistics.emitted[TCPINFO_EVENT_ADOPTED], kSockets) << "each once";
      EXPECT_EQ(statistics.delivered[TCPINFO_EVENT_ADOPTED], kSockets) << "the pass waits for room in the ring";
    }
    // In this namespace nobody listens, for which a kernel is known that leaves sockets out.
    tcpinfo::IterOptions all;
    all.states = tcpinfo::kAllStates;
    tcpinfo::IterSource every(all);
    EXPECT_FALSE(every.tick(Clock::now()));
    EXPECT_EQ(every.drain([](const Record&) {}).records, kSockets) << "and no socket of the source's own";
  });
}

TEST_F(Adoption, APassGoesOnWhereASmallRingStoppedIt) {
  const bench::Crowd crowd({.sockets = 400, .netns = &netns, .cgroup = &cgroup});
  inside([&] {
    auto chosen = options(Mode::kState);
    chosen.life_cycle_ring_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    for (const std::size_t limit : {SIZE_MAX, std::size_t{1}, std::size_t{3}}) {
      tcpinfo::SockopsSource source(chosen);
      std::map<std::uint64_t, int> adopted;
      for (const auto end = Clock::now() + 10s; adopted.size() < 400 && Clock::now() < end;) {
        ASSERT_LE(source.next_deadline().value_or(end), Clock::now()) << "there is something to do at once";
        EXPECT_FALSE(source.tick(Clock::now()));
        EXPECT_FALSE(source.drain([&](const Record& record) { ++adopted[*record.cookie()]; }, limit).error);
      }
      EXPECT_EQ(adopted.size(), 400u);
      for (const auto& [cookie, times] : adopted) EXPECT_EQ(times, 1);
      EXPECT_EQ(tcpinfo::Statistics::sum(source.statistics().lost_ring), 0u);
    }
  });
}

// Nothing arrives at this socket any more: the kernel drops it before TCP sees it.
void make_deaf(const lab::Socket& socket) {
  sock_filter drop{BPF_RET | BPF_K, 0, 0, 0};
  const sock_fprog program{1, &drop};
  socket.set(SOL_SOCKET, SO_ATTACH_FILTER, program);
}

TEST_F(Adoption, TheReceivingTheIdleAndTheStalledHaveASampleAnInterval) {
  inside([&] {
    const auto listener = lab::listen(Ip::kV4);
    auto busy = lab::connected(listener, Ip::kV4), idle = lab::connected(listener, Ip::kV4),
         stalled = lab::connected(listener, Ip::kV4), full = lab::connected(listener, Ip::kV4);
    Watch watch(options());
    ASSERT_TRUE(watch.until([&] { return watch.all().size() == 8; }));
    make_deaf(stalled.server);
    stalled.client.send(1000);
    // The other's peer does not read: its window closes, and probes ask for it.
    std::string data(1 << 20, 'x');
    while (::send(full.client.fd(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    const auto begin = tcpinfo::boot_time_ns();
    lab::Sweeps sweeps(watch.source(), options().interval);
    for (const auto end = Clock::now() + 1500ms; Clock::now() < end;) {
      busy.client.send(100);
      busy.server.receive(100);
      sweeps.note([&] { watch.during(1ms); });
    }
    EXPECT_GE(sweeps.count(), 10u) << "of 75";
    const auto samples = [&](const lab::Socket& socket) {
      auto found = watch.of(socket.cookie(), Event::kSample);
      std::erase_if(found, [begin](const Record& record) { return *record.time_ns() < begin; });
      return found;
    };
    for (const auto* socket : {&busy.client, &busy.server, &idle.client, &idle.server, &stalled.client, &stalled.server,
                               &full.client, &full.server})
      sweeps.expect_enough(watch.of(socket->cookie()));
    // It shows while it stalls: what is out stays out, and is sent again and again.
    const auto seen = samples(stalled.client);
    std::set<std::uint32_t> retransmits;
    for (const auto& sample : seen) {
      EXPECT_GT(*sample.unacked(), 0u);
      EXPECT_EQ(*sample.bytes_acked(), *seen.front().bytes_acked());
      retransmits.insert(*sample.total_retrans());
    }
    EXPECT_GE(retransmits.size(), 3u) << "they grow";
    EXPECT_GT(*seen.back().retransmits(), *seen.front().retransmits());
    EXPECT_GT(*seen.back().last_ack_recv(), *seen.front().last_ack_recv());
    EXPECT_GT(*samples(full.client).back().notsent_bytes(), 0u);
    EXPECT_GT(*samples(full.client).back().rwnd_limited(), *samples(full.client).front().rwnd_limited());
  });
}

/// Short and longer connections all the time, made by threads; what it knows of each.
class Load {
 public:
  struct Life {
    std::uint64_t cookie;
    Clock::time_point born, died;  // established for certain from, and still until
  };
  Load(const lab::Netns& netns, std::chrono::microseconds longest) {
    for (unsigned i = 0; i < 2; ++i)
      threads_.emplace_back([this, i, longest, &netns] { netns.run([&] { run(i, longest); }); });
  }
  ~Load() { finish(); }
  void finish() {
    over_ = true;
    for (auto& thread : threads_)
      if (thread.joinable()) thread.join();
  }
  const std::vector<Life>& lives() const { return lives_; }
  std::size_t made() const { return made_; }

 private:
  void run(unsigned seed, std::chrono::microseconds longest) {
    const auto listener = lab::listen(Ip::kV4);
    std::vector<Life> lives;
    struct Open {
      lab::Pair pair;
      Clock::time_point end;
      Life client, server;
    };
    std::vector<Open> open;
    const auto close_due = [&](Clock::time_point now) {
      std::erase_if(open, [&](Open& one) {
        if (one.end > now) return false;
        one.client.died = one.server.died = Clock::now();
        if (rand_r(&seed) % 2) {
          one.pair.client.abort();
        } else {
          one.pair.client.close();
          one.pair.server.close();
        }
        lives.push_back(one.client);
        lives.push_back(one.server);
        return true;
      });
    };
    while (!over_) {
      auto pair = lab::connected(listener, Ip::kV4);
      ++made_;
      const auto now = Clock::now();
      Life client{pair.client.cookie(), now, {}}, server{pair.server.cookie(), now, {}};
      const auto time = std::chrono::microseconds(rand_r(&seed) % static_cast<unsigned>(longest.count()));
      if (rand_r(&seed) % 4 == 0) {
        open.push_back({std::move(pair), now + time, client, server});
      } else {
        open.push_back({std::move(pair), now, client, server});
      }
      close_due(Clock::now());
      std::this_thread::sleep_for(250us);  // so that rings hold what is made in a second in which nobody drains
    }
    close_due(Clock::time_point::max());
    const std::lock_guard lock(mutex_);
    lives_.insert(lives_.end(), lives.begin(), lives.end());
  }

  std::atomic<bool> over_ = false;
  std::atomic<std::size_t> made_ = 0;
  std::mutex mutex_;
  std::vector<Life> lives_;
  std::vector<std::thread> threads_;
};

TEST_F(Adoption, AttachedToABusyCgroupInALoopNoConnectionIsWithoutARecord) {
  inside([&] {
    for (const auto mode : {Mode::kPolling, Mode::kState, Mode::kClose}) {
      SCOPED_TRACE(name(mode));
      struct Attached {
        Clock::time_point from, until;
        std::map<std::uint64_t, std::vector<tcpinfo_record>> records;
      };
      std::vector<Attached> times;
      Load load(netns, 100ms);  // a pass may come that long after the attach
      constexpr int kRounds = 25;
      const auto enough = Clock::now() + 20s;  // in a guest a round takes seconds
      for (int round = 0; round < kRounds && Clock::now() < enough; ++round) {
        auto chosen = options(mode);
        chosen.ring_bytes = chosen.life_cycle_ring_bytes = std::size_t{16} << 20;
        Watch watch(chosen);
        Attached one{Clock::now(), {}, {}};
        const auto made = load.made();
        watch.during(std::chrono::milliseconds(2 + round * 7 % kRounds * 2));  // short and long ones in turn
        watch.until([&] { return load.made() >= made + 40; });                 // also where that takes seconds
        one.until = Clock::now();
        if (mode == Mode::kClose) watch.during(300ms);  // the last FINs are on their way
        watch.drain_all();
        ASSERT_EQ(tcpinfo::Statistics::sum(watch.source().statistics().lost_ring), 0u)
            << testing::PrintToString(watch.source().statistics().lost_ring) << " of "
            << testing::PrintToString(watch.source().statistics().emitted) << " in " << (one.until - one.from) / 1ms
            << " ms";
        EXPECT_EQ(watch.source().statistics().untracked, 0u);
        one.records = watch.all();
        times.push_back(std::move(one));
      }
      load.finish();
      std::size_t expected = 0, adopted = 0, ended = 0;
      for (const auto& one : times) {
        for (const auto& life : load.lives()) {
          if (life.died < one.from || life.born > one.until) continue;
          const auto found = one.records.find(life.cookie);
          const bool ends_inside = life.died < one.until && life.died >= one.from;
          // In close mode one that began while attached has its record at its end.
          if (mode == Mode::kClose && life.born > one.from && !ends_inside) continue;
          ++expected;
          if (found == one.records.end()) {
            ADD_FAILURE() << "born " << (life.born - one.from) / 1us << " us after the attach, died "
                          << (life.died - one.from) / 1us << " us after it, of " << (one.until - one.from) / 1us;
            continue;
          }
          std::map<int, int> events;
          for (const auto& record : found->second) ++events[record.event];
          EXPECT_LE(events[TCPINFO_EVENT_ADOPTED], 1);
          EXPECT_LE(events[TCPINFO_EVENT_OPEN], 1);
          EXPECT_LE(events[TCPINFO_EVENT_CLOSE], 1);
          EXPECT_LE(events[TCPINFO_EVENT_ADOPTED] + events[TCPINFO_EVENT_OPEN], 1);
          EXPECT_TRUE(mode == Mode::kClose || events[TCPINFO_EVENT_ADOPTED] + events[TCPINFO_EVENT_OPEN] == 1);
          adopted += static_cast<std::size_t>(events[TCPINFO_EVENT_ADOPTED]);
          ended += static_cast<std::size_t>(events[TCPINFO_EVENT_CLOSE]);
        }
      }
      EXPECT_GT(expected, 40 * times.size());
      EXPECT_TRUE(adopted > times.size() || mode == Mode::kClose) << "the load was there before each attach";
      EXPECT_GT(ended, 20 * times.size());
      RecordProperty(std::string(name(mode)), static_cast<int>(expected));
    }
  });
}

// The library sets no flags on listeners, and at the end takes back what it set and no more.
TEST_F(Adoption, TheEndTakesBackWhatWasSetAndNoMore) {
  inside([&] {
    const lab::Flags flags;
    for (const auto mode : {Mode::kPolling, Mode::kState, Mode::kClose}) {
      SCOPED_TRACE(name(mode));
      const std::uint32_t wanted = mode == Mode::kPolling ? lab::kStateFlag | lab::kRttFlag : lab::kStateFlag;
      const auto listener = lab::listen(Ip::kV4);
      std::optional<lab::Pair> theirs;  // another program set flags here, and has gone
      {
        const lab::Neighbour other({.cgroup = cgroup.path(), .flags = lab::kRtoFlag | lab::kStateFlag});
        theirs = lab::connected(listener, Ip::kV4);
      }
      const auto older = lab::connected(listener, Ip::kV4);
      ASSERT_EQ(flags.of(older.client.cookie()), 0u);
      const auto before = flags.of(theirs->client.cookie());
      ASSERT_EQ(before, lab::kRtoFlag | lab::kStateFlag);

      Watch watch(options(mode));
      ASSERT_TRUE(watch.until([&] { return watch.has(older.server.cookie(), Event::kAdopted); }));
      const auto later = lab::connected(listener, Ip::kV4);
      // One that was connected, and then listens.
      lab::Socket again(Ip::kV4);
      lab::connect(again, Ip::kV4, listener.local_port());
      const auto unwanted = lab::accept(listener);
      sockaddr unspecified{};
      unspecified.sa_family = AF_UNSPEC;
      ASSERT_EQ(::connect(again.fd(), &unspecified, sizeof(unspecified)), 0);
      const auto endpoint = lab::loopback(Ip::kV4, 0);
      lab::check(::bind(again.fd(), endpoint.get(), endpoint.length), "bind");
      lab::check(::listen(again.fd(), 16), "listen");
      watch.during(50ms);
      for (const auto* pair : {&older, &later}) {
        EXPECT_EQ(flags.of(pair->client.cookie()), kernel_sets_flags() || pair == &later ? wanted : 0u);
        EXPECT_EQ(flags.of(pair->server.cookie()), kernel_sets_flags() || pair == &later ? wanted : 0u);
      }
      EXPECT_EQ(flags.of(theirs->client.cookie()), kernel_sets_flags() ? before | wanted : before);
      EXPECT_EQ(flags.of(listener.cookie()), 0u);
      if (mode != Mode::kClose) {
        EXPECT_EQ(flags.of(again.cookie()), 0u) << "its children would inherit them";
      }

      watch.source().stop();
      if (!kernel_sets_flags()) continue;
      for (const auto* pair : {&older, &later}) {
        EXPECT_EQ(flags.of(pair->client.cookie()), 0u);
        EXPECT_EQ(flags.of(pair->server.cookie()), 0u);
      }
      EXPECT_EQ(flags.of(again.cookie()), 0u);
      // In close mode nothing is kept of a connection, and nobody knows whose flag it was.
      EXPECT_EQ(flags.of(theirs->client.cookie()), mode == Mode::kClose ? before & ~wanted : before);
    }
  });
}

// One that wants what we do not.
TEST_F(Adoption, FlagsThatAnotherProgramAsksForStayBesideOurs) {
  inside([&] {
    const lab::Flags flags;
    const lab::Neighbour other({.cgroup = cgroup.path(), .flags = lab::kRtoFlag});
    const auto listener = lab::listen(Ip::kV4);
    for (const auto mode : {Mode::kPolling, Mode::kState, Mode::kClose}) {
      SCOPED_TRACE(name(mode));
      const Watch watch(options(mode));
      const auto pair = lab::connected(listener, Ip::kV4);
      const std::uint32_t ours = mode == Mode::kPolling ? lab::kStateFlag | lab::kRttFlag : lab::kStateFlag;
      for (const auto* socket : {&pair.client, &pair.server})
        EXPECT_EQ(flags.of(socket->cookie()), lab::kRtoFlag | ours);
    }
  });
}

TEST_F(Adoption, FlagsThatStayAfterSigkillDoNoHarmAndAreAdoptedAgain) {
  inside([&] {
    const lab::Flags flags;
    const auto listener = lab::listen(Ip::kV4);
    auto pair = lab::connected(listener, Ip::kV4);
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        Watch watch(options());
        watch.during(100ms);
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
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    const std::uint32_t left = kernel_sets_flags() ? lab::kStateFlag | lab::kRttFlag : 0;
    EXPECT_EQ(flags.of(pair.client.cookie()), left);
    lab::exchange(pair);
    for (int i = 0; i < 2000 && !tcpinfo::sock_ops_programs(cgroup.path()).empty(); ++i)
      std::this_thread::sleep_for(1ms);

    Watch watch(options());
    ASSERT_TRUE(watch.until([&] { return watch.has(pair.client.cookie(), Event::kAdopted); }));
    EXPECT_EQ(watch.of(pair.client.cookie()).front().adopted(), expected_mark());
    EXPECT_EQ(watch.of(pair.client.cookie()).front().bytes_sent(), 100'000u);
    watch.source().stop();
    EXPECT_EQ(flags.of(pair.client.cookie()), left) << "this one did not set them";
  });
}

struct Place {
  const char* name;
  bool before;  // attached before the library's
  enum { kSame, kParent, kChild } where;
};

class Neighbours : public Adoption, public testing::WithParamInterface<Place> {
 protected:
  /// The library in the middle of three cgroups, the connections in the lowest: all programs run for them.
  lab::Cgroup middle{"middle", cgroup.path()}, low{"low", middle.path()};
  const lab::Cgroup& where() const {
    return GetParam().where == Place::kSame ? middle : GetParam().where == Place::kParent ? cgroup : low;
  }
  tcpinfo::SockopsOptions chosen(Mode mode) const {
    auto options = this->options(mode);
    options.cgroup = middle.path();
    return options;
  }
};
INSTANTIATE_TEST_SUITE_P(Each, Neighbours,
                         testing::Values(Place{"before", true, Place::kSame}, Place{"after", false, Place::kSame},
                                         Place{"parent_before", true, Place::kParent},
                                         Place{"parent_after", false, Place::kParent},
                                         Place{"child_before", true, Place::kChild},
                                         Place{"child_after", false, Place::kChild}),
                         [](const auto& test) { return std::string(test.param.name); });

// It adds its flags to ours: both have their callbacks, and when we leave it still has its own.
TEST_P(Neighbours, APoliteOneHasItsCallbacksAndWeHaveOurs) {
  netns.run([&] {
    const lab::InCgroup in(low);
    for (const auto mode : {Mode::kPolling, Mode::kState, Mode::kClose}) {
      SCOPED_TRACE(name(mode));
      const auto listener = lab::listen(Ip::kV4);
      std::optional<lab::Neighbour> other;
      const auto attach_other = [&] {
        other.emplace(lab::NeighbourOptions{.cgroup = where().path(), .flags = lab::kStateFlag | lab::kRttFlag});
      };
      if (GetParam().before) attach_other();
      Watch watch(chosen(mode));
      watch.during(20ms);
      if (!GetParam().before) attach_other();

      const auto programs = tcpinfo::sock_ops_programs(middle.path());
      ASSERT_EQ(programs.size(), 2u);
      const auto seen = std::ranges::find(programs, other->id(), &tcpinfo::AttachedProgram::id);
      ASSERT_NE(seen, programs.end());
      EXPECT_EQ(seen->name, "neighbour");
      EXPECT_EQ(seen->cgroup, where().path());

      auto pair = lab::connected(listener, Ip::kV4), kept = lab::connected(listener, Ip::kV4);
      const auto client = pair.client.cookie(), server = pair.server.cookie();
      const auto states = other->callbacks(lab::kStateOp);
      pair.client.abort();
      ASSERT_TRUE(watch.until([&] { return watch.has(client, Event::kClose) && watch.has(server, Event::kClose); }));
      EXPECT_EQ(other->callbacks(lab::kStateOp), states + 2);
      EXPECT_EQ(watch.source().statistics().rearmed, 0u);

      // Orderly, and it goes on.
      watch.source().stop();
      const auto round_trips = other->callbacks(lab::kRttOp);
      for (int i = 0; i < 10; ++i) {
        kept.client.send(1);
        kept.server.receive(1);
        kept.server.send(1);
        kept.client.receive(1);
      }
      EXPECT_GE(other->callbacks(lab::kRttOp), round_trips + 10);
      const auto later = other->callbacks(lab::kStateOp);
      kept.client.abort();
      EXPECT_EQ(other->callbacks(lab::kStateOp), later + 2);
    }
  });
}

// It sets its own flags alone, when a connection begins or at every callback: ours come back, and its callbacks go on.
TEST_P(Neighbours, OfOneThatOverwritesFlagsNothingIsMissed) {
  netns.run([&] {
    const lab::InCgroup in(low);
    for (const bool insists : {false, true})
      for (const auto mode : {Mode::kPolling, Mode::kState}) {
        SCOPED_TRACE(std::string(name(mode)) + (insists ? ", at every callback" : ""));
        const auto listener = lab::listen(Ip::kV4);
        std::optional<lab::Neighbour> other;
        const auto attach_other = [&] {
          other.emplace(lab::NeighbourOptions{
              .cgroup = where().path(), .flags = lab::kRttFlag, .is_polite = false, .insists = insists});
        };
        if (GetParam().before) attach_other();
        Watch watch(chosen(mode));
        watch.during(20ms);
        if (!GetParam().before) attach_other();
        auto pair = lab::connected(listener, Ip::kV4);
        const auto client = pair.client.cookie(), server = pair.server.cookie();
        lab::exchange(pair);
        const lab::Flags flags;
        const auto have_flags = [&] {
          return (flags.of(client) & lab::kStateFlag) && (flags.of(server) & lab::kStateFlag);
        };
        const auto round_trip = [&] {
          pair.client.send(1);
          pair.server.receive(1);
          pair.server.send(1);
          pair.client.receive(1);
        };
        // Noticed within a second, and some time for a busy machine.
        if (insists) {
          EXPECT_TRUE(watch.until(
              [&] {
                round_trip();
                return capabilities(watch.source()).at("transitions").detail.find("every change") != std::string::npos;
              },
              5s));
        } else if (kernel_sets_flags()) {
          EXPECT_TRUE(watch.until(have_flags, 5s));
        } else if (!have_flags()) {
          EXPECT_TRUE(watch.until([&] { return watch.source().statistics().silenced > 0; }, 5s));
        }
        const auto round_trips = other->callbacks(lab::kRttOp);
        for (int i = 0; i < 10; ++i) round_trip();
        EXPECT_GE(other->callbacks(lab::kRttOp), round_trips + 10) << "its own callbacks go on unharmed";
        pair.client.abort();
        EXPECT_TRUE(watch.until([&] { return watch.has(client, Event::kClose) && watch.has(server, Event::kClose); }));
        for (const auto cookie : {client, server}) {
          EXPECT_TRUE(watch.has(cookie, Event::kOpen));
          EXPECT_EQ(watch.of(cookie, Event::kClose).size(), 1u);
          expect_sequence(watch.of(cookie));
        }
      }
  });
}

// A program after ours takes our flag away inside the very callback that told of a transition: the tracepoint, which
// finds no flag then, must not tell it again.
TEST_F(Adoption, ATransitionIsToldOnceWhereAnotherTakesTheFlagInItsCallback) {
  if (!kernel_sets_flags()) GTEST_SKIP() << "needs a kernel from 6.12: flags that come back";
  inside([&] {
    const lab::Flags flags;
    for (const auto mode : {Mode::kPolling, Mode::kState, Mode::kClose}) {
      SCOPED_TRACE(name(mode));
      const auto listener = lab::listen(Ip::kV4);
      Watch watch(options(mode));
      const lab::Neighbour other({.cgroup = cgroup.path(), .flags = 0, .is_polite = false, .insists = true});
      auto pair = lab::connected(listener, Ip::kV4);
      const auto client = pair.client.cookie(), server = pair.server.cookie();
      const auto states = other.callbacks(lab::kStateOp);
      const auto armed = [&] { return (flags.of(client) & lab::kStateFlag) && (flags.of(server) & lab::kStateFlag); };
      // Half closed, so that each has a further transition; then both end.
      ASSERT_TRUE(watch.until(armed));
      ASSERT_EQ(::shutdown(pair.client.fd(), SHUT_WR), 0);
      char byte;
      ASSERT_EQ(::recv(pair.server.fd(), &byte, 1, 0), 0);
      EXPECT_GE(other.callbacks(lab::kStateOp), states + 2) << "both had the callback in which the flag went";
      ASSERT_TRUE(watch.until([&] { return pair.client.info().tcpi_state == 5 && armed(); }))
          << "the FIN is acknowledged";
      pair.server.abort();
      ASSERT_TRUE(watch.until([&] { return watch.has(client, Event::kClose) && watch.has(server, Event::kClose); }));
      watch.during(50ms);
      EXPECT_EQ(watch.of(client, Event::kClose).size(), 1u);
      EXPECT_EQ(watch.of(server, Event::kClose).size(), 1u);
      if (mode != Mode::kClose) {
        expect_sequence(watch.of(client));
        expect_sequence(watch.of(server));
      }
      if (mode != Mode::kState) continue;
      const auto told = [&](std::uint64_t cookie) {
        std::vector<int> found;
        for (const auto& record : watch.of(cookie, Event::kState)) found.push_back(*record.state());
        return found;
      };
      EXPECT_THAT(told(client), testing::ElementsAre(1, 4, 5)) << "ESTABLISHED, FIN_WAIT1, FIN_WAIT2";
      EXPECT_THAT(told(server), testing::ElementsAre(1, 8)) << "ESTABLISHED, CLOSE_WAIT";
    }
  });
}

// It goes through SYN_SENT, and no SYN was sent: nobody but this socket has ever known of it.
TEST_F(Adoption, AConnectThatFailsBeforeItsSynIsNoConnection) {
  inside([&] {
    const lab::Neighbour other({.cgroup = cgroup.path(), .flags = lab::kRttFlag, .is_polite = false});
    for (const auto mode : {Mode::kPolling, Mode::kState, Mode::kClose})
      for (const bool again : {false, true}) {
        SCOPED_TRACE(std::string(name(mode)) + (again ? ", of a socket that was connected before" : ""));
        const auto listener = lab::listen(Ip::kV4);
        Watch watch(options(mode));  // beside another program, where the tracepoint stays
        const auto any = lab::loopback(Ip::kV4, 0);
        lab::Socket first(Ip::kV4), second(Ip::kV4);
        for (const auto* socket : {&first, &second}) socket->set(SOL_SOCKET, SO_REUSEADDR, 1);
        lab::check(::bind(first.fd(), any.get(), any.length), "bind");
        lab::connect(first, Ip::kV4, listener.local_port());
        const auto server = lab::accept(listener);  // it is established too, and counted
        std::size_t before = 0;
        if (again) {
          lab::connect(second, Ip::kV4, listener.local_port());
          const auto other_server = lab::accept(listener);
          sockaddr unspecified{};
          unspecified.sa_family = AF_UNSPEC;
          ASSERT_EQ(::connect(second.fd(), &unspecified, sizeof(unspecified)), 0);
          ASSERT_TRUE(watch.until([&] { return watch.has(second.cookie(), Event::kClose); }));
          before = watch.of(second.cookie()).size();
        }
        const auto taken = lab::loopback(Ip::kV4, first.local_port()),
                   there = lab::loopback(Ip::kV4, listener.local_port());
        lab::check(::bind(second.fd(), taken.get(), taken.length), "bind");
        ASSERT_EQ(::connect(second.fd(), there.get(), there.length), -1);
        ASSERT_EQ(errno, EADDRNOTAVAIL) << "the same addresses and ports are taken";
        const auto connections = watch.source().statistics().connections;
        watch.during(100ms);
        EXPECT_EQ(watch.of(second.cookie()).size(), before);
        EXPECT_EQ(watch.source().statistics().connections, connections);
      }
  });
}

// Only from when it is noticed on does the tracepoint see what it hides: the time before is told, once.
TEST_F(Adoption, ANeighbourThatComesLaterIsNoticedAndTheTimeBeforeIsTold) {
  if (!kernel_sets_flags()) GTEST_SKIP() << "needs a kernel from 6.12: before, the tracepoint stays in any case";
  const lab::Cgroup child("tcpinfo-below", cgroup.path());
  for (const lab::Cgroup* const place : std::initializer_list<const lab::Cgroup*>{&cgroup, &child})
    for (const auto mode : {Mode::kPolling, Mode::kState, Mode::kClose}) {
      SCOPED_TRACE(std::string(name(mode)) + (place == &child ? " below" : ""));
      netns.run([&] {
        const lab::InCgroup in_place(*place);
        const auto listener = lab::listen(Ip::kV4);
        auto idle = lab::connected(listener, Ip::kV4);
        Watch watch(options(mode));
        const auto transitions = [&] { return capabilities(watch.source()).at("transitions").detail; };
        ASSERT_TRUE(watch.until([&] { return transitions().find("taken off") != std::string::npos; }));
        EXPECT_TRUE(watch.gaps().empty());
        const lab::Neighbour other({.cgroup = place->path(), .flags = 0, .is_polite = false, .insists = true});
        // Nothing comes of an idle connection: the owner waits for the deadline alone.
        const auto deadline = watch.source().next_deadline();
        ASSERT_TRUE(deadline);
        EXPECT_LE(*deadline - Clock::now(), 1s);
        // Below it, the next connection that begins shows the other program.
        std::vector<lab::Pair> first;
        if (place == &child) {
          EXPECT_FALSE(watch.until([&] { return transitions().find("every change") != std::string::npos; }, 100ms));
          first.push_back(lab::connected(listener, Ip::kV4));
        }
        ASSERT_TRUE(watch.until([&] { return transitions().find("every change") != std::string::npos; }));
        watch.during(1500ms);
        ASSERT_EQ(watch.gaps().size(), 1u) << "once";
        EXPECT_FALSE(Record(watch.gaps()[0]).lost_records()) << "nobody knows how many";
        EXPECT_EQ(Record(watch.gaps()[0]).source(), TCPINFO_SOURCE_SOCKOPS);
        // From now on nothing is missed, whatever it overwrites.
        auto later = lab::connected(listener, Ip::kV4);
        later.client.abort();
        idle.client.abort();
        for (const auto* pair : {&idle, &later})
          EXPECT_TRUE(watch.until([&] { return watch.has(pair->server.cookie(), Event::kClose); }));
        EXPECT_EQ(watch.gaps().size(), 1u);
      });
    }
}

// In close mode nothing is kept of a connection: the flag alone says whom the source knows.
TEST_F(Adoption, FlagsThatComeBackInCloseModeAreNoAdoption) {
  if (!kernel_sets_flags()) GTEST_SKIP() << "needs a kernel from 6.12: flags that come back";
  inside([&] {
    const auto listener = lab::listen(Ip::kV4);
    const auto older = lab::connected(listener, Ip::kV4);
    {
      auto chosen = options(Mode::kClose);
      chosen.adopt = false;
      const tcpinfo::SockopsSource without(chosen);
      EXPECT_FALSE(capabilities(without).at("rearming").available) << "it cannot tell whom it knows";
    }
    Watch watch(options(Mode::kClose));
    ASSERT_TRUE(watch.until([&] { return watch.has(older.server.cookie(), Event::kAdopted); }));
    const lab::Neighbour other({.cgroup = cgroup.path(), .flags = lab::kRttFlag, .is_polite = false});
    const auto later = lab::connected(listener, Ip::kV4);
    ASSERT_TRUE(watch.until([&] { return watch.source().statistics().rearmed >= 2; }));
    watch.during(50ms);
    EXPECT_EQ(watch.source().statistics().emitted[TCPINFO_EVENT_ADOPTED], 2u) << "the older one's ends";
    EXPECT_TRUE(watch.of(later.server.cookie()).empty());
    const auto rearming = capabilities(watch.source()).at("rearming");
    EXPECT_TRUE(rearming.available);
    EXPECT_THAT(rearming.detail, testing::Not(testing::HasSubstr("not tried")));
  });
}

TEST_F(Adoption, RearmingIsNotClaimedToHaveBeenTriedWhereNobodyLackedFlags) {
  inside([&] {
    Watch watch(options());
    watch.during(50ms);
    EXPECT_THAT(capabilities(watch.source()).at("rearming").detail, testing::HasSubstr("not tried"));
  });
}

// A connection that has no storage is counted once, and followed as an adopted one as soon as there is memory.
TEST_F(Adoption, OneThatWasUntrackedIsAdoptedWhenThereIsMemory) {
  inside([&] {
    std::ifstream reader("/proc/sys/net/core/optmem_max");
    std::string usual;
    if (!(reader >> usual)) GTEST_SKIP() << "needs a kernel whose namespaces have an optmem_max of their own";
    const auto allow = [](const std::string& bytes) {
      std::ofstream file("/proc/sys/net/core/optmem_max");
      file << bytes << std::flush;
      if (!file) throw std::runtime_error("write /proc/sys/net/core/optmem_max");
    };
    const auto listener = lab::listen(Ip::kV4);
    Watch watch(options(Mode::kState));
    watch.during(50ms);  // the first round is over
    allow("64");
    auto pair = lab::connected(listener, Ip::kV4);
    watch.during(50ms);
    EXPECT_TRUE(watch.of(pair.client.cookie()).empty());
    EXPECT_EQ(watch.source().statistics().untracked, 2u)
        << "each end, when it began; the client's later callback is no other";
    allow(usual);
    // The next pass finds them, here one for a connection whose flags another program took.
    EXPECT_EQ(watch.source().statistics().connections, 0u);
    const lab::Neighbour other({.cgroup = cgroup.path(), .flags = lab::kRttFlag, .is_polite = false});
    const auto silenced = lab::connected(listener, Ip::kV4);
    ASSERT_TRUE(watch.until([&] { return watch.has(pair.client.cookie(), Event::kAdopted); }));
    EXPECT_TRUE(watch.until([&] { return watch.has(pair.server.cookie(), Event::kAdopted); }));
    pair.client.abort();
    EXPECT_TRUE(watch.until([&] { return watch.has(pair.server.cookie(), Event::kClose); }));
    EXPECT_EQ(watch.source().statistics().untracked, 2u);
    EXPECT_EQ(watch.source().statistics().emitted[TCPINFO_EVENT_ADOPTED], 2u);
  });
}

// Its sockets are in a namespace that the process itself is not in.
TEST_F(Adoption, ConnectionsInTheNamespaceOfAThread) {
  const lab::Netns elsewhere("tcpinfo-test");
  const lab::InCgroup in(cgroup);
  const lab::Resident resident(elsewhere);
  lab::Pair pair;
  elsewhere.run([&] { pair = lab::connected(lab::listen(Ip::kV4), Ip::kV4); });
  Watch watch(options());
  EXPECT_TRUE(watch.until([&] { return watch.has(pair.client.cookie(), Event::kAdopted); }, 3s));
  EXPECT_TRUE(capabilities(watch.source()).at("network_namespaces").available);
}

// As its own namespace, wherever it is driven: a process may make its sockets, and the source, before it moves.
TEST_F(Adoption, ConnectionsInTheNamespaceInWhichTheSourceWasOpened) {
  std::optional<lab::Pair> pair;
  std::optional<Watch> watch;
  inside([&] {
    pair = lab::connected(lab::listen(Ip::kV4), Ip::kV4);
    watch.emplace(options());
  });
  EXPECT_TRUE(watch->until([&] { return watch->has(pair->client.cookie(), Event::kAdopted); }, 3s));
}

// No descriptor is left for the namespaces: the error is told, each second it is tried again.
TEST_F(Adoption, WithoutFreeDescriptorsItIsPutOffAndTold) {
  const lab::Netns elsewhere("tcpinfo-test");
  const bench::Crowd crowd({.sockets = 20, .netns = &elsewhere, .cgroup = &cgroup});
  tcpinfo::SockopsSource source(options(Mode::kState));
  std::set<std::uint64_t> adopted;
  const auto drive = [&] {
    auto error = source.tick(Clock::now());
    const auto result = source.drain([&](const Record& record) {
      if (record.event() == TCPINFO_EVENT_ADOPTED) adopted.insert(*record.cookie());
    });
    return error ? error : result.error;
  };
  rlimit usual{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
  const rlimit none{3, usual.rlim_max};  // what is open stays
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto error = drive();
  const auto again = drive();
  const auto detail = capabilities(source).at("adoption").detail;
  const auto deadline = source.next_deadline();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
  EXPECT_EQ(error, std::errc::too_many_files_open);
  EXPECT_FALSE(again) << "told once a try";
  EXPECT_THAT(detail, testing::HasSubstr("Too many open files"));
  EXPECT_THAT(detail, testing::Not(testing::HasSubstr("CAP_SYS_ADMIN")));
  ASSERT_TRUE(deadline) << "the next try";
  EXPECT_GT(*deadline, Clock::now()) << "not at once, over and over";
  EXPECT_TRUE(adopted.empty());
  for (const auto end = Clock::now() + 10s; adopted.size() < 20 && Clock::now() < end; std::this_thread::sleep_for(1ms))
    EXPECT_FALSE(drive());
  EXPECT_EQ(adopted.size(), 20u);
  EXPECT_THAT(capabilities(source).at("adoption").detail, testing::Not(testing::HasSubstr("put off")));
}

}  // namespace
