// SPDX-License-Identifier: BSD-2-Clause
// What loads, streams and sweeps with which capabilities, and with none.
#include <tcpinfo/privileges.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <exception>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

#include "lab/attached.hpp"
#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "requirements.hpp"
#include "sources.hpp"

namespace {

using namespace std::chrono_literals;
using lab::Ip;
using tcpinfo::Event;
using tcpinfo::Privilege;
using tcpinfo::Privileges;
using tcpinfo::Record;
using testing::HasSubstr;

constexpr uid_t kNobody = 65534;
constexpr Privileges kForSockops{Privilege::kBpf, Privilege::kNetAdmin, Privilege::kPerfmon};
constexpr Privileges kForIter{Privilege::kBpf, Privilege::kPerfmon};

// The sets of this thread by their names in /proc, without the library.
std::map<std::string, std::string> status() {
  std::map<std::string, std::string> values;
  std::ifstream file("/proc/thread-self/status");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    values[line.substr(0, colon)] = line.substr(std::min(line.size(), line.find_first_not_of(" \t", colon + 1)));
  }
  return values;
}

void check_call(long result, const char* what) { lab::check(static_cast<int>(result), what); }

// Identity and capabilities belong to a thread for the kernel; the C library's setresuid() would change all threads.
void become(uid_t user, std::uint64_t capabilities) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> sets{};
  for (std::size_t i = 0; i < 2; ++i)
    sets[i].permitted = sets[i].effective = static_cast<__u32>(capabilities >> (32 * i));
  check_call(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "PR_SET_KEEPCAPS");
  if (user != 0) {
    check_call(syscall(SYS_setgroups, 0, nullptr), "setgroups");
    check_call(syscall(SYS_setresgid, user, user, user), "setresgid");
    check_call(syscall(SYS_setresuid, user, user, user), "setresuid");
  }
  check_call(syscall(SYS_capset, &header, sets.data()), "capset");
}

std::uint64_t bits(std::initializer_list<Privilege> privileges) {
  std::uint64_t all = 0;
  for (const auto privilege : privileges) all |= std::uint64_t{1} << static_cast<int>(privilege);
  return all;
}

// Calls `function` in a thread of its own, whose privileges end with it.
void in_thread(const std::function<void()>& function) {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      function();
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  // A change of user makes the process undumpable, and then /proc/self belongs to root.
  prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  if (failure) std::rethrow_exception(failure);
}

bool all_have(const lab::Records& records, std::initializer_list<std::uint64_t> cookies, auto&& condition) {
  return std::ranges::all_of(cookies, [&](auto cookie) {
    return std::ranges::any_of(records,
                               [&](const auto& raw) { return raw.cookie == cookie && condition(Record(raw)); });
  });
}

class Privileged : public testing::Test {
 protected:
  void SetUp() override { TCPINFO_NEEDS_BPF(); }

  struct Pair {
    lab::Socket client, server;
  };
  static Pair pair(const lab::Socket& listener) {
    Pair made{lab::Socket(Ip::kV4), {}};
    lab::connect(made.client, Ip::kV4, listener.local_port());
    made.server = lab::accept(listener);
    return made;
  }

  std::unique_ptr<tcpinfo::SockopsSource> sockops() const {
    tcpinfo::SockopsOptions options;
    options.cgroup = cgroup_.path();
    options.interval = 10ms;
    options.latency = 5ms;
    return std::make_unique<tcpinfo::SockopsSource>(options);
  }
  std::unique_ptr<tcpinfo::IterSource> iter() const {
    tcpinfo::IterOptions options;
    options.cgroup = cgroup_.path();
    options.interval = 10ms;
    return std::make_unique<tcpinfo::IterSource>(options);
  }
  std::unique_ptr<tcpinfo::InetDiagSource> inet_diag() const {
    tcpinfo::InetDiagOptions options;
    options.cgroup = cgroup_.path();
    options.interval = 10ms;
    return std::make_unique<tcpinfo::InetDiagSource>(options);
  }

