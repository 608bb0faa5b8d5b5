// SPDX-License-Identifier: BSD-2-Clause
#include "sampling.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gnuplot.hpp"

namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr std::uint64_t kMs = 1'000'000;

validation::StudyResult study() {
  validation::StudyResult result;
  result.duration_s = 10;
  result.short_flows = 40;
  result.reference = {.records = 100,
                      .bulk_records = 100,
                      .rtt_least_us = 20'000,
                      .rtt_greatest_us = 40'000,
                      .cwnd_least = 10,
                      .cwnd_greatest = 60,
                      .bursts = 8};
  validation::Seen seen{.records = 50,
                        .bulk_records = 400,
                        .nothing_new = 10,
                        .rtt_least_us = 25'000,
                        .rtt_greatest_us = 30'000,
                        .bursts = 2,
                        .short_flows = 30};
  result.samplers = {{.source = "sockops", .interval_ns = 0, .seen = seen},
                     {.source = "inet_diag", .interval_ns = 1000 * kMs, .seen = seen},
                     {.source = "inet_diag", .interval_ns = 10 * kMs, .seen = seen}};
  return result;
}

TEST(Sampling, EachPanelHasTheSharesOfWhatThereWasToSee) {
  const auto script = plot::study_script(study(), plot::StudyImage::kPng);
  // Of 8 bursts; by interval, whatever the order of the samplers.
  EXPECT_THAT(script, HasSubstr("$inet_diag0 << END\n10.0000 25.0000\n1000.0000 25.0000\nEND\n"));
  EXPECT_THAT(script, HasSubstr("$rtt0 << END\n25.0000 25.0000\nEND\n")) << "400 records in 10 s";
  EXPECT_THAT(script, HasSubstr("$rtt1 << END\n25.0000 25.0000\nEND\n")) << "5 of 20 ms";
  EXPECT_THAT(script, HasSubstr("$rtt2 << END\n25.0000 75.0000\nEND\n")) << "30 of 40 flows";
  EXPECT_THAT(script, HasSubstr("$rtt3 << END\n25.0000 0.0000\nEND\n")) << "it saw no window";
  EXPECT_THAT(script, HasSubstr("$rtt5 << END\n25.0000 80.0000\nEND\n")) << "40 of 50 records";
  EXPECT_THAT(script, HasSubstr("sockops, every RTT"));
  EXPECT_THAT(script, Not(HasSubstr("sockops, transitions"))) << "there is none";
}

TEST(Sampling, WithoutSamplersThePanelsStayEmpty) {
  const auto script = plot::study_script({}, plot::StudyImage::kPdf);
  EXPECT_THAT(script, HasSubstr("plot NaN"));
  EXPECT_THAT(script, Not(HasSubstr("<< END")));
}

TEST(Sampling, GnuplotDrawsEachKindOfImage) {
  if (!plot::gnuplot_exists()) GTEST_SKIP() << "needs gnuplot (apt-get install gnuplot-nox)";
  for (const auto& result : {study(), validation::StudyResult{}}) {
    const auto figures = plot::draw_study(result);
    ASSERT_EQ(figures.size(), 3u);
    EXPECT_EQ(figures[0].name, "sampling.png");
    EXPECT_THAT(figures[0].bytes, StartsWith("\x89PNG"));
    EXPECT_EQ(figures[1].name, "sampling.svg");
    EXPECT_THAT(figures[1].bytes, HasSubstr("<svg"));
    EXPECT_EQ(figures[2].name, "sampling.pdf");
    EXPECT_THAT(figures[2].bytes, StartsWith("%PDF"));
  }
}

}  // namespace
