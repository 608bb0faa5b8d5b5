// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <string>

#include <tcpinfo/source.hpp>

namespace cli {

/// What came of using a source for real.
struct Trial {
  bool works = false;
  std::string detail;   ///< what was seen
  std::string way_out;  ///< where it does not work
  tcpinfo::Capabilities capabilities;
};

/// Attaches to a cgroup made for it, has a connection over loopback there, and takes all of it away again. Signals that
/// would end the process wait meanwhile.
Trial try_sockops();
/// Reads the sockets of this network namespace once.
Trial try_inet_diag();
Trial try_iter();

}  // namespace cli
