// SPDX-License-Identifier: BSD-2-Clause
// The tcpinfo command as its users meet it: the program itself, its exit codes, its sentences, its output.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidjson/document.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

#include "lab/attached.hpp"
#include "lab/files.hpp"
#include "lab/lab.hpp"
#include "lab/sockets.hpp"
#include "program.hpp"
#include "requirements.hpp"

namespace {

using namespace std::chrono_literals;
using lab::Ip;
using lab::lines;
using lab::Outcome;
using lab::read_text;
using lab::run;
using lab::Running;
using lab::tcpinfo_command;
using lab::TemporaryDirectory;
using lab::Words;
using tcpinfo::Event;
using tcpinfo::Record;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

const std::string kTcpinfo = TCPINFO_BINARY;

Outcome tcpinfo_run(const Words& words) { return run(tcpinfo_command(words)); }

/// By sh; $0 is the command.
Outcome shell(const std::string& script, Words arguments = {}) {
  Words command = {"bash", "-c", script, kTcpinfo};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run(command);
}

rapidjson::Document parse(const std::string& text) {
  rapidjson::Document document;
  document.Parse(text.c_str());
  EXPECT_FALSE(document.HasParseError()) << text;
  return document;
}

void expect_one_sentence(const Outcome& outcome, int code, const std::string& says) {
  EXPECT_EQ(outcome.code, code) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(StartsWith("tcpinfo: "), HasSubstr(says)));
  EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
}

/// "left" is what the others do not come to: only where it is 0 did two sides count that know nothing of each other.
void expect_balanced(const rapidjson::Document& stats) {
  EXPECT_EQ(stats["lost"]["left"]["total"].GetUint64(), 0u);
  for (const char* event : {"total", "sample", "state", "open", "close", "adopted", "gap"}) {
    std::uint64_t lost = 0;
    for (const char* cause : {"ring", "sink"}) lost += stats["lost"][cause][event].GetUint64();
    EXPECT_EQ(stats["emitted"][event].GetUint64(), stats["delivered"][event].GetUint64() + lost) << event;
  }
  EXPECT_EQ(stats["emitted"]["total"].GetUint64(),
            stats["delivered"]["total"].GetUint64() + stats["lost"]["total"].GetUint64());
}

/// A connection over loopback from inside the cgroup: 1000 bytes, some idle time, a close on both ends.
void have_connection(const lab::Cgroup& cgroup, std::chrono::milliseconds idle = 60ms) {
  const lab::InCgroup inside(cgroup);
  const auto listener = lab::listen(Ip::kV4);
  auto pair = lab::connected(listener, Ip::kV4);
  pair.client.send(1000);
  pair.server.receive(1000);
  std::this_thread::sleep_for(idle);
  pair.client.close();
  std::this_thread::sleep_for(5ms);
  pair.server.close();
}

std::size_t count(const std::vector<tcpinfo_record>& records, Event event) {
  return static_cast<std::size_t>(std::ranges::count_if(
      records, [event](const tcpinfo_record& r) { return Record(r).event() == static_cast<std::uint8_t>(event); }));
}

class Watch : public testing::Test {
 protected:
  void SetUp() override { TCPINFO_NEEDS_BPF(); }
};

TEST_F(Watch, WritesTheRecordsOfAConnectionAndAccountsForThem) {
  const lab::Cgroup cgroup("cli");
  const TemporaryDirectory files;
  Running watch(
      tcpinfo_command({"watch", "--cgroup", cgroup.path(), "--interval", "10ms", "--stats", files / "stats"}));
  watch.until_attached();
  EXPECT_EQ(lab::count_attached(cgroup.path()), 1u);
  have_connection(cgroup);
  std::this_thread::sleep_for(100ms);
  watch.signal(SIGINT);
  const auto outcome = watch.outcome();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(lab::count_attached(cgroup.path()), 0u);

  const auto records = tcpinfo::read_json_lines(watch.out_file());
  EXPECT_EQ(count(records, Event::kOpen), 2u);
  EXPECT_EQ(count(records, Event::kClose), 2u);
  EXPECT_GE(count(records, Event::kSample), 6u);
  std::uint64_t sent = 0, received = 0;
  for (const auto& raw : records) {
    const Record record(raw);
    EXPECT_EQ(record.source(), static_cast<std::uint8_t>(tcpinfo::SourceId::kSockops));
    EXPECT_EQ(record.cgroup_id(), tcpinfo::cgroup_id(cgroup.path()));
    if (record.event() != static_cast<std::uint8_t>(Event::kClose)) continue;
    sent += record.bytes_sent().value_or(0);
    received += record.bytes_received().value_or(0);
  }
  EXPECT_EQ(sent, 1000u);
  EXPECT_EQ(received, 1000u + 2);  // one for each peer's FIN

  const auto stats = parse(read_text(files / "stats"));
  expect_balanced(stats);
  EXPECT_EQ(stats["written"].GetUint64(), records.size());
  EXPECT_EQ(stats["delivered"]["total"].GetUint64(), records.size());
  EXPECT_EQ(stats["connections"].GetUint64(), 2u);
  EXPECT_THAT(outcome.err, HasSubstr(std::to_string(records.size()) + " delivered, 0 lost"));
}

