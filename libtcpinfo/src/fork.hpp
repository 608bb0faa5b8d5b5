// SPDX-License-Identifier: BSD-2-Clause
#pragma once

namespace tcpinfo {

/// Which process of a line of forks this is: whoever keeps what this gave knows by another answer that it is a copy in a
/// child. Throws std::system_error the first time, if the C library has no memory. Thread safe.
unsigned fork_generation();

}  // namespace tcpinfo
