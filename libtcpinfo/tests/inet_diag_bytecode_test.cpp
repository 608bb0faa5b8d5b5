// SPDX-License-Identifier: BSD-2-Clause
#include "inet_diag_bytecode.hpp"

#include <sys/socket.h>

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <tcpinfo/error.hpp>
#include <tcpinfo/filter.hpp>

namespace {

using tcpinfo::Filter;
using tcpinfo::inet_diag::compile;
using tcpinfo::inet_diag::kMaxCgroups;
using Bytes = std::vector<std::byte>;

template <class T>
T at(const Bytes& program, std::size_t place) {
  T value{};
  EXPECT_LE(place + sizeof(value), program.size());
  if (place + sizeof(value) <= program.size()) std::memcpy(&value, program.data() + place, sizeof(value));
  return value;
}

// kernel v6.18 net/ipv4/inet_diag.c inet_diag_bc_audit(): the least length of each operation, and where it may jump.
testing::AssertionResult audit(const Bytes& program) {
  if (program.size() < sizeof(inet_diag_bc_op)) return testing::AssertionFailure() << "too short";
  if (program.size() + NLA_HDRLEN > 0xffff) return testing::AssertionFailure() << "no attribute can hold it";
  std::vector<bool> starts(program.size() + 1);  // what a walk along `yes` comes by
  starts[program.size()] = true;
  for (std::size_t place = 0; place < program.size();) {
    starts[place] = true;
    const auto op = at<inet_diag_bc_op>(program, place);
    if (op.yes < 4 || op.yes % 4 != 0)
      return testing::AssertionFailure() << "yes of " << int{op.yes} << " at " << place;
    place += op.yes;
    if (place > program.size()) return testing::AssertionFailure() << "yes leads beyond the end";
  }
  for (std::size_t place = 0; place < program.size();) {
    const auto op = at<inet_diag_bc_op>(program, place);
    std::size_t least = sizeof(op);
    switch (op.code) {
      case INET_DIAG_BC_S_GE:
      case INET_DIAG_BC_S_LE:
      case INET_DIAG_BC_D_GE:
      case INET_DIAG_BC_D_LE:
        least += sizeof(op);
        break;
      case INET_DIAG_BC_S_COND:
      case INET_DIAG_BC_D_COND: {
        const auto family = at<std::uint8_t>(program, place + 4);
        const auto prefix = at<std::uint8_t>(program, place + 5);
        const std::size_t bytes = family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
        if (family != AF_INET && family != AF_INET6 && family != AF_UNSPEC)
          return testing::AssertionFailure() << "family " << int{family};
        if (prefix > bytes * 8) return testing::AssertionFailure() << "prefix of " << int{prefix};
        least += 8 + bytes;
        break;
      }
      case INET_DIAG_BC_CGROUP_COND:
        least += sizeof(std::uint64_t);
        break;
      case INET_DIAG_BC_JMP:
        break;
      default:
        return testing::AssertionFailure() << "operation " << int{op.code};
    }
    const std::size_t left = program.size() - place;
    if (left < least) return testing::AssertionFailure() << "operand cut off";
    if (op.no < least || op.no > left + 4 || op.no % 4 != 0)
      return testing::AssertionFailure() << "no of " << op.no << " at " << place << ", " << left << " left";
    if (op.no < left && !starts[place + op.no]) return testing::AssertionFailure() << "no leads into an operand";
    if (op.yes != least) return testing::AssertionFailure() << "yes does not lead to the next operation";
    place += op.yes;
  }
  return testing::AssertionSuccess();
}

struct Socket {
  int family = AF_INET;
  tcpinfo_address local{}, peer{};  // as in a record
  std::uint16_t local_port = 0, peer_port = 0;
  std::uint64_t cgroup = 0;
};

bool same_bits(const std::uint8_t* a, const std::uint8_t* b, int bits) {
  for (int i = 0; i < bits; ++i)
    if ((a[i / 8] ^ b[i / 8]) >> (7 - i % 8) & 1) return false;
  return true;
}

// kernel v6.18 net/ipv4/inet_diag.c inet_diag_bc_run()
bool run(const Bytes& program, const Socket& socket) {
  auto left = static_cast<long>(program.size());
  std::size_t place = 0;
  while (left > 0) {
    const auto op = at<inet_diag_bc_op>(program, place);
    const auto operand = [&] { return at<inet_diag_bc_op>(program, place + 4).no; };
    bool yes = true;
    switch (op.code) {
      case INET_DIAG_BC_JMP:
        yes = false;
        break;
      case INET_DIAG_BC_S_GE:
        yes = socket.local_port >= operand();
        break;
      case INET_DIAG_BC_S_LE:
        yes = socket.local_port <= operand();
        break;
      case INET_DIAG_BC_D_GE:
        yes = socket.peer_port >= operand();
        break;
      case INET_DIAG_BC_D_LE:
        yes = socket.peer_port <= operand();
        break;
      case INET_DIAG_BC_CGROUP_COND:
        yes = socket.cgroup == at<std::uint64_t>(program, place + 4);
        break;
      case INET_DIAG_BC_S_COND:
      case INET_DIAG_BC_D_COND: {
        const bool source = op.code == INET_DIAG_BC_S_COND;
        const auto& address = source ? socket.local : socket.peer;
        const auto family = at<std::uint8_t>(program, place + 4);
        const int prefix = at<std::uint8_t>(program, place + 5);
        const auto port = at<std::int32_t>(program, place + 8);
        const auto* wanted = reinterpret_cast<const std::uint8_t*>(program.data() + place + 12);
        if (port != -1 && port != (source ? socket.local_port : socket.peer_port))
          yes = false;
        else if (family == AF_INET)
          yes = tcpinfo_address_is_ipv4(&address) && same_bits(address.bytes + 12, wanted, prefix);
        else if (family == AF_INET6)
          yes = socket.family == AF_INET6 && same_bits(address.bytes, wanted, prefix);
        break;
      }
    }
    const int step = yes ? op.yes : op.no;
    left -= step;
    place += static_cast<std::size_t>(step);
  }
  return left == 0;
}

class Generator {
 public:
  std::size_t below(std::size_t end) { return random_() % end; }
  template <class T>
  T one_of(std::initializer_list<T> list) {
    return list.begin()[below(list.size())];
  }

