// SPDX-License-Identifier: BSD-2-Clause
// The inet_diag source on real sockets of the real kernel, each test in a network namespace of its own.
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <poll.h>
#include <sys/stat.h>

#include <fmt/format.h>
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

#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "privileges.hpp"
#include "sources.hpp"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace {

using namespace std::chrono_literals;
using lab::exchange;
using lab::find;
using lab::Ip;
using lab::raw_info;
using tcpinfo::Field;
using tcpinfo::Filter;
using tcpinfo::InetDiagOptions;
using tcpinfo::InetDiagSource;
using tcpinfo::Record;
using Clock = tcpinfo::Source::Clock;
using Bytes = std::vector<std::byte>;
using Cookies = std::set<std::uint64_t>;

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

tcpinfo::Connection connection(const tcpinfo_record& record, std::uint32_t interface_index = 0) {
  return {record.local_address, record.peer_address, record.local_port, record.peer_port, interface_index};
}

// A filter of alternatives that each name one connection, by single ports or by ranges that hold no other one.
Filter naming(const std::vector<tcpinfo_record>& records, bool by_range) {
  std::string text;
  for (const auto& record : records) {
    const auto range = [by_range](const char* name, std::uint16_t port) {
      return by_range ? fmt::format("{} in {}..{}", name, port, port + 1) : fmt::format("{} == {}", name, port);
    };
    const auto prefix = [](const char* name, const tcpinfo_address& address) {
      return fmt::format("{} in {}/{}", name, tcpinfo::to_string(address),
                         tcpinfo_address_is_ipv4(&address) ? 32 : 128);
    };
    text += fmt::format("{}{} and {} and {} and {}", text.empty() ? "" : " or ",
                        prefix("local_address", record.local_address), range("local_port", record.local_port),
                        prefix("peer_address", record.peer_address), range("peer_port", record.peer_port));
  }
  return Filter::parse(text);
}

// But for clocks, which went on in between.
void expect_same(InetDiagSource& looking_up, InetDiagSource& walking) {
  const auto looked_up = dump(looking_up), dumped = dump(walking);
  ASSERT_EQ(cookies(looked_up), cookies(dumped));
  for (const auto& one : looked_up) {
    const auto* other = find(dumped, one.cookie);
    for (const auto& row : tcpinfo::fields()) {
      EXPECT_EQ(Record(one).has(row.field), Record(*other).has(row.field)) << row.name;
      const bool clock = row.field == Field::time_ns || row.field == Field::last_data_sent ||
                         row.field == Field::last_data_recv || row.field == Field::last_ack_recv;
      const auto bytes = [&](const tcpinfo_record& record) {
        return std::string(reinterpret_cast<const char*>(&record) + row.offset, row.size);
      };
      if (!clock)
        EXPECT_EQ(bytes(one), bytes(*other)) << row.name << " of " << tcpinfo::state_name(one.state);
      else
        EXPECT_LE(Record(one).number(row.field), Record(*other).number(row.field)) << row.name;
    }
  }
}

TEST_F(InetDiag, LookUpsGiveTheSameRecordsAsADump) {
  std::vector<lab::Socket> listeners;
  std::vector<lab::Pair> pairs;
  for (const auto ip : {Ip::kV4, Ip::kV6, Ip::kMapped}) {
    listeners.push_back(listener(ip));
    for (int i = 0; i < 2; ++i) pairs.push_back(pair(listeners.back(), ip));
    exchange(pairs.back());
  }
  // One end in TIME_WAIT, one in FIN_WAIT2 of a process that is still there, and the kernel's end of a half-open one.
  auto closed = pair(listeners[0], Ip::kV4), half_closed = pair(listeners[1], Ip::kV6);
  closed.client.close();
  closed.server.close();
  shutdown(half_closed.client.fd(), SHUT_WR);
  auto deferring = listener(Ip::kV4);
  deferring.set(IPPROTO_TCP, TCP_DEFER_ACCEPT, 30);
  const auto half_open = inside([&] {
    lab::Socket client(Ip::kV4);
    lab::connect(client, Ip::kV4, deferring.local_port());
    return client;
  });
  std::this_thread::sleep_for(300ms);  // delayed ACKs wait for 200 ms at most
  InetDiagOptions options;
  options.states = tcpinfo::kAllStates & ~tcpinfo::kListenState;
  const auto all = dump(*source(options));
  ASSERT_EQ(all.size(), 12u + 1 + 2 + 2);
  std::set<std::string_view> states;
  for (const auto& record : all) {
    states.insert(tcpinfo::state_name(record.state));
    options.connections.push_back(connection(record));
  }
  EXPECT_EQ(states, (std::set<std::string_view>{"ESTABLISHED", "TIME_WAIT", "FIN_WAIT2", "CLOSE_WAIT", "SYN_RECV"}));

  auto looking_up = source(options);
  options.connections.clear();
  expect_same(*looking_up, *source(options));

  // The same by a filter; the states and the namespace select as ever.
  const std::vector<tcpinfo_record> five(all.begin(), all.begin() + 5);
  options.filter = naming(five, false);
  looking_up = source(options);
  options.filter = naming(five, true);
  expect_same(*looking_up, *source(options));
  EXPECT_EQ(dump(*source(options)).size(), 5u);

  options.filter = {};
  for (const auto& record : all) options.connections.push_back(connection(record));
  for (const std::uint32_t state : {1u, 3u, 5u, 6u, 8u}) {
    options.states = 1u << state;
    std::size_t wanted = 0;
    for (const auto& record : dump(*source(options))) {
      EXPECT_EQ(record.state, state);
      ++wanted;
    }
    EXPECT_EQ(wanted, static_cast<std::size_t>(
                          std::count_if(all.begin(), all.end(), [&](const auto& r) { return r.state == state; })));
  }
  options.states = tcpinfo::kAllStates;
  EXPECT_TRUE(dump(*std::make_unique<InetDiagSource>(options)).empty()) << "found in another namespace";
  options.netns = netns_->path();
  EXPECT_EQ(dump(*std::make_unique<InetDiagSource>(options)).size(), all.size());
}

