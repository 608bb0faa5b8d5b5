// SPDX-License-Identifier: BSD-2-Clause
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <fmt/ostream.h>
#include <rapidjson/document.h>

#include <tcpinfo/error.hpp>
#include <tcpinfo/inet_diag.hpp>
#include <tcpinfo/record.hpp>
#include <tcpinfo/source.hpp>

#include "endurance.hpp"
#include "growth.hpp"
#include "lab/connections.hpp"
#include "lab/lab.hpp"
#include "observed.hpp"
#include "usage.hpp"

namespace endurance {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using tcpinfo::Statistics;

constexpr std::uint16_t kPort = 7000;

/// Whoever reads the output: counts the lines that are alike but for the cookie, and remembers, as the first lines of
/// what it prints, which connections were opened and not closed.
constexpr const char* kReader = R"(awk '
  { at = index($0, ",\"cookie\":"); n[at ? substr($0, 1, at - 1) "}" : $0]++; cookie = substr($0, at) }
  /^[{]"event":"open"/ { open[cookie] }
  /^[{]"event":"close"/ { delete open[cookie] }
  END {
    for (cookie in open) print "1 {\"event\":\"unclosed\"" cookie
    for (line in n) print n[line], line
  }')";

/// What the reader counted: lines "number record".
struct Counted {
  tcpinfo::EventCounts records{}, told{};
  std::uint64_t unclosed = 0;

  explicit Counted(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::string line;
    for (std::uint64_t number = 0; file >> number && std::getline(file, line);) {
      rapidjson::Document record;
      record.Parse(line.c_str());
      if (record.HasParseError() || !record.IsObject()) fail("read " + path.string() + ": " + line);
      if (!record.HasMember("event")) continue;  // the schema
      if (record["event"] == "unclosed") {
        ++unclosed;
        continue;
      }
      const auto event = event_of(record["event"]);
      records[event] += number;
      if (event == TCPINFO_EVENT_GAP && record["lost_records"].IsUint64())
        told[event_of(record["lost_event"])] += number * record["lost_records"].GetUint64();
    }
  }

 private:
  static std::size_t event_of(const rapidjson::Value& name) {
    for (std::size_t event = 1; name.IsString() && event < tcpinfo::kEventCount; ++event)
      if (name.GetString() == tcpinfo::name(static_cast<tcpinfo::Event>(event))) return event;
    return 0;
  }
};

/// Sockets of the load that have not reached CLOSE once it is over, and their states: waits until there are none, for
/// as long as TCP may repeat a FIN that got lost.
std::vector<std::string> find_open(const lab::Netns& netns) {
  const std::string action = "look for open connections of " + netns.name();
  std::vector<std::string> open;
  netns.run([&] {
    for (const auto end = steady_clock::now() + 120s; steady_clock::now() < end; std::this_thread::sleep_for(100ms)) {
      tcpinfo::InetDiagSource sockets({});
      open.clear();
      if (const auto error = sockets.tick(steady_clock::now())) throw tcpinfo::Error(error, action, "");
      while (sockets.statistics().dumps == 0) {
        const auto drained = sockets.drain([&](const tcpinfo::Record& record) {
          open.push_back(
              fmt::format("{} in {}", record.cookie().value_or(0), tcpinfo::state_name(record.state().value_or(0))));
        });
        if (drained.error) throw tcpinfo::Error(drained.error, action, "");
      }
      if (open.empty() && sockets.statistics().dumps_interrupted == 0) return;
    }
  });
  return open;
}

}  // namespace

bool soak(const SoakOptions& options) {
  const lab::Netns netns("endure-soak");
  const lab::Cgroup cgroup("endure-soak");
  lab::Connections connections(netns);
  Tcpinfo run(options.tcpinfo, options.out / "soak", cgroup,
              {"watch", "--mode", options.mode, "--fields", "event,lost_records,lost_event,cookie"},
              Tcpinfo::Start::kAttached, kReader);

  std::ofstream csv(options.out / "soak.csv");
  fmt::print(csv, "seconds,connections,resident_bytes,descriptors,map_bytes,programs,maps,links\n");
  Growth growth;
  std::uint64_t made = 0;
  {
    const lab::InCgroup inside(cgroup);
    const auto listener = connections.listen(kPort);
    const auto begin = steady_clock::now(), end = begin + options.duration;
    auto next_reading = begin + 1s;
    netns.run([&] {
      for (auto now = begin; now < end; now = steady_clock::now()) {
        const auto due = static_cast<std::uint64_t>(std::chrono::duration<double>(now - begin).count() * options.rate);
        if (made < due) {
          connections.one(listener.get(), kPort);
          ++made;
        } else {
          std::this_thread::sleep_for(1ms);
        }
        if (now < next_reading) continue;
        next_reading += 1s;
        const auto usage = usage_of(run.pid());
        const auto seconds = std::chrono::duration<double>(now - begin).count();
        fmt::print(csv, "{:.1f},{},{},{},{},{},{},{}\n", seconds, made, usage.resident_bytes, usage.descriptors,
                   usage.map_bytes, usage.objects.programs.size(), usage.objects.maps.size(),
                   usage.objects.links.size());
        csv.flush();
        growth.add(usage);
        fmt::print(stderr, "\r{:.0f} of {} s, {} connections, {} KiB, {} descriptors ", seconds,
                   options.duration.count(), made, usage.resident_bytes / 1024, usage.descriptors);
      }
    });
    fmt::print(stderr, "\n");
  }
  const auto open = find_open(netns);
  std::this_thread::sleep_for(100ms);  // the record of the last one
  run.end(SIGINT);

  // Three who know: the load, the kernel's counters, and who read the output.
  const Books books(run.stats());
  const Counted counted(run.records());
  bool is_exact = open.empty() && run.exit_code() == 0 && books.balance() && counted.records == books.delivered &&
                  counted.told == books.lost;
  for (const auto event : {TCPINFO_EVENT_OPEN, TCPINFO_EVENT_CLOSE})
    if (event == TCPINFO_EVENT_CLOSE || options.mode != "close")
      is_exact &= counted.records[event] + counted.told[event] == 2 * made && books.emitted[event] == 2 * made;
  const auto seconds = static_cast<double>(options.duration.count());
  const bool is_enough = static_cast<double>(made) >= 0.95 * options.rate * seconds;
  const auto verdict = growth.verdict();
  // Else those whose close record was lost are among them.
  const bool loses_life = books.lost[TCPINFO_EVENT_OPEN] + books.lost[TCPINFO_EVENT_CLOSE] > 0;
  const auto text = fmt::format(
      "{} connections in {} s, {:.0f} a second{}\n"
      "{} records emitted by the kernel, {} read from the output, {} lost ({}), of which {} are told by gap records{}\n"
      "of {} ends {} open and {} close records were read{}\n{}",
      made, options.duration.count(), static_cast<double>(made) / seconds,
      is_enough ? "" : fmt::format("  FEWER THAN THE {} ASKED FOR", options.rate), Statistics::sum(books.emitted),
      Statistics::sum(counted.records), Statistics::sum(books.lost), by_event(books.lost),
      Statistics::sum(counted.told), is_exact ? "" : "  NOT EXACT", 2 * made, counted.records[TCPINFO_EVENT_OPEN],
      counted.records[TCPINFO_EVENT_CLOSE],
      (open.empty() ? "" : fmt::format("; never reached CLOSE: {}", fmt::join(open, ", "))) +
          (counted.unclosed == 0 || loses_life
               ? ""
               : fmt::format("; {} that were opened have no close record", counted.unclosed)),
      verdict.text);
  std::ofstream(options.out / "soak.txt") << text;
  fmt::print("{}", text);
  return is_exact && is_enough && verdict.is_flat;
}

}  // namespace endurance
