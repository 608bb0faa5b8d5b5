// SPDX-License-Identifier: BSD-2-Clause
#include "output.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

#include <tcpinfo/error.hpp>

namespace plot {
namespace {

[[noreturn]] void fail(int error, const std::filesystem::path& path) {
  const char* way_out = error == ENOSPC || error == EDQUOT ? "free some space, or write elsewhere with --out"
                        : error == EACCES || error == EROFS || error == EPERM ? "write elsewhere with --out"
                                                                              : "";
  throw tcpinfo::Error({error, std::generic_category()}, "write " + path.string(), way_out);
}

}  // namespace

OutputFiles::~OutputFiles() {
  std::error_code ignored;
  for (const auto& one : staged_) std::filesystem::remove(one.temporary, ignored);
  // Only those that stayed empty.
  for (auto folder = made_.rbegin(); folder != made_.rend(); ++folder) ::rmdir(folder->c_str());
}

void OutputFiles::add(const std::filesystem::path& path, std::string_view bytes) {
  std::vector<std::filesystem::path> missing;
  for (auto folder = path.parent_path(); !folder.empty() && !std::filesystem::exists(folder);
       folder = folder.parent_path())
    missing.push_back(folder);
  for (auto folder = missing.rbegin(); folder != missing.rend(); ++folder) {
    if (::mkdir(folder->c_str(), 0777) != 0) fail(errno, *folder);
    made_.push_back(*folder);
  }

  auto name = (path.parent_path() / fmt::format(".{}.XXXXXX", path.filename().string())).string();
  const int fd = ::mkostemp(name.data(), O_CLOEXEC);
  if (fd < 0) fail(errno, path);
  staged_.push_back({name, path});
  int error = 0;
  for (auto rest = bytes; !rest.empty() && error == 0;) {
    const auto n = ::write(fd, rest.data(), rest.size());
    if (n >= 0)
      rest.remove_prefix(static_cast<std::size_t>(n));
    else if (errno != EINTR)
      error = errno;
  }
  // mkostemp makes files that only their owner can read.
  const mode_t mask = ::umask(0);
  ::umask(mask);
  if (error == 0 && ::fchmod(fd, 0666 & ~mask) != 0) error = errno;
  // Some file systems tell of a full disk only now.
  if (error == 0 && ::fsync(fd) != 0 && errno != EINVAL) error = errno;
  if (::close(fd) != 0 && error == 0) error = errno;
  if (error != 0) fail(error, path);
}

void OutputFiles::commit() {
  while (!staged_.empty()) {
    const auto& one = staged_.front();
    if (::rename(one.temporary.c_str(), one.path.c_str()) != 0) fail(errno, one.path);
    staged_.erase(staged_.begin());
  }
  made_.clear();
}

}  // namespace plot
