// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/sockops.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>
#include <vector>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/error.hpp>

#include "bpf.hpp"
#include "libbpf_log.hpp"
#include "ring.hpp"
#include "sockops.skel.h"
#include "system.hpp"

namespace tcpinfo {
namespace {

using std::chrono::nanoseconds;

constexpr const char* kCapabilities = "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON";
constexpr nanoseconds kSweepIntervalAtEveryRtt = std::chrono::milliseconds(100);

struct SkeletonDeleter {
  void operator()(struct sockops* skeleton) const noexcept { sockops__destroy(skeleton); }
};

[[noreturn]] void invalid(const std::string& action, const std::string& way_out) {
  throw Error(make_error_code(Errc::kInvalidOption), action, way_out);
}

void check(const SockopsOptions& options) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  if (options.interval < nanoseconds::zero())
    invalid("set the sampling interval", "it is 0, for every RTT callback, or more");
  if (options.latency <= nanoseconds::zero()) invalid("set the latency", "it is more than 0");
  if (!std::has_single_bit(options.ring_bytes) || options.ring_bytes % page != 0 || options.ring_bytes > 1u << 31)
    invalid("set the ring size to " + std::to_string(options.ring_bytes),
            "it is a power of two and a multiple of the page size, " + std::to_string(page) + ", up to 2 GiB");
  if (options.wakeup_bytes > options.ring_bytes)
    invalid("set the wake-up watermark", "it is not more than the ring's size");
}

}  // namespace

struct SockopsSource::Impl {
  explicit Impl(const SockopsOptions& chosen) : options(chosen) {
    check(options);
    interval = options.interval > nanoseconds::zero() ? options.interval : kSweepIntervalAtEveryRtt;
  }

  // Members go in reverse order: first the links, so that nothing runs any more when the maps go.
  SockopsOptions options;
  nanoseconds interval;
  std::unique_ptr<struct sockops, SkeletonDeleter> skeleton;
  ring::Rings rings;
  bpf::Link sweep_link;
  bpf::Link attach_link;

  Clock::time_point next_sweep{};
  Clock::time_point next_drain{};
  Statistics statistics;
  mutable std::vector<tcpinfo_counters> counters;  // one a possible CPU

  bool draining = false;
  bool closing = false;  // close() came from inside the sink: the rings are in use

  void load();
  void attach();
  void read_counters(Statistics& into) const noexcept;
  std::error_code sweep() noexcept;
};

void SockopsSource::Impl::load() {
  if (int error = sys::fault("open skeleton")) bpf::fail(error, "open the sock_ops programs", bpf::way_out_of(error, kCapabilities));
  skeleton.reset(sockops__open());
  if (!skeleton) bpf::fail(errno, "open the sock_ops programs", bpf::way_out_of(errno, kCapabilities));

  skeleton->rodata->kernel_hz = bpf::kernel_hz();
  auto& settings = skeleton->rodata->settings;
  static_assert(sizeof(settings) == sizeof(tcpinfo_settings));
  tcpinfo_settings wanted{};
  wanted.mode = static_cast<__u32>(options.mode);
  wanted.interval_ns = static_cast<__u64>(options.interval.count());
  // Half of the range of a difference of jiffies is enough for any interval, and keeps the sign true.
  wanted.interval_jiffies = static_cast<__u32>(
      std::min<std::uint64_t>(wanted.interval_ns / 1000 * skeleton->rodata->kernel_hz / 1'000'000, 1u << 30));
  wanted.sweep_interval_ns = static_cast<__u64>(interval.count());
  wanted.wakeup_bytes = options.wakeup_bytes ? options.wakeup_bytes : options.ring_bytes / 4;
  wanted.filter = options.filter.raw();
  std::memcpy(const_cast<void*>(static_cast<const volatile void*>(&settings)), &wanted, sizeof(wanted));

  if (int error = bpf_map__set_max_entries(skeleton->maps.records, static_cast<__u32>(options.ring_bytes)))
    bpf::fail(-error, "set the ring size", "");

  int error = sys::fault("load");
  if (!error) error = -sockops__load(skeleton.get());
  if (error) bpf::fail_load(error, "load the sock_ops programs", kCapabilities);
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) bpf::fail(-cpus, "count the possible CPUs", "");
  counters.resize(static_cast<std::size_t>(cpus));

  rings.add(ring::Ring(bpf_map__fd(skeleton->maps.records), options.ring_bytes));
}

