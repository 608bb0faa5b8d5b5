// SPDX-License-Identifier: BSD-2-Clause
// The inet_diag source on real sockets of the real kernel, each test in a network namespace of its own.
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <poll.h>
#include <sys/stat.h>

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
#include "privileges.hpp"
#include "sockets.hpp"
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
