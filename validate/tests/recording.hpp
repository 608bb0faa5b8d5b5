// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/json.hpp>

#include "compare.hpp"

/// A recording of tests/data, made small by compact.py.
namespace validation {

inline std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells(1);
  for (const char c : line) {
    if (c == ',')
      cells.emplace_back();
    else
      cells.back() += c;
  }
  return cells;
}

inline std::vector<tcpinfo_record> read_small_records(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::string line;
  if (!std::getline(in, line)) throw std::runtime_error("no recording " + file.string());
  const auto names = cells_of(line);
  // By source, and by cookie: what a record does not say is as in the one before. The first names both.
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> last;
  std::vector<tcpinfo_record> records;
  const auto place = [&](std::string_view name) {
    return static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin());
  };
  while (std::getline(in, line)) {
    auto cells = cells_of(line);
    cells.resize(names.size());
    auto& before = last[{cells[place("cookie")], cells[place("source")]}];
    before.resize(names.size());
    std::string json;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (cells[i].empty()) cells[i] = before[i];
      before[i] = cells[i];
      if (cells[i] == "-" || cells[i].empty()) continue;
      const auto format = tcpinfo::find_field(names[i])->format;
      const bool plain = format == tcpinfo::Format::number;
      const auto text = format == tcpinfo::Format::boolean ? std::string(cells[i] == "1" ? "true" : "false")
                        : plain                            ? cells[i]
                                                           : "\"" + cells[i] + "\"";
      json += fmt::format("{}\"{}\":{}", json.empty() ? "" : ",", names[i], text);
    }
    records.push_back(tcpinfo::parse_json("{" + json + "}"));
  }
  return records;
}

struct Recording {
  std::vector<Iperf3Result> results;
  std::map<tcpinfo::SourceId, std::vector<tcpinfo_record>> records;

  Input input() const {
    Input input;
    input.results = results;
    for (const auto& [source, list] : records) input.sources.push_back({source, list});
    return input;
  }
};

inline Recording read_recording(const std::filesystem::path& directory) {
  Recording recording;
  for (const char* name : {"iperf3.json", "iperf3-server.json"})
    recording.results.push_back(read_iperf3(directory / name));
  for (const auto source : {tcpinfo::SourceId::kSockops, tcpinfo::SourceId::kInetDiag, tcpinfo::SourceId::kIter,
                            tcpinfo::SourceId::kGetsockopt})
    recording.records[source] = read_small_records(directory / fmt::format("{}.records", tcpinfo::name(source)));
  return recording;
}

}  // namespace validation
