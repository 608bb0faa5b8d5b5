// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include <tcpinfo/source.hpp>

#include "json.hpp"

namespace cli {

/// What a process has used since it began.
struct ProcessUse {
  std::chrono::microseconds user{}, system{};
  std::uint64_t wakeups = 0;         ///< times that it slept and was woken
  std::uint64_t resident_bytes = 0;  ///< now; the pages of a ring buffer that it has looked at are in it
};

/// What a source and this process have cost up to a moment; two of them give the cost of the time between.
struct CostReading {
  std::chrono::steady_clock::time_point time;
  tcpinfo::Cost kernel;
  ProcessUse process;
  std::uint64_t records = 0;  ///< delivered
  std::uint64_t lost = 0;
};

CostReading read_cost(const tcpinfo::Source& source);

/// One line without its end, as it is shown each second.
std::string cost_line(const CostReading& from, const CostReading& to);
/// A heading and a small table, as it is shown at the end.
std::string cost_table(const CostReading& from, const CostReading& to);

/// An object under the key "cost": the differences of counts and times, the memory at the end.
template <class Writer>
void put_cost(Writer& json, const CostReading& from, const CostReading& to) {
  const auto number = [&json](std::string_view name, std::uint64_t value) {
    key(json, name);
    json.Uint64(value);
  };
  const auto nanoseconds = [&number](std::string_view name, std::chrono::nanoseconds value) {
    number(name, static_cast<std::uint64_t>(value.count()));
  };
  key(json, "cost");
  json.StartObject();
  nanoseconds("time_ns", to.time - from.time);
  key(json, "programs");
  json.StartArray();
  for (std::size_t i = 0; i < to.kernel.programs.size(); ++i) {
    const auto& now = to.kernel.programs[i];
    const auto& before = from.kernel.programs[i];
    json.StartObject();
    put(json, "name", now.name);
    number("id", now.id);
    number("runs", now.runs - before.runs);
    number("run_time_ns", now.run_time_ns - before.run_time_ns);
    number("recursion_misses", now.recursion_misses - before.recursion_misses);
    number("instructions", now.instructions);
    number("code_bytes", now.code_bytes);
    key(json, "in_own_process");
    json.Bool(now.in_own_process);
    json.EndObject();
  }
  json.EndArray();
  key(json, "maps");
  json.StartArray();
  for (const auto& map : to.kernel.maps) {
    json.StartObject();
    put(json, "name", map.name);
    number("id", map.id);
    number("bytes", map.bytes);
    number("element_bytes", map.element_bytes);
    json.EndObject();
  }
  json.EndArray();
  key(json, "process");
  json.StartObject();
  nanoseconds("user_ns", to.process.user - from.process.user);
  nanoseconds("system_ns", to.process.system - from.process.system);
  number("wakeups", to.process.wakeups - from.process.wakeups);
  number("resident_bytes", to.process.resident_bytes);
  json.EndObject();
  number("records", to.records - from.records);
  number("lost", to.lost - from.lost);
  json.EndObject();
}

}  // namespace cli
