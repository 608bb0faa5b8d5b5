// SPDX-License-Identifier: BSD-2-Clause
// What the public interface of the inet_diag source hides: what the kernel makes of our bytecode, and failures of
// system calls, after which nothing may stay behind or stay stuck.
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <thread>

#include <tcpinfo/tcpinfo.hpp>

#include "inet_diag_bytecode.hpp"
#include "inet_diag_parser.hpp"
#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "system.hpp"

namespace {

using tcpinfo::InetDiagOptions;
using tcpinfo::InetDiagSource;
using tcpinfo::Record;

std::size_t descriptors() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

thread_local std::string_view failing_step;
thread_local int failing_errno;
thread_local int failures_left;

int fail(std::string_view step) noexcept {
  if (step != failing_step || failures_left == 0) return 0;
  --failures_left;
  return failing_errno;
}

struct Failing {
  Failing(std::string_view step, int error, int times) {
    failing_step = step;
    failing_errno = error;
    failures_left = times;
    tcpinfo::sys::fault_hook = &fail;
  }
  ~Failing() { tcpinfo::sys::fault_hook = nullptr; }
};

class InetDiagInternal : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    netns_ = std::make_unique<lab::Netns>("tcpinfo-test");
  }

  std::unique_ptr<lab::Netns> netns_;
};

TEST_F(InetDiagInternal, AFailureAtAnyStepLeavesNothingOpen) {
  InetDiagOptions options;
  options.netns = netns_->path();
  // The first one reads the kernel's types and keeps what it learnt.
  { const InetDiagSource first(options); }
  // A thread of its own: where the return fails, it stays in the wrong namespace.
  for (const std::string step :
       {"open network namespace", "save network namespace", "enter network namespace", "open netlink socket",
        "return from network namespace", "probe sock_diag", "receive"}) {
    std::thread([&] {
      const auto before = descriptors();
      const auto here = std::filesystem::read_symlink("/proc/thread-self/ns/net");
      {
        const Failing failing(step, ENOMEM, 1);
        try {
          InetDiagSource source(options);
          ADD_FAILURE() << step << ": no error";
        } catch (const tcpinfo::Error& error) {
          EXPECT_EQ(error.code(), std::errc::not_enough_memory) << step;
          EXPECT_THAT(error.what(), testing::HasSubstr("Cannot allocate memory")) << step;
        }
        EXPECT_EQ(failures_left, 0) << step;
      }
      EXPECT_EQ(descriptors(), before) << step;
      if (step != "return from network namespace") {
        EXPECT_EQ(std::filesystem::read_symlink("/proc/thread-self/ns/net"), here) << step;
      }
    }).join();
  }
  const auto before = descriptors();
  {
    InetDiagSource source(options);
    EXPECT_EQ(descriptors(), before + 1);
    source.close();
    EXPECT_EQ(descriptors(), before);
  }
}

class InetDiagReceive : public InetDiagInternal {
 protected:
  void connect(int pairs) {
    netns_->run([&] {
      listener_ = lab::listen(lab::Ip::kV4);
      for (int i = 0; i < pairs; ++i) {
        pairs_.push_back(lab::connected(listener_, lab::Ip::kV4));
        wanted_.insert(pairs_.back().client.cookie());
        wanted_.insert(pairs_.back().server.cookie());
      }
      source_ = std::make_unique<InetDiagSource>(InetDiagOptions{});
    });
  }
  std::error_code tick() { return source_->tick(*source_->next_deadline()); }
  tcpinfo::DrainResult drain(std::size_t limit = SIZE_MAX) {
    return source_->drain([&](const Record& record) { EXPECT_TRUE(got_.insert(*record.cookie()).second); }, limit);
  }

  lab::Socket listener_;
  std::vector<lab::Pair> pairs_;
  std::set<std::uint64_t> wanted_, got_;
  std::unique_ptr<InetDiagSource> source_;
};

TEST_F(InetDiagReceive, AnErrorIsToldAndTheDumpGoesOn) {
  connect(200);
  EXPECT_FALSE(tick());
  EXPECT_FALSE(drain(1).error);
  {
    const Failing failing("receive", ENOBUFS, 1);
    const auto result = drain();
    EXPECT_EQ(result.error, std::errc::no_buffer_space);
    EXPECT_EQ(result.records, 0u);
  }
  EXPECT_EQ(source_->statistics().dumps, 0u);
  EXPECT_FALSE(drain().error);
  EXPECT_EQ(got_, wanted_);
  EXPECT_EQ(source_->statistics().dumps, 1u);
  EXPECT_EQ(source_->statistics().dumps_interrupted, 0u);
}

TEST_F(InetDiagReceive, ADumpThatHangsIsKickedAndGoesOn) {
  connect(200);
  EXPECT_FALSE(tick());
  EXPECT_FALSE(drain(1).error);
  const Failing failing("receive", EAGAIN, 1);
  EXPECT_FALSE(drain().error);
  EXPECT_EQ(failures_left, 0);
  EXPECT_EQ(got_, wanted_);
  EXPECT_EQ(source_->statistics().dumps, 1u);
  EXPECT_EQ(source_->statistics().dumps_interrupted, 0u);
  EXPECT_EQ(source_->statistics().malformed, 0u);
}

