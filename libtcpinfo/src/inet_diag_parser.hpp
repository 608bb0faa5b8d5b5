// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <tcpinfo/tcpinfo_record.h>

#include "tcp_info_layout.hpp"

namespace tcpinfo::inet_diag {

/// What a record says that is not in its message.
struct Reading {
  std::uint64_t time_ns = 0;
  std::optional<std::uint64_t> netns_cookie;
  std::uint32_t sequence = 0;
  TcpInfoLayout layout;
};

/// Makes `record` from what follows the netlink header in an answer of sock_diag: inet_diag_msg and attributes. False,
/// with nothing said about `record`, if there is no whole inet_diag_msg. What breaks its format is counted in
/// `malformed` and skipped; unknown attributes are passed over.
bool fill(std::span<const std::byte> payload, const Reading& reading, tcpinfo_record& record,
          std::uint64_t& malformed) noexcept;

struct Message {
  std::uint16_t type = 0;
  std::uint16_t flags = 0;
  std::uint32_t sequence = 0;
  std::span<const std::byte> payload;
};

/// Goes through the netlink messages in what one recv() gave.
class Messages {
 public:
  explicit Messages(std::span<const std::byte> bytes) noexcept : rest_(bytes) {}

  /// False at the end, and where the rest is no whole message: then malformed() is true.
  bool next(Message& message) noexcept;
  bool malformed() const noexcept { return malformed_; }

 private:
  std::span<const std::byte> rest_;
  bool malformed_ = false;
};

/// What a chunk said about its dump.
struct Outcome {
  bool ours = false;         ///< something in it belonged to the dump
  bool done = false;         ///< the dump is over
  bool interrupted = false;  ///< it is inconsistent
  int error = 0;             ///< with done: the errno that ended it
};

/// For NLMSG_DONE and NLMSG_ERROR: the errno in it, 0 if none; nothing if the message is too short.
std::optional<int> error_of(const Message& message) noexcept;

/// Reads one chunk of the dump whose request had this netlink sequence number, and calls `deliver(record)` for each
/// socket in it. Messages of other sequence numbers, of a dump that was given up, are passed over.
template <class Deliver>
Outcome read_chunk(std::span<const std::byte> chunk, std::uint32_t netlink_sequence, const Reading& reading,
                   tcpinfo_record& record, std::uint64_t& malformed, Deliver&& deliver) {
  Outcome outcome;
  Messages messages(chunk);
  for (Message message; !outcome.done && messages.next(message);) {
    if (message.sequence != netlink_sequence) continue;
    outcome.ours = true;
    if (message.flags & NLM_F_DUMP_INTR) outcome.interrupted = true;
    switch (message.type) {
      case SOCK_DIAG_BY_FAMILY:
      case TCPDIAG_GETSOCK:
        if (fill(message.payload, reading, record, malformed)) deliver(record);
        break;
      case NLMSG_DONE:
      case NLMSG_ERROR:
        if (const auto error = error_of(message)) {
          outcome.error = *error;
          outcome.done = message.type == NLMSG_DONE || outcome.error != 0;
        } else {
          ++malformed;
        }
        break;
      case NLMSG_OVERRUN:
        outcome.interrupted = true;
        break;
      default:
        break;
    }
  }
  if (messages.malformed()) ++malformed;
  return outcome;
}

}  // namespace tcpinfo::inet_diag
