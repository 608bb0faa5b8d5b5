// SPDX-License-Identifier: BSD-2-Clause
// tcpinfo run, and cgroups that are named by process or unit, as their users meet them.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
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

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using lab::Ip;
using lab::Outcome;
using lab::read_text;
using lab::Running;
using lab::TemporaryDirectory;
using lab::Words;
using tcpinfo::Event;
using tcpinfo::Record;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

bool until(const std::function<bool()>& condition) {
  for (const auto end = std::chrono::steady_clock::now() + 10s; std::chrono::steady_clock::now() < end;
       std::this_thread::sleep_for(2ms))
    if (condition()) return true;
  return false;
}

Words children_of(const fs::path& cgroup) {
  Words names;
  for (const auto& entry : fs::directory_iterator(cgroup))
    if (entry.is_directory()) names.push_back(entry.path().filename());
  return names;
}

std::size_t count(const std::vector<tcpinfo_record>& records, Event event) {
  return static_cast<std::size_t>(std::ranges::count_if(
      records, [event](const tcpinfo_record& r) { return Record(r).event() == static_cast<std::uint8_t>(event); }));
}

class Run : public testing::Test {
 protected:
  void SetUp() override { TCPINFO_NEEDS_BPF(); }
  // What a test that failed left behind.
  void TearDown() override {
    for (const pid_t pid : tcpinfo::cgroup_processes(parent_.path())) kill(pid, SIGKILL);
  }

  /// tcpinfo run, below a cgroup of the test's own.
  Words command(const Words& words, const Words& options = {}) const {
    Words all = {TCPINFO_BINARY, "run"};
    if (std::ranges::find(options, "--parent") == options.end()) all.insert(all.end(), {"--parent", parent_.path()});
    if (std::ranges::find(options, "--output") == options.end())
      all.insert(all.end(), {"--output", files_ / "records"});
    all.insert(all.end(), options.begin(), options.end());
    all.push_back("--");
    all.insert(all.end(), words.begin(), words.end());
    return all;
  }
  Outcome run(const Words& words, const Words& options = {}) const {
    return Running(command(words, options)).outcome();
  }
  std::vector<tcpinfo_record> records() const { return tcpinfo::read_json_lines(files_ / "records"); }

  /// A shell's words that connect to us.
  std::string connecting() const {
    return "exec 3<>/dev/tcp/127.0.0.1/" + std::to_string(listener_.local_port()) + " && exec 3>&-";
  }

  const lab::Cgroup parent_{"run"};
  const TemporaryDirectory files_;
  const lab::Socket listener_ = lab::listen(Ip::kV4);
};

TEST_F(Run, EndsWithTheCodeOfTheCommand) {
  EXPECT_EQ(run({"true"}).code, 0);
  EXPECT_EQ(run({"sh", "-c", "exit 7"}).code, 7);
  EXPECT_EQ(run({"sh", "-c", "kill -KILL $$"}).code, 128 + SIGKILL);
  EXPECT_EQ(run({"sh", "-c", "kill -TERM $$"}).code, 128 + SIGTERM);
  EXPECT_THAT(children_of(parent_.path()), IsEmpty());
}

TEST_F(Run, SaysThatTheCommandCannotBeStarted) {
  auto outcome = run({"tcpinfo-no-such-command"});
  EXPECT_EQ(outcome.code, 127);
  EXPECT_THAT(outcome.err, AllOf(StartsWith("tcpinfo: start tcpinfo-no-such-command: "), HasSubstr("No such file")));
  outcome = run({"/etc"});
  EXPECT_EQ(outcome.code, 126);
  EXPECT_THAT(outcome.err, HasSubstr("/etc: Permission denied"));
  EXPECT_THAT(children_of(parent_.path()), IsEmpty());
}

