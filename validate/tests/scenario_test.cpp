// SPDX-License-Identifier: BSD-2-Clause
#include "scenario.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <tcpinfo/error.hpp>

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using validation::Scenario;

std::vector<Scenario> parse(const std::string& toml, const std::vector<validation::Setting>& settings = {}) {
  return validation::parse_scenarios(toml, "dir/mine.toml", settings);
}

Scenario one(const std::string& toml, const std::vector<validation::Setting>& settings = {}) {
  const auto all = parse(toml, settings);
  EXPECT_EQ(all.size(), 1u);
  return all.front();
}

std::vector<std::string> names(const std::vector<Scenario>& scenarios) {
  std::vector<std::string> result;
  for (const auto& scenario : scenarios) result.push_back(scenario.name);
  return result;
}

constexpr const char* kBegin = "description = \"x\"\n";

TEST(Scenario, HasWhatTheFileSays) {
  const auto s = one(R"(
description = "All of it"

[iperf3]
family = "ipv6"
flow = "bidirectional"
congestion = "reno"
parallel = 3
runs = 2
duration = "7s"
omit = "1s"
interval = "500ms"
bytes = "200kB"
bitrate = "1.5Mbit/s"
burst = 4
length = "64KiB"
window = "1MB"
mss = 1000
mptcp = true

[link]
engine = "emulator"
mtu = 9000
rate = "10Mbit/s"
delay = "10ms"

[link.back]
rate = "500 kbit/s"
loss = "0.5%"
jitter = "1ms"
reordering = "2%"
queue = "20kB"
ecn_mark = "10kB"

[sysctl.server]
"net.ipv4.tcp_ecn" = 1

[sources]
interval = "5ms"
poll = "15ms"
)");
  EXPECT_EQ(s.name, "mine");
  EXPECT_EQ(s.description, "All of it");
  EXPECT_EQ(s.family, validation::Family::kIpv6);
  EXPECT_EQ(s.flow, validation::Flow::kBidirectional);
  EXPECT_EQ(s.congestion, "reno");
  EXPECT_EQ(s.parallel, 3);
  EXPECT_EQ(s.runs, 2);
  EXPECT_EQ(s.duration, 7s);
  EXPECT_EQ(s.omit, 1s);
  EXPECT_EQ(s.interval, 500ms);
  EXPECT_EQ(s.bytes, 200'000u);
  EXPECT_DOUBLE_EQ(s.bitrate_mbit, 1.5);
  EXPECT_EQ(s.burst, 4);
  EXPECT_EQ(s.length, 65536u);
  EXPECT_EQ(s.window, 1'000'000u);
  EXPECT_EQ(s.mss, 1000);
  EXPECT_TRUE(s.mptcp);
  EXPECT_EQ(s.link.engine, lab::Engine::kEmulator);
  EXPECT_EQ(s.link.mtu, 9000);
  EXPECT_DOUBLE_EQ(s.link.there.rate_mbit, 10);
  EXPECT_EQ(s.link.there.delay, 10ms);
  EXPECT_DOUBLE_EQ(s.link.there.loss, 0);
  EXPECT_DOUBLE_EQ(s.link.back.rate_mbit, 0.5);
  EXPECT_EQ(s.link.back.delay, 10ms) << "what is said of both ways holds where nothing else is said";
  EXPECT_DOUBLE_EQ(s.link.back.loss, 0.005);
  EXPECT_EQ(s.link.back.jitter, 1ms);
  EXPECT_DOUBLE_EQ(s.link.back.reordering, 0.02);
  EXPECT_EQ(s.link.back.queue_bytes, 20'000u);
  EXPECT_EQ(s.link.back.ecn_mark_bytes, 10'000u);
  EXPECT_EQ(s.server_sysctl.at("net.ipv4.tcp_ecn"), "1");
  EXPECT_TRUE(s.client_sysctl.empty());
  EXPECT_EQ(s.sockops_interval, 5ms);
  EXPECT_EQ(s.poll, 15ms);
}

TEST(Scenario, VariesWhatItLists) {
  const auto all = parse(std::string(kBegin) + R"(
[vary]
"link.loss" = ["0.1%", "1%"]
"iperf3.parallel" = [1, 8]
)");
  EXPECT_THAT(names(all), testing::UnorderedElementsAre("mine-1-0.1percent", "mine-1-1percent", "mine-8-0.1percent",
                                                        "mine-8-1percent"));
  for (const auto& scenario : all) EXPECT_EQ(scenario.link.there.loss, scenario.link.back.loss);
  EXPECT_EQ(std::ranges::count(all, 8, &Scenario::parallel), 2);
}

TEST(Scenario, EachCongestionControlOfThisKernel) {
  const auto all = parse(std::string(kBegin) + "[vary]\n\"iperf3.congestion\" = \"each\"\n");
  EXPECT_THAT(names(all), testing::Contains("mine-reno"));
  std::set<std::string> controls;
  for (const auto& scenario : all) controls.insert(scenario.congestion);
  EXPECT_EQ(controls.size(), all.size());
}

TEST(Scenario, SettingsComeFirst) {
  const std::string text = std::string(kBegin) + "[link]\nrate = \"1Mbit/s\"\n[vary]\n\"link.delay\" = [\"1ms\", \"2ms\"]\n";
  const auto s = one(text, {{"link.delay", "7ms"}, {"link.there.rate", "3Mbit/s"}});
  EXPECT_EQ(s.name, "mine");
  EXPECT_EQ(s.link.there.delay, 7ms);
  EXPECT_EQ(s.link.back.delay, 7ms);
  EXPECT_DOUBLE_EQ(s.link.there.rate_mbit, 3);
  EXPECT_DOUBLE_EQ(s.link.back.rate_mbit, 1);
  EXPECT_EQ(validation::parse_setting("link.delay=20ms").key, "link.delay");
  EXPECT_EQ(validation::parse_setting("sysctl.client.net.ipv4.tcp_rmem=1 2=3").value, "1 2=3");
  EXPECT_THROW(validation::parse_setting("link.delay"), tcpinfo::Error);
}

struct Mistake {
  const char* name;
  std::string text;
  std::string line;      // "" : none is named
  std::string expected;  // in the message
};

class ScenarioMistake : public testing::TestWithParam<Mistake> {};

TEST_P(ScenarioMistake, IsNamedWithFileAndLine) {
  try {
    parse(GetParam().text);
    FAIL() << "it was taken";
  } catch (const tcpinfo::Error& error) {
    const std::string message = error.what();
    EXPECT_THAT(message, HasSubstr("dir/mine.toml"));
    if (!GetParam().line.empty()) {
      EXPECT_THAT(message, HasSubstr("line " + GetParam().line + ":"));
    }
    EXPECT_THAT(message, HasSubstr(GetParam().expected));
    EXPECT_THAT(message, testing::Not(HasSubstr("\n")));
  }
}

const std::string kHead = kBegin;
INSTANTIATE_TEST_SUITE_P(
    All, ScenarioMistake,
    testing::Values(
        Mistake{"NotToml", kHead + "[link\n", "2", ""},
        Mistake{"TwiceTheSameKey", kHead + "[link]\nmtu = 1500\nmtu = 1400\n", "4", ""},
        Mistake{"NoDescription", "[link]\nrate = \"1Mbit/s\"\n", "", "description"},
        Mistake{"UnknownSection", kHead + "[links]\nrate = \"1Mbit/s\"\n", "2", "iperf3, link"},
        Mistake{"UnknownKey", kHead + "[link]\ndely = \"1ms\"\n", "3", "rate, delay, jitter"},
        Mistake{"UnknownTopKey", kHead + "rate = 3\n", "2", "description"},
        Mistake{"NoUnit", kHead + "[link]\ndelay = \"20\"\n", "3", "a time with its unit"},
        Mistake{"WrongUnit", kHead + "[link]\ndelay = \"20kB\"\n", "3", "a time with its unit"},
        Mistake{"FinerThanItCan", kHead + "[link]\ndelay = \"0.5us\"\n", "3", "a time with its unit"},
        Mistake{"NegativeTime", kHead + "[link]\ndelay = \"-1ms\"\n", "3", "a time with its unit"},
        Mistake{"TooMuchLoss", kHead + "[link]\nloss = \"60%\"\n", "3", "a share"},
        Mistake{"ShareWithoutPercent", kHead + "[link]\nloss = 0.01\n", "3", "as 0.5%"},
        Mistake{"TooManyStreams", kHead + "[iperf3]\nparallel = 129\n", "3", "from 1 to 128"},
        Mistake{"NotANumber", kHead + "[iperf3]\nparallel = \"many\"\n", "3", "a whole number"},
        Mistake{"UnknownWord", kHead + "[iperf3]\nfamily = \"ipv5\"\n", "3", "ipv4 ipv6 mapped"},
        Mistake{"AList", kHead + "[iperf3]\nparallel = [1, 2]\n", "3", "expected a string, a number"},
        Mistake{"VaryNoList", kHead + "[vary]\n\"link.delay\" = \"1ms\"\n", "3", "a list of values"},
        Mistake{"VaryUnknownKey", kHead + "[vary]\n\"link.dely\" = [\"1ms\"]\n", "3", "rate, delay"},
        Mistake{"VaryWrongValue", kHead + "[vary]\n\"link.delay\" = [\n\"1ms\",\n\"1\"]\n", "5", "a time with its unit"},
        Mistake{"HostSysctl", kHead + "[sysctl.client]\n\"kernel.hostname\" = \"x\"\n", "3", "net.*"},
        Mistake{"SysctlOutOfProc", kHead + "[sysctl.client]\n\"net./../../x\" = 1\n", "3", "net.*"},
        Mistake{"HalfASecond", kHead + "[iperf3]\nduration = \"1500ms\"\n", "", "whole seconds"},
        Mistake{"BurstWithoutBitrate", kHead + "[iperf3]\nburst = 3\n", "", "bitrate"},
        Mistake{"ReorderingWithoutDelay", kHead + "[link]\nreordering = \"1%\"\n", "", "link.delay"},
        Mistake{"QueueWithoutRate", kHead + "[link]\nqueue = \"1MB\"\n", "", "link.rate"},
        Mistake{"SmallMss", kHead + "[iperf3]\nmss = 40\n", "", "88"}),
    [](const auto& mistake) { return mistake.param.name; });

TEST(Scenario, AMistakeOfASettingNamesTheSetting) {
  try {
    parse(kBegin, {{"link.delay", "fast"}});
    FAIL() << "it was taken";
  } catch (const tcpinfo::Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("--set link.delay=fast"));
    EXPECT_THAT(error.what(), HasSubstr("a time with its unit"));
  }
}

TEST(Scenario, Globs) {
  const auto all = parse(std::string(kBegin) + "[vary]\n\"link.delay\" = [\"1ms\", \"2ms\", \"30ms\"]\n");
  EXPECT_THAT(names(validation::choose(all, {"*-?ms"})), ElementsAre("mine-1ms", "mine-2ms"));
  EXPECT_THAT(names(validation::choose(all, {"mine-30ms", "mine-1ms"})), ElementsAre("mine-1ms", "mine-30ms"));
  try {
    validation::choose(all, {"mine-1ms", "nothing*"});
    FAIL() << "it was taken";
  } catch (const tcpinfo::Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("nothing*"));
  }
}

// What a run writes beside its results has to make the same run again.
TEST(Scenario, FilesThatComeWithUsAreWholeAndSurviveToToml) {
  std::set<std::string> names;
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(TCPINFO_SCENARIOS)) {
    ASSERT_EQ(entry.path().extension(), ".toml") << entry.path();
    ++files;
    for (const auto& scenario : validation::read_scenarios(entry.path())) {
      SCOPED_TRACE(scenario.name);
      EXPECT_TRUE(names.insert(scenario.name).second) << "twice";
      auto again = one(to_toml(scenario));
      again.name = scenario.name;
      EXPECT_EQ(to_toml(again), to_toml(scenario));
      EXPECT_EQ(describe(again), describe(scenario));
      EXPECT_TRUE(again == scenario) << to_toml(scenario);
    }
  }
  EXPECT_GT(files, 20u);
}

TEST(Scenario, Described) {
  auto s = one(std::string(kBegin) +
               "[iperf3]\nparallel = 4\nflow = \"bidirectional\"\n[link]\nrate = \"1.5Gbit/s\"\ndelay = \"200ms\"\nloss = \"0.1%\"\n");
  EXPECT_EQ(describe(s), "IPv4, 4 streams each way, cubic, 1.5 Gbit/s, delay 200 ms, loss 0.1 %");
  s.link.back = {};
  EXPECT_EQ(describe(s), "IPv4, 4 streams each way, cubic, 1.5 Gbit/s there, delay 200 ms, loss 0.1 %, unlimited back");
  EXPECT_THAT(validation::describe_keys(), HasSubstr("ecn_mark"));
}

TEST(Scenario, KeysAreDocumented) {
  std::ifstream file(TCPINFO_SCENARIOS "/../../docs/scenarios.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_THAT(text.str(), HasSubstr(validation::describe_keys())) << "put in what tcpinfo-validate list --keys prints";
}

}  // namespace
