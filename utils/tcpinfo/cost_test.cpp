// SPDX-License-Identifier: BSD-2-Clause
#include "cost.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <string>

#include "units.hpp"

namespace cli {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

CostReading before() {
  CostReading reading;
  reading.time = std::chrono::steady_clock::time_point(100s);
  reading.kernel.programs = {
      {.name = "tcpinfo_sockops", .id = 7, .runs = 1000, .run_time_ns = 500'000},
      {.name = "tcpinfo_sweep", .id = 8, .runs = 10, .run_time_ns = 10'000, .in_own_process = true}};
  reading.kernel.maps = {{.name = "records", .id = 1, .bytes = 4 << 20},
                         {.name = "storage", .id = 2, .bytes = 1 << 20, .element_bytes = 96}};
  reading.process = {.user = 1s, .system = 2s, .wakeups = 50, .resident_bytes = 1 << 20};
  reading.records = 300;
  reading.lost = 3;
  return reading;
}

// Two seconds later: 0.5 % of a core in callbacks, 0.1 % in sweeps, 1 % and 0.5 % in the process.
CostReading after() {
  CostReading reading = before();
  reading.time += 2s;
  reading.kernel.programs[0].runs += 100'000;
  reading.kernel.programs[0].run_time_ns += 10'000'000;
  reading.kernel.programs[1].runs += 40;
  reading.kernel.programs[1].run_time_ns += 2'000'000;
  reading.process = {.user = 1s + 20ms, .system = 2s + 10ms, .wakeups = 90, .resident_bytes = 9 << 20};
  reading.records += 800;
  reading.lost += 1;
  return reading;
}

TEST(CostLine, IsOfTheTimeBetween) {
  EXPECT_EQ(cost_line(before(), after()),
            "tcpinfo: cost: sockops 50.0k/s x 100ns = 0.500%; sweep 20.0/s x 50.0us = 0.100%; process 1.50%, "
            "20.0 wake-ups/s; 400 records/s, 1 lost; 5.00MiB in the kernel, 9.00MiB resident");
}

TEST(CostLine, OfASourceWithoutProgramsIsOfTheProcessAlone) {
  auto from = before(), to = after();
  from.kernel = to.kernel = {};
  EXPECT_EQ(cost_line(from, to),
            "tcpinfo: cost: process 1.50%, 20.0 wake-ups/s; 400 records/s, 1 lost; 9.00MiB resident");
  EXPECT_THAT(cost_table(from, to), Not(HasSubstr("program")));
}

TEST(CostLine, OfNothing) {
  auto to = before();
  EXPECT_THAT(cost_line(before(), to), HasSubstr("sockops 0/s x - = 0.000%;")) << "no time went by";
  to.time += 1s;
  EXPECT_THAT(cost_line(before(), to), HasSubstr("sockops 0/s x - = 0.000%;"));
  to.kernel.programs[0].runs += 1;
  to.kernel.programs[0].run_time_ns += 600;
  EXPECT_THAT(cost_line(before(), to), HasSubstr("sockops 1.00/s x 600ns = <0.001%;"));
}

TEST(CostTable, CountsInWholeAndTheSweepOnce) {
  EXPECT_EQ(cost_table(before(), after()),
            "tcpinfo: cost over 2.0 s, in % of one core\n"
            "  program                  runs    runs/s     a run      core\n"
            "  tcpinfo_sockops        100000     50.0k     100ns    0.500%\n"
            "  tcpinfo_sweep              40      20.0    50.0us    0.100%  of it in this process's system time\n"
            "  this process     1.50% (user 1.00%, system 0.500%), 20.0 wake-ups/s\n"
            "  in all           2.00%\n"
            "  records          800 (400/s), 1 lost\n"
            "  memory           9.00MiB resident, 5.00MiB in the kernel, and 96B a connection there\n");
}

TEST(CostJson, HasTheDifferencesAndTheMemory) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
  writer.StartObject();
  put_cost(writer, before(), after());
  writer.EndObject();
  rapidjson::Document document;
  document.Parse(buffer.GetString());
  ASSERT_FALSE(document.HasParseError()) << buffer.GetString();
  const auto& cost = document["cost"];
  EXPECT_EQ(cost["time_ns"].GetUint64(), 2'000'000'000u);
  ASSERT_EQ(cost["programs"].Size(), 2u);
  EXPECT_STREQ(cost["programs"][0]["name"].GetString(), "tcpinfo_sockops");
  EXPECT_EQ(cost["programs"][0]["id"].GetUint64(), 7u);
  EXPECT_EQ(cost["programs"][0]["runs"].GetUint64(), 100'000u);
  EXPECT_EQ(cost["programs"][0]["run_time_ns"].GetUint64(), 10'000'000u);
  EXPECT_FALSE(cost["programs"][0]["in_own_process"].GetBool());
  EXPECT_TRUE(cost["programs"][1]["in_own_process"].GetBool());
  EXPECT_EQ(cost["maps"][1]["bytes"].GetUint64(), 1u << 20);
  EXPECT_EQ(cost["maps"][1]["element_bytes"].GetUint64(), 96u);
  EXPECT_EQ(cost["process"]["user_ns"].GetUint64(), 20'000'000u);
  EXPECT_EQ(cost["process"]["system_ns"].GetUint64(), 10'000'000u);
  EXPECT_EQ(cost["process"]["wakeups"].GetUint64(), 40u);
  EXPECT_EQ(cost["process"]["resident_bytes"].GetUint64(), 9u << 20);
  EXPECT_EQ(cost["records"].GetUint64(), 800u);
  EXPECT_EQ(cost["lost"].GetUint64(), 1u);
}

TEST(Units, HaveThreeDigits) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(7.25), "7.25");
  EXPECT_EQ(human_count(999.4), "999");
  EXPECT_EQ(human_count(999.6), "1.00k");
  EXPECT_EQ(human_count(12'345), "12.3k");
  EXPECT_EQ(human_count(2.5e13), "25.0T");
  EXPECT_EQ(human_nanoseconds(0.5), "0.50ns");
  EXPECT_EQ(human_nanoseconds(61.23), "61.2ns");
  EXPECT_EQ(human_nanoseconds(1500), "1.50us");
  EXPECT_EQ(human_nanoseconds(2.5e12), "2500s");
  EXPECT_EQ(human_bytes(96), "96B");
  EXPECT_EQ(human_bytes(1023), "1.00KiB");
  EXPECT_EQ(human_bytes(4 << 20), "4.00MiB");
  EXPECT_EQ(human_rate(125'000'000), "1.00Gb/s");
  EXPECT_EQ(human_rate(124), "992b/s");
}

}  // namespace
}  // namespace cli