TEST_F(Run, RefusesWhatMakesNoSenseBeforeTheCommandBegins) {
  const auto marker = files_ / "marker";
  const Words touch = {"touch", marker};
  EXPECT_EQ(run({}).code, 2);
  EXPECT_THAT(run({}).err, HasSubstr("after --"));
  EXPECT_EQ(Running({TCPINFO_BINARY, "run", "touch", marker}).outcome().code, 2);
  for (const char* option : {"--cgroup", "--pid", "--unit"}) EXPECT_EQ(run(touch, {option, "1"}).code, 2) << option;
  EXPECT_EQ(run(touch, {"--mode", "none"}).code, 2);
  EXPECT_EQ(run(touch, {"--output", "/tmp/no/such/directory/x"}).code, 1);
  EXPECT_EQ(run(touch, {"--parent", "/tmp"}).code, 1);
  EXPECT_FALSE(fs::exists(marker));
  EXPECT_THAT(children_of(parent_.path()), IsEmpty());
}

TEST_F(Run, TheCommandGetsItsWordsAsTheyAre) {
  EXPECT_EQ(run({"printf", "%s|", "[a,b]", "", "x y", "--", "--help", "{}"}).out, "[a,b]||x y|--|--help|{}|");
}

TEST_F(Run, MissesNoConnectionHoweverEarly) {
  for (int i = 0; i < 10; ++i) {
    const auto outcome = run({"bash", "-c", connecting()});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    lab::accept(listener_).close();
    const auto found = records();
    EXPECT_EQ(count(found, Event::kOpen), 1u) << i;
    for (const auto& record : found) EXPECT_EQ(Record(record).peer_port(), listener_.local_port());
  }
}

TEST_F(Run, WaitsForTheFinalRecordOfAConnectionThatTheEndClosed) {
  Running running(command(
      {"bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/" + std::to_string(listener_.local_port()) + "; echo hello >&3"},
      {"--mode", "close"}));
  auto server = lab::accept(listener_);
  server.receive(6);
  std::this_thread::sleep_for(100ms);  // the command is at its end, and its connection half closed
  server.close();
  EXPECT_EQ(running.outcome().code, 0);
  const auto found = records();
  ASSERT_EQ(count(found, Event::kClose), 1u);
  EXPECT_EQ(Record(found.front()).bytes_sent(), 6u);
}

TEST_F(Run, FollowsChildrenOfChildrenAndNobodyElse) {
  const auto outsider = lab::connected(listener_, Ip::kV4);
  Running running(
      command({"bash", "-c", "for i in 1 2 3; do bash -c 'bash -c \"" + connecting() + "\" & wait' & done; wait"}));
  // Without a FIN of ours theirs may stay in FIN_WAIT2 for a minute (kernel v6.18 net/ipv4/tcp_input.c
  // tcp_rcv_state_process(), where an ACK meets the socket in the hands of its close()).
  for (int i = 0; i < 3; ++i) lab::accept(listener_).close();
  const auto outcome = running.outcome();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const auto found = records();
  EXPECT_EQ(count(found, Event::kOpen), 3u) << outcome.err;
  EXPECT_EQ(count(found, Event::kClose), 3u) << outcome.err;
}

TEST_F(Run, TheCommandKeepsItsStandardStreams) {
  Words all = {"bash", "-c", R"(echo hello | "$@" 2> )" + (files_ / "err").string(), "bash"};
  const auto words = command({"sh", "-c", "cat; echo problem >&2"});
  all.insert(all.end(), words.begin(), words.end());
  EXPECT_EQ(Running(all).outcome().out, "hello\n");
  EXPECT_THAT(read_text(files_ / "err"), StartsWith("problem\ntcpinfo: "));
  EXPECT_TRUE(tcpinfo::is_schema(read_text(files_ / "records")));
}

