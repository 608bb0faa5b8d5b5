// SPDX-License-Identifier: BSD-2-Clause
#include "files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include <tcpinfo/error.hpp>

namespace validation {
namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 20;

[[noreturn]] void fail(int error, std::string action) {
  throw tcpinfo::Error(std::error_code(error, std::system_category()), std::move(action),
                       error == ENOSPC || error == EDQUOT ? "make room there, or write to another disk" : "");
}

}  // namespace

std::string read_text(const std::filesystem::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(errno, "open " + file.string());
  std::string text;
  ssize_t got = 0;
  do {
    const auto size = text.size();
    text.resize(size + 65536);
    got = ::read(fd, text.data() + size, 65536);
    text.resize(size + static_cast<std::size_t>(got > 0 ? got : 0));
  } while (got > 0 || (got < 0 && errno == EINTR));
  const int error = got < 0 ? errno : 0;
  ::close(fd);
  if (error) fail(error, "read " + file.string());
  return text;
}

OutputFile::OutputFile(std::filesystem::path path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) fail(errno, "make " + path_.string());
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!kept_) ::unlink(path_.c_str());
}

void OutputFile::write(std::string_view text) {
  buffer_.append(text);
  if (buffer_.size() >= kBuffer) flush();
}

void OutputFile::write_line(std::string_view text) {
  write(text);
  write("\n");
}

void OutputFile::flush() {
  for (std::size_t done = 0; done < buffer_.size();) {
    const auto written = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int error = errno;
      buffer_.clear();
      fail(error, "write " + path_.string());
    }
    done += static_cast<std::size_t>(written);
  }
  buffer_.clear();
}

}  // namespace validation
