// SPDX-License-Identifier: BSD-2-Clause
// Every field from every source, equal to the kernel's own answer, on sockets in randomised states that stand still.
//
//   TCPINFO_SEED=n     the run with this seed again (default: a new one)
//   TCPINFO_STATES=n   how many states to compare at least (default 600; a full run: 10000)
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/format.hpp>
#include <tcpinfo/tcpinfo.hpp>

#include "equality.hpp"
#include "lab/lab.hpp"
#include "lab/tun_device.hpp"
#include "requirements.hpp"
#include "socket_states.hpp"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace {

using namespace std::chrono_literals;
using equality::Answer;
using equality::Fields;
using equality::Subject;
using tcpinfo::Field;
using tcpinfo::Record;
using tcpinfo::Source;

constexpr std::uint8_t kFinWait2 = 5, kTimeWait = 6, kClose = 7, kListen = 10;
constexpr std::size_t kConnections = 70;  // of a batch
constexpr std::size_t kShownFailures = 20;
constexpr std::size_t kFullRun = 10000;  // from here on a field that is never other than 0 is a failure

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text && *text ? std::strtoull(text, nullptr, 0) : otherwise;
}

// Fields that no socket of this kernel can have other than 0, each with the reason.
std::map<Field, std::string> never_filled() {
  std::map<Field, std::string> list{
      {Field::fackets, "no kernel fills it since 4.15"},
      {Field::last_ack_sent, "no kernel fills it"},
      {Field::old_state, "only records of transitions have it"},
      {Field::cpu, "may always be CPU 0"},
      {Field::skmem_backlog,
       "packets wait there only while a system call holds the socket, and getsockopt waits for it"},
  };
  const auto add = [&](std::initializer_list<Field> fields, const std::string& reason) {
    for (const auto field : fields) list.emplace(field, reason);
  };
  const auto lacks = [&](const char* name) { return std::ranges::count(states::congestion_controls(), name) == 0; };
  if (lacks("bbr"))
    add({Field::bbr_bw, Field::bbr_min_rtt, Field::bbr_pacing_gain, Field::bbr_cwnd_gain}, "this kernel has no bbr");
  if (lacks("vegas"))
    add({Field::vegas_enabled, Field::vegas_rttcnt, Field::vegas_rtt, Field::vegas_minrtt}, "this kernel has no vegas");
  if (lacks("dctcp"))
    add({Field::dctcp_enabled, Field::dctcp_ce_state, Field::dctcp_alpha, Field::dctcp_ab_ecn, Field::dctcp_ab_tot},
        "this kernel has no dctcp");
  for (const auto& row : tcpinfo::fields())
    if (equality::lacks(row.field)) list.emplace(row.field, "this kernel's tcp_info lacks it");
  if (states::accurate_ecn())
    add({Field::accecn_fail_mode}, "nothing on the way here takes ECN bits away");
  else
    add({Field::received_ce, Field::delivered_e1_bytes, Field::delivered_e0_bytes, Field::delivered_ce_bytes,
         Field::received_e1_bytes, Field::received_e0_bytes, Field::received_ce_bytes, Field::accecn_fail_mode,
         Field::accecn_opt_seen},
        "this kernel does not negotiate accurate ECN (net.ipv4.tcp_ecn=3 is refused)");
  return list;
}

struct Report {
  std::size_t compared = 0, moved = 0, looked_again = 0, without_descriptor = 0, in_close = 0, fields = 0,
              bracketed = 0;
  std::map<std::string, std::size_t> by_state, by_control, by_source;
  Fields nonzero;
  std::size_t failures = 0;

  void fail(const std::string& text) {
    if (++failures <= kShownFailures) ADD_FAILURE() << text;
  }
};

// A source and what its last reading of each socket was.
class Watcher {
 public:
  Watcher(std::string name, std::unique_ptr<Source> source) : name_(std::move(name)), source_(std::move(source)) {}

