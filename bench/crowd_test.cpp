// SPDX-License-Identifier: BSD-2-Clause
#include "crowd.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include <tcpinfo/error.hpp>
#include <tcpinfo/iter.hpp>

#include "tests/requirements.hpp"
#include "tests/sources.hpp"

namespace {

using namespace std::chrono_literals;

lab::Records read_all(const lab::Netns& netns) {
  tcpinfo::IterOptions options;
  options.netns = netns.path();
  options.states = tcpinfo::kAllStates;
  tcpinfo::IterSource source(options);
  return lab::snapshot(source);
}

class CrowdOfSockets : public testing::Test {
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    TCPINFO_NEEDS_BPF();
  }

 protected:
  lab::Netns netns_{"crowd-test"};
};

TEST_F(CrowdOfSockets, StandsStillAndIsGoneAfterwards) {
  const lab::Cgroup cgroup("crowd-test");
  {
    const bench::Crowd crowd({.sockets = 2000, .netns = &netns_, .cgroup = &cgroup});
    EXPECT_EQ(crowd.size(), 2000u);
    std::set<std::uint64_t> cookies;
    for (const auto& record : read_all(netns_)) {
      EXPECT_EQ(tcpinfo::state_name(record.state), "ESTABLISHED");
      EXPECT_NE(record.cgroup_id, 0u);
      cookies.insert(record.cookie);
    }
    EXPECT_EQ(cookies.size(), 2000u);
    // The sockets were made inside the cgroup.
    tcpinfo::IterOptions options;
    options.netns = netns_.path();
    options.cgroup = cgroup.path();
    tcpinfo::IterSource source(options);
    EXPECT_EQ(lab::snapshot(source).size(), 2000u);
  }
  EXPECT_EQ(read_all(netns_).size(), 0u);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
}

TEST_F(CrowdOfSockets, MoreThanOneProcessHolds) {
  const bench::Crowd crowd({.sockets = 24'002, .netns = &netns_});
  EXPECT_EQ(read_all(netns_).size(), 24'002u);
}

TEST_F(CrowdOfSockets, EndsWithTheProcessThatMadeIt) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t maker = ::fork();
  if (maker == 0) {
    const bench::Crowd crowd({.sockets = 200, .netns = &netns_});
    [[maybe_unused]] const auto written = ::write(ends[1], "x", 1);
    ::pause();
    ::_exit(0);
  }
  ::close(ends[1]);
  char byte;
  EXPECT_EQ(::read(ends[0], &byte, 1), 1);
  ::close(ends[0]);
  EXPECT_EQ(read_all(netns_).size(), 200u);
  ::kill(maker, SIGKILL);
  ::waitpid(maker, nullptr, 0);
  std::optional<std::size_t> left;
  for (const auto end = std::chrono::steady_clock::now() + 10s; left != 0 && std::chrono::steady_clock::now() < end;) {
    std::this_thread::sleep_for(10ms);
    left = read_all(netns_).size();
  }
  EXPECT_EQ(left, 0u);
}

TEST_F(CrowdOfSockets, WhatCannotBeMadeLeavesNothing) {
  netns_.run([] { std::ofstream("/proc/sys/net/ipv4/ip_local_port_range") << "40000 40003"; });
  try {
    const bench::Crowd crowd({.sockets = 20, .netns = &netns_});
    ADD_FAILURE() << "it was made";
  } catch (const tcpinfo::Error& error) {
    EXPECT_EQ(error.code().value(), EADDRNOTAVAIL) << error.what();
  }
  EXPECT_EQ(read_all(netns_).size(), 0u);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
}

}  // namespace
