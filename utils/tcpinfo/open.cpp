// SPDX-License-Identifier: BSD-2-Clause
#include "open.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "command.hpp"
#include "units.hpp"

namespace cli {
namespace {

template <class Source, class Options>
std::unique_ptr<tcpinfo::Source> open_as(const SnapshotOptions& wanted) {
  Options options;
  options.interval = wanted.interval;
  options.filter = wanted.filter;
  options.trigger = wanted.trigger;
  options.cgroup = wanted.cgroup;
  options.netns = wanted.netns;
  options.states = wanted.states;
  return std::make_unique<Source>(options);
}

}  // namespace

tcpinfo::SourceId parse_source(std::string_view option, std::string_view word,
                               std::span<const tcpinfo::SourceId> choices) {
  std::vector<std::string_view> names;
  for (const auto source : choices) names.push_back(tcpinfo::name(source));
  return choices[choose(option, word, names)];
}

std::string find_cgroup(const std::optional<std::string>& cgroup, const std::optional<std::string>& pid,
                        const std::optional<std::string>& unit) {
  if (cgroup.has_value() + pid.has_value() + unit.has_value() > 1)
    usage_error("--cgroup, --pid and --unit each name a cgroup: give one of them");
  if (cgroup && cgroup->empty()) usage_error("--cgroup: the path is empty");
  if (unit) return tcpinfo::cgroup_of_unit(*unit);
  if (!pid) return cgroup.value_or("");
  const auto number = parse_count("--pid", *pid);
  if (number > std::numeric_limits<pid_t>::max())
    usage_error(fmt::format("--pid {}: no process has this number", *pid));
  const auto found = tcpinfo::cgroup_of_process(static_cast<pid_t>(number));
  if (const auto others = tcpinfo::cgroup_processes(found).size(); others > 1)
    fmt::print(stderr, "tcpinfo: process {} is in cgroup {} together with {} other{}, which {} meant too\n", number,
               found.string(), others - 1, others == 2 ? "" : "s", others == 2 ? "is" : "are");
  return found;
}

void warn_of_sockets_elsewhere(const std::string& cgroup) {
  constexpr std::size_t kMost = 3;
  const auto many = [](std::size_t count, std::string_view one, std::string_view several) {
    return fmt::format("{} {}", count, count == 1 ? one : several);
  };
  tcpinfo::CgroupSurvey survey;
  try {
    survey = tcpinfo::survey_cgroup(cgroup);
  } catch (const tcpinfo::Error&) {  // the cgroup went meanwhile, which the source will tell
    return;
  }
  for (std::size_t i = 0; i < std::min(kMost, survey.elsewhere.size()); ++i) {
    const auto& other = survey.elsewhere[i];
    const auto place = other.cgroup.empty() ? fmt::format("a cgroup that is not visible here ({})", other.cgroup_id)
                                            : other.cgroup.string();
    const auto listeners = many(other.listeners, "listener", "listeners");
    fmt::print(stderr,
               "tcpinfo: {} in {} {} {} made in {}, which belong there and are left out{}; restart the service, or "
               "name that cgroup\n",
               many(other.processes, "process", "processes"), cgroup, other.processes == 1 ? "holds" : "hold",
               many(other.sockets, "TCP socket", "TCP sockets"), place,
               other.listeners == 0 ? "" : fmt::format(" ({}, with all that they accept)", listeners));
  }
  if (survey.elsewhere.size() > kMost)
    fmt::print(stderr, "tcpinfo: and sockets of {} more cgroups\n", survey.elsewhere.size() - kMost);
  if (survey.not_examined > 0)
    fmt::print(stderr,
               "tcpinfo: {} of the {} could not be looked at: sockets that they hold from elsewhere are left out\n",
               survey.not_examined, many(survey.processes, "process in the cgroup", "processes in the cgroup"));
}

void check_named(const std::string& cgroup, const std::string& netns) {
  if (!cgroup.empty()) tcpinfo::cgroup_id(cgroup);
  if (struct stat status{}; !netns.empty() && stat(netns.c_str(), &status) != 0)
    throw tcpinfo::Error({errno, std::generic_category()}, "open network namespace " + netns,
                         "ip netns list names those in /run/netns");
}

std::unique_ptr<tcpinfo::Source> open_source(const std::function<std::unique_ptr<tcpinfo::Source>()>& open) {
  try {
    return open();
  } catch (const tcpinfo::Error& error) {
    // So the kernel says that it lacks a program type, a helper or inet_diag.
    const bool lacking = error.code().category() != tcpinfo::error_category() &&
                         (error.code().value() == EINVAL || error.code().value() == ENOENT);
    throw Failure(lacking ? kNotHere : exit_code(error), error.what());
  }
}

std::unique_ptr<tcpinfo::Source> open_snapshots(tcpinfo::SourceId source, const SnapshotOptions& wanted) {
  check_named(wanted.cgroup, wanted.netns);
  return open_source([&] {
    return source == tcpinfo::SourceId::kIter ? open_as<tcpinfo::IterSource, tcpinfo::IterOptions>(wanted)
                                              : open_as<tcpinfo::InetDiagSource, tcpinfo::InetDiagOptions>(wanted);
  });
}

tcpinfo::OwnersOptions owners_of(const std::string& cgroup) {
  tcpinfo::OwnersOptions options;
  options.cgroup = cgroup;
  return options;
}

}  // namespace cli
