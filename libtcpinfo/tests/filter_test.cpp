// SPDX-License-Identifier: BSD-2-Clause
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tcpinfo/error.hpp>
#include <tcpinfo/filter.hpp>

#include "records.hpp"

namespace tcpinfo {
namespace {

using ::testing::HasSubstr;

/// What parse says against an expression; empty if it takes it.
std::string problem(std::string_view expression) {
  try {
    Filter::parse(expression);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), make_error_code(Errc::kInvalidFilter)) << expression;
    return e.what();
  }
  return {};
}

bool matches(std::string_view expression, std::string_view local, std::uint16_t local_port, std::string_view peer,
             std::uint16_t peer_port) {
  return Filter::parse(expression).matches(records::address(local), local_port, records::address(peer), peer_port);
}

bool ports(std::string_view expression, std::uint16_t local_port, std::uint16_t peer_port) {
  return matches(expression, "10.0.0.1", local_port, "10.0.0.2", peer_port);
}

bool addresses(std::string_view expression, std::string_view local, std::string_view peer) {
  return matches(expression, local, 1, peer, 2);
}

std::uint32_t clauses(std::string_view expression) { return Filter::parse(expression).raw().clauses; }

TEST(Filter, EmptyLetsEverythingPass) {
  for (const auto* text : {"", " ", "\t\n"}) {
    EXPECT_TRUE(Filter::parse(text).empty());
    EXPECT_TRUE(ports(text, 0, 65535));
  }
  EXPECT_TRUE(Filter().empty());
  EXPECT_EQ(Filter().raw().clauses, 0U);
  EXPECT_FALSE(Filter::parse("port == 1").empty());
}

TEST(FilterPorts, OneEndOrEither) {
  EXPECT_TRUE(ports("peer_port == 443", 1, 443));
  EXPECT_FALSE(ports("peer_port == 443", 443, 1));
  EXPECT_TRUE(ports("local_port == 443", 443, 1));
  EXPECT_FALSE(ports("local_port == 443", 1, 443));
  EXPECT_TRUE(ports("port == 443", 1, 443));
  EXPECT_TRUE(ports("port == 443", 443, 1));
  EXPECT_FALSE(ports("port == 443", 442, 444));
  EXPECT_EQ(clauses("peer_port == 443"), 1U);
  EXPECT_EQ(clauses("port == 443"), 2U);
}

TEST(FilterPorts, NotEqualMeansNeitherEnd) {
  EXPECT_TRUE(ports("port != 22", 21, 23));
  EXPECT_FALSE(ports("port != 22", 22, 23));
  EXPECT_FALSE(ports("port != 22", 21, 22));
  EXPECT_FALSE(ports("port != 22", 22, 22));
  EXPECT_FALSE(ports("peer_port != 22", 1, 22));
  EXPECT_TRUE(ports("peer_port != 22", 22, 21));
  EXPECT_TRUE(ports("peer_port != 22", 22, 23));
  EXPECT_EQ(clauses("peer_port != 22"), 2U);
  EXPECT_EQ(clauses("port != 22"), 4U);
  EXPECT_EQ(clauses("peer_port != 0"), 1U);
  EXPECT_EQ(clauses("peer_port != 65535"), 1U);
  EXPECT_FALSE(ports("peer_port != 0", 1, 0));
  EXPECT_FALSE(ports("peer_port != 65535", 1, 65535));
}

TEST(FilterPorts, RangesHoldBothTheirEnds) {
  for (const auto* text : {"local_port in 5201..5210", "local_port in 5201 .. 5210"}) {
    EXPECT_FALSE(ports(text, 5200, 1));
    EXPECT_TRUE(ports(text, 5201, 1));
    EXPECT_TRUE(ports(text, 5210, 1));
    EXPECT_FALSE(ports(text, 5211, 1));
  }
  EXPECT_TRUE(ports("local_port in 0..65535", 0, 1));
  EXPECT_TRUE(ports("local_port in 0..65535", 65535, 1));
  EXPECT_TRUE(ports("local_port in 7..7", 7, 1));
}

