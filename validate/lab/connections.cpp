// SPDX-License-Identifier: BSD-2-Clause
#include "connections.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <utility>

#include <tcpinfo/error.hpp>

namespace lab {
namespace {

[[noreturn]] void fail(std::string action) {
  throw tcpinfo::Error({errno, std::system_category()}, std::move(action), "");
}

sockaddr_in address_of(std::uint32_t host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(host);
  address.sin_port = htons(port);
  return address;
}

}  // namespace

Connections::Connections(const Netns& netns) : netns_(netns) {
  // Else the ends that wait out TIME_WAIT would pile up, and find more of them the longer it lasts.
  netns_.run([] {
    std::ofstream file("/proc/sys/net/ipv4/tcp_max_tw_buckets");
    if (!(file << "1024" << std::flush)) fail("write /proc/sys/net/ipv4/tcp_max_tw_buckets");
  });
}

Fd Connections::listen(std::uint16_t port) const {
  Fd listener;
  netns_.run([&] { listener.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); });
  const auto address = address_of(INADDR_ANY, port);
  if (listener.get() < 0 || ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(listener.get(), 16) != 0)
    fail("listen for connections");
  return listener;
}

void Connections::one(int listener, std::uint16_t port) {
  // Each to another address, so that no port is ever in use by a connection in TIME_WAIT.
  destination_ = (destination_ + 1) % 0xfffff0;
  const auto address = address_of(0x7f000001 + destination_, port);
  const Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) fail("connect");
  const Fd server(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  char byte = 'x';
  if (server.get() < 0 || ::send(client.get(), &byte, 1, MSG_NOSIGNAL) != 1) fail("use a connection");
  // By shutdown() it is over before its sockets are closed. close() could have the rest done in the process of whoever
  // holds a socket's file just then, as one does who reads /proc/PID/fd: there are machines where no BPF program runs
  // in some process.
  if (::shutdown(client.get(), SHUT_WR) != 0) fail("end a connection");
  if (::recv(server.get(), &byte, 1, 0) != 1) fail("use a connection");
  if (::shutdown(server.get(), SHUT_WR) != 0) fail("end a connection");
}

}  // namespace lab
