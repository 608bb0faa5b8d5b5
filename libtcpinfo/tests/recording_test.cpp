// SPDX-License-Identifier: BSD-2-Clause
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <boost/asio/io_context.hpp>

#include <tcpinfo/monitor.hpp>
#include <tcpinfo/tcpinfo.hpp>

#include "recording_format.hpp"
#include "recording_json.hpp"
#include "records.hpp"
#include "system.hpp"

namespace {

using namespace tcpinfo;
using namespace std::chrono_literals;
using records::same_bytes;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

namespace fs = std::filesystem;

class Recording : public testing::Test {
 protected:
  Recording() {
    std::string name = fs::temp_directory_path() / "tcpinfo-recording-XXXXXX";
    if (!mkdtemp(name.data())) throw std::system_error(errno, std::generic_category(), "mkdtemp");
    directory_ = name;
  }
  ~Recording() override {
    sys::fault_hook = nullptr;
    detail::wall_offset_hook = nullptr;
    fs::remove_all(directory_);
  }
  fs::path path(std::string_view name = "one.zst") const { return directory_ / name; }
  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(directory_)) found.push_back(entry.path());
    std::ranges::sort(found);
    return found;
  }

  fs::path directory_;
};

/// Numbered by `sequence`, otherwise as different as records can be.
std::vector<tcpinfo_record> make_records(std::size_t count, unsigned percent = 80) {
  records::Random random(count);
  std::vector<tcpinfo_record> made;
  for (std::size_t i = 0; i < count; ++i) {
    auto record = records::random_record(random, percent);
    set_number(record, Field::sequence, i);
    set_number(record, Field::event, TCPINFO_EVENT_SAMPLE + i % 4);
    set_number(record, Field::time_ns, 1'000'000'000 + i * 1'000'000);
    made.push_back(record);
  }
  return made;
}

struct Contents {
  RecordingHeader header;
  std::vector<tcpinfo_record> records;
  std::vector<std::int64_t> wall_offsets;
  std::optional<RecordingEnd> end;
  bool cut_off = false;
  std::uint64_t damaged = 0;
  std::error_code error;
};

Contents read(const fs::path& path) {
  RecordingReader reader(path);
  Contents contents;
  contents.header = reader.header();
  while (const auto record = reader.next()) {
    contents.records.push_back(record->raw());
    contents.wall_offsets.push_back(reader.wall_offset_ns());
  }
  contents.end = reader.end();
  contents.cut_off = reader.cut_off();
  contents.damaged = reader.damaged_bytes();
  contents.error = reader.error();
  return contents;
}

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string compressed(std::string_view content) {
  std::string frame(ZSTD_compressBound(content.size()), '\0');
  const auto size = ZSTD_compress(frame.data(), frame.size(), content.data(), content.size(), 3);
  EXPECT_FALSE(ZSTD_isError(size));
  frame.resize(size);
  return frame;
}

std::string entry(std::uint32_t type, std::string_view payload) {
  const detail::EntryHead head{type, static_cast<std::uint32_t>(payload.size())};
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof(head));
  bytes += payload;
  bytes.append(detail::padded(payload.size()) - payload.size(), '\0');
  return bytes;
}

std::string header_entry(std::string_view json) {
  return entry(1, std::string(detail::kRecordingMagic, detail::kMagicBytes) + std::string(json));
}

void expect_same(const std::vector<tcpinfo_record>& got, std::span<const tcpinfo_record> wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(same_bytes(got[i], wanted[i])) << i;
}

/// Ends of the frames in a file.
std::vector<std::size_t> frame_ends(const std::string& file) {
  std::vector<std::size_t> ends;
  for (std::size_t at = 0; at < file.size();) {
    const auto size = ZSTD_findFrameCompressedSize(file.data() + at, file.size() - at);
    if (ZSTD_isError(size)) throw std::runtime_error("not a sequence of frames");
    ends.push_back(at += size);
  }
  return ends;
}

void append_all(RecordingWriter& writer, std::span<const tcpinfo_record> records) {
  for (const auto& record : records) ASSERT_FALSE(writer.append(Record(record)));
}

TEST_F(Recording, GivesBackEveryByteAndWhatTheHeaderSays) {
  const auto made = make_records(3000);
  Statistics source;
  source.emitted[TCPINFO_EVENT_SAMPLE] = 3001;
  source.lost_ring[TCPINFO_EVENT_SAMPLE] = 1;
  source.untracked = 7;
  const RecordingContext context{.source = SourceId::kIter,
                                 .mode = Mode::kPolling,
                                 .interval = 250ms,
                                 .cgroup = "/sys/fs/cgroup/a\"b",
                                 .filter = "port == 443",
                                 .trigger = "rtt > 5ms"};
  const auto before = boot_time_ns();
  RecordingWriter writer({.path = path(), .context = context, .frame_bytes = 64 << 10, .buffer_bytes = 64 << 10});
  append_all(writer, made);
  EXPECT_FALSE(writer.close(&source));
  EXPECT_EQ(writer.append(Record(made[0])).value(), EBADF);

  const auto contents = read(path());
  expect_same(contents.records, made);
  EXPECT_FALSE(contents.cut_off);
  EXPECT_EQ(contents.damaged, 0u);
  EXPECT_EQ(contents.header.context.source, context.source);
  EXPECT_EQ(contents.header.context.interval, context.interval);
  EXPECT_EQ(contents.header.context.cgroup, context.cgroup);
  EXPECT_EQ(contents.header.context.filter, context.filter);
  EXPECT_EQ(contents.header.context.trigger, context.trigger);
  EXPECT_FALSE(contents.header.context.owners);
  EXPECT_EQ(contents.header.file, 1u);
  EXPECT_THAT(contents.header.boot_id, SizeIs(36));
  EXPECT_FALSE(contents.header.kernel.empty());
  EXPECT_FALSE(contents.header.host.empty());
  EXPECT_GE(contents.header.start_ns, before);
  ASSERT_TRUE(contents.end);
  EXPECT_EQ(contents.end->records, made.size());
  EXPECT_EQ(contents.end->lost, 0u);
  EXPECT_FALSE(contents.end->rotated);
  ASSERT_TRUE(contents.end->source);
  EXPECT_EQ(contents.end->source->emitted, source.emitted);
  EXPECT_EQ(contents.end->source->lost_ring, source.lost_ring);
  EXPECT_EQ(contents.end->source->untracked, 7u);

  const auto statistics = writer.statistics();
  EXPECT_EQ(statistics.written, made.size());
  EXPECT_EQ(statistics.waiting, 0u);
  EXPECT_EQ(statistics.bytes, fs::file_size(path()));
  EXPECT_EQ(statistics.frames, frame_ends(bytes_of(path())).size());
  EXPECT_EQ(fs::status(path()).permissions() & fs::perms::others_all, fs::perms::none);
}

