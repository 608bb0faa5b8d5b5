// SPDX-License-Identifier: BSD-2-Clause
#include "tcpinfo_units.h"

#include <cstdint>

#include <gtest/gtest.h>

namespace {

// kernel v6.18 include/linux/jiffies.h INITIAL_JIFFIES: the lower 32 bits wrap 5 minutes after boot, so that who does
// not care for the wrap finds out early.
constexpr std::uint64_t initial_jiffies(std::uint32_t hz) { return static_cast<std::uint32_t>(0U - 300U * hz); }

constexpr std::uint32_t kHz[] = {100, 250, 300, 1000};

TEST(JiffiesToUs, WholeJiffies) {
  EXPECT_EQ(tcpinfo_jiffies_to_us(20, 100), 200000U);
  EXPECT_EQ(tcpinfo_jiffies_to_us(51, 250), 204000U);
  EXPECT_EQ(tcpinfo_jiffies_to_us(204, 1000), 204000U);
  for (const auto hz : kHz) EXPECT_EQ(tcpinfo_jiffies_to_us(0, hz), 0U);
}

TEST(JiffiesToUs, IsRoundedDownWhereHzDoesNotDivideAMillion) {
  EXPECT_EQ(tcpinfo_jiffies_to_us(1, 300), 3333U);
  EXPECT_EQ(tcpinfo_jiffies_to_us(2, 300), 6666U);
  EXPECT_EQ(tcpinfo_jiffies_to_us(3, 300), 10000U);
  EXPECT_EQ(tcpinfo_jiffies_to_us(60, 300), 200000U);
}

// The longest timeout, TCP_RTO_MAX of 120 s, and far beyond: the product does not fit in 32 bits.
TEST(JiffiesToUs, ProductIsTakenInSixtyFourBits) {
  for (const auto hz : kHz) EXPECT_EQ(tcpinfo_jiffies_to_us(120 * hz, hz), 120000000U) << hz;
  for (const auto hz : kHz) EXPECT_EQ(tcpinfo_jiffies_to_us(4294 * hz, hz), 4294000000U) << hz;
}

TEST(JiffiesToMs, WholeJiffies) {
  EXPECT_EQ(tcpinfo_jiffies_to_ms(7, 100), 70U);
  EXPECT_EQ(tcpinfo_jiffies_to_ms(7, 250), 28U);
  EXPECT_EQ(tcpinfo_jiffies_to_ms(7, 1000), 7U);
  for (const auto hz : kHz) {
    EXPECT_EQ(tcpinfo_jiffies_to_ms(0, hz), 0U) << hz;
    EXPECT_EQ(tcpinfo_jiffies_to_ms(hz, hz), 1000U) << hz;
    EXPECT_EQ(tcpinfo_jiffies_to_ms(86400 * hz, hz), 86400000U) << hz;
  }
}

TEST(JiffiesToMs, IsRoundedUpWhereHzDoesNotDivideAThousand) {
  EXPECT_EQ(tcpinfo_jiffies_to_ms(1, 300), 4U);
  EXPECT_EQ(tcpinfo_jiffies_to_ms(2, 300), 7U);
  EXPECT_EQ(tcpinfo_jiffies_to_ms(3, 300), 10U);
}

// kernel v6.18 kernel/time/time.c jiffies_to_msecs() returns unsigned int: what does not fit wraps.
TEST(JiffiesToMs, WrapsAsTheKernelDoes) {
  EXPECT_EQ(tcpinfo_jiffies_to_ms(0xffffffff, 1000), 0xffffffffU);
  EXPECT_EQ(tcpinfo_jiffies_to_ms(0xffffffff, 250), 0xfffffffcU);
  EXPECT_EQ(tcpinfo_jiffies_to_ms(0x40000001, 250), 4U);
}

TEST(MsToJiffies, IsRoundedUp) {
  EXPECT_EQ(tcpinfo_ms_to_jiffies(30, 100), 3U);
  EXPECT_EQ(tcpinfo_ms_to_jiffies(30, 250), 8U);
  EXPECT_EQ(tcpinfo_ms_to_jiffies(12, 250), 3U);
  EXPECT_EQ(tcpinfo_ms_to_jiffies(1, 300), 1U);
  EXPECT_EQ(tcpinfo_ms_to_jiffies(30, 1000), 30U);
  for (const auto hz : kHz) EXPECT_EQ(tcpinfo_ms_to_jiffies(0, hz), 0U) << hz;
}

TEST(JiffiesSince, IsRightAcrossTheWrap) {
  EXPECT_EQ(tcpinfo_jiffies_since(105, 100), 5U);
  EXPECT_EQ(tcpinfo_jiffies_since(100, 100), 0U);
  EXPECT_EQ(tcpinfo_jiffies_since(0x10, 0xfffffff0), 0x20U);
  EXPECT_EQ(tcpinfo_jiffies_since(0, 0xffffffff), 1U);
}

// A machine that is up 10 minutes, data sent 2 s ago. The kernel keeps the stamp in 32 bits.
TEST(JiffiesSince, DoesNotShareThePeersDefectOfSixtyFourBits) {
  for (const auto hz : kHz) {
    const std::uint64_t now = initial_jiffies(hz) + 600 * hz;
    const auto stamp = static_cast<std::uint32_t>(now - 2 * hz);
    ASSERT_GT(now, std::uint64_t{UINT32_MAX}) << hz << ": the lower half has wrapped";

    const std::uint64_t peers = now - stamp;
    EXPECT_EQ(peers, (std::uint64_t{1} << 32) + 2 * hz) << hz;
    EXPECT_GT(peers / hz, std::uint64_t{49 * 86400}) << hz << ": weeks of idling that never were";

    const auto ours = tcpinfo_jiffies_since(static_cast<std::uint32_t>(now), stamp);
    EXPECT_EQ(ours, 2 * hz) << hz;
    EXPECT_EQ(tcpinfo_jiffies_to_ms(ours, hz), 2000U) << hz;
  }
}

TEST(JiffiesSince, StampBeforeTheWrapAndNowAfterIt) {
  for (const auto hz : kHz) {
    const std::uint64_t now = initial_jiffies(hz) + 301 * hz;
    const auto stamp = static_cast<std::uint32_t>(now - 3 * hz);
    ASSERT_LT(static_cast<std::uint32_t>(now), stamp) << hz;
    EXPECT_EQ(tcpinfo_jiffies_to_ms(tcpinfo_jiffies_since(static_cast<std::uint32_t>(now), stamp), hz), 3000U) << hz;
  }
}

TEST(ChronoUs, IsWholeMicrosecondsAJiffy) {
  EXPECT_EQ(tcpinfo_chrono_us(3, 100), 30000U);
  EXPECT_EQ(tcpinfo_chrono_us(3, 250), 12000U);
  EXPECT_EQ(tcpinfo_chrono_us(3, 300), 9999U);
  EXPECT_EQ(tcpinfo_chrono_us(3, 1000), 3000U);
}

TEST(ChronoUs, IsNotCutToThirtyTwoBits) {
  EXPECT_EQ(tcpinfo_chrono_us(0xffffffff, 250), 17179869180000U);
  EXPECT_EQ(tcpinfo_chrono_us(0xffffffff, 1000), 4294967295000U);
}

}  // namespace