TEST(FilterPorts, Comparisons) {
  EXPECT_TRUE(ports("local_port < 1024", 1023, 1));
  EXPECT_FALSE(ports("local_port < 1024", 1024, 1));
  EXPECT_TRUE(ports("local_port <= 1024", 1024, 1));
  EXPECT_FALSE(ports("local_port <= 1024", 1025, 1));
  EXPECT_TRUE(ports("local_port > 1024", 1025, 1));
  EXPECT_FALSE(ports("local_port > 1024", 1024, 1));
  EXPECT_TRUE(ports("local_port >= 1024", 1024, 1));
  EXPECT_FALSE(ports("local_port >= 1024", 1023, 1));
  EXPECT_TRUE(ports("port<1024", 40000, 22));
  EXPECT_FALSE(ports("port<1024", 40000, 8080));
  EXPECT_TRUE(ports("port >= 0", 0, 0));
  EXPECT_TRUE(ports("port <= 65535", 65535, 65535));
}

TEST(FilterAddresses, PrefixOfIpv4) {
  EXPECT_TRUE(addresses("peer_address in 10.0.0.0/8", "192.0.2.1", "10.255.0.1"));
  EXPECT_FALSE(addresses("peer_address in 10.0.0.0/8", "10.0.0.1", "11.0.0.1"));
  EXPECT_TRUE(addresses("address in 10.0.0.0/8", "10.0.0.1", "11.0.0.1"));
  EXPECT_TRUE(addresses("local_address in 192.0.2.128/25", "192.0.2.255", "::1"));
  EXPECT_FALSE(addresses("local_address in 192.0.2.128/25", "192.0.2.127", "::1"));
  EXPECT_TRUE(addresses("local_address in 10.0.0.0/8", "::ffff:10.1.2.3", "::1"));
}

TEST(FilterAddresses, LengthZeroIsTheWholeFamilyAndNoOther) {
  EXPECT_TRUE(addresses("peer_address in 0.0.0.0/0", "::1", "203.0.113.9"));
  EXPECT_FALSE(addresses("peer_address in 0.0.0.0/0", "203.0.113.9", "2001:db8::1"));
  EXPECT_TRUE(addresses("peer_address in ::/0", "::1", "2001:db8::1"));
  EXPECT_FALSE(addresses("peer_address in ::/0", "::1", "203.0.113.9"));
  EXPECT_TRUE(addresses("peer_address in ::/0", "::1", "::"));
}

TEST(FilterAddresses, PrefixOfIpv6) {
  EXPECT_TRUE(addresses("address in 2001:db8::/32", "2001:db8:ffff::1", "::1"));
  EXPECT_FALSE(addresses("address in 2001:db8::/32", "2001:db9::1", "::1"));
  EXPECT_TRUE(addresses("address in fe80::/10", "febf::1", "::1"));
  EXPECT_FALSE(addresses("address in fe80::/10", "fec0::1", "::1"));
}

TEST(FilterAddresses, BareAddressIsALengthOfAll) {
  for (const auto* text : {"local_address == 10.0.0.1", "local_address in 10.0.0.1", "local_address in 10.0.0.1/32"}) {
    EXPECT_TRUE(addresses(text, "10.0.0.1", "::1"));
    EXPECT_FALSE(addresses(text, "10.0.0.2", "::1"));
    EXPECT_EQ(Filter::parse(text).raw().clause[0].local.length, 32U);
  }
  for (const auto* text : {"local_address == ::1", "local_address in ::1", "local_address in ::1/128"}) {
    EXPECT_TRUE(addresses(text, "::1", "::2"));
    EXPECT_FALSE(addresses(text, "::2", "::1"));
    EXPECT_EQ(Filter::parse(text).raw().clause[0].local.length, 128U);
  }
}

TEST(FilterAddresses, MappedPrefixBecomesIpv4) {
  const auto mapped = Filter::parse("local_address in ::ffff:192.0.2.0/120");
  const auto plain = Filter::parse("local_address in 192.0.2.0/24");
  EXPECT_EQ(std::memcmp(&mapped.raw(), &plain.raw(), sizeof(plain.raw())), 0);
  const auto& prefix = mapped.raw().clause[0].local;
  EXPECT_EQ(prefix.family, std::uint32_t{TCPINFO_PREFIX_IPV4});
  EXPECT_EQ(prefix.length, 24U);
  EXPECT_EQ(to_string(prefix.address), "192.0.2.0");
  EXPECT_TRUE(addresses("local_address == ::ffff:192.0.2.1", "192.0.2.1", "::1"));
  EXPECT_TRUE(addresses("local_address in ::ffff:0:0/96", "203.0.113.1", "::1"));
  EXPECT_FALSE(addresses("local_address in ::ffff:0:0/96", "2001:db8::1", "::1"));
}

