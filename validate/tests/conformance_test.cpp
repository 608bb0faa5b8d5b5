// SPDX-License-Identifier: BSD-2-Clause
// What any source has to do, on real sockets of the running kernel. A further source is an entry in sources.hpp.
#include <linux/inet_diag.h>
#include <sys/utsname.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <thread>

#include <tcpinfo/tcpinfo.hpp>

#include "../../libtcpinfo/tests/tcp_info_members.hpp"
#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "privileges.hpp"
#include "requirements.hpp"
#include "sources.hpp"

namespace {

using namespace std::chrono_literals;
using lab::exchange;
using lab::find;
using lab::Ip;
using lab::raw_info;
using lab::Records;
using lab::SnapshotWanted;
using lab::Wanted;
using tcpinfo::Field;
using tcpinfo::Filter;
using tcpinfo::Record;
using Clock = tcpinfo::Source::Clock;
using Bytes = std::vector<std::byte>;
using Cookies = std::set<std::uint64_t>;

constexpr auto kIps = {Ip::kV4, Ip::kV6, Ip::kMapped};

std::size_t descriptors() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

Cookies cookies(const Records& records) {
  Cookies found;
  for (const auto& record : records) found.insert(record.cookie);
  return found;
}

// Names of the members that go on while a connection rests.
bool is_clock(Field field) {
  return field == Field::last_data_sent || field == Field::last_data_recv || field == Field::last_ack_recv;
}

void expect_values(const lab::Socket& socket, const Bytes& before, const tcpinfo_record& raw, const Bytes& after) {
  const Record record(raw);
  ASSERT_EQ(before.size(), after.size());
  for (const auto& member : expected::members()) {
    // Where the last four bytes lie is told by the kernel's types only: see equality_test.
    if (member.field == Field::accecn_fail_mode || member.field == Field::accecn_opt_seen) continue;
    const auto name = tcpinfo::info(member.field).name;
    const auto value = record.number(member.field);
    if (member.offset + member.size > before.size()) continue;
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
  }
  EXPECT_EQ(record.state(), static_cast<std::uint8_t>(before[0]));

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

// Every test has a network namespace and a cgroup of its own, which hold its sockets.
class Place : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    netns_ = std::make_unique<lab::Netns>("tcpinfo-test");
    cgroup_ = std::make_unique<lab::Cgroup>("tcpinfo-test");
  }
  template <class F>
  auto inside(F&& make, const lab::Cgroup* cgroup = nullptr) {
    const lab::InCgroup in(cgroup ? *cgroup : *cgroup_);
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
  lab::Socket client(const lab::Socket& listener, Ip ip, const lab::Cgroup* cgroup = nullptr) {
    return inside(
        [&] {
          lab::Socket socket(ip);
          lab::connect(socket, ip, listener.local_port());
          return socket;
        },
        cgroup);
  }

  std::unique_ptr<lab::Netns> netns_;
  std::unique_ptr<lab::Cgroup> cgroup_;
};

class AnySource : public Place, public testing::WithParamInterface<lab::SourceKind> {
 protected:
  void SetUp() override {
    if (GetParam().id != tcpinfo::SourceId::kInetDiag) TCPINFO_NEEDS_BPF();
    Place::SetUp();
  }
  std::unique_ptr<tcpinfo::Source> open(Wanted wanted = {}) {
    if (wanted.cgroup.empty()) wanted.cgroup = cgroup_->path();
    return inside([&] { return GetParam().open(wanted); });
  }
  // The newest sample of each of these sockets that was made after this call.
  std::map<std::uint64_t, tcpinfo_record> samples(tcpinfo::Source& source, const Cookies& wanted) {
    const auto begin = tcpinfo::boot_time_ns();
    std::map<std::uint64_t, tcpinfo_record> found;
    lab::drive(source, [&](Records& records) {
      for (const auto& record : records)
        if (record.event == TCPINFO_EVENT_SAMPLE && record.time_ns >= begin && wanted.contains(record.cookie))
          found[record.cookie] = record;
      records.clear();
      return found.size() == wanted.size();
    });
    for (const auto cookie : wanted) EXPECT_TRUE(found.contains(cookie)) << "no sample of socket " << cookie;
    return found;
  }
};

// Whose records come while the source goes twice more, or more often, over all sockets.
Cookies seen_in_two_rounds(tcpinfo::Source& source) {
  const auto rounds = [&] { return source.statistics().dumps + source.statistics().sweeps; };
  const auto wanted = rounds() + 3;  // one may be half over
  Cookies seen;
  lab::drive(source, [&](Records& records) {
    for (const auto& record : records) seen.insert(record.cookie);
    records.clear();
    return rounds() >= wanted;
  });
  return seen;
}

INSTANTIATE_TEST_SUITE_P(Conformance, AnySource, testing::ValuesIn(lab::kSources),
                         [](const auto& test) { return std::string(name(test.param.id)); });

TEST_P(AnySource, SaysWhoEachRecordIsAbout) {
  auto source = open();
  EXPECT_EQ(source->id(), GetParam().id);
  for (const auto ip : kIps) {
    SCOPED_TRACE(lab::name(ip));
    const auto listener = this->listener(ip);
    const auto pair = this->pair(listener, ip);
    exchange(pair);
    const auto client = pair.client.cookie(), server = pair.server.cookie();
    const auto begin = tcpinfo::boot_time_ns();
    auto found = samples(*source, {client, server});
    const auto end = tcpinfo::boot_time_ns();
    const Record record(found[client]), other(found[server]);
    EXPECT_EQ(record.source(), static_cast<std::uint8_t>(GetParam().id));
    EXPECT_EQ(record.event(), TCPINFO_EVENT_SAMPLE);
    EXPECT_EQ(record.state(), 1);
    EXPECT_EQ(record.family(), ip == Ip::kV4 ? AF_INET : AF_INET6);
    EXPECT_EQ(tcpinfo::to_string(*record.local_address()), ip == Ip::kV6 ? "::1" : "127.0.0.1");
    EXPECT_EQ(tcpinfo::to_string(*record.peer_address()), ip == Ip::kV6 ? "::1" : "127.0.0.1");
    EXPECT_EQ(record.local_port(), pair.client.local_port());
    EXPECT_EQ(record.peer_port(), listener.local_port());
    EXPECT_EQ(other.local_port(), listener.local_port());
    EXPECT_EQ(other.peer_port(), pair.client.local_port());
    EXPECT_EQ(record.cookie(), client);
    EXPECT_EQ(record.cgroup_id(), tcpinfo::cgroup_id(cgroup_->path()));
    EXPECT_GE(*record.time_ns(), begin);
    EXPECT_LE(*record.time_ns(), end);
    std::uint64_t netns = 0;
    socklen_t length = sizeof(netns);
    if (getsockopt(pair.client.fd(), SOL_SOCKET, 71 /* SO_NETNS_COOKIE */, &netns, &length) == 0) {
      EXPECT_EQ(record.netns_cookie(), netns);
    } else {
      EXPECT_FALSE(record.netns_cookie()) << "the kernel does not say it";
    }
    for (const auto field : {Field::old_state, Field::ulp, Field::fackets, Field::last_ack_sent})
      EXPECT_FALSE(record.has(field)) << tcpinfo::info(field).name;
  }
}

TEST_P(AnySource, ReadsWhatGetsockoptReads) {
  auto source = open();
  for (const auto ip : kIps) {
    SCOPED_TRACE(lab::name(ip));
    const auto listener = this->listener(ip);
    const auto pair = this->pair(listener, ip);
    pair.client.set(IPPROTO_IP, IP_TOS, 0x28);
    exchange(pair);
    std::this_thread::sleep_for(300ms);  // delayed ACKs are out
    const auto client = pair.client.cookie(), server = pair.server.cookie();
    const auto client_before = raw_info(pair.client), server_before = raw_info(pair.server);
    auto found = samples(*source, {client, server});
    const auto client_after = raw_info(pair.client), server_after = raw_info(pair.server);
    expect_values(pair.client, client_before, found[client], client_after);
    expect_values(pair.server, server_before, found[server], server_after);
    const Record record(found[client]);
    EXPECT_EQ(record.bytes_acked(), 100'001u);
    EXPECT_EQ(record.bytes_received(), 2'000u);
    EXPECT_EQ(record.tos(), 0x28);
    EXPECT_EQ(record.shutdown(), 0);
    ::shutdown(pair.client.fd(), SHUT_WR);
    EXPECT_EQ(Record(samples(*source, {client})[client]).shutdown(), 2);
  }
}

// The table's columns `sources` and `since`, on a connection that has been used.
TEST_P(AnySource, GivesTheFieldsThatTheTableSays) {
  utsname system{};
  ASSERT_EQ(uname(&system), 0);
  int major = 0, minor = 0;
  ASSERT_EQ(std::sscanf(system.release, "%d.%d", &major, &minor), 2);
  auto source = open();
  const auto listener = this->listener(Ip::kV4);
  const auto pair = this->pair(listener, Ip::kV4);
  pair.client.set_congestion_control("reno");
  exchange(pair);
  const auto cookie = pair.client.cookie();
  auto found = samples(*source, {cookie});
  const Record record(found[cookie]);
  // Present in some states of a connection only.
  const auto depends = [](Field field) {
    return field == Field::ulp || field == Field::is_mptcp || field == Field::old_state ||
           field == Field::snd_ssthresh || (field >= Field::bbr_bw && field <= Field::dctcp_ab_tot) ||
           field == Field::triggered || field == Field::pid || field == Field::comm || field == Field::lost_event;
  };
  for (const auto& row : tcpinfo::fields()) {
    SCOPED_TRACE(row.name);
    if (!gives(GetParam().id, row.field)) {
      EXPECT_FALSE(record.has(row.field));
      continue;
    }
    int since_major = 0, since_minor = 0;
    std::sscanf(std::string(row.since).c_str(), "%d.%d", &since_major, &since_minor);
    const bool is_there = std::pair(major, minor) >= std::pair(since_major, since_minor);
    if (is_there && !depends(row.field)) {
      EXPECT_TRUE(record.has(row.field)) << "since kernel " << row.since;
    }
    // The BPF sources read the socket itself, which may have had it before tcp_info.
    if (!is_there && GetParam().id == tcpinfo::SourceId::kInetDiag) {
      EXPECT_FALSE(record.has(row.field)) << "not before kernel " << row.since;
    }
  }
}

TEST_P(AnySource, TellsCongestionControlsApart) {
  // Choosing an algorithm loads its module, whose types only a source knows that is opened afterwards.
  try {
    lab::Socket(Ip::kV4).set_congestion_control("bbr");
  } catch (const std::system_error&) {  // this kernel has none
  }
  auto source = open();
  const auto listener = this->listener(Ip::kV4);
  for (const std::string algorithm : {"bbr", "cubic", "reno"}) {
    SCOPED_TRACE(algorithm);
    const auto pair = this->pair(listener, Ip::kV4);
    try {
      pair.client.set_congestion_control(algorithm.c_str());
    } catch (const std::system_error&) {
      continue;  // this kernel has none of that name
    }
    exchange(pair);
    std::this_thread::sleep_for(100ms);
    const auto cookie = pair.client.cookie();
    auto found = samples(*source, {cookie});
    const Record record(found[cookie]);
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

TEST_P(AnySource, AFilterSelectsAsItsMeaningSays) {
  // A source that follows connections decides when they begin: ports must be known before.
  std::map<Ip, lab::Socket> listeners;
  for (const auto ip : kIps) listeners.emplace(ip, this->listener(ip));
  const auto port = [&](Ip ip) { return std::to_string(listeners.at(ip).local_port()); };
  const auto v4 = Ip::kV4, v6 = Ip::kV6, mapped = Ip::kMapped;
  using End = std::pair<Ip, bool>;  // true: the client
  const std::set<End> all{{v4, true}, {v4, false}, {v6, true}, {v6, false}, {mapped, true}, {mapped, false}};
  const std::vector<std::pair<std::string, std::set<End>>> cases{
      {"", all},
      {"port >= 0", all},
      {"peer_port == " + port(v4), {{v4, true}}},
      {"local_port == " + port(v6), {{v6, false}}},
      {"port == " + port(mapped), {{mapped, true}, {mapped, false}}},
      {"port == " + port(v4) + " or local_port == " + port(v6), {{v4, true}, {v4, false}, {v6, false}}},
      {"local_port != " + port(v6), {{v4, true}, {v4, false}, {v6, true}, {mapped, true}, {mapped, false}}},
      {"address in 127.0.0.0/8", {{v4, true}, {v4, false}, {mapped, true}, {mapped, false}}},
      {"peer_address in 127.0.0.1/32 and peer_port == " + port(mapped), {{mapped, true}}},
      {"local_address in 127.0.0.2/32", {}},
      {"address in ::/0", {{v6, true}, {v6, false}}},
      {"peer_address in ::1/128 and local_address in ::1/128", {{v6, true}, {v6, false}}},
      {"address in 2001:db8::/32", {}},
      {"(address in ::1/128 or address in 127.0.0.0/9) and local_port in " + port(v4) + ".." + port(v4), {{v4, false}}},
  };
  for (const auto& [text, wanted] : cases) {
    SCOPED_TRACE(text);
    auto source = open({.filter = Filter::parse(text)});
    std::map<Ip, lab::Pair> pairs;
    for (const auto ip : kIps) pairs.emplace(ip, this->pair(listeners.at(ip), ip));
    Cookies expected;
    for (const auto& [ip, is_client] : wanted)
      expected.insert((is_client ? pairs.at(ip).client : pairs.at(ip).server).cookie());
    samples(*source, expected);
    EXPECT_EQ(seen_in_two_rounds(*source), expected) << "and nobody else";
  }
}

TEST_P(AnySource, ACgroupIsTakenWithAllBelowIt) {
  const lab::Cgroup other("tcpinfo-test"), below("tcpinfo-test", cgroup_->path()), deep("tcpinfo-test", below.path());
  auto source = open();
  // A cgroup that is made later counts too.
  const lab::Cgroup later("tcpinfo-test", below.path());
  const auto listener = inside([] { return lab::listen(Ip::kV4); }, &other);
  std::map<std::uint64_t, std::filesystem::path> wanted;
  std::vector<lab::Socket> clients;
  for (const lab::Cgroup* cgroup : {static_cast<const lab::Cgroup*>(cgroup_.get()), &below, &deep, &later, &other}) {
    clients.push_back(client(listener, Ip::kV4, cgroup));
    if (cgroup != &other) wanted[clients.back().cookie()] = cgroup->path();
  }
  Cookies cookies;
  for (const auto& [cookie, path] : wanted) cookies.insert(cookie);
  for (const auto& [cookie, record] : samples(*source, cookies))
    EXPECT_EQ(Record(record).cgroup_id(), tcpinfo::cgroup_id(wanted[cookie]));
  EXPECT_EQ(seen_in_two_rounds(*source), cookies);
}

TEST_P(AnySource, AccountsForEveryRecord) {
  auto source = open();
  const auto listener = this->listener(Ip::kV6);
  std::vector<lab::Pair> pairs;
  for (int i = 0; i < 20; ++i) pairs.push_back(pair(listener, Ip::kV6));
  std::map<std::uint8_t, std::uint64_t> delivered, thrown;
  const auto sink = [&](const Record& record) {
    if (*record.cookie() % 3 == 0) {
      ++thrown[*record.event()];
      throw std::runtime_error("no room");
    }
    ++delivered[*record.event()];
  };
  std::size_t most = 0;
  for (const auto end = Clock::now() + 5s;
       Clock::now() < end && (!thrown[TCPINFO_EVENT_SAMPLE] || !delivered[TCPINFO_EVENT_SAMPLE] || most == 0);
       std::this_thread::sleep_for(2ms)) {
    EXPECT_FALSE(source->tick(Clock::now()));
    const auto result = source->drain(sink, 1);
    EXPECT_FALSE(result.error);
    most = std::max(most, result.records);
  }
  EXPECT_GE(most, 1u);
  EXPECT_LE(most, 100u) << "a limit is kept to what one system call gives";
  source->stop();
  while (source->drain(sink).records > 0) {
  }
  const auto statistics = source->statistics();
  EXPECT_EQ(statistics.malformed, 0u);
  for (std::uint8_t event = 1; event < tcpinfo::kEventCount; ++event) {
    SCOPED_TRACE(name(static_cast<tcpinfo::Event>(event)));
    EXPECT_EQ(statistics.delivered[event], delivered[event]);
    EXPECT_EQ(statistics.lost_sink[event], thrown[event]);
    EXPECT_EQ(statistics.emitted[event], delivered[event] + thrown[event] + statistics.lost_ring[event]);
  }
  EXPECT_GT(thrown[TCPINFO_EVENT_SAMPLE], 0u);
  EXPECT_GT(delivered[TCPINFO_EVENT_SAMPLE], 0u);
  source->stop();
  source->close();
  EXPECT_EQ(source->statistics().delivered, statistics.delivered);
  EXPECT_EQ(source->statistics().emitted, statistics.emitted);
}

TEST_P(AnySource, MayBeClosedInsideItsSinkAndGivesNothingAfterwards) {
  auto source = open();
  const auto listener = this->listener(Ip::kV4);
  const auto first = pair(listener, Ip::kV4), second = pair(listener, Ip::kV4);
  int calls = 0;
  for (const auto end = Clock::now() + 5s; calls == 0 && Clock::now() < end; std::this_thread::sleep_for(1ms)) {
    EXPECT_FALSE(source->tick(Clock::now()));
    source->drain([&](const Record&) {
      ++calls;
      source->close();
    });
  }
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(source->descriptor(), -1);
  EXPECT_FALSE(source->next_deadline());
  EXPECT_FALSE(source->tick(Clock::now() + 1h));
  EXPECT_EQ(source->drain([](const Record&) { FAIL(); }).records, 0u);
  source->close();
}

TEST_P(AnySource, SaysWhenItIsDueAndMakesUpForNothing) {
  auto source = open({.interval = 50ms});
  const auto listener = this->listener(Ip::kV4);
  const auto pair = this->pair(listener, Ip::kV4);  // where there is none, a source may be due never
  const auto now = Clock::now();
  ASSERT_TRUE(source->next_deadline());
  EXPECT_LE(*source->next_deadline(), now + 50ms);
  EXPECT_FALSE(source->tick(now));
  source->drain([](const Record&) {});
  ASSERT_TRUE(source->next_deadline());
  EXPECT_GT(*source->next_deadline(), now - 1ms);
  EXPECT_LE(*source->next_deadline(), now + 50ms);
  EXPECT_FALSE(source->tick(now + 10s));
  source->drain([](const Record&) {});
  ASSERT_TRUE(source->next_deadline());
  EXPECT_GT(*source->next_deadline(), now + 10s);
  EXPECT_LE(*source->next_deadline(), now + 10s + 50ms);
}

TEST_P(AnySource, NeedsNoPrivilegeOnceItIsOpen) {
  auto source = open();
  const auto listener = this->listener(Ip::kV4);
  const auto pair = this->pair(listener, Ip::kV4);
  netns_->run([&] {
    std::thread([&] {
      lab::drop_capabilities();
      samples(*source, {pair.client.cookie(), pair.server.cookie()});
    }).join();
  });
}

TEST_P(AnySource, ErrorsNameTheObjectAndLeaveNothingBehind) {
  const auto text = [&](const Wanted& wanted) -> std::string {
    try {
      GetParam().open(wanted);
    } catch (const tcpinfo::Error& error) {
      return error.what();
    }
    return "no error";
  };
  { open(); }  // what a process keeps once it has learnt it
  const auto before = descriptors();
  EXPECT_THAT(text({.cgroup = "/tmp"}), testing::HasSubstr("open cgroup /tmp: not a directory of a cgroup v2"));
  EXPECT_THAT(text({.cgroup = "/no/such/cgroup"}),
              testing::HasSubstr("open cgroup /no/such/cgroup: No such file or directory"));
  EXPECT_THAT(text({.cgroup = cgroup_->path(), .interval = -1ns}), testing::HasSubstr("invalid option ("));
  EXPECT_EQ(descriptors(), before);
  { open(); }
  EXPECT_EQ(descriptors(), before);
}

TEST_P(AnySource, StatesItsCapabilities) {
  auto source = open();
  std::set<std::string> names;
  for (const auto& capability : source->capabilities()) {
    EXPECT_TRUE(names.insert(capability.name).second) << capability.name;
    EXPECT_FALSE(capability.detail.empty()) << capability.name;
  }
  EXPECT_FALSE(names.empty());
}

TEST_P(AnySource, SaysWhatItsProgramsCost) {
  const tcpinfo::KernelStatistics statistics;
  auto source = open();
  const auto before = source->cost();
  const auto listener = this->listener(Ip::kV4);
  const auto pair = this->pair(listener, Ip::kV4);
  samples(*source, {pair.client.cookie(), pair.server.cookie()});
  const auto after = source->cost();
  const bool has_programs = source->id() != tcpinfo::SourceId::kInetDiag;
  EXPECT_EQ(!after.programs.empty(), has_programs);
  EXPECT_EQ(!after.maps.empty(), has_programs);
  ASSERT_EQ(after.programs.size(), before.programs.size());
  std::uint64_t runs = 0;
  for (std::size_t i = 0; i < after.programs.size(); ++i) {
    const auto& now = after.programs[i];
    SCOPED_TRACE(now.name);
    EXPECT_TRUE(now.name.starts_with("tcpinfo_"));
    EXPECT_GT(now.id, 0u);
    EXPECT_EQ(now.id, before.programs[i].id);
    EXPECT_GT(now.instructions, 0u);
    EXPECT_GE(now.runs, before.programs[i].runs);
    EXPECT_EQ(now.run_time_ns > before.programs[i].run_time_ns, now.runs > before.programs[i].runs);
    EXPECT_EQ(now.in_own_process, now.name != "tcpinfo_sockops" && now.name != "tcpinfo_transition");
    runs += now.runs - before.programs[i].runs;
  }
  if (has_programs) {
    EXPECT_GE(runs, 2u) << "one a record";
  }
  for (const auto& map : after.maps) {
    SCOPED_TRACE(map.name);
    EXPECT_FALSE(map.name.empty());
    EXPECT_GT(map.id, 0u);
    EXPECT_GT(map.bytes + map.element_bytes, 0u) << "kernels before 6.4 know no memory of socket storage";
  }
  source->close();
  EXPECT_TRUE(source->cost().programs.empty());
  EXPECT_TRUE(source->cost().maps.empty());
}

class AnySnapshot : public Place, public testing::WithParamInterface<lab::SnapshotKind> {
 protected:
  void SetUp() override {
    if (GetParam().id != tcpinfo::SourceId::kInetDiag) TCPINFO_NEEDS_BPF();
    Place::SetUp();
  }
  std::unique_ptr<tcpinfo::Source> open(const SnapshotWanted& wanted = {}) {
    return inside([&] { return GetParam().open(wanted); });
  }
};

INSTANTIATE_TEST_SUITE_P(Conformance, AnySnapshot, testing::ValuesIn(lab::kSnapshots),
                         [](const auto& test) { return std::string(name(test.param.id)); });

TEST_P(AnySnapshot, ListenersHaveTheirQueueAndLittleElse) {
  auto source = open({.states = tcpinfo::kListenState});
  for (const auto ip : kIps) {
    const auto listener = this->listener(ip);
    std::vector<lab::Socket> waiting;
    for (int i = 0; i < 3; ++i) waiting.push_back(client(listener, ip));
    const auto records = lab::snapshot(*source);
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

TEST_P(AnySnapshot, WhatIsNoFullSocketHasItsIdentityAndNothingElse) {
  const auto expect_identity_only = [](const Record& record) {
    EXPECT_TRUE(record.cookie());
    for (const auto& row : tcpinfo::fields()) {
      if (row.kind != tcpinfo::Kind::identity) {
        EXPECT_FALSE(record.has(row.field)) << row.name;
      }
    }
    for (const auto field : {Field::congestion_control, Field::cgroup_id})
      EXPECT_FALSE(record.has(field)) << tcpinfo::info(field).name;
  };
  for (const auto ip : kIps) {
    SCOPED_TRACE(lab::name(ip));
    const auto listener = this->listener(ip);
    auto pair = this->pair(listener, ip);
    const auto port = pair.client.local_port();
    pair.client.close();
    std::this_thread::sleep_for(10ms);

    // Orphaned in FIN_WAIT2: the kernel keeps a small socket of it, and names it by its substate.
    auto fin_wait2 = open({.states = 1u << 5});
    auto records = lab::snapshot(*fin_wait2);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].state, 5);
    EXPECT_EQ(records[0].local_port, port);
    expect_identity_only(Record(records[0]));

    pair.server.close();
    std::this_thread::sleep_for(10ms);
    auto time_wait =
        open({.states = tcpinfo::kTimeWaitState, .filter = Filter::parse("local_port == " + std::to_string(port))});
    records = lab::snapshot(*time_wait);
    ASSERT_EQ(records.size(), 1u);
    const Record record(records[0]);
    EXPECT_EQ(record.state(), 6);
    EXPECT_EQ(record.local_port(), port);
    EXPECT_EQ(record.peer_port(), listener.local_port());
    EXPECT_EQ(tcpinfo::to_string(*record.peer_address()), ip == Ip::kV6 ? "::1" : "127.0.0.1");
    expect_identity_only(record);
    EXPECT_TRUE(lab::snapshot(*fin_wait2).empty());
  }
}

TEST_P(AnySnapshot, HalfOpenConnectionsAreInSynRecv) {
  // The answer to the SYN goes to a neighbour that is not there.
  const lab::Netns far("tcpinfo-test");
  lab::link(far, *netns_);
  const std::string ip = "ip -n ";
  ASSERT_EQ(std::system((ip + far.name() + " address add 10.99.0.1/32 dev lo").c_str()), 0);
  ASSERT_EQ(std::system((ip + netns_->name() + " route add 10.99.0.1/32 via 10.77.0.99").c_str()), 0);
  const auto address = [](const char* text, std::uint16_t port) {
    sockaddr_in made{};
    made.sin_family = AF_INET;
    made.sin_port = htons(port);
    inet_pton(AF_INET, text, &made.sin_addr);
    return made;
  };
  const auto bound = [&](const char* text) {
    lab::Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const auto local = address(text, 0);
    lab::check(::bind(socket.fd(), reinterpret_cast<const sockaddr*>(&local), sizeof(local)), "bind");
    return socket;
  };
  const auto listener = inside([&] { return bound("10.77.0.2"); });
  lab::check(::listen(listener.fd(), 8), "listen");
  lab::Socket connecting;
  far.run([&] {
    connecting = bound("10.99.0.1");
    const auto to = address("10.77.0.2", listener.local_port());
    EXPECT_EQ(::connect(connecting.fd(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)), -1);
    EXPECT_EQ(errno, EINPROGRESS);
  });
  std::this_thread::sleep_for(20ms);
  auto source = open({.states = 1u << 3});
  const auto records = lab::snapshot(*source);
  ASSERT_EQ(records.size(), 1u);
  const Record record(records[0]);
  EXPECT_EQ(record.state(), 3);
  EXPECT_EQ(record.local_port(), listener.local_port());
  EXPECT_EQ(record.peer_port(), connecting.local_port());
  EXPECT_EQ(tcpinfo::to_string(*record.peer_address()), "10.99.0.1");
  EXPECT_TRUE(record.cookie());
  EXPECT_FALSE(record.has(Field::rto));
  EXPECT_EQ(cookies(lab::snapshot(*GetParam().open({.netns = far.path(), .states = 1u << 2}))),
            Cookies{connecting.cookie()});
}

TEST_P(AnySnapshot, EveryStateIsNamed) {
  const auto listener = this->listener(Ip::kV4);
  auto established = pair(listener, Ip::kV4), half = pair(listener, Ip::kV4), gone = pair(listener, Ip::kV4);
  ::shutdown(half.client.fd(), SHUT_WR);
  gone.client.close();
  std::this_thread::sleep_for(10ms);
  gone.server.close();
  std::this_thread::sleep_for(10ms);
  auto source = open({.states = tcpinfo::kAllStates});
  std::multiset<std::string_view> names;
  for (const auto& record : lab::snapshot(*source)) names.insert(tcpinfo::state_name(record.state));
  EXPECT_EQ(names, (std::multiset<std::string_view>{"LISTEN", "ESTABLISHED", "ESTABLISHED", "FIN_WAIT2", "CLOSE_WAIT",
                                                    "TIME_WAIT"}));
}

TEST_P(AnySnapshot, AnOtherNamespaceIsReadAndLeftAgain) {
  const auto listener = this->listener(Ip::kV4);
  const auto pair = this->pair(listener, Ip::kV4);
  const auto here = std::filesystem::read_symlink("/proc/thread-self/ns/net");
  auto source = GetParam().open({.netns = netns_->path()});
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(cookies(lab::snapshot(*source)), (Cookies{pair.client.cookie(), pair.server.cookie()}));
    EXPECT_EQ(std::filesystem::read_symlink("/proc/thread-self/ns/net"), here);
  }
  const lab::Netns empty("tcpinfo-test");
  EXPECT_TRUE(lab::snapshot(*GetParam().open({.netns = empty.path()})).empty());

  const auto text = [&](const char* path) -> std::string {
    try {
      GetParam().open({.netns = path});
    } catch (const tcpinfo::Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(text("/run/netns/no-such-namespace"),
            "open network namespace /run/netns/no-such-namespace: No such file or directory (list them with ip netns)");
  EXPECT_EQ(text("/dev/null"),
            "enter network namespace /dev/null: Invalid argument (it is no network namespace; list them with ip "
            "netns)");
  EXPECT_EQ(std::filesystem::read_symlink("/proc/thread-self/ns/net"), here);
}

TEST_P(AnySnapshot, ALongPassLosesNobody) {
  const auto listener4 = this->listener(Ip::kV4), listener6 = this->listener(Ip::kV6);
  std::vector<lab::Pair> pairs;
  Cookies wanted;
  for (int i = 0; i < 400; ++i) {
    pairs.push_back(i % 2 ? pair(listener4, Ip::kV4) : pair(listener6, Ip::kV6));
    wanted.insert(pairs.back().client.cookie());
    wanted.insert(pairs.back().server.cookie());
  }
  auto source = open();
  for (std::uint32_t number = 0; number < 3; ++number) {
    const auto begin = tcpinfo::boot_time_ns();
    const auto records = lab::snapshot(*source);
    EXPECT_EQ(records.size(), wanted.size()) << "nobody twice";
    EXPECT_EQ(cookies(records), wanted);
    std::uint64_t last = begin;
    for (const auto& record : records) {
      EXPECT_EQ(record.sequence, number);
      EXPECT_GE(record.time_ns, last);
      last = record.time_ns;
    }
    EXPECT_LE(last, tcpinfo::boot_time_ns());
  }

  // A limit is kept to what one system call gives, and what is left comes with the next call.
  Records records;
  EXPECT_FALSE(source->tick(*source->next_deadline()));
  std::size_t calls = 0;
  for (; source->statistics().dumps == 3; ++calls) {
    ASSERT_LT(calls, 1000u);
    EXPECT_LE(source->drain([&](const Record& record) { records.push_back(record.raw()); }, 1).records, 100u);
  }
  EXPECT_GE(calls, 10u);
  EXPECT_EQ(cookies(records), wanted);
  EXPECT_EQ(source->drain([](const Record&) { FAIL(); }).records, 0u);
}

TEST_P(AnySnapshot, SubflowsOfMptcpAreKnown) {
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
  auto source = open();
  std::size_t subflows = 0;
  for (const auto& raw : lab::snapshot(*source)) {
    const Record record(raw);
    if (raw.cookie == pair.client.cookie() || raw.cookie == pair.server.cookie()) {
      EXPECT_FALSE(record.ulp());
      EXPECT_NE(record.is_mptcp(), 1);
      continue;
    }
    EXPECT_EQ(record.ulp(), "mptcp");
    EXPECT_EQ(record.is_mptcp(), 1);
    ++subflows;
  }
  EXPECT_EQ(subflows, 2u);
}

}  // namespace
