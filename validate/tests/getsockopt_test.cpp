// SPDX-License-Identifier: BSD-2-Clause
// The getsockopt source on this kernel: it says what a process was answered and changes no answer.
#include "getsockopt.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include <tcpinfo/error.hpp>
#include <tcpinfo/sockops.hpp>
#include <tcpinfo/tcp_info.hpp>

#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "requirements.hpp"

namespace {

using testing::IsEmpty;
using testing::Not;
using validation::GetsockoptSource;

struct Answer {
  int result, error;
  socklen_t length;
  std::vector<char> bytes;

  bool operator==(const Answer&) const = default;
};

Answer ask(int socket, int level, int option, std::size_t room) {
  Answer answer{0, 0, static_cast<socklen_t>(room), std::vector<char>(room, 0x5a)};
  answer.result = ::getsockopt(socket, level, option, answer.bytes.data(), &answer.length);
  answer.error = answer.result != 0 ? errno : 0;
  return answer;
}

class Getsockopt : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    TCPINFO_NEEDS_BPF();
  }

  static std::vector<tcpinfo_record> drain(GetsockoptSource& source) {
    std::vector<tcpinfo_record> records;
    source.drain([&](const tcpinfo::Record& record) { records.push_back(record.raw()); });
    return records;
  }
};

