// SPDX-License-Identifier: BSD-2-Clause
// Each step of the set-up of the sources that load BPF programs fails in turn: the error says which, and nothing stays
// behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

#include "collector.hpp"
#include "lab/attached.hpp"
#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "placed_test.hpp"
#include "requirements.hpp"
#include "system.hpp"

namespace {

// Nothing is pinned: programs, maps and links live by this process's descriptors. What is attached to the cgroup is
// asked for too.
struct Left {
  std::size_t descriptors;
  __u32 attached, creators;
  bool operator==(const Left&) const = default;
};

Left count(const lab::Cgroup& cgroup) {
  return {static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {})),
          lab::count_attached(cgroup.path()), lab::count_attached(cgroup.path(), BPF_CGROUP_INET_SOCK_CREATE)};
}

std::string_view failing_step;

struct Case {
  const char* name;
  std::unique_ptr<tcpinfo::Source> (*open)(const lab::Cgroup& cgroup);
  std::vector<std::string> steps;
};

const Case kCases[] = {
    {"sockops",
     [](const lab::Cgroup& cgroup) -> std::unique_ptr<tcpinfo::Source> {
       tcpinfo::SockopsOptions options;
       options.cgroup = cgroup.path();
       options.owners = true;
       return std::make_unique<tcpinfo::SockopsSource>(options);
     },
     {"open skeleton", "load", "map ring", "map ring data", "create ring", "give rings to CPUs", "attach sweep",
      "open cgroup", "attach sock_create", "attach sock_ops"}},
    {"iter",
     [](const lab::Cgroup&) -> std::unique_ptr<tcpinfo::Source> {
       return std::make_unique<tcpinfo::IterSource>(tcpinfo::IterOptions{});
     },
     {"open own network namespace", "open skeleton", "load", "attach iterator", "open iterator"}},
};

class BpfFault : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { TCPINFO_NEEDS_BPF(); }
};
INSTANTIATE_TEST_SUITE_P(All, BpfFault, testing::ValuesIn(kCases),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_P(BpfFault, AFailureAtAnyStepLeavesNothingAttached) {
  const lab::Cgroup cgroup("tcpinfo-test");
  const auto before = count(cgroup);
  tcpinfo::sys::fault_hook = [](std::string_view step) noexcept { return step == failing_step ? ENOMEM : 0; };
  for (const auto& step : GetParam().steps) {
    failing_step = step;
    try {
      GetParam().open(cgroup);
      ADD_FAILURE() << step << ": no error";
    } catch (const tcpinfo::Error& error) {
      EXPECT_EQ(error.code(), std::errc::not_enough_memory) << step;
      EXPECT_THAT(error.what(), testing::HasSubstr("Cannot allocate memory")) << step;
    }
    EXPECT_EQ(count(cgroup), before) << step;
  }
  tcpinfo::sys::fault_hook = nullptr;
  {
    const auto source = GetParam().open(cgroup);
    EXPECT_FALSE(count(cgroup) == before);
  }
  EXPECT_EQ(count(cgroup), before) << "an orderly end";
}

// Kernels may refuse programs over the elements of a map, which a sweep runs where it can.
class SweepFault : public lab::PlacedTest {
 protected:
  static std::unique_ptr<tcpinfo::SockopsSource> open(const tcpinfo::SockopsOptions& options) {
    tcpinfo::sys::fault_hook = [](std::string_view step) noexcept {
      return step == "iterate over socket storage" ? EPERM : 0;
    };
    auto source = std::make_unique<tcpinfo::SockopsSource>(options);
    tcpinfo::sys::fault_hook = nullptr;
    return source;
  }
  static std::size_t swept(const lab::Collector& collected, std::uint64_t cookie) {
    return static_cast<std::size_t>(
        std::ranges::count_if(collected.of(cookie, tcpinfo::Event::kSample),
                              [](const auto& record) { return record.swept().value_or(0) == 1; }));
  }
  static tcpinfo::Capability sweep_of(const tcpinfo::Source& source) {
    const auto all = source.capabilities();
    return *std::ranges::find(all, "sweep", &tcpinfo::Capability::name);
  }
  tcpinfo::SockopsOptions options() const {
    tcpinfo::SockopsOptions chosen;
    chosen.cgroup = cgroup.path();
    chosen.interval = std::chrono::milliseconds(20);
    chosen.latency = std::chrono::milliseconds(5);
    return chosen;
  }
};

TEST_F(SweepFault, WithoutItsIteratorPassesSampleEveryoneAlsoInOtherNamespaces) {
  const lab::Netns elsewhere("tcpinfo-test");
  const lab::InCgroup in(cgroup);
  const lab::Resident resident(elsewhere);
  std::thread([&] {  // whose privileges end with it
    const auto source = open(options());
    const auto pair = lab::connected(lab::listen(lab::Ip::kV6), lab::Ip::kV6);
    lab::Pair their_pair;
    elsewhere.run([&] { their_pair = lab::connected(lab::listen(lab::Ip::kV4), lab::Ip::kV4); });
    const auto their_client = their_pair.client.cookie();
    lab::Collector collected(*source);
    EXPECT_TRUE(collected.until([&] {
      return swept(collected, pair.client.cookie()) > 2 && swept(collected, pair.server.cookie()) > 2 &&
             swept(collected, their_client) > 2;
    }));
    EXPECT_TRUE(sweep_of(*source).available) << sweep_of(*source).detail;
    EXPECT_THAT(sweep_of(*source).detail, testing::HasSubstr("iter/tcp"));

    tcpinfo::Privileges::drop({});
    EXPECT_TRUE(collected.until([&] { return !sweep_of(*source).available; })) << "after privileges were dropped";
    EXPECT_THAT(sweep_of(*source).detail,
                testing::HasSubstr("1 of the cgroup's could not be entered: needs CAP_SYS_ADMIN"));
    const auto ours = swept(collected, pair.server.cookie()), theirs = swept(collected, their_client);
    EXPECT_TRUE(collected.until([&] { return swept(collected, pair.server.cookie()) > ours + 2; }));
    EXPECT_EQ(swept(collected, their_client), theirs);

    const auto statistics = source->statistics();
    EXPECT_EQ(statistics.emitted, statistics.delivered);
  })
      .join();
}

TEST_F(SweepFault, WithoutItsIteratorAPassWaitsForRoomInTheRing) {
  inside([&] {
    auto chosen = options();
    chosen.ring_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const auto source = open(chosen);
    std::vector<lab::Pair> pairs;
    for (int i = 0; i < 50; ++i) pairs.push_back(lab::connected(lab::listen(lab::Ip::kV4), lab::Ip::kV4));
    lab::Collector collected(*source);
    collected.during(std::chrono::milliseconds(50));
    const auto before = source->statistics();
    EXPECT_TRUE(collected.until([&] {
      return std::ranges::all_of(pairs, [&](const lab::Pair& pair) {
        return swept(collected, pair.client.cookie()) >= 3 && swept(collected, pair.server.cookie()) >= 3;
      });
    })) << "sweeps pass somebody over";
    // Where a machine stalls each takes part in every other one; one that ended at a full ring would come to four.
    EXPECT_LT(source->statistics().sweeps, before.sweeps + 20);
    EXPECT_EQ(source->statistics().lost_ring, before.lost_ring);
  });
}

TEST(KernelStatisticsFault, SaysWhatIsMissing) {
  int on_for_all = 0;
  std::ifstream("/proc/sys/kernel/bpf_stats_enabled") >> on_for_all;
  if (on_for_all) GTEST_SKIP() << "needs kernel.bpf_stats_enabled=0";
  const auto descriptors = [] { return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}); };
  const auto before = descriptors();
  for (const auto& [error, way_out] : {std::pair(std::errc::operation_not_permitted, "needs CAP_SYS_ADMIN"),
                                       std::pair(std::errc::invalid_argument, "needs a kernel from 5.8")}) {
    static int failing_with;
    failing_with = static_cast<int>(error);
    tcpinfo::sys::fault_hook = [](std::string_view step) noexcept {
      return step == "enable statistics" ? failing_with : 0;
    };
    try {
      const tcpinfo::KernelStatistics statistics;
      ADD_FAILURE() << "no error";
    } catch (const tcpinfo::Error& thrown) {
      EXPECT_EQ(thrown.code(), error);
      EXPECT_THAT(thrown.what(), testing::HasSubstr(way_out));
    }
  }
  tcpinfo::sys::fault_hook = nullptr;
  {
    tcpinfo::KernelStatistics first, second;
    EXPECT_EQ(descriptors(), before + 2);
    const tcpinfo::KernelStatistics moved = std::move(first);
    second = tcpinfo::KernelStatistics();
    EXPECT_EQ(descriptors(), before + 2);
  }
  EXPECT_EQ(descriptors(), before);
}

