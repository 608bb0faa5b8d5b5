// SPDX-License-Identifier: BSD-2-Clause
// The tcpinfo command as an ordinary user has it, and what it keeps of an administrator's privileges.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidjson/document.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

#include "lab/files.hpp"
#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "program.hpp"
#include "requirements.hpp"

namespace {

using namespace std::chrono_literals;
using lab::Ip;
using lab::Outcome;
using lab::read_text;
using lab::run;
using lab::Running;
using lab::TemporaryDirectory;
using lab::Words;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

namespace fs = std::filesystem;

const std::string kTcpinfo = TCPINFO_BINARY;
const Words kNobody = {"setpriv",        "--reuid=65534",   "--regid=65534",
                       "--clear-groups", "--inh-caps=-all", "--bounding-set=-all,+bpf,+net_admin,+perfmon"};

Words operator+(Words first, const Words& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

// Ordinary users run what is there.
constexpr fs::perms kOpenToAll{0755};

std::map<std::string, std::string> status_of(pid_t pid) {
  std::map<std::string, std::string> values;
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    values[line.substr(0, colon)] = line.substr(std::min(line.size(), line.find_first_not_of(" \t", colon + 1)));
  }
  return values;
}

// Whether its source is open: this is the last step before records.
bool is_open(Running& running) {
  return running.until([&] { return status_of(running.pid())["NoNewPrivs"] == "1"; });
}

Outcome end(Running& running) {
  running.signal(SIGTERM);
  return running.outcome();
}

std::uint64_t capabilities(const std::map<std::string, std::string>& status, const char* set) {
  return std::stoull(status.at(set), nullptr, 16);
}

constexpr std::uint64_t bit(tcpinfo::Privilege privilege) { return std::uint64_t{1} << static_cast<int>(privilege); }

// What all its threads have.
void expect_only(pid_t pid, std::uint64_t wanted) {
  std::size_t threads = 0;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    const auto status = status_of(static_cast<pid_t>(std::stol(entry.path().filename())));
    for (const auto* set : {"CapPrm", "CapEff"}) EXPECT_EQ(capabilities(status, set), wanted) << set;
    for (const auto* set : {"CapInh", "CapAmb"}) EXPECT_EQ(capabilities(status, set), 0u) << set;
    EXPECT_EQ(status.at("NoNewPrivs"), "1");
    ++threads;
  }
  EXPECT_GT(threads, 0u);
}

class PrivilegeCli : public testing::Test {
 protected:
  void SetUp() override { TCPINFO_NEEDS_BPF(); }

  Words watch(const Words& more = {}) const {
    return Words{kTcpinfo, "watch",    "--cgroup", cgroup_.path(), "--interval",
                 "10ms",   "--format", "jsonl",    "--fields",     "event,swept"} +
           more;
  }
  // A connection that `watch` has to see from its open to its close, idle in between.
  void see_connection(Running& watch, bool drops = true) const {
    if (drops ? !is_open(watch) : !watch.until_it_writes("schema")) return;
    const lab::InCgroup in(cgroup_);
    const auto listener = lab::listen(Ip::kV4);
    lab::Socket client(Ip::kV4);
    lab::connect(client, Ip::kV4, listener.local_port());
    auto server = lab::accept(listener);
    EXPECT_TRUE(watch.until_it_writes(R"("event":"open")"));
    EXPECT_TRUE(watch.until_it_writes(R"("event":"sample","swept":true)"));
    client.close();
    server.abort();
    EXPECT_TRUE(watch.until_it_writes(R"("event":"close")"));
  }

  const lab::Cgroup cgroup_{"tcpinfo-privilege"};
};

TEST_F(PrivilegeCli, WatchStreamsWithNone) {
  Running running(watch());
  see_connection(running);
  expect_only(running.pid(), 0);
  const auto outcome = end(running);
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr(" 0 lost"), HasSubstr("2 connections")));
}

// Adoption enters the namespace before the drop.
TEST_F(PrivilegeCli, OlderConnectionsOfOtherNamespacesAreAdopted) {
  const lab::Netns netns("tcpinfo-privilege");
  // A process of the cgroup in that namespace, with a connection.
  const lab::InCgroup in(cgroup_);
  const lab::Process holder({.command = {"sleep", "60"}, .cgroup = &cgroup_, .netns = &netns});
  lab::Socket client, server;
  netns.run([&] {
    const auto listener = lab::listen(Ip::kV4);
    client = lab::Socket(Ip::kV4);
    lab::connect(client, Ip::kV4, listener.local_port());
    server = lab::accept(listener);
  });
  Running running(watch());
  if (!is_open(running)) return;
  expect_only(running.pid(), 0);
  EXPECT_TRUE(running.until_it_writes(R"("event":"adopted")"));
  EXPECT_EQ(end(running).code, 0);
}

