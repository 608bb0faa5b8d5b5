// SPDX-License-Identifier: BSD-2-Clause
// The byte ledger: at a stream's close the kernel's totals, as sockops gives them, are iperf3's to the byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/tcpinfo.hpp>

#include "iperf3.hpp"
#include "lab/lab.hpp"
#include "samples.hpp"

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::IsEmpty;
using testing::Not;
using validation::describe;
using validation::Iperf3Stream;

constexpr int kPort = 5201;

enum class Direction { kSend, kReceive, kBoth };  // of the client: -, -R, --bidir
enum class Amount { kTime, kBytes, kRate };       // -t, -n, -b
enum class Path { kFree, kLossy };

struct Case {
  const char* family;  // ipv4, ipv6, mapped
  int streams;
  Direction direction;
  Amount amount;
  Path path = Path::kFree;

  std::string name() const {
    const char* const directions[] = {"Send", "Receive", "Both"};
    const char* const amounts[] = {"Time", "Bytes", "Rate"};
    return fmt::format("{}{}{}{}{}", family, streams, directions[static_cast<int>(direction)],
                       amounts[static_cast<int>(amount)], path == Path::kLossy ? "Lossy" : "");
  }
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.name(); }

/// All that is known of one stream when both ends have closed.
struct Stream {
  std::string name;
  std::uint64_t written = 0;  // by iperf3 at the sender
  std::uint64_t read = 0;     // by iperf3 at the receiver
  bool sender_connects = false;
  tcpinfo_record sender{}, receiver{};

  std::uint64_t sender_cookie() const { return sender_connects ? validation::kCookieBytes : 0; }
  std::uint64_t receiver_cookie() const { return validation::kCookieBytes - sender_cookie(); }
  bool is_drained() const { return read == written; }
};

// What an end has passed to TCP: sent for the first time or still waiting, its FIN not counted. A FIN that waits counts
// as a byte of the queue, at its end.
std::uint64_t passed_to_tcp(const tcpinfo_record& close) {
  constexpr int kFinWait1 = 4, kLastAck = 9, kClosing = 11;
  const bool has_fin = close.old_state == kFinWait1 || close.old_state == kLastAck || close.old_state == kClosing;
  return close.bytes_sent - close.bytes_retrans + close.notsent_bytes - (has_fin && close.notsent_bytes > 0 ? 1 : 0);
}

// An end that closed first and has its FIN acknowledged becomes a TIME_WAIT socket, which keeps no totals: the peer's
// FIN goes there, unless it came together with that acknowledgement (kernel v6.18 net/ipv4/tcp_input.c
// tcp_rcv_state_process(), TCP_FIN_WAIT1). Then, and only then, bytes_received may lack it.
bool takes_fin_in_time_wait(const tcpinfo_record& close) {
  constexpr int kFinWait2 = 5;
  return close.old_state == kFinWait2;
}

/// Every sentence is a breach of the ledger.
std::vector<std::string> audit(const Stream& s) {
  std::vector<std::string> breaches;
  const auto expect = [&](bool holds, std::string_view what, std::uint64_t ours, std::uint64_t other) {
    if (!holds) breaches.push_back(fmt::format("{}: {}: {} and {}", s.name, what, ours, other));
  };
  const auto equal = [&](std::string_view what, std::uint64_t ours, std::uint64_t other) {
    expect(ours == other, what, ours, other);
  };
  const auto& from = s.sender;
  const auto& to = s.receiver;
  // iperf3 closes most streams with data still on its way: that is not in the way of the sender's ledger.
  equal("bytes_sent - bytes_retrans + notsent_bytes - FIN = iperf3's bytes + cookie", passed_to_tcp(from),
        s.written + s.sender_cookie());
  equal("the receiver sends nothing but its cookie", passed_to_tcp(to), s.receiver_cookie());
  // The FIN is one more in bytes_received, and the SYN in bytes_acked of the side that connects.
  const std::uint64_t syn = s.sender_connects ? 1 : 0;
  const std::uint64_t least_fin = takes_fin_in_time_wait(to) ? 0 : 1;
  expect(from.bytes_acked - syn <= to.bytes_received + 1 - least_fin, "acknowledged is no more than received",
         from.bytes_acked - syn, to.bytes_received);
  expect(to.bytes_received <= from.bytes_sent - from.bytes_retrans + 1, "received is no more than sent and a FIN",
         to.bytes_received, from.bytes_sent - from.bytes_retrans);
  expect(s.read + s.sender_cookie() <= to.bytes_received, "iperf3 has read no more than was received", s.read,
         to.bytes_received);
  expect(s.read <= s.written, "iperf3 has read no more than it wrote", s.read, s.written);
  expect(from.bytes_received - s.receiver_cookie() <= 1, "the sender receives the cookie and a FIN at most",
         from.bytes_received, s.receiver_cookie());
  if (!s.is_drained()) return breaches;
  equal("drained: bytes_sent - bytes_retrans = iperf3's bytes + cookie", from.bytes_sent - from.bytes_retrans,
        s.written + s.sender_cookie());
  equal("drained: bytes_acked - SYN - FIN = iperf3's bytes + cookie", from.bytes_acked - syn - 1,
        s.written + s.sender_cookie());
  const auto fin = to.bytes_received - s.read - s.sender_cookie();
  expect(least_fin <= fin && fin <= 1, "drained: bytes_received - FIN = iperf3's bytes + cookie", to.bytes_received,
         s.read + s.sender_cookie());
  return breaches;
}

