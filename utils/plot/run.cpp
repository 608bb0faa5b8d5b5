// SPDX-License-Identifier: BSD-2-Clause
#include "run.hpp"

#include <fmt/format.h>
#include <rapidjson/document.h>
#include <rapidjson/error/en.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>

#include <tcpinfo/error.hpp>
#include <tcpinfo/json.hpp>

namespace plot {
namespace {

using rapidjson::Value;

std::string read_file(const std::filesystem::path& path, const std::string& way_out) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  const auto fail = [&] {
    throw tcpinfo::Error({errno, std::generic_category()}, "read " + path.string(), way_out);
  };
  if (!file) fail();
  std::string text;
  char buffer[65536];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof(buffer), file.get())) > 0;) text.append(buffer, n);
  if (std::ferror(file.get())) fail();
  return text;
}

rapidjson::Document parse_file(const std::filesystem::path& path, const std::string& way_out) {
  const auto text = read_file(path, way_out);
  rapidjson::Document document;
  // iperf3 writes some keys twice, which RapidJSON takes as it comes.
  document.Parse<rapidjson::kParseIterativeFlag>(text.data(), text.size());
  if (!document.HasParseError() && document.IsObject()) return document;
  std::string problem = "it is not a JSON object";
  if (text.empty())
    problem = "it is empty";
  else if (document.HasParseError())
    problem = document.GetErrorOffset() + 2 >= text.size()
                  ? fmt::format("it is cut off after {} bytes", text.size())
                  : fmt::format("at byte {}: {}", document.GetErrorOffset(),
                                rapidjson::GetParseError_En(document.GetParseError()));
  throw tcpinfo::Error(tcpinfo::Errc::kMalformed, fmt::format("read {}: {}", path.string(), problem), way_out);
}

const Value* member(const Value& object, const char* key) {
  if (!object.IsObject()) return nullptr;
  const auto found = object.FindMember(key);
  return found == object.MemberEnd() ? nullptr : &found->value;
}

template <class... Keys>
const Value* member(const Value& object, const char* key, Keys... keys) {
  const auto* inner = member(object, key);
  return inner ? member(*inner, keys...) : nullptr;
}

double number(const Value& object, const char* key, double otherwise = 0) {
  const auto* v = member(object, key);
  return v && v->IsNumber() ? v->GetDouble() : otherwise;
}

std::uint64_t count(const Value& object, const char* key) {
  const auto* v = member(object, key);
  return v && v->IsUint64() ? v->GetUint64() : 0;
}

bool flag(const Value& object, const char* key) {
  const auto* v = member(object, key);
  return v && v->IsBool() && v->GetBool();
}

std::string text(const Value& object, const char* key) {
  const auto* v = member(object, key);
  return v && v->IsString() ? std::string(v->GetString(), v->GetStringLength()) : std::string();
}

template <class Function>
void each(const Value* array, Function function) {
  if (!array || !array->IsArray()) return;
  for (const auto& element : array->GetArray()) function(element);
}

std::optional<Endpoint> endpoint(const Value& connected, const char* host_key, const char* port_key) {
  auto host = text(connected, host_key);
  host.resize(std::min(host.find('%'), host.size()));
  const auto address = tcpinfo::parse_address(host);
  const auto port = count(connected, port_key);
  if (!address || port == 0 || port > 65535) return std::nullopt;
  return Endpoint{*address, static_cast<std::uint16_t>(port)};
}

struct Side {
  Endpoint local, peer;
  bool is_sender = false;
  std::vector<Interval> intervals;
};

Interval interval(const Value& stream) {
  Interval result;
  result.start_s = number(stream, "start");
  result.end_s = number(stream, "end");
  if (const auto* bytes = member(stream, "bytes"); bytes && bytes->IsUint64()) result.bytes = bytes->GetUint64();
  for (const auto& row : tcpinfo::fields()) {
    if (row.rule == tcpinfo::Rule::none || row.rule == tcpinfo::Rule::ledger) continue;
    const auto* v = member(stream, std::string(row.iperf3).c_str());
    if (v && v->IsNumber()) result.values[row.field] = v->GetDouble();
  }
  return result;
}

/// The streams as one side of iperf3 saw them.
std::vector<Side> read_sides(const rapidjson::Document& document, bool is_client) {
  std::vector<Side> sides;
  std::vector<std::int64_t> sockets;
  each(member(document, "start", "connected"), [&](const Value& connected) {
    const auto local = endpoint(connected, "local_host", "local_port");
    const auto peer = endpoint(connected, "remote_host", "remote_port");
    if (!local || !peer) return;
    sockets.push_back(static_cast<std::int64_t>(number(connected, "socket", -1)));
    const auto* start = member(document, "start", "test_start");
    const bool reverse = start && number(*start, "reverse") != 0;
    sides.push_back({.local = *local, .peer = *peer, .is_sender = is_client != reverse, .intervals = {}});
  });
  // -O starts the time anew after the omitted seconds.
  double offset = 0, end = 0;
  bool omitted = false;
  each(member(document, "intervals"), [&](const Value& of_all) {
    each(member(of_all, "streams"), [&](const Value& stream) {
      const auto socket = static_cast<std::int64_t>(number(stream, "socket", -2));
      const auto at = static_cast<std::size_t>(std::ranges::find(sockets, socket) - sockets.begin());
      if (at == sockets.size()) return;
      auto one = interval(stream);
      if (omitted && !flag(stream, "omitted")) offset = end;
      omitted = flag(stream, "omitted");
      one.start_s += offset;
      one.end_s += offset;
      end = std::max(end, one.end_s);
      if (const auto* sender = member(stream, "sender"); sender && sender->IsBool())
        sides[at].is_sender = sender->GetBool();
      sides[at].intervals.push_back(std::move(one));
    });
  });
  return sides;
}

