// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include <tcpinfo/export.hpp>
#include <tcpinfo/tcpinfo_record.h>

namespace tcpinfo {

/// What a record tells. Values are those of enum tcpinfo_event.
enum class Event : std::uint8_t {
  kSample = TCPINFO_EVENT_SAMPLE,    ///< a reading while the connection lives
  kState = TCPINFO_EVENT_STATE,      ///< a transition from old_state to state
  kOpen = TCPINFO_EVENT_OPEN,        ///< the connection's first record
  kClose = TCPINFO_EVENT_CLOSE,      ///< its last one, with the final totals
  kAdopted = TCPINFO_EVENT_ADOPTED,  ///< first record of a connection older than the attach
  kGap = TCPINFO_EVENT_GAP,          ///< `lost_records` records of event `lost_event` were lost; it is of no connection
};

enum class SourceId : std::uint8_t {
  kSockops = TCPINFO_SOURCE_SOCKOPS,
  kInetDiag = TCPINFO_SOURCE_INET_DIAG,
  kIter = TCPINFO_SOURCE_ITER,
  kGetsockopt = TCPINFO_SOURCE_GETSOCKOPT,  ///< what a process was answered; tcpinfo-validate records it
};

enum class Mode : std::uint8_t {
  kPolling = TCPINFO_MODE_POLLING,  ///< a sample of each connection every interval, open and close records
  kState = TCPINFO_MODE_STATE,      ///< a record a transition
  kClose = TCPINFO_MODE_CLOSE,      ///< one final record a connection; nothing is kept of it meanwhile, and `generation` is
                                   ///< absent
};

/// A row of the field table; its value is its place there, in the record and in the presence bits.
enum class Field : std::uint8_t {
#define X(id, ...) id,
  TCPINFO_FIELDS(X)
#undef X
};

inline constexpr std::size_t kFieldCount = TCPINFO_FIELD_COUNT;
inline constexpr std::size_t kEventCount = TCPINFO_EVENTS;

/// How a value is shown.
enum class Format : std::uint8_t { number, event, source, family, address, state, ca_state, boolean, text };
enum class Unit : std::uint8_t { none, ns, us, ms, bytes, bytes_per_s, segments, packets, count, scale256 };
enum class Kind : std::uint8_t { identity, counter, gauge, state, flags };
/// Who gives a field: every source; those that read it in the kernel by BPF; one of them alone; nobody.
enum class Sources : std::uint8_t { all, bpf, sockops, inet_diag, nobody };
/// How iperf3's figure follows from ours.
enum class Rule : std::uint8_t { none, equal, times_snd_mss, delta, ledger };

/// One row of the table. All texts live as long as the program.
struct FieldInfo {
  Field field;
  std::string_view name;
  std::string_view type;  ///< "u8", "u16", "u32", "u64", "addr" or "name"
  Format format;
  Unit unit;
  Kind kind;
  Rule rule;
  std::string_view kernel;       ///< what of the kernel the field is read from
  std::string_view since;        ///< first kernel whose tcp_info or netlink has it, as "6.7"; empty: not the kernel's
  Sources sources;
  std::string_view iperf3;       ///< name in iperf3's JSON, or empty
  std::string_view description;
  std::uint16_t offset;  ///< in tcpinfo_record
  std::uint16_t size;    ///< in bytes
};

/// The table, in the order of the record. Thread safe.
TCPINFO_EXPORT std::span<const FieldInfo, kFieldCount> fields() noexcept;
/// The row of a field. Thread safe.
TCPINFO_EXPORT const FieldInfo& info(Field field) noexcept;
/// The row named `name`, or nullptr. Thread safe.
TCPINFO_EXPORT const FieldInfo* find_field(std::string_view name) noexcept;

/// Whether records of this source of the library may have the field; it may still be absent in some. Thread safe.
TCPINFO_EXPORT bool gives(SourceId source, Field field) noexcept;

/// Names as every output has them; an unknown value gives an empty text. Thread safe.
TCPINFO_EXPORT std::string_view name(Event event) noexcept;
TCPINFO_EXPORT std::string_view name(SourceId source) noexcept;
TCPINFO_EXPORT std::string_view name(Mode mode) noexcept;
TCPINFO_EXPORT std::string_view name(Format format) noexcept;
TCPINFO_EXPORT std::string_view name(Unit unit) noexcept;
TCPINFO_EXPORT std::string_view name(Kind kind) noexcept;
TCPINFO_EXPORT std::string_view name(Rule rule) noexcept;
/// A TCP state: 1 is ESTABLISHED, 6 TIME_WAIT, and so on. Thread safe.
TCPINFO_EXPORT std::string_view state_name(std::uint8_t state) noexcept;
/// A loss recovery state: 0 is Open, 4 Loss. Thread safe.
TCPINFO_EXPORT std::string_view ca_state_name(std::uint8_t ca_state) noexcept;
/// "192.0.2.1" for IPv4 and IPv4-mapped addresses, "2001:db8::1" otherwise. Thread safe.
TCPINFO_EXPORT std::string to_string(const tcpinfo_address& address);
/// The inverse of to_string: nothing where `text` is no address. Thread safe.
TCPINFO_EXPORT std::optional<tcpinfo_address> parse_address(std::string_view text) noexcept;
/// The text before the first NUL.
TCPINFO_EXPORT std::string_view text(const tcpinfo_name& name) noexcept;

namespace detail {
// What an accessor gives back for a member of each type of the table.
inline std::uint8_t value(const tcpinfo_u8& v) noexcept { return v; }
inline std::uint16_t value(const tcpinfo_u16& v) noexcept { return v; }
inline std::uint32_t value(const tcpinfo_u32& v) noexcept { return v; }
inline std::uint64_t value(const tcpinfo_u64& v) noexcept { return v; }
inline const tcpinfo_address& value(const tcpinfo_address& v) noexcept { return v; }
inline std::string_view value(const tcpinfo_name& v) noexcept { return text(v); }
}  // namespace detail

/// A view of a tcpinfo_record: no copy, no ownership. Valid as long as the bytes that it shows; inside a sink that is
/// until the sink returns. To keep a record, copy raw(). Reading is thread safe.
class Record {
 public:
  explicit Record(const tcpinfo_record& raw) noexcept : raw_(&raw) {}

