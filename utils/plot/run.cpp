// SPDX-License-Identifier: BSD-2-Clause
#include "run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include <tcpinfo/error.hpp>
#include <tcpinfo/json.hpp>

#include "iperf3.hpp"

namespace plot {
namespace {

std::optional<Endpoint> endpoint(std::string_view text, std::uint16_t port) {
  const auto address = tcpinfo::parse_address(text.substr(0, text.find('%')));
  return address ? std::optional<Endpoint>({*address, port}) : std::nullopt;
}

/// iperf3's intervals with `shift_s` added, which brings the clock of the side that wrote them to the axis.
std::vector<Interval> intervals(const validation::Iperf3Stream& stream, double shift_s) {
  std::vector<Interval> result;
  double offset = shift_s, end = shift_s;
  bool omitted = false;
  for (const auto& one : stream.intervals) {
    // After the seconds that -O omits, iperf3 counts from 0 again.
    if (omitted && !one.omitted) offset = end;
    omitted = one.omitted;
    Interval interval;
    interval.start_s = end;
    interval.end_s = end = offset + static_cast<double>(one.end_us) / 1e6;
    interval.bytes = one.value("bytes");
    for (const auto& row : tcpinfo::fields()) {
      if (row.rule == tcpinfo::Rule::none || row.rule == tcpinfo::Rule::ledger) continue;
      if (const auto v = one.value(row.iperf3)) interval.values[row.field] = static_cast<double>(*v);
    }
    result.push_back(std::move(interval));
  }
  return result;
}

bool same(const Endpoint& a, const Endpoint& b) {
  return a.port == b.port && a.address.halves[0] == b.address.halves[0] && a.address.halves[1] == b.address.halves[1];
}

void add_side(Run& run, const validation::Iperf3Result& result, double shift_s) {
  for (const auto& one : result.streams) {
    const auto local = endpoint(one.local_address, one.local_port), peer = endpoint(one.peer_address, one.peer_port);
    if (!local || !peer) continue;
    const auto& sender = one.sender ? *local : *peer;
    const auto& receiver = one.sender ? *peer : *local;
    auto found = std::ranges::find_if(
        run.streams, [&](const Stream& s) { return same(s.sender, sender) && same(s.receiver, receiver); });
    if (found == run.streams.end()) {
      run.streams.push_back({.sender = sender, .receiver = receiver, .sent = {}, .received = {}});
      found = run.streams.end() - 1;
    }
    (one.sender ? found->sent : found->received) = intervals(one, shift_s);
  }
}

std::vector<tcpinfo_record> read_records(Run& run, const char* file) {
  const auto path = run.directory / file;
  try {
    bool truncated = false;
    auto records = tcpinfo::read_json_lines(path, &truncated);
    if (truncated)
      run.defects.push_back(fmt::format(
          "read {}: its last line is cut off, the {} records before it are shown (run tcpinfo-validate again "
          "for all of them)",
          path.string(), records.size()));
    return records;
  } catch (const tcpinfo::Error& error) {
    run.defects.emplace_back(error.what());
    if (error.code() == std::errc::no_such_file_or_directory)
      run.defects.back() += " (tcpinfo-validate run writes it: run it again)";
    return {};
  }
}

void read_verdict(Run& run) {
  try {
    run.verdict = validation::read_verdict(run.directory / "verdict.json");
  } catch (const tcpinfo::Error& error) {
    if (error.code() == std::errc::no_such_file_or_directory)
      run.remarks.emplace_back(
          "There is no verdict.json: the run was interrupted or not judged (tcpinfo-validate compare judges it)");
    else
      run.defects.emplace_back(error.what());
  }
}

std::uint64_t first_time_ns(const Run& run) {
  std::uint64_t first = 0;
  for (const auto* records : {&run.sockops, &run.inet_diag})
    for (const auto& raw : *records)
      if (const auto t = tcpinfo::Record(raw).time_ns(); t && (first == 0 || *t < first)) first = *t;
  return first;
}

/// How much later than the axis the clock began in the result of "client" or "server".
double shift_s(const Run& run, std::string_view file) {
  const validation::Alignment* best = nullptr;
  if (run.verdict)
    for (const auto& a : run.verdict->alignments)
      if (a.file == file && (!best || a.uncertainty_ns < best->uncertainty_ns)) best = &a;
  return best ? static_cast<double>(static_cast<std::int64_t>(best->start_boot_ns - run.start_boot_ns)) / 1e9 : 0;
}

}  // namespace

Run read_run(const std::filesystem::path& directory) {
  Run run;
  run.directory = directory;
  const auto absolute = std::filesystem::absolute(directory).lexically_normal();
  run.name = (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();

  const auto client = validation::read_iperf3(directory / "iperf3.json", validation::FailedRuns::kAccept);
  std::optional<validation::Iperf3Result> server;
  try {
    server = validation::read_iperf3(directory / "iperf3-server.json", validation::FailedRuns::kAccept);
  } catch (const tcpinfo::Error& error) {
    run.defects.emplace_back(error.what());
    if (error.code() == std::errc::no_such_file_or_directory)
      run.defects.back() += " (tcpinfo-validate run writes it: run it again)";
  }
  run.iperf3_version = client.version;
  run.congestion_control = client.congestion_control;

  run.sockops = read_records(run, "sockops.jsonl");
  run.inet_diag = read_records(run, "inet_diag.jsonl");
  read_verdict(run);
  if (run.verdict && !run.verdict->alignments.empty()) {
    const auto& alignment = run.verdict->alignments.front();
    run.start_boot_ns = alignment.start_boot_ns;
    run.uncertainty_s = static_cast<double>(alignment.uncertainty_ns) / 1e9;
  } else {
    run.start_boot_ns = first_time_ns(run);
  }

  const bool aligned = run.uncertainty_s.has_value();
  add_side(run, client, aligned ? shift_s(run, "client") : 0);
  if (server) add_side(run, *server, aligned ? shift_s(run, "server") : 0);
  if (run.streams.empty())
    throw tcpinfo::Error(tcpinfo::Errc::kMalformed,
                         fmt::format("read {}: it names no stream{}", (directory / "iperf3.json").string(),
                                     client.error.empty() ? "" : ", as iperf3 failed: " + client.error),
                         "run tcpinfo-validate again");
  if (!client.error.empty()) run.remarks.push_back("iperf3 ended with an error: " + client.error);
  return run;
}

}  // namespace plot
