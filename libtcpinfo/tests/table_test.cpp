// SPDX-License-Identifier: BSD-2-Clause
#include <cstdint>
#include <set>
#include <string_view>

#include <gtest/gtest.h>

#include <tcpinfo/record.hpp>

namespace tcpinfo {
namespace {

std::size_t size_of(std::string_view type) {
  if (type == "u8") return 1;
  if (type == "u16") return 2;
  if (type == "u32") return 4;
  if (type == "u64") return 8;
  if (type == "addr" || type == "name") return 16;
  ADD_FAILURE() << "unknown type " << type;
  return 0;
}

TEST(Table, RowsStandInTheOrderOfTheirPresenceBits) {
  std::size_t index = 0;
  for (const auto& row : fields()) {
    EXPECT_EQ(static_cast<std::size_t>(row.field), index) << row.name;
    EXPECT_EQ(&info(row.field), &row) << row.name;
    ++index;
  }
  EXPECT_EQ(index, std::size_t{TCPINFO_FIELD_COUNT});
  EXPECT_LE(index, std::size_t{64 * TCPINFO_PRESENT_WORDS});
}

TEST(Table, MembersFollowEachOtherWithoutPadding) {
  std::size_t end = 8 + 8 * TCPINFO_PRESENT_WORDS;
  for (const auto& row : fields()) {
    EXPECT_EQ(row.offset, end) << row.name;
    EXPECT_EQ(row.size, size_of(row.type)) << row.name;
    EXPECT_EQ(row.offset % (row.size > 8 ? 8 : row.size), 0) << row.name;
    end = row.offset + row.size;
  }
  EXPECT_EQ(end, sizeof(tcpinfo_record));
}

TEST(Table, OffsetsAndSizesAreThoseOfTheStruct) {
#define X(id, ...)                                                        \
  EXPECT_EQ(info(Field::id).offset, offsetof(tcpinfo_record, id)) << #id; \
  EXPECT_EQ(info(Field::id).size, sizeof(tcpinfo_record::id)) << #id;     \
  EXPECT_EQ(info(Field::id).name, #id);
  TCPINFO_FIELDS(X)
#undef X
}

// The record is append-only: readers of old recordings and old programs in the kernel depend on these places.
TEST(Table, PlacesOfVersionOneDoNotMove) {
  EXPECT_EQ(TCPINFO_RECORD_VERSION, 1);
  EXPECT_EQ(offsetof(tcpinfo_record, time_ns), 32U);
  EXPECT_EQ(static_cast<unsigned>(Field::time_ns), 0U);
  EXPECT_EQ(static_cast<unsigned>(Field::rtt), 46U);
  EXPECT_EQ(offsetof(tcpinfo_record, rtt), 220U);
  EXPECT_EQ(static_cast<unsigned>(Field::skmem_drops), 112U);
}

TEST(Table, NamesAreUniqueAndFoundAgain) {
  std::set<std::string_view> names;
  for (const auto& row : fields()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_EQ(row.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), std::string_view::npos) << row.name;
    EXPECT_EQ(find_field(row.name), &row);
  }
  EXPECT_EQ(find_field(""), nullptr);
  EXPECT_EQ(find_field("RTT"), nullptr);
  EXPECT_EQ(find_field("rtt "), nullptr);
  EXPECT_EQ(find_field("tcpi_rtt"), nullptr);
}

TEST(Table, EveryRowIsDocumented) {
  for (const auto& row : fields()) {
    EXPECT_FALSE(row.description.empty()) << row.name;
    EXPECT_FALSE(row.kernel.empty()) << row.name;
    EXPECT_NE(row.description.back(), '.') << row.name;
  }
}

TEST(Table, FormatsFitTypesAndKindsFitUnits) {
  for (const auto& row : fields()) {
    EXPECT_EQ(row.format == Format::address, row.type == "addr") << row.name;
    EXPECT_EQ(row.format == Format::text, row.type == "name") << row.name;
    if (row.format == Format::number || row.type == "addr" || row.type == "name") continue;
    EXPECT_EQ(row.size, 1) << row.name << ": codes are one byte";
    EXPECT_EQ(row.unit, Unit::none) << row.name;
  }
  for (const auto& row : fields())
    if (row.kind == Kind::counter) {
      EXPECT_EQ(row.format, Format::number) << row.name;
      EXPECT_NE(row.unit, Unit::none) << row.name << ": what does it count?";
    }
}

TEST(Table, FirstKernelsAreReleasesAndBelongToWhatIsTheKernels) {
  for (const auto& row : fields()) {
    if (row.since.empty()) {
      const bool is_header = row.field < Field::ca_state;
      EXPECT_TRUE(row.sources != Sources::all || is_header || row.field == Field::triggered) << row.name;
      continue;
    }
    const auto dot = row.since.find('.');
    ASSERT_NE(dot, std::string_view::npos) << row.name;
    EXPECT_EQ(row.since.find_first_not_of("0123456789"), dot) << row.name;
    EXPECT_NE(row.sources, Sources::nobody) << row.name;
  }
  EXPECT_EQ(info(Field::rtt).since, "2.6");
  EXPECT_EQ(info(Field::total_rto).since, "6.7");
}

TEST(Table, SourcesAreThoseOfTheColumn) {
  EXPECT_TRUE(gives(SourceId::kSockops, Field::rtt) && gives(SourceId::kInetDiag, Field::rtt));
  EXPECT_TRUE(gives(SourceId::kIter, Field::cpu) && !gives(SourceId::kInetDiag, Field::cpu));
  EXPECT_TRUE(gives(SourceId::kSockops, Field::swept) && !gives(SourceId::kIter, Field::swept));
  EXPECT_FALSE(gives(SourceId::kSockops, Field::fackets));
}

TEST(Table, ComparisonsWithIperf3HaveBothNameAndRule) {
  for (const auto& row : fields()) EXPECT_TRUE(row.rule == Rule::none || !row.iperf3.empty()) << row.name;
  EXPECT_EQ(info(Field::rtt).rule, Rule::equal);
  EXPECT_EQ(info(Field::snd_cwnd).rule, Rule::times_snd_mss);
  EXPECT_EQ(info(Field::total_retrans).rule, Rule::delta);
  EXPECT_EQ(info(Field::total_retrans).iperf3, "retransmits");
  EXPECT_EQ(info(Field::bytes_sent).rule, Rule::ledger);
}

TEST(Table, UnitsAreTheKernels) {
  EXPECT_EQ(info(Field::rtt).unit, Unit::us);
  EXPECT_EQ(info(Field::rto).unit, Unit::us);
  EXPECT_EQ(info(Field::last_data_sent).unit, Unit::ms);
  EXPECT_EQ(info(Field::time_ns).unit, Unit::ns);
  EXPECT_EQ(info(Field::snd_cwnd).unit, Unit::segments);
  EXPECT_EQ(info(Field::delivery_rate).unit, Unit::bytes_per_s);
  EXPECT_EQ(info(Field::bbr_cwnd_gain).unit, Unit::scale256);
}

// Each enumerator has a name of its own, and what is none has no name.
template <class E>
void expect_names(unsigned first, unsigned end) {
  std::set<std::string_view> names;
  for (unsigned value = first; value < end; ++value) {
    EXPECT_FALSE(name(static_cast<E>(value)).empty()) << value;
    EXPECT_TRUE(names.insert(name(static_cast<E>(value))).second) << value;
  }
  EXPECT_EQ(name(static_cast<E>(end)), "");
  EXPECT_EQ(name(static_cast<E>(255)), "");
}

TEST(Table, EveryEnumeratorHasAName) {
  expect_names<Event>(1, TCPINFO_EVENTS);
  expect_names<SourceId>(1, TCPINFO_SOURCES);
  expect_names<Mode>(0, TCPINFO_MODES);
  expect_names<Format>(0, static_cast<unsigned>(Format::text) + 1);
  expect_names<Unit>(0, static_cast<unsigned>(Unit::scale256) + 1);
  expect_names<Kind>(0, static_cast<unsigned>(Kind::flags) + 1);
  expect_names<Rule>(0, static_cast<unsigned>(Rule::ledger) + 1);
  EXPECT_EQ(name(Event::kSample), "sample");
  EXPECT_EQ(name(Event::kAdopted), "adopted");
  EXPECT_EQ(name(Event::kGap), "gap");
  EXPECT_EQ(name(SourceId::kInetDiag), "inet_diag");
  EXPECT_EQ(name(Unit::bytes_per_s), "bytes_per_s");
  EXPECT_EQ(name(Rule::times_snd_mss), "times_snd_mss");
  EXPECT_EQ(name(Format::boolean), "boolean");
}

}  // namespace
}  // namespace tcpinfo
