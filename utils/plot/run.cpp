// SPDX-License-Identifier: BSD-2-Clause
#include "run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include <tcpinfo/error.hpp>
#include <tcpinfo/json.hpp>

#include "samples.hpp"

namespace plot {
namespace {

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

/// The same stream seen from its other end.
validation::Iperf3Stream other_end(const validation::Iperf3Stream& stream) {
  validation::Iperf3Stream other;
  other.socket = stream.socket;
  other.local_address = stream.peer_address;
  other.peer_address = stream.local_address;
  other.local_port = stream.peer_port;
  other.peer_port = stream.local_port;
  other.sender = !stream.sender;
  return other;
}

void add_side(Run& run, const validation::Iperf3Result& result, double shift_s) {
  const bool side_sends = std::ranges::any_of(result.streams, &validation::Iperf3Stream::sender);
  for (const auto& one : result.streams) {
    // An end is known by its ports: what iperf3 calls its address may be a name.
    const auto is_it = [&](const StreamEnd& end) {
      return end.iperf3.local_port == one.local_port && end.iperf3.peer_port == one.peer_port && end.intervals.empty();
    };
    auto found =
        std::ranges::find_if(run.streams, [&](const Stream& s) { return is_it(one.sender ? s.sender : s.receiver); });
    if (found == run.streams.end()) {
      Stream stream;
      stream.client_sends = one.sender != result.is_server;
      (one.sender ? stream.receiver : stream.sender).iperf3 = other_end(one);
      run.streams.push_back(std::move(stream));
      found = run.streams.end() - 1;
    }
    auto& end = one.sender ? found->sender : found->receiver;
    end.iperf3 = one;
    end.intervals = intervals(one, shift_s);
    end.side_sends = side_sends;
    end.threaded = result.threaded;
  }
}

/// Records of a source. Runs that were made elsewhere, or by an older validator, have not all of them.
void read_records(Run& run, tcpinfo::SourceId source) {
  const auto path = run.directory / fmt::format("{}.jsonl", tcpinfo::name(source));
  const bool expected = source == tcpinfo::SourceId::kSockops || source == tcpinfo::SourceId::kInetDiag;
  try {
    bool truncated = false;
    auto records = tcpinfo::read_json_lines(path, &truncated);
    if (truncated)
      run.defects.push_back(fmt::format(
          "read {}: its last line is cut off, the {} records before it are shown (run tcpinfo-validate again "
          "for all of them)",
          path.string(), records.size()));
    run.records[source] = std::move(records);
  } catch (const tcpinfo::Error& error) {
    const bool missing = error.code() == std::errc::no_such_file_or_directory;
    if (missing && !expected) return;
    run.defects.emplace_back(error.what());
    if (missing) run.defects.back() += " (tcpinfo-validate run writes it: run it again)";
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
  for (const auto& [source, records] : run.records)
    for (const auto& raw : records)
      if (const auto t = tcpinfo::Record(raw).time_ns(); t && (first == 0 || *t < first)) first = *t;
  return first;
}

const validation::Alignment* alignment(const Run& run, std::string_view file) {
  const validation::Alignment* best = nullptr;
  if (run.verdict)
    for (const auto& a : run.verdict->alignments)
      if (a.file == file && (!best || a.uncertainty_ns < best->uncertainty_ns)) best = &a;
  return best;
}

/// Where the time axis begins: with the first run of iperf3, though the clocks of a later one may be known sharper.
const validation::Alignment& origin_of(const std::vector<validation::Alignment>& alignments) {
  const auto first = std::ranges::find_if(alignments, [](const auto& a) { return a.file.ends_with(" 1"); });
  return first == alignments.end() ? alignments.front() : *first;
}

double seconds_after(const Run& run, std::uint64_t time_ns) {
  return static_cast<double>(static_cast<std::int64_t>(time_ns - run.start_boot_ns)) / 1e9;
}

/// When iperf3's first data connection of a result was made: its clock started at about that time.
std::optional<double> first_record_s(const Run& run, const validation::Iperf3Result& result) {
  std::uint64_t first = 0;
  for (const auto& [source, records] : run.records)
    for (const auto& raw : records)
      for (const auto& stream : result.streams)
        if (const tcpinfo::Record record(raw);
            record.time_ns() && validation::has_ports(record, stream) && (first == 0 || *record.time_ns() < first))
          first = *record.time_ns();
  return first ? std::optional<double>(seconds_after(run, first)) : std::nullopt;
}

/// How much later than the axis the clock of a result began. `number`: of the runs of iperf3, from 1.
double shift_s(Run& run, const validation::Iperf3Result& result, std::string_view side, int number) {
  // Where there were several, each has its number.
  const auto* found = alignment(run, fmt::format("{} {}", side, number));
  if (!found && number == 1) found = alignment(run, side);
  if (found) return run.uncertainty_s ? seconds_after(run, found->start_boot_ns) : 0;
  if (number == 1) return 0;
  run.remarks.push_back(
      fmt::format("The {}'s clock of run {} of iperf3 is taken to begin with its first record: no alignment is known",
                  side, number));
  return first_record_s(run, result).value_or(0);
}

std::filesystem::path result_file(const Run& run, std::string_view stem, int number) {
  return run.directory / (number == 1 ? fmt::format("{}.json", stem) : fmt::format("{}-{}.json", stem, number));
}

}  // namespace

Run read_run(const std::filesystem::path& directory) {
  using tcpinfo::SourceId;
  using validation::FailedRuns;
  Run run;
  run.directory = directory;
  const auto absolute = std::filesystem::absolute(directory).lexically_normal();
  run.name = (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();

  auto client = validation::read_iperf3(result_file(run, "iperf3", 1), FailedRuns::kAccept);
  run.iperf3_version = client.version;
  run.congestion_control = client.congestion_control;
  for (const auto source : {SourceId::kSockops, SourceId::kInetDiag, SourceId::kIter, SourceId::kGetsockopt})
    read_records(run, source);
  read_verdict(run);
  if (run.verdict && !run.verdict->alignments.empty()) {
    const auto& origin = origin_of(run.verdict->alignments);
    run.start_boot_ns = origin.start_boot_ns;
    run.uncertainty_s = static_cast<double>(origin.uncertainty_ns) / 1e9;
  } else {
    run.start_boot_ns = first_time_ns(run);
  }

  std::error_code ignored;
  const auto add = [&](const validation::Iperf3Result& result, std::string_view side, int number) {
    add_side(run, result, shift_s(run, result, side, number));
    if (!result.error.empty()) run.remarks.push_back("iperf3 ended with an error: " + result.error);
  };
  for (int number = 1;; ++number) {
    if (number > 1) {
      // Several runs, one after another.
      if (!std::filesystem::exists(result_file(run, "iperf3", number), ignored)) break;
      try {
        client = validation::read_iperf3(result_file(run, "iperf3", number), FailedRuns::kAccept);
      } catch (const tcpinfo::Error& error) {
        run.defects.emplace_back(error.what());
        continue;
      }
    }
    add(client, "client", number);
    try {
      add(validation::read_iperf3(result_file(run, "iperf3-server", number), FailedRuns::kAccept), "server", number);
    } catch (const tcpinfo::Error& error) {
      run.defects.emplace_back(error.what());
      if (error.code() == std::errc::no_such_file_or_directory)
        run.defects.back() += " (tcpinfo-validate run writes it: run it again)";
    }
  }
  if (run.streams.empty())
    throw tcpinfo::Error(tcpinfo::Errc::kMalformed,
                         fmt::format("read {}: it names no stream{}", (directory / "iperf3.json").string(),
                                     client.error.empty() ? "" : ", as iperf3 failed: " + client.error),
                         "run tcpinfo-validate again");
  return run;
}

}  // namespace plot
