// SPDX-License-Identifier: BSD-2-Clause
#include "module_types.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <bpf/btf.h>

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>

namespace tcpinfo::bpf {
namespace {

struct BtfDeleter {
  void operator()(btf* types) const noexcept { btf__free(types); }
};
using Btf = std::unique_ptr<btf, BtfDeleter>;

// See put_congestion_control() in fill.bpf.h.
struct Wanted {
  const char* module;
  std::string_view structure;
};
constexpr Wanted kWanted[] = {{"tcp_bbr", "bbr"}, {"tcp_dctcp", "dctcp"}, {"tcp_vegas", "vegas"}};

template <class F>
void for_each_type_id(btf_type* type, F&& f) {
  switch (btf_kind(type)) {
    case BTF_KIND_PTR:
    case BTF_KIND_TYPEDEF:
    case BTF_KIND_CONST:
    case BTF_KIND_VOLATILE:
    case BTF_KIND_RESTRICT:
    case BTF_KIND_FUNC:
    case BTF_KIND_VAR:
    case BTF_KIND_DECL_TAG:
    case BTF_KIND_TYPE_TAG:
      f(type->type);
      break;
    case BTF_KIND_ARRAY:
      f(btf_array(type)->type);
      f(btf_array(type)->index_type);
      break;
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
      for (int i = 0; i < btf_vlen(type); ++i) f(btf_members(type)[i].type);
      break;
    case BTF_KIND_FUNC_PROTO:
      f(type->type);
      for (int i = 0; i < btf_vlen(type); ++i) f(btf_params(type)[i].type);
      break;
    case BTF_KIND_DATASEC:
      for (int i = 0; i < btf_vlen(type); ++i) f(btf_var_secinfos(type)[i].type);
      break;
    default:
      break;
  }
}

// A module's types are numbered on from the kernel's, so that of all modules only the first would fit behind them.
bool append(btf* all, const btf* kernel, const btf* module, std::string_view wanted) {
  const auto first = btf__type_cnt(kernel);
  const auto shift = btf__type_cnt(all) - first;
  for (auto id = first; id < btf__type_cnt(module); ++id) {
    const int added = btf__add_type(all, module, btf__type_by_id(module, id));
    if (added < 0) return false;
    auto* type = const_cast<btf_type*>(btf__type_by_id(all, static_cast<__u32>(added)));
    for_each_type_id(type, [&](__u32& reference) {
      if (reference >= first) reference += shift;
    });
    // A name that the kernel has too would make relocations ambiguous. libbpf looks into modules for those only that it
    // has not found in the kernel.
    if (btf__name_by_offset(all, type->name_off) != wanted) type->name_off = 0;
  }
  return true;
}

bool write_all(int file, const void* data, std::size_t size) {
  for (const char* at = static_cast<const char*>(data); size > 0;) {
    const auto wrote = ::write(file, at, size);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    at += wrote;
    size -= static_cast<std::size_t>(wrote);
  }
  return true;
}

}  // namespace

sys::Fd types_with_modules(const std::filesystem::path& directory) noexcept try {
  Btf kernel, all;
  for (const auto& [module, structure] : kWanted) {
    const auto path = directory / module;
    if (::access(path.c_str(), R_OK) != 0) continue;
    const auto vmlinux = directory / "vmlinux";
    if (!kernel) kernel.reset(btf__parse(vmlinux.c_str(), nullptr));
    if (!all) all.reset(btf__parse(vmlinux.c_str(), nullptr));
    if (!kernel || !all) return {};
    const Btf types(btf__parse_split(path.c_str(), kernel.get()));
    if (!types) continue;  // the module went away
    if (!append(all.get(), kernel.get(), types.get(), structure)) return {};
  }
  if (!all) return {};
  __u32 size = 0;
  const void* data = btf__raw_data(all.get(), &size);
  sys::Fd file(::memfd_create("tcpinfo-btf", MFD_CLOEXEC));
  if (!data || !file || !write_all(file.get(), data, size)) return {};
  return file;
} catch (...) {
  return {};
}

}  // namespace tcpinfo::bpf
