// SPDX-License-Identifier: BSD-2-Clause
#include "pins.hpp"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <new>
#include <system_error>

#include <tcpinfo/error.hpp>
#include <tcpinfo/sockops.hpp>

#include "bpf.hpp"

namespace tcpinfo {
namespace {

sys::Fd take(const std::filesystem::path& directory) {
  sys::Fd lock;
  int error = sys::fault("open pins");
  if (!error) {
    lock.reset(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!lock) error = errno;
  }
  if (error) bpf::fail(error, "open directory of pins " + directory.string(), "");
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0)
    bpf::fail(EBUSY, "use the pins in " + directory.string(), "another tcpinfo has them; one at a time");
  return lock;
}

}  // namespace

Pins Pins::of(const std::filesystem::path& directory) {
  Pins pins;
  pins.directory_ = directory;
  pins.lock_ = take(directory);
  return pins;
}

Pins::Pins(const std::filesystem::path& directory) : directory_(directory) {
  const auto parent = directory.has_parent_path() ? directory.parent_path() : std::filesystem::path(".");
  struct statfs system {};
  if (::statfs(parent.c_str(), &system) != 0) bpf::fail(errno, "look at " + parent.string(), "");
  if (system.f_type != static_cast<decltype(system.f_type)>(BPF_FS_MAGIC))
    throw Error(make_error_code(Errc::kInvalidOption), "pin into " + directory.string(),
                "it has to be below a bpffs, as /sys/fs/bpf is: mount -t bpf bpf /sys/fs/bpf");
  int error = sys::fault("make directory of pins");
  if (!error && ::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) error = errno;
  if (error) bpf::fail(error, "make directory of pins " + directory.string(), bpf::way_out_of(error, "write access"));
  lock_ = take(directory);
}

sys::Fd Pins::get(const std::string& name) const {
  int error = sys::fault("get pin");
  sys::Fd found;
  if (!error) {
    found.reset(bpf_obj_get(path(name).c_str()));
    if (!found) error = errno;
  }
  if (error && error != ENOENT) bpf::fail(error, "take " + path(name).string(), "");
  return found;
}

void Pins::put(const std::string& name, int descriptor) const {
  int error = sys::fault("pin");
  if (!error && bpf_obj_pin(descriptor, path(name).c_str()) != 0) error = errno;
  if (error) bpf::fail(error, "pin " + path(name).string(), "");
}

std::error_code Pins::clear(bool also_directory) const noexcept try {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, error)) {
    std::error_code failed;
    std::filesystem::remove(entry.path(), failed);
    if (failed && !error) error = failed;
  }
  if (!error && also_directory) std::filesystem::remove(directory_, error);
  return error;
} catch (const std::bad_alloc&) {
  return std::make_error_code(std::errc::not_enough_memory);
}

void unpin(const std::filesystem::path& directory) {
  const auto error = Pins::of(directory).clear(true);
  if (error) throw Error(error, "remove the pins in " + directory.string(), "");
}

}  // namespace tcpinfo
