// SPDX-License-Identifier: BSD-2-Clause
#include "measurement.hpp"

#include <algorithm>
#include <cmath>

namespace bench {

Spread spread(std::span<const double> values) {
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  const std::size_t n = sorted.size();
  Spread result;
  result.count = n;
  result.median = n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
  // The median lies between these two with 95 %, whatever the distribution: normal approximation of the binomial.
  const double half = 1.96 * std::sqrt(static_cast<double>(n)) / 2;
  const double middle = static_cast<double>(n) / 2;
  const auto at = [&](double place) {
    return sorted[static_cast<std::size_t>(std::clamp(place, 0.0, static_cast<double>(n - 1)))];
  };
  result.low = at(std::floor(middle - half));
  result.high = at(std::ceil(middle + half));
  return result;
}

Spread ratio(std::span<const double> ours, std::span<const double> floor) {
  std::vector<double> ratios(std::min(ours.size(), floor.size()));
  for (std::size_t i = 0; i < ratios.size(); ++i) ratios[i] = ours[i] / floor[i];
  return spread(ratios);
}

std::optional<bool> Result::reached() const noexcept {
  if (!goal) return std::nullopt;
  return sense == Sense::kAtMost ? judged() <= *goal : judged() >= *goal;
}

}  // namespace bench
