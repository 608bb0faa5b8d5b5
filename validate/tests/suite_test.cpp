// SPDX-License-Identifier: BSD-2-Clause
#include "suite.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <tcpinfo/error.hpp>

namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using validation::Suite;
using validation::SuiteRun;

SuiteRun run(std::string name, std::string outcome) {
  SuiteRun result;
  result.name = result.directory = result.scenario = std::move(name);
  result.description = "IPv4, 1 stream";
  result.outcome = std::move(outcome);
  result.command = "tcpinfo-validate run --scenario 'a<b>&\"c\"'";
  result.compared = 100;
  result.goodput_mbit = 12.5;
  result.retransmits = 3;
  result.seconds = 1.25;
  if (result.outcome == "failed") result.reason = "rtt < min_rtt & \"more\"\x01";
  return result;
}

Suite suite(std::initializer_list<SuiteRun> runs) {
  Suite result{.started = "now", .kernel = "Linux", .machine = "2 processors", .iperf3_version = "iperf 3.12", .command = "x",
               .seed = 7, .seconds = 3.5, .runs = runs};
  return result;
}

class File {
 public:
  explicit File(std::string_view text) {
    char name[] = "/tmp/suite-test-XXXXXX";
    ::close(::mkstemp(name));
    path = name;
    std::ofstream(path) << text;
  }
  ~File() { fs::remove(path); }
  fs::path path;
};

TEST(Suite, PassedIfSomethingDidAndNothingDidNot) {
  EXPECT_FALSE(suite({}).passed());
  EXPECT_FALSE(suite({run("a", "not possible")}).passed());
  EXPECT_TRUE(suite({run("a", "passed"), run("b", "not possible")}).passed());
  for (const char* outcome : {"failed", "interrupted", "not run"})
    EXPECT_FALSE(suite({run("a", "passed"), run("b", outcome)}).passed()) << outcome;
}

TEST(Suite, JsonThereAndBack) {
  const auto before = suite({run("a", "passed"), run("b", "failed")});
  const File file(to_json(before));
  const auto after = validation::read_suite(file.path);
  EXPECT_EQ(to_json(after), to_json(before));
  ASSERT_EQ(after.runs.size(), 2u);
  EXPECT_EQ(after.runs[1].reason, before.runs[1].reason);
  EXPECT_EQ(after.runs[1].compared, 100u);
  EXPECT_EQ(after.seed, 7u);
  EXPECT_EQ(after.runs[0].goodput_mbit, 12.5);
  EXPECT_EQ(after.runs[0].retransmits, 3u);
  EXPECT_EQ(after.runs[0].mean_rtt_us, std::nullopt);
}

TEST(Suite, BadFilesAreNamed) {
  const auto message = [](std::string_view text) {
    const File file(text);
    try {
      validation::read_suite(file.path);
    } catch (const tcpinfo::Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(file.path.string()));
      return std::string(error.what());
    }
    return std::string("it was taken");
  };
  EXPECT_THAT(message("{\"schema\": \"tcpinfo-su"), HasSubstr("cut off"));
  EXPECT_THAT(message("{}"), HasSubstr("no suite"));
  EXPECT_THAT(message("[]"), HasSubstr("no suite"));
  EXPECT_THAT(message(R"({"schema": "tcpinfo-suite", "version": 9})"), HasSubstr("version is 9"));
  EXPECT_THROW(validation::read_suite("/nowhere/suite.json"), tcpinfo::Error);
}

TEST(Suite, Junit) {
  const auto xml = to_junit(suite({run("good", "passed"), run("bad", "failed"), run("away", "not possible"), run("later", "not run")}));
  EXPECT_THAT(xml, HasSubstr(R"(tests="4" failures="1" errors="0" skipped="2")"));
  EXPECT_THAT(xml, HasSubstr(R"(name="good" time="1.250"/>)"));
  EXPECT_THAT(xml, HasSubstr(R"(<failure message="rtt &lt; min_rtt &amp; &quot;more&quot;?">)"));
  EXPECT_THAT(xml, HasSubstr(R"(a&lt;b&gt;&amp;&quot;c&quot;)"));
  EXPECT_THAT(xml, HasSubstr(R"(<skipped message="not possible"/>)"));
}

TEST(Suite, TableEndsWithTheVerdictAndNamesTheCommand) {
  const auto table = to_table(suite({run("good", "passed"), run("bad", "failed")}));
  EXPECT_THAT(table, HasSubstr("again: tcpinfo-validate run --scenario"));
  EXPECT_THAT(table, testing::EndsWith("FAILED: 1 passed, 1 failed; 200 values compared in 4 s\n"));
  EXPECT_THAT(to_table(suite({run("good", "passed")})), testing::EndsWith("PASSED: 1 passed; 100 values compared in 4 s\n"));
}

}  // namespace
