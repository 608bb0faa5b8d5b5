// SPDX-License-Identifier: BSD-2-Clause
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tcpinfo/error.hpp>
#include <tcpinfo/json.hpp>

#include "records.hpp"

namespace tcpinfo {
namespace {

using ::testing::HasSubstr;

/// What parse_json says against a line; empty if it takes it.
std::string problem(std::string_view line) {
  try {
    parse_json(line);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), make_error_code(Errc::kMalformed)) << line;
    return e.what();
  }
  return {};
}

std::string line_of(const tcpinfo_record& record, std::vector<Field> fields = {}) {
  return std::string(JsonWriter(std::move(fields)).line(Record(record)));
}

TEST(JsonLine, ShowsEachFormatAsItself) {
  auto record = records::sample();
  set_number(record, Field::swept, 1);
  EXPECT_EQ(line_of(record, {Field::time_ns, Field::event, Field::source, Field::family, Field::local_address,
                             Field::local_port, Field::state, Field::ca_state, Field::swept, Field::rtt,
                             Field::congestion_control, Field::ulp, Field::fackets, Field::total_retrans}),
            R"({"time_ns":123456789,"event":"sample","source":"sockops","family":"ipv4","local_address":"10.0.0.1",)"
            R"("local_port":43210,"state":"ESTABLISHED","ca_state":"Loss","swept":true,"rtt":12345,)"
            R"("congestion_control":"cubic","ulp":null,"fackets":null,"total_retrans":0})");
}

TEST(JsonLine, HasTheTablesKeysInTheTablesOrder) {
  std::string expected = "{";
  for (const auto& row : fields())
    expected += (expected.size() == 1 ? "\"" : ",\"") + std::string(row.name) + "\":null";
  EXPECT_EQ(line_of(make_record()), expected + "}");
}

TEST(JsonLine, KeepsTheOrderThatWasAskedFor) {
  EXPECT_EQ(line_of(records::sample(), {Field::snd_cwnd, Field::rtt}), R"({"snd_cwnd":10,"rtt":12345})");
}

TEST(JsonLine, AddressesOfIpv6AndMappedOnes) {
  auto record = make_record();
  set_number(record, Field::family, 10);
  records::set_address(record, Field::local_address, records::address("::ffff:192.0.2.1"));
  records::set_address(record, Field::peer_address, records::address("2001:db8::2"));
  EXPECT_EQ(line_of(record, {Field::family, Field::local_address, Field::peer_address}),
            R"({"family":"ipv6","local_address":"192.0.2.1","peer_address":"2001:db8::2"})");
}

TEST(JsonLine, NumbersOfSixtyFourBitsAreExact) {
  auto record = make_record();
  set_number(record, Field::pacing_rate, 18446744073709551615U);
  set_number(record, Field::bytes_acked, 9007199254740993U);
  const auto line = line_of(record, {Field::pacing_rate, Field::bytes_acked});
  EXPECT_EQ(line, R"({"pacing_rate":18446744073709551615,"bytes_acked":9007199254740993})");
  const auto back = parse_json(line);
  EXPECT_EQ(Record(back).pacing_rate(), 18446744073709551615U);
  EXPECT_EQ(Record(back).bytes_acked(), 9007199254740993U);
}

TEST(JsonLine, CodesWithoutANameAreNumbers) {
  auto record = make_record();
  set_number(record, Field::event, 200);
  set_number(record, Field::state, 0);
  set_number(record, Field::ca_state, 5);
  set_number(record, Field::family, 1);
  set_number(record, Field::is_mptcp, 2);
  const auto line = line_of(record, {Field::event, Field::state, Field::ca_state, Field::family, Field::is_mptcp});
  EXPECT_EQ(line, R"({"event":200,"state":0,"ca_state":5,"family":1,"is_mptcp":2})");
  EXPECT_TRUE(records::same_bytes(parse_json(line), record));
}

TEST(JsonLine, TextIsEscaped) {
  auto record = make_record();
  records::set_name(record, Field::congestion_control, "a\"b\\c\n\x01/");
  EXPECT_EQ(line_of(record, {Field::congestion_control}), R"({"congestion_control":"a\"b\\c\u000a\u0001/"})");
  records::set_name(record, Field::congestion_control, "");
  EXPECT_EQ(line_of(record, {Field::congestion_control}), R"({"congestion_control":""})");
}

