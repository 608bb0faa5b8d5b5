// SPDX-License-Identifier: BSD-2-Clause
#include "usage.hpp"

#include <bpf/bpf.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

namespace endurance {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(int error, std::string action, std::string way_out = {}) {
  throw tcpinfo::Error({error, std::system_category()}, std::move(action), std::move(way_out));
}

std::uint64_t count(int (*next)(__u32, __u32*)) {
  std::uint64_t found = 0;
  for (__u32 id = 0; next(id, &id) == 0; ++found) {
  }
  if (errno != ENOENT) fail(errno, "count what the host has of eBPF", "needs CAP_SYS_ADMIN");
  return found;
}

/// The number behind `key` in a file of lines "key: number ...".
std::uint64_t number_in(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key + ":")) return std::stoull(line.substr(key.size() + 1));
  return 0;
}

}  // namespace

Usage usage_of(pid_t pid) {
  const fs::path process = fmt::format("/proc/{}", pid);
  Usage usage;
  usage.resident_bytes = number_in(process / "status", "RssAnon") * 1024;
  std::set<std::uint64_t> maps;  // several descriptors may be of one map
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(process / "fdinfo", error)) {
    ++usage.descriptors;
    const auto id = number_in(entry.path(), "map_id");
    if (id != 0 && maps.insert(id).second) usage.map_bytes += number_in(entry.path(), "memlock");
  }
  if (error) fail(error.value(), fmt::format("look at the descriptors of process {}", pid));
  usage.programs = count(bpf_prog_get_next_id);
  usage.maps = count(bpf_map_get_next_id);
  usage.links = count(bpf_link_get_next_id);
  return usage;
}

}  // namespace endurance
