// SPDX-License-Identifier: BSD-2-Clause
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/stringbuffer.h>
#include <zlib.h>
#include <CLI/CLI.hpp>

#include <tcpinfo/tcpinfo.hpp>

#include "command.hpp"
#include "json.hpp"
#include "output.hpp"
#include "table.hpp"
#include "trial.hpp"
#include "units.hpp"

namespace cli {
namespace {

enum class Status { kOk, kMissing, kUnknown, kNote };

std::string_view text_of(Status status) {
  switch (status) {
    case Status::kOk:
      return "ok";
    case Status::kMissing:
      return "missing";
    case Status::kUnknown:
      return "unknown";
    case Status::kNote:
      return "note";
  }
  return {};
}

struct Check {
  std::string name;
  Status status;
  std::string detail;   // what was seen
  std::string way_out;  // what to do where something is missing
};
using Checks = std::vector<Check>;

std::string read_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

void check_kernel(Checks& checks) {
  utsname system{};
  uname(&system);
  int major = 0, minor = 0;
  std::sscanf(system.release, "%d.%d", &major, &minor);
  const bool enough = major > 6 || (major == 6 && minor >= 1);
  checks.push_back({"kernel", enough ? Status::kOk : Status::kMissing,
                    fmt::format("{} {}", system.release, system.machine),
                    enough ? "" : "sockops needs Linux 6.1 or newer; inet_diag works on older ones"});
}

void check_btf(Checks& checks) {
  constexpr const char* kPath = "/sys/kernel/btf/vmlinux";
  if (access(kPath, R_OK) == 0)
    checks.push_back({"BTF", Status::kOk, kPath, ""});
  else
    checks.push_back({"BTF", Status::kMissing, fmt::format("no {}", kPath),
                      "use a kernel with CONFIG_DEBUG_INFO_BTF=y (Debian's have it) and mount sysfs"});
}

// Where --pid finds this process and others, and tcpinfo run makes cgroups.
void check_own_cgroup(Checks& checks) {
  // The initial namespace has a fixed number (kernel include/linux/proc_ns.h PROC_CGROUP_INIT_INO).
  constexpr ino_t kInitial = 0xEFFFFFFB;
  struct stat status {};
  const bool is_inside = stat("/proc/self/ns/cgroup", &status) == 0 && status.st_ino != kInitial;
  const std::string where = is_inside ? "; in a cgroup namespace: processes outside it have no path here" : "";
  try {
    const auto own = tcpinfo::own_cgroup();
    const bool writable = access(own.c_str(), W_OK) == 0;
    checks.push_back({"own cgroup", writable && !is_inside ? Status::kOk : Status::kNote, own.string() + where,
                      writable ? "" : "tcpinfo run cannot make a cgroup there: give it a --parent that is writable"});
  } catch (const tcpinfo::Error& error) {
    checks.push_back({"own cgroup", Status::kNote, error.what() + where,
                      "name cgroups by --cgroup, and give tcpinfo run a --parent"});
  }
}

void check_cgroups(Checks& checks) {
  try {
    const auto mount = tcpinfo::cgroup2_mount();
    checks.push_back({"cgroup v2", Status::kOk, "mounted at " + mount.string(), ""});
    check_own_cgroup(checks);
  } catch (const tcpinfo::Error& error) {
    checks.push_back({"cgroup v2", Status::kMissing, "no mount of type cgroup2",
                      "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"});
  }
  // id parent major:minor root mount-point options... - type source super-options, the last of which name the
  // hierarchy.
  std::vector<std::string> legacy;
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    const auto type = line.find(" - cgroup ");
    if (type == std::string::npos) continue;
    std::istringstream words(line);
    std::string mount;
    for (int i = 0; i < 5; ++i) words >> mount;
    legacy.push_back(mount);
  }
  if (!legacy.empty())
    checks.push_back(
        {"cgroup v1", Status::kNote,
         fmt::format("hybrid: v1 hierarchies at {}; a path below these is no --cgroup", fmt::join(legacy, ", ")), ""});
}

void check_privileges(Checks& checks) {
  const auto effective = tcpinfo::Privileges::effective();
  const auto capability = [&](tcpinfo::Privilege privilege, std::string_view use, bool needed) {
    const auto name = tcpinfo::name(privilege);
    const bool has = effective.contains(privilege);
    Check check{std::string(name),
                has      ? Status::kOk
                : needed ? Status::kMissing
                         : Status::kNote,
                fmt::format("{}effective, for {}", has ? "" : "not ", use), ""};
    if (!has)
      check.way_out =
          needed ? fmt::format("run as root, or give it {} by setcap or systemd as below", name) : "run as root";
    checks.push_back(std::move(check));
  };
  capability(tcpinfo::Privilege::kBpf, "sockops and iter", true);
  capability(tcpinfo::Privilege::kNetAdmin, "sockops, and all that inet_diag can give", true);
  capability(tcpinfo::Privilege::kPerfmon, "sockops and iter", true);
  capability(tcpinfo::Privilege::kSysAdmin,
             "other network namespaces (--netns, older connections there) and --cost, unless the sysctl "
             "kernel.bpf_stats_enabled is 1",
             false);
  capability(tcpinfo::Privilege::kSysPtrace,
             "processes of others: their executables (--owner), the network namespaces they are in (older connections "
             "there), sockets that they hold from elsewhere",
             false);

  const std::string setting = read_line("/proc/sys/kernel/unprivileged_bpf_disabled");
  if (!setting.empty())
    checks.push_back({"unprivileged BPF", Status::kNote,
                      fmt::format("kernel.unprivileged_bpf_disabled = {}; tcpinfo does not need it to be 0", setting),
                      ""});
}

// The text of the kernel's configuration, from wherever it can be read.
std::optional<std::string> kernel_config(std::string& path) {
  path = "/proc/config.gz";
  if (gzFile file = gzopen(path.c_str(), "rb")) {
    std::string text;
    char block[1 << 14];
    int got = 0;
    while ((got = gzread(file, block, sizeof(block))) > 0) text.append(block, static_cast<std::size_t>(got));
    gzclose(file);
    if (got == 0 && !text.empty()) return text;
  }
  utsname system{};
  uname(&system);
  for (const std::string& candidate :
       {fmt::format("/boot/config-{}", system.release), fmt::format("/lib/modules/{}/config", system.release)}) {
    std::ifstream file(candidate);
    if (!file) continue;
    path = candidate;
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  return std::nullopt;
}

void check_config(Checks& checks) {
  std::string path;
  const auto config = kernel_config(path);
  if (!config) {
    checks.push_back({"kernel config", Status::kUnknown, "neither /proc/config.gz nor /boot/config-* can be read", ""});
    return;
  }
  for (const std::string_view option : {"CONFIG_BPF_SYSCALL", "CONFIG_CGROUP_BPF", "CONFIG_DEBUG_INFO_BTF",
                                        "CONFIG_INET_DIAG", "CONFIG_INET_TCP_DIAG"}) {
    const auto line = config->find(fmt::format("\n{}=", option));
    const char value = line == std::string::npos ? 'n' : (*config)[line + option.size() + 2];
    if (value == 'y' || value == 'm')
      checks.push_back({std::string(option), Status::kOk, fmt::format("={} in {}", value, path), ""});
    else
      checks.push_back(
          {std::string(option), Status::kMissing, fmt::format("not set in {}", path), "use a kernel built with it"});
  }
}

void check_program(Checks& checks, std::string_view program, std::string_view package, std::string_view use) {
  std::istringstream path(std::getenv("PATH") ? std::getenv("PATH") : "/usr/bin:/bin");
  for (std::string directory; std::getline(path, directory, ':');) {
    const auto candidate = std::filesystem::path(directory) / program;
    if (access(candidate.c_str(), X_OK) != 0) continue;
    checks.push_back({std::string(program), Status::kOk, candidate.string(), ""});
    return;
  }
  checks.push_back({std::string(program), Status::kMissing, fmt::format("not in PATH, for {}", use),
                    fmt::format("apt-get install {}", package)});
}

void check_congestion_control(Checks& checks) {
  const std::string available = read_line("/proc/sys/net/ipv4/tcp_available_congestion_control");
  const std::string chosen = read_line("/proc/sys/net/ipv4/tcp_congestion_control");
  if (available.empty())
    checks.push_back({"congestion control", Status::kUnknown, "/proc/sys/net/ipv4 cannot be read", ""});
  else
    checks.push_back({"congestion control", Status::kOk, fmt::format("{}; default {}", available, chosen), ""});
}

struct Tried {
  tcpinfo::SourceId id;
  Trial trial;
};

void add_trial(Checks& checks, std::string_view name, const Trial& trial) {
  checks.push_back({std::string(name), trial.works ? Status::kOk : Status::kMissing, trial.detail, trial.way_out});
  for (const auto& capability : trial.capabilities)
    checks.push_back({fmt::format("{} {}", name, capability.name),
                      capability.available ? Status::kOk : Status::kMissing, capability.detail, ""});
}

constexpr tcpinfo::Privileges kLoading{tcpinfo::Privilege::kBpf, tcpinfo::Privilege::kNetAdmin,
                                       tcpinfo::Privilege::kPerfmon};

// What is the least with which a source opens, and that it goes on with none.
void add_least_privilege(Checks& checks) {
  const std::pair<tcpinfo::SourceId, tcpinfo::Privileges> least[] = {
      {tcpinfo::SourceId::kSockops, kLoading},
      {tcpinfo::SourceId::kInetDiag, {}},
      {tcpinfo::SourceId::kIter, {tcpinfo::Privilege::kBpf, tcpinfo::Privilege::kPerfmon}}};
  const auto has = tcpinfo::Privileges::effective();
  for (const auto& [source, needed] : least) {
    Check check{fmt::format("{} least privilege", tcpinfo::name(source)), Status::kNote, "", ""};
    const auto with = needed.empty() ? std::string("no capability") : "only " + needed.to_string();
    if (const auto missing = needed - has; !missing.empty()) {
      check.detail = fmt::format("not tried with {}: this process lacks {}", with, missing.to_string());
    } else {
      const auto trial = try_source(source, {.to_open = needed, .drop_then = true});
      check.status = trial.works ? Status::kOk : Status::kMissing;
      check.detail = trial.works ? fmt::format("works with {}{}", with, needed.empty() ? "" : ", and goes on with none")
                                 : fmt::format("with {}: {}", with, trial.detail);
    }
    checks.push_back(std::move(check));
  }
}

// What gives this program what it needs, for those who copy it.
struct Recipe {
  std::string setcap;
  std::vector<std::string> systemd;
  std::string caveat;  // why setcap has no effect here; may be empty
};

std::string shell_word(const std::string& path) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@%";
  if (path.find_first_not_of(kPlain) == path.npos) return path;
  std::string out = "'";
  for (const char c : path) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

Recipe make_recipe() {
  Recipe recipe;
  std::error_code error;
  auto path = std::filesystem::read_symlink("/proc/self/exe", error).string();
  if (error) path = "/path/to/tcpinfo";
  std::string names, words;
  for (const auto privilege : {tcpinfo::Privilege::kBpf, tcpinfo::Privilege::kNetAdmin, tcpinfo::Privilege::kPerfmon}) {
    const auto name = std::string(tcpinfo::name(privilege));
    words += (words.empty() ? "" : " ") + name;
    names += names.empty() ? "" : ",";
    for (const char c : name) names += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  recipe.setcap = fmt::format("setcap {}+ep {}", names, shell_word(path));
  for (const auto* setting : {"AmbientCapabilities", "CapabilityBoundingSet"})
    recipe.systemd.push_back(fmt::format("{}={}", setting, words));
  if (struct statvfs status{}; statvfs(path.c_str(), &status) == 0 && (status.f_flag & ST_NOSUID))
    recipe.caveat = "the file system of " + path + " is mounted nosuid: there the kernel ignores capabilities of files";
  return recipe;
}

std::string as_table(const Checks& checks, std::span<const Tried> sources, const Recipe& recipe, std::size_t width) {
  std::size_t name_width = 0;
  for (const auto& check : checks) name_width = std::max(name_width, check.name.size());
  const std::size_t indent = 9 + name_width + 2;
  std::string out;
  for (const auto& check : checks) {
    out += fmt::format("{:<9}{:<{}}  ", text_of(check.status), check.name, name_width);
    append_wrapped(out, check.detail, indent, width);
    out += '\n';
    if (check.way_out.empty()) continue;
    out.append(indent, ' ');
    append_wrapped(out, "-> " + check.way_out, indent + 3, width);
    out += '\n';
  }
  out += fmt::format("\ntcpinfo {} here:", TCPINFO_VERSION);
  for (const auto& [id, trial] : sources)
    out += fmt::format("{} {} {}", &trial == &sources.front().trial ? "" : ",", tcpinfo::name(id),
                       trial.works ? "works" : "does not work");
  out += ".\n";
  // Not wrapped: they are to be copied.
  out += fmt::format("\nFor everybody who may execute it, without root:\n  sudo {}\n", recipe.setcap);
  if (!recipe.caveat.empty()) out += fmt::format("  ({})\n", recipe.caveat);
  out += "As a service of an ordinary user, in a systemd unit (tcpinfo.service is one):\n";
  for (const auto& line : recipe.systemd) out += fmt::format("  {}\n", line);
  return out;
}

std::string as_json(const Checks& checks, std::span<const Tried> sources, const Recipe& recipe) {
  rapidjson::StringBuffer buffer;
  rapidjson::PrettyWriter<rapidjson::StringBuffer> json(buffer);
  json.SetIndent(' ', 2);
  json.StartObject();
  put(json, "version", TCPINFO_VERSION);
  key(json, "works");
  json.StartObject();
  for (const auto& [id, trial] : sources) {
    key(json, tcpinfo::name(id));
    json.Bool(trial.works);
  }
  json.EndObject();
  key(json, "checks");
  json.StartArray();
  for (const auto& check : checks) {
    json.StartObject();
    put(json, "name", check.name);
    put(json, "status", text_of(check.status));
    put(json, "detail", check.detail);
    put(json, "way_out", check.way_out);
    json.EndObject();
  }
  json.EndArray();
  key(json, "least_privilege");
  json.StartObject();
  put(json, "setcap", recipe.setcap);
  put(json, "setcap_caveat", recipe.caveat);
  key(json, "systemd");
  json.StartArray();
  for (const auto& line : recipe.systemd) json.String(line.data(), static_cast<rapidjson::SizeType>(line.size()));
  json.EndArray();
  json.EndObject();
  json.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + '\n';
}

Exit examine(const std::string& format) {
  static constexpr std::string_view kFormats[] = {"table", "json"};
  const bool json = choose("--format", format, kFormats) == 1;

  Checks checks;
  check_kernel(checks);
  check_btf(checks);
  check_cgroups(checks);
  check_privileges(checks);
  check_config(checks);
  constexpr auto kSockops = tcpinfo::SourceId::kSockops, kInetDiag = tcpinfo::SourceId::kInetDiag,
                 kIter = tcpinfo::SourceId::kIter;
  const Tried sources[] = {
      {kSockops, try_source(kSockops)}, {kInetDiag, try_source(kInetDiag)}, {kIter, try_source(kIter)}};
  for (const auto& [id, trial] : sources) add_trial(checks, tcpinfo::name(id), trial);
  add_trial(checks, "owner", try_owners());
  add_least_privilege(checks);
  check_congestion_control(checks);
  check_program(checks, "iperf3", "iperf3", "tcpinfo-validate");
  check_program(checks, "gnuplot", "gnuplot-nox", "tcpinfo-plot");

  Output output = Output::standard();
  const auto recipe = make_recipe();
  output.write(json ? as_json(checks, sources, recipe)
                    : as_table(checks, sources, recipe, terminal_size(output.descriptor()).columns));
  return std::ranges::all_of(sources, [](const Tried& tried) { return tried.trial.works; }) ? kOk : kFailed;
}

}  // namespace

void add_doctor(CLI::App& app, Command& chosen) {
  auto* command = app.add_subcommand("doctor", "Try what works on this machine and say what to do about the rest");
  auto format = std::make_shared<std::string>("table");
  command->add_option("--format", *format, "table or json")->type_name("FORMAT")->capture_default_str();
  command->footer(
      "Loads and attaches the eBPF programs to a cgroup of its own for a moment, makes a connection over loopback,\n"
      "reads the sockets by netlink and by iterator, looks for the owner of a socket, and leaves nothing behind.\n"
      "Exit code 0 if all sources work, 1 if one does not. Says with which capabilities each works, and which\n"
      "setcap command or systemd lines give them to it.\n"
      "\n"
      "Examples:\n"
      "  sudo tcpinfo doctor\n"
      "  tcpinfo doctor --format json | jq .works");
  command->callback([format, &chosen] { chosen = [format] { return examine(*format); }; });
}

}  // namespace cli