bool same(const Endpoint& a, const Endpoint& b) {
  return a.port == b.port && a.address.halves[0] == b.address.halves[0] && a.address.halves[1] == b.address.halves[1];
}

void add_side(Run& run, Side side) {
  const auto& sender = side.is_sender ? side.local : side.peer;
  const auto& receiver = side.is_sender ? side.peer : side.local;
  auto found = std::ranges::find_if(
      run.streams, [&](const Stream& s) { return same(s.sender, sender) && same(s.receiver, receiver); });
  if (found == run.streams.end()) {
    run.streams.push_back({.sender = sender, .receiver = receiver, .sent = {}, .received = {}});
    found = run.streams.end() - 1;
  }
  (side.is_sender ? found->sent : found->received) = std::move(side.intervals);
}

std::string amount(const Value& object, const char* key) {
  const auto* v = member(object, key);
  if (!v || v->IsNull()) return {};
  if (v->IsString()) return std::string(v->GetString(), v->GetStringLength());
  if (v->IsUint64()) return fmt::format("{}", v->GetUint64());
  if (v->IsNumber()) return fmt::format("{:.4g}", v->GetDouble());
  return v->IsBool() ? (v->GetBool() ? "yes" : "no") : std::string();
}

Verdict read_verdict(const std::filesystem::path& path) {
  const auto document = parse_file(path, "run tcpinfo-validate compare to judge the run again");
  Verdict verdict;
  verdict.passed = flag(document, "passed");
  if (const auto* alignment = member(document, "alignment"); alignment && alignment->IsObject()) {
    if (const auto* start = member(*alignment, "start_boot_ns"); start && start->IsUint64())
      verdict.start_boot_ns = start->GetUint64();
    if (const auto* u = member(*alignment, "uncertainty_ns"); u && u->IsNumber()) verdict.uncertainty_s = u->GetDouble() / 1e9;
  }
  return verdict;
}

std::vector<tcpinfo_record> read_records(Run& run, const char* file) {
  const auto path = run.directory / file;
  try {
    bool truncated = false;
    auto records = tcpinfo::read_json_lines(path, &truncated);
    if (truncated)
      run.defects.push_back(fmt::format("{} is cut off in its last line; the {} records before it are shown (run it again "
                                        "for all)",
                                        path.string(), records.size()));
    return records;
  } catch (const tcpinfo::Error& error) {
    run.defects.emplace_back(error.what());
    return {};
  }
}

}  // namespace

Run read_run(const std::filesystem::path& directory) {
  Run run;
  run.directory = directory;
  const auto absolute = std::filesystem::absolute(directory).lexically_normal();
  run.name = (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();

  const auto client = parse_file(directory / "iperf3.json", "tcpinfo-validate run --out DIR writes it: run it again");
  if (const auto* start = member(client, "start")) run.iperf3_version = text(*start, "version");
  if (const auto* end = member(client, "end")) run.congestion_control = text(*end, "sender_tcp_congestion");
  for (auto& side : read_sides(client, true)) add_side(run, std::move(side));
  const auto failure = text(client, "error");
  if (run.streams.empty())
    throw tcpinfo::Error(tcpinfo::Errc::kMalformed,
                         fmt::format("read {}: it names no stream{}", (directory / "iperf3.json").string(),
                                     failure.empty() ? "" : ", as iperf3 failed: " + failure),
                         "run tcpinfo-validate again");
  if (!failure.empty()) run.remarks.push_back("iperf3 ended with an error: " + failure);

  const auto server_path = directory / "iperf3-server.json";
  try {
    for (auto& side : read_sides(parse_file(server_path, "tcpinfo-validate run writes it"), false))
      add_side(run, std::move(side));
  } catch (const tcpinfo::Error& error) {
    run.defects.emplace_back(error.what());
  }

  run.sockops = read_records(run, "sockops.jsonl");
  run.inet_diag = read_records(run, "inet_diag.jsonl");

  const auto verdict_path = directory / "verdict.json";
  try {
    run.verdict = read_verdict(verdict_path);
  } catch (const tcpinfo::Error& error) {
    if (error.code() == std::errc::no_such_file_or_directory)
      run.remarks.emplace_back("There is no verdict.json: the run was interrupted, or not judged");
    else
      run.defects.emplace_back(error.what());
  }
  if (run.verdict && run.verdict->start_boot_ns) {
    run.start_boot_ns = *run.verdict->start_boot_ns;
  } else {
    for (const auto* records : {&run.sockops, &run.inet_diag})
      for (const auto& raw : *records)
        if (const auto t = tcpinfo::Record(raw).time_ns(); t && (run.start_boot_ns == 0 || *t < run.start_boot_ns))
          run.start_boot_ns = *t;
  }
  return run;
}

}  // namespace plot
