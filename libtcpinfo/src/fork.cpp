// SPDX-License-Identifier: BSD-2-Clause
#include "fork.hpp"

#include <pthread.h>

#include <atomic>
#include <system_error>

namespace tcpinfo {
namespace {

constinit std::atomic<unsigned> generation = 0;

}  // namespace

unsigned fork_generation() {
  static const int error = ::pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1, std::memory_order_relaxed); });
  if (error) throw std::system_error(error, std::generic_category(), "watch for forks of this process");
  return generation.load(std::memory_order_relaxed);
}

}  // namespace tcpinfo
