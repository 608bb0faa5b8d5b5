// SPDX-License-Identifier: BSD-2-Clause
#include "observed.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <rapidjson/document.h>

#include <tcpinfo/tcpinfo.hpp>

#include "lab/attached.hpp"
#include "lab/files.hpp"

namespace endurance {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using lab::read_text;
using std::chrono::steady_clock;
using tcpinfo::EventCounts;

std::string last_line(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  return text.substr(text.find_last_of("\r\n") + 1);
}

/// Adds up what records say.
class Look {
 public:
  void add(const tcpinfo::Record& record) {
    const auto event = record.event().value_or(0);
    ++seen_.records[event];
    if (event == TCPINFO_EVENT_GAP) {
      seen_.told[record.lost_event().value_or(0)] += record.lost_records().value_or(0);
      seen_.untold += !record.lost_records();
      return;
    }
    if (const auto time = record.time_ns()) {
      seen_.first_ns = seen_.first_ns == 0 ? *time : std::min(seen_.first_ns, *time);
      seen_.last_ns = std::max(seen_.last_ns, *time);
    }
    seen_.owed += record.lost_records().value_or(0);
    if (event == TCPINFO_EVENT_CLOSE) seen_.closed.insert(*record.cookie());
    if (!record.generation()) return;
    auto& connection = connections_[{*record.cookie(), *record.generation()}];
    ++connection.records;
    connection.last = std::max<std::uint64_t>(connection.last, *record.sequence());
  }
  Seen result(std::string complaint) {
    for (const auto& [id, connection] : connections_) seen_.holes += connection.last + 1 - connection.records;
    seen_.complaint = std::move(complaint);
    return std::move(seen_);
  }

 private:
  struct Connection {
    std::uint64_t records = 0, last = 0;
  };
  Seen seen_;
  std::map<std::pair<std::uint64_t, std::uint32_t>, Connection> connections_;
};

std::vector<std::string> with_output(std::vector<std::string> words, const fs::path& records, const fs::path& stats) {
  if (words.front() == "record")
    words.insert(words.begin() + 1, {"-o", records.string()});
  else
    words.insert(words.begin() + 1, {"--format", "jsonl"});
  words.insert(words.end(), {"--stats", stats.string()});
  return words;
}

}  // namespace

void fail(const std::string& action) {
  throw tcpinfo::Error(std::make_error_code(std::errc::protocol_error), action, "");
}

std::string by_event(const EventCounts& counts) {
  std::string text;
  for (std::size_t event = 1; event < tcpinfo::kEventCount; ++event)
    if (counts[event] > 0)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", counts[event],
                          tcpinfo::name(static_cast<tcpinfo::Event>(event)));
  return text.empty() ? "nothing" : text;
}

std::string quoted(const std::string& printed) {
  const auto line = last_line(printed);
  return line.empty() ? "nothing" : '`' + line + '`';
}

unsigned attached(const lab::Cgroup& cgroup) {
  return lab::count_attached(cgroup.path()) + lab::count_attached(cgroup.path(), BPF_CGROUP_INET_SOCK_CREATE);
}

bool detached(const lab::Cgroup& cgroup) {
  for (const auto end = steady_clock::now() + 5s; attached(cgroup) > 0; std::this_thread::sleep_for(1ms))
    if (steady_clock::now() > end) return false;
  return true;
}

Seen look(const fs::path& file) {
  Look look;
  if (file.extension() != ".zst") {
    bool truncated = false;
    if (fs::file_size(file) == 0) return look.result("it is empty");
    for (const auto& raw : tcpinfo::read_json_lines(file, &truncated)) look.add(tcpinfo::Record(raw));
    return look.result(truncated ? "its last line is cut" : "");
  }
  tcpinfo::ReplaySource replay({.files = {file}});
  while (replay.drain([&](const tcpinfo::Record& record) { look.add(record); }).records > 0) {
  }
  std::string complaint;
  for (const auto& capability : replay.capabilities())
    if (!capability.available) complaint = capability.detail;
  return look.result(std::move(complaint));
}

