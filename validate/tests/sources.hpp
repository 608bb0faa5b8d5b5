// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include <tcpinfo/tcpinfo.hpp>

/// Every source behind one interface, for tests that say what any source has to do.
namespace lab {

/// What all sources can be asked for.
struct Wanted {
  std::filesystem::path cgroup = {};
  tcpinfo::Filter filter = {};
  std::chrono::nanoseconds interval = std::chrono::milliseconds(10);
};

struct SourceKind {
  tcpinfo::SourceId id;
  std::unique_ptr<tcpinfo::Source> (*open)(const Wanted& wanted);
};

/// What those can be asked for that read all sockets of a namespace.
struct SnapshotWanted {
  std::filesystem::path netns = {};
  std::uint32_t states = tcpinfo::kConnectionStates;
  tcpinfo::Filter filter = {};
  std::filesystem::path cgroup = {};
};

struct SnapshotKind {
  tcpinfo::SourceId id;
  std::unique_ptr<tcpinfo::Source> (*open)(const SnapshotWanted& wanted);
};

namespace detail {

template <class Source, class Options>
std::unique_ptr<tcpinfo::Source> open_any(const Wanted& wanted) {
  Options options;
  options.cgroup = wanted.cgroup;
  options.filter = wanted.filter;
  options.interval = wanted.interval;
  return std::make_unique<Source>(options);
}

template <class Source, class Options>
std::unique_ptr<tcpinfo::Source> open_snapshot(const SnapshotWanted& wanted) {
  Options options;
  options.netns = wanted.netns;
  options.states = wanted.states;
  options.filter = wanted.filter;
  options.cgroup = wanted.cgroup;
  return std::make_unique<Source>(options);
}

}  // namespace detail

/// A further source is an entry here.
inline const SourceKind kSources[] = {
    {tcpinfo::SourceId::kSockops, detail::open_any<tcpinfo::SockopsSource, tcpinfo::SockopsOptions>},
    {tcpinfo::SourceId::kInetDiag, detail::open_any<tcpinfo::InetDiagSource, tcpinfo::InetDiagOptions>},
    {tcpinfo::SourceId::kIter, detail::open_any<tcpinfo::IterSource, tcpinfo::IterOptions>},
};
inline const SnapshotKind kSnapshots[] = {
    {tcpinfo::SourceId::kInetDiag, detail::open_snapshot<tcpinfo::InetDiagSource, tcpinfo::InetDiagOptions>},
    {tcpinfo::SourceId::kIter, detail::open_snapshot<tcpinfo::IterSource, tcpinfo::IterOptions>},
};

using Records = std::vector<tcpinfo_record>;

inline const tcpinfo_record* find(const Records& records, std::uint64_t cookie) {
  for (const auto& record : records)
    if (record.cookie == cookie) return &record;
  return nullptr;
}

/// Drives a source as its owner would, until `done(records)` or five seconds have passed.
template <class Done>
Records drive(tcpinfo::Source& source, Done done) {
  using Clock = tcpinfo::Source::Clock;
  Records records;
  for (const auto end = Clock::now() + std::chrono::seconds(5); !done(records) && Clock::now() < end;) {
    if (const auto error = source.tick(Clock::now())) throw std::system_error(error, "tick");
    const auto result = source.drain([&](const tcpinfo::Record& record) { records.push_back(record.raw()); });
    if (result.error) throw std::system_error(result.error, "drain");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return records;
}

/// One pass over all sockets.
inline Records snapshot(tcpinfo::Source& source) {
  const auto dumps = source.statistics().dumps;
  auto records = Records();
  if (const auto error = source.tick(source.next_deadline().value_or(tcpinfo::Source::Clock::now())))
    throw std::system_error(error, "tick");
  while (source.statistics().dumps == dumps) {
    const auto result = source.drain([&](const tcpinfo::Record& record) { records.push_back(record.raw()); });
    if (result.error) throw std::system_error(result.error, "drain");
  }
  if (source.statistics().dumps_interrupted != 0) throw std::runtime_error("a pass was interrupted");
  return records;
}

}  // namespace lab