TEST_F(Run, RecordsGoToStandardErrorUnlessNamed) {
  const Words end = {"--parent", parent_.path(), "--", "echo", "mine"};
  Words words = {TCPINFO_BINARY, "run"};
  words.insert(words.end(), end.begin(), end.end());
  auto outcome = Running(words).outcome();
  EXPECT_EQ(outcome.out, "mine\n");
  EXPECT_THAT(outcome.err, StartsWith(R"({"schema")"));
  words = {TCPINFO_BINARY, "run", "-o", "-"};
  words.insert(words.end(), end.begin(), end.end());
  outcome = Running(words).outcome();
  EXPECT_THAT(outcome.out, AllOf(StartsWith(R"({"schema")"), HasSubstr("mine\n")));
  EXPECT_THAT(outcome.err, Not(HasSubstr("schema")));
}

TEST_F(Run, TheCommandInheritsNothingOfOurs) {
  const Words look = {"bash", "-c",
                      "ls -1 /proc/self/fd; grep -E '^(Sig(Blk|Ign|Cgt)|Cap|NoNewPrivs)' /proc/self/status; ulimit -a; "
                      "pwd; env | grep -v ^_= | sort"};
  const auto alone = Running(look).outcome();
  EXPECT_EQ(alone.code, 0);
  EXPECT_EQ(run(look).out, alone.out);
}

TEST_F(Run, WhatWasIgnoredBeforeStaysIgnored) {
  const std::string look = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status";
  const std::string ignoring = "trap '' PIPE HUP; exec \"$@\"";
  Words alone = {"bash", "-c", ignoring, "bash", "bash", "-c", look}, ours = {"bash", "-c", ignoring, "bash"};
  const auto words = command({"bash", "-c", look});
  ours.insert(ours.end(), words.begin(), words.end());
  EXPECT_EQ(Running(ours).outcome().out, Running(alone).outcome().out);
}

TEST_F(Run, PassesSignalsOn) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    Running running(
        command({"bash", "-c",
                 "trap 'echo got; exit 3' " + std::to_string(number) + "; echo ready; while :; do sleep 0.02; done"}));
    ASSERT_TRUE(running.until_it_writes("ready")) << running.err();
    running.signal(number);
    const auto outcome = running.outcome();
    EXPECT_EQ(outcome.code, 3) << number << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("got"));
    EXPECT_THAT(outcome.err, HasSubstr("records emitted"));
    EXPECT_THAT(children_of(parent_.path()), IsEmpty());
  }
}

