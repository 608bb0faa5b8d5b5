// SPDX-License-Identifier: BSD-2-Clause
// Records that lie in ring buffers: how fast they are read and decoded.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <system_error>

#include <fmt/format.h>
#include <tcpinfo/tcpinfo.hpp>

#include "drain.skel.h"
#include "measurements.hpp"
#include "placement.hpp"
#include "ring.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;
using tcpinfo::Field;
using tcpinfo::Record;

constexpr std::size_t kRecordBytes = (sizeof(tcpinfo_record) + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8;

[[noreturn]] void fail(int error, const char* action) {
  if (error == EPERM || error == EACCES) throw NotPossible{fmt::format("{} needs root", action)};
  throw std::system_error(error, std::generic_category(), action);
}

class Filler {
 public:
  Filler(std::size_t ring_bytes, unsigned rings) : skeleton_(drain__open()) {
    if (!skeleton_) fail(errno, "open the program that fills a ring");
    for (auto* map : {skeleton_->maps.first, skeleton_->maps.second})
      if (int error = bpf_map__set_max_entries(map, static_cast<__u32>(ring_bytes)))
        fail(-error, "set the ring's size");
    if (int error = drain__load(skeleton_.get())) fail(-error, "load the program that fills a ring");
    auto record = tcpinfo::make_record();
    for (const auto& field : tcpinfo::fields()) tcpinfo::set_number(record, field.field, 12345);
    tcpinfo::set_number(record, Field::event, TCPINFO_EVENT_SAMPLE);
    std::memcpy(&skeleton_->bss->record, &record, sizeof(record));
    skeleton_->bss->rings_used = rings;
    skeleton_->bss->records_wanted = static_cast<__u32>((ring_bytes / kRecordBytes) * rings - rings);
  }

  std::size_t records() const { return skeleton_->bss->records_wanted; }
  int map(unsigned number) const { return bpf_map__fd(number == 0 ? skeleton_->maps.first : skeleton_->maps.second); }
  void fill() {
    bpf_test_run_opts options{};
    options.sz = sizeof(options);
    if (int error = bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.fill), &options))
      fail(-error, "fill a ring");
    if (skeleton_->bss->failed) throw std::runtime_error("fill a ring: it is full");
  }

 private:
  struct Deleter {
    void operator()(struct drain* skeleton) const noexcept { drain__destroy(skeleton); }
  };
  std::unique_ptr<struct drain, Deleter> skeleton_;
};

struct RingBufferDeleter {
  void operator()(ring_buffer* ring) const noexcept { ring_buffer__free(ring); }
};

// What is read has to be used.
struct Sum {
  std::uint64_t value = 0;
  std::size_t records = 0;
};

int touch_one_word(void* context, void* data, std::size_t) {
  auto& sum = *static_cast<Sum*>(context);
  sum.value += *static_cast<const std::uint64_t*>(data);
  ++sum.records;
  return 0;
}

void decode_five(Sum& sum, const Record& record) {
  sum.value += record.cookie().value_or(0) + record.rtt().value_or(0) + record.snd_cwnd().value_or(0) +
               record.bytes_acked().value_or(0) + record.total_retrans().value_or(0);
  ++sum.records;
}

template <class Read>
double records_a_second(Filler& filler, std::size_t repeats, Read read) {
  Clock::duration time{};
  for (std::size_t i = 0; i < repeats; ++i) {
    filler.fill();
    const auto begin = Clock::now();
    const std::size_t got = read();
    time += Clock::now() - begin;
    if (got != filler.records()) throw std::runtime_error("a ring gave other records than it got");
  }
  return static_cast<double>(filler.records() * repeats) / std::chrono::duration<double>(time).count();
}

Result measure(const std::string& what, std::size_t ring_bytes, unsigned rings, std::chrono::milliseconds time) {
  // Rings have one reader each.
  Filler filler(ring_bytes, rings), peer_filler(ring_bytes, rings);
  Sum sum;
  std::unique_ptr<ring_buffer, RingBufferDeleter> peer(
      ring_buffer__new(peer_filler.map(0), touch_one_word, &sum, nullptr));
  if (!peer) fail(errno, "map the ring for libbpf");
  tcpinfo::ring::Rings ours;
  ours.add(tcpinfo::ring::Ring(filler.map(0), ring_bytes));
  if (rings == 2) {
    if (int error = ring_buffer__add(peer.get(), peer_filler.map(1), touch_one_word, &sum))
      fail(-error, "map the other ring");
    ours.add(tcpinfo::ring::Ring(filler.map(1), ring_bytes));
  }

  tcpinfo::Statistics statistics;
  const auto sink = [&sum](const Record& record) { decode_five(sum, record); };
  const bool stop = false;
  const auto read_ours = [&] { return ours.drain(sink, SIZE_MAX, stop, statistics); };
  const auto read_peer = [&] { return static_cast<std::size_t>(std::max(ring_buffer__consume(peer.get()), 0)); };

  // A round is a few thousand records: long against the clock, short against what else the machine does.
  const std::size_t repeats = std::max<std::size_t>(1, 8192 / filler.records());
  std::vector<double> our_rate, peer_rate;
  const auto end = Clock::now() + time;
  for (bool ours_first = false; Clock::now() < end || our_rate.size() < 10; ours_first = !ours_first) {
    if (ours_first) our_rate.push_back(records_a_second(filler, repeats, read_ours));
    peer_rate.push_back(records_a_second(peer_filler, repeats, read_peer));
    if (!ours_first) our_rate.push_back(records_a_second(filler, repeats, read_ours));
  }
  if (statistics.malformed || sum.value == 0) throw std::runtime_error("records were not decoded");

  Result result;
  result.what = what;
  result.unit = "records/s";
  result.ours = spread(our_rate);
  result.floor_name = "ring_buffer__consume touching one word";
  result.floor = spread(peer_rate);
  result.ratio = ratio(our_rate, peer_rate);
  result.goal = 0.8;
  result.sense = Sense::kAtLeast;
  result.note = fmt::format("records of {} bytes, five fields through Record, {} of {} KiB filled and emptied in turn",
                            sizeof(tcpinfo_record), rings == 1 ? "a ring" : "2 rings", ring_bytes / 1024);
  if (rings == 2)
    result.note +=
        "; records alternate between the rings, the worst case of a merge in order of time, while libbpf reads "
        "one ring after the other, out of order";
  return result;
}

}  // namespace

Outcome drain(const Options& options) {
  // What reader and writer of a ring share is measured on one processor: its caches hold what was just written.
  const Pinned on_one_cpu(0);
  const tcpinfo::SockopsOptions defaults;
  const std::chrono::milliseconds time(options.quick ? 1'500 : 10'000);
  Outcome outcome;
  outcome.results.push_back(measure("drain and decode", defaults.ring_bytes, 1, time));
  outcome.results.push_back(measure("drain and decode, 2 rings merged", defaults.ring_bytes, 2, time));
  if (options.growth) {
    Curve curve{.name = "drain_by_ring", .x = "ring, KiB", .y = "records/s", .points = {}};
    for (std::size_t bytes = 64 << 10; bytes <= 4 << 20; bytes *= 2) {
      options.progress(fmt::format("a ring of {} KiB", bytes / 1024));
      curve.points.emplace_back(static_cast<double>(bytes) / 1024, measure("", bytes, 1, time / 10).ours);
    }
    outcome.curves.push_back(std::move(curve));
  }
  return outcome;
}

}  // namespace bench