Owner make_owner(std::uint32_t pid, const std::string& comm) {
  return {.pid = pid,
          .comm = comm,
          .executable = "/usr/bin/" + comm,
          .holders = 2,
          .cgroup = "/system.slice/" + comm + ".service",
          .unit = comm + ".service",
          .container = {"docker", std::string(64, 'a'), "pod"},
          .netns = "net:[1]"};
}

TEST_F(Recording, GivesBackTheOwnersOfConnections) {
  auto made = make_records(12, 20);
  for (std::size_t i = 0; i < made.size(); ++i) {
    set_number(made[i], Field::cookie, 100 + i % 3);
    set_number(made[i], Field::generation, 0);
  }
  const auto one = make_owner(7, "one"), two = make_owner(8, "t\"w\xffo");
  RecordingContext context;
  context.owners = true;
  RecordingWriter writer({.path = path(), .context = context});
  for (std::size_t i = 0; i < made.size(); ++i) {
    const bool passed_on = i >= 6;
    // Nobody's: every third one.
    const auto* owner = i % 3 == 0 ? (passed_on ? &two : &one) : i % 3 == 1 ? &one : nullptr;
    ASSERT_FALSE(writer.append(Record(made[i]), owner));
    EXPECT_FALSE(i == 3 && writer.flush());
  }
  // The same cookie, another connection.
  set_number(made[0], Field::generation, 1);
  ASSERT_FALSE(writer.append(Record(made[0])));
  EXPECT_FALSE(writer.close());
  const auto raw_bytes = writer.statistics().raw_bytes;

  const auto check = [&](const fs::path& file, std::size_t first) {
    RecordingReader reader(file);
    EXPECT_TRUE(reader.header().context.owners);
    EXPECT_FALSE(reader.owner());
    std::size_t i = first;
    while (reader.next()) {
      const auto* owner = reader.owner();
      if (i == made.size() || i % 3 == 2) {
        EXPECT_FALSE(owner) << i;
      } else {
        ASSERT_TRUE(owner) << i;
        EXPECT_EQ(*owner, i >= 6 && i % 3 == 0 ? two : one) << i;
      }
      ++i;
    }
    EXPECT_EQ(i, made.size() + 1);
    EXPECT_FALSE(reader.owner());
  };
  check(path(), 0);
  // A frame does not need the one before it.
  const auto bytes = bytes_of(path());
  const auto ends = frame_ends(bytes);
  ASSERT_GE(ends.size(), 4u);
  write_bytes(path("cut"), bytes.substr(0, ends[0]) + bytes.substr(ends[1]));
  check(path("cut"), 4);
  // Named once a frame, or where it changes: not with each record.
  const auto entry_bytes = [](const Owner& owner) {
    return detail::entry_bytes(sizeof(detail::OwnerEntry) + detail::owner_json(owner).size());
  };
  RecordingWriter without({.path = path("without"), .context = context});
  for (std::size_t i = 0; i <= made.size(); ++i) {
    ASSERT_FALSE(without.append(Record(made[i % made.size()])));
    EXPECT_FALSE(i == 3 && without.flush());
  }
  EXPECT_FALSE(without.close());
  EXPECT_EQ(raw_bytes - without.statistics().raw_bytes, 3 * entry_bytes(one) + entry_bytes(two));
}

TEST_F(Recording, OwnersGoWithTheirRecordsIntoTheNextFile) {
  auto made = make_records(600);
  for (auto& record : made) {
    set_number(record, Field::cookie, 5);
    set_number(record, Field::generation, 0);
  }
  const auto owner = make_owner(7, "one");
  RecordingWriter writer({.path = path(), .frame_bytes = 16 << 10, .buffer_bytes = 16 << 10, .rotate_bytes = 64 << 10});
  for (const auto& record : made) ASSERT_FALSE(writer.append(Record(record), &owner));
  EXPECT_FALSE(writer.close());
  const auto all = files();
  ASSERT_GE(all.size(), 3u);
  ReplaySource source({.files = all});
  std::size_t owned = 0;
  EXPECT_FALSE(source.owner());
  while (!source.finished()) source.drain([&](const Record&) { owned += source.owner() && *source.owner() == owner; });
  EXPECT_EQ(owned, made.size());
  EXPECT_FALSE(source.owner());
}

