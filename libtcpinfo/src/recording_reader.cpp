// SPDX-License-Identifier: BSD-2-Clause
#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>
#include <tcpinfo/recording.hpp>

#include "connection_key.hpp"
#include "recording_format.hpp"
#include "recording_json.hpp"
#include "system.hpp"
#include "value.hpp"

namespace tcpinfo {
namespace {

using detail::EntryHead;
using detail::EntryType;

/// What each zstd frame begins with (RFC 8878, section 3.1.1), as it lies in the file.
constexpr std::array<std::byte, 4> kFrameMagic{std::byte{0x28}, std::byte{0xb5}, std::byte{0x2f}, std::byte{0xfd}};

constexpr std::size_t kChunk = 128 << 10;
/// What is decoded in vain at most, to find where whole frames begin again: bounds the time that a hostile file takes.
constexpr std::uint64_t kMostInVain = 1 << 30;
/// Counted for each try beside what it decoded.
constexpr std::uint64_t kTry = 4096;

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
};

struct Entry {
  EntryType type;
  std::span<const std::byte> payload;
};

/// The entry that `content` begins with, and what is left after it; nothing if it is not all there.
std::optional<Entry> take_entry(std::span<const std::byte>& content) noexcept {
  EntryHead head;
  if (content.size() < sizeof(head)) return std::nullopt;
  std::memcpy(&head, content.data(), sizeof(head));
  if (content.size() - sizeof(head) < detail::padded(head.size)) return std::nullopt;
  const Entry entry{static_cast<EntryType>(head.type), content.subspan(sizeof(head), head.size)};
  content = content.subspan(detail::entry_bytes(head.size));
  return entry;
}

bool is_well_formed(std::span<const std::byte> content) noexcept {
  while (!content.empty())
    if (!take_entry(content)) return false;
  return true;
}

std::string_view as_text(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::uint64_t load(const std::byte* from, std::size_t size) noexcept {
  std::uint64_t value = 0;
  std::memcpy(&value, from, size);  // recordings, like the records of BPF programs, are little endian
  return value;
}

}  // namespace

struct RecordingReader::Impl {
  enum class Frame { kWhole, kTorn, kBroken };

  explicit Impl(const std::filesystem::path& path) {
    const auto action = fmt::format("read the recording {}", path.string());
    fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) throw Error({errno, std::system_category()}, action, {});
    context.reset(ZSTD_createDCtx());
    if (!context) throw std::bad_alloc();
    ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, detail::kWindowLog);