TEST(FilterAddresses, BitsOutsideTheMaskAreZeroInTheRawFilter) {
  const auto filter = Filter::parse("peer_address in 2001:db8:8000::/33");
  const auto& clause = filter.raw().clause[0];
  EXPECT_EQ(clause.local.family, std::uint32_t{TCPINFO_PREFIX_ANY});
  EXPECT_EQ(clause.peer.family, std::uint32_t{TCPINFO_PREFIX_IPV6});
  EXPECT_EQ(clause.peer.length, 33U);
  EXPECT_EQ(to_string(clause.peer.mask), "ffff:ffff:8000::");
  EXPECT_EQ(to_string(clause.peer.address), "2001:db8:8000::");
}

TEST(FilterLogic, AndBindsMoreThanOr) {
  for (const auto* text :
       {"local_port == 1 or local_port == 2 and peer_port == 3", "local_port==1||local_port==2&&peer_port==3",
        "local_port == 1 or (local_port == 2 and peer_port == 3)"}) {
    EXPECT_TRUE(ports(text, 1, 9)) << text;
    EXPECT_TRUE(ports(text, 2, 3)) << text;
    EXPECT_FALSE(ports(text, 2, 9)) << text;
  }
  EXPECT_FALSE(ports("(local_port == 1 or local_port == 2) and peer_port == 3", 1, 9));
  EXPECT_TRUE(ports("(local_port == 1 or local_port == 2) and peer_port == 3", 1, 3));
  EXPECT_TRUE(ports("((local_port==1))and(peer_port==3)", 1, 3));
}

TEST(FilterLogic, NotOfPorts) {
  for (const std::uint16_t local : std::initializer_list<std::uint16_t>{0, 1, 21, 22, 23, 65535})
    for (const std::uint16_t peer : std::initializer_list<std::uint16_t>{0, 1, 21, 22, 23, 65535})
      for (const std::string text :
           {"port == 22", "port != 22", "port < 22", "port <= 22", "port > 22", "port >= 22", "port in 1..22", "port < 0",
            "local_port == 22 and peer_port < 22", "local_port in 1..22 or peer_port != 22",
            "not (local_port in 1..22 or peer_port != 22) and not port == 1"}) {
        bool expected = true;
        if (text != "port < 0") expected = !ports(text, local, peer);
        EXPECT_EQ(ports("not (" + text + ")", local, peer), expected) << text << ' ' << local << ' ' << peer;
        if (expected) continue;
        EXPECT_TRUE(ports("not not (" + text + ")", local, peer)) << text << ' ' << local << ' ' << peer;
      }
  EXPECT_TRUE(ports("not port == 22 and peer_port == 5", 1, 5)) << "binds more than and";
  EXPECT_FALSE(ports("not port == 22 and peer_port == 5", 1, 6));
}

TEST(FilterLogic, TheExamplesOfTheHeader) {
  EXPECT_TRUE(matches("local_port in 5201..5210 and peer_address in 10.0.0.0/8", "192.0.2.1", 5205, "10.9.9.9", 40000));
  EXPECT_FALSE(matches("local_port in 5201..5210 and peer_address in 10.0.0.0/8", "10.0.0.1", 5205, "192.0.2.1", 1));
  EXPECT_TRUE(matches("port == 22 or address in 2001:db8::/32", "2001:db8::1", 1, "2001:db9::1", 2));
  EXPECT_TRUE(matches("port == 22 or address in 2001:db8::/32", "192.0.2.1", 40000, "192.0.2.2", 22));
  EXPECT_FALSE(matches("port == 22 or address in 2001:db8::/32", "192.0.2.1", 40000, "192.0.2.2", 23));
}

TEST(FilterLogic, ConjunctionsIntersect) {
  const auto range = Filter::parse("local_port >= 1000 and local_port < 2000 and local_port in 500..1500");
  ASSERT_EQ(range.raw().clauses, 1U);
  EXPECT_EQ(range.raw().clause[0].local_port_min, 1000);
  EXPECT_EQ(range.raw().clause[0].local_port_max, 1500);
  for (const auto* text : {"local_address in 10.0.0.0/8 and local_address in 10.1.0.0/16",
                           "local_address in 10.1.0.0/16 and local_address in 10.0.0.0/8"}) {
    const auto nested = Filter::parse(text);
    ASSERT_EQ(nested.raw().clauses, 1U);
    EXPECT_EQ(nested.raw().clause[0].local.length, 16U);
    EXPECT_EQ(to_string(nested.raw().clause[0].local.address), "10.1.0.0");
  }
}

