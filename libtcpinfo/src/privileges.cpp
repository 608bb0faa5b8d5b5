// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/privileges.hpp>

#include <sys/capability.h>
#include <sys/prctl.h>

#include <bit>
#include <cerrno>
#include <memory>
#include <system_error>
#include <type_traits>
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

using Sets = std::unique_ptr<std::remove_pointer_t<cap_t>, int (*)(void*)>;
Sets own(cap_t sets) noexcept { return {sets, cap_free}; }

// Beyond cap_max_bits() the kernel has none.
template <class Visit>
void for_each_in(const Sets& sets, cap_flag_t which, Visit visit) {
  for (cap_value_t capability = 0; capability < cap_max_bits(); ++capability)
    if (cap_flag_value_t value = CAP_CLEAR;
        cap_get_flag(sets.get(), capability, which, &value) == 0 && value == CAP_SET)
      visit(capability);
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
  Privileges found;
  if (const auto sets = own(cap_get_proc()))
    for_each_in(sets, CAP_EFFECTIVE, [&](cap_value_t capability) { found.bits_ |= bit(capability); });
  return found;
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
  int error = sys::fault("drop privileges");
  if (!error) {
    // Of its inheritable set nothing is left, and so nothing of the ambient one.
    const auto has = own(cap_get_proc()), left = own(cap_init());
    bool is_made = has && left;
    if (is_made)
      for_each_in(has, CAP_PERMITTED, [&](cap_value_t capability) {
        if ((keep.bits_ & bit(capability)) == 0) return;
        for (const auto set : {CAP_PERMITTED, CAP_EFFECTIVE})
          is_made &= cap_set_flag(left.get(), set, 1, &capability, CAP_SET) == 0;
      });
    if (!is_made || cap_set_proc(left.get()) != 0) error = errno;
  }
  if (error) fail(error, "drop capabilities");
}

void forbid_new_privileges() {
  int error = sys::fault("forbid new privileges");
  if (!error && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) error = errno;
  if (error) fail(error, "forbid new privileges");
}

}  // namespace tcpinfo
