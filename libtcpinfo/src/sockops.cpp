// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/sockops.hpp>

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/error.hpp>

#include "adoption.hpp"
#include "attached.hpp"
#include "bpf.hpp"
#include "cgroup_watch.hpp"
#include "fork.hpp"
#include "libbpf_log.hpp"
#include "pins.hpp"
#include "ring.hpp"
#include "sockops.skel.h"
#include "sweep.hpp"
#include "system.hpp"

namespace tcpinfo {
namespace {

using std::chrono::nanoseconds;

constexpr const char* kCapabilities = "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON";
// While sockets of a removed cgroup live: between two looks whether the kernel has detached.
constexpr std::chrono::milliseconds kFirstLook{10}, kLongestPause{500};
constexpr nanoseconds kSweepIntervalAtEveryRtt = std::chrono::milliseconds(100);
constexpr nanoseconds kCheckInterval = std::chrono::seconds(1);  // whether others overwrote our callback flags

// The next moment counts from the one that was due, so that the rate holds; after a stall it starts anew.
void advance(Source::Clock::time_point& due, Source::Clock::time_point now, nanoseconds step) noexcept {
  due += std::chrono::duration_cast<Source::Clock::duration>(step);
  if (due <= now) due = now + std::chrono::duration_cast<Source::Clock::duration>(step);
}

struct SkeletonDeleter {
  void operator()(struct sockops* skeleton) const noexcept { sockops__destroy(skeleton); }
};

[[noreturn]] void invalid(const std::string& action, const std::string& way_out) {
  throw Error(make_error_code(Errc::kInvalidOption), action, way_out);
}

__u32 page_bytes() noexcept { return static_cast<__u32>(sysconf(_SC_PAGESIZE)); }

void check(const SockopsOptions& options) {
  const std::size_t page = page_bytes();
  if (options.interval < nanoseconds::zero())
    invalid("set the sampling interval", "it is 0, for every RTT callback, or more");
  if (options.latency <= nanoseconds::zero()) invalid("set the latency", "it is more than 0");
  for (const auto& [what, bytes] :
       {std::pair("ring size", options.ring_bytes), std::pair("life-cycle ring size", options.life_cycle_ring_bytes)})
    if (!std::has_single_bit(bytes) || bytes % page != 0 || bytes > 1u << 31)
      invalid("set the " + std::string(what) + " to " + std::to_string(bytes),
              "it is a power of two and a multiple of the page size, " + std::to_string(page) + ", up to 2 GiB");
  if (options.wakeup_bytes > (options.mode == Mode::kPolling ? options.ring_bytes : options.life_cycle_ring_bytes))
    invalid("set the wake-up watermark", "it is not more than the ring's size");
  if (!options.trigger.empty() && options.mode != Mode::kPolling)
    invalid("set a trigger", "it selects samples, which only polling takes");
  if (options.pin_link && options.pin.empty())
    invalid("leave the program attached", "it needs a directory to pin it in");
}

// bpffs takes no names with dots, as sockops.bss.
std::string name_of(const bpf_map* map) {
  const std::string_view name = bpf_map__name(map);
  return std::string(name.substr(name.rfind('.') + 1));
}

tcpinfo_record make_gap() noexcept {
  auto record = make_record();
  set_number(record, Field::time_ns, boot_time_ns());
  set_number(record, Field::event, TCPINFO_EVENT_GAP);
  set_number(record, Field::source, TCPINFO_SOURCE_SOCKOPS);
  return record;
}

}  // namespace

struct SockopsSource::Impl {
  explicit Impl(const SockopsOptions& chosen) : options(chosen) {
    check(options);
    interval = options.interval > nanoseconds::zero() ? options.interval : kSweepIntervalAtEveryRtt;
    visit_interval = options.mode == Mode::kPolling ? std::min(interval, kCheckInterval) : kCheckInterval;
  }

  // Members go in reverse order: first the links, so that nothing runs any more when the maps go.
  SockopsOptions options;
  Pins pins;
  bool was_pinned = false;     // by an earlier source
  bool was_blind = false;      // since then, or before another program was noticed: yet to be told
  nanoseconds interval;        // of sweeps that take samples
  nanoseconds visit_interval;  // of all sweeps
  std::unique_ptr<struct sockops, SkeletonDeleter> skeleton;
  std::optional<ring::Ring> bell;
  ring::Rings rings;
  Adoption adoption;
  int refusal = 0;              // the kernel's error where it takes no program that comes to the tagged sockets alone
  ThreadNamespaces remembered;  // where sweeps need to know
  Sweep sweeps;
  bpf::Link creator_link;
  bpf::Link attach_link;
  CgroupWatch cgroup_watch;
  sys::Fd ready;  // the bell's descriptor and the watch's in one, where there is a watch

