// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/filter.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

namespace tcpinfo {
namespace {

// A conjunction of disjunctions grows as their product: a limit for what stands in the middle of an expansion, so that
// no expression costs more than a moment.
constexpr std::size_t kExpansionLimit = 256;
// Each level of parentheses is a few stack frames.
constexpr unsigned kDepthLimit = 100;
constexpr std::uint16_t kPortMax = std::numeric_limits<std::uint16_t>::max();

using Clause = tcpinfo_clause;
/// Clauses of which any may hold; none: never.
using Alternatives = std::vector<Clause>;

struct PortRange {
  std::uint16_t min = 0, max = kPortMax;
};

Clause any_connection() noexcept {
  Clause clause{};
  clause.local_port_max = clause.peer_port_max = kPortMax;
  return clause;
}

/// Whether every address in `inner` is in `outer`.
bool contains(const tcpinfo_prefix& outer, const tcpinfo_prefix& inner) noexcept {
  if (outer.family == TCPINFO_PREFIX_ANY) return true;
  return outer.family == inner.family && outer.length <= inner.length && tcpinfo_prefix_matches(&outer, &inner.address);
}

bool contains(const Clause& outer, const Clause& inner) noexcept {
  return outer.local_port_min <= inner.local_port_min && inner.local_port_max <= outer.local_port_max &&
         outer.peer_port_min <= inner.peer_port_min && inner.peer_port_max <= outer.peer_port_max &&
         contains(outer.local, inner.local) && contains(outer.peer, inner.peer);
}

/// Prefixes are nested or disjoint: false where nothing is in both.
bool intersect(tcpinfo_prefix& into, const tcpinfo_prefix& other) noexcept {
  if (contains(into, other)) into = other;
  return contains(other, into);
}

bool intersect(Clause& into, const Clause& other) noexcept {
  into.local_port_min = std::max(into.local_port_min, other.local_port_min);
  into.local_port_max = std::min(into.local_port_max, other.local_port_max);
  into.peer_port_min = std::max(into.peer_port_min, other.peer_port_min);
  into.peer_port_max = std::min(into.peer_port_max, other.peer_port_max);
  return into.local_port_min <= into.local_port_max && into.peer_port_min <= into.peer_port_max &&
         intersect(into.local, other.local) && intersect(into.peer, other.peer);
}

/// Adds a clause, unless those there hold wherever it holds.
void add(Alternatives& alternatives, const Clause& clause) {
  for (const auto& other : alternatives)
    if (contains(other, clause)) return;
  std::erase_if(alternatives, [&](const Clause& other) { return contains(clause, other); });
  alternatives.push_back(clause);
}

class Parser {
 public:
  explicit Parser(std::string_view text) noexcept : text_(text) {}

  Alternatives parse() {
    auto alternatives = parse_or();
    skip_space();
    if (position_ != text_.size()) fail_expected("'and', 'or' or the end");
    return alternatives;
  }

  bool blank() {
    skip_space();
    return position_ == text_.size();
  }

  [[noreturn]] void fail_whole(std::string_view problem, std::string way_out) const {
    throw Error(Errc::kInvalidFilter, fmt::format("filter '{}': {}", text_, problem), std::move(way_out));
  }
  [[noreturn]] void fail_size(std::string_view size) const {
    fail_whole(
        fmt::format("expands to {} alternatives", size),
        fmt::format("at most {}; a range or a prefix counts once, however much it holds", TCPINFO_FILTER_CLAUSES));
  }

 private:
  enum class Operator { kEqual, kNotEqual, kIn, kLess, kLessEqual, kGreater, kGreaterEqual };
  enum class End { kLocal, kPeer };

  struct FieldWord {
    std::string_view name;
    bool is_port;
    bool local, peer;
  };
  static constexpr std::array<FieldWord, 6> kFields = {{{"local_port", true, true, false},
                                                        {"peer_port", true, false, true},
                                                        {"port", true, true, true},
                                                        {"local_address", false, true, false},
                                                        {"peer_address", false, false, true},
                                                        {"address", false, true, true}}};