TEST_F(Watch, SaysWhatATinyRingLost) {
  const lab::Cgroup cgroup("cli");
  const TemporaryDirectory files;
  Running watch(tcpinfo_command({"watch", "--cgroup", cgroup.path(), "--interval", "0", "--ring-size", "4K",
                                 "--latency", "100s", "--stats", files / "stats"}));
  watch.until_attached();
  watch.signal(SIGSTOP);
  for (int i = 0; i < 20; ++i) have_connection(cgroup, 0ms);
  watch.signal(SIGCONT);
  watch.signal(SIGTERM);
  const auto outcome = watch.outcome();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const auto stats = parse(read_text(files / "stats"));
  expect_balanced(stats);
  EXPECT_GT(stats["lost"]["ring"]["total"].GetUint64(), 0u);
  EXPECT_THAT(outcome.err, HasSubstr("ring full"));
  EXPECT_THAT(tcpinfo::read_json_lines(watch.out_file()), SizeIs(stats["written"].GetUint64()));
}

// Stopped for a while under load, as by a debugger or a frozen host: what was lost meanwhile is in the output.
TEST_F(Watch, SaysInItsOutputWhatWasLostWhileItWasStopped) {
  const lab::Cgroup cgroup("cli");
  const TemporaryDirectory files;
  Running watch(tcpinfo_command(
      {"watch", "--cgroup", cgroup.path(), "--interval", "0", "--ring-size", "16K", "--stats", files / "stats"}));
  watch.until_attached();
  for (int round = 0; round < 2; ++round) {
    watch.signal(SIGSTOP);
    for (const auto end = std::chrono::steady_clock::now() + 2s; std::chrono::steady_clock::now() < end;)
      have_connection(cgroup, 0ms);
    watch.signal(SIGCONT);
    have_connection(cgroup);
  }
  watch.signal(SIGTERM);
  const auto outcome = watch.outcome();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const auto stats = parse(read_text(files / "stats"));
  expect_balanced(stats);
  std::map<std::string, std::uint64_t> told;
  std::uint64_t gaps = 0;
  const auto records = tcpinfo::read_json_lines(watch.out_file());
  for (const auto& raw : records) {
    if (raw.event != TCPINFO_EVENT_GAP) continue;
    ++gaps;
    told[std::string(tcpinfo::name(static_cast<Event>(raw.lost_event)))] += raw.lost_records;
    told["total"] += raw.lost_records;
  }
  EXPECT_GE(gaps, 2u) << outcome.err;
  for (const char* event : {"total", "sample", "state", "open", "close", "adopted"})
    EXPECT_EQ(stats["lost"]["ring"][event].GetUint64(), told[event]) << event;
  EXPECT_GT(told["sample"], 0u);
  EXPECT_EQ(stats["lost"]["total"].GetUint64(), told["total"]) << outcome.err;
  EXPECT_EQ(stats["delivered"]["gap"].GetUint64(), gaps);
  EXPECT_THAT(records, SizeIs(stats["written"].GetUint64()));
  EXPECT_THAT(outcome.err, HasSubstr(std::to_string(told["total"]) +
                                     " lost (ring full: " + std::to_string(told["sample"]) + " sample"));
}

TEST_F(Watch, CloseModeGivesOneFinalRecordAConnection) {
  const lab::Cgroup cgroup("cli");
  Running watch(tcpinfo_command({"watch", "--cgroup", cgroup.path(), "--mode", "close", "--count", "2"}));
  watch.until_attached();
  have_connection(cgroup);
  EXPECT_EQ(watch.outcome().code, 0);
  const auto records = tcpinfo::read_json_lines(watch.out_file());
  EXPECT_THAT(records, SizeIs(2));
  EXPECT_EQ(count(records, Event::kClose), 2u);
}

TEST_F(Watch, NamesOwnersWhereItIsAskedTo) {
  const lab::Cgroup cgroup("cli");
  const auto cgroup_path = "/" + cgroup.path().filename().string();
  std::string comm;
  std::getline(std::ifstream("/proc/self/comm"), comm);
  const auto take = [&](const std::string& format) {
    Running watch(tcpinfo_command({"watch", "--owner", "--cgroup", cgroup.path(), "--mode", "close", "--count", "2",
                                   "--fields", "event,pid,comm", "--format", format}));
    watch.until([&] { return lab::count_attached(cgroup.path()) > 0; });
    have_connection(cgroup);
    const auto outcome = watch.outcome();
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return lines(outcome.out);
  };
  const auto json = take("jsonl");
  ASSERT_THAT(json, SizeIs(3));
  for (std::size_t i = 1; i < json.size(); ++i) {
    const auto record = parse(json[i]);
    EXPECT_EQ(record["event"], "close");
    EXPECT_EQ(record["pid"].GetInt(), getpid());
    EXPECT_EQ(record["comm"].GetString(), comm);
    EXPECT_EQ(record["executable"].GetString(), std::filesystem::read_symlink("/proc/self/exe").string());
    EXPECT_EQ(record["cgroup"].GetString(), cgroup_path);
    EXPECT_TRUE(record["container_id"].IsNull());
    EXPECT_STRNE(record["netns"].GetString(), "");
  }
  const auto table = take("table");
  ASSERT_THAT(table, SizeIs(3));
  EXPECT_THAT(table[0], testing::EndsWith("owner"));
  EXPECT_THAT(table[2], testing::EndsWith(comm + "[" + std::to_string(getpid()) + "]"));
}

TEST_F(Watch, StopsAfterCountAndAccountsForTheRest) {
  const lab::Cgroup cgroup("cli");
  const TemporaryDirectory files;
  Running watch(tcpinfo_command({"watch", "--cgroup", cgroup.path(), "--count", "3", "--stats", files / "stats",
                                 "--interval", "5ms", "--fields", "rtt,event,peer_port"}));
  watch.until_attached();
  have_connection(cgroup);
  const auto outcome = watch.outcome();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const auto text = lines(outcome.out);
  ASSERT_THAT(text, SizeIs(4));
  EXPECT_TRUE(tcpinfo::is_schema(text[0]));
  EXPECT_THAT(text[1], StartsWith(R"({"rtt":)"));
  const auto stats = parse(read_text(files / "stats"));
  EXPECT_EQ(stats["written"].GetUint64(), 3u);
  EXPECT_EQ(stats["delivered"]["total"].GetUint64(), 3u);
  EXPECT_EQ(stats["emitted"]["total"].GetUint64(), 3u + stats["lost"]["total"].GetUint64());
  EXPECT_EQ(stats["lost"]["ring"]["total"].GetUint64(), 0u);
}