// Told once, and in the statistics: the rest goes on.
TEST_F(PrivilegeCli, WhatAdoptionDidNotReachIsSaid) {
  const lab::Netns netns("tcpinfo-privilege");
  const lab::Process holder({.command = {"sleep", "60"}, .cgroup = &cgroup_, .netns = &netns});
  const TemporaryDirectory files;
  const auto missing = [&](const std::string& more) {
    const auto stats = files / "stats";
    const auto outcome =
        run(Words{"setpriv", "--inh-caps=-all", "--bounding-set=-all,+bpf,+net_admin,+perfmon" + more} +
            watch({"--owner", "--duration", "100ms", "--stats", stats}));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    rapidjson::Document json;
    json.Parse(read_text(stats).c_str());
    std::map<std::string, std::string> told;
    for (const auto& one : json["missing"].GetArray()) {
      const auto& detail = told[one["name"].GetString()] = one["detail"].GetString();
      const auto line = std::string("tcpinfo: missing here: ") + one["name"].GetString() + ": " + detail + '\n';
      const auto place = outcome.err.find(line);
      EXPECT_NE(place, std::string::npos) << outcome.err;
      EXPECT_EQ(outcome.err.find(line, place + 1), std::string::npos) << outcome.err;
    }
    return told;
  };
  auto told = missing("");
  EXPECT_THAT(told["network_namespaces"], HasSubstr("those of 1 threads are not shown"));
  EXPECT_THAT(told["owner executables"], HasSubstr("CAP_SYS_PTRACE"));
  told = missing(",+sys_ptrace");
  EXPECT_THAT(told["network_namespaces"], HasSubstr("1 of the cgroup's could not be entered"));
  EXPECT_EQ(told.count("owner executables"), 0u);
  EXPECT_EQ(missing(",+sys_ptrace,+sys_admin").count("network_namespaces"), 0u);
}

TEST_F(PrivilegeCli, WithKeepPrivilegesNothingIsDropped) {
  Running running(watch({"--keep-privileges"}));
  see_connection(running, false);
  const auto status = status_of(running.pid());
  EXPECT_EQ(capabilities(status, "CapEff"), capabilities(status_of(getpid()), "CapEff"));
  EXPECT_EQ(status.at("NoNewPrivs"), status_of(getpid()).at("NoNewPrivs"));
  EXPECT_EQ(end(running).code, 0);
}

TEST_F(PrivilegeCli, WithNoAdoptOlderConnectionsStayUnseen) {
  lab::Pair older;
  {
    const lab::InCgroup in(cgroup_);
    older = lab::connected(lab::listen(Ip::kV4), Ip::kV4);
  }
  Running running({kTcpinfo, "watch", "--cgroup", cgroup_.path(), "--no-adopt", "--interval", "10ms", "--format",
                   "jsonl", "--fields", "event,swept,local_port"});
  see_connection(running);
  const auto outcome = end(running);
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.out, Not(HasSubstr("adopted\"")));
  EXPECT_THAT(outcome.out, Not(HasSubstr(":" + std::to_string(older.server.local_port()) + "}")));
  // Where the kernel refuses the sweep's own iterator, other threads' namespaces are not known without privileges.
  const auto missing = outcome.err.find("missing here");
  if (missing != outcome.err.npos)
    EXPECT_THAT(outcome.err.substr(missing),
                StartsWith("missing here: sweep: samples receivers, idle and stalled connections by iter/tcp"));
  EXPECT_EQ(outcome.err.find("missing here", missing + 1), outcome.err.npos);
}

// In a directory of somebody else's, as root has them: the next file is made long after the drop.
TEST_F(PrivilegeCli, ARecordingThatRotatesKeepsTheRightToMakeFiles) {
  const TemporaryDirectory files;
  const auto directory = files / "theirs";
  fs::create_directory(directory);
  ASSERT_EQ(chown(directory.c_str(), 65534, 65534), 0);
  fs::permissions(directory, fs::perms::owner_all);
  Running running({kTcpinfo, "record", "--output", directory, "--rotate-time", "100ms", "--cgroup", cgroup_.path(),
                   "--interval", "10ms"});
  if (!is_open(running)) return;
  expect_only(running.pid(), bit(tcpinfo::Privilege::kDacOverride));
  const lab::InCgroup in(cgroup_);
  const auto pair = lab::connected(lab::listen(Ip::kV4), Ip::kV4);
  const auto files_there = [&] { return std::distance(fs::directory_iterator(directory), fs::directory_iterator()); };
  for (const auto end = std::chrono::steady_clock::now() + 10s;
       files_there() < 3 && std::chrono::steady_clock::now() < end;)
    std::this_thread::sleep_for(5ms);
  EXPECT_GE(files_there(), 3);
  const auto outcome = end(running);
  EXPECT_EQ(outcome.code, 0) << outcome.err;

  Running single({kTcpinfo, "record", "--output", files / "one.zst", "--cgroup", cgroup_.path()});
  if (!is_open(single)) return;
  expect_only(single.pid(), 0);
  EXPECT_EQ(end(single).code, 0);
}

