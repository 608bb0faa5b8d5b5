// SPDX-License-Identifier: BSD-2-Clause
// The unit that ships, without systemd as the first process: what systemd's own checks say of it, and tcpinfo in a
// sandbox that is made from the unit's lines: user, capabilities, no_new_privs, the filter of system calls and address
// families, no writable and executable memory, a read-only file system, no other processes in /proc.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

#include "lab/files.hpp"
#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "requirements.hpp"

namespace {

using namespace std::chrono_literals;
using lab::Ip;
using lab::lines;
using lab::read_text;
using lab::TemporaryDirectory;
using testing::AllOf;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

Words split(const std::string& text) {
  std::istringstream words(text);
  return {std::istream_iterator<std::string>(words), {}};
}

/// The unit's [Service] section, a list of values a name.
std::map<std::string, Words> service() {
  std::map<std::string, Words> values;
  std::ifstream file(TCPINFO_UNIT);
  for (std::string line; std::getline(file, line);) {
    const auto equals = line.find('=');
    if (line.empty() || line[0] == '#' || equals == std::string::npos) continue;
    values[line.substr(0, equals)].push_back(line.substr(equals + 1));
  }
  return values;
}

std::string with(std::string text, const std::string& place, const std::string& value) {
  for (std::size_t at = 0; (at = text.find(place, at)) != text.npos; at += value.size())
    text.replace(at, place.size(), value);
  return text;
}

/// The words of ExecStart= as systemd makes them: ${NAME} is a part of a word, $NAME alone any number of words.
Words command_line(const std::string& logs) {
  const auto lines = service();
  std::map<std::string, std::string> environment;
  for (auto value : lines.at("Environment")) {
    value = value.substr(1, value.size() - 2);  // in quotes
    environment[value.substr(0, value.find('='))] = value.substr(value.find('=') + 1);
  }
  Words words;
  for (const auto& word : split(lines.at("ExecStart").front())) {
    if (word.starts_with('$') && !word.starts_with("${"))
      for (const auto& one : split(environment.at(word.substr(1)))) words.push_back(one);
    else
      words.push_back(with(with(word, "@TCPINFO_EXECUTABLE@", TCPINFO_BINARY), "${LOGS_DIRECTORY}", logs));
  }
  return words;
}

struct Outcome {
  int code = -1;
  std::string out, err;
};

Outcome run(const Words& command) {
  const TemporaryDirectory files;
  lab::Process process({.command = command, .stdout_file = files / "out", .stderr_file = files / "err"});
  const auto status = process.wait(20s);
  return {status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1, read_text(files / "out"), read_text(files / "err")};
}

bool has_systemd() { return run({"sh", "-c", "command -v systemd-analyze"}).code == 0; }

/// The unit as it is installed, with the program that was built.
class Unit : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_systemd()) GTEST_SKIP() << "needs systemd-analyze";
    std::ofstream(unit()) << with(read_text(TCPINFO_UNIT), "@TCPINFO_EXECUTABLE@", TCPINFO_BINARY);
  }
  std::string unit() const { return files_ / "tcpinfo.service"; }

  const TemporaryDirectory files_;
};

TEST_F(Unit, SystemdUnderstandsEveryLine) {
  const auto outcome = run({"systemd-analyze", "verify", "--man=no", unit()});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out + outcome.err, "");
}

// In tenths, from 0 to 100. What is left is what it needs: BPF, netlink, the network of the host.
TEST_F(Unit, SystemdFindsLittleExposed) {
  const auto outcome = run({"systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", unit()});
  EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
}

/// Numbers of system calls by their names, from the kernel's header.
std::map<std::string, int> system_calls() {
  std::map<std::string, int> numbers;
  for (const auto* path : {"/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h"}) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
      const auto words = split(line);
      if (words.size() == 3 && words[0] == "#define" && words[1].starts_with("__NR_"))
        numbers.emplace(words[1].substr(5), std::atoi(words[2].c_str()));
    }
    if (!numbers.empty()) break;
  }
  return numbers;
}