    const auto malformed = [&](std::string_view why) { throw Error(Errc::kMalformed, action, std::string(why)); };
    const auto first = decode(0);
    if (failure) throw Error(failure, action, {});
    std::span<const std::byte> content(output.data(), size);
    const auto entry = first == Frame::kWhole ? take_entry(content) : std::nullopt;
    if (!entry) {
      if (first != Frame::kTorn || !may_begin_recording()) malformed("it is no recording of tcpinfo record");
      position = length;
      damaged = length;
      finished = true;
      return;
    }
    if (entry->type != EntryType::kHeader || !take_header(entry->payload)) {
      const auto version = entry->payload.size() >= detail::kMagicBytes ? as_text(entry->payload).substr(0, 8) : "";
      if (entry->type == EntryType::kHeader && version.starts_with(magic().substr(0, 7)) && version != magic())
        malformed(fmt::format("it has format version {}, this library reads {}", version[7], magic()[7]));
      malformed("it is no recording of tcpinfo record, or its header is damaged");
    }
    rest = content;
    position = frame_end;
  }

  static std::string_view magic() noexcept { return {detail::kRecordingMagic, detail::kMagicBytes}; }

  /// Whether what there is of the first frame is what a header's frame begins with.
  bool may_begin_recording() const noexcept {
    const auto got = std::min<std::size_t>(length, kFrameMagic.size());
    if (!std::equal(kFrameMagic.begin(), kFrameMagic.begin() + static_cast<std::ptrdiff_t>(got), head.begin()))
      return false;
    const auto known = sizeof(EntryHead) + detail::kMagicBytes;
    return size < known || as_text({output.data() + sizeof(EntryHead), detail::kMagicBytes}) == magic();
  }

  /// The part of the file at `offset`, as much as one read gives; empty at the end and on a failure.
  std::span<const std::byte> look(std::uint64_t offset) noexcept {
    if (offset >= chunk_offset && offset < chunk_offset + chunk_size)
      return std::span<const std::byte>(chunk.data(), chunk_size).subspan(offset - chunk_offset);
    ssize_t got;
    do got = ::pread(fd.get(), chunk.data(), chunk.size(), static_cast<off_t>(offset));
    while (got < 0 && errno == EINTR);
    if (got < 0) failure = {errno, std::system_category()};
    chunk_offset = offset;
    chunk_size = got > 0 ? static_cast<std::size_t>(got) : 0;
    if (offset == 0) std::copy_n(chunk.begin(), std::min(chunk_size, head.size()), head.begin());
    length = std::max(length, offset + chunk_size);
    return {chunk.data(), chunk_size};
  }

  /// Decodes the frame at `offset` into `output`; `frame_end` is where the next one begins.
  Frame decode(std::uint64_t offset) {
    ZSTD_DCtx_reset(context.get(), ZSTD_reset_session_only);
    size = 0;
    for (;;) {
      const auto input = look(offset);
      if (input.empty()) return Frame::kTorn;
      ZSTD_inBuffer in{input.data(), input.size(), 0};
      while (in.pos < in.size) {
        if (size == output.size()) {
          if (size == detail::kLongestFrame) return Frame::kBroken;
          output.resize(std::min(std::max<std::size_t>(2 * size, kChunk), detail::kLongestFrame));
        }
        ZSTD_outBuffer out{output.data(), output.size(), size};
        const auto result = ZSTD_decompressStream(context.get(), &out, &in);
        size = out.pos;
        if (ZSTD_isError(result)) {
          if (ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation) throw std::bad_alloc();
          return Frame::kBroken;
        }
        if (result == 0) {
          frame_end = offset + in.pos;
          return is_well_formed({output.data(), size}) ? Frame::kWhole : Frame::kBroken;
        }
      }
      offset += input.size();
    }
  }

  /// Where the magic of a frame stands from `offset` on; nothing if nowhere.
  std::optional<std::uint64_t> find_magic(std::uint64_t offset) noexcept {
    for (;;) {
      auto bytes = look(offset);
      if (bytes.size() < kFrameMagic.size()) {
        chunk_size = 0;  // the rest of a chunk: perhaps it goes on
        bytes = look(offset);
        if (bytes.size() < kFrameMagic.size()) return std::nullopt;
      }
      const auto found = std::search(bytes.begin(), bytes.end(), kFrameMagic.begin(), kFrameMagic.end());
      if (found != bytes.end()) return offset + static_cast<std::uint64_t>(found - bytes.begin());
      offset += bytes.size() - (kFrameMagic.size() - 1);
    }
  }

  /// Goes on with the next frame that can be read. False at the end.
  bool next_frame() {
    owners.clear();
    const auto begin = position;
    for (auto at = begin;;) {
      const auto frame = decode(at);
      if (failure) return false;
      if (frame == Frame::kWhole) {
        damaged += at - begin;
        position = frame_end;
        rest = {output.data(), size};
        return true;
      }
      if (at >= length) break;
      in_vain += size + kTry;
      const auto next = in_vain < kMostInVain ? find_magic(at + 1) : std::nullopt;
      if (failure) return false;
      if (!next) break;
      at = *next;
    }
    // All that is left.
    while (!look(length).empty()) {
    }
    damaged += length - begin;
    position = length;
    return false;
  }

  bool take_header(std::span<const std::byte> payload) {
    if (payload.size() < detail::kMagicBytes || payload.size() > detail::kLongestText) return false;
    auto text = as_text(payload);
    if (!text.starts_with(magic())) return false;
    text.remove_prefix(detail::kMagicBytes);
    auto parsed = detail::parse_header(text);
    if (!parsed) return false;
    header = std::move(parsed->header);
    layout = std::move(parsed->layout);
    wall_offset = header.wall_offset_ns;
    end.reset();
    return true;
  }

  std::optional<Record> take_record(std::span<const std::byte> payload) noexcept {
    if (payload.size() < layout.bytes) return std::nullopt;
    if (layout.same)
      if (const auto record = Record::view(payload)) return record;
    converted = make_record();
    const auto* from = payload.data();
    for (const auto& move : layout.moves) {
      const auto word = load(from + layout.present_offset + move.bit / 64 * 8, 8);
      if (((word >> (move.bit % 64)) & 1) == 0) continue;
      const auto& row = info(move.field);
      if (row.format == Format::address || row.format == Format::text) {
        std::memcpy(reinterpret_cast<std::byte*>(&converted) + row.offset, from + move.offset, row.size);
        set_present(converted, move.field);
        continue;
      }
      const auto value = load(from + move.offset, move.size);
      if (row.size == 8 || value >> (8 * row.size) == 0) set_number(converted, move.field, value);
    }
    return Record(converted);
  }

  void take_owner(std::span<const std::byte> payload) {
    detail::OwnerEntry entry;
    if (payload.size() < sizeof(entry) || payload.size() > detail::kLongestOwner) return;
    std::memcpy(&entry, payload.data(), sizeof(entry));
    const detail::ConnectionKey key{entry.cookie, entry.generation};
    if (owners.size() >= detail::kMostOwners && !owners.contains(key)) return;
    owners.insert_or_assign(key, KnownOwner{as_text(payload.subspan(sizeof(entry))), {}});
  }

  /// Parsed when somebody asks.
  const Owner* owner() {
    if (!connection) return nullptr;
    const auto place = owners.find(*connection);
    if (place == owners.end()) return nullptr;
    auto& known = place->second;
    if (!known.text.empty()) {
      known.owner = detail::parse_owner(known.text);
      known.text = {};
    }
    return known.owner ? &*known.owner : nullptr;
  }

  std::optional<Record> next() {
    connection.reset();
    while (!finished) {
      while (!rest.empty()) {
        const auto entry = take_entry(rest);
        if (!entry) break;  // not after is_well_formed()
        switch (entry->type) {
          case EntryType::kHeader:
            take_header(entry->payload);  // recordings that were put behind each other
            break;
          case EntryType::kRecord:
            if (const auto record = take_record(entry->payload)) {
              if (const auto cookie = record->cookie())
                connection = detail::ConnectionKey{*cookie, record->generation().value_or(0)};
              return record;
            }
            break;
          case EntryType::kOwner:
            take_owner(entry->payload);
            break;
          case EntryType::kClock:
            if (entry->payload.size() >= sizeof(detail::ClockEntry)) {
              detail::ClockEntry clock;
              std::memcpy(&clock, entry->payload.data(), sizeof(clock));
              wall_offset = clock.wall_offset_ns;
            }
            break;
          case EntryType::kEnd:
            if (entry->payload.size() <= detail::kLongestText) end = detail::parse_end(as_text(entry->payload));
            break;
          default:
            break;  // of a later version
        }
      }
      rest = {};
      if (!next_frame()) finished = true;
    }
    return std::nullopt;
  }

  sys::Fd fd;
  std::unique_ptr<ZSTD_DCtx, FreeContext> context;
  std::vector<std::byte> chunk = std::vector<std::byte>(kChunk);
  std::uint64_t chunk_offset = 0;
  std::size_t chunk_size = 0;
  std::array<std::byte, kFrameMagic.size()> head{};  // of the file
  std::uint64_t length = 0;                          // of the file, as far as it was looked at
  std::vector<std::byte> output;
  std::size_t size = 0;  // of what the frame holds
  std::uint64_t frame_end = 0;
  std::uint64_t position = 0;       // of the next frame
  std::span<const std::byte> rest;  // of the frame
  std::uint64_t in_vain = 0;

  struct KnownOwner {
    std::string_view text;  // of the frame, until it is parsed
    std::optional<Owner> owner;
  };
  std::unordered_map<detail::ConnectionKey, KnownOwner, detail::ConnectionKeyHash> owners;  // that the frame names
  std::optional<detail::ConnectionKey> connection;                                          // of the last record

  RecordingHeader header;
  detail::RecordLayout layout;
  tcpinfo_record converted{};
  std::int64_t wall_offset = 0;
  std::optional<RecordingEnd> end;
  std::uint64_t damaged = 0;
  std::error_code failure;
  bool finished = false;
};