TEST_F(Recording, AnOwnerThatIsTooLongOrForWhomThereIsNoRoomIsLeftOut) {
  auto made = make_records(2);
  for (auto& record : made) set_number(record, Field::cookie, 5);
  auto huge = make_owner(7, "one");
  huge.executable = std::string(70'000, 'x');
  auto large = make_owner(8, "two");
  large.executable = std::string(5000, 'x');
  RecordingWriter writer({.path = path(), .frame_bytes = 4096, .buffer_bytes = 4096});
  EXPECT_FALSE(writer.append(Record(made[0]), &huge));
  EXPECT_FALSE(writer.append(Record(made[1]), &large));
  EXPECT_FALSE(writer.close());
  expect_same(read(path()).records, made);
  RecordingReader reader(path());
  while (reader.next()) EXPECT_FALSE(reader.owner());
}

TEST_F(Recording, EachFrameIsReadableWithoutTheOthers) {
  RecordingWriter writer({.path = path()});
  append_all(writer, make_records(10));
  EXPECT_FALSE(writer.flush());
  append_all(writer, make_records(10));
  EXPECT_FALSE(writer.close());
  const auto file = bytes_of(path());
  std::size_t begin = 0;
  for (const auto end : frame_ends(file)) {
    // The flag of the checksum in the frame's header, RFC 8878, section 3.1.1.1.1.
    EXPECT_TRUE(file[begin + 4] & 4);
    const auto size = ZSTD_getFrameContentSize(file.data() + begin, end - begin);
    ASSERT_LT(size, detail::kLongestFrame);
    std::string content(size, '\0');
    EXPECT_EQ(ZSTD_decompress(content.data(), size, file.data() + begin, end - begin), size);
    begin = end;
  }
}

TEST_F(Recording, CutAnywhereItIsReadableUpToTheLastWholeFrame) {
  const auto made = make_records(24, 20);
  std::vector<std::size_t> records_at_end{0};  // of the frames, the header's first
  {
    RecordingWriter writer({.path = path()});
    for (std::size_t i = 0; i < made.size(); i += 8) {
      append_all(writer, std::span(made).subspan(i, 8));
      ASSERT_FALSE(writer.flush());
      records_at_end.push_back(i + 8);
    }
  }
  records_at_end.push_back(made.size());  // the end's
  const auto file = bytes_of(path());
  const auto ends = frame_ends(file);
  ASSERT_EQ(ends.size(), records_at_end.size());
  for (std::size_t cut = 0; cut < file.size(); ++cut) {
    write_bytes(path("cut"), std::string_view(file).substr(0, cut));
    const auto contents = read(path("cut"));
    const auto whole = static_cast<std::size_t>(std::ranges::upper_bound(ends, cut) - ends.begin());
    const auto wanted = whole == 0 ? 0 : records_at_end[whole - 1];
    ASSERT_EQ(contents.records.size(), wanted) << cut;
    for (std::size_t i = 0; i < wanted; ++i) ASSERT_TRUE(same_bytes(contents.records[i], made[i])) << cut;
    ASSERT_TRUE(contents.cut_off) << cut;
    ASSERT_EQ(contents.damaged, cut - (whole == 0 ? 0 : ends[whole - 1])) << cut;
    ASSERT_EQ(contents.header.file, whole == 0 ? 0u : 1u) << cut;
  }
  EXPECT_FALSE(read(path()).cut_off);
}

TEST_F(Recording, AFlippedBitCostsItsFrameOnly) {
  const auto made = make_records(24, 20);
  {
    RecordingWriter writer({.path = path()});
    for (std::size_t i = 0; i < made.size(); i += 8) {
      append_all(writer, std::span(made).subspan(i, 8));
      ASSERT_FALSE(writer.flush());
    }
  }
  const auto file = bytes_of(path());
  const auto ends = frame_ends(file);
  std::size_t checked = 0;
  for (std::size_t at = ends[0]; at < file.size(); at += 3) {
    const auto hit = static_cast<std::size_t>(std::ranges::upper_bound(ends, at) - ends.begin());
    auto damaged = file;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    write_bytes(path("flipped"), damaged);
    const auto contents = read(path("flipped"));
    std::vector<tcpinfo_record> wanted = made;
    if (hit < ends.size() - 1)
      wanted.erase(wanted.begin() + static_cast<std::ptrdiff_t>(hit - 1) * 8,
                   wanted.begin() + static_cast<std::ptrdiff_t>(hit) * 8);
    // A few bits of a frame's header mean nothing to the decoder.
    if (contents.damaged == 0) wanted = made;
    ASSERT_EQ(contents.records.size(), wanted.size()) << at;
    for (std::size_t i = 0; i < wanted.size(); ++i) ASSERT_TRUE(same_bytes(contents.records[i], wanted[i])) << at;
    ASSERT_EQ(contents.cut_off, hit == ends.size() - 1 && contents.damaged > 0) << at;
    checked += contents.damaged > 0;
  }
  EXPECT_GT(checked, (file.size() - ends[0]) * 9 / 30);
}

TEST_F(Recording, ReadsRecordsOfOtherVersionsByTheNamesOfTheirFields) {
  // A presence word, then fields in another order, of other widths, unknown, and of another unit.
  struct __attribute__((packed)) Other {
    std::uint64_t present[2];
    std::uint32_t rtt;
    std::uint64_t snd_cwnd;  // wider than ours
    std::uint8_t hue;
    tcpinfo_address peer_address;
    std::uint16_t peer_port;
    std::uint32_t rttvar;   // in ns
    std::uint8_t sequence;  // narrower than ours
  } other{};
  const auto field = [](std::string_view name, std::string_view type, std::string_view unit, std::size_t offset,
                        std::size_t size) {
    return fmt::format(R"({{"name":"{}","type":"{}","unit":"{}","offset":{},"size":{}}})", name, type, unit, offset,
                       size);
  };
  const auto json = fmt::format(
      R"({{"schema":"tcpinfo","version":7,"new":[1,{{}}],"source":"inet_diag","record":{{"bytes":{},"present_offset":0,)"
      R"("present_words":2,"fields":[{},{},{},{},{},{},{},{}]}}}})",
      sizeof(Other), field("rtt", "u32", "us", 16, 4), field("snd_cwnd", "u64", "segments", 20, 8),
      field("hue", "u8", "none", 28, 1), field("peer_address", "addr", "none", 29, 16),
      field("peer_port", "u16", "none", 45, 2), field("rttvar", "u32", "ns", 47, 4),
      field("sequence", "u8", "none", 51, 1), field("min_rtt", "u32", "us", 16, 4));
  other.present[0] = 0x7f;  // min_rtt is absent
  other.rtt = 1234;
  other.snd_cwnd = 77;
  other.peer_address = records::address("192.0.2.9");
  other.peer_port = 443;
  other.rttvar = 5;
  other.sequence = 9;
  std::string content;
  const auto add = [&] { content += entry(2, {reinterpret_cast<const char*>(&other), sizeof(other)}); };
  add();
  content += entry(99, "of a later version");
  other.snd_cwnd = 1ull << 32;  // does not fit ours
  other.present[0] &= ~1ull;
  add();
  write_bytes(path(), compressed(header_entry(json)) + compressed(content));

  const auto contents = read(path());
  EXPECT_EQ(contents.header.context.source, SourceId::kInetDiag);
  ASSERT_THAT(contents.records, SizeIs(2));
  EXPECT_EQ(contents.damaged, 0u);
  EXPECT_TRUE(contents.cut_off);
  const Record first(contents.records[0]), second(contents.records[1]);
  EXPECT_EQ(first.rtt(), 1234u);
  EXPECT_EQ(first.snd_cwnd(), 77u);
  ASSERT_TRUE(first.peer_address());
  EXPECT_EQ(to_string(*first.peer_address()), "192.0.2.9");
  EXPECT_EQ(first.peer_port(), 443);
  EXPECT_EQ(first.sequence(), 9u);
  EXPECT_FALSE(first.rttvar());
  EXPECT_FALSE(first.min_rtt());
  EXPECT_FALSE(first.cookie());
  EXPECT_FALSE(second.rtt());
  EXPECT_FALSE(second.snd_cwnd());
  EXPECT_EQ(second.peer_port(), 443);
}

TEST_F(Recording, FilesPutBehindEachOtherAreOneRecording) {
  const auto made = make_records(6);
  {
    RecordingWriter one({.path = path("1")}), two({.path = path("2")});
    append_all(one, std::span(made).first(3));
    append_all(two, std::span(made).last(3));
  }
  write_bytes(path(), bytes_of(path("1")) + bytes_of(path("2")));
  expect_same(read(path()).records, made);
}

TEST_F(Recording, RefusesWhatIsNone) {
  const auto malformed = [&](std::string_view bytes, const std::string& says) {
    write_bytes(path(), bytes);
    try {
      read(path());
      ADD_FAILURE() << "was read: " << says;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), make_error_code(Errc::kMalformed));
      EXPECT_THAT(error.what(), HasSubstr(says));
      EXPECT_THAT(error.what(), HasSubstr(path().string()));
    }
  };
  malformed("{\"schema\":\"tcpinfo\"}\n", "no recording");
  malformed(compressed("something else altogether"), "no recording");
  malformed(compressed(entry(1, "TCPIREC1 no JSON")), "damaged");
  malformed(compressed(entry(1, "TCPIREC2{}")), "format version 2");
  malformed(compressed(header_entry(std::string(1'000'000, '['))), "damaged");
  malformed(compressed(std::string(100 << 20, '\0')), "no recording");
  const auto schema = [](std::string_view bytes, std::string_view offset, std::string_view words) {
    return compressed(header_entry(fmt::format(
        R"({{"schema":"tcpinfo","record":{{"bytes":{},"present_offset":8,"present_words":{},"fields":[{{"name":"rtt",)"
        R"("type":"u32","unit":"us","offset":{},"size":4}}]}}}})",
        bytes, words, offset)));
  };
  malformed(schema("64", "61", "1"), "damaged");
  malformed(schema("64", "18446744073709551615", "1"), "damaged");
  malformed(schema("64", "32", "8"), "damaged");
  malformed(schema("99999999999", "32", "1"), "damaged");
  malformed(schema("64", "32", "0"), "damaged");
  try {
    read(path("missing"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code().value(), ENOENT);
  }
}

