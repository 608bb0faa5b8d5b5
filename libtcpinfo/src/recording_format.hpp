// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>

/// The format of recordings; docs/recording.md describes it.
namespace tcpinfo::detail {

/// The last character is the version of the format.
inline constexpr char kRecordingMagic[8] = {'T', 'C', 'P', 'I', 'R', 'E', 'C', '1'};
inline constexpr std::size_t kMagicBytes = sizeof(kRecordingMagic);

enum class EntryType : std::uint32_t {
  kHeader = 1,  // magic, JSON
  kRecord = 2,  // as the header's schema says
  kClock = 3,   // ClockEntry
  kEnd = 4,     // JSON
  kOwner = 5,   // OwnerEntry, JSON
};

/// Before each entry; the payload is padded with zeros to a multiple of 8, which `size` does not count.
struct EntryHead {
  std::uint32_t type;
  std::uint32_t size;
};

struct ClockEntry {
  std::uint64_t time_ns;
  std::int64_t wall_offset_ns;
};

/// Whose owner it is, then who it is.
struct OwnerEntry {
  std::uint64_t cookie;
  std::uint32_t generation;
  std::uint32_t zero;
};

constexpr std::size_t padded(std::size_t size) noexcept { return (size + 7) & ~std::size_t{7}; }
constexpr std::size_t entry_bytes(std::size_t size) noexcept { return sizeof(EntryHead) + padded(size); }

/// No frame holds more; a reader refuses one that does.
inline constexpr std::size_t kLongestFrame = 17 << 20;
/// Nor does the text of a header or an end: a parser needs many times its length.
inline constexpr std::size_t kLongestText = 256 << 10;
/// The entry of an owner is shorter, and so many connections have one in a frame at most: a reader leaves out others.
inline constexpr std::size_t kLongestOwner = 64 << 10;
inline constexpr std::size_t kMostOwners = 4096;
/// The window that a frame may need, as a power of two: what every decoder has to support (RFC 8878,
/// section 3.1.1.1.2).
inline constexpr int kWindowLog = 23;

/// CLOCK_REALTIME - CLOCK_BOOTTIME. Tests set the hook: the clock of the host is not theirs.
std::int64_t wall_offset_ns() noexcept;
using WallOffsetHook = std::int64_t (*)() noexcept;
extern constinit thread_local WallOffsetHook wall_offset_hook;

}  // namespace tcpinfo::detail