// Of a group, as @process, with the groups in it.
void expand(const std::string& name, std::set<std::string>& calls) {
  if (name[0] != '@') {
    calls.insert(name);
    return;
  }
  const auto outcome = run({"systemd-analyze", "syscall-filter", name});
  ASSERT_EQ(outcome.code, 0) << name;
  std::istringstream lines(outcome.out);
  for (std::string line; std::getline(lines, line);)
    if (const auto words = split(line); words.size() == 1 && words[0] != name && words[0][0] != '#')
      expand(words[0], calls);
}

// As systemd takes SystemCallFilter=: the first line says what is allowed, @default is always, those with ~ take away.
std::set<std::string> allowed_calls(const Words& lines) {
  std::set<std::string> allowed;
  expand("@default", allowed);
  for (const auto& line : lines) {
    const bool removes = line[0] == '~';
    std::set<std::string> calls;
    for (const auto& word : split(line.substr(removes))) expand(word, calls);
    for (const auto& call : calls) {
      if (removes)
        allowed.erase(call);
      else
        allowed.insert(call);
    }
  }
  return allowed;
}

std::vector<sock_filter> filter_of(const std::set<std::string>& calls, const std::vector<int>& families) {
  constexpr auto load = [](std::size_t offset) {
    return sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<__u32>(offset));
  };
  constexpr auto answer = [](__u32 action) { return sock_filter BPF_STMT(BPF_RET | BPF_K, action); };
  constexpr auto skip_unless = [](int value) {
    return sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<__u32>(value), 0, 1);
  };
  std::vector<sock_filter> filter{load(offsetof(seccomp_data, nr))};
  const auto numbers = system_calls();
  for (const auto& call : calls) {
    const auto number = numbers.find(call);
    if (number == numbers.end() || call == "socket") continue;
    filter.push_back(skip_unless(number->second));
    filter.push_back(answer(SECCOMP_RET_ALLOW));
  }
  // RestrictAddressFamilies= answers EAFNOSUPPORT.
  filter.push_back(sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<__u32>(numbers.at("socket")), 1, 0));
  filter.push_back(answer(SECCOMP_RET_KILL_PROCESS));
  filter.push_back(load(offsetof(seccomp_data, args[0])));
  for (const int family : families) {
    filter.push_back(skip_unless(family));
    filter.push_back(answer(SECCOMP_RET_ALLOW));
  }
  filter.push_back(answer(SECCOMP_RET_ERRNO | EAFNOSUPPORT));
  return filter;
}

constexpr uid_t kUser = 61184;  // of those that DynamicUser= takes
constexpr int kThree[] = {CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON};

void must(long result) {
  if (result < 0) _exit(120);
}

// In the child, which then executes the program: as systemd's executor does it.
[[noreturn]] void execute(const std::vector<const char*>& command, const std::vector<sock_filter>& filter,
                          const char* out, const char* err, const char* logs) {
  must(dup2(open(out, O_WRONLY | O_CREAT | O_TRUNC, 0644), 1));
  must(dup2(open(err, O_WRONLY | O_CREAT | O_TRUNC, 0644), 2));
  // LogsDirectory=, ProtectSystem=strict, ProtectKernelTunables=, ProtectControlGroups=, PrivateTmp=,
  // ProtectProc=invisible
  must(unshare(CLONE_NEWNS));
  must(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
  mount_attr read_only{
      .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, .attr_clr = 0, .propagation = 0, .userns_fd = 0};
  must(mount(logs, logs, nullptr, MS_BIND, nullptr));
  must(mount("proc", "/proc", "proc", 0, "hidepid=invisible"));
  must(syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &read_only, sizeof(read_only)));
  mount_attr writable{.attr_set = 0, .attr_clr = MOUNT_ATTR_RDONLY, .propagation = 0, .userns_fd = 0};
  must(syscall(SYS_mount_setattr, AT_FDCWD, logs, 0, &writable, sizeof(writable)));
  // CapabilityBoundingSet=, DynamicUser=, AmbientCapabilities=
  for (int capability = 0; capability < 64; ++capability)
    if (std::ranges::find(kThree, capability) == std::end(kThree)) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  must(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
  must(syscall(SYS_setgroups, 0, nullptr));
  must(syscall(SYS_setresgid, kUser, kUser, kUser));
  must(syscall(SYS_setresuid, kUser, kUser, kUser));
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> sets{};
  for (const int capability : kThree) {
    auto& set = sets[static_cast<std::size_t>(capability) / 32];
    set.permitted = set.effective = set.inheritable = set.permitted | 1u << (capability % 32);
  }
  must(syscall(SYS_capset, &header, sets.data()));
  for (const int capability : kThree) must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0));
  // MemoryDenyWriteExecute=, from 6.3 on; NoNewPrivileges=, SystemCallFilter=
  prctl(65 /* PR_SET_MDWE */, 1 /* PR_MDWE_REFUSE_EXEC_GAIN */, 0, 0, 0);
  must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  const sock_fprog program{static_cast<unsigned short>(filter.size()), const_cast<sock_filter*>(filter.data())};
  must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
  execv(command[0], const_cast<char**>(command.data()));
  _exit(121);
}

