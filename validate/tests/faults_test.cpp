// SPDX-License-Identifier: BSD-2-Clause
// The recording of a real run, with a fault put into it: the comparison has to find it and to name what is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "recording.hpp"

namespace validation {
namespace {

using tcpinfo::Field;
using tcpinfo::SourceId;
using testing::AnyOf;
using testing::Contains;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

const Recording& sound() {
  static const Recording recording = read_recording(TCPINFO_TEST_DATA "/pauses");
  return recording;
}

const Verdict& sound_verdict() {
  static const Verdict verdict = compare(sound().input());
  return verdict;
}

Verdict compare_all(const Recording& recording) { return compare(recording.input()); }

/// Only what the source itself read: beside an answer lies its twin.
bool is_own(SourceId source, const tcpinfo_record& record) {
  return source != SourceId::kGetsockopt || record.source == TCPINFO_SOURCE_GETSOCKOPT;
}

TEST(Faults, TheRecordingItselfIsSound) {
  EXPECT_THAT(sound_verdict().failures, IsEmpty());
  EXPECT_EQ(sound_verdict().streams.size(), 2u);
}

struct Case {
  SourceId source;
  Field field;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const auto& [source, records] : sound().records)
    for (const auto& field : tcpinfo::fields())
      if (std::any_of(records.begin(), records.end(), [&, s = source](const tcpinfo_record& record) {
            return is_own(s, record) && tcpinfo::Record(record).number(field.field).has_value();
          }))
        all.push_back({source, field.field});
  return all;
}

class OnePercent : public testing::TestWithParam<Case> {};

/// What is not found, and why.
std::string reason_not_found(SourceId source, Field field) {
  switch (field) {
    case Field::cpu:
      return "no other source ran on that processor at that moment";
    case Field::sequence:
      return source == SourceId::kSockops ? "" : "the number of a poll: nothing else tells which poll it was";
    case Field::old_state:
      return "the states between opening and closing have no record in this mode";
    case Field::is_mptcp:
      return "two sources tell it, and where they differ nothing says which one is wrong";
    case Field::last_data_sent:
    case Field::last_data_recv:
    case Field::last_ack_recv:
      // They go on by a millisecond each millisecond: in a longer run, or with more polls, 1 % is more than the time to
      // the next readings of two others.
      return source == SourceId::kSockops || source == SourceId::kIter
                 ? "1 % of the 2 s that this recording lasts is less than the time between the others' readings"
                 : "";
    default:
      return "";
  }
}

/// How the source is named where the field decides which records are whose, and when they were made.
testing::Matcher<std::string> blames(SourceId source, Field field) {
  const std::string own(name(source));
  switch (field) {
    case Field::local_port:
    case Field::peer_port:
    case Field::source:
      return AnyOf(StartsWith(own + " has no record of the sender of stream 5"),
                   StartsWith(own + ": iperf3 was answered 0 times of stream 5"),
                   StartsWith(own + ": source of the sender"));
    case Field::cookie:
      return AnyOf(StartsWith(own + ": cookie of the sender"),
                   StartsWith(own + ": 2 sockets have the ports of stream 5"));
    case Field::time_ns:
      return AnyOf(StartsWith(own + ": "), HasSubstr("the times of " + own + " are wrong"));
    case Field::event:  // a sample is no opening
      return AnyOf(StartsWith(own + ": event of the "), StartsWith(own + ": sequence of the "));
    default:
      return StartsWith(fmt::format("{}: {} of the ", own, tcpinfo::info(field).name));
  }
}

TEST_P(OnePercent, IsFoundAndTheFieldIsNamed) {
  const auto [source, field] = GetParam();
  auto recording = sound();
  std::uint64_t changed = 0;
  for (auto& record : recording.records[source]) {
    const auto value = tcpinfo::Record(record).number(field);
    if (!is_own(source, record) || !value) continue;
    const auto& info = tcpinfo::info(field);
    tcpinfo::set_number(
        record, field,
        info.format == tcpinfo::Format::boolean ? 1 - *value : *value + std::max<std::uint64_t>(1, *value / 100));
    ++changed;
  }
  ASSERT_GT(changed, 0u);
  const auto verdict = compare_all(recording);
  const auto reason = reason_not_found(source, field);
  if (!reason.empty()) {
    EXPECT_THAT(verdict.failures, IsEmpty()) << "it is found, other than the list says: " << reason;
    return;
  }
  ASSERT_THAT(verdict.failures, Not(IsEmpty()));
  EXPECT_THAT(verdict.failures.front(), blames(source, field)) << fmt::format("{}", fmt::join(verdict.failures, "\n"));
}

class Source : public testing::TestWithParam<SourceId> {};

TEST_P(Source, Late50MillisecondsIsFound) {
  const auto source = GetParam();
  auto recording = sound();
  for (auto& record : recording.records[source]) record.time_ns += 50'000'000;
  const auto failures = compare_all(recording).failures;
  if (source == SourceId::kGetsockopt) {
    // An answer's stamp tells that the kernel had read before, not how long before: late ones contradict nothing but
    // the last records of a connection, and then which of the two is wrong cannot be known.
    EXPECT_THAT(failures, Each(HasSubstr("what iperf3 was answered")));
    // Later than that a source that read meanwhile contradicts them.
    for (auto& record : recording.records[source]) record.time_ns += 450'000'000;
    EXPECT_THAT(compare_all(recording).failures, Contains(HasSubstr("getsockopt")));
    return;
  }
  ASSERT_THAT(failures, Not(IsEmpty()));
  const std::string own(name(source));
  EXPECT_THAT(failures, Each(AnyOf(StartsWith(own + ": "), HasSubstr("the times of " + own + " are wrong"))));
  EXPECT_THAT(failures,
              Contains(HasSubstr(own + ": bytes_sent of the sender differs from what two other sources read")));
}

TEST_P(Source, AStreamThatIsMissingIsFound) {
  const auto source = GetParam();
  for (const auto& stream : sound().results.front().streams) {
    auto recording = sound();
    std::erase_if(recording.records[source],
                  [&](const tcpinfo_record& record) { return record.local_port == stream.local_port; });
    const auto failures = compare_all(recording).failures;
    ASSERT_THAT(failures, Not(IsEmpty()));
    EXPECT_THAT(failures, Each(StartsWith(std::string(name(source)))));
    EXPECT_THAT(failures,
                Each(HasSubstr(fmt::format("stream {} (10.77.0.1 port {}", stream.socket, stream.local_port))));
  }
}

INSTANTIATE_TEST_SUITE_P(Sources, Source,
                         testing::Values(SourceId::kSockops, SourceId::kInetDiag, SourceId::kIter,
                                         SourceId::kGetsockopt),
                         [](const auto& i) { return std::string(name(i.param)); });

INSTANTIATE_TEST_SUITE_P(Fields, OnePercent, testing::ValuesIn(cases()), [](const auto& i) {
  return fmt::format("{}_{}", name(i.param.source), tcpinfo::info(i.param.field).name);
});

}  // namespace
}  // namespace validation
