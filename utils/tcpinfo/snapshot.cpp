// SPDX-License-Identifier: BSD-2-Clause
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <tcpinfo/tcpinfo.hpp>

#include "command.hpp"
#include "open.hpp"
#include "output.hpp"
#include "record_writer.hpp"
#include "units.hpp"

namespace cli {
namespace {

// As on the command line: what is empty was not given.
struct Arguments {
  std::optional<std::string> source, cgroup, pid, unit, filter, trigger, format, netns;
  std::vector<std::string> fields, states;
  bool owner = false;
};

constexpr std::size_t kOwnersTurn = 16384;  // records that wait for their owners, 12 MB

std::uint32_t parse_states(const std::vector<std::string>& words) {
  std::vector<std::string_view> names;
  std::vector<std::uint32_t> sets;
  for (std::uint8_t state = 1; state < 32; ++state) {
    if (!(tcpinfo::kAllStates >> state & 1)) continue;
    names.push_back(tcpinfo::state_name(state));
    sets.push_back(1u << state);
  }
  std::uint32_t states = 0;
  for (const auto& word : words) states |= sets[choose("--states", word, names)];
  return words.empty() ? tcpinfo::kAllStates : states;
}

Exit take_snapshot(const Arguments& given) {
  const auto id =
      given.source ? parse_source("--source", *given.source, kSnapshotSources) : tcpinfo::SourceId::kInetDiag;
  SnapshotOptions options;
  options.states = parse_states(given.states);
  if (given.filter) options.filter = tcpinfo::Filter::parse(*given.filter);
  if (given.trigger) options.trigger = tcpinfo::Trigger::parse(*given.trigger, id);
  if (options.trigger.asks_for_growth())
    usage_error("--trigger: what grows shows in two samples, and a snapshot takes one (use tcpinfo watch)");
  options.cgroup = find_cgroup(given.cgroup, given.pid, given.unit);
  options.netns = given.netns.value_or("");
  const auto format = parse_format(given.format);
  const auto fields = parse_fields(given.fields);
  const auto source = open_snapshots(id, options);
  if (!options.cgroup.empty()) warn_of_sockets_elsewhere(options.cgroup);

  Output output = Output::standard();
  std::optional<tcpinfo::OwnersOptions> owners;
  if (given.owner) {
    owners = owners_of(options.cgroup);
    owners->walk_share = 1;              // whatever it takes: this is no stream
    owners->capacity = 2 * kOwnersTurn;  // a source may give a few more
  }
  RecordWriter writer(format, fields, TableKind::kSockets, output, owners);
  const auto check = [&](const std::error_code& error) {
    if (error) throw Failure(kFailed, fmt::format("read from {}: {}", tcpinfo::name(id), error.message()));
  };
  // A look for owners takes all open files, whether few or many sockets are wanted.
  const std::size_t turn = given.owner ? kOwnersTurn : 256;
  check(source->tick(tcpinfo::Source::Clock::now()));
  while (source->statistics().dumps == 0) {
    check(source->drain([&](const tcpinfo::Record& record) { writer.append(record); }, turn).error);
    writer.flush();
  }
  output.finish();
  if (source->statistics().dumps_interrupted > 0)
    throw Failure(kFailed, "sockets came and went while they were read: some may be missing; take it again");
  return kOk;
}

}  // namespace

void add_snapshot(CLI::App& app, Command& chosen) {
  auto* command = app.add_subcommand("snapshot", "Print every TCP socket once, listeners and TIME_WAIT included");
  auto given = std::make_shared<Arguments>();
  const auto option = [&](const char* name, auto& into, const char* type, const char* text) {
    return command->add_option(name, into, text)->type_name(type);
  };
  option("--source", given->source, "SOURCE",
         "inet_diag (netlink, needs no privilege) or iter (eBPF iterator) [inet_diag]");
  option("--states", given->states, "NAMES", "Only sockets in these states, as ESTABLISHED,CLOSE_WAIT [all]")
      ->delimiter(',');
  option("--filter", given->filter, "EXPR", "Only these, as 'peer_port == 443 and address in 10.0.0.0/8'");
  option("--trigger", given->trigger, "EXPR", "Only those of which this holds, as 'rtt > 100ms or retransmits > 0'");
  option("--cgroup", given->cgroup, "PATH",
         "Only those of this cgroup v2 and all below it (none that have their identity only)");
  option("--pid", given->pid, "PID", "Instead of --cgroup: the cgroup that this process is in");
  option("--unit", given->unit, "NAME", "Instead of --cgroup: that of a systemd unit that runs, as nginx.service");
  option("--netns", given->netns, "PATH", "In this network namespace, as /run/netns/NAME [this one]");
  option("--fields", given->fields, "NAMES", "Only these fields, in this order, as rtt,snd_cwnd (see tcpinfo fields)")
      ->delimiter(',');
  option("--format", given->format, "FORMAT", "table, jsonl or csv [table on a terminal, else jsonl]");
  command->add_flag("--owner", given->owner, kOwnerHelp);
  command->footer(
      "Examples:\n"
      "  tcpinfo snapshot\n"
      "  tcpinfo snapshot --states LISTEN --fields local_address,local_port,unacked,sacked\n"
      "  tcpinfo snapshot --owner --states LISTEN\n"
      "  tcpinfo snapshot --source iter --filter 'peer_port == 443' --format csv > sockets.csv\n"
      "  tcpinfo snapshot --trigger 'rtt > 100ms and rtt > 2 * min_rtt'   more in tcpinfo watch --help\n"
      "  tcpinfo snapshot | jq -r 'select(.total_retrans > 0) | .peer_address'\n"
      "\n"
      "TIME_WAIT, half-open (SYN_RECV) and orphaned FIN_WAIT2 sockets have their identity only: the kernel keeps\n"
      "nothing else of them. Of a listener, unacked is the length of the accept queue and sacked its limit.");
  command->callback([given, &chosen] { chosen = [given] { return take_snapshot(*given); }; });
}

}  // namespace cli
