// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/inet_diag.hpp>

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/error.hpp>

#include "inet_diag_bytecode.hpp"
#include "inet_diag_parser.hpp"
#include "netns.hpp"
#include "system.hpp"
#include "tcp_info_layout.hpp"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace tcpinfo {
namespace {

// The kernel fills at most 32 KiB a recv(), but a single message may be larger than that.
constexpr std::size_t kBufferBytes = 64 << 10;

std::error_code code_of(int error) noexcept { return {error, std::generic_category()}; }

[[noreturn]] void fail(int error, std::string action, std::string way_out) {
  throw Error(code_of(error), std::move(action), std::move(way_out));
}

// How long a tcp_info the kernel gives, by asking a socket that nobody else can see; 0 where it gives none.
std::size_t tcp_info_length() {
  const sys::Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  std::array<std::byte, 4096> info;
  socklen_t length = info.size();
  if (!probe || getsockopt(probe.get(), IPPROTO_TCP, TCP_INFO, info.data(), &length) != 0) return 0;
  return length;
}

// Of the algorithms with a public state those that are there. Algorithms are not loaded for it.
std::string congestion_controls_with_state() {
  std::string found;
  std::ifstream available("/proc/sys/net/ipv4/tcp_available_congestion_control");
  for (std::string name; available >> name;) {
    const sys::Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    tcp_cc_info info;
    socklen_t length = sizeof(info);
    if (!probe ||
        setsockopt(probe.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) != 0 ||
        getsockopt(probe.get(), IPPROTO_TCP, TCP_CC_INFO, &info, &length) != 0 || length == 0)
      continue;
    found += (found.empty() ? "" : ", ") + name;
  }
  return found;
}

struct Opened {
  sys::Fd fd;
  int error = 0;
};

Opened open_netlink() noexcept {
  if (int error = sys::fault("open netlink socket")) return {{}, error};
  sys::Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!fd) return {{}, errno};
  return {std::move(fd), 0};
}

// Ids of the cgroup and of all below it. One below that goes meanwhile is left out.
std::error_code collect_cgroups(const std::filesystem::path& root, std::vector<std::uint64_t>& ids) {
  ids.clear();
  std::vector<std::string> pending{root.string()};
  while (!pending.empty()) {
    const auto path = std::move(pending.back());
    pending.pop_back();
    const bool is_root = ids.empty();
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
    if (!directory) {
      if (is_root || errno != ENOENT) return code_of(errno);
      continue;
    }
    if (is_root) {
      struct stat status {};
      if (fstat(dirfd(directory.get()), &status) != 0) return code_of(errno);
      ids.push_back(status.st_ino);
    }
    while (const dirent* entry = readdir(directory.get())) {
      const std::string_view name = entry->d_name;
      if (entry->d_type != DT_DIR || name == "." || name == "..") continue;
      ids.push_back(entry->d_ino);
      pending.push_back(path + "/" + entry->d_name);
    }
  }
  std::sort(ids.begin(), ids.end());
  return {};
}

constexpr std::array kFamilies{std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}};

constexpr std::uint8_t extension(int attribute) { return static_cast<std::uint8_t>(1 << (attribute - 1)); }

// VEGASINFO stands for DCTCPINFO and BBRINFO too; CGROUP_ID and ULP_INFO come unasked.
constexpr std::uint8_t kExtensions = extension(INET_DIAG_INFO) | extension(INET_DIAG_CONG) |
                                     extension(INET_DIAG_VEGASINFO) | extension(INET_DIAG_SKMEMINFO) |
                                     extension(INET_DIAG_TOS) | extension(INET_DIAG_SHUTDOWN);

struct RequestHead {
  nlmsghdr header;
  inet_diag_req_v2 body;
};
static_assert(sizeof(RequestHead) == NLMSG_LENGTH(sizeof(inet_diag_req_v2)));

