// SPDX-License-Identifier: BSD-2-Clause
#include "report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidjson/document.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <sstream>
#include <stdexcept>

namespace bench {
namespace {

using testing::HasSubstr;
using testing::Not;

std::vector<double> one_to(int n) {
  std::vector<double> values(static_cast<std::size_t>(n));
  std::iota(values.begin(), values.end(), 1.0);
  return values;
}

TEST(Spread, MedianOfOddAndEven) {
  EXPECT_EQ(spread(std::vector{3.0, 1.0, 2.0}).median, 2);
  EXPECT_EQ(spread(std::vector{4.0, 1.0, 3.0, 2.0}).median, 2.5);
  EXPECT_EQ(spread(std::vector{7.0}).count, 1u);
}

TEST(Spread, OfOneValueIsThatValue) {
  const auto one = spread(std::vector{7.0});
  EXPECT_EQ(one.median, 7);
  EXPECT_EQ(one.low, 7);
  EXPECT_EQ(one.high, 7);
}

// The ranks that tables of the sign test's confidence interval give for 95 %.
TEST(Spread, IntervalHasTheRanksOfTheBinomial) {
  for (const auto& [n, low, high] : {std::tuple(5, 1, 5), std::tuple(6, 1, 6), std::tuple(8, 1, 8), std::tuple(9, 2, 8),
                                     std::tuple(10, 2, 9), std::tuple(11, 2, 10), std::tuple(20, 6, 15),
                                     std::tuple(30, 10, 21), std::tuple(50, 18, 33), std::tuple(100, 40, 61)}) {
    const auto values = one_to(n);
    EXPECT_EQ(spread(values).low, low) << n;
    EXPECT_EQ(spread(values).high, high) << n;
  }
}

TEST(Spread, ManyValuesDoNotUnderflow) {
  const auto many = spread(one_to(10000));
  EXPECT_NEAR(many.low, 5000 - 98, 2);
  EXPECT_NEAR(many.high, 5001 + 98, 2);
}

TEST(Spread, OneOutlierMovesNothing) {
  auto values = one_to(30);
  values.back() = 1e9;
  EXPECT_EQ(spread(values).median, 15.5);
  EXPECT_EQ(spread(values).high, 21);
}

TEST(Spread, OfNothingIsRefused) { EXPECT_THROW(spread({}), std::invalid_argument); }

TEST(Ratio, IsOfPairs) {
  // Both drift to tenfold, ours is always a tenth more: the medians alone would not show it.
  const std::vector floor{1.0, 2.0, 4.0, 10.0}, ours{1.1, 2.2, 4.4, 11.0};
  const auto pairs = ratio(ours, floor);
  EXPECT_DOUBLE_EQ(pairs.median, 1.1);
  EXPECT_DOUBLE_EQ(pairs.low, 1.1);
  EXPECT_DOUBLE_EQ(pairs.high, 1.1);
  EXPECT_EQ(pairs.count, 4u);
  EXPECT_THROW(ratio(ours, std::vector{1.0}), std::invalid_argument);
}

Result result(double median, double goal, Sense sense) {
  Result made;
  made.what = "something";
  made.unit = "ns";
  made.ours = {.median = 50, .low = 45, .high = 55, .count = 9};
  made.floor_name = "the floor";
  made.floor = Spread{.median = 40, .low = 39, .high = 41, .count = 9};
  made.ratio = Spread{.median = median, .low = median - 0.1, .high = median + 0.1, .count = 9};
  made.goal = goal;
  made.sense = sense;
  return made;
}

TEST(Reached, NoGoalIsNeitherReachedNorMissed) {
  auto without = result(1.2, 1, Sense::kAtMost);
  without.goal.reset();
  EXPECT_EQ(without.reached(), std::nullopt);
}

TEST(Reached, TheRatioIsJudgedWhereThereIsOne) {
  auto judged = result(1.2, 1.2, Sense::kAtMost);
  EXPECT_EQ(judged.reached(), true);
  judged.goal = 1.19;
  EXPECT_EQ(judged.reached(), false);
  judged.sense = Sense::kAtLeast;
  EXPECT_EQ(judged.reached(), true);
  judged.ratio.reset();
  judged.goal = 50.1;
  EXPECT_EQ(judged.reached(), false);
  judged.sense = Sense::kAtMost;
  EXPECT_EQ(judged.reached(), true);
}

TEST(Reached, TheWholeIntervalWhereThatIsAsked) {
  auto judged = result(1.2, 1.25, Sense::kAtMost);
  judged.whole_interval = true;
  EXPECT_EQ(judged.reached(), false);
  judged.goal = 1.3;
  EXPECT_EQ(judged.reached(), true);
  judged.sense = Sense::kAtLeast;
  judged.goal = 1.15;
  EXPECT_EQ(judged.reached(), false);
  judged.goal = 1.05;
  EXPECT_EQ(judged.reached(), true);
}

TEST(Reached, NotByANumberThatIsNone) {
  EXPECT_EQ(result(std::numeric_limits<double>::quiet_NaN(), 1, Sense::kAtMost).reached(), false);
  EXPECT_EQ(result(std::numeric_limits<double>::quiet_NaN(), 1, Sense::kAtLeast).reached(), false);
}

Report report() {
  Report made;
  made.date = "2026-11-21T13:45:00Z";
  made.seconds = 12.5;
  made.quick = true;
  made.only = {"first", "second"};
  made.machine = {.kernel = "6.18",
                  .architecture = "x86_64",
                  .cpu_model = "",
                  .cores = 2,
                  .memory_bytes = 1 << 30,
                  .hz = 250,
                  .clock_source = "tsc"};
  Entry first{.name = "first", .description = "\"quoted\" \n"};
  first.load = {.loadavg = 3, .foreign_cores = 1.5, .steal = 0.01};
  first.outcome.results = {result(1.2, 1.5, Sense::kAtMost), result(3, 4, Sense::kAtLeast)};
  first.outcome.results[0].note = "seen once";
  first.outcome.results[1].note = "seen once";
  first.outcome.curves = {
      {.name = "growth", .x = "sockets", .y = "ms", .points = {{10, {1, 0.5, 1.5, 7}}, {20, {2, 1, 3, 7}}}}};
  made.entries.push_back(std::move(first));
  made.entries.push_back(
      {.name = "second", .description = "d", .kind = Entry::Kind::kNotPossible, .reason = "no root"});
  made.entries.push_back({.name = "third", .description = "d", .kind = Entry::Kind::kFailed, .reason = "broke"});
  return made;
}

TEST(Json, HoldsAll) {
  rapidjson::Document json;
  json.Parse(to_json(report()).c_str());
  ASSERT_FALSE(json.HasParseError());
  EXPECT_EQ(json["schema"].GetInt(), 1);
  EXPECT_STREQ(json["date"].GetString(), "2026-11-21T13:45:00Z");
  EXPECT_EQ(json["seconds"].GetDouble(), 12.5);
  EXPECT_TRUE(json["options"]["quick"].GetBool());
  EXPECT_FALSE(json["options"]["growth"].GetBool());
  EXPECT_STREQ(json["options"]["only"][1].GetString(), "second");
  EXPECT_TRUE(json["revision"].IsNull());
  EXPECT_STREQ(json["machine"]["kernel"].GetString(), "6.18");
  EXPECT_TRUE(json["machine"]["cpu_model"].IsNull());
  EXPECT_EQ(json["machine"]["cores"].GetUint(), 2u);
  EXPECT_EQ(json["machine"]["hz"].GetUint(), 250u);
  EXPECT_FALSE(json["load_before"]["busy"].GetBool());

  const auto& measurements = json["measurements"];
  ASSERT_EQ(measurements.Size(), 3u);
  const auto& first = measurements[0];
  EXPECT_STREQ(first["description"].GetString(), "\"quoted\" \n");
  EXPECT_STREQ(first["outcome"].GetString(), "measured");
  EXPECT_TRUE(first["reason"].IsNull());
  EXPECT_TRUE(first["load"]["busy"].GetBool());
  EXPECT_EQ(first["load"]["foreign_cores"].GetDouble(), 1.5);
  const auto& figures = first["results"][0];
  EXPECT_STREQ(figures["what"].GetString(), "something");
  EXPECT_STREQ(figures["unit"].GetString(), "ns");
  EXPECT_EQ(figures["ours"]["median"].GetDouble(), 50);
  EXPECT_EQ(figures["ours"]["low"].GetDouble(), 45);
  EXPECT_EQ(figures["ours"]["high"].GetDouble(), 55);
  EXPECT_EQ(figures["ours"]["count"].GetUint(), 9u);
  EXPECT_STREQ(figures["floor_name"].GetString(), "the floor");
  EXPECT_EQ(figures["floor"]["median"].GetDouble(), 40);
  EXPECT_EQ(figures["ratio"]["median"].GetDouble(), 1.2);
  EXPECT_EQ(figures["goal"].GetDouble(), 1.5);
  EXPECT_STREQ(figures["sense"].GetString(), "at most");
  EXPECT_FALSE(figures["whole_interval"].GetBool());
  EXPECT_TRUE(figures["reached"].GetBool());
  EXPECT_STREQ(figures["note"].GetString(), "seen once");
  EXPECT_STREQ(first["results"][1]["sense"].GetString(), "at least");
  EXPECT_FALSE(first["results"][1]["reached"].GetBool());
  EXPECT_EQ(first["curves"][0]["points"][1]["x"].GetDouble(), 20);
  EXPECT_EQ(first["curves"][0]["points"][1]["high"].GetDouble(), 3);
  EXPECT_STREQ(measurements[1]["outcome"].GetString(), "not possible");
  EXPECT_STREQ(measurements[1]["reason"].GetString(), "no root");
  EXPECT_STREQ(measurements[2]["outcome"].GetString(), "failed");
}

TEST(Json, AbsentIsNullAndSoIsWhatIsNoNumber) {
  auto made = report();
  auto& figures = made.entries[0].outcome.results[0];
  figures.floor.reset();
  figures.ratio.reset();
  figures.goal.reset();
  figures.note.clear();
  figures.ours.median = std::numeric_limits<double>::infinity();
  rapidjson::Document json;
  json.Parse(to_json(made).c_str());
  ASSERT_FALSE(json.HasParseError());
  const auto& read = json["measurements"][0]["results"][0];
  for (const char* name : {"floor", "ratio", "goal", "reached", "note"}) EXPECT_TRUE(read[name].IsNull()) << name;
  EXPECT_TRUE(read["ours"]["median"].IsNull());
}

TEST(Table, SaysWhatIsReachedMissedMarkedAndNoted) {
  const auto table = to_table(report());
  EXPECT_THAT(table, HasSubstr("1.2000 [1.1000, 1.3000]"));
  EXPECT_THAT(table, HasSubstr("≤ 1.5x"));
  EXPECT_THAT(table, HasSubstr("≥ 4x"));
  EXPECT_THAT(table, HasSubstr("reached*"));
  EXPECT_THAT(table, HasSubstr("missed*"));
  EXPECT_THAT(table, HasSubstr("1 of 2 goals reached"));
  EXPECT_THAT(table, HasSubstr("[1] seen once"));
  EXPECT_THAT(table, Not(HasSubstr("[2]")));
  EXPECT_THAT(table, HasSubstr("not possible: no root"));
  EXPECT_THAT(table, HasSubstr("failed: broke"));
  EXPECT_THAT(table, HasSubstr("10: 1, 20: 2"));
}

TEST(Table, MarksNothingOnAQuietMachine) {
  auto made = report();
  made.entries[0].load = {};
  // What was not measured was not measured on a busy machine.
  made.entries[1].load = {.loadavg = 9, .foreign_cores = 2, .steal = 0.5};
  EXPECT_THAT(to_table(made), Not(HasSubstr("*")));
}

TEST(Table, FitsInto140ColumnsWhateverIsLong) {
  auto made = report();
  auto& figures = made.entries[0].outcome.results[0];
  figures.what = "a name that is much longer than the column which it has to go into, µs by µs";
  figures.floor_name = std::string(200, 'x');
  figures.note = "many words " + std::string(300, 'y') +
                 " and more words, so many that they need several lines, each of "
                 "which has to be as short as all the others are";
  for (int i = 0; i < 100; ++i) made.entries[0].outcome.curves[0].points.push_back({i * 1e6, {1, 1, 1, 1}});
  std::istringstream lines(to_table(made));
  for (std::string line; std::getline(lines, line);) {
    const auto columns = std::ranges::count_if(line, [](char c) { return (c & 0xc0) != 0x80; });
    EXPECT_LE(columns, 140) << line;
  }
}

TEST(Number, HasThreeDigitsAndALetter) {
  EXPECT_EQ(format_number(0), "0");
  EXPECT_EQ(format_number(0.01234), "0.0123");
  EXPECT_EQ(format_number(52.34), "52.3");
  EXPECT_EQ(format_number(4350), "4350");
  EXPECT_EQ(format_number(15234), "15.2 k");
  EXPECT_EQ(format_number(1.78e6), "1.78 M");
  EXPECT_EQ(format_number(20e9), "20 G");
}

}  // namespace
}  // namespace bench
