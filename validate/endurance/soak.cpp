// SPDX-License-Identifier: BSD-2-Clause
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <fmt/ostream.h>
#include <rapidjson/document.h>

#include <tcpinfo/error.hpp>

#include "endurance.hpp"
#include "growth.hpp"
#include "lab/connections.hpp"
#include "lab/files.hpp"
#include "lab/lab.hpp"
#include "usage.hpp"

namespace endurance {
namespace {

using namespace std::chrono_literals;
using lab::read_text;
using std::chrono::steady_clock;

constexpr std::uint16_t kPort = 7000;

[[noreturn]] void fail(const std::string& action, const std::string& way_out) {
  throw tcpinfo::Error(std::make_error_code(std::errc::protocol_error), action, way_out);
}

void wait_until_attached(lab::Process& process, const std::filesystem::path& out, const std::filesystem::path& err) {
  for (const auto end = steady_clock::now() + 30s; steady_clock::now() < end; std::this_thread::sleep_for(10ms)) {
    if (std::filesystem::exists(out) && std::filesystem::file_size(out) > 0) return;  // the header
    if (process.wait(0ms)) break;
  }
  fail("start tcpinfo watch: " + read_text(err), "");
}

}  // namespace

bool soak(const SoakOptions& options) {
  std::filesystem::create_directories(options.out);
  const lab::Netns netns("endure-soak");
  const lab::Cgroup cgroup("endure-soak");
  lab::Connections connections(netns);
  const auto out = options.out / "soak.header", err = options.out / "soak.stderr", stats = options.out / "soak.stats";
  std::filesystem::remove(out);
  // The header tells that it is attached; the records go to /dev/null.
  lab::Process process(
      {.command = {"bash", "-c",
                   R"(exec "$0" watch --cgroup "$1" --mode "$2" --stats "$3" --format csv --fields event \
                                       > >(head -n 1 > "$4"; exec cat > /dev/null))",
                   options.tcpinfo, cgroup.path(), options.mode, stats, out},
       .stderr_file = err});
  wait_until_attached(process, out, err);

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
        const auto usage = usage_of(process.pid());
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
  std::this_thread::sleep_for(1s);  // the last ones reach CLOSE
  process.signal(SIGINT);
  const auto status = process.wait(60s);
  if (!status || !WIFEXITED(*status) || WEXITSTATUS(*status) != 0) fail("end tcpinfo watch: " + read_text(err), "");

  rapidjson::Document json;
  json.Parse(read_text(stats).c_str());
  if (json.HasParseError()) fail("read " + stats.string(), "it is no JSON");
  const auto total = [&](const char* what, const char* event) { return json[what][event].GetUint64(); };
  const auto emitted = total("emitted", "total"), delivered = total("delivered", "total"),
             lost = total("lost", "total");
  const auto closed = total("emitted", "close");
  const bool is_exact = emitted == delivered + lost && closed == 2 * made &&
                        json["lost"]["left"]["total"].GetUint64() == 0;  // which would make it so
  const auto verdict = growth.verdict();
  fmt::print(
      "{} connections in {} s, {:.0f} a second; {} records emitted = {} delivered + {} lost; {} close records emitted "
      "for {} "
      "ends{}\n{}",
      made, options.duration.count(), static_cast<double>(made) / static_cast<double>(options.duration.count()),
      emitted, delivered, lost, closed, 2 * made, is_exact ? "" : "  NOT EXACT", verdict.text);
  std::filesystem::remove(out);
  return is_exact && verdict.is_flat;
}

}  // namespace endurance