TEST(JsonLine, IsValidUtf8WhateverTheKernelGave) {
  auto record = make_record();
  records::set_name(record, Field::ulp, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
  EXPECT_EQ(line_of(record, {Field::ulp}), "{\"ulp\":\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"}");
  // stray continuation, overlong '/', surrogate, beyond U+10FFFF, cut off by the end of the name
  const std::pair<std::string_view, std::string_view> cases[] = {{"a\x80", "a?"},         {"\xc0\xaf", "??"},
                                                                 {"\xed\xa0\x80", "???"}, {"\xf4\x90\x80\x80", "????"},
                                                                 {"\xff", "?"},           {"x\xe2\x82", "x??"}};
  for (const auto& [name, shown] : cases) {
    records::set_name(record, Field::ulp, name);
    EXPECT_EQ(line_of(record, {Field::ulp}), "{\"ulp\":\"" + std::string(shown) + "\"}");
  }
}

TEST(JsonLine, IsReusedWithoutTraceOfTheLastOne) {
  JsonWriter writer({Field::rtt, Field::ulp});
  auto record = make_record();
  set_number(record, Field::rtt, 1);
  records::set_name(record, Field::ulp, "tls");
  EXPECT_EQ(writer.line(Record(record)), R"({"rtt":1,"ulp":"tls"})");
  EXPECT_EQ(writer.line(Record(make_record())), R"({"rtt":null,"ulp":null})");
  JsonWriter moved(std::move(writer));
  EXPECT_EQ(moved.line(Record(record)), R"({"rtt":1,"ulp":"tls"})");
}

/// A line formatted member by member, with nothing of the library but the table; for names of ASCII.
std::string plain_line(const tcpinfo_record& record, std::span<const Field> fields) {
  std::string line;
  for (const auto field : fields) {
    const auto& row = info(field);
    line += fmt::format("{}\"{}\":", line.empty() ? "{" : ",", row.name);
    const auto* member = reinterpret_cast<const char*>(&record) + row.offset;
    if (!Record(record).has(field)) {
      line += "null";
    } else if (row.format == Format::address) {
      tcpinfo_address address;
      std::memcpy(&address, member, sizeof(address));
      line += '"' + records::ntop(address) + '"';
    } else if (row.format == Format::text) {
      line += '"';
      for (const char c : std::string_view(member, strnlen(member, row.size))) {
        if (c == '"' || c == '\\')
          line += {'\\', c};
        else
          line += c < 0x20 ? fmt::format("\\u{:04x}", +c) : std::string(1, c);
      }
      line += '"';
    } else {
      std::uint64_t number = 0;
      std::memcpy(&number, member, row.size);
      const auto code = static_cast<std::uint8_t>(number);
      const auto name = row.format == Format::event      ? tcpinfo::name(static_cast<Event>(code))
                        : row.format == Format::source   ? tcpinfo::name(static_cast<SourceId>(code))
                        : row.format == Format::state    ? state_name(code)
                        : row.format == Format::ca_state ? ca_state_name(code)
                        : row.format != Format::family   ? ""
                        : code == 2                      ? "ipv4"
                        : code == 10                     ? "ipv6"
                                                         : "";
      if (row.format == Format::boolean && number < 2)
        line += number ? "true" : "false";
      else
        line += name.empty() ? std::to_string(number) : fmt::format("\"{}\"", name);
    }
  }
  return line + "}";
}

TEST(JsonLine, IsWhatPlainFormattingGives) {
  records::Random random(11);
  std::vector<Field> all;
  for (const auto& row : fields()) all.push_back(row.field);
  JsonWriter writer;
  for (unsigned i = 0; i < 3000; ++i) {
    const auto record = records::random_record(random, i % 101);
    ASSERT_EQ(writer.line(Record(record)), plain_line(record, all));
    // Any of them in any order, also twice.
    std::vector<Field> some(1 + random() % 20);
    for (auto& field : some) field = all[random() % all.size()];
    ASSERT_EQ(line_of(record, some), plain_line(record, some));
  }
}

TEST(JsonLine, NumbersOfEveryLength) {
  std::vector<std::uint64_t> numbers = {0, UINT8_MAX, UINT16_MAX, UINT32_MAX, UINT64_MAX};
  for (std::uint64_t power = 10;; power *= 10) {
    for (const auto number : {power - 1, power, power + 1, 2 * power - 1, power / 10 * 9, power / 9})
      numbers.push_back(number);
    if (power > UINT64_MAX / 10) break;
  }
  const std::vector<Field> sizes = {Field::tos, Field::local_port, Field::rtt, Field::bytes_acked};
  for (const auto number : numbers) {
    auto record = make_record();
    for (const auto field : sizes) set_number(record, field, number);
    ASSERT_EQ(line_of(record, sizes), plain_line(record, sizes));
    ASSERT_THAT(line_of(record, sizes), HasSubstr(fmt::format("\"bytes_acked\":{}}}", number)));
  }
}

TEST(JsonLine, EveryCode) {
  const std::vector<Field> codes = {Field::event,    Field::source, Field::family,  Field::state,
                                    Field::ca_state, Field::swept,  Field::is_mptcp};
  for (unsigned code = 0; code <= UINT8_MAX; ++code) {
    auto record = make_record();
    for (const auto field : codes) set_number(record, field, code);
    ASSERT_EQ(line_of(record, codes), plain_line(record, codes));
  }
}

TEST(JsonLine, OfTheLongestValues) {
  auto record = make_record();
  for (const auto& row : fields()) {
    set_number(record, row.field, UINT64_MAX);
    if (row.format == Format::address)
      records::set_address(record, row.field, records::address("2001:1db8:1111:2222:3333:4444:5555:6666"));
    if (row.format == Format::text) records::set_name(record, row.field, std::string(16, '\x1f'));
  }
  std::vector<Field> names(50, Field::ulp), all;
  for (const auto& row : fields()) all.push_back(row.field);
  EXPECT_EQ(line_of(record), plain_line(record, all));
  EXPECT_EQ(line_of(record, names), plain_line(record, names));
}

TEST(JsonSchema, OfAFieldGivenTwice) {
  const auto schema = JsonWriter({Field::rtt, Field::rtt}).schema();
  EXPECT_THAT(schema, HasSubstr(R"("kind":"gauge"},{"name":"rtt")"));
  EXPECT_TRUE(is_schema(schema));
}

TEST(JsonSchema, DescribesTheFields) {
  EXPECT_EQ(JsonWriter({Field::rtt, Field::pacing_rate}).schema(),
            R"({"schema":"tcpinfo","version":1,"fields":[{"name":"rtt","type":"u32","unit":"us","kind":"gauge"},)"
            R"({"name":"pacing_rate","type":"u64","unit":"bytes_per_s","kind":"gauge"}]})");
  EXPECT_TRUE(is_schema(JsonWriter().schema()));
}

Owner some_owner() {
  Owner owner;
  owner.pid = 812;
  owner.comm = "ngi\"nx";
  owner.executable = "/usr/sbin/ng\x01 \xff\"";
  owner.cgroup = "/system.slice/nginx.service";
  owner.unit = "nginx.service";
  owner.netns = "blue";
  owner.holders = 2;
  return owner;
}

TEST(JsonLine, HasItsOwnerBehindTheFields) {
  JsonWriter writer({Field::rtt, Field::pid, Field::comm}, true);
  const auto record = records::sample();
  const auto owner = some_owner();
  EXPECT_EQ(writer.line(Record(record), &owner),
            R"({"rtt":12345,"pid":812,"comm":"ngi\"nx","executable":"/usr/sbin/ng\u0001 ?\"",)"
            R"("cgroup":"/system.slice/nginx.service","unit":"nginx.service","container_runtime":null,)"
            R"("container_id":null,"pod_uid":null,"netns":"blue","holders":2})");
  EXPECT_EQ(parse_json(writer.line(Record(record), &owner)).pid, 812u) << "and is read back without";
  EXPECT_EQ(writer.line(Record(record)),
            R"({"rtt":12345,"pid":null,"comm":null,"executable":null,"cgroup":null,"unit":null,)"
            R"("container_runtime":null,"container_id":null,"pod_uid":null,"netns":null,"holders":null})");
  EXPECT_EQ(JsonWriter({Field::rtt}).line(Record(record), &owner), R"({"rtt":12345})") << "not asked for";
}

