// SPDX-License-Identifier: BSD-2-Clause
// What this repository's development kernel has not and Debian's kernels have: congestion controls as modules, and a
// path that loses, duplicates, reorders and marks packets (netem); and a clock that only we look at.
// utils/kernel-matrix runs these in guests.
#include <linux/inet_diag.h>
#include <poll.h>
#include <sys/wait.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/tcpinfo.hpp>

#include "../../libtcpinfo/tests/tcp_info_members.hpp"
#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "requirements.hpp"
#include "sources.hpp"

namespace {

using namespace std::chrono_literals;
using lab::Records;
using tcpinfo::Field;
using tcpinfo::Record;
using Clock = tcpinfo::Source::Clock;
using Bytes = std::vector<std::byte>;
using Values = std::map<Field, std::uint64_t>;

constexpr auto kBbr = {Field::bbr_bw, Field::bbr_min_rtt, Field::bbr_pacing_gain, Field::bbr_cwnd_gain};
constexpr auto kVegas = {Field::vegas_enabled, Field::vegas_rttcnt, Field::vegas_rtt, Field::vegas_minrtt};
constexpr auto kDctcp = {Field::dctcp_enabled, Field::dctcp_ce_state, Field::dctcp_alpha, Field::dctcp_ab_ecn,
                         Field::dctcp_ab_tot};

// These go on while nothing else happens to a socket.
bool is_clock(Field field) {
  switch (field) {
    case Field::last_data_sent:
    case Field::last_data_recv:
    case Field::last_ack_recv:
    case Field::busy_time:
    case Field::rwnd_limited:
    case Field::sndbuf_limited:
    case Field::total_rto_time:
      return true;
    default:
      return false;
  }
}

// What getsockopt says of a socket: every member of its tcp_info whose place does not depend on the kernel's types (the
// last four bytes are for equality_test), and the state of Vegas and DCTCP.
Values getsockopt_values(const lab::Socket& socket) {
  Bytes info(1024);
  auto length = static_cast<socklen_t>(info.size());
  lab::check(getsockopt(socket.fd(), IPPROTO_TCP, TCP_INFO, info.data(), &length), "TCP_INFO");
  info.resize(length);
  Values values;
  for (const auto& member : expected::members()) {
    if (member.field == Field::accecn_fail_mode || member.field == Field::accecn_opt_seen) continue;
    if (member.offset + member.size > info.size()) continue;
    const auto value = expected::value_in(info, member);
    if (member.field == Field::snd_ssthresh && value >= 0x7fffffff) continue;
    values[member.field] = value;
  }
  char name[16]{};
  length = sizeof(name);
  lab::check(getsockopt(socket.fd(), IPPROTO_TCP, TCP_CONGESTION, name, &length), "TCP_CONGESTION");
  tcp_cc_info cc{};
  length = sizeof(cc);
  lab::check(getsockopt(socket.fd(), IPPROTO_TCP, TCP_CC_INFO, &cc, &length), "TCP_CC_INFO");
  constexpr std::uint32_t kNone = 0x7fffffff;  // nothing measured yet
  if (std::string_view(name) == "vegas" && cc.vegas.tcpv_rtt != 0) {
    values[Field::vegas_enabled] = cc.vegas.tcpv_enabled;
    values[Field::vegas_rttcnt] = cc.vegas.tcpv_rttcnt;
    if (cc.vegas.tcpv_rtt != kNone) values[Field::vegas_rtt] = cc.vegas.tcpv_rtt;
    if (cc.vegas.tcpv_minrtt != kNone) values[Field::vegas_minrtt] = cc.vegas.tcpv_minrtt;
  } else if (std::string_view(name) == "dctcp") {
    values[Field::dctcp_enabled] = cc.dctcp.dctcp_enabled;
    values[Field::dctcp_ce_state] = cc.dctcp.dctcp_ce_state;
    values[Field::dctcp_alpha] = cc.dctcp.dctcp_alpha;
    values[Field::dctcp_ab_ecn] = cc.dctcp.dctcp_ab_ecn;
    values[Field::dctcp_ab_tot] = cc.dctcp.dctcp_ab_tot;
  }
  return values;
}

bool still(const Values& before, const Values& after) {
  if (before.size() != after.size()) return false;
  for (const auto& [field, value] : before)
    if (!is_clock(field) && (!after.contains(field) || after.at(field) != value)) return false;
  return true;
}

void expect_equal(const Record& record, const Values& before, const Values& after) {
  for (const auto& [field, low] : before) {
    const auto name = tcpinfo::info(field).name;
    const auto value = record.number(field);
    ASSERT_TRUE(value) << name << " is absent, getsockopt says " << low;
    if (is_clock(field)) {
      EXPECT_GE(*value, low) << name;
      EXPECT_LE(*value, after.at(field)) << name;
    } else {
      EXPECT_EQ(*value, low) << name;
    }
  }
  for (const auto& group : {kVegas, kDctcp})
    for (const auto field : group) EXPECT_EQ(record.has(field), before.contains(field)) << tcpinfo::info(field).name;
  for (const auto field : kBbr) EXPECT_FALSE(record.has(field)) << tcpinfo::info(field).name;
}

/// Sends without end from one socket to another, in a thread of its own, until it goes.
class Flow {
 public:
  explicit Flow(const lab::Pair& pair) : thread_([this, &pair] { run(pair); }) {}
  ~Flow() {
    end_ = true;
    thread_.join();
  }

