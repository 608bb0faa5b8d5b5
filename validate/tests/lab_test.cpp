// SPDX-License-Identifier: BSD-2-Clause
#include "lab/lab.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <fcntl.h>
#include <net/if.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/error.hpp>

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::HasSubstr;

std::string contents(const fs::path& path) {
  std::stringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

std::string cgroup_line(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/cgroup");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("0::")) return line.substr(3);
  return {};
}

ino_t netns_of(const fs::path& file) {
  struct stat status {};
  return stat(file.c_str(), &status) == 0 ? status.st_ino : 0;
}

class Directory {
 public:
  Directory() {
    char name[] = "/tmp/lab-test-XXXXXX";
    path = mkdtemp(name);
  }
  ~Directory() { fs::remove_all(path); }
  fs::path path;
};

class Lab : public testing::Test {
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
  }
};

TEST_F(Lab, CgroupIsGoneAfterwardsWithItsChildrenAndKeepsNoProcess) {
  fs::path path;
  lab::Process sleeper({.command = {"sleep", "60"}});
  {
    const lab::Cgroup cgroup("lab-test");
    path = cgroup.path();
    const lab::Cgroup child("inner", path);
    EXPECT_EQ(child.path().parent_path(), path);
    fs::create_directory(path / "made-by-others");
    child.enter(sleeper.pid());
    EXPECT_EQ(tcpinfo::cgroup2_mount() / cgroup_line(sleeper.pid()).substr(1), child.path());
    lab::Cgroup moved("lab-test");
    const auto moved_path = moved.path();
    { const lab::Cgroup taken(std::move(moved)); }
    EXPECT_FALSE(fs::exists(moved_path));
  }
  EXPECT_FALSE(fs::exists(path));
  EXPECT_EQ(tcpinfo::cgroup2_mount() / cgroup_line(sleeper.pid()).substr(1), path.parent_path() / "");
}

TEST_F(Lab, InCgroupComesBack) {
  const auto before = tcpinfo::own_cgroup();
  const lab::Cgroup cgroup("lab-test");
  {
    const lab::InCgroup in(cgroup);
    EXPECT_EQ(tcpinfo::own_cgroup(), cgroup.path());
  }
  EXPECT_EQ(tcpinfo::own_cgroup(), before);
}

TEST_F(Lab, NetnsIsNamedAndGoneAfterwards) {
  fs::path path;
  const auto ours = netns_of("/proc/self/ns/net");
  {
    const lab::Netns netns("lab-test");
    path = netns.path();
    const auto theirs = netns_of(path);
    EXPECT_NE(theirs, ours);
    netns.run([&] {
      EXPECT_EQ(netns_of("/proc/thread-self/ns/net"), theirs);
      EXPECT_EQ(if_nametoindex("lo"), 1u);
    });
    EXPECT_THROW(netns.run([] { throw std::runtime_error("inside"); }), std::runtime_error);
    EXPECT_EQ(netns_of("/proc/thread-self/ns/net"), ours);
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(Lab, LinkCarriesBothFamilies) {
  const lab::Netns a("lab-a"), b("lab-b");
  lab::link(a, b, {.rate_mbit = 100});
  const Directory directory;
  lab::Process show(
      {.command = {"tc", "-s", "qdisc", "show", "dev", "veth0"}, .netns = &b, .stdout_file = directory.path / "out"});
  EXPECT_EQ(show.wait(5s), 0);
  EXPECT_THAT(contents(directory.path / "out"), HasSubstr("tbf"));
  EXPECT_THAT(contents(directory.path / "out"), HasSubstr("rate 100Mbit"));
  lab::Process addresses(
      {.command = {"ip", "-o", "address", "show", "dev", "veth0"}, .netns = &b, .stdout_file = directory.path / "out"});
  EXPECT_EQ(addresses.wait(5s), 0);
  EXPECT_THAT(contents(directory.path / "out"), HasSubstr("10.77.0.2/24"));
  EXPECT_THAT(contents(directory.path / "out"), HasSubstr("fd77::2/64"));
}

TEST_F(Lab, FailureOfACommandSaysWhatItPrinted) {
  const lab::Netns a("lab-a"), b("lab-b");
  lab::link(a, b);
  try {
    lab::link(a, b);
    FAIL() << "a second link of the same name";
  } catch (const tcpinfo::Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("ip link add veth0"));
    EXPECT_THAT(error.what(), HasSubstr("File exists"));
  }
}

TEST_F(Lab, ProcessIsBornInsideItsCgroupAndNamespace) {
  const lab::Cgroup cgroup("lab-test");
  const lab::Netns netns("lab-test");
  const Directory directory;
  lab::Process process(
      {.command = {"sh", "-c", "cat /proc/self/cgroup; readlink /proc/self/ns/net; echo seen >&2; exit 3"},
       .cgroup = &cgroup,
       .netns = &netns,
       .stdout_file = directory.path / "out",
       .stderr_file = directory.path / "err"});
  const auto status = process.wait(5s);
  ASSERT_TRUE(status);
  EXPECT_TRUE(WIFEXITED(*status));
  EXPECT_EQ(WEXITSTATUS(*status), 3);
  EXPECT_THAT(contents(directory.path / "out"), HasSubstr("0::/" + cgroup.path().filename().string() + "\n"));
  EXPECT_THAT(contents(directory.path / "out"), HasSubstr("net:[" + std::to_string(netns_of(netns.path())) + "]"));
  EXPECT_EQ(contents(directory.path / "err"), "seen\n");
}

TEST_F(Lab, ProcessThatCannotStartThrowsAndLeavesNoChild) {
  EXPECT_THROW(
      {
        try {
          lab::Process({.command = {"no-such-program-anywhere"}});
        } catch (const tcpinfo::Error& error) {
          EXPECT_EQ(error.code(), std::errc::no_such_file_or_directory);
          EXPECT_THAT(error.what(), HasSubstr("no-such-program-anywhere"));
          throw;
        }
      },
      tcpinfo::Error);
  EXPECT_THROW(lab::Process({.command = {"true"}, .stdout_file = "/nonexistent/file"}), tcpinfo::Error);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST_F(Lab, ProcessEndsWithItsObjectAlsoWhenItIgnoresSigterm) {
  pid_t pid = -1;
  const auto begin = std::chrono::steady_clock::now();
  {
    const Directory directory;
    lab::Process process({.command = {"sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"},
                          .stdout_file = directory.path / "out"});
    EXPECT_FALSE(process.wait(1ms));
    while (contents(directory.path / "out").empty()) usleep(1000);
    pid = process.pid();
  }
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 6s);
}

TEST_F(Lab, ProcessDiesWithItsParent) {
  // The orphan becomes our child, so that we learn how it ended.
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    lab::Process child({.command = {"sleep", "60"}});
    const pid_t pid = child.pid();
    if (write(ends[1], &pid, sizeof(pid)) != sizeof(pid)) _exit(1);
    raise(SIGKILL);
  }
  pid_t child = -1;
  ASSERT_EQ(read(ends[0], &child, sizeof(child)), static_cast<ssize_t>(sizeof(child)));
  ASSERT_EQ(waitpid(parent, nullptr, 0), parent);
  int status = 0;
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);  // it did not sleep to its end
  ASSERT_EQ(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
