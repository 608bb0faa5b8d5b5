// SPDX-License-Identifier: BSD-2-Clause
// The inet_diag source on real sockets of the real kernel, each test in a network namespace of its own.
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/inet_diag.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

#include "../../libtcpinfo/tests/tcp_info_members.hpp"
#include "lab/lab.hpp"
#include "sockets.hpp"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace {

using namespace std::chrono_literals;
using lab::Ip;
using tcpinfo::Field;
using tcpinfo::Filter;
using tcpinfo::InetDiagOptions;
using tcpinfo::InetDiagSource;
using tcpinfo::Record;
using Clock = tcpinfo::Source::Clock;
using Bytes = std::vector<std::byte>;
using Cookies = std::set<std::uint64_t>;

constexpr std::uint32_t kListen = 1u << 10, kEstablished = 1u << 1, kTimeWait = 1u << 6;

std::vector<tcpinfo_record> dump(InetDiagSource& source) {
  std::vector<tcpinfo_record> records;
  const auto dumps = source.statistics().dumps;
  const auto error = source.tick(std::max(Clock::now(), source.next_deadline().value_or(Clock::now())));
  EXPECT_FALSE(error) << error.message();
  for (int i = 0; i < 1000 && source.statistics().dumps == dumps; ++i) {
    const auto result = source.drain([&](const Record& record) { records.push_back(record.raw()); });
    EXPECT_FALSE(result.error) << result.error.message();
    if (result.error) break;
  }
  EXPECT_EQ(source.statistics().dumps, dumps + 1);
  EXPECT_EQ(source.statistics().dumps_interrupted, 0u);
  EXPECT_EQ(source.statistics().malformed, 0u);
  return records;
}

Cookies cookies(const std::vector<tcpinfo_record>& records) {
  Cookies cookies;
  for (const auto& record : records) EXPECT_TRUE(cookies.insert(record.cookie).second) << "a socket twice";
  return cookies;
}

const tcpinfo_record* find(const std::vector<tcpinfo_record>& records, std::uint64_t cookie) {
  for (const auto& record : records)
    if (record.cookie == cookie) return &record;
  return nullptr;
}

Bytes raw_info(const lab::Socket& socket) {
  Bytes info(1024);
  auto length = static_cast<socklen_t>(info.size());
  lab::check(getsockopt(socket.fd(), IPPROTO_TCP, TCP_INFO, info.data(), &length), "TCP_INFO");
  info.resize(length);
  return info;
}

class InetDiag : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    netns_ = std::make_unique<lab::Netns>("tcpinfo-test");
  }
  // Makes sockets, and sources without a namespace of their own, in the namespace of the test.
  template <class F>
  auto inside(F&& make) {
    std::optional<std::invoke_result_t<F&>> made;
    netns_->run([&] { made.emplace(make()); });
    return std::move(*made);
  }
  lab::Socket listener(Ip ip) {
    return inside([&] { return lab::listen(ip); });
  }
  lab::Pair pair(const lab::Socket& listener, Ip ip) {
    return inside([&] { return lab::connected(listener, ip); });
  }
  std::unique_ptr<InetDiagSource> source(InetDiagOptions options = {}) {
    return inside([&] { return std::make_unique<InetDiagSource>(options); });
  }

  std::unique_ptr<lab::Netns> netns_;
};