  const std::string& name() const { return name_; }
  /// One pass over the sockets there are.
  void read() {
    latest_.clear();
    const auto dumps = source_->statistics().dumps;
    tick();
    for (int i = 0; i < 1000; ++i) {
      drain();
      if (source_->id() == tcpinfo::SourceId::kSockops || source_->statistics().dumps > dumps) return;
    }
    ADD_FAILURE() << name_ << ": the pass does not end";
  }
  void tick() {
    const auto error =
        source_->tick(std::max(Source::Clock::now(), source_->next_deadline().value_or(Source::Clock::now())));
    EXPECT_FALSE(error) << name_ << ": " << error.message();
  }
  void drain() {
    const auto result = source_->drain([this](const Record& record) {
      const bool sample = record.event() == TCPINFO_EVENT_SAMPLE;
      if (sample && record.swept().value_or(1))
        latest_[record.raw().cookie] = record.raw();
      else if (sample)
        from_acks_.push_back(record.raw());
    });
    EXPECT_FALSE(result.error) << name_ << ": " << result.error.message();
  }
  const tcpinfo_record* find(std::uint64_t cookie) const {
    const auto found = latest_.find(cookie);
    return found == latest_.end() ? nullptr : &found->second;
  }
  const std::map<std::uint64_t, tcpinfo_record>& latest() const { return latest_; }
  std::vector<tcpinfo_record> take_from_acks() { return std::exchange(from_acks_, {}); }
  const Source& source() const { return *source_; }

 private:
  std::string name_;
  std::unique_ptr<Source> source_;
  std::map<std::uint64_t, tcpinfo_record> latest_;
  std::vector<tcpinfo_record> from_acks_;
};