TEST(FilterLogic, AlternativesThatCannotHoldAreDropped) {
  EXPECT_EQ(clauses("local_port == 1 or local_port == 2 and local_port == 3"), 1U);
  EXPECT_EQ(clauses("peer_port == 1 or address in 10.0.0.0/8 and address in 192.0.2.0/24"), 3U);
  EXPECT_EQ(clauses("peer_port < 0 or peer_port == 1"), 1U);
  EXPECT_EQ(clauses("local_address in ::/0 and local_address in 0.0.0.0/0 or port == 1"), 2U);
}

TEST(FilterLogic, AlternativesThatAddNothingAreDropped) {
  EXPECT_EQ(clauses("local_port == 1 or local_port == 1"), 1U);
  EXPECT_EQ(clauses("local_port == 1 or local_port < 10"), 1U);
  EXPECT_EQ(clauses("local_address in 10.0.0.0/8 or local_address == 10.0.0.1"), 1U);
  EXPECT_EQ(clauses("port == 22 and port == 22"), 2U);
}

TEST(FilterErrors, AnExpressionThatCanNeverHold) {
  for (const auto* text : {"local_port == 1 and local_port == 2", "port < 0", "port > 65535",
                           "local_address in 10.0.0.0/8 and local_address in 11.0.0.0/8",
                           "local_address in ::/0 and local_address in 0.0.0.0/0", "port == 22 and port != 22"})
    EXPECT_THAT(problem(text), HasSubstr("can never hold")) << text;
}

TEST(FilterErrors, SaysHowManyAlternativesItBecame) {
  const auto ors = [](int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += (i ? " or local_port == " : "local_port == ") + std::to_string(2 * i);
    return text;
  };
  EXPECT_EQ(clauses(ors(16)), 16U);
  EXPECT_THAT(problem(ors(17)), HasSubstr("expands to 17 alternatives"));
  EXPECT_THAT(problem(ors(200)), HasSubstr("expands to 200 alternatives"));
  EXPECT_THAT(problem(ors(200)), HasSubstr("at most 16"));
  EXPECT_THAT(problem(ors(257)), HasSubstr("expands to more than 256 alternatives"));
  EXPECT_EQ(clauses("port != 1 and port != 10"), 9U);
  EXPECT_THAT(problem("port != 1 and port != 10 and port != 20 and port != 30"), HasSubstr("expands to 25"));
  std::string product = "port != 1";
  for (int i = 1; i < 100; ++i) product += " and port != " + std::to_string(10 * i);
  EXPECT_THAT(problem(product), HasSubstr("expands to more than 256 alternatives"));
}

