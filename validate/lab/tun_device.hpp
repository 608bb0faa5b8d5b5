// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>

#include "lab/fd.hpp"
#include "lab/lab.hpp"

namespace lab {

/// Whether there is /dev/net/tun, its module loaded if need be.
bool tun_available();

/// A new TUN device tun0, up, with the addresses of end `host` (1 or 2) of a path: 10.77.0.1/24 and fd77::1/64. Each
/// read of the descriptor, which does not block, gives one IP packet that the namespace sent, each write makes it
/// receive one. No offloads: a packet is what goes over a link. The kernel sends nothing over it of its own accord. The
/// device goes with the descriptor.
Fd open_tun(const Netns& netns, int host, int mtu);
inline constexpr const char* kTunDevice = "tun0";

/// How many packets wait in the device while nobody reads.
inline constexpr std::size_t kTunQueue = 20000;

}  // namespace lab
