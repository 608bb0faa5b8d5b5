// SPDX-License-Identifier: BSD-2-Clause
#include "path_truth.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

namespace validation {

using tcpinfo::Field;
using tcpinfo::Record;
using tcpinfo::SourceId;

namespace {

/// Whether every packet waits for the delay that was asked, and none leaves early.
bool delays_exactly(const LinkReport& link) { return link.engine == "emulator" || link.engine == "netem"; }

// A reordered packet is one that does not wait.
Value least_delay(const WayReport& way) { return way.reordering > 0 ? 0 : static_cast<Value>(way.delay_us); }

/// The least that a round trip takes. Where something was sent twice, an ACK can only be told by the timestamps that it
/// echoes, in whole milliseconds (kernel v6.18 net/ipv4/tcp_input.c tcp_rtt_tsopt_us()): a measurement may then be cut
/// to the millisecond below.
Value least_round_trip(const LinkReport& link, const tcpinfo_record* record) {
  const auto least = least_delay(link.there) + least_delay(link.back);
  return number(record, Field::total_retrans).value_or(0) > 0 ? least / 1000 * 1000 : least;
}

// A smoothed value of measurements that are all at least L is at least L, also in whole numbers: of 8 q + r with q >= L
// the kernel takes away q and adds a measurement m >= L, and 7 q + r + m >= 8 L.
void compare_round_trips(const LinkReport& link, const std::vector<OnPath>& all, PathTruth& truth) {
  std::map<std::pair<SourceId, End>, Tally> tallies;
  std::map<std::pair<SourceId, End>, Value> least_seen;
  for (const auto& [series, connects] : all) {
    const std::pair key(series->source, series->end);
    auto& tally = tallies.try_emplace(key, series->source, series->end, "path").first->second;
    for (const auto& sample : series->samples)
      for (const auto field : {Field::min_rtt, Field::rtt}) {
        // 0: tcp_info has no other word for "not measured yet".
        const auto value = number(sample.raw, field);
        if (!value || (*value == 0 && series->source == SourceId::kGetsockopt)) continue;
        // Without a delay there is nothing to be seen.
        const auto bound = least_round_trip(link, sample.raw);
        if (bound > 0) tally.count(tcpinfo::info(field), bound, kUnbounded, value, sample.raw, *series->stream);
        if (field != Field::min_rtt) continue;
        auto& least = least_seen.try_emplace(key, *value).first->second;
        least = std::min(least, *value);
      }
  }
  const auto asked = least_delay(link.there) + least_delay(link.back);
  for (auto& [key, tally] : tallies)
    for (auto& comparison : tally.done()) {
      comparison.note = fmt::format("at least the {} us that the path delays", asked);
      if (comparison.field == "min_rtt")
        comparison.note += fmt::format("; the least is {} us more", least_seen.at(key) - asked);
      truth.comparisons.push_back(std::move(comparison));
    }
}

/// The last word of a connection, and the longest segments that it ever sent.
struct Ended {
  const tcpinfo_record* close = nullptr;
  Value longest_segment = 0;
};

struct Sums {
  Value retransmitted = 0, merged = 0, spurious = 0;
  bool acknowledged = true;  // every connection, to its end
  std::size_t connections = 0;
  const tcpinfo_record* last = nullptr;
  const tcpinfo_record* echoed = nullptr;  // saw an echo of congestion
};

Sums sum_of(const std::map<std::pair<std::uint64_t, std::uint32_t>, Ended>& connections) {
  Sums sums;
  for (const auto& [id, ended] : connections) {
    const auto* close = ended.close;
    if (!close) {
      sums.acknowledged = false;
      continue;
    }
    const auto get = [&](Field field) { return number(close, field).value_or(0); };
    ++sums.connections;
    sums.last = close;
    sums.retransmitted += get(Field::total_retrans);
    sums.spurious += get(Field::dsack_dups);
    // What fewer bytes than whole segments were sent is the most that can have been put together.
    if (ended.longest_segment > 0)
      sums.merged += std::max<Value>(0, get(Field::data_segs_out) * ended.longest_segment - get(Field::bytes_sent)) /
                     ended.longest_segment;
    if (get(Field::bytes_acked) < get(Field::bytes_sent) - get(Field::bytes_retrans)) sums.acknowledged = false;
    if (number(close, Field::is_mptcp).value_or(0) != 0) sums.acknowledged = false;
    if (get(Field::delivered_ce) > 0) sums.echoed = close;
  }
  return sums;
}

// Every segment with data that the path lost was sent again, as all data were acknowledged in the end; only MPTCP sends
// it on another connection. A segment lost twice was sent again twice. The kernel sends again what it sent, segment by
// segment, but may put short ones together (v6.18 net/ipv4/tcp_output.c tcp_retrans_try_collapse()): k in one that
// still is no longer than a whole segment lack k - 1 whole segments together, so that what all segments lack bounds how
// often that was. There is no bound from above: what was sent again though it was not lost, SYNs, tail loss probes and
// what the receiver itself dropped are counted too, and DSACKs that would tell of them can be lost.
void compare_losses(const LinkReport& link, const std::string& client_address, std::span<const tcpinfo_record> sockops,
                    PathTruth& truth) {
  const auto client = tcpinfo::parse_address(client_address);
  if (!client || sockops.empty()) return;
  std::map<std::pair<std::uint64_t, std::uint32_t>, Ended> there, back;
  for (const auto& raw : sockops) {
    constexpr std::uint8_t kListen = 10;
    if (raw.cookie == 0 || raw.state == kListen || raw.old_state == kListen) continue;
    const bool is_client =
        std::equal(std::begin(client->bytes), std::end(client->bytes), std::begin(raw.local_address.bytes));
    auto& ended = (is_client ? there : back)[{raw.cookie, raw.generation}];
    if (raw.event == TCPINFO_EVENT_CLOSE) ended.close = &raw;
    ended.longest_segment = std::max(ended.longest_segment, number(&raw, Field::snd_mss).value_or(0));
  }
  for (const bool is_there : {true, false}) {
    const auto& way = is_there ? link.there : link.back;
    const auto sums = sum_of(is_there ? there : back);
    const auto* name = is_there ? "there" : "back";
    if (sums.connections == 0 || !way.data_lost || !way.marked) continue;
    const auto lost = static_cast<Value>(*way.data_lost);
    const auto add = [&](Field field, Value low, Value high, Value value, std::string note) {
      auto comparison = begin(SourceId::kSockops, End::kSender, tcpinfo::info(field), "path");
      comparison.iperf3.clear();
      comparison.rule = "none";
      comparison.note = std::move(note);
      count(comparison, low, high, value, fmt::format("of all connections on the way {}", name));
      comparison.passed = comparison.agreed == comparison.compared;
      truth.comparisons.push_back(std::move(comparison));
    };
    if (sums.acknowledged && lost > 0 && lost <= sums.merged)
      truth.remarks.push_back(fmt::format("total_retrans was not compared with the path: the way {} lost {} segments with data", name, lost));
    else if (sums.acknowledged && lost > 0)
      add(Field::total_retrans, lost - sums.merged, kUnbounded, sums.retransmitted,
          fmt::format("way {}: at least the {} segments with data that were lost, but {} that may have been put together; "
                      "{} more were sent again, of which the receivers reported {}",
                      name, lost, sums.merged, sums.retransmitted - lost, sums.spurious));
    else if (!sums.acknowledged)
      truth.remarks.push_back(fmt::format(
          "total_retrans was not compared with what the way {} lost: not every connection was acknowledged to its end",
          name));
    if (*way.marked == 0)
      add(Field::delivered_ce, 0, 0, sums.echoed ? number(sums.echoed, Field::delivered_ce).value_or(0) : 0,
          fmt::format("way {}: nothing was marked", name));
  }
}

// No bound is certain: acknowledgements that a queue or the receiver held back come close together, and where the
// segments were sent close together too, their rate is higher than that of the path.
void describe_rates(const LinkReport& link, const std::vector<OnPath>& all, PathTruth& truth) {
  std::map<SourceId, std::vector<double>> ratios;
  for (const auto& [series, connects] : all) {
    const auto& way = connects ? link.there : link.back;
    if (series->end != End::kSender || way.rate_mbit <= 0) continue;
    for (const auto& sample : series->samples) {
      const auto rate = number(sample.raw, Field::delivery_rate);
      if (rate && *rate > 0) ratios[series->source].push_back(static_cast<double>(*rate) * 8 / (way.rate_mbit * 1e6));
    }
  }
  for (auto& [source, values] : ratios)
    truth.remarks.push_back(
        fmt::format("{}: the median of delivery_rate is {:.3f} of the rate that was asked of the path", name(source),
                    median(std::move(values))));
}

}  // namespace

PathTruth compare_with_path(const LinkReport& link, const std::vector<OnPath>& all, const std::string& client_address,
                            std::span<const tcpinfo_record> sockops) {
  PathTruth truth;
  if (link.engine.empty()) return truth;
  if (delays_exactly(link))
    compare_round_trips(link, all, truth);
  else if (link.there.delay_us + link.back.delay_us > 0)
    truth.remarks.push_back(fmt::format("round trips were not compared with the path: its engine is {}", link.engine));
  if (link.there.data_lost && link.back.data_lost)
    compare_losses(link, client_address, sockops, truth);
  else
    truth.remarks.push_back(
        fmt::format("losses and marks were not compared with the path: {} does not count each packet", link.engine));
  describe_rates(link, all, truth);
  return truth;
}

}  // namespace validation
