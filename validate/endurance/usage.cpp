// SPDX-License-Identifier: BSD-2-Clause
#include "usage.hpp"

#include <bpf/bpf.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

#include "lab/fd.hpp"

namespace endurance {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using std::chrono::steady_clock;

[[noreturn]] void fail(int error, std::string action, std::string way_out = {}) {
  throw tcpinfo::Error({error, std::system_category()}, std::move(action), std::move(way_out));
}

/// The number behind `key` in a file of lines "key: number ...".
std::uint64_t number_in(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key + ":")) return std::stoull(line.substr(key.size() + 1));
  return 0;
}

bool exists(int (*get)(__u32), std::uint32_t id) {
  const lab::Fd found(get(id));
  if (found.get() < 0 && errno != ENOENT) fail(errno, "look for what the kernel holds of eBPF", "needs CAP_SYS_ADMIN");
  return found.get() >= 0;
}

}  // namespace

void KernelObjects::merge(KernelObjects other) {
  programs.merge(other.programs);
  maps.merge(other.maps);
  links.merge(other.links);
}

void KernelObjects::forget_gone(std::chrono::milliseconds patience) {
  for (const auto end = steady_clock::now() + patience;; std::this_thread::sleep_for(10ms)) {
    std::erase_if(programs, [](auto id) { return !exists(bpf_prog_get_fd_by_id, id); });
    std::erase_if(maps, [](auto id) { return !exists(bpf_map_get_fd_by_id, id); });
    std::erase_if(links, [](auto id) { return !exists(bpf_link_get_fd_by_id, id); });
    if (empty() || steady_clock::now() > end) return;
  }
}

Usage usage_of(pid_t pid) {
  const fs::path process = fmt::format("/proc/{}", pid);
  Usage usage;
  usage.resident_bytes = number_in(process / "status", "RssAnon") * 1024;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(process / "fdinfo", error)) {
    ++usage.descriptors;
    std::uint64_t memlock = 0, map = 0, link = 0, program = 0;
    std::ifstream file(entry.path());
    std::string key;
    for (std::uint64_t value; file >> key; file.ignore(4096, '\n')) {
      if (key == "map_id:" && file >> value) map = value;
      if (key == "link_id:" && file >> value) link = value;
      if (key == "prog_id:" && file >> value) program = value;
      if (key == "memlock:" && file >> value) memlock = value;
    }
    // Several descriptors may be of one map.
    if (map != 0 && usage.objects.maps.insert(static_cast<std::uint32_t>(map)).second) usage.map_bytes += memlock;
    if (link != 0) usage.objects.links.insert(static_cast<std::uint32_t>(link));
    if (program != 0) usage.objects.programs.insert(static_cast<std::uint32_t>(program));  // a link tells its own, too
  }
  if (error) fail(error.value(), fmt::format("look at the descriptors of process {}", pid));
  return usage;
}

}  // namespace endurance
