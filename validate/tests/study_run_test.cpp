// SPDX-License-Identifier: BSD-2-Clause
// A short study on this kernel: what must hold whatever the machine does meanwhile.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include <tcpinfo/cgroup.hpp>

#include "lab/tun_device.hpp"
#include "requirements.hpp"
#include "study.hpp"

namespace {

using namespace std::chrono_literals;

TEST(StudyRun, NoSamplerSeesMoreThanAllTogether) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TCPINFO_NEEDS_BPF();
  if (!lab::tun_available()) GTEST_SKIP() << "needs /dev/net/tun (CONFIG_TUN; try modprobe tun)";
  const auto cgroup = tcpinfo::own_cgroup();
  validation::StudyOptions options;
  options.duration = 3s;
  options.congestion = "reno";
  options.link.there.loss = 0.02;
  const auto result = validation::run_study(options);
  SCOPED_TRACE(to_table(result));
  EXPECT_EQ(tcpinfo::own_cgroup(), cgroup) << "back where it was";
  ASSERT_EQ(result.samplers.size(), options.sockops.size() + 1 + options.inet_diag.size());

  const auto& all = result.reference;
  EXPECT_GE(result.duration_s, 3);
  EXPECT_GE(result.rtt_us, 20'000u);
  ASSERT_GT(result.retransmissions, 0u) << "2 % are lost";
  EXPECT_GE(all.bursts, 1u);
  EXPECT_LE(all.bursts, result.retransmissions);
  ASSERT_GE(result.short_flows, 1u);
  EXPECT_GE(result.short_flow_ms, 40) << "a round trip for the handshake, and one for the data";
  EXPECT_GE(all.rtt_least_us, 20'000u);
  EXPECT_EQ(all.short_flows, result.short_flows);
  std::uint64_t records = 0;
  for (const auto& sampler : result.samplers) {
    SCOPED_TRACE(sampler.source + " " + std::to_string(sampler.interval_ns));
    const auto& seen = sampler.seen;
    records += seen.records;
    EXPECT_LE(seen.bulk_records, seen.records);
    EXPECT_LE(seen.nothing_new, seen.records);
    EXPECT_LE(seen.bursts, all.bursts);
    EXPECT_LE(seen.short_flows, all.short_flows);
    EXPECT_LE(seen.short_flows_complete, seen.short_flows);
    // A sampler that saw none compares as less than all.
    if (seen.rtt_least_us) {
      EXPECT_GE(seen.rtt_least_us, all.rtt_least_us);
      EXPECT_LE(seen.rtt_greatest_us, all.rtt_greatest_us);
    }
    if (seen.cwnd_least) {
      EXPECT_GE(seen.cwnd_least, all.cwnd_least);
      EXPECT_LE(seen.cwnd_greatest, all.cwnd_greatest);
    }
    if (sampler.source == "sockops" && sampler.lost == 0) {
      EXPECT_EQ(seen.short_flows, result.short_flows) << "each has a record when it begins and when it ends";
    }
    if (sampler.source == "inet_diag" && sampler.interval_ns == 1'000'000'000) {
      EXPECT_LE(seen.bulk_records, static_cast<std::uint64_t>(result.duration_s) + 20) << "a second apart";
    }
  }
  EXPECT_EQ(records, all.records);
}

}  // namespace
