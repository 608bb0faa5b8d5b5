// SPDX-License-Identifier: BSD-2-Clause
#include "getsockopt.hpp"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <span>
#include <string>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/error.hpp>
#include <tcpinfo/tcp_info.hpp>

#include "getsockopt.h"
#include "getsockopt.skel.h"

namespace validation {
namespace {

using tcpinfo::Record;

struct SkeletonDeleter {
  void operator()(struct getsockopt* skeleton) const noexcept { getsockopt__destroy(skeleton); }
};
struct LinkDeleter {
  void operator()(bpf_link* link) const noexcept { bpf_link__destroy(link); }
};
struct RingDeleter {
  void operator()(ring_buffer* ring) const noexcept { ring_buffer__free(ring); }
};
struct BtfDeleter {
  void operator()(btf* types) const noexcept { btf__free(types); }
};

[[noreturn]] void fail(int error, const std::string& action) {
  throw tcpinfo::Error(
      std::error_code(error, std::generic_category()), action,
      error == EPERM || error == EACCES ? "needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON" : "try tcpinfo doctor");
}

// The twin needs a function that kernels have from 6.2 on.
bool kernel_has(const char* function) {
  const std::unique_ptr<btf, BtfDeleter> types(btf__load_vmlinux_btf());
  return types && btf__find_by_name_kind(types.get(), function, BTF_KIND_FUNC) > 0;
}

__u32 kernel_hz() noexcept {
  timespec tick{};  // of the coarse clocks: one jiffy
  if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) != 0 || tick.tv_nsec <= 0) return 0;
  return static_cast<__u32>((1'000'000'000 + tick.tv_nsec / 2) / tick.tv_nsec);
}

}  // namespace

struct GetsockoptSource::Impl {
  explicit Impl(const GetsockoptOptions& chosen) : options(chosen) {}

  // Members go in reverse order: first the link, so that nothing runs any more when the maps go.
  GetsockoptOptions options;
  std::unique_ptr<struct getsockopt, SkeletonDeleter> skeleton;
  std::unique_ptr<ring_buffer, RingDeleter> ring;
  std::unique_ptr<bpf_link, LinkDeleter> link;
  bool with_twin = false;

  Clock::time_point next_drain{};
  tcpinfo::Statistics statistics;

  const tcpinfo::RecordSink* sink = nullptr;  // set during drain()
  bool closing = false;  // close() came from inside the sink: the ring is in use
  std::size_t limit = 0;
  std::size_t drained = 0;

  static int on_reading(void* context, void* data, std::size_t size) noexcept;
};

int GetsockoptSource::Impl::on_reading(void* context, void* data, std::size_t size) noexcept {
  auto& self = *static_cast<Impl*>(context);
  auto& reading = *static_cast<tcpinfo_getsockopt*>(data);
  if (size != sizeof(reading) || reading.length > sizeof(reading.info)) {
    ++self.statistics.malformed;
    return 0;
  }
  auto record = reading.record;
  if (reading.length > 0) tcpinfo::read_tcp_info(std::as_bytes(std::span(reading.info)).first(reading.length), record);
  try {
    (*self.sink)(Record(record));
    ++self.statistics.delivered[TCPINFO_EVENT_SAMPLE];
  } catch (...) {
    ++self.statistics.lost_sink[TCPINFO_EVENT_SAMPLE];
  }
  // A negative answer ends ring_buffer__consume(), after it has released this reading.
  return ++self.drained >= self.limit || self.closing ? -ECANCELED : 0;
}

GetsockoptSource::GetsockoptSource(const GetsockoptOptions& options) {
  tcpinfo::cgroup_id(options.cgroup);
  auto impl = std::make_unique<Impl>(options);
  impl->skeleton.reset(getsockopt__open());
  if (!impl->skeleton) fail(errno, "open the getsockopt program");
  auto& programs = impl->skeleton->progs;
  impl->with_twin = kernel_has("bpf_rdonly_cast");
  impl->skeleton->rodata->kernel_hz = kernel_hz();
  auto* const used = impl->with_twin ? programs.tcpinfo_getsockopt_twin : programs.tcpinfo_getsockopt;
  auto* const unused = impl->with_twin ? programs.tcpinfo_getsockopt : programs.tcpinfo_getsockopt_twin;
  bpf_program__set_autoload(unused, false);
  if (const int error = -getsockopt__load(impl->skeleton.get())) fail(error, "load the getsockopt program");
  impl->ring.reset(ring_buffer__new(bpf_map__fd(impl->skeleton->maps.records), Impl::on_reading, impl.get(), nullptr));
  if (!impl->ring) fail(errno, "map the getsockopt program's ring buffer");
  // Last: from here on records are made.
  const int directory = ::open(options.cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) fail(errno, "open cgroup " + options.cgroup.string());
  impl->link.reset(bpf_program__attach_cgroup(used, directory));
  const int error = impl->link ? 0 : errno;
  ::close(directory);
  if (error) fail(error, "attach cgroup/getsockopt to " + options.cgroup.string());
  impl->next_drain = Clock::now() + options.latency;
  impl_ = std::move(impl);
}

GetsockoptSource::~GetsockoptSource() { close(); }

tcpinfo::SourceId GetsockoptSource::id() const noexcept { return tcpinfo::SourceId::kGetsockopt; }

int GetsockoptSource::descriptor() const noexcept { return -1; }

std::optional<tcpinfo::Source::Clock::time_point> GetsockoptSource::next_deadline() const noexcept {
  return impl_->ring && !impl_->closing ? std::optional(impl_->next_drain) : std::nullopt;
}

std::error_code GetsockoptSource::tick(Clock::time_point now) noexcept {
  if (now >= impl_->next_drain) impl_->next_drain = now + impl_->options.latency;
  return {};
}

tcpinfo::DrainResult GetsockoptSource::drain(tcpinfo::RecordSink sink, std::size_t limit) noexcept {
  if (!impl_->ring || limit == 0) return {};
  impl_->sink = &sink;
  impl_->limit = limit;
  impl_->drained = 0;
  const int got = ring_buffer__consume(impl_->ring.get());
  impl_->sink = nullptr;
  tcpinfo::DrainResult result{.records = impl_->drained, .error = {}};
  if (got < 0 && got != -ECANCELED) result.error = {-got, std::generic_category()};
  if (impl_->closing) close();
  return result;
}

tcpinfo::Capabilities GetsockoptSource::capabilities() const {
  return {{"getsockopt", impl_->link != nullptr,
           impl_->link ? "a bpf_link to the cgroup: the kernel detaches when the process ends" : "stopped or closed"},
          {"twin", impl_->with_twin,
           impl_->with_twin ? "beside each answer what the BPF side reads from the socket"
                            : "needs bpf_rdonly_cast(), in the kernel from 6.2 on"}};
}

tcpinfo::Statistics GetsockoptSource::statistics() const noexcept {
  auto result = impl_->statistics;
  if (impl_->skeleton) {
    result.emitted[TCPINFO_EVENT_SAMPLE] = impl_->skeleton->bss->counters.emitted;
    result.lost_ring[TCPINFO_EVENT_SAMPLE] = impl_->skeleton->bss->counters.lost;
  }
  return result;
}

void GetsockoptSource::stop() noexcept { impl_->link.reset(); }

void GetsockoptSource::close() noexcept {
  if (!impl_ || !impl_->skeleton) return;
  stop();
  impl_->closing = impl_->sink != nullptr;
  if (impl_->closing) return;
  impl_->statistics = statistics();
  impl_->ring.reset();
  impl_->skeleton.reset();
}

}  // namespace validation
