// SPDX-License-Identifier: BSD-2-Clause
// Decoding and encoding allocate nothing a record once their buffers have grown.
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <tcpinfo/csv.hpp>
#include <tcpinfo/filter.hpp>
#include <tcpinfo/format.hpp>
#include <tcpinfo/json.hpp>

#include "records.hpp"

namespace {
std::size_t allocations = 0;
}  // namespace

// Not inlined: GCC would take free() for a mismatch of operator new.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace tcpinfo {
namespace {

class Allocation : public ::testing::Test {
 protected:
  Allocation() {
    records::Random random(10);
    // Full records are the longest: the first of them makes the buffers grow.
    for (int i = 0; i < 200; ++i) records_.push_back(records::random_record(random, i % 2 ? 50 : 100));
    for (const auto field : {Field::local_address, Field::peer_address})
      records::set_address(records_[2], field, records::address("2001:db8:1111:2222:3333:4444:5555:6666"));
  }

  template <class F>
  std::size_t during(F encode) {
    for (const auto& record : records_) encode(Record(record));
    const auto before = allocations;
    for (const auto& record : records_) encode(Record(record));
    return allocations - before;
  }

  std::vector<tcpinfo_record> records_;
};

TEST_F(Allocation, IsCountedHere) {
  EXPECT_EQ(during([](const Record&) { ::operator delete(::operator new(1)); }), records_.size());
}

TEST_F(Allocation, NoneForAJsonLine) {
  JsonWriter writer;
  EXPECT_EQ(during([&](const Record& record) { writer.line(record); }), 0U);
}

TEST_F(Allocation, NoneForACsvLine) {
  CsvWriter writer;
  EXPECT_EQ(during([&](const Record& record) { writer.line(record); }), 0U);
}

TEST_F(Allocation, NoneForASummaryInAReusedText) {
  std::string text;
  EXPECT_EQ(during([&](const Record& record) {
              text.clear();
              append_summary(text, record);
            }),
            0U);
}

TEST_F(Allocation, NoneForReadingAndFiltering) {
  const auto filter = Filter::parse("port < 1024 or address in 10.0.0.0/8");
  std::size_t matched = 0;
  EXPECT_EQ(during([&](const Record& record) {
              matched += Record::view(records::bytes(record.raw()))->rtt().has_value();
              matched += filter.matches(record.raw().local_address, record.raw().local_port, record.raw().peer_address,
                                        record.raw().peer_port);
            }),
            0U);
  EXPECT_GT(matched, 0U);
}

}  // namespace
}  // namespace tcpinfo
