// SPDX-License-Identifier: BSD-2-Clause
#include "tcp_iterator.hpp"

#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include <bpf/bpf.h>

#include <cerrno>
#include <string_view>
#include <utility>

namespace tcpinfo {
namespace {

/// Seen with Debian's 6.12.95, not with 6.1, 6.18 and 7.2: where nobody listens in the namespace, iter/tcp leaves out
/// the first chain of the hash of established connections, of 16,384 or more.
bool leaves_out_the_first_chain() noexcept {
  static const bool leaves = [] {
    utsname names{};
    return ::uname(&names) == 0 && std::string_view(names.release).starts_with("6.12.");
  }();
  return leaves;
}

}  // namespace

int TcpIterator::begin(int link) noexcept {
  reset();
  iterator_.reset(bpf_iter_create(link));
  if (!iterator_) return errno;
  if (leaves_out_the_first_chain()) listen();
  return 0;
}

void TcpIterator::reset() noexcept {
  iterator_.reset();
  listener_.reset();
  own_listener_ = 0;
}

// Nobody can connect to it: it is on loopback only, and drops whatever comes. Where it is refused, the pass is as the
// kernel makes it.
void TcpIterator::listen() noexcept {
  sock_filter drop{BPF_RET | BPF_K, 0, 0, 0};
  const sock_fprog filter{1, &drop};
  constexpr char kLoopback[] = "lo";
  sys::Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  socklen_t length = sizeof(own_listener_);
  if (!socket || ::setsockopt(socket.get(), SOL_SOCKET, SO_BINDTODEVICE, kLoopback, sizeof(kLoopback)) != 0 ||
      ::setsockopt(socket.get(), SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) != 0 ||
      ::getsockopt(socket.get(), SOL_SOCKET, SO_COOKIE, &own_listener_, &length) != 0 || ::listen(socket.get(), 0) != 0)
    own_listener_ = 0;
  else
    listener_ = std::move(socket);
}

}  // namespace tcpinfo
