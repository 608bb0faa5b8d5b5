// SPDX-License-Identifier: BSD-2-Clause
// Each public header is compiled alone by a source file that CMake makes; what is left to test is their text.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace {

const std::filesystem::path kIncludes = TCPINFO_PUBLIC_INCLUDE_DIRECTORY;

std::set<std::string> compiled_headers() {
  std::istringstream list(TCPINFO_COMPILED_HEADERS);
  return {std::istream_iterator<std::string>(list), {}};
}

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(PublicHeaders, AreAllCompiledAlone) {
  std::set<std::string> present;
  for (const auto& entry : std::filesystem::directory_iterator(kIncludes / "tcpinfo"))
    present.insert(entry.path().filename().string());
  EXPECT_EQ(present, compiled_headers()) << "TCPINFO_PUBLIC_HEADERS in libtcpinfo/tests/CMakeLists.txt lists them";
}

/// What a header includes, of either form.
std::vector<std::string> includes(const std::string& header) {
  std::vector<std::string> names;
  std::istringstream text(content(kIncludes / "tcpinfo" / header));
  for (std::string line; std::getline(text, line);) {
    const auto hash = line.find_first_not_of(" \t");
    if (hash == std::string::npos || line[hash] != '#' || line.find("include") == std::string::npos) continue;
    const auto begin = line.find_first_of("<\"");
    const auto end = line.find_first_of(">\"", begin + 1);
    EXPECT_NE(end, std::string::npos) << header << ": " << line;
    names.push_back(line.substr(begin + 1, end - begin - 1));
  }
  return names;
}

TEST(PublicHeaders, IncludeNothingThatUsersNeedNotHave) {
  const auto headers = compiled_headers();
  std::size_t seen = 0;
  for (const auto& header : headers)
    for (const auto& name : includes(header)) {
      ++seen;
      for (const std::string_view forbidden : {"bpf", "skel", "rapidjson", "CLI/"})
        EXPECT_EQ(name.find(forbidden), std::string::npos) << header << " includes " << name;
      EXPECT_TRUE(header == "monitor.hpp" || !name.starts_with("boost/")) << header << " includes " << name;
      EXPECT_TRUE(header == "format.hpp" || !name.starts_with("fmt/")) << header << " includes " << name;
      EXPECT_TRUE(!name.starts_with("tcpinfo/") || headers.contains(name.substr(8)) ||
                  name == "tcpinfo/tcpinfo_record.h")
          << header << " includes " << name;
    }
  EXPECT_GT(seen, headers.size());
}

TEST(PublicHeaders, BeginWithTheirLicence) {
  for (const auto& header : compiled_headers())
    EXPECT_TRUE(content(kIncludes / "tcpinfo" / header).starts_with("// SPDX-License-Identifier: BSD-2-Clause\n"))
        << header;
}

}  // namespace
