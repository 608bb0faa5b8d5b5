// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "lab/files.hpp"
#include "lab/lab.hpp"

/// Programs as their users have them, tcpinfo first: TCPINFO_BINARY is where it is.
namespace lab {

using Words = std::vector<std::string>;

inline Words tcpinfo_command(Words words) {
  words.insert(words.begin(), TCPINFO_BINARY);
  return words;
}

struct Outcome {
  int code = -1;  // -1: a signal ended it, or it did not end
  std::string out, err;
};

/// A program that runs while this lives, and what it writes.
class Running {
 public:
  explicit Running(const Words& command)
      : process_({.command = command, .stdout_file = files_ / "out", .stderr_file = files_ / "err"}) {}

  pid_t pid() const { return process_.pid(); }
  std::filesystem::path out_file() const { return files_ / "out"; }
  std::string out() const { return read_text(out_file()); }
  std::string err() const { return read_text(files_ / "err"); }
  void signal(int number) { process_.signal(number); }
  /// Whether `condition` comes to hold while the program runs: where it does not the test fails, with what it says.
  template <class Condition>
  bool until(Condition condition) {
    using namespace std::chrono_literals;
    for (const auto end = std::chrono::steady_clock::now() + 60s; std::chrono::steady_clock::now() < end;
         std::this_thread::sleep_for(2ms)) {
      if (condition()) return true;
      if (process_.wait(0ms)) break;
    }
    ADD_FAILURE() << "in vain: " << err();
    return false;
  }
  /// The schema of its records, or a header, is written after the attach.
  bool until_attached() {
    return until([this] { return std::filesystem::file_size(out_file()) > 0; });
  }
  bool until_it_writes(std::string_view text) {
    return until([&] { return out().find(text) != std::string::npos; });
  }
  Outcome outcome(std::chrono::milliseconds patience = std::chrono::seconds(60)) {
    const auto status = process_.wait(patience);
    return {status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1, out(), err()};
  }

 private:
  const TemporaryDirectory files_{std::filesystem::perms{0755}};  // whoever it runs as
  Process process_;
};

inline Outcome run(const Words& command) { return Running(command).outcome(); }

}  // namespace lab
