// SPDX-License-Identifier: BSD-2-Clause
#include <cstdio>
#include <exception>
#include <map>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <tcpinfo/json.hpp>

#include "compare.hpp"
#include "files.hpp"
#include "run.hpp"

namespace {

namespace fs = std::filesystem;
using validation::Family;

enum Exit { kOk = 0, kFailed = 1, kUsage = 2, kNotPossible = 77 };

struct CompareOptions {
  fs::path iperf3, server, sockops, inet_diag, getsockopt, out;
};

void add_run(CLI::App& app, validation::RunOptions& options, double& interval_ms, double& poll_ms, double& iperf3_s,
             int& duration_s, int& omit_s) {
  auto* run = app.add_subcommand("run", "Let iperf3 run in network namespaces of its own, gather and compare");
  run->add_option("--out", options.out, "Directory for the results")->required();
  const std::map<std::string, Family> families{
      {"ipv4", Family::kIpv4}, {"ipv6", Family::kIpv6}, {"mapped", Family::kMapped}};
  run->add_option("--family", options.family, "ipv4, ipv6, or mapped: an IPv6 listener with an IPv4 client")
      ->transform(CLI::CheckedTransformer(families).description(""))
      ->type_name("FAMILY")
      ->default_str("ipv4");
  run->add_option("--duration", duration_s, "How long iperf3 sends, as 5 or 5s")
      ->transform(
          CLI::AsNumberWithUnit(std::map<std::string, int>{{"s", 1}, {"m", 60}}, CLI::AsNumberWithUnit::CASE_SENSITIVE))
      ->check(CLI::Range(1, 86400).description(""))
      ->type_name("TIME")
      ->capture_default_str();
  run->add_option("--parallel", options.parallel, "Streams")
      ->check(CLI::Range(1, 128).description(""))
      ->type_name("N")
      ->capture_default_str();
  auto* reverse = run->add_flag("--reverse", options.reverse, "The server sends");
  run->add_flag("--bidir", options.bidirectional, "Both send")->excludes(reverse);
  run->add_option("--congestion", options.congestion, "Congestion control")->capture_default_str();
  run->add_option("--rate", options.rate_mbit, "Mbit/s of the path, 0: unlimited")
      ->check(CLI::Range(0.0, 100000.0).description(""))
      ->type_name("MBIT")
      ->capture_default_str();
  run->add_option("--bitrate", options.bitrate_mbit, "Mbit/s that each stream sends, 0: as much as it can")
      ->check(CLI::Range(0.0, 100000.0).description(""))
      ->type_name("MBIT")
      ->capture_default_str();
  run->add_option("--omit", omit_s, "How long iperf3 sends before what it counts, as 1 or 1s")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, int>{{"s", 1}}, CLI::AsNumberWithUnit::CASE_SENSITIVE))
      ->check(CLI::Range(0, 60).description(""))
      ->type_name("TIME")
      ->capture_default_str();
  const std::map<std::string, double> units{{"us", 0.001}, {"ms", 1}, {"s", 1000}};
  const auto time_unit = [&] { return CLI::AsNumberWithUnit(units, CLI::AsNumberWithUnit::CASE_SENSITIVE); };
  run->add_option("--interval", interval_ms,
                  "Least time between samples by sockops in ms, or with a unit; 0: every RTT")
      ->transform(time_unit())
      ->check(CLI::Range(0.0, 60000.0).description(""))
      ->type_name("TIME")
      ->capture_default_str();
  run->add_option("--poll", poll_ms, "Time between polls by inet_diag in ms, or with a unit")
      ->transform(time_unit())
      ->check(CLI::Range(0.1, 60000.0).description(""))
      ->type_name("TIME")
      ->capture_default_str();
  run->add_option("--iperf3-interval", iperf3_s, "Seconds between iperf3's readings")
      ->check(CLI::Range(0.1, 60.0).description(""))
      ->type_name("SECONDS")
      ->capture_default_str();
}

