// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include <tcpinfo/record.hpp>

/// Records for the tests of decoders and encoders.
namespace records {

/// The same for every run: a failure can be repeated.
using Random = std::mt19937_64;

inline bool same_bytes(const tcpinfo_record& a, const tcpinfo_record& b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

inline std::span<const std::byte> bytes(const tcpinfo_record& record) { return std::as_bytes(std::span(&record, 1)); }

inline tcpinfo_address address(std::string_view text) {
  const auto address = tcpinfo::parse_address(text);
  EXPECT_TRUE(address.has_value()) << text;
  return address.value_or(tcpinfo_address{});
}

/// What the C library shows for an address.
inline std::string ntop(const tcpinfo_address& address) {
  char text[INET6_ADDRSTRLEN];
  const bool ipv4 = tcpinfo_address_is_ipv4(&address);
  return inet_ntop(ipv4 ? AF_INET : AF_INET6, address.bytes + (ipv4 ? 12 : 0), text, sizeof(text));
}

inline tcpinfo_name name(std::string_view text) {
  tcpinfo_name name{};
  std::memcpy(name.text, text.data(), std::min(text.size(), sizeof(name.text)));
  return name;
}

inline void set_address(tcpinfo_record& record, tcpinfo::Field field, const tcpinfo_address& address) {
  std::memcpy(reinterpret_cast<std::byte*>(&record) + tcpinfo::info(field).offset, &address, sizeof(address));
  tcpinfo::set_present(record, field);
}

inline void set_name(tcpinfo_record& record, tcpinfo::Field field, std::string_view text) {
  const auto value = name(text);
  std::memcpy(reinterpret_cast<std::byte*>(&record) + tcpinfo::info(field).offset, &value, sizeof(value));
  tcpinfo::set_present(record, field);
}

/// The edges are as likely as all that lies between them.
inline std::uint64_t random_number(Random& random, std::size_t size) {
  const auto largest = ~std::uint64_t{0} >> (64 - 8 * size);
  switch (random() % 6) {
    case 0:
      return 0;
    case 1:
      return largest;
    case 2:
      return random() % 16;
    case 3:
      return largest / 2 + random() % 2;
    default:
      return random() & largest;
  }
}

inline tcpinfo_address random_address(Random& random) {
  tcpinfo_address address{};
  if (random() % 2) {
    address.bytes[10] = address.bytes[11] = 0xff;
    address.words[3] = static_cast<std::uint32_t>(random());
    return address;
  }
  // Zero halves give the text form its "::".
  if (random() % 4) address.halves[0] = random();
  if (random() % 4) address.halves[1] = random();
  return address;
}

/// Every field is present with a chance of `percent`.
inline tcpinfo_record random_record(Random& random, unsigned percent) {
  auto record = tcpinfo::make_record();
  for (const auto& row : tcpinfo::fields()) {
    if (random() % 100 >= percent) continue;
    if (row.format == tcpinfo::Format::address) {
      set_address(record, row.field, random_address(random));
    } else if (row.format == tcpinfo::Format::text) {
      char text[16];
      const auto length = random() % 17;
      for (std::size_t i = 0; i < length; ++i) text[i] = static_cast<char>(1 + random() % 127);
      set_name(record, row.field, {text, length});
    } else {
      tcpinfo::set_number(record, row.field, random_number(random, row.size));
    }
  }
  return record;
}

/// A record of a connection in the middle of its life, with what sock_ops gives for it.
inline tcpinfo_record sample() {
  using tcpinfo::Field;
  auto record = tcpinfo::make_record();
  tcpinfo::set_number(record, Field::time_ns, 123456789);
  tcpinfo::set_number(record, Field::cookie, 4097);
  set_address(record, Field::local_address, address("10.0.0.1"));
  set_address(record, Field::peer_address, address("10.0.0.2"));
  set_name(record, Field::congestion_control, "cubic");
  tcpinfo::set_number(record, Field::event, TCPINFO_EVENT_SAMPLE);
  tcpinfo::set_number(record, Field::source, TCPINFO_SOURCE_SOCKOPS);
  tcpinfo::set_number(record, Field::family, 2);
  tcpinfo::set_number(record, Field::state, 1);
  tcpinfo::set_number(record, Field::local_port, 43210);
  tcpinfo::set_number(record, Field::peer_port, 5201);
  tcpinfo::set_number(record, Field::swept, 0);
  tcpinfo::set_number(record, Field::ca_state, 4);
  tcpinfo::set_number(record, Field::rtt, 12345);
  tcpinfo::set_number(record, Field::snd_cwnd, 10);
  tcpinfo::set_number(record, Field::total_retrans, 0);
  tcpinfo::set_number(record, Field::pacing_rate, ~std::uint64_t{0});
  return record;
}

}  // namespace records
