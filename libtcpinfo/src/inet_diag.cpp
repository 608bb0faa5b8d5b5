// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/inet_diag.hpp>

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

#include <fmt/format.h>

#include <tcpinfo/cgroup.hpp>
#include <tcpinfo/error.hpp>

#include "examiner.hpp"
#include "inet_diag_bytecode.hpp"
#include "inet_diag_parser.hpp"
#include "netns.hpp"
#include "system.hpp"
#include "tcp_info_layout.hpp"
#include "walks.hpp"

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
  const int error = walk_cgroups(root, [&](const std::string&, std::uint64_t id) { return ids.push_back(id), true; });
  std::sort(ids.begin(), ids.end());
  return code_of(error);
}

constexpr std::uint8_t extension(int attribute) { return static_cast<std::uint8_t>(1 << (attribute - 1)); }

// VEGASINFO stands for DCTCPINFO and BBRINFO too; CGROUP_ID and ULP_INFO come unasked.
constexpr std::uint8_t kExtensions = extension(INET_DIAG_INFO) | extension(INET_DIAG_CONG) |
                                     extension(INET_DIAG_VEGASINFO) | extension(INET_DIAG_SKMEMINFO) |
                                     extension(INET_DIAG_TOS) | extension(INET_DIAG_SHUTDOWN);

struct FamilyRequest {
  nlmsghdr header;
  inet_diag_req_v2 body;
};
static_assert(sizeof(FamilyRequest) == NLMSG_SPACE(sizeof(inet_diag_req_v2)));

struct AllRequest {
  nlmsghdr header;
  inet_diag_req body;
};
static_assert(sizeof(AllRequest) == NLMSG_SPACE(sizeof(inet_diag_req)));

// Both families in one walk over the kernel's tables. The request of sock_diag has to name a family and walks over all
// sockets for each of them; the older one asks for any (kernel v6.18 net/ipv4/inet_diag.c inet_diag_dump_compat()).
constexpr std::array<std::uint8_t, 1> kAnyFamily{AF_UNSPEC};
constexpr std::array<std::uint8_t, 2> kFamilies{AF_INET, AF_INET6};
using Families = std::span<const std::uint8_t>;

template <class Request>
std::vector<std::byte> with_program(Request head, std::span<const std::byte> program) {
  nlattr attribute{};
  attribute.nla_type = INET_DIAG_REQ_BYTECODE;
  attribute.nla_len = static_cast<__u16>(NLA_HDRLEN + program.size());
  const std::size_t size = sizeof(head) + (program.empty() ? 0 : NLA_HDRLEN + program.size());
  head.header.nlmsg_len = static_cast<__u32>(size);
  head.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;

  std::vector<std::byte> request(size);
  std::memcpy(request.data(), &head, sizeof(head));
  if (!program.empty()) {
    std::memcpy(request.data() + sizeof(head), &attribute, sizeof(attribute));
    std::memcpy(request.data() + sizeof(head) + NLA_HDRLEN, program.data(), program.size());
  }
  return request;
}

// A request for a dump; the netlink sequence number, and the family where there are several, are written into it each
// time.
std::vector<std::byte> make_request(Families families, std::uint32_t states, std::span<const std::byte> program) {
  if (families.size() == 1) {
    AllRequest head{};
    head.header.nlmsg_type = TCPDIAG_GETSOCK;
    head.body.idiag_ext = kExtensions;
    head.body.idiag_states = states;
    return with_program(head, program);
  }
  FamilyRequest head{};
  head.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  head.body.sdiag_protocol = IPPROTO_TCP;
  head.body.idiag_ext = kExtensions;
  head.body.idiag_states = states;
  return with_program(head, program);
}

constexpr std::uint16_t swap_bytes(std::uint16_t value) noexcept {
  if constexpr (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__) return value;
  return static_cast<std::uint16_t>(value << 8 | value >> 8);
}

FamilyRequest make_lookup(const Connection& connection) {
  FamilyRequest request{};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_ext = kExtensions;
  auto& id = request.body.id;
  // Sockets of AF_INET6 that talk IPv4 are found among those of AF_INET.
  const bool ipv4 =
      tcpinfo_address_is_ipv4(&connection.local_address) && tcpinfo_address_is_ipv4(&connection.peer_address);
  request.body.sdiag_family = ipv4 ? AF_INET : AF_INET6;
  const std::size_t skipped = ipv4 ? 12 : 0;
  const std::size_t size = sizeof(connection.local_address) - skipped;
  std::memcpy(id.idiag_src, connection.local_address.bytes + skipped, size);
  std::memcpy(id.idiag_dst, connection.peer_address.bytes + skipped, size);
  id.idiag_sport = swap_bytes(connection.local_port);
  id.idiag_dport = swap_bytes(connection.peer_port);
  id.idiag_if = connection.interface_index;
  id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return request;
}