  // Nothing where there is nothing to do: nothing is tagged, or the rings are empty and the kernel wakes us.
  std::optional<Clock::time_point> next_sweep;
  std::optional<Clock::time_point> next_drain;
  Clock::time_point next_samples{};  // the sweeps before it take none
  Clock::time_point next_check{};    // of callback flags
  Clock::time_point next_census{};   // of other programs
  __u32 program_id = 0;
  std::optional<Clock::time_point> next_look;  // at the cgroup that was removed
  std::chrono::milliseconds look_pause = kFirstLook;
  bool is_cgroup_gone = false;
  Clock::time_point ticked{};  // the owner's time may be ahead of ours
  bool last_look = false;      // the rings were watched for long enough: if they are empty, sleep
  bool swept = false;
  std::uint64_t visited = 0;  // sockets, by sweeps so far
  Statistics statistics;
  EventCounts told{};                              // of the lost records: those that gap records have told of
  bool untold = false;                             // there may be more
  std::vector<MapCost> ring_costs;                 // their descriptors are closed once the array has the rings
  mutable std::vector<tcpinfo_counters> counters;  // one a possible CPU

  unsigned made_in = fork_generation();
  bool draining = false;
  bool has_others = false;  // another sock_ops program runs for the cgroup
  bool closing = false;     // close() came from inside the sink: the rings are in use

  /// The rings' positions are in memory that a child shares with its parent.
  bool in_child() const noexcept { return fork_generation() != made_in; }
  void use_pinned();
  int load_programs();
  void load();
  void make_rings(__u32 cpus);
  void attach();
  std::uint64_t watermark() const noexcept;
  void wake_at(std::uint64_t bytes) noexcept;
  void sleep() noexcept;
  void plan(std::size_t drained, bool is_limited) noexcept;
  bool read_counters(Statistics& into) const noexcept;
  bool pass_gap(const RecordSink& sink, const tcpinfo_record& record) noexcept;
  std::size_t tell_gaps(const RecordSink& sink, std::size_t limit) noexcept;
  std::size_t tell_blindness(const RecordSink& sink) noexcept;
  void keep_books() noexcept;
  std::error_code sweep() noexcept;
  void look_for_others() noexcept;
  bool finds_others() noexcept;
  void watch_cgroup() noexcept;
  void unwatch_cgroup() noexcept;
  std::error_code look_at_cgroup(Clock::time_point now) noexcept;
};

// The maps of an earlier source in place of new ones. Its settings are in the pinned programs.
void SockopsSource::Impl::use_pinned() {
  const sys::Fd settings = pins.get("rodata");
  if (!settings) {  // the last that is pinned: what else there may be was left half done
    if (const auto error = pins.clear(false)) bpf::fail(error.value(), "clear " + pins.directory().string(), "");
    return;
  }
  was_pinned = true;
  const auto refuse = [&] {
    invalid("use what is pinned in " + pins.directory().string(),
            "it was left by a source with other options, or by another version; tcpinfo unpin " +
                pins.directory().string() + " removes it");
  };
  bpf_map_info info{};
  __u32 size = sizeof(info);
  if (bpf_obj_get_info_by_fd(settings.get(), &info, &size) != 0) bpf::fail(errno, "look at the pinned settings", "");
  std::vector<std::byte> value(info.value_size);
  const __u32 zero = 0;
  if (info.value_size < sizeof(*skeleton->rodata)) refuse();
  if (bpf_map_lookup_elem(settings.get(), &zero, value.data()) != 0) bpf::fail(errno, "read the pinned settings", "");
  if (std::memcmp(value.data(), skeleton->rodata, sizeof(*skeleton->rodata)) != 0) refuse();
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton->obj) {
    if (map == skeleton->maps.rodata || !bpf_map__autocreate(map)) continue;
    const sys::Fd pinned = pins.get(name_of(map));
    if (!pinned) refuse();
    if (int error = bpf_map__reuse_fd(map, pinned.get())) bpf::fail(-error, "use a pinned map again", "");
  }
}