TEST_F(InetDiagReceive, ADumpThatHangsForEverIsGivenUpAndLaterOnesCome) {
  connect(200);
  EXPECT_FALSE(tick());
  EXPECT_FALSE(drain(1).error);
  {
    const Failing failing("receive", EAGAIN, 2);
    EXPECT_EQ(drain().error, std::errc::timed_out);
  }
  EXPECT_EQ(source_->statistics().dumps, 1u);
  EXPECT_EQ(source_->statistics().dumps_interrupted, 1u);
  // The kernel has not given up: it refuses another dump until the old one was read.
  got_.clear();
  std::uint64_t dumps = 2;
  for (; dumps < 5; ++dumps) {
    EXPECT_FALSE(tick());
    got_.clear();
    while (source_->statistics().dumps < dumps) drain();
    drain();
    if (got_ == wanted_) break;
  }
  EXPECT_EQ(got_, wanted_);
  EXPECT_LE(dumps, 3u);
  EXPECT_EQ(source_->statistics().dumps_interrupted, dumps - 1);
  EXPECT_FALSE(tick());
  got_.clear();
  EXPECT_FALSE(drain().error);
  EXPECT_EQ(got_, wanted_);
}

TEST_F(InetDiagReceive, ALookUpWithoutAnAnswerLeavesItsSocketUnknown) {
  connect(200);
  EXPECT_FALSE(tick());
  InetDiagOptions options;
  const auto keep = [&](const Record& record) {
    const auto& raw = record.raw();
    options.connections.push_back({raw.local_address, raw.peer_address, raw.local_port, raw.peer_port});
  };
  EXPECT_FALSE(source_->drain(keep).error);
  ASSERT_EQ(options.connections.size(), 400u);
  netns_->run([&] { source_ = std::make_unique<InetDiagSource>(options); });
  EXPECT_FALSE(tick());
  {
    // What is answered late counts no more.
    const Failing failing("receive", EAGAIN, 1);
    EXPECT_FALSE(drain().error);
  }
  EXPECT_LT(got_.size(), wanted_.size());
  EXPECT_GT(got_.size(), 0u);
  EXPECT_EQ(source_->statistics().dumps, 1u);
  EXPECT_EQ(source_->statistics().dumps_interrupted, 1u);
  got_.clear();
  EXPECT_FALSE(tick());
  EXPECT_FALSE(drain().error);
  EXPECT_EQ(got_, wanted_);
  EXPECT_EQ(source_->statistics().dumps, 2u);
  EXPECT_EQ(source_->statistics().dumps_interrupted, 1u);

  EXPECT_FALSE(tick());
  got_.clear();
  {
    const Failing failing("receive", ENOBUFS, 1);
    EXPECT_EQ(drain().error, std::errc::no_buffer_space);
  }
  EXPECT_FALSE(drain().error);
  EXPECT_EQ(got_, wanted_);
}

thread_local int receives;

int count(std::string_view step) noexcept {
  if (step == "receive") ++receives;
  return 0;
}

TEST_F(InetDiagReceive, AFilterOfConnectionsLooksThemUpOrWalks) {
  connect(6);
  EXPECT_FALSE(tick());
  std::string text;
  InetDiagOptions options;
  const auto keep = [&](const Record& record) {
    const auto& raw = record.raw();
    text += fmt::format("{}local_address in {}/32 and local_port == {} and peer_address in {}/32 and peer_port == {}",
                        text.empty() ? "" : " or ", tcpinfo::to_string(raw.local_address), raw.local_port,
                        tcpinfo::to_string(raw.peer_address), raw.peer_port);
    options.connections.push_back({raw.local_address, raw.peer_address, raw.local_port, raw.peer_port});
  };
  EXPECT_FALSE(source_->drain(keep).error);
  const auto receives_of = [&](const std::string& filter) {
    InetDiagOptions filtered;
    filtered.filter = tcpinfo::Filter::parse(filter);
    netns_->run([&] { source_ = std::make_unique<InetDiagSource>(filtered); });
    got_.clear();
    receives = 0;
    tcpinfo::sys::fault_hook = &count;
    EXPECT_FALSE(tick());
    EXPECT_FALSE(drain().error);
    tcpinfo::sys::fault_hook = nullptr;
    return receives;
  };
  // An answer each, and one time for nothing. A walk gives all at once, and its end.
  EXPECT_EQ(receives_of(text), 12 + 1);
  EXPECT_EQ(got_, wanted_);
  EXPECT_LE(receives_of(text + " or local_port == 1"), 3);
  EXPECT_EQ(got_, wanted_);
  {
    const Failing failing("probe look-up", EPERM, 1);
    EXPECT_LE(receives_of(text), 3);
  }
  EXPECT_EQ(got_, wanted_);
  const auto capabilities = source_->capabilities();
  const auto told = std::ranges::find(capabilities, "exact_lookups", &tcpinfo::Capability::name);
  ASSERT_NE(told, capabilities.end());
  EXPECT_FALSE(told->available);
  EXPECT_THAT(told->detail, testing::HasSubstr("Operation not permitted"));
  const Failing failing("probe look-up", EPERM, 1);
  netns_->run([&] { EXPECT_THROW(InetDiagSource{options}, tcpinfo::Error); });
}

