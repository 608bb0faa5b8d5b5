// SPDX-License-Identifier: BSD-2-Clause
// What each engine does to packets, by what numbered datagrams tell at the other end, and what it counts.
#include "lab/path.hpp"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <tcpinfo/error.hpp>

#include "lab/emulator.hpp"
#include "lab/sockets.hpp"
#include "lab/tun_device.hpp"

namespace lab {
// Its name in a test's.
void PrintTo(Engine engine, std::ostream* out) { *out << name(engine); }
}  // namespace lab

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using lab::Engine;
using testing::ElementsAreArray;
using testing::HasSubstr;

constexpr std::size_t kIpv4Headers = 28, kIpv6Headers = 48;  // with UDP's

std::size_t entries(const char* directory) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

// pthread_join() comes back before the kernel has taken the thread from the list; sanitizers have a thread of their
// own.
std::size_t lasting_threads(std::size_t expected) {
  auto least = entries("/proc/self/task");
  for (int attempt = 0; attempt < 500 && least > expected; ++attempt) {
    std::this_thread::sleep_for(10ms);
    least = std::min(least, entries("/proc/self/task"));
  }
  return least;
}

/// Datagrams with numbers from one namespace to the other.
class Datagrams {
 public:
  struct Arrival {
    unsigned number;
    Clock::time_point time;  // not before it arrived
    int tos;
  };

  /// From `a` to the address `to` in `b`.
  Datagrams(const lab::Netns& a, const lab::Netns& b, const std::string& to)
      : ipv6_(to.find(':') != std::string::npos) {
    const bool ipv6 = ipv6_;
    const int family = ipv6 ? AF_INET6 : AF_INET;
    const auto make = [&] {
      return lab::Socket(lab::check(::socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0), "socket"));
    };
    b.run([&] { to_ = make(); });
    a.run([&] { from_ = make(); });
    to_.set(SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20);
    from_.set(SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20);
    if (ipv6) {
      to_.set(IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
      from_.set(IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
    } else {
      to_.set(IPPROTO_IP, IP_RECVTOS, 1);
      from_.set(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
    }
    sockaddr_in6 six{};
    sockaddr_in four{};
    six.sin6_family = AF_INET6;
    four.sin_family = AF_INET;
    inet_pton(family, to.c_str(), ipv6 ? static_cast<void*>(&six.sin6_addr) : &four.sin_addr);
    auto* address = ipv6 ? reinterpret_cast<sockaddr*>(&six) : reinterpret_cast<sockaddr*>(&four);
    const socklen_t length = ipv6 ? sizeof(six) : sizeof(four);
    lab::check(::bind(to_.fd(), address, length), "bind");
    four.sin_port = six.sin6_port = htons(to_.local_port());
    lab::check(::connect(from_.fd(), address, length), "connect");
  }

  void set_ecn(int bits) {
    if (ipv6_)
      from_.set(IPPROTO_IPV6, IPV6_TCLASS, bits);
    else
      from_.set(IPPROTO_IP, IP_TOS, bits);
  }

  /// `size` of the IP packet. False if it is larger than the MTU.
  bool send(unsigned number, std::size_t size = 100) {
    std::string data(size - (ipv6_ ? kIpv6Headers : kIpv4Headers), 'x');
    std::memcpy(data.data(), &number, sizeof(number));
    return ::send(from_.fd(), data.data(), data.size(), 0) == static_cast<ssize_t>(data.size());
  }

  /// Until `count` have come, or none came for `quiet`.
  std::vector<Arrival> receive(std::size_t count, std::chrono::milliseconds quiet = 1500ms) {
    std::vector<Arrival> arrivals;
    pollfd ready{to_.fd(), POLLIN, 0};
    while (arrivals.size() < count && ::poll(&ready, 1, static_cast<int>(quiet.count())) > 0) {
      char data[65536];
      alignas(cmsghdr) char control[64];
      iovec vector{data, sizeof(data)};
      msghdr message{};
      message.msg_iov = &vector;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
      if (::recvmsg(to_.fd(), &message, 0) < static_cast<ssize_t>(sizeof(unsigned))) continue;
      Arrival arrival{0, Clock::now(), -1};
      std::memcpy(&arrival.number, data, sizeof(arrival.number));
      for (auto* head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
        if (head->cmsg_type == IP_TOS && head->cmsg_level == IPPROTO_IP) arrival.tos = *CMSG_DATA(head);
        if (head->cmsg_type == IPV6_TCLASS && head->cmsg_level == IPPROTO_IPV6)
          std::memcpy(&arrival.tos, CMSG_DATA(head), sizeof(int));
      }
      arrivals.push_back(arrival);
    }
    return arrivals;
  }

 private:
  bool ipv6_;
  lab::Socket from_, to_;
};

std::vector<unsigned> numbers(const std::vector<Datagrams::Arrival>& arrivals) {
  std::vector<unsigned> result;
  for (const auto& arrival : arrivals) result.push_back(arrival.number);
  return result;
}

std::vector<unsigned> first_numbers(unsigned count) {
  std::vector<unsigned> result;
  for (unsigned i = 0; i < count; ++i) result.push_back(i);
  return result;
}

class PathTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    a_.emplace("tcpinfo-path-a");
    b_.emplace("tcpinfo-path-b");
    middle_.emplace("tcpinfo-path-m");
  }

