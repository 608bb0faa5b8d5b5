// SPDX-License-Identifier: BSD-2-Clause
#include "cost.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "units.hpp"

namespace cli {
namespace {

using tcpinfo::Statistics;

std::chrono::microseconds duration(const timeval& value) {
  return std::chrono::seconds(value.tv_sec) + std::chrono::microseconds(value.tv_usec);
}

ProcessUse own_use() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  std::uint64_t size = 0, resident = 0;  // pages
  std::ifstream("/proc/self/statm") >> size >> resident;
  return {.user = duration(use.ru_utime),
          .system = duration(use.ru_stime),
          .wakeups = static_cast<std::uint64_t>(use.ru_nvcsw),
          .resident_bytes = resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE))};
}

double seconds(std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); }

// Of one core, with the digits that tell something.
std::string percent(double share) {
  const double value = share * 100;
  if (value > 0 && value < 0.0005) return "<0.001%";
  return fmt::format("{:.{}f}%", value, value < 0.9995 ? 3 : value < 9.995 ? 2 : 1);
}

// The source of every program is said around it.
std::string_view short_name(std::string_view program) {
  constexpr std::string_view kPrefix = "tcpinfo_";
  return program.starts_with(kPrefix) ? program.substr(kPrefix.size()) : program;
}

struct ProgramUse {
  const tcpinfo::ProgramCost& program;
  std::uint64_t runs;
  double per_second;
  double run_ns;  // a run
  double share;   // of one core
};

std::string run_time(const ProgramUse& use) { return use.runs ? human_nanoseconds(use.run_ns) : "-"; }

// What was used between two readings.
class Use {
 public:
  Use(const CostReading& from, const CostReading& to)
      : from_(from), to_(to), seconds_(cli::seconds(to.time - from.time)) {
    for (std::size_t i = 0; i < to.kernel.programs.size(); ++i) {
      const auto& program = to.kernel.programs[i];
      const auto runs = program.runs - from.kernel.programs[i].runs;
      const auto time = static_cast<double>(program.run_time_ns - from.kernel.programs[i].run_time_ns);
      programs.push_back(
          {program, runs, per_second(runs), runs ? time / static_cast<double>(runs) : 0, ratio(time / 1e9)});
    }
    for (const auto& map : to.kernel.maps) map_bytes += map.bytes;
  }

  double length() const { return seconds_; }
  double per_second(std::uint64_t count) const { return ratio(static_cast<double>(count)); }
  double user() const { return ratio(cli::seconds(to_.process.user - from_.process.user)); }
  double system() const { return ratio(cli::seconds(to_.process.system - from_.process.system)); }
  double wakeups() const { return per_second(to_.process.wakeups - from_.process.wakeups); }
  std::uint64_t records() const { return to_.records - from_.records; }
  std::uint64_t lost() const { return to_.lost - from_.lost; }
  double in_all() const {
    double share = user() + system();
    for (const auto& use : programs)
      if (!use.program.in_own_process) share += use.share;
    return share;
  }

  std::vector<ProgramUse> programs;
  std::uint64_t map_bytes = 0;

 private:
  double ratio(double value) const { return seconds_ > 0 ? value / seconds_ : 0; }

  const CostReading& from_;
  const CostReading& to_;
  double seconds_;
};

}  // namespace

CostReading read_cost(const tcpinfo::Source& source) {
  const auto statistics = source.statistics();
  return {.time = std::chrono::steady_clock::now(),
          .kernel = source.cost(),
          .process = own_use(),
          .records = Statistics::sum(statistics.delivered),
          .lost = Statistics::sum(statistics.lost_ring) + Statistics::sum(statistics.lost_sink)};
}

std::string cost_line(const CostReading& from, const CostReading& to) {
  const Use use(from, to);
  std::string text = "tcpinfo: cost:";
  for (const auto& program : use.programs)
    text += fmt::format(" {} {}/s x {} = {};", short_name(program.program.name), human_count(program.per_second),
                        run_time(program), percent(program.share));
  text += fmt::format(" process {}, {} wake-ups/s; {} records/s, {} lost;", percent(use.user() + use.system()),
                      human_count(use.wakeups()), human_count(use.per_second(use.records())), use.lost());
  if (use.map_bytes > 0) text += fmt::format(" {} in the kernel,", human_bytes(use.map_bytes));
  return text + fmt::format(" {} resident", human_bytes(to.process.resident_bytes));
}

std::string cost_table(const CostReading& from, const CostReading& to) {
  const Use use(from, to);
  std::string text = fmt::format("tcpinfo: cost over {:.1f} s, in % of one core\n", use.length());
  if (!use.programs.empty())
    text += fmt::format("  {:<16} {:>12} {:>9} {:>9} {:>9}\n", "program", "runs", "runs/s", "a run", "core");
  for (const auto& program : use.programs)
    text += fmt::format("  {:<16} {:>12} {:>9} {:>9} {:>9}{}\n", program.program.name, program.runs,
                        human_count(program.per_second), run_time(program), percent(program.share),
                        program.program.in_own_process ? "  of it in this process's system time" : "");
  text += fmt::format("  {:<16} {} (user {}, system {}), {} wake-ups/s\n", "this process",
                      percent(use.user() + use.system()), percent(use.user()), percent(use.system()),
                      human_count(use.wakeups()));
  text += fmt::format("  {:<16} {}\n", "in all", percent(use.in_all()));
  text += fmt::format("  {:<16} {} ({}/s), {} lost\n", "records", use.records(),
                      human_count(use.per_second(use.records())), use.lost());
  text += fmt::format("  {:<16} {} resident", "memory", human_bytes(to.process.resident_bytes));
  if (use.map_bytes > 0) text += fmt::format(", {} in the kernel", human_bytes(use.map_bytes));
  for (const auto& map : to.kernel.maps)
    if (map.element_bytes > 0) text += fmt::format(", and {} a connection there", human_bytes(map.element_bytes));
  return text + '\n';
}

}  // namespace cli