TEST_F(Watch, FilterKeepsOtherConnectionsOut) {
  const lab::Cgroup cgroup("cli");
  const TemporaryDirectory files;
  Running watch(
      tcpinfo_command({"watch", "--cgroup", cgroup.path(), "--filter", "port == 1", "--stats", files / "stats"}));
  watch.until_attached();
  have_connection(cgroup);
  watch.signal(SIGINT);
  const auto outcome = watch.outcome();
  EXPECT_THAT(lines(outcome.out), SizeIs(1));
  EXPECT_EQ(parse(read_text(files / "stats"))["filtered"].GetUint64(), 2u);
}

TEST_F(Watch, TriggerKeepsOtherSamplesOut) {
  const lab::Cgroup cgroup("cli");
  const TemporaryDirectory files;
  Running watch(tcpinfo_command({"watch", "--cgroup", cgroup.path(), "--trigger", "rtt > 1000s", "--stats",
                                 files / "stats", "--fields", "event"}));
  watch.until_attached();
  have_connection(cgroup);
  watch.signal(SIGINT);
  const auto outcome = watch.outcome();
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("open"), HasSubstr("close"), Not(HasSubstr("sample"))));
  EXPECT_THAT(outcome.err, HasSubstr("samples not triggered"));
  const auto stats = parse(read_text(files / "stats"));
  expect_balanced(stats);
  EXPECT_GT(stats["untriggered"].GetUint64(), 0u);
}

// The first record finds it asleep and wakes it; those behind it, which never reach the watermark, wait.
TEST_F(Watch, LatencyBoundsHowLongARecordWaits) {
  for (const auto& [latency, comes] : {std::pair("10ms", true), std::pair("1000s", false)}) {
    SCOPED_TRACE(latency);
    const lab::Cgroup cgroup("cli");
    Running watch(tcpinfo_command({"watch", "--cgroup", cgroup.path(), "--mode", "close", "--latency", latency}));
    watch.until_attached();
    const auto until_written = [&](std::size_t wanted, std::chrono::milliseconds timeout) {
      const auto written = [&] { return lines(watch.out()).size(); };
      for (const auto end = std::chrono::steady_clock::now() + timeout;
           written() < wanted && std::chrono::steady_clock::now() < end;)
        std::this_thread::sleep_for(5ms);
      return written();
    };
    have_connection(cgroup);
    EXPECT_GE(until_written(2, 10s), 2u) << "the first record";
    have_connection(cgroup);
    if (comes) {
      EXPECT_EQ(until_written(5, 10s), 5u);
    } else {
      EXPECT_LE(until_written(5, 500ms), 3u) << "records of the second connection did not wait";
    }
    watch.signal(SIGINT);
    EXPECT_THAT(lines(watch.outcome().out), SizeIs(5)) << "at the end all is written";
  }
}

std::uint64_t runs(const rapidjson::Document& stats) {
  for (const auto& program : stats["cost"]["programs"].GetArray())
    if (program["name"] == "tcpinfo_sockops") return program["runs"].GetUint64();
  ADD_FAILURE() << "tcpinfo_sockops is not among the programs";
  return 0;
}

std::ptrdiff_t cost_lines(const std::string& err) {
  return std::ranges::count_if(lines(err), [](const auto& line) {
    return line.starts_with("tcpinfo: cost: ") && line.find("; sockops ") != line.npos &&
           line.find(" wake-ups/s; ") != line.npos;
  });
}

TEST_F(Watch, CostGrowsWithTraffic) {
  const auto cpus = static_cast<std::uint64_t>(sysconf(_SC_NPROCESSORS_CONF));
  std::vector<std::uint64_t> counts;
  for (const int connections : {0, 2, 20}) {
    SCOPED_TRACE(connections);
    const lab::Cgroup cgroup("cli");
    const TemporaryDirectory files;
    Running watch(tcpinfo_command({"watch", "--cgroup", cgroup.path(), "--mode", "state", "--cost", "--every", "100ms",
                                   "--stats", files / "stats"}));
    watch.until_attached();
    for (int i = 0; i < connections; ++i) have_connection(cgroup, 0ms);
    watch.until([&] { return cost_lines(watch.err()) >= 2; });
    watch.signal(SIGINT);
    const auto outcome = watch.outcome();
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const auto stats = parse(read_text(files / "stats"));
    const auto& cost = stats["cost"];
    expect_balanced(stats);
    counts.push_back(runs(stats));

    EXPECT_EQ(cost["records"].GetUint64(), stats["delivered"]["total"].GetUint64());
    EXPECT_EQ(cost["lost"].GetUint64(), stats["lost"]["ring"]["total"].GetUint64());
    EXPECT_GE(runs(stats), stats["emitted"]["total"].GetUint64()) << "a record is made by a run";
    const auto time = cost["time_ns"].GetUint64();
    EXPECT_GT(time, 0u);
    for (const auto& program : cost["programs"].GetArray()) {
      SCOPED_TRACE(program["name"].GetString());
      EXPECT_EQ(program["run_time_ns"].GetUint64() > 0, program["runs"].GetUint64() > 0);
      EXPECT_LE(program["run_time_ns"].GetUint64(), time * cpus);
      EXPECT_GT(program["instructions"].GetUint64(), 0u);
    }
    std::uint64_t bytes = 0, elements = 0;
    for (const auto& map : cost["maps"].GetArray()) {
      bytes += map["bytes"].GetUint64();
      elements += map["element_bytes"].GetUint64() > 0;
    }
    const auto rings = static_cast<std::uint64_t>(sysconf(_SC_NPROCESSORS_ONLN));
    EXPECT_GE(bytes, rings * (std::uint64_t{512} << 10)) << "the rings alone have that";
    EXPECT_EQ(elements, 1u);
    const auto& process = cost["process"];
    EXPECT_LE(process["user_ns"].GetUint64() + process["system_ns"].GetUint64(), time * cpus);
    EXPECT_GT(process["wakeups"].GetUint64(), 0u);
    EXPECT_GT(process["resident_bytes"].GetUint64(), 0u);

    EXPECT_THAT(outcome.err, HasSubstr("\ntcpinfo: cost over "));
    EXPECT_THAT(outcome.err, testing::ContainsRegex("\n  tcpinfo_sockops +" + std::to_string(runs(stats)) + " "));
    EXPECT_THAT(outcome.err,
                testing::ContainsRegex("\n  records +" + std::to_string(cost["records"].GetUint64()) + " "));
    EXPECT_THAT(lines(outcome.out), SizeIs(1 + stats["written"].GetUint64())) << "nothing but data on standard output";
  }
  EXPECT_EQ(counts[0], 0u);
  EXPECT_GT(counts[1], counts[0]);
  EXPECT_GT(counts[2], 5 * counts[1]);
}

