// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>

namespace cli {

/// Whoever read our output went away (EPIPE); no error of ours.
struct OutputClosed : std::exception {
  const char* what() const noexcept override { return "the reader of the output went away"; }
};

/// A signal came while the reader of our output took nothing.
struct OutputInterrupted : std::exception {
  const char* what() const noexcept override { return "interrupted while writing"; }
};

/// A file or standard output that text goes to, with every write checked. Throws OutputClosed, OutputInterrupted, or
/// Failure (kFailed) with what the system answered, as a full disk.
class Output {
 public:
  static Output standard();
  static Output standard_error();
  /// Creates the file or empties it.
  static Output create(const std::filesystem::path& path);

  Output(Output&& other) noexcept;
  ~Output();
  Output& operator=(Output&&) = delete;

  int descriptor() const noexcept { return descriptor_; }
  /// Text that flush() will write.
  std::string& buffer() noexcept { return buffer_; }
  /// Where it throws, the buffer holds what was not written.
  void flush();
  /// Bytes that the system has taken.
  std::uint64_t written() const noexcept { return written_; }
  /// flush(), and asks for errors that file systems report on closing only.
  void finish();
  void write(std::string_view text);

 private:
  Output(int descriptor, bool owned, std::string name);

  int descriptor_;
  bool owned_;
  std::string name_;
  std::string buffer_;
  std::uint64_t written_ = 0;
};

struct TerminalSize {
  std::size_t columns;
  std::size_t rows;
  bool operator==(const TerminalSize&) const = default;
};

bool is_terminal(int descriptor) noexcept;
/// Of the terminal behind `descriptor`; where there is none, $COLUMNS or `columns`, and 24 rows.
TerminalSize terminal_size(int descriptor, std::size_t columns = 120) noexcept;

}  // namespace cli