  // A connection's whole life, its idle time in it, and exact books: what callbacks, sweeps, the maps with the counters
  // and the end need.
  static void see_everything(tcpinfo::SockopsSource& source) {
    const auto listener = lab::listen(Ip::kV4);
    auto [client, server] = pair(listener);
    const auto ends = {client.cookie(), server.cookie()};
    const auto records = lab::drive(source, [&](const lab::Records& seen) {
      return all_have(seen, ends, [](Record r) { return r.event() == TCPINFO_EVENT_OPEN; }) &&
             all_have(seen, ends, [](Record r) { return r.swept().value_or(0) == 1; });
    });
    EXPECT_TRUE(all_have(records, ends, [](Record r) { return r.event() == TCPINFO_EVENT_OPEN; })) << "no callbacks";
    EXPECT_TRUE(all_have(records, ends, [](Record r) { return r.swept().value_or(0) == 1; })) << "no sweep";
    client.close();
    server.abort();
    const auto closing = [&](const lab::Records& seen) {
      return all_have(seen, ends, [](Record r) { return r.event() == TCPINFO_EVENT_CLOSE; });
    };
    EXPECT_TRUE(closing(lab::drive(source, closing))) << "no close";
    EXPECT_GT(source.statistics().sweeps, 0u);

    source.stop();
    while (source.drain([](const Record&) {}).records > 0) {
    }
    const auto statistics = source.statistics();
    EXPECT_EQ(statistics.connections, 2u);
    EXPECT_EQ(statistics.emitted[TCPINFO_EVENT_OPEN], 2u);
    EXPECT_EQ(statistics.emitted, statistics.delivered);
    source.close();
  }
  template <class Source>
  static void see_sockets(Source& source) {
    const auto listener = lab::listen(Ip::kV4);
    const auto [client, server] = pair(listener);
    const auto ends = {client.cookie(), server.cookie()};
    for (int pass = 0; pass < 3; ++pass) {
      std::this_thread::sleep_until(source.next_deadline().value());
      const auto records = lab::snapshot(source);
      EXPECT_TRUE(all_have(records, ends, [](Record) { return true; })) << "pass " << pass;
    }
  }

  lab::Cgroup cgroup_{"tcpinfo-privilege"};
  lab::InCgroup in_{cgroup_};
};

// "", or what the source that does not open says.
std::string error_of(const auto& open) {
  try {
    open();
    return "";
  } catch (const tcpinfo::Error& error) {
    EXPECT_TRUE(error.code() == std::errc::operation_not_permitted || error.code() == std::errc::permission_denied)
        << error.what();
    return error.what();
  }
}

TEST_F(Privileged, AnOrdinaryUserWithThreeCapabilitiesHasEverySource) {
  in_thread([&] {
    become(kNobody, bits({Privilege::kBpf, Privilege::kNetAdmin, Privilege::kPerfmon}));
    ASSERT_EQ(geteuid(), kNobody);
    ASSERT_EQ(Privileges::effective(), kForSockops);
    see_everything(*sockops());
    see_sockets(*iter());
    see_sockets(*inet_diag());
  });
  EXPECT_EQ(lab::count_attached(cgroup_.path()), 0u);
}

// Their types are in modules on many kernels, and which those are CAP_SYS_ADMIN alone may ask.
TEST_F(Privileged, StateOfCongestionControlsIsThereForAnOrdinaryUser) {
  struct Case {
    const char* name;
    tcpinfo::Field field;
    Pair ends;
  };
  std::vector<Case> cases;
  const auto listener = lab::listen(Ip::kV4);
  for (const auto& [name, field] :
       {std::pair("bbr", tcpinfo::Field::bbr_bw), {"vegas", tcpinfo::Field::vegas_enabled}}) {
    Pair ends = pair(listener);
    try {
      ends.client.set_congestion_control(name);  // loads the module
      ends.client.send(1000);                    // it begins with the first data
      ends.server.receive(1000);
      cases.push_back({name, field, std::move(ends)});
    } catch (const std::system_error&) {
      // this kernel does not have it
    }
  }
  if (cases.empty()) GTEST_SKIP() << "needs bbr or vegas";
  in_thread([&] {
    become(kNobody, bits({Privilege::kBpf, Privilege::kPerfmon}));
    const auto records = lab::snapshot(*iter());
    for (const auto& [name, field, ends] : cases) {
      const auto* record = lab::find(records, ends.client.cookie());
      ASSERT_NE(record, nullptr);
      EXPECT_EQ(Record(*record).congestion_control().value_or(""), name);
      EXPECT_TRUE(Record(*record).has(field)) << name;
    }
  });
}