// Its writes are interrupted, and it goes on with them: the signal was the command's.
TEST_F(Run, ASignalThatIsPassedOnDoesNotEndTheRecords) {
  const auto pipe = files_ / "pipe";
  lab::check(mkfifo(pipe.c_str(), 0600), "mkfifo");
  const int reader = lab::check(open(pipe.c_str(), O_RDWR | O_CLOEXEC), "open");
  const std::string filling =
      "trap 'echo got' TERM; echo ready; for i in {1..200}; do " + connecting() + "; done; echo made";
  Running running(
      command({"bash", "-c",
               filling + "; while [ ! -e " + (files_ / "go").string() + " ]; do sleep 0.02; done; " + connecting()},
              {"--output", pipe}));
  for (int i = 0; i < 200; ++i) lab::accept(listener_).close();
  ASSERT_TRUE(running.until_it_writes("made")) << running.err();
  // The pipe is full, but for the end of a page here and there, and the writer waits.
  int waiting = 0;
  ASSERT_TRUE(until([&] { return ioctl(reader, FIONREAD, &waiting) == 0 && waiting > 60'000; })) << waiting;
  running.signal(SIGTERM);
  ASSERT_TRUE(running.until_it_writes("got"));
  std::ofstream(files_ / "go") << "";
  std::string text;
  std::thread taker([&] {
    char block[1 << 16];
    for (pollfd readable{reader, POLLIN, 0}; poll(&readable, 1, 2000) > 0;)
      text.append(block, static_cast<std::size_t>(read(reader, block, sizeof(block))));
  });
  lab::accept(listener_).close();
  const auto outcome = running.outcome();
  taker.join();
  close(reader);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(" 0 lost"));
  std::size_t opened = 0;
  for (std::size_t at = 0; (at = text.find(R"("event":"open")", at)) != text.npos; ++at) ++opened;
  EXPECT_EQ(opened, 201u);
}

TEST_F(Run, ASignalThatEndsTheCommandEndsBoth) {
  Running running(command({"bash", "-c", "echo ready; exec sleep 60"}));
  ASSERT_TRUE(running.until_it_writes("ready")) << running.err();
  running.signal(SIGTERM);
  EXPECT_EQ(running.outcome().code, 128 + SIGTERM);
}

TEST_F(Run, NamesWhatIsLeftOverAndRemovesItLater) {
  auto outcome = run({"bash", "-c", "sleep 60 > /dev/null 2>&1 & echo $!"});
  EXPECT_EQ(outcome.code, 0);
  const auto left = static_cast<pid_t>(std::stoi(outcome.out));
  const auto stays = children_of(parent_.path());
  ASSERT_THAT(stays, SizeIs(1));
  EXPECT_THAT(outcome.err, AllOf(HasSubstr(std::to_string(left) + " (sleep)"), HasSubstr(stays[0])));
  EXPECT_EQ(kill(left, 0), 0);
  // Another one leaves it alone while it is in use.
  EXPECT_EQ(run({"true"}).code, 0);
  EXPECT_EQ(children_of(parent_.path()), stays);
  ASSERT_EQ(kill(left, SIGKILL), 0);
  ASSERT_TRUE(until([&] { return tcpinfo::cgroup_processes(parent_.path()).empty(); }));
  EXPECT_EQ(run({"true"}).code, 0);
  EXPECT_THAT(children_of(parent_.path()), IsEmpty());
}

TEST_F(Run, WithWaitTheLastDescendantEndsIt) {
  const auto outcome = run({"bash", "-c", "(sleep 0.3; " + connecting() + ") & exit 5"}, {"--wait"});
  EXPECT_EQ(outcome.code, 5) << outcome.err;
  EXPECT_EQ(count(records(), Event::kOpen), 1u);
  EXPECT_THAT(outcome.err, Not(HasSubstr("stays")));
  EXPECT_THAT(children_of(parent_.path()), IsEmpty());
}

TEST_F(Run, WithWaitASignalEndsTheWait) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) {
    SCOPED_TRACE(number);
    Running running(command({"bash", "-c", "sleep 60 > /dev/null 2>&1 & echo $$ $!"}, {"--wait"}));
    ASSERT_TRUE(running.until_it_writes("\n"));
    pid_t bash = 0, left = 0;
    std::istringstream(running.out()) >> bash >> left;
    // The command has ended, be it reaped or not; while it exits it is no more in the cgroup, and takes a signal still.
    ASSERT_TRUE(until([&] {
      const auto stat = read_text("/proc/" + std::to_string(bash) + "/stat");
      return stat.empty() || stat.find(") Z ") != stat.npos;
    }));
    ASSERT_EQ(tcpinfo::cgroup_processes(parent_.path()), std::vector<pid_t>{left});
    running.signal(number);
    const auto outcome = running.outcome();
    EXPECT_EQ(outcome.code, 0);
    EXPECT_THAT(outcome.err, HasSubstr("(sleep)"));
    EXPECT_EQ(kill(left, SIGKILL), 0);
  }
}

TEST_F(Run, AfterAKillTheCommandGoesOn) {
  Running running(command({"bash", "-c", "echo $$; exec sleep 60"}));
  Running killed(command({"bash", "-c", "echo $$; exec sleep 60"}));
  ASSERT_TRUE(killed.until_it_writes("\n"));
  ASSERT_TRUE(running.until_it_writes("\n"));
  const auto child = static_cast<pid_t>(std::stoi(killed.out()));
  const auto other = static_cast<pid_t>(std::stoi(running.out()));
  killed.signal(SIGKILL);
  killed.outcome();
  EXPECT_EQ(kill(child, 0), 0);
  EXPECT_EQ(run({"true"}).code, 0);
  EXPECT_THAT(children_of(parent_.path()), SizeIs(2));
  ASSERT_EQ(kill(child, SIGKILL), 0);
  ASSERT_TRUE(until([&] { return tcpinfo::cgroup_processes(parent_.path()).size() == 1; }));
  EXPECT_EQ(run({"true"}).code, 0);
  EXPECT_THAT(children_of(parent_.path()), SizeIs(1));  // the one of the other, who lives
  ASSERT_EQ(kill(other, SIGKILL), 0);
  EXPECT_EQ(running.outcome().code, 128 + SIGKILL);
}

