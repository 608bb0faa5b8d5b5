// SPDX-License-Identifier: BSD-2-Clause
// Each step of the sockops source's set-up fails in turn: the error says which, and nothing stays behind.
#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include <tcpinfo/tcpinfo.hpp>

#include "lab/lab.hpp"
#include "system.hpp"

namespace {

struct Left {
  std::size_t descriptors, links, programs, maps;
  bool operator==(const Left&) const = default;
};

Left count() {
  Left left{};
  left.descriptors =
      static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
  for (__u32 id = 0; bpf_link_get_next_id(id, &id) == 0;) ++left.links;
  for (__u32 id = 0; bpf_prog_get_next_id(id, &id) == 0;) ++left.programs;
  for (__u32 id = 0; bpf_map_get_next_id(id, &id) == 0;) ++left.maps;
  return left;
}

// The kernel frees programs and maps a grace period after their last reference.
bool settles_to(const Left& wanted) {
  for (int i = 0; i < 200; ++i) {
    if (count() == wanted) return true;
    usleep(10'000);
  }
  return false;
}

std::string_view failing_step;

TEST(SockopsFault, AFailureAtAnyStepLeavesNothingAttached) {
  const lab::Cgroup cgroup("tcpinfo-test");
  tcpinfo::SockopsOptions options;
  options.cgroup = cgroup.path();
  const auto before = count();
  tcpinfo::sys::fault_hook = [](std::string_view step) noexcept { return step == failing_step ? ENOMEM : 0; };
  for (const std::string step :
       {"open skeleton", "load", "map ring", "attach sweep", "open cgroup", "attach sock_ops"}) {
    failing_step = step;
    try {
      tcpinfo::SockopsSource source(options);
      ADD_FAILURE() << step << ": no error";
    } catch (const tcpinfo::Error& error) {
      EXPECT_EQ(error.code(), std::errc::not_enough_memory) << step;
      EXPECT_THAT(error.what(), testing::HasSubstr("Cannot allocate memory")) << step;
    }
    EXPECT_TRUE(settles_to(before)) << step;
  }
  tcpinfo::sys::fault_hook = nullptr;
  {
    tcpinfo::SockopsSource source(options);
    EXPECT_FALSE(count() == before);
  }
  EXPECT_TRUE(settles_to(before)) << "an orderly end";
}

}  // namespace
