// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/filter.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

#include "expression.hpp"

namespace tcpinfo {
namespace {

constexpr std::uint16_t kPortMax = std::numeric_limits<std::uint16_t>::max();

using Clause = tcpinfo_clause;
using expression::Operator;

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

class FilterParser final : public expression::Parser<Clause> {
 public:
  explicit FilterParser(std::string_view text) noexcept : Parser("filter", Errc::kInvalidFilter, text) {}

  [[noreturn]] void fail_size(std::string_view size) const override {
    fail_whole(
        fmt::format("expands to {} alternatives", size),
        fmt::format("at most {}; a range or a prefix counts once, however much it holds", TCPINFO_FILTER_CLAUSES));
  }

 private:
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

  void add(Alternatives& alternatives, const Clause& clause) const override {
    for (const auto& other : alternatives)
      if (contains(other, clause)) return;
    std::erase_if(alternatives, [&](const Clause& other) { return contains(clause, other); });
    alternatives.push_back(clause);
  }

  bool intersect(Clause& into, const Clause& other) const override { return tcpinfo::intersect(into, other); }

  Alternatives parse_comparison() override {
    skip_space();
    const auto begin = position_;
    const auto word = run(is_word);
    if (word.empty()) fail_expected("a field or '('");
    const auto* field = std::find_if(kFields.begin(), kFields.end(), [&](const auto& f) { return f.name == word; });
    if (field == kFields.end()) {
      std::string known;
      for (const auto& f : kFields) (known += known.empty() ? "known: " : ", ") += f.name;
      if (find_field(word) != nullptr)
        fail(begin, fmt::format("{} is not for a filter, which is decided once, when a connection begins", word),
             fmt::format("make it a trigger, which selects samples; {}", known));
      fail(begin, fmt::format("unknown field {}", word), known);
    }
    return field->is_port ? parse_ports(*field) : parse_addresses(*field, begin);
  }

  Alternatives parse_ports(const FieldWord& field) {
    const auto op = parse_operator("'==', '!=', 'in', '<', '<=', '>' or '>='");
    skip_space();
    const auto begin = position_;
    const int port = parse_port();
    // In int: one below 0 and one above 65535 make a range that is empty.
    switch (op) {
      case Operator::kEqual:
        return at_ends(field, port, port, negated());
      case Operator::kNotEqual:
        return at_ends(field, port, port, !negated());
      case Operator::kLess:
        return at_ends(field, 0, port - 1, negated());
      case Operator::kLessEqual:
        return at_ends(field, 0, port, negated());
      case Operator::kGreater:
        return at_ends(field, port + 1, kPortMax, negated());
      case Operator::kGreaterEqual:
        return at_ends(field, port, kPortMax, negated());
      case Operator::kIn:
        break;
    }
    if (!accept("..")) fail_expected("'..' and the range's last port");
    const int last = parse_port();
    if (last < port)
      fail(begin, fmt::format("the range {}..{} is empty", port, last), fmt::format("write {}..{}", last, port));
    return at_ends(field, port, last, negated());
  }

  void add_range(Alternatives& alternatives, End end, int min, int max) const {
    if (min > max) return;
    auto clause = any_connection();
    (end == End::kLocal ? clause.local_port_min : clause.peer_port_min) = static_cast<std::uint16_t>(min);
    (end == End::kLocal ? clause.local_port_max : clause.peer_port_max) = static_cast<std::uint16_t>(max);
    add(alternatives, clause);
  }

  /// In the range at any of the field's ends, or outside of it at all of them.
  Alternatives at_ends(const FieldWord& field, int min, int max, bool outside) const {
    Alternatives alternatives;
    if (outside) alternatives.push_back(any_connection());
    for (const auto end : {End::kLocal, End::kPeer}) {
      if (!(end == End::kLocal ? field.local : field.peer)) continue;
      Alternatives ranges;
      if (!outside) {
        add_range(ranges, end, min, max);
        unite(alternatives, ranges);
      } else if (min <= max) {
        add_range(ranges, end, 0, min - 1);
        add_range(ranges, end, max + 1, kPortMax);
        multiply(alternatives, ranges);
      }
    }
    return alternatives;
  }

  Alternatives parse_addresses(const FieldWord& field, std::size_t field_begin) {
    skip_space();
    const auto begin = position_;
    const auto op = parse_operator("'==' or 'in'");
    if (op != Operator::kEqual && op != Operator::kIn) {
      position_ = begin;
      fail_expected("'==' or 'in' (addresses have no other operator)");
    }
    const auto prefix = parse_prefix(op);
    if (negated())
      fail(field_begin, "'not' does not go with addresses in a filter", "name the prefixes that are wanted");
    Alternatives alternatives;
    for (const auto end : {End::kLocal, End::kPeer}) {
      if (!(end == End::kLocal ? field.local : field.peer)) continue;
      auto clause = any_connection();
      (end == End::kLocal ? clause.local : clause.peer) = prefix;
      add(alternatives, clause);
    }
    return alternatives;
  }
};

}  // namespace

Filter Filter::parse(std::string_view expression) {
  FilterParser parser(expression);
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
