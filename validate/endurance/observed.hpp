// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <tcpinfo/source.hpp>

#include "lab/lab.hpp"

namespace tcpinfo {
class Record;
}

/// tcpinfo as a program that is begun, ended, and believed only as far as its output goes.
namespace endurance {

[[noreturn]] void fail(const std::string& action);

/// "3 sample, 1 close", or "nothing".
std::string by_event(const tcpinfo::EventCounts& counts);
/// The last line of what a program printed as code in a table of Markdown, "nothing" where it printed nothing.
std::string quoted(const std::string& printed);

/// How many programs of the kinds that we attach are attached to it.
unsigned attached(const lab::Cgroup& cgroup);
/// None is, soon: the kernel releases what a killed process held a grace period later.
bool detached(const lab::Cgroup& cgroup);

/// What a stream of records says by itself.
struct Seen {
  tcpinfo::EventCounts records{}, told{};  ///< told by gap records, by the event of what was lost
  std::uint64_t untold = 0;                ///< gap records that do not know how many
  std::uint64_t owed = 0;                  ///< by connection: what `lost_records` of its records add up to
  std::uint64_t holes = 0;                 ///< by connection: sequence numbers that are missing
  std::set<std::uint64_t> closed;          ///< cookies of close records
  std::uint64_t first_ns = 0, last_ns = 0;
  std::string complaint;  ///< how its end is not as it should be
};
/// Of JSON lines, or of a recording (.zst).
Seen look(const std::filesystem::path& file);

/// The books as tcpinfo closes them (--stats).
struct Books {
  tcpinfo::EventCounts emitted{}, delivered{}, lost{};
  std::uint64_t untracked = 0, rearmed = 0;

  explicit Books(const std::filesystem::path& file);
  bool balance() const;
};

/// A tcpinfo that runs, with its output in a directory of its own.
class Tcpinfo {
 public:
  enum class Start { kAttached, kBegun };  ///< what is waited for

  /// `words` are its arguments but for those of the output. `through` is a shell command through which its records go,
  /// where not empty; `recording` the file that is recorded into, where not in the directory.
  Tcpinfo(const std::filesystem::path& program, const std::filesystem::path& directory, const lab::Cgroup& cgroup,
          std::vector<std::string> words, Start start = Start::kAttached, const std::string& through = "",
          const std::filesystem::path& recording = {});

  pid_t pid() const noexcept { return process_->pid(); }
  void signal(int number) { process_->signal(number); }
  /// Sends the signal, if any, and waits for the end. Then all that it printed is in the files. Throws: it goes on.
  void end(std::optional<int> number, std::chrono::seconds timeout = std::chrono::seconds(60));
  bool has_ended() { return process_->wait(std::chrono::milliseconds(0)).has_value(); }
  std::optional<int> exit_code() const noexcept { return exit_code_; }  ///< none: a signal ended it
  /// As the shell tells it, and the last line of standard error.
  std::string told() const;

  const std::filesystem::path& records() const noexcept { return records_; }
  std::filesystem::path stats() const { return directory_ / "stats.json"; }
  std::string said() const;

 private:
  std::filesystem::path directory_, records_;
  bool has_reader_;
  std::optional<lab::Process> process_;
  std::optional<int> exit_code_;
  int signal_ = 0;
};

}  // namespace endurance