TEST_F(Privileged, WithoutOneOfThemTheErrorNamesIt) {
  // Each source by each set: which capability does its error say that this thread lacks?
  const struct {
    std::initializer_list<Privilege> has;
    std::string sockops, iter;
  } cases[] = {
      {{Privilege::kNetAdmin, Privilege::kPerfmon}, "lacks CAP_BPF;", "lacks CAP_BPF;"},
      {{Privilege::kBpf, Privilege::kPerfmon}, "lacks CAP_NET_ADMIN;", ""},
      {{Privilege::kBpf, Privilege::kNetAdmin}, "lacks CAP_PERFMON;", "lacks CAP_PERFMON;"},
      {{Privilege::kBpf}, "lacks CAP_NET_ADMIN and CAP_PERFMON;", "lacks CAP_PERFMON;"},
      {{}, "lacks CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON;", "lacks CAP_BPF and CAP_PERFMON;"},
  };
  for (const auto& [has, of_sockops, of_iter] : cases) {
    for (const uid_t user : {uid_t{0}, kNobody}) {
      in_thread([&] {
        become(user, bits(has));
        SCOPED_TRACE("user " + std::to_string(user) + " with " + Privileges::effective().to_string());
        EXPECT_THAT(error_of([&] { sockops(); }), HasSubstr(of_sockops));
        const auto iter_error = error_of([&] { iter(); });
        EXPECT_THAT(iter_error, HasSubstr(of_iter));
        EXPECT_EQ(iter_error.empty(), of_iter.empty());
        EXPECT_EQ(error_of([&] { inet_diag(); }), "");
      });
    }
  }
  EXPECT_EQ(lab::count_attached(cgroup_.path()), 0u);
}

// For an administrator CAP_SYS_ADMIN stands for the other three.
TEST_F(Privileged, SysAdminAloneIsEnough) {
  in_thread([&] {
    become(0, bits({Privilege::kSysAdmin}));
    see_everything(*sockops());
    see_sockets(*iter());
  });
}