/// A byte more in any figure of the ledger has to be a breach of it.
void expect_every_byte_counts(const Stream& sound) {
  const auto with = [&](auto change) {
    auto changed = sound;
    change(changed);
    return audit(changed);
  };
  EXPECT_THAT(with([](Stream& s) { ++s.written; }), Not(IsEmpty())) << sound.name;
  EXPECT_THAT(with([](Stream& s) { ++s.sender.bytes_sent; }), Not(IsEmpty())) << sound.name;
  EXPECT_THAT(with([](Stream& s) { ++s.sender.bytes_retrans; }), Not(IsEmpty())) << sound.name;
  // Beside it a FIN that waits is told by a state alone.
  EXPECT_THAT(with([](Stream& s) { s.sender.notsent_bytes += 2; }), Not(IsEmpty())) << sound.name;
  EXPECT_THAT(with([](Stream& s) { ++s.receiver.bytes_sent; }), Not(IsEmpty())) << sound.name;
  EXPECT_THAT(with([](Stream& s) { s.sender_connects = !s.sender_connects; }), Not(IsEmpty())) << sound.name;
  if (!sound.is_drained()) return;
  EXPECT_THAT(with([](Stream& s) { ++s.read; }), Not(IsEmpty())) << sound.name;
  EXPECT_THAT(with([](Stream& s) { ++s.sender.bytes_acked; }), Not(IsEmpty())) << sound.name;
  EXPECT_THAT(with([](Stream& s) { --s.sender.bytes_acked; }), Not(IsEmpty())) << sound.name;
  const int fin = takes_fin_in_time_wait(sound.receiver) ? 1 : 0;
  EXPECT_THAT(with([&](Stream& s) { s.receiver.bytes_received += 1 + fin; }), Not(IsEmpty())) << sound.name;
  EXPECT_THAT(with([&](Stream& s) { s.receiver.bytes_received -= 1 + fin; }), Not(IsEmpty())) << sound.name;
}

