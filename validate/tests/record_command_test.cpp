// SPDX-License-Identifier: BSD-2-Clause
// tcpinfo record and tcpinfo replay: what is left of a recording when its writer is killed, stopped or out of disk.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidjson/document.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/tcpinfo.hpp>

#include "lab/files.hpp"
#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "program.hpp"
#include "requirements.hpp"

namespace {

using namespace std::chrono_literals;
using lab::Ip;
using lab::lines;
using lab::Outcome;
using lab::read_text;
using lab::Running;
using lab::TemporaryDirectory;
using lab::Words;
using tcpinfo::Event;
using tcpinfo::Record;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// Of the events whose records come from the kernel.
void expect_delivered(const tcpinfo::EventCounts& got, tcpinfo::EventCounts delivered) {
  delivered[TCPINFO_EVENT_GAP] = 0;
  EXPECT_EQ(got, delivered);
}

/// A file system that is soon full.
class SmallDisk {
 public:
  explicit SmallDisk(const fs::path& at) : at_(at) {
    fs::create_directory(at_);
    lab::check(mount("tmpfs", at_.c_str(), "tmpfs", 0, "size=2m"), "mount tmpfs");
  }
  ~SmallDisk() { umount2(at_.c_str(), MNT_DETACH); }
  SmallDisk(const SmallDisk&) = delete;

  void fill() const {
    std::ofstream filler(at_ / "filler", std::ios::binary);
    const std::string block(4096, 'x');
    while (filler.write(block.data(), 4096).flush()) {
    }
  }
  void make_room() const { fs::remove(at_ / "filler"); }

 private:
  fs::path at_;
};

Outcome run(Words words) { return lab::run(lab::tcpinfo_command(std::move(words))); }

struct Contents {
  std::vector<tcpinfo_record> records;  // without those that tell of gaps
  tcpinfo::EventCounts by_event{}, gaps{};
  bool cut_off = false;
};

Contents read_recording(const fs::path& path) {
  Contents contents;
  tcpinfo::RecordingReader reader(path);
  while (const auto record = reader.next()) {
    if (record->event() == TCPINFO_EVENT_GAP) {
      contents.gaps[record->lost_event().value()] += record->lost_records().value();
    } else {
      contents.records.push_back(record->raw());
      ++contents.by_event[record->event().value()];
    }
  }
  EXPECT_FALSE(reader.error());
  contents.cut_off = reader.cut_off();
  return contents;
}

struct Books {
  tcpinfo::EventCounts emitted{}, delivered{}, ring{}, sink{}, left{};
};

Books read_books(const fs::path& path) {
  rapidjson::Document json;
  json.Parse(read_text(path).c_str());
  EXPECT_FALSE(json.HasParseError());
  Books books;
  const auto take = [](const rapidjson::Value& object, tcpinfo::EventCounts& counts) {
    for (std::size_t event = 1; event < tcpinfo::kEventCount; ++event)
      counts[event] = object[std::string(tcpinfo::name(static_cast<Event>(event))).c_str()].GetUint64();
  };
  take(json["emitted"], books.emitted);
  take(json["delivered"], books.delivered);
  take(json["lost"]["ring"], books.ring);
  take(json["lost"]["sink"], books.sink);
  take(json["lost"]["left"], books.left);
  return books;
}

class RecordCommand : public testing::Test {
 protected:
  void SetUp() override { TCPINFO_NEEDS_BPF(); }

  Words record(const fs::path& output, Words more = {}) const {
    Words words{"record", "-o", output.string(), "--cgroup", cgroup_.path().string()};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  lab::Cgroup cgroup_{"tcpinfo-record"};
  TemporaryDirectory directory_;
};

bool begun(const fs::path& file) {
  std::error_code ignored;
  return fs::exists(file, ignored) && fs::file_size(file, ignored) > 0;
}

/// One connection after the other, until told to end; both ends in the cgroup of the calling process.
class Load {
 public:
  struct Made {
    std::uint64_t cookie, time_ns;  // when it was open
  };
  Load() : thread_([this] { work(); }) {}
  ~Load() { stop(); }
  void stop() {
    if (!thread_.joinable()) return;
    stop_ = true;
    thread_.join();
  }
  /// After stop().
  const std::vector<Made>& made() const { return made_; }
  std::size_t count() const { return count_; }
  /// The longest time that one connection took: more than a few ms where others keep the processors.
  std::chrono::nanoseconds longest() const { return longest_; }