 private:
  void run(const lab::Pair& pair) {
    std::vector<char> data(16384, 'x');
    while (!end_) {
      while (::send(pair.client.fd(), data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT) > 0 && !end_) {
      }
      std::vector<char> into(1 << 16);
      while (::recv(pair.server.fd(), into.data(), into.size(), MSG_DONTWAIT) > 0) {
      }
      std::this_thread::sleep_for(1ms);
    }
  }
  std::atomic<bool> end_{false};
  std::thread thread_;
};

// Two hosts with a switch between them, which treats what goes from the client to the server as netem is told to.
class Guest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    TCPINFO_NEEDS_BPF();
    client_host_ = std::make_unique<lab::Netns>("tcpinfo-test");
    server_host_ = std::make_unique<lab::Netns>("tcpinfo-test");
    middle_ = std::make_unique<lab::Netns>("tcpinfo-test");
    cgroup_ = std::make_unique<lab::Cgroup>("tcpinfo-test");
    lab::link(*client_host_, *server_host_, *middle_);
    if (!path("delay 5ms")) GTEST_SKIP() << "needs netem (CONFIG_NET_SCH_NETEM)";
    for (const auto* host : {client_host_.get(), server_host_.get()}) {
      // Faults are for packets, not for 64 KiB at once.
      command(fmt::format("ip -n {} link set veth0 gso_max_segs 1", host->name()));
      host->run([] { std::ofstream("/proc/sys/net/ipv4/tcp_ecn") << "1"; });
    }
  }

  static bool command(const std::string& text) { return std::system((text + " 2> /dev/null").c_str()) == 0; }
  bool path(const std::string& treatment) {
    // Replaced twice: a change would keep netem's ecn.
    return cut_path() && command(fmt::format("tc -n {} qdisc replace dev port2 root netem limit 10000 {}",
                                             middle_->name(), treatment));
  }
  bool cut_path() { return command(fmt::format("tc -n {} qdisc replace dev port2 root blackhole", middle_->name())); }
  /// Whether the kernel has it; loads its module. Before a source is opened: one learns of a module's types only then.
  static bool has_congestion_control(const std::string& name) {
    try {
      lab::Socket(lab::Ip::kV4).set_congestion_control(name.c_str());
      return true;
    } catch (const std::system_error&) {
      return false;
    }
  }

  void open_sources() {
    for (const auto& kind : lab::kSources) {
      const auto open = [&](const lab::Netns& host) {
        host.run([&] { sources_.push_back({&host, kind.open({.cgroup = cgroup_->path()})}); });
      };
      open(*client_host_);
      // One that follows a cgroup's connections follows them in all namespaces.
      if (kind.id != tcpinfo::SourceId::kSockops) open(*server_host_);
    }
  }

  lab::Pair connect(const std::string& algorithm) {
    const lab::InCgroup in(*cgroup_);
    lab::Pair pair;
    lab::Socket listener;
    lab::Endpoint endpoint;
    auto& address = reinterpret_cast<sockaddr_in&>(endpoint.storage);
    address.sin_family = AF_INET;
    inet_pton(AF_INET, "10.77.0.2", &address.sin_addr);
    endpoint.length = sizeof(address);
    server_host_->run([&] {
      listener = lab::Socket(lab::Ip::kV4);
      listener.set_congestion_control(algorithm.c_str());
      lab::check(::bind(listener.fd(), endpoint.get(), endpoint.length), "bind");
      lab::check(::listen(listener.fd(), 1), "listen");
      address.sin_port = htons(listener.local_port());
    });
    client_host_->run([&] {
      pair.client = lab::Socket(lab::Ip::kV4);
      pair.client.set_congestion_control(algorithm.c_str());
      lab::check(::connect(pair.client.fd(), endpoint.get(), endpoint.length), "connect");
    });
    pair.server = lab::accept(listener);
    return pair;
  }

  /// The newest sample of the socket by this source that was made after this call.
  static std::optional<tcpinfo_record> sample(tcpinfo::Source& source, std::uint64_t cookie) {
    const auto begin = tcpinfo::boot_time_ns();
    std::optional<tcpinfo_record> found;
    lab::drive(source, [&](Records& records) {
      for (const auto& record : records)
        if (record.event == TCPINFO_EVENT_SAMPLE && record.time_ns >= begin && record.cookie == cookie) found = record;
      records.clear();
      return found.has_value();
    });
    return found;
  }

  /// Compares what every source says of a socket with getsockopt, when the socket holds still, and gives what it said.
  Values compare(const lab::Socket& socket, const lab::Netns& host) {
    Values last;
    for (auto& [where, source] : sources_) {
      if (source->id() != tcpinfo::SourceId::kSockops && where != &host) continue;
      SCOPED_TRACE(std::string(name(source->id())));
      bool held = false;
      for (int attempt = 0; attempt < 50 && !held; ++attempt) {
        const auto before = getsockopt_values(socket);
        const auto record = sample(*source, socket.cookie());
        const auto after = getsockopt_values(socket);
        held = still(before, after);
        if (!held) continue;
        last = after;
        EXPECT_TRUE(record) << "no sample";
        if (record) expect_equal(Record(*record), before, after);
      }
      EXPECT_TRUE(held) << "the socket never held still";
    }
    return last;
  }

  /// Lets data flow and stops it, with the path cut or, each third time, with all data delivered, compares at each
  /// stop, until every wanted field was seen with another value than 0, by getsockopt and so by every source.
  void expect_seen(const lab::Pair& pair, const std::string& treatment, const std::set<Field>& all,
                   const std::string& before_cut = {}) {
    auto wanted = all;
    for (int round = 0; round < 40 && !wanted.empty(); ++round) {
      const bool cut = round % 3 != 0;
      SCOPED_TRACE(fmt::format("round {}", round));
      ASSERT_TRUE(path(treatment));
      {
        const Flow flow(pair);
        std::this_thread::sleep_for(500ms);
        if (round % 3 == 2 && !before_cut.empty()) {
          ASSERT_TRUE(path(before_cut));
          std::this_thread::sleep_for(200ms);
        }
        ASSERT_TRUE(!cut || cut_path());
      }
      if (!cut) {
        for (const auto end = Clock::now() + 10s; Clock::now() < end; std::this_thread::sleep_for(20ms)) {
          std::vector<char> into(1 << 16);
          while (::recv(pair.server.fd(), into.data(), into.size(), MSG_DONTWAIT) > 0) {
          }
          const auto info = pair.client.info();
          if (info.tcpi_unacked == 0 && info.tcpi_notsent_bytes == 0) break;
        }
        std::this_thread::sleep_for(300ms);  // delayed ACKs are out
      } else {
        // The last ACKs are in; or the retransmission timer has run out as well.
        std::this_thread::sleep_for(round % 3 == 1 ? 50ms : 1000ms);
      }
      const auto client = compare(pair.client, *client_host_), server = compare(pair.server, *server_host_);
      std::cout << fmt::format("round {}, {}:", round, cut ? "cut" : "delivered");
      for (const auto field : all) {
        const auto value = [&](const Values& values) { return values.contains(field) ? values.at(field) : 0; };
        std::cout << fmt::format(" {} {}/{}", tcpinfo::info(field).name, value(client), value(server));
        if (value(client) || value(server)) wanted.erase(field);
      }
      std::cout << std::endl;
    }
    for (const auto field : wanted) ADD_FAILURE() << tcpinfo::info(field).name << " was never other than 0";
  }

  struct Opened {
    const lab::Netns* host;
    std::unique_ptr<tcpinfo::Source> source;
  };
  std::unique_ptr<lab::Netns> client_host_, server_host_, middle_;
  std::unique_ptr<lab::Cgroup> cgroup_;
  std::vector<Opened> sources_;
};

