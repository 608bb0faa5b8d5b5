// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/cost.hpp>

#include <unistd.h>

#include <bpf/bpf.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <fstream>
#include <system_error>
#include <utility>

#include <tcpinfo/error.hpp>

#include "bpf.hpp"
#include "system.hpp"

namespace tcpinfo {
namespace {

bool on_for_all() {
  std::ifstream file("/proc/sys/kernel/bpf_stats_enabled");
  int value = 0;
  return file >> value && value == 1;
}

// Only the kernel knows what a map takes: it is a figure of the descriptor. Before 6.4 it is entries times their size,
// which of a ring buffer is 0.
std::uint64_t map_bytes(int descriptor, const bpf_map_info& info) {
  const std::uint64_t least = info.type == BPF_MAP_TYPE_RINGBUF ? info.max_entries : 0;
  std::ifstream file("/proc/self/fdinfo/" + std::to_string(descriptor));
  for (std::string word; file >> word;) {
    std::uint64_t bytes = 0;
    if (word == "memlock:" && file >> bytes) return std::max(bytes, least);
  }
  return least;
}

// kernel v6.18 include/linux/bpf_local_storage.h, struct bpf_local_storage_elem: two cache lines, the value from the
// ninth byte of the second one on, and kmalloc(), whose sizes are the powers of two, 96 and 192.
std::uint32_t element_bytes(std::uint32_t value) {
  const std::uint32_t wanted = 72 + value;
  for (const std::uint32_t size : {96u, 192u})
    if (wanted <= size && wanted > size * 2 / 3) return size;
  return std::bit_ceil(wanted);
}

}  // namespace

KernelStatistics::KernelStatistics() : descriptor_(-1) {
  int error = sys::fault("enable statistics");
  if (!error) {
    descriptor_ = bpf_enable_stats(BPF_STATS_RUN_TIME);
    if (descriptor_ < 0) error = errno;
  }
  if (!error || on_for_all()) return;
  const char* const sysctl = "sysctl kernel.bpf_stats_enabled=1, by an administrator, does it for everybody";
  throw Error(
      std::error_code(error, std::generic_category()), "switch on the kernel's statistics of BPF programs",
      std::string(error == EPERM || error == EACCES ? "needs CAP_SYS_ADMIN; " : "needs a kernel from 5.8; ") + sysctl);
}

KernelStatistics::KernelStatistics(KernelStatistics&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

KernelStatistics& KernelStatistics::operator=(KernelStatistics&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

KernelStatistics::~KernelStatistics() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

MapCost bpf::cost_of_map(int descriptor, std::string name) {
  bpf_map_info info{};
  __u32 size = sizeof(info);
  bpf_obj_get_info_by_fd(descriptor, &info, &size);
  return {.name = std::move(name),
          .id = info.id,
          .bytes = map_bytes(descriptor, info),
          .element_bytes = info.type == BPF_MAP_TYPE_SK_STORAGE ? element_bytes(info.value_size) : 0};
}

Cost bpf::cost_of(const bpf_object* object) {
  Cost cost;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    if (!bpf_program__autoload(program)) continue;
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size);
    cost.programs.push_back({.name = bpf_program__name(program),
                             .id = info.id,
                             .runs = info.run_cnt,
                             .run_time_ns = info.run_time_ns,
                             .recursion_misses = info.recursion_misses,
                             .instructions = info.verified_insns,
                             .code_bytes = info.jited_prog_len,
                             .in_own_process = bpf_program__expected_attach_type(program) == BPF_TRACE_ITER});
  }
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (bpf_map__autocreate(map)) cost.maps.push_back(cost_of_map(bpf_map__fd(map), bpf_map__name(map)));
  }
  return cost;
}

}  // namespace tcpinfo
