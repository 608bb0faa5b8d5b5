// SPDX-License-Identifier: BSD-2-Clause
// Runs the program itself, on this kernel and with iperf3.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/json.hpp>

#include "iperf3.hpp"
#include "lab/lab.hpp"
#include "suite.hpp"
#include "verdict.hpp"

namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

std::string contents(const fs::path& path) {
  std::stringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

class Validate : public testing::Test {
 protected:
  fs::path directory, out;
  std::string mark;

  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    char name[] = "/tmp/validate-test-XXXXXX";
    directory = mkdtemp(name);
    chmod(directory.c_str(), 0755);
    out = directory / "out";
    mark = "TCPINFO_VALIDATE_TEST=" + directory.string();
  }

  void TearDown() override {
    if (directory.empty()) return;
    EXPECT_THAT(left_behind(), IsEmpty());
    umount2(out.c_str(), MNT_DETACH);
    fs::remove_all(directory);
  }

  // Children have our mark in their environment.
  std::vector<std::string> left_behind() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const auto text = contents(entry.path() / "environ");
      if (text.find(mark) != std::string::npos) found.push_back("process " + contents(entry.path() / "comm"));
    }
    const auto add = [&](const fs::path& where) {
      std::error_code none;
      for (const auto& entry : fs::directory_iterator(where, none)) {
        const auto name = entry.path().filename().string();
        if (name.starts_with("tcpinfo-") && name.find(fmt::format("-{}-", tool_pid)) != std::string::npos)
          found.push_back(entry.path());
      }
    };
    add("/run/netns");
    add(tcpinfo::cgroup2_mount());
    return found;
  }

  lab::Process start(std::vector<std::string> arguments, std::vector<std::string> prefix = {}) {
    std::vector<std::string> command{"env", mark};
    command.insert(command.end(), prefix.begin(), prefix.end());
    command.emplace_back(TCPINFO_VALIDATE);
    command.insert(command.end(), arguments.begin(), arguments.end());
    lab::Process process(
        {.command = command, .stdout_file = directory / "stdout", .stderr_file = directory / "stderr"});
    tool_pid = process.pid();
    return process;
  }

  int run(std::vector<std::string> arguments, std::vector<std::string> prefix = {}) {
    auto process = start(std::move(arguments), std::move(prefix));
    const auto status = process.wait(60s);
    return status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
  }

  std::string printed() const { return contents(directory / "stdout"); }
  std::string complaint() const { return contents(directory / "stderr"); }
  /// Where the only run of a suite left its files.
  fs::path results() const {
    const auto suite = validation::read_suite(out / "suite.json");
    EXPECT_EQ(suite.runs.size(), 1u);
    return out / suite.runs.at(0).directory;
  }
  validation::Verdict verdict() const { return validation::read_verdict(results() / "verdict.json"); }

  pid_t tool_pid = 0;
};

std::uint64_t compared(const validation::Verdict& verdict, std::string_view source, std::string_view method) {
  std::uint64_t sum = 0;
  for (const auto& c : verdict.comparisons) sum += c.source == source && c.method == method ? c.compared : 0;
  return sum;
}

void expect_compared(const validation::Verdict& verdict) {
  const auto find = [&](std::string_view source, std::string_view field, std::string_view method) {
    const auto found = std::find_if(verdict.comparisons.begin(), verdict.comparisons.end(), [&](const auto& c) {
      return c.source == source && c.field == field && c.method == method;
    });
    return found == verdict.comparisons.end() ? 0 : found->compared;
  };
  for (const char* field : {"rtt", "rttvar", "snd_cwnd", "snd_wnd", "pmtu", "bytes_sent", "total_retrans"})
    EXPECT_GE(find("getsockopt", field, "exact"), 4u) << field;
  if (contents("/proc/kallsyms").find(" bpf_rdonly_cast\n") != std::string::npos) {
    EXPECT_GE(compared(verdict, "getsockopt", "twin"), 4u * 25);
  } else {
    EXPECT_EQ(compared(verdict, "getsockopt", "twin"), 0u)
        << "without bpf_rdonly_cast(), of kernel 6.2, there are none";
  }
  for (const char* source : {"sockops", "inet_diag"}) {
    for (const char* field : {"bytes_sent", "bytes_received", "total_retrans"})
      EXPECT_GE(find(source, field, "bracket"), 4u) << source << " " << field;
    EXPECT_GE(compared(verdict, source, "bracket"), 200u) << source;
    EXPECT_GE(compared(verdict, source, "equal"), 30u) << source;
    EXPECT_GE(compared(verdict, source, "others"), 200u) << source;
  }
}