// An errno, or 0.
int SockopsSource::Impl::load_programs() {
  if (int error = sys::fault("open skeleton"))
    bpf::fail(error, "open the sock_ops programs", bpf::way_out_of(error, kCapabilities));
  const bpf::OpenOptions open_options;
  skeleton.reset(sockops__open_opts(open_options.get()));
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
  wanted.sample_ring_bytes = options.ring_bytes;
  wanted.life_ring_bytes = options.life_cycle_ring_bytes;
  wanted.sweep_interval_ns = static_cast<__u64>(interval.count());
  wanted.cgroup_id = cgroup_id(options.cgroup);
  wanted.adopts = options.adopt;
  wanted.filter = options.filter.raw();
  wanted.trigger = options.trigger.raw();
  wanted.cpus = static_cast<__u32>(counters.size());
  wanted.record_bytes = sizeof(tcpinfo_record);
  wanted.connection_bytes = bpf_map__value_size(skeleton->maps.connections);
  std::memcpy(const_cast<void*>(static_cast<const volatile void*>(&settings)), &wanted, sizeof(wanted));

  for (const auto& [map, size] :
       {std::pair(skeleton->maps.records, 2 * wanted.cpus), std::pair(skeleton->maps.bell, page_bytes())})
    if (int error = bpf_map__set_max_entries(map, size)) bpf::fail(-error, "set the size of a map", "");
  for (const auto& [map, is_used] : {std::pair(skeleton->maps.drafts, !options.trigger.empty()),
                                     std::pair(skeleton->maps.histories, options.trigger.asks_for_growth())})
    if (int error = bpf_map__set_autocreate(map, is_used)) bpf::fail(-error, "leave out a map that is not used", "");

  skeleton->rodata->knows_creators = options.owners;
  bpf_program__set_autoload(skeleton->progs.tcpinfo_creator, options.owners);
  bpf_map__set_autocreate(skeleton->maps.creators, options.owners);
  const bool is_swept = options.mode != Mode::kClose;
  bpf_program__set_autoload(skeleton->progs.tcpinfo_sweep, is_swept && !refusal);
  bpf_program__set_autoload(skeleton->progs.tcpinfo_sweep_all, is_swept && refusal);

  if (pins) use_pinned();
  const int error = sys::fault("load");
  return error ? error : -sockops__load(skeleton.get());
}

void SockopsSource::Impl::load() {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) bpf::fail(-cpus, "count the possible CPUs", "");
  counters.resize(static_cast<std::size_t>(cpus));
  if (!options.pin.empty()) pins = Pins(options.pin);
  refusal = sys::fault("iterate over socket storage");
  int error = load_programs();
  if (error && !refusal) {
    refusal = bpf::refusal_of_iterator("bpf_sk_storage_map");
    if (refusal) error = load_programs();
  }
  if (error) bpf::fail_load(error, "load the sock_ops programs", kCapabilities);
  if (was_pinned) {
    const auto& books = skeleton->bss->books;
    std::copy(std::begin(books.delivered), std::end(books.delivered), statistics.delivered.begin());
    std::copy(std::begin(books.lost_sink), std::end(books.lost_sink), statistics.lost_sink.begin());
    std::copy(std::begin(books.told), std::end(books.told), told.begin());
    untold = true;
    // What that source was about to do.
    skeleton->bss->adoption = {};
    skeleton->bss->wakeup_at = 0;
    next_drain = Clock::now();
  }

  bell.emplace(bpf_map__fd(skeleton->maps.bell), page_bytes());
  make_rings(static_cast<__u32>(cpus));
  if (!pins || was_pinned) return;
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton->obj) {
    if (map != skeleton->maps.rodata && bpf_map__autocreate(map)) pins.put(name_of(map), bpf_map__fd(map));
  }
  pins.put("rodata", bpf_map__fd(skeleton->maps.rodata));  // the last: with it they are whole
}