// A dump as the kernel gives it, with nothing left out afterwards; called inside the namespace.
std::vector<tcpinfo_record> raw_dump(const std::vector<std::byte>& program) {
  std::vector<tcpinfo_record> records;
  std::uint32_t sequence = 0;
  for (const std::uint8_t family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
    const lab::Socket netlink(lab::check(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), "netlink"));
    struct {
      nlmsghdr header;
      inet_diag_req_v2 body;
      nlattr attribute;
    } head{};
    const std::size_t size =
        sizeof(head.header) + sizeof(head.body) + (program.empty() ? 0 : sizeof(head.attribute) + program.size());
    head.header = {static_cast<__u32>(size), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, ++sequence, 0};
    head.body.sdiag_family = family;
    head.body.sdiag_protocol = IPPROTO_TCP;
    head.body.idiag_states = 1u << 1;
    head.attribute = {static_cast<__u16>(sizeof(head.attribute) + program.size()), INET_DIAG_REQ_BYTECODE};
    std::vector<std::byte> request(sizeof(head) + program.size());
    std::memcpy(request.data(), &head, sizeof(head));
    std::copy(program.begin(), program.end(), request.begin() + sizeof(head));
    lab::check(static_cast<int>(send(netlink.fd(), request.data(), size, 0)), "send");
    for (tcpinfo::inet_diag::Outcome outcome; !outcome.done;) {
      std::vector<std::byte> chunk(1 << 16);
      chunk.resize(static_cast<std::size_t>(
          lab::check(static_cast<int>(recv(netlink.fd(), chunk.data(), chunk.size(), 0)), "recv")));
      tcpinfo_record record;
      std::uint64_t malformed = 0;
      outcome = tcpinfo::inet_diag::read_chunk(chunk, sequence, {}, record, malformed,
                                               [&](const tcpinfo_record& raw) { records.push_back(raw); });
      EXPECT_EQ(outcome.error, 0);
      EXPECT_EQ(malformed, 0u);
    }
  }
  return records;
}

TEST_F(InetDiagInternal, TheKernelRunsTheBytecodeAsMeant) {
  const lab::Cgroup a("tcpinfo-test"), b("tcpinfo-test");
  const auto id_a = tcpinfo::cgroup_id(a.path()), id_b = tcpinfo::cgroup_id(b.path());
  netns_->run([&] {
    std::vector<lab::Socket> listeners;
    std::vector<lab::Pair> pairs;
    for (const auto ip : {lab::Ip::kV4, lab::Ip::kV6, lab::Ip::kMapped}) {
      listeners.push_back(lab::listen(ip));
      for (const auto* cgroup : {&a, &b}) {
        const lab::InCgroup in(*cgroup);
        pairs.push_back(lab::connected(listeners.back(), ip));
      }
    }
    const auto everything = raw_dump({});
    ASSERT_EQ(everything.size(), 12u);
    const auto v4 = std::to_string(listeners[0].local_port()), v6 = std::to_string(listeners[1].local_port()),
               mapped = std::to_string(listeners[2].local_port());
    std::vector<std::uint64_t> many(tcpinfo::inet_diag::kMaxCgroups);
    std::iota(many.begin(), many.end(), std::uint64_t{1} << 50);
    many.back() = id_b;
    std::size_t selected = 0;
    for (const std::string& text :
         {std::string(), "port == " + v4, "local_port == " + v6, "peer_port != " + mapped,
          "local_port > " + v4 + " and peer_port <= " + v6, std::string("address in 127.0.0.0/8"),
          std::string("peer_address in 127.0.0.0/31"), std::string("local_address in 10.0.0.0/8"),
          std::string("address in ::1/128"), "address in ::1/128 or peer_port == " + v4,
          "(port == " + v4 + " or port == " + v6 + ") and (local_address in 127.0.0.1/32 or local_address in ::1/128)"})
      for (const auto& cgroups : {std::vector<std::uint64_t>{}, {id_a}, {id_a, id_b}, {7, id_b, 9}, many}) {
        const auto filter = tcpinfo::Filter::parse(text);
        std::set<std::uint64_t> wanted, got;
        for (const auto& record : everything)
          if (filter.matches(record.local_address, record.local_port, record.peer_address, record.peer_port) &&
              (cgroups.empty() || std::find(cgroups.begin(), cgroups.end(), record.cgroup_id) != cgroups.end()))
            wanted.insert(record.cookie);
        for (const auto& record : raw_dump(tcpinfo::inet_diag::compile(filter.raw(), cgroups).bytes))
          got.insert(record.cookie);
        EXPECT_EQ(got, wanted) << text << ", " << cgroups.size() << " cgroups";
        selected += got.size();
      }
    EXPECT_GT(selected, 100u);
  });
}

}  // namespace
