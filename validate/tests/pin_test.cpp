// SPDX-License-Identifier: BSD-2-Clause
// What a source leaves pinned for the next one: rings, connections, statistics, and the program if that is wanted.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

#include "child.hpp"
#include "lab/attached.hpp"
#include "lab/fd.hpp"
#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "placed_test.hpp"

namespace {

using namespace std::chrono_literals;
using lab::Ip;
using tcpinfo::Event;
using tcpinfo::Mode;
using tcpinfo::Record;
using tcpinfo::SockopsSource;
using testing::ElementsAre;
using testing::HasSubstr;

/// A bpffs of its own.
class BpfFs {
 public:
  BpfFs() {
    std::string name = std::filesystem::temp_directory_path() / "tcpinfo-pins-XXXXXX";
    if (!mkdtemp(name.data())) throw std::system_error(errno, std::generic_category(), "mkdtemp");
    path_ = name;
    lab::check(mount("bpf", path_.c_str(), "bpf", 0, nullptr), "mount bpf");
  }
  ~BpfFs() {
    umount2(path_.c_str(), MNT_DETACH);
    rmdir(path_.c_str());
  }
  BpfFs(const BpfFs&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

class Pinned : public lab::PlacedTest {
 protected:
  void SetUp() override {
    PlacedTest::SetUp();
    if (IsSkipped()) return;
    files = std::make_unique<BpfFs>();
    pins = files->path() / "web";
  }
  tcpinfo::SockopsOptions options(bool link, Mode mode = Mode::kState) const {
    tcpinfo::SockopsOptions options;
    options.cgroup = cgroup.path();
    options.mode = mode;
    options.pin = pins;
    options.pin_link = link;
    return options;
  }
  unsigned attached() const { return lab::count_attached(cgroup.path()); }
  static std::vector<tcpinfo_record> drain(SockopsSource& source) {
    std::vector<tcpinfo_record> records;
    while (source.drain([&](const Record& record) { records.push_back(record.raw()); }).records > 0) {
    }
    return records;
  }
  static std::vector<Event> events_of(const std::vector<tcpinfo_record>& records, std::uint64_t cookie) {
    std::vector<Event> events;
    for (const auto& record : records)
      if (record.cookie == cookie) {
        EXPECT_EQ(record.sequence, events.size()) << "no record of it is missing";
        events.push_back(static_cast<Event>(record.event));
      }
    return events;
  }
  static void expect_balanced(const SockopsSource& source) {
    const auto s = source.statistics();
    for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event)
      EXPECT_EQ(s.emitted[event], s.delivered[event] + s.lost_ring[event] + s.lost_sink[event]) << event;
  }

  std::unique_ptr<BpfFs> files;
  std::filesystem::path pins;
};

TEST_F(Pinned, TheNextOneFindsWhatTheRingsHoldAndTellsThatNobodyWasThere) {
  inside([&] {
    auto listener = lab::listen(Ip::kV4);
    lab::Pair pair;
    {
      SockopsSource first(options(false));
      lab::connected(listener, Ip::kV4).client.abort();
      EXPECT_FALSE(drain(first).empty()) << "what it delivered is in the books of the next one";
      pair = lab::connected(listener, Ip::kV4);
    }
    EXPECT_EQ(attached(), 0u);
    auto unseen = lab::connected(listener, Ip::kV4);
    SockopsSource second(options(false));
    auto records = drain(second);
    const auto cookie = pair.client.cookie();
    EXPECT_THAT(events_of(records, cookie), ElementsAre(Event::kOpen, Event::kState));
    const auto gap = std::ranges::find(records, TCPINFO_EVENT_GAP, &tcpinfo_record::event);
    ASSERT_NE(gap, records.end());
    EXPECT_FALSE(Record(*gap).lost_records()) << "nobody knows how many";
    EXPECT_FALSE(Record(*gap).lost_event());
    for (const auto& record : records)
      EXPECT_EQ(record.time_ns < gap->time_ns, &record < &*gap || record.event == TCPINFO_EVENT_ADOPTED)
          << "it is told in its place";
    // Whom it followed it follows on; the one that came meanwhile it adopts.
    EXPECT_THAT(events_of(records, unseen.client.cookie()), ElementsAre(Event::kAdopted));
    const auto unseen_cookie = unseen.client.cookie();
    pair.client.abort();
    unseen.client.abort();
    const auto later = drain(second);
    records.insert(records.end(), later.begin(), later.end());
    EXPECT_THAT(events_of(records, cookie), ElementsAre(Event::kOpen, Event::kState, Event::kClose));
    EXPECT_THAT(events_of(records, unseen_cookie), ElementsAre(Event::kAdopted, Event::kClose));
    second.stop();
    drain(second);
    expect_balanced(second);
  });
}

TEST_F(Pinned, WithTheLinkNothingIsLostWhileNobodyIsThere) {
  inside([&] {
    auto listener = lab::listen(Ip::kV4);
    { SockopsSource first(options(true)); }
    EXPECT_EQ(attached(), 1u);
    std::vector<std::uint64_t> cookies;
    for (int i = 0; i < 20; ++i) {
      auto pair = lab::connected(listener, Ip::kV4);
      cookies.push_back(pair.client.cookie());
      pair.client.abort();
    }
    SockopsSource second(options(true));
    EXPECT_EQ(attached(), 1u);
    const auto records = drain(second);
    for (const auto cookie : cookies)
      EXPECT_THAT(events_of(records, cookie), ElementsAre(Event::kOpen, Event::kState, Event::kClose));
    EXPECT_EQ(std::ranges::count(records, TCPINFO_EVENT_GAP, &tcpinfo_record::event), 0);
    expect_balanced(second);
    second.close();
    EXPECT_EQ(attached(), 1u);
    tcpinfo::unpin(pins);
    for (int i = 0; i < 5000 && attached() > 0; ++i) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(attached(), 0u);
    EXPECT_FALSE(exists(pins));
  });
}

TEST_F(Pinned, KilledAtAnyMomentAndStartedAgainNoRecordIsMissing) {
  inside([&] {
    auto listener = lab::listen(Ip::kV4);
    // Room for all, three records an end: on a busy machine nobody may drain.
    constexpr int kRounds = 10, kConnections = 100;
    auto chosen = options(true);
    chosen.life_cycle_ring_bytes = std::bit_ceil(kRounds * kConnections * 2 * 3 * (sizeof(tcpinfo_record) + 8));
    std::map<std::uint64_t, std::set<std::uint32_t>> sequences;  // by connection
    std::map<std::uint64_t, bool> closed;
    struct Taken {
      std::uint64_t cookie;
      std::uint32_t sequence, is_close;
    };
    const std::unique_ptr<FILE, int (*)(FILE*)> file(tmpfile(), fclose);
    ASSERT_TRUE(file);
    std::size_t made = 0;
    for (int round = 0; round < kRounds; ++round) {
      // Into a file, which never keeps it waiting.
      lab::Child child("a-source", [&](const lab::Socket& parent) {
        SockopsSource source(chosen);
        lab::tell(parent, 0);
        for (;;) {
          source.tick(std::chrono::steady_clock::now());
          source.drain([&](const Record& record) {
            if (!record.cookie()) return;
            const Taken taken{*record.cookie(), *record.sequence(), record.event() == TCPINFO_EVENT_CLOSE};
            static_cast<void>(write(fileno(file.get()), &taken, sizeof(taken)));
          });
        }
      });
      ASSERT_EQ(lab::hear(child.end()), 0u);
      const std::chrono::milliseconds time(20 + 7 * round);
      const auto end = std::chrono::steady_clock::now() + time;
      for (int i = 0; i < kConnections && std::chrono::steady_clock::now() < end; ++i) {
        auto pair = lab::connected(listener, Ip::kV4);
        pair.client.abort();
        made += 2;
        std::this_thread::sleep_for(time / kConnections);
      }
      kill(child.pid(), SIGKILL);
    }
    SockopsSource last(chosen);
    for (const auto& record : drain(last)) {
      if (!Record(record).cookie()) continue;
      sequences[record.cookie].insert(record.sequence);
      closed[record.cookie] |= record.event == TCPINFO_EVENT_CLOSE;
    }
    Taken taken;
    for (rewind(file.get()); fread(&taken, sizeof(taken), 1, file.get()) == 1;) {
      sequences[taken.cookie].insert(taken.sequence);
      closed[taken.cookie] |= taken.is_close != 0;
    }
    EXPECT_EQ(tcpinfo::Statistics::sum(last.statistics().lost_ring), 0u);
    EXPECT_EQ(sequences.size(), made);
    for (const auto& [cookie, numbers] : sequences) {
      EXPECT_EQ(*numbers.rbegin() + 1, numbers.size()) << "none is missing of " << cookie;
      EXPECT_TRUE(closed[cookie]);
    }
  });
}

TEST_F(Pinned, LossesThatWereNotToldYetAreTold) {
  inside([&] {
    auto chosen = options(true);
    chosen.life_cycle_ring_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    { SockopsSource first(chosen); }
    auto listener = lab::listen(Ip::kV4);
    for (int i = 0; i < 50; ++i) lab::connected(listener, Ip::kV4).client.abort();
    SockopsSource second(chosen);
    std::uint64_t told = 0;
    for (const auto& record : drain(second))
      told += Record(record).event() == TCPINFO_EVENT_GAP ? record.lost_records : 0;
    EXPECT_GT(told, 0u);
    EXPECT_EQ(told, tcpinfo::Statistics::sum(second.statistics().lost_ring));
    expect_balanced(second);
  });
}

void expect_error(const tcpinfo::SockopsOptions& options, std::error_code code, const std::string& says) {
  try {
    SockopsSource source(options);
    FAIL() << "it opened";
  } catch (const tcpinfo::Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(says));
  }
}

TEST_F(Pinned, OtherOptionsAreRefused) {
  { SockopsSource first(options(false)); }
  auto other = options(false);
  other.mode = Mode::kClose;
  expect_error(other, tcpinfo::Errc::kInvalidOption, "tcpinfo unpin " + pins.string());
  auto larger = options(false);
  larger.life_cycle_ring_bytes *= 2;
  expect_error(larger, tcpinfo::Errc::kInvalidOption, "with other options");
  SockopsSource again(options(false));
}

TEST_F(Pinned, AStartThatFailsOrDiesHalfwayLeavesNothingInTheWay) {
  auto wrong = options(true);
  wrong.cgroup = cgroup.path() / "cgroup.procs";
  EXPECT_THROW(SockopsSource{wrong}, tcpinfo::Error);
  EXPECT_FALSE(exists(pins));
  // As if it had died: one map, and not the last one.
  std::filesystem::create_directory(pins);
  const lab::Fd map(bpf_map_create(BPF_MAP_TYPE_ARRAY, "half", 4, 4, 1, nullptr));
  ASSERT_EQ(bpf_obj_pin(map.get(), (pins / "ring-0").c_str()), 0);
  SockopsSource source(options(true));
  EXPECT_EQ(attached(), 1u);
}

TEST_F(Pinned, OneSourceAtATime) {
  SockopsSource first(options(true));
  expect_error(options(true), {EBUSY, std::generic_category()}, "one at a time");
  EXPECT_THROW(tcpinfo::unpin(pins), tcpinfo::Error);
}

TEST_F(Pinned, ElsewhereThanInABpffsIsAnError) {
  auto wrong = options(false);
  wrong.pin = std::filesystem::temp_directory_path() / "tcpinfo-no-bpffs";
  expect_error(wrong, tcpinfo::Errc::kInvalidOption, "mount -t bpf");
  EXPECT_FALSE(exists(wrong.pin));
  auto link = options(false);
  link.pin.clear();
  link.pin_link = true;
  expect_error(link, tcpinfo::Errc::kInvalidOption, "directory");
}

}  // namespace
