// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string_view>

#include <tcpinfo/record.hpp>

namespace tcpinfo {

/// Which connections are followed at all, by ports and address prefixes: decided once, when a connection begins or is
/// adopted. What changes while it lasts, as its state and its values, is the matter of a Trigger. The kernel and user space
/// decide by the same code.
///
///     peer_port == 443
///     local_port in 5201..5210 and peer_address in 10.0.0.0/8
///     port == 22 or address in 2001:db8::/32
///
/// `port` and `address` mean either end. Operators: `==`, `!=` (ports: at no end), `in` (a range of ports, a prefix), `<`
/// `<=` `>` `>=` (ports), `not` (ports), `and`, `or`, parentheses. An IPv4 prefix matches IPv4 and IPv4-mapped addresses;
/// an IPv6 prefix matches only other addresses. At most 16 alternatives after expansion. A value type; reading is thread
/// safe.
class TCPINFO_EXPORT Filter {
 public:
  /// Lets everything pass.
  Filter() noexcept : raw_{} {}

  /// Throws Error (Errc::kInvalidFilter) that names the column and what was expected there. An empty text passes all.
  static Filter parse(std::string_view expression);

  bool empty() const noexcept { return raw_.clauses == 0; }
  bool matches(const tcpinfo_address& local, std::uint16_t local_port, const tcpinfo_address& peer,
               std::uint16_t peer_port) const noexcept;
  const tcpinfo_filter& raw() const noexcept { return raw_; }

 private:
  tcpinfo_filter raw_;
};

}  // namespace tcpinfo