TEST_F(Recording, ABombCostsNoMoreThanItsFrame) {
  const auto made = make_records(4);
  std::string content;
  for (const auto& record : made) content += entry(2, {reinterpret_cast<const char*>(&record), sizeof(record)});
  const auto bomb = compressed(std::string(200 << 20, '\0'));
  write_bytes(path(), compressed(header_entry(detail::header_json({}))) + bomb + compressed(content));
  const auto contents = read(path());
  expect_same(contents.records, made);
  EXPECT_EQ(contents.damaged, bomb.size());
}

TEST_F(Recording, NeverOverwritesUnlessTold) {
  write_bytes(path(), "precious");
  try {
    RecordingWriter writer({.path = path()});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code().value(), EEXIST);
    EXPECT_THAT(error.what(), HasSubstr(path().string()));
  }
  EXPECT_EQ(bytes_of(path()), "precious");
  RecordingWriter({.path = path(), .overwrite = true}).close();
  EXPECT_FALSE(read(path()).cut_off);
}

TEST_F(Recording, AFailedStartLeavesNothing) {
  static std::string_view failing;
  sys::fault_hook = [](std::string_view step) noexcept { return step == failing ? ENOSPC : 0; };
  for (const std::string_view step : {"create the recording", "write the recording"}) {
    failing = step;
    EXPECT_THROW(RecordingWriter({.path = path()}), Error) << step;
    EXPECT_THAT(files(), IsEmpty()) << step;
  }
}

TEST_F(Recording, RefusesOptionsOutsideTheirRange) {
  const auto refused = [&](RecordingOptions options) {
    options.path = path();
    try {
      RecordingWriter writer(options);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), make_error_code(Errc::kInvalidOption)) << error.what();
    }
  };
  refused({.path = {}, .level = 0});
  refused({.path = {}, .level = 20});
  refused({.path = {}, .flush_interval = 0ns});
  refused({.path = {}, .frame_bytes = 4095});
  refused({.path = {}, .frame_bytes = 8192, .buffer_bytes = 8191});
  refused({.path = {}, .buffer_bytes = (16 << 20) + 1});
  refused({.path = {}, .rotate_bytes = 1000});
  refused({.path = {}, .rotate_time = -1s});
  refused({.path = {}, .keep_files = 3});
  refused({.path = {}, .rotate_bytes = 1 << 20, .keep_bytes = 1 << 20});
  refused({.path = {}, .rotate_bytes = 1 << 20, .overwrite = true});
  EXPECT_THAT(files(), IsEmpty());
}

TEST_F(Recording, RecordsWaitForTheirFrameAndNoLonger) {
  const auto made = make_records(2);
  RecordingWriter writer({.path = path(), .flush_interval = 500ms});
  EXPECT_FALSE(writer.next_deadline());
  const auto before = RecordingWriter::Clock::now();
  append_all(writer, made);
  ASSERT_TRUE(writer.next_deadline());
  EXPECT_GE(*writer.next_deadline(), before + 500ms);
  EXPECT_LE(*writer.next_deadline(), RecordingWriter::Clock::now() + 500ms);
  EXPECT_FALSE(writer.tick(*writer.next_deadline() - 1ns));
  EXPECT_EQ(writer.statistics().waiting, 2u);
  EXPECT_THAT(read(path()).records, IsEmpty());
  EXPECT_FALSE(writer.tick(*writer.next_deadline()));
  EXPECT_EQ(writer.statistics().written, 2u);
  EXPECT_FALSE(writer.next_deadline());
  // As after kill -9: nothing was closed.
  const auto contents = read(path());
  expect_same(contents.records, made);
  EXPECT_TRUE(contents.cut_off);
}