TEST_F(Guest, TheStateOfDctcpIsReadAlikeByAllSources) {
  if (!has_congestion_control("dctcp")) GTEST_SKIP() << "needs the congestion control dctcp (CONFIG_TCP_CONG_DCTCP)";
  open_sources();
  const auto pair = connect("dctcp");
  // "ecn": what would be lost is marked.
  expect_seen(pair, "delay 5ms rate 20mbit loss 30% ecn",
              {Field::dctcp_enabled, Field::dctcp_ce_state, Field::dctcp_alpha, Field::dctcp_ab_ecn,
               Field::dctcp_ab_tot, Field::delivered_ce},
              "delay 5ms rate 20mbit loss 100% ecn");  // the last packet leaves its mark at the receiver
}

TEST_F(Guest, TheStateOfVegasIsReadAlikeByAllSources) {
  if (!has_congestion_control("vegas")) GTEST_SKIP() << "needs the congestion control vegas (CONFIG_TCP_CONG_VEGAS)";
  open_sources();
  const auto pair = connect("vegas");
  expect_seen(pair, "delay 5ms rate 20mbit", kVegas);
}

TEST_F(Guest, OtherCongestionControlsAreNamedInFullAndHaveNoState) {
  std::vector<std::string> present;
  for (const char* algorithm : {"westwood", "illinois", "htcp", "bic", "highspeed", "hybla", "lp", "scalable", "veno",
                                "yeah", "nv", "cdg", "reno", "cubic"})
    if (has_congestion_control(algorithm)) present.emplace_back(algorithm);
  if (present.size() <= 2) GTEST_SKIP() << "needs other congestion controls than reno, cubic, bbr, dctcp and vegas";
  open_sources();
  ASSERT_TRUE(path("delay 1ms"));
  for (const auto& algorithm : present) {
    SCOPED_TRACE(algorithm);
    const auto pair = connect(algorithm);
    pair.client.send(100'000);
    pair.server.receive(100'000);
    std::this_thread::sleep_for(100ms);
    compare(pair.client, *client_host_);
    for (auto& [where, source] : sources_) {
      if (where != client_host_.get()) continue;
      const auto record = sample(*source, pair.client.cookie());
      ASSERT_TRUE(record) << name(source->id());
      EXPECT_EQ(Record(*record).congestion_control(), algorithm) << name(source->id());
    }
  }
}

TEST_F(Guest, LossDuplicationAndReorderingAreCountedAlikeByAllSources) {
  open_sources();
  const auto pair = connect("cubic");
  expect_seen(pair, "delay 10ms 2ms loss 2% duplicate 3%",
              {Field::total_retrans, Field::bytes_retrans, Field::dsack_dups, Field::reord_seen, Field::rcv_ooopack,
               Field::lost, Field::retrans, Field::sacked, Field::unacked, Field::retransmits, Field::backoff,
               Field::ca_state, Field::notsent_bytes, Field::snd_ssthresh});
}

TEST(GuestClock, AStepOfTheClockDuringARunChangesNoVerdict) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  if (!std::getenv("TCPINFO_GUEST"))
    GTEST_SKIP() << "needs a machine of its own (TCPINFO_GUEST): the clock is everybody's";
  if (lab::Process({.command = {"iperf3", "--version"}}).wait(10s) != 0) GTEST_SKIP() << "needs iperf3";
  char name[] = "/tmp/guest-test-XXXXXX";
  const std::filesystem::path directory = mkdtemp(name);
  {
    lab::Process run({.command = {TCPINFO_VALIDATE, "run", "--out", directory / "out", "--duration", "4s", "--set",
                                  "link.rate=20Mbit/s"},
                      .stdout_file = directory / "stdout",
                      .stderr_file = directory / "stderr"});
    for (int i = 0; i < 1000 && !std::filesystem::exists(directory / "out/bulk-ipv4/sockops.jsonl"); ++i)
      std::this_thread::sleep_for(10ms);
    for (const int seconds : {3600, -3600}) {
      std::this_thread::sleep_for(1s);
      timespec now{};
      ASSERT_EQ(clock_gettime(CLOCK_REALTIME, &now), 0);
      now.tv_sec += seconds;
      ASSERT_EQ(clock_settime(CLOCK_REALTIME, &now), 0);
    }
    const auto status = run.wait(60s);
    std::stringstream said;
    said << std::ifstream(directory / "stdout").rdbuf() << std::ifstream(directory / "stderr").rdbuf();
    constexpr int kNotPossible = 77;
    if (status && WIFEXITED(*status) && WEXITSTATUS(*status) == kNotPossible) {
      std::filesystem::remove_all(directory);
      GTEST_SKIP() << said.str();
    }
    EXPECT_EQ(status, 0) << said.str();
  }
  std::filesystem::remove_all(directory);
}

}  // namespace