TEST_F(Validate, Ipv4) {
  EXPECT_EQ(run({"run", "--out", out, "--duration", "2s"}), 0) << printed() << complaint();
  const auto v = verdict();
  EXPECT_TRUE(v.passed());
  EXPECT_EQ(v.title, "IPv4, 1 stream, cubic, 200 Mbit/s");
  expect_compared(v);
  for (const char* source : {"sockops", "inet_diag", "getsockopt"})
    for (const auto& [name, count] : v.records.at(source))
      if (name == "lost" || name == "malformed") {
        EXPECT_EQ(count, 0u) << source << " " << name;
      }
  EXPECT_THAT(printed(), HasSubstr("PASSED"));
  EXPECT_THAT(printed(), HasSubstr(out.string()));
  EXPECT_FALSE(validation::read_iperf3(results() / "iperf3.json").is_server);
  EXPECT_TRUE(validation::read_iperf3(results() / "iperf3-server.json").is_server);
  EXPECT_GT(tcpinfo::read_json_lines(results() / "sockops.jsonl").size(), 50u);
  EXPECT_GT(tcpinfo::read_json_lines(results() / "inet_diag.jsonl").size(), 50u);
  EXPECT_GT(tcpinfo::read_json_lines(results() / "getsockopt.jsonl").size(), 16u);

  const auto again = directory / "again.json";
  EXPECT_EQ(run({"compare", results(), "--out", again}), 0) << printed() << complaint();
  const auto w = validation::read_verdict(again);
  EXPECT_EQ(w.title, v.title);
  ASSERT_EQ(w.comparisons.size(), v.comparisons.size());
  for (std::size_t i = 0; i < w.comparisons.size(); ++i) {
    EXPECT_EQ(w.comparisons[i].field, v.comparisons[i].field);
    EXPECT_EQ(w.comparisons[i].compared, v.comparisons[i].compared);
    EXPECT_EQ(w.comparisons[i].agreed, v.comparisons[i].agreed);
  }

  std::ofstream(directory / "cut.json") << contents(results() / "iperf3.json").substr(0, 3000);
  EXPECT_EQ(run({"compare", "--iperf3", directory / "cut.json", "--sockops", results() / "sockops.jsonl"}), 1);
  EXPECT_THAT(complaint(), HasSubstr("cut.json"));
  EXPECT_THAT(complaint(), HasSubstr("cut off"));
}

TEST_F(Validate, Ipv6ServerSends) {
  EXPECT_EQ(run({"run", "--out", out, "--duration", "2s", "--scenario", "reverse-ipv6"}), 0)
      << printed() << complaint();
  expect_compared(verdict());
  EXPECT_EQ(verdict().streams.at(0).local_address, "fd77::1");
}

TEST_F(Validate, MappedInParallel) {
  EXPECT_EQ(run({"run", "--out", out, "--duration", "2s", "--scenario", "bulk-mapped", "--set", "iperf3.parallel=2"}), 0)
      << printed() << complaint();
  expect_compared(verdict());
  bool mapped = false;
  for (const auto& raw : tcpinfo::read_json_lines(results() / "sockops.jsonl"))
    if (raw.local_port == 5201) mapped = mapped || (raw.family == 10 && tcpinfo_address_is_ipv4(&raw.local_address));
  EXPECT_TRUE(mapped);
}

