// SPDX-License-Identifier: BSD-2-Clause
#include "suite.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

#include "files.hpp"
#include "json.hpp"

namespace validation {
namespace {

constexpr std::string_view kSchema = "tcpinfo-suite";
constexpr int kVersion = 1;

// The members of each object once, for writing and for reading.
template <class Visit, class T>
void visit_suite(Visit&& visit, T& s) {
  visit("started", s.started);
  visit("kernel", s.kernel);
  visit("machine", s.machine);
  visit("iperf3_version", s.iperf3_version);
  visit("command", s.command);
  visit("seed", s.seed);
  visit("seconds", s.seconds);
}

template <class Visit, class T>
void visit_run(Visit&& visit, T& r) {
  visit("name", r.name);
  visit("directory", r.directory);
  visit("scenario", r.scenario);
  visit("description", r.description);
  visit("outcome", r.outcome);
  visit("reason", r.reason);
  visit("command", r.command);
  visit("compared", r.compared);
  visit("goodput_mbit", r.goodput_mbit);
  visit("mean_rtt_us", r.mean_rtt_us);
  visit("retransmits", r.retransmits);
  visit("seconds", r.seconds);
}

// Text in XML, in elements and in attributes; control characters have no place there.
std::string xml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\n': out += "&#10;"; break;
      default: out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
    }
  }
  return out;
}

auto count_of(const Suite& suite, std::string_view outcome) {
  return std::ranges::count(suite.runs, outcome, &SuiteRun::outcome);
}

}  // namespace

bool Suite::passed() const noexcept {
  return std::ranges::any_of(runs, [](const SuiteRun& run) { return run.outcome == "passed"; }) &&
         std::ranges::all_of(
             runs, [](const SuiteRun& run) { return run.outcome == "passed" || run.outcome == "not possible"; });
}

std::uint64_t Suite::compared() const noexcept {
  return std::accumulate(runs.begin(), runs.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const SuiteRun& run) { return sum + run.compared; });
}

std::string to_json(const Suite& suite) {
  rapidjson::StringBuffer buffer;
  json::Writer writer(buffer);
  writer.SetIndent(' ', 2);
  const auto put = [&](const char* name, const auto& value) {
    writer.Key(name);
    json::write(writer, value);
  };
  writer.StartObject();
  put("schema", std::string(kSchema));
  put("version", kVersion);
  put("passed", suite.passed());
  visit_suite(put, suite);
  writer.Key("runs");
  writer.StartArray();
  for (const auto& run : suite.runs) {
    writer.StartObject();
    visit_run(put, run);
    writer.EndObject();
  }
  writer.EndArray();
  writer.EndObject();
  return {buffer.GetString(), buffer.GetSize()};
}

Suite read_suite(const std::filesystem::path& file) {
  const auto text = read_text(file);
  const auto refuse = [&](std::string way_out) {
    throw tcpinfo::Error(make_error_code(tcpinfo::Errc::kMalformed), fmt::format("read suite {}", file.string()),
                         std::move(way_out));
  };
  rapidjson::Document document;
  document.Parse<rapidjson::kParseFullPrecisionFlag>(text.data(), text.size());
  if (document.HasParseError())
    refuse(fmt::format("it is not JSON or cut off at byte {}; tcpinfo-validate run makes one", document.GetErrorOffset()));
  const json::Reader read{document};
  std::string schema;
  int version = 0;
  read("schema", schema);
  read("version", version);
  if (schema != kSchema) refuse("it is no suite; tcpinfo-validate run makes one");
  if (version != kVersion) refuse(fmt::format("its version is {}, this program reads {}", version, kVersion));
  Suite suite;
  visit_suite(read, suite);
  json::each(read.find("runs"),
             [&](const rapidjson::Value& run) { visit_run(json::Reader{run}, suite.runs.emplace_back()); });
  return suite;
}

std::string shell_word(const std::string& argument) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+%";
  if (!argument.empty() && argument.find_first_not_of(kPlain) == std::string::npos) return argument;
  std::string word = "'";
  for (const char c : argument) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

std::string to_junit(const Suite& suite) {
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  const auto failed = count_of(suite, "failed") + count_of(suite, "interrupted");
  fmt::format_to(std::back_inserter(out),
                 "<testsuite name=\"tcpinfo-validate\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" "
                 "time=\"{:.3f}\">\n",
                 suite.runs.size(), failed, count_of(suite, "not possible") + count_of(suite, "not run"), suite.seconds);
  for (const auto& run : suite.runs) {
    fmt::format_to(std::back_inserter(out), "  <testcase classname=\"tcpinfo-validate\" name=\"{}\" time=\"{:.3f}\"",
                   xml(run.name), run.seconds);
    if (run.outcome == "passed") {
      out += "/>\n";
      continue;
    }
    const bool skipped = run.outcome == "not possible" || run.outcome == "not run";
    const auto reason = run.reason.empty() ? run.outcome : run.reason;
    if (skipped)
      fmt::format_to(std::back_inserter(out), ">\n    <skipped message=\"{}\"/>\n", xml(reason));
    else
      fmt::format_to(std::back_inserter(out), ">\n    <failure message=\"{}\">{}</failure>\n", xml(reason),
                     xml("again: " + run.command));
    out += "  </testcase>\n";
  }
  return out + "</testsuite>\n";
}

std::string to_table(const Suite& suite) {
  std::string out;
  const auto line = [&out]<class... T>(fmt::format_string<T...> text, T&&... arguments) {
    fmt::format_to(std::back_inserter(out), text, std::forward<T>(arguments)...);
    out += '\n';
  };
  std::size_t width = 8;
  for (const auto& run : suite.runs) width = std::max(width, run.name.size());
  line("{:<{}}  {:<12} {:>10} {:>8} {:>8} {:>8} {:>8}", "scenario", width, "outcome", "values", "seconds", "Mbit/s",
       "rtt, ms", "retrans");
  for (const auto& run : suite.runs)
    line("{:<{}}  {:<12} {:>10} {:>8.1f} {:>8} {:>8} {:>8}  {}", run.name, width, run.outcome, run.compared, run.seconds,
         run.goodput_mbit ? fmt::format("{:.4g}", *run.goodput_mbit) : "-",
         run.mean_rtt_us ? fmt::format("{:.4g}", static_cast<double>(*run.mean_rtt_us) / 1000) : "-",
         run.retransmits ? std::to_string(*run.retransmits) : "-",
         run.outcome == "passed" ? run.description : run.reason);
  for (const auto& run : suite.runs)
    if (run.outcome == "failed") line("again: {}", run.command);
  std::string counts;
  for (const char* outcome : {"passed", "failed", "not possible", "interrupted", "not run"})
    if (const auto count = count_of(suite, outcome); count > 0)
      counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count, outcome);
  line("{}: {}; {} values compared in {:.0f} s", suite.passed() ? "PASSED" : "FAILED", counts, suite.compared(),
       suite.seconds);
  return out;
}

}  // namespace validation