class Ledger : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    char name[] = "/tmp/ledger-test-XXXXXX";
    directory = mkdtemp(name);
  }

  void TearDown() override {
    if (!directory.empty()) fs::remove_all(directory);
  }

  std::vector<std::string> client_command() const {
    const auto& p = GetParam();
    const bool is_ipv6 = std::string_view(p.family) == "ipv6";
    std::vector<std::string> command{"iperf3", "-J",
                                     "-p",     std::to_string(kPort),
                                     "-c",     is_ipv6 ? "fd77::2" : "10.77.0.2",
                                     "-P",     std::to_string(p.streams)};
    const auto add = [&](std::initializer_list<std::string> more) { command.insert(command.end(), more); };
    if (p.direction == Direction::kReceive) add({"-R"});
    if (p.direction == Direction::kBoth) add({"--bidir"});
    if (p.amount == Amount::kTime) add({"-t", "1"});
    if (p.amount == Amount::kBytes) add({"-n", std::to_string(p.streams * 2'000'000)});
    // Blocks of 128 KB: the last one has long arrived when the time is over.
    if (p.amount == Amount::kRate) add({"-b", "1M", "-t", "2"});
    return command;
  }

  /// Runs iperf3 and gives the close records, by local and peer port.
  void run() {
    const auto& p = GetParam();
    const lab::Netns client_netns("tcpinfo-client"), server_netns("tcpinfo-server"), switch_netns("tcpinfo-switch");
    // The queue is not the sender's own: bytes_sent counts also what that refuses, and TCP then sends it anew without
    // calling it retransmitted (kernel v6.18 net/ipv4/tcp_output.c tcp_write_xmit()).
    lab::link(client_netns, server_netns, switch_netns,
              {.rate_mbit = p.amount == Amount::kRate ? 0.0
                            : p.path == Path::kLossy  ? 100.0
                                                      : 1000.0,
               .queue = p.path == Path::kLossy ? 4ms : 20ms});
    const lab::Cgroup cgroup("tcpinfo-ledger");
    tcpinfo::SockopsOptions options;
    options.cgroup = cgroup.path();
    options.mode = tcpinfo::Mode::kClose;
    tcpinfo::SockopsSource source(options);

    std::vector<std::string> command{"iperf3", "-s", "-1", "-J", "-p", std::to_string(kPort)};
    if (std::string_view(p.family) == "ipv4") command.emplace_back("-4");
    if (std::string_view(p.family) == "ipv6") command.emplace_back("-6");
    lab::Process server(
        {.command = command, .cgroup = &cgroup, .netns = &server_netns, .stdout_file = directory / "server.json"});
    for (int i = 0; i < 6000 && !server.listens(kPort); ++i) std::this_thread::sleep_for(10ms);
    lab::Process client({.command = client_command(),
                         .cgroup = &cgroup,
                         .netns = &client_netns,
                         .stdout_file = directory / "client.json"});
    ASSERT_EQ(client.wait(60s), std::optional(0));
    ASSERT_EQ(server.wait(10s), std::optional(0));

    const auto drain = [&] {
      source.drain([&](const tcpinfo::Record& record) {
        if (record.event() == TCPINFO_EVENT_CLOSE)
          closed[{*record.local_port(), *record.peer_port()}].push_back(record.raw());
      });
    };
    // What iperf3 left in the queues still has to arrive, or to be given up.
    std::uint64_t due = 0;
    for (int i = 0; i < 6000; ++i) {
      drain();
      due = source.statistics().connections;
      if (tcpinfo::Statistics::sum(source.statistics().emitted) >= due) break;
      std::this_thread::sleep_for(10ms);
    }
    source.stop();
    drain();
    const auto statistics = source.statistics();
    EXPECT_EQ(tcpinfo::Statistics::sum(statistics.emitted), due) << "connections that have not closed";
    EXPECT_EQ(tcpinfo::Statistics::sum(statistics.lost_ring), 0u) << "records lost in the ring";
    EXPECT_EQ(statistics.untracked, 0u);
    // Both ends of every stream and of the control connection.
    const int streams = p.direction == Direction::kBoth ? 2 * p.streams : p.streams;
    EXPECT_EQ(due, static_cast<std::uint64_t>(2 * streams + 2));
  }

  std::optional<tcpinfo_record> close_record(std::uint16_t local, std::uint16_t peer, const std::string& whose) const {
    const auto found = closed.find({local, peer});
    const auto records = found == closed.end() ? 0 : found->second.size();
    EXPECT_EQ(records, 1u) << "close records of the " << whose;
    return records == 1 ? std::optional(found->second.front()) : std::nullopt;
  }

  std::vector<Stream> streams() const {
    const auto client = validation::read_iperf3(directory / "client.json");
    const auto server = validation::read_iperf3(directory / "server.json");
    std::vector<Stream> result;
    for (const auto& here : client.streams) {
      const auto there = std::find_if(server.streams.begin(), server.streams.end(),
                                      [&](const Iperf3Stream& s) { return s.peer_port == here.local_port; });
      EXPECT_NE(there, server.streams.end()) << describe(here);
      if (there == server.streams.end()) continue;
      const auto at_client = close_record(here.local_port, here.peer_port, "client of " + describe(here));
      const auto at_server = close_record(here.peer_port, here.local_port, "server of " + describe(here));
      if (!at_client || !at_server) continue;
      Stream stream;
      stream.name = describe(here);
      stream.sender_connects = here.sender;
      stream.sender = here.sender ? *at_client : *at_server;
      stream.receiver = here.sender ? *at_server : *at_client;
      const auto& sender = here.sender ? here : *there;
      const auto& receiver = here.sender ? *there : here;
      EXPECT_TRUE(sender.sent_bytes && receiver.received_bytes) << describe(here);
      stream.written = sender.sent_bytes.value_or(0);
      stream.read = receiver.received_bytes.value_or(0);
      result.push_back(stream);
    }
    return result;
  }

  fs::path directory;
  std::map<std::pair<std::uint16_t, std::uint16_t>, std::vector<tcpinfo_record>> closed;
};

