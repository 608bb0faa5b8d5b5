// SPDX-License-Identifier: BSD-2-Clause
// Triggers: the kernel and user space mean the same, and of real connections only what is wanted comes.
#include <bpf/bpf.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

#include "../../libtcpinfo/tests/records.hpp"
#include "collector.hpp"
#include "lab/lab.hpp"
#include "lab/path.hpp"
#include "lab/sockets.hpp"
#include "placed_test.hpp"
#include "requirements.hpp"
#include "trigger_check.skel.h"

namespace {

using namespace std::chrono_literals;
using lab::Ip;
using tcpinfo::Event;
using tcpinfo::Field;
using tcpinfo::Record;
using tcpinfo::Statistics;
using tcpinfo::Trigger;

/// What a trigger says of records in the kernel.
class InKernel {
 public:
  explicit InKernel(const Trigger& trigger) : skeleton_(trigger_check__open(), trigger_check__destroy) {
    if (!skeleton_) throw std::runtime_error("open");
    auto& into = skeleton_->rodata->trigger;
    static_assert(sizeof(into) == sizeof(tcpinfo_trigger));
    std::memcpy(const_cast<void*>(static_cast<const volatile void*>(&into)), &trigger.raw(), sizeof(into));
    if (const int error = trigger_check__load(skeleton_.get()))
      throw std::system_error(-error, std::generic_category(), "load");
  }

  unsigned examine(const tcpinfo_record& record) {
    auto& shared = *skeleton_->bss;
    static_assert(sizeof(shared.record) == sizeof(record));
    std::memcpy(static_cast<void*>(&shared.record), &record, sizeof(record));
    shared.held = ~0u;
    bpf_test_run_opts options{};
    options.sz = sizeof(options);
    lab::check(bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.check_trigger), &options), "run");
    return shared.held;
  }

  __u32 verified_instructions() const {
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    lab::check(bpf_obj_get_info_by_fd(bpf_program__fd(skeleton_->progs.check_trigger), &info, &size), "info");
    return info.verified_insns;
  }

 private:
  std::unique_ptr<struct trigger_check, void (*)(struct trigger_check*)> skeleton_;
};

class TriggerKernel : public testing::Test {
 protected:
  void SetUp() override { TCPINFO_NEEDS_BPF(); }
};

std::string some_comparison(records::Random& random) {
  static const char* const kComparisons[] = {"rtt > 20ms",
                                             "rtt > 2 * min_rtt",
                                             "1.5 * rtt <= rto",
                                             "snd_cwnd < 10",
                                             "delivery_rate < 1Mbit/s",
                                             "pacing_rate >= 2 * delivery_rate",
                                             "total_retrans grows",
                                             "rwnd_limited grows",
                                             "segs_in grows",
                                             "bytes_acked grows",
                                             "ca_state == Loss",
                                             "ca_state != Open",
                                             "retransmits > 0",
                                             "unacked > 0",
                                             "last_ack_recv > 1s",
                                             "last_ack_recv > 3 * rtt",
                                             "state in (ESTABLISHED, CLOSE_WAIT)",
                                             "not state == ESTABLISHED",
                                             "port == 0",
                                             "local_port in 1..15",
                                             "not port != 65535",
                                             "address in 0.0.0.0/0",
                                             "not peer_address in ::/0",
                                             "address in ::/1",
                                             "congestion_control != bbr",
                                             "uid == 0",
                                             "swept == true",
                                             "bytes_acked != bytes_received",
                                             "4294967295 * bytes_sent > 4294967295 * bytes_acked",
                                             "total_rto == 65535",
                                             "tos in 3..200",
                                             "cookie == 0"};
  return kComparisons[random() % std::size(kComparisons)];
}

std::string some_expression(records::Random& random, int depth) {
  if (depth == 0 || random() % 4 == 0) return some_comparison(random);
  return "(" + some_expression(random, depth - 1) + (random() % 2 ? ") and (" : ") or (") +
         some_expression(random, depth - 1) + ")";
}

