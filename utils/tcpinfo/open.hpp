// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <tcpinfo/tcpinfo.hpp>

namespace cli {

inline constexpr tcpinfo::SourceId kAllSources[] = {tcpinfo::SourceId::kSockops, tcpinfo::SourceId::kInetDiag,
                                                    tcpinfo::SourceId::kIter};
/// Those that read all sockets of a network namespace.
inline constexpr tcpinfo::SourceId kSnapshotSources[] = {tcpinfo::SourceId::kInetDiag, tcpinfo::SourceId::kIter};

/// Throws Failure (kUsage) that names the choices.
tcpinfo::SourceId parse_source(std::string_view option, std::string_view word,
                               std::span<const tcpinfo::SourceId> choices);

/// The cgroup that one of --cgroup, --pid and --unit names, empty if none of them was given. Says on standard error who
/// else is meant with the process. Throws Failure (kUsage), tcpinfo::Error.
std::string find_cgroup(const std::optional<std::string>& cgroup, const std::optional<std::string>& pid,
                        const std::optional<std::string>& unit);

/// Says on standard error which sockets of the cgroup's processes are left out with it.
void warn_of_sockets_elsewhere(const std::string& cgroup);

/// Looks at what the user named, so that an error of open_source() is the kernel's or the privileges'. Empty: not
/// named. Throws tcpinfo::Error.
void check_named(const std::string& cgroup, const std::string& netns);
/// What `open` gives. Its errors become a Failure whose code tells a machine that cannot from one that failed.
std::unique_ptr<tcpinfo::Source> open_source(const std::function<std::unique_ptr<tcpinfo::Source>()>& open);

struct SnapshotOptions {
  std::chrono::nanoseconds interval = std::chrono::milliseconds(100);
  tcpinfo::Filter filter = {};
  tcpinfo::Trigger trigger = {};
  std::string cgroup = {};
  std::string netns = {};
  std::uint32_t states = tcpinfo::kConnectionStates;
};

/// One of kSnapshotSources. Throws Failure.
std::unique_ptr<tcpinfo::Source> open_snapshots(tcpinfo::SourceId source, const SnapshotOptions& wanted);

inline constexpr const char* kOwnerHelp =
    "Add who holds the socket, or made it: pid, comm, executable, cgroup, unit, container, network namespace";
/// For sockets of this cgroup; empty: of all.
tcpinfo::OwnersOptions owners_of(const std::string& cgroup);

}  // namespace cli
