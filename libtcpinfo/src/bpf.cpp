// SPDX-License-Identifier: BSD-2-Clause
#include "bpf.hpp"

#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include <cerrno>
#include <iterator>
#include <string_view>

#include <tcpinfo/error.hpp>
#include <tcpinfo/privileges.hpp>

#include "libbpf_log.hpp"
#include "module_types.hpp"

namespace tcpinfo::bpf {
namespace {

constexpr const char* kTypes = "/sys/kernel/btf";

// Those of `capabilities` that this thread lacks; CAP_SYS_ADMIN stands for all of them, for the kernel too.
Privileges missing_of(std::string_view capabilities) {
  const auto effective = Privileges::effective();
  if (effective.contains(Privilege::kSysAdmin)) return {};
  Privileges needed;
  for (const auto privilege : {Privilege::kBpf, Privilege::kNetAdmin, Privilege::kPerfmon, Privilege::kSysAdmin})
    if (capabilities.find(name(privilege)) != capabilities.npos) needed |= {privilege};
  return needed - effective;
}

}  // namespace

OpenOptions::OpenOptions() {
  options_.sz = sizeof(options_);
  // Asked of the kernel rather than of the thread's capabilities: a user namespace, for one, may make them differ.
  __u32 id = 0;
  if (bpf_btf_get_next_id(0, &id) == 0 || errno != EPERM) return;
  types_ = types_with_modules(kTypes);
  path_ = types_ ? "/proc/self/fd/" + std::to_string(types_.get()) : std::string(kTypes) + "/vmlinux";
  options_.btf_custom_path = path_.c_str();
}

// The coarse clocks advance by one tick: their resolution tells HZ exactly, without privilege or kernel config.
// kernel v6.18 kernel/time/hrtimer.c, posix-timers: KTIME_LOW_RES is NSEC_PER_SEC / HZ
__u32 kernel_hz() noexcept {
  timespec tick{};
  if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) != 0 || tick.tv_nsec <= 0) return 0;
  return static_cast<__u32>((1'000'000'000 + tick.tv_nsec / 2) / tick.tv_nsec);
}

int refusal_of_iterator(const char* target) {
  const auto refusal = [](const char* name) {
    const bpf_insn nothing[] = {{BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    bpf_prog_load_opts options{};
    options.sz = sizeof(options);
    options.expected_attach_type = BPF_TRACE_ITER;
    const int type = libbpf_find_vmlinux_btf_id(name, BPF_TRACE_ITER);
    if (type < 0) return -type;
    options.attach_btf_id = static_cast<__u32>(type);
    const sys::Fd program(bpf_prog_load(BPF_PROG_TYPE_TRACING, nullptr, "GPL", nothing, std::size(nothing), &options));
    return program ? 0 : errno;
  };
  const int error = refusal(target);
  return error && !refusal("tcp") ? error : 0;
}

std::string way_out_of(int error, const char* capabilities) {
  if (error == EPERM || error == EACCES) {
    const auto missing = missing_of(capabilities);
    return std::string("needs ") + capabilities +
           (missing.empty() ? ", which this thread has: seccomp, lockdown or a security module forbids it"
                            : ", of which this thread lacks " + missing.to_string()) +
           "; try tcpinfo doctor";
  }
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
  // To whom lacks CAP_PERFMON the verifier does not know the helpers that give the kernel's structures: EINVAL.
  if ((error == EINVAL || error == EACCES) && !missing_of(capabilities).empty()) error = EPERM;
  // libbpf tries what the kernel can do, and takes one that has no memory for a try for an old one.
  if (error == EINVAL) {
    const sys::Fd map(bpf_map_create(BPF_MAP_TYPE_ARRAY, nullptr, sizeof(__u32), sizeof(__u32), 1, nullptr));
    if (!map && errno == ENOMEM) error = ENOMEM;
  }
  fail(error, action, way_out_of(error, capabilities));
}

}  // namespace tcpinfo::bpf
