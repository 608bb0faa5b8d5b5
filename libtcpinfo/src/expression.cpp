// SPDX-License-Identifier: BSD-2-Clause
#include "expression.hpp"

#include <charconv>
#include <system_error>

namespace tcpinfo::expression {

void Reader::fail_whole(std::string_view problem, std::string way_out) const {
  throw Error(errc_, fmt::format("{} '{}': {}", what_, text_, problem), std::move(way_out));
}

void Reader::fail(std::size_t position, std::string_view problem, std::string way_out) const {
  fail_whole(fmt::format("column {}: {}", position + 1, problem), std::move(way_out));
}

void Reader::fail_expected(std::string_view expected) {
  skip_space();
  const auto found = run([](char c) { return !is_space(c); });
  if (found.empty())
    fail(position_, fmt::format("expected {}, found the end", expected));
  else
    fail(position_ - found.size(), fmt::format("expected {}, found '{}'", expected, found));
}

bool Reader::accept(std::string_view symbol) noexcept {
  skip_space();
  if (!text_.substr(position_).starts_with(symbol)) return false;
  position_ += symbol.size();
  return true;
}

bool Reader::accept_word(std::string_view word) noexcept {
  skip_space();
  const auto begin = position_;
  if (run(is_word) == word) return true;
  position_ = begin;
  return false;
}

Operator Reader::parse_operator(std::string_view expected) {
  // Longer symbols first: '<' begins '<='.
  if (accept("==")) return Operator::kEqual;
  if (accept("!=")) return Operator::kNotEqual;
  if (accept("<=")) return Operator::kLessEqual;
  if (accept(">=")) return Operator::kGreaterEqual;
  if (accept("<")) return Operator::kLess;
  if (accept(">")) return Operator::kGreater;
  if (accept_word("in")) return Operator::kIn;
  fail_expected(expected);
}

std::uint16_t Reader::parse_port() {
  skip_space();
  const auto begin = position_;
  const auto digits = run(is_digit);
  if (digits.empty() || (position_ < text_.size() && is_word(text_[position_]))) {
    position_ = begin;
    fail_expected("a port");
  }
  std::uint16_t port = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (result.ec != std::errc()) fail(begin, fmt::format("{} is no port", digits), "ports are 0 to 65535");
  return port;
}

tcpinfo_prefix Reader::parse_prefix(Operator op) {
  const std::string_view expected = op == Operator::kIn ? "an address or a prefix" : "an address";
  skip_space();
  const auto begin = position_;
  const auto address_text = run([](char c) { return is_word(c) || c == ':' || c == '.' || c == '%'; });
  const auto address = parse_address(address_text);
  if (!address) {
    position_ = begin;
    fail_expected(expected);
  }
  const bool written_as_ipv6 = address_text.find(':') != std::string_view::npos;
  const unsigned longest = written_as_ipv6 ? 128 : 32;
  unsigned length = longest;
  if (position_ < text_.size() && text_[position_] == '/') {
    const auto slash = position_++;
    const auto digits = run(is_word);
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (digits.empty() || result.ec != std::errc() || result.ptr != digits.data() + digits.size() || length > longest)
      fail(slash, fmt::format("'/{}' is no prefix length", digits), fmt::format("0 to {}", longest));
    if (op != Operator::kIn)
      fail(slash, fmt::format("'{}' takes an address, not a prefix", op == Operator::kEqual ? "==" : "!="),
           op == Operator::kEqual ? fmt::format("write in {}/{}", address_text, digits) : "write not, and in");
  }

  tcpinfo_prefix prefix{};
  const unsigned mask_length = written_as_ipv6 ? length : length + 96;
  for (unsigned bit = 0; bit < mask_length; ++bit)
    prefix.mask.bytes[bit / 8] = static_cast<std::uint8_t>(prefix.mask.bytes[bit / 8] | 0x80 >> (bit % 8));
  bool beyond = false;
  for (std::size_t i = 0; i < sizeof(prefix.mask.bytes); ++i) {
    prefix.address.bytes[i] = address->bytes[i] & prefix.mask.bytes[i];
    beyond |= prefix.address.bytes[i] != address->bytes[i];
  }
  const bool ipv4 = tcpinfo_address_is_ipv4(&*address) && mask_length >= 96;
  prefix.family = ipv4 ? TCPINFO_PREFIX_IPV4 : TCPINFO_PREFIX_IPV6;
  prefix.length = ipv4 ? mask_length - 96 : mask_length;
  if (beyond)
    fail(begin, fmt::format("{}/{} has bits set beyond its prefix", address_text, length),
         fmt::format("write {}/{}", to_string(prefix.address), prefix.length));
  return prefix;
}

}  // namespace tcpinfo::expression
