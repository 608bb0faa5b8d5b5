// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

/// Whether tcpinfo holds out: for long, many times over, and through faults. Everything needs root and a quiet machine;
/// all functions throw tcpinfo::Error where something could not be done.
namespace endurance {

struct SoakOptions {
  std::filesystem::path out;  ///< directory for soak.csv and what tcpinfo said
  std::filesystem::path tcpinfo;
  std::string mode = "polling";
  std::chrono::seconds duration{3600};
  int rate = 10'000;  ///< connections a second
};
/// A load of short connections beside `tcpinfo watch`, whose memory and descriptors are read once a second. True if all
/// records are accounted for and neither grew.
bool soak(const SoakOptions& options);

struct CyclesOptions {
  std::filesystem::path out;  ///< directory for cycles.csv
  int cycles = 10'000;
};
/// Sources opened, used and closed in this process, again and again. True if memory, descriptors, programs, maps and
/// links did not grow.
bool cycles(const CyclesOptions& options);

struct FaultOptions {
  std::filesystem::path out;  ///< directory for faults.md and what each run left
  std::filesystem::path tcpinfo;
  std::chrono::seconds stop{5};  ///< how long consumers stand still
  std::string only;              ///< the name of one; empty: all
  bool steps_clock = false;      ///< all includes kClockStep, which moves the wall clock of this machine for seconds
};
inline constexpr std::string_view kClockStep = "clock-step";
std::vector<std::string> fault_names();
/// Each fault injected into tcpinfo under load: what was lost, exactly, and what its user saw. True if of each held
/// what is promised.
bool faults(const FaultOptions& options);

}  // namespace endurance
