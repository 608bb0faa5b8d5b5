// SPDX-License-Identifier: BSD-2-Clause
// A loss is told to a consumer that does nothing but wait. In a file of its own: Asio's headers and those of the other
// tests' sockets both define tcp_info.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <tcpinfo/monitor.hpp>
#include <tcpinfo/tcpinfo.hpp>

#include "lab/lab.hpp"
#include "requirements.hpp"

namespace {

using namespace std::chrono_literals;
using boost::asio::ip::tcp;

// The next deadline is an hour away, and records are lost while it drains: nothing else happens afterwards.
TEST(AccountingMonitor, ALossDuringADrainIsToldWithoutAnyFurtherRecord) {
  TCPINFO_NEEDS_BPF();
  const lab::Netns netns("tcpinfo-test");
  const lab::Cgroup cgroup("tcpinfo-test");
  netns.run([&] {
    const lab::InCgroup in(cgroup);
    tcpinfo::SockopsOptions options;
    options.cgroup = cgroup.path();
    options.mode = tcpinfo::Mode::kClose;  // the others look after the callback flags each second
    options.latency = 1h;
    options.life_cycle_ring_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    boost::asio::io_context loop;
    tcpinfo::Monitor monitor(loop, std::make_unique<tcpinfo::SockopsSource>(options));
    tcp::acceptor listener(loop, {boost::asio::ip::address_v4::loopback(), 0});
    const auto connect_and_abort = [&](int times) {
      for (int i = 0; i < times; ++i) {
        tcp::socket client(loop);
        client.connect(listener.local_endpoint());
        const auto server = listener.accept();
        client.set_option(tcp::socket::linger(true, 0));
      }
    };
    tcpinfo::EventCounts told{};
    bool flooded = false;
    const auto lost = [&] { return monitor.source().statistics().lost_ring; };
    monitor.start(
        [&](const tcpinfo::Record& record) {
          if (!std::exchange(flooded, true)) connect_and_abort(40);
          if (record.event() != TCPINFO_EVENT_GAP) return;
          told[*record.lost_event()] += *record.lost_records();
          if (told == lost()) loop.stop();
        },
        [](const boost::system::error_code& error) { ADD_FAILURE() << error.message(); });
    connect_and_abort(4);
    EXPECT_GT(tcpinfo::Statistics::sum(lost()), 0u);
    loop.run_for(10s);
    EXPECT_TRUE(flooded);
    EXPECT_GT(told[TCPINFO_EVENT_CLOSE], 20u);
    EXPECT_EQ(told, lost());
    monitor.close();
  });
}

}  // namespace
