// SPDX-License-Identifier: BSD-2-Clause
// Who a socket belongs to, on the running kernel: processes are forked, pass sockets on, execute, end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

#include "child.hpp"
#include "lab/attached.hpp"
#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "placed_test.hpp"
#include "privileges.hpp"

namespace {

using lab::Child;

using namespace std::chrono_literals;
using lab::Ip;
using tcpinfo::Event;
using tcpinfo::Field;
using tcpinfo::Mode;
using tcpinfo::Owner;
using tcpinfo::Record;

std::string read_line(const std::string& path) {
  std::string line;
  std::getline(std::ifstream(path), line);
  return line;
}

std::string comm_of(pid_t pid) { return read_line("/proc/" + std::to_string(pid) + "/comm"); }

void pass(const lab::Socket& end, int fd) {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  lab::check(static_cast<int>(sendmsg(end.fd(), &message, 0)), "sendmsg");
}
lab::Socket take(const lab::Socket& end) {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  lab::check(static_cast<int>(recvmsg(end.fd(), &message, MSG_CMSG_CLOEXEC)), "recvmsg");
  int fd = -1;
  if (const cmsghdr* header = CMSG_FIRSTHDR(&message)) std::memcpy(&fd, CMSG_DATA(header), sizeof(fd));
  return lab::Socket(lab::check(fd, "a passed socket"));
}

[[noreturn]] void rest() {
  for (;;) pause();
}

class OwnerTest : public lab::PlacedTest {
 protected:
  tcpinfo::SockopsOptions options(Mode mode = Mode::kState) const {
    tcpinfo::SockopsOptions options;
    options.cgroup = cgroup.path();
    options.mode = mode;
    options.owners = true;
    return options;
  }
  static tcpinfo::Owners make_owners() {
    tcpinfo::OwnersOptions options;
    options.recheck = 1ns;
    options.walk_share = 1;
    return tcpinfo::Owners(options);
  }
  void drain(tcpinfo::Source& source) {
    ASSERT_FALSE(source.drain([this](const Record& record) { records.push_back(record.raw()); }).error);
  }
  std::optional<tcpinfo_record> record_of(std::uint64_t cookie, Event event) const {
    for (const auto& raw : records)
      if (raw.cookie == cookie && raw.event == static_cast<std::uint8_t>(event)) return raw;
    return std::nullopt;
  }
  static Owner look(tcpinfo::Owners& owners, const tcpinfo_record& raw) {
    owners.find(Record(raw));
    EXPECT_FALSE(owners.refresh());
    const auto* owner = owners.find(Record(raw));
    EXPECT_TRUE(owner);
    return owner ? *owner : Owner{};
  }
  /// What is in the open record, and what is found out later.
  Owner owner_of(tcpinfo::Owners& owners, std::uint64_t cookie) const {
    const auto raw = record_of(cookie, Event::kOpen);
    EXPECT_TRUE(raw) << cookie;
    return raw ? look(owners, *raw) : Owner{};
  }
  void expect_maker(std::uint64_t cookie, Event event, pid_t pid, const std::string& comm) const {
    const auto raw = record_of(cookie, event);
    ASSERT_TRUE(raw);
    EXPECT_EQ(Record(*raw).pid(), static_cast<std::uint32_t>(pid));
    EXPECT_EQ(Record(*raw).comm(), comm);
  }

