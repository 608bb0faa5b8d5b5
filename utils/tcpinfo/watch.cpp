// SPDX-License-Identifier: BSD-2-Clause
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include <tcpinfo/tcpinfo.hpp>

#include "command.hpp"
#include "open.hpp"
#include "output.hpp"
#include "printer.hpp"
#include "record_writer.hpp"
#include "stream.hpp"

namespace cli {
namespace {

struct Arguments {
  StreamArguments stream;
  std::optional<std::string> format;
  std::vector<std::string> fields;
};

Exit watch(const Arguments& given) {
  const auto settings = check(given.stream);
  const auto format = parse_format(given.format);
  const auto fields = parse_fields(given.fields);
  Printer printer(Output::standard(), format, fields,
                  settings.owners ? std::optional(owners_of(settings.cgroup)) : std::nullopt);
  return run_stream(
      settings, [&] { return open(settings); }, printer);
}

}  // namespace

void add_watch(CLI::App& app, Command& chosen) {
  auto* command = app.add_subcommand("watch", "Print records of TCP connections as they come");
  auto given = std::make_shared<Arguments>();
  add_stream_options(*command, given->stream);
  const auto option = [&](const char* name, auto& into, const char* type, const char* text) {
    command->add_option(name, into, text)->type_name(type);
  };
  command
      ->add_option("--fields", given->fields, "Only these fields, in this order, as rtt,snd_cwnd (see tcpinfo fields)")
      ->type_name("NAMES")
      ->delimiter(',');
  option("--format", given->format, "FORMAT", "table, jsonl or csv [table on a terminal, else jsonl]");
  command->footer(
      "Examples:\n"
      "  tcpinfo watch --cgroup /sys/fs/cgroup/system.slice/nginx.service\n"
      "  tcpinfo watch --unit nginx --mode close                        the same cgroup, by the name of its unit\n"
      "  tcpinfo watch --filter 'peer_port == 443' --interval 1s --format csv --fields time_ns,peer_address,rtt\n"
      "  tcpinfo watch --owner | jq -c '[.event, .comm, .container_id, .peer_address]'\n"
      "  tcpinfo watch --trigger 'rtt > 20ms and rtt > 2 * min_rtt'\n"
      "  tcpinfo watch --trigger 'total_retrans grows or rwnd_limited grows or ca_state == Loss'\n"
      "  tcpinfo watch --trigger 'unacked > 0 and last_ack_recv > 1s'   stalled: nothing acknowledged for 1s\n"
      "  tcpinfo watch --mode close --stats stats.json > connections.jsonl\n"
      "  tcpinfo watch --source inet_diag --duration 10s --netns /run/netns/blue\n"
      "  tcpinfo watch --cost --duration 10s > /dev/null                what it costs on this host as it is now\n"
      "  tcpinfo watch --cost --duration 10s --interval 0 > /dev/null   and with every RTT measurement\n"
      "  tcpinfo watch --cost --duration 10s --mode close > /dev/null   and with final totals only\n"
      "  tcpinfo watch --cost --duration 10s --source inet_diag > /dev/null   and by polling all sockets\n"
      "\n"
      "--filter takes ports and addresses and decides once which connections are followed; --trigger takes all\n"
      "fields and decides of each sample. Open and close records always come. Comparisons: == != < <= > >=, in\n"
      "FIRST..LAST, in (NAME, NAME), grows (counters: since the sample before), with not, and, or, parentheses.\n"
      "Units: ns us ms s; B K M G (1024); bit/s Kbit/s Mbit/s Gbit/s B/s KB/s MB/s GB/s (1000). What is absent\n"
      "fulfils no condition, != included.\n"
      "\n"
      "--cost: the kernel's counting slows every BPF program of the host by 20 to 80 ns a run, and 20 to 60 ns of\n"
      "that are in the times shown. Where CAP_SYS_ADMIN is missing, an administrator can let the kernel count for\n"
      "everybody: sysctl kernel.bpf_stats_enabled=1. Callbacks run where packets are handled, at the expense of\n"
      "whoever is there; sweeps and passes are system time of this process. What other programs cost meanwhile:\n"
      "bpftool prog show (run_time_ns, run_cnt).\n"
      "\n"
      "Once older connections are adopted, this process has no privileges any more: no capabilities (but with\n"
      "--cost CAP_BPF, with --owner CAP_SYS_PTRACE, with iter and --netns CAP_SYS_ADMIN) and none to come\n"
      "(no_new_privs). With --keep-privileges callback flags that other programs overwrite come back in other\n"
      "network namespaces, too (CAP_SYS_ADMIN, CAP_SYS_PTRACE), idle connections there are sampled also where the\n"
      "kernel refuses iter/bpf_sk_storage_map, and programs that are attached later to the cgroup or above it are\n"
      "noticed within a second (CAP_NET_ADMIN), else when the next connection begins. Who may begin: see tcpinfo\n"
      "doctor. What is missing here is said once on standard error, and in --stats.\n"
      "\n"
      "In the table, rate is delivery_rate, retrans is total_retrans, cwnd counts segments, and - is absent. Ends\n"
      "at --duration, --count, SIGINT, SIGTERM or SIGHUP, then says on standard error what was emitted, delivered,\n"
      "lost. What could not be written (its reader went away, the disk is full) counts as lost.");
  command->callback([given, &chosen] { chosen = [given] { return watch(*given); }; });
}

}  // namespace cli
