// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/privileges.hpp>

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <system_error>
#include <vector>

#include <tcpinfo/error.hpp>

#include "system.hpp"

namespace tcpinfo {
namespace {

static_assert(static_cast<int>(Privilege::kDacOverride) == CAP_DAC_OVERRIDE);
static_assert(static_cast<int>(Privilege::kDacReadSearch) == CAP_DAC_READ_SEARCH);
static_assert(static_cast<int>(Privilege::kNetAdmin) == CAP_NET_ADMIN);
static_assert(static_cast<int>(Privilege::kSysPtrace) == CAP_SYS_PTRACE);
static_assert(static_cast<int>(Privilege::kSysAdmin) == CAP_SYS_ADMIN);
static_assert(static_cast<int>(Privilege::kPerfmon) == CAP_PERFMON);
static_assert(static_cast<int>(Privilege::kBpf) == CAP_BPF);

// Of this thread. The C library has no function for it, and libcap would be one more library for two system calls.
using Sets = std::array<__user_cap_data_struct, 2>;
int get(Sets& sets) noexcept {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capget, &header, sets.data()) == 0 ? 0 : errno;
}
int set(const Sets& sets) noexcept {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capset, &header, sets.data()) == 0 ? 0 : errno;
}

[[noreturn]] void fail(int error, const char* action) {
  throw Error({error, std::generic_category()}, action, "is there a seccomp filter that forbids it?");
}

}  // namespace

std::string_view name(Privilege privilege) noexcept {
  switch (privilege) {
    case Privilege::kDacOverride:
      return "CAP_DAC_OVERRIDE";
    case Privilege::kDacReadSearch:
      return "CAP_DAC_READ_SEARCH";
    case Privilege::kNetAdmin:
      return "CAP_NET_ADMIN";
    case Privilege::kSysPtrace:
      return "CAP_SYS_PTRACE";
    case Privilege::kSysAdmin:
      return "CAP_SYS_ADMIN";
    case Privilege::kPerfmon:
      return "CAP_PERFMON";
    case Privilege::kBpf:
      return "CAP_BPF";
  }
  return {};
}

Privileges Privileges::effective() noexcept {
  Sets sets{};
  if (get(sets) != 0) return {};
  return Privileges(std::uint64_t{sets[1].effective} << 32 | sets[0].effective);
}

std::string Privileges::to_string() const {
  std::vector<std::string> names;
  // As they are named everywhere: that without which nothing goes comes first.
  if (contains(Privilege::kBpf)) names.emplace_back(name(Privilege::kBpf));
  for (auto rest = (*this - Privileges{Privilege::kBpf}).bits_; rest != 0; rest &= rest - 1) {
    const int number = std::countr_zero(rest);
    const auto known = name(static_cast<Privilege>(number));
    names.push_back(known.empty() ? "capability " + std::to_string(number) : std::string(known));
  }
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i)
    text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  return text;
}

void Privileges::drop(Privileges keep) {
  Sets sets{};
  int error = sys::fault("drop privileges");
  if (!error) error = get(sets);
  if (!error) {
    for (std::size_t i = 0; i < sets.size(); ++i) {
      sets[i].permitted &= static_cast<__u32>(keep.bits_ >> (32 * i));
      sets[i].effective &= sets[i].permitted;
      sets[i].inheritable = 0;  // and so is the ambient set
    }
    error = set(sets);
  }
  if (error) fail(error, "drop capabilities");
}

void forbid_new_privileges() {
  int error = sys::fault("forbid new privileges");
  if (!error && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) error = errno;
  if (error) fail(error, "forbid new privileges");
}

}  // namespace tcpinfo