 private:
  void work() {
    const auto listener = lab::listen(Ip::kV4);
    while (!stop_) {
      const auto before = Clock::now();
      {
        const auto pair = lab::connected(listener, Ip::kV4);
        made_.push_back({pair.client.cookie(), tcpinfo::boot_time_ns()});
        pair.client.send(100);
        pair.server.receive(100);
      }
      ++count_;
      std::this_thread::sleep_for(100us);
      longest_ = std::max<std::chrono::nanoseconds>(longest_, Clock::now() - before);
    }
  }
  std::vector<Made> made_;
  std::atomic<std::size_t> count_ = 0;
  std::atomic<bool> stop_ = false;
  std::chrono::nanoseconds longest_{0};
  std::thread thread_;
};

TEST_F(RecordCommand, HoldsEveryRecordAndReplaysThem) {
  const auto file = directory_ / "a.zst";
  Running recorder(lab::tcpinfo_command(record(file, {"--stats", (directory_ / "stats").string()})));
  recorder.until([&] { return begun(file); });
  std::set<std::uint64_t> cookies;
  {
    const lab::InCgroup inside(cgroup_);
    const auto listener = lab::listen(Ip::kV6);
    for (int i = 0; i < 20; ++i) {
      const auto pair = lab::connected(listener, Ip::kV6);
      lab::exchange(pair);
      cookies.insert(pair.client.cookie());
      cookies.insert(pair.server.cookie());
    }
  }
  recorder.signal(SIGINT);
  const auto outcome = recorder.outcome();
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("records written in 1 file"), HasSubstr(file.string())));

  const auto contents = read_recording(file);
  EXPECT_FALSE(contents.cut_off);
  std::set<std::uint64_t> opened, closed;
  for (const auto& raw : contents.records) {
    if (Record(raw).event() == TCPINFO_EVENT_OPEN) opened.insert(*Record(raw).cookie());
    if (Record(raw).event() == TCPINFO_EVENT_CLOSE) closed.insert(*Record(raw).cookie());
  }
  EXPECT_EQ(opened, cookies);
  EXPECT_EQ(closed, cookies);
  const auto books = read_books(directory_ / "stats");
  expect_delivered(contents.by_event, books.delivered);

  // Line by line what watch would have printed.
  const auto replayed = run({"replay", file.string(), "--format", "jsonl"});
  ASSERT_EQ(replayed.code, 0) << replayed.err;
  const auto printed = lines(replayed.out);
  ASSERT_EQ(printed.size(), contents.records.size() + 1);
  tcpinfo::JsonWriter writer;
  EXPECT_EQ(printed[0], writer.schema());
  for (std::size_t i = 0; i < contents.records.size(); ++i)
    ASSERT_EQ(printed[i + 1], writer.line(Record(contents.records[i])));

  const auto closes = run({"replay", file.string(), "--format", "csv", "--fields", "event,cookie", "--count", "5"});
  EXPECT_THAT(lines(closes.out), SizeIs(6));
  const auto info = run({"replay", "--info", "--format", "table", file.string()});
  EXPECT_THAT(info.out,
              AllOf(HasSubstr(fmt::format("records    {} (", contents.records.size())), HasSubstr("sockops, polling"),
                    HasSubstr(cgroup_.path().string()), HasSubstr("complete")));
  const auto json = run({"replay", "--info", "--format", "jsonl", file.string()});
  rapidjson::Document document;
  document.Parse(json.out.c_str());
  ASSERT_FALSE(document.HasParseError());
  EXPECT_EQ(document["records"]["total"].GetUint64(), contents.records.size());
  EXPECT_TRUE(document["complete"].GetBool());
}

