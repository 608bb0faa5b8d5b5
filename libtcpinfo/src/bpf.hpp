// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <memory>
#include <string>

#include <bpf/libbpf.h>
#include <linux/types.h>

#include <tcpinfo/cost.hpp>

#include "link.hpp"
#include "system.hpp"

/// What all sources that load a BPF object share.
namespace tcpinfo::bpf {

/// How to open every object: `sys::fault()`, then NAME__open_opts(options.get()). Has to live until the object is
/// loaded. Only while a LibbpfLog lives.
///
/// libbpf looks for a type that the kernel lacks in all of its modules, by ids that need CAP_SYS_ADMIN, and before 1.3
/// it fails without. Without that privilege it is given the types as a file, which nobody needs a privilege to read.
class OpenOptions {
 public:
  OpenOptions();
  OpenOptions(const OpenOptions&) = delete;
  const bpf_object_open_opts* get() const noexcept { return &options_; }

 private:
  sys::Fd types_;
  std::string path_;
  bpf_object_open_opts options_{};
};

/// The kernel's HZ; 0 where it cannot be told, and then fields that the kernel keeps in jiffies are absent.
__u32 kernel_hz() noexcept;

/// The errno with which the kernel refuses a program on the iterator `target`, as "bpf_sk_storage_map", to whom it
/// allows one on "tcp"; 0: it does not, or refuses both. Tried with programs that do nothing.
int refusal_of_iterator(const char* target);

MapCost cost_of_map(int descriptor, std::string name);
/// Of the programs and maps of a loaded object.
Cost cost_of(const bpf_object* object);

/// For the message of an error of libbpf or bpf(2). `capabilities`: the names of those that the source needs; the
/// message says which of them this thread lacks.
std::string way_out_of(int error, const char* capabilities);

[[noreturn]] void fail(int error, const std::string& action, const std::string& way_out);
/// The same for a load that failed: says so where the kernel has no type information.
[[noreturn]] void fail_load(int error, const std::string& action, const char* capabilities);

}  // namespace tcpinfo::bpf
