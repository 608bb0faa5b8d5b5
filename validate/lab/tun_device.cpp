// SPDX-License-Identifier: BSD-2-Clause
#include "lab/tun_device.hpp"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <tcpinfo/error.hpp>

namespace lab {
namespace {

[[noreturn]] void fail(std::string action) {
  throw tcpinfo::Error(std::error_code(errno, std::system_category()), std::move(action),
                       "needs root and /dev/net/tun (CONFIG_TUN; try modprobe tun)");
}

}  // namespace

bool tun_available() {
  const auto exists = [] { return ::access("/dev/net/tun", F_OK) == 0; };
  if (exists()) return true;
  try {
    run_command({"modprobe", "tun"});
  } catch (const std::exception&) {  // no such module, or no modprobe
  }
  return exists();
}

Fd open_tun(const Netns& netns, int host, int mtu) {
  Fd fd;
  tun_available();
  netns.run([&] {
    fd.reset(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (fd.get() < 0) fail("open /dev/net/tun");
    ifreq request{};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    std::strcpy(request.ifr_name, kTunDevice);
    if (ioctl(fd.get(), TUNSETIFF, &request) != 0)
      fail(fmt::format("make TUN device {} in {}", kTunDevice, netns.name()));
  });
  const auto in = [&](std::vector<std::string> arguments) {
    std::vector<std::string> command{"ip", "-n", netns.name()};
    command.insert(command.end(), arguments.begin(), arguments.end());
    run_command(std::move(command));
  };
  // Before it is up: with a link-local address the kernel reports multicast groups and solicits routers.
  in({"link", "set", kTunDevice, "mtu", std::to_string(mtu), "txqueuelen", std::to_string(kTunQueue), "multicast",
      "off", "addrgenmode", "none"});
  in({"address", "add", fmt::format("10.77.0.{}/24", host), "dev", kTunDevice});
  in({"address", "add", fmt::format("fd77::{}/64", host), "dev", kTunDevice, "nodad"});
  in({"link", "set", kTunDevice, "up"});
  return fd;
}

}  // namespace lab
