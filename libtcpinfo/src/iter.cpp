// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/iter.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstring>
#include <new>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/error.hpp>

#include "bpf.hpp"
#include "examiner.hpp"
#include "iter.skel.h"
#include "libbpf_log.hpp"
#include "netns.hpp"
#include "system.hpp"
#include "tcp_iterator.hpp"

namespace tcpinfo {
namespace {

constexpr const char* kCapabilities = "CAP_BPF and CAP_PERFMON";

// The kernel gives at most 32 KiB a read, in whole records (kernel v6.18 kernel/bpf/bpf_iter.c bpf_seq_read()).
constexpr std::size_t kBufferBytes = 32 << 10;

struct SkeletonDeleter {
  void operator()(struct iter* skeleton) const noexcept { iter__destroy(skeleton); }
};

std::error_code code_of(int error) noexcept { return {error, std::generic_category()}; }

}  // namespace

struct IterSource::Impl {
  explicit Impl(const IterOptions& chosen);

  IterOptions options;
  Netns netns;
  std::unique_ptr<struct iter, SkeletonDeleter> skeleton;
  bpf::Link link;
  TcpIterator iterator;  // of the pass under way
  std::unique_ptr<std::byte[]> buffer = std::make_unique_for_overwrite<std::byte[]>(kBufferBytes);
  Statistics totals;
  Examiner examiner;

  Clock::time_point next_pass{};  // in the past: the first one is due at once
  std::uint32_t pass = 0;         // number of the next pass, or of the one under way
  bool stopped = false;