TEST_F(TriggerKernel, TheKernelSaysOfEachRecordWhatUserSpaceSays) {
  records::Random random(7);
  int triggers = 0, held = 0, failed = 0, grew = 0;
  for (int i = 0; i < 150; ++i) {
    Trigger trigger;
    const auto text = some_expression(random, 1 + i % 4);
    try {
      trigger = Trigger::parse(text);
    } catch (const tcpinfo::Error& error) {
      ASSERT_THAT(error.what(), testing::HasSubstr("expands to")) << text;
      continue;
    }
    ++triggers;
    InKernel kernel(trigger);
    tcpinfo_history history{};
    for (int j = 0; j < 100; ++j) {
      const auto record = records::random_record(random, 90);
      const unsigned expected = trigger.examine(Record(record), history);
      ASSERT_EQ(kernel.examine(record), expected) << text;
      ++(expected ? held : failed);
      grew += expected != 0 && trigger.asks_for_growth();
    }
  }
  // The test is worth something only if all of these happen often.
  EXPECT_GT(triggers, 100);
  EXPECT_GT(held, 1000);
  EXPECT_GT(failed, 1000);
  EXPECT_GT(grew, 100);
}

TEST_F(TriggerKernel, TheLargestTriggerLoads) {
  std::string text;
  for (int clause = 0; clause < 16; ++clause) {
    text += clause ? " or " : "";
    for (int i = 0; i < 4; ++i) text += fmt::format("{}rtt != {} * min_rtt", i ? " and " : "", 2 + clause * 4 + i);
  }
  const auto trigger = Trigger::parse(text);
  ASSERT_EQ(trigger.raw().conditions, static_cast<__u32>(TCPINFO_TRIGGER_CONDITIONS));
  ASSERT_EQ(trigger.raw().clauses, static_cast<__u32>(TCPINFO_TRIGGER_CLAUSES));
  InKernel largest(trigger), smallest(Trigger::parse("rtt > 1ms"));
  fmt::print("verified instructions: {} with 64 conditions, {} with 1\n", largest.verified_instructions(),
             smallest.verified_instructions());
  EXPECT_LT(largest.verified_instructions(), 64 * smallest.verified_instructions()) << "each condition is seen once";
}

class Collector : public lab::Collector {
 public:
  using lab::Collector::Collector;
  /// Until the source has looked at samples this many times more, wanted or not.
  bool looks(std::uint64_t count) {
    const auto looked = [this] {
      const auto statistics = source().statistics();
      return statistics.untriggered + statistics.emitted[TCPINFO_EVENT_SAMPLE];
    };
    const auto end = looked() + count;
    return until([&] { return looked() >= end; });
  }
  std::size_t samples(std::uint64_t cookie) const { return of(cookie, Event::kSample).size(); }
};

class TriggerSource : public lab::PlacedTest {
 protected:
  tcpinfo::SockopsOptions options(std::string_view trigger, std::chrono::nanoseconds interval = 10ms) const {
    tcpinfo::SockopsOptions options;
    options.cgroup = cgroup.path();
    options.interval = interval;
    options.trigger = Trigger::parse(trigger);
    return options;
  }
  /// Every connection's records are numbered from 0 without a gap, though samples were refused; every sample says what
  /// user space says of it; other events say nothing.
  static void expect_whole(const Collector& collected, const Statistics& statistics, const Trigger& trigger) {
    std::map<std::uint64_t, std::uint32_t> next;
    for (const auto& raw : collected.all()) {
      const Record record(raw);
      EXPECT_EQ(record.sequence(), next[raw.cookie]++) << fmt::format("{}", *record.cookie());
      const bool is_sample = record.event() == TCPINFO_EVENT_SAMPLE;
      EXPECT_EQ(record.triggered().has_value(), is_sample);
      tcpinfo_history history{};
      if (is_sample && !trigger.asks_for_growth()) {
        EXPECT_EQ(record.triggered(), trigger.examine(record, history));
      }
    }
    for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event)
      EXPECT_EQ(statistics.emitted[event], statistics.delivered[event] + statistics.lost_ring[event]) << event;
    EXPECT_EQ(Statistics::sum(statistics.delivered), collected.all().size());
  }
};

