// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>

/// Another user of sock_ops beside the library.
namespace lab {

inline constexpr std::uint32_t kRtoFlag = 1, kRetransFlag = 2, kStateFlag = 4, kRttFlag = 8;
inline constexpr std::uint32_t kStateOp = 10, kRttOp = 12;

struct NeighbourOptions {
  std::filesystem::path cgroup;
  std::uint32_t flags = 0;  ///< callback flags that it wants
  bool is_polite = true;    ///< it ORs them to those that are there; else it overwrites
  bool insists = false;     ///< at each of its callbacks, not only when a connection begins
};

/// Attached while it lives.
class Neighbour {
 public:
  explicit Neighbour(const NeighbourOptions& options);
  ~Neighbour();

  std::uint32_t id() const;
  std::uint64_t callbacks(std::uint32_t op) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The callback flags of every socket of this thread's network namespace, listeners too, by cookie.
class Flags {
 public:
  Flags();
  ~Flags();
  std::map<std::uint64_t, std::uint32_t> all() const;
  std::uint32_t of(std::uint64_t cookie) const { return all().at(cookie); }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lab