std::uint64_t netns_cookie(const lab::Netns& netns) {
  std::uint64_t cookie = 0;
  netns.run([&] {
    const lab::Socket socket(lab::Ip::kV4);
    socklen_t length = sizeof(cookie);
    lab::check(getsockopt(socket.fd(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length), "SO_NETNS_COOKIE");
  });
  return cookie;
}

// One world: its sources, its sockets, and the comparison after each round.
class Play {
 public:
  Play(std::uint64_t seed, bool all_on, const lab::Cgroup& cgroup, Report& report)
      : report_(report),
        cgroup_id_(tcpinfo::cgroup_id(cgroup.path())),
        batch_(seed, all_on, kConnections, [this] { sweeps_->drain(); }),
        in_a_(batch_.a()),
        in_b_(batch_.b()) {
    tcpinfo::SockopsOptions sockops;
    sockops.cgroup = cgroup.path();
    sockops.interval = 1ms;
    sockops.ring_bytes = std::size_t{16} << 20;
    sweeps_ = std::make_unique<Watcher>("sockops", std::make_unique<tcpinfo::SockopsSource>(sockops));
    for (const auto* netns : {&batch_.a(), &batch_.b()}) {
      tcpinfo::InetDiagOptions diag;
      diag.netns = netns->path();
      diag.states = tcpinfo::kAllStates;
      diag_.emplace_back("inet_diag", std::make_unique<tcpinfo::InetDiagSource>(diag));
      tcpinfo::IterOptions iter;
      iter.netns = netns->path();
      iter.states = tcpinfo::kAllStates;
      iter_.emplace_back("iter", std::make_unique<tcpinfo::IterSource>(iter));
      netns_cookies_.push_back(netns_cookie(*netns));
    }
  }

  void run() {
    batch_.open();
    for (int round = 0; round < states::Batch::kRounds; ++round) {
      batch_.play(round);
      compare_all(round);
    }
    const auto statistics = sweeps_->source().statistics();
    EXPECT_EQ(tcpinfo::Statistics::sum(statistics.lost_ring), 0u);
    EXPECT_EQ(statistics.malformed, 0u);
  }

 private:
  struct Pending {
    states::Seen seen;
    Subject subject;
    Answer before, after;
  };

  void compare_all(int round) {
    std::vector<Pending> pending;
    for (auto& seen : batch_.sockets()) {
      const Subject subject{seen.fd, seen.mptcp, netns_cookies_[seen.in_a ? 0 : 1], cgroup_id_};
      pending.push_back({std::move(seen), subject, {}, {}});
    }
    done_.clear();
    constexpr int kAttempts = 4;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      const bool last = attempt + 1 == kAttempts;
      std::this_thread::sleep_for(attempt == 0 ? 2ms : 5ms);  // also what the sweep's interval needs
      sweeps_->drain();
      begin_ns_ = tcpinfo::boot_time_ns();
      for (auto& item : pending) item.before = equality::ask(item.subject);
      for (auto& watcher : diag_) watcher.read();
      const auto first_diag = merge(diag_);
      for (auto& watcher : iter_) watcher.read();
      const auto iter = merge(iter_);
      sweeps_->read();
      for (auto& watcher : diag_) watcher.read();
      const auto second_diag = merge(diag_);
      for (auto& item : pending) item.after = equality::ask(item.subject);
      end_ns_ = tcpinfo::boot_time_ns();
      if (attempt == 0)
        compare_from_acks(pending);
      else
        report_.looked_again += pending.size();
      for (const auto* shown : {&iter, &sweeps_->latest()})
        for (const auto& [cookie, record] : *shown)
          if (!first_diag.contains(cookie) && !second_diag.contains(cookie))
            report_.fail(fmt::format("{}, round {}: {} is shown by {} alone", batch_.story(), round,
                                     fmt::format("{}", Record(record)),
                                     tcpinfo::name(static_cast<tcpinfo::SourceId>(record.source))));

      std::erase_if(pending, [&](Pending& item) {
        const auto cookie = cookie_of(item, first_diag);
        done_.insert(cookie);
        // What getsockopt does not tell, as the memory of an MPTCP subflow, may move without what it tells.
        const auto* first = find(first_diag, cookie);
        const auto* second = find(second_diag, cookie);
        if (!equality::stands_still(item.before, item.after) ||
            (first && second && !equality::stands_still(*first, *second))) {
          if (last) ++report_.moved;
          return false;
        }
        if (cookie == 0 && is_nameless(item)) return true;  // compared below, as a socket without a descriptor
        if (item.before.record.state == kClose)
          done_.erase(check_closed(item, cookie, round, first_diag, iter));
        else
          compare_one(item, cookie, round, first_diag, iter, second_diag);
        return true;
      });
      // Sockets that no descriptor of ours names: closed ones, not accepted ones, TIME_WAIT, half-open.
      for (const auto& [cookie, record] : first_diag) {
        if (done_.contains(cookie)) continue;
        const auto again = second_diag.find(cookie);
        if (again == second_diag.end() || !equality::stands_still(record, again->second)) {
          if (last) ++report_.moved;
          continue;
        }
        done_.insert(cookie);
        compare_nameless(record, again->second, round, iter);
      }
    }
    for (auto& item : pending) answers_.erase(item.before.record.cookie);
  }

  using Records = std::map<std::uint64_t, tcpinfo_record>;

  static Records merge(const std::vector<Watcher>& watchers) {
    Records all;
    for (const auto& watcher : watchers) all.insert(watcher.latest().begin(), watcher.latest().end());
    return all;
  }

  // The subflow of an MPTCP socket has a cookie of its own, to be found by the names of its ends. The MPTCP socket
  // forgets these when it is done, before its subflow is: 0 if they were never asked before.
  std::uint64_t cookie_of(const Pending& item, const Records& records) {
    const auto& own = item.before.record;
    if (!item.seen.mptcp) return own.cookie;
    std::uint64_t mptcp_cookie = 0;
    socklen_t length = sizeof(mptcp_cookie);
    lab::check(getsockopt(item.seen.fd, SOL_SOCKET, SO_COOKIE, &mptcp_cookie, &length), "SO_COOKIE");
    for (const auto& [cookie, record] : records)
      if ((record.state == kListen) == item.seen.listening && record.local_port == own.local_port &&
          record.peer_port == own.peer_port && record.netns_cookie == own.netns_cookie && record.family == own.family)
        return subflows_[mptcp_cookie] = cookie;
    return subflows_[mptcp_cookie];
  }
  static bool is_nameless(const Pending& item) {
    return item.seen.mptcp && !item.seen.listening && !Record(item.before.record).peer_port();
  }

  void add(std::vector<equality::Opinion>& opinions, std::string& missing, std::string_view source,
           const tcpinfo_record* record) {
    if (!record)
      missing += std::string(" ") + std::string(source);
    else
      opinions.push_back({source, *record});
  }

  static const tcpinfo_record* find(const Records& records, std::uint64_t cookie) {
    const auto found = records.find(cookie);
    return found == records.end() ? nullptr : &found->second;
  }

  // A socket in CLOSE is in none of the tables that the kernel walks, and its close record was the last one. In its
  // place there may be what the kernel keeps of it in TIME_WAIT, with the same cookie, to be compared as a socket of
  // its own.
  std::uint64_t check_closed(const Pending& item, std::uint64_t cookie, int round, const Records& diag,
                             const Records& iter) {
    ++report_.in_close;
    for (const auto* record : {find(diag, cookie), find(iter, cookie), sweeps_->find(cookie)})
      if (record && (!is_remnant(record->state) || Record(*record).congestion_control()))
        report_.fail(fmt::format("{}, round {}, {} in CLOSE, shown in {} by {}", batch_.story(), round, item.seen.story,
                                 tcpinfo::state_name(record->state),
                                 tcpinfo::name(static_cast<tcpinfo::SourceId>(record->source))));
    return cookie;
  }
  static bool is_remnant(std::uint8_t state) { return state == kTimeWait || state == kFinWait2; }

  void compare_one(const Pending& item, std::uint64_t cookie, int round, const Records& diag, const Records& iter,
                   const Records& second_diag) {
    const auto state = item.before.record.state;
    const auto* first = find(diag, cookie);
    const auto* by_iter = find(iter, cookie);
    const auto* swept = sweeps_->find(cookie);
    const auto where = fmt::format("{}, round {}, {}", batch_.story(), round, item.seen.story);
    std::vector<equality::Opinion> opinions;
    std::string missing;
    add(opinions, missing, "inet_diag", first);
    add(opinions, missing, "iter", by_iter);
    if (state != kListen) add(opinions, missing, "sockops", swept);
    if (!missing.empty()) {
      report_.fail(fmt::format("{} in {}: no record from{} of {}", where, tcpinfo::state_name(state), missing,
                               fmt::format("{}", Record(item.before.record))));
      return;
    }
    const auto* last = find(second_diag, cookie);
    judge(equality::compare(&item.before, &item.after, opinions, last ? *last : *first), opinions, where);
    if (swept) answers_[cookie] = {item.after.record, swept->generation, tcpinfo::boot_time_ns()};
  }

  void compare_nameless(const tcpinfo_record& first, const tcpinfo_record& second, int round, const Records& iter) {
    const auto where = fmt::format("{}, round {}, no descriptor", batch_.story(), round);
    std::vector<equality::Opinion> opinions{{"inet_diag", first}};
    std::string missing;
    add(opinions, missing, "iter", find(iter, first.cookie));
    // Of what is no full socket any more, or not yet, netlink has no congestion control, and sockops nothing.
    const auto* swept = sweeps_->find(first.cookie);
    if (swept || Record(first).congestion_control()) add(opinions, missing, "sockops", swept);
    if (!missing.empty()) {
      report_.fail(fmt::format("{} in {}: {} no record from{}", where, tcpinfo::state_name(first.state),
                               fmt::format("{}", Record(first)), missing));
      return;
    }
    ++report_.without_descriptor;
    judge(equality::compare(nullptr, nullptr, opinions, second), opinions, where);
  }

  void judge(const equality::Comparison& comparison, const std::vector<equality::Opinion>& opinions,
             const std::string& where) {
    const auto& record = opinions.front().record;
    ++report_.compared;
    report_.fields += comparison.fields;
    ++report_.by_state[std::string(tcpinfo::state_name(record.state))];
    if (Record(record).congestion_control()) ++report_.by_control[std::string(*Record(record).congestion_control())];
    for (const auto& opinion : opinions) {
      check_own(opinion, where);
      ++report_.by_source[std::string(opinion.source)];
      report_.nonzero |= equality::nonzero(opinion.record);
    }
    if (comparison.differences.empty()) return;
    std::string text = fmt::format("{} in {}", where, tcpinfo::state_name(record.state));
    for (const auto& difference : comparison.differences) text += "\n  " + difference;
    report_.fail(text);
  }

  // What a record says of itself.
  void check_own(const equality::Opinion& opinion, const std::string& where) {
    const Record record(opinion.record);
    const bool swept = opinion.source == "sockops";
    const auto name = tcpinfo::name(static_cast<tcpinfo::SourceId>(record.source().value_or(0)));
    if (name != opinion.source || record.event() != TCPINFO_EVENT_SAMPLE || record.old_state() ||
        record.swept() != (swept ? std::optional<std::uint8_t>(1) : std::nullopt) ||
        record.generation().has_value() != swept || !record.sequence() ||
        record.cpu().has_value() != (opinion.source != "inet_diag") ||
        record.cpu().value_or(0) >= sysconf(_SC_NPROCESSORS_CONF) || record.time_ns().value_or(0) < begin_ns_ ||
        record.time_ns().value_or(0) > end_ns_)
      report_.fail(
          fmt::format("{}: {} says of itself: source {}, event {}, old_state {}, swept {}, generation {}, cpu {}, "
                      "{} ns after the reading began of {} ns",
                      where, opinion.source, name, equality::show(opinion.record, Field::event),
                      equality::show(opinion.record, Field::old_state), equality::show(opinion.record, Field::swept),
                      equality::show(opinion.record, Field::generation), equality::show(opinion.record, Field::cpu),
                      record.raw().time_ns - begin_ns_, end_ns_ - begin_ns_));
  }

  // Records of round trips measured, since the socket last stood still: inside ACK processing, so between two answers.
  void compare_from_acks(const std::vector<Pending>& pending) {
    std::map<std::uint64_t, const Answer*> now;
    for (const auto& item : pending) now[item.before.record.cookie] = &item.after;
    for (const auto& record : sweeps_->take_from_acks()) {
      const auto before = answers_.find(record.cookie);
      const auto after = now.find(record.cookie);
      if (before == answers_.end() || after == now.end() || after->second->record.state == kClose) continue;
      if (record.time_ns < before->second.time_ns) continue;
      // A socket that connects again starts its counters anew.
      const auto* swept = sweeps_->find(record.cookie);
      if (!swept || swept->generation != record.generation || record.generation != before->second.generation) continue;
      ++report_.bracketed;
      for (const auto& difference : equality::bracket(before->second.record, record, after->second->record))
        report_.fail(fmt::format("{}, in ACK processing: {}", batch_.story(), difference));
    }
  }

  Report& report_;
  std::uint64_t cgroup_id_;
  std::unique_ptr<Watcher> sweeps_;  // used by the batch while it plays
  states::Batch batch_;
  lab::Resident in_a_, in_b_;  // where a sweep has to go by passes, these tell the way
  std::vector<Watcher> diag_, iter_;
  std::vector<std::uint64_t> netns_cookies_;
  std::map<std::uint64_t, std::uint64_t> subflows_;  // MPTCP sockets' cookies, and their first subflows'
  std::set<std::uint64_t> done_;                     // cookies
  std::uint64_t begin_ns_ = 0, end_ns_ = 0;          // of the reading under way
  // What getsockopt said of each socket when it last stood still, and which of its connections that was.
  struct Earlier {
    tcpinfo_record record;
    std::uint32_t generation;
    std::uint64_t time_ns;
  };
  std::map<std::uint64_t, Earlier> answers_;
};

