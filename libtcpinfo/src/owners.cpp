// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/owner.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <new>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/error.hpp>
#include <tcpinfo/privileges.hpp>

#include "bpf.hpp"
#include "connection_key.hpp"
#include "libbpf_log.hpp"
#include "lru.hpp"
#include "owners.h"
#include "owners.skel.h"
#include "system.hpp"
#include "walks.hpp"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace tcpinfo {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kCgroups = 4096, kNamespaces = 4096;  // remembered
constexpr std::size_t kSearchedCgroups = 65536;             // at most, where they cannot be opened by id
constexpr std::uint32_t kInit = 1;

// The kernel gives at most 32 KiB a read, in whole structures (kernel v6.18 kernel/bpf/bpf_iter.c bpf_seq_read()).
constexpr std::size_t kBufferBytes = 32 << 10;

struct SkeletonDeleter {
  void operator()(struct owners* skeleton) const noexcept { owners__destroy(skeleton); }
};

struct DirectoryCloser {
  void operator()(DIR* directory) const noexcept { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, DirectoryCloser>;

struct Entry {
  Owner owner;
  std::uint32_t maker = 0;  // 0: not known
  std::string maker_comm;
  std::uint64_t seen_ns = 0;  // boot time of the record that named the maker
  std::uint64_t cgroup_id = 0, netns_cookie = 0, inode = 0;
  Clock::time_point due{};  // from then on it is looked for again
  bool known = false, wanted = false;
  bool unread = false;  // the executable could not be read for a shortage
};

// The process that is chosen among those that hold a socket.
struct Holder {
  std::uint32_t pid = 0;
  std::uint64_t start_ns = 0;
  std::string comm;
  std::uint32_t holders = 0;
  std::uint32_t last_pid = 0;

  // A process comes once for each of its descriptors, one after the other.
  void add(std::uint32_t another, std::uint64_t its_start_ns, std::string_view its_comm) {
    if (another == last_pid) return;
    last_pid = another;
    ++holders;
    // systemd holds the sockets that it listens on for others.
    const bool is_better = pid == 0 || pid == kInit || (another != kInit && its_start_ns < start_ns);
    if (!is_better) return;
    pid = another;
    start_ns = its_start_ns;
    comm = its_comm;
  }
};

std::string_view text_of(const __u64 (&comm)[2]) noexcept {
  const auto* text = reinterpret_cast<const char*>(comm);
  return {text, strnlen(text, sizeof(comm))};
}

template <class Number>
bool read_number(std::string_view text, Number& into) noexcept {
  const auto* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, into);
  return result.ec == std::errc{} && result.ptr == end;
}

// Not for ever: this process or the host has none of it left.
bool is_shortage(int error) noexcept { return error == EMFILE || error == ENFILE || error == ENOMEM || error == EINTR; }

// A file below /proc: these give no size. Empty, with errno, where it cannot be read.
std::string read_file(const std::string& path) {
  if ((errno = sys::fault("read process"))) return {};
  const sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 1024> text;
  const ssize_t got = file ? ::read(file.get(), text.data(), text.size()) : -1;
  return {text.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
}

std::string read_link(const std::string& path) {
  std::array<char, 4096> target;
  const ssize_t got = ::readlink(path.c_str(), target.data(), target.size());
  return {target.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
}

// Number in "kind:[number]", as the links to sockets and namespaces read.
std::uint64_t inode_of_link(std::string_view target, std::string_view kind) noexcept {
  std::uint64_t inode = 0;
  if (!target.starts_with(kind) || !target.substr(kind.size()).starts_with(":[") || !target.ends_with(']')) return 0;
  target = target.substr(kind.size() + 2, target.size() - kind.size() - 3);
  return read_number(target, inode) ? inode : 0;
}

std::error_code code_of(int error) noexcept { return {error, std::generic_category()}; }

}  // namespace

struct Owners::Impl {
  explicit Impl(const OwnersOptions& chosen);

  OwnersOptions options;
  std::unique_ptr<struct owners, SkeletonDeleter> skeleton;
  bpf::Link link;
  std::string holders_error;  // why the iterator is not used
  std::unique_ptr<std::byte[]> buffer = std::make_unique_for_overwrite<std::byte[]>(kBufferBytes);
  std::uint64_t tick_ns = 10'000'000;

  std::string mount;  // of cgroup v2; empty: there is none
  sys::Fd mount_fd;
  bool opens_cgroups = false;                                 // by id
  detail::Lru<std::uint64_t, std::string> cgroups{kCgroups};  // by id; empty: there is none any more

  detail::Lru<std::uint64_t, std::uint32_t> netns_inodes{kNamespaces};  // by cookie
  std::unordered_map<std::uint64_t, std::string> netns_names;           // by inode, of this refresh
  bool named = false;

  detail::Lru<detail::ConnectionKey, Entry, detail::ConnectionKeyHash> entries;
  std::size_t wanted = 0;
  Clock::time_point next_walk{};  // in the past: the first one is due at once
  OwnersStatistics statistics;

  struct Process {
    std::uint64_t start_ns;
    std::string comm, executable;
    bool unread;  // for a shortage
  };
  std::unordered_map<std::uint32_t, Process> processes;  // of this refresh

  using Found = std::unordered_map<std::uint64_t, Holder>;

  int load();
  void open_mount();
  std::string path_of(const std::string& name) const { return options.proc.string() + '/' + name; }
  const Process& process(std::uint32_t pid);
  int iterate(Found& by_cookie);
  void read_holders(std::span<const std::byte> bytes, Found& by_cookie);
  int search_proc(Found& by_inode);
  void search_descriptors(const std::string& pid_text, std::uint32_t pid, Found& by_inode);
  void resolve();
  void settle(Entry& entry, const Holder* holder, bool walked);
  std::optional<std::string> open_cgroup(std::uint64_t id);
  void find_cgroups();
  bool search_cgroups();
  std::string netns_name(std::uint64_t cookie);
};

Owners::Impl::Impl(const OwnersOptions& chosen) : options(chosen), entries(chosen.capacity) {
  if (options.capacity == 0)
    throw Error(make_error_code(Errc::kInvalidOption), "set how many owners are remembered", "it is more than 0");
  if (options.recheck <= std::chrono::nanoseconds::zero())
    throw Error(make_error_code(Errc::kInvalidOption), "set when holders are looked for again", "it is more than 0");
  if (!(options.walk_share > 0 && options.walk_share <= 1))
    throw Error(make_error_code(Errc::kInvalidOption), "set the share of time in which holders are looked for",
                "it is more than 0 and not more than 1");
  if (const auto ticks = sysconf(_SC_CLK_TCK); ticks > 0) tick_ns = 1'000'000'000 / static_cast<std::uint64_t>(ticks);
  if (const int error = load())
    holders_error = code_of(error).message() + " (" + bpf::way_out_of(error, "CAP_BPF and CAP_PERFMON") + ")";
  open_mount();

  // Without the iterator only sockets of this namespace are found, and this tells its number.
  const sys::Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  if (probe && getsockopt(probe.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) == 0)
    if (const auto inode = inode_of_link(read_link("/proc/thread-self/ns/net"), "net"))
      netns_inodes.insert(cookie) = static_cast<std::uint32_t>(inode);
}

// 0, or why it does not work here: then there is the other way.
int Owners::Impl::load() {
  const std::uint64_t id = options.cgroup.empty() ? 0 : cgroup_id(options.cgroup);
  const LibbpfLog log;
  const bpf::OpenOptions open_options;
  int error = sys::fault("load holders");
  if (!error) {
    skeleton.reset(owners__open_opts(open_options.get()));
    if (!skeleton) error = errno;
  }
  if (!error) {
    skeleton->rodata->cgroup_id = id;
    error = -owners__load(skeleton.get());
  }
  if (!error) {
    link.reset(bpf_program__attach_iter(skeleton->progs.tcpinfo_holders, nullptr));
    if (!link) error = errno;
  }
  if (!error) {
    const sys::Fd iterator(bpf_iter_create(link.descriptor()));
    if (!iterator) error = errno;
  }
  if (error) {
    link.reset();
    skeleton.reset();
  }
  return error;
}

void Owners::Impl::open_mount() {
  try {
    mount = cgroup2_mount().string();
  } catch (const Error&) {
    return;
  }
  mount_fd.reset(::open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat status {};
  opens_cgroups = mount_fd && fstat(mount_fd.get(), &status) == 0;
  if (opens_cgroups) opens_cgroups = !open_cgroup(status.st_ino).value_or("").empty();
}

// What a process is called and runs now. Read again in every refresh: it may have become another one, or execute
// another file.
const Owners::Impl::Process& Owners::Impl::process(std::uint32_t pid) {
  const auto [place, is_new] = processes.try_emplace(pid);
  auto& found = place->second;
  if (!is_new) return found;
  const auto directory = path_of(std::to_string(pid));
  found.executable = read_link(directory + "/exe");
  found.comm = read_file(directory + "/comm");
  if (found.comm.ends_with('\n')) found.comm.pop_back();
  // Last: if it is the process that is meant, so it was before. proc(5): field 22, behind a name with any characters.
  const auto stat = read_file(directory + "/stat");
  const bool unread = stat.empty() && is_shortage(errno);
  auto rest = std::string_view(stat).substr(std::min(stat.rfind(')'), stat.size()));
  for (int field = 2; field < 22; ++field) rest.remove_prefix(std::min(rest.find(' '), rest.size() - 1) + 1);
  std::uint64_t ticks = 0;
  if (rest.empty() || !read_number(rest.substr(0, rest.find(' ')), ticks))
    found = {.start_ns = 0, .comm = {}, .executable = {}, .unread = unread};
  else
    found.start_ns = ticks * tick_ns;
  return found;
}

void Owners::Impl::read_holders(std::span<const std::byte> bytes, Found& by_cookie) {
  for (tcpinfo_holder holder; bytes.size() >= sizeof(holder); bytes = bytes.subspan(sizeof(holder))) {
    std::memcpy(&holder, bytes.data(), sizeof(holder));
    if (!netns_inodes.find(holder.netns_cookie)) netns_inodes.insert(holder.netns_cookie) = holder.netns_inode;
    if (const auto place = by_cookie.find(holder.cookie); place != by_cookie.end() && holder.cookie != 0)
      place->second.add(holder.pid, holder.start_ns, text_of(holder.comm));
  }
}

int Owners::Impl::iterate(Found& by_cookie) {
  if (int error = sys::fault("walk holders")) return error;
  const sys::Fd iterator(bpf_iter_create(link.descriptor()));
  if (!iterator) return errno;
  for (;;) {
    const ssize_t got = ::read(iterator.get(), buffer.get(), kBufferBytes);
    if (got == 0) return 0;
    if (got > 0)
      read_holders({buffer.get(), static_cast<std::size_t>(got)}, by_cookie);
    else if (errno != EINTR && errno != EAGAIN)  // EAGAIN: a million files, no socket among them
      return errno;
  }
}

void Owners::Impl::search_descriptors(const std::string& pid_text, std::uint32_t pid, Found& by_inode) {
  // One that has ended, or is not ours to look at, has none.
  walk_sockets(path_of(pid_text + "/fd"), [&](std::uint64_t inode) {
    const auto place = by_inode.find(inode);
    if (place == by_inode.end()) return true;
    if (const auto& found = process(pid); found.start_ns != 0) place->second.add(pid, found.start_ns, found.comm);
    return true;
  });
}

int Owners::Impl::search_proc(Found& by_inode) {
  const Directory proc(opendir(options.proc.c_str()));
  if (!proc) return errno;
  while (const dirent* entry = readdir(proc.get()))
    if (std::uint32_t pid = 0; read_number(std::string_view(entry->d_name), pid))
      search_descriptors(entry->d_name, pid, by_inode);
  return 0;
}

// Empty: there is none any more, or it is not visible here. Nothing: it cannot be told now.
std::optional<std::string> Owners::Impl::open_cgroup(std::uint64_t id) {
  if (sys::fault("open cgroup")) return std::nullopt;
  // kernel v6.18 include/linux/exportfs.h FILEID_KERNFS: the id is all of the handle.
  constexpr int kFileidKernfs = 0xfe;
  alignas(file_handle) std::array<std::byte, sizeof(file_handle) + sizeof(id)> storage{};
  auto* handle = reinterpret_cast<file_handle*>(storage.data());
  handle->handle_bytes = sizeof(id);
  handle->handle_type = kFileidKernfs;
  std::memcpy(handle->f_handle, &id, sizeof(id));
  const sys::Fd directory(open_by_handle_at(mount_fd.get(), handle, O_PATH | O_CLOEXEC));
  if (!directory) {
    if (errno == EPERM) opens_cgroups = false;
    return errno == ESTALE || errno == ENOENT ? std::optional(std::string()) : std::nullopt;
  }
  const auto path = read_link("/proc/self/fd/" + std::to_string(directory.get()));
  if (path.empty()) return std::nullopt;
  if (path == mount) return "/";
  // One outside of what is mounted, in a cgroup namespace, has no path here.
  return path.starts_with(mount + '/') ? path.substr(mount.size()) : std::string();
}

// Whether it came everywhere.
bool Owners::Impl::search_cgroups() {
  if (sys::fault("open cgroup")) return false;
  std::size_t seen = 0;
  const int error = walk_cgroups(mount, [&](const std::string& path, std::uint64_t id) {
    // Only those that are asked for: the hierarchy may have more than is remembered.
    if (auto* known = cgroups.find(id)) *known = path == mount ? "/" : path.substr(mount.size());
    return ++seen < kSearchedCgroups;
  });
  return !is_shortage(error);
}

// Of those that are asked for. Ids are never given again: a path that is known stays right, also when the cgroup is
// gone.
void Owners::Impl::find_cgroups() {
  if (!mount_fd) return;
  std::vector<std::uint64_t> searched;
  for (auto& [key, entry] : entries) {
    if (!entry.wanted || entry.cgroup_id == 0 || cgroups.find(entry.cgroup_id)) continue;
    if (opens_cgroups)
      if (auto path = open_cgroup(entry.cgroup_id)) cgroups.insert(entry.cgroup_id) = std::move(*path);
    if (opens_cgroups) continue;
    cgroups.insert(entry.cgroup_id);
    searched.push_back(entry.cgroup_id);
  }
  if (searched.empty() || search_cgroups()) return;
  for (const auto id : searched)
    if (const auto* path = cgroups.find(id); path && path->empty()) cgroups.erase(id);
}

std::string Owners::Impl::netns_name(std::uint64_t cookie) {
  const auto* inode = netns_inodes.find(cookie);
  if (!inode) return {};
  if (!std::exchange(named, true)) {
    const Directory names(opendir("/run/netns"));
    while (const dirent* entry = names ? readdir(names.get()) : nullptr) {
      struct stat status {};
      if (entry->d_name[0] != '.' && fstatat(dirfd(names.get()), entry->d_name, &status, 0) == 0)
        netns_names.emplace(status.st_ino, entry->d_name);
    }
  }
  const auto name = netns_names.find(*inode);
  return name != netns_names.end() ? name->second : fmt::format("net:[{}]", *inode);
}

// What was found, or is known without looking.
void Owners::Impl::settle(Entry& entry, const Holder* holder, bool walked) {
  auto& owner = entry.owner;
  if (holder && holder->holders > 0) {
    owner.pid = holder->pid;
    owner.comm = holder->comm;
    const auto& now_there = process(holder->pid);
    const bool is_it = now_there.start_ns / tick_ns == holder->start_ns / tick_ns;
    owner.executable = is_it ? now_there.executable : std::string();
    entry.unread = now_there.unread;
  } else if (entry.maker != 0 && (!entry.known || !owner.pid || (entry.unread && owner.pid == entry.maker))) {
    owner.pid = entry.maker;
    owner.comm = entry.maker_comm;
    // Its start is not known: whoever began later, or is called otherwise, is not taken for it.
    const auto& now_there = process(entry.maker);
    const bool is_it =
        now_there.start_ns != 0 && now_there.start_ns <= entry.seen_ns && now_there.comm == entry.maker_comm;
    owner.executable = is_it ? now_there.executable : std::string();
    entry.unread = now_there.unread;
  }
  if (walked) owner.holders = holder ? holder->holders : 0;

  if (owner.cgroup.empty() && entry.cgroup_id != 0) {
    if (const auto* path = cgroups.find(entry.cgroup_id)) owner.cgroup = *path;
    auto read = parse_cgroup_path(owner.cgroup);
    owner.unit = std::move(read.unit);
    owner.container = std::move(read.container);
  }
  if (auto name = netns_name(entry.netns_cookie); !name.empty()) owner.netns = std::move(name);

  const auto recheck = owner.holders > 0 && !entry.unread ? options.recheck : options.recheck / 10;
  entry.due = walked ? Clock::now() + std::chrono::duration_cast<Clock::duration>(recheck) : next_walk;
  entry.known = true;
}

void Owners::Impl::resolve() {
  Found found;
  for (auto& [key, entry] : entries)
    if (entry.wanted) {
      if (link)
        found.try_emplace(key.cookie);
      else if (entry.inode != 0)
        found.try_emplace(entry.inode);
    }
  const auto begin = Clock::now();
  const bool walks = begin >= next_walk;
  if (walks && !found.empty()) {
    const int error = link ? iterate(found) : search_proc(found);
    const std::chrono::nanoseconds time = Clock::now() - begin;
    next_walk = begin + std::chrono::duration_cast<Clock::duration>(time / options.walk_share);
    ++statistics.walks;
    statistics.walk_ns += static_cast<std::uint64_t>(time.count());
    if (error) throw std::system_error(code_of(error));
  }

  find_cgroups();
  for (auto& [key, entry] : entries) {
    if (!entry.wanted) continue;
    const auto place = found.find(link ? key.cookie : entry.inode);
    settle(entry, place != found.end() ? &place->second : nullptr, walks);
    entry.wanted = false;
    --wanted;
  }
}

std::span<const OwnerField> owner_fields() noexcept {
  static constexpr OwnerField kFields[] = {
      {"executable", "text", "Executable file of the process, as seen in its own mount namespace",
       [](const Owner& owner) { return owner.executable; }},
      {"cgroup", "text", "Path of the socket's cgroup below the mount of cgroup v2",
       [](const Owner& owner) { return owner.cgroup; }},
      {"unit", "text", "Innermost systemd unit of that path", [](const Owner& owner) { return owner.unit; }},
      {"container_runtime", "text", "docker, containerd, cri-o or podman, where the path says so",
       [](const Owner& owner) { return owner.container.runtime; }},
      {"container_id", "text", "Id of the container", [](const Owner& owner) { return owner.container.id; }},
      {"pod_uid", "text", "Kubernetes' uid of the pod, or Podman's id of it",
       [](const Owner& owner) { return owner.container.pod_uid; }},
      {"netns", "text", "Network namespace of the socket: its name in /run/netns, or net:[inode]",
       [](const Owner& owner) { return owner.netns; }},
      {"holders", "u32", "Processes that hold the socket; 0: none was found, and pid is who held it before or made it",
       [](const Owner& owner) { return std::to_string(owner.holders); }},
  };
  return kFields;
}

tcpinfo_record with_owner(const Record& record, const Owner& owner) noexcept {
  auto raw = record.raw();
  if (!owner.pid) return raw;
  set_number(raw, Field::pid, *owner.pid);
  raw.comm = {};
  owner.comm.copy(raw.comm.text, sizeof(raw.comm.text));
  set_present(raw, Field::comm);
  return raw;
}

Owners::Owners(const OwnersOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Owners::~Owners() = default;
Owners::Owners(Owners&&) noexcept = default;
Owners& Owners::operator=(Owners&&) noexcept = default;

const Owner* Owners::find(const Record& record) {
  auto& self = *impl_;
  const auto cookie = record.cookie();
  if (!cookie || *cookie == 0) return nullptr;
  const detail::ConnectionKey key{*cookie, record.generation().value_or(0)};
  auto* entry = self.entries.find(key);
  if (!entry) {
    if (self.entries.size() == self.options.capacity) {
      if (self.entries.oldest().wanted) --self.wanted;
      ++self.statistics.evicted;
    }
    entry = &self.entries.insert(key);
  }
  if (entry->maker == 0 && record.pid()) {
    entry->maker = *record.pid();
    entry->maker_comm = record.comm().value_or("");
    entry->seen_ns = record.time_ns().value_or(0);
  }
  if (entry->cgroup_id == 0) entry->cgroup_id = record.cgroup_id().value_or(0);
  if (entry->netns_cookie == 0) entry->netns_cookie = record.netns_cookie().value_or(0);
  if (const auto inode = record.inode()) entry->inode = *inode;

  ++(entry->known ? self.statistics.hits : self.statistics.unknown);
  if (!entry->wanted && (!entry->known || Clock::now() >= entry->due)) {
    entry->wanted = true;
    ++self.wanted;
  }
  return entry->known ? &entry->owner : nullptr;
}

std::error_code Owners::refresh() noexcept {
  auto& self = *impl_;
  if (self.wanted == 0) return {};
  std::error_code error;
  try {
    self.resolve();
  } catch (const std::system_error& failure) {
    error = failure.code();
  } catch (...) {
    error = code_of(ENOMEM);
  }
  self.processes.clear();
  self.netns_names.clear();
  self.named = false;
  return error;
}

Capabilities Owners::capabilities() const {
  const auto& self = *impl_;
  Capabilities found;
  found.push_back({"holders", static_cast<bool>(self.link),
                   self.link ? "iter/task_file: of all processes and network namespaces"
                             : "iter/task_file: " + self.holders_error +
                                   "; looks into /proc/PID/fd, for records that have an inode, which inet_diag's do"});
  // That of the init process may be out of reach all the same, as that of a container's.
  const bool others =
      Privileges::effective().contains(Privilege::kSysPtrace) || !read_link(self.path_of("1/exe")).empty();
  found.push_back({"executables", others,
                   others ? "of all processes" : "of this user's processes alone; needs CAP_SYS_PTRACE for others"});
  found.push_back({"cgroup_paths", self.opens_cgroups || self.mount_fd,
                   self.opens_cgroups ? "opened by id"
                   : self.mount_fd    ? "looked for in the hierarchy; CAP_DAC_READ_SEARCH finds them by id at once"
                                      : "no cgroup v2 is mounted"});
  return found;
}

OwnersStatistics Owners::statistics() const noexcept {
  auto result = impl_->statistics;
  result.remembered = impl_->entries.size();
  return result;
}

}  // namespace tcpinfo
