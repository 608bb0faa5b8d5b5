// SPDX-License-Identifier: BSD-2-Clause
#include "verdict.hpp"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

#include "files.hpp"
#include "json.hpp"

namespace validation {
namespace {

using Json = rapidjson::Value;
using json::each;
using json::Reader;
using json::Writer;

constexpr std::string_view kSchema = "tcpinfo-verdict";
constexpr int kVersion = 3;

// The members of each object once, for writing and for reading.
template <class Visit, class T>
void visit_alignment(Visit&& visit, T& a) {
  visit("file", a.file);
  visit("source", a.source);
  visit("start_boot_ns", a.start_boot_ns);
  visit("uncertainty_ns", a.uncertainty_ns);
  visit("intervals", a.intervals);
}

template <class Visit, class T>
void visit_way(Visit&& visit, T& w) {
  visit("rate_mbit", w.rate_mbit);
  visit("busiest_mbit", w.busiest_mbit);
  visit("delay_us", w.delay_us);
  visit("jitter_us", w.jitter_us);
  visit("latest_us", w.latest_us);
  visit("loss", w.loss);
  visit("reordering", w.reordering);
  visit("queue_bytes", w.queue_bytes);
  visit("ecn_mark_bytes", w.ecn_mark_bytes);
  visit("packets", w.packets);
  visit("bytes", w.bytes);
  visit("lost", w.lost);
  visit("dropped", w.dropped);
  visit("data_lost", w.data_lost);
  visit("marked", w.marked);
  visit("reordered", w.reordered);
}

template <class Visit, class T>
void visit_link(Visit&& visit, T& l) {
  visit("engine", l.engine);
  visit("mtu", l.mtu);
  visit("rtt_least_us", l.rtt_least_us);
  visit("rtt_median_us", l.rtt_median_us);
}

template <class Visit, class T>
void visit_stream(Visit&& visit, T& s) {
  visit("socket", s.socket);
  visit("local_address", s.local_address);
  visit("local_port", s.local_port);
  visit("peer_address", s.peer_address);
  visit("peer_port", s.peer_port);
  visit("sender_cookie", s.sender_cookie);
  visit("receiver_cookie", s.receiver_cookie);
}

template <class Visit, class T>
void visit_comparison(Visit&& visit, T& c) {
  visit("source", c.source);
  visit("field", c.field);
  visit("iperf3", c.iperf3);
  visit("rule", c.rule);
  visit("method", c.method);
  visit("end", c.end);
  visit("unit", c.unit);
  visit("compared", c.compared);
  visit("agreed", c.agreed);
  visit("largest_difference", c.largest_difference);
  visit("median_window", c.median_window);
  visit("control_agreed", c.control_agreed);
  visit("passed", c.passed);
  visit("note", c.note);
  visit("first", c.first);
}

}  // namespace

std::string to_json(const Verdict& verdict) {
  rapidjson::StringBuffer buffer;
  Writer writer(buffer);
  writer.SetIndent(' ', 2);
  const auto put = [&](const char* name, const auto& value) {
    writer.Key(name);
    json::write(writer, value);
  };
  const auto put_alignment = [&](const Alignment& alignment) {
    writer.StartObject();
    visit_alignment(put, alignment);
    writer.EndObject();
  };
  writer.StartObject();
  put("schema", std::string(kSchema));
  put("version", kVersion);
  put("passed", verdict.passed());
  put("title", verdict.title);
  put("iperf3_version", verdict.iperf3_version);
  put("kernel", verdict.kernel);
  put("scenario", verdict.scenario);
  put("goodput_mbit", verdict.goodput_mbit);
  put("mean_rtt_us", verdict.mean_rtt_us);
  put("retransmits", verdict.retransmits);
  writer.Key("link");
  if (verdict.link.engine.empty()) {
    writer.Null();
  } else {
    writer.StartObject();
    visit_link(put, verdict.link);
    for (const auto& [name, way] : {std::pair("there", &verdict.link.there), std::pair("back", &verdict.link.back)}) {
      writer.Key(name);
      writer.StartObject();
      visit_way(put, *way);
      writer.EndObject();
    }
    writer.EndObject();
  }
  for (const auto& [name, sentences] : {std::pair("quirks", &verdict.quirks), std::pair("remarks", &verdict.remarks)}) {
    writer.Key(name);
    writer.StartArray();
    for (const auto& sentence : *sentences) json::write(writer, sentence);
    writer.EndArray();
  }
  writer.Key("alignment");
  if (verdict.alignments.empty())
    writer.Null();
  else
    put_alignment(verdict.alignments.front());
  writer.Key("alignments");
  writer.StartArray();
  for (const auto& alignment : verdict.alignments) put_alignment(alignment);
  writer.EndArray();
  writer.Key("streams");
  writer.StartArray();
  for (const auto& stream : verdict.streams) {
    writer.StartObject();
    visit_stream(put, stream);
    writer.EndObject();
  }
  writer.EndArray();
  writer.Key("comparisons");
  writer.StartArray();
  for (const auto& comparison : verdict.comparisons) {
    writer.StartObject();
    visit_comparison(put, comparison);
    writer.EndObject();
  }
  writer.EndArray();
  writer.Key("records");
  writer.StartObject();
  for (const auto& [source, counts] : verdict.records) {
    writer.Key(source.c_str());
    writer.StartObject();
    for (const auto& [name, count] : counts) put(name.c_str(), count);
    writer.EndObject();
  }
  writer.EndObject();
  writer.Key("failures");
  writer.StartArray();
  for (const auto& failure : verdict.failures) json::write(writer, failure);
  writer.EndArray();
  writer.EndObject();
  return {buffer.GetString(), buffer.GetSize()};
}

Verdict parse_verdict(std::string_view json, std::string_view name) {
  const auto refuse = [&](std::string way_out) {
    throw tcpinfo::Error(make_error_code(tcpinfo::Errc::kMalformed), fmt::format("read verdict {}", name),
                         std::move(way_out));
  };
  rapidjson::Document document;
  document.Parse<rapidjson::kParseFullPrecisionFlag>(json.data(), json.size());
  if (document.HasParseError())
    refuse(fmt::format("it is not JSON or cut off at byte {}; make it again with tcpinfo-validate",
                       document.GetErrorOffset()));
  const Reader read{document};
  std::string schema;
  int version = 0;
  read("schema", schema);
  read("version", version);
  if (schema != kSchema) refuse("it is no verdict; tcpinfo-validate writes one");
  if (version != kVersion) refuse(fmt::format("its version is {}, this program reads {}", version, kVersion));
  Verdict verdict;
  read("title", verdict.title);
  read("iperf3_version", verdict.iperf3_version);
  read("kernel", verdict.kernel);
  read("scenario", verdict.scenario);
  read("goodput_mbit", verdict.goodput_mbit);
  read("mean_rtt_us", verdict.mean_rtt_us);
  read("retransmits", verdict.retransmits);
  if (const auto* link = read.find("link"); link && link->IsObject()) {
    visit_link(Reader{*link}, verdict.link);
    for (const auto& [key, way] : {std::pair("there", &verdict.link.there), std::pair("back", &verdict.link.back)})
      if (const auto* object = Reader{*link}.find(key)) visit_way(Reader{*object}, *way);
  }
  for (const auto& [key, sentences] : {std::pair("quirks", &verdict.quirks), std::pair("remarks", &verdict.remarks)})
    each(read.find(key), [&list = *sentences](const Json& text) {
      if (text.IsString()) list.emplace_back(text.GetString(), text.GetStringLength());
    });
  each(read.find("alignments"),
       [&](const Json& object) { visit_alignment(Reader{object}, verdict.alignments.emplace_back()); });
  each(read.find("streams"), [&](const Json& object) { visit_stream(Reader{object}, verdict.streams.emplace_back()); });
  each(read.find("comparisons"),
       [&](const Json& object) { visit_comparison(Reader{object}, verdict.comparisons.emplace_back()); });
  if (const auto* records = read.find("records"); records && records->IsObject())
    for (const auto& [source, counts] : records->GetObject()) {
      auto& list = verdict.records[source.GetString()];
      if (!counts.IsObject()) continue;
      for (const auto& [key, count] : counts.GetObject())
        if (count.IsUint64()) list.emplace_back(key.GetString(), count.GetUint64());
    }
  each(read.find("failures"), [&](const Json& text) {
    if (text.IsString()) verdict.failures.emplace_back(text.GetString(), text.GetStringLength());
  });
  return verdict;
}

Verdict read_verdict(const std::filesystem::path& file) { return parse_verdict(read_text(file), file.string()); }

namespace {

void put_line(std::string& out, std::string_view field, const Comparison& c) {
  fmt::format_to(std::back_inserter(out),
                 "{:<10} {:<18} {:<16} {:<8} {:<7} {:>8} {:>8} {:>12g} {:>12g} {:<11} {:>8}  {}\n", c.source, field,
                 c.iperf3.empty() ? "-" : c.iperf3, c.end, c.method, c.compared, c.agreed, c.largest_difference,
                 c.median_window, c.unit.empty() || c.unit == "none" ? "-" : c.unit,
                 c.has_control() ? std::to_string(c.control_agreed) : "-", c.passed ? "ok" : "FAILED");
}

/// All fields of one source, end and method.
Comparison sum_of(const std::vector<const Comparison*>& all) {
  Comparison sum;
  sum.source = all.front()->source;
  sum.method = all.front()->method;
  sum.end = all.front()->end;
  sum.passed = true;
  for (const auto* c : all) {
    sum.compared += c->compared;
    sum.agreed += c->agreed;
    sum.control_agreed += c->control_agreed;
    sum.passed = sum.passed && c->passed;
  }
  return sum;
}

}  // namespace

std::string to_table(const Verdict& verdict, Detail detail) {
  std::string out;
  const auto line = [&out]<class... T>(fmt::format_string<T...> text, T&&... arguments) {
    fmt::format_to(std::back_inserter(out), text, std::forward<T>(arguments)...);
    out += '\n';
  };
  line("{} ({})", verdict.title, verdict.iperf3_version);
  line("{:<10} {:<18} {:<16} {:<8} {:<7} {:>8} {:>8} {:>12} {:>12} {:<11} {:>8}", "source", "field", "iperf3", "end",
       "method", "compared", "agreed", "largest diff", "window", "unit", "control");
  for (const auto& c : verdict.comparisons)
    if (!c.iperf3.empty()) put_line(out, c.field, c);
  std::vector<std::vector<const Comparison*>> groups;
  for (const auto& c : verdict.comparisons) {
    if (!c.iperf3.empty()) continue;
    const auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& one) {
      return one.front()->source == c.source && one.front()->end == c.end && one.front()->method == c.method;
    });
    if (group == groups.end())
      groups.push_back({&c});
    else
      group->push_back(&c);
  }
  for (const auto& group : groups) {
    if (detail == Detail::kSummary)
      put_line(out, fmt::format("{} field{}", group.size(), group.size() == 1 ? "" : "s"), sum_of(group));
    for (const auto* c : group)
      if (detail == Detail::kFull || !c->passed) put_line(out, c->field, *c);
  }
  for (const auto& alignment : verdict.alignments)
    line("start of the {}'s clock by {}: known to {:.3f} ms from {} intervals", alignment.file, alignment.source,
         static_cast<double>(alignment.uncertainty_ns) / 1e6, alignment.intervals);
  for (const auto& [source, counts] : verdict.records) {
    std::string text;
    for (const auto& [name, count] : counts) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, name);
    line("records of {}: {}", source, text);
  }
  for (const auto& quirk : verdict.quirks) line("quirk: {}", quirk);
  for (const auto& remark : verdict.remarks) line("remark: {}", remark);
  for (const auto& failure : verdict.failures) line("failure: {}", failure);
  line("{}", verdict.passed() ? "PASSED" : "FAILED");
  return out;
}

}  // namespace validation
