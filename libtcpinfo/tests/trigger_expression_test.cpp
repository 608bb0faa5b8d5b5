// SPDX-License-Identifier: BSD-2-Clause
#include <array>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tcpinfo/error.hpp>
#include <tcpinfo/filter.hpp>
#include <tcpinfo/trigger.hpp>

#include "records.hpp"

namespace tcpinfo {
namespace {

using ::testing::HasSubstr;

template <class Expression>
std::string problem(std::string_view text, Errc code) {
  try {
    Expression::parse(text);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), make_error_code(code)) << text;
    return e.what();
  }
  return {};
}
std::string problem(std::string_view text) { return problem<Trigger>(text, Errc::kInvalidTrigger); }

/// Which alternatives hold of a record that is looked at for the first time.
unsigned examined(std::string_view expression, const tcpinfo_record& record) {
  tcpinfo_history history{};
  return Trigger::parse(expression).examine(Record(record), history);
}

tcpinfo_record with(std::initializer_list<std::pair<Field, std::uint64_t>> values) {
  auto record = make_record();
  for (const auto& [field, value] : values) set_number(record, field, value);
  return record;
}

TEST(Trigger, EmptyWantsEverySample) {
  for (const auto* text : {"", " ", "\t\n"}) EXPECT_TRUE(Trigger::parse(text).empty());
  EXPECT_TRUE(Trigger().empty());
  EXPECT_FALSE(Trigger::parse("rtt > 1ms").empty());
}

TEST(Trigger, EachOperatorBelowAtAndAbove) {
  const std::tuple<const char*, bool, bool, bool> cases[] = {{"==", false, true, false}, {"!=", true, false, true},
                                                             {"<", true, false, false},  {"<=", true, true, false},
                                                             {">", false, false, true},  {">=", false, true, true}};
  for (const auto& [op, below, at, above] : cases)
    for (const auto& [field, name] :
         {std::pair(Field::snd_cwnd, "snd_cwnd"), std::pair(Field::retransmits, "retransmits"),
          std::pair(Field::total_rto, "total_rto"), std::pair(Field::bytes_acked, "bytes_acked")}) {
      const auto text = fmt::format("{} {} 200", name, op);
      EXPECT_EQ(examined(text, with({{field, 199}})), below) << text;
      EXPECT_EQ(examined(text, with({{field, 200}})), at) << text;
      EXPECT_EQ(examined(text, with({{field, 201}})), above) << text;
      const auto opposite = "not " + text;
      EXPECT_EQ(examined(opposite, with({{field, 199}})), !below) << opposite;
      EXPECT_EQ(examined(opposite, with({{field, 200}})), !at) << opposite;
      EXPECT_EQ(examined(opposite, with({{field, 201}})), !above) << opposite;
      const auto turned = fmt::format("200 {} {}", op, name);
      const bool has_order = op[0] == '<' || op[0] == '>';
      EXPECT_EQ(examined(turned, with({{field, 199}})), has_order ? above : below) << turned;
      EXPECT_EQ(examined(turned, with({{field, 200}})), at) << turned;
      EXPECT_EQ(examined(turned, with({{field, 201}})), has_order ? below : above) << turned;
    }
}

