// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace cli {

/// "100ms", "1.5s", "0": a time that `option` was given. Throws Failure (kUsage).
std::chrono::nanoseconds parse_duration(std::string_view option, std::string_view text);
/// "65536", "64K", "4M", "1G": bytes, in powers of 1024. Throws Failure (kUsage).
std::size_t parse_size(std::string_view option, std::string_view text);

/// A whole number from 1. Throws Failure (kUsage).
std::uint64_t parse_count(std::string_view option, std::string_view text);

/// The candidate that takes the fewest edits to become `word`.
std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);
/// The place of `word` in `choices`. Throws Failure (kUsage) that names them all and the nearest.
std::size_t choose(std::string_view option, std::string_view word, std::span<const std::string_view> choices);

/// Three digits and a unit, as "812us", "12.3ms".
std::string human_time(std::uint64_t microseconds);
/// The same of nanoseconds, as "61.2ns", "1.50us".
std::string human_nanoseconds(double nanoseconds);
/// Three digits and k, M, G: "12.3k".
std::string human_count(double count);
/// Three digits and a unit, in powers of 1024: "4.02MiB".
std::string human_bytes(std::uint64_t bytes);
/// Bits a second, three digits and a unit, as "941Mb/s".
std::string human_rate(std::uint64_t bytes_per_second);

}  // namespace cli
