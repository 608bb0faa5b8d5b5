// SPDX-License-Identifier: BSD-2-Clause
#include "table.hpp"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/format.hpp>

#include "units.hpp"

namespace cli {
namespace {

using tcpinfo::Event;
using tcpinfo::Field;
using tcpinfo::Record;

constexpr std::string_view kAbsent = "-";

template <class T>
std::string number(std::optional<T> value) {
  return value ? std::to_string(*value) : std::string(kAbsent);
}

std::string endpoint(std::optional<tcpinfo_address> address, std::optional<std::uint16_t> port) {
  if (!address) return std::string(kAbsent);
  const std::string text = tcpinfo::to_string(*address);
  const bool brackets = text.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", brackets ? "[" : "", text, brackets ? "]" : "", number(port));
}

std::string event_text(const Record& r) {
  const auto event = r.event();
  return event ? std::string(tcpinfo::name(static_cast<Event>(*event))) : std::string(kAbsent);
}

std::string state_text(const Record& r) {
  const auto state = r.state();
  return state ? std::string(tcpinfo::state_name(*state)) : std::string(kAbsent);
}

bool is_transition(const Record& r) { return r.event() == static_cast<std::uint8_t>(Event::kState); }

// An address keeps its beginning and, as the ports tell connections apart, more of its end.
std::string clip(std::string text, std::size_t width, bool address) {
  if (text.size() <= width) return text;
  if (!address) return text.substr(0, width);
  const std::size_t head = (width - 2) / 3;
  return text.substr(0, head) + ".." + text.substr(text.size() - (width - 2 - head));
}

// "nginx[812] nginx.service", "python3[77] docker/0123456789ab": the last column, of any width.
std::string owner_text(const Record& record, const tcpinfo::Owner* owner) {
  std::string text;
  for (const char c : record.comm().value_or("")) text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  if (record.pid()) text += fmt::format("[{}]", *record.pid());
  if (!owner) return text.empty() ? std::string(kAbsent) : text;
  const auto& [runtime, id, pod] = owner->container;
  if (!id.empty())
    text += fmt::format(" {}{}{}", runtime, runtime.empty() ? "" : "/", id.substr(0, 12));
  else if (!owner->unit.empty())
    text += ' ' + owner->unit;
  return text.empty() ? std::string(kAbsent) : text;
}

std::size_t typical_width(const tcpinfo::FieldInfo& field) {
  switch (field.format) {
    case tcpinfo::Format::address:
      return 15;
    case tcpinfo::Format::state:
      return 11;
    case tcpinfo::Format::text:
      return 6;
    case tcpinfo::Format::event:
      return 7;
    case tcpinfo::Format::source:
      return 9;
    case tcpinfo::Format::ca_state:
      return 8;
    case tcpinfo::Format::boolean:
      return 5;
    default:
      return field.size == 8 ? 14 : field.size == 4 ? 8 : 5;
  }
}

}  // namespace

RecordTable::RecordTable(TableKind kind, TerminalSize size, std::uint64_t start_ns, std::vector<Field> fields,
                         bool owners)
    : kind_(kind), size_(size), start_ns_(start_ns), fields_(std::move(fields)), owners_(owners) {
  fields_.empty() ? lay_out() : lay_out_fields();
}

void RecordTable::resize(TerminalSize size) {
  if (size == size_) return;
  size_ = size;
  rows_until_header_ = 0;
  if (fields_.empty()) lay_out();
}

void RecordTable::lay_out_fields() {
  for (const Field field : fields_) {
    const auto& row = tcpinfo::info(field);
    const bool is_number = row.format == tcpinfo::Format::number;
    columns_.push_back({row.name, std::max(row.name.size(), typical_width(row)),
                        is_number ? Align::kRight : Align::kLeft, [field](const Record& r) {
                          std::string text;
                          return tcpinfo::append_value(text, r, field) ? text : std::string(kAbsent);
                        }});
  }
}

void RecordTable::lay_out() {
  // Below this width state has no column of its own: a transition shows its state in place of the event.
  constexpr std::size_t kStateFrom = 100;
  constexpr std::size_t kRttvarFrom = 112;
  constexpr std::size_t kTimeFrom = 126;
  constexpr std::size_t kUnackedFrom = 144;
  constexpr std::size_t kLongestEndpoint = 47;

  constexpr std::size_t kOwner = 24;  // what it mostly needs

  columns_.clear();
  const std::size_t width = owners_ && size_.columns > kOwner ? size_.columns - kOwner : size_.columns;
  const auto add = [this](std::string_view header, std::size_t wide, Align align, auto text) {
    columns_.push_back({header, wide, align, std::move(text)});
  };
  const bool live = kind_ == TableKind::kLive;
  if (live && width >= kTimeFrom)
    add("time", 9, Align::kRight, [start = start_ns_](const Record& r) {
      const auto time = r.time_ns();
      return time ? fmt::format("{:.3f}", (static_cast<double>(*time) - static_cast<double>(start)) / 1e9)
                  : std::string(kAbsent);
    });
  if (!live)
    add("state", 11, Align::kLeft, state_text);
  else if (width >= kStateFrom)
    add("event", 7, Align::kLeft, event_text);
  else
    add("event", 11, Align::kLeft, [](const Record& r) { return is_transition(r) ? state_text(r) : event_text(r); });
  const std::size_t local = columns_.size();
  add("local", 0, Align::kAddress, [](const Record& r) { return endpoint(r.local_address(), r.local_port()); });
  add("peer", 0, Align::kAddress, [](const Record& r) { return endpoint(r.peer_address(), r.peer_port()); });
  if (width >= kStateFrom) {
    if (live) add("state", 11, Align::kLeft, state_text);
    add("cc", 6, Align::kLeft, [](const Record& r) { return std::string(r.congestion_control().value_or(kAbsent)); });
  }
  const auto time_column = [](auto field) {
    return [field](const Record& r) {
      const auto value = (r.*field)();
      return value ? human_time(*value) : std::string(kAbsent);
    };
  };
  add("rtt", 7, Align::kRight, time_column(&Record::rtt));
  if (width >= kRttvarFrom) add("rttvar", 7, Align::kRight, time_column(&Record::rttvar));
  add("cwnd", 5, Align::kRight, [](const Record& r) { return number(r.snd_cwnd()); });
  if (width >= kUnackedFrom) add("unacked", 7, Align::kRight, [](const Record& r) { return number(r.unacked()); });
  add("retrans", 7, Align::kRight, [](const Record& r) { return number(r.total_retrans()); });
  add("rate", 8, Align::kRight, [](const Record& r) {
    const auto rate = r.delivery_rate();
    return rate ? human_rate(*rate) : std::string(kAbsent);
  });

  std::size_t used = columns_.size() - 1;
  for (const auto& column : columns_) used += column.width;
  const std::size_t left = width > used ? width - used : 0;
  columns_[local].width = columns_[local + 1].width = std::clamp(left / 2, std::size_t{12}, kLongestEndpoint);
}

void RecordTable::append(std::string& out, const Record& record, const tcpinfo::Owner* owner) {
  const auto put = [&out](const Column& column, const std::string& text, bool last) {
    const std::size_t padding = column.width > text.size() ? column.width - text.size() : 0;
    if (column.align == Align::kRight) out.append(padding, ' ');
    out += text;
    if (column.align != Align::kRight && !last) out.append(padding, ' ');
    out += last ? '\n' : ' ';
  };
  if (rows_until_header_ == 0) {
    for (const auto& column : columns_)
      put(column, std::string(column.header), !owners_ && &column == &columns_.back());
    if (owners_) out += "owner\n";
    rows_until_header_ =
        kind_ == TableKind::kLive ? std::max<std::size_t>(size_.rows, 12) - 1 : std::numeric_limits<std::size_t>::max();
  }
  --rows_until_header_;
  // Of no connection: there is nothing for the columns.
  if (record.event() == TCPINFO_EVENT_GAP) {
    tcpinfo::append_summary(out, record);
    out += '\n';
    return;
  }
  for (const auto& column : columns_) {
    std::string text = column.text(record);
    // Figures and fields that were asked for are shown whole, even where they break the alignment.
    if (column.align != Align::kRight && fields_.empty())
      text = clip(std::move(text), column.width, column.align == Align::kAddress);
    put(column, text, !owners_ && &column == &columns_.back());
  }
  if (owners_) out += owner_text(record, owner) + '\n';
}

void append_wrapped(std::string& out, std::string_view text, std::size_t indent, std::size_t width) {
  const std::size_t room = width > indent + 20 ? width - indent : 20;
  for (bool first = true; !text.empty(); first = false) {
    if (!first) {
      out += '\n';
      out.append(indent, ' ');
    }
    std::size_t cut = text.size();
    if (cut > room) {
      cut = text.rfind(' ', room);
      if (cut == std::string_view::npos) cut = std::min(text.find(' '), text.size());
    }
    out += text.substr(0, cut);
    text.remove_prefix(std::min(cut + 1, text.size()));
  }
}

}  // namespace cli
