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

/// iperf3 over one path, and how it is watched. Every member that a scenario file can set has a row in scenario.cpp's
/// table of keys.
struct Scenario {
  std::string name;         ///< of the file, and of the values where the file varies some: "delay-20ms"
  std::string description;  ///< a sentence

  // [iperf3]
  Family family = Family::kIpv4;
  Flow flow = Flow::kForward;
  std::string congestion = "cubic";
  int parallel = 1;
  int runs = 1;  ///< of iperf3, one after another
  std::chrono::milliseconds duration{5000}, omit{0}, interval{250};
  std::uint64_t bytes = 0;               ///< of all streams, in place of the duration; 0: by duration
  double bitrate_mbit = 0;               ///< of a stream; 0: as much as it can
  int burst = 0;                         ///< blocks sent at once where a bitrate is given; 0: iperf3's own way
  std::uint64_t length = 0, window = 0;  ///< of a block, and of the socket buffers; 0: iperf3's own
  int mss = 0;                           ///< 0: the path's
  bool mptcp = false;

  // [link]
  lab::PathOptions link;

  // [sysctl.client], [sysctl.server]: "net.ipv4.tcp_rmem" = "4096 8192 16384"
  std::map<std::string, std::string> client_sysctl, server_sysctl;

  // [sources]
  std::chrono::nanoseconds sockops_interval{0};                   ///< 0: every RTT callback
  std::chrono::nanoseconds poll = std::chrono::milliseconds(20);  ///< of inet_diag and iter

  bool operator==(const Scenario&) const = default;

  /// How long iperf3 will send, as far as it is known.
  std::chrono::milliseconds expected_time() const;
};

/// "KEY=VALUE" of the command line, as "link.delay=20ms".
struct Setting {
  std::string key, value;
};

/// Throws tcpinfo::Error (Errc::kInvalidOption) unless there is a '='.
Setting parse_setting(std::string_view text);

/// Throws tcpinfo::Error that names the setting and what was expected.
void apply(const std::vector<Setting>& settings, Scenario& scenario);

/// The scenarios of a TOML file: one, or one for each value that its table [vary] names. A setting takes the place of
/// what the file says, and of its [vary]. Throws tcpinfo::Error with file, line, and what was expected.
std::vector<Scenario> read_scenarios(const std::filesystem::path& file, const std::vector<Setting>& settings = {});
std::vector<Scenario> parse_scenarios(std::string_view toml, const std::filesystem::path& file,
                                      const std::vector<Setting>& settings = {});

/// What no key can state by itself. Throws tcpinfo::Error that begins with `where`.
void check(const Scenario& scenario, const std::string& where);

/// A file that read_scenarios() makes this very scenario of.
std::string to_toml(const Scenario& scenario);

/// One line: "IPv4, 4 streams each way, cubic, 200 Mbit/s, 10 ms each way, loss 1 %".
std::string describe(const Scenario& scenario);

/// The keys that a file can set, with what each expects and its default, for `tcpinfo-validate list --keys`.
std::string describe_keys();

/// By fnmatch(3).
bool matches(const std::string& name, const std::string& glob);

/// Those of `all` whose names match one of the globs. Throws tcpinfo::Error that names the glob that none
/// matches.
std::vector<Scenario> choose(const std::vector<Scenario>& all, const std::vector<std::string>& globs);

}  // namespace validation