// A request for a dump; family and netlink sequence number are written into it each time.
std::vector<std::byte> make_request(std::uint32_t states, std::span<const std::byte> program) {
  RequestHead head{};
  head.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  head.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  head.body.sdiag_protocol = IPPROTO_TCP;
  head.body.idiag_ext = kExtensions;
  head.body.idiag_states = states;
  nlattr attribute{};
  attribute.nla_type = INET_DIAG_REQ_BYTECODE;
  attribute.nla_len = static_cast<__u16>(NLA_HDRLEN + program.size());
  const std::size_t size = sizeof(head) + (program.empty() ? 0 : NLA_HDRLEN + program.size());
  head.header.nlmsg_len = static_cast<__u32>(size);

  std::vector<std::byte> request(size);
  std::memcpy(request.data(), &head, sizeof(head));
  if (!program.empty()) {
    std::memcpy(request.data() + sizeof(head), &attribute, sizeof(attribute));
    std::memcpy(request.data() + sizeof(head) + NLA_HDRLEN, program.data(), program.size());
  }
  return request;
}

}  // namespace

struct InetDiagSource::Impl {
  explicit Impl(const InetDiagOptions& chosen);

  InetDiagOptions options;
  sys::Fd socket;
  TcpInfoLayout layout;
  std::size_t info_length = 0;
  bool selects_cgroups = false;  // the kernel does, of this namespace's sockets
  int cgroup_error = 0;          // why it does not
  std::optional<std::uint64_t> netns_cookie;
  std::unique_ptr<std::byte[]> buffer = std::make_unique_for_overwrite<std::byte[]>(kBufferBytes);
  tcpinfo_record record{};
  Statistics totals;

  std::vector<std::uint64_t> cgroups;  // sorted
  std::vector<std::uint64_t> cgroups_now;
  std::vector<std::byte> request;

  Clock::time_point next_dump{};  // in the past: the first one is due at once
  std::uint32_t dump = 0;         // number of the next dump, or of the one under way
  std::uint32_t netlink_sequence = 0;
  bool running = false;
  bool stopped = false;
  std::size_t family = 0;  // of the dump under way, its place in kFamilies
  bool interrupted = false;
  // The kernel reads the sockets of a chunk inside send() or inside the recv() of the chunk before: when that returned.
  std::uint64_t chunk_time_ns = 0;
  bool kicked = false;  // since the dump last gave something

  int send(std::span<const std::byte> message) noexcept;
  int request_family() noexcept;
  ssize_t receive(bool& from_kernel) noexcept;
  int probe(std::span<const std::byte> program);
  std::error_code start();
  void finish() noexcept;
  int kick() noexcept;
  std::error_code resume() noexcept;
  bool wanted() const noexcept;
  void deliver(const RecordSink& sink, DrainResult& result) noexcept;
};

InetDiagSource::Impl::Impl(const InetDiagOptions& chosen) : options(chosen) {
  if (options.interval <= std::chrono::nanoseconds::zero())
    throw Error(make_error_code(Errc::kInvalidOption), "set the interval of the dumps", "it is more than 0");
  if (!options.cgroup.empty()) cgroup_id(options.cgroup);

  Opened opened;
  Netns(options.netns.string()).run([&]() noexcept { opened = open_netlink(); });
  if (!opened.fd)
    fail(opened.error, "open a netlink socket for sock_diag",
         opened.error == EPROTONOSUPPORT ? "needs a kernel with CONFIG_INET_DIAG" : "try tcpinfo doctor");
  socket = std::move(opened.fd);

  std::uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) == 0) netns_cookie = cookie;

  if (int error = probe({}))
    fail(error, "ask the kernel for its TCP sockets (sock_diag)",
         error == ENOENT || error == EOPNOTSUPP ? "needs CONFIG_INET_DIAG; try modprobe tcp_diag"
                                                : "try tcpinfo doctor");
  const std::uint64_t any = 1;
  cgroup_error = probe(inet_diag::compile({}, std::span(&any, 1)).bytes);
  selects_cgroups = cgroup_error == 0;

  info_length = tcp_info_length();
  layout = tcp_info_layout();
  request = make_request(options.states, inet_diag::compile(options.filter.raw(), {}).bytes);
}

int InetDiagSource::Impl::send(std::span<const std::byte> message) noexcept {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  for (;;) {
    if (sendto(socket.get(), message.data(), message.size(), 0, reinterpret_cast<const sockaddr*>(&kernel),
               sizeof(kernel)) >= 0)
      return 0;
    if (errno != EINTR) return errno;
  }
}

