// SPDX-License-Identifier: BSD-2-Clause
#include "socket_pass.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <memory>

#include <tcpinfo/error.hpp>

#include "system.hpp"
#include "walks.hpp"

namespace tcpinfo {
namespace {

constexpr int kLooksAtOnce = 256;  // of threads whose namespace is looked at

[[noreturn]] void throw_error(int error, const std::string& action) {
  throw Error({error, std::generic_category()}, action, "");
}

/// What /proc answers of a thread that has ended.
bool has_ended(int error) noexcept { return error == ENOENT || error == ESRCH; }

}  // namespace

int SocketPass::attach(const bpf_program* program, const std::filesystem::path& cgroup, ThreadNamespaces* remembered) {
  cgroup_ = cgroup;
  remembered_ = remembered;
  own_.emplace("");
  if (int error = sys::fault(std::string("attach ") + purpose_)) return error;
  link_.reset(bpf_program__attach_iter(program, nullptr));
  return link_ ? 0 : errno;
}

void SocketPass::detach() noexcept {
  reset();
  link_.reset();
  own_.reset();
}

void SocketPass::reset() noexcept {
  iterator_.reset();
  threads_.clear();
  known_.clear();
}

// A thread's network namespace may be another than its process's.
void SocketPass::find_threads() {
  hidden_ = 0;
  int error = walk_cgroups(cgroup_, [&](const std::string& cgroup, std::uint64_t) {
    const auto path = cgroup + "/cgroup.threads";
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
    if (!file && errno != ENOENT && errno != ENODEV) throw_error(errno, "read " + path);
    for (long thread; file && std::fscanf(file.get(), "%ld", &thread) == 1;) {
      if (thread == 0)
        ++hidden_;
      else
        threads_.push_back(static_cast<pid_t>(thread));
    }
    return true;
  });
  if (error && error != ENOENT) throw_error(error, "read the cgroups below " + cgroup_.string());
  if (!remembered_) return;
  std::ranges::sort(threads_);
  std::erase_if(*remembered_, [&](const auto& thread) { return !std::ranges::binary_search(threads_, thread.first); });
}

// Begins to read in the next namespace, if this pass was not there yet.
void SocketPass::enter_next() {
  NetnsId id;
  std::string path;
  if (const auto at = next_++; at == 0) {
    id = own_->id();
  } else {
    const auto thread = threads_[at - 1];
    path = "/proc/" + std::to_string(thread) + "/ns/net";
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0) {
      id = {status.st_dev, status.st_ino};
      if (remembered_) (*remembered_)[thread] = id;
    } else {
      // With hidepid= a process of others is in no /proc, yet a signal finds it.
      const bool is_there = !has_ended(errno) || (::kill(thread, 0) != 0 && errno == EPERM);
      const bool is_remembered = is_there && remembered_ && remembered_->contains(thread);
      if (is_there && !is_remembered) ++unshown_;
      if (!is_remembered) return;
      id = remembered_->at(thread);
    }
  }
  if (!known_.insert(id).second) return;
  int error = sys::fault(std::string("begin ") + purpose_);
  const auto open = [&]() noexcept {
    if (!error) error = iterator_.begin(link_.descriptor());
  };
  try {
    if (path.empty())
      own_->run(open);
    else
      Netns(path).run(open);
  } catch (const std::system_error& failed) {
    error = failed.code().value();
  }
  if (error == EPERM || error == EACCES)
    ++unvisited_;
  else if (has_ended(error))  // another thread may be there still
    known_.erase(id);
  else if (error)
    throw_error(error, std::string("begin a pass of ") + purpose_);
}

SocketPass::Progress SocketPass::step() {
  if (std::exchange(fresh_, false)) {
    reset();
    next_ = unvisited_ = unshown_ = 0;
    find_threads();
  }
  for (int looks = 0;;) {
    if (!iterator_) {
      if (next_ > threads_.size()) return reset(), Progress::kOver;
      if (++looks > kLooksAtOnce) return Progress::kPaused;
      enter_next();
      continue;
    }
    char nothing[64];  // the program writes to rings, not to the reader
    const auto got = ::read(iterator_.get(), nothing, sizeof(nothing));
    if (got > 0 || (got < 0 && errno == EINTR)) continue;
    if (got < 0 && errno == EAGAIN) return Progress::kStopped;
    if (got < 0) throw_error(errno, std::string("read a pass of ") + purpose_);
    iterator_.reset();
  }
}

std::string SocketPass::not_seen() const {
  std::string text;
  const auto add = [&](const char* before, std::size_t count, const char* after) {
    if (count > 0) text += (text.empty() ? "" : "; ") + (before + std::to_string(count)) + after;
  };
  add("", unvisited_, " of the cgroup's could not be entered: needs CAP_SYS_ADMIN");
  add("those of ", unshown_, " threads are not shown: needs CAP_SYS_PTRACE");
  add("those of ", hidden_, " threads of other pid namespaces are not known");
  return text;
}

}  // namespace tcpinfo
