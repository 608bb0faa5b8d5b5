// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <gtest/gtest.h>

#include "lab/lab.hpp"
#include "requirements.hpp"

namespace lab {

/// A test with a network namespace and a cgroup of its own.
class PlacedTest : public testing::Test {
 protected:
  void SetUp() override { TCPINFO_NEEDS_BPF(); }
  /// Inside both, so that the sockets that `body` makes are too.
  template <class Body>
  void inside(Body body) {
    netns.run([&] {
      const InCgroup in(cgroup);
      body();
    });
  }

  Netns netns{"tcpinfo-test"};
  Cgroup cgroup{"tcpinfo-test"};
};

}  // namespace lab