TEST_F(Validate, PausesGiveStillSocketsOmittedTimeIsCountedFrom) {
  EXPECT_EQ(run({"run", "--out", out, "--duration", "2s", "--scenario", "paced", "--set", "iperf3.omit=1s"}), 0)
      << printed() << complaint();
  const auto v = verdict();
  EXPECT_GE(compared(v, "getsockopt", "exact"), 2u * 12 * 7);
  // How many samples fall into pauses depends on how busy the machine is.
  EXPECT_GT(compared(v, "sockops", "still"), 0u);
  EXPECT_GT(compared(v, "inet_diag", "still"), 0u);
  bool omitted = false;
  for (const auto& stream : validation::read_iperf3(results() / "iperf3.json").streams)
    for (const auto& interval : stream.intervals) omitted = omitted || interval.omitted;
  EXPECT_TRUE(omitted);
}

TEST_F(Validate, BothWaysBothSidesAreExact) {
  EXPECT_EQ(run({"run", "--out", out, "--duration", "2s", "--scenario", "bidirectional", "--set", "iperf3.parallel=1"}), 0) << printed() << complaint();
  const auto v = verdict();
  const auto rtt = std::find_if(v.comparisons.begin(), v.comparisons.end(),
                                [](const auto& c) { return c.field == "rtt" && c.iperf3 == "rtt"; });
  ASSERT_NE(rtt, v.comparisons.end());
  EXPECT_GE(rtt->compared, 2u * 8);
}

TEST_F(Validate, ACaptureOfSsIsCompared) {
  const fs::path data = fs::path(TCPINFO_TEST_DATA) / "ss";
  const auto file = directory / "verdict.json";
  EXPECT_EQ(run({"compare", "--iperf3", data / "iperf3.json", "--ss", data / "ss.txt", "--out", file, "--verbose"}), 0)
      << printed() << complaint();
  const auto v = validation::read_verdict(file);
  EXPECT_GE(compared(v, "inet_diag", "bracket"), 20u);
  EXPECT_THAT(v.quirks, Contains(HasSubstr("ss prints no 0")));
  EXPECT_EQ(run({"compare", "--iperf3", data / "iperf3.json", "--ss", data / "iperf3.json"}), 1);
  EXPECT_THAT(complaint(), HasSubstr("iperf3.json line 1"));
  EXPECT_EQ(run({"compare", "--iperf3", data / "iperf3.json", "--ss", data / "missing"}), 1);
  EXPECT_THAT(complaint(), HasSubstr("No such file"));
  // Times of two clocks.
  std::ofstream(directory / "records.jsonl") << tcpinfo::JsonWriter().schema() << "\n";
  EXPECT_EQ(run({"compare", "--iperf3", data / "iperf3.json", "--ss", data / "ss.txt", "--iter",
                 directory / "records.jsonl"}),
            2);
  EXPECT_THAT(complaint(), HasSubstr("of another clock"));
}

TEST_F(Validate, InterruptStillWritesWhatWasGathered) {
  auto process = start({"run", "--out", out, "--duration", "60s"});
  for (int i = 0; i < 1000 && complaint().find(" s of 60 s") == std::string::npos; ++i)
    std::this_thread::sleep_for(10ms);
  process.signal(SIGINT);
  const auto status = process.wait(10s);
  ASSERT_TRUE(status);
  EXPECT_TRUE(WIFEXITED(*status));
  EXPECT_EQ(WEXITSTATUS(*status), 1);
  const auto v = verdict();
  EXPECT_THAT(v.failures, Contains("the run was interrupted"));
  expect_compared(v);
  EXPECT_GT(tcpinfo::read_json_lines(results() / "sockops.jsonl").size(), 50u);
}

