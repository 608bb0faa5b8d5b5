// SPDX-License-Identifier: BSD-2-Clause
#include <tcpinfo/error.hpp>

namespace tcpinfo {
namespace {

class Category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "tcpinfo"; }
  std::string message(int value) const override {
    switch (static_cast<Errc>(value)) {
      case Errc::kNotCgroup2: return "not a directory of a cgroup v2 hierarchy";
      case Errc::kNoBtf: return "the kernel offers no BTF type information";
      case Errc::kInvalidFilter: return "invalid filter";
      case Errc::kInvalidOption: return "invalid option";
      case Errc::kMalformed: return "malformed input";
      case Errc::kForked: return "it belongs to the parent of this process";
      case Errc::kCgroupNotVisible: return "the cgroup is not visible from here";
      case Errc::kAmbiguousUnit: return "several cgroups have this name";
      case Errc::kCgroupGone: return "the cgroup was removed, nothing more comes from it";
      case Errc::kInvalidTrigger: return "invalid trigger";
    }
    return "unknown error";
  }
  std::error_condition default_error_condition(int value) const noexcept override {
    if (static_cast<Errc>(value) == Errc::kCgroupGone) return std::errc::no_such_file_or_directory;
    return {value, *this};
  }
};

}  // namespace

const std::error_category& error_category() noexcept {
  static const Category category;
  return category;
}

Error::Error(std::error_code code, std::string action, std::string way_out) : std::system_error(code) {
  text_ = std::move(action) + ": " + code.message();
  if (!way_out.empty()) text_ += " (" + way_out + ")";
}

Error::~Error() = default;

}  // namespace tcpinfo
