// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "lab/path.hpp"

namespace validation {

enum class Family { kIpv4, kIpv6, kMapped };
enum class Flow { kForward, kReverse, kBidirectional };

/// One run of iperf3 over one path. Every member that a scenario file can set has a row in scenario.cpp's table of keys.
struct Scenario {
  std::string name;         ///< of the file, and of the value where the file varies one: "delay-20ms"
  std::string description;  ///< a sentence
  std::string file;         ///< where it came from

  // [iperf3]
  Family family = Family::kIpv4;
  Flow flow = Flow::kForward;
  std::string congestion = "cubic";
  int parallel = 1;
  int runs = 1;  ///< one after another, without a pause
  std::chrono::milliseconds duration{5000}, omit{0}, interval{250};
  std::uint64_t bytes = 0;  ///< of a stream, in place of the duration; 0: by duration
  double bitrate_mbit = 0;  ///< of a stream; 0: as much as it can
  int burst = 0;            ///< blocks sent at once where a bitrate is given; 0: iperf3's own way
  std::uint64_t length = 0, window = 0;  ///< -l and -w, 0: iperf3's
  int mss = 0;                           ///< -M, 0: the path's
  bool mptcp = false;

  // [link]
  lab::PathOptions link;

  // [sysctl.client], [sysctl.server]: "net.ipv4.tcp_rmem" = "4096 8192 16384"
  std::map<std::string, std::string> client_sysctl, server_sysctl;

  // [sources]
  std::chrono::nanoseconds sockops_interval{0};  ///< 0: every RTT callback
  std::chrono::nanoseconds poll = std::chrono::milliseconds(20);  ///< of inet_diag and iter
};

/// "KEY=VALUE" of the command line, as "link.delay=20ms".
struct Setting {
  std::string key, value;
};

/// The scenarios of a TOML file: one, or one for each value that its table [vary] names. Throws tcpinfo::Error with
/// file, line, and what was expected.
std::vector<Scenario> read_scenarios(const std::filesystem::path& file, const std::vector<Setting>& settings = {});

}  // namespace validation
