// Text from files and stdin.
#include "cli/text_input.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <stdexcept>
#include <string_view>
#include <unistd.h>

namespace cli {
namespace {

std::string quoted(const std::string& path) { return path == "-" ? "stdin" : "'" + path + "'"; }

[[noreturn]] void cannot_read(const std::string& name, int error) {
  throw std::runtime_error("cannot read " + name + ": " + std::strerror(error));
}

class Opened {
 public:
  explicit Opened(const std::string& path) {
    if (path != "-") fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) cannot_read(quoted(path), errno);
  }
  ~Opened() {
    if (fd_ != STDIN_FILENO) ::close(fd_);
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  int fd() const noexcept { return fd_; }

 private:
  int fd_ = STDIN_FILENO;
};

bool has_cut_line(std::string_view text) {
  while (!text.empty()) {
    const std::size_t size = std::min(text.find('\n'), text.size());
    if (size >= kTypedLine) return true;
    text.remove_prefix(std::min(size + 1, text.size()));
  }
  return false;
}

// Without a mark: no text begins with a character and a NUL, or the other way around.
bool looks_wide(std::string_view text) {
  return text.size() >= 2 && (text[0] == '\0') != (text[1] == '\0');
}

}  // namespace

std::size_t read_some(int fd, char* bytes, std::size_t size, const std::string& name) {
  for (;;) {
    const ssize_t count = ::read(fd, bytes, size);
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno == EAGAIN) {
      pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
      ::poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      cannot_read(name, errno);
    }
  }
}

std::string read_file(const std::string& path) {
  const Opened file(path);
  std::string text;
  std::array<char, 65536> bytes;
  while (const std::size_t count = read_some(file.fd(), bytes.data(), bytes.size(), quoted(path)))
    text.append(bytes.data(), count);
  if (::isatty(file.fd()) != 0 && has_cut_line(text))
    throw std::runtime_error("the terminal cuts lines of more than " + std::to_string(kTypedLine) +
                             " bytes: use a file or a pipe");
  take_mark_off(text, quoted(path));
  return text;
}

void take_mark_off(std::string& text, const std::string& name) {
  constexpr std::string_view kUtf8 = "\xEF\xBB\xBF";
  const std::string_view view = text;
  if (view.starts_with("\xFF\xFE") || view.starts_with("\xFE\xFF") || looks_wide(view))
    throw std::runtime_error(name +
                             " is UTF-16 or UTF-32, not UTF-8 (`iconv -f UTF-16 -t UTF-8` "
                             "converts it)");
  if (view.starts_with(kUtf8)) text.erase(0, kUtf8.size());
}

}  // namespace cli
