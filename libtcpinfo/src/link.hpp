// SPDX-License-Identifier: BSD-2-Clause
#pragma once

struct bpf_link;

namespace tcpinfo::bpf {

/// Owns a bpf_link, and sees to it that no child keeps it. A link lives as long as any process has a descriptor of it:
/// programs would stay attached when the process dies whose children, made by fork(), live on. The kernel closes no
/// descriptor at a fork, so the child puts something harmless in its place, at once and by the only call that leaves its
/// number taken: whoever closes it later closes nothing else. A fork between the attach and reset() is not noticed.
///
/// Children of vfork() and of a bare clone() run no handlers; they are expected to exec, and every descriptor is closed
/// then.
class Link {
 public:
  Link() noexcept = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link() { reset(); }

  /// Takes `link`, what libbpf's attach functions give: if that is nullptr, or it cannot be kept from children, this is
  /// empty and errno says why.
  void reset(bpf_link* link = nullptr) noexcept;
  bpf_link* get() const noexcept { return link_; }
  int descriptor() const noexcept { return descriptor_; }  ///< -1 if it is empty
  explicit operator bool() const noexcept { return link_ != nullptr; }

 private:
  friend struct ForkHandlers;

  bpf_link* link_ = nullptr;
  int descriptor_ = -1;
  Link* next_ = nullptr;
  Link* before_ = nullptr;
};

}  // namespace tcpinfo::bpf
