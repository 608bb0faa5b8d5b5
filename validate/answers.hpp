// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "samples.hpp"

/// Comparisons by what iperf3 itself was answered (source getsockopt): exact for its figures, and brackets for every
/// sample of the other sources. They know no tolerance.
namespace validation {

/// What was answered of one end of a stream, in order, and what iperf3 made of it.
struct Answers {
  const Iperf3Stream* stream;
  End end;
  Value cookie_bytes = 0;
  bool threaded = false;                     ///< of Iperf3Result
  std::vector<const tcpinfo_record*> all;    ///< every reading
  std::vector<const tcpinfo_record*> twins;  ///< of `all`, what the BPF side read at that moment, or null
  std::vector<std::size_t> at;               ///< the reading of each interval, its place in `all`
  std::optional<std::size_t> omitted;        ///< the reading after --omit's time, from which iperf3 counts anew
  std::vector<std::string> problems;         ///< where readings and intervals do not match, a sentence each
  bool more_than_printed = false;            ///< a reading was of an interval that iperf3 did not print
};

/// iperf 3.12 asks for each stream at each interval's end, of senders and receivers (src/iperf_api.c
/// iperf_stats_callback()), and once more when --omit is over if any stream of its side sends (iperf_reset_stats()). An
/// interval without data and shorter than a tenth, at the end or after a late one, is not printed
/// (iperf_print_intermediate()).
/// `side_sends`: a stream of this side sends.
Answers find_answers(const SourceRecords& source, const Endpoint& endpoint, bool side_sends);

/// iperf3's figures of senders, interval by interval and at the end, against what it was answered: equal.
std::vector<Comparison> compare_with_iperf3(const std::vector<const Answers*>& senders);

/// When the clock of iperf3's result began: no reading was stamped before iperf3 took the time. `all` is of one side.
/// Nothing without readings.
std::optional<Alignment> find_start(const std::vector<const Answers*>& all);

/// A source's samples of a socket and what iperf3 was answered of it.
struct Bracketed {
  const Series* series;
  const Answers* answers;
};

/// Samples between answers, each field for itself. "bracket": every counter lies between those of the answers before
/// and after. "order": no snapshot is ahead in one counter and behind in another; both are blamed, or the one that is
/// alone. "equal": what does not change within a connection. "still": where a sample has the counters of an answer, so
/// that no packet came or went, every other field is equal; those that the kernel reads without the socket's lock only
/// if no ACK came in that jiffy.
/// min_rtt never rises as long as the connection is younger than `min_rtt_window`, and is bracketed too.
std::vector<Comparison> compare_samples(const std::vector<Bracketed>& all, std::chrono::seconds min_rtt_window);

/// The BPF side's own reading beside each answer: as for "still".
std::vector<Comparison> compare_twins(const std::vector<const Answers*>& all);

}  // namespace validation