  std::vector<tcpinfo_record> records;
  const std::string executable = std::filesystem::read_symlink("/proc/self/exe").string();
};

// On loopback the server's callback runs inside the client's connect(): it must not take the client for the owner.
TEST_F(OwnerTest, BothEndsHaveTheirOwn) {
  inside([&] {
    for (const auto ip : {Ip::kV4, Ip::kV6, Ip::kMapped}) {
      tcpinfo::SockopsSource source(options());
      auto owners = make_owners();
      lab::Child server("the-server", [ip](const lab::Socket& parent) {
        const auto listener = lab::listen(ip);
        lab::tell(parent, listener.local_port());
        const auto accepted = lab::accept(listener);
        lab::tell(parent, accepted.cookie());
        rest();
      });
      const lab::Socket client(ip);
      lab::connect(client, ip, static_cast<std::uint16_t>(lab::hear(server.end())));
      const auto accepted = lab::hear(server.end());
      drain(source);
      expect_maker(client.cookie(), Event::kOpen, getpid(), comm_of(getpid()));
      expect_maker(accepted, Event::kOpen, server.pid(), "the-server");

      const auto of_client = owner_of(owners, client.cookie());
      EXPECT_EQ(of_client.pid, static_cast<std::uint32_t>(getpid()));
      EXPECT_EQ(of_client.comm, comm_of(getpid()));
      EXPECT_EQ(of_client.executable, executable);
      EXPECT_EQ(of_client.holders, 1u);
      EXPECT_EQ(of_client.netns, netns.name());
      EXPECT_EQ(of_client.cgroup, "/" + cgroup.path().filename().string());
      const auto of_server = owner_of(owners, accepted);
      EXPECT_EQ(of_server.pid, static_cast<std::uint32_t>(server.pid()));
      EXPECT_EQ(of_server.comm, "the-server");
      EXPECT_EQ(of_server.executable, executable);
      EXPECT_EQ(of_server.holders, 1u);
    }
  });
}

// A thread is not a process, whatever it is called.
TEST_F(OwnerTest, AThreadsSocketIsItsProcess) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    const auto listener = lab::listen(Ip::kV4);
    lab::Socket client;
    std::thread([&] {
      prctl(PR_SET_NAME, "some-thread");
      client = lab::Socket(Ip::kV4);
      lab::connect(client, Ip::kV4, listener.local_port());
    }).join();
    drain(source);
    expect_maker(client.cookie(), Event::kOpen, getpid(), comm_of(getpid()));
  });
}

TEST_F(OwnerTest, OfAForkedServerItIsTheWorkerThatAccepted) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    auto owners = make_owners();
    const auto listener = lab::listen(Ip::kV4);
    const auto work = [&](const lab::Socket& parent) {
      lab::hear(parent);  // its turn
      const auto accepted = lab::accept(listener);
      lab::tell(parent, accepted.cookie());
      rest();
    };
    const Child first("worker-1", work), second("worker-2", work);
    for (const Child* worker : {&second, &first}) {
      const lab::Socket client(Ip::kV4);
      lab::tell(worker->end(), 1);
      lab::connect(client, Ip::kV4, listener.local_port());
      const auto accepted = lab::hear(worker->end());
      drain(source);
      expect_maker(accepted, Event::kOpen, getpid(), comm_of(getpid()));
      const auto owner = owner_of(owners, accepted);
      EXPECT_EQ(owner.pid, static_cast<std::uint32_t>(worker->pid()));
      EXPECT_EQ(owner.comm, worker == &first ? "worker-1" : "worker-2");
      EXPECT_EQ(owner.holders, 1u);
    }
  });
}

TEST_F(OwnerTest, OfSocketsThatAreSharedItIsTheOldest) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    auto owners = make_owners();
    const auto listener = lab::listen(Ip::kV4);
    auto pair = lab::connected(listener, Ip::kV4);
    const auto cookie = pair.server.cookie();
    drain(source);
    const Child child("child", [](const lab::Socket& parent) {
      lab::tell(parent, 1);
      rest();
    });
    lab::hear(child.end());
    const auto both = owner_of(owners, cookie);
    EXPECT_EQ(both.pid, static_cast<std::uint32_t>(getpid()));
    EXPECT_EQ(both.holders, 2u);
    // A server that forks for each connection closes its own descriptor.
    pair.server.close();
    const auto alone = owner_of(owners, cookie);
    EXPECT_EQ(alone.pid, static_cast<std::uint32_t>(child.pid()));
    EXPECT_EQ(alone.comm, "child");
    EXPECT_EQ(alone.holders, 1u);
  });
}

