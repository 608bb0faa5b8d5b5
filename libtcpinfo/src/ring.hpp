// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <linux/bpf.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <tcpinfo/record.hpp>
#include <tcpinfo/source.hpp>

/// Our own reader of BPF ring buffers. libbpf's calls back through a pointer a record, releases each record by itself,
/// and cannot merge rings.
namespace tcpinfo::ring {

/// A piece of a file in memory; unmaps itself.
class Mapping {
 public:
  Mapping() noexcept = default;
  Mapping(void* address, std::size_t size) noexcept : address_(address), size_(size) {}
  Mapping(Mapping&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Mapping();

  void* get() const noexcept { return address_; }

 private:
  void* address_ = nullptr;
  std::size_t size_ = 0;
};

/// The consumer's end of one BPF ring buffer. Positions are those of the kernel: they only grow, and a record's place
/// is its position modulo the size.
// kernel v6.18 kernel/bpf/ringbuf.c: the consumer's page, the producer's page, and the data mapped twice, so that a
// record that wraps around lies in one piece. A record is a header of 8 bytes and its data, rounded up to 8.
class Ring {
 public:
  using Position = unsigned long;  // the kernel's type

  struct Item {
    const std::byte* data;
    std::size_t size;
    Position next;  // of the item behind it
    bool busy;      // reserved, not yet committed
    bool discarded;
  };

  /// Maps the ring buffer `map`, of `bytes` bytes, which stays the caller's. Throws Error.
  Ring(int map, std::size_t bytes);

  Position consumed() const noexcept { return __atomic_load_n(consumer_, __ATOMIC_RELAXED); }
  Position produced() const noexcept { return __atomic_load_n(producer_, __ATOMIC_ACQUIRE); }
  /// Gives the room before `position` back to the producers.
  void release(Position position) noexcept { __atomic_store_n(consumer_, position, __ATOMIC_RELEASE); }

  /// What is at `position`, which is less than produced().
  Item at(Position position) const noexcept {
    const auto length = header(position);
    const auto size = length & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
    return {data(position), size, position + ((size + BPF_RINGBUF_HDR_SZ + 7u) & ~7ul),
            (length & BPF_RINGBUF_BUSY_BIT) != 0, (length & BPF_RINGBUF_DISCARD_BIT) != 0};
  }
  /// Whether a committed record of this very size is at `position`.
  bool holds(Position position, std::size_t size) const noexcept { return header(position) == size; }
  const std::byte* data(Position position) const noexcept { return data_ + (position & mask_) + BPF_RINGBUF_HDR_SZ; }
  std::size_t bytes() const noexcept { return mask_ + 1; }

 private:
  std::uint32_t header(Position position) const noexcept {
    return __atomic_load_n(reinterpret_cast<const std::uint32_t*>(data_ + (position & mask_)), __ATOMIC_ACQUIRE);
  }

  Mapping consumer_page_;
  Mapping producer_page_and_data_;
  Position* consumer_ = nullptr;
  const Position* producer_ = nullptr;
  const std::byte* data_ = nullptr;
  std::size_t mask_ = 0;
};

/// Rings of records that are read as one stream, in which the records of one connection keep their order although they
/// lie in different rings: they were made on different CPUs, and those of its life cycle have rings of their own.
///
/// Why that order holds. The callbacks of a connection are serialised by its socket lock. So if record q of a
/// connection follows record p, then p was stamped, reserved and committed before q was stamped.
/// - Same ring: p was reserved before q, and rings are read in the order of reservation.
/// - Another ring: all that stands in p's ring up to p was reserved, hence stamped, before q was stamped. So the merge,
///   which takes from the ring whose next record has the smallest stamp, comes past p before it takes q, if only it
///   sees p.
/// - It sees p: a pass reads the producers' positions twice, all of them and then all of them again. It ends when it
///   came past the first ones; to the second ones it reads only what is stamped no later than a record before the first
///   ones. So q was stamped before the first reading ended, p was committed before that, and is before the second
///   position.
/// - A record that is not yet committed stops the reading of its ring, while p may stand behind it. From there on the
///   pass takes only what is stamped before all committed records behind it, p among them; a record that is not
///   committed has no successor yet.
/// The sweep holds no socket lock: its record and one of a callback that runs at the same time may change places.
class Rings {
 public:
  Rings() noexcept = default;

  /// Throws std::bad_alloc.
  void add(Ring ring);
  bool empty() const noexcept { return shards_.empty(); }

  /// Passes to `sink` what was committed before the call, and at most `limit` records; counts in `statistics` what
  /// became of each. Ends early once `*stop` is set, which the sink may do. Returns how many records it took.
  std::size_t drain(const RecordSink& sink, std::size_t limit, const bool& stop, Statistics& statistics) noexcept;

  /// Nothing is in the rings, not even what is not committed.
  bool is_drained() const noexcept;

 private:
  struct Shard {
    Ring ring;
    Ring::Position position;       // everything before it was passed on
    Ring::Position released;       // of that, what the producers know
    Ring::Position first, second;  // the producer's position as the pass read it
    bool pending;                  // not yet past `first`
  };
  struct Head {
    std::uint64_t stamp;
    Shard* shard;
  };

  void begin_pass() noexcept;
  std::size_t read_pass(const RecordSink& sink, std::size_t limit, const bool& stop, Statistics& statistics) noexcept;
  template <bool kMerging>
  std::size_t take(Shard& shard, std::size_t limit, const RecordSink& sink, const bool& stop,
                   Statistics& statistics) noexcept;
  bool look(Shard& shard, std::uint64_t& stamp) noexcept;
  void block(Shard& shard, Ring::Position busy) noexcept;
  void settle(Shard& shard) noexcept;
  void sift_down(std::size_t at) noexcept;

  std::vector<Shard> shards_;
  // The pass under way: it outlasts a drain() that came to its limit.
  std::vector<Head> heads_;    // a heap, the smallest stamp first
  std::size_t pending_ = 0;    // shards that are pending
  std::uint64_t horizon_ = 0;  // only what is stamped before it is taken
};

}  // namespace tcpinfo::ring