TEST_F(Privileged, StreamingAndSweepingGoOnWithNone) {
  for (const uid_t user : {uid_t{0}, kNobody}) {
    in_thread([&] {
      SCOPED_TRACE("user " + std::to_string(user));
      become(user, bits({Privilege::kBpf, Privilege::kNetAdmin, Privilege::kPerfmon}));
      const auto streaming = sockops();
      const auto reading = iter();
      const auto asking = inet_diag();
      Privileges::drop({});
      tcpinfo::forbid_new_privileges();
      // What the kernel says of it, and does.
      const auto now = status();
      for (const auto* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"})
        EXPECT_EQ(now.at(set).find_first_not_of('0'), std::string::npos) << set;
      EXPECT_EQ(now.at("NoNewPrivs"), "1");
      EXPECT_THAT(error_of([&] { iter(); }), HasSubstr("lacks CAP_BPF and CAP_PERFMON;"));

      see_everything(*streaming);
      see_sockets(*reading);
      see_sockets(*asking);
    });
    EXPECT_EQ(lab::count_attached(cgroup_.path()), 0u);
  }
}

TEST_F(Privileged, RunTimeStatisticsGoOnWithNone) {
  in_thread([&] {
    const tcpinfo::KernelStatistics statistics;
    const auto source = iter();
    const auto runs = [&] { return source->cost().programs.at(0).runs; };
    Privileges::drop({});
    const auto before = runs();
    see_sockets(*source);
    EXPECT_GT(runs(), before);
    EXPECT_EQ(source->cost().programs.at(0).code_bytes, 0u) << "the header says that this needs CAP_BPF";
    EXPECT_THAT(error_of([] { const tcpinfo::KernelStatistics more; }), HasSubstr("CAP_SYS_ADMIN"));
  });
  in_thread([&] {
    const auto source = iter();
    Privileges::drop({Privilege::kBpf});
    EXPECT_GT(source->cost().programs.at(0).code_bytes, 0u);
  });
}

TEST_F(Privileged, OwnersAreFoundWithNone) {
  in_thread([&] {
    become(kNobody, bits({Privilege::kBpf, Privilege::kPerfmon}));
    tcpinfo::Owners owners;
    const auto source = iter();
    Privileges::drop({});
    const auto listener = lab::listen(Ip::kV4);
    const auto [client, server] = pair(listener);
    const auto records = lab::snapshot(*source);
    const auto* record = lab::find(records, client.cookie());
    ASSERT_NE(record, nullptr);
    owners.find(Record(*record));
    owners.refresh();
    const auto* owner = owners.find(Record(*record));
    ASSERT_NE(owner, nullptr);
    EXPECT_EQ(owner->pid, static_cast<std::uint32_t>(getpid()));
    EXPECT_EQ(owner->holders, 1u) << "by iter/task_file, as the record of an iterator has no inode";
  });
}

TEST_F(Privileged, AnotherNamespaceIsReadWithWhatThatNeeds) {
  const lab::Netns netns("tcpinfo-privilege");
  std::optional<lab::Socket> listener, client, server;
  netns.run([&] {
    listener.emplace(lab::listen(Ip::kV4));
    auto made = pair(*listener);
    client.emplace(std::move(made.client));
    server.emplace(std::move(made.server));
  });
  const auto passes = [&](tcpinfo::Source& source) {
    const auto records = lab::snapshot(source);
    return all_have(records, {client->cookie(), server->cookie()}, [](Record) { return true; });
  };
  tcpinfo::IterOptions iter_options;
  iter_options.netns = netns.path();
  tcpinfo::InetDiagOptions inet_diag_options;
  inet_diag_options.netns = netns.path();
  in_thread([&] {
    tcpinfo::InetDiagSource source(inet_diag_options);
    Privileges::drop({});
    EXPECT_TRUE(passes(source));
  });
  in_thread([&] {
    tcpinfo::IterSource source(iter_options);
    Privileges::drop({Privilege::kSysAdmin});
    EXPECT_TRUE(passes(source));
    Privileges::drop({});
    EXPECT_EQ(source.tick(tcpinfo::Source::Clock::now() + 1h), std::errc::operation_not_permitted);
  });
  in_thread([&] {
    Privileges::drop(kForSockops);
    EXPECT_THAT(error_of([&] { tcpinfo::IterSource source(iter_options); }), HasSubstr("needs CAP_SYS_ADMIN"));
    EXPECT_THAT(error_of([&] { tcpinfo::InetDiagSource source(inet_diag_options); }), HasSubstr("needs CAP_SYS_ADMIN"));
  });
}

// Whatever the kernel shows to anybody; a record has the same fields as the administrator's, see inet_diag_test.
TEST_F(Privileged, InetDiagNeedsNoneAtAll) {
  in_thread([&] {
    become(kNobody, 0);
    ASSERT_TRUE(Privileges::effective().empty());
    see_sockets(*inet_diag());
  });
}

TEST(Privileges, DropKeepsWhatIsAskedForAndGivesNothing) {
  in_thread([] {
    Privileges::drop(kForSockops);
    EXPECT_EQ(Privileges::effective(), kForSockops);
    EXPECT_TRUE(Privileges::effective().contains(Privilege::kBpf));
    EXPECT_FALSE(Privileges::effective().contains(Privilege::kSysAdmin));
    Privileges::drop({Privilege::kBpf, Privilege::kSysAdmin});
    EXPECT_EQ(Privileges::effective(), Privileges{Privilege::kBpf});
    Privileges::drop(kForSockops);
    EXPECT_EQ(Privileges::effective(), Privileges{Privilege::kBpf});
    Privileges::drop({});
    EXPECT_TRUE(Privileges::effective().empty());
    Privileges::drop({});
  });
  in_thread([] {
    become(kNobody, bits({Privilege::kBpf, Privilege::kPerfmon}));
    Privileges::drop({Privilege::kPerfmon});
    EXPECT_EQ(Privileges::effective(), Privileges{Privilege::kPerfmon});
  });
}

// As the header says: a drop is the thread's own, and that of those it starts.
TEST(Privileges, DropIsOfOneThread) {
  const auto before = Privileges::effective();
  ASSERT_FALSE(before.empty());
  in_thread([&] {
    Privileges::drop({});
    in_thread([] { EXPECT_TRUE(Privileges::effective().empty()); });
  });
  EXPECT_EQ(Privileges::effective(), before);
}

TEST(Privileges, AreNamedAsInMessages) {
  EXPECT_EQ(kForSockops.to_string(), "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
  EXPECT_EQ(kForIter.to_string(), "CAP_BPF and CAP_PERFMON");
  EXPECT_EQ((kForSockops - kForIter).to_string(), "CAP_NET_ADMIN");
  EXPECT_EQ(Privileges{}.to_string(), "");
}

}  // namespace