TEST_F(OwnerTest, ASocketThatIsPassedOnChangesItsOwner) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    auto owners = make_owners();
    // Forked before there is a socket: it holds only what it is passed.
    const Child child("receiver", [](const lab::Socket& parent) {
      const auto taken = take(parent);
      lab::tell(parent, taken.cookie());
      rest();
    });
    const auto listener = lab::listen(Ip::kV4);
    auto pair = lab::connected(listener, Ip::kV4);
    const auto cookie = pair.server.cookie();
    drain(source);
    EXPECT_EQ(owner_of(owners, cookie).pid, static_cast<std::uint32_t>(getpid()));
    pass(child.end(), pair.server.fd());
    pair.server.close();
    EXPECT_EQ(lab::hear(child.end()), cookie);
    const auto owner = owner_of(owners, cookie);
    EXPECT_EQ(owner.pid, static_cast<std::uint32_t>(child.pid()));
    EXPECT_EQ(owner.comm, "receiver");
    EXPECT_EQ(owner.holders, 1u);
  });
}

TEST_F(OwnerTest, WhatIsExecutedIsNamed) {
  inside([&] {
    tcpinfo::SockopsSource source(options());
    auto owners = make_owners();
    const auto listener = lab::listen(Ip::kV4);
    const Child child("before", [&](const lab::Socket& parent) {
      const lab::Socket client(Ip::kV4);
      lab::connect(client, Ip::kV4, listener.local_port());
      fcntl(client.fd(), F_SETFD, 0);
      lab::tell(parent, client.cookie());
      lab::hear(parent);
      execlp("sleep", "sleep", "60", nullptr);
    });
    const auto cookie = lab::hear(child.end());
    drain(source);
    expect_maker(cookie, Event::kOpen, child.pid(), "before");
    EXPECT_EQ(owner_of(owners, cookie).comm, "before");
    EXPECT_EQ(owner_of(owners, cookie).executable, executable);
    lab::tell(child.end(), 1);
    for (const auto end = std::chrono::steady_clock::now() + 10s; comm_of(child.pid()) != "sleep";) {
      ASSERT_LT(std::chrono::steady_clock::now(), end);
      std::this_thread::sleep_for(1ms);
    }
    const auto owner = owner_of(owners, cookie);
    EXPECT_EQ(owner.pid, static_cast<std::uint32_t>(child.pid()));
    EXPECT_EQ(owner.comm, "sleep");
    EXPECT_EQ(owner.executable, std::filesystem::read_symlink("/proc/" + std::to_string(child.pid()) + "/exe"));
  });
}

// Too short to be found: who made it is in the records, also in those of close mode.
class OwnerOfTheShort : public OwnerTest, public testing::WithParamInterface<Mode> {};
INSTANTIATE_TEST_SUITE_P(All, OwnerOfTheShort, testing::Values(Mode::kPolling, Mode::kState, Mode::kClose),
                         [](const auto& mode) { return std::string(tcpinfo::name(mode.param)); });

TEST_P(OwnerOfTheShort, IsInItsRecords) {
  inside([&] {
    tcpinfo::SockopsSource source(options(GetParam()));
    auto owners = make_owners();
    auto listener = lab::listen(Ip::kV4);
    lab::Child child("short-lived", [&](const lab::Socket& parent) {
      lab::Socket client(Ip::kV4);
      lab::connect(client, Ip::kV4, listener.local_port());
      lab::tell(parent, client.cookie());
      client.abort();
    });
    const auto cookie = lab::hear(child.end());
    const auto pid = child.pid();
    child.wait();
    auto accepted = lab::accept(listener);
    const auto server = accepted.cookie();
    accepted.close();
    drain(source);
    if (GetParam() != Mode::kClose) {
      expect_maker(cookie, Event::kOpen, pid, "short-lived");
      expect_maker(server, Event::kOpen, getpid(), comm_of(getpid()));
    }
    expect_maker(cookie, Event::kClose, pid, "short-lived");
    expect_maker(server, Event::kClose, getpid(), comm_of(getpid()));
    const auto owner = look(owners, *record_of(cookie, Event::kClose));
    EXPECT_EQ(owner.pid, static_cast<std::uint32_t>(pid));
    EXPECT_EQ(owner.comm, "short-lived");
    EXPECT_EQ(owner.executable, "") << "it has ended";
    EXPECT_EQ(owner.holders, 0u);
    EXPECT_EQ(owner.netns, netns.name());
    EXPECT_EQ(owner.cgroup, "/" + cgroup.path().filename().string());
  });
}