TEST_F(Watch, CostNeedsAPrivilegeOrAnAdministrator) {
  const lab::Cgroup cgroup("cli");
  const std::string without = R"(exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "$0" watch --cost )";
  const std::string watch = R"(--cgroup "$1" --duration 50ms)";
  const auto outcome = shell(without + watch, {cgroup.path()});
  expect_one_sentence(outcome, 77, "needs CAP_SYS_ADMIN");
  EXPECT_THAT(outcome.err, HasSubstr("sysctl kernel.bpf_stats_enabled=1"));
  EXPECT_THAT(outcome.out, IsEmpty());
  expect_one_sentence(shell(without + "--source iter --duration 50ms"), 77, "needs CAP_SYS_ADMIN");

  // To switch it on for real would be to change the host. What comes next may fail: to look for type information of
  // modules, libbpf before 1.3 needs the same privilege.
  const TemporaryDirectory files;
  std::ofstream(files / "on") << "1\n";
  const auto allowed = shell("exec unshare -m sh -c 'mount --bind \"$2\" /proc/sys/kernel/bpf_stats_enabled && " +
                                 without + watch + "' \"$0\" \"$1\" \"$2\"",
                             {cgroup.path(), files / "on"});
  EXPECT_THAT(allowed.err, testing::AnyOf(HasSubstr("\ntcpinfo: cost over "), HasSubstr("load the sock_ops programs")));

  const auto netlink = shell(without + "--source inet_diag --duration 50ms");
  EXPECT_EQ(netlink.code, 0) << netlink.err;
  EXPECT_THAT(netlink.err, HasSubstr("\n  this process "));
  EXPECT_THAT(netlink.err, testing::Not(HasSubstr("program")));
}

class WatchPolls : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (GetParam() == std::string_view("iter")) TCPINFO_NEEDS_BPF();
  }
};
INSTANTIATE_TEST_SUITE_P(Cli, WatchPolls, testing::Values("inet_diag", "iter"),
                         [](const auto& tested) { return std::string(tested.param); });

