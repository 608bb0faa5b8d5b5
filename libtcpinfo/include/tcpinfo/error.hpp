// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>
#include <system_error>

#include <tcpinfo/export.hpp>

namespace tcpinfo {

/// Conditions that are not a system call's errno.
enum class Errc {
  kNotCgroup2 = 1,     ///< the path is not a directory of a cgroup v2 hierarchy
  kNoBtf,              ///< the kernel offers no BTF type information
  kInvalidFilter,      ///< a filter expression that cannot be understood
  kInvalidOption,      ///< an option outside its range
  kMalformed,          ///< input (a recording, a netlink message) that breaks its format
  kForked,             ///< the object belongs to the parent of this process
  kCgroupNotVisible,   ///< the cgroup lies outside what is mounted here
  kAmbiguousUnit,      ///< several cgroups have the name of the unit
  kCgroupGone,         ///< the cgroup was removed: nothing more comes from it
  kInvalidTrigger,     ///< a trigger expression that cannot be understood
};

/// The category of Errc, named "tcpinfo". Thread safe.
TCPINFO_EXPORT const std::error_category& error_category() noexcept;

inline std::error_code make_error_code(Errc e) noexcept { return {static_cast<int>(e), error_category()}; }

/// Thrown by set-up. what() reads "action object: cause (way out)": what was tried, on which object, why it failed and
/// what to do; code() tells the cause to a program.
class TCPINFO_EXPORT Error : public std::system_error {
 public:
  /// `action` is what was tried and on which object, `way_out` what the user can do; it may be empty.
  Error(std::error_code code, std::string action, std::string way_out);
  ~Error() override;

  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

}  // namespace tcpinfo

template <>
struct std::is_error_code_enum<tcpinfo::Errc> : std::true_type {};