class Sandbox : public Unit {
 protected:
  void SetUp() override {
    TCPINFO_NEEDS_BPF();
    Unit::SetUp();
    if (system_calls().empty()) GTEST_SKIP() << "needs the numbers of system calls: linux-libc-dev";
    lab::check(chown(logs().c_str(), kUser, kUser), "chown");
  }
  std::string logs() const { return logs_ / "."; }
  void start(const Words& words, const std::set<std::string>& calls) {
    const auto filter = filter_of(calls, {AF_NETLINK, AF_UNIX});
    const std::string out = files_ / "out", err = files_ / "err", directory = logs();
    std::vector<const char*> command;
    for (const auto& word : words) command.push_back(word.c_str());
    command.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) execute(command, filter, out.c_str(), err.c_str(), directory.c_str());
    ASSERT_GT(pid_, 0);
  }
  void TearDown() override {
    if (pid_ > 0) kill(pid_, SIGKILL);
    wait();
  }
  // The status as waitpid() gives it.
  int wait() {
    int status = -1;
    if (pid_ > 0) waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }
  bool wait_for(const char* file, std::string_view text) const {
    if (until([&] { return read_text(files_ / file).find(text) != std::string::npos; })) return true;
    ADD_FAILURE() << file << " has no " << text << ": " << read_text(files_ / "err");
    return false;
  }

  // Until `condition` holds.
  static bool until(const std::function<bool()>& condition) {
    for (const auto end = std::chrono::steady_clock::now() + 10s; std::chrono::steady_clock::now() < end;
         std::this_thread::sleep_for(5ms))
      if (condition()) return true;
    return false;
  }
  void expect_orderly_end() {
    kill(pid_, SIGTERM);
    const int status = wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status << read_text(files_ / "err");
  }

  const TemporaryDirectory logs_{fs::perms{0755}};
  pid_t pid_ = -1;
};

TEST_F(Sandbox, IsMadeOfTheLinesOfTheUnit) {
  const auto lines = service();
  const std::string three = "CAP_BPF CAP_NET_ADMIN CAP_PERFMON";
  EXPECT_THAT(lines.at("AmbientCapabilities"), ElementsAre(three));
  EXPECT_THAT(lines.at("CapabilityBoundingSet"), ElementsAre(three));
  EXPECT_THAT(lines.at("RestrictAddressFamilies"), ElementsAre("AF_INET AF_NETLINK AF_UNIX"));
  for (const auto* name : {"DynamicUser", "NoNewPrivileges", "MemoryDenyWriteExecute", "ProtectControlGroups",
                           "ProtectKernelTunables", "PrivateTmp"})
    EXPECT_THAT(lines.at(name), ElementsAre("yes")) << name;
  EXPECT_THAT(lines.at("LogsDirectory"), ElementsAre("tcpinfo"));
  EXPECT_THAT(lines.at("ProtectSystem"), ElementsAre("strict"));
  EXPECT_THAT(lines.at("ProtectProc"), ElementsAre("invisible"));
}