  lab::Path& make(const lab::PathOptions& options) {
    path_.reset();
    path_ = std::make_unique<lab::Path>(*a_, *b_, *middle_, options);
    return *path_;
  }
  Datagrams datagrams(bool ipv6 = false) { return {*a_, *b_, ipv6 ? "fd77::2" : "10.77.0.2"}; }
  std::vector<std::string> devices() const {
    std::vector<std::string> names;
    for (const auto* netns : {&*a_, &*b_, &*middle_})
      netns->run([&] {
        auto* list = if_nameindex();
        for (auto* one = list; one->if_index != 0; ++one) names.emplace_back(one->if_name);
        if_freenameindex(list);
      });
    return names;
  }

  std::optional<lab::Netns> a_, b_, middle_;
  std::unique_ptr<lab::Path> path_;
};

class EnginePath : public PathTest, public testing::WithParamInterface<Engine> {
 protected:
  void SetUp() override {
    PathTest::SetUp();
    if (IsSkipped()) return;
    if (GetParam() == Engine::kNetem && !lab::netem_available(*middle_))
      GTEST_SKIP() << "needs netem (CONFIG_NET_SCH_NETEM)";
    if (GetParam() == Engine::kEmulator && !lab::tun_available())
      GTEST_SKIP() << "needs /dev/net/tun (CONFIG_TUN; try modprobe tun)";
  }
};

class Emulator : public EnginePath {};
class AnyEngine : public EnginePath {};
class DelayingEngine : public EnginePath {};
class ShapingEngine : public EnginePath {};

std::string engine_name(const testing::TestParamInfo<Engine>& info) { return std::string(lab::name(info.param)); }

INSTANTIATE_TEST_SUITE_P(Path, AnyEngine,
                         testing::Values(Engine::kVeth, Engine::kTbf, Engine::kNetem, Engine::kEmulator), engine_name);
INSTANTIATE_TEST_SUITE_P(Path, ShapingEngine, testing::Values(Engine::kTbf, Engine::kNetem, Engine::kEmulator),
                         engine_name);
INSTANTIATE_TEST_SUITE_P(Path, DelayingEngine, testing::Values(Engine::kNetem, Engine::kEmulator), engine_name);
INSTANTIATE_TEST_SUITE_P(Path, Emulator, testing::Values(Engine::kEmulator), engine_name);

TEST_P(AnyEngine, CarriesPacketsUpToItsMtuInBothFamilies) {
  for (const int mtu : {1500, 9000}) {
    EXPECT_EQ(make({.mtu = mtu, .engine = GetParam()}).engine(), GetParam());
    for (const bool ipv6 : {false, true}) {
      SCOPED_TRACE(testing::Message() << mtu << (ipv6 ? " IPv6" : " IPv4"));
      auto datagrams = this->datagrams(ipv6);
      EXPECT_TRUE(datagrams.send(7, static_cast<std::size_t>(mtu)));
      EXPECT_FALSE(datagrams.send(8, static_cast<std::size_t>(mtu) + 1));
      EXPECT_THAT(numbers(datagrams.receive(1)), ElementsAreArray({7u}));
    }
  }
}

