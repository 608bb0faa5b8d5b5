// SPDX-License-Identifier: BSD-2-Clause
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "endurance.hpp"

namespace {

enum Exit { kOk = 0, kFailed = 1, kUsage = 2, kNotPossible = 77 };

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Shows whether tcpinfo holds out: for long and many times over.", "tcpinfo-endure");
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  tcpinfo-endure soak --out results/soak                        10,000 connections a second for an hour\n"
      "  tcpinfo-endure soak --out results/soak --duration 60          for a minute\n"
      "  tcpinfo-endure cycles --out results/cycles --cycles 500\n"
      "  tcpinfo-endure faults --out results/faults --stop 60\n"
      "\n"
      "Exit codes: 0 held out, 1 did not, or could not be shown, 2 usage, 77 needs root.");
  std::function<bool()> chosen;

  endurance::SoakOptions soak;
  soak.tcpinfo = std::filesystem::canonical("/proc/self/exe").parent_path() / "tcpinfo";
  double seconds = 3600;
  auto* soak_command = app.add_subcommand("soak", "A load of short connections beside tcpinfo watch: does it grow?");
  soak_command->add_option("--out", soak.out, "Directory for soak.csv")->required();
  soak_command->add_option("--duration", seconds, "In seconds")->capture_default_str();
  soak_command->add_option("--rate", soak.rate, "Connections a second")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  soak_command->add_option("--mode", soak.mode, "Of tcpinfo watch")
      ->check(CLI::IsMember({"polling", "state", "close"}))
      ->capture_default_str();
  soak_command->callback([&] {
    soak.duration = std::chrono::seconds(static_cast<long>(seconds));
    chosen = [&] { return endurance::soak(soak); };
  });

  endurance::CyclesOptions cycles;
  auto* cycles_command =
      app.add_subcommand("cycles", "Attach, one connection, detach, again and again: is anything left?");
  cycles_command->add_option("--out", cycles.out, "Directory for cycles.csv")->required();
  cycles_command->add_option("--cycles", cycles.cycles, "How many")->check(CLI::PositiveNumber)->capture_default_str();
  cycles_command->callback([&] { chosen = [&] { return endurance::cycles(cycles); }; });

  endurance::FaultOptions faults;
  faults.tcpinfo = soak.tcpinfo;
  double stop = 5;
  auto* faults_command = app.add_subcommand("faults", "Faults injected under load: what is lost, what is seen?");
  faults_command->add_option("--out", faults.out, "Directory for faults.md and what each run left")->required();
  faults_command->add_option("--stop", stop, "Seconds that consumers stand still")->capture_default_str();
  faults_command->add_option("--only", faults.only, "One of them")->check(CLI::IsMember(endurance::fault_names()));
  faults_command->add_flag("--step-clock", faults.steps_clock,
                           "Move the wall clock of this machine, too (clock-step): for guests");
  faults_command->callback([&] {
    if (faults.only == endurance::kClockStep && !faults.steps_clock)
      throw CLI::ValidationError("--only clock-step", "it moves the wall clock of this machine: it needs --step-clock");
    faults.stop = std::chrono::seconds(static_cast<long>(stop));
    chosen = [&] { return endurance::faults(faults); };
  });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  if (geteuid() != 0) {
    fmt::print(stderr, "tcpinfo-endure: needs root, for network namespaces and eBPF; try sudo\n");
    return kNotPossible;
  }
  try {
    return chosen() ? kOk : kFailed;
  } catch (const std::exception& error) {
    fmt::print(stderr, "tcpinfo-endure: {}\n", error.what());
    return kFailed;
  }
}