void add_compare(CLI::App& app, CompareOptions& options) {
  auto* compare = app.add_subcommand("compare", "Compare what was recorded beside iperf3 with its result");
  compare->add_option("--iperf3", options.iperf3, "What iperf3 -c HOST -J printed")->required();
  compare->add_option("--iperf3-server", options.server, "What iperf3 -s -1 -J printed");
  compare->add_option("--sockops", options.sockops, "JSON lines of the sockops source");
  compare->add_option("--inet-diag", options.inet_diag, "JSON lines of the inet_diag source");
  compare->add_option("--getsockopt", options.getsockopt,
                      "JSON lines of what iperf3 was answered; without them gauges and --omit are not compared");
  compare->add_option("--out", options.out, "Write the verdict to this file, as JSON");
}

int finish(const validation::Verdict& verdict) {
  fmt::print("{}", validation::to_table(verdict));
  return verdict.passed() ? kOk : kFailed;
}

int do_run(const validation::RunOptions& options) {
  const auto outcome = validation::run(options);
  const int code = finish(outcome.verdict);
  fmt::print("Files are in {}\n", options.out.string());
  return code;
}

std::vector<tcpinfo_record> read_records(const fs::path& file) {
  bool truncated = false;
  auto records = tcpinfo::read_json_lines(file, &truncated);
  if (truncated) fmt::print(stderr, "{}: the last line is cut off and left out\n", file.string());
  return records;
}

int do_compare(const CompareOptions& options) {
  using tcpinfo::SourceId;
  validation::Input input;
  std::map<SourceId, std::vector<tcpinfo_record>> records;
  for (const auto& [source, file] :
       {std::pair(SourceId::kSockops, options.sockops), std::pair(SourceId::kInetDiag, options.inet_diag),
        std::pair(SourceId::kGetsockopt, options.getsockopt)}) {
    if (file.empty()) continue;
    records[source] = read_records(file);
    input.sources.push_back({source, records[source]});
  }
  if (input.sources.empty()) {
    fmt::print(stderr,
               "tcpinfo-validate: nothing to compare with: give --sockops, --inet-diag or --getsockopt FILE, or all\n");
    return kUsage;
  }
  input.results.push_back(validation::read_iperf3(options.iperf3));
  if (!options.server.empty()) input.results.push_back(validation::read_iperf3(options.server));
  auto verdict = validation::compare(input);
  verdict.title = options.iperf3.string();
  verdict.kernel = input.results.front().system;
  for (const auto& [source, read] : records) verdict.records[std::string(name(source))] = {{"read", read.size()}};
  if (!options.out.empty()) {
    validation::OutputFile file(options.out);
    file.write_line(validation::to_json(verdict));
    file.flush();
    file.keep();
  }
  return finish(verdict);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Compares the TCP figures of tcpinfo with those of iperf3.", "tcpinfo-validate");
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  tcpinfo-validate run --out results\n"
      "  tcpinfo-validate run --out results --family ipv6 --parallel 4 --reverse --duration 20s\n"
      "  tcpinfo-validate run --out results --bitrate 2 --omit 1s\n"
      "  tcpinfo-validate compare --iperf3 results/iperf3.json --sockops results/sockops.jsonl\n"
      "Exit codes: 0 all agrees, 1 it does not or an error, 2 wrong usage, 77 not possible on this machine.");
  validation::RunOptions run_options;
  CompareOptions compare_options;
  double interval_ms = 0, poll_ms = 20, iperf3_s = 0.25;
  int duration_s = 5, omit_s = 0;
  add_run(app, run_options, interval_ms, poll_ms, iperf3_s, duration_s, omit_s);
  add_compare(app, compare_options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  run_options.duration = std::chrono::seconds(duration_s);
  run_options.omit = std::chrono::seconds(omit_s);
  run_options.interval = std::chrono::nanoseconds(static_cast<long long>(interval_ms * 1e6));
  run_options.poll = std::chrono::nanoseconds(static_cast<long long>(poll_ms * 1e6));
  run_options.iperf3_interval = std::chrono::milliseconds(static_cast<long long>(iperf3_s * 1000));
  try {
    return app.got_subcommand("run") ? do_run(run_options) : do_compare(compare_options);
  } catch (const validation::NotPossible& error) {
    fmt::print(stderr, "tcpinfo-validate: {}\n", error.what());
    return kNotPossible;
  } catch (const std::exception& error) {
    fmt::print(stderr, "tcpinfo-validate: {}\n", error.what());
    return kFailed;
  }
}
