// SPDX-License-Identifier: BSD-2-Clause
// Cgroups by process and by unit, and those of one's own, on the real hierarchy.
#include <tcpinfo/cgroup.hpp>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <thread>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "requirements.hpp"

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using tcpinfo::cgroup_of_process;
using tcpinfo::cgroup_of_unit;
using tcpinfo::TransientCgroup;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

lab::Process sleeper(const lab::Cgroup* cgroup = nullptr) {
  return lab::Process({.command = {"sleep", "60"}, .cgroup = cgroup});
}

// What it throws, with its sentence.
struct Thrown {
  std::error_code code;
  std::string text;
};
Thrown thrown_by(const std::function<void()>& function) {
  try {
    function();
  } catch (const tcpinfo::Error& error) {
    return {error.code(), error.what()};
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

// Runs `function` in a process of its own and gives what it returns.
int in_child(const std::function<int()>& function) {
  const pid_t pid = fork();
  if (pid == 0) {
    int result = 99;
    try {
      result = function();
    } catch (const std::exception& error) {
      fprintf(stderr, "%s\n", error.what());
    }
    _exit(result);
  }
  int status = 0;
  lab::check(waitpid(pid, &status, 0), "waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(CgroupOfProcess, IsWhereItIsNow) {
  const lab::Cgroup first("of"), second("of", first.path());
  const auto process = sleeper(&first);
  EXPECT_EQ(cgroup_of_process(process.pid()), first.path());
  second.enter(process.pid());
  EXPECT_EQ(cgroup_of_process(process.pid()), second.path());
  const lab::InCgroup inside(second);
  EXPECT_EQ(cgroup_of_process(getpid()), second.path());
  EXPECT_EQ(tcpinfo::own_cgroup(), second.path());
}

TEST(CgroupOfProcess, SaysThatThereIsNone) {
  auto process = sleeper();
  const pid_t pid = process.pid();
  process.signal(SIGKILL);
  ASSERT_TRUE(process.wait(10s));
  for (const pid_t gone : {pid, 0, -1}) {
    const auto error = thrown_by([gone] { cgroup_of_process(gone); });
    EXPECT_EQ(error.code, std::errc::no_such_process) << gone;
    EXPECT_THAT(error.text, HasSubstr("process " + std::to_string(gone)));
  }
}

TEST(CgroupOfProcess, OutsideTheNamespaceItIsNotVisible) {
  const lab::Cgroup outside("of"), inside("of");
  const auto process = sleeper(&outside);
  EXPECT_EQ(in_child([&] {
              inside.enter();
              lab::check(unshare(CLONE_NEWCGROUP | CLONE_NEWNS), "unshare");
              lab::check(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make mounts private");
              lab::check(mount("none", "/mnt", "cgroup2", 0, nullptr), "mount cgroup2");
              // The mount of the host is there, and shows it.
              if (cgroup_of_process(process.pid()) != outside.path()) return 1;
              lab::check(umount2(tcpinfo::cgroup2_mount().c_str(), MNT_DETACH), "umount");
              if (tcpinfo::own_cgroup() != "/mnt") return 2;
              const auto error = thrown_by([&] { cgroup_of_process(process.pid()); });
              if (error.code != tcpinfo::Errc::kCgroupNotVisible) return 3;
              return error.text.find("/../" + outside.path().filename().string()) != std::string::npos ? 0 : 4;
            }),
            0);
}

TEST(CgroupOfUnit, IsFoundAtAnyDepthWithoutItsEnding) {
  const lab::Cgroup root("units");
  const auto service = root.path() / "system.slice" / "web.slice" / "web-shop.service";
  fs::create_directories(service);
  fs::create_directories(root.path() / "system.slice" / "shop.socket");
  fs::create_directories(root.path() / "system.slice" / "system-getty.slice" / "getty@tty1.service");
  EXPECT_EQ(cgroup_of_unit("web-shop.service", root.path()), service);
  EXPECT_EQ(cgroup_of_unit("web-shop", root.path()), service);
  EXPECT_EQ(cgroup_of_unit("web.slice", root.path()), service.parent_path());
  EXPECT_EQ(cgroup_of_unit("shop.socket", root.path()), root.path() / "system.slice" / "shop.socket");
  EXPECT_EQ(cgroup_of_unit("getty@.service", root.path()).filename(), "getty@tty1.service");
  EXPECT_EQ(cgroup_of_unit("getty@tty1", root.path()).filename(), "getty@tty1.service");
}

TEST(CgroupOfUnit, SeveralAreListed) {
  const lab::Cgroup root("units");
  const auto system = root.path() / "system.slice" / "dbus.service";
  const auto user = root.path() / "user.slice" / "user-1000.slice" / "user@1000.service" / "dbus.service";
  fs::create_directories(system);
  fs::create_directories(user);
  const auto error = thrown_by([&] { cgroup_of_unit("dbus", root.path()); });
  EXPECT_EQ(error.code, tcpinfo::Errc::kAmbiguousUnit);
  EXPECT_THAT(error.text, AllOf(HasSubstr(system.string()), HasSubstr(user.string())));
}

TEST(CgroupOfUnit, WhatIsNotThereIsNamedWithWhatIsLikeIt) {
  const lab::Cgroup root("units");
  fs::create_directories(root.path() / "system.slice" / "nginx@a.service");
  auto error = thrown_by([&] { cgroup_of_unit("nginx", root.path()); });
  EXPECT_EQ(error.code, std::errc::no_such_file_or_directory);
  EXPECT_THAT(error.text, AllOf(HasSubstr("nginx.service"), HasSubstr("nginx@a.service")));
  error = thrown_by([&] { cgroup_of_unit("apache", root.path()); });
  EXPECT_THAT(error.text, AllOf(HasSubstr("systemctl status apache.service"), Not(HasSubstr("nginx"))));
  for (const char* name : {"", "system.slice/nginx", "."})
    EXPECT_EQ(thrown_by([&] { cgroup_of_unit(name, root.path()); }).code, tcpinfo::Errc::kInvalidOption) << name;
}

TEST(TransientCgroup, LivesAsLongAsItsOwnerWithWhatIsBelow) {
  const lab::Cgroup parent("transient");
  fs::path path;
  {
    const TransientCgroup cgroup("tcpinfo", parent.path());
    path = cgroup.path();
    EXPECT_EQ(path.parent_path(), parent.path());
    EXPECT_EQ(path.filename(), "tcpinfo-" + std::to_string(getpid()) + "-0");
    EXPECT_FALSE(cgroup.populated());
    fs::create_directories(path / "left" / "behind");
    const TransientCgroup second("tcpinfo", parent.path());
    EXPECT_EQ(second.path().filename(), "tcpinfo-" + std::to_string(getpid()) + "-1");
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(TransientCgroup, IsBelowItsOwnersCgroup) {
  const lab::Cgroup parent("transient");
  const lab::InCgroup inside(parent);
  const TransientCgroup cgroup;
  EXPECT_EQ(cgroup.path().parent_path(), parent.path());
}

TEST(TransientCgroup, StaysWhileProcessesAreInIt) {
  const lab::Cgroup parent("transient");
  TransientCgroup cgroup("tcpinfo", parent.path());
  auto process = sleeper();
  cgroup.enter(process.pid());
  EXPECT_TRUE(cgroup.populated());
  EXPECT_THAT(tcpinfo::cgroup_processes(cgroup.path()), ElementsAre(process.pid()));
  EXPECT_EQ(cgroup.remove(), std::errc::device_or_resource_busy);
  EXPECT_TRUE(fs::exists(cgroup.path()));
  process.signal(SIGKILL);
  ASSERT_TRUE(process.wait(10s));
  EXPECT_FALSE(cgroup.remove());
  EXPECT_FALSE(fs::exists(cgroup.path()));
  EXPECT_FALSE(cgroup.remove());
}

TEST(TransientCgroup, ProcessesBelowCount) {
  const lab::Cgroup parent("transient");
  TransientCgroup cgroup("tcpinfo", parent.path());
  const lab::Cgroup below("below", cgroup.path());
  const auto process = sleeper(&below);
  EXPECT_THAT(tcpinfo::cgroup_processes(cgroup.path()), ElementsAre(process.pid()));
  EXPECT_TRUE(cgroup.populated());
  EXPECT_EQ(cgroup.remove(), std::errc::device_or_resource_busy);
}

TEST(TransientCgroup, RemovedByOthersIsNoError) {
  const lab::Cgroup parent("transient");
  TransientCgroup cgroup("tcpinfo", parent.path());
  fs::remove(cgroup.path());
  EXPECT_FALSE(cgroup.remove());
  EXPECT_FALSE(cgroup.populated());
}

TEST(TransientCgroup, AForkDoesNotOwnIt) {
  const lab::Cgroup parent("transient");
  TransientCgroup cgroup("tcpinfo", parent.path());
  EXPECT_EQ(in_child([&] {
              TransientCgroup taken = std::move(cgroup);
              return taken.remove() ? 1 : 0;
            }),
            0);
  EXPECT_TRUE(fs::exists(cgroup.path()));
}

TEST(TransientCgroup, MovesWithItsOwner) {
  const lab::Cgroup parent("transient");
  TransientCgroup first("tcpinfo", parent.path()), second("tcpinfo", parent.path());
  const auto first_path = first.path(), second_path = second.path();
  first = std::move(second);
  EXPECT_FALSE(fs::exists(first_path));
  EXPECT_TRUE(fs::exists(second_path));
  EXPECT_EQ(first.path(), second_path);
}

TEST(TransientCgroup, SaysWhereItCannotBe) {
  const lab::Cgroup parent("transient");
  auto error = thrown_by([] { TransientCgroup("tcpinfo", "/tmp"); });
  EXPECT_EQ(error.code, tcpinfo::Errc::kNotCgroup2);
  error = thrown_by([&] { TransientCgroup("tcpinfo", parent.path() / "none"); });
  EXPECT_EQ(error.code, std::errc::no_such_file_or_directory);
  lab::check(chmod(parent.path().c_str(), 0755), "chmod");
  EXPECT_EQ(in_child([&] {
              lab::check(setresuid(65534, 65534, 65534), "setresuid");
              const auto refused = thrown_by([&] { TransientCgroup("tcpinfo", parent.path()); });
              return refused.code == std::errc::permission_denied &&
                             refused.text.find(parent.path().string()) != std::string::npos &&
                             refused.text.find("delegated") != std::string::npos
                         ? 0
                         : 1;
            }),
            0);
}

TEST(TransientCgroup, OfAThreadedParentIsRefusedAndNotLeftBehind) {
  const lab::Cgroup parent("transient"), threaded("threaded", parent.path());
  const int fd = open((threaded.path() / "cgroup.type").c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_EQ(write(fd, "threaded", 8), 8);
  close(fd);
  const auto error = thrown_by([&] { TransientCgroup("tcpinfo", threaded.path()); });
  EXPECT_EQ(error.code, std::errc::operation_not_supported);
  EXPECT_THAT(error.text, HasSubstr("threaded subtree"));
  EXPECT_TRUE(tcpinfo::cgroup_processes(threaded.path()).empty());
  for (const auto& entry : fs::directory_iterator(threaded.path())) EXPECT_FALSE(entry.is_directory()) << entry.path();
}

TEST(TransientCgroup, RemoveStaleLeavesWhatIsOwnedOrInUse) {
  const lab::Cgroup parent("stale");
  const TransientCgroup owned("tcpinfo", parent.path());
  // Its owner is gone and nothing cleaned up after it.
  const auto abandoned = [&](bool in_use) {
    int ends[2];
    lab::check(pipe(ends), "pipe");
    const int result = in_child([&] {
      auto* const cgroup = new TransientCgroup("tcpinfo", parent.path());
      fs::create_directory(cgroup->path() / "below");
      const auto path = cgroup->path().string();
      lab::check(static_cast<int>(write(ends[1], path.data(), path.size())), "write");
      return 0;
    });
    EXPECT_EQ(result, 0);
    std::string path(4096, '\0');
    path.resize(static_cast<std::size_t>(read(ends[0], path.data(), path.size())));
    close(ends[0]);
    close(ends[1]);
    EXPECT_TRUE(fs::exists(path)) << in_use;
    return fs::path(path);
  };
  const auto empty = abandoned(false), busy = abandoned(true);
  ASSERT_NE(empty, busy);
  auto process = sleeper();
  {
    std::ofstream procs(busy / "cgroup.procs");
    procs << process.pid() << std::flush;
    ASSERT_TRUE(procs.good());
  }
  for (const char* other : {"tcpinfo-run-1-0", "tcpinfo-1", "tcpinfo-1-0-1", "other-1-0", "tcpinfo--0"})
    fs::create_directory(parent.path() / other);
  EXPECT_EQ(TransientCgroup::remove_stale("tcpinfo", parent.path()), 1u);
  EXPECT_FALSE(fs::exists(empty));
  EXPECT_TRUE(fs::exists(busy));
  EXPECT_TRUE(fs::exists(owned.path()));
  for (const char* other : {"tcpinfo-run-1-0", "tcpinfo-1", "tcpinfo-1-0-1", "other-1-0", "tcpinfo--0"})
    EXPECT_TRUE(fs::exists(parent.path() / other)) << other;
  process.signal(SIGKILL);
  ASSERT_TRUE(process.wait(10s));
  EXPECT_EQ(TransientCgroup::remove_stale("tcpinfo", parent.path()), 1u);
}

// What a source says while it is driven until `done`, and its records.
struct Driven {
  std::vector<std::error_code> errors;
  std::vector<tcpinfo_record> records;

  std::size_t count(tcpinfo::Event event) const {
    return static_cast<std::size_t>(std::ranges::count_if(records, [event](const tcpinfo_record& record) {
      return tcpinfo::Record(record).event() == static_cast<std::uint8_t>(event);
    }));
  }
};

bool drive(tcpinfo::Source& source, Driven& driven, std::chrono::milliseconds time, const std::function<bool()>& done) {
  using Clock = tcpinfo::Source::Clock;
  for (const auto end = Clock::now() + time; !done();) {
    if (Clock::now() >= end) return false;
    const auto due = std::min(end, source.next_deadline().value_or(end));
    pollfd readable{source.descriptor(), POLLIN, 0};
    poll(&readable, 1,
         static_cast<int>(
             std::max<std::int64_t>(std::chrono::ceil<std::chrono::milliseconds>(due - Clock::now()).count(), 0)));
    if (const auto error = source.tick(Clock::now())) driven.errors.push_back(error);
    source.drain([&](const tcpinfo::Record& record) { driven.records.push_back(record.raw()); });
  }
  return true;
}

class CgroupSources : public testing::Test {
 protected:
  void SetUp() override { TCPINFO_NEEDS_BPF(); }

  tcpinfo::SockopsOptions options(const fs::path& cgroup) const {
    tcpinfo::SockopsOptions options;
    options.cgroup = cgroup;
    options.mode = tcpinfo::Mode::kClose;
    options.latency = 5ms;
    return options;
  }
};

TEST_F(CgroupSources, CgroupsMadeBelowWhileAttachedAreFollowed) {
  const lab::Cgroup cgroup("attached");
  tcpinfo::SockopsSource source(options(cgroup.path()));
  Driven driven;
  std::vector<std::uint64_t> made;
  for (int i = 0; i < 3; ++i) {
    const lab::Cgroup child("child", cgroup.path()), grandchild("grandchild", child.path());
    made.push_back(tcpinfo::cgroup_id(grandchild.path()));
    const lab::InCgroup inside(grandchild);
    const auto listener = lab::listen(lab::Ip::kV4);
    lab::connected(listener, lab::Ip::kV4);
  }
  ASSERT_TRUE(drive(source, driven, 10s, [&] { return driven.records.size() >= 6; }));
  EXPECT_THAT(driven.errors, IsEmpty());
  std::vector<std::uint64_t> seen;
  for (const auto& record : driven.records) seen.push_back(record.cgroup_id);
  for (const auto id : made) EXPECT_EQ(std::ranges::count(seen, id), 2) << id;
}

TEST_F(CgroupSources, TheAttachedOneRemovedIsSaidOnce) {
  const lab::Cgroup parent("parent");
  const auto path = parent.path() / "leaf";
  fs::create_directory(path);
  tcpinfo::SockopsSource source(options(path));
  Driven driven;
  ASSERT_FALSE(drive(source, driven, 100ms, [&] { return !driven.errors.empty(); }));
  // A neighbour's end is none of it.
  fs::create_directory(parent.path() / "other");
  fs::remove(parent.path() / "other");
  ASSERT_FALSE(drive(source, driven, 100ms, [&] { return !driven.errors.empty(); }));
  pollfd readable{source.descriptor(), POLLIN, 0};
  EXPECT_EQ(::poll(&readable, 1, 0), 0);
  fs::remove(path);
  EXPECT_EQ(::poll(&readable, 1, 10'000), 1) << "the descriptor tells";
  fs::create_directory(path);  // the same name is not the same cgroup
  ASSERT_TRUE(drive(source, driven, 10s, [&] { return !driven.errors.empty(); }));
  EXPECT_EQ(driven.errors[0], tcpinfo::Errc::kCgroupGone);
  ASSERT_FALSE(drive(source, driven, 100ms, [&] { return driven.errors.size() > 1; }));
  EXPECT_FALSE(source.next_deadline()) << "nothing is due any more";
}

TEST_F(CgroupSources, SocketsOfARemovedOneAreFollowedToTheirEnd) {
  const lab::Cgroup parent("parent");
  const auto path = parent.path() / "leaf";
  fs::create_directory(path);
  tcpinfo::SockopsSource source(options(path));
  const auto listener = lab::listen(lab::Ip::kV4);
  lab::Socket client;
  {
    const lab::InCgroup inside(path);
    client = lab::Socket(lab::Ip::kV4);
  }
  lab::connect(client, lab::Ip::kV4, listener.local_port());
  auto server = lab::accept(listener);
  fs::remove(path);
  Driven driven;
  ASSERT_FALSE(drive(source, driven, 300ms, [&] { return !driven.errors.empty(); })) << driven.errors[0].message();
  client.send(77);
  server.receive(77);
  client.close();
  server.close();
  ASSERT_TRUE(drive(source, driven, 10s, [&] { return !driven.errors.empty(); }));
  EXPECT_EQ(driven.errors[0], tcpinfo::Errc::kCgroupGone);
  ASSERT_EQ(driven.count(tcpinfo::Event::kClose), 1u);
  EXPECT_EQ(tcpinfo::Record(driven.records.back()).bytes_sent(), 77u);
}

TEST(CgroupSurvey, TellsWhatBelongsElsewhere) {
  const lab::Cgroup home("home"), other("other"), third("third");
  // A child that has what it was given before it moved, and makes more afterwards.
  int ready[2], end[2];
  lab::check(pipe(ready), "pipe");
  lab::check(pipe(end), "pipe");
  const pid_t child = fork();
  if (child == 0) {
    other.enter();
    const auto listener = lab::listen(lab::Ip::kV4);
    const auto pair = lab::connected(listener, lab::Ip::kV4);
    third.enter();
    const auto second = lab::listen(lab::Ip::kV6);
    home.enter();
    const auto mine = lab::listen(lab::Ip::kV4);
    const auto accepted = lab::connected(mine, lab::Ip::kV4);
    lab::check(static_cast<int>(write(ready[1], "x", 1)), "write");
    close(end[1]);
    char byte;
    [[maybe_unused]] const auto got = read(end[0], &byte, 1);
    _exit(0);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);

  const auto survey = tcpinfo::survey_cgroup(home.path());
  EXPECT_EQ(survey.processes, 1u);
  EXPECT_EQ(survey.not_examined, 0u);
  EXPECT_EQ(survey.sockets, 3u);
  ASSERT_EQ(survey.elsewhere.size(), 2u);
  EXPECT_EQ(survey.elsewhere[0].cgroup, other.path());
  EXPECT_EQ(survey.elsewhere[0].cgroup_id, tcpinfo::cgroup_id(other.path()));
  EXPECT_EQ(survey.elsewhere[0].sockets, 3u);
  EXPECT_EQ(survey.elsewhere[0].listeners, 1u);
  EXPECT_EQ(survey.elsewhere[0].processes, 1u);
  EXPECT_EQ(survey.elsewhere[1].cgroup, third.path());
  EXPECT_EQ(survey.elsewhere[1].sockets, 1u);
  EXPECT_EQ(survey.elsewhere[1].listeners, 1u);

  const auto bounded = tcpinfo::survey_cgroup(home.path(), 0);
  EXPECT_EQ(bounded.processes, 1u);
  EXPECT_EQ(bounded.not_examined, 1u);
  EXPECT_THAT(bounded.elsewhere, IsEmpty());
  // Nothing of them is in the others.
  EXPECT_EQ(tcpinfo::survey_cgroup(other.path()).processes, 0u);

  close(end[1]);
  lab::check(waitpid(child, nullptr, 0), "waitpid");
  for (const int fd : {ready[0], ready[1], end[0]}) close(fd);
}

TEST(CgroupSurvey, LooksIntoOtherNetworkNamespacesAndSaysWhereItMayNot) {
  const lab::Cgroup home("home"), other("other");
  const lab::Netns netns("survey");
  int ready[2], end[2];
  lab::check(pipe(ready), "pipe");
  lab::check(pipe(end), "pipe");
  const pid_t child = fork();
  if (child == 0) {
    other.enter();
    netns.run([&] {
      const auto listener = lab::listen(lab::Ip::kV4);
      home.enter();
      lab::check(static_cast<int>(write(ready[1], "x", 1)), "write");
      close(end[1]);
      char byte;
      [[maybe_unused]] const auto got = read(end[0], &byte, 1);
    });
    _exit(0);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  const auto survey = tcpinfo::survey_cgroup(home.path());
  EXPECT_EQ(survey.not_examined, 0u);
  ASSERT_EQ(survey.elsewhere.size(), 1u);
  EXPECT_EQ(survey.elsewhere[0].listeners, 1u);
  EXPECT_EQ(
      in_child([&] {
        lab::check(setresuid(65534, 65534, 65534), "setresuid");
        const auto unprivileged = tcpinfo::survey_cgroup(home.path());
        return unprivileged.processes == 1 && unprivileged.not_examined == 1 && unprivileged.elsewhere.empty() ? 0 : 1;
      }),
      0);
  close(end[1]);
  lab::check(waitpid(child, nullptr, 0), "waitpid");
  for (const int fd : {ready[0], ready[1], end[0]}) close(fd);
}

}  // namespace