TEST_F(Validate, SeveralScenariosSeveralTimesSeveralAtOnce) {
  EXPECT_EQ(run({"run", "--out", out, "--duration", "1s", "--scenario", "bulk-ipv4", "--scenario", "loss-1percent",
                 "--repeat", "2", "--jobs", "2", "--seed", "5"}),
            0)
      << printed() << complaint();
  const auto suite = validation::read_suite(out / "suite.json");
  std::vector<std::string> names;
  for (const auto& one : suite.runs) {
    names.push_back(one.name);
    EXPECT_EQ(one.outcome, "passed") << one.reason;
    EXPECT_GT(one.compared, 1000u);
    const auto v = validation::read_verdict(out / one.directory / "verdict.json");
    EXPECT_EQ(v.scenario, one.scenario);
    std::uint64_t compared = 0;
    for (const auto& comparison : v.comparisons) compared += comparison.compared;
    EXPECT_EQ(one.compared, compared);
  }
  EXPECT_THAT(names, testing::ElementsAre("bulk-ipv4", "bulk-ipv4.2", "loss-1percent", "loss-1percent.2"));
  EXPECT_THAT(suite.runs[3].command, HasSubstr("--scenario loss-1percent --duration 1s"));
  EXPECT_THAT(suite.runs[3].command, HasSubstr("--seed 6"));
  EXPECT_THAT(contents(out / "junit.xml"), HasSubstr("tests=\"4\" failures=\"0\""));
  EXPECT_THAT(printed(), HasSubstr("PASSED: 4 passed;"));

  // What a run leaves makes the same run again.
  const auto file = out / "loss-1percent" / "scenario.toml";
  const auto before = contents(file);
  EXPECT_EQ(run({"run", "--out", directory / "again", "--scenario", file}), 0) << printed() << complaint();
  EXPECT_EQ(contents(directory / "again" / "scenario" / "scenario.toml"), before);
}

TEST_F(Validate, AnInterruptedSuiteIsResumed) {
  const std::vector<std::string> arguments{"run",        "--out",     out,          "--duration",       "1s",
                                           "--scenario", "bulk-ipv4", "--scenario", "application-limited"};
  auto process = start(arguments);
  const auto ended = [&](std::size_t i) {
    try {
      const auto suite = validation::read_suite(out / "suite.json");
      return suite.runs.at(i).outcome;
    } catch (const std::exception&) {
      return std::string();
    }
  };
  for (int i = 0; i < 2000 && ended(0) != "passed"; ++i) std::this_thread::sleep_for(10ms);
  process.signal(SIGINT);
  const auto status = process.wait(10s);
  ASSERT_TRUE(status && WIFEXITED(*status));
  EXPECT_EQ(WEXITSTATUS(*status), 1);
  // The first by its name, as the scenarios are sorted.
  ASSERT_EQ(validation::read_suite(out / "suite.json").runs.at(0).name, "application-limited");
  ASSERT_NE(ended(1), "passed");
  const auto written = fs::last_write_time(out / "application-limited" / "verdict.json");

  auto again = arguments;
  again.emplace_back("--resume");
  EXPECT_EQ(run(again), 0) << printed() << complaint();
  EXPECT_THAT(complaint(), HasSubstr("1 of 2 runs"));
  EXPECT_EQ(ended(0), "passed");
  EXPECT_EQ(ended(1), "passed");
  EXPECT_EQ(fs::last_write_time(out / "application-limited" / "verdict.json"), written);
}

TEST_F(Validate, OtherRunsInTheSameDirectoryAreKeptOrRefused) {
  EXPECT_EQ(run({"run", "--out", out, "--duration", "1s"}), 0) << printed() << complaint();
  const std::vector<std::string> other{"run", "--out", out, "--duration", "1s", "--scenario", "bulk-ipv6"};
  EXPECT_EQ(run(other), 2);
  EXPECT_THAT(complaint(), HasSubstr("it has other runs, as bulk-ipv4"));
  auto resumed = other;
  resumed.emplace_back("--resume");
  EXPECT_EQ(run(resumed), 0) << printed() << complaint();
  EXPECT_EQ(validation::read_suite(out / "suite.json").runs.size(), 2u);
  // What was run with other parameters is run again.
  resumed[4] = "2s";
  EXPECT_EQ(run(resumed), 0) << printed() << complaint();
  EXPECT_THAT(complaint(), HasSubstr("0 of 1 runs"));
  EXPECT_THAT(contents(out / "bulk-ipv6" / "scenario.toml"), HasSubstr("'2s'"));
}

