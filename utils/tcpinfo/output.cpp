// SPDX-License-Identifier: BSD-2-Clause
#include "output.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <poll.h>

#include "command.hpp"

namespace cli {
namespace {

[[noreturn]] void fail(std::string_view action, const std::string& name, int error) {
  std::string_view way_out;
  if (error == ENOSPC || error == EDQUOT) way_out = " (free some space there, or write elsewhere)";
  throw Failure(kFailed, fmt::format("{} {}: {}{}", action, name, std::strerror(error), way_out));
}

}  // namespace

Output::Output(int descriptor, bool owned, std::string name)
    : descriptor_(descriptor), owned_(owned), name_(std::move(name)) {}

Output::Output(Output&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      owned_(other.owned_),
      name_(std::move(other.name_)),
      buffer_(std::move(other.buffer_)),
      written_(other.written_) {}

Output::~Output() {
  if (owned_ && descriptor_ >= 0) ::close(descriptor_);
}

Output Output::standard() { return {STDOUT_FILENO, false, "standard output"}; }

Output Output::standard_error() { return {STDERR_FILENO, false, "standard error"}; }

Output Output::create(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) fail("create", path.string(), errno);
  return {descriptor, true, path.string()};
}

void Output::flush() {
  int error = 0;
  std::size_t done = 0;
  while (error == 0 && done < buffer_.size()) {
    const ssize_t got = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (got >= 0) {
      done += static_cast<std::size_t>(got);
    } else if (errno == EAGAIN) {
      // Whoever shares the pipe with us made it non-blocking.
      pollfd writable{descriptor_, POLLOUT, 0};
      if (::poll(&writable, 1, -1) < 0) error = errno;
    } else {
      error = errno;
    }
  }
  buffer_.erase(0, done);
  written_ += done;
  if (error == EINTR) throw OutputInterrupted();
  if (error == EPIPE) throw OutputClosed();
  if (error) fail("write to", name_, error);
}

void Output::finish() {
  flush();
  // Network file systems write, and find the disk full, when any descriptor of the file is closed.
  const int copy = ::fcntl(descriptor_, F_DUPFD_CLOEXEC, 0);
  if (copy >= 0 && ::close(copy) != 0 && errno != EINTR) fail("write to", name_, errno);
}

void Output::write(std::string_view text) {
  buffer_ += text;
  finish();
}

bool is_terminal(int descriptor) noexcept { return ::isatty(descriptor) == 1; }

TerminalSize terminal_size(int descriptor, std::size_t columns) noexcept {
  winsize size{};
  if (::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    return {size.ws_col, size.ws_row > 0 ? size.ws_row : std::size_t{24}};
  if (const char* text = std::getenv("COLUMNS")) std::from_chars(text, text + std::strlen(text), columns);
  return {columns, 24};
}

}  // namespace cli
