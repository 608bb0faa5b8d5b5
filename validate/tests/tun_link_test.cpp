// SPDX-License-Identifier: BSD-2-Clause
// The link that the equality test drives: what it does to packets, by what the receiver gets.
#include "lab/tun_link.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>

#include <cstdio>
#include <memory>

#include "lab/sockets.hpp"
#include "lab/tun_device.hpp"

namespace {

class TunLink : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    if (!lab::tun_available()) GTEST_SKIP() << "needs /dev/net/tun (CONFIG_TUN; try modprobe tun)";
    a_ = std::make_unique<lab::Netns>("tcpinfo-link");
    b_ = std::make_unique<lab::Netns>("tcpinfo-link");
    link_ = std::make_unique<lab::TunLink>(*a_, *b_);
    for (const auto* netns : {a_.get(), b_.get()})
      netns->run([] {
        if (std::FILE* file = std::fopen("/proc/sys/net/ipv4/tcp_ecn", "w")) {
          std::fputs("1", file);
          std::fclose(file);
        }
      });
  }

  lab::Pair connect(bool ipv6) {
    lab::Socket listener, client;
    const int family = ipv6 ? AF_INET6 : AF_INET;
    const auto make = [&] {
      return lab::Socket(lab::check(::socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket"));
    };
    sockaddr_in6 six{};
    sockaddr_in four{};
    six.sin6_family = AF_INET6;
    four.sin_family = AF_INET;
    const auto* address = ipv6 ? reinterpret_cast<const sockaddr*>(&six) : reinterpret_cast<const sockaddr*>(&four);
    const socklen_t length = ipv6 ? sizeof(six) : sizeof(four);
    b_->run([&] {
      listener = make();
      lab::check(::bind(listener.fd(), address, length), "bind");
      lab::check(::listen(listener.fd(), 10), "listen");
    });
    four.sin_port = six.sin6_port = htons(listener.local_port());
    inet_pton(AF_INET, "10.77.0.2", &four.sin_addr);
    inet_pton(AF_INET6, "fd77::2", &six.sin6_addr);
    a_->run([&] { client = make(); });
    client.set(IPPROTO_TCP, TCP_NODELAY, 1);
    client.set_congestion_control("reno");  // does not pace
    EXPECT_NE(::connect(client.fd(), address, length), 0);
    link_->pump();
    return {std::move(client), lab::Socket(::accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK))};
  }
  static ssize_t waiting(const lab::Socket& socket) {
    char buffer[1000];
    return ::recv(socket.fd(), buffer, sizeof(buffer), 0);
  }

  std::unique_ptr<lab::Netns> a_, b_;
  std::unique_ptr<lab::TunLink> link_;
};

TEST_F(TunLink, NothingMovesButInsidePump) {
  for (const bool ipv6 : {false, true}) {
    const auto pair = connect(ipv6);
    ASSERT_GE(pair.server.fd(), 0);
    pair.client.send(10);
    EXPECT_EQ(waiting(pair.server), -1);
    EXPECT_EQ(pair.client.info().tcpi_unacked, 1u);
    EXPECT_GE(link_->pump(), 2u) << "the segment and its acknowledgement";
    EXPECT_EQ(waiting(pair.server), 10);
    link_->pump();
    EXPECT_EQ(pair.client.info().tcpi_unacked, 0u);
  }
}

TEST_F(TunLink, ASegmentIsDroppedHeldDoubledOrMarkedAsDecided) {
  for (const bool ipv6 : {false, true}) {
    SCOPED_TRACE(ipv6 ? "IPv6" : "IPv4");
    const auto pair = connect(ipv6);
    ASSERT_GE(pair.server.fd(), 0);
    const auto port = pair.client.local_port();
    auto fate = lab::Fate::kDrop;
    bool mark = false, marked = false;
    std::size_t seen = 0;
    link_->on_segment([&](const lab::Segment& segment) {
      if (!segment.from_a || segment.payload == 0) return lab::Fate::kPass;
      EXPECT_EQ(segment.source_port, port);
      ++seen;
      if (mark) marked = segment.set_ecn(lab::Ecn::kCongestionExperienced);
      return fate;
    });
    pair.client.send(10);
    link_->pump();
    EXPECT_EQ(seen, 1u);
    EXPECT_EQ(waiting(pair.server), -1) << "dropped";
    EXPECT_EQ(pair.server.info().tcpi_data_segs_in, 0u);

    fate = lab::Fate::kHold;
    pair.client.send(20);
    link_->pump();
    EXPECT_EQ(pair.server.info().tcpi_data_segs_in, 0u);
    EXPECT_GE(link_->release(), 1u);
    EXPECT_EQ(pair.server.info().tcpi_data_segs_in, 1u) << "the second one, out of order";
    EXPECT_EQ(waiting(pair.server), -1);

    fate = lab::Fate::kTwice;
    const auto before = pair.server.info().tcpi_segs_in;
    pair.client.send(5);
    link_->pump();
    EXPECT_GE(pair.server.info().tcpi_segs_in, before + 2);

    fate = lab::Fate::kPass;
    mark = true;
    const auto unmarked = pair.server.info().tcpi_segs_in;
    pair.client.send(5);
    link_->pump();
    EXPECT_TRUE(marked) << "ECN is on";
    EXPECT_EQ(pair.server.info().tcpi_segs_in, unmarked + 1) << "its checksums still hold";
    link_->on_segment({});
  }
}

TEST_F(TunLink, AClogKeepsPacketsChargedToTheirSockets) {
  const auto pair = connect(false);
  ASSERT_GE(pair.server.fd(), 0);
  const auto charged = [&] {
    std::uint32_t memory[9]{};
    socklen_t length = sizeof(memory);
    lab::check(getsockopt(pair.client.fd(), SOL_SOCKET, SO_MEMINFO, memory, &length), "SO_MEMINFO");
    return memory[2];
  };
  pair.client.send(10);
  EXPECT_EQ(charged(), 0u);
  {
    const lab::Clog clog(*a_, "tun0");
    for (int i = 0; i < 10; ++i) pair.client.send(1400);
    EXPECT_GT(charged(), 0u);
  }
  EXPECT_EQ(charged(), 0u);
}

TEST_F(TunLink, TheDevicesGoWithTheObject) {
  const auto count = [&] {
    unsigned index = 0;
    a_->run([&] { index = if_nametoindex("tun0"); });
    return index;
  };
  EXPECT_NE(count(), 0u);
  link_.reset();
  EXPECT_EQ(count(), 0u);
}

}  // namespace
