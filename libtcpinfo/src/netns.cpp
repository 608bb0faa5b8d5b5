// SPDX-License-Identifier: BSD-2-Clause
#include "netns.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include <cerrno>

#include <tcpinfo/error.hpp>

namespace tcpinfo {
namespace {

constexpr const char* kHere = "/proc/thread-self/ns/net";

[[noreturn]] void fail(int error, std::string action, const char* way_out) {
  throw Error({error, std::generic_category()}, std::move(action), way_out);
}

sys::Fd open_namespace(const char* step, const std::string& path, const std::string& action, const char* way_out) {
  int error = sys::fault(step);
  sys::Fd fd;
  if (!error) {
    fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) error = errno;
  }
  if (error) fail(error, action, way_out);
  return fd;
}

int set(const char* step, int netns) noexcept {
  if (int error = sys::fault(step)) return error;
  return setns(netns, CLONE_NEWNET) == 0 ? 0 : errno;
}

}  // namespace

Netns::Netns(const std::string& path) : path_(path.empty() ? kHere : path) {
  there_ = path.empty() ? open_namespace("open own network namespace", kHere, "open this thread's network namespace",
                                         "is /proc mounted?")
                        : open_namespace("open network namespace", path, "open network namespace " + path,
                                         "list them with ip netns");
  struct stat status {};
  if (fstat(there_.get(), &status) == 0) id_ = {status.st_dev, status.st_ino};
}

bool Netns::is_here() const noexcept {
  struct stat status {};
  return stat(kHere, &status) == 0 && NetnsId{status.st_dev, status.st_ino} == id_;
}

sys::Fd Netns::enter() const {
  auto here = open_namespace("save network namespace", kHere, "open this thread's network namespace",
                             "is /proc mounted?");
  if (int error = set("enter network namespace", there_.get()))
    fail(error, "enter network namespace " + path_,
         error == EINVAL ? "it is no network namespace; list them with ip netns" : "needs CAP_SYS_ADMIN");
  return here;
}

void Netns::leave(const sys::Fd& here) const {
  if (int error = set("return from network namespace", here.get()))
    fail(error, "return from network namespace " + path_, "this thread is left in it: end it");
}

}  // namespace tcpinfo
