// SPDX-License-Identifier: BSD-2-Clause
#include "measurement.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace bench {
namespace {

// How many values may be left out at each end of `n` sorted ones so that the median lies between the rest with 95 %,
// whatever the distribution: P(X <= k) <= 2.5 % for X of Binomial(n, 1/2).
std::size_t outside(std::size_t n) {
  const auto count = static_cast<double>(n);
  double below = 0;
  std::size_t k = 0;
  for (; k < n; ++k) {
    const auto i = static_cast<double>(k);
    below += std::exp(std::lgamma(count + 1) - std::lgamma(i + 1) - std::lgamma(count - i + 1) - count * std::log(2.0));
    if (below > 0.025) break;
  }
  return k == 0 ? 0 : k - 1;
}

}  // namespace

Spread spread(std::span<const double> values) {
  if (values.empty()) throw std::invalid_argument("a spread of no values");
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  const std::size_t n = sorted.size();
  const std::size_t out = outside(n);
  return {.median = n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2,
          .low = sorted[out],
          .high = sorted[n - 1 - out],
          .count = n};
}

Spread ratio(std::span<const double> ours, std::span<const double> floor) {
  if (ours.size() != floor.size()) throw std::invalid_argument("a ratio of what are no pairs");
  std::vector<double> ratios(ours.size());
  for (std::size_t i = 0; i < ratios.size(); ++i) ratios[i] = ours[i] / floor[i];
  return spread(ratios);
}

double Result::judged() const noexcept {
  const Spread& judged = ratio ? *ratio : ours;
  if (!whole_interval) return judged.median;
  return sense == Sense::kAtMost ? judged.high : judged.low;
}

std::optional<bool> Result::reached() const noexcept {
  if (!goal) return std::nullopt;
  return sense == Sense::kAtMost ? judged() <= *goal : judged() >= *goal;
}

}  // namespace bench