TEST_F(OwnerTest, APidThatWasGivenAgainIsAnotherProcess) {
  const char* const last_pid = "/proc/sys/kernel/ns_last_pid";
  if (access(last_pid, W_OK) != 0) GTEST_SKIP() << "needs CONFIG_CHECKPOINT_RESTORE";
  inside([&] {
    tcpinfo::SockopsSource source(options());
    const auto listener = lab::listen(Ip::kV4);
    // Others take pids too: it may need another try.
    for (int tries = 0; tries < 50; ++tries) {
      auto owners = make_owners();
      lab::Child first("same-name", [&](const lab::Socket& parent) {
        lab::Socket client(Ip::kV4);
        lab::connect(client, Ip::kV4, listener.local_port());
        lab::tell(parent, client.cookie());
        client.abort();
      });
      const auto cookie = lab::hear(first.end());
      const auto pid = first.pid();
      first.wait();
      lab::accept(listener).close();
      drain(source);
      std::this_thread::sleep_for(20ms);  // /proc tells the start in ticks of 10 ms
      std::ofstream(last_pid) << pid - 1;
      const Child second("same-name", [](const lab::Socket& parent) {
        lab::tell(parent, 1);
        rest();
      });
      if (second.pid() != pid) continue;
      lab::hear(second.end());
      const auto owner = owner_of(owners, cookie);
      EXPECT_EQ(owner.pid, static_cast<std::uint32_t>(pid)) << "as the record has it";
      EXPECT_EQ(owner.executable, "") << "not that of the other process";
      return;
    }
    GTEST_SKIP() << "the pid was never given again";
  });
}

TEST_F(OwnerTest, ContainersAreReadFromTheCgroupWhichMayBeGone) {
  const std::string id(64, 'a'), uid = "0f6ab3c1-9d2e-4b57-8c11-2a3b4c5d6e7f";
  const auto pod = cgroup.path() / "kubepods-burstable-pod0f6ab3c1_9d2e_4b57_8c11_2a3b4c5d6e7f.slice";
  const auto scope = pod / ("cri-containerd-" + id + ".scope");
  std::filesystem::create_directories(scope);
  tcpinfo::SockopsSource source(options());
  auto owners = make_owners();
  const auto listener = lab::listen(Ip::kV4);
  auto client = [&] {
    const lab::InCgroup in(scope);
    return lab::Socket(Ip::kV4);
  }();
  lab::connect(client, Ip::kV4, listener.local_port());
  drain(source);
  const auto expect = [&](const Owner& owner) {
    EXPECT_EQ(owner.cgroup, scope.string().substr(tcpinfo::cgroup2_mount().string().size()));
    EXPECT_EQ(owner.unit, "cri-containerd-" + id + ".scope");
    EXPECT_EQ(owner.container, (tcpinfo::Container{"containerd", id, uid}));
  };
  const auto cookie = client.cookie();
  expect(owner_of(owners, cookie));
  client.abort();
  std::filesystem::remove(scope);
  std::filesystem::remove(pod);
  expect(owner_of(owners, cookie));
}

// Ids that cannot be opened are looked for in the hierarchy, and inodes in /proc.
TEST_F(OwnerTest, WithoutPrivilegeOwnSocketsAreFound) {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      const lab::InCgroup in(cgroup);
      const auto listener = lab::listen(Ip::kV4);
      const auto pair = lab::connected(listener, Ip::kV4);
      lab::drop_capabilities();
      auto owners = make_owners();
      EXPECT_FALSE(owners.capabilities()[0].available);
      tcpinfo::InetDiagSource source({});
      EXPECT_FALSE(source.tick(*source.next_deadline()));
      drain(source);
      for (const auto cookie : {pair.client.cookie(), pair.server.cookie()}) {
        const auto raw = record_of(cookie, Event::kSample);
        ASSERT_TRUE(raw);
        const auto owner = look(owners, *raw);
        EXPECT_EQ(owner.pid, static_cast<std::uint32_t>(getpid()));
        EXPECT_EQ(owner.comm, comm_of(getpid()));
        EXPECT_EQ(owner.executable, executable);
        EXPECT_EQ(owner.cgroup, "/" + cgroup.path().filename().string());
        EXPECT_NE(owner.netns, "");
      }
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
}