  [[noreturn]] void fail(std::size_t position, std::string_view problem, std::string way_out = {}) const {
    fail_whole(fmt::format("column {}: {}", position + 1, problem), std::move(way_out));
  }
  [[noreturn]] void fail_expected(std::string_view expected) {
    skip_space();
    const auto found = run([](char c) { return !is_space(c); });
    if (found.empty())
      fail(position_, fmt::format("expected {}, found the end", expected));
    else
      fail(position_ - found.size(), fmt::format("expected {}, found '{}'", expected, found));
  }

  static constexpr bool is_space(char c) noexcept { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
  static constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
  static constexpr bool is_word(char c) noexcept {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  }

  void skip_space() noexcept { run(is_space); }

  template <class Predicate>
  std::string_view run(Predicate predicate) noexcept {
    const auto begin = position_;
    while (position_ < text_.size() && predicate(text_[position_])) ++position_;
    return text_.substr(begin, position_ - begin);
  }

  bool accept(std::string_view symbol) noexcept {
    skip_space();
    if (!text_.substr(position_).starts_with(symbol)) return false;
    position_ += symbol.size();
    return true;
  }

  bool accept_word(std::string_view word) noexcept {
    skip_space();
    const auto begin = position_;
    if (run(is_word) == word) return true;
    position_ = begin;
    return false;
  }

  Alternatives parse_or() {
    auto alternatives = parse_and();
    while (accept("||") || accept_word("or")) {
      for (const auto& clause : parse_and()) add(alternatives, clause);
      if (alternatives.size() > kExpansionLimit) fail_size(fmt::format("more than {}", kExpansionLimit));
    }
    return alternatives;
  }

  Alternatives parse_and() {
    auto alternatives = parse_primary();
    while (accept("&&") || accept_word("and")) {
      const auto others = parse_primary();
      Alternatives product;
      for (const auto& clause : alternatives)
        for (const auto& other : others) {
          auto both = clause;
          if (!intersect(both, other)) continue;
          add(product, both);
          if (product.size() > kExpansionLimit) fail_size(fmt::format("more than {}", kExpansionLimit));
        }
      alternatives = std::move(product);
    }
    return alternatives;
  }

  Alternatives parse_primary() {
    if (!accept("(")) return parse_comparison();
    if (++depth_ > kDepthLimit) fail(position_ - 1, fmt::format("parentheses nested deeper than {}", kDepthLimit));
    auto alternatives = parse_or();
    if (!accept(")")) fail_expected("')'");
    --depth_;
    return alternatives;
  }

  Alternatives parse_comparison() {
    skip_space();
    const auto begin = position_;
    const auto word = run(is_word);
    if (word.empty()) fail_expected("a field or '('");
    const auto* field = std::find_if(kFields.begin(), kFields.end(), [&](const auto& f) { return f.name == word; });
    if (field == kFields.end()) {
      std::string known;
      for (const auto& f : kFields) (known += known.empty() ? "known: " : ", ") += f.name;
      fail(begin, fmt::format("unknown field {}", word), known);
    }
    return field->is_port ? parse_ports(*field) : parse_addresses(*field);
  }

  Operator parse_operator(std::string_view expected) {
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

  std::uint16_t parse_port() {
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

  Alternatives parse_ports(const FieldWord& field) {
    const auto op = parse_operator("'==', '!=', 'in', '<', '<=', '>' or '>='");
    skip_space();
    const auto begin = position_;
    const int port = parse_port();
    // In int: one below 0 and one above 65535 make a range that is empty.
    switch (op) {
      case Operator::kEqual:
        return at_either_end(field, port, port);
      case Operator::kLess:
        return at_either_end(field, 0, port - 1);
      case Operator::kLessEqual:
        return at_either_end(field, 0, port);
      case Operator::kGreater:
        return at_either_end(field, port + 1, kPortMax);
      case Operator::kGreaterEqual:
        return at_either_end(field, port, kPortMax);
      case Operator::kNotEqual:
        return at_no_end(field, port);
      case Operator::kIn:
        break;
    }
    if (!accept("..")) fail_expected("'..' and the range's last port");
    const int last = parse_port();
    if (last < port)
      fail(begin, fmt::format("the range {}..{} is empty", port, last), fmt::format("write {}..{}", last, port));
    return at_either_end(field, port, last);
  }

  static void add_range(Alternatives& alternatives, End end, int min, int max) {
    if (min > max) return;
    auto clause = any_connection();
    (end == End::kLocal ? clause.local_port_min : clause.peer_port_min) = static_cast<std::uint16_t>(min);
    (end == End::kLocal ? clause.local_port_max : clause.peer_port_max) = static_cast<std::uint16_t>(max);
    add(alternatives, clause);
  }

  static Alternatives at_either_end(const FieldWord& field, int min, int max) {
    Alternatives alternatives;
    if (field.local) add_range(alternatives, End::kLocal, min, max);
    if (field.peer) add_range(alternatives, End::kPeer, min, max);
    return alternatives;
  }

  static Alternatives at_no_end(const FieldWord& field, int port) {
    Alternatives alternatives{any_connection()};
    for (const auto end : {End::kLocal, End::kPeer}) {
      if (!(end == End::kLocal ? field.local : field.peer)) continue;
      Alternatives ranges, product;
      add_range(ranges, end, 0, port - 1);
      add_range(ranges, end, port + 1, kPortMax);
      for (const auto& clause : alternatives)
        for (const auto& range : ranges) {
          auto both = clause;
          if (intersect(both, range)) add(product, both);
        }
      alternatives = std::move(product);
    }
    return alternatives;
  }

  Alternatives parse_addresses(const FieldWord& field) {
    skip_space();
    const auto begin = position_;
    const auto op = parse_operator("'==' or 'in'");
    if (op != Operator::kEqual && op != Operator::kIn) {
      position_ = begin;
      fail_expected("'==' or 'in' (addresses have no other operator)");
    }
    const auto prefix = parse_prefix(op);
    Alternatives alternatives;
    for (const auto end : {End::kLocal, End::kPeer}) {
      if (!(end == End::kLocal ? field.local : field.peer)) continue;
      auto clause = any_connection();
      (end == End::kLocal ? clause.local : clause.peer) = prefix;
      add(alternatives, clause);
    }
    return alternatives;
  }

  tcpinfo_prefix parse_prefix(Operator op) {
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
      if (op == Operator::kEqual)
        fail(slash, "'==' takes an address, not a prefix", fmt::format("write in {}/{}", address_text, digits));
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

  const std::string_view text_;
  std::size_t position_ = 0;
  unsigned depth_ = 0;
};

}  // namespace

Filter Filter::parse(std::string_view expression) {
  Parser parser(expression);
  Filter filter;
  if (parser.blank()) return filter;
  const auto alternatives = parser.parse();
  if (alternatives.empty()) parser.fail_whole("can never hold", "its conditions exclude each other");
  if (alternatives.size() > TCPINFO_FILTER_CLAUSES) parser.fail_size(std::to_string(alternatives.size()));
  filter.raw_.clauses = static_cast<std::uint32_t>(alternatives.size());
  std::copy(alternatives.begin(), alternatives.end(), filter.raw_.clause);
  return filter;
}

bool Filter::matches(const tcpinfo_address& local, std::uint16_t local_port, const tcpinfo_address& peer,
                     std::uint16_t peer_port) const noexcept {
  if (empty()) return true;
  return std::any_of(raw_.clause, raw_.clause + raw_.clauses, [&](const Clause& clause) {
    return tcpinfo_clause_matches(&clause, &local, local_port, &peer, peer_port) != 0;
  });
}

}  // namespace tcpinfo