int InetDiagSource::Impl::request_family() noexcept {
  ++netlink_sequence;
  std::memcpy(request.data() + offsetof(RequestHead, header.nlmsg_seq), &netlink_sequence, sizeof(netlink_sequence));
  std::memcpy(request.data() + offsetof(RequestHead, body.sdiag_family), &kFamilies[family], 1);
  const int error = send(request);
  chunk_time_ns = boot_time_ns();
  return error;
}

// What recv() gives: bytes, or -1 and errno. Other processes may send to this socket as well; they are not the kernel.
ssize_t InetDiagSource::Impl::receive(bool& from_kernel) noexcept {
  if (int error = sys::fault("receive")) {
    errno = error;
    return -1;
  }
  sockaddr_nl sender{};
  socklen_t length = sizeof(sender);
  ssize_t got;
  do {
    got = recvfrom(socket.get(), buffer.get(), kBufferBytes, MSG_DONTWAIT | MSG_TRUNC,
                   reinterpret_cast<sockaddr*>(&sender), &length);
  } while (got < 0 && errno == EINTR);
  from_kernel = got >= 0 && sender.nl_pid == 0;
  return got;
}

// Asks for a dump of sockets in no state: the kernel checks all and walks over nothing. 0, or why it refuses.
int InetDiagSource::Impl::probe(std::span<const std::byte> program) {
  if (int error = sys::fault("probe sock_diag")) return error;
  auto message = make_request(0, program);
  std::swap(message, request);
  const int error = request_family();
  std::swap(message, request);
  if (error) return error;
  for (;;) {
    bool from_kernel = false;
    const ssize_t got = receive(from_kernel);
    if (got < 0) return errno;
    if (!from_kernel) continue;
    const auto outcome = inet_diag::read_chunk({buffer.get(), std::min<std::size_t>(got, kBufferBytes)},
                                               netlink_sequence, {}, record, totals.malformed, [](const auto&) {});
    if (outcome.done) return outcome.error;
  }
}

std::error_code InetDiagSource::Impl::start() {
  if (!options.cgroup.empty()) {
    if (const auto error = collect_cgroups(options.cgroup, cgroups_now)) return error;
    if (cgroups_now != cgroups) {
      const std::span<const std::uint64_t> ids = cgroups_now;
      request = make_request(options.states,
                             inet_diag::compile(options.filter.raw(), selects_cgroups ? ids : ids.first(0)).bytes);
      std::swap(cgroups, cgroups_now);
    }
  }
  family = 0;
  if (int error = request_family()) return code_of(error);
  running = true;
  interrupted = kicked = false;
  return {};
}

void InetDiagSource::Impl::finish() noexcept {
  running = false;
  ++dump;
  ++totals.dumps;
  if (interrupted) ++totals.dumps_interrupted;
}

// The kernel goes on with a dump whenever the reader takes a message off the socket, so that there is always one to
// take. Where it found no memory for the next chunk there is none, and the dump would hang for ever: an acknowledgement
// is one (kernel v6.18 net/netlink/af_netlink.c netlink_recvmsg()).
int InetDiagSource::Impl::kick() noexcept {
  nlmsghdr message{};
  message.nlmsg_len = sizeof(message);
  message.nlmsg_type = NLMSG_NOOP;
  message.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  return send(std::as_bytes(std::span(&message, 1)));
}

// For a dump that hangs: once it is kicked, and if that does not help it is given up.
std::error_code InetDiagSource::Impl::resume() noexcept {
  int error = ETIMEDOUT;
  if (!std::exchange(kicked, true)) error = kick();
  if (!error) return {};
  interrupted = true;
  finish();
  return code_of(error);
}

// Bytecode may let pass more than is wanted, and is not always possible.
bool InetDiagSource::Impl::wanted() const noexcept {
  const Record view(record);
  if (!options.cgroup.empty() &&
      !(view.cgroup_id() && std::binary_search(cgroups.begin(), cgroups.end(), record.cgroup_id)))
    return false;
  return options.filter.empty() ||
         options.filter.matches(record.local_address, record.local_port, record.peer_address, record.peer_port);
}

void InetDiagSource::Impl::deliver(const RecordSink& sink, DrainResult& result) noexcept {
  if (!socket || !wanted()) return;  // the sink may close the source
  ++totals.emitted[TCPINFO_EVENT_SAMPLE];
  ++result.records;
  try {
    sink(Record(record));
    ++totals.delivered[TCPINFO_EVENT_SAMPLE];
  } catch (...) {
    ++totals.lost_sink[TCPINFO_EVENT_SAMPLE];
  }
}