TEST(Trigger, UnitsOfTime) {
  // rtt is in microseconds, last_ack_recv in milliseconds, time_ns in nanoseconds.
  for (const auto* text : {"rtt > 20ms", "rtt > 20000us", "rtt > 0.02s", "rtt > 20000000ns", "20ms < rtt"}) {
    EXPECT_EQ(examined(text, with({{Field::rtt, 20'000}})), 0u) << text;
    EXPECT_EQ(examined(text, with({{Field::rtt, 20'001}})), 1u) << text;
  }
  EXPECT_EQ(examined("rtt > 0.5us", with({{Field::rtt, 0}})), 0u);
  EXPECT_EQ(examined("rtt > 0.5us", with({{Field::rtt, 1}})), 1u);
  EXPECT_EQ(examined("last_ack_recv >= 1.5ms", with({{Field::last_ack_recv, 1}})), 0u);
  EXPECT_EQ(examined("last_ack_recv >= 1.5ms", with({{Field::last_ack_recv, 2}})), 1u);
  EXPECT_EQ(examined("rtt == 0", with({{Field::rtt, 0}})), 1u);
  // Fields of different units of time.
  EXPECT_EQ(examined("last_ack_recv > 2 * rtt", with({{Field::last_ack_recv, 10}, {Field::rtt, 5000}})), 0u);
  EXPECT_EQ(examined("last_ack_recv > 2 * rtt", with({{Field::last_ack_recv, 10}, {Field::rtt, 4999}})), 1u);
}

TEST(Trigger, UnitsOfBytesAndRates) {
  for (const auto* text : {"snd_wnd < 64K", "snd_wnd < 65536", "snd_wnd < 65536B", "snd_wnd < 0.0625M"}) {
    EXPECT_EQ(examined(text, with({{Field::snd_wnd, 65535}})), 1u) << text;
    EXPECT_EQ(examined(text, with({{Field::snd_wnd, 65536}})), 0u) << text;
  }
  for (const auto* text : {"delivery_rate < 1Mbit/s", "delivery_rate < 125000", "delivery_rate < 125KB/s",
                           "delivery_rate < 1000Kbit/s", "delivery_rate < 0.001Gbit/s", "delivery_rate < 0.125MB/s",
                           "delivery_rate < 1000000bit/s", "delivery_rate < 125000B/s"}) {
    EXPECT_EQ(examined(text, with({{Field::delivery_rate, 124'999}})), 1u) << text;
    EXPECT_EQ(examined(text, with({{Field::delivery_rate, 125'000}})), 0u) << text;
  }
  EXPECT_EQ(examined("delivery_rate < 3GB/s", with({{Field::delivery_rate, 2'999'999'999}})), 1u);
  EXPECT_EQ(examined("delivery_rate < 3GB/s", with({{Field::delivery_rate, 3'000'000'000}})), 0u);
}

TEST(Trigger, FieldsTimesNumbers) {
  for (const auto* text : {"rtt > 2 * min_rtt", "rtt > min_rtt * 2", "0.5 * rtt > min_rtt", "min_rtt * 2 < rtt",
                           "1.5 * rtt > 3 * min_rtt"}) {
    EXPECT_EQ(examined(text, with({{Field::rtt, 200}, {Field::min_rtt, 100}})), 0u) << text;
    EXPECT_EQ(examined(text, with({{Field::rtt, 201}, {Field::min_rtt, 100}})), 1u) << text;
  }
  EXPECT_EQ(examined("unacked >= snd_cwnd", with({{Field::unacked, 10}, {Field::snd_cwnd, 10}})), 1u);
  EXPECT_EQ(examined("2 * rtt > 30ms", with({{Field::rtt, 15'000}})), 0u);
  EXPECT_EQ(examined("2 * rtt > 30ms", with({{Field::rtt, 15'001}})), 1u);
}

TEST(Trigger, ProductsDoNotWrap) {
  constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();
  const auto huge = with({{Field::bytes_acked, kMost}, {Field::bytes_received, kMost - 1}});
  EXPECT_EQ(examined("4294967295 * bytes_acked > 4294967295 * bytes_received", huge), 1u);
  EXPECT_EQ(examined("4294967295 * bytes_acked > 1K", huge), 1u);
  EXPECT_EQ(examined("3 * bytes_acked == 3 * bytes_received", huge), 0u);
  EXPECT_EQ(examined("2 * bytes_received < bytes_acked", huge), 0u);
  EXPECT_EQ(examined("bytes_acked >= 2 * bytes_received",
                     with({{Field::bytes_acked, 2}, {Field::bytes_received, (kMost >> 1) + 1}})),
            0u)
      << "twice 2^63 is not 0";
}

TEST(Trigger, AConditionOnAnAbsentFieldDoesNotHoldNorDoesItsOpposite) {
  const auto none = make_record();
  const auto one = with({{Field::rtt, 1000}});
  for (const auto* text : {"rtt > 1ms", "rtt <= 1ms", "rtt == 0", "rtt != 0", "not rtt > 1ms", "rtt > min_rtt",
                           "not rtt > min_rtt", "state == ESTABLISHED", "state != ESTABLISHED",
                           "congestion_control == bbr", "congestion_control != bbr", "peer_address in 10.0.0.0/8",
                           "not peer_address in 10.0.0.0/8", "port == 0", "port != 0", "total_retrans grows"})
    EXPECT_EQ(examined(text, none), 0u) << text;
  EXPECT_EQ(examined("rtt != 5us", one), 1u);
  EXPECT_EQ(examined("rtt != min_rtt", one), 0u) << "one of the two is absent";
  EXPECT_EQ(examined("min_rtt != rtt", one), 0u);
  EXPECT_EQ(examined("rtt == 1ms or min_rtt == 1ms", one), 1u);
}

TEST(Trigger, SaysWhichAlternativesHold) {
  const auto* text = "rtt > 1ms or snd_cwnd < 10 and retransmits > 0 or ca_state == Loss";
  EXPECT_EQ(examined(text, with({{Field::rtt, 1001}, {Field::ca_state, 0}})), 1u);
  EXPECT_EQ(examined(text, with({{Field::rtt, 1}, {Field::snd_cwnd, 9}, {Field::retransmits, 1}})), 2u);
  EXPECT_EQ(examined(text, with({{Field::rtt, 1}, {Field::snd_cwnd, 9}, {Field::retransmits, 0}})), 0u);
  EXPECT_EQ(
      examined(text, with({{Field::rtt, 1001}, {Field::snd_cwnd, 9}, {Field::retransmits, 1}, {Field::ca_state, 4}})),
      7u);
}

TEST(Trigger, CodesGoByTheirNames) {
  const auto established = with({{Field::state, 1}, {Field::family, 10}, {Field::ca_state, 4}, {Field::swept, 1}});
  EXPECT_EQ(examined("state == ESTABLISHED", established), 1u);
  EXPECT_EQ(examined("state == established", established), 1u);
  EXPECT_EQ(examined("state != ESTABLISHED", established), 0u);
  EXPECT_EQ(examined("state in (CLOSE_WAIT, ESTABLISHED)", established), 2u) << "the second alternative";
  EXPECT_EQ(examined("state in (CLOSE_WAIT,LAST_ACK)", established), 0u);
  EXPECT_EQ(examined("not state in (CLOSE_WAIT, LAST_ACK)", established), 1u);
  EXPECT_EQ(examined("not state in (CLOSE_WAIT, ESTABLISHED)", established), 0u);
  EXPECT_EQ(examined("family == IPv6", established), 1u);
  EXPECT_EQ(examined("family == ipv4", established), 0u);
  EXPECT_EQ(examined("ca_state == Loss", established), 1u);
  EXPECT_EQ(examined("swept == true", established), 1u);
}

TEST(Trigger, Texts) {
  auto record = make_record();
  records::set_name(record, Field::congestion_control, "dctcp-reno");
  records::set_name(record, Field::ulp, "the server");
  EXPECT_EQ(examined("congestion_control == dctcp-reno", record), 1u);
  EXPECT_EQ(examined("congestion_control == dctcp", record), 0u);
  EXPECT_EQ(examined("congestion_control != dctcp", record), 3u);
  EXPECT_EQ(examined("not congestion_control == dctcp", record), 3u);
  EXPECT_EQ(examined("not congestion_control != dctcp", record), 0u);
  EXPECT_EQ(examined("congestion_control != dctcp-reno", record), 0u);
  EXPECT_EQ(examined("ulp == \"the server\"", record), 1u);
  EXPECT_EQ(examined("ulp == \"the serve\"", record), 0u);
}

TEST(Trigger, RangesHoldBothTheirEnds) {
  const auto rtt = [](std::uint64_t us) { return with({{Field::rtt, us}}); };
  EXPECT_EQ(examined("rtt in 5ms..20ms", rtt(4999)), 0u);
  EXPECT_EQ(examined("rtt in 5ms..20ms", rtt(5000)), 1u);
  EXPECT_EQ(examined("rtt in 5ms .. 20ms", rtt(20'000)), 1u);
  EXPECT_EQ(examined("rtt in 5ms..20ms", rtt(20'001)), 0u);
  EXPECT_EQ(examined("not rtt in 5ms..20ms", rtt(5000)), 0u);
  EXPECT_EQ(examined("not rtt in 5ms..20ms", rtt(4999)), 1u);
  EXPECT_EQ(examined("not rtt in 5ms..20ms", rtt(20'001)), 2u);
  EXPECT_EQ(examined("snd_cwnd in 1..10", with({{Field::snd_cwnd, 10}})), 1u);
}

TEST(Trigger, GrowsMeansSinceTheLastLook) {
  const auto trigger = Trigger::parse("total_retrans grows or rwnd_limited grows");
  EXPECT_TRUE(trigger.asks_for_growth());
  EXPECT_FALSE(Trigger::parse("rtt > 1s").asks_for_growth());
  tcpinfo_history history{};
  const auto look = [&](const tcpinfo_record& record) { return trigger.examine(Record(record), history); };
  EXPECT_EQ(look(with({{Field::total_retrans, 5}})), 0) << "the first look";
  EXPECT_EQ(look(with({{Field::total_retrans, 5}})), 0);
  EXPECT_EQ(look(with({{Field::total_retrans, 6}})), 1);
  EXPECT_EQ(look(with({{Field::total_retrans, 6}, {Field::rwnd_limited, 100}})), 0) << "the first of rwnd_limited";
  EXPECT_EQ(look(make_record()), 0);
  EXPECT_EQ(look(with({{Field::total_retrans, 7}, {Field::rwnd_limited, 101}})), 3) << "absent meanwhile";
  EXPECT_EQ(look(with({{Field::total_retrans, 1}, {Field::rwnd_limited, 101}})), 0) << "another connection";
  EXPECT_EQ(look(with({{Field::total_retrans, 2}, {Field::rwnd_limited, 101}})), 1);
  // Also where a sample was not wanted.
  const auto both = Trigger::parse("total_retrans grows and rtt > 1ms");
  history = {};
  EXPECT_EQ(both.examine(Record(with({{Field::total_retrans, 1}, {Field::rtt, 1}})), history), 0);
  EXPECT_EQ(both.examine(Record(with({{Field::total_retrans, 2}, {Field::rtt, 1}})), history), 0);
  EXPECT_EQ(both.examine(Record(with({{Field::total_retrans, 2}, {Field::rtt, 2000}})), history), 0);
  EXPECT_EQ(both.examine(Record(with({{Field::total_retrans, 3}, {Field::rtt, 2000}})), history), 1);
}

// The identity terms mean what they mean in a filter.
TEST(TriggerProperty, PortsAndAddressesAsInAFilter) {
  const char* const expressions[] = {"port == 22",
                                     "port != 22",
                                     "local_port in 20..30",
                                     "port in 20..22",
                                     "port < 23",
                                     "peer_port >= 22",
                                     "not port == 22",
                                     "not port in 1..22",
                                     "not port != 22",
                                     "address in 10.0.0.0/8",
                                     "peer_address in 0.0.0.0/0",
                                     "peer_address in ::/0",
                                     "address in ::/0",
                                     "local_address in ::/1",
                                     "address == ::1",
                                     "peer_address in ::/96",
                                     "address in ::ffff:0:0/96",
                                     "address in 2001:db8::/33",
                                     "peer_address in ::fffe:0:0/95 and port == 22"};
  const char* const addresses[] = {
      "10.0.0.1",    "10.255.0.1",       "11.0.0.1",       "0.0.0.0", "::",      "::1",
      "2001:db8::1", "2001:db8:8000::1", "::fffe:1.2.3.4", "8000::",  "::1:0:0", "::1.2.3.4"};
  int held = 0, failed = 0;
  for (const auto* text : expressions) {
    const auto filter = Filter::parse(text);
    for (const auto* local : addresses)
      for (const auto* peer : addresses)
        for (const std::uint16_t local_port : std::initializer_list<std::uint16_t>{0, 22, 65535})
          for (const std::uint16_t peer_port : std::initializer_list<std::uint16_t>{1, 22, 23}) {
            auto record = with({{Field::local_port, local_port}, {Field::peer_port, peer_port}});
            records::set_address(record, Field::local_address, records::address(local));
            records::set_address(record, Field::peer_address, records::address(peer));
            const bool expected = filter.matches(record.local_address, local_port, record.peer_address, peer_port);
            ASSERT_EQ(examined(text, record) != 0, expected)
                << text << " on " << local << ' ' << local_port << ' ' << peer << ' ' << peer_port;
            if (std::string_view(text).find("not") != 0 &&
                std::string_view(text).find("and") == std::string_view::npos) {
              ASSERT_EQ(examined("not " + std::string(text), record) != 0, !expected) << text;
            }
            ++(expected ? held : failed);
          }
  }
  EXPECT_GT(held, 1000);
  EXPECT_GT(failed, 1000);
}

/// An expression and its meaning, evaluated without any expansion, in arithmetic that does not wrap.
struct Node {
  enum Kind { kAnd, kOr, kNot, kCompare } kind = kCompare;
  std::unique_ptr<Node> left, right;
  Field a{}, b{};
  bool constant = false;
  std::uint32_t factor = 1, other_factor = 1;
  std::uint64_t value = 0;
  int op = 0;
  static constexpr std::array<const char*, 6> kOperators = {"==", "!=", "<", "<=", ">", ">="};

  static bool holds(int op, int order) {
    switch (op) {
      case 0:
        return order == 0;
      case 1:
        return order != 0;
      case 2:
        return order < 0;
      case 3:
        return order <= 0;
      case 4:
        return order > 0;
      default:
        return order >= 0;
    }
  }
  // Negations first go down to the comparisons, as an absent field fails both a comparison and its opposite.
  bool holds(const Record& record, bool negated = false) const {
    switch (kind) {
      case kNot:
        return left->holds(record, !negated);
      case kAnd:
        return negated ? left->holds(record, true) || right->holds(record, true)
                       : left->holds(record) && right->holds(record);
      case kOr:
        return negated ? left->holds(record, true) && right->holds(record, true)
                       : left->holds(record) || right->holds(record);
      case kCompare:
        break;
    }
    const auto x = record.number(a);
    const auto y = constant ? std::optional(value) : record.number(b);
    if (!x || !y) return false;
    __extension__ using Wide = unsigned __int128;
    const Wide p = Wide{*x} * factor, q = Wide{*y} * (constant ? 1 : other_factor);
    const int order = p < q ? -1 : p > q ? 1 : 0;
    return holds(op, order) != negated;
  }
  std::string text() const {
    switch (kind) {
      case kNot:
        return "not (" + left->text() + ")";
      case kAnd:
      case kOr: {
        const auto part = [this](const Node& node) {
          return kind == kAnd && node.kind == kOr ? "(" + node.text() + ")" : node.text();
        };
        return part(*left) + (kind == kAnd ? " and " : " or ") + part(*right);
      }
      case kCompare:
        break;
    }
    const auto side = [](std::uint32_t times, Field field) {
      const auto name = std::string(info(field).name);
      return times == 1 ? name : std::to_string(times) + " * " + name;
    };
    return side(factor, a) + " " + kOperators[static_cast<std::size_t>(op)] + " " +
           (constant ? std::to_string(value) : side(other_factor, b));
  }
};

std::unique_ptr<Node> some_expression(records::Random& random, int depth) {
  // Bytes of all sizes; the last two are never present.
  static constexpr std::array kBytes = {Field::bytes_acked, Field::bytes_received, Field::snd_wnd, Field::rcv_wnd,
                                        Field::notsent_bytes};
  static constexpr std::array kNumbers = {Field::local_port, Field::tos, Field::snd_wscale, Field::uid, Field::cookie};
  auto node = std::make_unique<Node>();
  if (depth > 0 && random() % 3) {
    node->kind = static_cast<Node::Kind>(random() % 3);
    node->left = some_expression(random, depth - 1);
    if (node->kind != Node::kNot) node->right = some_expression(random, depth - 1);
    return node;
  }
  const auto& fields = random() % 2 ? kBytes : kNumbers;
  node->a = fields[random() % fields.size()];
  node->b = fields[random() % fields.size()];
  node->op = static_cast<int>(random() % Node::kOperators.size());
  node->constant = random() % 2;
  static constexpr std::array<std::uint32_t, 5> kFactors = {1, 2, 3, 1000, ~0u};
  node->factor = kFactors[random() % kFactors.size()];
  node->other_factor = kFactors[random() % kFactors.size()];
  node->value = random() % 3 ? random() % 200 : random() % 900'000'000'000'000'000;
  return node;
}

TEST(TriggerProperty, MeansWhatItsExpressionMeans) {
  records::Random random(11);
  int parsed = 0, too_many = 0, held = 0, failed = 0;
  for (int i = 0; i < 5000; ++i) {
    const auto expression = some_expression(random, 2 + i % 4);
    const auto text = expression->text();
    Trigger trigger;
    try {
      trigger = Trigger::parse(text);
      ++parsed;
    } catch (const Error& e) {
      ASSERT_THAT(e.what(), HasSubstr("expands to")) << text;
      ++too_many;
      continue;
    }
    for (int j = 0; j < 40; ++j) {
      const auto raw = records::random_record(random, 80);
      tcpinfo_history history{};
      const bool expected = expression->holds(Record(raw));
      ASSERT_EQ(trigger.examine(Record(raw), history) != 0, expected) << text;
      ++(expected ? held : failed);
    }
  }
  // The test is worth something only if all of these happen often.
  EXPECT_GT(parsed, 3000);
  EXPECT_GT(too_many, 10);
  EXPECT_GT(held, 20000);
  EXPECT_GT(failed, 20000);
}

// Every row of the table is either usable or refused with a reason.
TEST(Trigger, EveryFieldOfTheTable) {
  int numbers = 0, refused = 0;
  for (const auto& row : fields()) {
    const bool late = row.field == Field::event || row.field == Field::sequence || row.field == Field::lost_records ||
                      row.field == Field::lost_event || row.field == Field::triggered || row.field == Field::pid ||
                      row.field == Field::comm || row.field == Field::old_state || row.field == Field::fackets ||
                      row.field == Field::last_ack_sent;
    const auto text = row.format == Format::number     ? fmt::format("{} > 0", row.name)
                      : row.format == Format::address  ? fmt::format("{} == ::1", row.name)
                      : row.format == Format::text     ? fmt::format("{} == x", row.name)
                      : row.format == Format::boolean  ? fmt::format("{} == true", row.name)
                      : row.format == Format::family   ? fmt::format("{} == ipv4", row.name)
                      : row.format == Format::source   ? fmt::format("{} == iter", row.name)
                      : row.format == Format::ca_state ? fmt::format("{} == Open", row.name)
                                                       : fmt::format("{} == ESTABLISHED", row.name);
    EXPECT_EQ(problem(text).empty(), !late) << text << ": " << problem(text);
    const auto grows = problem(fmt::format("{} grows", row.name));
    EXPECT_EQ(grows.empty(), row.kind == Kind::counter) << row.name;
    late ? ++refused : ++numbers;
    if (row.format != Format::number || late) continue;
    // All the bits of the member are looked at, and no others.
    auto record = make_record();
    const auto most = ~std::uint64_t{0} >> (64 - 8 * row.size);
    if (row.size == 8) continue;
    std::memset(&record, 0xff, sizeof(record));
    set_number(record, row.field, 0);
    EXPECT_EQ(examined(fmt::format("{} == 0", row.name), record), 1u);
    record = make_record();
    set_number(record, row.field, most);
    EXPECT_EQ(examined(fmt::format("{} == 0", row.name), record), 0u) << row.name;
    EXPECT_EQ(examined(fmt::format("{} != 0", row.name), record), 1u) << row.name;
  }
  EXPECT_EQ(refused, 10);
}

TEST(TriggerErrors, NameFieldsThatASourceDoesNotGive) {
  EXPECT_NO_THROW(Trigger::parse("inode > 0"));
  EXPECT_NO_THROW(Trigger::parse("inode > 0", SourceId::kInetDiag));
  EXPECT_NO_THROW(Trigger::parse("swept == true", SourceId::kSockops));
  try {
    Trigger::parse("rtt > 1ms or inode > 0", SourceId::kSockops);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), make_error_code(Errc::kInvalidTrigger));
    EXPECT_THAT(error.what(), HasSubstr("column 14: inode is not given by sockops"));
  }
  EXPECT_THROW(Trigger::parse("2 * generation > 4", SourceId::kIter), Error);
}

TEST(TriggerErrors, NameColumnAndWhatWasExpected) {
  EXPECT_EQ(
      problem("rtt > 5"),
      "trigger 'rtt > 5': column 7: 5 has no unit, rtt is a time: invalid trigger (write ns, us, ms or s behind the "
      "number, as 20ms)");
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"rt > 5ms", "column 1: unknown field rt: invalid trigger (tcpinfo fields lists them)"},
      {"rtt > 3 * snd_cwnd", "column 7: snd_cwnd is a number of packets, rtt is a time: they do not compare"},
      {"snd_cwnd < 20ms",
       "column 12: 20ms is a time, snd_cwnd is a number of packets: invalid trigger (write the number "
       "alone)"},
      {"delivery_rate < 1M", "column 17: 1M is a number of bytes, delivery_rate is a rate"},
      {"rtt > 5parsecs", "column 8: parsecs is no unit"},
      {"rtt > 5 ms", "column 7: 5 has no unit"},
      {"rtt >", "column 6: expected a field or a number, found the end"},
      {"rtt", "column 4: expected '==', '!=', 'in', '<', '<=', '>' or '>=', found the end"},
      {"total_retrans", "'>=' or 'grows', found the end"},
      {"rtt = 5ms", "column 5: expected"},
      {"rtt grows", "column 1: rtt is not a counter, only they grow: invalid trigger (compare it, as rtt > ...)"},
      {"state grows", "column 7: state is not a counter"},
      {"rtt > 1ms and pid == 7", "column 15: pid is in no sample"},
      {"comm == nginx", "column 1: comm is in no sample"},
      {"old_state == CLOSE", "column 1: old_state is in no sample"},
      {"rtt > 1ms or fackets > 0", "column 14: fackets is not given by any source"},
      {"not total_retrans grows", "column 5: 'not' does not go with grows"},
      {"not (rtt > 1ms or total_retrans grows)", "column 19: 'not' does not go with grows"},
      {"5ms > 4ms", "column 1: compares two constants"},
      {"state == OPEN", "column 10: OPEN is no state: invalid trigger (known: ESTABLISHED, SYN_SENT"},
      {"state > ESTABLISHED", "column 7: expected '==', '!=' or 'in' (names have no order), found '>'"},
      {"state in ESTABLISHED", "column 10: expected '(' and names, found 'ESTABLISHED'"},
      {"state in (ESTABLISHED", "column 22: expected ',' or ')', found the end"},
      {"2 * state > 1", "column 5: state is no number"},
      {"event == sample", "column 1: event is always sample"},
      {"sequence > 5", "column 1: sequence is known only after the trigger"},
      {"rtt > 5ms and 3 * sequence > 1", "column 19: sequence is known only"},
      {"congestion_control > bbr", "column 20: expected '==' or '!=' (texts have no other operator)"},
      {"congestion_control == ", "column 23: expected a name, found the end"},
      {"congestion_control == abcdefghijklmnop", "column 23: 'abcdefghijklmnop' is no congestion_control"},
      {"ulp == \"x", "column 8: the quotation has no end"},
      {"peer_address > 10.0.0.1", "column 14: expected '==', '!=' or 'in' (addresses have no other operator)"},
      {"peer_address == 10.0.0.0/8", "column 25: '==' takes an address, not a prefix"},
      {"peer_address in 10.0.0.1/8", "(write 10.0.0.0/8)"},
      {"rtt in 20ms..5ms", "column 8: the range 20ms..5ms is empty: invalid trigger (write 5ms..20ms)"},
      {"rtt in 5ms..20", "column 13: 20 has no unit"},
      {"rtt in 5ms", "column 11: expected '..' and the range's last value, found the end"},
      {"rtt in min_rtt..5ms", "column 8: 'in' takes constants"},
      {"5ms in 1ms..2ms", "column 5: 'in' stands behind a field"},
      {"rtt > 1234567890123456789012s", "column 7: the number has too many digits"},
      {"rtt > 0.12345678901ms", "column 7: the number has too many digits"},
      {"rtt > 900000000000000s", "column 1: the numbers are too large or too fine"},
      {"0 * rtt > 5ms", "column 1: a factor of 0"},
      {"rtt > 0 * min_rtt", "column 1: a factor of 0"},
      {"rtt > min_rtt * 2ms", "column 18: a factor has no unit"},
      {"rtt > min_rtt * x", "column 17: expected a number, found 'x'"},
      {"rtt > 5ms rtt", "column 11: expected 'and', 'or' or the end, found 'rtt'"},
      {"(rtt > 5ms", "column 11: expected ')', found the end"},
      {"rtt > 5ms and", "column 14: expected a field, a number or '(', found the end"},
      {"port > 70000", "column 8: 70000 is no port"},
  };
  for (const auto& [expression, text] : cases) EXPECT_THAT(problem(expression), HasSubstr(text)) << expression;
}

TEST(TriggerErrors, Limits) {
  const auto repeat = [](int count, std::string_view between, auto part) {
    std::string text;
    for (int i = 0; i < count; ++i) text += (i ? std::string(between) : "") + part(i);
    return text;
  };
  const auto rtt = [](int i) { return fmt::format("rtt != {}us", i + 1); };
  const auto window = [](int i) { return fmt::format("snd_wnd != {}", i + 1); };
  EXPECT_EQ(Trigger::parse(repeat(16, " or ", rtt)).raw().clauses, 16u);
  EXPECT_THAT(problem(repeat(17, " or ", rtt)), HasSubstr("expands to 17 alternatives: invalid trigger (at most 16)"));
  EXPECT_THAT(problem(repeat(300, " or ", rtt)), HasSubstr("expands to more than 256 alternatives"));
  EXPECT_EQ(Trigger::parse(repeat(64, " and ", rtt)).raw().conditions, 64u);
  EXPECT_THAT(problem(repeat(65, " and ", rtt)), HasSubstr("expands to more than 64 conditions"));
  EXPECT_THAT(problem("(" + repeat(16, " or ", rtt) + ") and " + repeat(4, " and ", window)),
              HasSubstr("expands to more than 64 conditions"));
  EXPECT_EQ(Trigger::parse("total_retrans grows and segs_in grows or segs_out grows or bytes_acked grows").raw().grows,
            4u);
  EXPECT_THAT(problem("total_retrans grows or segs_in grows or segs_out grows or bytes_acked grows or delivered grows"),
              HasSubstr("column 80: delivered is one too many that shall grow: invalid trigger (at most 4 fields)"));
  EXPECT_EQ(Trigger::parse("segs_in grows and rtt > 1ms or segs_in grows and snd_cwnd < 5").raw().grows, 1u);
  EXPECT_EQ(problem(std::string(100, '(') + "rtt > 1ms" + std::string(100, ')')), "");
  EXPECT_THAT(problem(std::string(1'000'000, '(')), HasSubstr("parentheses nested deeper than 100"));
  std::string nots;
  for (int i = 0; i < 100'000; ++i) nots += "not ";
  EXPECT_EQ(problem(nots + "rtt > 1ms"), "");
}

TEST(TriggerErrors, AFilterPointsToTheTrigger) {
  const auto text = problem<Filter>("peer_port == 1 and rtt > 5ms", Errc::kInvalidFilter);
  EXPECT_THAT(text, HasSubstr("column 20: rtt is not for a filter, which is decided once, when a connection begins"));
  EXPECT_THAT(text, HasSubstr("make it a trigger"));
  EXPECT_THAT(problem<Filter>("not peer_address in 10.0.0.0/8", Errc::kInvalidFilter),
              HasSubstr("column 5: 'not' does not go with addresses in a filter"));
}

TEST(Trigger, AlternativesThatAddNothingAreDropped) {
  EXPECT_EQ(Trigger::parse("rtt > 1ms or rtt > 1000us").raw().clauses, 1u);
  EXPECT_EQ(Trigger::parse("rtt > 1ms and snd_cwnd < 5 or rtt > 1ms").raw().conditions, 1u);
  EXPECT_EQ(Trigger::parse("rtt > 1ms and rtt > 1ms").raw().conditions, 1u);
}

}  // namespace
}  // namespace tcpinfo