TEST_F(Validate, ASignalledStudyLeavesNothing) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    auto process = start({"study", "--out", out, "--duration", "30s"});
    const auto netns = fmt::format("/run/netns/tcpinfo-study-a-{}-0", process.pid());
    for (int i = 0; i < 1000 && !fs::exists(netns); ++i) std::this_thread::sleep_for(10ms);
    EXPECT_TRUE(fs::exists(netns));
    std::this_thread::sleep_for(500ms);
    process.signal(signal);
    const auto status = process.wait(20s);
    ASSERT_TRUE(status && WIFEXITED(*status)) << signal;
    EXPECT_EQ(WEXITSTATUS(*status), 1);
    EXPECT_FALSE(fs::exists(out / "study.json"));
    EXPECT_THAT(left_behind(), IsEmpty()) << signal;
  }
}

TEST_F(Validate, SettingsAreForWhatIsChosen) {
  EXPECT_EQ(run({"list", "--scenario", "bulk-ipv4", "--set", "link.rate=0"}), 0) << complaint();
  EXPECT_THAT(printed(), HasSubstr("unlimited"));
  EXPECT_EQ(run({"study", "--out", out, "--set", "iperf3.parallel=4"}), 2);
  EXPECT_EQ(run({"study", "--out", out, "--duration", "0s"}), 2);
}

TEST_F(Validate, AKilledIperf3IsBlamedAndNoField) {
  auto process = start({"run", "--out", out, "--duration", "60s"});
  for (int i = 0; i < 1000 && complaint().find(" s of 60 s") == std::string::npos; ++i)
    std::this_thread::sleep_for(10ms);
  int killed = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    if (contents(entry.path() / "environ").find(mark) == std::string::npos) continue;
    const auto command = contents(entry.path() / "cmdline");
    if (!command.starts_with("iperf3") || command.find("-c") == std::string::npos) continue;
    kill(std::stoi(entry.path().filename()), SIGKILL);
    ++killed;
  }
  ASSERT_EQ(killed, 1);
  const auto status = process.wait(30s);
  ASSERT_TRUE(status && WIFEXITED(*status));
  EXPECT_EQ(WEXITSTATUS(*status), 1);
  const auto v = verdict();
  EXPECT_THAT(v.failures, Contains(HasSubstr("iperf3's client was killed by signal 9")));
  for (const auto& failure : v.failures) EXPECT_THAT(failure, testing::Not(HasSubstr("disagree")));
  for (const auto& comparison : v.comparisons) EXPECT_TRUE(comparison.passed) << comparison.field;
  EXPECT_GT(tcpinfo::read_json_lines(results() / "sockops.jsonl").size(), 10u) << "the evidence stays";
  EXPECT_THAT(printed() + complaint(), HasSubstr("killed"));
}

TEST_F(Validate, KeepsTheNamespacesUntilTold) {
  auto process = start({"run", "--out", out, "--duration", "1s", "--keep"});
  for (int i = 0; i < 2000 && complaint().find("Everything is kept") == std::string::npos; ++i)
    std::this_thread::sleep_for(10ms);
  const auto text = complaint();
  const auto at = text.find("tcpinfo-client-");
  ASSERT_NE(at, std::string::npos) << text;
  const auto netns = text.substr(at, text.find(',', at) - at);
  EXPECT_TRUE(fs::exists(fs::path("/run/netns") / netns)) << netns;
  EXPECT_NO_THROW(lab::run_command({"ip", "-n", netns, "link", "show", "veth0"}));
  process.signal(SIGTERM);
  ASSERT_TRUE(process.wait(10s));
  EXPECT_FALSE(fs::exists(fs::path("/run/netns") / netns));
  EXPECT_TRUE(verdict().passed());
}

