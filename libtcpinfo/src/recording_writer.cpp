// SPDX-License-Identifier: BSD-2-Clause
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>
#include <tcpinfo/recording.hpp>

#include "connection_key.hpp"
#include "fork.hpp"
#include "recording_format.hpp"
#include "recording_json.hpp"
#include "system.hpp"

namespace tcpinfo {
namespace detail {

constinit thread_local WallOffsetHook wall_offset_hook = nullptr;

std::int64_t wall_offset_ns() noexcept {
  if (wall_offset_hook) return wall_offset_hook();
  timespec wall{};
  clock_gettime(CLOCK_REALTIME, &wall);
  return static_cast<std::int64_t>(wall.tv_sec) * 1'000'000'000 + wall.tv_nsec -
         static_cast<std::int64_t>(boot_time_ns());
}

}  // namespace detail

namespace {

using Clock = RecordingWriter::Clock;
using detail::EntryType;

constexpr std::string_view kSuffix = ".zst";
/// What must fit beside the records: records that tell of gaps, the entry of the clock, the end.
constexpr std::size_t kRoom = 32 << 10;
constexpr std::chrono::seconds kRetry{1};
/// Smaller moves of the wall clock than this are its adjustment, which goes on all the time.
constexpr std::int64_t kClockStepNs = 1'000'000;

std::error_code system_error(int error) { return {error, std::system_category()}; }

[[noreturn]] void invalid(std::string_view what, std::string_view range) {
  throw Error(Errc::kInvalidOption, fmt::format("set {} of the recording", what), std::string(range));
}

void check(const RecordingOptions& o) {
  const bool rotates = o.rotate_bytes > 0 || o.rotate_time > std::chrono::nanoseconds::zero();
  if (o.path.empty()) invalid("the path", "it is a file or a directory");
  if (o.level < 1 || o.level > 19) invalid("the level", "it is from 1 to 19");
  if (o.flush_interval <= std::chrono::nanoseconds::zero()) invalid("the flush interval", "it is more than 0");
  if (o.frame_bytes < 4096) invalid("the size of frames", "it is 4096 bytes or more");
  if (o.buffer_bytes < o.frame_bytes || o.buffer_bytes > detail::kLongestFrame - (1 << 20))
    invalid("the size of the buffer", "it is that of frames or more, and 16 MiB or less");
  if (o.rotate_time < std::chrono::nanoseconds::zero()) invalid("the time of rotation", "it is not negative");
  if (o.rotate_bytes > 0 && o.rotate_bytes < 64 << 10) invalid("the size of rotation", "it is 64 KiB or more");
  if (o.keep_files > 0 && !rotates) invalid("how many files are kept", "without rotation there is only one");
  if (o.keep_bytes > 0 && (o.rotate_bytes == 0 || o.keep_bytes < 2 * o.rotate_bytes))
    invalid("how many bytes are kept", "it needs a size of rotation, and is twice that or more");
  if (o.overwrite && rotates) invalid("overwriting", "with rotation every file has a name of its own");
}

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string random_text() {
  std::array<unsigned char, 8> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    throw Error(system_error(errno), "name the recording by getrandom", {});
  std::string text;
  for (const auto byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

/// Whether `name` is PREFIX-YYYYmmddTHHMMSSZ-NNNNNN.zst.
bool is_ours(std::string_view name, std::string_view prefix) {
  static constexpr std::string_view kShape = "-00000000T000000Z-000000.zst";
  if (name.size() != prefix.size() + kShape.size() || !name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  for (std::size_t i = 0; i < kShape.size(); ++i)
    if (kShape[i] == '0' ? name[i] < '0' || name[i] > '9' : name[i] != kShape[i]) return false;
  return true;
}

/// Makes the file known as being written: other writers leave it alone. EBUSY: another one writes it.
int lock(int fd) noexcept {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return errno;
  // Devices have no contents to keep; a file system without locks has nobody who looks.
  if (!S_ISREG(status.st_mode) || ::flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return 0;
  return EBUSY;
}

/// What cannot be opened is not known to be finished either.
bool may_be_in_writing(const std::filesystem::path& path) noexcept {
  const sys::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  return !fd || (::flock(fd.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK);
}

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const noexcept { ZSTD_freeCCtx(context); }
};

/// One file: the frames that are whole in it.
struct File {
  std::filesystem::path path;
  sys::Fd fd;
  std::uint64_t bytes = 0;
  std::uint64_t header_bytes = 0;
  std::uint64_t records = 0;
  Clock::time_point begun{};

  std::error_code write(const std::byte* frame, std::size_t size, bool sync) noexcept {
    std::size_t done = 0;
    int error = 0;
    while (done < size && error == 0) {
      error = sys::fault("write the recording");
      if (error) break;
      // At its place: what a failed write left behind is overwritten, should truncating it fail too.
      const auto written = ::pwrite(fd.get(), frame + done, size - done, static_cast<off_t>(bytes + done));
      if (written > 0)
        done += static_cast<std::size_t>(written);
      else if (written == 0)
        error = ENOSPC;
      else if (errno != EINTR)
        error = errno;
    }
    if (error == 0 && sync && ::fdatasync(fd.get()) != 0) error = errno;
    if (error != 0) {
      (void)!::ftruncate(fd.get(), static_cast<off_t>(bytes));
      return system_error(error);
    }
    bytes += size;
    return {};
  }
};

}  // namespace

struct RecordingWriter::Impl {
  explicit Impl(RecordingOptions given) : options(std::move(given)) {
    check(options);
    rotates = options.rotate_bytes > 0 || options.rotate_time > std::chrono::nanoseconds::zero();
    std::error_code ignored;
    named = rotates;
    if (std::filesystem::is_directory(options.path, ignored)) {
      named = true;
      directory = options.path;
      prefix = "tcpinfo";
    } else if (named) {
      directory = options.path.parent_path();
      prefix = options.path.filename().string();
      if (prefix.ends_with(kSuffix)) prefix.resize(prefix.size() - kSuffix.size());
    }

    context.reset(ZSTD_createCCtx());
    capacity = options.buffer_bytes + kRoom;
    packed_capacity = ZSTD_compressBound(capacity);
    if (!context) throw std::bad_alloc();
    ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, options.level);
    ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
    // Not touched before it is needed: most of it never is.
    buffer = std::make_unique_for_overwrite<std::byte[]>(capacity);
    packed = std::make_unique_for_overwrite<std::byte[]>(packed_capacity);

    utsname names{};
    ::uname(&names);
    header.context = options.context;
    header.recording = random_text();
    header.host = names.nodename;
    header.kernel = names.release;
    header.boot_id = first_line("/proc/sys/kernel/random/boot_id");
    std::filesystem::path name;
    if (const auto error = begin(file, name)) {
      throw Error(error, fmt::format("record to {}", name.string()),
                  error == std::errc::file_exists               ? "choose another name, or have it overwritten"
                  : error == std::errc::device_or_resource_busy ? "another recording is being written to it"
                                                                : "");
    }
    noted_offset = header.wall_offset_ns;
    remove_old();
  }

  std::filesystem::path new_name(std::int64_t offset_ns) const {
    if (!named) return options.path;
    const auto wall_ns = static_cast<std::int64_t>(boot_time_ns()) + offset_ns;
    const time_t seconds = wall_ns / 1'000'000'000;
    tm utc{};
    gmtime_r(&seconds, &utc);
    char text[32];
    std::strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", &utc);
    return directory / fmt::format("{}-{}-{:06}{}", prefix, text, number % 1'000'000, kSuffix);
  }

  /// Creates the next file and writes its header. `name` is what was tried last.
  std::error_code begin(File& next, std::filesystem::path& name) {
    const auto offset = detail::wall_offset_ns();
    const int exclusive = options.overwrite ? 0 : O_EXCL;
    int error = 0;
    for (int tries = 0; tries < 1000; ++tries) {
      ++number;
      name = new_name(offset);
      error = sys::fault("create the recording");
      if (error == 0) {
        next.fd.reset(::open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | exclusive, 0640));
        error = next.fd ? lock(next.fd.get()) : errno;
      }
      // Another writer in the same directory may have taken the name, or looks just now whether the file is to be
      // removed.
      if (error == EBUSY && exclusive != 0) ::unlink(name.c_str());
      if ((error != EEXIST && error != EBUSY) || !named) break;
    }
    // Not before it is known to be nobody's. Devices cannot be emptied.
    if (error == 0 && options.overwrite && ::ftruncate(next.fd.get(), 0) != 0 && errno != EINVAL) error = errno;
    if (error != 0) {
      --number;
      return system_error(error);
    }
    next.path = name;
    next.begun = Clock::now();

    header.file = static_cast<std::uint32_t>(files + 1);
    header.start_ns = boot_time_ns();
    header.wall_offset_ns = offset;
    std::string payload(detail::kRecordingMagic, detail::kMagicBytes);
    payload += detail::header_json(header);
    std::string entry;
    append_entry(entry, EntryType::kHeader, payload);
    auto failure = write_frame(next, entry);
    if (!failure && options.sync) failure = sync_directory();
    if (failure) {
      ::unlink(next.path.c_str());
      next = File{};
      return failure;
    }
    next.header_bytes = next.bytes;
    ++files;
    return {};
  }

  std::error_code sync_directory() const {
    auto parent = named ? directory : options.path.parent_path();
    if (parent.empty()) parent = ".";
    const sys::Fd fd(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || ::fsync(fd.get()) != 0) return system_error(errno);
    return {};
  }

  static void append_entry(std::string& to, EntryType type, std::string_view payload) {
    const detail::EntryHead head{static_cast<std::uint32_t>(type), static_cast<std::uint32_t>(payload.size())};
    to.append(reinterpret_cast<const char*>(&head), sizeof(head));
    to += payload;
    to.append(detail::padded(payload.size()) - payload.size(), '\0');
  }

  void put(EntryType type, const void* payload, std::size_t bytes) noexcept {
    const detail::EntryHead head{static_cast<std::uint32_t>(type), static_cast<std::uint32_t>(bytes)};
    auto* at = buffer.get() + size;
    std::memcpy(at, &head, sizeof(head));
    std::memcpy(at + sizeof(head), payload, bytes);
    std::memset(at + sizeof(head) + bytes, 0, detail::padded(bytes) - bytes);
    size += detail::entry_bytes(bytes);
  }

  /// The clock is looked at once a frame, before its records.
  void open_frame() noexcept {
    first_waiting = Clock::now();
    const auto offset = detail::wall_offset_ns();
    const auto moved = offset - noted_offset;
    if (moved < kClockStepNs && moved > -kClockStepNs) return;
    const detail::ClockEntry entry{boot_time_ns(), offset};
    put(EntryType::kClock, &entry, sizeof(entry));
    noted_in_frame = offset;
  }

  /// The entry of an owner that this frame does not have yet; empty if it has, or there is no memory for it. Each frame
  /// names the owners of its records anew: whatever happens to others, and whichever file it comes to stand in.
  std::string owner_entry(const Record& record, const Owner& owner) const noexcept {
    const auto cookie = record.cookie();
    if (!cookie) return {};
    const detail::OwnerEntry entry{*cookie, record.generation().value_or(0), 0};
    const auto known = named_owners.find({entry.cookie, entry.generation});
    if (known != named_owners.end() && known->second == owner) return {};
    try {
      auto payload = std::string(reinterpret_cast<const char*>(&entry), sizeof(entry)) + detail::owner_json(owner);
      return payload.size() <= detail::kLongestOwner ? payload : std::string();
    } catch (...) {
      return {};
    }
  }

  void put_owner(const Record& record, const Owner& owner, std::string_view payload) noexcept {
    try {
      named_owners.insert_or_assign({*record.cookie(), record.generation().value_or(0)}, owner);
    } catch (...) {
      return;
    }
    if (size == 0) open_frame();
    put(EntryType::kOwner, payload.data(), payload.size());
  }

  void put_record(const tcpinfo_record& record) noexcept {
    if (size == 0) open_frame();
    put(EntryType::kRecord, &record, sizeof(record));
  }

  /// Records of event gap for what was lost since the last ones.
  void tell_gaps() noexcept {
    for (std::size_t event = 0; event < kEventCount; ++event) {
      while (untold[event] > 0) {
        const auto count = std::min<std::uint64_t>(untold[event], std::numeric_limits<std::uint32_t>::max());
        auto record = make_record();
        set_number(record, Field::time_ns, boot_time_ns());
        set_number(record, Field::event, TCPINFO_EVENT_GAP);
        set_number(record, Field::source, static_cast<std::uint64_t>(options.context.source));
        set_number(record, Field::lost_records, count);
        set_number(record, Field::lost_event, event);
        put_record(record);
        untold[event] -= count;
        told[event] += count;
        ++gaps_waiting;
      }
    }
  }

  std::error_code compress(std::span<const std::byte> content) noexcept {
    const auto n = ZSTD_compress2(context.get(), packed.get(), packed_capacity, content.data(), content.size());
    if (ZSTD_isError(n)) return std::make_error_code(std::errc::not_enough_memory);
    packed_size = n;
    return {};
  }

  /// A frame of its own, beside what waits.
  std::error_code write_frame(File& to, std::string_view content) noexcept {
    packed_of = 0;
    if (const auto error = compress(std::as_bytes(std::span(content)))) return error;
    if (const auto error = to.write(packed.get(), packed_size, options.sync)) return error;
    count_frame(content.size());
    return {};
  }

  void count_frame(std::size_t raw) noexcept {
    totals.bytes += packed_size;
    totals.raw_bytes += raw;
    ++totals.frames;
  }

  std::error_code write_end(File& to, bool rotated, const Statistics* source) {
    RecordingEnd end;
    end.time_ns = boot_time_ns();
    end.records = to.records;
    end.lost = Statistics::sum(totals.refused) + Statistics::sum(totals.unwritten);
    end.rotated = rotated;
    if (source) {
      end.source = *source;
      // For the source they were delivered when they were accepted here.
      end.source->lose_delivered(totals.unwritten);
    }
    std::string entry;
    append_entry(entry, EntryType::kEnd, detail::end_json(end));
    return write_frame(to, entry);
  }

  std::error_code rotate() noexcept {
    try {
      File next;
      std::filesystem::path name;
      if (const auto error = begin(next, name)) return error;
      if (const auto error = write_end(file, true, nullptr)) {
        // The old file goes on; it must not look as if the recording ended here.
        ::unlink(next.path.c_str());
        totals.bytes -= next.bytes;
        --files;
        return error;
      }
      file = std::move(next);
      noted_offset = header.wall_offset_ns;
      remove_old();
      return {};
    } catch (...) {
      return std::make_error_code(std::errc::not_enough_memory);
    }
  }

  void remove_old() noexcept {
    if (options.keep_files == 0 && options.keep_bytes == 0) return;
    try {
      struct Old {
        std::string name;
        std::uint64_t bytes;
      };
      std::vector<Old> old;
      std::uint64_t bytes = options.rotate_bytes;  // what the present file may become
      const auto where = directory.empty() ? std::filesystem::path(".") : directory;
      for (const auto& entry : std::filesystem::directory_iterator(where)) {
        const auto name = entry.path().filename().string();
        if (name == file.path.filename().string() || !is_ours(name, prefix) || !entry.is_regular_file() ||
            may_be_in_writing(entry.path()))
          continue;
        old.push_back({name, entry.file_size()});
        bytes += old.back().bytes;
      }
      std::ranges::sort(old, {}, &Old::name);
      std::size_t left = old.size() + 1;
      for (const auto& oldest : old) {
        const bool too_many = options.keep_files > 0 && left > options.keep_files;
        const bool too_large = options.keep_bytes > 0 && bytes > options.keep_bytes;
        if (!too_many && !too_large) break;
        if (::unlink((where / oldest.name).c_str()) != 0) continue;
        --left;
        bytes -= oldest.bytes;
        ++totals.removed;
      }
    } catch (...) {
      // A file that went away meanwhile, no memory: the next rotation looks again.
    }
  }

  std::error_code write_waiting() noexcept {
    if (size == 0) return {};
    if (packed_of != size) {
      if (const auto error = compress({buffer.get(), size})) return error;
      packed_of = size;
    }
    if (options.rotate_bytes > 0 && file.bytes > file.header_bytes &&
        file.bytes + packed_size + kEndRoom > options.rotate_bytes) {
      // Rather a file that is too large than records lost.
      if (rotate()) ++totals.failures;
      if (const auto error = compress({buffer.get(), size})) return error;  // the header took its place
      packed_of = size;
    }
    if (const auto error = file.write(packed.get(), packed_size, options.sync)) return error;
    count_frame(size);
    file.records += waiting + gaps_waiting;
    totals.written += waiting;
    totals.gaps += gaps_waiting;
    if (noted_in_frame) noted_offset = *noted_in_frame;
    forget_waiting();
    return {};
  }

  void forget_waiting() noexcept {
    size = packed_of = 0;
    waiting = gaps_waiting = 0;
    waiting_by_event = told = {};
    named_owners.clear();
    noted_in_frame.reset();
  }

  std::error_code flush(Clock::time_point now) noexcept {
    auto error = write_waiting();
    if (!error && Statistics::sum(untold) > 0) {
      tell_gaps();
      error = write_waiting();
    }
    note(error, now);
    return error;
  }

  void note(const std::error_code& error, Clock::time_point now) noexcept {
    last_error = error;
    retry_at.reset();
    if (!error) return;
    ++totals.failures;
    retry_at = now + kRetry;
  }

  std::error_code append(const Record& record, const Owner* owner) noexcept {
    const auto event = record.event();
    const std::size_t kind = event && *event < kEventCount ? *event : 0;
    constexpr auto kBytes = detail::entry_bytes(sizeof(tcpinfo_record));
    auto entry = owner ? owner_entry(record, *owner) : std::string();
    const auto owner_bytes = [&] { return entry.empty() ? 0 : detail::entry_bytes(entry.size()); };
    if (size + owner_bytes() + kBytes > options.frame_bytes || named_owners.size() == detail::kMostOwners) {
      const auto now = Clock::now();
      if (!retry_at || now >= *retry_at) flush(now);
      if (size + kBytes > options.buffer_bytes) {
        ++totals.refused[kind];
        ++untold[kind];
        return last_error;
      }
      if (owner) entry = owner_entry(record, *owner);  // another frame has to name it too
    }
    if (!entry.empty() && size + owner_bytes() + kBytes <= options.buffer_bytes &&
        named_owners.size() < detail::kMostOwners)
      put_owner(record, *owner, entry);
    put_record(record.raw());
    ++waiting;
    ++waiting_by_event[kind];
    ++totals.appended[kind];
    return {};
  }

  std::optional<Clock::time_point> next_deadline() const noexcept {
    std::optional<Clock::time_point> due;
    if (size > 0 || retry_at) due = retry_at ? *retry_at : first_waiting + options.flush_interval;
    if (options.rotate_time > std::chrono::nanoseconds::zero()) {
      auto rotation = file.begun + options.rotate_time;
      if (retry_at) rotation = std::max(rotation, *retry_at);
      due = due ? std::min(*due, rotation) : rotation;
    }
    return due;
  }

  std::error_code tick(Clock::time_point now) noexcept {
    const auto due = next_deadline();
    if (!due || now < *due) return {};
    if (const auto error = flush(now)) return error;
    if (options.rotate_time == std::chrono::nanoseconds::zero() || now < file.begun + options.rotate_time) return {};
    const auto error = rotate();
    note(error, now);
    return error;
  }

  std::error_code close(const Statistics* source) noexcept {
    auto error = flush(Clock::now());
    if (waiting > 0 || gaps_waiting > 0) {
      for (std::size_t event = 0; event < kEventCount; ++event) {
        totals.unwritten[event] += waiting_by_event[event];
        untold[event] += waiting_by_event[event] + told[event];
      }
      forget_waiting();
      // A few of them may fit where all did not.
      tell_gaps();
      if (write_waiting()) forget_waiting();
    }
    try {
      const auto ended = write_end(file, false, source);
      if (!error) error = ended;
    } catch (...) {
      error = std::make_error_code(std::errc::not_enough_memory);
    }
    file.fd.reset();
    retry_at.reset();
    return error;
  }

  static constexpr std::size_t kEndRoom = 2048;

  bool in_child() const noexcept { return fork_generation() != made_in; }

  unsigned made_in = fork_generation();
  RecordingOptions options;
  RecordingHeader header;
  std::filesystem::path directory;
  std::string prefix;
  bool rotates = false;
  bool named = false;  // files get names of their own
  std::uint32_t number = 0;
  std::uint64_t files = 0;
  File file;

  std::unique_ptr<ZSTD_CCtx, FreeContext> context;
  std::size_t capacity = 0, packed_capacity = 0;
  std::unique_ptr<std::byte[]> buffer, packed;
  std::size_t size = 0;         // of what waits
  std::size_t packed_size = 0;  // of the frame made last
  std::size_t packed_of = 0;    // `packed` is so much of what waits
  Clock::time_point first_waiting{};
  std::optional<Clock::time_point> retry_at;  // set while writing fails
  std::error_code last_error;
  std::uint64_t waiting = 0, gaps_waiting = 0;
  EventCounts waiting_by_event{};
  EventCounts untold{};  // lost, and no record says so yet
  EventCounts told{};    // those that the waiting records of event gap tell of
  std::unordered_map<detail::ConnectionKey, Owner, detail::ConnectionKeyHash> named_owners;  // by what waits
  std::int64_t noted_offset = 0;                                                             // by the file
  std::optional<std::int64_t> noted_in_frame;                                                // by what waits
  RecordingStatistics totals;
};

RecordingWriter::RecordingWriter(RecordingOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
RecordingWriter::~RecordingWriter() {
  if (impl_) close();
}
RecordingWriter::RecordingWriter(RecordingWriter&&) noexcept = default;
RecordingWriter& RecordingWriter::operator=(RecordingWriter&& other) noexcept {
  if (this != &other) {
    if (impl_) close();
    impl_ = std::move(other.impl_);
  }
  return *this;
}

std::error_code RecordingWriter::append(const Record& record, const Owner* owner) noexcept {
  if (impl_->in_child()) return make_error_code(Errc::kForked);
  return impl_->file.fd ? impl_->append(record, owner) : system_error(EBADF);
}

std::error_code RecordingWriter::flush() noexcept {
  if (impl_->in_child()) return make_error_code(Errc::kForked);
  return impl_->file.fd ? impl_->flush(Clock::now()) : system_error(EBADF);
}

std::optional<RecordingWriter::Clock::time_point> RecordingWriter::next_deadline() const noexcept {
  return impl_->file.fd ? impl_->next_deadline() : std::nullopt;
}

std::error_code RecordingWriter::tick(Clock::time_point now) noexcept {
  if (impl_->in_child()) return make_error_code(Errc::kForked);
  return impl_->file.fd ? impl_->tick(now) : std::error_code();
}

std::error_code RecordingWriter::close(const Statistics* source) noexcept {
  if (impl_->in_child()) {
    impl_->file.fd.reset();  // the file, and what waits for it, are the parent's
    return make_error_code(Errc::kForked);
  }
  return impl_->file.fd ? impl_->close(source) : std::error_code();
}

std::error_code RecordingWriter::error() const noexcept { return impl_->last_error; }

const std::filesystem::path& RecordingWriter::file() const noexcept { return impl_->file.path; }

RecordingStatistics RecordingWriter::statistics() const noexcept {
  auto statistics = impl_->totals;
  statistics.waiting = impl_->waiting;
  statistics.files = impl_->files;
  return statistics;
}

}  // namespace tcpinfo
