// SPDX-License-Identifier: BSD-2-Clause
#include <algorithm>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <map>
#include <string>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <tcpinfo/error.hpp>
#include <tcpinfo/json.hpp>

#include "compare.hpp"
#include "files.hpp"
#include "run.hpp"
#include "run_suite.hpp"
#include "scenario.hpp"
#include "ss.hpp"
#include "study.hpp"

namespace {

namespace fs = std::filesystem;
using validation::Scenario;

enum Exit { kOk = 0, kFailed = 1, kUsage = 2, kNotPossible = 77 };

struct CompareOptions {
  std::vector<fs::path> iperf3, server;
  fs::path run, sockops, inet_diag, iter, getsockopt, ss, out;
  bool verbose = false;
};

struct RunCommand {
  std::vector<std::string> scenarios, settings;
  std::string duration;
  bool all = false, keys = false;
  validation::SuiteOptions suite;
};

void add_choice(CLI::App& app, RunCommand& options) {
  app.add_option("--scenario", options.scenarios, "Name or glob of scenarios, or a scenario file (*.toml); may be repeated")
      ->type_name("GLOB|FILE");
  app.add_flag("--all", options.all, "All scenarios");
  app.add_option("--set", options.settings, "Another value for a key of the scenarios, as link.delay=20ms; may be repeated")
      ->type_name("KEY=VALUE");
}

void add_run(CLI::App& app, RunCommand& options) {
  auto* run = app.add_subcommand("run", "Run scenarios: iperf3 over a path of its own, gather, compare");
  auto& suite = options.suite;
  run->add_option("--out", suite.out, "Directory for the results: suite.json, junit.xml, and a directory a run")->required();
  add_choice(*run, options);
  run->add_option("--duration", options.duration, "The same as --set iperf3.duration=TIME")->type_name("TIME");
  run->add_option("--repeat", suite.repeat, "How often each scenario is run")
      ->check(CLI::Range(1, 10000).description(""))
      ->type_name("N")
      ->capture_default_str();
  auto* jobs = run->add_option("--jobs", suite.jobs, "Runs at the same time; they take each other's processors")
      ->check(CLI::Range(1, 64).description(""))
      ->type_name("N")
      ->capture_default_str();
  run->add_option("--seed", suite.seed, "Of what the paths lose, delay and reorder")
      ->check(CLI::NonNegativeNumber.description(""))
      ->type_name("N")
      ->capture_default_str();
  run->add_flag("--resume", suite.resume, "Run only what has not passed yet in --out");
  run->add_flag("--keep", suite.keep, "Wait after each run, with its network namespaces and path still there")
      ->excludes(jobs);
}

void add_study(CLI::App& app, RunCommand& options) {
  auto* study = app.add_subcommand("study", "Watch one flow at many intervals at once: what does each miss?");
  study->add_option("--out", options.suite.out, "Directory for study.json")->required();
  study->add_option("--set", options.settings, "iperf3.congestion and link.*, as for scenarios; may be repeated")
      ->type_name("KEY=VALUE");
  study->add_option("--duration", options.duration, "How long the flow lasts [10s]")->type_name("TIME");
}

void add_list(CLI::App& app, RunCommand& options) {
  auto* list = app.add_subcommand("list", "Name the scenarios and what they do");
  add_choice(*list, options);
  list->add_flag("--keys", options.keys, "Name the keys of a scenario file instead");
}

void add_compare(CLI::App& app, CompareOptions& options) {
  auto* compare = app.add_subcommand("compare", "Compare what was recorded beside iperf3 with its result");
  compare->add_option("RUN", options.run, "Directory of a run of tcpinfo-validate: stands for all files in it");
  compare->add_option("--iperf3", options.iperf3, "What iperf3 -c HOST -J printed; again for each further run");
  compare->add_option("--iperf3-server", options.server, "What iperf3 -s -1 -J printed; again for each further run");
  compare->add_option("--sockops", options.sockops, "JSON lines of the sockops source");
  compare->add_option("--inet-diag", options.inet_diag, "JSON lines of the inet_diag source");
  compare->add_option("--iter", options.iter, "JSON lines of the iter source");
  compare->add_option("--getsockopt", options.getsockopt,
                      "JSON lines of what iperf3 was answered; without them gauges and --omit are not compared");
  compare->add_option("--ss", options.ss, "What was printed by: while sleep 0.1; do date +%s.%N; ss -tinO; done");
  compare->add_option("--out", options.out, "Write the verdict to this file, as JSON");
  compare->add_flag("--verbose", options.verbose, "Print every field, not only those that failed");
}

int finish(const validation::Verdict& verdict, validation::Detail detail = validation::Detail::kSummary) {
  fmt::print("{}", validation::to_table(verdict, detail));
  return verdict.passed() ? kOk : kFailed;
}

/// The scenarios that come with this program: beside it in the build tree as where it is installed.
fs::path scenario_directory() {
  return fs::canonical("/proc/self/exe").parent_path().parent_path() / "share/tcpinfo/scenarios";
}

std::vector<validation::Setting> settings_of(const RunCommand& options) {
  std::vector<validation::Setting> settings;
  for (const auto& text : options.settings) settings.push_back(validation::parse_setting(text));
  if (!options.duration.empty()) settings.push_back({"iperf3.duration", options.duration});
  return settings;
}

std::vector<Scenario> find_scenarios(const RunCommand& options) {
  const auto settings = settings_of(options);
  std::vector<fs::path> files;
  std::vector<std::string> globs;
  for (const auto& argument : options.scenarios)
    if (argument.ends_with(".toml"))
      files.emplace_back(argument);
    else
      globs.push_back(argument);
  std::vector<Scenario> all;
  const auto add = [&](std::vector<Scenario> scenarios, const fs::path& file) {
    for (auto& scenario : scenarios) {
      if (std::ranges::count(all, scenario.name, &Scenario::name) > 0)
        throw tcpinfo::Error(make_error_code(tcpinfo::Errc::kInvalidOption), "read scenario " + file.string(),
                             fmt::format("there is a scenario {} already; name the file otherwise", scenario.name));
      all.push_back(std::move(scenario));
    }
  };
  for (const auto& file : files) add(validation::read_scenarios(file, settings), file);
  if (!files.empty() && globs.empty() && !options.all) return all;
  std::vector<fs::path> own;
  for (const auto& entry : fs::directory_iterator(scenario_directory()))
    if (entry.path().extension() == ".toml") own.push_back(entry.path());
  std::ranges::sort(own);
  // Settings are for what is chosen: of others they may be wrong.
  for (const auto& file : own) {
    auto scenarios = validation::read_scenarios(file);
    const bool chosen = options.all || std::ranges::any_of(globs, [&](const std::string& glob) {
                          return validation::matches(file.stem().string(), glob) ||
                                 std::ranges::any_of(scenarios, [&](const Scenario& scenario) {
                                   return validation::matches(scenario.name, glob);
                                 });
                        });
    add(chosen ? validation::read_scenarios(file, settings) : std::move(scenarios), file);
  }
  if (options.all) return all;
  return validation::choose(all, globs);
}

int do_list(const RunCommand& options) {
  if (options.keys) {
    fmt::print("{}", validation::describe_keys());
    return kOk;
  }
  auto chosen = options;
  chosen.all = chosen.scenarios.empty();
  const auto scenarios = find_scenarios(chosen);
  std::size_t width = 0;
  for (const auto& scenario : scenarios) width = std::max(width, scenario.name.size());
  for (const auto& scenario : scenarios)
    fmt::print("{:<{}}  {}\n{:<{}}  {}\n", scenario.name, width, scenario.description, "", width, describe(scenario));
  return kOk;
}

int do_run(RunCommand& options) {
  if (!options.all && options.scenarios.empty()) options.scenarios.emplace_back("bulk-ipv4");
  auto& suite = options.suite;
  suite.scenarios = find_scenarios(options);
  for (const auto& scenario : suite.scenarios) {
    std::string command = "tcpinfo-validate run";
    for (const auto& argument : options.scenarios)
      if (argument.ends_with(".toml")) command += " --scenario " + validation::shell_word(argument);
    command += " --scenario " + validation::shell_word(scenario.name);
    for (const auto& setting : options.settings) command += " --set " + validation::shell_word(setting);
    if (!options.duration.empty()) command += " --duration " + validation::shell_word(options.duration);
    suite.commands.push_back(std::move(command));
  }
  validation::check_machine();
  const auto result = validation::run_suite(suite);
  if (result.runs.size() == 1) {
    const auto& run = result.runs.front();
    if (run.outcome == "not possible") throw validation::NotPossible(run.reason);
    std::error_code none;
    const auto verdict = suite.out / run.directory / "verdict.json";
    if (!fs::exists(verdict, none)) {
      fmt::print(stderr, "tcpinfo-validate: {}\n", run.reason);
      return kFailed;
    }
    fmt::print("{}", validation::to_table(validation::read_verdict(verdict)));
  } else {
    fmt::print("{}", validation::to_table(result));
  }
  fmt::print("Files are in {}\n", suite.out.string());
  if (result.passed()) return kOk;
  const bool possible = std::ranges::any_of(result.runs, [](const auto& run) { return run.outcome != "not possible"; });
  return possible ? kFailed : kNotPossible;
}

int do_study(const RunCommand& options) {
  validation::check_machine();
  validation::StudyOptions study;
  Scenario scenario;
  scenario.name = "study";
  scenario.link = study.link;
  scenario.duration = study.duration;
  scenario.congestion = study.congestion;
  const auto settings = settings_of(options);
  for (const auto& setting : settings)
    if (!setting.key.starts_with("link.") && setting.key != "iperf3.congestion" && setting.key != "iperf3.duration")
      throw tcpinfo::Error(make_error_code(tcpinfo::Errc::kInvalidOption), "--set " + setting.key,
                           "a study takes iperf3.congestion and link.* only");
  validation::apply(settings, scenario);
  validation::check(scenario, "study");
  validation::check_possible(scenario);
  study.link = scenario.link;
  study.duration = scenario.duration;
  study.congestion = scenario.congestion;
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  if (terminal)
    study.progress = [](std::chrono::steady_clock::duration left) {
      fmt::print(stderr, "\r{:.0f} s left\033[K", std::chrono::duration<double>(left).count());
    };
  std::error_code error;
  fs::create_directories(options.suite.out, error);
  validation::StudyResult result;
  try {
    result = validation::run_study(study);
  } catch (const tcpinfo::Error& failure) {
    if (terminal) fmt::print(stderr, "\r\033[K");
    if (failure.code() == std::errc::operation_not_supported) throw validation::NotPossible(failure.what());
    throw;
  }
  if (terminal) fmt::print(stderr, "\r\033[K");
  validation::OutputFile file(options.suite.out / "study.json");
  file.write_line(validation::to_json(result));
  file.flush();
  file.keep();
  fmt::print("{}{}\n", validation::to_table(result), file.path().string());
  return kOk;
}

std::vector<tcpinfo_record> read_records(const fs::path& file, tcpinfo::SourceId source) {
  bool truncated = false;
  auto records = tcpinfo::read_json_lines(file, &truncated);
  // Beside iperf3's answers lies what the BPF side read at their moments.
  if (!records.empty() && source != tcpinfo::SourceId::kGetsockopt)
    if (const auto from = static_cast<tcpinfo::SourceId>(records.front().source); from != source)
      throw tcpinfo::Error(make_error_code(tcpinfo::Errc::kMalformed), "read " + file.string(),
                           fmt::format("its records are of {} and not of {}", name(from), name(source)));
  if (truncated) fmt::print(stderr, "{}: the last line is cut off and left out\n", file.string());
  return records;
}

/// Takes the files of options.run for those that were not named.
void add_files_of_run(CompareOptions& options) {
  std::error_code none;
  const auto exists = [&](const fs::path& file) { return fs::exists(file, none); };
  if (!exists(options.run / "iperf3.json"))
    throw tcpinfo::Error(std::make_error_code(std::errc::no_such_file_or_directory),
                         "read " + (options.run / "iperf3.json").string(),
                         "give the directory of one run, as tcpinfo-validate run --out results made results/bulk-ipv4");
  for (const auto& [files, name] : {std::pair(&options.iperf3, "iperf3"), std::pair(&options.server, "iperf3-server")}) {
    if (!files->empty()) continue;
    for (int number = 1;; ++number) {
      const auto file = options.run / (number == 1 ? fmt::format("{}.json", name) : fmt::format("{}-{}.json", name, number));
      if (!exists(file)) break;
      files->push_back(file);
    }
  }
  for (const auto& [file, name] : {std::pair(&options.sockops, "sockops"), std::pair(&options.inet_diag, "inet_diag"),
                                   std::pair(&options.iter, "iter"), std::pair(&options.getsockopt, "getsockopt")})
    if (const auto found = options.run / fmt::format("{}.jsonl", name); file->empty() && exists(found)) *file = found;
}

int do_compare(CompareOptions options) {
  using tcpinfo::SourceId;
  validation::Input input;
  validation::Verdict before;
  if (!options.run.empty()) {
    add_files_of_run(options);
    std::error_code none;
    const auto file = options.run / "verdict.json";
    if (fs::exists(file, none)) before = validation::read_verdict(file);
    input.link = before.link;
  }
  if (options.iperf3.empty() && options.server.empty()) {
    fmt::print(stderr, "tcpinfo-validate: nothing to compare: give RUN, --iperf3 FILE or --iperf3-server FILE\n");
    return kUsage;
  }
  std::map<SourceId, std::vector<tcpinfo_record>> records;
  for (const auto& [source, file] :
       {std::pair(SourceId::kSockops, options.sockops), std::pair(SourceId::kInetDiag, options.inet_diag),
        std::pair(SourceId::kIter, options.iter), std::pair(SourceId::kGetsockopt, options.getsockopt)}) {
    if (file.empty()) continue;
    records[source] = read_records(file, source);
    input.sources.push_back({source, records[source]});
  }
  std::vector<std::string> quirks;
  if (!options.ss.empty()) {
    if (!records.empty()) {
      fmt::print(stderr, "tcpinfo-validate: --ss goes without other records: its times are of another clock\n");
      return kUsage;
    }
    auto capture = validation::read_ss(options.ss);
    quirks = std::move(capture.quirks);
    records[SourceId::kInetDiag] = std::move(capture.records);
    input.sources.push_back({SourceId::kInetDiag, records[SourceId::kInetDiag]});
  }
  if (input.sources.empty()) {
    fmt::print(stderr,
               "tcpinfo-validate: nothing to compare with: give FILE to one of --sockops, --inet-diag, --iter, "
               "--getsockopt, --ss, or to more\n");
    return kUsage;
  }
  for (const auto* files : {&options.iperf3, &options.server})
    for (const auto& file : *files) input.results.push_back(validation::read_iperf3(file));
  auto verdict = validation::compare(input);
  verdict.quirks.insert(verdict.quirks.end(), quirks.begin(), quirks.end());
  verdict.title = !before.title.empty()     ? before.title
                  : options.iperf3.empty() ? options.server.front().string()
                                           : options.iperf3.front().string();
  verdict.kernel = before.kernel.empty() ? input.results.front().system : before.kernel;
  verdict.scenario = before.scenario;
  for (const auto& [source, read] : records) verdict.records[std::string(name(source))] = {{"read", read.size()}};
  if (!options.out.empty()) {
    validation::OutputFile file(options.out);
    file.write_line(validation::to_json(verdict));
    file.flush();
    file.keep();
  }
  return finish(verdict, options.verbose ? validation::Detail::kFull : validation::Detail::kSummary);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Compares the TCP figures of tcpinfo with those of iperf3.", "tcpinfo-validate");
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  tcpinfo-validate list\n"
      "  tcpinfo-validate run --out results                                  one stream over IPv4\n"
      "  tcpinfo-validate run --out results --all                            all scenarios\n"
      "  tcpinfo-validate run --out results --scenario 'loss-*' --set iperf3.congestion=reno --repeat 5\n"
      "  tcpinfo-validate run --out results --scenario mine.toml --duration 20s\n"
      "  tcpinfo-validate run --out results --all --resume                   what was interrupted or failed\n"
      "  tcpinfo-validate study --out results/study --set link.loss=1%\n"
      "  tcpinfo-validate compare results/bulk-ipv4                          once more, from its files\n"
      "  tcpinfo-validate compare --iperf3 iperf3.json --sockops sockops.jsonl\n"
      "  tcpinfo-validate compare --iperf3 iperf3.json --ss ss.txt           what ss printed beside it\n"
      "Exit codes: 0 all agrees, 1 it does not or an error, 2 wrong usage, 77 not possible on this machine.");
  RunCommand run_command;
  CompareOptions compare_options;
  add_list(app, run_command);
  add_run(app, run_command);
  add_study(app, run_command);
  add_compare(app, compare_options);
  for (int i = 0; i < argc; ++i) run_command.suite.command += (i ? " " : "") + validation::shell_word(argv[i]);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  try {
    if (app.got_subcommand("list")) return do_list(run_command);
    if (app.got_subcommand("study")) return do_study(run_command);
    return app.got_subcommand("run") ? do_run(run_command) : do_compare(compare_options);
  } catch (const validation::NotPossible& error) {
    fmt::print(stderr, "tcpinfo-validate: {}\n", error.what());
    return kNotPossible;
  } catch (const tcpinfo::Error& error) {
    fmt::print(stderr, "tcpinfo-validate: {}\n", error.what());
    return error.code() == make_error_code(tcpinfo::Errc::kInvalidOption) ? kUsage : kFailed;
  } catch (const std::exception& error) {
    fmt::print(stderr, "tcpinfo-validate: {}\n", error.what());
    return kFailed;
  }
}