TEST_F(Validate, AMachineTooSlowForTheRateIsNoWrongField) {
  EXPECT_EQ(run({"run", "--out", out, "--duration", "2s", "--set", "link.rate=100Gbit/s", "--set", "link.delay=100us"}), 0)
      << printed() << complaint();
  EXPECT_THAT(verdict().remarks, Contains(HasSubstr("at most, of 100000 asked for"))) << printed();
}

TEST_F(Validate, FullDiskIsOneErrorAndLeavesNothing) {
  fs::create_directory(out);
  ASSERT_EQ(mount("tmpfs", out.c_str(), "tmpfs", 0, "size=64k"), 0);
  EXPECT_EQ(run({"run", "--out", out, "--duration", "1s"}), 1);
  EXPECT_THAT(complaint(), HasSubstr("No space left on device"));
  const auto text = complaint();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  EXPECT_FALSE(fs::exists(out / "bulk-ipv4")) << "half a result is none";
}

TEST_F(Validate, SaysWhatIsMissing) {
  EXPECT_EQ(run({"run", "--out", out}, {"PATH=/nonexistent"}), 77);
  EXPECT_THAT(complaint(), HasSubstr("apt-get install iperf3"));
  EXPECT_EQ(run({"run", "--out", out}, {"setpriv", "--reuid", "65534", "--clear-groups"}), 77);
  EXPECT_THAT(complaint(), HasSubstr("root"));
  EXPECT_FALSE(fs::exists(out));
  EXPECT_EQ(run({"run", "--out", out, "--set", "iperf3.congestion=nonesuch"}), 77);
  EXPECT_THAT(complaint(), HasSubstr("nonesuch"));
  EXPECT_EQ(run({"run", "--out", out, "--set", "sysctl.client.net.ipv4.tcp_nonesuch=1"}), 77);
  EXPECT_THAT(complaint(), HasSubstr("no sysctl net.ipv4.tcp_nonesuch"));
  // Whatever the kernel has: this engine can do nothing.
  EXPECT_EQ(run({"run", "--out", out, "--set", "link.engine=veth", "--set", "link.delay=1ms"}), 77);
  EXPECT_THAT(complaint(), HasSubstr("emulator, or best"));
}

TEST_F(Validate, WrongUsageIsTwo) {
  EXPECT_EQ(run({}), 2);
  EXPECT_EQ(run({"run"}), 2);
  EXPECT_EQ(run({"run", "--out", out, "--set", "iperf3.family=ipx"}), 2);
  EXPECT_THAT(complaint(), HasSubstr("one of ipv4 ipv6 mapped"));
  EXPECT_EQ(run({"run", "--out", out, "--set", "sources.interval"}), 2);
  EXPECT_EQ(run({"run", "--out", out, "--scenario", "nonesuch"}), 2);
  EXPECT_THAT(complaint(), HasSubstr("tcpinfo-validate list"));
  std::ofstream(directory / "wrong.toml") << "description = \"x\"\n[link]\ndelay = \"20\"\n";
  EXPECT_EQ(run({"run", "--out", out, "--scenario", directory / "wrong.toml"}), 2);
  EXPECT_THAT(complaint(), HasSubstr("wrong.toml line 3: link.delay = 20"));
  EXPECT_FALSE(fs::exists(out));
  EXPECT_EQ(run({"compare", "--iperf3", "/dev/null"}), 2);
  EXPECT_EQ(run({"compare", "--sockops", "/dev/null"}), 2);
  EXPECT_EQ(run({"compare", directory}), 1);
  EXPECT_THAT(complaint(), HasSubstr("iperf3.json"));
  EXPECT_EQ(run({"--help"}), 0);
  EXPECT_THAT(printed(), HasSubstr("Examples"));
}

TEST_F(Validate, AnUnusableDirectoryIsOneError) {
  std::ofstream(directory / "file") << "x";
  EXPECT_EQ(run({"run", "--out", directory / "file"}), 1);
  EXPECT_THAT(complaint(), HasSubstr((directory / "file").string()));
}

}  // namespace