// The very command of the unit, of a cgroup of the test's.
TEST_F(Sandbox, RecordsIntoTheDirectoryOfLogs) {
  const lab::Cgroup cgroup("tcpinfo-unit");
  const lab::Process other({.command = {"sleep", "60"}, .cgroup = &cgroup});  // root's: /proc does not show it there
  auto words = command_line(logs());
  words.insert(words.end(), {"--cgroup", cgroup.path()});
  start(words, allowed_calls(service().at("SystemCallFilter")));
  const auto files = [&] {
    Words found;
    for (const auto& entry : fs::directory_iterator(logs())) found.push_back(entry.path());
    return found;
  };
  ASSERT_TRUE(until([&] { return !files().empty(); })) << read_text(files_ / "err");
  std::uint16_t port = 0;
  {
    const lab::InCgroup in(cgroup);
    const auto listener = lab::listen(Ip::kV4);
    port = listener.local_port();
    const auto pair = lab::connected(listener, Ip::kV4);
  }
  expect_orderly_end();
  EXPECT_THAT(read_text(files_ / "err"),
              AllOf(HasSubstr(" 0 lost"), AnyOf(HasSubstr("missing here: network_namespaces: those of 1 threads"),
                                                // This process was there, too, while the slow looked for them.
                                                HasSubstr("missing here: network_namespaces: those of 2 threads"))));
  ASSERT_THAT(files(), SizeIs(1));
  const auto recording = files().front();
  struct stat status {};
  lab::check(stat(recording.c_str(), &status), "stat");
  EXPECT_EQ(status.st_uid, kUser);
  const auto filter = "peer_port == " + std::to_string(port);
  const auto replayed =
      run({TCPINFO_BINARY, "replay", "--format", "csv", "--fields", "event", "--filter", filter, recording});
  EXPECT_EQ(replayed.out, "event\nclose\n") << replayed.err;
}

TEST_F(Sandbox, TcpinfoStreamsSweepsAndEnds) {
  const lab::Cgroup cgroup("tcpinfo-unit");
  start({TCPINFO_BINARY, "watch", "--format", "jsonl", "--cgroup", cgroup.path(), "--interval", "10ms", "--fields",
         "event,swept"},
        allowed_calls(service().at("SystemCallFilter")));
  if (!wait_for("out", "schema")) return;
  {
    const lab::InCgroup in(cgroup);
    const auto pair = lab::connected(lab::listen(Ip::kV4), Ip::kV4);
    wait_for("out", R"("event":"open")");
    wait_for("out", R"("event":"sample","swept":true)");
  }
  wait_for("out", R"("event":"close")");
  expect_orderly_end();
  EXPECT_THAT(read_text(files_ / "err"), HasSubstr(" 0 lost"));
}

TEST_F(Sandbox, OtherSourcesWorkToo) {
  const auto calls = allowed_calls(service().at("SystemCallFilter"));
  const lab::Cgroup cgroup("tcpinfo-unit");
  const lab::InCgroup in(cgroup);
  const auto pair = lab::connected(lab::listen(Ip::kV4), Ip::kV4);
  for (const auto* source : {"inet_diag", "iter"}) {
    SCOPED_TRACE(source);
    start({TCPINFO_BINARY, "watch", "--format", "csv", "--source", source, "--cgroup", cgroup.path(), "--fields",
           "source,event"},
          calls);
    wait_for("out", source + std::string(",sample\n"));
    expect_orderly_end();
  }
}

// The sandbox is one: what the unit does not list ends the program.
TEST_F(Sandbox, WithoutBpfInTheFilterItIsKilled) {
  auto calls = allowed_calls(service().at("SystemCallFilter"));
  ASSERT_EQ(calls.erase("bpf"), 1u);
  start({TCPINFO_BINARY, "watch", "--format", "jsonl", "--duration", "1s"}, calls);
  const int status = wait();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << status;
}

}  // namespace
