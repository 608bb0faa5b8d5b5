// SPDX-License-Identifier: BSD-2-Clause
#include "module_types.hpp"

#include <bpf/btf.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "libbpf_log.hpp"

namespace {

struct BtfDeleter {
  void operator()(btf* types) const noexcept { btf__free(types); }
};
using Btf = std::unique_ptr<btf, BtfDeleter>;

/// Types of a kernel and of its modules, as /sys/kernel/btf has them.
class ModuleTypes : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "tcpinfo-btf-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    int_ = btf__add_int(kernel_.get(), "int", 4, BTF_INT_SIGNED);
    btf__add_struct(kernel_.get(), "sock", 4);
    btf__add_field(kernel_.get(), "in_kernel", int_, 0, 0);
    write("vmlinux", kernel_.get());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void write(const char* name, const btf* types) const {
    __u32 size = 0;
    const void* data = btf__raw_data(types, &size);
    ASSERT_NE(data, nullptr);
    std::ofstream(directory_ / name, std::ios::binary).write(static_cast<const char*>(data), size);
  }
  // `structure` { int number; struct inner *pointer; }, and a name that the kernel has too.
  void write_module(const char* file, const char* structure) const {
    const Btf types(btf__new_empty_split(kernel_.get()));
    btf__add_struct(types.get(), "sock", 8);
    btf__add_field(types.get(), "in_module", int_, 0, 0);
    const int inner = btf__add_struct(types.get(), (std::string("inner_of_") + structure).c_str(), 4);
    btf__add_field(types.get(), structure, int_, 0, 0);
    const int pointer = btf__add_ptr(types.get(), inner);
    btf__add_struct(types.get(), structure, 16);
    btf__add_field(types.get(), "number", int_, 0, 0);
    btf__add_field(types.get(), "pointer", pointer, 64, 0);
    write(file, types.get());
  }
  Btf merged() const {
    const auto file = tcpinfo::bpf::types_with_modules(directory_);
    return Btf(file ? btf__parse(("/proc/self/fd/" + std::to_string(file.get())).c_str(), nullptr) : nullptr);
  }
  static std::string name(const btf* types, __u32 offset) { return btf__name_by_offset(types, offset); }
  static void expect_structure(const btf* types, const char* structure) {
    const int id = btf__find_by_name_kind(types, structure, BTF_KIND_STRUCT);
    ASSERT_GT(id, 0) << structure;
    const auto* type = btf__type_by_id(types, static_cast<__u32>(id));
    ASSERT_EQ(btf_vlen(type), 2);
    const auto* members = btf_members(type);
    EXPECT_EQ(name(types, members[0].name_off), "number");
    EXPECT_EQ(name(types, btf__type_by_id(types, members[0].type)->name_off), "int");
    EXPECT_EQ(name(types, members[1].name_off), "pointer");
    EXPECT_EQ(members[1].offset, 64u);
    const auto* pointer = btf__type_by_id(types, members[1].type);
    ASSERT_EQ(btf_kind(pointer), BTF_KIND_PTR);
    const auto* inner = btf__type_by_id(types, pointer->type);
    ASSERT_EQ(btf_kind(inner), BTF_KIND_STRUCT);
    ASSERT_EQ(btf_vlen(inner), 1);
    EXPECT_EQ(name(types, btf_members(inner)[0].name_off), structure) << "the pointer leads into another module";
  }

  const tcpinfo::LibbpfLog log_;
  std::filesystem::path directory_;
  const Btf kernel_{btf__new_empty()};
  int int_ = 0;
};

TEST_F(ModuleTypes, StructuresOfSeveralModulesStandBesideTheKernels) {
  for (const auto& [file, structure] : {std::pair("tcp_bbr", "bbr"), {"tcp_dctcp", "dctcp"}, {"tcp_vegas", "vegas"}})
    write_module(file, structure);
  const auto types = merged();
  ASSERT_TRUE(types);
  for (const auto* structure : {"bbr", "dctcp", "vegas"}) expect_structure(types.get(), structure);
  int named_sock = 0;
  for (__u32 id = 1; id < btf__type_cnt(types.get()); ++id)
    named_sock += name(types.get(), btf__type_by_id(types.get(), id)->name_off) == "sock";
  EXPECT_EQ(named_sock, 1) << "relocations would be ambiguous";
  const auto sock = btf__find_by_name_kind(types.get(), "sock", BTF_KIND_STRUCT);
  EXPECT_EQ(name(types.get(), btf_members(btf__type_by_id(types.get(), static_cast<__u32>(sock)))[0].name_off),
            "in_kernel");
}

TEST_F(ModuleTypes, NothingWhereNoModuleIsWanted) {
  EXPECT_FALSE(tcpinfo::bpf::types_with_modules(directory_));
  write_module("tcp_htcp", "htcp");
  EXPECT_FALSE(tcpinfo::bpf::types_with_modules(directory_));
  EXPECT_FALSE(tcpinfo::bpf::types_with_modules(directory_ / "none"));
}

TEST_F(ModuleTypes, AFileThatCannotBeReadIsLeftOut) {
  std::ofstream(directory_ / "tcp_bbr") << "no types";
  write_module("tcp_vegas", "vegas");
  const auto types = merged();
  ASSERT_TRUE(types);
  expect_structure(types.get(), "vegas");
  EXPECT_LT(btf__find_by_name_kind(types.get(), "bbr", BTF_KIND_STRUCT), 0);
}

}  // namespace
