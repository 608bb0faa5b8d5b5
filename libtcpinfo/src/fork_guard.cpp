// SPDX-License-Identifier: BSD-2-Clause
#include "fork_guard.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <mutex>

#include <tcpinfo/error.hpp>

namespace tcpinfo {

// The list is locked across fork(), so that the child finds it whole. What the child does is safe after a fork of a
// process with threads: it takes no other lock and no memory.
struct ForkHandlers {
  static constinit std::mutex mutex;
  static constinit ForkGuard* first;

  static void prepare() { mutex.lock(); }
  static void parent() { mutex.unlock(); }
  static void child() {
    for (auto* guard = first; guard; guard = guard->next_) {
      guard->in_child_ = true;
      for (const int link : guard->links_)
        if (link >= 0) ::dup3(guard->harmless_, link, O_CLOEXEC);
    }
    mutex.unlock();
  }
};

constinit std::mutex ForkHandlers::mutex;
constinit ForkGuard* ForkHandlers::first = nullptr;

ForkGuard::ForkGuard(std::array<int, 2> links, int harmless) : links_(links), harmless_(harmless) {
  static const int error = ::pthread_atfork(ForkHandlers::prepare, ForkHandlers::parent, ForkHandlers::child);
  if (error) throw Error({error, std::generic_category()}, "watch for forks of this process", "");
  const std::lock_guard lock(ForkHandlers::mutex);
  next_ = ForkHandlers::first;
  if (next_) next_->before_ = this;
  ForkHandlers::first = this;
}

ForkGuard::~ForkGuard() {
  const std::lock_guard lock(ForkHandlers::mutex);
  (before_ ? before_->next_ : ForkHandlers::first) = next_;
  if (next_) next_->before_ = before_;
}

}  // namespace tcpinfo
