// SPDX-License-Identifier: BSD-2-Clause
// Owners against a /proc that the test writes, without the iterator.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <thread>

#include <fmt/format.h>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/error.hpp>
#include <tcpinfo/owner.hpp>
#include <tcpinfo/privileges.hpp>

#include "lru.hpp"
#include "records.hpp"
#include "system.hpp"

namespace {

using namespace std::chrono_literals;
using tcpinfo::Field;
using tcpinfo::Record;
namespace fs = std::filesystem;

TEST(Lru, ForgetsWhatWasNotFoundForLongest) {
  tcpinfo::detail::Lru<int, std::string> lru(2);
  EXPECT_EQ(lru.find(1), nullptr);
  lru.insert(1) = "one";
  lru.insert(2) = "two";
  EXPECT_EQ(*lru.find(1), "one");
  EXPECT_EQ(lru.insert(1), "one");
  EXPECT_EQ(lru.oldest(), "two");
  lru.insert(3) = "three";
  EXPECT_EQ(lru.find(2), nullptr);
  EXPECT_EQ(*lru.find(1), "one");
  EXPECT_EQ(*lru.find(3), "three");
  EXPECT_EQ(lru.size(), 2u);
}

class Owners : public testing::Test {
 protected:
  void SetUp() override {
    tcpinfo::sys::fault_hook = [](std::string_view step) noexcept { return step == "load holders" ? EPERM : 0; };
    std::string name = (fs::temp_directory_path() / "tcpinfo-proc-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    proc = name;
  }
  void TearDown() override {
    tcpinfo::sys::fault_hook = nullptr;
    fs::remove_all(proc);
  }

  void add_process(unsigned pid, const std::string& comm, std::uint64_t start_ticks,
                   std::vector<unsigned> inodes = {}) {
    const auto directory = proc / std::to_string(pid);
    fs::remove_all(directory);
    fs::create_directories(directory / "fd");
    std::ofstream(directory / "comm") << comm << '\n';
    std::ofstream(directory / "stat") << pid << " (" << comm << ") S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 "
                                      << start_ticks << " 23 24\n";
    fs::create_symlink("/usr/bin/" + comm, directory / "exe");
    fs::create_symlink("/dev/null", directory / "fd" / "0");
    for (unsigned fd = 3; const auto inode : inodes)
      fs::create_symlink(fmt::format("socket:[{}]", inode), directory / "fd" / std::to_string(fd++));
  }
  void remove_process(unsigned pid) { fs::remove_all(proc / std::to_string(pid)); }

  tcpinfo::OwnersOptions options() const {
    tcpinfo::OwnersOptions options;
    options.proc = proc;
    options.recheck = 1ns;
    options.walk_share = 1;
    return options;
  }
  static tcpinfo_record record(std::uint64_t cookie, std::uint64_t inode = 0) {
    auto raw = tcpinfo::make_record();
    tcpinfo::set_number(raw, Field::cookie, cookie);
    if (inode) tcpinfo::set_number(raw, Field::inode, inode);
    return raw;
  }
  static tcpinfo_record made_by(std::uint64_t cookie, unsigned pid, const std::string& comm, std::uint64_t time_ns) {
    auto raw = record(cookie);
    tcpinfo::set_number(raw, Field::pid, pid);
    tcpinfo::set_number(raw, Field::time_ns, time_ns);
    records::set_name(raw, Field::comm, comm);
    return raw;
  }
  static tcpinfo::Owner look(tcpinfo::Owners& owners, const tcpinfo_record& raw) {
    owners.find(Record(raw));
    EXPECT_FALSE(owners.refresh());
    const auto* owner = owners.find(Record(raw));
    EXPECT_TRUE(owner);
    return owner ? *owner : tcpinfo::Owner{};
  }

  const std::uint64_t tick_ns = 1'000'000'000u / static_cast<unsigned>(sysconf(_SC_CLK_TCK));
  fs::path proc;
};

TEST_F(Owners, AreFoundByTheInode) {
  add_process(10, "one", 100, {7, 8});
  add_process(11, "two words) (", 200, {9});
  tcpinfo::Owners owners(options());
  EXPECT_EQ(owners.find(Record(record(1, 8))), nullptr);
  EXPECT_EQ(owners.find(Record(record(2, 9))), nullptr);
  EXPECT_EQ(owners.find(Record(record(3, 99))), nullptr);
  EXPECT_FALSE(owners.refresh());
  const auto* first = owners.find(Record(record(1, 8)));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->pid, 10u);
  EXPECT_EQ(first->comm, "one");
  EXPECT_EQ(first->executable, "/usr/bin/one");
  EXPECT_EQ(first->holders, 1u);
  const auto* second = owners.find(Record(record(2, 9)));
  ASSERT_TRUE(second);
  EXPECT_EQ(second->pid, 11u);
  EXPECT_EQ(second->comm, "two words) (");
  const auto* nobody = owners.find(Record(record(3, 99)));
  ASSERT_TRUE(nobody);
  EXPECT_EQ(*nobody, tcpinfo::Owner{});
  const auto statistics = owners.statistics();
  EXPECT_EQ(statistics.unknown, 3u);
  EXPECT_EQ(statistics.hits, 3u);
  EXPECT_EQ(statistics.walks, 1u) << "one for all";
  EXPECT_EQ(statistics.remembered, 3u);
}

TEST_F(Owners, OfSeveralHoldersTheOldestIsNamedAndInitLast) {
  add_process(1, "systemd", 1, {7, 8});
  add_process(20, "helper", 300, {7});
  add_process(30, "server", 200, {7, 7});
  tcpinfo::Owners owners(options());
  const auto shared = look(owners, record(1, 7));
  EXPECT_EQ(shared.comm, "server");
  EXPECT_EQ(shared.holders, 3u);
  const auto of_init = look(owners, record(2, 8));
  EXPECT_EQ(of_init.comm, "systemd");
  EXPECT_EQ(of_init.holders, 1u);
}

TEST_F(Owners, AreLookedForAgain) {
  add_process(10, "old", 100, {7});
  tcpinfo::Owners owners(options());
  EXPECT_EQ(look(owners, record(1, 7)).pid, 10u);
  // passed on
  add_process(10, "old", 100);
  add_process(11, "new", 150, {7});
  EXPECT_EQ(look(owners, record(1, 7)).pid, 11u);
  // executes another file
  add_process(11, "newer", 150, {7});
  const auto after = look(owners, record(1, 7));
  EXPECT_EQ(after.comm, "newer");
  EXPECT_EQ(after.executable, "/usr/bin/newer");
  // gone: the last that is known
  remove_process(11);
  const auto last = look(owners, record(1, 7));
  EXPECT_EQ(last.pid, 11u);
  EXPECT_EQ(last.executable, "/usr/bin/newer");
  EXPECT_EQ(last.holders, 0u);
}

TEST_F(Owners, AreNotLookedForAgainBeforeTheTime) {
  auto wanted = options();
  wanted.recheck = 1h;
  add_process(10, "old", 100, {7});
  tcpinfo::Owners owners(wanted);
  look(owners, record(1, 7));
  add_process(10, "new", 100, {7});
  EXPECT_EQ(look(owners, record(1, 7)).comm, "old");
  EXPECT_EQ(owners.statistics().walks, 1u);
}

// What is known without a look at all open files is there at once.
TEST_F(Owners, AreLookedForDuringAShareOfTheTime) {
  auto wanted = options();
  wanted.walk_share = 1e-9;
  add_process(10, "one", 100, {7, 8});
  tcpinfo::Owners owners(wanted);
  EXPECT_EQ(look(owners, record(1, 7)).pid, 10u);
  auto another = made_by(2, 10, "one", 100 * tick_ns);
  tcpinfo::set_number(another, Field::inode, 8);
  const auto maker = look(owners, another);
  EXPECT_EQ(maker.pid, 10u);
  EXPECT_EQ(maker.executable, "/usr/bin/one");
  EXPECT_EQ(maker.holders, 0u) << "not looked for";
  EXPECT_EQ(look(owners, record(1, 7)).holders, 1u) << "as it was";
  EXPECT_EQ(owners.statistics().walks, 1u);
}

TEST_F(Owners, APidThatWasGivenAgainIsAnotherProcess) {
  add_process(10, "old", 100, {7});
  tcpinfo::Owners owners(options());
  look(owners, record(1, 7));
  add_process(10, "other", 900);
  const auto owner = look(owners, record(1, 7));
  EXPECT_EQ(owner.comm, "old");
  EXPECT_EQ(owner.executable, "/usr/bin/old") << "that of the process which held it";
}

TEST_F(Owners, TheMakerIsNamedWhereNobodyHoldsIt) {
  add_process(10, "client", 100);
  tcpinfo::Owners owners(options());
  const auto maker = look(owners, made_by(1, 10, "client", 100 * tick_ns));
  EXPECT_EQ(maker.pid, 10u);
  EXPECT_EQ(maker.comm, "client");
  EXPECT_EQ(maker.executable, "/usr/bin/client");
  EXPECT_EQ(maker.holders, 0u);

  // It has ended, and its pid is another's: one that began later, or is called otherwise.
  const auto later = look(owners, made_by(2, 10, "client", 100 * tick_ns - 1));
  EXPECT_EQ(later.comm, "client");
  EXPECT_EQ(later.executable, "");
  const auto otherwise = look(owners, made_by(3, 10, "other", 500 * tick_ns));
  EXPECT_EQ(otherwise.comm, "other");
  EXPECT_EQ(otherwise.executable, "");
  remove_process(10);
  const auto gone = look(owners, made_by(4, 10, "client", 100 * tick_ns));
  EXPECT_EQ(gone.pid, 10u);
  EXPECT_EQ(gone.executable, "");
}

TEST_F(Owners, TheHolderReplacesTheMaker) {
  add_process(10, "master", 100);
  tcpinfo::Owners owners(options());
  auto opened = made_by(1, 10, "master", 200 * tick_ns);
  EXPECT_EQ(look(owners, opened).comm, "master");
  add_process(11, "worker", 150, {7});
  tcpinfo::set_number(opened, Field::inode, 7);
  const auto owner = look(owners, opened);
  EXPECT_EQ(owner.pid, 11u);
  EXPECT_EQ(owner.holders, 1u);
}

TEST_F(Owners, RememberNoMoreThanTheyMay) {
  auto wanted = options();
  wanted.capacity = 3;
  add_process(10, "one", 100, {7});
  tcpinfo::Owners owners(wanted);
  for (std::uint64_t cookie = 1; cookie <= 10; ++cookie) owners.find(Record(record(cookie, 7)));
  EXPECT_EQ(owners.statistics().evicted, 7u);
  EXPECT_EQ(owners.statistics().remembered, 3u);
  EXPECT_FALSE(owners.refresh());
  EXPECT_EQ(owners.find(Record(record(9, 7)))->pid, 10u);
  EXPECT_EQ(owners.find(Record(record(1, 7))), nullptr);
  EXPECT_EQ(look(owners, record(1, 7)).pid, 10u);
}

TEST_F(Owners, AGenerationIsAConnectionOfItsOwn) {
  add_process(10, "one", 100, {7});
  tcpinfo::Owners owners(options());
  auto raw = record(1, 7);
  look(owners, raw);
  tcpinfo::set_number(raw, Field::generation, 1);
  EXPECT_EQ(owners.find(Record(raw)), nullptr);
}

TEST_F(Owners, WithoutACookieThereIsNone) {
  tcpinfo::Owners owners(options());
  const auto gap = tcpinfo::make_record();
  EXPECT_EQ(owners.find(Record(gap)), nullptr);
  EXPECT_EQ(owners.statistics().remembered, 0u);
}

TEST_F(Owners, AnErrorLeavesWhatIsKnown) {
  add_process(10, "one", 100, {7});
  tcpinfo::Owners owners(options());
  look(owners, record(1, 7));
  owners.find(Record(record(1, 7)));
  owners.find(Record(record(2, 7)));
  fs::rename(proc, proc.string() + ".away");
  EXPECT_EQ(owners.refresh(), std::errc::no_such_file_or_directory);
  EXPECT_EQ(owners.find(Record(record(1, 7)))->pid, 10u);
  EXPECT_EQ(owners.find(Record(record(2, 7))), nullptr);
  fs::rename(proc.string() + ".away", proc);
  EXPECT_FALSE(owners.refresh());
  EXPECT_EQ(owners.find(Record(record(2, 7)))->pid, 10u);
}

// While this process or the host is short of something.
TEST_F(Owners, DoNotRememberThatTheyCouldNotLook) {
  fs::path mount;
  try {
    mount = tcpinfo::cgroup2_mount();
  } catch (const tcpinfo::Error& error) {
    GTEST_SKIP() << error.what();
  }
  add_process(10, "client", 100);
  tcpinfo::Owners owners(options());
  auto opened = made_by(1, 10, "client", 100 * tick_ns);
  tcpinfo::set_number(opened, Field::cgroup_id, tcpinfo::cgroup_id(mount));
  tcpinfo::sys::fault_hook = [](std::string_view) noexcept { return EMFILE; };
  const auto short_of_files = look(owners, opened);
  EXPECT_EQ(short_of_files.comm, "client");
  EXPECT_EQ(short_of_files.executable, "");
  EXPECT_EQ(short_of_files.cgroup, "");
  tcpinfo::sys::fault_hook = nullptr;
  const auto later = look(owners, opened);
  EXPECT_EQ(later.executable, "/usr/bin/client");
  EXPECT_EQ(later.cgroup, "/");
}

TEST_F(Owners, SayWhatTheyCannot) {
  const auto capabilities = tcpinfo::Owners(options()).capabilities();
  ASSERT_EQ(capabilities.size(), 3u);
  EXPECT_EQ(capabilities[0].name, "holders");
  EXPECT_FALSE(capabilities[0].available);
  EXPECT_THAT(capabilities[0].detail, testing::HasSubstr("needs CAP_BPF and CAP_PERFMON"));
  EXPECT_EQ(capabilities[1].name, "executables");
  EXPECT_EQ(capabilities[1].available, tcpinfo::Privileges::effective().contains(tcpinfo::Privilege::kSysPtrace));
}

TEST_F(Owners, RefuseWhatMakesNoSense) {
  auto wanted = options();
  wanted.capacity = 0;
  EXPECT_THROW(tcpinfo::Owners{wanted}, tcpinfo::Error);
  wanted = options();
  wanted.recheck = 0ns;
  EXPECT_THROW(tcpinfo::Owners{wanted}, tcpinfo::Error);
  for (const double share : {0.0, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    wanted = options();
    wanted.walk_share = share;
    EXPECT_THROW(tcpinfo::Owners{wanted}, tcpinfo::Error);
  }
  wanted = options();
  wanted.cgroup = "/tmp";
  EXPECT_THROW(tcpinfo::Owners{wanted}, tcpinfo::Error);
}

}  // namespace