TEST_P(AnyEngine, LeavesNothingBehind) {
  const auto devices_before = devices();
  const auto descriptors = entries("/proc/self/fd");
  static const auto threads = lasting_threads(1);
  make({.engine = GetParam()});
  EXPECT_NE(devices(), devices_before);
  // The second one cannot be made, and the first one goes on.
  EXPECT_THROW(lab::Path(*a_, *b_, *middle_, {.engine = GetParam()}), tcpinfo::Error);
  EXPECT_GT(lab::measure_round_trips(*a_, *b_, 3).received, 0);
  path_.reset();
  EXPECT_EQ(devices(), devices_before);
  EXPECT_EQ(entries("/proc/self/fd"), descriptors);
  EXPECT_EQ(lasting_threads(threads), threads);
}

TEST_P(DelayingEngine, EveryRoundTripTakesTheDelayOfBothWays) {
  make({.there = {.delay = 20ms}, .back = {.delay = 10ms}, .engine = GetParam()});
  const auto trips = lab::measure_round_trips(*a_, *b_, 20);
  EXPECT_EQ(trips.sent, 20);
  EXPECT_EQ(trips.received, 20);
  EXPECT_GE(trips.least, 30ms);
  EXPECT_GE(trips.median, trips.least);
  EXPECT_GE(trips.most, trips.median);
}