  /// The record that `bytes` begin with; nothing if they are too few, misaligned or of another version.
  static std::optional<Record> view(std::span<const std::byte> bytes) noexcept {
    if (bytes.size() < sizeof(tcpinfo_record) ||
        reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(tcpinfo_record) != 0)
      return std::nullopt;
    const auto* raw = reinterpret_cast<const tcpinfo_record*>(bytes.data());
    if (raw->version != TCPINFO_RECORD_VERSION || raw->size != sizeof(tcpinfo_record)) return std::nullopt;
    return Record(*raw);
  }

  const tcpinfo_record& raw() const noexcept { return *raw_; }

  bool has(Field field) const noexcept {
    const auto bit = static_cast<unsigned>(field);
    return (raw_->present[bit / 64] >> (bit % 64)) & 1;
  }

  // One accessor a row: `std::optional<std::uint32_t> rtt() const`, empty where the field is absent. Addresses come as
  // tcpinfo_address, names as std::string_view into the record. Units are those of the table.
#define X(id, ...)                                                                                \
  auto id() const noexcept {                                                                      \
    using T = std::remove_cvref_t<decltype(detail::value(raw_->id))>;                              \
    return has(Field::id) ? std::optional<T>(detail::value(raw_->id)) : std::optional<T>();       \
  }
  TCPINFO_FIELDS(X)
#undef X

  /// Any integer field by its place in the table; nothing if it is absent, an address or a name.
  TCPINFO_EXPORT std::optional<std::uint64_t> number(Field field) const noexcept;

 private:
  const tcpinfo_record* raw_;
};

/// Sets a field of a record from a number and marks it present; for addresses and names it does nothing. For those who
/// make records: sources, readers of recordings, tests.
TCPINFO_EXPORT void set_number(tcpinfo_record& record, Field field, std::uint64_t value) noexcept;
/// Marks a field present whose member was set.
inline void set_present(tcpinfo_record& record, Field field) noexcept {
  const auto bit = static_cast<unsigned>(field);
  record.present[bit / 64] |= std::uint64_t{1} << (bit % 64);
}
/// A record with no field present.
inline tcpinfo_record make_record() noexcept {
  tcpinfo_record record{};
  record.version = TCPINFO_RECORD_VERSION;
  record.size = sizeof(record);
  return record;
}

}  // namespace tcpinfo
