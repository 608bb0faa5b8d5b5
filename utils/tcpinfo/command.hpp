// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <tcpinfo/error.hpp>

namespace CLI {
class App;  // its header takes as long to compile as all of the others together
}

namespace cli {

/// What the process ends with.
enum Exit : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,
  kNotHere = 77,  ///< this machine or this user cannot do it; the sentence says what is missing
};

/// Ends the command with a code and one sentence.
class Failure : public std::runtime_error {
 public:
  Failure(Exit code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  Exit code() const noexcept { return code_; }

 private:
  Exit code_;
};

[[noreturn]] inline void usage_error(const std::string& sentence) { throw Failure(kUsage, sentence); }

/// The code for an error of the library.
Exit exit_code(const tcpinfo::Error& error) noexcept;

/// A subcommand that was chosen, with its options.
using Command = std::function<Exit()>;

/// Each adds its subcommand; when that is the one on the command line, `chosen` becomes what to run.
void add_watch(CLI::App& app, Command& chosen);
void add_record(CLI::App& app, Command& chosen);
void add_replay(CLI::App& app, Command& chosen);
void add_snapshot(CLI::App& app, Command& chosen);
void add_fields(CLI::App& app, Command& chosen);
void add_doctor(CLI::App& app, Command& chosen);
void add_unpin(CLI::App& app, Command& chosen);
/// `words`: what follows -- on the command line.
void add_run(CLI::App& app, Command& chosen, std::vector<std::string> words);

/// What SIGPIPE did when this process began, for the commands that it starts.
extern void (*sigpipe_at_start)(int);

}  // namespace cli