template <class Counts>
std::string list(const Counts& counts) {
  std::string text;
  for (const auto& [name, count] : counts) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, count);
  return text;
}

TEST(Equality, EverySourceAgreesWithTheKernelOnStillSockets) {
  TCPINFO_NEEDS_BPF();
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  if (!lab::tun_available()) GTEST_SKIP() << "needs /dev/net/tun (CONFIG_TUN; try modprobe tun)";
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  const auto seed = number_from("TCPINFO_SEED", std::random_device()());
  const auto wanted = number_from("TCPINFO_STATES", 600);
  fmt::print("TCPINFO_SEED={} TCPINFO_STATES={}\n", seed, wanted);
  std::fflush(stdout);
  const auto begin = std::chrono::steady_clock::now();
  states::congestion_controls();
  Report report;
  states::Random seeds(seed);
  std::size_t batches = 0;
  {
    const lab::Cgroup cgroup("tcpinfo-equal");
    const lab::InCgroup in(cgroup);
    while (report.compared < wanted && report.failures <= kShownFailures) {
      Play(seeds.seed(), batches == 0, cgroup, report).run();
      ++batches;
      if (HasFatalFailure()) break;
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;

  const auto excused = never_filled();
  std::string zero, excuses;
  for (const auto& row : tcpinfo::fields()) {
    if (report.nonzero[equality::index(row.field)] || equality::treatment(row.field) == equality::Treatment::kOwn)
      continue;
    const auto excuse = excused.find(row.field);
    if (excuse == excused.end())
      zero += fmt::format("{}{}", zero.empty() ? "" : ", ", row.name);
    else
      excuses += fmt::format("  {}: {}\n", row.name, excuse->second);
  }
  fmt::print(
      "{} states compared in {} batches, {:.1f} s: {} fields, {} sockets without a descriptor; {} in CLOSE checked to "
      "be shown by none; {} moved and not compared, {} times looked again; {} records of ACK processing bracketed\n"
      "  by state: {}\n  by congestion control: {}\n  by source: {}\n",
      report.compared, batches, took.count(), report.fields, report.without_descriptor, report.in_close, report.moved,
      report.looked_again, report.bracketed, list(report.by_state), list(report.by_control), list(report.by_source));
  fmt::print("left out:\n");
  for (const auto& line : equality::exceptions()) fmt::print("  {}\n", line);
  fmt::print("never other than 0, for a reason:\n{}never other than 0, without a reason: {}\n", excuses,
             zero.empty() ? "none" : zero);
  RecordProperty("states", static_cast<int>(report.compared));
  RecordProperty("moved", static_cast<int>(report.moved));
  RecordProperty("fields", static_cast<int>(report.fields));
  RecordProperty("by_state", list(report.by_state));
  RecordProperty("by_congestion_control", list(report.by_control));
  RecordProperty("never_nonzero", zero);

  EXPECT_EQ(report.failures, 0u) << "TCPINFO_SEED=" << seed;
  if (wanted >= kFullRun) {
    EXPECT_EQ(zero, "") << "no state made these fields other than 0";
  }
  EXPECT_GT(report.bracketed, 0u);
  // What timers do while a state is looked at depends on how busy the machine is: strict where there is time.
  EXPECT_LE(report.moved * (wanted >= kFullRun ? 20 : 4), report.compared) << "too many states did not stand still";
}

}  // namespace
