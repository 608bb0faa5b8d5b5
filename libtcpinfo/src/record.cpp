// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/record.hpp>

#include <arpa/inet.h>

#include <array>
#include <cstring>

#include "value.hpp"

namespace tcpinfo {
namespace {

// Names of the table's columns are the enumerators' own.
constexpr std::array<FieldInfo, kFieldCount> kTable = {{
#define X(id, type, format, unit, kind, kernel, since, sources, iperf3, rule, description)                  \
  {Field::id,   #id,       #type,  Format::format, Unit::unit,                                               \
   Kind::kind,  Rule::rule, kernel, since,         Sources::sources,                                         \
   iperf3,      description, static_cast<std::uint16_t>(offsetof(tcpinfo_record, id)),                       \
   static_cast<std::uint16_t>(sizeof(tcpinfo_record::id))},
    TCPINFO_FIELDS(X)
#undef X
}};

// Which sources each value of the column stands for, a bit each.
constexpr std::uint32_t source_bits(Sources sources) noexcept {
  constexpr std::uint32_t kSockops = 1u << TCPINFO_SOURCE_SOCKOPS, kIter = 1u << TCPINFO_SOURCE_ITER,
                          kInetDiag = 1u << TCPINFO_SOURCE_INET_DIAG;
  switch (sources) {
    case Sources::all: return kSockops | kIter | kInetDiag;
    case Sources::bpf: return kSockops | kIter;
    case Sources::sockops: return kSockops;
    case Sources::inet_diag: return kInetDiag;
    case Sources::nobody: break;
  }
  return 0;
}

constexpr bool is_number(const FieldInfo& field) noexcept { return field.size <= sizeof(std::uint64_t); }

// include/uapi/linux/bpf.h: BPF_TCP_ESTABLISHED is 1
constexpr std::array<std::string_view, 14> kStates = {
    "",           "ESTABLISHED", "SYN_SENT",  "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",    "TIME_WAIT",
    "CLOSE",      "CLOSE_WAIT",  "LAST_ACK",  "LISTEN",   "CLOSING",   "NEW_SYN_RECV", "BOUND_INACTIVE"};
constexpr std::array<std::string_view, 5> kCaStates = {"Open", "Disorder", "CWR", "Recovery", "Loss"};
constexpr std::array<std::string_view, kEventCount> kEvents = {"", "sample", "state", "open", "close", "adopted", "gap"};
constexpr std::array<std::string_view, TCPINFO_SOURCES> kSources = {"", "sockops", "inet_diag", "iter",
                                                                    "getsockopt"};
constexpr std::array<std::string_view, TCPINFO_MODES> kModes = {"polling", "state", "close"};
constexpr std::array<std::string_view, 9> kFormats = {"number", "event",    "source",  "family", "address",
                                                      "state",  "ca_state", "boolean", "text"};
constexpr std::array<std::string_view, 10> kUnits = {"none",        "ns",       "us",      "ms",    "bytes",
                                                     "bytes_per_s", "segments", "packets", "count", "scale256"};
constexpr std::array<std::string_view, 5> kKinds = {"identity", "counter", "gauge", "state", "flags"};
constexpr std::array<std::string_view, 5> kRules = {"none", "equal", "times_snd_mss", "delta", "ledger"};

template <std::size_t N, class E>
std::string_view look_up(const std::array<std::string_view, N>& names, E value) noexcept {
  const auto index = static_cast<std::size_t>(value);
  return index < N ? names[index] : std::string_view();
}

}  // namespace

std::span<const FieldInfo, kFieldCount> fields() noexcept { return kTable; }

const FieldInfo& info(Field field) noexcept { return kTable[static_cast<std::size_t>(field)]; }

const FieldInfo* find_field(std::string_view name) noexcept {
  for (const auto& field : kTable)
    if (field.name == name) return &field;
  return nullptr;
}

bool gives(SourceId source, Field field) noexcept {
  return source_bits(info(field).sources) >> static_cast<unsigned>(source) & 1;
}

std::string_view name(Event event) noexcept { return look_up(kEvents, event); }
std::string_view name(SourceId source) noexcept { return look_up(kSources, source); }
std::string_view name(Mode mode) noexcept { return look_up(kModes, mode); }
std::string_view name(Format format) noexcept { return look_up(kFormats, format); }
std::string_view name(Unit unit) noexcept { return look_up(kUnits, unit); }
std::string_view name(Kind kind) noexcept { return look_up(kKinds, kind); }
std::string_view name(Rule rule) noexcept { return look_up(kRules, rule); }
std::string_view state_name(std::uint8_t state) noexcept { return look_up(kStates, state); }
std::string_view ca_state_name(std::uint8_t ca_state) noexcept { return look_up(kCaStates, ca_state); }

std::string to_string(const tcpinfo_address& address) {
  char text[detail::kLongestAddress];
  return {text, detail::write_address(text, address)};
}

std::optional<tcpinfo_address> parse_address(std::string_view text) noexcept {
  char terminated[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof(terminated) || text.find('\0') != std::string_view::npos) return std::nullopt;
  std::memcpy(terminated, text.data(), text.size());
  terminated[text.size()] = '\0';
  tcpinfo_address address{};
  if (inet_pton(AF_INET6, terminated, address.bytes) == 1) return address;
  if (inet_pton(AF_INET, terminated, address.bytes + 12) != 1) return std::nullopt;
  address.bytes[10] = address.bytes[11] = 0xff;
  return address;
}

std::string_view text(const tcpinfo_name& name) noexcept {
  return {name.text, strnlen(name.text, sizeof(name.text))};
}

std::optional<std::uint64_t> Record::number(Field field) const noexcept {
  const auto& row = info(field);
  if (!has(field) || !is_number(row)) return std::nullopt;
  std::uint64_t value = 0;
  const auto* member = reinterpret_cast<const std::byte*>(raw_) + row.offset;
  switch (row.size) {
    case 1: value = *reinterpret_cast<const std::uint8_t*>(member); break;
    case 2: value = *reinterpret_cast<const std::uint16_t*>(member); break;
    case 4: value = *reinterpret_cast<const std::uint32_t*>(member); break;
    default: value = *reinterpret_cast<const std::uint64_t*>(member); break;
  }
  return value;
}

void set_number(tcpinfo_record& record, Field field, std::uint64_t value) noexcept {
  const auto& row = info(field);
  if (!is_number(row)) return;
  auto* member = reinterpret_cast<std::byte*>(&record) + row.offset;
  switch (row.size) {
    case 1: *reinterpret_cast<std::uint8_t*>(member) = static_cast<std::uint8_t>(value); break;
    case 2: *reinterpret_cast<std::uint16_t*>(member) = static_cast<std::uint16_t>(value); break;
    case 4: *reinterpret_cast<std::uint32_t*>(member) = static_cast<std::uint32_t>(value); break;
    default: *reinterpret_cast<std::uint64_t*>(member) = value; break;
  }
  set_present(record, field);
}

}  // namespace tcpinfo