void SockopsSource::Impl::attach() {
  if (options.mode == Mode::kPolling) {
    bpf_iter_attach_opts iterator{};
    iterator.sz = sizeof(iterator);
    bpf_iter_link_info target{};
    target.map.map_fd = static_cast<__u32>(bpf_map__fd(skeleton->maps.connections));
    iterator.link_info = &target;
    iterator.link_info_len = sizeof(target);
    int error = sys::fault("attach sweep");
    if (!error) {
      sweep_link.reset(bpf_program__attach_iter(skeleton->progs.tcpinfo_sweep, &iterator));
      if (!sweep_link) error = errno;
    }
    if (error) bpf::fail(error, "attach the sweep over socket storage", bpf::way_out_of(error, kCapabilities));
  }

  // Last: from here on records are made.
  sys::Fd directory;
  int error = sys::fault("open cgroup");
  if (!error) {
    directory.reset(::open(options.cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory) error = errno;
  }
  if (error) bpf::fail(error, "open cgroup " + options.cgroup.string(), "");
  error = sys::fault("attach sock_ops");
  if (!error) {
    attach_link.reset(bpf_program__attach_cgroup(skeleton->progs.tcpinfo_sockops, directory.get()));
    if (!attach_link) error = errno;
  }
  if (error) bpf::fail(error, "attach sock_ops to " + options.cgroup.string(), bpf::way_out_of(error, kCapabilities));

  const auto now = Clock::now();
  next_sweep = now + interval;
  next_drain = now + options.latency;
}

std::error_code SockopsSource::Impl::sweep() noexcept {
  sys::Fd iterator(bpf_iter_create(bpf_link__fd(sweep_link.get())));
  if (!iterator) return {errno, std::generic_category()};
  // The program writes to the ring, not to the reader: one read walks all tagged sockets.
  char nothing[64];
  ssize_t got;
  do got = ::read(iterator.get(), nothing, sizeof(nothing));
  while (got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN)));
  if (got < 0) return {errno, std::generic_category()};
  ++statistics.sweeps;
  return {};
}

void SockopsSource::Impl::read_counters(Statistics& into) const noexcept {
  const __u32 zero = 0;
  if (bpf_map_lookup_elem(bpf_map__fd(skeleton->maps.counters), &zero, counters.data()) != 0) return;
  into.emitted = {};
  into.lost_ring = {};
  into.connections = into.filtered = into.untracked = into.wakeups = 0;
  for (const auto& cpu : counters) {
    for (std::size_t event = 0; event < kEventCount; ++event) {
      into.emitted[event] += cpu.emitted[event];
      into.lost_ring[event] += cpu.lost[event];
    }
    into.connections += cpu.connections;
    into.filtered += cpu.filtered;
    into.untracked += cpu.untracked;
    into.wakeups += cpu.wakeups;
  }
}

SockopsSource::SockopsSource(const SockopsOptions& options) {
  cgroup_id(options.cgroup);
  const LibbpfLog log;
  impl_ = std::make_unique<Impl>(options);
  impl_->load();
  impl_->attach();
}

SockopsSource::~SockopsSource() { close(); }

SourceId SockopsSource::id() const noexcept { return SourceId::kSockops; }

int SockopsSource::descriptor() const noexcept {
  return impl_->skeleton && !impl_->closing ? bpf_map__fd(impl_->skeleton->maps.records) : -1;
}

std::optional<Source::Clock::time_point> SockopsSource::next_deadline() const noexcept {
  if (!impl_->skeleton || impl_->closing) return std::nullopt;
  return impl_->sweep_link ? std::min(impl_->next_sweep, impl_->next_drain) : impl_->next_drain;
}

std::error_code SockopsSource::tick(Clock::time_point now) noexcept {
  if (!impl_->skeleton) return {};
  // The next moment counts from the one that was due, so that the rate holds; after a stall it starts anew.
  const auto advance = [now](Clock::time_point& due, nanoseconds step) {
    due += std::chrono::duration_cast<Clock::duration>(step);
    if (due <= now) due = now + std::chrono::duration_cast<Clock::duration>(step);
  };
  if (now >= impl_->next_drain) advance(impl_->next_drain, impl_->options.latency);
  if (impl_->sweep_link && now >= impl_->next_sweep) {
    advance(impl_->next_sweep, impl_->interval);
    return impl_->sweep();
  }
  return {};
}

DrainResult SockopsSource::drain(RecordSink sink, std::size_t limit) noexcept {
  if (!impl_->skeleton || limit == 0) return {};
  // Before reading: a record that comes after the last look wakes us again.
  __atomic_store_n(&impl_->skeleton->bss->wakeup_pending, 0, __ATOMIC_SEQ_CST);
  impl_->draining = true;
  const DrainResult result{.records = impl_->rings.drain(sink, limit, impl_->closing, impl_->statistics), .error = {}};
  impl_->draining = false;
  if (impl_->closing) close();
  return result;
}

Capabilities SockopsSource::capabilities() const {
  Capabilities result;
  result.push_back({"callbacks", impl_->attach_link != nullptr,
                    impl_->attach_link ? "a bpf_link to the cgroup: the kernel detaches when the process ends"
                                       : "stopped or closed"});
  result.push_back({"sweep", impl_->sweep_link != nullptr,
                    impl_->sweep_link ? "samples receivers, idle and stalled connections by iter/bpf_sk_storage_map"
                                      : "only in polling mode, until stopped"});
  result.push_back({"adoption", false,
                    "connections older than the attach are not seen; attach before they begin, or use inet_diag"});
  return result;
}

Statistics SockopsSource::statistics() const noexcept {
  Statistics result = impl_->statistics;
  if (impl_->skeleton) impl_->read_counters(result);
  return result;
}

void SockopsSource::stop() noexcept {
  impl_->attach_link.reset();
  impl_->sweep_link.reset();
}

void SockopsSource::close() noexcept {
  if (!impl_ || !impl_->skeleton) return;
  stop();
  impl_->closing = impl_->draining;
  if (impl_->closing) return;
  impl_->read_counters(impl_->statistics);
  impl_->rings = {};
  impl_->skeleton.reset();
}

}  // namespace tcpinfo
