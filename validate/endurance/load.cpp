// SPDX-License-Identifier: BSD-2-Clause
#include "load.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <exception>
#include <utility>

#include <tcpinfo/error.hpp>
#include <tcpinfo/source.hpp>

namespace endurance {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr std::uint16_t kPort = 7000;

[[noreturn]] void fail(const char* action) { throw tcpinfo::Error({errno, std::system_category()}, action, ""); }

}  // namespace

Load::Load(const lab::Netns& netns, const lab::Cgroup& cgroup, const Options& options)
    : inside_(cgroup), netns_(netns), connections_(netns) {
  listener_ = connections_.listen(kPort);
  netns_.run([&] {
    for (int i = 0; i < options.flows; ++i) {
      lab::Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      address.sin_port = htons(kPort);
      if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) fail("connect");
      lab::Fd server(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (server.get() < 0 || ::fcntl(client.get(), F_SETFL, O_NONBLOCK) != 0) fail("accept");
      clients_.push_back(std::move(client));
      servers_.push_back(std::move(server));
    }
  });
  thread_ = std::thread([this, rate = options.rate] {
    try {
      netns_.run([&] { run(rate); });
    } catch (...) {
      error_ = std::current_exception();
    }
  });
}

Load::~Load() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

void Load::run(double rate) {
  char data[16384] = {};
  const auto begin = steady_clock::now();
  while (!stop_) {
    const auto due =
        static_cast<std::size_t>(std::chrono::duration<double>(steady_clock::now() - begin).count() * rate);
    bool idle = true;
    if (made_.size() < due) {
      const auto from = tcpinfo::boot_time_ns();
      connections_.one(listener_.get(), kPort);
      made_.push_back({from, tcpinfo::boot_time_ns()});
      idle = false;
    }
    for (std::size_t i = 0; i < clients_.size(); ++i) {
      idle &= ::send(clients_[i].get(), data, sizeof(data), MSG_NOSIGNAL) <= 0;
      while (::recv(servers_[i].get(), data, sizeof(data), 0) > 0) {
      }
    }
    if (idle) std::this_thread::sleep_for(100us);
  }
}

std::vector<Load::Short> Load::stop() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
  clients_.clear();
  servers_.clear();
  listener_.reset();
  if (error_) std::rethrow_exception(error_);
  return std::move(made_);
}

}  // namespace endurance
