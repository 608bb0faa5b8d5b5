// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/cgroup.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include <tcpinfo/error.hpp>

#include "cgroup_path.hpp"
#include "system.hpp"
#include "walks.hpp"

namespace tcpinfo {
namespace {

namespace fs = std::filesystem;

std::error_code code_of(int error) noexcept { return {error, std::generic_category()}; }

[[noreturn]] void fail(int error, std::string action, std::string way_out) {
  throw Error(code_of(error), std::move(action), std::move(way_out));
}

std::vector<cgroup::Mount> mounts() {
  std::ifstream text("/proc/self/mountinfo");
  auto found = cgroup::mounts_of(text);
  if (found.empty())
    fail(ENODEV, "find the cgroup v2 mount in /proc/self/mountinfo",
         "mount it: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified");
  return found;
}

fs::path cgroup_of(const std::string& process, const std::string& action) {
  std::ifstream text("/proc/" + process + "/cgroup");
  if (!text) fail(errno == ENOENT ? ESRCH : errno, action, "ps -e lists the processes");
  const auto path = cgroup::path_of(text);
  const auto all = mounts();
  if (!path) fail(ENODEV, action, "/proc/" + process + "/cgroup has no line of cgroup v2");
  for (const auto& mount : all)
    if (const auto place = cgroup::place_of(*path, mount)) return *place;
  throw Error(make_error_code(Errc::kCgroupNotVisible), action,
              "it is in " + *path + ", of which " + all.front().point.string() + " shows " + all.front().root +
                  "; look from the host, or name a cgroup by its path");
}

// The directories right below `path`; none if it is gone.
std::vector<std::string> children_of(const fs::path& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
  if (!directory) return names;
  while (const dirent* entry = readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool is_populated(const fs::path& path) {
  std::ifstream events(path / "cgroup.events");
  for (std::string key, value; events >> key >> value;)
    if (key == "populated") return value != "0";
  return false;
}

int remove_tree(const fs::path& path) {
  for (const auto& name : children_of(path))
    if (const int error = remove_tree(path / name)) return error;
  return ::rmdir(path.c_str()) == 0 || errno == ENOENT ? 0 : errno;
}

// The directory, if it is still at its path and nobody else has locked it.
sys::Fd lock(const fs::path& path) noexcept {
  sys::Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat opened {
  }, there{};
  if (!directory || ::flock(directory.get(), LOCK_EX | LOCK_NB) != 0 || fstat(directory.get(), &opened) != 0 ||
      stat(path.c_str(), &there) != 0 || opened.st_ino != there.st_ino)
    return {};
  return directory;
}

}  // namespace

fs::path cgroup2_mount() { return mounts().front().point; }

fs::path own_cgroup() { return cgroup_of("self", "find the cgroup v2 of this process in /proc/self/cgroup"); }

fs::path cgroup_of_process(pid_t pid) {
  const auto number = std::to_string(pid);
  const auto action = "find the cgroup v2 of process " + number;
  if (pid <= 0) fail(ESRCH, action, "a process has a number from 1 on");
  return cgroup_of(number, action);
}

fs::path cgroup_of_unit(std::string_view unit, const fs::path& root) {
  constexpr std::array<std::string_view, 6> kEndings{".service", ".scope", ".slice", ".socket", ".mount", ".swap"};
  // A user's mistake may be long, and its sentence should not be.
  static constexpr std::size_t kMost = 8;
  std::string name(unit);
  if (std::ranges::none_of(kEndings, [&](std::string_view ending) { return unit.ends_with(ending); }))
    name += kEndings[0];
  const fs::path top = root.empty() ? cgroup2_mount() : root;
  const auto action = "find unit " + name + " below " + top.string();
  if (unit.empty() || unit.starts_with('.') || unit.find('/') != unit.npos)
    throw Error(make_error_code(Errc::kInvalidOption), action,
                "a unit's name has no / and is not empty; a cgroup can be named by its path");
  cgroup_id(top);

  const auto stem = name.substr(0, name.find_first_of(".@"));
  std::vector<std::string> found, similar;
  walk_cgroups(top, [&](const std::string& path, std::uint64_t) {
    const auto directory = path.substr(path.rfind('/') + 1);
    if (path == top) return true;
    if (cgroup::is_unit(directory, name))
      found.push_back(path);
    else if (directory.find(stem) != directory.npos)
      similar.push_back(directory);
    return true;
  });
  std::ranges::sort(found);
  std::ranges::sort(similar);
  const auto list = [](const std::vector<std::string>& names) {
    std::string text;
    for (std::size_t i = 0; i < std::min(names.size(), kMost); ++i) text += (i ? ", " : "") + names[i];
    if (names.size() > kMost) text += " and " + std::to_string(names.size() - kMost) + " more";
    return text;
  };
  if (found.empty())
    fail(ENOENT, action,
         similar.empty() ? "a unit has a cgroup only while it runs: systemctl status " + name
                         : "there are " + list(similar) + "; a unit has a cgroup only while it runs");
  if (found.size() > 1)
    throw Error(make_error_code(Errc::kAmbiguousUnit), action, "name one by its path: " + list(found));
  return found.front();
}

std::uint64_t cgroup_id(const fs::path& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0)
    fail(errno, "open cgroup " + path.string(),
         "create it with mkdir below the cgroup v2 mount, or see tcpinfo doctor for where that is");
  if (!S_ISDIR(status.st_mode))
    fail(ENOTDIR, "open cgroup " + path.string(), "a cgroup is a directory below the cgroup v2 mount");
  struct statfs filesystem {};
  if (statfs(path.c_str(), &filesystem) != 0) fail(errno, "open cgroup " + path.string(), "");
  if (filesystem.f_type != CGROUP2_SUPER_MAGIC) {
    const bool v1 = filesystem.f_type == CGROUP_SUPER_MAGIC;
    throw Error(make_error_code(Errc::kNotCgroup2), "open cgroup " + path.string(),
                (v1 ? "it belongs to a cgroup v1 hierarchy; use a directory below " : "use a directory below ") +
                    cgroup2_mount().string());
  }
  // kernfs: the inode number is the id wherever ino_t has 64 bits.
  return status.st_ino;
}

std::vector<pid_t> cgroup_processes(const fs::path& path) {
  std::vector<pid_t> processes;
  walk_cgroups(path, [&](const std::string& cgroup, std::uint64_t) {
    std::ifstream text(cgroup + "/cgroup.procs");
    // 0 stands for a process of another pid namespace.
    for (pid_t pid; text >> pid;)
      if (pid > 0) processes.push_back(pid);
    return true;
  });
  // A process that moved while we read may have come twice.
  std::sort(processes.begin(), processes.end());
  processes.erase(std::unique(processes.begin(), processes.end()), processes.end());
  return processes;
}

TransientCgroup::TransientCgroup(std::string_view prefix, const fs::path& parent) : owner_(::getpid()) {
  const auto home = parent.empty() ? own_cgroup() : parent;
  cgroup_id(home);
  const auto stem = std::string(prefix) + '-' + std::to_string(owner_) + '-';
  for (unsigned number = 0; directory_ < 0; ++number) {
    path_ = home / (stem + std::to_string(number));
    const auto action = "make cgroup " + path_.string();
    int error = sys::fault("make cgroup");
    if (!error && ::mkdir(path_.c_str(), 0755) != 0) error = errno;
    if (error == EEXIST) continue;
    if (error == EACCES || error == EPERM || error == EROFS)
      fail(error, action,
           "needs the right to write there: run as root, or name a parent that is delegated to this user");
    if (error == EAGAIN)
      fail(error, action,
           "cgroup.max.descendants or cgroup.max.depth of a cgroup above it is reached; name another parent");
    if (error) fail(error, action, "");

    std::string type;
    std::ifstream file(path_ / "cgroup.type");
    std::getline(file, type);
    if (type == "domain invalid") {
      ::rmdir(path_.c_str());
      fail(EOPNOTSUPP, action,
           home.string() + " is in a threaded subtree, where a new cgroup takes no processes; name another parent");
    }
    // Whoever cleans up may have found it before it was locked: then it is gone, and the next one is made.
    const auto directory = lock(path_);
    if (directory) directory_ = ::fcntl(directory.get(), F_DUPFD_CLOEXEC, 0);
    if (directory_ >= 0) break;
    error = errno;
    ::rmdir(path_.c_str());
    if (number > 1000 || error == EMFILE || error == ENFILE) fail(error, "lock cgroup " + path_.string(), "");
  }
}

TransientCgroup::TransientCgroup(TransientCgroup&& other) noexcept
    : path_(std::move(other.path_)),
      directory_(std::exchange(other.directory_, -1)),
      owner_(std::exchange(other.owner_, 0)) {}

TransientCgroup& TransientCgroup::operator=(TransientCgroup&& other) noexcept {
  if (this != &other) {
    remove();
    if (directory_ >= 0) ::close(directory_);
    path_ = std::move(other.path_);
    directory_ = std::exchange(other.directory_, -1);
    owner_ = std::exchange(other.owner_, 0);
  }
  return *this;
}

TransientCgroup::~TransientCgroup() {
  remove();
  if (directory_ >= 0) ::close(directory_);
}

void TransientCgroup::enter(pid_t pid) const {
  const auto who = pid == 0 ? std::string("this process") : "process " + std::to_string(pid);
  int error = sys::fault("enter cgroup");
  if (!error) {
    const sys::Fd processes(::openat(directory_, "cgroup.procs", O_WRONLY | O_CLOEXEC));
    const auto text = std::to_string(pid);
    if (!processes || ::write(processes.get(), text.data(), text.size()) < 0) error = errno;
  }
  if (error == 0) return;
  std::string way_out;
  if (error == EACCES || error == EPERM) way_out = "needs the right to write to its cgroup.procs and to its parent's";
  if (error == EBUSY)
    way_out = "controllers are switched on in its cgroup.subtree_control, then processes live below it only";
  if (error == EOPNOTSUPP) way_out = "it became part of a threaded subtree, see its cgroup.type";
  fail(error, "move " + who + " to cgroup " + path_.string(), way_out);
}

bool TransientCgroup::populated() const noexcept {
  try {
    return directory_ >= 0 && is_populated(path_);
  } catch (...) {
    return true;
  }
}

std::error_code TransientCgroup::remove() noexcept {
  if (directory_ < 0 || owner_ != ::getpid()) return {};
  try {
    // A process that was waited for may keep it busy for a moment.
    for (int attempt = 0;; ++attempt) {
      const int error = remove_tree(path_);
      if (error == 0) {
        owner_ = 0;
        return {};
      }
      if (error != EBUSY || attempt == 100 || is_populated(path_)) return code_of(error);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  } catch (...) {
    return code_of(ENOMEM);
  }
}

std::size_t TransientCgroup::remove_stale(std::string_view prefix, const fs::path& parent) {
  const auto home = parent.empty() ? own_cgroup() : parent;
  const auto is_ours = [&](std::string_view name) {
    if (!name.starts_with(prefix) || name.size() <= prefix.size() || name[prefix.size()] != '-') return false;
    name.remove_prefix(prefix.size() + 1);
    const auto dash = name.find('-');
    return dash != name.npos && dash > 0 && dash + 1 < name.size() && name.find_first_not_of("0123456789") == dash &&
           name.find_first_not_of("0123456789", dash + 1) == name.npos;
  };
  std::size_t removed = 0;
  for (const auto& name : children_of(home)) {
    if (!is_ours(name) || is_populated(home / name)) continue;
    if (const auto owned = lock(home / name); owned && remove_tree(home / name) == 0) ++removed;
  }
  return removed;
}

}  // namespace tcpinfo
