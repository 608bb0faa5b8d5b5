// SPDX-License-Identifier: BSD-2-Clause
// An expression is either refused with Errc::kInvalidFilter or gives a filter that keeps to the contract with the
// kernel.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include <tcpinfo/error.hpp>
#include <tcpinfo/filter.hpp>

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const tcpinfo_prefix& prefix) {
  require(prefix.family <= TCPINFO_PREFIX_IPV6);
  unsigned bits = 0;
  for (unsigned i = 0; i < 128; ++i) {
    const bool set = prefix.mask.bytes[i / 8] >> (7 - i % 8) & 1;
    if (set) require(bits++ == i);
  }
  require((prefix.address.halves[0] & ~prefix.mask.halves[0]) == 0);
  require((prefix.address.halves[1] & ~prefix.mask.halves[1]) == 0);
  if (prefix.family == TCPINFO_PREFIX_ANY) require(bits == 0 && prefix.length == 0);
  if (prefix.family == TCPINFO_PREFIX_IPV6) require(bits == prefix.length);
  if (prefix.family == TCPINFO_PREFIX_IPV4)
    require(bits == prefix.length + 96 && tcpinfo_address_is_ipv4(&prefix.address));
}

/// An address that a prefix must take.
tcpinfo_address inside(const tcpinfo_prefix& prefix) { return prefix.address; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tcpinfo;
  try {
    const auto filter = Filter::parse({reinterpret_cast<const char*>(data), size});
    const auto& raw = filter.raw();
    require(raw.clauses <= TCPINFO_FILTER_CLAUSES && filter.empty() == (raw.clauses == 0));
    for (std::uint32_t i = 0; i < raw.clauses; ++i) {
      const auto& clause = raw.clause[i];
      require(clause.local_port_min <= clause.local_port_max && clause.peer_port_min <= clause.peer_port_max);
      check(clause.local);
      check(clause.peer);
      require(filter.matches(inside(clause.local), clause.local_port_min, inside(clause.peer), clause.peer_port_max));
    }
  } catch (const Error& e) {
    require(e.code() == make_error_code(Errc::kInvalidFilter));
  }
  return 0;
}
