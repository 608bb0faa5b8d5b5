// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <filesystem>
#include <string>
#include <system_error>

#include "system.hpp"

namespace tcpinfo {

/// The directory in a bpffs in which a source leaves its maps, and its links if that is wanted, for the next one.
class Pins {
 public:
  /// None.
  Pins() = default;
  /// Makes `directory` where it is not there, and takes it: no other process may while this lives. Throws Error: it is
  /// in no bpffs (Errc::kInvalidOption), another source uses it (EBUSY), or what the system answered.
  explicit Pins(const std::filesystem::path& directory);
  /// Takes a directory that is there. Throws Error.
  static Pins of(const std::filesystem::path& directory);

  explicit operator bool() const noexcept { return static_cast<bool>(lock_); }
  const std::filesystem::path& directory() const noexcept { return directory_; }
  std::filesystem::path path(const std::string& name) const { return directory_ / name; }

  /// What has this name there, empty if nothing has. Throws Error.
  sys::Fd get(const std::string& name) const;
  /// Throws Error.
  void put(const std::string& name, int descriptor) const;
  /// Removes what is there, with `also_directory` that too. What could not be removed comes first.
  std::error_code clear(bool also_directory) const noexcept;

 private:
  std::filesystem::path directory_;
  sys::Fd lock_;
};

}  // namespace tcpinfo
