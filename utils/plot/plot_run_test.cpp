// SPDX-License-Identifier: BSD-2-Clause
// Runs tcpinfo-plot on a recorded run of a second. Needs gnuplot, and neither root nor network.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp
#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <vector>

#include <tcpinfo/json.hpp>
#include <tcpinfo/recording.hpp>

#include "gnuplot.hpp"
#include "run.hpp"

namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using testing::UnorderedElementsAre;

struct Outcome {
  int status = -1;
  std::string output;  ///< of both streams
};

Outcome run(const std::string& arguments, const std::string& before = {}) {
  Outcome outcome;
  std::FILE* pipe = ::popen((before + " '" TCPINFO_PLOT "' " + arguments + " 2>&1").c_str(), "re");
  if (!pipe) return outcome;
  std::array<char, 4096> buffer{};
  for (std::size_t n; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    outcome.output.append(buffer.data(), n);
  const int status = ::pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> names(const fs::path& directory) {
  std::vector<std::string> result;
  for (const auto& entry : fs::directory_iterator(directory)) result.push_back(entry.path().filename().string());
  return result;
}

class PlotRun : public testing::Test {
 protected:
  PlotRun() {
    std::string name = (fs::temp_directory_path() / "tcpinfo-plot-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::runtime_error("no temporary directory");
    directory_ = name;
    fs::copy(TCPINFO_PLOT_TESTDATA, directory_ / "short");
  }
  ~PlotRun() override {
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }
  void SetUp() override {
    if (!plot::gnuplot_exists()) GTEST_SKIP() << "gnuplot is missing: apt-get install gnuplot-nox";
  }

  fs::path directory_;
};

TEST_F(PlotRun, DrawsEveryQuantityAndOnePage) {
  const auto one = directory_ / "short";
  const auto outcome = run(one);
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  for (const std::string name : {"throughput", "throughput_received", "rtt", "rttvar", "snd_cwnd", "snd_wnd", "pmtu",
                                 "total_retrans", "bytes_sent", "bytes_received"}) {
    const auto plots = one / "plots";
    const auto png = content(plots / (name + ".png")), svg = content(plots / (name + ".svg")),
               pdf = content(plots / (name + ".pdf"));
    EXPECT_THAT(png, StartsWith("\x89PNG")) << name;
    EXPECT_GT(png.size(), 15000u) << name;
    EXPECT_THAT(svg, HasSubstr("</svg>")) << name;
    EXPECT_THAT(svg, HasSubstr("iperf3")) << name;
    EXPECT_LT(svg.size(), 300000u) << name;
    EXPECT_THAT(pdf, StartsWith("%PDF")) << name;
    EXPECT_NE(pdf.find("%%EOF", pdf.size() - 8), std::string::npos) << name;
  }
  EXPECT_TRUE(fs::exists(one / "plots" / "rtt-differences.pdf"));
  const auto html = content(one / "index.html");
  EXPECT_THAT(html, HasSubstr("</html>"));
  EXPECT_THAT(html, HasSubstr("passed"));
  EXPECT_THAT(html, HasSubstr("Smoothed round-trip time"));
  EXPECT_THAT(html, HasSubstr("<tr><td>getsockopt<td><code>rtt</code><td><code>end.mean_rtt</code>"));
  EXPECT_THAT(html, HasSubstr("id=\"svg-short-rtt\">H4s")) << "gzip in base64";
  for (const auto* elsewhere : {"<img", "<link", "src=", "url(", "http:", "https:"})
    EXPECT_EQ(html.find(elsewhere), std::string::npos) << elsewhere;
  EXPECT_EQ(names(one).size(), 8u) << "nothing else may be left behind";
}

TEST_F(PlotRun, DrawsASuiteWithWhatWasNotRun) {
  std::ofstream(directory_ / "suite.json") << R"({"schema": "tcpinfo-suite", "version": 1, "kernel": "Linux 6.18",
    "command": "tcpinfo-validate run --all", "seed": 7, "seconds": 90.5, "runs": [
      {"name": "bulk#2", "directory": "short", "outcome": "passed", "command": "again bulk", "compared": 1234},
      {"name": "dctcp", "directory": "dctcp", "outcome": "not possible", "reason": "no tcp_dctcp here"}]})";
  const auto outcome = run(directory_.string() + " --out " + (directory_ / "out").string() + " --format pdf");
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  const auto html = content(directory_ / "out" / "index.html");
  EXPECT_THAT(html, HasSubstr("href=\"#bulk%232/rtt\""));
  EXPECT_THAT(html, HasSubstr("no tcp_dctcp here"));
  EXPECT_THAT(html, HasSubstr("1 min 31 s"));
  EXPECT_TRUE(fs::exists(directory_ / "out" / "short" / "plots" / "rtt.pdf"));
  EXPECT_FALSE(fs::exists(directory_ / "out" / "short" / "plots" / "rtt.png"));
  EXPECT_FALSE(fs::exists(directory_ / "short" / "plots")) << "the folder stays as it is";
}

TEST_F(PlotRun, DrawsRecordings) {
  const auto file = (directory_ / "short" / "sockops.jsonl").string(),
             other = (directory_ / "short" / "inet_diag.jsonl").string();
  const auto out = directory_ / "out";
  auto outcome = run("--field rtt,snd_cwnd --format svg --filter 'peer_port == 5201' --out " + out.string() +
                     " eBPF=" + file + " " + other);
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_THAT(names(out), UnorderedElementsAre("rtt.svg", "snd_cwnd.svg"));
  EXPECT_THAT(content(out / "rtt.svg"), AllOf(HasSubstr(">eBPF<"), HasSubstr(">inet_diag<")));
}

TEST_F(PlotRun, DrawsCompressedRecordings) {
  // The picture has the name of the file: the same for both. What it is, its first bytes say.
  const auto file = directory_ / "short" / "sockops.jsonl", out = directory_ / "out";
  const auto drawn = [&](const std::string& name) {
    const auto outcome = run("--field rtt --format svg --out " + (out / name).string() + " " + file.string());
    EXPECT_EQ(outcome.status, 0) << outcome.output;
    return content(out / name / "rtt.svg");
  };
  const auto of_lines = drawn("lines");
  const auto records = tcpinfo::read_json_lines(file);
  {
    tcpinfo::RecordingWriter writer({.path = file, .overwrite = true});
    for (const auto& record : records) ASSERT_FALSE(writer.append(tcpinfo::Record(record)));
    ASSERT_FALSE(writer.close());
  }
  EXPECT_THAT(of_lines, HasSubstr("</svg>"));
  EXPECT_EQ(drawn("compressed"), of_lines);
}

TEST_F(PlotRun, SaysWhereARecordingIsCutOff) {
  const auto file = directory_ / "short" / "sockops.jsonl";
  fs::resize_file(file, fs::file_size(file) - 20);
  const auto outcome = run("--field rtt --format png --out " + (directory_ / "out").string() + " " + file.string());
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("sockops.jsonl"), HasSubstr("cut off")));
  EXPECT_TRUE(fs::exists(directory_ / "out" / "rtt.png"));
}

