// SPDX-License-Identifier: BSD-2-Clause
// An echo service that watches its own connections in the same event loop, and reports its slowest peer.
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <boost/asio.hpp>
#include <tcpinfo/monitor.hpp>
#include <tcpinfo/tcpinfo.hpp>

namespace {

namespace asio = boost::asio;
using asio::use_awaitable;
using asio::ip::tcp;
using namespace std::chrono_literals;

constexpr auto kNoThrow = asio::as_tuple(use_awaitable);

struct Options {
  std::uint16_t port = 7007;
  std::chrono::seconds duration{0};  // 0: until a signal
};

struct Peer {
  std::string endpoint;
  std::uint32_t rtt_us = 0;
  std::uint32_t total_retrans = 0;
};

class Peers {
 public:
  void see(const tcpinfo::Record& record) {
    const auto cookie = record.cookie();
    if (!cookie) return;
    if (record.event() == TCPINFO_EVENT_CLOSE) {
      open_.erase(*cookie);
      return;
    }
    // Before the handshake is over there is no measurement, and srtt is 0.
    if (record.rtt().value_or(0) == 0 || !record.peer_address()) return;
    Peer& peer = open_[*cookie];
    if (peer.endpoint.empty())
      peer.endpoint =
          fmt::format("{} port {}", tcpinfo::to_string(*record.peer_address()), record.peer_port().value_or(0));
    peer.rtt_us = *record.rtt();
    peer.total_retrans = record.total_retrans().value_or(0);
    if (!slowest_ever_ || peer.rtt_us > slowest_ever_->rtt_us) slowest_ever_ = peer;
  }

  std::string now() const {
    const Peer* slowest = nullptr;
    for (const auto& [cookie, peer] : open_)
      if (!slowest || peer.rtt_us > slowest->rtt_us) slowest = &peer;
    return slowest ? fmt::format("{} connections, slowest {}", open_.size(), describe(*slowest)) : "no connections";
  }

  std::string ever() const { return slowest_ever_ ? "slowest of all: " + describe(*slowest_ever_) : "no connections"; }

 private:
  static std::string describe(const Peer& peer) {
    return fmt::format("{}: rtt {} us, {} segments retransmitted", peer.endpoint, peer.rtt_us, peer.total_retrans);
  }

  std::unordered_map<std::uint64_t, Peer> open_;
  std::optional<Peer> slowest_ever_;
};

asio::awaitable<void> echo(tcp::socket socket) {
  char data[16384];
  for (;;) {
    const auto [read_error, size] = co_await socket.async_read_some(asio::buffer(data), kNoThrow);
    if (read_error) co_return;
    const auto [write_error, written] = co_await asio::async_write(socket, asio::buffer(data, size), kNoThrow);
    if (write_error) co_return;
  }
}

asio::awaitable<void> serve(tcp::acceptor& acceptor) {
  for (;;) {
    auto [error, socket] = co_await acceptor.async_accept(kNoThrow);
    if (error) {
      // As when no descriptor is free: trying again at once would spin.
      std::cerr << "asio_service: accept: " << error.message() << '\n';
      asio::steady_timer pause(acceptor.get_executor(), 100ms);
      co_await pause.async_wait(use_awaitable);
      continue;
    }
    asio::co_spawn(acceptor.get_executor(), echo(std::move(socket)), asio::detached);
  }
}

asio::awaitable<void> watch(tcpinfo::Monitor& monitor, Peers& peers) {
  for (;;) {
    const auto [error, records] =
        co_await monitor.async_drain([&](const tcpinfo::Record& record) { peers.see(record); }, kNoThrow);
    if (error) std::cerr << "asio_service: " << error.message() << '\n';
  }
}

asio::awaitable<void> report(const Peers& peers) {
  asio::steady_timer timer(co_await asio::this_coro::executor, asio::steady_timer::clock_type::now());
  for (;;) {
    timer.expires_at(timer.expiry() + 1s);
    co_await timer.async_wait(use_awaitable);
    std::cout << peers.now() << std::endl;
  }
}

tcp::acceptor listen(asio::io_context& io, std::uint16_t port) try {
  return tcp::acceptor(io, {asio::ip::address_v4::loopback(), port});
} catch (const boost::system::system_error& error) {
  throw std::runtime_error(fmt::format("listen on 127.0.0.1 port {}: {} (choose another with --port, 0 for any)", port,
                                       error.code().message()));
}

void run(const Options& options) {
  asio::io_context io;
  tcp::acceptor acceptor = listen(io, options.port);
  const auto port = acceptor.local_endpoint().port();

  tcpinfo::SockopsOptions sockops;
  sockops.cgroup = tcpinfo::own_cgroup();
  sockops.filter = tcpinfo::Filter::parse(fmt::format("local_port == {}", port));
  tcpinfo::Monitor monitor(io, std::make_unique<tcpinfo::SockopsSource>(sockops));

  asio::signal_set signals(io, SIGINT, SIGTERM);
  signals.async_wait([&](auto, int) { io.stop(); });
  asio::steady_timer end(io);
  if (options.duration > 0s) {
    end.expires_after(options.duration);
    end.async_wait([&](auto) { io.stop(); });
  }

  Peers peers;
  std::cout << "echo service on 127.0.0.1 port " << port << std::endl;
  asio::co_spawn(io, serve(acceptor), asio::detached);
  asio::co_spawn(io, watch(monitor, peers), asio::detached);
  asio::co_spawn(io, report(peers), asio::detached);
  io.run();

  monitor.source().drain([&](const tcpinfo::Record& record) { peers.see(record); });
  const auto statistics = monitor.statistics();
  std::cout << peers.ever() << '\n'
            << fmt::format("{} records, {} lost\n", tcpinfo::Statistics::sum(statistics.delivered),
                           tcpinfo::Statistics::sum(statistics.lost_ring));
}

template <class Number>
bool parse(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

constexpr std::string_view kUsage =
    "usage: asio_service [--port PORT] [--duration SECONDS]\n"
    "  --port PORT         listen there on 127.0.0.1; 0: any free port (default 7007)\n"
    "  --duration SECONDS  end after that time (default: at Ctrl-C)\n"
    "example: asio_service --port 7007 & nc 127.0.0.1 7007\n";

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--help") {
      std::cout << kUsage;
      return 0;
    }
    unsigned seconds = 0;
    const std::string_view value = i + 1 < argc ? argv[++i] : "";
    if (name == "--port" && parse(value, options.port)) continue;
    if (name == "--duration" && parse(value, seconds)) {
      options.duration = std::chrono::seconds(seconds);
      continue;
    }
    std::cerr << fmt::format("asio_service: cannot use {} {}\n", name, value) << kUsage;
    return 2;
  }
  try {
    run(options);
  } catch (const std::exception& error) {
    std::cerr << "asio_service: " << error.what() << '\n';
    return 1;
  }
}
