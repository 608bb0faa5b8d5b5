// SPDX-License-Identifier: BSD-2-Clause
#include "units.hpp"

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "command.hpp"

namespace cli {
namespace {

struct Suffix {
  std::string_view name;
  double factor;
};

// A number and one of the suffixes; nothing if it is not that, negative, or `limit` and more.
std::optional<double> parse_scaled(std::string_view text, std::span<const Suffix> suffixes, double limit) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || !(number >= 0)) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  for (const auto& suffix : suffixes)
    if (unit == suffix.name && number * suffix.factor < limit) return number * suffix.factor;
  if (unit.empty() && number == 0) return 0;
  return std::nullopt;
}

// Three significant digits; `value` is less than 1000 or of the last unit.
std::string three_digits(double value, std::string_view unit) {
  return fmt::format("{:.{}f}{}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0, unit);
}

// The unit is the first one by which it is less than 1000, or the last.
std::string three_digits_of(double value, double step, std::initializer_list<std::string_view> units) {
  auto unit = units.begin();
  for (; value >= 999.5 && unit + 1 != units.end(); ++unit) value /= step;
  return three_digits(value, *unit);
}

std::size_t edits(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

}  // namespace

std::chrono::nanoseconds parse_duration(std::string_view option, std::string_view text) {
  static constexpr Suffix kSuffixes[] = {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"min", 60e9}, {"h", 3600e9}};
  constexpr double kLimit = 9.2e18;  // of nanoseconds in 64 bits
  if (const auto value = parse_scaled(text, kSuffixes, kLimit))
    return std::chrono::nanoseconds(static_cast<std::int64_t>(*value + 0.5));
  usage_error(fmt::format("{} {}: not a time (a number followed by ns, us, ms, s, min or h, as 100ms)", option, text));
}

std::size_t parse_size(std::string_view option, std::string_view text) {
  static constexpr Suffix kSuffixes[] = {{"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}};
  constexpr double kLimit = 9e18;
  if (const auto value = parse_scaled(text, kSuffixes, kLimit)) return static_cast<std::size_t>(*value);
  usage_error(fmt::format("{} {}: not a size (bytes, or a number followed by K, M or G, as 4M)", option, text));
}

std::uint64_t parse_count(std::string_view option, std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value > 0) return value;
  usage_error(fmt::format("{} {}: not a whole number from 1", option, text));
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
  return *std::ranges::min_element(candidates, {}, [word](std::string_view candidate) {
    // What only lacks its end is nearest of all.
    return word.size() > 1 && candidate.starts_with(word) ? 0 : edits(word, candidate);
  });
}

std::size_t choose(std::string_view option, std::string_view word, std::span<const std::string_view> choices) {
  const auto found = std::ranges::find(choices, word);
  if (found != choices.end()) return static_cast<std::size_t>(found - choices.begin());
  usage_error(fmt::format("{} {}: unknown (it is one of {}; did you mean {}?)", option, word, fmt::join(choices, ", "),
                          nearest(word, choices)));
}

std::string human_time(std::uint64_t microseconds) {
  if (microseconds < 1000) return fmt::format("{}us", microseconds);
  const auto value = static_cast<double>(microseconds);
  if (value < 999.5e3) return three_digits(value / 1e3, "ms");
  return three_digits(value / 1e6, "s");
}

std::string human_nanoseconds(double nanoseconds) {
  return three_digits_of(nanoseconds, 1000, {"ns", "us", "ms", "s"});
}

std::string human_count(double count) {
  if (count == 0) return "0";
  return three_digits_of(count, 1000, {"", "k", "M", "G", "T"});
}

std::string human_bytes(std::uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{}B", bytes);
  return three_digits_of(static_cast<double>(bytes), 1024, {"B", "KiB", "MiB", "GiB", "TiB"});
}

std::string human_rate(std::uint64_t bytes_per_second) {
  if (bytes_per_second < 125) return fmt::format("{}b/s", bytes_per_second * 8);
  return three_digits_of(static_cast<double>(bytes_per_second) * 8, 1000, {"b/s", "Kb/s", "Mb/s", "Gb/s", "Tb/s"});
}

}  // namespace cli