Books::Books(const fs::path& file) {
  rapidjson::Document json;
  json.Parse(read_text(file).c_str());
  if (json.HasParseError() || !json.IsObject()) fail("read " + file.string());
  for (std::size_t event = 1; event < tcpinfo::kEventCount; ++event) {
    const std::string name(tcpinfo::name(static_cast<tcpinfo::Event>(event)));
    emitted[event] = json["emitted"][name.c_str()].GetUint64();
    delivered[event] = json["delivered"][name.c_str()].GetUint64();
    for (const char* cause : {"ring", "sink"}) lost[event] += json["lost"][cause][name.c_str()].GetUint64();
  }
  untracked = json["untracked"].GetUint64();
  rearmed = json["rearmed"].GetUint64();
}

bool Books::balance() const {
  for (std::size_t event = 0; event < tcpinfo::kEventCount; ++event)
    if (emitted[event] != delivered[event] + lost[event]) return false;
  return true;
}

Tcpinfo::Tcpinfo(const fs::path& program, const fs::path& directory, const lab::Cgroup& cgroup,
                 std::vector<std::string> words, Start start, const std::string& through, const fs::path& recording)
    : directory_(directory),
      records_(!recording.empty() ? recording
                                  : directory / (words.front() == "record" ? "records.zst" : "records.jsonl")),
      has_reader_(!through.empty()) {
  const auto others = attached(cgroup);
  fs::remove_all(directory_);
  fs::create_directories(directory_);
  words.insert(words.begin() + 1, {"--cgroup", cgroup.path().string()});
  auto command = with_output(std::move(words), records_, stats());
  command.insert(command.begin(), program.string());
  // The shell only joins them: tcpinfo takes its place, and `through` reads what it prints.
  if (has_reader_)
    command.insert(command.begin(), {"bash", "-c",
                                     R"(file=$1 through=$2; shift 2
                       exec "$@" > >(trap '' INT; eval "$through" > "$file"; : > "$file.done"))",
                                     "bash", records_.string(), through});
  process_.emplace(
      lab::SpawnOptions{.command = command,
                        .stdout_file = has_reader_ || records_.extension() == ".zst" ? fs::path() : records_,
                        .stderr_file = directory_ / "stderr"});
  if (start == Start::kBegun) return;
  for (const auto end = steady_clock::now() + 120s; steady_clock::now() < end; std::this_thread::sleep_for(5ms)) {
    // What it does between the attach and its first output may take long on a slow machine.
    if (attached(cgroup) > others && (has_reader_ || (fs::exists(records_) && fs::file_size(records_) > 0))) return;
    if (has_ended()) break;
  }
  fail("start tcpinfo: " + said());
}

void Tcpinfo::end(std::optional<int> number, std::chrono::seconds timeout) {
  if (number) signal(*number);
  const auto status = process_->wait(timeout);
  if (!status) fail("end tcpinfo: it still runs");
  if (WIFEXITED(*status)) exit_code_ = WEXITSTATUS(*status);
  if (WIFSIGNALED(*status)) signal_ = WTERMSIG(*status);
  const auto done = records_.string() + ".done";
  for (const auto end = steady_clock::now() + timeout; has_reader_ && !fs::exists(done);
       std::this_thread::sleep_for(5ms))
    if (steady_clock::now() > end) fail("end tcpinfo: who reads its output goes on");
}

std::string Tcpinfo::told() const {
  const auto ending = exit_code_ ? fmt::format("exit code {}", *exit_code_) : fmt::format("signal {}", signal_);
  return fmt::format("{}: {}", ending, quoted(said()));
}

std::string Tcpinfo::said() const { return read_text(directory_ / "stderr"); }

}  // namespace endurance
