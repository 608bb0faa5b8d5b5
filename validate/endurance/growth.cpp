// SPDX-License-Identifier: BSD-2-Clause
#include "growth.hpp"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>

namespace endurance {
namespace {

struct Quantity {
  const char* name;
  std::uint64_t Usage::*member;
  std::uint64_t allowed;  ///< growth
};

constexpr Quantity kQuantities[] = {
    {"memory of the process, bytes", &Usage::resident_bytes, 1 << 20},
    {"descriptors", &Usage::descriptors, 0},
    {"memory of its maps, bytes", &Usage::map_bytes, 0},
    {"BPF programs of the host", &Usage::programs, 0},
    {"BPF maps of the host", &Usage::maps, 0},
    {"BPF links of the host", &Usage::links, 0},
};

}  // namespace

Growth::Verdict Growth::verdict() const {
  Verdict verdict{true, {}};
  if (readings_.size() < 5) return {false, "fewer than five readings: too short to tell\n"};
  const auto most = [&](std::size_t fifth, std::uint64_t Usage::*member) {
    const auto begin = readings_.begin() + static_cast<std::ptrdiff_t>(readings_.size() * fifth / 5);
    const auto end = readings_.begin() + static_cast<std::ptrdiff_t>(readings_.size() * (fifth + 1) / 5);
    return (*std::max_element(begin, end, [&](const Usage& a, const Usage& b) { return a.*member < b.*member; })).*
           member;
  };
  for (const auto& quantity : kQuantities) {
    const auto early = most(1, quantity.member), late = most(4, quantity.member);
    const bool grew = late > early + quantity.allowed;
    verdict.is_flat &= !grew;
    verdict.text +=
        fmt::format("{:<30} {:>12} early {:>12} late{}\n", quantity.name, early, late, grew ? "  GREW" : "");
  }
  return verdict;
}

}  // namespace endurance
