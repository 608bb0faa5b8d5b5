// SPDX-License-Identifier: BSD-2-Clause
#include "walks.hpp"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace tcpinfo {
namespace {

struct Closer {
  void operator()(DIR* directory) const noexcept { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, Closer>;

}  // namespace

int walk_cgroups(const std::filesystem::path& root,
                 const std::function<bool(const std::string& path, std::uint64_t id)>& visit) {
  // kernfs: the inode number is the id wherever ino_t has 64 bits.
  struct stat status {};
  if (stat(root.c_str(), &status) != 0) return errno;
  int error = 0;
  std::vector<std::string> pending{root.string()};
  if (!visit(pending.back(), status.st_ino)) return 0;
  while (!pending.empty()) {
    const auto path = std::move(pending.back());
    pending.pop_back();
    const Directory directory(opendir(path.c_str()));
    if (!directory) {
      if (error == 0 && (errno != ENOENT || path == root)) error = errno;
      continue;
    }
    while (const dirent* entry = readdir(directory.get())) {
      const std::string_view name = entry->d_name;
      if (entry->d_type != DT_DIR || name == "." || name == "..") continue;
      pending.push_back(path + (path.ends_with('/') ? "" : "/") + entry->d_name);
      if (!visit(pending.back(), entry->d_ino)) return error;
    }
  }
  return error;
}

int walk_sockets(const std::string& directory, const std::function<bool(std::uint64_t inode)>& visit) {
  constexpr std::string_view kSocket = "socket:[";
  const Directory descriptors(opendir(directory.c_str()));
  if (!descriptors) return errno;
  int error = 0;
  while (const dirent* entry = readdir(descriptors.get())) {
    if (entry->d_name[0] == '.') continue;
    char text[64];
    const auto length = ::readlinkat(dirfd(descriptors.get()), entry->d_name, text, sizeof(text));
    if (length < 0) {
      if (errno != ENOENT) error = errno;  // ENOENT: it was closed meanwhile
      continue;
    }
    const std::string_view target(text, static_cast<std::size_t>(length));
    std::uint64_t inode = 0;
    if (target.starts_with(kSocket)) std::from_chars(target.data() + kSocket.size(), target.end(), inode);
    if (!visit(inode)) break;
  }
  return error;
}

}  // namespace tcpinfo