TEST_F(RecordCommand, RealTimeReplayTakesItsTime) {
  const auto file = directory_ / "a.zst";
  Running recorder(lab::tcpinfo_command(record(file)));
  recorder.until([&] { return begun(file); });
  {
    const lab::InCgroup inside(cgroup_);
    const auto listener = lab::listen(Ip::kV4);
    lab::connected(listener, Ip::kV4);
    std::this_thread::sleep_for(600ms);
    lab::connected(listener, Ip::kV4);
  }
  recorder.signal(SIGTERM);
  ASSERT_EQ(recorder.outcome().code, 0);
  const auto contents = read_recording(file);
  ASSERT_GE(contents.records.size(), 8u);
  const std::chrono::nanoseconds span(*Record(contents.records.back()).time_ns() -
                                      *Record(contents.records.front()).time_ns());
  ASSERT_GE(span, 600ms);
  const auto before = Clock::now();
  const auto replayed = run({"replay", file.string(), "--speed", "2"});
  EXPECT_GE(Clock::now() - before, span / 2);
  EXPECT_THAT(lines(replayed.out), SizeIs(contents.records.size() + 1));
  const auto half = run({"replay", file.string(), "--from", "400ms"});
  EXPECT_THAT(lines(half.out), SizeIs(testing::Lt(contents.records.size() + 1)));
}

TEST_F(RecordCommand, KilledAtAnyMomentItLosesTheLastSecondAtMost) {
  // An emulated processor keeps no time, and makes few connections.
  const bool keeps_time = !std::getenv("TCPINFO_GUEST");
  std::mt19937 random(20260131);
  int held_up = 0;
  for (int round = 0; round < 6;) {
    const auto file = directory_ / fmt::format("{}-{}.zst", round, held_up);
    Running recorder(lab::tcpinfo_command(record(file, {"--interval", "10ms"})));
    recorder.until([&] { return begun(file); });
    const lab::InCgroup inside(cgroup_);
    Load load;
    std::this_thread::sleep_for(std::chrono::milliseconds(1200 + random() % 1000));
    const auto killed_ns = tcpinfo::boot_time_ns();
    recorder.signal(SIGKILL);
    load.stop();
    EXPECT_EQ(recorder.outcome().code, -1);

    const auto contents = read_recording(file);
    EXPECT_TRUE(contents.cut_off);
    std::set<std::uint64_t> opened;
    for (const auto& raw : contents.records)
      if (Record(raw).event() == TCPINFO_EVENT_OPEN) opened.insert(*Record(raw).cookie());
    std::uint64_t oldest_missing = killed_ns;
    std::size_t due = 0;
    for (const auto& made : load.made()) {
      due += made.time_ns < killed_ns;
      if (made.time_ns < killed_ns && !opened.contains(made.cookie)) {
        oldest_missing = made.time_ns;
        break;
      }
    }
    // A process that gets no processor for a while cannot keep a promise about time.
    if (load.longest() > 100ms) {
      if (++held_up == 20) GTEST_SKIP() << "this host is too busy for a promise about time";
      continue;
    }
    // Nothing within is missing: where the recording ends is the only place that can lack something.
    if (keeps_time) {
      EXPECT_LE(killed_ns - oldest_missing, 1'000'000'000u) << "round " << round;
      EXPECT_GT(due, 100u);
    }

    const auto replayed = run({"replay", file.string(), "--format", "csv", "--fields", "cookie"});
    EXPECT_EQ(replayed.code, 0) << replayed.err;
    EXPECT_THAT(replayed.err, HasSubstr("cut off"));
    ++round;
  }
  if (!keeps_time) GTEST_SKIP() << "an emulated processor keeps no promise about time; what else there is held";
}

TEST_F(RecordCommand, AFullDiskIsAccountedForExactlyAndRecordingGoesOn) {
  const SmallDisk disk(directory_ / "disk");
  const auto file = directory_ / "disk" / "a.zst";
  Running recorder(
      lab::tcpinfo_command(record(file, {"--stats", (directory_ / "stats").string(), "--ring-size", "4M"})));
  recorder.until([&] { return begun(file); });
  disk.fill();
  {
    const lab::InCgroup inside(cgroup_);
    Load load;
    recorder.until([&] { return recorder.err().find("No space left on device") != std::string::npos; });
    // More than can wait, at four records a connection.
    const auto from = load.count();
    recorder.until([&] { return load.count() - from > 5000; });
    disk.make_room();
    recorder.until([&] { return recorder.err().find("can be written again") != std::string::npos; });
    const auto again = load.count();
    recorder.until([&] { return load.count() - again > 50; });
  }
  recorder.signal(SIGINT);
  const auto outcome = recorder.outcome();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("not written: "));

  const auto books = read_books(directory_ / "stats");
  const auto contents = read_recording(file);
  EXPECT_FALSE(contents.cut_off);
  EXPECT_GT(tcpinfo::Statistics::sum(books.sink), 0u);
  expect_delivered(contents.by_event, books.delivered);
  EXPECT_EQ(tcpinfo::Statistics::sum(books.ring), 0u) << "the gaps of the ring are not meant here";
  EXPECT_EQ(contents.gaps, books.sink);
  EXPECT_EQ(books.left, tcpinfo::EventCounts{}) << "which would make the sum come out";
  for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event)
    EXPECT_EQ(books.emitted[event], books.delivered[event] + books.ring[event] + books.sink[event]);
}