// One of each kind for each CPU that is there. Others, which may come later, share with them.
void SockopsSource::Impl::make_rings(__u32 cpus) {
  const auto directory = [](__u32 cpu) { return "/sys/devices/system/cpu/cpu" + std::to_string(cpu); };
  const bool is_told = ::access(directory(0).c_str(), F_OK) == 0;
  const auto is_online = [&](__u32 cpu) {
    if (!is_told) return true;
    const sys::Fd file(::open((directory(cpu) + "/online").c_str(), O_RDONLY | O_CLOEXEC));
    char state = '0';
    if (file && ::read(file.get(), &state, 1) == 1) return state == '1';
    return ::access(directory(cpu).c_str(), F_OK) == 0;  // one that cannot be taken offline has no such file
  };
  std::vector<__u32> online;
  for (__u32 cpu = 0; cpu < cpus; ++cpu)
    if (cpu == 0 || is_online(cpu)) online.push_back(cpu);

  std::vector<sys::Fd> made;
  std::vector<__u32> keys;
  std::vector<int> values;
  const auto make = [&](__u32 first_key, std::size_t bytes, const char* what) {
    const auto begin = values.size();
    keys.resize(begin + cpus);
    std::iota(keys.begin() + static_cast<std::ptrdiff_t>(begin), keys.end(), first_key);
    values.resize(begin + cpus, -1);
    const auto of = [&](std::size_t cpu) -> int& { return values[begin + cpu]; };
    for (const auto cpu : online) {
      const auto name = "ring-" + std::to_string(first_key + cpu);
      if (was_pinned) made.push_back(pins.get(name));
      if (!was_pinned || !made.back()) {  // or the CPU was offline then
        int error = sys::fault("create ring");
        if (!error) {
          made.emplace_back(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "records", 0, 0, static_cast<__u32>(bytes), nullptr));
          if (!made.back()) error = errno;
        }
        if (error) bpf::fail(error, "create a ring buffer", bpf::way_out_of(error, kCapabilities));
        if (pins) pins.put(name, made.back().get());
      }
      of(cpu) = made.back().get();
      rings.add(ring::Ring(of(cpu), bytes));
      ring_costs.push_back(bpf::cost_of_map(of(cpu), what + std::to_string(cpu)));
    }
    for (std::size_t cpu = 0; cpu < cpus; ++cpu)
      if (of(cpu) < 0) of(cpu) = of(online[cpu % online.size()]);
  };
  if (options.mode == Mode::kPolling) make(0, options.ring_bytes, "samples of CPU ");
  make(cpus, options.life_cycle_ring_bytes, "life cycle records of CPU ");

  // All at once: the kernel waits a grace period after each call.
  int error = sys::fault("give rings to CPUs");
  if (!error) {
    auto count = static_cast<__u32>(keys.size());
    bpf_map_batch_opts batch{};
    batch.sz = sizeof(batch);
    if (bpf_map_update_batch(bpf_map__fd(skeleton->maps.records), keys.data(), values.data(), &count, &batch) != 0)
      error = errno;
  }
  if (error) bpf::fail(error, "give the ring buffers to the CPUs", bpf::way_out_of(error, kCapabilities));
}

