// SPDX-License-Identifier: BSD-2-Clause
#include "growth.hpp"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>

namespace endurance {
namespace {

struct Quantity {
  const char* name;
  std::uint64_t (*of)(const Usage&);
  std::uint64_t allowed;  ///< growth
};

constexpr Quantity kQuantities[] = {
    {"memory of the process, bytes", [](const Usage& usage) { return usage.resident_bytes; }, 1 << 20},
    {"descriptors", [](const Usage& usage) { return usage.descriptors; }, 0},
    {"memory of its maps, bytes", [](const Usage& usage) { return usage.map_bytes; }, 0},
    {"its BPF programs", [](const Usage& usage) { return std::uint64_t{usage.objects.programs.size()}; }, 0},
    {"its BPF maps", [](const Usage& usage) { return std::uint64_t{usage.objects.maps.size()}; }, 0},
    {"its BPF links", [](const Usage& usage) { return std::uint64_t{usage.objects.links.size()}; }, 0},
};

}  // namespace

Growth::Verdict Growth::verdict() const {
  Verdict verdict{true, {}};
  if (readings_.size() < 5) return {false, "fewer than five readings: too short to tell\n"};
  const auto most = [&](std::size_t fifth, const Quantity& quantity) {
    std::uint64_t found = 0;
    for (auto i = readings_.size() * fifth / 5; i < readings_.size() * (fifth + 1) / 5; ++i)
      found = std::max(found, quantity.of(readings_[i]));
    return found;
  };
  for (const auto& quantity : kQuantities) {
    const auto early = most(1, quantity), late = most(4, quantity);
    const bool grew = late > early + quantity.allowed;
    verdict.is_flat &= !grew;
    verdict.text +=
        fmt::format("{:<30} {:>12} early {:>12} late{}\n", quantity.name, early, late, grew ? "  GREW" : "");
  }
  return verdict;
}

}  // namespace endurance