  std::string port() { return one_of<const char*>({"0", "1", "80", "443", "5201", "65534", "65535"}); }
  std::string term() {
    const std::string side = one_of<const char*>({"local_", "peer_", ""});
    if (below(2) == 0) {
      if (below(4) == 0) {
        const auto low = below(6000);
        return side + "port in " + std::to_string(low) + ".." + std::to_string(low + below(60000 - low));
      }
      return side + "port " + one_of<const char*>({"==", "!=", "<=", ">="}) + " " + port();
    }
    return side + "address in " +
           one_of<const char*>({"10.0.0.0/8", "10.1.2.0/23", "10.1.2.3/32", "0.0.0.0/0", "192.0.2.128/25",
                                "2001:db8::/32", "2001:db8::1/128", "::/0", "::1/128", "2001:db8:0:8000::/49"});
  }
  std::string expression(int depth) {
    if (depth == 0 || below(3) == 0) return term();
    return "(" + expression(depth - 1) + one_of<const char*>({" and ", " or "}) + expression(depth - 1) + ")";
  }

  Socket socket() {
    Socket socket;
    const auto kind = below(3);
    socket.family = kind == 0 ? AF_INET : AF_INET6;
    socket.local = address(kind != 2);
    socket.peer = address(kind != 2);
    socket.local_port = one_of<std::uint16_t>({0, 1, 79, 80, 81, 443, 5201, 40000, 65534, 65535});
    socket.peer_port = one_of<std::uint16_t>({0, 1, 79, 80, 81, 443, 5201, 40000, 65534, 65535});
    socket.cgroup = 1 + below(20);
    return socket;
  }