TEST_F(InetDiag, LookUpsComeInBatchesAndWhatIsNotThereIsLeftOut) {
  const auto listener = this->listener(Ip::kV4);
  std::vector<lab::Pair> pairs;
  for (int i = 0; i < 150; ++i) pairs.push_back(pair(listener, Ip::kV4));
  InetDiagOptions options;
  const auto all = dump(*source());
  ASSERT_EQ(all.size(), 300u);
  for (const auto& record : all) {
    options.connections.push_back(connection(record));
    // Nobody has this one; where no connection is found the kernel answers with the listener.
    auto nobody = connection(record);
    nobody.peer_port = 1;
    options.connections.push_back(nobody);
  }
  options.states |= tcpinfo::kListenState;
  auto source = this->source(options);
  for (std::uint32_t number = 0; number < 2; ++number) {
    const auto records = dump(*source);
    EXPECT_EQ(cookies(records), cookies(all));
    for (const auto& record : records) EXPECT_EQ(record.sequence, number);
  }
  pairs.resize(100);
  EXPECT_EQ(dump(*source).size(), 200u);

  // The filter selects among them, and so does the cgroup.
  options.filter = Filter::parse("peer_port == " + std::to_string(listener.local_port()));
  EXPECT_EQ(dump(*this->source(options)).size(), 100u);
  options.filter = {};
  const lab::Cgroup cgroup("tcpinfo-test");
  const auto in_cgroup = [&] {
    const lab::InCgroup in(cgroup);
    return this->pair(listener, Ip::kV4);
  }();
  const auto everything = dump(*this->source());
  options.connections.clear();
  for (const auto& record : everything) options.connections.push_back(connection(record));
  options.cgroup = cgroup.path();
  EXPECT_EQ(cookies(dump(*this->source(options))), Cookies{in_cgroup.client.cookie()});
}

TEST_F(InetDiag, ASocketThatIsBoundToAnInterfaceIsFoundByItsIndex) {
  lab::run_command({"ip", "-n", netns_->name(), "address", "add", "fe80::1/64", "dev", "lo", "nodad"});
  const auto listener4 = this->listener(Ip::kV4);
  const auto [bound, link_local] = inside([&] {
    lab::Socket v4(Ip::kV4), v6(Ip::kV6);
    lab::check(setsockopt(v4.fd(), SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), "SO_BINDTODEVICE");
    lab::connect(v4, Ip::kV4, listener4.local_port());
    lab::Socket listener6(Ip::kV6);
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_scope_id = 1;
    inet_pton(AF_INET6, "fe80::1", &address.sin6_addr);
    socklen_t length = sizeof(address);
    auto* const name = reinterpret_cast<sockaddr*>(&address);
    lab::check(::bind(listener6.fd(), name, length), "bind");
    lab::check(::listen(listener6.fd(), 1), "listen");
    lab::check(getsockname(listener6.fd(), name, &length), "getsockname");
    lab::check(::connect(v6.fd(), name, length), "connect");
    return std::make_pair(std::move(v4), std::make_pair(std::move(listener6), std::move(v6)));
  });
  const auto all = dump(*source());
  std::vector<tcpinfo_record> clients{*find(all, bound.cookie()), *find(all, link_local.second.cookie())};
  InetDiagOptions options;
  for (const auto& client : clients) options.connections.push_back(connection(client));
  EXPECT_TRUE(dump(*source(options)).empty());
  for (auto& one : options.connections) one.interface_index = 1;
  auto looking_up = source(options);
  options.connections.clear();
  options.filter = naming(clients, true);
  auto walking = source(options);
  expect_same(*looking_up, *walking);
  EXPECT_EQ(dump(*walking).size(), 2u);

  // A filter says nothing of interfaces: what its look-ups do not find is walked for, what they found comes once.
  clients.push_back(*find(all, [&] {
    for (const auto& record : all)
      if (record.local_port == listener4.local_port()) return std::uint64_t{record.cookie};
    return std::uint64_t{0};
  }()));
  options.filter = naming(clients, false);
  auto source = this->source(options);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(cookies(dump(*source)), cookies(clients));
}

TEST_F(InetDiag, SaysWhatItCanDo) {
  auto source = this->source();
  std::map<std::string, tcpinfo::Capability> found;
  for (const auto& capability : source->capabilities()) found[capability.name] = capability;
  ASSERT_EQ(found.size(), 4u);
  EXPECT_TRUE(found.at("exact_lookups").available);
  EXPECT_TRUE(found.at("tcp_info").available);
  lab::Socket socket(Ip::kV4);
  EXPECT_THAT(found.at("tcp_info").detail, testing::HasSubstr(std::to_string(raw_info(socket).size()) + " bytes"));
  EXPECT_TRUE(found.at("cgroup_filter").available);
  EXPECT_TRUE(found.at("congestion_control_state").available);
  EXPECT_THAT(found.at("congestion_control_state").detail, testing::HasSubstr("bbr"));
}

TEST_F(InetDiag, NeedsNoPrivilegeButForOtherNamespaces) {
  const lab::Cgroup cgroup("tcpinfo-test");
  const lab::Netns other("tcpinfo-test");
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
      lab::drop_capabilities();
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
      options.netns = netns_->path();  // where this thread is already
      EXPECT_EQ(dump(*std::make_unique<InetDiagSource>(options)).size(), 4u);
      options.netns = other.path();
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

}  // namespace