RecordingReader::RecordingReader(const std::filesystem::path& path) : impl_(std::make_unique<Impl>(path)) {}
RecordingReader::~RecordingReader() = default;
RecordingReader::RecordingReader(RecordingReader&&) noexcept = default;
RecordingReader& RecordingReader::operator=(RecordingReader&&) noexcept = default;

const RecordingHeader& RecordingReader::header() const noexcept { return impl_->header; }

std::optional<Record> RecordingReader::next() noexcept {
  try {
    return impl_->next();
  } catch (...) {
    impl_->failure = std::make_error_code(std::errc::not_enough_memory);
    impl_->finished = true;
    return std::nullopt;
  }
}

const Owner* RecordingReader::owner() const noexcept {
  try {
    return impl_->owner();
  } catch (...) {
    return nullptr;  // no memory
  }
}

std::int64_t RecordingReader::wall_offset_ns() const noexcept { return impl_->wall_offset; }
const std::optional<RecordingEnd>& RecordingReader::end() const noexcept { return impl_->end; }
bool RecordingReader::cut_off() const noexcept { return !impl_->end; }
std::uint64_t RecordingReader::damaged_bytes() const noexcept { return impl_->damaged; }
std::error_code RecordingReader::error() const noexcept { return impl_->failure; }

}  // namespace tcpinfo
