// SPDX-License-Identifier: BSD-2-Clause
#include "lab/neighbour.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <system_error>

#include "lab/fd.hpp"
#include "neighbour.h"
#include "neighbour.skel.h"

namespace lab {
namespace {

struct Deleter {
  void operator()(struct neighbour* skeleton) const { neighbour__destroy(skeleton); }
  void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

using Skeleton = std::unique_ptr<struct neighbour, Deleter>;

Skeleton open_skeleton() {
  Skeleton skeleton(neighbour__open());
  if (!skeleton) fail("open the neighbour's programs");
  return skeleton;
}

}  // namespace

struct Neighbour::Impl {
  Skeleton skeleton = open_skeleton();
  std::unique_ptr<bpf_link, Deleter> link;
};

Neighbour::Neighbour(const NeighbourOptions& options) : impl_(std::make_unique<Impl>()) {
  auto& skeleton = *impl_->skeleton;
  skeleton.rodata->flags = options.flags;
  skeleton.rodata->is_polite = options.is_polite;
  skeleton.rodata->insists = options.insists;
  bpf_program__set_autoload(skeleton.progs.look, false);
  if (neighbour__load(&skeleton) != 0) fail("load the neighbour");
  const Fd directory(::open(options.cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0) fail("open the neighbour's cgroup");
  impl_->link.reset(bpf_program__attach_cgroup(skeleton.progs.neighbour, directory.get()));
  if (!impl_->link) fail("attach the neighbour");
}

Neighbour::~Neighbour() = default;

std::uint32_t Neighbour::id() const {
  bpf_prog_info info{};
  __u32 size = sizeof(info);
  if (bpf_obj_get_info_by_fd(bpf_program__fd(impl_->skeleton->progs.neighbour), &info, &size) != 0) fail("program id");
  return info.id;
}

std::uint64_t Neighbour::callbacks(std::uint32_t op) const {
  return __atomic_load_n(&impl_->skeleton->bss->callbacks[op], __ATOMIC_RELAXED);
}

struct Flags::Impl {
  Skeleton skeleton = open_skeleton();
  std::unique_ptr<bpf_link, Deleter> link;
};

Flags::Flags() : impl_(std::make_unique<Impl>()) {
  auto& skeleton = *impl_->skeleton;
  bpf_program__set_autoload(skeleton.progs.neighbour, false);
  if (neighbour__load(&skeleton) != 0) fail("load the look at flags");
  impl_->link.reset(bpf_program__attach_iter(skeleton.progs.look, nullptr));
  if (!impl_->link) fail("attach the look at flags");
}

Flags::~Flags() = default;

std::map<std::uint64_t, std::uint32_t> Flags::all() const {
  const Fd iterator(bpf_iter_create(bpf_link__fd(impl_->link.get())));
  if (iterator.get() < 0) fail("begin a look at flags");
  std::map<std::uint64_t, std::uint32_t> found;
  neighbour_look seen[512];
  for (ssize_t got; (got = ::read(iterator.get(), seen, sizeof(seen))) != 0;) {
    if (got < 0 && errno != EINTR && errno != EAGAIN) fail("look at flags");
    for (ssize_t i = 0; i < got / static_cast<ssize_t>(sizeof(seen[0])); ++i) found[seen[i].cookie] = seen[i].flags;
  }
  return found;
}

}  // namespace lab