TEST(FilterErrors, NameColumnAndWhatWasExpected) {
  EXPECT_EQ(problem("peer_prt == 5"),
            "filter 'peer_prt == 5': column 1: unknown field peer_prt: invalid filter (known: local_port, peer_port, "
            "port, local_address, peer_address, address)");
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"port == 22 or Port == 1", "column 15: unknown field Port"},
      {"port", "column 5: expected '==', '!=', 'in', '<', '<=', '>' or '>=', found the end"},
      {"port = 22", "column 6: expected '==', '!=', 'in', '<', '<=', '>' or '>=', found '='"},
      {"port IN 1..2", "column 6: expected"},
      {"port ==", "column 8: expected a port, found the end"},
      {"port == ssh", "column 9: expected a port, found 'ssh'"},
      {"port == -1", "column 9: expected a port, found '-1'"},
      {"port == 22x", "column 9: expected a port, found '22x'"},
      {"port == 65536", "column 9: 65536 is no port"},
      {"port == 99999999999999999999", "column 9: 99999999999999999999 is no port"},
      {"port in 22", "column 11: expected '..' and the range's last port, found the end"},
      {"port in 22..", "column 13: expected a port, found the end"},
      {"port in 10..5", "column 9: the range 10..5 is empty: invalid filter (write 5..10)"},
      {"port == 22 port == 23", "column 12: expected 'and', 'or' or the end, found 'port'"},
      {"port == 22 and", "column 15: expected a field or '(', found the end"},
      {"and port == 22", "column 1: unknown field and"},
      {"port == 22 AND port == 23", "column 12: expected 'and', 'or' or the end, found 'AND'"},
      {"port == 22 & port == 23", "column 12: expected"},
      {"(port == 22", "column 12: expected ')', found the end"},
      {"port == 22)", "column 11: expected 'and', 'or' or the end, found ')'"},
      {"()", "column 2: expected a field or '(', found ')'"},
      {"address != 10.0.0.1", "column 9: expected '==' or 'in' (addresses have no other operator), found '!='"},
      {"address < 10.0.0.1", "column 9: expected '==' or 'in'"},
      {"address ==", "column 11: expected an address, found the end"},
      {"address in", "column 11: expected an address or a prefix, found the end"},
      {"address == localhost", "column 12: expected an address, found 'localhost'"},
      {"address == 10.0.0", "column 12: expected an address, found '10.0.0'"},
      {"address == fe80::1%lo", "column 12: expected an address, found 'fe80::1%lo'"},
      {"address == 10.0.0.0/8", "column 20: '==' takes an address, not a prefix: invalid filter (write in 10.0.0.0/8)"},
      {"address in 10.0.0.0/33", "column 20: '/33' is no prefix length: invalid filter (0 to 32)"},
      {"address in ::/129", "column 14: '/129' is no prefix length: invalid filter (0 to 128)"},
      {"address in 10.0.0.0/", "column 20: '/' is no prefix length"},
      {"address in 10.0.0.0/-1", "column 20: '/' is no prefix length"},
      {"address in 10.0.0.0/255.0.0.0", "column 20: '/255' is no prefix length"},
      {"address in 10.0.0.1/8",
       "column 12: 10.0.0.1/8 has bits set beyond its prefix: invalid filter (write 10.0.0.0/8)"},
      {"address in 2001:db8::1/32", "(write 2001:db8::/32)"},
      {"address in ::ffff:10.0.0.1/104", "(write 10.0.0.0/8)"},
      {"address in 10.0.0.1/0", "(write 0.0.0.0/0)"},
  };
  for (const auto& [expression, text] : cases) EXPECT_THAT(problem(expression), HasSubstr(text)) << expression;
}

TEST(FilterErrors, DeepNestingDoesNotExhaustTheStack) {
  EXPECT_EQ(problem(std::string(100, '(') + "port == 1" + std::string(100, ')')), "");
  EXPECT_THAT(problem(std::string(1'000'000, '(')), HasSubstr("column 101: parentheses nested deeper than 100"));
  std::string siblings = "(port == 1)";
  for (int i = 0; i < 300; ++i) siblings += " or (port == 1)";
  EXPECT_EQ(problem(siblings), "");
}

struct Endpoints {
  tcpinfo_address local, peer;
  std::uint16_t local_port, peer_port;
};

/// An expression and its meaning, evaluated without any expansion.
struct Node {
  enum Kind { kAnd, kOr, kPort, kAddress } kind;
  std::unique_ptr<Node> left, right;
  int ends = 0;  // 0 local, 1 peer, 2 either
  int op = 0;    // of kOperators
  std::uint16_t first = 0, last = 0;
  tcpinfo_address prefix{};
  unsigned length = 0;  // of 128

  static constexpr const char* kOperators[] = {"==", "!=", "<", "<=", ">", ">=", "in"};

  bool holds(std::uint16_t port) const {
    switch (op) {
      case 0:
        return port == first;
      case 1:
        return port != first;
      case 2:
        return port < first;
      case 3:
        return port <= first;
      case 4:
        return port > first;
      case 5:
        return port >= first;
      default:
        return port >= first && port <= last;
    }
  }
  bool holds(const tcpinfo_address& address) const {
    if (tcpinfo_address_is_ipv4(&address) != tcpinfo_address_is_ipv4(&prefix)) return false;
    for (unsigned bit = 0; bit < length; ++bit)
      if ((address.bytes[bit / 8] ^ prefix.bytes[bit / 8]) & (0x80 >> bit % 8)) return false;
    return true;
  }
  bool holds(const Endpoints& e) const {
    switch (kind) {
      case kAnd:
        return left->holds(e) && right->holds(e);
      case kOr:
        return left->holds(e) || right->holds(e);
      case kPort:
        if (ends == 0) return holds(e.local_port);
        if (ends == 1) return holds(e.peer_port);
        return op == 1 ? holds(e.local_port) && holds(e.peer_port) : holds(e.local_port) || holds(e.peer_port);
      case kAddress:
        if (ends == 0) return holds(e.local);
        if (ends == 1) return holds(e.peer);
        return holds(e.local) || holds(e.peer);
    }
    return false;
  }
  std::string text() const {
    static constexpr const char* kEnds[] = {"local_", "peer_", ""};
    if (kind == kAnd || kind == kOr) {
      // No parentheses where they are not needed: precedence is to be tested too.
      const auto part = [this](const Node& node) {
        return kind == kAnd && node.kind == kOr ? "(" + node.text() + ")" : node.text();
      };
      return part(*left) + (kind == kAnd ? " and " : " or ") + part(*right);
    }
    if (kind == kPort)
      return std::string(kEnds[ends]) + "port " + kOperators[op] + " " + std::to_string(first) +
             (op == 6 ? ".." + std::to_string(last) : "");
    const auto shown = tcpinfo_address_is_ipv4(&prefix) ? length - 96 : length;
    return std::string(kEnds[ends]) + "address in " + to_string(prefix) + "/" + std::to_string(shown);
  }
};