  void load();
  void begin_pass();
  void finish(bool whole) noexcept;
  void deliver(const RecordSink& sink, std::span<std::byte> bytes, DrainResult& result) noexcept;
};

IterSource::Impl::Impl(const IterOptions& chosen)
    : options(chosen), netns(chosen.netns.string()), examiner(chosen.trigger) {
  if (options.interval <= std::chrono::nanoseconds::zero())
    throw Error(make_error_code(Errc::kInvalidOption), "set the interval of the passes", "it is more than 0");
  const LibbpfLog log;
  load();
  // A pass that is given up at once: what the kernel refuses, it refuses here.
  begin_pass();
  iterator.reset();
}

void IterSource::Impl::load() {
  const char* const action = "load the TCP iterator";
  const bpf::OpenOptions open_options;
  int error = sys::fault("open skeleton");
  if (!error) {
    skeleton.reset(iter__open_opts(open_options.get()));
    if (!skeleton) error = errno;
  }
  if (error) bpf::fail(error, action, bpf::way_out_of(error, kCapabilities));

  skeleton->rodata->kernel_hz = bpf::kernel_hz();
  auto& settings = skeleton->rodata->settings;
  static_assert(sizeof(settings) == sizeof(tcpinfo_iter_settings));
  tcpinfo_iter_settings wanted{};
  wanted.states = options.states;
  if (!options.cgroup.empty()) wanted.cgroup_id = cgroup_id(options.cgroup);
  wanted.filter = options.filter.raw();
  std::memcpy(const_cast<void*>(static_cast<const volatile void*>(&settings)), &wanted, sizeof(wanted));

  error = sys::fault("load");
  if (!error) error = -iter__load(skeleton.get());
  if (error) bpf::fail_load(error, action, kCapabilities);
  error = sys::fault("attach iterator");
  if (!error) {
    link.reset(bpf_program__attach_iter(skeleton->progs.tcpinfo_iter, nullptr));
    if (!link) error = errno;
  }
  if (error) bpf::fail(error, "attach the TCP iterator", bpf::way_out_of(error, kCapabilities));
}

// An iterator sees the namespace in which it was made.
void IterSource::Impl::begin_pass() {
  int error = 0;
  TcpIterator begun;
  netns.run([&]() noexcept {
    error = sys::fault("open iterator");
    if (!error) error = begun.begin(link.descriptor());
  });
  if (error) bpf::fail(error, "begin a pass of the TCP iterator", bpf::way_out_of(error, kCapabilities));
  iterator = std::move(begun);
  skeleton->bss->pass = pass;
  skeleton->bss->own_listener = iterator.own_listener();
}

void IterSource::Impl::finish(bool whole) noexcept {
  iterator.reset();
  examiner.end_pass();
  ++pass;
  ++totals.dumps;
  if (!whole) ++totals.dumps_interrupted;
}

void IterSource::Impl::deliver(const RecordSink& sink, std::span<std::byte> bytes, DrainResult& result) noexcept {
  for (; bytes.size() >= sizeof(tcpinfo_record) && skeleton; bytes = bytes.subspan(sizeof(tcpinfo_record))) {
    const auto record = Record::view(bytes.first(sizeof(tcpinfo_record)));
    if (!record) {
      ++totals.malformed;
      continue;
    }
    if (!examiner.wants(*reinterpret_cast<tcpinfo_record*>(bytes.data()))) {
      ++totals.untriggered;
      continue;
    }
    ++totals.emitted[TCPINFO_EVENT_SAMPLE];
    ++result.records;
    try {
      sink(*record);
      ++totals.delivered[TCPINFO_EVENT_SAMPLE];
    } catch (...) {
      ++totals.lost_sink[TCPINFO_EVENT_SAMPLE];
    }
  }
  if (!bytes.empty() && skeleton) ++totals.malformed;
}

IterSource::IterSource(const IterOptions& options) : impl_(std::make_unique<Impl>(options)) {}

IterSource::~IterSource() { close(); }

SourceId IterSource::id() const noexcept { return SourceId::kIter; }

// The iterator's file cannot be polled: there is always something to read in it.
int IterSource::descriptor() const noexcept { return -1; }

std::optional<Source::Clock::time_point> IterSource::next_deadline() const noexcept {
  if (impl_->iterator) return Clock::time_point{};
  if (!impl_->skeleton || impl_->stopped) return std::nullopt;
  return impl_->next_pass;
}

std::error_code IterSource::tick(Clock::time_point now) noexcept {
  auto& self = *impl_;
  if (!self.skeleton || self.stopped || now < self.next_pass) return {};
  // What was missed is not made up for: a pass that takes longer than the interval makes the next one wait.
  self.next_pass += std::chrono::duration_cast<Clock::duration>(self.options.interval);
  if (self.next_pass <= now) self.next_pass = now + std::chrono::duration_cast<Clock::duration>(self.options.interval);

  if (self.iterator) return {};
  struct stat status {};
  if (!self.options.cgroup.empty() &&
      (stat(self.options.cgroup.c_str(), &status) != 0 || status.st_ino != self.skeleton->rodata->settings.cgroup_id))
    return make_error_code(Errc::kCgroupGone);
  try {
    self.begin_pass();
    return {};
  } catch (const std::system_error& error) {
    return error.code();
  } catch (...) {
    return code_of(ENOMEM);
  }
}

DrainResult IterSource::drain(RecordSink sink, std::size_t limit) noexcept {
  auto& self = *impl_;
  DrainResult result;
  while (self.iterator && result.records < limit) {
    ssize_t got = -1;
    errno = sys::fault("read iterator");
    if (!errno) got = ::read(self.iterator.get(), self.buffer.get(), kBufferBytes);
    if (got > 0) {
      self.deliver(sink, {self.buffer.get(), static_cast<std::size_t>(got)}, result);
    } else if (got == 0) {
      self.finish(true);
    } else if (errno != EINTR && errno != EAGAIN) {  // EAGAIN: a million sockets, none of them wanted
      result.error = code_of(errno);
      self.finish(false);
    }
  }
  return result;
}

Capabilities IterSource::capabilities() const {
  const bool loaded = static_cast<bool>(impl_->link);
  return {{"passes", loaded,
           loaded ? "iter/tcp: every socket of the network namespace, each read under its lock" : "closed"},
          {"cgroup_filter", loaded, loaded ? "the kernel leaves out sockets of other cgroups" : "closed"}};
}

Statistics IterSource::statistics() const noexcept { return impl_->totals; }

Cost IterSource::cost() const { return impl_->skeleton ? bpf::cost_of(impl_->skeleton->obj) : Cost{}; }

void IterSource::stop() noexcept { impl_->stopped = true; }

void IterSource::close() noexcept {
  if (!impl_) return;
  impl_->iterator.reset();
  impl_->link.reset();
  impl_->skeleton.reset();
}

}  // namespace tcpinfo