TEST_P(DelayingEngine, JitterVariesTheDelayAndKeepsTheOrder) {
  make({.there = {.delay = 5ms, .jitter = 20ms}, .engine = GetParam()});
  // That 20 times of 20 less than a tenth of it comes is not to be expected in this universe.
  const auto trips = lab::measure_round_trips(*a_, *b_, 20);
  EXPECT_GE(trips.least, 5ms);
  EXPECT_GE(trips.most, trips.least + 2ms);
  auto datagrams = this->datagrams();
  constexpr unsigned kCount = 300;
  for (unsigned i = 0; i < kCount; ++i) {
    datagrams.send(i);
    if (i % 10 == 0) std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(numbers(datagrams.receive(kCount)), first_numbers(kCount));
  EXPECT_EQ(path_->there().reordered, 0u);
}

TEST_P(DelayingEngine, PacketsThatAreNotDelayedOvertake) {
  for (const bool ipv6 : {false, true}) {
    auto& path = make({.there = {.delay = 50ms, .reordering = 0.1}, .engine = GetParam()});
    auto datagrams = this->datagrams(ipv6);
    // What finds the neighbour's address would be among the first.
    datagrams.send(0);
    ASSERT_EQ(datagrams.receive(1).size(), 1u);
    constexpr unsigned kCount = 500;
    for (unsigned i = 0; i < kCount; ++i) datagrams.send(i);
    const auto came = numbers(datagrams.receive(kCount));
    EXPECT_FALSE(std::ranges::is_sorted(came));
    EXPECT_EQ(std::set<unsigned>(came.begin(), came.end()).size(), kCount) << "all came, once";
    EXPECT_GT(path.there().reordered, 0u);
    EXPECT_LT(path.there().reordered, kCount);
    EXPECT_EQ(path.there().lost, 0u);
  }
}

TEST_P(DelayingEngine, WhatItLosesIsCounted) {
  auto& path = make({.there = {.loss = 0.2}, .engine = GetParam()});
  // Few packets wait for the neighbour's address, which may take some attempts.
  while (lab::measure_round_trips(*a_, *b_, 5).received == 0) {
  }
  const auto before = path.there().lost.value();
  auto datagrams = this->datagrams();
  constexpr unsigned kCount = 1000;
  for (unsigned i = 0; i < kCount; ++i) datagrams.send(i);
  const auto came = datagrams.receive(kCount);
  EXPECT_LT(came.size(), kCount);
  // The kernel may look for the neighbour again.
  EXPECT_GE(path.there().lost, before + kCount - came.size());
  EXPECT_LE(path.there().lost, before + kCount - came.size() + 10);
  EXPECT_EQ(path.there().dropped, 0u);
  EXPECT_EQ(path.back().lost, 0u);
}

TEST_P(DelayingEngine, LossesAndDropsAreCountedApart) {
  constexpr unsigned kCount = 1000;
  constexpr std::size_t kSize = 1000;
  const lab::Way way{.rate_mbit = 5, .delay = 5ms, .loss = 0.1, .queue_bytes = 50000};
  auto& path = make({.there = way, .engine = GetParam()});
  while (lab::measure_round_trips(*a_, *b_, 5).received == 0) {
  }
  const auto before = path.there();
  EXPECT_EQ(before.dropped, 0u);
  auto datagrams = this->datagrams();
  for (unsigned i = 0; i < kCount; ++i) datagrams.send(i, kSize);
  const auto came = datagrams.receive(kCount);
  const auto after = path.there();
  const auto lost = after.lost.value() - before.lost.value();
  EXPECT_GE(lost, kCount / 20);
  EXPECT_LE(lost, kCount / 5);
  EXPECT_GT(after.dropped, 0u);
  EXPECT_GE(came.size() * kSize, way.queue_bytes - 2 * kSize);
  // The kernel may look for the neighbour again.
  EXPECT_GE(came.size() + lost + after.dropped.value(), kCount);
  EXPECT_LE(came.size() + lost + after.dropped.value(), kCount + 10);
}

TEST_P(ShapingEngine, NoMoreThanTheRateAndWhatTheQueueCannotHoldIsDropped) {
  constexpr double kMbit = 10;
  constexpr std::size_t kQueue = 50000, kSize = 1000;
  constexpr unsigned kCount = 1000;
  auto& path = make({.there = {.rate_mbit = kMbit, .queue_bytes = kQueue}, .engine = GetParam()});
  ASSERT_EQ(lab::measure_round_trips(*a_, *b_, 1).received, 1);
  auto datagrams = this->datagrams();
  const auto begin = Clock::now();
  for (unsigned i = 0; i < kCount; ++i) datagrams.send(i, kSize);
  const auto sent_by = Clock::now();
  const auto came = datagrams.receive(kCount);
  // tbf lets what its bucket holds through at once.
  const double bucket = GetParam() == Engine::kEmulator ? kSize : 4 * 1500;
  const auto by_rate = [&](Clock::time_point end) {
    return kMbit * 1e6 / 8 * std::chrono::duration<double>(end - begin).count();
  };
  for (std::size_t i = 0; i < came.size(); ++i)
    ASSERT_LE(static_cast<double>((i + 1) * kSize), by_rate(came[i].time) + bucket) << "packet " << i;
  // All that the queue held, and what left it meanwhile.
  EXPECT_GE(came.size() * kSize, kQueue - 2 * kSize);
  EXPECT_LE(static_cast<double>(came.size() * kSize), kQueue + by_rate(sent_by) + bucket);
  EXPECT_EQ(came.size() + path.there().dropped.value(), kCount);
  EXPECT_GT(path.there().dropped, 0u);
  EXPECT_EQ(path.there().lost, 0u);
  EXPECT_GE(path.there().packets, kCount);
  EXPECT_GE(path.there().bytes, kCount * kSize);
  EXPECT_EQ(path.back().dropped, 0u);
}

TEST_P(ShapingEngine, EachWayHasItsOwnRate) {
  auto& path = make({.back = {.rate_mbit = 1, .queue_bytes = 20000}, .engine = GetParam()});
  auto there = datagrams();
  for (unsigned i = 0; i < 100; ++i) there.send(i, 1000);
  EXPECT_EQ(there.receive(100).size(), 100u);
  EXPECT_EQ(path.there().dropped, 0u);
  Datagrams back(*b_, *a_, "10.77.0.1");
  for (unsigned i = 0; i < 100; ++i) back.send(i, 1000);
  EXPECT_EQ(back.receive(100).size() + path.back().dropped.value(), 100u);
  EXPECT_GT(path.back().dropped, 0u);
  EXPECT_EQ(path.there().dropped, 0u);
}

TEST_P(Emulator, LosesExactlyWhatItsSeedSays) {
  constexpr double kLoss = 0.05;
  constexpr unsigned kCount = 2000;
  std::set<std::vector<unsigned>> outcomes;
  for (const std::uint64_t seed : {1u, 2u})
    for (const bool ipv6 : {false, true}) {
      auto& path = make({.there = {.delay = 1ms, .jitter = 1ms, .loss = kLoss}, .seed = seed, .engine = GetParam()});
      lab::Chance chance(seed, true, lab::Chance::kLoss);
      std::vector<unsigned> expected;
      for (unsigned i = 0; i < kCount; ++i)
        if (chance() >= kLoss) expected.push_back(i);
      auto datagrams = this->datagrams(ipv6);
      for (unsigned i = 0; i < kCount; ++i) datagrams.send(i);
      EXPECT_EQ(numbers(datagrams.receive(expected.size())), expected) << "seed " << seed;
      const auto there = path.there();
      EXPECT_EQ(there.packets, kCount) << "the kernel adds none of its own";
      EXPECT_EQ(there.bytes, 100 * kCount);
      EXPECT_EQ(there.lost, kCount - expected.size());
      EXPECT_EQ(there.data_lost, 0u) << "it is no TCP";
      EXPECT_EQ(path.back().packets, 0u);
      outcomes.insert(expected);
    }
  EXPECT_EQ(outcomes.size(), 2u);
}

TEST_P(Emulator, ReordersExactlyWhatItsSeedSays) {
  auto& path = make({.there = {.delay = 50ms, .reordering = 0.1}, .seed = 5, .engine = GetParam()});
  lab::Chance chance(5, true, lab::Chance::kReordering);
  constexpr unsigned kCount = 300;
  unsigned expected = 0;
  auto datagrams = this->datagrams();
  for (unsigned i = 0; i < kCount; ++i) {
    expected += chance() < 0.1;
    datagrams.send(i);
  }
  EXPECT_EQ(datagrams.receive(kCount).size(), kCount);
  EXPECT_EQ(path.there().reordered, expected);
}

TEST_P(Emulator, CountsTheMostThatItDeliveredAndHowLate) {
  constexpr double kMbit = 20;
  auto& path = make({.there = {.rate_mbit = kMbit, .delay = 5ms, .queue_bytes = 1000000}, .engine = GetParam()});
  auto datagrams = this->datagrams();
  for (unsigned i = 0; i < 500; ++i) datagrams.send(i, 1000);
  EXPECT_EQ(datagrams.receive(500).size(), 500u);
  const auto there = path.there();
  const double late = std::chrono::duration<double>(there.latest.value()).count();
  EXPECT_GT(there.busiest_mbit, 0.0);
  // What is late comes together with what is in time.
  EXPECT_LE(there.busiest_mbit.value(), kMbit * (0.1 + late) / 0.1 + 1000 * 8 / 1e6 / 0.1);
  EXPECT_GE(there.latest, 0ns);
  EXPECT_EQ(path.back().busiest_mbit, 0.0);
}

TEST_P(Emulator, MarksWhatMeetsALongQueueIfTheSenderKnowsEcn) {
  constexpr unsigned kCount = 400;
  for (const bool ipv6 : {false, true}) {
    SCOPED_TRACE(ipv6 ? "IPv6" : "IPv4");
    auto& path =
        make({.there = {.rate_mbit = 5, .queue_bytes = 1000000, .ecn_mark_bytes = 20000}, .engine = GetParam()});
    auto datagrams = this->datagrams(ipv6);
    std::uint64_t marked = 0;
    for (const int bits : {0, 1, 2}) {
      datagrams.set_ecn(bits);
      for (unsigned i = 0; i < kCount; ++i) datagrams.send(i, 1000);
      const auto came = datagrams.receive(kCount);
      ASSERT_EQ(came.size(), kCount);
      EXPECT_EQ(came[0].tos & 3, bits) << "the first one met no queue";
      const auto ce = std::ranges::count_if(came, [](const auto& arrival) { return (arrival.tos & 3) == 3; });
      EXPECT_EQ(std::ranges::count_if(came, [&](const auto& arrival) { return (arrival.tos & 3) == bits; }),
                kCount - ce);
      EXPECT_EQ(ce > 0, bits != 0);
      marked += static_cast<std::uint64_t>(ce);
    }
    EXPECT_EQ(path.there().marked, marked);
  }
}

TEST_P(Emulator, EachDataSegmentThatItLosesIsRetransmitted) {
  auto& path = make({.there = {.loss = 0.03}, .engine = GetParam()});
  lab::Socket listener, client, server;
  b_->run([&] { listener = lab::Socket(lab::Ip::kV4); });
  a_->run([&] { client = lab::Socket(lab::Ip::kV4); });
  sockaddr_in address{};
  address.sin_family = AF_INET;
  lab::check(::bind(listener.fd(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), "bind");
  lab::check(::listen(listener.fd(), 1), "listen");
  address.sin_port = htons(listener.local_port());
  inet_pton(AF_INET, "10.77.0.2", &address.sin_addr);
  lab::check(::connect(client.fd(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), "connect");
  server = lab::Socket(lab::check(::accept(listener.fd(), nullptr, nullptr), "accept"));
  constexpr std::size_t kBytes = 1000000;
  {
    const std::jthread reader([&] { server.receive(kBytes); });
    client.send(kBytes);
  }
  const auto there = path.there();
  EXPECT_GT(there.data_lost, 0u);
  EXPECT_LE(there.data_lost, there.lost);
  EXPECT_LE(there.data_lost, client.info().tcpi_total_retrans);
}

TEST_F(PathTest, BestIsTheSimplestThatCanDoIt) {
  const auto best = [&](const lab::Way& way) { return make({.back = way}).engine(); };
  EXPECT_EQ(best({}), Engine::kVeth);
  EXPECT_EQ(path_->there().packets, std::nullopt) << "nobody counts them";
  EXPECT_EQ(best({.rate_mbit = 10}), Engine::kTbf);
  const auto delaying = lab::netem_available(*middle_) ? Engine::kNetem : Engine::kEmulator;
  if (delaying == Engine::kEmulator && !lab::tun_available()) GTEST_SKIP() << "needs netem or /dev/net/tun";
  EXPECT_EQ(best({.delay = 1ms}), delaying);
  EXPECT_EQ(best({.rate_mbit = 10, .loss = 0.01}), delaying);
  if (!lab::tun_available()) GTEST_SKIP() << "needs /dev/net/tun (CONFIG_TUN; try modprobe tun)";
  EXPECT_EQ(best({.rate_mbit = 10, .ecn_mark_bytes = 5000}), Engine::kEmulator);
  EXPECT_EQ(best({.rate_mbit = 10, .delay = 1ms, .reordering = 0.01}), Engine::kEmulator);
}

TEST_F(PathTest, ErrorsSayWhatAndTheWayOut) {
  const auto before = devices();
  const auto error = [&](const lab::PathOptions& options) -> std::string {
    try {
      make(options);
    } catch (const tcpinfo::Error& caught) {
      return caught.what();
    }
    return "no error";
  };
  EXPECT_THAT(error({.there = {.rate_mbit = 5}, .engine = Engine::kVeth}),
              HasSubstr("make a path by veth from tcpinfo-path-a"));
  EXPECT_THAT(error({.there = {.rate_mbit = 5}, .engine = Engine::kVeth}),
              HasSubstr("veth has no rate: choose the engine emulator, or best"));
  EXPECT_THAT(error({.back = {.delay = 5ms}, .engine = Engine::kTbf}), HasSubstr("tbf neither delays"));
  EXPECT_THAT(error({.there = {.rate_mbit = 5, .ecn_mark_bytes = 1}, .engine = Engine::kNetem}),
              HasSubstr("does not mark"));
  EXPECT_THAT(error({.there = {.loss = 1.5}}), HasSubstr("from 0 to 1"));
  EXPECT_THAT(error({.back = {.rate_mbit = -1}}), HasSubstr("a rate is"));
  EXPECT_THAT(error({.back = {.delay = -1us}}), HasSubstr("from 0 to 60 s"));
  EXPECT_THAT(error({.there = {.queue_bytes = 1000}}), HasSubstr("needs a rate"));
  EXPECT_THAT(error({.there = {.reordering = 0.1}}), HasSubstr("needs a delay"));
  EXPECT_THAT(error({.mtu = 1000}), HasSubstr("1280"));
  if (!lab::netem_available(*middle_)) {
    EXPECT_THAT(error({.there = {.delay = 1ms}, .engine = Engine::kNetem}), HasSubstr("no netem"));
  }
  EXPECT_EQ(devices(), before);
}

TEST_F(PathTest, RoundTripsToleratePacketsThatNeverCome) {
  if (!lab::tun_available()) GTEST_SKIP() << "needs /dev/net/tun (CONFIG_TUN; try modprobe tun)";
  make({.there = {.loss = 0.5}, .engine = Engine::kEmulator});
  const auto some = lab::measure_round_trips(*a_, *b_, 20);
  EXPECT_EQ(some.sent, 20);
  EXPECT_GT(some.received, 0);
  EXPECT_LT(some.received, 20);
  make({.there = {.loss = 1}, .engine = Engine::kEmulator});
  const auto none = lab::measure_round_trips(*a_, *b_, 3);
  EXPECT_EQ(none.received, 0);
  EXPECT_EQ(none.median, 0us);
}

}  // namespace
