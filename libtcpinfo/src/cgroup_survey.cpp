// SPDX-License-Identifier: BSD-2-Clause
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>
#include <string>
#include <system_error>
#include <unordered_map>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/inet_diag.hpp>

#include "walks.hpp"

namespace tcpinfo {
namespace {

namespace fs = std::filesystem;

// Of all processes together; beyond it a look takes longer than a start should.
constexpr std::size_t kMostDescriptors = 200'000;

using Holders = std::unordered_map<std::uint64_t, std::vector<pid_t>>;  // by the socket's inode

struct Namespace {
  fs::path path;  // empty: our own
  Holders holders;
  std::size_t processes = 0;
};

ino_t inode_of(const fs::path& path) noexcept {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

// Whether all its descriptors could be looked at.
bool add_sockets(pid_t pid, Holders& holders, std::size_t& descriptors) {
  const int error = walk_sockets("/proc/" + std::to_string(pid) + "/fd", [&](std::uint64_t inode) {
    if (++descriptors > kMostDescriptors) return false;
    if (inode == 0) return true;
    auto& pids = holders[inode];
    if (pids.empty() || pids.back() != pid) pids.push_back(pid);
    return true;
  });
  return descriptors <= kMostDescriptors && (error == 0 || error == ENOENT || error == ESRCH);
}

std::map<std::uint64_t, fs::path> cgroups_below(const fs::path& root) {
  std::map<std::uint64_t, fs::path> found;
  walk_cgroups(root, [&](const std::string& path, std::uint64_t id) { return found.emplace(id, path), true; });
  return found;
}

// Every TCP socket of the namespace that belongs to a cgroup. False: it cannot be entered, or the kernel does not say.
template <class Sink>
bool read_sockets(const fs::path& netns, Sink&& sink) try {
  InetDiagOptions options;
  options.netns = netns;
  options.states = kAllStates & ~kTimeWaitState;
  InetDiagSource source(options);
  if (source.tick(Source::Clock::now())) return false;
  while (source.statistics().dumps == 0)
    if (source.drain(sink).error) return false;
  return true;
} catch (const std::system_error&) {
  return false;
}

}  // namespace

CgroupSurvey survey_cgroup(const fs::path& cgroup, std::size_t most_processes) {
  cgroup_id(cgroup);
  CgroupSurvey survey;
  auto processes = cgroup_processes(cgroup);
  survey.processes = processes.size();
  if (processes.size() > most_processes) {
    survey.not_examined = processes.size() - most_processes;
    processes.resize(most_processes);
  }

  const auto own = cgroups_below(cgroup);
  std::map<ino_t, Namespace> namespaces;
  const auto here = inode_of("/proc/thread-self/ns/net");
  std::size_t descriptors = 0;
  for (const auto pid : processes) {
    const fs::path path = "/proc/" + std::to_string(pid) + "/ns/net";
    const auto inode = inode_of(path);
    // One that has ended meanwhile holds nothing.
    if (inode == 0 && errno == ENOENT) continue;
    auto& there = namespaces[inode];
    if (inode != here && there.path.empty()) there.path = path;
    if (inode != 0 && add_sockets(pid, there.holders, descriptors))
      ++there.processes;
    else
      ++survey.not_examined;
  }

  std::map<std::uint64_t, CgroupSurvey::Elsewhere> elsewhere;
  std::map<std::uint64_t, std::set<pid_t>> holders;
  for (const auto& [inode, there] : namespaces) {
    if (inode == 0 || there.processes == 0) continue;
    const auto& inodes = there.holders;
    const bool is_read = read_sockets(there.path, [&](const Record& record) {
      const auto id = record.cgroup_id();
      if (!id) return;
      if (own.contains(*id)) {
        ++survey.sockets;
        return;
      }
      const auto held = inodes.find(record.inode().value_or(0));
      if (held == inodes.end()) return;
      auto& counts = elsewhere[*id];
      ++counts.sockets;
      if (record.state() && kListenState >> *record.state() & 1) ++counts.listeners;
      holders[*id].insert(held->second.begin(), held->second.end());
    });
    if (!is_read) survey.not_examined += there.processes;
  }
  if (elsewhere.empty()) return survey;

  const auto all = cgroups_below(cgroup2_mount());
  for (auto& [id, counts] : elsewhere) {
    counts.cgroup_id = id;
    counts.processes = holders[id].size();
    if (const auto place = all.find(id); place != all.end()) counts.cgroup = place->second;
    survey.elsewhere.push_back(std::move(counts));
  }
  std::ranges::stable_sort(survey.elsewhere, std::ranges::greater{}, &CgroupSurvey::Elsewhere::sockets);
  return survey;
}

}  // namespace tcpinfo
