// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace validation {

/// All of a file. Throws tcpinfo::Error.
std::string read_text(const std::filesystem::path& file);

/// A file that is being written. Unless keep() was called, it is removed again: half a result is none.
class OutputFile {
 public:
  /// Throws tcpinfo::Error, as write() and keep() do; the text names the file and, where the disk is full, says so.
  explicit OutputFile(std::filesystem::path path);
  OutputFile(const OutputFile&) = delete;
  ~OutputFile();

  const std::filesystem::path& path() const noexcept { return path_; }
  void write(std::string_view text);
  /// Appends `text` and a newline.
  void write_line(std::string_view text);
  /// Passes everything on to the kernel. The file still goes unless keep() follows.
  void flush();
  void keep() noexcept { kept_ = true; }

 private:
  std::filesystem::path path_;
  std::string buffer_;
  int fd_ = -1;
  bool kept_ = false;
};

}  // namespace validation