TEST(JsonLine, KeepsTheMakerWhereTheOwnerIsNotKnown) {
  auto record = records::sample();
  set_number(record, Field::pid, 7);
  records::set_name(record, Field::comm, "maker");
  JsonWriter writer({Field::pid, Field::comm}, true);
  Owner owner;
  EXPECT_THAT(std::string(writer.line(Record(record), &owner)), testing::StartsWith(R"({"pid":7,"comm":"maker",)"));
  owner.pid = 8;
  EXPECT_THAT(std::string(writer.line(Record(record), &owner)), testing::StartsWith(R"({"pid":8,"comm":"",)"));
}

TEST(JsonSchema, DescribesOwners) {
  const auto schema = JsonWriter({Field::rtt}, true).schema();
  EXPECT_TRUE(is_schema(schema));
  for (const auto& field : owner_fields()) {
    EXPECT_THAT(schema, HasSubstr(fmt::format(R"({{"name":"{}","type":"{}","unit":"none","kind":"identity"}})",
                                              field.name, field.type)));
    EXPECT_FALSE(find_field(field.name)) << field.name << ": a record has it already";
  }
}

TEST(JsonSchema, IsToldFromARecord) {
  EXPECT_FALSE(is_schema(line_of(records::sample())));
  EXPECT_FALSE(is_schema("{}"));
  EXPECT_FALSE(is_schema(R"({"schema":"other","version":1})"));
  EXPECT_FALSE(is_schema(R"({"x":{"schema":"tcpinfo"}})"));
  EXPECT_TRUE(is_schema(R"( {"version":1, "schema":"tcpinfo"} )"));
}