TEST_F(RecordCommand, ADiskThatStaysFullEndsWithAReadableFileAndAnError) {
  const SmallDisk disk(directory_ / "disk");
  const auto file = directory_ / "disk" / "a.zst";
  Running recorder(lab::tcpinfo_command(record(file, {"--stats", (directory_ / "stats").string()})));
  recorder.until([&] { return begun(file); });
  disk.fill();
  {
    const lab::InCgroup inside(cgroup_);
    Load load;
    recorder.until([&] { return recorder.err().find("No space left on device") != std::string::npos; });
  }
  recorder.signal(SIGINT);
  const auto outcome = recorder.outcome();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("records could not be written"), HasSubstr("not written")));
  const auto contents = read_recording(file);
  const auto books = read_books(directory_ / "stats");
  expect_delivered(contents.by_event, books.delivered);
  EXPECT_GT(tcpinfo::Statistics::sum(books.sink), 0u);
  EXPECT_EQ(books.left, tcpinfo::EventCounts{}) << "which would make the sum come out";
  for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event)
    EXPECT_EQ(books.emitted[event], books.delivered[event] + books.ring[event] + books.sink[event]);
}

TEST_F(RecordCommand, ReplayShowsTheOwnersThatWereRecorded) {
  const auto file = directory_ / "a.zst";
  Running recorder(lab::tcpinfo_command(
      record(file, {"--owner", "--trigger", "rtt > 0", "--stats", (directory_ / "stats").string()})));
  recorder.until([&] { return begun(file); });
  std::set<std::string> cookies;
  {
    const lab::InCgroup inside(cgroup_);
    const auto listener = lab::listen(Ip::kV4);
    const auto pair = lab::connected(listener, Ip::kV4);
    for (int i = 0; i < 5; ++i) {
      lab::exchange(pair);
      std::this_thread::sleep_for(200ms);
    }
    cookies = {std::to_string(pair.client.cookie()), std::to_string(pair.server.cookie())};
  }
  recorder.signal(SIGINT);
  const auto outcome = recorder.outcome();
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  expect_delivered(read_recording(file).by_event, read_books(directory_ / "stats").delivered);

  const auto info = run({"replay", "--info", "--format", "table", file.string()});
  EXPECT_THAT(info.out, AllOf(HasSubstr("trigger    rtt > 0"), HasSubstr("owners     recorded")));
  const auto replayed = run({"replay", "--owner", "--format", "jsonl", file.string()});
  ASSERT_EQ(replayed.code, 0) << replayed.err;
  const auto executable = fs::read_symlink("/proc/self/exe").string();
  std::set<std::string> owned;
  for (const auto& line : lines(replayed.out)) {
    rapidjson::Document json;
    json.Parse(line.c_str());
    if (!json.HasMember("executable") || !json["executable"].IsString()) continue;
    EXPECT_EQ(json["pid"].GetUint(), static_cast<unsigned>(getpid()));
    EXPECT_EQ(json["executable"].GetString(), executable);
    EXPECT_THAT(json["cgroup"].GetString(), testing::EndsWith(cgroup_.path().filename().string()));
    owned.insert(json["cookie"].IsString() ? json["cookie"].GetString() : std::to_string(json["cookie"].GetUint64()));
  }
  EXPECT_EQ(owned, cookies);
  // As watch without --owner.
  EXPECT_THAT(run({"replay", "--format", "jsonl", file.string()}).out, Not(HasSubstr("executable")));
  // Of samples only.
  const auto selected =
      run({"replay", "--format", "csv", "--fields", "event", "--trigger", "rtt > 100s", file.string()});
  EXPECT_THAT(lines(selected.out),
              AllOf(testing::Contains("open"), testing::Contains("close"), Not(testing::Contains("sample"))));
  EXPECT_THAT(selected.err, HasSubstr("samples not triggered"));
}

