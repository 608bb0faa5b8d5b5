// SPDX-License-Identifier: BSD-2-Clause
#include "iperf3.hpp"

#include <rapidjson/document.h>
#include <rapidjson/error/en.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
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

std::optional<std::uint64_t> number(const Value& object, const char* name) {
  const auto* value = member(object, name);
  return value && value->IsUint64() ? std::optional(value->GetUint64()) : std::nullopt;
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

rapidjson::Document parse(std::string_view json, std::string_view name) {
  constexpr std::string_view kSpace = " \t\r\n";
  if (json.find_first_not_of(kSpace) == std::string_view::npos)
    refuse(name, "it is empty: iperf3 ended before it wrote");
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
    if (value.IsUint64()) result.emplace(std::string(key.GetString(), key.GetStringLength()), value.GetUint64());
  return result;
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
          stream->intervals.back().omitted == read.omitted)
        return;
      stream->intervals.push_back(std::move(read));
      stream->sender = stream->intervals.back().sender;
    });
  });
  each(member(*end, "streams"), [&](const Value& object) {
    const auto *sender = member(object, "sender"), *receiver = member(object, "receiver");
    if (auto* stream = sender ? stream_of(*sender) : nullptr) {
      stream->sent_bytes = number(*sender, "bytes");
      stream->totals = numbers(*sender);
      if (receiver) stream->received_bytes = number(*receiver, "bytes");
    }
  });
  return result;
}

Iperf3Result read_iperf3(const std::filesystem::path& file, FailedRuns failed) {
  return parse_iperf3(read_text(file), file.string(), failed);
}

}  // namespace validation
