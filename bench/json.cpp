// SPDX-License-Identifier: BSD-2-Clause
// JSON lines beside RapidJSON's Writer: what bench_records measures, as one line of the table.
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <rapidjson/document.h>
#include <rapidjson/filereadstream.h>

#include "lab/lab.hpp"
#include "measurements.hpp"

namespace bench {
namespace {

/// A file without a name; gone when it is closed.
class Output {
 public:
  Output() : file_(std::tmpfile(), &std::fclose) {
    if (!file_) throw std::runtime_error("make a temporary file: no room or no right to write (see TMPDIR, /tmp)");
  }
  /// For a child of this process to open.
  std::string path() const { return fmt::format("/proc/{}/fd/{}", getpid(), fileno(file_.get())); }
  rapidjson::Document parse() const {
    std::rewind(file_.get());
    std::array<char, 65536> buffer;
    rapidjson::FileReadStream stream(file_.get(), buffer.data(), buffer.size());
    rapidjson::Document document;
    document.ParseStream(stream);
    return document;
  }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

/// Records per second of each repetition, in their order, by benchmark.
using Rates = std::map<std::string, std::vector<double>, std::less<>>;

Rates rates(const rapidjson::Document& document) {
  if (!document.IsObject() || !document.HasMember("benchmarks") || !document["benchmarks"].IsArray())
    throw std::runtime_error("bench_records: its output is not Google Benchmark's JSON");
  std::map<std::string, std::map<int, double>> repetitions;
  for (const auto& run : document["benchmarks"].GetArray())
    if (std::string_view(run["run_type"].GetString()) == "iteration")
      repetitions[run["name"].GetString()][run["repetition_index"].GetInt()] = run["items_per_second"].GetDouble();
  Rates rates;
  for (const auto& [name, of_name] : repetitions)
    for (const auto& [index, rate] : of_name) rates[name].push_back(rate);
  return rates;
}

Result compare(const Rates& rates, std::string what, std::string_view benchmark) {
  const auto ours = rates.find(benchmark);
  const auto peer = rates.find(fmt::format("{}_rapidjson", benchmark));
  if (ours == rates.end() || peer == rates.end())
    throw std::runtime_error(fmt::format("bench_records: no benchmark {0} and {0}_rapidjson", benchmark));
  Result result;
  result.what = std::move(what);
  result.unit = "records/s";
  result.ours = spread(ours->second);
  result.floor_name = "RapidJSON's Writer";
  result.floor = spread(peer->second);
  result.ratio = ratio(ours->second, peer->second);
  result.sense = Sense::kAtLeast;
  return result;
}

}  // namespace

Outcome json(const Options& options) {
  const auto program = options.binaries / "bench_records";
  if (access(program.c_str(), X_OK) != 0)
    throw NotPossible{fmt::format("no program {} (build the target bench_records)", program.string())};
  Output output;
  lab::Process child(
      {.command = {program.string(), "--benchmark_filter=^json_line(_sockops)?(_rapidjson)?$",
                   "--benchmark_format=json", "--benchmark_enable_random_interleaving=true",
                   fmt::format("--benchmark_repetitions={}", options.quick ? 11 : 61), "--benchmark_min_time=0.05"},
       .stdout_file = output.path()});
  const auto status = child.wait(std::chrono::minutes(options.quick ? 1 : 5));
  if (!status) throw std::runtime_error(fmt::format("{}: did not end", program.string()));
  if (*status != 0) throw std::runtime_error(fmt::format("{}: failed with status {}", program.string(), *status));

  const auto measured = rates(output.parse());
  auto all = compare(measured, "JSON lines, all fields", "json_line");
  all.goal = 4;
  auto sockops = compare(measured, "JSON lines, records of sock_ops", "json_line_sockops");
  sockops.note = "all keys, as both ends of a bulk transfer: 13 and 18 fields absent, half of the numbers 0";
  if (std::string_view(BENCH_BUILD_TYPE) != "Release") all.note = "built as " BENCH_BUILD_TYPE ", not as Release";
  return {.results = {std::move(all), std::move(sockops)}};
}

}  // namespace bench