// Few values, so that conditions meet, exclude each other and nest.
std::uint16_t some_port(records::Random& random) {
  static constexpr std::uint16_t kPorts[] = {0, 1, 2, 3, 22, 23, 24, 65534, 65535};
  return kPorts[random() % std::size(kPorts)];
}

tcpinfo_address some_address(records::Random& random) {
  static const tcpinfo_address kAddresses[] = {records::address("10.0.0.1"),      records::address("10.0.0.2"),
                                               records::address("10.1.0.1"),      records::address("192.0.2.129"),
                                               records::address("2001:db8::1"),   records::address("2001:db8:1::1"),
                                               records::address("2001:db9::1"),   records::address("::"),
                                               records::address("::1"),           records::address("0.0.0.0"),
                                               records::address("::fffe:1.2.3.4")};
  return kAddresses[random() % std::size(kAddresses)];
}

std::unique_ptr<Node> some_expression(records::Random& random, int depth) {
  auto node = std::make_unique<Node>();
  if (depth > 0 && random() % 3) {
    node->kind = random() % 2 ? Node::kAnd : Node::kOr;
    node->left = some_expression(random, depth - 1);
    node->right = some_expression(random, depth - 1);
    return node;
  }
  node->ends = static_cast<int>(random() % 3);
  if (random() % 2) {
    node->kind = Node::kPort;
    node->op = static_cast<int>(random() % std::size(Node::kOperators));
    node->first = some_port(random);
    node->last = std::max(node->first, some_port(random));
    return node;
  }
  static constexpr unsigned kLengths[] = {0, 7, 8, 16, 24, 31, 32};
  node->kind = Node::kAddress;
  node->prefix = some_address(random);
  node->length = kLengths[random() % std::size(kLengths)] + (tcpinfo_address_is_ipv4(&node->prefix) ? 96 : 0);
  for (unsigned bit = node->length; bit < 128; ++bit)
    node->prefix.bytes[bit / 8] = static_cast<std::uint8_t>(node->prefix.bytes[bit / 8] & ~(0x80 >> bit % 8));
  return node;
}

TEST(FilterProperty, MeansWhatItsExpressionMeans) {
  records::Random random(9);
  int parsed = 0, never = 0, too_many = 0, matched = 0, refused = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto expression = some_expression(random, 2 + i % 4);
    const auto text = expression->text();
    Filter filter;
    bool can_hold = true;
    try {
      filter = Filter::parse(text);
      ++parsed;
    } catch (const Error& e) {
      if (std::string_view(e.what()).find("alternatives") != std::string_view::npos) {
        ++too_many;
        continue;
      }
      ASSERT_THAT(e.what(), HasSubstr("can never hold")) << text;
      can_hold = false;
      ++never;
    }
    for (int j = 0; j < 100; ++j) {
      const Endpoints e = {some_address(random), some_address(random), some_port(random), some_port(random)};
      const bool expected = expression->holds(e);
      ASSERT_EQ(can_hold && filter.matches(e.local, e.local_port, e.peer, e.peer_port), expected)
          << text << " on " << to_string(e.local) << ' ' << e.local_port << ' ' << to_string(e.peer) << ' '
          << e.peer_port;
      ++(expected ? matched : refused);
    }
  }
  // The test is worth something only if all of these happen often.
  EXPECT_GT(parsed, 10000);
  EXPECT_GT(never, 100);
  EXPECT_GT(too_many, 100);
  EXPECT_GT(matched, 200000);
  EXPECT_GT(refused, 200000);
}

}  // namespace
}  // namespace tcpinfo
