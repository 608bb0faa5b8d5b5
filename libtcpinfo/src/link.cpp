// SPDX-License-Identifier: BSD-2-Clause
#include "link.hpp"

#include <bpf/libbpf.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>

namespace tcpinfo::bpf {

// The list is locked across fork(), so that the child finds it whole. What the child does is safe after a fork of a
// process with threads: it takes no other lock and no memory.
struct ForkHandlers {
  static constinit std::mutex mutex;
  static constinit Link* first;

  static void prepare() { mutex.lock(); }
  static void parent() { mutex.unlock(); }
  static void child() {
    for (auto* link = first; link; link = link->next_) {
      const int harmless = ::eventfd(0, EFD_CLOEXEC);
      ::dup3(harmless >= 0 ? harmless : STDERR_FILENO, link->descriptor_, O_CLOEXEC);
      if (harmless >= 0) ::close(harmless);
    }
    mutex.unlock();
  }
};

constinit std::mutex ForkHandlers::mutex;
constinit Link* ForkHandlers::first = nullptr;

void Link::reset(bpf_link* link) noexcept {
  if (link_) {
    const std::lock_guard lock(ForkHandlers::mutex);
    bpf_link__destroy(link_);
    (before_ ? before_->next_ : ForkHandlers::first) = next_;
    if (next_) next_->before_ = before_;
    next_ = before_ = nullptr;
    link_ = nullptr;
    descriptor_ = -1;
  }
  if (!link) return;
  static const int error = ::pthread_atfork(ForkHandlers::prepare, ForkHandlers::parent, ForkHandlers::child);
  if (error) {
    bpf_link__destroy(link);
    errno = error;
    return;
  }
  link_ = link;
  descriptor_ = bpf_link__fd(link);
  const std::lock_guard lock(ForkHandlers::mutex);
  next_ = ForkHandlers::first;
  if (next_) next_->before_ = this;
  ForkHandlers::first = this;
}

}  // namespace tcpinfo::bpf