 private:
  tcpinfo_address address(bool ipv4) {
    const std::string text =
        ipv4 ? one_of<const char*>({"10.1.2.3", "10.1.3.255", "10.1.4.0", "192.0.2.127", "192.0.2.129", "0.0.0.0"})
             : one_of<const char*>({"2001:db8::1", "2001:db8::2", "2001:db9::", "::1", "::", "2001:db8:0:8001::"});
    return *tcpinfo::parse_address(text);
  }
  std::mt19937_64 random_;
};

TEST(InetDiagBytecode, NothingWantedIsNoProgram) {
  EXPECT_TRUE(compile(Filter().raw(), {}).bytes.empty());
  EXPECT_FALSE(compile(Filter().raw(), {}).selects_cgroups);
  EXPECT_TRUE(compile(Filter::parse("port >= 0").raw(), {}).bytes.empty());
}

TEST(InetDiagBytecode, IsWhatTheKernelTakesAndDecidesAsTheFilter) {
  Generator generator;
  std::size_t accepted = 0, rejected = 0, more = 0, programs = 0;
  for (int i = 0; i < 3000; ++i) {
    Filter filter;
    const auto text = generator.expression(3);
    try {
      filter = Filter::parse(text);
    } catch (const tcpinfo::Error&) {
      continue;  // more alternatives than a filter holds
    }
    std::vector<std::uint64_t> cgroups(generator.below(4));
    for (auto& id : cgroups) id = 1 + generator.below(20);
    const auto program = compile(filter.raw(), cgroups);
    EXPECT_EQ(program.selects_cgroups, !cgroups.empty());
    if (program.bytes.empty()) continue;
    ASSERT_TRUE(audit(program.bytes)) << text;
    ++programs;
    for (int j = 0; j < 100; ++j) {
      const auto socket = generator.socket();
      const bool in_cgroup =
          cgroups.empty() || std::find(cgroups.begin(), cgroups.end(), socket.cgroup) != cgroups.end();
      const bool wanted = in_cgroup && filter.matches(socket.local, socket.local_port, socket.peer, socket.peer_port);
      const bool passes = run(program.bytes, socket);
      if (wanted) {
        ASSERT_TRUE(passes) << text;
      } else if (passes) {
        // Only where an IPv6 prefix covers IPv4-mapped addresses; never across cgroups.
        ASSERT_TRUE(in_cgroup) << text;
        ASSERT_EQ(socket.family, AF_INET6) << text;
        ASSERT_TRUE(tcpinfo_address_is_ipv4(&socket.local)) << text;
        ASSERT_THAT(text, testing::HasSubstr("::/0"));
        ++more;
      }
      ++(passes ? accepted : rejected);
    }
  }
  EXPECT_GT(programs, 1500u);
  EXPECT_GT(accepted, 10000u);
  EXPECT_GT(rejected, 10000u);
  EXPECT_LT(more, accepted / 10);
}

TEST(InetDiagBytecode, TheLongestProgramIsStillValid) {
  std::string text;
  for (int i = 0; i < TCPINFO_FILTER_CLAUSES; ++i)
    text += std::string(i ? " or " : "") + "(local_port in " + std::to_string(i * 100 + 1) + ".." +
            std::to_string(i * 100 + 50) + " and peer_port in 1..65534 and local_address in 2001:db8::/64 and " +
            "peer_address in 2001:db8:1::/64)";
  const auto filter = Filter::parse(text);
  ASSERT_EQ(filter.raw().clauses, static_cast<unsigned>(TCPINFO_FILTER_CLAUSES));
  std::vector<std::uint64_t> cgroups(kMaxCgroups);
  std::iota(cgroups.begin(), cgroups.end(), std::uint64_t{1} << 40);
  const auto program = compile(filter.raw(), cgroups);
  EXPECT_TRUE(program.selects_cgroups);
  ASSERT_TRUE(audit(program.bytes));

  Socket socket;
  socket.family = AF_INET6;
  socket.local = *tcpinfo::parse_address("2001:db8::9");
  socket.peer = *tcpinfo::parse_address("2001:db8:1::9");
  socket.local_port = 1550;
  socket.peer_port = 65534;
  for (const auto id : {cgroups.front(), cgroups[100], cgroups.back()}) {
    socket.cgroup = id;
    EXPECT_TRUE(run(program.bytes, socket));
  }
  socket.cgroup = cgroups.back() + 1;
  EXPECT_FALSE(run(program.bytes, socket));
  socket.cgroup = cgroups.back();
  socket.local_port = 1551;
  EXPECT_FALSE(run(program.bytes, socket));
  socket.local_port = 1550;
  socket.peer_port = 65535;
  EXPECT_FALSE(run(program.bytes, socket));
}

TEST(InetDiagBytecode, TooManyCgroupsAreLeftToTheCaller) {
  std::vector<std::uint64_t> cgroups(kMaxCgroups + 1, 7);
  const auto all = compile(Filter().raw(), cgroups);
  EXPECT_FALSE(all.selects_cgroups);
  EXPECT_TRUE(all.bytes.empty());
  const auto some = compile(Filter::parse("peer_port == 443").raw(), cgroups);
  EXPECT_FALSE(some.selects_cgroups);
  ASSERT_TRUE(audit(some.bytes));
  Socket socket;
  socket.peer_port = 443;
  EXPECT_TRUE(run(some.bytes, socket));
  socket.peer_port = 80;
  EXPECT_FALSE(run(some.bytes, socket));
}

}  // namespace
