// SPDX-License-Identifier: BSD-2-Clause
#include "ring.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>

#include <tcpinfo/error.hpp>

#include "system.hpp"

namespace tcpinfo::ring {
namespace {

void* map_pages(const char* step, int map, std::size_t size, int protection, std::size_t offset) {
  int error = sys::fault(step);
  void* address = MAP_FAILED;
  if (!error) {
    address = ::mmap(nullptr, size, protection, MAP_SHARED, map, static_cast<off_t>(offset));
    if (address == MAP_FAILED) error = errno;
  }
  if (error)
    throw Error(std::error_code(error, std::generic_category()), "map the ring buffer",
                error == ENOMEM ? "there is no memory for it; try a smaller one" : "");
  return address;
}

// The producers learn of room this often while the consumer goes round the ring: a write a record would take the line
// of the position away from them each time, too few would keep room that is free from them while the sink is slow.
constexpr std::size_t kReleasesARound = 16;
constexpr std::size_t kRecordRoom = (sizeof(tcpinfo_record) + BPF_RINGBUF_HDR_SZ + 7) & ~std::size_t{7};
constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

// Malformed ones come first: they are counted and gone.
std::uint64_t stamp_of(const Ring::Item& item) noexcept {
  return item.size < sizeof(tcpinfo_record) ? 0 : reinterpret_cast<const tcpinfo_record*>(item.data)->time_ns;
}

inline void deliver(const tcpinfo_record& raw, const RecordSink& sink, Statistics& statistics) noexcept {
  if (!Record::view(std::as_bytes(std::span(&raw, 1)))) [[unlikely]] {
    ++statistics.malformed;
    return;
  }
  const auto event = raw.event;
  try {
    sink(Record(raw));
    if (event < kEventCount) ++statistics.delivered[event];
  } catch (...) {
    if (event < kEventCount) ++statistics.lost_sink[event];
  }
}

}  // namespace

Mapping::~Mapping() {
  if (address_) ::munmap(address_, size_);
}

Ring::Ring(int map, std::size_t bytes) : mask_(bytes - 1) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  consumer_page_ = {map_pages("map ring", map, page, PROT_READ | PROT_WRITE, 0), page};
  const auto rest = page + 2 * bytes;
  producer_page_and_data_ = {map_pages("map ring data", map, rest, PROT_READ, page), rest};
  consumer_ = static_cast<Position*>(consumer_page_.get());
  producer_ = static_cast<const Position*>(producer_page_and_data_.get());
  data_ = static_cast<const std::byte*>(producer_page_and_data_.get()) + page;
}

void Rings::add(Ring ring) {
  heads_.reserve(shards_.size() + 1);  // draining allocates nothing
  const auto position = ring.consumed();
  shards_.push_back({std::move(ring), position, position, position, position, false});
}

bool Rings::is_drained() const noexcept {
  return std::ranges::all_of(shards_, [](const Shard& shard) { return shard.ring.produced() == shard.position; });
}

void Rings::settle(Shard& shard) noexcept {
  if (shard.pending && static_cast<long>(shard.position - shard.first) >= 0) {
    shard.pending = false;
    --pending_;
  }
}

// The ring cannot be read any further in this pass.
void Rings::block(Shard& shard, Ring::Position busy) noexcept {
  for (auto position = busy; static_cast<long>(shard.second - position) > 0;) {
    const auto item = shard.ring.at(position);
    if (!item.busy && !item.discarded) horizon_ = std::min(horizon_, stamp_of(item));
    position = item.next;
  }
  if (shard.pending) --pending_;
  shard.pending = false;
}

// Goes to the next record that is there to be taken; false if this pass has none.
bool Rings::look(Shard& shard, std::uint64_t& stamp) noexcept {
  while (static_cast<long>(shard.second - shard.position) > 0) {
    const auto item = shard.ring.at(shard.position);
    if (item.busy) {
      block(shard, shard.position);
      return false;
    }
    if (!item.discarded) {
      stamp = stamp_of(item);
      return true;
    }
    shard.position = item.next;
    settle(shard);
  }
  return false;
}

