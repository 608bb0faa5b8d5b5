// SPDX-License-Identifier: BSD-2-Clause
#include "study.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <ranges>
#include <utility>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

#include "files.hpp"
#include "json.hpp"

namespace validation {
namespace {

using Json = rapidjson::Value;

constexpr std::string_view kSchema = "tcpinfo-study";
constexpr int kVersion = 1;

void widen(std::optional<std::uint64_t>& least, std::optional<std::uint64_t>& greatest,
           const std::optional<std::uint64_t>& value) {
  // 0: not measured yet.
  if (!value || *value == 0) return;
  least = least ? std::min(*least, *value) : *value;
  greatest = greatest ? std::max(*greatest, *value) : *value;
}

// The members of each object once, for writing and for reading.
template <class Visit, class T>
void visit_seen(Visit&& visit, T& s) {
  visit("records", s.records);
  visit("bulk_records", s.bulk_records);
  visit("nothing_new", s.nothing_new);
  visit("rtt_least_us", s.rtt_least_us);
  visit("rtt_greatest_us", s.rtt_greatest_us);
  visit("cwnd_least", s.cwnd_least);
  visit("cwnd_greatest", s.cwnd_greatest);
  visit("bursts", s.bursts);
  visit("short_flows", s.short_flows);
  visit("short_flows_complete", s.short_flows_complete);
}

template <class Visit, class T>
void visit_sampler(Visit&& visit, T& s) {
  visit("source", s.source);
  visit("mode", s.mode);
  visit("interval_ns", s.interval_ns);
  visit("lost", s.lost);
  visit_seen(visit, s.seen);
}

template <class Visit, class T>
void visit_study(Visit&& visit, T& s) {
  visit("kernel", s.kernel);
  visit("path", s.path);
  visit("congestion", s.congestion);
  visit("duration_s", s.duration_s);
  visit("rtt_us", s.rtt_us);
  visit("retransmissions", s.retransmissions);
  visit("short_flows", s.short_flows);
  visit("short_flow_ms", s.short_flow_ms);
}

std::string interval_text(const Sampler& sampler) {
  if (sampler.mode == "state") return "transitions";
  if (sampler.interval_ns == 0) return "every RTT";
  return sampler.interval_ns % 1'000'000'000 == 0
             ? fmt::format("{} s", sampler.interval_ns / 1'000'000'000)
             : fmt::format("{:g} ms", static_cast<double>(sampler.interval_ns) / 1e6);
}

}  // namespace

std::vector<std::uint64_t> burst_totals(const std::vector<Reading>& readings, std::uint64_t cookie) {
  // When each total was seen first. Clocks of different sources differ by the time that their reading takes, but a
  // total only grows: one that was seen was reached when a greater one was.
  struct First {
    std::uint64_t time_ns, rtt_us;
  };
  std::map<std::uint64_t, First> firsts;
  for (const auto& reading : readings) {
    if (reading.cookie != cookie || !reading.total_retrans) continue;
    const First first{reading.time_ns, reading.rtt_us.value_or(0)};
    const auto [place, is_new] = firsts.try_emplace(*reading.total_retrans, first);
    if (!is_new && first.time_ns < place->second.time_ns) place->second = first;
  }
  if (firsts.size() < 2) return {};
  auto earliest = firsts.rbegin()->second.time_ns;
  for (auto& [total, first] : firsts | std::views::reverse)
    first.time_ns = earliest = std::min(earliest, first.time_ns);
  std::vector<std::uint64_t> totals;
  for (auto one = firsts.begin(); one != firsts.end(); ++one) {
    const auto next = std::next(one);
    if (one == firsts.begin() || next == firsts.end() ||
        next->second.time_ns - one->second.time_ns > next->second.rtt_us * 1000)
      totals.push_back(one->first);
  }
  return totals;
}

Seen evaluate(const std::vector<Reading>& readings, const Flows& flows, const std::vector<std::uint64_t>& totals) {
  Seen seen;
  std::map<std::uint64_t, const Reading*> last;
  std::set<std::uint64_t> totals_seen, shorts, complete;
  for (const auto& reading : readings) {
    ++seen.records;
    auto& before = last[reading.cookie];
    if (before && before->segs_in == reading.segs_in && before->segs_out == reading.segs_out &&
        before->state == reading.state)
      ++seen.nothing_new;
    before = &reading;
    if (flows.shorts.contains(reading.cookie)) {
      shorts.insert(reading.cookie);
      if (reading.bytes_acked >= flows.short_flow_bytes) complete.insert(reading.cookie);
    }
    if (reading.cookie != flows.bulk) continue;
    ++seen.bulk_records;
    widen(seen.rtt_least_us, seen.rtt_greatest_us, reading.rtt_us);
    widen(seen.cwnd_least, seen.cwnd_greatest, reading.cwnd);
    if (reading.total_retrans) totals_seen.insert(*reading.total_retrans);
  }
  for (std::size_t i = 1; i < totals.size(); ++i)
    if (totals_seen.contains(totals[i - 1]) && totals_seen.contains(totals[i])) ++seen.bursts;
  seen.short_flows = shorts.size();
  seen.short_flows_complete = complete.size();
  return seen;
}

std::string to_json(const StudyResult& result) {
  rapidjson::StringBuffer buffer;
  json::Writer writer(buffer);
  writer.SetIndent(' ', 2);
  const auto put = [&](const char* name, const auto& value) {
    writer.Key(name);
    json::write(writer, value);
  };
  writer.StartObject();
  put("schema", std::string(kSchema));
  put("version", kVersion);
  visit_study(put, result);
  writer.Key("reference");
  writer.StartObject();
  visit_seen(put, result.reference);
  writer.EndObject();
  writer.Key("samplers");
  writer.StartArray();
  for (const auto& sampler : result.samplers) {
    writer.StartObject();
    visit_sampler(put, sampler);
    writer.EndObject();
  }
  writer.EndArray();
  writer.EndObject();
  return {buffer.GetString(), buffer.GetSize()};
}

StudyResult parse_study(std::string_view text, std::string_view name) {
  const auto refuse = [&](std::string way_out) {
    throw tcpinfo::Error(make_error_code(tcpinfo::Errc::kMalformed), fmt::format("read study {}", name),
                         std::move(way_out));
  };
  rapidjson::Document document;
  document.Parse<rapidjson::kParseFullPrecisionFlag>(text.data(), text.size());
  if (document.HasParseError())
    refuse(fmt::format("it is not JSON or cut off at byte {}; make it again with tcpinfo-validate",
                       document.GetErrorOffset()));
  const json::Reader get{document};
  std::string schema;
  std::uint64_t version = 0;
  get("schema", schema);
  get("version", version);
  if (schema != kSchema) refuse("it is no study; tcpinfo-validate writes one");
  if (version != kVersion) refuse(fmt::format("its version is {}, this program reads {}", version, kVersion));
  StudyResult result;
  visit_study(get, result);
  if (const auto* reference = get.find("reference")) visit_seen(json::Reader{*reference}, result.reference);
  if (const auto* samplers = get.find("samplers"); samplers && samplers->IsArray())
    for (const auto& sampler : samplers->GetArray()) visit_sampler(json::Reader{sampler}, result.samplers.emplace_back());
  return result;
}

StudyResult read_study(const std::filesystem::path& file) { return parse_study(read_text(file), file.string()); }

std::string to_table(const StudyResult& result) {
  std::string out;
  const auto line = [&out]<class... T>(fmt::format_string<T...> text, T&&... arguments) {
    fmt::format_to(std::back_inserter(out), text, std::forward<T>(arguments)...);
    out += '\n';
  };
  const auto range = [](const std::optional<std::uint64_t>& least, const std::optional<std::uint64_t>& greatest,
                        double divisor) {
    return least && greatest ? fmt::format("{:g}-{:g}", static_cast<double>(*least) / divisor,
                                           static_cast<double>(*greatest) / divisor)
                             : std::string("-");
  };
  const auto row = [&](std::string_view source, std::string_view interval, const Seen& seen, std::uint64_t lost) {
    line("{:<10} {:<11} {:>8} {:>6} {:>8} {:>11} {:>17} {:>9} {:>7} {:>7} {:>8}", source, interval, seen.records, lost,
         seen.bulk_records, seen.nothing_new, range(seen.rtt_least_us, seen.rtt_greatest_us, 1000),
         range(seen.cwnd_least, seen.cwnd_greatest, 1), seen.bursts, seen.short_flows, seen.short_flows_complete);
  };
  line("{}, {:g} s, {}", result.path, result.duration_s, result.congestion);
  line("{}; {} segments sent again; {} short flows of {:.3g} ms", result.kernel, result.retransmissions,
       result.short_flows, result.short_flow_ms);
  line("{:<10} {:<11} {:>8} {:>6} {:>8} {:>11} {:>17} {:>9} {:>7} {:>7} {:>8}", "source", "interval", "records", "lost",
       "of long", "nothing new", "rtt, ms", "snd_cwnd", "bursts", "shorts", "complete");
  row("reference", "-", result.reference, 0);
  for (const auto& sampler : result.samplers) row(sampler.source, interval_text(sampler), sampler.seen, sampler.lost);
  return out;
}

}  // namespace validation
