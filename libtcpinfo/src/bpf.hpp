// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <memory>
#include <string>

#include <bpf/libbpf.h>
#include <linux/types.h>

#include <tcpinfo/cost.hpp>

/// What all sources that load a BPF object share.
namespace tcpinfo::bpf {

struct LinkDeleter {
  void operator()(bpf_link* link) const noexcept { bpf_link__destroy(link); }
};
using Link = std::unique_ptr<bpf_link, LinkDeleter>;

/// The kernel's HZ; 0 where it cannot be told, and then fields that the kernel keeps in jiffies are absent.
__u32 kernel_hz() noexcept;

MapCost cost_of_map(int descriptor, std::string name);
/// Of the programs and maps of a loaded object.
Cost cost_of(const bpf_object* object);

/// For the message of an error of libbpf or bpf(2). `capabilities`: those that the source needs.
std::string way_out_of(int error, const char* capabilities);

[[noreturn]] void fail(int error, const std::string& action, const std::string& way_out);
/// The same for a load that failed: says so where the kernel has no type information.
[[noreturn]] void fail_load(int error, const std::string& action, const char* capabilities);

}  // namespace tcpinfo::bpf