bool is_one_address(const tcpinfo_prefix& prefix) noexcept {
  return (prefix.family == TCPINFO_PREFIX_IPV4 && prefix.length == 32) ||
         (prefix.family == TCPINFO_PREFIX_IPV6 && prefix.length == 128);
}

// The connections that a filter names, if it selects nothing else.
std::vector<Connection> connections_of(const tcpinfo_filter& filter) {
  std::vector<Connection> found;
  for (const auto& clause : std::span(filter.clause).first(filter.clauses)) {
    // Port 0 is a listener's peer, and no connection has it.
    if (!is_one_address(clause.local) || !is_one_address(clause.peer) || clause.local_port_min == 0 ||
        clause.peer_port_min == 0 || clause.local_port_min != clause.local_port_max ||
        clause.peer_port_min != clause.peer_port_max)
      return {};
    const Connection connection{clause.local.address, clause.peer.address, clause.local_port_min, clause.peer_port_min};
    if (std::ranges::find(found, connection) == found.end()) found.push_back(connection);
  }
  return found;
}

bool is_of(const tcpinfo_record& record, const Connection& connection) noexcept {
  return Connection{record.local_address, record.peer_address, record.local_port, record.peer_port,
                    connection.interface_index} == connection;
}

// An answer takes 2.3 KB of the receive buffer, and one that finds no room there is lost.
constexpr int kAnswerBytes = 4096;
constexpr int kMaxBatch = 64;

std::size_t batch_size(int netlink) noexcept {
  int bytes = 0;
  socklen_t length = sizeof(bytes);
  if (getsockopt(netlink, SOL_SOCKET, SO_RCVBUF, &bytes, &length) != 0) bytes = 0;
  return static_cast<std::size_t>(std::clamp(bytes / kAnswerBytes, 1, kMaxBatch));
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
  Examiner examiner;

  std::vector<std::uint64_t> cgroups;  // sorted
  std::vector<std::uint64_t> cgroups_now;
  Families families = kAnyFamily;
  std::vector<std::byte> request;

  std::vector<Connection> connections;  // to be looked up; empty: the kernel walks over all sockets
  std::vector<FamilyRequest> lookups;   // of each of them
  std::vector<bool> found;
  bool walks_for_missing = false;
  int lookup_error = 0;  // why the kernel does not look up
  std::size_t batch = 1;

  Clock::time_point next_dump{};  // in the past: the first one is due at once
  std::uint32_t dump = 0;         // number of the next dump, or of the one under way
  std::uint32_t netlink_sequence = 0;
  bool running = false;
  bool stopped = false;
  // Of the dump under way: the look-ups sent, those of the last batch, of these the ones without an answer yet, the
  // walks begun and how many it takes.
  std::size_t sent = 0, in_batch = 0, awaited = 0, walks = 0, walks_wanted = 0;
  bool interrupted = false;
  // The kernel reads the sockets of a chunk inside send() or inside the recv() of the chunk before, those that it looks
  // up inside send(): when that returned.
  std::uint64_t chunk_time_ns = 0;
  bool kicked = false;  // since the dump last gave something

  int send(std::span<const std::byte> message) noexcept;
  int send_walk(std::vector<std::byte>& message, std::uint8_t family) noexcept;
  int send_lookups() noexcept;
  int go_on() noexcept;
  ssize_t receive(bool& from_kernel) noexcept;
  int probe(Families which, std::span<const std::byte> program);
  int probe_lookup();
  template <class Done>
  int await(Done&& done);
  void compile(std::span<const std::uint64_t> cgroup_ids);
  std::error_code start();
  void finish() noexcept;
  int kick() noexcept;
  std::error_code resume() noexcept;
  bool wanted() const noexcept;
  void deliver(const RecordSink& sink, DrainResult& result) noexcept;
  int read_answers(std::span<const std::byte> bytes, const inet_diag::Reading& reading, const RecordSink& sink,
                   DrainResult& result) noexcept;
  int read_walk(std::span<const std::byte> bytes, const inet_diag::Reading& reading, const RecordSink& sink,
                DrainResult& result) noexcept;
};