TEST_F(Run, WhatEndsTheRecordsDoesNotEndTheCommand) {
  auto outcome = run({"bash", "-c", connecting() + "; sleep 0.3; echo done; exit 4"}, {"--count", "1"});
  EXPECT_EQ(outcome.code, 4);
  EXPECT_EQ(outcome.out, "done\n");
  EXPECT_THAT(records(), SizeIs(1));
  if (access("/dev/full", W_OK) != 0) return;
  outcome = run({"bash", "-c", connecting() + "; sleep 0.3; echo done"}, {"--output", "/dev/full"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("No space left"));
}

// As under the seccomp filter of an older container engine.
TEST_F(Run, WithoutClone3NothingIsMissedEither) {
  const auto words = command({"bash", "-c", connecting()});
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(filter), filter};
  const pid_t pid = fork();
  if (pid == 0) {
    const int null = open("/dev/null", O_RDWR);
    dup2(null, 2);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
      execv(argv[0], argv.data());
    _exit(99);
  }
  int status = 0;
  lab::check(waitpid(pid, &status, 0), "waitpid");
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  const auto found = records();
  EXPECT_EQ(count(found, Event::kOpen), 1u);
  EXPECT_EQ(count(found, Event::kClose), 1u);
  EXPECT_THAT(children_of(parent_.path()), IsEmpty());
}

TEST_F(Run, PollsAsWell) {
  const auto outcome =
      run({"bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/" + std::to_string(listener_.local_port()) + "; sleep 0.3"},
          {"--source", "inet_diag", "--interval", "20ms"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_GE(count(records(), Event::kSample), 3u);
}

class Named : public testing::Test {
 protected:
  void SetUp() override { TCPINFO_NEEDS_BPF(); }

  void expect_watched(const Words& how, const lab::Cgroup& cgroup) {
    Words words = {TCPINFO_BINARY, "watch", "--mode", "close", "--count", "2"};
    words.insert(words.end(), how.begin(), how.end());
    Running running(words);
    ASSERT_TRUE(running.until_it_writes("schema")) << running.err();
    {
      const lab::InCgroup inside(cgroup);
      const auto listener = lab::listen(Ip::kV4);
      auto pair = lab::connected(listener, Ip::kV4);
    }
    EXPECT_EQ(running.outcome().code, 0) << running.err();
    EXPECT_THAT(running.out(), HasSubstr("\"cgroup_id\":" + std::to_string(tcpinfo::cgroup_id(cgroup.path()))));
  }
};

TEST_F(Named, ByProcess) {
  const lab::Cgroup cgroup("named");
  const lab::Process process({.command = {"sleep", "60"}, .cgroup = &cgroup});
  expect_watched({"--pid", std::to_string(process.pid())}, cgroup);
}

TEST_F(Named, ByProcessSaysWhoElseIsMeant) {
  const lab::Cgroup cgroup("named");
  const lab::Process first({.command = {"sleep", "60"}, .cgroup = &cgroup}),
      second({.command = {"sleep", "60"}, .cgroup = &cgroup});
  const auto outcome = Running({TCPINFO_BINARY, "snapshot", "--pid", std::to_string(first.pid())}).outcome();
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr(cgroup.path().string()), HasSubstr("with 1 other")));
}

