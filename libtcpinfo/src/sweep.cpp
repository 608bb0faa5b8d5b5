// SPDX-License-Identifier: BSD-2-Clause
#include "sweep.hpp"

#include <unistd.h>

#include <bpf/bpf.h>

#include <cerrno>

namespace tcpinfo {

int Sweep::attach(const bpf_program* program, int tagged_sockets) noexcept {
  if (int error = sys::fault("attach sweep")) return error;
  bpf_iter_link_info target{};
  target.map.map_fd = static_cast<__u32>(tagged_sockets);
  bpf_iter_attach_opts how{};
  how.sz = sizeof(how);
  how.link_info = &target;
  how.link_info_len = sizeof(target);
  link_.reset(bpf_program__attach_iter(program, &how));
  return link_ ? 0 : errno;
}

int Sweep::attach_to_all(const bpf_program* program, const std::filesystem::path& cgroup,
                         ThreadNamespaces* remembered) {
  return pass_.attach(program, cgroup, remembered);
}

void Sweep::detach() noexcept {
  running_ = false;
  iterator_.reset();
  link_.reset();
  pass_.detach();
}

std::error_code Sweep::begin() noexcept {
  if (link_) {
    iterator_.reset(bpf_iter_create(link_.descriptor()));
    if (!iterator_) return {errno, std::generic_category()};
  } else {
    pass_.begin();
  }
  running_ = true;
  return {};
}

std::error_code Sweep::step() noexcept try {
  if (!link_) {
    auto progress = SocketPass::Progress::kPaused;
    while (progress == SocketPass::Progress::kPaused) progress = pass_.step();
    running_ = progress != SocketPass::Progress::kOver;
    return {};
  }
  // The program writes to the rings, not to the reader.
  char nothing[64];
  ssize_t got;
  do got = ::read(iterator_.get(), nothing, sizeof(nothing));
  while (got > 0 || (got < 0 && errno == EINTR));
  const int error = got < 0 ? errno : 0;
  if (error == EAGAIN) return {};
  running_ = false;
  iterator_.reset();
  return {error, std::generic_category()};
} catch (const std::system_error& error) {
  running_ = false;
  pass_.reset();
  return error.code();
} catch (...) {
  running_ = false;
  pass_.reset();
  return std::make_error_code(std::errc::not_enough_memory);
}

}  // namespace tcpinfo
