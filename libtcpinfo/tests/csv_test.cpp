// SPDX-License-Identifier: BSD-2-Clause
#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <tcpinfo/csv.hpp>
#include <tcpinfo/format.hpp>

#include "records.hpp"

namespace tcpinfo {
namespace {

/// A reader of one line by the rules of RFC 4180.
std::vector<std::string> cells(std::string_view line) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (quoted && line[i] == '"' && i + 1 < line.size() && line[i + 1] == '"')
      cells.back() += line[++i];
    else if (line[i] == '"')
      quoted = !quoted;
    else if (line[i] == ',' && !quoted)
      cells.emplace_back();
    else
      cells.back() += line[i];
  }
  EXPECT_FALSE(quoted) << line;
  return cells;
}

TEST(CsvHeader, IsTheTablesNames) {
  std::vector<std::string> names;
  for (const auto& row : fields()) names.emplace_back(row.name);
  EXPECT_EQ(cells(CsvWriter().header()), names);
  EXPECT_EQ(CsvWriter({Field::snd_cwnd, Field::rtt}).header(), "snd_cwnd,rtt");
}

TEST(CsvLine, ShowsEachFormatAsItself) {
  CsvWriter writer({Field::event, Field::family, Field::local_address, Field::state, Field::ca_state, Field::swept,
                    Field::rtt, Field::congestion_control, Field::pacing_rate});
  EXPECT_EQ(writer.line(Record(records::sample())),
            "sample,ipv4,10.0.0.1,ESTABLISHED,Loss,false,12345,cubic,18446744073709551615");
}

TEST(CsvLine, HasNothingForAnAbsentFieldAndZeroForZero) {
  CsvWriter writer({Field::ulp, Field::fackets, Field::total_retrans, Field::lost});
  EXPECT_EQ(writer.line(Record(records::sample())), ",,0,");
  EXPECT_EQ(CsvWriter().line(Record(make_record())), std::string(kFieldCount - 1, ','));
}

TEST(CsvLine, HasItsOwnerBehindTheFields) {
  CsvWriter writer({Field::rtt, Field::pid, Field::comm}, true);
  EXPECT_EQ(writer.header(),
            "rtt,pid,comm,executable,cgroup,unit,container_runtime,container_id,pod_uid,netns,holders");
  Owner owner;
  owner.pid = 812;
  owner.comm = "nginx";
  owner.executable = "/usr/\"a,b\"";
  owner.cgroup = "/a\nb";
  owner.container = {"docker", std::string(64, 'a'), ""};
  EXPECT_EQ(writer.line(Record(records::sample()), &owner),
            "12345,812,nginx,\"/usr/\"\"a,b\"\"\",\"/a\nb\",,docker," + std::string(64, 'a') + ",,,0");
  EXPECT_EQ(writer.line(Record(records::sample())), "12345,,,,,,,,,,");
  EXPECT_EQ(CsvWriter({Field::rtt}).line(Record(records::sample()), &owner), "12345") << "not asked for";
}

TEST(CsvLine, QuotesWhereItMust) {
  CsvWriter writer({Field::ulp, Field::rtt});
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"tls", "tls,"},
      {"a,b", "\"a,b\","},
      {"say \"x\"", "\"say \"\"x\"\"\","},
      {"a\nb", "\"a\nb\","},
      {"a\rb", "\"a\rb\","},
      {"", "\"\","},
      {"=1+1", "=1+1,"},
      {" a ", " a ,"},
      {"\"", "\"\"\"\","},
      {"0123456789abcdef", "0123456789abcdef,"},
  };
  for (const auto& [text, line] : cases) {
    auto record = make_record();
    records::set_name(record, Field::ulp, text);
    EXPECT_EQ(writer.line(Record(record)), line);
  }
}

TEST(CsvLine, OfTheLongestNames) {
  auto record = make_record();
  records::set_name(record, Field::ulp, std::string(16, '"'));
  std::string line;
  for (int i = 0; i < 50; ++i) line += (i ? ",\"" : "\"") + std::string(32, '"') + '"';
  EXPECT_EQ(CsvWriter(std::vector<Field>(50, Field::ulp)).line(Record(record)), line);
}

TEST(CsvLine, IsReadBackCellByCell) {
  records::Random random(6);
  CsvWriter writer;
  for (int i = 0; i < 2000; ++i) {
    const auto raw = records::random_record(random, 50);
    const Record record(raw);
    const auto read = cells(writer.line(record));
    ASSERT_EQ(read.size(), kFieldCount);
    for (const auto& row : fields()) {
      std::string value;
      append_value(value, record, row.field);
      ASSERT_EQ(read[static_cast<std::size_t>(row.field)], value) << row.name;
    }
  }
}

}  // namespace
}  // namespace tcpinfo
