// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <optional>
#include <string>

#include <tcpinfo/privileges.hpp>
#include <tcpinfo/source.hpp>

namespace cli {

/// What came of using a source for real.
struct Trial {
  bool works = false;
  std::string detail;   ///< what was seen
  std::string way_out;  ///< where it does not work
  tcpinfo::Capabilities capabilities;
};

/// With which capabilities a source is tried.
struct With {
  std::optional<tcpinfo::Privileges> to_open;  ///< only these of this thread's; nothing: all that it has
  bool drop_then = false;                      ///< and none once the source is open
};

/// sockops: attaches to a cgroup made for it, has a connection over loopback there, and takes all of it away again. Who
/// may not make a cgroup attaches to that of this process, and follows that connection only. Signals that would end the
/// process wait meanwhile. Others: reads the sockets of this network namespace once.
Trial try_source(tcpinfo::SourceId source, const With& with = {});
/// Whether the owner of a socket of this process is found, as --owner does.
Trial try_owners();

}  // namespace cli