TEST_F(PlotRun, RunsOfIperf3ThatFollowEachOtherHaveTheirOwnTimes) {
  const auto one = directory_ / "short";
  const auto alone = plot::read_run(one);
  ASSERT_EQ(alone.streams.size(), 1u);
  // The same once more, 3 s later and from another port, with an alignment of its own that looks sharper.
  for (const auto* name : {"iperf3", "iperf3-server"})
    std::ofstream(one / (std::string(name) + "-2.json"))
        << std::regex_replace(content(one / (std::string(name) + ".json")), std::regex("45918"), "45999");
  auto records = alone.records.at(tcpinfo::SourceId::kSockops);
  std::ofstream file(one / "sockops.jsonl", std::ios::app);
  tcpinfo::JsonWriter writer;
  for (auto& raw : records) {
    raw.time_ns += 3'000'000'000;
    if (raw.local_port == 45918) raw.local_port = 45999;
    if (raw.peer_port == 45918) raw.peer_port = 45999;
    file << writer.line(tcpinfo::Record(raw)) << '\n';
  }
  file.close();
  auto verdict = *alone.verdict;
  auto second = verdict.alignments.front();
  second.start_boot_ns += 3'000'000'000;
  second.uncertainty_ns = 1;
  for (auto& alignment : verdict.alignments) alignment.file += " 1";
  second.file += " 2";
  // The sharpest is the first one, as the validator writes them; the axis begins with the first run all the same.
  verdict.alignments.insert(verdict.alignments.begin(), second);
  std::ofstream(one / "verdict.json") << validation::to_json(verdict);

  const auto both = plot::read_run(one);
  EXPECT_EQ(both.start_boot_ns, alone.start_boot_ns);
  ASSERT_EQ(both.streams.size(), 2u);
  const auto &before = both.streams[0].sender.intervals, &after = both.streams[1].sender.intervals;
  ASSERT_EQ(before.size(), after.size());
  ASSERT_FALSE(before.empty());
  EXPECT_EQ(before.front().end_s, alone.streams[0].sender.intervals.front().end_s);
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(after[i].end_s - before[i].end_s, 3, 1e-6);
}