/// Makes writes fail half-way, as a full disk does: the kernel writes up to the limit and then gives an error.
class FileSizeLimit {
 public:
  FileSizeLimit() {
    getrlimit(RLIMIT_FSIZE, &old_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, handler_);
  }
  void set(std::uint64_t bytes) const {
    const rlimit limit{bytes, old_.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  void lift() const { setrlimit(RLIMIT_FSIZE, &old_); }

 private:
  rlimit old_{};
  sighandler_t handler_ = SIG_DFL;
};

EventCounts lost_by_gaps(const std::vector<tcpinfo_record>& records) {
  EventCounts lost{};
  for (const auto& raw : records) {
    const Record record(raw);
    if (record.event() == TCPINFO_EVENT_GAP) lost[record.lost_event().value()] += record.lost_records().value();
  }
  return lost;
}

TEST_F(Recording, AFullDiskLosesOnlyWhatCannotWaitAndSaysHowMuch) {
  const auto made = make_records(400);
  const FileSizeLimit limit;
  RecordingWriter writer({.path = path(), .frame_bytes = 16 << 10, .buffer_bytes = 64 << 10});
  append_all(writer, std::span(made).first(20));
  ASSERT_FALSE(writer.flush());
  const auto good = fs::file_size(path());

  limit.set(good + 100);
  std::size_t accepted = 20;
  EventCounts refused{};
  for (std::size_t i = 20; i < 300; ++i) {
    const auto error = writer.append(Record(made[i]));
    if (!error) {
      EXPECT_EQ(accepted, i) << "a record was accepted after one was refused";
      ++accepted;
      continue;
    }
    EXPECT_EQ(error.value(), EFBIG);
    ++refused[*Record(made[i]).event()];
  }
  EXPECT_GT(accepted, 100u);
  ASSERT_LT(accepted, 200u);
  // The part of the frame that the kernel took is gone again.
  EXPECT_EQ(fs::file_size(path()), good);
  expect_same(read(path()).records, std::span(made).first(20));
  EXPECT_TRUE(writer.flush());
  EXPECT_EQ(writer.statistics().refused, refused);
  EXPECT_EQ(writer.statistics().waiting, accepted - 20);
  // Trying again waits, so that a full disk costs no processor.
  const auto failures = writer.statistics().failures;
  EXPECT_TRUE(writer.append(Record(made[0])));
  ++refused[*Record(made[0]).event()];
  EXPECT_EQ(writer.statistics().failures, failures);
  EXPECT_FALSE(writer.tick(RecordingWriter::Clock::now()));
  EXPECT_TRUE(writer.tick(*writer.next_deadline()));

  limit.lift();
  EXPECT_FALSE(writer.tick(*writer.next_deadline()));
  EXPECT_EQ(writer.statistics().waiting, 0u);
  append_all(writer, std::span(made).last(100));
  EXPECT_FALSE(writer.close());

  const auto contents = read(path());
  EXPECT_EQ(contents.damaged, 0u);
  EXPECT_FALSE(contents.cut_off);
  EXPECT_EQ(lost_by_gaps(contents.records), refused);
  std::vector<tcpinfo_record> kept, wanted(made.begin(), made.begin() + static_cast<std::ptrdiff_t>(accepted));
  wanted.insert(wanted.end(), made.end() - 100, made.end());
  for (const auto& record : contents.records)
    if (Record(record).event() != TCPINFO_EVENT_GAP) kept.push_back(record);
  expect_same(kept, wanted);
  // The gap stands where the records are missing.
  EXPECT_EQ(Record(contents.records[accepted]).event(), TCPINFO_EVENT_GAP);
  EXPECT_EQ(contents.end->lost, Statistics::sum(refused));
  EXPECT_EQ(contents.end->records, contents.records.size());
  const auto statistics = writer.statistics();
  EXPECT_EQ(statistics.written, wanted.size());
  EXPECT_EQ(statistics.gaps, contents.records.size() - wanted.size());
  EXPECT_EQ(Statistics::sum(statistics.appended), statistics.written);
}

TEST_F(Recording, WhatCannotBeWrittenAtTheEndIsCounted) {
  const auto made = make_records(50);
  const FileSizeLimit limit;
  RecordingWriter writer({.path = path()});
  append_all(writer, std::span(made).first(10));
  ASSERT_FALSE(writer.flush());
  append_all(writer, std::span(made).last(40));
  // Room for the records that tell of the gap and for the end, not for forty records.
  limit.set(fs::file_size(path()) + 1500);
  Statistics source;
  for (const auto& record : made) ++source.emitted[*Record(record).event()];
  source.delivered = source.emitted;
  EXPECT_EQ(writer.close(&source).value(), EFBIG);
  limit.lift();
  const auto statistics = writer.statistics();
  EXPECT_EQ(Statistics::sum(statistics.unwritten), 40u);
  EXPECT_EQ(statistics.written, 10u);
  EXPECT_EQ(Statistics::sum(statistics.appended), 50u);
  const auto contents = read(path());
  EXPECT_EQ(lost_by_gaps(contents.records), statistics.unwritten);
  EXPECT_FALSE(contents.cut_off);
  EXPECT_EQ(contents.end->lost, 40u);
  ASSERT_TRUE(contents.end->source);
  EXPECT_EQ(contents.end->source->emitted, source.emitted);
  EXPECT_EQ(Statistics::sum(contents.end->source->delivered), 10u);
  EXPECT_EQ(contents.end->source->lost_sink, statistics.unwritten);
}

TEST_F(Recording, RotatesBySizeAndLosesNothing) {
  const auto made = make_records(1000);
  const std::uint64_t most = 100 << 10;
  RecordingWriter writer(
      {.path = path("day.zst"), .frame_bytes = 16 << 10, .buffer_bytes = 64 << 10, .rotate_bytes = most});
  append_all(writer, made);
  EXPECT_FALSE(writer.close());
  const auto all = files();
  EXPECT_GE(all.size(), 3u);
  EXPECT_EQ(writer.statistics().files, all.size());
  std::vector<tcpinfo_record> got;
  std::string recording;
  std::uint32_t number = 0;
  for (const auto& file : all) {
    EXPECT_THAT(file.filename().string(), testing::MatchesRegex("day-[0-9]{8}T[0-9]{6}Z-[0-9]{6}\\.zst"));
    EXPECT_LE(fs::file_size(file), most);
    const auto contents = read(file);
    EXPECT_FALSE(contents.cut_off);
    EXPECT_EQ(contents.end->rotated, file != all.back());
    EXPECT_EQ(contents.header.file, ++number);
    if (recording.empty()) recording = contents.header.recording;
    EXPECT_EQ(contents.header.recording, recording);
    EXPECT_EQ(contents.end->records, contents.records.size());
    got.insert(got.end(), contents.records.begin(), contents.records.end());
  }
  expect_same(got, made);
}

TEST_F(Recording, RotatesByTimeAndKeepsTheNewest) {
  write_bytes(path("tcpinfo-19990101T000000Z-000001.zst"), "of an earlier run");
  write_bytes(path("tcpinfo-notes.zst"), "of somebody else");
  write_bytes(path("other-19990101T000000Z-000001.zst"), "of another recording");
  const auto made = make_records(5);
  auto now = RecordingWriter::Clock::now();
  RecordingWriter writer({.path = directory_, .rotate_time = 1h, .keep_files = 3});
  for (const auto& record : made) {
    ASSERT_FALSE(writer.append(Record(record)));
    now += 61min;
    ASSERT_FALSE(writer.tick(now));
  }
  EXPECT_FALSE(writer.close());
  const auto statistics = writer.statistics();
  EXPECT_EQ(statistics.files, 6u);
  EXPECT_EQ(statistics.removed, 4u);
  std::vector<std::uint32_t> kept;
  unsigned others = 0;
  for (const auto& file : files()) {
    try {
      kept.push_back(read(file).header.file);
    } catch (const Error&) {
      ++others;
    }
  }
  EXPECT_THAT(kept, ElementsAre(4, 5, 6));
  EXPECT_EQ(others, 2u) << "files of others";
}

TEST_F(Recording, KeepsNoMoreBytesThanAllowed) {
  const auto made = make_records(3000);
  RecordingWriter writer({.path = directory_,
                          .frame_bytes = 16 << 10,
                          .buffer_bytes = 16 << 10,
                          .rotate_bytes = 64 << 10,
                          .keep_bytes = 256 << 10});
  std::uint64_t largest = 0;
  for (const auto& record : made) {
    ASSERT_FALSE(writer.append(Record(record)));
    std::uint64_t bytes = 0;
    for (const auto& file : files()) bytes += fs::file_size(file);
    largest = std::max(largest, bytes);
  }
  EXPECT_GT(largest, 128u << 10);
  EXPECT_LE(largest, (256u << 10) + 8192) << "the next file's header stands before the oldest is removed";
  EXPECT_GT(writer.statistics().removed, 0u);
}

TEST_F(Recording, WhereNoFurtherFileCanBeMadeTheOldOneGoesOn) {
  const auto made = make_records(300);
  RecordingWriter writer({.path = path(), .frame_bytes = 16 << 10, .buffer_bytes = 64 << 10, .rotate_bytes = 64 << 10});
  sys::fault_hook = [](std::string_view step) noexcept { return step == "create the recording" ? EMFILE : 0; };
  append_all(writer, made);
  EXPECT_FALSE(writer.close());
  ASSERT_THAT(files(), SizeIs(1));
  const auto contents = read(files().front());
  expect_same(contents.records, made);
  EXPECT_FALSE(contents.end->rotated);
  EXPECT_GT(writer.statistics().failures, 0u);
}

std::int64_t test_offset = 0;

TEST_F(Recording, NotesThatTheWallClockWasSet) {
  test_offset = 1'700'000'000'000'000'000;
  detail::wall_offset_hook = []() noexcept { return test_offset; };
  const auto made = make_records(6);
  RecordingWriter writer({.path = path()});
  const auto two = [&](std::size_t from) {
    append_all(writer, std::span(made).subspan(from, 2));
    EXPECT_FALSE(writer.flush());
  };
  two(0);
  test_offset += 100'000;  // an adjustment
  two(2);
  test_offset -= 3'600'000'000'000;
  two(4);
  EXPECT_FALSE(writer.close());
  const auto contents = read(path());
  expect_same(contents.records, made);
  constexpr std::int64_t kStart = 1'700'000'000'000'000'000;
  EXPECT_EQ(contents.header.wall_offset_ns, kStart);
  EXPECT_THAT(contents.wall_offsets, ElementsAre(kStart, kStart, kStart, kStart, test_offset, test_offset));
}

TEST_F(Recording, NotesTheClockAlsoWhereNoFurtherFileCouldBeMade) {
  test_offset = 1'700'000'000'000'000'000;
  detail::wall_offset_hook = []() noexcept { return test_offset; };
  const auto made = make_records(4);
  auto now = RecordingWriter::Clock::now();
  RecordingWriter writer({.path = path(), .rotate_time = 1h});
  append_all(writer, std::span(made).first(2));
  ASSERT_FALSE(writer.flush());
  test_offset += 3'600'000'000'000;
  // The next file is begun, and the old one cannot be ended: it goes on.
  static int writes;
  writes = 0;
  sys::fault_hook = [](std::string_view step) noexcept {
    return step == "write the recording" && ++writes == 2 ? ENOSPC : 0;
  };
  EXPECT_EQ(writer.tick(now += 61min).value(), ENOSPC);
  sys::fault_hook = nullptr;
  append_all(writer, std::span(made).last(2));
  EXPECT_FALSE(writer.close());
  ASSERT_THAT(files(), SizeIs(1));
  EXPECT_THAT(read(files().front()).wall_offsets,
              ElementsAre(test_offset - 3'600'000'000'000, test_offset - 3'600'000'000'000, test_offset, test_offset));
}

TEST_F(Recording, AFileThatAnotherWriterIsAtStays) {
  const auto made = make_records(2);
  RecordingWriter other({.path = directory_, .rotate_time = 1h});
  ASSERT_FALSE(other.append(Record(made[0])));
  const auto theirs = other.file();
  auto now = RecordingWriter::Clock::now();
  {
    RecordingWriter writer({.path = directory_, .rotate_time = 1h, .keep_files = 1});
    for (int i = 0; i < 3; ++i) {
      ASSERT_FALSE(writer.append(Record(made[1])));
      ASSERT_FALSE(writer.tick(now += 61min));
    }
    EXPECT_THAT(files(), testing::UnorderedElementsAre(theirs, writer.file()));
    EXPECT_EQ(writer.statistics().removed, 3u);
  }
  EXPECT_FALSE(other.close());
  expect_same(read(theirs).records, std::span(made).first(1));
  // Whose writer has ended goes, as it always did.
  const RecordingWriter last({.path = directory_, .rotate_time = 1h, .keep_files = 1});
  EXPECT_THAT(files(), ElementsAre(last.file()));
}

TEST_F(Recording, OverwritesNoFileThatAnotherWriterIsAt) {
  const auto made = make_records(3);
  {
    RecordingWriter other({.path = path()});
    append_all(other, made);
    try {
      RecordingWriter({.path = path(), .overwrite = true});
      ADD_FAILURE() << "it was overwritten";
    } catch (const Error& error) {
      EXPECT_EQ(error.code().value(), EBUSY);
      EXPECT_THAT(error.what(), testing::AllOf(HasSubstr(path().string()), HasSubstr("another recording")));
    }
  }
  expect_same(read(path()).records, made);
  RecordingWriter({.path = path(), .overwrite = true});
  EXPECT_THAT(read(path()).records, IsEmpty());
}

class Replay : public Recording {
 protected:
  /// Three files; the first record is made at 1 s after boot, the others 1 ms apart.
  std::vector<fs::path> record(const std::vector<tcpinfo_record>& made) {
    test_offset = 1'000'000'000'000;
    detail::wall_offset_hook = []() noexcept { return test_offset; };
    auto now = RecordingWriter::Clock::now();
    RecordingWriter writer({.path = directory_,
                            .context = {.source = SourceId::kInetDiag, .cgroup = {}, .filter = {}},
                            .rotate_time = 1h});
    for (std::size_t i = 0; i < made.size(); ++i) {
      EXPECT_FALSE(writer.append(Record(made[i])));
      const bool third = i == made.size() / 3 || i == 2 * made.size() / 3;
      EXPECT_FALSE(third && writer.tick(now += 61min));
    }
    EXPECT_FALSE(writer.close());
    auto all = files();
    EXPECT_EQ(all.size(), 3u);
    return all;
  }

  static std::vector<std::uint64_t> sequences(ReplayOptions options) {
    ReplaySource source(std::move(options));
    std::vector<std::uint64_t> got;
    auto sink = [&](const Record& record) { got.push_back(record.sequence().value()); };
    while (!source.finished()) {
      const auto result = source.drain(sink, 7);
      EXPECT_FALSE(result.error);
      EXPECT_LE(result.records, 7u);
    }
    EXPECT_FALSE(source.next_deadline());
    EXPECT_EQ(Statistics::sum(source.statistics().delivered), got.size());
    return got;
  }
};

std::vector<std::uint64_t> range(std::uint64_t from, std::uint64_t to) {
  std::vector<std::uint64_t> numbers;
  for (; from <= to; ++from) numbers.push_back(from);
  return numbers;
}

TEST_F(Replay, GivesAllFilesInOrderWhateverTheirOrderIsGiven) {
  const auto made = make_records(100);
  auto all = record(made);
  std::ranges::reverse(all);
  std::swap(all[0], all[1]);
  EXPECT_EQ(sequences({.files = all}), range(0, 99));
  ReplaySource source({.files = all});
  EXPECT_EQ(source.id(), SourceId::kInetDiag);
  ASSERT_THAT(source.headers(), SizeIs(3));
  EXPECT_EQ(source.headers()[0].file, 1u);
  EXPECT_EQ(source.headers()[2].file, 3u);
}

TEST_F(Replay, TakesWhatWasAskedFor) {
  auto made = make_records(100);
  for (std::size_t i = 0; i < made.size(); ++i) set_number(made[i], Field::peer_port, i % 2 ? 443 : 80);
  const auto all = record(made);
  const std::uint64_t first = 1'000'000'000 + 1'000'000'000'000;
  const std::uint64_t ms = 1'000'000;
  EXPECT_EQ(sequences({.files = all, .from_ns = first + 10 * ms, .to_ns = first + 20 * ms}), range(10, 20));
  EXPECT_EQ(sequences({.files = all, .duration = 5ms}), range(0, 5));
  EXPECT_EQ(sequences({.files = all, .from_ns = first + 90 * ms, .duration = 5ms}), range(90, 95));
  EXPECT_THAT(sequences({.files = all, .from_ns = first + 1000 * ms}), IsEmpty());
  EXPECT_THAT(sequences({.files = all, .filter = Filter::parse("peer_port == 443"), .duration = 5ms}),
              ElementsAre(1, 3, 5));
}

// As on the kernel's side: whatever is no sample comes, and each record but the last says what grows until the next.
TEST_F(Replay, ATriggerSelectsSamples) {
  auto made = make_records(9);
  const auto events = {TCPINFO_EVENT_OPEN,   TCPINFO_EVENT_SAMPLE, TCPINFO_EVENT_SAMPLE,
                       TCPINFO_EVENT_SAMPLE, TCPINFO_EVENT_SAMPLE, TCPINFO_EVENT_STATE,
                       TCPINFO_EVENT_SAMPLE, TCPINFO_EVENT_SAMPLE, TCPINFO_EVENT_CLOSE};
  const auto retransmitted = {0, 0, 1, 1, 2, 3, 3, 4, 5};
  for (std::size_t i = 0; i < made.size(); ++i) {
    made[i] = make_record();
    set_number(made[i], Field::sequence, i);
    set_number(made[i], Field::time_ns, 1'000'000'000 + i);
    set_number(made[i], Field::event, events.begin()[i]);
    // Another connection of which nothing is known before; that it is of another generation is enough.
    set_number(made[i], Field::cookie, 5);
    set_number(made[i], Field::generation, i == 4 ? 1 : 0);
    set_number(made[i], Field::total_retrans, static_cast<std::uint64_t>(retransmitted.begin()[i]));
    set_number(made[i], Field::rtt, 1000 * i);
  }
  const auto all = record(made);
  EXPECT_EQ(sequences({.files = all, .trigger = Trigger::parse("total_retrans grows")}),
            (std::vector<std::uint64_t>{0, 2, 5, 7, 8}));
  EXPECT_EQ(sequences({.files = all, .trigger = Trigger::parse("rtt >= 4ms and rtt < 7ms")}),
            (std::vector<std::uint64_t>{0, 4, 5, 6, 8}));
  ReplaySource source({.files = all, .trigger = Trigger::parse("rtt > 1s or rtt == 3ms")});
  std::vector<std::optional<std::uint16_t>> why;
  while (!source.finished()) source.drain([&](const Record& record) { why.push_back(record.triggered()); });
  EXPECT_THAT(why, ElementsAre(std::nullopt, 2, std::nullopt, std::nullopt));
  EXPECT_EQ(source.statistics().untriggered, 5u);
  EXPECT_EQ(Statistics::sum(source.statistics().emitted), 4u);
}

std::size_t descriptors_of(const fs::path& file) {
  std::size_t count = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) count += fs::read_symlink(entry, error) == file;
  return count;
}

TEST_F(Replay, ClosedItHoldsNothing) {
  const auto all = record(make_records(99));
  ReplaySource source({.files = all});
  EXPECT_EQ(descriptors_of(all[0]), 1u);
  source.close();
  EXPECT_EQ(descriptors_of(all[0]), 0u);

  ReplaySource from_sink({.files = all});
  std::uint64_t sum = 0;
  from_sink.drain([&](const Record& record) {
    from_sink.close();
    for (const auto& row : fields()) sum += record.number(row.field).value_or(0);  // still there
  });
  EXPECT_GT(sum, 0u);
  EXPECT_EQ(descriptors_of(all[0]), 0u);
}

TEST_F(Replay, KeepsThePaceOfTheRecording) {
  const auto all = record(make_records(100));
  ReplaySource source({.files = all, .speed = 2});
  const auto start = Source::Clock::now() - 1h;  // the test's hour of beginning: everything is due
  EXPECT_FALSE(source.tick(start));
  std::size_t got = 0;
  auto sink = [&](const Record&) { ++got; };
  for (std::size_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(source.next_deadline());
    EXPECT_EQ(*source.next_deadline(), start + i * 500us) << i;
    EXPECT_EQ(source.drain(sink, 1).records, 1u);
  }
  EXPECT_EQ(got, 100u);
  EXPECT_TRUE(source.finished());

  ReplaySource later({.files = all, .speed = 1e-6});
  EXPECT_EQ(later.drain(sink).records, 1u) << "only the first one is due at once";
  EXPECT_FALSE(later.finished());
  ASSERT_TRUE(later.next_deadline());
}

TEST_F(Replay, CountsWhatItsSinkRefusesAndEndsWhenClosed) {
  const auto all = record(make_records(100));
  ReplaySource source({.files = all});
  unsigned calls = 0;
  auto sink = [&](const Record&) {
    if (++calls == 50) source.close();
    if (calls % 10 == 0) throw 1;
  };
  EXPECT_EQ(source.drain(sink).records, 50u);
  EXPECT_EQ(Statistics::sum(source.statistics().emitted), 50u);
  EXPECT_EQ(Statistics::sum(source.statistics().lost_sink), 5u);
  EXPECT_EQ(source.drain(sink).records, 0u);
  EXPECT_FALSE(source.next_deadline());
}

TEST_F(Replay, GoesOnWithTheNextFileAndSaysWhatWasWrong) {
  const auto all = record(make_records(99));
  const auto whole = bytes_of(all[0]);
  write_bytes(all[0], std::string_view(whole).substr(0, whole.size() - 3));
  ReplaySource source({.files = all});
  fs::remove(all[1]);
  std::vector<std::uint64_t> got;
  std::vector<std::error_code> errors;
  auto sink = [&](const Record& record) { got.push_back(record.sequence().value()); };
  while (!source.finished())
    if (const auto result = source.drain(sink); result.error) errors.push_back(result.error);
  auto wanted = range(0, 33);
  for (auto i : range(67, 98)) wanted.push_back(i);
  EXPECT_EQ(got, wanted);
  ASSERT_THAT(errors, SizeIs(1));
  EXPECT_EQ(errors[0].value(), ENOENT);
  const auto capabilities = source.capabilities();
  ASSERT_THAT(capabilities, SizeIs(3));
  EXPECT_FALSE(capabilities[0].available);
  EXPECT_THAT(capabilities[0].detail, HasSubstr(all[0].string()));
  EXPECT_TRUE(capabilities[1].available);
  EXPECT_FALSE(capabilities[2].available);
  EXPECT_THAT(capabilities[2].detail, HasSubstr(all[1].string() + ": No such file or directory"));
}

TEST_F(Replay, TellsTheMonitorThatItHasFinished) {
  const auto all = record(make_records(1000));
  boost::asio::io_context loop;
  Monitor monitor(loop, std::make_unique<ReplaySource>(ReplayOptions{.files = all}));
  std::size_t got = 0;
  std::vector<boost::system::error_code> errors;
  monitor.start([&](const Record&) { ++got; },
                [&](const boost::system::error_code& error) { errors.push_back(error); });
  loop.run();
  EXPECT_EQ(got, 1000u);
  ASSERT_THAT(errors, SizeIs(1));
  EXPECT_EQ(errors[0], boost::asio::error::eof);
  EXPECT_EQ(Statistics::sum(monitor.statistics().delivered), 1000u);
}

TEST_F(Replay, RefusesOptionsOutsideTheirRange) {
  EXPECT_THROW(ReplaySource({}), Error);
  const auto all = record(make_records(3));
  EXPECT_THROW(ReplaySource({.files = all, .speed = -1}), Error);
  EXPECT_THROW(ReplaySource({.files = {path("missing")}}), Error);
}

}  // namespace