InetDiagSource::InetDiagSource(const InetDiagOptions& options) : impl_(std::make_unique<Impl>(options)) {}

InetDiagSource::~InetDiagSource() = default;

SourceId InetDiagSource::id() const noexcept { return SourceId::kInetDiag; }

int InetDiagSource::descriptor() const noexcept { return impl_->socket.get(); }

std::optional<Source::Clock::time_point> InetDiagSource::next_deadline() const noexcept {
  if (!impl_->socket || impl_->stopped) return std::nullopt;
  return impl_->next_dump;
}

std::error_code InetDiagSource::tick(Clock::time_point now) noexcept {
  auto& self = *impl_;
  if (!self.socket || self.stopped || now < self.next_dump) return {};
  // What was missed is not made up for: a dump that takes longer than the interval makes the next one wait.
  self.next_dump += self.options.interval;
  if (self.next_dump <= now) self.next_dump = now + self.options.interval;

  if (self.running) return {};
  try {
    return self.start();
  } catch (const std::system_error& error) {
    return error.code();
  } catch (...) {
    return code_of(ENOMEM);
  }
}

DrainResult InetDiagSource::drain(RecordSink sink, std::size_t limit) noexcept {
  auto& self = *impl_;
  DrainResult result;
  while (self.socket && result.records < limit) {
    bool from_kernel = false;
    const ssize_t got = self.receive(from_kernel);
    if (got < 0) {
      if (errno != EAGAIN && errno != EWOULDBLOCK)
        result.error = code_of(errno);
      else if (self.running && !(result.error = self.resume()))
        continue;
      break;
    }
    inet_diag::Reading reading{self.chunk_time_ns, self.netns_cookie, self.dump, self.layout};
    self.chunk_time_ns = boot_time_ns();
    if (!from_kernel || !self.running) continue;
    if (static_cast<std::size_t>(got) > kBufferBytes) self.interrupted = true;  // what was cut off counts as malformed
    const auto outcome = inet_diag::read_chunk({self.buffer.get(), std::min<std::size_t>(got, kBufferBytes)},
                                               self.netlink_sequence, reading, self.record, self.totals.malformed,
                                               [&](const tcpinfo_record&) { self.deliver(sink, result); });
    if (outcome.ours) self.kicked = false;
    self.interrupted |= outcome.interrupted;
    if (!outcome.done || !self.socket) continue;

    int error = outcome.error;
    if (!error && ++self.family < kFamilies.size()) {
      error = self.request_family();
      if (!error) continue;
    }
    if (error) {
      self.interrupted = true;
      result.error = code_of(error);
    }
    self.finish();
    if (error) break;
  }
  return result;
}

Capabilities InetDiagSource::capabilities() const {
  const auto& self = *impl_;
  Capabilities found;
  const bool info = self.info_length > 0;
  std::string detail = "the kernel gives " + std::to_string(self.info_length) + " bytes";
  if (self.info_length >= 280)
    detail += self.layout.accecn_fail_mode.bits > 0 ? ", read as its type information says"
                                                    : "; without type information that fits, accecn_* stay absent";
  found.push_back({"tcp_info", info, info ? detail : "TCP_INFO was refused; see the security policy in force"});

  const auto controls = congestion_controls_with_state();
  found.push_back({"congestion_control_state", !controls.empty(),
                   controls.empty() ? "of bbr, dctcp and vegas none is available; try modprobe tcp_bbr" : controls});

  std::string cgroups = "the kernel leaves out sockets of other cgroups";
  if (self.cgroup_error != 0)
    cgroups = "needs kernel 5.8 with CONFIG_SOCK_CGROUP_DATA (" + code_of(self.cgroup_error).message() +
              "); every socket is read and cgroups are told apart afterwards";
  found.push_back({"cgroup_filter", self.selects_cgroups, cgroups});
  return found;
}

Statistics InetDiagSource::statistics() const noexcept { return impl_->totals; }

void InetDiagSource::stop() noexcept { impl_->stopped = true; }

void InetDiagSource::close() noexcept {
  impl_->socket.reset();
  impl_->running = false;
}

}  // namespace tcpinfo
