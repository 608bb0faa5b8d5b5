// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace lab {

enum class Ecn : std::uint8_t { kEct1 = 1, kCongestionExperienced = 3 };

/// Changes the ECN code point of an IP packet, to "congestion experienced" or ECT(1), if the sender is capable of ECN;
/// false if it is not.
bool set_ecn(std::span<std::byte> packet, Ecn code_point) noexcept;

/// A TCP segment on its way over a link of ours, from its IP header on.
struct Segment {
  std::span<std::byte> bytes;
  bool from_a = false;
  bool ipv6 = false;
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  std::uint32_t sequence = 0;
  std::size_t payload = 0;
  bool syn = false, ack = false, fin = false, rst = false;

  bool set_ecn(Ecn code_point) const noexcept { return lab::set_ecn(bytes, code_point); }
};

/// Nothing if the IP packet is no whole TCP segment.
std::optional<Segment> parse_segment(std::span<std::byte> packet, bool from_a) noexcept;

}  // namespace lab