TEST_F(PlotRun, FilesAndFoldersAreNotMixed) {
  const auto folder = (directory_ / "short").string();
  auto outcome = run(folder + " " + folder + "/sockops.jsonl");
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.output, HasSubstr("is a folder"));
  outcome = run("--rate " + folder);
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.output, HasSubstr("sockops.jsonl"));
}

TEST_F(PlotRun, DrawsASetOnOnePageAndNamesTheRunThatItCannot) {
  fs::copy(directory_ / "short", directory_ / "other");
  fs::create_directory(directory_ / "third");
  fs::resize_file(directory_ / "other" / "iperf3.json", 1000);
  const auto outcome = run(directory_);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.output, HasSubstr("other/iperf3.json"));
  const auto html = content(directory_ / "index.html");
  EXPECT_THAT(html, HasSubstr("href=\"#short\""));
  EXPECT_THAT(html, HasSubstr("not plotted"));
  EXPECT_TRUE(fs::exists(directory_ / "short" / "plots" / "rtt.png"));
  EXPECT_FALSE(fs::exists(directory_ / "other" / "plots"));
}

TEST_F(PlotRun, DrawsAnInterruptedRun) {
  const auto one = directory_ / "short";
  fs::remove(one / "verdict.json");
  const auto outcome = run(one);
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_THAT(outcome.output, HasSubstr("verdict.json"));
  EXPECT_THAT(content(one / "index.html"), HasSubstr("no verdict"));
}

TEST_F(PlotRun, SaysWhichFileIsMissingOrCutOffAndDrawsTheRest) {
  const auto one = directory_ / "short";
  fs::remove(one / "inet_diag.jsonl");
  fs::resize_file(one / "sockops.jsonl", fs::file_size(one / "sockops.jsonl") - 20);
  const auto outcome = run(one);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.output, HasSubstr("short/inet_diag.jsonl"));
  EXPECT_THAT(outcome.output, HasSubstr("short/sockops.jsonl"));
  EXPECT_TRUE(fs::exists(one / "plots" / "rtt.svg"));
}

TEST_F(PlotRun, WritesNothingWhereNothingCanBeDrawn) {
  const auto one = directory_ / "short";
  fs::resize_file(one / "iperf3.json", 500);
  auto outcome = run(one);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.output, HasSubstr("short/iperf3.json"));
  EXPECT_EQ(names(one).size(), 6u);
  fs::remove(one / "iperf3.json");
  outcome = run(one);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.output, HasSubstr("short/iperf3.json"));
  EXPECT_EQ(run(directory_ / "absent").status, 1);
}

TEST_F(PlotRun, NamesOfFoldersAreTextsOnly) {
  const auto odd = directory_ / "`touch ran` \\ <b> {x}";
  fs::rename(directory_ / "short", odd);
  const auto outcome = run("\"$ODD\"", "cd '" + directory_.string() + "'; ODD='" + odd.string() + "'; ");
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  EXPECT_FALSE(fs::exists(directory_ / "ran"));
  EXPECT_THAT(content(odd / "plots" / "rtt.svg"), HasSubstr("`touch ran`"));
}

TEST_F(PlotRun, UsageAndMissingGnuplotHaveTheirExitCodes) {
  EXPECT_EQ(run("").status, 2);
  EXPECT_EQ(run("--help").status, 0);
  const auto outcome = run(directory_ / "short", "PATH=/nonexistent");
  EXPECT_EQ(outcome.status, 77);
  EXPECT_THAT(outcome.output, HasSubstr("apt-get install gnuplot-nox"));
}

}  // namespace