// What was opened with privileges goes on without them.
TEST_F(OwnerTest, PrivilegesMayBeDroppedMeanwhile) {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      const lab::InCgroup in(cgroup);
      tcpinfo::SockopsSource source(options());
      auto owners = make_owners();
      const auto listener = lab::listen(Ip::kV4);
      lab::drop_capabilities();
      const auto pair = lab::connected(listener, Ip::kV4);
      drain(source);
      const auto owner = owner_of(owners, pair.server.cookie());
      EXPECT_EQ(owner.pid, static_cast<std::uint32_t>(getpid()));
      EXPECT_EQ(owner.holders, 1u);
      EXPECT_EQ(owner.cgroup, "/" + cgroup.path().filename().string());
      EXPECT_NE(owner.netns, "");
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
}

TEST_F(OwnerTest, SocketsOfOtherSourcesAreFoundByTheirCookie) {
  inside([&] {
    const auto listener = lab::listen(Ip::kV6);
    const auto pair = lab::connected(listener, Ip::kV6);
    auto owners = make_owners();
    tcpinfo::IterSource iter({});
    tcpinfo::InetDiagSource inet_diag({});
    for (tcpinfo::Source* source : {static_cast<tcpinfo::Source*>(&iter), static_cast<tcpinfo::Source*>(&inet_diag)}) {
      records.clear();
      EXPECT_FALSE(source->tick(*source->next_deadline()));
      while (source->statistics().dumps == 0) drain(*source);
      const auto raw = record_of(pair.server.cookie(), Event::kSample);
      ASSERT_TRUE(raw);
      const auto owner = look(owners, *raw);
      EXPECT_EQ(owner.pid, static_cast<std::uint32_t>(getpid()));
      EXPECT_EQ(owner.netns, netns.name());
      EXPECT_EQ(owner.holders, 1u);
    }
  });
}

TEST_F(OwnerTest, OnlyHoldersOfACgroupsSocketsAreLookedFor) {
  inside([&] {
    const lab::Cgroup below("tcpinfo-test", cgroup.path()), other("tcpinfo-test");
    const auto listener = lab::listen(Ip::kV4);
    const auto client_in = [&](const lab::Cgroup& place) {
      const lab::InCgroup in(place);
      lab::Socket client(Ip::kV4);
      lab::connect(client, Ip::kV4, listener.local_port());
      return client;
    };
    const auto wanted = client_in(below), unwanted = client_in(other);
    tcpinfo::OwnersOptions of_cgroup;
    of_cgroup.walk_share = 1;
    of_cgroup.cgroup = cgroup.path();
    tcpinfo::Owners owners(of_cgroup);
    tcpinfo::IterSource source({});
    EXPECT_FALSE(source.tick(*source.next_deadline()));
    drain(source);
    EXPECT_EQ(look(owners, *record_of(wanted.cookie(), Event::kSample)).holders, 1u);
    EXPECT_EQ(look(owners, *record_of(unwanted.cookie(), Event::kSample)).holders, 0u);
  });
}

TEST_F(OwnerTest, NothingIsDoneWhereItIsNotAskedFor) {
  inside([&] {
    auto wanted = options();
    wanted.owners = false;
    tcpinfo::SockopsSource source(wanted);
    EXPECT_EQ(lab::count_attached(cgroup.path(), BPF_CGROUP_INET_SOCK_CREATE), 0u);
    for (const auto& map : source.cost().maps) EXPECT_NE(map.name, "creators");
    const auto listener = lab::listen(Ip::kV4);
    const auto pair = lab::connected(listener, Ip::kV4);
    drain(source);
    ASSERT_FALSE(records.empty());
    for (const auto& raw : records) {
      EXPECT_FALSE(Record(raw).pid());
      EXPECT_FALSE(Record(raw).comm());
    }
  });
}

}  // namespace
