// SPDX-License-Identifier: BSD-2-Clause
// What is read from a path stands in it and is well formed.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <tcpinfo/owner.hpp>

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

bool is_hexadecimal(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view path(reinterpret_cast<const char*>(data), size);
  const auto [unit, container] = tcpinfo::parse_cgroup_path(path);
  require(path.find(unit) != std::string_view::npos && unit.find('/') == std::string::npos);
  require(container.id.empty() || (container.id.size() == 64 && is_hexadecimal(container.id)));
  require(path.find(container.id) != std::string_view::npos);
  require(container.runtime.empty() || !container.id.empty());
  auto pod = container.pod_uid;
  require(pod.empty() || pod.size() == 32 || pod.size() == 36 || pod.size() == 64);
  if (pod.size() == 36) std::erase(pod, '-');
  require(pod.size() != 36 && is_hexadecimal(pod));
  return 0;
}
