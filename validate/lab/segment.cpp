// SPDX-License-Identifier: BSD-2-Clause
#include "lab/segment.hpp"

#include <netinet/in.h>

namespace lab {
namespace {

unsigned at(std::span<const std::byte> bytes, std::size_t offset) { return std::to_integer<unsigned>(bytes[offset]); }

unsigned word_at(std::span<const std::byte> bytes, std::size_t offset) {
  return at(bytes, offset) << 8 | at(bytes, offset + 1);
}

}  // namespace

bool set_ecn(std::span<std::byte> packet, Ecn code_point) noexcept {
  const bool ipv4 = at(packet, 0) >> 4 == 4;
  const unsigned bits = ipv4 ? at(packet, 1) & 3 : at(packet, 1) >> 4 & 3;
  if (bits == 0) return false;
  const auto wanted = static_cast<unsigned>(code_point);
  if (!ipv4) {
    packet[1] = static_cast<std::byte>((at(packet, 1) & ~0x30u) | wanted << 4);
    return true;
  }
  // RFC 1624: the header's checksum follows the one word that changes.
  const unsigned before = word_at(packet, 0);
  packet[1] = static_cast<std::byte>((at(packet, 1) & ~3u) | wanted);
  unsigned sum = (~word_at(packet, 10) & 0xffff) + (~before & 0xffff) + word_at(packet, 0);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = ~(sum + (sum >> 16)) & 0xffff;
  packet[10] = static_cast<std::byte>(sum >> 8);
  packet[11] = static_cast<std::byte>(sum & 0xff);
  return true;
}

std::optional<Segment> parse_segment(std::span<std::byte> packet, bool from_a) noexcept {
  constexpr std::size_t kIpv4Header = 20, kIpv6Header = 40, kTcpHeader = 20;
  if (packet.size() < kIpv4Header + kTcpHeader) return std::nullopt;
  std::size_t tcp = 0;
  if (at(packet, 0) >> 4 == 4) {
    tcp = (at(packet, 0) & 0xf) * 4;
    if (at(packet, 9) != IPPROTO_TCP) return std::nullopt;
  } else {
    tcp = kIpv6Header;
    if (packet.size() < tcp + kTcpHeader || at(packet, 6) != IPPROTO_TCP) return std::nullopt;
  }
  if (packet.size() < tcp + kTcpHeader) return std::nullopt;
  const auto header = packet.subspan(tcp);
  Segment segment;
  segment.bytes = packet;
  segment.from_a = from_a;
  segment.ipv6 = at(packet, 0) >> 4 == 6;
  segment.source_port = static_cast<std::uint16_t>(word_at(header, 0));
  segment.destination_port = static_cast<std::uint16_t>(word_at(header, 2));
  segment.sequence = word_at(header, 4) << 16 | word_at(header, 6);
  const std::size_t data = (at(header, 12) >> 4) * 4;
  segment.payload = header.size() > data ? header.size() - data : 0;
  const unsigned flags = at(header, 13);
  segment.fin = flags & 1;
  segment.syn = flags & 2;
  segment.rst = flags & 4;
  segment.ack = flags & 16;
  return segment;
}

}  // namespace lab
