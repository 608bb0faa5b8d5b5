// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace plot {

/// Files that appear together: each is written under another name beside its place, and renamed when all are whole.
/// What was not committed is removed with this object.
class OutputFiles {
 public:
  OutputFiles() = default;
  ~OutputFiles();
  OutputFiles(const OutputFiles&) = delete;
  OutputFiles& operator=(const OutputFiles&) = delete;

  /// Writes `bytes` to the disk for `path`, whose folder is made if need be. Throws tcpinfo::Error, as for a full disk.
  void add(const std::filesystem::path& path, std::string_view bytes);
  /// Puts all files in their places. Throws tcpinfo::Error.
  void commit();

 private:
  struct Staged {
    std::filesystem::path temporary, path;
  };
  std::vector<Staged> staged_;
  std::vector<std::filesystem::path> made_;  // folders
};

}  // namespace plot
