// SPDX-License-Identifier: BSD-2-Clause
// What is written keeps nothing of the connections that it is about.
#include "record_writer.hpp"

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "command.hpp"
#include "records.hpp"

namespace {
std::size_t live_bytes = 0;
}  // namespace

// Not inlined: GCC would take free() for a mismatch of operator new.
[[gnu::noinline]] void* operator new(std::size_t size) {
  void* const memory = std::malloc(size);
  if (!memory) throw std::bad_alloc();
  live_bytes += malloc_usable_size(memory);
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  if (memory) live_bytes -= malloc_usable_size(memory);
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { ::operator delete(memory); }

namespace cli {
namespace {

using tcpinfo::Field;

constexpr std::size_t kTurn = 256;  // as many records as a monitor drains before the output is flushed
constexpr std::size_t kTurnsOfWarmUp = 4, kTurns = 100;

TEST(LiveBytes, AreCountedHere) {
  const auto before = live_bytes;
  auto* const memory = ::operator new(1000);
  EXPECT_GE(live_bytes, before + 1000);
  ::operator delete(memory);
  EXPECT_EQ(live_bytes, before);
}

class RecordWriterMemory : public ::testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(All, RecordWriterMemory, testing::Values(Format::kTable, Format::kJsonLines, Format::kCsv),
                         [](const auto& format) {
                           return format.param == Format::kTable       ? "table"
                                  : format.param == Format::kJsonLines ? "jsonl"
                                                                       : "csv";
                         });

TEST_P(RecordWriterMemory, DoesNotGrowWithConnections) {
  records::Random random(1);
  std::vector<tcpinfo_record> records;
  for (std::size_t i = 0; i < kTurn; ++i) records.push_back(records::random_record(random, i % 2 ? 50 : 100));
  auto output = Output::create("/dev/null");
  RecordWriter writer(GetParam(), {}, TableKind::kLive, output);
  std::uint64_t connection = 1'000'000'000;  // of one length, as text
  std::size_t longest_turn = 0;
  const auto turn = [&] {
    for (auto& record : records) {
      record.cookie = ++connection;
      tcpinfo::set_present(record, Field::cookie);
      writer.append(tcpinfo::Record(record));
    }
    longest_turn = std::max(longest_turn, output.buffer().size());
    writer.flush();
  };
  for (std::size_t i = 0; i < kTurnsOfWarmUp; ++i) turn();
  const auto before = live_bytes;
  for (std::size_t i = 0; i < kTurns; ++i) turn();
  EXPECT_EQ(live_bytes, before) << "after " << kTurns * kTurn << " further connections";
  EXPECT_GT(longest_turn, kTurn * 40);
  EXPECT_LE(output.buffer().capacity(), 2 * longest_turn);
}

tcpinfo_record gap() {
  auto record = tcpinfo::make_record();
  tcpinfo::set_number(record, Field::time_ns, 5);
  tcpinfo::set_number(record, Field::event, TCPINFO_EVENT_GAP);
  tcpinfo::set_number(record, Field::source, TCPINFO_SOURCE_SOCKOPS);
  tcpinfo::set_number(record, Field::lost_records, 132);
  tcpinfo::set_number(record, Field::lost_event, TCPINFO_EVENT_SAMPLE);
  return record;
}

std::string written(Format format, const std::vector<Field>& fields, const tcpinfo_record& record) {
  auto output = Output::create("/dev/null");
  RecordWriter writer(format, fields, TableKind::kLive, output);
  output.buffer().clear();
  writer.append(tcpinfo::Record(record));
  return output.buffer();
}

TEST(RecordWriterGaps, AreALineInEveryFormat) {
  const auto record = gap();
  EXPECT_TRUE(written(Format::kTable, {}, record).ends_with("\ngap: 132 sample records lost\n"));
  EXPECT_TRUE(written(Format::kTable, {Field::rtt}, record).ends_with("\ngap: 132 sample records lost\n"));
  EXPECT_EQ(written(Format::kCsv, {Field::event, Field::rtt, Field::lost_records, Field::lost_event}, record),
            "gap,,132,sample\n");
  const auto line = written(Format::kJsonLines, {}, record);
  EXPECT_TRUE(records::same_bytes(tcpinfo::parse_json(line), record)) << line;
}

TEST(RecordWriterGaps, AreLeftOutWhereNoColumnTellsOfThem) {
  EXPECT_EQ(written(Format::kCsv, {Field::time_ns, Field::rtt}, gap()), "");
  EXPECT_EQ(written(Format::kJsonLines, {Field::rtt, Field::local_port}, gap()), "");
}

// Lines that a full disk or a reader that goes away leave unwritten are no records delivered.
TEST(RecordWriterLosses, AreWhatWasNotWrittenWhole) {
  std::string name = testing::TempDir() + "tcpinfo-lines-XXXXXX";
  const int file = mkstemp(name.data());
  ASSERT_GE(file, 0);
  ::close(file);
  auto output = Output::create(name);
  RecordWriter writer(Format::kCsv, {Field::event, Field::cookie}, TableKind::kLive, output);
  const auto append = [&](std::uint64_t event, std::uint64_t cookie) {
    auto record = tcpinfo::make_record();
    tcpinfo::set_number(record, Field::event, event);
    tcpinfo::set_number(record, Field::cookie, cookie);
    writer.append(tcpinfo::Record(record));
  };
  append(TCPINFO_EVENT_SAMPLE, 1);
  EXPECT_EQ(writer.unwritten()[TCPINFO_EVENT_SAMPLE], 1u) << "not yet";
  writer.flush();
  EXPECT_EQ(writer.unwritten(), tcpinfo::EventCounts{});

  append(TCPINFO_EVENT_SAMPLE, 2);
  const auto whole = output.buffer().size();
  append(TCPINFO_EVENT_SAMPLE, 3);
  append(TCPINFO_EVENT_CLOSE, 4);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  // One line and half of the next.
  const rlimit limit{std::filesystem::file_size(name) + whole + 3, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  EXPECT_THROW(writer.flush(), Failure);
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  std::filesystem::remove(name);
  const auto lost = writer.unwritten();
  EXPECT_EQ(lost[TCPINFO_EVENT_SAMPLE], 1u);
  EXPECT_EQ(lost[TCPINFO_EVENT_CLOSE], 1u);
  EXPECT_EQ(tcpinfo::Statistics::sum(lost), 2u);
}

}  // namespace
}  // namespace cli