TEST_F(Named, ByUnit) {
  const lab::Cgroup cgroup("named");
  const auto name = cgroup.path().filename().string() + ".service";
  const lab::Cgroup slice("system.slice", cgroup.path());
  const auto unit = slice.path() / name;
  fs::create_directory(unit);
  const auto listener = [&] {
    const lab::InCgroup inside(unit);
    return lab::listen(Ip::kV4);
  }();
  for (const auto& written : {name, cgroup.path().filename().string()}) {
    const auto outcome = Running({TCPINFO_BINARY, "snapshot", "--unit", written, "--fields", "local_port"}).outcome();
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("{\"local_port\":" + std::to_string(listener.local_port()) + "}")) << written;
  }
  fs::create_directory(cgroup.path() / name);
  const auto outcome = Running({TCPINFO_BINARY, "watch", "--unit", name}).outcome();
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr(unit.string()), HasSubstr((cgroup.path() / name).string())));
}

TEST_F(Named, OnlyOnce) {
  for (const char* command : {"watch", "snapshot"}) {
    for (const Words& two : {Words{"--pid", "1", "--unit", "x"}, Words{"--pid", "1", "--cgroup", "/"},
                             Words{"--unit", "x", "--cgroup", "/"}}) {
      Words words = {TCPINFO_BINARY, command};
      words.insert(words.end(), two.begin(), two.end());
      EXPECT_EQ(Running(words).outcome().code, 2) << command << ' ' << two[0] << ' ' << two[2];
    }
  }
  EXPECT_EQ(Running({TCPINFO_BINARY, "watch", "--pid", "0"}).outcome().code, 2);
  EXPECT_EQ(Running({TCPINFO_BINARY, "watch", "--pid", "nginx"}).outcome().code, 2);
  EXPECT_EQ(Running({TCPINFO_BINARY, "watch", "--unit", "tcpinfo-no-such-unit"}).outcome().code, 1);
}

TEST_F(Named, SocketsFromElsewhereAreSaid) {
  const lab::Cgroup cgroup("named"), other("other");
  const auto listener = [&] {
    const lab::InCgroup inside(other);
    return lab::listen(Ip::kV4);
  }();
  // It inherits the listener, as a service that systemd made one for.
  fcntl(listener.fd(), F_SETFD, 0);
  const lab::Process process({.command = {"sleep", "60"}, .cgroup = &cgroup});
  fcntl(listener.fd(), F_SETFD, FD_CLOEXEC);
  for (const Words& command : {Words{"watch", "--duration", "10ms"}, Words{"snapshot"}}) {
    Words words = {TCPINFO_BINARY, "--cgroup", cgroup.path()};
    words.insert(words.begin() + 1, command.begin(), command.end());
    const auto outcome = Running(words).outcome();
    EXPECT_EQ(outcome.code, 0);
    EXPECT_THAT(outcome.err, StartsWith("tcpinfo: 1 process in " + cgroup.path().string() +
                                        " holds 1 TCP socket made in " + other.path().string()));
    EXPECT_THAT(outcome.err, HasSubstr("(1 listener, with all that they accept)"));
  }
}

class Gone : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { TCPINFO_NEEDS_BPF(); }
};

TEST_P(Gone, IsSaidInOneSentence) {
  const lab::Cgroup parent("gone");
  const auto path = parent.path() / "leaf";
  fs::create_directory(path);
  Running running({TCPINFO_BINARY, "watch", "--cgroup", path, "--source", GetParam()});
  ASSERT_TRUE(running.until_it_writes("schema")) << running.err();
  std::this_thread::sleep_for(50ms);
  fs::remove(path);
  const auto outcome = running.outcome();
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err,
              HasSubstr("tcpinfo: cgroup " + path.string() + " was removed: nothing more comes from it\n"));
}

INSTANTIATE_TEST_SUITE_P(Sources, Gone, testing::Values("sockops", "inet_diag", "iter"),
                         [](const auto& source) { return std::string(source.param); });

}  // namespace