TEST_P(Ledger, HoldsToTheByte) {
  const auto& p = GetParam();
  ASSERT_NO_FATAL_FAILURE(run());
  const auto all = streams();
  ASSERT_EQ(all.size(), static_cast<std::size_t>(p.direction == Direction::kBoth ? 2 * p.streams : p.streams));
  std::size_t drained = 0;
  std::uint64_t written = 0, total_retrans = 0, bytes_retrans = 0;
  const bool is_mapped = std::string_view(p.family) == "mapped";
  for (const auto& stream : all) {
    EXPECT_THAT(audit(stream), IsEmpty());
    expect_every_byte_counts(stream);
    drained += stream.is_drained();
    written += stream.written;
    total_retrans += stream.sender.total_retrans;
    bytes_retrans += stream.sender.bytes_retrans;
    EXPECT_GT(stream.written, 0u) << stream.name;
    const auto& server = stream.sender_connects ? stream.receiver : stream.sender;
    EXPECT_EQ(server.family, std::string_view(p.family) == "ipv4" ? 2 : 10) << stream.name;
    EXPECT_EQ(tcpinfo_address_is_ipv4(&server.local_address) != 0, std::string_view(p.family) != "ipv6") << stream.name;
  }
  EXPECT_EQ(is_mapped, all.front().sender.family != all.front().receiver.family);
  if (p.amount == Amount::kRate) {
    EXPECT_EQ(drained, all.size());
  }
  if (p.path == Path::kLossy) {
    EXPECT_GT(total_retrans, 0u);
    EXPECT_GT(bytes_retrans, 0u);
  }
  fmt::print("{}: {} streams, {} drained, {} bytes, {} segments and {} bytes retransmitted\n", p.name(), all.size(),
             drained, written, total_retrans, bytes_retrans);
}

// Every pair of a number of streams, a direction, a family and an amount once at least.
INSTANTIATE_TEST_SUITE_P(Runs, Ledger,
                         testing::Values(Case{"ipv4", 1, Direction::kSend, Amount::kTime},
                                         Case{"ipv6", 1, Direction::kReceive, Amount::kRate},
                                         Case{"mapped", 1, Direction::kBoth, Amount::kBytes, Path::kLossy},
                                         Case{"ipv4", 2, Direction::kReceive, Amount::kBytes},
                                         Case{"ipv6", 2, Direction::kBoth, Amount::kTime},
                                         Case{"mapped", 2, Direction::kSend, Amount::kRate},
                                         Case{"ipv4", 8, Direction::kBoth, Amount::kRate},
                                         Case{"ipv6", 8, Direction::kSend, Amount::kBytes, Path::kLossy},
                                         Case{"mapped", 8, Direction::kReceive, Amount::kTime},
                                         Case{"ipv4", 32, Direction::kSend, Amount::kTime, Path::kLossy},
                                         Case{"ipv6", 32, Direction::kReceive, Amount::kRate},
                                         Case{"mapped", 32, Direction::kBoth, Amount::kBytes},
                                         Case{"ipv6", 128, Direction::kSend, Amount::kBytes},
                                         Case{"mapped", 128, Direction::kReceive, Amount::kTime, Path::kLossy},
                                         Case{"ipv4", 128, Direction::kBoth, Amount::kRate}),
                         [](const auto& i) { return i.param.name(); });

}  // namespace