void exchange(const lab::Pair& pair) {
  pair.client.send(100'000);
  pair.server.receive(100'000);
  pair.server.send(2'000);
  pair.client.receive(2'000);
}

// Names of the members that go on while a connection rests.
bool is_clock(Field field) {
  return field == Field::last_data_sent || field == Field::last_data_recv || field == Field::last_ack_recv;
}

void expect_equal(const lab::Socket& socket, const Bytes& before, const tcpinfo_record& raw, const Bytes& after) {
  const Record record(raw);
  ASSERT_EQ(before.size(), after.size());
  std::size_t compared = 0;
  for (const auto& member : expected::members()) {
    const auto name = tcpinfo::info(member.field).name;
    const auto value = record.number(member.field);
    if (member.offset + member.size > before.size()) {
      EXPECT_FALSE(value) << name;
      continue;
    }
    const auto low = expected::value_in(before, member), high = expected::value_in(after, member);
    if (member.field == Field::snd_ssthresh && low >= 0x7fffffff) {
      EXPECT_FALSE(value) << name;
      continue;
    }
    ASSERT_TRUE(value) << name;
    if (is_clock(member.field)) {
      EXPECT_GE(*value, low) << name;
      EXPECT_LE(*value, high) << name;
    } else {
      EXPECT_EQ(*value, low) << name;
      EXPECT_EQ(*value, high) << name << ": the socket did not rest";
    }
    ++compared;
  }
  EXPECT_GE(compared, 60u);
  EXPECT_GT(*record.rtt(), 0u);
  EXPECT_EQ(record.state(), static_cast<std::uint8_t>(before[0]));
  EXPECT_EQ(record.cookie(), socket.cookie());

  std::uint32_t memory[9]{};
  socklen_t length = sizeof(memory);
  lab::check(getsockopt(socket.fd(), SOL_SOCKET, SO_MEMINFO, memory, &length), "SO_MEMINFO");
  ASSERT_EQ(length, sizeof(memory));
  for (std::size_t i = 0; i < 9; ++i)
    EXPECT_EQ(record.number(static_cast<Field>(static_cast<std::size_t>(Field::skmem_rmem_alloc) + i)), memory[i]);

  char algorithm[16]{};
  length = sizeof(algorithm);
  lab::check(getsockopt(socket.fd(), IPPROTO_TCP, TCP_CONGESTION, algorithm, &length), "TCP_CONGESTION");
  EXPECT_EQ(record.congestion_control(), algorithm);
}

TEST_F(InetDiag, ValuesAreThoseOfGetsockopt) {
  auto source = this->source();
  for (const auto ip : {Ip::kV4, Ip::kV6, Ip::kMapped}) {
    SCOPED_TRACE(lab::name(ip));
    const auto listener = this->listener(ip);
    const auto pair = this->pair(listener, ip);
    pair.client.set(IPPROTO_IP, IP_TOS, 0x28);
    exchange(pair);
    std::this_thread::sleep_for(300ms);  // delayed ACKs are out

    const auto client_before = raw_info(pair.client), server_before = raw_info(pair.server);
    const auto begin = tcpinfo::boot_time_ns();
    const auto records = dump(*source);
    const auto end = tcpinfo::boot_time_ns();
    const auto client_after = raw_info(pair.client), server_after = raw_info(pair.server);
    EXPECT_EQ(cookies(records), (Cookies{pair.client.cookie(), pair.server.cookie()}));
    const auto* client = find(records, pair.client.cookie());
    const auto* server = find(records, pair.server.cookie());
    ASSERT_TRUE(client && server);
    expect_equal(pair.client, client_before, *client, client_after);
    expect_equal(pair.server, server_before, *server, server_after);

    const Record view(*client);
    EXPECT_EQ(view.bytes_acked(), 100'001u);
    EXPECT_EQ(view.bytes_received(), 2'000u);
    EXPECT_EQ(view.family(), ip == Ip::kV4 ? AF_INET : AF_INET6);
    EXPECT_EQ(tcpinfo::to_string(*view.local_address()), ip == Ip::kV6 ? "::1" : "127.0.0.1");
    EXPECT_EQ(tcpinfo::to_string(*view.peer_address()), ip == Ip::kV6 ? "::1" : "127.0.0.1");
    EXPECT_EQ(view.local_port(), pair.client.local_port());
    EXPECT_EQ(view.peer_port(), listener.local_port());
    EXPECT_EQ(Record(*server).local_port(), listener.local_port());
    EXPECT_EQ(view.tos(), 0x28);
    EXPECT_EQ(view.shutdown(), 0);
    EXPECT_EQ(view.event(), TCPINFO_EVENT_SAMPLE);
    EXPECT_EQ(view.source(), TCPINFO_SOURCE_INET_DIAG);
    EXPECT_GE(*view.time_ns(), begin);
    EXPECT_LE(*view.time_ns(), end);
    EXPECT_TRUE(view.cgroup_id());
    EXPECT_TRUE(view.netns_cookie());
    for (const auto field : {Field::generation, Field::cpu, Field::swept, Field::old_state, Field::ulp, Field::is_mptcp,
                             Field::fackets, Field::last_ack_sent})
      EXPECT_FALSE(view.has(field)) << tcpinfo::info(field).name;

    ::shutdown(pair.client.fd(), SHUT_WR);
    const auto half = dump(*source);
    ASSERT_TRUE(find(half, pair.client.cookie()));
    EXPECT_EQ(Record(*find(half, pair.client.cookie())).shutdown(), 2);
  }
}

TEST_F(InetDiag, ListenersComeByTheStatesOption) {
  InetDiagOptions options;
  options.states = kListen;
  auto source = this->source(options);
  for (const auto ip : {Ip::kV4, Ip::kV6, Ip::kMapped}) {
    const auto listener = this->listener(ip);
    std::vector<lab::Socket> waiting;
    for (int i = 0; i < 3; ++i)
      waiting.push_back(inside([&] {
        lab::Socket socket(ip);
        lab::connect(socket, ip, listener.local_port());
        return socket;
      }));
    const auto records = dump(*source);
    ASSERT_EQ(records.size(), 1u);
    const Record record(records[0]);
    EXPECT_EQ(record.cookie(), listener.cookie());
    EXPECT_EQ(record.state(), 10);
    EXPECT_EQ(record.local_port(), listener.local_port());
    EXPECT_EQ(record.unacked(), 3u);
    EXPECT_EQ(record.sacked(), 128u);
    EXPECT_TRUE(record.snd_cwnd());
    EXPECT_TRUE(record.pacing_rate());
    for (const auto field :
         {Field::rtt, Field::rto, Field::min_rtt, Field::bytes_acked, Field::options, Field::ca_state, Field::snd_mss})
      EXPECT_FALSE(record.has(field)) << tcpinfo::info(field).name;
  }
}

TEST_F(InetDiag, ATimeWaitSocketHasItsIdentityAndNothingElse) {
  InetDiagOptions options;
  options.states = kTimeWait;
  auto source = this->source(options);
  const auto listener = this->listener(Ip::kV4);
  auto pair = this->pair(listener, Ip::kV4);
  const auto port = pair.client.local_port();
  pair.client.close();
  std::this_thread::sleep_for(10ms);
  pair.server.close();
  std::this_thread::sleep_for(10ms);
  const auto records = dump(*source);
  ASSERT_EQ(records.size(), 1u);
  const Record record(records[0]);
  EXPECT_EQ(record.state(), 6);
  EXPECT_EQ(record.local_port(), port);
  EXPECT_EQ(record.peer_port(), listener.local_port());
  EXPECT_TRUE(record.cookie());
  for (const auto& member : expected::members()) EXPECT_FALSE(record.has(member.field));
  for (const auto field : {Field::congestion_control, Field::tos, Field::shutdown, Field::skmem_rmem_alloc})
    EXPECT_FALSE(record.has(field)) << tcpinfo::info(field).name;
}

TEST_F(InetDiag, CongestionControlsAreToldApart) {
  auto source = this->source();
  const auto listener = this->listener(Ip::kV4);
  for (const std::string algorithm : {"bbr", "cubic", "reno"}) {
    SCOPED_TRACE(algorithm);
    const auto pair = this->pair(listener, Ip::kV4);
    pair.client.set_congestion_control(algorithm.c_str());
    exchange(pair);
    std::this_thread::sleep_for(100ms);
    const auto records = dump(*source);
    ASSERT_TRUE(find(records, pair.client.cookie()));
    const Record record(*find(records, pair.client.cookie()));
    EXPECT_EQ(record.congestion_control(), algorithm);
    if (algorithm == "bbr") {
      tcp_cc_info info{};
      socklen_t length = sizeof(info);
      lab::check(getsockopt(pair.client.fd(), IPPROTO_TCP, TCP_CC_INFO, &info, &length), "TCP_CC_INFO");
      EXPECT_EQ(record.bbr_bw(), info.bbr.bbr_bw_lo | std::uint64_t{info.bbr.bbr_bw_hi} << 32);
      EXPECT_GT(*record.bbr_bw(), 0u);
      EXPECT_EQ(record.bbr_min_rtt(), info.bbr.bbr_min_rtt);
      EXPECT_EQ(record.bbr_pacing_gain(), info.bbr.bbr_pacing_gain);
      EXPECT_EQ(record.bbr_cwnd_gain(), info.bbr.bbr_cwnd_gain);
    } else {
      for (const auto field : {Field::bbr_bw, Field::bbr_min_rtt, Field::bbr_pacing_gain, Field::bbr_cwnd_gain})
        EXPECT_FALSE(record.has(field)) << tcpinfo::info(field).name;
    }
    EXPECT_FALSE(record.has(Field::vegas_enabled));
    EXPECT_FALSE(record.has(Field::dctcp_enabled));
  }
}

TEST_F(InetDiag, TheFilterSelectsInTheKernelAsItsMeaningSays) {
  struct Made {
    lab::Socket listener;
    lab::Pair pair;
  };
  std::map<Ip, Made> made;
  for (const auto ip : {Ip::kV4, Ip::kV6, Ip::kMapped}) {
    auto listener = this->listener(ip);
    auto pair = this->pair(listener, ip);
    made.emplace(ip, Made{std::move(listener), std::move(pair)});
  }
  const auto port = [&](Ip ip) { return std::to_string(made.at(ip).listener.local_port()); };
  const auto client = [&](Ip ip) { return made.at(ip).pair.client.cookie(); };
  const auto server = [&](Ip ip) { return made.at(ip).pair.server.cookie(); };
  const auto v4 = Ip::kV4, v6 = Ip::kV6, mapped = Ip::kMapped;
  const Cookies all{client(v4), server(v4), client(v6), server(v6), client(mapped), server(mapped)};
  const std::vector<std::pair<std::string, Cookies>> cases{
      {"", all},
      {"port >= 0", all},
      {"peer_port == " + port(v4), {client(v4)}},
      {"local_port == " + port(v6), {server(v6)}},
      {"port == " + port(mapped), {client(mapped), server(mapped)}},
      {"port == " + port(v4) + " or local_port == " + port(v6), {client(v4), server(v4), server(v6)}},
      {"local_port != " + port(v6), {client(v4), server(v4), client(v6), client(mapped), server(mapped)}},
      {"address in 127.0.0.0/8", {client(v4), server(v4), client(mapped), server(mapped)}},
      {"peer_address in 127.0.0.1/32 and peer_port == " + port(mapped), {client(mapped)}},
      {"local_address in 127.0.0.2/32", {}},
      {"address in ::/0", {client(v6), server(v6)}},
      {"peer_address in ::1/128 and local_address in ::1/128", {client(v6), server(v6)}},
      {"address in 2001:db8::/32", {}},
      {"(address in ::1/128 or address in 127.0.0.0/9) and local_port in " + port(v4) + ".." + port(v4), {server(v4)}},
  };
  for (const auto& [text, wanted] : cases) {
    SCOPED_TRACE(text);
    InetDiagOptions options;
    options.filter = Filter::parse(text);
    auto source = this->source(options);
    EXPECT_EQ(cookies(dump(*source)), wanted);
    const auto statistics = source->statistics();
    EXPECT_EQ(statistics.emitted[TCPINFO_EVENT_SAMPLE], wanted.size());
    EXPECT_EQ(statistics.delivered[TCPINFO_EVENT_SAMPLE], wanted.size());
  }
}

TEST_F(InetDiag, ACgroupIsTakenWithAllBelowIt) {
  const lab::Cgroup top("tcpinfo-test"), other("tcpinfo-test");
  const auto listener = this->listener(Ip::kV4);
  const auto client_in = [&](const lab::Cgroup& cgroup) {
    const lab::InCgroup in(cgroup);
    return inside([&] {
      lab::Socket socket(Ip::kV4);
      lab::connect(socket, Ip::kV4, listener.local_port());
      return socket;
    });
  };
  const auto in_top = client_in(top), in_other = client_in(other);
  InetDiagOptions options;
  options.cgroup = top.path();
  auto source = this->source(options);
  auto records = dump(*source);
  ASSERT_EQ(cookies(records), Cookies{in_top.cookie()});
  EXPECT_EQ(records[0].cgroup_id, tcpinfo::cgroup_id(top.path()));

  // A cgroup that is made later counts from the next dump on.
  {
    const lab::Cgroup below("tcpinfo-test", top.path());
    const lab::Cgroup deep("tcpinfo-test", below.path());
    const auto in_below = client_in(below), in_deep = client_in(deep);
    records = dump(*source);
    EXPECT_EQ(cookies(records), (Cookies{in_top.cookie(), in_below.cookie(), in_deep.cookie()}));
    ASSERT_TRUE(find(records, in_deep.cookie()));
    EXPECT_EQ(find(records, in_deep.cookie())->cgroup_id, tcpinfo::cgroup_id(deep.path()));

    options.filter = Filter::parse("local_port == " + std::to_string(in_deep.local_port()));
    auto filtered = this->source(options);
    EXPECT_EQ(cookies(dump(*filtered)), Cookies{in_deep.cookie()});
    options.filter = {};

    // More than are worth testing in the kernel: the selection is the same.
    std::vector<lab::Cgroup> many;
    for (int i = 0; i < 520; ++i) many.emplace_back("tcpinfo-many", below.path());
    const auto in_last = client_in(many.back());
    EXPECT_EQ(cookies(dump(*source)),
              (Cookies{in_top.cookie(), in_below.cookie(), in_deep.cookie(), in_last.cookie()}));
  }
  EXPECT_EQ(cookies(dump(*source)), Cookies{in_top.cookie()});
}

TEST_F(InetDiag, AVanishedCgroupIsAnErrorThatEnds) {
  InetDiagOptions options;
  std::unique_ptr<InetDiagSource> source;
  {
    const lab::Cgroup cgroup("tcpinfo-test");
    options.cgroup = cgroup.path();
    source = this->source(options);
    EXPECT_TRUE(dump(*source).empty());
  }
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(source->tick(*source->next_deadline()), std::errc::no_such_file_or_directory);
    const auto result = source->drain([](const Record&) { FAIL(); });
    EXPECT_FALSE(result.error);
  }
  ASSERT_EQ(mkdir(options.cgroup.c_str(), 0755), 0);
  EXPECT_TRUE(dump(*source).empty());
  rmdir(options.cgroup.c_str());
}

TEST_F(InetDiag, AnOtherNamespaceIsReadAndLeftAgain) {
  const auto listener = this->listener(Ip::kV4);
  const auto pair = this->pair(listener, Ip::kV4);
  const auto here = std::filesystem::read_symlink("/proc/thread-self/ns/net");
  InetDiagOptions options;
  options.netns = netns_->path();
  InetDiagSource source(options);
  EXPECT_EQ(std::filesystem::read_symlink("/proc/thread-self/ns/net"), here);
  const auto records = dump(source);
  EXPECT_EQ(cookies(records), (Cookies{pair.client.cookie(), pair.server.cookie()}));
  std::uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  lab::check(getsockopt(pair.client.fd(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length), "SO_NETNS_COOKIE");
  EXPECT_EQ(Record(records.at(0)).netns_cookie(), cookie);

  const lab::Netns empty("tcpinfo-test");
  options.netns = empty.path();
  InetDiagSource nothing(options);
  EXPECT_TRUE(dump(nothing).empty());
}

TEST_F(InetDiag, ErrorsNameTheObjectAndTheWayOut) {
  const auto text = [](const InetDiagOptions& options) -> std::string {
    try {
      InetDiagSource source(options);
    } catch (const tcpinfo::Error& error) {
      return error.what();
    }
    return "no error";
  };
  const auto here = std::filesystem::read_symlink("/proc/thread-self/ns/net");
  InetDiagOptions options;
  options.netns = "/run/netns/no-such-namespace";
  EXPECT_EQ(text(options),
            "open network namespace /run/netns/no-such-namespace: No such file or directory (list them with ip netns)");
  options.netns = "/dev/null";
  EXPECT_EQ(text(options),
            "enter network namespace /dev/null: Invalid argument (it is no network namespace; list them "
            "with ip netns)");
  options.netns.clear();
  options.cgroup = "/tmp";
  EXPECT_THAT(text(options), testing::HasSubstr("open cgroup /tmp: not a directory of a cgroup v2 hierarchy"));
  options.cgroup = "/no/such/cgroup";
  EXPECT_THAT(text(options), testing::HasSubstr("open cgroup /no/such/cgroup: No such file or directory"));
  options.cgroup.clear();
  options.interval = 0ns;
  EXPECT_THAT(text(options), testing::HasSubstr("invalid option (it is more than 0)"));
  EXPECT_EQ(std::filesystem::read_symlink("/proc/thread-self/ns/net"), here);
}

TEST_F(InetDiag, ALongDumpComesInChunksAndLosesNobody) {
  const auto listener4 = this->listener(Ip::kV4), listener6 = this->listener(Ip::kV6);
  std::vector<lab::Pair> pairs;
  Cookies wanted;
  for (int i = 0; i < 400; ++i) {
    pairs.push_back(i % 2 ? pair(listener4, Ip::kV4) : pair(listener6, Ip::kV6));
    wanted.insert(pairs.back().client.cookie());
    wanted.insert(pairs.back().server.cookie());
  }
  auto source = this->source();
  for (std::uint32_t number = 0; number < 3; ++number) {
    const auto begin = tcpinfo::boot_time_ns();
    const auto records = dump(*source);
    EXPECT_EQ(cookies(records), wanted);
    std::set<std::uint64_t> times;
    std::uint64_t last = begin;
    for (const auto& record : records) {
      EXPECT_EQ(record.sequence, number);
      EXPECT_GE(record.time_ns, last);
      last = record.time_ns;
      times.insert(last);
    }
    EXPECT_LE(last, tcpinfo::boot_time_ns());
    EXPECT_GE(times.size(), 10u);  // 800 sockets, at most 32 KiB a chunk
  }

  // A limit is kept to the chunk, and what is left comes with the next call.
  std::vector<tcpinfo_record> records;
  EXPECT_FALSE(source->tick(*source->next_deadline()));
  std::size_t calls = 0;
  for (; source->statistics().dumps == 3; ++calls) {
    ASSERT_LT(calls, 1000u);
    pollfd ready{source->descriptor(), POLLIN, 0};
    ASSERT_EQ(poll(&ready, 1, 0), 1) << "a dump under way must wake its owner";
    const auto result = source->drain([&](const Record& record) { records.push_back(record.raw()); }, 1);
    EXPECT_LE(result.records, 100u);
  }
  EXPECT_GE(calls, 10u);
  EXPECT_EQ(cookies(records), wanted);
  EXPECT_EQ(source->drain([](const Record&) { FAIL(); }).records, 0u);
  pollfd ready{source->descriptor(), POLLIN, 0};
  EXPECT_EQ(poll(&ready, 1, 0), 0);
}

TEST_F(InetDiag, TicksOnlyWhenADumpIsDueAndCountsWhatBecameOfTheRecords) {
  InetDiagOptions options;
  options.interval = 50ms;
  auto source = this->source(options);
  const auto listener = this->listener(Ip::kV4);
  const auto pair = this->pair(listener, Ip::kV4);
  const auto now = Clock::now();
  EXPECT_LE(*source->next_deadline(), now);
  EXPECT_FALSE(source->tick(now));
  EXPECT_EQ(*source->next_deadline(), now + 50ms);
  EXPECT_FALSE(source->tick(now + 49ms));
  EXPECT_EQ(*source->next_deadline(), now + 50ms);
  EXPECT_FALSE(source->tick(now + 60ms));  // the first dump is still under way
  EXPECT_EQ(*source->next_deadline(), now + 100ms);
  const auto drained = source->drain([](const Record&) { throw 1; });
  EXPECT_EQ(drained.records, 2u);
  EXPECT_FALSE(drained.error);
  EXPECT_FALSE(source->tick(now + 100ms));
  source->drain([](const Record&) {});
  auto statistics = source->statistics();
  EXPECT_EQ(statistics.dumps, 2u);
  EXPECT_EQ(statistics.emitted[TCPINFO_EVENT_SAMPLE], 4u);
  EXPECT_EQ(statistics.lost_sink[TCPINFO_EVENT_SAMPLE], 2u);
  EXPECT_EQ(statistics.delivered[TCPINFO_EVENT_SAMPLE], 2u);
  EXPECT_FALSE(source->tick(now + 10s));  // missed dumps are not made up for
  EXPECT_EQ(*source->next_deadline(), now + 10s + 50ms);

  source->drain([&](const Record&) { source->close(); });  // also from inside the sink
  EXPECT_EQ(source->descriptor(), -1);
  EXPECT_FALSE(source->next_deadline());
  EXPECT_FALSE(source->tick(now + 20s));
  EXPECT_EQ(source->drain([](const Record&) { FAIL(); }).records, 0u);
  statistics = source->statistics();
  EXPECT_EQ(statistics.emitted[TCPINFO_EVENT_SAMPLE], 5u);
  EXPECT_EQ(statistics.delivered[TCPINFO_EVENT_SAMPLE], 5u - 2u);
  source->close();
}

TEST_F(InetDiag, SaysWhatItCanDo) {
  auto source = this->source();
  std::map<std::string, tcpinfo::Capability> found;
  for (const auto& capability : source->capabilities()) found[capability.name] = capability;
  ASSERT_EQ(found.size(), 3u);
  EXPECT_TRUE(found.at("tcp_info").available);
  lab::Socket socket(Ip::kV4);
  EXPECT_THAT(found.at("tcp_info").detail, testing::HasSubstr(std::to_string(raw_info(socket).size()) + " bytes"));
  EXPECT_TRUE(found.at("cgroup_filter").available);
  EXPECT_TRUE(found.at("congestion_control_state").available);
  EXPECT_THAT(found.at("congestion_control_state").detail, testing::HasSubstr("bbr"));
}

// Capabilities belong to a thread; the C library has no call for them.
void drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2]{};
  lab::check(static_cast<int>(syscall(SYS_capset, &header, none)), "capset");
}

TEST_F(InetDiag, NeedsNoPrivilegeButForOtherNamespaces) {
  const lab::Cgroup cgroup("tcpinfo-test");
  const auto listener = this->listener(Ip::kV4);
  const auto outside_pair = this->pair(listener, Ip::kV4);
  const auto pair = [&] {
    const lab::InCgroup in(cgroup);
    return this->pair(listener, Ip::kV4);
  }();
  pair.client.set_congestion_control("bbr");
  exchange(pair);
  InetDiagOptions options;
  options.cgroup = cgroup.path();
  const auto privileged = dump(*source(options));
  netns_->run([&] {
    std::thread([&] {
      drop_capabilities();
      InetDiagSource source(options);
      for (const auto& capability : source.capabilities()) EXPECT_TRUE(capability.available) << capability.name;
      const auto records = dump(source);
      // The server's end belongs to the cgroup of its listener.
      ASSERT_EQ(cookies(records), Cookies{pair.client.cookie()});
      ASSERT_EQ(privileged.size(), 1u);
      for (const auto& row : tcpinfo::fields())
        EXPECT_EQ(Record(records[0]).has(row.field), Record(privileged[0]).has(row.field)) << row.name;
      EXPECT_TRUE(Record(records[0]).bbr_bw());

      options.cgroup.clear();
      options.netns = netns_->path();
      try {
        InetDiagSource denied(options);
        ADD_FAILURE() << "entered a namespace without privilege";
      } catch (const tcpinfo::Error& error) {
        EXPECT_EQ(error.code(), std::errc::operation_not_permitted);
        EXPECT_THAT(error.what(), testing::HasSubstr("needs CAP_SYS_ADMIN"));
      }
    }).join();
  });
}

TEST_F(InetDiag, SubflowsOfMptcpAreKnown) {
  constexpr int kMptcp = 262;  // IPPROTO_MPTCP
  const auto make = [] { return lab::Socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, kMptcp)); };
  const auto listener = inside(make);
  if (listener.fd() < 0) GTEST_SKIP() << "needs a kernel with CONFIG_MPTCP";
  const auto address = lab::loopback(Ip::kV4, 0);
  lab::check(::bind(listener.fd(), address.get(), address.length), "bind");
  lab::check(::listen(listener.fd(), 8), "listen");
  const auto client = inside(make);
  lab::connect(client, Ip::kV4, listener.local_port());
  const auto server = lab::accept(listener);
  const auto plain = this->listener(Ip::kV4);
  const auto pair = this->pair(plain, Ip::kV4);

  std::vector<tcpinfo_record> records;
  netns_->run([&] {
    std::thread([&] {
      drop_capabilities();
      InetDiagSource source({});
      records = dump(source);
    }).join();
  });
  EXPECT_EQ(records.size(), 4u);
  std::size_t subflows = 0;
  for (const auto& raw : records) {
    const Record record(raw);
    if (raw.cookie == pair.client.cookie() || raw.cookie == pair.server.cookie()) {
      EXPECT_FALSE(record.ulp());
      EXPECT_FALSE(record.is_mptcp());
      continue;
    }
    EXPECT_EQ(record.ulp(), "mptcp");
    EXPECT_EQ(record.is_mptcp(), 1);
    ++subflows;
  }
  EXPECT_EQ(subflows, 2u);
}

}  // namespace