TEST(PrivilegesFault, WhatFailsChangesNothing) {
  const auto before = tcpinfo::Privileges::effective();
  const auto error_of = [](auto&& call) -> std::string {
    tcpinfo::sys::fault_hook = [](std::string_view) noexcept { return EPERM; };
    std::string text;
    try {
      call();
    } catch (const tcpinfo::Error& error) {
      EXPECT_EQ(error.code(), std::errc::operation_not_permitted);
      text = error.what();
    }
    tcpinfo::sys::fault_hook = nullptr;
    return text;
  };
  EXPECT_THAT(error_of([] { tcpinfo::Privileges::drop({}); }), testing::HasSubstr("drop capabilities"));
  EXPECT_THAT(error_of([] { tcpinfo::forbid_new_privileges(); }), testing::HasSubstr("forbid new privileges"));
  EXPECT_EQ(tcpinfo::Privileges::effective(), before);
  EXPECT_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
}

TEST(IterFault, AReadThatFailsEndsThePassAndTheNextOneIsWhole) {
  TCPINFO_NEEDS_BPF();
  tcpinfo::IterSource source({});
  const auto pass = [&] { return source.tick(*source.next_deadline()); };
  EXPECT_FALSE(pass());
  tcpinfo::sys::fault_hook = [](std::string_view step) noexcept { return step == "read iterator" ? EIO : 0; };
  EXPECT_EQ(source.drain([](const tcpinfo::Record&) {}).error, std::errc::io_error);
  tcpinfo::sys::fault_hook = nullptr;
  EXPECT_EQ(source.statistics().dumps_interrupted, 1u);
  EXPECT_FALSE(source.drain([](const tcpinfo::Record&) { FAIL(); }).error);
  EXPECT_FALSE(pass());
  EXPECT_FALSE(source.drain([](const tcpinfo::Record&) {}).error);
  EXPECT_EQ(source.statistics().dumps, 2u);
  EXPECT_EQ(source.statistics().dumps_interrupted, 1u);
}

}  // namespace
