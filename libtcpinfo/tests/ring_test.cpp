// SPDX-License-Identifier: BSD-2-Clause
// The reader of ring buffers, on rings that the test writes itself as the kernel does.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ring.hpp"
#include "system.hpp"

namespace tcpinfo::ring {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

/// The producer's end: a file with the consumer's page, the producer's page and the data twice.
class Producer {
 public:
  explicit Producer(std::size_t bytes = 4096)
      : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))),
        bytes_(std::max(bytes, page_)),
        file_(memfd_create("ring", MFD_CLOEXEC)) {
    const auto size = 2 * page_ + 2 * bytes_;
    if (!file_ || ftruncate(file_.get(), static_cast<off_t>(size)) != 0)
      throw std::system_error(errno, std::generic_category());
    void* address = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    if (address == MAP_FAILED) throw std::system_error(errno, std::generic_category());
    mapping_ = {address, size};
    memory_ = static_cast<std::byte*>(address);
  }

  Ring reader() const { return {file_.get(), bytes_}; }
  Ring::Position& consumed() { return *reinterpret_cast<Ring::Position*>(memory_); }
  Ring::Position& produced() { return *reinterpret_cast<Ring::Position*>(memory_ + page_); }
  std::size_t bytes() const { return bytes_; }

  /// Returns the position, for commit(). Throws where the ring is full.
  Ring::Position reserve(std::uint64_t stamp, std::size_t size = sizeof(tcpinfo_record)) {
    const auto position = produced();
    const auto room = (size + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8;
    if (position + room - consumed() > bytes_ - 1) throw std::length_error("the ring is full");
    auto record = make_record();
    set_number(record, Field::time_ns, stamp);
    set_number(record, Field::event, TCPINFO_EVENT_SAMPLE);
    std::vector<std::byte> bytes(size);
    std::memcpy(bytes.data(), &record, std::min(size, sizeof(record)));
    header(position) = static_cast<std::uint32_t>(size) | BPF_RINGBUF_BUSY_BIT;
    write(position + BPF_RINGBUF_HDR_SZ, bytes);
    mirror(position);
    produced() += room;
    return position;
  }
  void commit(Ring::Position position, std::uint32_t flags = 0) {
    header(position) = (header(position) & ~BPF_RINGBUF_BUSY_BIT) | flags;
    mirror(position);
  }
  void submit(std::uint64_t stamp, std::size_t size = sizeof(tcpinfo_record)) { commit(reserve(stamp, size)); }

 private:
  std::byte* data() { return memory_ + 2 * page_; }
  std::uint32_t& header(Ring::Position position) {
    return *reinterpret_cast<std::uint32_t*>(data() + position % bytes_);
  }
  // Both places of each byte.
  void write(Ring::Position position, const std::vector<std::byte>& bytes) {
    for (std::size_t i = 0; i < bytes.size(); ++i)
      data()[(position + i) % bytes_] = data()[(position + i) % bytes_ + bytes_] = bytes[i];
  }
  void mirror(Ring::Position position) { std::memcpy(data() + position % bytes_ + bytes_, &header(position), 4); }

  std::size_t page_, bytes_;
  sys::Fd file_;
  Mapping mapping_;
  std::byte* memory_ = nullptr;
};

class RingTest : public testing::Test {
 protected:
  std::vector<std::uint64_t> drain(std::size_t limit = SIZE_MAX) {
    std::vector<std::uint64_t> stamps;
    const auto sink = [&](const Record& record) { stamps.push_back(*record.time_ns()); };
    const auto before = statistics.malformed;
    const auto taken = rings.drain(sink, limit, stop, statistics);
    EXPECT_EQ(taken, stamps.size() + statistics.malformed - before);
    return stamps;
  }

  Producer a, b, c;
  Rings rings;
  Statistics statistics;
  bool stop = false;
};

TEST_F(RingTest, GivesWhatWasSubmittedInOrderRoundAfterRound) {
  rings.add(a.reader());
  EXPECT_THAT(drain(), IsEmpty());
  for (std::uint64_t stamp = 1; stamp < 100; stamp += 3) {  // records wrap around
    for (std::uint64_t i = 0; i < 3; ++i) a.submit(stamp + i);
    EXPECT_FALSE(rings.is_drained());
    EXPECT_THAT(drain(), ElementsAre(stamp, stamp + 1, stamp + 2));
    EXPECT_TRUE(rings.is_drained());
    EXPECT_EQ(a.consumed(), a.produced());
  }
  EXPECT_EQ(statistics.delivered[TCPINFO_EVENT_SAMPLE], 99u);
}

TEST_F(RingTest, ALimitLeavesTheRest) {
  rings.add(a.reader());
  rings.add(b.reader());
  for (const auto stamp : {1, 4, 5}) a.submit(static_cast<std::uint64_t>(stamp));
  for (const auto stamp : {2, 3, 6}) b.submit(static_cast<std::uint64_t>(stamp));
  EXPECT_THAT(drain(2), ElementsAre(1, 2));
  EXPECT_THAT(drain(0), IsEmpty());
  a.submit(7);
  EXPECT_THAT(drain(1), ElementsAre(3));
  EXPECT_THAT(drain(), ElementsAre(4, 5, 6, 7));
  EXPECT_TRUE(rings.is_drained());
}