void SockopsSource::Impl::attach() {
  if (options.mode != Mode::kClose) {
    const int error = refusal ? sweeps.attach_to_all(skeleton->progs.tcpinfo_sweep_all, options.cgroup, &remembered)
                              : sweeps.attach(skeleton->progs.tcpinfo_sweep, bpf_map__fd(skeleton->maps.connections));
    if (error) bpf::fail(error, "attach the sweep", bpf::way_out_of(error, kCapabilities));
  }

  static_assert(sizeof(skeleton->bss->adoption) == sizeof(tcpinfo_adoption));
  adoption.attach({skeleton->progs.tcpinfo_adopt, skeleton->progs.tcpinfo_transition, &skeleton->bss->adoption},
                  options.cgroup, options.mode, options.adopt, refusal ? &remembered : nullptr);

  // Last: from here on records are made.
  sys::Fd directory;
  int error = sys::fault("open cgroup");
  if (!error) {
    directory.reset(::open(options.cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory) error = errno;
  }
  if (error) bpf::fail(error, "open cgroup " + options.cgroup.string(), "");
  const auto attach_to_cgroup = [&](bpf::Link& link, const bpf_program* program, const std::string& what) {
    const auto pin = "link-" + what;
    if (pins && pins.get(pin)) {  // it stayed attached
      link.reset(bpf_link__open(pins.path(pin).c_str()));
      if (!link) bpf::fail(errno, "take " + pins.path(pin).string(), "");
      return false;
    }
    error = sys::fault("attach " + what);
    if (!error) {
      link.reset(bpf_program__attach_cgroup(program, directory.get()));
      if (!link) error = errno;
    }
    if (error)
      bpf::fail(error, "attach " + what + " to " + options.cgroup.string(), bpf::way_out_of(error, kCapabilities));
    if (options.pin_link) pins.put(pin, link.descriptor());
    return true;
  };
  if (options.owners) attach_to_cgroup(creator_link, skeleton->progs.tcpinfo_creator, "sock_create");
  was_blind = attach_to_cgroup(attach_link, skeleton->progs.tcpinfo_sockops, "sock_ops") && was_pinned;

  bpf_link_info info{};
  __u32 size = sizeof(info);
  if (bpf_obj_get_info_by_fd(attach_link.descriptor(), &info, &size) == 0) program_id = info.prog_id;
  const auto now = Clock::now();
  next_samples = now + interval;
  next_check = next_census = now + kCheckInterval;
  if (has_other_sock_ops_program(options.cgroup, program_id, true).value_or(false)) {
    skeleton->bss->adoption.others = 1;  // to stay: to look below the cgroup is long
    finds_others();
  }
  if (sweeps.is_attached()) next_sweep = now + visit_interval;
  watch_cgroup();
}

// Without inotify, or a descriptor for it, nobody is told that the cgroup is gone.
void SockopsSource::Impl::watch_cgroup() noexcept {
  cgroup_watch = CgroupWatch(options.cgroup);
  if (cgroup_watch.descriptor() < 0) return;
  ready.reset(epoll_create1(EPOLL_CLOEXEC));
  epoll_event readable{};
  readable.events = EPOLLIN;
  if (ready)
    for (const int descriptor : {bpf_map__fd(skeleton->maps.bell), cgroup_watch.descriptor()})
      if (epoll_ctl(ready.get(), EPOLL_CTL_ADD, descriptor, &readable) != 0) return ready.reset();
}

// By hand: closed alone it would stay in there while a child made by fork() has a copy.
void SockopsSource::Impl::unwatch_cgroup() noexcept {
  if (ready && cgroup_watch.descriptor() >= 0)
    epoll_ctl(ready.get(), EPOLL_CTL_DEL, cgroup_watch.descriptor(), nullptr);
  cgroup_watch = {};
}

// A removed cgroup goes on as long as sockets of it live; after the last of them the kernel detaches (kernel v6.18
// kernel/bpf/cgroup.c bpf_cgroup_link_auto_detach()).
std::error_code SockopsSource::Impl::look_at_cgroup(Clock::time_point now) noexcept {
  if (!attach_link || is_cgroup_gone) return {};
  if (!next_look && cgroup_watch.removed()) {
    next_look = now;
    unwatch_cgroup();  // from here on it is looked at again and again
  }
  if (!next_look || now < *next_look) return {};
  bpf_link_info info{};
  __u32 length = sizeof(info);
  if (bpf_obj_get_info_by_fd(attach_link.descriptor(), &info, &length) != 0 || info.cgroup.cgroup_id != 0) {
    next_look = now + look_pause;
    look_pause = std::min(2 * look_pause, kLongestPause);
    return {};
  }
  is_cgroup_gone = true;
  next_look.reset();
  return make_error_code(Errc::kCgroupGone);
}

std::uint64_t SockopsSource::Impl::watermark() const noexcept {
  if (options.wakeup_bytes) return options.wakeup_bytes;
  return (options.mode == Mode::kPolling ? options.ring_bytes : options.life_cycle_ring_bytes) / 4;
}

void SockopsSource::Impl::wake_at(std::uint64_t bytes) noexcept {
  auto& shared = skeleton->bss->wakeup_at;
  // All CPUs read it all the time: take it from them only when it changes.
  if (__atomic_load_n(&shared, __ATOMIC_RELAXED) != bytes) __atomic_store_n(&shared, bytes, __ATOMIC_SEQ_CST);
}

// The next record wakes us. See wake_consumer() in emit.bpf.h.
void SockopsSource::Impl::sleep() noexcept {
  next_drain.reset();
  wake_at(0);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (rings.is_drained() && !untold) return;
  wake_at(watermark());
  next_drain = Clock::now() + std::chrono::duration_cast<Clock::duration>(options.latency);
}

// When to come again. It falls asleep only after it found nothing for as long as `latency`: otherwise each of the
// records that come slowly would wake it. After a sweep it need not look once more for what the sweep made.
void SockopsSource::Impl::plan(std::size_t drained, bool is_limited) noexcept {
  const auto latency = std::chrono::duration_cast<Clock::duration>(options.latency);
  const auto now = std::max(Clock::now(), ticked);
  const bool seldom_swept = swept && interval > options.latency;
  if (is_limited) {
    next_drain = now;
  } else if (sweeps.is_running()) {
    next_drain = now + latency;
  } else if (seldom_swept || (drained == 0 && (last_look || !next_drain))) {
    sleep();
  } else if (drained > 0) {
    next_drain = now + latency;
  }
  last_look = false;

  // Where nothing is tagged there is nothing to sweep. A connection that begins is told by its record, for which it
  // falls asleep at once: otherwise the sweeps would begin as late as `latency` allows.
  if (sweeps.is_attached() && swept && drained == 0) {
    const auto before = std::exchange(visited, skeleton->bss->sweep.visits);
    if (visited == before) {
      next_sweep.reset();
      sleep();
      if (next_drain) next_sweep = now + visit_interval;
    }
  } else if (sweeps.is_attached() && drained > 0 && !next_sweep) {
    next_sweep = now + visit_interval;
  }
  swept = false;
}

// Begins a sweep or goes on with the one under way, until it is over or a ring is half full.
std::error_code SockopsSource::Impl::sweep() noexcept {
  auto& shared = skeleton->bss->sweep;
  if (!sweeps.is_running()) {
    if (const auto error = sweeps.begin()) return error;
    shared.time_ns = boot_time_ns();
    shared.samples_none = options.mode != Mode::kPolling || ticked < next_samples;
    shared.checks = ticked >= next_check;
    shared.silenced = 0;
    if (!shared.samples_none) advance(next_samples, ticked, interval);
    if (shared.checks) advance(next_check, ticked, kCheckInterval);
  }
  const auto error = sweeps.step();
  if (error || sweeps.is_running()) return error;
  if (!shared.samples_none) ++statistics.sweeps;
  if (shared.checks) {
    statistics.silenced = shared.silenced;
    if (shared.silenced > 0 && adoption.can_set_flags()) adoption.begin();
  }
  swept = true;
  return {};
}

// Whoever else runs for the cgroup may overwrite callback flags. What happens before they are back, the tracepoint
// sees. Programs below the cgroup are seen by ours, when a connection begins there.
bool SockopsSource::Impl::finds_others() noexcept {
  has_others = skeleton->bss->adoption.others ||
               has_other_sock_ops_program(options.cgroup, program_id, false).value_or(has_others);
  if (has_others) adoption.watch_transitions();
  return has_others;
}

void SockopsSource::Impl::look_for_others() noexcept {
  if (!attach_link || is_cgroup_gone || ticked < next_census) return;
  advance(next_census, ticked, kCheckInterval);
  if (adoption.is_put_off()) adoption.begin();
  if (!finds_others()) return;
  // In close mode no sweep shows who lacks its flag.
  if (options.mode == Mode::kClose && options.adopt && adoption.can_set_flags()) adoption.begin();
}

bool SockopsSource::Impl::read_counters(Statistics& into) const noexcept {
  const __u32 zero = 0;
  if (bpf_map_lookup_elem(bpf_map__fd(skeleton->maps.counters), &zero, counters.data()) != 0) return false;
  into.emitted = {};
  into.lost_ring = {};
  into.connections = into.filtered = into.untracked = into.wakeups = into.rearmed = into.untriggered = 0;
  for (const auto& cpu : counters) {
    for (std::size_t event = 0; event < kEventCount; ++event) {
      into.emitted[event] += cpu.emitted[event];
      into.lost_ring[event] += cpu.lost[event];
    }
    into.connections += cpu.connections;
    into.filtered += cpu.filtered;
    into.untracked += cpu.untracked;
    into.wakeups += cpu.wakeups;
    into.rearmed += cpu.rearmed;
    into.untriggered += cpu.untriggered;
  }
  into.emitted[TCPINFO_EVENT_GAP] = into.delivered[TCPINFO_EVENT_GAP] + into.lost_sink[TCPINFO_EVENT_GAP];
  return true;
}

bool SockopsSource::Impl::pass_gap(const RecordSink& sink, const tcpinfo_record& record) noexcept try {
  sink(Record(record));
  ++statistics.delivered[TCPINFO_EVENT_GAP];
  return true;
} catch (...) {
  ++statistics.lost_sink[TCPINFO_EVENT_GAP];
  return false;
}

// What happened nobody knows: since the source before this one ended, or before another program was noticed.
std::size_t SockopsSource::Impl::tell_blindness(const RecordSink& sink) noexcept {
  was_blind = !pass_gap(sink, make_gap());
  return was_blind ? 0 : 1;
}

void SockopsSource::Impl::keep_books() noexcept {
  auto& books = skeleton->bss->books;
  std::ranges::copy(statistics.delivered, books.delivered);
  std::ranges::copy(statistics.lost_sink, books.lost_sink);
  std::ranges::copy(told, books.told);
}

// Passes a gap record for each event of which records were lost since it was told last. See lose() in emit.bpf.h.
std::size_t SockopsSource::Impl::tell_gaps(const RecordSink& sink, std::size_t limit) noexcept {
  auto& has_lost = skeleton->bss->has_lost;
  if (__atomic_load_n(&has_lost, __ATOMIC_SEQ_CST) != 0) {
    __atomic_store_n(&has_lost, 0, __ATOMIC_SEQ_CST);
    untold = true;
  }
  if (!untold || !read_counters(statistics)) return 0;
  untold = false;
  std::size_t passed = 0;
  for (std::size_t event = 0; event < kEventCount; ++event) {
    while (const auto lost = statistics.lost_ring[event] - told[event]) {
      if (passed == limit || closing) {
        untold = true;
        return passed;
      }
      const auto number = std::min<std::uint64_t>(lost, std::numeric_limits<std::uint32_t>::max());
      auto record = make_gap();
      set_number(record, Field::lost_records, number);
      set_number(record, Field::lost_event, event);
      if (!pass_gap(sink, record)) {
        // The next drain() tries again; not counted as passed, so that whoever drains to the end gets there.
        untold = true;
        break;
      }
      ++passed;
      told[event] += number;
    }
  }
  return passed;
}

SockopsSource::SockopsSource(const SockopsOptions& options) {
  cgroup_id(options.cgroup);
  const LibbpfLog log;
  impl_ = std::make_unique<Impl>(options);
  try {
    impl_->load();
    impl_->attach();
  } catch (...) {
    if (impl_->pins && !impl_->was_pinned) impl_->pins.clear(true);
    throw;
  }
}

SockopsSource::~SockopsSource() { close(); }

SourceId SockopsSource::id() const noexcept { return SourceId::kSockops; }

int SockopsSource::descriptor() const noexcept {
  if (!impl_->skeleton || impl_->closing) return -1;
  return impl_->ready ? impl_->ready.get() : bpf_map__fd(impl_->skeleton->maps.bell);
}

std::optional<Source::Clock::time_point> SockopsSource::next_deadline() const noexcept {
  if (!impl_->skeleton || impl_->closing) return std::nullopt;
  if (impl_->adoption.is_running()) return impl_->ticked;
  // While a sweep is under way, drain() goes on with it and the next one waits.
  const auto sweep = impl_->sweeps.is_attached() && !impl_->sweeps.is_running() ? impl_->next_sweep : std::nullopt;
  // In close mode neither a record nor a sweep tells that there are connections which another program may silence.
  std::optional<Clock::time_point> census;
  if (impl_->attach_link && !impl_->is_cgroup_gone &&
      (impl_->options.mode == Mode::kClose || impl_->adoption.is_put_off()))
    census = impl_->next_census;
  std::optional<Clock::time_point> first;
  for (const auto& due : {sweep, census, impl_->next_drain, impl_->next_look})
    if (due && (!first || *due < *first)) first = due;
  return first;
}

std::error_code SockopsSource::tick(Clock::time_point now) noexcept {
  if (!impl_->skeleton) return {};
  if (impl_->in_child()) return Errc::kForked;
  impl_->ticked = now;
  impl_->look_for_others();
  const auto is_due = [now](const std::optional<Clock::time_point>& due) { return due && now >= *due; };
  if (is_due(impl_->next_drain)) {
    advance(*impl_->next_drain, now, impl_->options.latency);
    impl_->last_look = true;
  }
  if (const auto gone = impl_->look_at_cgroup(now)) return gone;
  if (!impl_->sweeps.is_attached() || impl_->sweeps.is_running() || !is_due(impl_->next_sweep)) return {};
  advance(*impl_->next_sweep, now, impl_->visit_interval);
  // What the sweep makes need not wake us: the owner drains after it.
  if (!impl_->next_drain) impl_->next_drain = now + std::chrono::duration_cast<Clock::duration>(impl_->options.latency);
  impl_->wake_at(impl_->watermark());
  return impl_->sweep();
}

DrainResult SockopsSource::drain(RecordSink sink, std::size_t limit) noexcept {
  if (!impl_->skeleton || limit == 0) return {};
  if (impl_->in_child()) return {0, Errc::kForked};
  // The bell first: whoever finds the watermark set rings it again.
  impl_->bell->release(impl_->bell->produced());
  impl_->wake_at(impl_->watermark());
  impl_->draining = true;
  DrainResult result;
  result.records = impl_->tell_gaps(sink, limit);
  for (bool first = true, more = result.records < limit; more; first = false) {
    const auto got = impl_->rings.drain(sink, limit - result.records, impl_->closing, impl_->statistics);
    result.records += got;
    // Who is killed in what follows, which may take long, leaves books that tell what was passed on.
    if (impl_->pins) impl_->keep_books();
    // A sweep makes no more than the rings have room for: now they have it again, also where the call before this one
    // made it and came to its limit. So does a pass over older connections.
    more = (impl_->sweeps.is_running() || impl_->adoption.is_running()) && (got > 0 || first) &&
           result.records < limit && !impl_->closing;
    if (!more) break;
    const auto error = impl_->adoption.is_running() ? impl_->adoption.step() : impl_->sweep();
    if (!result.error) result.error = error;
    if (impl_->adoption.can_spare_transitions() && !impl_->finds_others()) impl_->adoption.stop_transitions();
  }
  // Behind what was made before.
  impl_->was_blind |= impl_->adoption.take_blindness();
  if (impl_->was_blind && result.records < limit && !impl_->closing) result.records += impl_->tell_blindness(sink);
  impl_->draining = false;
  if (impl_->pins) impl_->keep_books();
  if (impl_->closing) {
    close();
  } else {
    impl_->plan(result.records, result.records == limit);
  }
  return result;
}

Capabilities SockopsSource::capabilities() const {
  Capabilities result;
  result.push_back({"callbacks", static_cast<bool>(impl_->attach_link),
                    !impl_->attach_link       ? "stopped or closed"
                    : impl_->options.pin_link ? "a bpf_link to the cgroup, which stays attached when the process ends"
                                              : "a bpf_link to the cgroup: the kernel detaches when the process ends"});
  const bool samples = impl_->sweeps.is_attached() && impl_->options.mode == Mode::kPolling;
  const auto not_seen = impl_->sweeps.not_seen();
  std::string detail = "only in polling mode, until stopped";
  if (samples) detail = "samples receivers, idle and stalled connections by iter/bpf_sk_storage_map";
  if (samples && impl_->refusal)
    detail =
        "samples receivers, idle and stalled connections by iter/tcp, which comes to all sockets of the cgroup's "
        "network namespaces: this kernel refuses iter/bpf_sk_storage_map, which comes to the cgroup's alone (" +
        std::generic_category().message(impl_->refusal) + ")";
  if (samples && !not_seen.empty())
    detail += "; of the network namespaces " + not_seen + "; such connections there have no samples";
  result.push_back({"sweep", samples && not_seen.empty(), detail});
  if (impl_->attach_link)
    impl_->adoption.describe(result);
  else
    result.push_back({"adoption", false, "stopped or closed"});
  return result;
}

std::uint32_t SockopsSource::program_id() const noexcept { return impl_->program_id; }

Statistics SockopsSource::statistics() const noexcept {
  Statistics result = impl_->statistics;
  if (impl_->skeleton) impl_->read_counters(result);
  result.adopting = impl_->adoption.is_adopting();
  return result;
}

Cost SockopsSource::cost() const {
  if (!impl_->skeleton) return {};
  auto cost = bpf::cost_of(impl_->skeleton->obj);
  cost.maps.insert(cost.maps.end(), impl_->ring_costs.begin(), impl_->ring_costs.end());
  return cost;
}

void SockopsSource::stop() noexcept {
  const bool was_attached = static_cast<bool>(impl_->attach_link) && !impl_->in_child();
  impl_->adoption.stop_transitions();  // without the callbacks all that begins would seem to be older than the attach
  impl_->attach_link.reset();
  impl_->creator_link.reset();
  impl_->sweeps.detach();
  if (was_attached && !impl_->options.pin_link) impl_->adoption.clear();
  impl_->adoption.detach();
  impl_->unwatch_cgroup();
  impl_->next_look.reset();
}

void SockopsSource::close() noexcept {
  if (!impl_ || !impl_->skeleton) return;
  stop();
  impl_->closing = impl_->draining;
  if (impl_->closing) return;
  impl_->read_counters(impl_->statistics);
  impl_->rings = {};
  impl_->bell.reset();
  impl_->ready.reset();
  impl_->skeleton.reset();
  impl_->pins = {};
}

}  // namespace tcpinfo