TEST(JsonSchema, OfAnotherVersionIsRefused) {
  for (const auto* line : {R"({"schema":"tcpinfo","version":2,"fields":[]})", R"({"schema":"tcpinfo"})",
                           R"({"schema":"tcpinfo","version":"1"})", R"({"schema":"tcp)", "", "[]", "7"}) {
    try {
      is_schema(line);
      ADD_FAILURE() << line;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), make_error_code(Errc::kMalformed));
    }
  }
  EXPECT_THAT([] { is_schema(R"({"schema":"tcpinfo","version":2})"); },
              ::testing::ThrowsMessage<Error>(HasSubstr("schema version 2, this library reads 1")));
}

TEST(ParseJson, IsTheInverseOfTheWriter) {
  records::Random random(2);
  JsonWriter writer;
  for (int i = 0; i < 20000; ++i) {
    const auto record = records::random_record(random, static_cast<unsigned>(i % 101));
    const auto line = writer.line(Record(record));
    const auto back = parse_json(line);
    ASSERT_TRUE(records::same_bytes(back, record)) << line;
    ASSERT_EQ(JsonWriter().line(Record(back)), line);
  }
}

TEST(ParseJson, EveryFieldAlone) {
  for (const auto& row : fields()) {
    records::Random random(3);
    for (int i = 0; i < 50; ++i) {
      auto all = records::random_record(random, 100);
      auto record = make_record();
      set_present(record, row.field);
      std::memcpy(reinterpret_cast<std::byte*>(&record) + row.offset, reinterpret_cast<std::byte*>(&all) + row.offset,
                  row.size);
      const auto line = line_of(record, {row.field});
      ASSERT_TRUE(records::same_bytes(parse_json(line), record)) << line;
    }
  }
}

TEST(ParseJson, AllAbsentAndAllPresent) {
  EXPECT_TRUE(records::same_bytes(parse_json(line_of(make_record())), make_record()));
  EXPECT_TRUE(records::same_bytes(parse_json("{}"), make_record()));
  records::Random random(4);
  const auto all = records::random_record(random, 100);
  for (const auto& row : fields()) ASSERT_TRUE(Record(all).has(row.field)) << row.name;
  EXPECT_TRUE(records::same_bytes(parse_json(line_of(all)), all));
}