void Rings::begin_pass() noexcept {
  heads_.clear();
  pending_ = 0;
  horizon_ = kNever;
  for (auto& shard : shards_) shard.first = shard.ring.produced();
  const bool one = shards_.size() == 1;  // keeps its order by itself
  for (auto& shard : shards_) {
    shard.second = one ? shard.first : shard.ring.produced();
    shard.pending = shard.position != shard.first;
    pending_ += shard.pending;
  }
  if (pending_ == 0) return;
  for (auto& shard : shards_)
    if (std::uint64_t stamp = 0; look(shard, stamp)) heads_.push_back({stamp, &shard});
  for (auto i = heads_.size() / 2; i-- > 0;) sift_down(i);
}

void Rings::sift_down(std::size_t at) noexcept {
  const auto size = heads_.size();
  for (auto child = 2 * at + 1; child < size; child = 2 * at + 1) {
    if (child + 1 < size && heads_[child + 1].stamp < heads_[child].stamp) ++child;
    if (heads_[at].stamp <= heads_[child].stamp) return;
    std::swap(heads_[at], heads_[child]);
    at = child;
  }
}

// Takes from the shard whose next record has the smallest stamp, as long as it stays the smallest.
template <bool kMerging>
std::size_t Rings::take(Shard& shard, std::size_t limit, const RecordSink& sink, const bool& stop,
                        Statistics& statistics) noexcept {
  std::uint64_t bound = kNever;
  if (kMerging) {
    bound = horizon_ - 1;
    for (std::size_t child = 1; child < std::min<std::size_t>(heads_.size(), 3); ++child)
      bound = std::min(bound, heads_[child].stamp);
  }
  const auto end = shard.pending && pending_ == 1 ? shard.first : shard.second;
  const auto batch = shard.ring.bytes() / kReleasesARound;
  auto position = shard.position;
  std::size_t left = limit;
  for (bool more = true; more && left > 0;) {
    const auto until = end - position < batch ? end : position + batch;
    while (left > 0 && !stop) {
      if (shard.ring.holds(position, sizeof(tcpinfo_record))) [[likely]] {
        const auto& record = *reinterpret_cast<const tcpinfo_record*>(shard.ring.data(position));
        if (kMerging && record.time_ns > bound) {
          more = false;
          break;
        }
        // A constant, so that what is behind can be read before this one's length is known. To prefetch more of the
        // records to come than that cost a third of the rate in rings that caches hold.
        position += kRecordRoom;
        deliver(record, sink, statistics);
      } else {
        const auto item = shard.ring.at(position);
        if (item.busy || item.discarded || (kMerging && stamp_of(item) > bound)) {
          more = false;
          break;
        }
        position = item.next;
        if (item.size < sizeof(tcpinfo_record)) {
          ++statistics.malformed;
        } else {
          deliver(*reinterpret_cast<const tcpinfo_record*>(item.data), sink, statistics);
        }
      }
      --left;
      if (static_cast<long>(until - position) <= 0) break;
    }
    if (stop || position == end) more = false;
    if (position - shard.released >= batch) shard.ring.release(shard.released = position);
  }
  shard.position = position;
  settle(shard);
  return limit - left;
}

std::size_t Rings::read_pass(const RecordSink& sink, std::size_t limit, const bool& stop,
                             Statistics& statistics) noexcept {
  std::size_t taken = 0;
  while (pending_ > 0 && !heads_.empty() && heads_.front().stamp < horizon_) {
    if (taken == limit || stop) return taken;
    Shard& shard = *heads_.front().shard;
    taken += heads_.size() == 1 && horizon_ == kNever ? take<false>(shard, limit - taken, sink, stop, statistics)
                                                      : take<true>(shard, limit - taken, sink, stop, statistics);
    if (!look(shard, heads_.front().stamp)) {
      heads_.front() = heads_.back();
      heads_.pop_back();
    }
    sift_down(0);
  }
  heads_.clear();  // the pass is over
  return taken;
}

std::size_t Rings::drain(const RecordSink& sink, std::size_t limit, const bool& stop, Statistics& statistics) noexcept {
  std::size_t taken = 0;
  if (!heads_.empty()) taken = read_pass(sink, limit, stop, statistics);
  if (taken < limit && !stop) {
    begin_pass();
    taken += read_pass(sink, limit - taken, stop, statistics);
  }
  for (auto& shard : shards_)
    if (shard.released != shard.position) shard.ring.release(shard.released = shard.position);
  return taken;
}

}  // namespace tcpinfo::ring