TEST_F(PrivilegeCli, WatchKeepsOnlyWhatIsAskedFor) {
  const lab::Netns netns("tcpinfo-privilege");
  const auto expect = [&](const Words& more, std::uint64_t wanted) {
    SCOPED_TRACE(testing::PrintToString(more));
    Running running(watch(more));
    if (!is_open(running)) return;
    expect_only(running.pid(), wanted);
    EXPECT_EQ(end(running).code, 0);
  };
  expect({"--cost"}, bit(tcpinfo::Privilege::kBpf));
  expect({"--source", "iter"}, 0);
  expect({"--owner"}, bit(tcpinfo::Privilege::kSysPtrace));
  expect({"--source", "iter", "--netns", netns.path()}, bit(tcpinfo::Privilege::kSysAdmin));
  expect({"--source", "inet_diag", "--netns", netns.path()}, 0);
}

// With the very command that the doctor gives.
TEST_F(PrivilegeCli, SetcapMakesItEverybodys) {
  const TemporaryDirectory files(kOpenToAll);
  const auto binary = files / "tcpinfo";
  fs::copy_file(kTcpinfo, binary);
  if (struct statvfs status{}; statvfs(binary.c_str(), &status) == 0 && (status.f_flag & ST_NOSUID))
    GTEST_SKIP() << "needs a temporary directory that is not mounted nosuid";
  const auto doctor = [&] {
    auto outcome = run(kNobody + Words{binary, "doctor", "--format", "json"});
    rapidjson::Document json;
    json.Parse(outcome.out.c_str());
    EXPECT_FALSE(json.HasParseError()) << outcome.out << outcome.err;
    return std::pair(outcome.code, std::move(json));
  };
  const auto [before, without] = doctor();
  EXPECT_EQ(before, 1);
  EXPECT_FALSE(without["works"]["sockops"].GetBool());
  EXPECT_FALSE(without["works"]["iter"].GetBool());
  EXPECT_TRUE(without["works"]["inet_diag"].GetBool()) << "needs no privilege";
  const std::string setcap = without["least_privilege"]["setcap"].GetString();
  EXPECT_EQ(setcap, "setcap cap_bpf,cap_net_admin,cap_perfmon+ep " + binary.string());

  const auto given = run({"sh", "-c", setcap});
  if (given.code != 0 && given.err.find("not supported") != std::string::npos)
    GTEST_SKIP() << "needs a file system that has capabilities: " << given.err;
  ASSERT_EQ(given.code, 0) << given.err;

  const auto [after, with] = doctor();
  EXPECT_EQ(after, 0);
  for (const auto* source : {"sockops", "inet_diag", "iter"}) EXPECT_TRUE(with["works"][source].GetBool()) << source;
  std::size_t least = 0;
  for (const auto& check : with["checks"].GetArray())
    if (std::string_view(check["name"].GetString()).ends_with("least privilege")) {
      EXPECT_STREQ(check["status"].GetString(), "ok") << check["detail"].GetString();
      ++least;
    }
  EXPECT_EQ(least, 3u);

  auto command = watch();
  command[0] = binary;
  Running running(kNobody + command);
  see_connection(running);
  expect_only(running.pid(), 0);
  EXPECT_EQ(status_of(running.pid()).at("Uid"), "65534\t65534\t65534\t65534");
  EXPECT_EQ(end(running).code, 0);
}

// What systemd does with the lines that the doctor gives: an ordinary user with ambient capabilities.
TEST_F(PrivilegeCli, AmbientCapabilitiesAreEnough) {
  const auto outcome = run({kTcpinfo, "doctor", "--format", "json"});
  rapidjson::Document json;
  json.Parse(outcome.out.c_str());
  ASSERT_FALSE(json.HasParseError());
  const auto& lines = json["least_privilege"]["systemd"];
  ASSERT_EQ(lines.Size(), 2u);
  EXPECT_STREQ(lines[0].GetString(), "AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_PERFMON");
  EXPECT_STREQ(lines[1].GetString(), "CapabilityBoundingSet=CAP_BPF CAP_NET_ADMIN CAP_PERFMON");

  Running running(Words{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                        "--inh-caps=-all,+bpf,+net_admin,+perfmon", "--ambient-caps=-all,+bpf,+net_admin,+perfmon",
                        "--bounding-set=-all,+bpf,+net_admin,+perfmon"} +
                  watch());
  see_connection(running);
  expect_only(running.pid(), 0);
  EXPECT_EQ(end(running).code, 0);
}

}  // namespace