TEST(ParseJson, IgnoresKeysThatItDoesNotKnowWithAllTheyHold) {
  auto expected = make_record();
  set_number(expected, Field::rtt, 5);
  EXPECT_TRUE(records::same_bytes(
      parse_json(R"( { "new": [1,{"rtt":9}], "more" : {"rtt":[7],"ulp":[[]]}, "rtt" : 5, "x": -1.5 } )"), expected));
}

TEST(ParseJson, TakesKeysInAnyOrderAndCodesAsNumbers) {
  auto expected = make_record();
  set_number(expected, Field::state, 1);
  set_number(expected, Field::family, 10);
  set_number(expected, Field::swept, 1);
  EXPECT_TRUE(records::same_bytes(parse_json(R"({"swept":1,"family":10,"state":1,"rtt":null})"), expected));
  EXPECT_TRUE(records::same_bytes(parse_json(R"({"family":"ipv6","swept":true,"state":"ESTABLISHED"})"), expected));
}

TEST(ParseJson, NamesTheKeyWhoseNumberDoesNotFit) {
  EXPECT_THAT(problem(R"({"rtt":4294967296})"), HasSubstr("key 'rtt': 4294967296 does not fit u32"));
  EXPECT_THAT(problem(R"({"local_port":65536})"), HasSubstr("key 'local_port': 65536 does not fit u16"));
  EXPECT_THAT(problem(R"({"tos":256})"), HasSubstr("key 'tos': 256 does not fit u8"));
  EXPECT_THAT(problem(R"({"state":256})"), HasSubstr("key 'state': 256 does not fit u8"));
  EXPECT_THAT(problem(R"({"rtt":-1})"), HasSubstr("key 'rtt': -1 does not fit u32"));
  EXPECT_THAT(problem(R"({"cookie":-9223372036854775808})"), HasSubstr("key 'cookie'"));
  EXPECT_THAT(problem(R"({"pacing_rate":18446744073709551616})"), HasSubstr("key 'pacing_rate'"));
  EXPECT_THAT(problem(R"({"pacing_rate":1e999})"), HasSubstr("key 'pacing_rate'"));
  EXPECT_THAT(problem(R"({"rtt":1.5})"), HasSubstr("key 'rtt'"));
  EXPECT_THAT(problem(R"({"rtt":1.0})"), HasSubstr("key 'rtt'"));
  EXPECT_EQ(problem(R"({"rtt":4294967295,"local_port":65535,"tos":255})"), "");
}

TEST(ParseJson, EveryNumberOneAboveItsWidthIsRefused) {
  for (const auto& row : fields()) {
    if (row.size > 4) continue;
    const auto line = "{\"" + std::string(row.name) + "\":" + std::to_string(std::uint64_t{1} << (8 * row.size)) + "}";
    EXPECT_THAT(problem(line), HasSubstr("key '" + std::string(row.name) + "'"));
  }
}

TEST(ParseJson, NamesTheKeyWhoseTypeIsWrong) {
  EXPECT_THAT(problem(R"({"rtt":"5"})"), HasSubstr("key 'rtt': a text where a whole number that fits u32 belongs"));
  EXPECT_THAT(problem(R"({"rtt":true})"), HasSubstr("key 'rtt': true where"));
  EXPECT_THAT(problem(R"({"rtt":[1]})"), HasSubstr("key 'rtt': an object or array where"));
  EXPECT_THAT(problem(R"({"rtt":{}})"), HasSubstr("key 'rtt': an object or array where"));
  EXPECT_THAT(problem(R"({"swept":"true"})"), HasSubstr("key 'swept': a text where true or false belongs"));
  EXPECT_THAT(problem(R"({"state":true})"), HasSubstr("key 'state'"));
  EXPECT_THAT(problem(R"({"local_address":1})"), HasSubstr("key 'local_address': a number where an address"));
  EXPECT_THAT(problem(R"({"congestion_control":-1})"), HasSubstr("key 'congestion_control': a number where a text"));
  EXPECT_THAT(problem(R"({"ulp":false})"), HasSubstr("key 'ulp': false where a text"));
}

