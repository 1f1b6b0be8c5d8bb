// Lines typed in earlier runs.
#include "cli/line_history.h"

#include <array>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cli {
namespace {

std::filesystem::path state_folder() {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && *state == '/') return std::filesystem::path(state) / "dsv32";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home != '/') return {};
  return std::filesystem::path(home) / ".local" / "state" / "dsv32";
}

int open_history() {
  const std::filesystem::path folder = state_folder();
  if (folder.empty()) return -1;
  std::error_code ignored;
  std::filesystem::create_directories(folder.parent_path(), ignored);
  ::mkdir(folder.c_str(), 0700);
  const int fd = ::open((folder / "history").c_str(),
                        O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
  struct stat file {};
  const bool good =
      fd >= 0 && ::fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && ::fchmod(fd, 0600) == 0;
  if (good) return fd;
  if (fd >= 0) ::close(fd);
  return -1;
}

std::vector<std::string> lines_of(int fd) {
  std::string text;
  std::array<char, 65536> bytes;
  ssize_t count = 0;
  while ((count = ::read(fd, bytes.data(), bytes.size())) > 0)
    text.append(bytes.data(), static_cast<std::size_t>(count));
  std::vector<std::string> lines;
  for (std::size_t begin = 0, end = 0; (end = text.find('\n', begin)) != text.npos; begin = end + 1)
    if (end > begin) lines.push_back(text.substr(begin, end - begin));
  return lines;
}

void append(int fd, const std::string& text) {  // at once, so that lines of others stay whole
  [[maybe_unused]] const ssize_t written = ::write(fd, text.data(), text.size());
}

}  // namespace

LineHistory::LineHistory() : fd_(open_history()) {
  if (fd_ < 0) return;
  ::flock(fd_, LOCK_EX);
  lines_ = lines_of(fd_);
  if (lines_.size() > kLines) {
    const bool long_one = lines_.size() > 2 * kLines;
    lines_.erase(lines_.begin(), lines_.end() - static_cast<std::ptrdiff_t>(kLines));
    if (long_one && ::ftruncate(fd_, 0) == 0) {
      std::string text;
      for (const std::string& line : lines_) text += line + "\n";
      append(fd_, text);
    }
  }
  ::flock(fd_, LOCK_UN);
}

LineHistory::~LineHistory() {
  if (fd_ >= 0) ::close(fd_);
}

void LineHistory::add(const std::string& line) {
  if (fd_ < 0 || line.find_first_not_of(" \t") == line.npos) return;
  ::flock(fd_, LOCK_EX);
  append(fd_, line + "\n");
  ::flock(fd_, LOCK_UN);
}

}  // namespace cli