TEST_P(WatchPolls, ItsNamespace) {
  const lab::Netns netns("cli");
  const TemporaryDirectory files;
  lab::Pair pair;
  lab::Socket listener;
  netns.run([&] {
    listener = lab::listen(Ip::kV4);
    pair = lab::connected(listener, Ip::kV4);
  });
  const auto outcome =
      tcpinfo_run({"watch", "--source", GetParam(), "--netns", netns.path(), "--interval", "20ms", "--duration",
                   "300ms", "--format", "csv", "--fields", "cookie,state", "--stats", files / "stats"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  auto text = lines(outcome.out);
  ASSERT_GE(text.size(), 3u);
  EXPECT_EQ(text[0], "cookie,state");
  text.erase(text.begin());
  const auto client = std::to_string(pair.client.cookie()) + ",ESTABLISHED";
  const auto server = std::to_string(pair.server.cookie()) + ",ESTABLISHED";
  EXPECT_THAT(text, Each(testing::AnyOf(client, server)));
  const auto stats = parse(read_text(files / "stats"));
  expect_balanced(stats);
  EXPECT_EQ(stats["written"].GetUint64(), text.size());
  EXPECT_GE(stats["dumps"].GetUint64(), 5u);
}

class Snapshot : public testing::TestWithParam<const char*> {
 protected:
  // A namespace with a listener, a connection and the remains of another one.
  void SetUp() override {
    if (GetParam() == std::string_view("iter")) TCPINFO_NEEDS_BPF();
    netns.run([&] {
      listener = lab::listen(Ip::kV4);
      pair = lab::connected(listener, Ip::kV4);
      auto gone = lab::connected(listener, Ip::kV4);
      gone.client.close();
      std::this_thread::sleep_for(5ms);
      gone.server.close();
      std::this_thread::sleep_for(5ms);
    });
  }
  Outcome take(Words options) {
    const Words common{"snapshot", "--source", GetParam(), "--netns", netns.path()};
    options.insert(options.begin(), common.begin(), common.end());
    return tcpinfo_run(options);
  }

  const lab::Netns netns{"cli"};
  lab::Socket listener;
  lab::Pair pair;
};

INSTANTIATE_TEST_SUITE_P(Cli, Snapshot, testing::Values("inet_diag", "iter"),
                         [](const auto& tested) { return std::string(tested.param); });

TEST_P(Snapshot, NamesOwnersWhereItIsAskedTo) {
  const auto outcome = take({"--owner", "--format", "csv", "--fields", "state,pid", "--states", "LISTEN,ESTABLISHED"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  auto text = lines(outcome.out);
  ASSERT_THAT(text, SizeIs(4));
  EXPECT_EQ(text[0], "state,pid,executable,cgroup,unit,container_runtime,container_id,pod_uid,netns,holders");
  for (std::size_t i = 1; i < text.size(); ++i)
    EXPECT_THAT(text[i], AllOf(HasSubstr("," + std::to_string(getpid()) + "," +
                                         std::filesystem::read_symlink("/proc/self/exe").string() + ","),
                               testing::EndsWith("," + netns.name() + ",1")));
}

TEST_P(Snapshot, PrintsEverySocketOnceAndNamesItsState) {
  const auto outcome = take({"--format", "csv", "--fields", "cookie,state,source"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, IsEmpty());
  auto text = lines(outcome.out);
  ASSERT_THAT(text, SizeIs(5));
  EXPECT_EQ(text[0], "cookie,state,source");
  const std::string source = std::string(",") + GetParam();
  EXPECT_THAT(text, testing::IsSupersetOf({std::to_string(listener.cookie()) + ",LISTEN" + source,
                                           std::to_string(pair.client.cookie()) + ",ESTABLISHED" + source,
                                           std::to_string(pair.server.cookie()) + ",ESTABLISHED" + source}));
  EXPECT_EQ(std::ranges::count_if(text, [](const auto& line) { return line.find("TIME_WAIT") != line.npos; }), 1);
}

TEST_P(Snapshot, TakesWhatWasAskedFor) {
  const auto listening = take({"--states", "LISTEN", "--format", "csv", "--fields", "cookie,unacked,sacked"});
  EXPECT_THAT(lines(listening.out),
              testing::ElementsAre("cookie,unacked,sacked", std::to_string(listener.cookie()) + ",0,128"));
  const auto filtered = take({"--filter", "peer_port == " + std::to_string(listener.local_port()), "--states",
                              "ESTABLISHED,CLOSE_WAIT", "--format", "csv", "--fields", "cookie"});
  EXPECT_THAT(lines(filtered.out), testing::ElementsAre("cookie", std::to_string(pair.client.cookie())));
  const auto triggered =
      take({"--trigger", "state == ESTABLISHED and peer_port == " + std::to_string(listener.local_port()), "--format",
            "csv", "--fields", "cookie,triggered"});
  EXPECT_THAT(lines(triggered.out),
              testing::ElementsAre("cookie,triggered", std::to_string(pair.client.cookie()) + ",1"));
  const auto json = lines(take({}).out);
  ASSERT_THAT(json, SizeIs(5));
  EXPECT_STREQ(parse(json[0])["schema"].GetString(), "tcpinfo");
  for (std::size_t i = 1; i < json.size(); ++i) EXPECT_STREQ(parse(json[i])["source"].GetString(), GetParam());
}

TEST_P(Snapshot, ItsTableFitsTheWidthAndHasOneHeader) {
  std::vector<lab::Pair> pairs;
  netns.run([&] {
    for (int i = 0; i < 30; ++i) pairs.push_back(lab::connected(listener, Ip::kV4));
  });
  for (const std::size_t width : {80, 120, 160}) {
    const auto outcome = run({"env", "COLUMNS=" + std::to_string(width), kTcpinfo, "snapshot", "--source", GetParam(),
                              "--netns", netns.path(), "--format", "table"});
    const auto text = lines(outcome.out);
    ASSERT_THAT(text, SizeIs(1 + 4 + 60)) << outcome.err;
    EXPECT_THAT(text[0], StartsWith("state "));
    for (const auto& line : text) EXPECT_EQ(line.size(), text[0].size()) << line;
    EXPECT_LE(text[0].size(), width);
    EXPECT_EQ(std::ranges::count(text, text[0]), 1);
  }
}

TEST(SnapshotPrivileges, NetlinkNeedsNoneAndTheIteratorSaysWhichItNeeds) {
  const auto take = [](const char* source) {
    return run({"setpriv", "--bounding-set=-all", "--inh-caps=-all", kTcpinfo, "snapshot", "--source", source});
  };
  EXPECT_EQ(take("inet_diag").code, 0);
  const auto outcome = take("iter");
  expect_one_sentence(outcome, 77, "CAP_BPF and CAP_PERFMON");
  EXPECT_THAT(outcome.out, IsEmpty());
}

TEST_F(Watch, TableFitsTheWidth) {
  for (const std::size_t width : {80, 100, 120, 160}) {
    const lab::Cgroup cgroup("cli");
    Running watch({"env", "COLUMNS=" + std::to_string(width), kTcpinfo, "watch", "--cgroup", cgroup.path(), "--format",
                   "table", "--count", "4", "--interval", "10ms"});
    watch.until([&] { return lab::count_attached(cgroup.path()) > 0; });
    have_connection(cgroup);
    const auto outcome = watch.outcome();
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const auto text = lines(outcome.out);
    ASSERT_THAT(text, SizeIs(5));
    for (const char* header : {"event", "local", "peer", "rtt", "cwnd", "retrans", "rate"})
      EXPECT_THAT(text[0], HasSubstr(header));
    for (const auto& line : text) {
      EXPECT_LE(line.size(), width) << line;
      EXPECT_EQ(line.size(), text[0].size()) << line;
    }
  }
}

TEST_F(Watch, EndsQuietlyWhenItsReaderGoes) {
  const lab::Cgroup cgroup("cli");
  // head goes after the schema; nothing else is ever written.
  const auto outcome = shell(R"(set -o pipefail; "$0" watch --cgroup "$1" | head -n 1)", {cgroup.path()});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.err, IsEmpty());
  EXPECT_THAT(lines(outcome.out), SizeIs(1));
  EXPECT_EQ(lab::count_attached(cgroup.path()), 0u);
}

TEST_F(Watch, WhatItsReaderDidNotTakeIsLost) {
  const lab::Netns netns("cli");
  const TemporaryDirectory files;
  lab::Pair pair;
  netns.run([&] { pair = lab::connected(lab::listen(Ip::kV4), Ip::kV4); });
  // The pipe is full long before the reader goes, and the writer waits.
  const auto outcome =
      shell(R"("$0" watch --source inet_diag --netns "$1" --interval 1ms --stats "$2" | { head -n 1; sleep 1; })",
            {netns.path(), files / "stats"});
  EXPECT_THAT(outcome.err, IsEmpty());
  const auto stats = parse(read_text(files / "stats"));
  expect_balanced(stats);
  EXPECT_GT(stats["lost"]["sink"]["sample"].GetUint64(), 0u);
  EXPECT_GT(stats["delivered"]["sample"].GetUint64(), 0u);
}

TEST_F(Watch, TellsOfOtherProgramsAndNotOfTheOneThatItLeft) {
  const lab::Cgroup cgroup("cli");
  const TemporaryDirectory files;
  std::filesystem::create_directory(files / "bpf");
  const auto outcome = shell(
      R"(exec unshare -m sh -c 'mount -t bpf none "$2" || exit 3
         for i in 1 2; do "$0" watch --cgroup "$1" --pin "$2/web" --pin-link --duration 10ms || exit 4; done
         "$0" watch --cgroup "$1" --duration 10ms; "$0" unpin "$2/web"' "$0" "$1" "$2")",
      {cgroup.path(), files / "bpf"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  std::vector<std::string> told;
  for (const auto& line : lines(outcome.err))
    if (line.find("another sock_ops program") != std::string::npos) told.push_back(line);
  EXPECT_THAT(told, ElementsAre(HasSubstr("attached to " + cgroup.path().string()))) << outcome.err;
  EXPECT_EQ(lab::count_attached(cgroup.path()), 0u);
}

TEST_F(Watch, SaysThatTheDiskIsFull) {
  const lab::Cgroup cgroup("cli");
  expect_one_sentence(shell(R"("$0" watch --cgroup "$1" --duration 5s > /dev/full)", {cgroup.path()}), 1,
                      "No space left");
  EXPECT_EQ(lab::count_attached(cgroup.path()), 0u);
  const auto stats = tcpinfo_run({"watch", "--cgroup", cgroup.path(), "--duration", "10ms", "--stats", "/dev/full"});
  expect_one_sentence(stats, 1, "write to /dev/full: No space left");
  for (const char* command : {"fields", "doctor", "--help", "--version"})
    expect_one_sentence(shell("\"$0\" " + std::string(command) + " > /dev/full"), 1, "No space left");
}

TEST_F(Watch, SaysThatTheDiskIsFullInTheMiddle) {
  const lab::Netns netns("cli");
  lab::Pair pair;
  netns.run([&] { pair = lab::connected(lab::listen(Ip::kV4), Ip::kV4); });
  const TemporaryDirectory files;
  std::filesystem::create_directory(files / "disk");
  const auto outcome = shell(
      R"(exec unshare -m sh -c 'mount -t tmpfs -o size=64k none "$2" &&
         "$0" watch --source inet_diag --netns "$1" --interval 2ms --duration 15s --stats "$3" > "$2/out"
         code=$?; cat "$2/out"; exit $code' "$0" "$1" "$2" "$3")",
      {netns.path(), files / "disk", files / "stats"});
  EXPECT_EQ(outcome.code, 1);
  // What was not written whole is not delivered.
  const auto whole = std::ranges::count(outcome.out, '\n') - 1;
  const auto stats = parse(read_text(files / "stats"));
  expect_balanced(stats);
  EXPECT_EQ(stats["delivered"]["total"].GetInt64(), whole);
  EXPECT_GT(stats["lost"]["sink"]["sample"].GetUint64(), 0u);
  EXPECT_THAT(outcome.err, HasSubstr(std::to_string(whole) + " delivered"));
  EXPECT_THAT(outcome.err, HasSubstr("(not written: "));
  EXPECT_THAT(outcome.err, HasSubstr("tcpinfo: write to standard output: No space left on device (free some space"));
}

TEST_F(Watch, SaysThatPrivilegesAreMissing) {
  const lab::Cgroup cgroup("cli");
  Words command = {"setpriv", "--bounding-set=-all", "--inh-caps=-all"};
  const auto watch = tcpinfo_command({"watch", "--cgroup", cgroup.path(), "--duration", "1s"});
  command.insert(command.end(), watch.begin(), watch.end());
  const auto outcome = run(command);
  expect_one_sentence(outcome, 77, "CAP_BPF");
  EXPECT_THAT(outcome.err, HasSubstr("tcpinfo doctor"));
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_EQ(lab::count_attached(cgroup.path()), 0u);
}

TEST_F(Watch, SaysThatTypeInformationIsMissing) {
  const lab::Cgroup cgroup("cli");
  const auto outcome = shell(
      R"(exec unshare -m sh -c 'mount -t tmpfs none /sys/kernel/btf && exec "$0" watch --cgroup "$1" --duration 1s' "$0" "$1")",
      {cgroup.path()});
  expect_one_sentence(outcome, 77, "CONFIG_DEBUG_INFO_BTF");
  EXPECT_EQ(lab::count_attached(cgroup.path()), 0u);
}

struct BadInput {
  const char* name;
  Words arguments;
  int code;
  const char* says;

  // Without it the name of the test in ctest's list is the object's bytes, another one in each run.
  friend void PrintTo(const BadInput& input, std::ostream* out) {
    *out << "tcpinfo";
    for (const auto& argument : input.arguments) *out << ' ' << argument;
  }
};

class BadInputs : public testing::TestWithParam<BadInput> {};

TEST_P(BadInputs, GiveOneSentenceAndACode) {
  const auto outcome = tcpinfo_run(GetParam().arguments);
  expect_one_sentence(outcome, GetParam().code, GetParam().says);
  EXPECT_THAT(outcome.out, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Cli, BadInputs,
    testing::Values(
        BadInput{"NoSubcommand", {}, 2, "--help"}, BadInput{"UnknownSubcommand", {"wach"}, 2, "did you mean watch?"},
        BadInput{"UnknownOption", {"watch", "--cgruop", "/x"}, 2, "tcpinfo watch --help"},
        BadInput{
            "CgroupMissing", {"watch", "--cgroup", "/no/such/cgroup"}, 1, "open cgroup /no/such/cgroup: No such file"},
        BadInput{"CgroupIsAFile", {"watch", "--cgroup", "/proc/self/cgroup"}, 1, "Not a directory"},
        BadInput{"CgroupOfAnotherFileSystem", {"watch", "--cgroup", "/proc"}, 1, "cgroup v2"},
        BadInput{
            "CgroupMissingForInetDiag", {"watch", "--source", "inet_diag", "--cgroup", "/no/such"}, 1, "No such file"},
        BadInput{
            "NetnsMissing", {"watch", "--source", "inet_diag", "--netns", "/run/netns/none"}, 1, "/run/netns/none"},
        BadInput{"UnknownField", {"watch", "--fields", "event,snd_cnwd"}, 2, "did you mean snd_cwnd?"},
        BadInput{"BadFilter", {"watch", "--filter", "peer_port = 443"}, 2, "filter"},
        BadInput{"TriggerWithoutUnit", {"watch", "--trigger", "rtt > 5"}, 2, "column 7: 5 has no unit, rtt is a time"},
        BadInput{
            "TriggerOfUnits", {"watch", "--trigger", "rtt > 3 * snd_cwnd"}, 2, "column 7: snd_cwnd is a number of"},
        BadInput{
            "TriggerOfNoField", {"watch", "--trigger", "rtt > 5ms or rrt > 1s"}, 2, "column 14: unknown field rrt"},
        BadInput{"ValueInAFilter", {"watch", "--filter", "rtt > 5ms"}, 2, "make it a trigger"},
        BadInput{
            "TriggerWithoutSamples", {"watch", "--mode", "close", "--trigger", "rtt > 5ms"}, 2, "only polling takes"},
        BadInput{"GrowthInASnapshot", {"snapshot", "--trigger", "total_retrans grows"}, 2, "use tcpinfo watch"},
        BadInput{"UnknownMode", {"watch", "--mode", "pol"}, 2, "it is one of polling, state, close"},
        BadInput{"UnknownSource", {"watch", "--source", "netlink"}, 2, "sockops, inet_diag, iter"},
        BadInput{"UnknownState", {"snapshot", "--states", "ESTAB"}, 2, "did you mean ESTABLISHED?"},
        BadInput{"SnapshotOfSockops", {"snapshot", "--source", "sockops"}, 2, "it is one of inet_diag, iter"},
        BadInput{"SnapshotOfNoNetns", {"snapshot", "--netns", "/run/netns/none"}, 1, "/run/netns/none"},
        BadInput{"ModeWithIter", {"watch", "--source", "iter", "--mode", "state"}, 2, "makes no sense"},
        BadInput{"UnknownFormat", {"watch", "--format", "json"}, 2, "did you mean jsonl?"},
        BadInput{"UnknownFieldsFormat", {"fields", "--format", "jsonl"}, 2, "did you mean json?"},
        BadInput{"IntervalWithoutUnit", {"watch", "--interval", "100"}, 2, "ns, us, ms, s, min or h"},
        BadInput{"NegativeInterval", {"watch", "--interval=-1s"}, 2, "--interval -1s"},
        BadInput{"EndlessInterval", {"watch", "--interval", "1e99s"}, 2, "--interval"},
        BadInput{"RingSizeNoPowerOfTwo", {"watch", "--ring-size", "5000"}, 2, "power of two"},
        BadInput{"RingSizeNoNumber", {"watch", "--ring-size", "big"}, 2, "--ring-size big"},
        BadInput{"CountZero", {"watch", "--count", "0"}, 2, "--count 0"},
        BadInput{"CountNegative", {"watch", "--count", "-3"}, 2, "count"},
        BadInput{"DurationZero", {"watch", "--duration", "0"}, 2, "--duration 0"},
        BadInput{"ModeWithInetDiag", {"watch", "--source", "inet_diag", "--mode", "close"}, 2, "makes no sense"},
        BadInput{"RingOfSamplesWithoutSamples",
                 {"watch", "--mode", "close", "--ring-size", "4M"},
                 2,
                 "--life-cycle-ring-size"},
        BadInput{"LifeCycleRingSizeNoPowerOfTwo", {"watch", "--life-cycle-ring-size", "5000"}, 2, "power of two"},
        BadInput{"RingWithInetDiag", {"watch", "--source", "inet_diag", "--ring-size", "4M"}, 2, "no ring buffer"},
        BadInput{"EveryRttWithInetDiag", {"watch", "--source", "inet_diag", "--interval", "0"}, 2, "makes no sense"},
        BadInput{"NetnsWithSockops", {"watch", "--netns", "/run/netns/x"}, 2, "makes no sense"},
        BadInput{"IntervalWithClose", {"watch", "--mode", "close", "--interval", "1s"}, 2, "only polling"},
        BadInput{"LatencyZero", {"watch", "--latency", "0"}, 2, "--latency 0: it is more than 0"},
        BadInput{"LatencyWithoutUnit", {"watch", "--latency", "10"}, 2, "ns, us, ms, s, min or h"},
        BadInput{"LatencyWithInetDiag", {"watch", "--source", "inet_diag", "--latency", "10ms"}, 2, "makes no sense"},
        BadInput{"LatencyWithIter", {"watch", "--source", "iter", "--latency", "10ms"}, 2, "come at once"},
        BadInput{"EveryWithoutCost", {"watch", "--every", "1s"}, 2, "without --cost"},
        BadInput{"EveryTooShort", {"watch", "--cost", "--every", "1ms"}, 2, "10ms or more"},
        BadInput{"StatsInNoDirectory",
                 {"watch", "--source", "inet_diag", "--duration", "1s", "--stats", "/no/such/file"},
                 1,
                 "create /no/such/file"}),
    [](const auto& tested) { return tested.param.name; });

TEST_F(Watch, RefusesACgroupOfVersion1) {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    if (line.find(" - cgroup ") == std::string::npos) continue;
    std::istringstream words(line);
    std::string path;
    for (int i = 0; i < 5; ++i) words >> path;
    expect_one_sentence(tcpinfo_run({"watch", "--cgroup", path}), 1, "cgroup v1");
    return;
  }
  GTEST_SKIP() << "no cgroup v1 hierarchy is mounted";
}

TEST(Help, HasExamples) {
  for (const Words& words :
       {Words{"--help"}, {"watch", "--help"}, {"snapshot", "--help"}, {"fields", "--help"}, {"doctor", "--help"}}) {
    const auto outcome = tcpinfo_run(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("Examples:"));
  }
  const auto version = tcpinfo_run({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_THAT(version.out, testing::MatchesRegex("tcpinfo [0-9.]+\n"));
}

TEST(Fields, ListTheWholeTableInEveryFormat) {
  const auto json = parse(tcpinfo_run({"fields", "--format", "json"}).out);
  ASSERT_EQ(json.Size(), tcpinfo::kFieldCount);
  const auto markdown = lines(tcpinfo_run({"fields", "--format", "markdown"}).out);
  ASSERT_EQ(markdown.size(), tcpinfo::kFieldCount + 2);
  const auto table = tcpinfo_run({"fields"}).out;
  for (const auto& field : tcpinfo::fields()) {
    const auto place = static_cast<rapidjson::SizeType>(field.field);
    EXPECT_EQ(json[place]["name"].GetString(), field.name);
    EXPECT_EQ(json[place]["unit"].GetString(), tcpinfo::name(field.unit));
    EXPECT_EQ(json[place]["kernel"].GetString(), field.kernel);
    EXPECT_EQ(json[place]["rule"].GetString(), tcpinfo::name(field.rule));
    EXPECT_THAT(markdown[place + 2], HasSubstr("`" + std::string(field.name) + "`"));
    EXPECT_THAT(table, HasSubstr("\n" + std::string(field.name) + " "));
  }
}

std::size_t doctors_cgroups() {
  std::size_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(tcpinfo::own_cgroup()))
    if (entry.path().filename().string().starts_with("tcpinfo-doctor-")) ++found;
  return found;
}

TEST(Doctor, TriesAllSourcesAndLeavesNothing) {
  TCPINFO_NEEDS_BPF();
  const lab::Cgroup cgroup("cli");
  const lab::InCgroup inside(cgroup);
  const auto outcome = tcpinfo_run({"doctor", "--format", "json"});
  EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  const auto json = parse(outcome.out);
  EXPECT_TRUE(json["works"]["sockops"].GetBool());
  EXPECT_TRUE(json["works"]["inet_diag"].GetBool());
  EXPECT_TRUE(json["works"]["iter"].GetBool());
  std::map<std::string_view, std::string_view> checks;
  for (const auto& check : json["checks"].GetArray()) checks[check["name"].GetString()] = check["status"].GetString();
  for (const auto* name : {"owner", "owner holders", "owner executables", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"})
    EXPECT_EQ(checks[name], "ok") << name;
  EXPECT_EQ(doctors_cgroups(), 0u);
}

TEST(Doctor, NamesWhatIsMissingAndTheWayOut) {
  const lab::Cgroup cgroup("cli");
  const lab::InCgroup inside(cgroup);
  const auto outcome =
      run({"setpriv", "--bounding-set=-all", "--inh-caps=-all", kTcpinfo, "doctor", "--format", "json"});
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  const auto json = parse(outcome.out);
  EXPECT_FALSE(json["works"]["sockops"].GetBool());
  std::size_t missing = 0;
  for (const auto& check : json["checks"].GetArray()) {
    if (std::string_view(check["name"].GetString()) == "CAP_BPF") {
      EXPECT_STREQ(check["status"].GetString(), "missing");
      EXPECT_THAT(check["way_out"].GetString(), HasSubstr("CAP_BPF"));
      ++missing;
    }
  }
  EXPECT_EQ(missing, 1u);
  EXPECT_EQ(doctors_cgroups(), 0u);
}

}  // namespace
