// SPDX-License-Identifier: BSD-2-Clause
#include "inet_diag_bytecode.hpp"

#include <sys/socket.h>

#include <linux/inet_diag.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

namespace tcpinfo::inet_diag {
namespace {

// What the kernel asks of a program (kernel v6.18 net/ipv4/inet_diag.c inet_diag_bc_audit(), valid_cc()):
// - every operation's `yes` leads to the one after it: the audit walks along these;
// - `no` leads forward, to an operation, to the end (accept) or 4 bytes beyond it (reject);
// - both are distances from the operation, `yes` in 8 bits and `no` in 16.
class Assembler {
 public:
  void port(std::uint8_t code, std::uint16_t port) {
    const inet_diag_bc_op operand{0, 0, port};
    condition(code, &operand, sizeof(operand));
  }

  void address(std::uint8_t code, const tcpinfo_prefix& prefix) {
    const bool ipv4 = prefix.family == TCPINFO_PREFIX_IPV4;
    const std::size_t skipped = ipv4 ? 12 : 0;
    const std::size_t size = sizeof(prefix.address.bytes) - skipped;
    inet_diag_hostcond head{};
    head.family = ipv4 ? AF_INET : AF_INET6;
    head.prefix_len = static_cast<std::uint8_t>(prefix.length);
    head.port = -1;
    std::array<std::byte, sizeof(head) + sizeof(prefix.address.bytes)> operand{};
    std::memcpy(operand.data(), &head, sizeof(head));
    std::memcpy(operand.data() + sizeof(head), prefix.address.bytes + skipped, size);
    condition(code, operand.data(), sizeof(head) + size);
  }

  void cgroup(std::uint64_t id) { condition(INET_DIAG_BC_CGROUP_COND, &id, sizeof(id)); }

  // The conditions since the last end of an alternative failed: go on with the next alternative.
  void end_alternative() {
    jumps_to_group_end_.push_back(bytes_.size());
    condition(INET_DIAG_BC_JMP, nullptr, 0);
    failing_.pop_back();  // that one is no condition
    resolve(failing_);
  }

  // The last alternative of a group: where it fails, the whole program does.
  void end_group() {
    rejecting_.insert(rejecting_.end(), failing_.begin(), failing_.end());
    failing_.clear();
    resolve(jumps_to_group_end_);
  }

  std::vector<std::byte> finish() {
    for (const auto place : rejecting_) set_no(place, bytes_.size() + 4);
    return std::move(bytes_);
  }

 private:
  void condition(std::uint8_t code, const void* operand, std::size_t size) {
    const inet_diag_bc_op op{code, static_cast<std::uint8_t>(sizeof(op) + size), 0};
    failing_.push_back(bytes_.size());
    append(&op, sizeof(op));
    append(operand, size);
  }

  void append(const void* data, std::size_t size) {
    const auto* begin = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), begin, begin + size);
  }

  void resolve(std::vector<std::size_t>& places) {
    for (const auto place : places) set_no(place, bytes_.size());
    places.clear();
  }

  void set_no(std::size_t place, std::size_t target) {
    const auto distance = static_cast<std::uint16_t>(target - place);
    std::memcpy(bytes_.data() + place + offsetof(inet_diag_bc_op, no), &distance, sizeof(distance));
  }

  std::vector<std::byte> bytes_;
  std::vector<std::size_t> failing_;             // conditions of the alternative under way
  std::vector<std::size_t> jumps_to_group_end_;  // ends of alternatives that held
  std::vector<std::size_t> rejecting_;
};

// The longest program: all cgroups, and of each clause four ports, two IPv6 prefixes and the jump behind them.
constexpr std::size_t kCgroupBytes = 4 + sizeof(std::uint64_t) + 4;
constexpr std::size_t kClauseBytes = 4 * 8 + 2 * (4 + sizeof(inet_diag_hostcond) + 16) + 4;
static_assert(kMaxCgroups * kCgroupBytes + TCPINFO_FILTER_CLAUSES * kClauseBytes + 4 <=
                  std::numeric_limits<std::uint16_t>::max() - 4,
              "distances and the length of a netlink attribute have 16 bits");

bool passes_all(const tcpinfo_clause& clause) {
  return clause.local.family == TCPINFO_PREFIX_ANY && clause.peer.family == TCPINFO_PREFIX_ANY &&
         clause.local_port_min == 0 && clause.local_port_max == 0xffff && clause.peer_port_min == 0 &&
         clause.peer_port_max == 0xffff;
}

void add_clause(Assembler& assembler, const tcpinfo_clause& clause) {
  if (clause.local_port_min > 0) assembler.port(INET_DIAG_BC_S_GE, clause.local_port_min);
  if (clause.local_port_max < 0xffff) assembler.port(INET_DIAG_BC_S_LE, clause.local_port_max);
  if (clause.peer_port_min > 0) assembler.port(INET_DIAG_BC_D_GE, clause.peer_port_min);
  if (clause.peer_port_max < 0xffff) assembler.port(INET_DIAG_BC_D_LE, clause.peer_port_max);
  if (clause.local.family != TCPINFO_PREFIX_ANY) assembler.address(INET_DIAG_BC_S_COND, clause.local);
  if (clause.peer.family != TCPINFO_PREFIX_ANY) assembler.address(INET_DIAG_BC_D_COND, clause.peer);
}

}  // namespace

Program compile(const tcpinfo_filter& filter, std::span<const std::uint64_t> cgroup_ids) {
  Program program;
  Assembler assembler;
  if (!cgroup_ids.empty() && cgroup_ids.size() <= kMaxCgroups) {
    program.selects_cgroups = true;
    for (std::size_t i = 0; i < cgroup_ids.size(); ++i) {
      assembler.cgroup(cgroup_ids[i]);
      if (i + 1 < cgroup_ids.size()) assembler.end_alternative();
    }
    assembler.end_group();
  }
  const auto clauses = std::span(filter.clause).first(std::min<std::size_t>(filter.clauses, TCPINFO_FILTER_CLAUSES));
  if (std::none_of(clauses.begin(), clauses.end(), passes_all)) {
    for (std::size_t i = 0; i < clauses.size(); ++i) {
      add_clause(assembler, clauses[i]);
      if (i + 1 < clauses.size()) assembler.end_alternative();
    }
    assembler.end_group();
  }
  program.bytes = assembler.finish();
  return program;
}

}  // namespace tcpinfo::inet_diag