TEST_F(RingTest, MergesByStamp) {
  for (auto* producer : {&a, &b, &c}) rings.add(producer->reader());
  for (const auto stamp : {1, 2, 9}) a.submit(static_cast<std::uint64_t>(stamp));
  for (const auto stamp : {4, 8}) b.submit(static_cast<std::uint64_t>(stamp));
  for (const auto stamp : {3, 5, 6, 7}) c.submit(static_cast<std::uint64_t>(stamp));
  EXPECT_THAT(drain(), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9));
}

TEST_F(RingTest, WhatIsNotCommittedHoldsBackWhatMayFollowARecordBehindIt) {
  for (auto* producer : {&a, &b}) rings.add(producer->reader());
  a.submit(1);
  const auto busy = a.reserve(2);
  a.submit(5);  // committed, but nobody can say yet what comes before it
  b.submit(3);
  b.submit(4);
  b.submit(6);  // may be the successor of 5
  EXPECT_THAT(drain(), ElementsAre(1, 3, 4));
  EXPECT_THAT(drain(), IsEmpty());
  EXPECT_FALSE(rings.is_drained());
  a.commit(busy);
  EXPECT_THAT(drain(), ElementsAre(2, 5, 6));
}

TEST_F(RingTest, WhatIsNotCommittedHoldsBackNobodyElse) {
  for (auto* producer : {&a, &b}) rings.add(producer->reader());
  const auto busy = a.reserve(1);
  b.submit(2);
  EXPECT_THAT(drain(), ElementsAre(2));
  a.commit(busy);
  EXPECT_THAT(drain(), ElementsAre(1));
}

TEST_F(RingTest, SkipsWhatWasDiscarded) {
  for (auto* producer : {&a, &b}) rings.add(producer->reader());
  a.commit(a.reserve(1), BPF_RINGBUF_DISCARD_BIT);
  a.submit(2);
  a.commit(a.reserve(4), BPF_RINGBUF_DISCARD_BIT);
  b.submit(3);
  EXPECT_THAT(drain(), ElementsAre(2, 3));
  EXPECT_TRUE(rings.is_drained());
  EXPECT_EQ(a.consumed(), a.produced());
}

TEST_F(RingTest, CountsWhatIsNoRecord) {
  rings.add(a.reader());
  a.submit(1, 8);
  a.submit(2);
  a.submit(3, sizeof(tcpinfo_record) - 1);
  a.submit(4, sizeof(tcpinfo_record) + 8);  // a record and more
  EXPECT_THAT(drain(), ElementsAre(2, 4));
  EXPECT_EQ(statistics.malformed, 2u);
}

TEST_F(RingTest, CountsWhatTheSinkThrows) {
  rings.add(a.reader());
  for (std::uint64_t stamp = 1; stamp <= 4; ++stamp) a.submit(stamp);
  const auto sink = [](const Record& record) {
    if (*record.time_ns() % 2) throw std::runtime_error("no room");
  };
  EXPECT_EQ(rings.drain(sink, SIZE_MAX, stop, statistics), 4u);
  EXPECT_EQ(statistics.delivered[TCPINFO_EVENT_SAMPLE], 2u);
  EXPECT_EQ(statistics.lost_sink[TCPINFO_EVENT_SAMPLE], 2u);
}

TEST_F(RingTest, EndsWhereTheSinkSaysSo) {
  for (auto* producer : {&a, &b}) rings.add(producer->reader());
  for (std::uint64_t stamp = 1; stamp <= 3; ++stamp) a.submit(stamp);
  b.submit(4);
  const auto sink = [&](const Record& record) { stop = *record.time_ns() == 2; };
  EXPECT_EQ(rings.drain(sink, SIZE_MAX, stop, statistics), 2u);
  stop = false;
  EXPECT_THAT(drain(), ElementsAre(3, 4));
}

// A sink that is slow must not keep from the producers what it is done with.
TEST_F(RingTest, GivesRoomBackWhileItDrains) {
  Producer large(std::size_t{1} << 18);
  rings.add(large.reader());
  for (std::uint64_t stamp = 1; stamp <= 400; ++stamp) large.submit(stamp);
  std::uint64_t most = 0;
  const auto sink = [&](const Record& record) {
    const auto done = (*record.time_ns() - 1) * (sizeof(tcpinfo_record) + BPF_RINGBUF_HDR_SZ);
    ASSERT_GE(done, large.consumed()) << "this record is still in use";
    most = std::max(most, done - large.consumed());
  };
  EXPECT_EQ(rings.drain(sink, SIZE_MAX, stop, statistics), 400u);
  EXPECT_GT(most, 0u) << "not one by one";
  EXPECT_LT(most, large.bytes() / 8);
}

TEST(Ring, EachStepOfTheMappingMayFail) {
  Producer producer;
  static std::string_view failing;
  sys::fault_hook = [](std::string_view step) noexcept { return step == failing ? ENOMEM : 0; };
  for (const auto* step : {"map ring", "map ring data"}) {
    failing = step;
    EXPECT_THROW(producer.reader(), std::system_error) << step;
  }
  sys::fault_hook = nullptr;
  EXPECT_EQ(producer.reader().produced(), 0u);
}

}  // namespace
}  // namespace tcpinfo::ring