TEST(ParseJson, NamesTheKeyWhoseTextIsUnknown) {
  EXPECT_THAT(problem(R"({"state":"OPEN"})"), HasSubstr("key 'state': unknown state 'OPEN'"));
  EXPECT_THAT(problem(R"({"state":"established"})"), HasSubstr("key 'state': unknown state 'established'"));
  EXPECT_THAT(problem(R"({"old_state":""})"), HasSubstr("key 'old_state': unknown state ''"));
  EXPECT_THAT(problem(R"({"event":"none"})"), HasSubstr("key 'event': unknown event 'none'"));
  EXPECT_THAT(problem(R"({"source":"ss"})"), HasSubstr("key 'source': unknown source 'ss'"));
  EXPECT_THAT(problem(R"({"family":"inet"})"), HasSubstr("key 'family': unknown family 'inet'"));
  EXPECT_THAT(problem(R"({"ca_state":"OPEN"})"), HasSubstr("key 'ca_state': unknown ca_state 'OPEN'"));
  EXPECT_THAT(problem(R"({"peer_address":"10.0.0"})"), HasSubstr("key 'peer_address': '10.0.0' is no address"));
  EXPECT_THAT(problem(R"({"peer_address":"10.0.0.1\u0000"})"), HasSubstr("key 'peer_address'"));
  EXPECT_THAT(problem(R"({"ulp":"0123456789abcdefg"})"), HasSubstr("key 'ulp': '0123456789abcdefg' is longer"));
  EXPECT_THAT(problem(R"({"ulp":"a\u0000b"})"), HasSubstr("key 'ulp': a NUL"));
}

TEST(ParseJson, RefusesAKeyGivenTwice) {
  EXPECT_THAT(problem(R"({"rtt":1,"rtt":2})"), HasSubstr("key 'rtt': given twice"));
  EXPECT_THAT(problem(R"({"rtt":null,"rtt":2})"), HasSubstr("key 'rtt': given twice"));
}

TEST(ParseJson, RefusesEveryLineThatWasCutOff) {
  const auto line = line_of(records::sample());
  ASSERT_EQ(problem(line), "");
  for (std::size_t length = 0; length < line.size(); ++length)
    ASSERT_NE(problem(line.substr(0, length)), "") << line.substr(0, length);
  EXPECT_THAT(problem(R"({"time_ns":1,"rtt":)"), HasSubstr("key 'rtt'"));
  EXPECT_THAT(problem(R"({"time_ns":1,"rtt":12)"), HasSubstr("column 22"));
}

TEST(ParseJson, RefusesWhatIsNoObject) {
  for (const auto* line : {"[]", "1", "\"rtt\"", "null", "true", "{} {}", "{},", "{\"rtt\":1}x", "{rtt:1}", "nul"})
    EXPECT_NE(problem(line), "") << line;
  using namespace std::string_view_literals;
  EXPECT_THAT(problem("{}\0{}"sv), HasSubstr("column 3: NUL"));
}

TEST(ParseJson, RefusesWhatIsNotUtf8) {
  EXPECT_THAT(problem("{\"ulp\":\"\xff\"}"), HasSubstr("column 9: not UTF-8"));
  EXPECT_THAT(problem("{\"x\":\"\xc3\xa4\xed\xa0\x80\"}"), HasSubstr("column 9: not UTF-8"));
  EXPECT_THAT(problem(R"({"ulp":"\udc80"})"), HasSubstr("key 'ulp'"));
}

TEST(ParseJson, DeepNestingDoesNotExhaustTheStack) {
  const std::size_t depth = 1'000'000;
  EXPECT_NE(problem("{\"x\":" + std::string(depth, '[')), "");
  EXPECT_EQ(problem("{\"x\":" + std::string(depth, '[') + std::string(depth, ']') + "}"), "");
}

