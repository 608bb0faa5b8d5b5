// SPDX-License-Identifier: BSD-2-Clause
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/inet_diag.hpp>

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
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(("/proc/" + std::to_string(pid) + "/fd").c_str()),
                                                      closedir);
  if (!directory) return errno == ENOENT || errno == ESRCH;
  while (const dirent* entry = readdir(directory.get())) {
    if (entry->d_name[0] == '.') continue;
    if (++descriptors > kMostDescriptors) return false;
    constexpr std::string_view kSocket = "socket:[";
    char text[64];
    const auto length = ::readlinkat(dirfd(directory.get()), entry->d_name, text, sizeof(text));
    if (length < 0 && errno == EACCES) return false;
    const std::string_view target(text, length > 0 ? static_cast<std::size_t>(length) : 0);
    std::uint64_t inode = 0;
    if (!target.starts_with(kSocket)) continue;
    std::from_chars(target.data() + kSocket.size(), target.data() + target.size(), inode);
    auto& pids = holders[inode];
    if (pids.empty() || pids.back() != pid) pids.push_back(pid);
  }
  return true;
}

void visit_cgroups(const fs::path& path, std::map<std::uint64_t, fs::path>& found) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
  if (!directory) return;
  found.emplace(inode_of(path), path);
  while (const dirent* entry = readdir(directory.get()))
    if (const std::string_view name = entry->d_name; entry->d_type == DT_DIR && name != "." && name != "..")
      visit_cgroups(path / name, found);
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

  std::map<std::uint64_t, fs::path> own;
  visit_cgroups(cgroup, own);
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

  std::map<std::uint64_t, fs::path> all;
  visit_cgroups(cgroup2_mount(), all);
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