TEST_F(Getsockopt, GivesTheVeryBytesAndLeavesThemAlone) {
  const lab::Cgroup cgroup("tcpinfo-test");
  const lab::InCgroup inside(cgroup);
  tcpinfo::SockopsOptions sockops_options;
  sockops_options.cgroup = cgroup.path();
  const tcpinfo::SockopsSource sockops(sockops_options);
  GetsockoptSource source({.cgroup = cgroup.path()});
  for (const auto ip : {lab::Ip::kV4, lab::Ip::kV6, lab::Ip::kMapped}) {
    SCOPED_TRACE(lab::name(ip));
    const auto listener = lab::listen(ip);
    const auto pair = lab::connected(listener, ip);
    pair.client.send(5);
    const int family = ip == lab::Ip::kV4 ? AF_INET : AF_INET6;
    const char* const address = ip == lab::Ip::kV6 ? "::1" : "127.0.0.1";
    // As iperf3 3.12 asks on Debian 12, as much as there is, more than a page, and a few bytes.
    for (const std::size_t room : {sizeof(tcp_info), std::size_t{280}, std::size_t{10'000}, std::size_t{60}}) {
      SCOPED_TRACE(room);
      const auto before = tcpinfo::boot_time_ns();
      const auto answer = ask(pair.client.fd(), IPPROTO_TCP, TCP_INFO, room);
      ASSERT_EQ(answer.result, 0);
      ASSERT_LE(answer.length, room);
      for (std::size_t i = answer.length; i < room; ++i) ASSERT_EQ(answer.bytes[i], 0x5a) << "byte " << i;
      const auto records = drain(source);
      ASSERT_FALSE(records.empty());
      const tcpinfo::Record record(records[0]);
      auto expected = tcpinfo::make_record();
      tcpinfo::read_tcp_info(std::as_bytes(std::span(answer.bytes)).first(answer.length), expected);
      EXPECT_EQ(tcpinfo::Record(expected).rtt().has_value(), room > 60);
      for (const auto& field : tcpinfo::fields()) {
        const tcpinfo::Record wanted(expected);
        if (wanted.has(field.field)) {
          EXPECT_EQ(record.number(field.field), wanted.number(field.field)) << field.name;
        }
      }
      EXPECT_EQ(record.cookie(), pair.client.cookie());
      EXPECT_EQ(record.source(), TCPINFO_SOURCE_GETSOCKOPT);
      EXPECT_EQ(record.family(), family);
      EXPECT_EQ(record.local_port(), pair.client.local_port());
      EXPECT_EQ(record.peer_port(), listener.local_port());
      EXPECT_EQ(tcpinfo::to_string(*record.local_address()), address);
      EXPECT_EQ(tcpinfo::to_string(*record.peer_address()), address);
      EXPECT_GT(*record.time_ns(), before);
      EXPECT_LT(*record.time_ns(), tcpinfo::boot_time_ns());
      if (records.size() < 2) continue;  // before kernel 6.2
      const tcpinfo::Record twin(records[1]);
      EXPECT_EQ(twin.source(), TCPINFO_SOURCE_SOCKOPS);
      EXPECT_EQ(twin.swept(), 1);
      for (const auto field : {tcpinfo::Field::time_ns, tcpinfo::Field::cookie, tcpinfo::Field::netns_cookie,
                               tcpinfo::Field::local_port, tcpinfo::Field::peer_port, tcpinfo::Field::family})
        EXPECT_EQ(twin.number(field), record.number(field)) << tcpinfo::info(field).name;
      EXPECT_EQ(tcpinfo::to_string(*twin.peer_address()), tcpinfo::to_string(*record.peer_address()));
    }
  }
  const auto statistics = source.statistics();
  EXPECT_EQ(statistics.emitted[TCPINFO_EVENT_SAMPLE], statistics.delivered[TCPINFO_EVENT_SAMPLE]);
  EXPECT_GE(statistics.emitted[TCPINFO_EVENT_SAMPLE], 8u);
  EXPECT_EQ(statistics.lost_ring[TCPINFO_EVENT_SAMPLE], 0u);
}

TEST_F(Getsockopt, AllOtherAnswersStayAsTheyAre) {
  const lab::Cgroup cgroup("tcpinfo-test");
  const lab::InCgroup inside(cgroup);  // the program runs for sockets that were made here
  const auto listener = lab::listen(lab::Ip::kV4);
  const auto pair = lab::connected(listener, lab::Ip::kV4);
  struct Question {
    int socket, level, option;
    std::size_t room;
  };
  std::vector<Question> questions;
  for (const std::size_t room : {std::size_t{0}, std::size_t{1}, std::size_t{4}, std::size_t{16}, std::size_t{4096},
                                 std::size_t{4097}, std::size_t{70'000}})
    for (const int socket : {pair.client.fd(), listener.fd(), -1})
      for (const auto& [level, option] : std::initializer_list<std::pair<int, int>>{{SOL_SOCKET, SO_RCVBUF},
                                                                                    {SOL_SOCKET, SO_COOKIE},
                                                                                    {SOL_SOCKET, SO_ERROR},
                                                                                    {SOL_SOCKET, 31'000},
                                                                                    {IPPROTO_TCP, TCP_MAXSEG},
                                                                                    {IPPROTO_TCP, TCP_CONGESTION},
                                                                                    {IPPROTO_TCP, TCP_CC_INFO},
                                                                                    {IPPROTO_TCP, 31'000},
                                                                                    {IPPROTO_IP, IP_TOS},
                                                                                    {IPPROTO_IP, IP_OPTIONS}})
        questions.push_back({socket, level, option, room});
  std::vector<Answer> before, with;
  for (const auto& q : questions) before.push_back(ask(q.socket, q.level, q.option, q.room));
  GetsockoptSource source({.cgroup = cgroup.path()});
  for (const auto& q : questions) with.push_back(ask(q.socket, q.level, q.option, q.room));
  EXPECT_THAT(drain(source), IsEmpty());
  ask(pair.client.fd(), IPPROTO_TCP, TCP_INFO, 280);
  EXPECT_THAT(drain(source), Not(IsEmpty())) << "it was attached";
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const auto& q = questions[i];
    EXPECT_EQ(before[i], with[i]) << "socket " << q.socket << " level " << q.level << " option " << q.option << " room "
                                  << q.room << ": " << before[i].result << " " << before[i].error << " "
                                  << before[i].length << " became " << with[i].result << " " << with[i].error << " "
                                  << with[i].length;
  }
}

TEST_F(Getsockopt, CountsWhatTheRingDoesNotHold) {
  const lab::Cgroup cgroup("tcpinfo-test");
  const lab::InCgroup inside(cgroup);
  GetsockoptSource source({.cgroup = cgroup.path()});
  const auto listener = lab::listen(lab::Ip::kV4);
  const auto pair = lab::connected(listener, lab::Ip::kV4);
  for (int i = 0; i < 10'000; ++i) ask(pair.client.fd(), IPPROTO_TCP, TCP_INFO, 280);
  std::size_t delivered = 0;
  source.stop();
  source.drain([&](const tcpinfo::Record&) { ++delivered; });
  const auto statistics = source.statistics();
  EXPECT_GT(statistics.lost_ring[TCPINFO_EVENT_SAMPLE], 0u);
  EXPECT_EQ(statistics.emitted[TCPINFO_EVENT_SAMPLE], delivered + statistics.lost_ring[TCPINFO_EVENT_SAMPLE]);
  EXPECT_EQ(statistics.delivered[TCPINFO_EVENT_SAMPLE], delivered);
  source.close();
  EXPECT_EQ(source.statistics().emitted, statistics.emitted);
}

TEST_F(Getsockopt, RefusesWhatIsNoCgroup) {
  EXPECT_THROW(GetsockoptSource({.cgroup = "/tmp"}), tcpinfo::Error);
  EXPECT_THROW(GetsockoptSource({.cgroup = "/nonexistent"}), tcpinfo::Error);
}

}  // namespace
