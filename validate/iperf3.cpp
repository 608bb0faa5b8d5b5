// SPDX-License-Identifier: BSD-2-Clause
#include "iperf3.hpp"

#include <rapidjson/document.h>
#include <rapidjson/error/en.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

#include "files.hpp"

namespace validation {
namespace {

using rapidjson::Value;
using tcpinfo::Errc;
using tcpinfo::Error;

constexpr const char* kMakeOne = "make one with iperf3 -c HOST -J > FILE";

[[noreturn]] void refuse(std::string_view name, std::string way_out) {
  throw Error(make_error_code(Errc::kMalformed), fmt::format("read iperf3's result {}", name), std::move(way_out));
}

const Value* member(const Value& object, const char* name) {
  if (!object.IsObject()) return nullptr;
  const auto found = object.FindMember(name);
  return found == object.MemberEnd() ? nullptr : &found->value;
}

std::string text(const Value& object, const char* name) {
  const auto* value = member(object, name);
  return value && value->IsString() ? std::string(value->GetString(), value->GetStringLength()) : std::string();
}

/// iperf3 keeps all numbers as double; what is large it prints as such, with an exponent from 10^15 on.
std::optional<std::uint64_t> whole_number(const Value& value) {
  constexpr double kExact = 9007199254740992;  // 2^53: doubles above it leave out whole numbers
  if (value.IsUint64()) return value.GetUint64();
  if (!value.IsDouble()) return std::nullopt;
  const double number = value.GetDouble();
  if (number < 0 || number > kExact || number != std::floor(number)) return std::nullopt;
  return static_cast<std::uint64_t>(number);
}

std::optional<std::uint64_t> number(const Value& object, const char* name) {
  const auto* value = member(object, name);
  return value ? whole_number(*value) : std::nullopt;
}

bool flag(const Value& object, const char* name) {
  const auto* value = member(object, name);
  return value && value->IsBool() && value->GetBool();
}

template <class Function>
void each(const Value* array, Function function) {
  if (!array || !array->IsArray()) return;
  for (const auto& element : array->GetArray()) function(element);
}

constexpr std::string_view kSpace = " \t\r\n";

/// The events that iperf3 --json-stream (from 3.17 on) prints, one a line, as the one object that -J prints.
/// Nothing where the text is none of it.
std::optional<rapidjson::Document> parse_events(std::string_view text, std::string_view name) {
  rapidjson::Document whole(rapidjson::kObjectType);
  auto& allocator = whole.GetAllocator();
  Value intervals(rapidjson::kArrayType);
  std::size_t line_number = 0;
  bool ended = false;
  while (!text.empty()) {
    const auto newline = text.find('\n');
    const auto line = text.substr(0, newline);
    text.remove_prefix(newline == std::string_view::npos ? text.size() : newline + 1);
    ++line_number;
    if (line.find_first_not_of(kSpace) == std::string_view::npos) continue;
    rapidjson::Document event(&allocator);
    event.Parse(line.data(), line.size());
    const auto* kind = event.HasParseError() ? nullptr : member(event, "event");
    auto* data = kind ? const_cast<Value*>(member(event, "data")) : nullptr;
    if (!kind || !kind->IsString() || !data) {
      if (line_number == 1) return std::nullopt;
      if (text.empty() && event.HasParseError())
        refuse(name,
               fmt::format("line {} is cut off: iperf3 was killed or the disk is full; run it again", line_number));
      refuse(name,
             fmt::format("line {} is no event of iperf3 --json-stream: it needs \"event\" and \"data\"", line_number));
    }
    const std::string_view what(kind->GetString(), kind->GetStringLength());
    if (ended || (what == "start" && whole.HasMember("start")))
      refuse(name, fmt::format("line {} begins another run; give each run a file of its own", line_number));
    if (what == "interval")
      intervals.PushBack(*data, allocator);
    else
      whole.AddMember(Value(*kind, allocator), *data, allocator);
    ended = what == "end";
  }
  if (!ended && !whole.HasMember("error"))
    refuse(name, fmt::format("it is cut off after line {}: it has no event \"end\"; run iperf3 again", line_number));
  whole.AddMember("intervals", intervals, allocator);
  if (!ended) whole.AddMember("end", Value(rapidjson::kObjectType), allocator);
  return whole;
}

rapidjson::Document parse(std::string_view json, std::string_view name) {
  if (json.find_first_not_of(kSpace) == std::string_view::npos)
    refuse(name, "it is empty: iperf3 ended before it wrote");
  if (auto events = parse_events(json, name)) return std::move(*events);
  rapidjson::Document document;
  document.Parse(json.data(), json.size());
  if (!document.HasParseError()) return document;
  const auto at = document.GetErrorOffset();
  if (document.GetParseError() == rapidjson::kParseErrorDocumentRootNotSingular)
    refuse(name, "it holds more than one run; a server makes one of one run with iperf3 -s -1 -J");
  // A cut inside a string or a word is reported where that began.
  const auto last = json.find_last_not_of(kSpace);
  const bool inside_token = json.find_first_of(",:]}\n", at) == std::string_view::npos;
  if (at > last || inside_token || document.GetParseError() == rapidjson::kParseErrorStringMissQuotationMark)
    refuse(name, fmt::format("it is cut off after {} bytes: iperf3 was killed or the disk is full; run it again",
                             json.size()));
  const auto line = 1 + std::count(json.begin(), json.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  refuse(name, fmt::format("line {} is not JSON: {} {}", line, rapidjson::GetParseError_En(document.GetParseError()),
                           kMakeOne));
}

std::map<std::string, std::uint64_t, std::less<>> numbers(const Value& object) {
  std::map<std::string, std::uint64_t, std::less<>> result;
  for (const auto& [key, value] : object.GetObject())
    if (const auto whole = whole_number(value))
      result.emplace(std::string(key.GetString(), key.GetStringLength()), *whole);
  return result;
}

/// "iperf 3.16" and later, "iperf 3.17.1+": the third number and what follows do not matter.
bool is_threaded(std::string_view version) {
  int major = 0, minor = 0;
  return std::sscanf(std::string(version).c_str(), "iperf %d.%d", &major, &minor) == 2 &&
         std::pair(major, minor) >= std::pair(3, 16);
}

Iperf3Stream read_connection(const Value& connected) {
  Iperf3Stream stream;
  stream.socket = static_cast<int>(number(connected, "socket").value_or(0));
  stream.local_address = text(connected, "local_host");
  stream.peer_address = text(connected, "remote_host");
  stream.local_port = static_cast<std::uint16_t>(number(connected, "local_port").value_or(0));
  stream.peer_port = static_cast<std::uint16_t>(number(connected, "remote_port").value_or(0));
  return stream;
}

Iperf3Interval read_interval(const Value& object) {
  Iperf3Interval interval;
  const auto* end = member(object, "end");
  // Printed with 15 digits from microseconds.
  if (end && end->IsNumber()) interval.end_us = std::llround(end->GetDouble() * 1e6);
  interval.sender = flag(object, "sender");
  interval.omitted = flag(object, "omitted");
  interval.values = numbers(object);
  return interval;
}

/// Whether this side sends, by the end of the run: "sender" of older versions tells it, up to 3.6 there is none, and no
/// run of both directions.
bool sends(const Value& end_of_sender, const Iperf3Result& result) {
  return member(end_of_sender, "sender") ? flag(end_of_sender, "sender") : result.reverse == result.is_server;
}

}  // namespace

std::optional<std::uint64_t> Iperf3Interval::value(std::string_view name) const {
  const auto found = values.find(name);
  return found == values.end() ? std::nullopt : std::optional(found->second);
}

Iperf3Result parse_iperf3(std::string_view json, std::string_view name, FailedRuns failed) {
  const auto document = parse(json, name);
  const auto* start = member(document, "start");
  const auto* intervals = member(document, "intervals");
  const auto* end = member(document, "end");
  Iperf3Result result;
  result.error = text(document, "error");
  if (!result.error.empty() && failed == FailedRuns::kRefuse)
    refuse(name, "the run failed, iperf3 says: " + result.error + "; run it again");
  if (!start || !start->IsObject() || !intervals || !intervals->IsArray() || !end)
    refuse(name, std::string("it is no iperf3 result: it has no start, intervals and end; ") + kMakeOne);

  result.is_server = member(*start, "accepted_connection") != nullptr;
  result.version = text(*start, "version");
  result.threaded = is_threaded(result.version);
  result.system = text(*start, "system_info");
  result.congestion_control = text(*end, "sender_tcp_congestion");
  if (const auto* stamp = member(*start, "timestamp"))
    result.start_s = static_cast<std::int64_t>(number(*stamp, "timesecs").value_or(0));
  if (const auto* test = member(*start, "test_start")) {
    const auto protocol = text(*test, "protocol");
    if (protocol != "TCP") refuse(name, "it is a run over " + protocol + "; only TCP can be compared");
    result.reverse = number(*test, "reverse").value_or(0) != 0;
  }
  each(member(*start, "connected"),
       [&](const Value& connected) { result.streams.push_back(read_connection(connected)); });
  if (result.streams.empty() && failed == FailedRuns::kRefuse) refuse(name, "no stream was connected; run it again");

  const auto stream_of = [&](const Value& object) -> Iperf3Stream* {
    const auto socket = static_cast<int>(number(object, "socket").value_or(0));
    const auto found = std::find_if(result.streams.begin(), result.streams.end(),
                                    [&](const Iperf3Stream& stream) { return stream.socket == socket; });
    return found == result.streams.end() ? nullptr : &*found;
  };
  each(intervals, [&](const Value& interval) {
    each(member(interval, "streams"), [&](const Value& object) {
      auto* stream = stream_of(object);
      if (!stream) return;
      auto read = read_interval(object);
      // A server whose client was interrupted prints its last interval again.
      if (!stream->intervals.empty() && stream->intervals.back().end_us == read.end_us &&
          stream->intervals.back().omitted == read.omitted) {
        result.repeated_intervals = true;
        return;
      }
      stream->intervals.push_back(std::move(read));
      stream->sender = stream->intervals.back().sender;
    });
  });
  each(member(*end, "streams"), [&](const Value& object) {
    const auto *sender = member(object, "sender"), *receiver = member(object, "receiver");
    if (auto* stream = sender ? stream_of(*sender) : nullptr) {
      stream->sent_bytes = number(*sender, "bytes");
      stream->totals = numbers(*sender);
      // Of a run that was too short for an interval nothing else tells it.
      if (stream->intervals.empty()) stream->sender = sends(*sender, result);
      if (receiver) stream->received_bytes = number(*receiver, "bytes");
    }
  });
  return result;
}

Iperf3Result read_iperf3(const std::filesystem::path& file, FailedRuns failed) {
  return parse_iperf3(read_text(file), file.string(), failed);
}

}  // namespace validation