TEST_F(RecordCommand, StoppedForAWhileItAccountsForAll) {
  const auto file = directory_ / "a.zst";
  Running recorder(
      lab::tcpinfo_command(record(file, {"--stats", (directory_ / "stats").string(), "--ring-size", "16K"})));
  recorder.until([&] { return begun(file); });
  {
    const lab::InCgroup inside(cgroup_);
    Load load;
    recorder.until([&] { return load.count() > 100; });
    recorder.signal(SIGSTOP);
    const auto from = load.count();
    while (load.count() - from < 500) std::this_thread::sleep_for(1ms);
    recorder.signal(SIGCONT);
    const auto again = load.count();
    recorder.until([&] { return load.count() - again > 100; });
  }
  recorder.signal(SIGINT);
  const auto outcome = recorder.outcome();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const auto books = read_books(directory_ / "stats");
  EXPECT_GT(tcpinfo::Statistics::sum(books.ring), 0u);
  const auto contents = read_recording(file);
  expect_delivered(contents.by_event, books.delivered);
  EXPECT_EQ(books.left, tcpinfo::EventCounts{}) << "which would make the sum come out";
  for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event)
    EXPECT_EQ(books.emitted[event], books.delivered[event] + books.ring[event] + books.sink[event]);
}

TEST_F(RecordCommand, RotatesIntoADirectoryAndKeepsTheNewest) {
  const auto into = directory_ / "recordings";
  fs::create_directory(into);
  Running recorder(lab::tcpinfo_command(record(into, {"--rotate-time", "200ms", "--keep", "3"})));
  const auto files = [&] {
    Words found;
    for (const auto& entry : fs::directory_iterator(into)) found.push_back(entry.path().string());
    std::ranges::sort(found);
    return found;
  };
  {
    const lab::InCgroup inside(cgroup_);
    Load load;
    recorder.until([&] {
      const auto all = files();
      return !all.empty() && all.back().ends_with("-000006.zst");
    });
  }
  recorder.signal(SIGINT);
  const auto outcome = recorder.outcome();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  auto all = files();
  ASSERT_THAT(all, SizeIs(3));
  std::size_t records = 0;
  for (const auto& file : all) {
    const auto contents = read_recording(file);
    EXPECT_FALSE(contents.cut_off) << file;
    records += contents.records.size();
  }
  EXPECT_GT(records, 0u);
  std::ranges::reverse(all);
  Words words{"replay", "--format", "csv", "--fields", "time_ns"};
  words.insert(words.end(), all.begin(), all.end());
  const auto replayed = run(words);
  EXPECT_EQ(replayed.code, 0) << replayed.err;
  EXPECT_THAT(replayed.err, Not(HasSubstr("cut off")));
  EXPECT_THAT(lines(replayed.out), SizeIs(records + 1));
}

TEST_F(RecordCommand, SaysWhatIsWrong) {
  const auto file = directory_ / "there.zst";
  std::ofstream(file) << "precious";
  const auto says = [](const Outcome& outcome, int code, const std::string& what) {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_THAT(outcome.err, AllOf(testing::StartsWith("tcpinfo: "), HasSubstr(what)));
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
  };
  says(run(record(file)), 1, "File exists");
  EXPECT_EQ(read_text(file), "precious");
  says(run(record(directory_ / "missing" / "a.zst")), 1, "No such file");
  says(run(record(directory_ / "a.zst", {"--keep", "3"})), 2, "rotation");
  says(run(record(directory_ / "a.zst", {"--level", "77"})), 2, "from 1 to 19");
  says(run({"record"}), 2, "output");
  says(run({"replay", (directory_ / "a.zst").string()}), 1, "No such file");
  says(run({"replay", file.string()}), 1, "no recording");
  says(run({"replay", file.string(), "--speed", "0"}), 2, "not a speed");
  says(run(record(directory_ / "a.zst", {"--trigger", "rtt > 1ms and comm == x"})), 2,
       "column 15: comm is in no sample");
  says(run(record(directory_ / "a.zst", {"--trigger", "inode > 0"})), 2, "column 1: inode is not given by sockops");
  says(run({"replay", file.string(), "--info", "--speed", "1"}), 2, "--info");
  EXPECT_FALSE(fs::exists(directory_ / "a.zst"));
}

}  // namespace
