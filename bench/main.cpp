// SPDX-License-Identifier: BSD-2-Clause
// tcpinfo-bench: what tcpinfo costs on this machine, beside floors and peers.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "measurement.hpp"

int main(int argc, char** argv) try {
  CLI::App app("Measures what tcpinfo costs on this machine, beside floors and peers. Needs root.", "tcpinfo-bench");
  bench::Options options;
  std::vector<std::string> only;
  app.add_flag("--quick", options.quick, "A tenth of the time; the figures are less sure");
  app.add_flag("--growth", options.growth, "Also how cost grows with sockets, packets, cgroups and CPUs");
  app.add_option("--only", only, "Measurements, by name");
  CLI11_PARSE(app, argc, argv);

  options.binaries = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  options.progress = [](std::string_view text) { std::cerr << "  " << text << '\n'; };
  for (const auto& measurement : bench::measurements()) {
    if (!only.empty() && std::ranges::find(only, measurement.name) == only.end()) continue;
    std::cerr << measurement.name << ": " << measurement.description << '\n';
    try {
      for (const auto& result : measurement.run(options).results)
        std::cout << fmt::format("{:<40} {:10.3g} {:<10} {:10.3g} {:<30} ratio {:.3f} [{:.3f}, {:.3f}] goal {:.3g} {}\n", result.what,
                                 result.ours.median, result.unit, result.floor ? result.floor->median : 0,
                                 result.floor_name, result.ratio ? result.ratio->median : 0,
                                 result.ratio ? result.ratio->low : 0, result.ratio ? result.ratio->high : 0,
                                 result.goal.value_or(0), result.reached() ? *result.reached() ? "reached" : "missed" : "");
    } catch (const bench::NotPossible& missing) {
      std::cout << measurement.name << ": not possible here: " << missing.reason << '\n';
    }
  }
} catch (const std::exception& error) {
  std::cerr << "tcpinfo-bench: " << error.what() << '\n';
  return 1;
}