InetDiagSource::Impl::Impl(const InetDiagOptions& chosen) : options(chosen), examiner(chosen.trigger) {
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

  int error = probe(families, {});
  if (error == EOPNOTSUPP || error == EINVAL || error == ENOENT) {
    families = kFamilies;
    error = probe(families, {});
  }
  if (error)
    fail(error, "ask the kernel for its TCP sockets (sock_diag)",
         error == ENOENT || error == EOPNOTSUPP ? "needs CONFIG_INET_DIAG; try modprobe tcp_diag"
                                                : "try tcpinfo doctor");
  const std::uint64_t any = 1;
  cgroup_error = probe(families, inet_diag::compile({}, std::span(&any, 1)).bytes);
  selects_cgroups = cgroup_error == 0;
  lookup_error = probe_lookup();

  info_length = tcp_info_length();
  layout = tcp_info_layout();
  compile({});
  batch = batch_size(socket.get());
  if (lookup_error != 0) {
    if (!options.connections.empty())
      fail(lookup_error, "look up a connection (sock_diag)", "leave InetDiagOptions::connections empty");
    return;
  }
  walks_for_missing = options.connections.empty();
  connections = walks_for_missing ? connections_of(options.filter.raw()) : options.connections;
  for (const auto& connection : connections) lookups.push_back(make_lookup(connection));
  found.resize(lookups.size());
}

