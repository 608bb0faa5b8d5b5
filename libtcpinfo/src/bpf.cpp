// SPDX-License-Identifier: BSD-2-Clause
#include "bpf.hpp"

#include <time.h>
#include <unistd.h>

#include <cerrno>

#include <tcpinfo/error.hpp>

#include "libbpf_log.hpp"

namespace tcpinfo::bpf {

// The coarse clocks advance by one tick: their resolution tells HZ exactly, without privilege or kernel config.
// kernel v6.18 kernel/time/hrtimer.c, posix-timers: KTIME_LOW_RES is NSEC_PER_SEC / HZ
__u32 kernel_hz() noexcept {
  timespec tick{};
  if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) != 0 || tick.tv_nsec <= 0) return 0;
  return static_cast<__u32>((1'000'000'000 + tick.tv_nsec / 2) / tick.tv_nsec);
}

std::string way_out_of(int error, const char* capabilities) {
  if (error == EPERM || error == EACCES) return std::string("needs ") + capabilities + "; try tcpinfo doctor";
  if (error == ENOMEM) return "the kernel has no memory for it; of a ring buffer, try a smaller one";
  const auto warning = LibbpfLog::first_warning();
  const std::string old = error == EINVAL ? "the kernel may be too old, it needs 6.1; " : "";
  return old + (warning.empty() ? "" : warning + "; ") + "try tcpinfo doctor";
}

void fail(int error, const std::string& action, const std::string& way_out) {
  throw Error(std::error_code(error, std::generic_category()), action, way_out);
}

void fail_load(int error, const std::string& action, const char* capabilities) {
  // Without type information CO-RE relocation cannot begin; say that rather than what follows from it.
  if (access("/sys/kernel/btf/vmlinux", R_OK) != 0)
    throw Error(make_error_code(Errc::kNoBtf), action,
                "needs a kernel with CONFIG_DEBUG_INFO_BTF, which /sys/kernel/btf/vmlinux shows; the inet_diag source "
                "works without");
  fail(error, action, way_out_of(error, capabilities));
}

}  // namespace tcpinfo::bpf
