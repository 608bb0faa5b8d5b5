// SPDX-License-Identifier: BSD-2-Clause
#include "machine.hpp"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <ctime>
#include <exception>
#include <fstream>
#include <sstream>
#include <system_error>

#include <fmt/format.h>

#include "lab/fd.hpp"
#include "lab/lab.hpp"

namespace bench {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

double ticks(double count) {
  static const auto a_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  return count / a_second;
}

// Of all kernel threads: ksoftirqd and kworkers do what we, mostly, have caused.
double kernel_threads() {
  double sum = 0;
  std::error_code none;
  for (auto entry = fs::directory_iterator("/proc", none); entry != fs::directory_iterator(); entry.increment(none)) {
    if (!std::isdigit(static_cast<unsigned char>(entry->path().filename().string().front()))) continue;
    const auto line = first_line(entry->path() / "stat");
    // proc(5): the name, in parentheses, may hold anything; the parent is the 4th column, utime and stime are the 14th
    // and 15th.
    const auto name_end = line.rfind(')');
    if (name_end == std::string::npos) continue;
    std::istringstream columns(line.substr(name_end + 1));
    std::string skipped;
    int parent = 0;
    columns >> skipped >> parent;
    if (parent != 2) continue;
    for (int column = 5; column < 14; ++column) columns >> skipped;
    double user = 0, system = 0;
    columns >> user >> system;
    sum += ticks(user + system);
  }
  return sum;
}

}  // namespace

Machine machine() {
  Machine result;
  utsname name{};
  if (uname(&name) == 0) {
    result.kernel = fmt::format("{} {}", name.release, name.version);
    result.architecture = name.machine;
  }
  std::ifstream cpus("/proc/cpuinfo");
  for (std::string line; std::getline(cpus, line);)
    if (const auto colon = line.find(": "); line.starts_with("model name") && colon != std::string::npos) {
      result.cpu_model = line.substr(colon + 2);
      break;
    }
  result.cores = static_cast<unsigned>(std::max(sysconf(_SC_NPROCESSORS_ONLN), 0L));
  result.memory_bytes = static_cast<std::uint64_t>(std::max(sysconf(_SC_PHYS_PAGES), 0L)) *
                        static_cast<std::uint64_t>(std::max(sysconf(_SC_PAGESIZE), 0L));
  // The coarse clock moves by a tick.
  if (timespec tick{}; clock_getres(CLOCK_MONOTONIC_COARSE, &tick) == 0 && tick.tv_nsec > 0)
    result.hz = static_cast<unsigned>((1'000'000'000 + tick.tv_nsec / 2) / tick.tv_nsec);
  result.clock_source = first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  return result;
}

std::string git_revision(const fs::path& directory) try {
  const lab::Fd output(memfd_create("revision", MFD_CLOEXEC));
  lab::SpawnOptions options;
  options.command = {"git", "-C", directory.string(), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"};
  options.stdout_file = fmt::format("/proc/self/fd/{}", output.get());
  lab::Process git(options);
  if (git.wait(std::chrono::seconds(10)) != 0) return {};
  std::string text(100, '\0');
  const auto size = ::pread(output.get(), text.data(), text.size(), 0);
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return text.substr(0, text.find('\n'));
} catch (const std::exception&) {  // no git here
  return {};
}

LoadMeter::LoadMeter() : start_(now()) {}

LoadMeter::Times LoadMeter::now() {
  Times times;
  times.elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  // proc(5): user nice system idle iowait irq softirq steal
  std::istringstream columns(first_line("/proc/stat"));
  std::string cpu;
  double user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
  columns >> cpu >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal;
  times.busy = ticks(user + nice + system + irq + softirq);
  times.steal = ticks(steal);
  for (const int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage{};
    if (getrusage(who, &usage) == 0) times.ours += seconds(usage.ru_utime) + seconds(usage.ru_stime);
  }
  times.ours += kernel_threads();
  return times;
}

Load LoadMeter::read() const {
  const auto end = now();
  Load load;
  std::istringstream(first_line("/proc/loadavg")) >> load.loadavg;
  if (const double elapsed = end.elapsed - start_.elapsed; elapsed > 0) {
    load.foreign_cores = std::max((end.busy - start_.busy - (end.ours - start_.ours)) / elapsed, 0.0);
    load.steal =
        (end.steal - start_.steal) / elapsed / static_cast<double>(std::max(sysconf(_SC_NPROCESSORS_ONLN), 1L));
  }
  return load;
}

}  // namespace bench
