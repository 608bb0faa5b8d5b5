// SPDX-License-Identifier: BSD-2-Clause
// The compiled BPF object and the C++ table agree on every byte of the record.
#include <bpf/btf.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include <tcpinfo/record.hpp>

namespace {

class ObjectBtf : public testing::TestWithParam<const char*> {};

TEST_P(ObjectBtf, EveryMemberOfTheRecordIsWhereTheTableHasIt) {
  const std::unique_ptr<btf, decltype(&btf__free)> types(btf__parse(GetParam(), nullptr), btf__free);
  ASSERT_TRUE(types) << GetParam();
  const auto id = btf__find_by_name_kind(types.get(), "tcpinfo_record", BTF_KIND_STRUCT);
  ASSERT_GT(id, 0);
  const auto* record = btf__type_by_id(types.get(), static_cast<__u32>(id));
  EXPECT_EQ(record->size, sizeof(tcpinfo_record));

  struct Place {
    std::size_t offset, size;
  };
  std::map<std::string, Place> members;
  for (__u32 i = 0; i < btf_vlen(record); ++i) {
    const auto* member = btf_members(record) + i;
    members[btf__name_by_offset(types.get(), member->name_off)] = {
        btf_member_bit_offset(record, i) / 8u, static_cast<std::size_t>(btf__resolve_size(types.get(), member->type))};
  }
  EXPECT_EQ(members.size(), tcpinfo::kFieldCount + 3) << "version, size, present";
  for (const auto& field : tcpinfo::fields()) {
    const auto found = members.find(std::string(field.name));
    ASSERT_NE(found, members.end()) << field.name;
    EXPECT_EQ(found->second.offset, field.offset) << field.name;
    EXPECT_EQ(found->second.size, field.size) << field.name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ObjectBtf, testing::Values(TCPINFO_SOCKOPS_OBJECT, TCPINFO_ITER_OBJECT),
                         [](const auto& test) { return test.index == 0 ? "sockops" : "iter"; });

}  // namespace
