// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>
#include <tcpinfo/record.hpp>

namespace tcpinfo::expression {

enum class Operator { kEqual, kNotEqual, kIn, kLess, kLessEqual, kGreater, kGreaterEqual };

/// A text that is read from left to right. What it cannot be is told with the column where.
class Reader {
 public:
  /// `what`: "filter" or "trigger".
  Reader(std::string_view what, Errc errc, std::string_view text) noexcept : what_(what), errc_(errc), text_(text) {}

  bool blank() {
    skip_space();
    return position_ == text_.size();
  }

  [[noreturn]] void fail_whole(std::string_view problem, std::string way_out) const;
  [[noreturn]] void fail(std::size_t position, std::string_view problem, std::string way_out = {}) const;
  /// Names what stands there instead.
  [[noreturn]] void fail_expected(std::string_view expected);

 protected:
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

  bool accept(std::string_view symbol) noexcept;
  bool accept_word(std::string_view word) noexcept;

  /// One of those in `allowed`.
  Operator parse_operator(std::string_view expected);
  std::uint16_t parse_port();
  /// With `==` and `!=` an address only.
  tcpinfo_prefix parse_prefix(Operator op);

  const std::string_view what_;
  const Errc errc_;
  const std::string_view text_;
  std::size_t position_ = 0;
};

/// `and`, `or`, `not` and parentheses around comparisons, expanded to clauses of which any may hold; none: never.
template <class Clause>
class Parser : public Reader {
 public:
  using Alternatives = std::vector<Clause>;
  using Reader::Reader;

  Alternatives parse() {
    auto alternatives = parse_or();
    skip_space();
    if (position_ != text_.size()) fail_expected("'and', 'or' or the end");
    return alternatives;
  }

 protected:
  // A conjunction of disjunctions grows as their product: a limit for what stands in the middle of an expansion, so
  // that no expression costs more than a moment.
  static constexpr std::size_t kExpansionLimit = 256;
  // Each level of parentheses is a few stack frames.
  static constexpr unsigned kDepthLimit = 100;

  /// A comparison, or its opposite where negated().
  virtual Alternatives parse_comparison() = 0;
  /// Adds a clause, unless those there hold wherever it holds.
  virtual void add(Alternatives& alternatives, const Clause& clause) const = 0;
  /// Makes `into` what is in both; false where nothing is.
  virtual bool intersect(Clause& into, const Clause& other) const = 0;
  [[noreturn]] virtual void fail_size(std::string_view size) const = 0;

  bool negated() const noexcept { return negated_; }

  void unite(Alternatives& into, const Alternatives& others) const {
    for (const auto& clause : others) add(into, clause);
    check_size(into);
  }

  void multiply(Alternatives& into, const Alternatives& others) const {
    Alternatives product;
    for (const auto& clause : into)
      for (const auto& other : others) {
        auto both = clause;
        if (!intersect(both, other)) continue;
        add(product, both);
        check_size(product);
      }
    into = std::move(product);
  }

 private:
  void check_size(const Alternatives& alternatives) const {
    if (alternatives.size() > kExpansionLimit) fail_size(fmt::format("more than {}", kExpansionLimit));
  }

  Alternatives parse_or() {
    auto alternatives = parse_and();
    while (accept("||") || accept_word("or")) {
      const auto others = parse_and();
      negated_ ? multiply(alternatives, others) : unite(alternatives, others);
    }
    return alternatives;
  }

  Alternatives parse_and() {
    auto alternatives = parse_not();
    while (accept("&&") || accept_word("and")) {
      const auto others = parse_not();
      negated_ ? unite(alternatives, others) : multiply(alternatives, others);
    }
    return alternatives;
  }

  Alternatives parse_not() {
    const bool outside = negated_;
    while (accept_word("not")) negated_ = !negated_;
    auto alternatives = parse_primary();
    negated_ = outside;
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

  unsigned depth_ = 0;
  bool negated_ = false;
};

}  // namespace tcpinfo::expression