TEST_F(TriggerSource, OnlySamplesOfWhichItHoldsComeAndOpenAndCloseAlways) {
  inside([&] {
    const auto* text = "bytes_sent > 50K or bytes_received > 50K and not peer_port == 1";
    for (const auto interval : {0ms, 10ms}) {
      tcpinfo::SockopsSource source(options(text, interval));
      Collector collected(source);
      const auto listener = lab::listen(Ip::kV4);
      auto quiet = lab::connected(listener, Ip::kV4), busy = lab::connected(listener, Ip::kV4);
      const auto quiet_client = quiet.client.cookie(), quiet_server = quiet.server.cookie(),
                 client = busy.client.cookie(), server = busy.server.cookie();
      quiet.client.send(1000);
      quiet.server.receive(1000);
      ASSERT_TRUE(collected.looks(8));
      EXPECT_EQ(collected.samples(client) + collected.samples(server), 0u);
      busy.client.send(100'000);
      busy.server.receive(100'000);
      ASSERT_TRUE(collected.until([&] { return collected.samples(client) > 2 && collected.samples(server) > 2; }));
      EXPECT_EQ(collected.of(client, Event::kSample).back().triggered(), 1);
      EXPECT_EQ(collected.of(server, Event::kSample).back().triggered(), 2);
      for (auto* socket : {&quiet.client, &busy.client, &quiet.server, &busy.server}) socket->close();
      ASSERT_TRUE(collected.until([&] {
        return collected.closed(client) && collected.closed(server) && collected.closed(quiet_client) &&
               collected.closed(quiet_server);
      }));
      for (const auto cookie : {client, server, quiet_client, quiet_server})
        EXPECT_EQ(collected.of(cookie, Event::kOpen).size(), 1u);
      EXPECT_EQ(collected.samples(quiet_client) + collected.samples(quiet_server), 0u);
      const auto statistics = source.statistics();
      EXPECT_GE(statistics.untriggered, 8u);
      EXPECT_EQ(statistics.lost_ring[TCPINFO_EVENT_SAMPLE], 0u);
      expect_whole(collected, statistics, Trigger::parse(text));
    }
  });
}

// What nobody wants takes no room: the ring holds a few records, and nobody drains it.
TEST_F(TriggerSource, RefusedSamplesTakeNoRoomInTheRingAndWakeNobody) {
  inside([&] {
    auto wanted = options("rtt > 1000s", 0ms);
    wanted.ring_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    tcpinfo::SockopsSource source(wanted);
    Collector collected(source);
    const auto listener = lab::listen(Ip::kV4);
    auto pair = lab::connected(listener, Ip::kV4);
    const auto client = pair.client.cookie(), server = pair.server.cookie();
    collected.drain();
    for (int i = 0; i < 200; ++i) {
      pair.client.send(100);
      pair.server.receive(100);
    }
    const auto before = source.statistics();
    EXPECT_GT(before.untriggered, 10 * wanted.ring_bytes / sizeof(tcpinfo_record));
    pair.client.close();
    pair.server.close();
    ASSERT_TRUE(collected.until([&] { return collected.closed(client) && collected.closed(server); }));
    EXPECT_EQ(Statistics::sum(source.statistics().lost_ring), 0u);
    EXPECT_EQ(collected.all().size(), 4u);
  });
}

TEST_F(TriggerSource, GrowthIsSinceTheLastLook) {
  inside([&] {
    const auto* text = "bytes_sent grows";
    tcpinfo::SockopsSource source(options(text));
    Collector collected(source);
    const auto listener = lab::listen(Ip::kV6);
    auto pair = lab::connected(listener, Ip::kV6);
    const auto client = pair.client.cookie(), server = pair.server.cookie();
    std::uint64_t sent = 0;
    for (int round = 0; round < 5; ++round) {
      pair.client.send(1000);
      pair.server.receive(1000);
      sent += 1000;
      ASSERT_TRUE(collected.until([&] {
        const auto samples = collected.of(client, Event::kSample);
        return !samples.empty() && samples.back().bytes_sent() == sent;
      }));
      // It rests: it is looked at, and nothing comes.
      const auto samples = collected.samples(client);
      ASSERT_TRUE(collected.looks(10));
      EXPECT_EQ(collected.samples(client), samples);
    }
    pair.client.close();
    pair.server.close();
    ASSERT_TRUE(collected.until([&] { return collected.closed(client) && collected.closed(server); }));
    std::uint64_t last = 0;
    for (const auto& sample : collected.of(client, Event::kSample)) {
      EXPECT_GT(*sample.bytes_sent(), last);
      last = *sample.bytes_sent();
    }
    EXPECT_EQ(collected.samples(server), 0u) << "it sent nothing";
    expect_whole(collected, source.statistics(), Trigger::parse(text));
  });
}

TEST_F(TriggerSource, ASecondConnectionOfASocketBeginsAnew) {
  inside([&] {
    tcpinfo::SockopsSource source(options("bytes_sent grows"));
    Collector collected(source);
    const auto listener = lab::listen(Ip::kV4);
    auto pair = lab::connected(listener, Ip::kV4);
    const auto client = pair.client.cookie();
    pair.client.send(50'000);
    pair.server.receive(50'000);
    ASSERT_TRUE(collected.until([&] { return collected.samples(client) > 0; }));
    sockaddr none{};
    none.sa_family = AF_UNSPEC;
    lab::check(::connect(pair.client.fd(), &none, sizeof(none)), "disconnect");
    lab::connect(pair.client, Ip::kV4, listener.local_port());
    auto server = lab::accept(listener);
    const auto before = collected.samples(client);
    pair.client.send(10);
    server.receive(10);
    EXPECT_TRUE(collected.until([&] { return collected.samples(client) > before; })) << "10 is more than 0";
    EXPECT_EQ(collected.of(client, Event::kSample).back().bytes_sent(), 10u);
    EXPECT_EQ(collected.of(client, Event::kSample).back().generation(), 1u);
  });
}

/// A listener behind a path, outside of the cgroup. To be made outside of the namespace: older kernels (6.1, 6.12) want
/// a device's name to be free also where it is asked for.
struct Far {
  Far(const lab::Netns& near, const lab::PathOptions& path) : path_(near, netns_, middle_, path) {
    netns_.run([&] {
      listener_ = lab::Socket(Ip::kV4);
      lab::check(::listen(listener_.fd(), 8), "listen");
    });
  }
  lab::Pair connect() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(listener_.local_port());
    inet_pton(AF_INET, "10.77.0.2", &address.sin_addr);
    lab::Pair pair{lab::Socket(Ip::kV4), {}};
    lab::check(::connect(pair.client.fd(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), "connect");
    pair.server = lab::accept(listener_);
    return pair;
  }

  lab::Netns netns_{"tcpinfo-far"}, middle_{"tcpinfo-middle"};
  lab::Path path_;
  lab::Socket listener_;
};

TEST_F(TriggerSource, OfALongAndAShortPathOnlyTheLongOneHasSamples) {
  lab::PathOptions path;
  path.there.delay = 100ms;
  Far far(netns, path);
  inside([&] {
    const auto* text = "rtt > 80ms";
    tcpinfo::SockopsSource source(options(text));
    Collector collected(source);
    const auto listener = lab::listen(Ip::kV4);
    auto near_pair = lab::connected(listener, Ip::kV4), far_pair = far.connect();
    const auto near = near_pair.client.cookie(), distant = far_pair.client.cookie();
    for (int i = 0; i < 5; ++i) {
      near_pair.client.send(1000);
      near_pair.server.receive(1000);
      far_pair.client.send(1000);
      far_pair.server.receive(1000);
      collected.drain();
    }
    ASSERT_TRUE(collected.until([&] { return collected.samples(distant) > 5; }));
    for (const auto& raw : collected.all())
      if (raw.event == TCPINFO_EVENT_SAMPLE) {
        EXPECT_GT(raw.rtt, 80'000u);
      }
    EXPECT_GT(source.statistics().untriggered, 0u) << "those of the short path";
    near_pair.client.close();
    near_pair.server.close();
    far_pair.client.close();
    far_pair.server.close();
    ASSERT_TRUE(collected.until([&] { return collected.closed(near) && collected.closed(distant); }));
    expect_whole(collected, source.statistics(), Trigger::parse(text));
  });
}

TEST_F(TriggerSource, RetransmissionsShowWhereTheyHappen) {
  lab::PathOptions path;
  path.there.delay = 5ms;
  path.there.rate_mbit = 50;
  path.there.loss = 0.02;
  Far far(netns, path);
  inside([&] {
    tcpinfo::SockopsSource source(options("total_retrans grows"));
    Collector collected(source);
    auto pair = far.connect();
    const auto client = pair.client.cookie();
    constexpr std::size_t kBytes = 2'000'000;
    std::thread receiver([&] { pair.server.receive(kBytes); });
    std::thread sender([&] { pair.client.send(kBytes); });
    collected.until([&] { return collected.samples(client) > 3; });
    sender.join();
    receiver.join();
    pair.client.close();
    pair.server.close();
    ASSERT_TRUE(collected.until([&] { return collected.closed(client); }));
    std::uint32_t last = 0;
    for (const auto& sample : collected.of(client, Event::kSample)) {
      EXPECT_GT(*sample.total_retrans(), last);
      last = *sample.total_retrans();
    }
    EXPECT_GT(last, 0u);
    EXPECT_GE(collected.of(client, Event::kClose)[0].total_retrans(), last);
    EXPECT_GT(source.statistics().untriggered, 0u);
  });
}

template <class Source, class Options>
void expect_in_user_space(const lab::Cgroup& cgroup) {
  const auto listener = lab::listen(Ip::kV4);
  auto quiet = lab::connected(listener, Ip::kV4), busy = lab::connected(listener, Ip::kV4);
  Options options;
  options.interval = 5ms;
  options.cgroup = cgroup.path();
  options.trigger = Trigger::parse("bytes_sent > 50K or bytes_received grows and state == ESTABLISHED");
  Source source(options);
  Collector collected(source);
  const auto passes = [&](std::uint64_t count) {
    const auto end = source.statistics().dumps + count;
    return collected.until([&] { return source.statistics().dumps >= end; });
  };
  ASSERT_TRUE(passes(3));
  EXPECT_TRUE(collected.all().empty());
  EXPECT_GE(source.statistics().untriggered, 3 * 4u);
  busy.client.send(100'000);
  busy.server.receive(100'000);
  ASSERT_TRUE(passes(5));
  EXPECT_GE(collected.samples(busy.client.cookie()), 4u);
  for (const auto& sample : collected.of(busy.client.cookie(), Event::kSample)) EXPECT_EQ(sample.triggered(), 1);
  const auto grown = collected.of(busy.server.cookie(), Event::kSample);
  ASSERT_GE(grown.size(), 1u);
  EXPECT_LE(grown.size(), 2u) << "a pass may have come while it was received";
  EXPECT_EQ(grown.back().triggered(), 2);
  EXPECT_EQ(collected.samples(quiet.client.cookie()) + collected.samples(quiet.server.cookie()), 0u);
  EXPECT_EQ(source.statistics().emitted[TCPINFO_EVENT_SAMPLE], collected.all().size());
}

TEST_F(TriggerSource, InetDiagAppliesIt) {
  inside([&] { expect_in_user_space<tcpinfo::InetDiagSource, tcpinfo::InetDiagOptions>(cgroup); });
}

TEST_F(TriggerSource, IterAppliesIt) {
  inside([&] { expect_in_user_space<tcpinfo::IterSource, tcpinfo::IterOptions>(cgroup); });
}

TEST_F(TriggerSource, TakesSamplesOnly) {
  for (const auto mode : {tcpinfo::Mode::kState, tcpinfo::Mode::kClose}) {
    auto wanted = options("rtt > 1ms");
    wanted.mode = mode;
    try {
      const tcpinfo::SockopsSource source(wanted);
      ADD_FAILURE();
    } catch (const tcpinfo::Error& error) {
      EXPECT_EQ(error.code(), make_error_code(tcpinfo::Errc::kInvalidOption));
    }
  }
}

// The largest of all, with growth, in the programs themselves.
TEST_F(TriggerSource, TheLargestTriggerLoadsInTheSource) {
  std::string text = "total_retrans grows and segs_in grows and segs_out grows and delivered grows";
  for (int clause = 1; clause < 16; ++clause) {
    text += " or ";
    for (int i = 0; i < 4; ++i) text += fmt::format("{}rtt != {} * min_rtt", i ? " and " : "", 2 + clause * 4 + i);
  }
  const tcpinfo::SockopsSource none(options("")), small(options("rtt > 1ms")), large(options(text));
  for (const auto* source : {&none, &small, &large})
    for (const auto& program : source->cost().programs)
      fmt::print("{}: {} instructions verified, {} bytes\n", program.name, program.instructions, program.code_bytes);
  // Without a trigger its maps are not there.
  EXPECT_EQ(none.cost().maps.size() + 1, small.cost().maps.size());
  EXPECT_EQ(none.cost().maps.size() + 2, large.cost().maps.size());
}

}  // namespace