void InetDiagSource::Impl::compile(std::span<const std::uint64_t> cgroup_ids) {
  request = make_request(families, options.states, inet_diag::compile(options.filter.raw(), cgroup_ids).bytes);
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

int InetDiagSource::Impl::send_walk(std::vector<std::byte>& message, std::uint8_t family) noexcept {
  ++netlink_sequence;
  std::memcpy(message.data() + offsetof(nlmsghdr, nlmsg_seq), &netlink_sequence, sizeof(netlink_sequence));
  if (family != AF_UNSPEC) std::memcpy(message.data() + offsetof(FamilyRequest, body.sdiag_family), &family, 1);
  const int error = send(message);
  chunk_time_ns = boot_time_ns();
  return error;
}

// Each has a netlink sequence number of its own, by which its answer is known.
int InetDiagSource::Impl::send_lookups() noexcept {
  awaited = in_batch = std::min(batch, lookups.size() - sent);
  const auto requests = std::span(lookups).subspan(sent, in_batch);
  for (auto& lookup : requests) lookup.header.nlmsg_seq = ++netlink_sequence;
  sent += awaited;
  const int error = send(std::as_bytes(requests));
  chunk_time_ns = boot_time_ns();
  return error;
}

// Asks for what comes next in the dump, or ends it.
int InetDiagSource::Impl::go_on() noexcept {
  if (sent < lookups.size()) return send_lookups();
  if (sent > 0 && walks == 0 && walks_for_missing && std::ranges::find(found, false) != found.end())
    walks_wanted = families.size();
  if (walks < walks_wanted) return send_walk(request, families[walks++]);
  finish();
  return 0;
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

// Reads what the kernel answers until `done(message)` says an errno, or 0; -1: it is not the one.
template <class Done>
int InetDiagSource::Impl::await(Done&& done) {
  for (;;) {
    bool from_kernel = false;
    const ssize_t got = receive(from_kernel);
    if (got < 0) return errno;
    if (!from_kernel) continue;
    inet_diag::Messages messages({buffer.get(), std::min<std::size_t>(got, kBufferBytes)});
    for (inet_diag::Message message; messages.next(message);)
      if (message.sequence == netlink_sequence)
        if (const int error = done(message); error >= 0) return error;
  }
}

// Asks for a dump of sockets in no state: the kernel checks all and walks over nothing. 0, or why it refuses.
int InetDiagSource::Impl::probe(Families which, std::span<const std::byte> program) {
  if (int error = sys::fault("probe sock_diag")) return error;
  auto message = make_request(which, 0, program);
  if (int error = send_walk(message, which[0])) return error;
  return await([](const inet_diag::Message& answer) {
    const auto error = inet_diag::error_of(answer);
    if (answer.type != NLMSG_DONE && answer.type != NLMSG_ERROR) return -1;
    if (!error) return EBADMSG;
    return answer.type == NLMSG_DONE || *error != 0 ? *error : -1;
  });
}

// Looks for a connection that there cannot be. 0, or why the kernel refuses.
int InetDiagSource::Impl::probe_lookup() {
  if (int error = sys::fault("probe look-up")) return error;
  auto lookup = make_lookup({});
  lookup.header.nlmsg_seq = ++netlink_sequence;
  if (int error = send(std::as_bytes(std::span(&lookup, 1)))) return error;
  return await([](const inet_diag::Message& answer) {
    if (answer.type == SOCK_DIAG_BY_FAMILY) return 0;
    const int error = answer.type == NLMSG_ERROR ? inet_diag::error_of(answer).value_or(EBADMSG) : EBADMSG;
    return error == ENOENT ? 0 : error;
  });
}

std::error_code InetDiagSource::Impl::start() {
  if (!options.cgroup.empty()) {
    if (const auto error = collect_cgroups(options.cgroup, cgroups_now))
      return error.value() == ENOENT ? make_error_code(Errc::kCgroupGone) : error;
    if (cgroups_now != cgroups) {
      const std::span<const std::uint64_t> ids = cgroups_now;
      compile(selects_cgroups ? ids : ids.first(0));
      std::swap(cgroups, cgroups_now);
    }
  }
  sent = awaited = walks = 0;
  walks_wanted = lookups.empty() ? families.size() : 0;
  found.assign(lookups.size(), false);
  running = true;
  interrupted = kicked = false;
  const int error = go_on();
  if (error) running = false;
  return code_of(error);
}

void InetDiagSource::Impl::finish() noexcept {
  running = false;
  examiner.end_pass();
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

// For a dump that hangs: once it is kicked, and if that does not help it is given up. Look-ups are answered before
// send() returns, and those that were not are lost.
std::error_code InetDiagSource::Impl::resume() noexcept {
  int error = ETIMEDOUT;
  if (std::exchange(awaited, 0) > 0) {
    interrupted = true;
    error = go_on();
    if (error) finish();
    return code_of(error);
  }
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
  if (!examiner.wants(record)) {
    ++totals.untriggered;
    return;
  }
  ++totals.emitted[TCPINFO_EVENT_SAMPLE];
  ++result.records;
  try {
    sink(Record(record));
    ++totals.delivered[TCPINFO_EVENT_SAMPLE];
  } catch (...) {
    ++totals.lost_sink[TCPINFO_EVENT_SAMPLE];
  }
}

int InetDiagSource::Impl::read_answers(std::span<const std::byte> bytes, const inet_diag::Reading& reading,
                                       const RecordSink& sink, DrainResult& result) noexcept {
  int failed = 0;
  inet_diag::Messages messages(bytes);
  for (inet_diag::Message message; socket && messages.next(message);) {
    const std::uint32_t age = netlink_sequence - message.sequence;
    if (age >= in_batch || awaited == 0) continue;
    const std::size_t place = sent - 1 - age;
    --awaited;
    if (message.type == NLMSG_ERROR) {
      const auto error = inet_diag::error_of(message);
      if (!error) ++totals.malformed;
      if (error != ENOENT) failed = error.value_or(EBADMSG);
    } else if (message.type == SOCK_DIAG_BY_FAMILY &&
               inet_diag::fill(message.payload, reading, record, totals.malformed) &&
               is_of(record, connections[place])) {  // where there is no connection the kernel finds the listener
      found[place] = true;
      if (options.states >> record.state & 1) deliver(sink, result);
    }
  }
  if (messages.malformed()) ++totals.malformed;
  return failed;
}

int InetDiagSource::Impl::read_walk(std::span<const std::byte> bytes, const inet_diag::Reading& reading,
                                    const RecordSink& sink, DrainResult& result) noexcept {
  const auto outcome =
      inet_diag::read_chunk(bytes, netlink_sequence, reading, record, totals.malformed, [&](const tcpinfo_record&) {
        for (std::size_t i = 0; i < connections.size(); ++i)
          if (found[i] && is_of(record, connections[i])) return;
        deliver(sink, result);
      });
  if (outcome.ours) kicked = false;
  interrupted |= outcome.interrupted;
  return outcome.done ? outcome.error : -1;
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
    if (self.awaited == 0) self.chunk_time_ns = boot_time_ns();
    if (!from_kernel || !self.running) continue;
    if (static_cast<std::size_t>(got) > kBufferBytes) self.interrupted = true;  // what was cut off counts as malformed
    const std::span<const std::byte> bytes(self.buffer.get(), std::min<std::size_t>(got, kBufferBytes));
    int error = 0;
    if (self.awaited > 0) {
      error = self.read_answers(bytes, reading, sink, result);
      if (error) {
        self.interrupted = true;
        result.error = code_of(error);
      }
      if (self.awaited > 0) continue;
      error = 0;
    } else {
      error = self.read_walk(bytes, reading, sink, result);
      if (error < 0) continue;
    }
    if (!self.socket) break;  // the sink closed it
    if (!error) error = self.go_on();
    if (!error) continue;
    self.interrupted = true;
    result.error = code_of(error);
    self.finish();
    break;
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

  std::string lookups = "connections that are named by addresses and ports cost no walk over all";
  if (self.lookup_error != 0)
    lookups = fmt::format("refused ({}); every dump walks over all sockets", code_of(self.lookup_error).message());
  found.push_back({"exact_lookups", self.lookup_error == 0, lookups});
  return found;
}

Statistics InetDiagSource::statistics() const noexcept { return impl_->totals; }

void InetDiagSource::stop() noexcept { impl_->stopped = true; }

void InetDiagSource::close() noexcept {
  impl_->socket.reset();
  impl_->running = false;
}

}  // namespace tcpinfo
