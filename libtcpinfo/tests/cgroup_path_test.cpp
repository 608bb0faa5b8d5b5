// SPDX-License-Identifier: BSD-2-Clause
#include "cgroup_path.hpp"

#include <gtest/gtest.h>

#include <sstream>

namespace {

using tcpinfo::cgroup::is_unit;
using tcpinfo::cgroup::Mount;
using tcpinfo::cgroup::place_of;

std::vector<Mount> mounts_of(const std::string& text) {
  std::istringstream stream(text);
  return tcpinfo::cgroup::mounts_of(stream);
}

std::optional<std::string> path_of(const std::string& text) {
  std::istringstream stream(text);
  return tcpinfo::cgroup::path_of(stream);
}

std::string place(const std::string& cgroup, const std::string& root) {
  const auto found = place_of(cgroup, {root, "/sys/fs/cgroup"});
  return found ? found->string() : "-";
}

TEST(CgroupPath, MountsAreFoundByType) {
  const auto mounts = mounts_of(
      "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
      "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu\n"
      "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:5 master:1 - cgroup2 cgroup2 rw\n"
      "52 31 0:38 /docker/abc /mnt/with\\040space ro - cgroup2 cgroup rw\n"
      "broken cgroup2 line\n");
  ASSERT_EQ(mounts.size(), 2u);
  EXPECT_EQ(mounts[0].root, "/");
  EXPECT_EQ(mounts[0].point, "/sys/fs/cgroup/unified");
  EXPECT_EQ(mounts[1].root, "/docker/abc");
  EXPECT_EQ(mounts[1].point, "/mnt/with space");
}

TEST(CgroupPath, AnEscapeThatIsNoneStaysAsItIs) {
  const auto mounts = mounts_of("41 31 0:38 / /mnt/a\\9x\\04 rw - cgroup2 cgroup2 rw\n");
  ASSERT_EQ(mounts.size(), 1u);
  EXPECT_EQ(mounts[0].point, "/mnt/a\\9x\\04");
}

TEST(CgroupPath, OfTheVersion2LineOnly) {
  EXPECT_EQ(path_of("9:name=systemd:/v1\n1:cpu:/also/v1\n0::/system.slice/nginx.service\n"),
            "/system.slice/nginx.service");
  EXPECT_EQ(path_of("0::/\n"), "/");
  EXPECT_EQ(path_of("0::/a (deleted)\n"), "/a");
  EXPECT_EQ(path_of("0::/../sibling\n"), "/../sibling");
  EXPECT_EQ(path_of("9:name=systemd:/v1\n"), std::nullopt);
  EXPECT_EQ(path_of(""), std::nullopt);
}

TEST(CgroupPath, PlaceBelowTheMount) {
  EXPECT_EQ(place("/", "/"), "/sys/fs/cgroup");
  EXPECT_EQ(place("/a/b", "/"), "/sys/fs/cgroup/a/b");
  // A bind mount of a part.
  EXPECT_EQ(place("/docker/abc", "/docker/abc"), "/sys/fs/cgroup");
  EXPECT_EQ(place("/docker/abc/x", "/docker/abc"), "/sys/fs/cgroup/x");
  EXPECT_EQ(place("/docker/abcd", "/docker/abc"), "-");
  EXPECT_EQ(place("/docker", "/docker/abc"), "-");
}

TEST(CgroupPath, OutsideTheNamespaceItHasNoPlace) {
  EXPECT_EQ(place("/..", "/"), "-");
  EXPECT_EQ(place("/../sibling", "/"), "-");
  EXPECT_EQ(place("/..sibling", "/"), "/sys/fs/cgroup/..sibling");
  // The host's hierarchy mounted in a container that has a namespace of its own.
  EXPECT_EQ(place("/../../system.slice", "/../.."), "/sys/fs/cgroup/system.slice");
  EXPECT_EQ(place("/../../..", "/../.."), "-");
  EXPECT_EQ(place("/", "/../.."), "-");
}

TEST(CgroupPath, UnitsByNameTemplateAndEscapedName) {
  EXPECT_TRUE(is_unit("nginx.service", "nginx.service"));
  EXPECT_FALSE(is_unit("my-nginx.service", "nginx.service"));
  EXPECT_FALSE(is_unit("nginx.service.d", "nginx.service"));
  EXPECT_TRUE(is_unit("_cpu.service", "cpu.service"));
  EXPECT_TRUE(is_unit("_cpu.service", "_cpu.service"));
  EXPECT_TRUE(is_unit("getty@tty1.service", "getty@tty1.service"));
  EXPECT_FALSE(is_unit("getty@tty2.service", "getty@tty1.service"));
  EXPECT_TRUE(is_unit("getty@tty1.service", "getty@.service"));
  EXPECT_FALSE(is_unit("getty@.service", "getty@.service"));  // a template itself never runs
  EXPECT_FALSE(is_unit("getty@tty1.socket", "getty@.service"));
}

}  // namespace
