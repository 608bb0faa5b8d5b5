// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

/// Plain blocking loopback sockets for the kernel tests.
namespace lab {

inline int check(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

enum class Ip { kV4, kV6, kMapped };  // kMapped: both ends are AF_INET6 sockets that talk IPv4
inline const char* name(Ip ip) { return ip == Ip::kV4 ? "ipv4" : ip == Ip::kV6 ? "ipv6" : "mapped"; }

class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  explicit Socket(Ip ip)
      : fd_(check(::socket(ip == Ip::kV4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    close();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }
  ~Socket() { close(); }

  int fd() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  /// Closes with a reset instead of a FIN.
  void abort() {
    linger option{.l_onoff = 1, .l_linger = 0};
    check(setsockopt(fd_, SOL_SOCKET, SO_LINGER, &option, sizeof(option)), "SO_LINGER");
    close();
  }
  void send(std::size_t bytes) const {
    const std::string data(bytes, 'x');
    for (std::size_t done = 0; done < bytes;)
      done += static_cast<std::size_t>(
          check(static_cast<int>(::send(fd_, data.data() + done, bytes - done, MSG_NOSIGNAL)), "send"));
  }
  void receive(std::size_t bytes) const {
    std::string data(bytes, '\0');
    for (std::size_t done = 0; done < bytes;) {
      const int got = check(static_cast<int>(::recv(fd_, data.data(), bytes - done, 0)), "recv");
      if (got == 0) throw std::runtime_error("recv: the peer closed");
      done += static_cast<std::size_t>(got);
    }
  }
  template <class T>
  void set(int level, int option, const T& value) const {
    check(setsockopt(fd_, level, option, &value, sizeof(value)), "setsockopt");
  }
  void set_congestion_control(const char* algorithm) const {
    check(setsockopt(fd_, IPPROTO_TCP, TCP_CONGESTION, algorithm, static_cast<socklen_t>(std::strlen(algorithm))),
          "TCP_CONGESTION");
  }
  tcp_info info() const {
    tcp_info info{};
    socklen_t length = sizeof(info);
    check(getsockopt(fd_, IPPROTO_TCP, TCP_INFO, &info, &length), "TCP_INFO");
    return info;
  }
  std::uint64_t cookie() const {
    std::uint64_t cookie = 0;
    socklen_t length = sizeof(cookie);
    check(getsockopt(fd_, SOL_SOCKET, SO_COOKIE, &cookie, &length), "SO_COOKIE");
    return cookie;
  }
  std::uint16_t local_port() const { return port(&::getsockname); }

 private:
  std::uint16_t port(int (*ask)(int, sockaddr*, socklen_t*)) const {
    sockaddr_in6 address{};
    socklen_t length = sizeof(address);
    check(ask(fd_, reinterpret_cast<sockaddr*>(&address), &length), "getsockname");
    return ntohs(address.sin6_port);  // at the same place in sockaddr_in
  }
  int fd_ = -1;
};

struct Endpoint {
  sockaddr_storage storage{};
  socklen_t length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

inline Endpoint loopback(Ip ip, std::uint16_t port) {
  Endpoint endpoint;
  if (ip == Ip::kV4) {
    auto& address = reinterpret_cast<sockaddr_in&>(endpoint.storage);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    endpoint.length = sizeof(address);
  } else {
    auto& address = reinterpret_cast<sockaddr_in6&>(endpoint.storage);
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(port);
    inet_pton(AF_INET6, ip == Ip::kV6 ? "::1" : "::ffff:127.0.0.1", &address.sin6_addr);
    endpoint.length = sizeof(address);
  }
  return endpoint;
}

inline Socket listen(Ip ip, std::uint16_t port = 0) {
  Socket socket(ip);
  socket.set(SOL_SOCKET, SO_REUSEADDR, 1);
  if (ip == Ip::kMapped) socket.set(IPPROTO_IPV6, IPV6_V6ONLY, 0);
  const auto endpoint = loopback(ip, port);
  check(::bind(socket.fd(), endpoint.get(), endpoint.length), "bind");
  check(::listen(socket.fd(), 128), "listen");
  return socket;
}

inline void connect(const Socket& socket, Ip ip, std::uint16_t port) {
  const auto endpoint = loopback(ip, port);
  check(::connect(socket.fd(), endpoint.get(), endpoint.length), "connect");
}

inline Socket accept(const Socket& listener) {
  return Socket(check(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC), "accept"));
}

struct Pair {
  Socket client, server;
};

inline Pair connected(const Socket& listener, Ip ip) {
  Pair pair{Socket(ip), {}};
  connect(pair.client, ip, listener.local_port());
  pair.server = accept(listener);
  return pair;
}

/// Some data both ways, all of it read.
inline void exchange(const Pair& pair) {
  pair.client.send(100'000);
  pair.server.receive(100'000);
  pair.server.send(2'000);
  pair.client.receive(2'000);
}

/// The kernel's whole answer, whatever the C library's tcp_info holds.
inline std::vector<std::byte> raw_info(const Socket& socket) {
  std::vector<std::byte> info(1024);
  auto length = static_cast<socklen_t>(info.size());
  check(getsockopt(socket.fd(), IPPROTO_TCP, TCP_INFO, info.data(), &length), "TCP_INFO");
  info.resize(length);
  return info;
}

}  // namespace lab