class JsonFile : public ::testing::Test {
 protected:
  JsonFile() {
    std::string name = ::testing::TempDir() + "tcpinfo-json-XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  ~JsonFile() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path file(std::string_view content) const {
    const auto path = directory_ / "records.jsonl";
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  std::string problem_of(std::string_view content) const {
    try {
      read_json_lines(file(content));
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), make_error_code(Errc::kMalformed));
      return e.what();
    }
    return {};
  }

  std::filesystem::path directory_;
  const std::string schema_ = JsonWriter().schema() + '\n';
};

TEST_F(JsonFile, GivesAllRecordsInTheirOrder) {
  records::Random random(5);
  JsonWriter writer;
  std::vector<tcpinfo_record> written;
  std::string content = schema_;
  for (unsigned i = 0; i < 100; ++i) {
    written.push_back(records::random_record(random, i));
    (content += writer.line(Record(written.back()))) += '\n';
  }
  bool truncated = true;
  const auto read = read_json_lines(file(content), &truncated);
  EXPECT_FALSE(truncated);
  ASSERT_EQ(read.size(), written.size());
  for (std::size_t i = 0; i < read.size(); ++i) EXPECT_TRUE(records::same_bytes(read[i], written[i])) << i;
}

TEST_F(JsonFile, SchemaAloneIsARecordingOfNothing) {
  bool truncated = true;
  EXPECT_TRUE(read_json_lines(file(schema_), &truncated).empty());
  EXPECT_FALSE(truncated);
}

TEST_F(JsonFile, LeavesOutALastLineThatWasCutOff) {
  const auto line = line_of(records::sample());
  for (const std::size_t length : {std::size_t{1}, std::size_t{20}, line.size()}) {
    bool truncated = false;
    const auto read = read_json_lines(file(schema_ + line + '\n' + line.substr(0, length)), &truncated);
    EXPECT_TRUE(truncated) << length;
    ASSERT_EQ(read.size(), 1U) << length;
    EXPECT_TRUE(records::same_bytes(read[0], records::sample()));
  }
}

TEST_F(JsonFile, NamesTheLineThatIsMalformed) {
  EXPECT_THAT(problem_of(schema_ + "{\"rtt\":1}\n{\"rtt\":\n{\"rtt\":2}\n"), HasSubstr("line 3: key 'rtt'"));
  EXPECT_THAT(problem_of(schema_ + "\n"), HasSubstr("line 2"));
  EXPECT_THAT(problem_of(schema_ + "{}\n{\"tos\":300}\n"), HasSubstr("records.jsonl: line 3: key 'tos'"));
}

TEST_F(JsonFile, WantsTheSchema) {
  EXPECT_THAT(problem_of(""), HasSubstr("no schema line"));
  EXPECT_THAT(problem_of("{\"rtt\":1}\n"), HasSubstr("line 1: no schema line"));
  EXPECT_THAT(problem_of("{\"schema\":\"tcpi"), HasSubstr("line 1: no schema line"));
  EXPECT_THAT(problem_of("time_ns,rtt\n1,2\n"), HasSubstr("line 1"));
  EXPECT_THAT(problem_of("{\"schema\":\"tcpinfo\",\"version\":9}\n"), HasSubstr("line 1: schema version 9"));
}

TEST_F(JsonFile, RecordingsPutTogetherAreOne) {
  const auto read = read_json_lines(file(schema_ + "{\"rtt\":1}\n" + schema_ + "{\"rtt\":2}\n"));
  ASSERT_EQ(read.size(), 2U);
  EXPECT_EQ(Record(read[1]).rtt(), 2U);
  EXPECT_THAT(problem_of(schema_ + "{\"schema\":\"tcpinfo\",\"version\":9}\n"), HasSubstr("line 2: schema version 9"));
}

TEST_F(JsonFile, ThatCannotBeReadGivesTheSystemsReason) {
  const auto code = [](const std::filesystem::path& path) {
    try {
      read_json_lines(path);
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(path.string()));
      return e.code();
    }
    return std::error_code();
  };
  EXPECT_EQ(code(directory_ / "missing"), std::error_code(ENOENT, std::generic_category()));
  EXPECT_EQ(code(directory_), std::error_code(EISDIR, std::generic_category()));
}

}  // namespace
}  // namespace tcpinfo
