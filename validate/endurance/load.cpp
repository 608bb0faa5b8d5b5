// SPDX-License-Identifier: BSD-2-Clause
#include "load.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <exception>
#include <string>
#include <thread>
#include <utility>

#include <tcpinfo/error.hpp>
#include <tcpinfo/source.hpp>

#include "lab/connections.hpp"

namespace endurance {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr std::uint16_t kPort = 7000;

[[noreturn]] void fail(int error, std::string action) {
  throw tcpinfo::Error({error, std::system_category()}, std::move(action), "");
}

volatile std::sig_atomic_t told_to_stop = 0;

struct Flow {
  lab::Fd client, server;
};

Flow establish(int listener) {
  Flow flow{lab::Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), lab::Fd()};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(kPort);
  if (::connect(flow.client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    fail(errno, "connect");
  flow.server.reset(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (flow.server.get() < 0 || ::fcntl(flow.client.get(), F_SETFL, O_NONBLOCK) != 0) fail(errno, "accept");
  return flow;
}

bool put(int pipe, const void* from, std::size_t size) {
  for (auto* bytes = static_cast<const char*>(from); size > 0;) {
    const auto written = ::write(pipe, bytes, size);
    if (written < 0 && errno != EINTR) return false;
    bytes += std::max<ssize_t>(written, 0);
    size -= static_cast<std::size_t>(std::max<ssize_t>(written, 0));
  }
  return true;
}

std::vector<Load::Short> make(const lab::Netns& netns, const Load::Options& options, int ready) {
  lab::Connections connections(netns);
  const auto listener = connections.listen(kPort);
  std::vector<Load::Short> made;
  netns.run([&] {
    std::vector<Flow> flows;
    for (int i = 0; i < options.flows; ++i) flows.push_back(establish(listener.get()));
    put(ready, "r", 1);
    char data[16384] = {};
    for (const auto begin = steady_clock::now(); told_to_stop == 0;) {
      const std::chrono::duration<double> passed = steady_clock::now() - begin;
      bool idle = true;
      if (made.size() < static_cast<std::size_t>(passed.count() * options.rate)) {
        const auto from = tcpinfo::boot_time_ns();
        connections.one(listener.get(), kPort);
        made.push_back({from, tcpinfo::boot_time_ns()});
        idle = false;
      }
      for (const auto& flow : flows) {
        idle &= ::send(flow.client.get(), data, sizeof(data), MSG_NOSIGNAL) <= 0;
        while (::recv(flow.server.get(), data, sizeof(data), 0) > 0) {
        }
      }
      if (idle) std::this_thread::sleep_for(100us);
    }
  });
  return made;
}

[[noreturn]] void live(const lab::Netns& netns, const lab::Cgroup& cgroup, const Load::Options& options, int result) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct sigaction stop {};
  stop.sa_handler = [](int) { told_to_stop = 1; };
  stop.sa_flags = SA_RESTART;
  ::sigaction(SIGTERM, &stop, nullptr);
  try {
    cgroup.enter();
    const auto made = make(netns, options, result);
    ::_exit(put(result, made.data(), made.size() * sizeof(made[0])) ? 0 : 1);
  } catch (const std::exception& error) {
    put(result, error.what(), std::strlen(error.what()));
    ::_exit(1);
  }
}

}  // namespace

Load::Load(const lab::Netns& netns, const lab::Cgroup& cgroup, const Options& options) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail(errno, "start a load");
  result_.reset(ends[0]);
  lab::Fd other_end(ends[1]);
  pid_ = ::fork();
  if (pid_ == 0) {
    result_.reset();
    live(netns, cgroup, options, other_end.get());
  }
  if (pid_ < 0) fail(errno, "start a load");
  other_end.reset();
  char ready = 0;
  if (::read(result_.get(), &ready, 1) == 1 && ready == 'r') return;
  ::waitpid(pid_, nullptr, 0);
  fail(ECHILD, "start a load: it ended");
}

Load::~Load() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::vector<Load::Short> Load::stop() {
  ::kill(pid_, SIGTERM);
  std::string answer;
  char some[65536];
  for (ssize_t got; (got = ::read(result_.get(), some, sizeof(some))) != 0;) {
    if (got > 0)
      answer.append(some, static_cast<std::size_t>(got));
    else if (errno != EINTR)
      fail(errno, "hear from a load");
  }
  int status = 0;
  ::waitpid(std::exchange(pid_, -1), &status, 0);
  if (status != 0) fail(ECHILD, "a load: " + answer);
  std::vector<Short> made(answer.size() / sizeof(Short));
  std::memcpy(made.data(), answer.data(), made.size() * sizeof(Short));
  return made;
}

}  // namespace endurance
