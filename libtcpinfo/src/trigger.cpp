// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/trigger.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

#include "expression.hpp"
#include "value.hpp"

namespace tcpinfo {
namespace {

using expression::Operator;
using Condition = tcpinfo_condition;
/// All of them hold.
using Conditions = std::vector<Condition>;
__extension__ using Wide = unsigned __int128;

Wide greatest_divisor(Wide a, Wide b) noexcept {
  while (b != 0) a = std::exchange(b, a % b);
  return a;
}

/// What may be compared with each other.
enum class Dimension { kNumber, kTime, kBytes, kRate, kPackets, kCount, kScale };

/// A unit of a dimension: how many of the smallest one it is.
struct Scale {
  Dimension dimension;
  std::uint64_t factor;
};

constexpr Scale scale_of(Unit unit) noexcept {
  switch (unit) {
    case Unit::ns:
      return {Dimension::kTime, 1};
    case Unit::us:
      return {Dimension::kTime, 1000};
    case Unit::ms:
      return {Dimension::kTime, 1'000'000};
    case Unit::bytes:
      return {Dimension::kBytes, 1};
    case Unit::bytes_per_s:
      return {Dimension::kRate, 8};
    case Unit::segments:
    case Unit::packets:
      return {Dimension::kPackets, 1};
    case Unit::count:
      return {Dimension::kCount, 1};
    case Unit::scale256:
      return {Dimension::kScale, 1};
    case Unit::none:
      break;
  }
  return {Dimension::kNumber, 1};
}

struct Suffix {
  std::string_view name;
  Scale scale;
};
constexpr std::array<Suffix, 16> kSuffixes = {{{"ns", {Dimension::kTime, 1}},
                                               {"us", {Dimension::kTime, 1000}},
                                               {"ms", {Dimension::kTime, 1'000'000}},
                                               {"s", {Dimension::kTime, 1'000'000'000}},
                                               {"B", {Dimension::kBytes, 1}},
                                               {"K", {Dimension::kBytes, 1 << 10}},
                                               {"M", {Dimension::kBytes, 1 << 20}},
                                               {"G", {Dimension::kBytes, 1 << 30}},
                                               {"bit/s", {Dimension::kRate, 1}},
                                               {"Kbit/s", {Dimension::kRate, 1000}},
                                               {"Mbit/s", {Dimension::kRate, 1'000'000}},
                                               {"Gbit/s", {Dimension::kRate, 1'000'000'000}},
                                               {"B/s", {Dimension::kRate, 8}},
                                               {"KB/s", {Dimension::kRate, 8000}},
                                               {"MB/s", {Dimension::kRate, 8'000'000}},
                                               {"GB/s", {Dimension::kRate, 8'000'000'000}}}};

constexpr std::string_view describe(Dimension dimension) noexcept {
  switch (dimension) {
    case Dimension::kTime:
      return "a time";
    case Dimension::kBytes:
      return "a number of bytes";
    case Dimension::kRate:
      return "a rate";
    case Dimension::kPackets:
      return "a number of packets";
    case Dimension::kCount:
      return "a count";
    case Dimension::kScale:
      return "a gain";
    case Dimension::kNumber:
      break;
  }
  return "a plain number";
}

/// How to write a constant of the dimension.
constexpr std::string_view example(Dimension dimension) noexcept {
  switch (dimension) {
    case Dimension::kTime:
      return "write ns, us, ms or s behind the number, as 20ms";
    case Dimension::kBytes:
      return "write bytes, or K, M or G behind the number, as 64K";
    case Dimension::kRate:
      return "write bit/s, Kbit/s, Mbit/s, Gbit/s or B/s behind the number, as 10Mbit/s";
    default:
      return "write the number alone";
  }
}

/// A number as it is written, exactly.
struct Ratio {
  std::uint64_t numerator = 1, denominator = 1;
};

/// One side of a comparison.
struct Side {
  std::size_t begin = 0;
  std::string_view text;             // as it is written
  const FieldInfo* field = nullptr;  // or a constant
  Ratio number;
  std::optional<Scale> unit;  // of a constant, where it has one
};

constexpr std::uint8_t outcomes_of(Operator op) noexcept {
  switch (op) {
    case Operator::kEqual:
      return TCPINFO_OUTCOME_EQUAL;
    case Operator::kNotEqual:
      return TCPINFO_OUTCOME_LESS | TCPINFO_OUTCOME_GREATER;
    case Operator::kLess:
      return TCPINFO_OUTCOME_LESS;
    case Operator::kLessEqual:
      return TCPINFO_OUTCOME_LESS | TCPINFO_OUTCOME_EQUAL;
    case Operator::kGreater:
      return TCPINFO_OUTCOME_GREATER;
    case Operator::kGreaterEqual:
      return TCPINFO_OUTCOME_GREATER | TCPINFO_OUTCOME_EQUAL;
    case Operator::kIn:
      break;
  }
  return 0;
}
constexpr std::uint8_t kAllOutcomes = TCPINFO_OUTCOME_LESS | TCPINFO_OUTCOME_EQUAL | TCPINFO_OUTCOME_GREATER;

constexpr Operator mirrored(Operator op) noexcept {
  switch (op) {
    case Operator::kLess:
      return Operator::kGreater;
    case Operator::kLessEqual:
      return Operator::kGreaterEqual;
    case Operator::kGreater:
      return Operator::kLess;
    case Operator::kGreaterEqual:
      return Operator::kLessEqual;
    default:
      return op;
  }
}

/// The `size` bytes of a field from `offset` of its beginning on.
tcpinfo_operand operand_of(const FieldInfo& field, std::size_t offset, std::size_t size) noexcept {
  const std::size_t place = field.offset + offset, inside = place % 8;
  const bool little = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
  const auto bit = static_cast<unsigned>(field.field);
  tcpinfo_operand operand{};
  operand.mask = ~std::uint64_t{0} >> (64 - 8 * size);
  operand.factor = 1;
  operand.word = static_cast<std::uint16_t>(place - inside);
  operand.shift = static_cast<std::uint8_t>(8 * (little ? inside : 8 - inside - size));
  operand.present_word = static_cast<std::uint16_t>(offsetof(tcpinfo_record, present) + bit / 64 * 8);
  operand.present_shift = static_cast<std::uint8_t>(bit % 64);
  return operand;
}

tcpinfo_operand operand_of(const FieldInfo& field) noexcept { return operand_of(field, 0, field.size); }

tcpinfo_operand constant_beside(const tcpinfo_operand& other, std::uint64_t value) noexcept {
  auto operand = other;
  operand.mask = 0;
  operand.shift = 0;
  operand.constant = value;
  operand.factor = 1;
  return operand;
}

bool same(const Condition& a, const Condition& b) noexcept { return std::memcmp(&a, &b, sizeof(a)) == 0; }

bool has(const Conditions& conditions, const Condition& wanted) noexcept {
  return std::ranges::any_of(conditions, [&](const Condition& condition) { return same(condition, wanted); });
}

class TriggerParser final : public expression::Parser<Conditions> {
 public:
  TriggerParser(std::string_view text, std::optional<SourceId> source) noexcept
      : Parser("trigger", Errc::kInvalidTrigger, text), source_(source) {}

  [[noreturn]] void fail_size(std::string_view size) const override {
    fail_whole(fmt::format("expands to {} alternatives", size), fmt::format("at most {}", TCPINFO_TRIGGER_CLAUSES));
  }
  [[noreturn]] void fail_conditions() const {
    fail_whole(fmt::format("expands to more than {} conditions", TCPINFO_TRIGGER_CONDITIONS),
               "name each value once, or use fewer alternatives");
  }

  const std::vector<const FieldInfo*>& grows() const noexcept { return grows_; }

 private:
  enum class Among { kAny, kAll };

  // Conditions in a clause stand in the order in which they are written; each once.
  void add(Alternatives& alternatives, const Conditions& clause) const override {
    const auto includes = [](const Conditions& all, const Conditions& some) {
      return std::ranges::all_of(some, [&](const Condition& condition) { return has(all, condition); });
    };
    for (const auto& other : alternatives)
      if (includes(clause, other)) return;
    std::erase_if(alternatives, [&](const Conditions& other) { return includes(other, clause); });
    alternatives.push_back(clause);
  }

  bool intersect(Conditions& into, const Conditions& other) const override {
    for (const auto& condition : other)
      if (!has(into, condition)) into.push_back(condition);
    if (into.size() > TCPINFO_TRIGGER_CONDITIONS) fail_conditions();
    return true;
  }

  /// What holds if any of the parts does, or all of them; under `not`, whose parts are opposites already, the other
  /// way.
  Alternatives join(Among among, const std::vector<Alternatives>& parts) const {
    auto alternatives = parts.front();
    for (std::size_t i = 1; i < parts.size(); ++i)
      (among == Among::kAny) != negated() ? unite(alternatives, parts[i]) : multiply(alternatives, parts[i]);
    return alternatives;
  }

  Alternatives condition(const tcpinfo_operand& left, Operator op, const tcpinfo_operand& right) const {
    Condition condition{};
    condition.left = left;
    condition.right = right;
    condition.outcomes = outcomes_of(op);
    if (negated()) condition.outcomes ^= kAllOutcomes;
    condition.grows = TCPINFO_TRIGGER_GROWS;
    return {{condition}};
  }

  Alternatives compare(const tcpinfo_operand& left, Operator op, std::uint64_t constant) const {
    return condition(left, op, constant_beside(left, constant));
  }

  Alternatives parse_comparison() override {
    skip_space();
    const auto begin = position_;
    const auto word = run(is_word);
    if (word.empty()) fail_expected("a field, a number or '('");
    if (word == "address" || word == "port") return parse_ends(word);
    if (const auto* field = find_field(word)) {
      check_usable(*field, begin);
      switch (field->format) {
        case Format::address:
          return parse_address_of({field});
        case Format::text:
          return parse_text(*field);
        case Format::number:
          break;
        default:
          return parse_code(*field);
      }
      if (accept_word("grows")) return parse_grows(*field, begin);
    }
    position_ = begin;
    return parse_numbers();
  }

  void check_usable(const FieldInfo& field, std::size_t begin) const {
    switch (field.field) {
      case Field::event:
        fail(begin, "event is always sample where a trigger is asked", "open, state and close records always come");
      case Field::sequence:
      case Field::lost_records:
      case Field::lost_event:
      case Field::triggered:
        fail(begin, fmt::format("{} is known only after the trigger", field.name), "use another field");
      case Field::pid:
      case Field::comm:
      case Field::old_state:
        fail(begin, fmt::format("{} is in no sample", field.name), "open, state and close records always come");
      default:
        break;
    }
    const auto is_given = [&](SourceId source) { return gives(source, field.field); };
    if (source_ ? !is_given(*source_) : std::ranges::none_of(kSources, is_given))
      fail(begin, fmt::format("{} is not given by {}", field.name, source_ ? name(*source_) : "any source"),
           "tcpinfo fields shows who gives what");
  }

  // Of either end; `!=` is of both.
  Alternatives parse_ends(std::string_view word) {
    if (word == "address") return parse_address_of({&info(Field::local_address), &info(Field::peer_address)});
    const std::array ends = {&info(Field::local_port), &info(Field::peer_port)};
    const auto op = parse_operator("'==', '!=', 'in', '<', '<=', '>' or '>='");
    skip_space();
    const auto begin = position_;
    const auto first = parse_port();
    std::uint16_t last = 0;
    if (op == Operator::kIn) {
      if (!accept("..")) fail_expected("'..' and the range's last port");
      last = parse_port();
      if (last < first)
        fail(begin, fmt::format("the range {}..{} is empty", first, last), fmt::format("write {}..{}", last, first));
    }
    std::vector<Alternatives> parts;
    for (const auto* end : ends) {
      const auto port = operand_of(*end);
      parts.push_back(op == Operator::kIn ? join(Among::kAll, {compare(port, Operator::kGreaterEqual, first),
                                                               compare(port, Operator::kLessEqual, last)})
                                          : compare(port, op, first));
    }
    return join(op == Operator::kNotEqual ? Among::kAll : Among::kAny, parts);
  }

  Alternatives parse_address_of(const std::vector<const FieldInfo*>& ends) {
    skip_space();
    const auto begin = position_;
    const auto op = parse_operator("'==', '!=' or 'in'");
    if (op != Operator::kEqual && op != Operator::kNotEqual && op != Operator::kIn) {
      position_ = begin;
      fail_expected("'==', '!=' or 'in' (addresses have no other operator)");
    }
    const auto prefix = parse_prefix(op);
    std::vector<Alternatives> parts;
    for (const auto* end : ends) parts.push_back(address_in(*end, prefix, op == Operator::kNotEqual));
    return join(op == Operator::kNotEqual ? Among::kAll : Among::kAny, parts);
  }

  /// As tcpinfo_prefix_matches().
  Alternatives address_in(const FieldInfo& field, const tcpinfo_prefix& prefix, bool outside) const {
    const auto equal = outside ? Operator::kNotEqual : Operator::kEqual;
    const auto differs = outside ? Operator::kEqual : Operator::kNotEqual;
    const auto all = outside ? Among::kAny : Among::kAll, any = outside ? Among::kAll : Among::kAny;
    const auto half = [&](std::size_t which, const tcpinfo_address& mask, Operator op, const tcpinfo_address& address) {
      auto operand = operand_of(field, which * 8, 8);
      operand.mask = mask.halves[which];
      return compare(operand, op, address.halves[which]);
    };
    std::vector<Alternatives> parts;
    for (const std::size_t which : {0, 1})
      if (prefix.mask.halves[which] != 0) parts.push_back(half(which, prefix.mask, equal, prefix.address));
    // The addresses of IPv4, which no prefix of IPv6 matches, may lie below it.
    const tcpinfo_address mapped = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}};
    const tcpinfo_address mask = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
    if (prefix.family == TCPINFO_PREFIX_IPV6 &&
        (mapped.halves[0] & prefix.mask.halves[0]) == prefix.address.halves[0] &&
        (mapped.halves[1] & prefix.mask.halves[1]) == prefix.address.halves[1])
      parts.push_back(join(any, {half(0, mask, differs, mapped), half(1, mask, differs, mapped)}));
    return join(all, parts);
  }

  Alternatives parse_text(const FieldInfo& field) {
    skip_space();
    const auto at = position_;
    const auto op = parse_operator("'==' or '!='");
    if (op != Operator::kEqual && op != Operator::kNotEqual) {
      position_ = at;
      fail_expected("'==' or '!=' (texts have no other operator)");
    }
    skip_space();
    const auto begin = position_;
    std::string_view text;
    if (accept("\"")) {
      text = run([](char c) { return c != '"'; });
      if (!accept("\"")) fail(begin, "the quotation has no end");
    } else {
      text = run([](char c) { return is_word(c) || c == '-' || c == '.' || c == ':' || c == '/'; });
      if (text.empty()) fail_expected("a name");
    }
    tcpinfo_name name{};
    if (text.empty() || text.size() >= sizeof(name.text) || text.find('\0') != std::string_view::npos)
      fail(begin, fmt::format("'{}' is no {}", text, field.name),
           fmt::format("1 to {} characters", sizeof(name.text) - 1));
    std::copy(text.begin(), text.end(), name.text);
    return join(
        op == Operator::kEqual ? Among::kAll : Among::kAny,
        {compare(operand_of(field, 0, 8), op, name.halves[0]), compare(operand_of(field, 8, 8), op, name.halves[1])});
  }

  static char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

  std::uint64_t parse_code_name(const FieldInfo& field) {
    skip_space();
    const auto begin = position_;
    const auto word = run(is_word);
    if (word.empty()) fail_expected(fmt::format("a name of {}", field.name));
    std::string known;
    for (unsigned code = 0; code <= 0xff; ++code) {
      const auto name = detail::code_name(field.format, code);
      if (name.empty()) continue;
      if (std::ranges::equal(name, word, {}, lower, lower)) return code;
      (known += known.empty() ? "known: " : ", ") += name;
    }
    fail(begin, fmt::format("{} is no {}", word, field.name), known);
  }

  Alternatives parse_code(const FieldInfo& field) {
    skip_space();
    const auto begin = position_;
    if (accept_word("grows")) fail(begin, fmt::format("{} is not a counter, only they grow", field.name));
    const auto op = parse_operator("'==', '!=' or 'in'");
    const auto operand = operand_of(field);
    if (op == Operator::kEqual || op == Operator::kNotEqual) return compare(operand, op, parse_code_name(field));
    if (op != Operator::kIn) {
      position_ = begin;
      fail_expected("'==', '!=' or 'in' (names have no order)");
    }
    if (!accept("(")) fail_expected("'(' and names");
    std::vector<Alternatives> parts;
    do parts.push_back(compare(operand, Operator::kEqual, parse_code_name(field)));
    while (accept(","));
    if (!accept(")")) fail_expected("',' or ')'");
    return join(Among::kAny, parts);
  }

  Alternatives parse_grows(const FieldInfo& field, std::size_t begin) {
    if (field.kind != Kind::counter)
      fail(begin, fmt::format("{} is not a counter, only they grow", field.name),
           fmt::format("compare it, as {} > ...", field.name));
    if (negated()) fail(begin, "'not' does not go with grows", "a sample that is not wanted does not come");
    auto found = std::ranges::find(grows_, &field);
    if (found == grows_.end()) {
      if (grows_.size() == TCPINFO_TRIGGER_GROWS)
        fail(begin, fmt::format("{} is one too many that shall grow", field.name),
             fmt::format("at most {} fields", TCPINFO_TRIGGER_GROWS));
      found = grows_.insert(grows_.end(), &field);
    }
    Condition condition{};
    condition.left = operand_of(field);
    condition.right = constant_beside(condition.left, 0);
    condition.outcomes = kAllOutcomes;
    condition.grows = static_cast<std::uint8_t>(found - grows_.begin());
    return {{condition}};
  }

  Alternatives parse_numbers() {
    const auto left = parse_side();
    skip_space();
    const auto begin = position_;
    const auto op = parse_operator(left.field != nullptr && left.field->kind == Kind::counter
                                       ? "'==', '!=', 'in', '<', '<=', '>', '>=' or 'grows'"
                                       : "'==', '!=', 'in', '<', '<=', '>' or '>='");
    if (op == Operator::kIn && left.field == nullptr) fail(begin, "'in' stands behind a field");
    const auto right = parse_side();
    if (op != Operator::kIn) return relate(left, op, right);
    if (right.field != nullptr) fail(right.begin, "'in' takes constants", "as 5ms..20ms");
    if (!accept("..")) fail_expected("'..' and the range's last value");
    const auto last = parse_side();
    if (last.field != nullptr) fail(last.begin, "'in' takes constants", "as 5ms..20ms");
    const auto range =
        join(Among::kAll, {relate(left, Operator::kGreaterEqual, right), relate(left, Operator::kLessEqual, last)});
    if (below(last, right))
      fail(right.begin, fmt::format("the range {}..{} is empty", right.text, last.text),
           fmt::format("write {}..{}", last.text, right.text));
    return range;
  }

  static bool below(const Side& a, const Side& b) noexcept {
    const auto factor = [](const Side& side) { return side.unit ? side.unit->factor : 1; };
    return Wide{a.number.numerator} * b.number.denominator * factor(a) <
           Wide{b.number.numerator} * a.number.denominator * factor(b);
  }

  Side parse_side() {
    skip_space();
    Side side;
    side.begin = position_;
    const auto finish = [&] {
      side.text = text_.substr(side.begin, position_ - side.begin);
      return side;
    };
    if (position_ < text_.size() && is_digit(text_[position_])) {
      side.number = parse_number();
      const auto unit_begin = position_;
      auto unit = run(is_word);
      if (!unit.empty() && text_.substr(position_).starts_with("/s")) {
        position_ += 2;
        unit = text_.substr(unit_begin, position_ - unit_begin);
      }
      if (!unit.empty()) {
        const auto* suffix = std::ranges::find(kSuffixes, unit, &Suffix::name);
        if (suffix == kSuffixes.end())
          fail(unit_begin, fmt::format("{} is no unit", unit),
               "ns, us, ms, s; B, K, M, G; bit/s, Kbit/s, Mbit/s, Gbit/s, B/s, KB/s, MB/s, GB/s");
        side.unit = suffix->scale;
        return finish();
      }
      finish();
      if (!accept("*")) return side;
      side.field = parse_field();
      return finish();
    }
    side.field = parse_field();
    finish();
    if (!accept("*")) return side;
    skip_space();
    if (position_ == text_.size() || !is_digit(text_[position_])) fail_expected("a number");
    side.number = parse_number();
    if (position_ < text_.size() && is_word(text_[position_])) fail(position_, "a factor has no unit");
    return finish();
  }

  const FieldInfo* parse_field() {
    skip_space();
    const auto begin = position_;
    const auto word = run(is_word);
    if (word.empty()) fail_expected("a field or a number");
    const auto* field = find_field(word);
    if (field == nullptr) fail(begin, fmt::format("unknown field {}", word), "tcpinfo fields lists them");
    check_usable(*field, begin);
    if (field->format != Format::number)
      fail(begin, fmt::format("{} is no number", word), "only numbers have an order and a factor");
    return field;
  }

  Ratio parse_number() {
    const auto begin = position_;
    Ratio number;
    number.numerator = 0;
    constexpr std::uint64_t kLimit = 100'000'000'000'000'000;
    unsigned fraction = 0;
    const auto digit = [&](char c) {
      if (number.numerator >= kLimit || fraction > 9)
        fail(begin, "the number has too many digits", "at most 18, and 9 behind the point");
      number.numerator = number.numerator * 10 + static_cast<std::uint64_t>(c - '0');
    };
    for (const char c : run(is_digit)) digit(c);
    // Two points make a range.
    if (position_ + 1 < text_.size() && text_[position_] == '.' && is_digit(text_[position_ + 1])) {
      ++position_;
      for (const char c : run(is_digit)) {
        ++fraction;
        digit(c);
        number.denominator *= 10;
      }
    }
    return number;
  }

  [[noreturn]] void fail_units(const Side& constant, const FieldInfo& field) const {
    const auto scale = scale_of(field.unit);
    const auto wanted = std::string(example(scale.dimension));
    if (constant.unit)
      fail(constant.begin,
           fmt::format("{} is {}, {} is {}", constant.text, describe(constant.unit->dimension), field.name,
                       describe(scale.dimension)),
           wanted);
    fail(constant.begin, fmt::format("{} has no unit, {} is {}", constant.text, field.name, describe(scale.dimension)),
         wanted);
  }

  /// What a side is multiplied with, in the smallest unit of the dimension.
  Scale scale_beside(const Side& side, const FieldInfo& other) const {
    if (side.field != nullptr) return scale_of(side.field->unit);
    const auto wanted = scale_of(other.unit);
    if (side.unit) {
      if (side.unit->dimension != wanted.dimension) fail_units(side, other);
      return *side.unit;
    }
    if (wanted.dimension == Dimension::kTime && side.number.numerator != 0) fail_units(side, other);
    return wanted;
  }

  Alternatives relate(const Side& left, Operator op, const Side& right) const {
    if (left.field == nullptr) {
      if (right.field == nullptr) fail(left.begin, "compares two constants", "name a field on one side");
      return relate(right, mirrored(op), left);
    }
    const auto& field = *left.field;
    const auto scale = scale_of(field.unit), other = scale_beside(right, field);
    if (scale.dimension != other.dimension)
      fail(right.begin, fmt::format("{} is {}, {} is {}: they do not compare", right.field->name,
                                    describe(other.dimension), field.name, describe(scale.dimension)));
    Wide a = Wide{left.number.numerator} * right.number.denominator * scale.factor;
    Wide b = Wide{right.number.numerator} * left.number.denominator * other.factor;
    if (a == 0 || (right.field != nullptr && b == 0)) fail(left.begin, "a factor of 0 makes a comparison of nothing");
    const auto divisor = greatest_divisor(a, b);
    a /= divisor;
    b /= divisor;
    const Wide most = right.field != nullptr ? std::numeric_limits<std::uint32_t>::max()
                                             : Wide{std::numeric_limits<std::uint64_t>::max()};
    if (a > std::numeric_limits<std::uint32_t>::max() || b > most)
      fail(left.begin, "the numbers are too large or too fine to be compared", "use fewer digits");
    auto operand = operand_of(field);
    operand.factor = static_cast<std::uint32_t>(a);
    if (right.field == nullptr) return compare(operand, op, static_cast<std::uint64_t>(b));
    auto second = operand_of(*right.field);
    second.factor = static_cast<std::uint32_t>(b);
    return condition(operand, op, second);
  }

  static constexpr std::array kSources = {SourceId::kSockops, SourceId::kInetDiag, SourceId::kIter};

  std::optional<SourceId> source_;
  std::vector<const FieldInfo*> grows_;
};

}  // namespace

Trigger Trigger::parse(std::string_view expression, std::optional<SourceId> source) {
  TriggerParser parser(expression, source);
  Trigger trigger;
  if (parser.blank()) return trigger;
  const auto alternatives = parser.parse();
  if (alternatives.size() > TCPINFO_TRIGGER_CLAUSES) parser.fail_size(std::to_string(alternatives.size()));
  auto& raw = trigger.raw_;
  for (const auto& clause : alternatives) {
    for (auto condition : clause) {
      if (raw.conditions == TCPINFO_TRIGGER_CONDITIONS) parser.fail_conditions();
      condition.clause = raw.clauses;
      raw.condition[raw.conditions++] = condition;
    }
    ++raw.clauses;
  }
  for (const auto* field : parser.grows()) raw.grow[raw.grows++] = operand_of(*field);
  return trigger;
}

}  // namespace tcpinfo
