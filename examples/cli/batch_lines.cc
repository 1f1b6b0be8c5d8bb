#include "cli/batch_lines.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <stdexcept>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "cli/text_input.h"

namespace cli {
namespace {

constexpr std::size_t kBuffer = 64U << 10;

std::uint64_t fnv(std::uint64_t hash, const char* bytes, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    hash = (hash ^ static_cast<unsigned char>(bytes[i])) * std::uint64_t{0x100000001B3};
  return hash;
}

bool blank(const std::string& line) { return line.find_first_not_of(" \t") == std::string::npos; }

int opened(const std::string& path, const std::string& name) {
  const int fd =
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe is not waited for
  if (fd < 0) throw std::runtime_error("cannot read " + name + ": " + std::strerror(errno));
  struct stat file {};
  if (::fstat(fd, &file) == 0 && S_ISREG(file.st_mode)) return fd;
  ::close(fd);
  throw std::runtime_error("cannot read " + name + ": it is read twice, so it must be a file");
}

}  // namespace

BatchLines::BatchLines(int fd, std::string name, std::size_t longest, std::size_t end)
    : fd_(fd), name_(std::move(name)), longest_(longest), end_(end), buffer_(kBuffer) {}

bool BatchLines::fill() {
  const std::size_t most = std::min(buffer_.size(), end_ - std::min(end_, offset_));
  at_ = size_ = 0;
  while (most > 0) {
    const ssize_t count = ::pread(fd_, buffer_.data(), most, static_cast<off_t>(offset_));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw std::runtime_error("cannot read " + name_ + ": " + std::strerror(errno));
    size_ = static_cast<std::size_t>(count);
    break;
  }
  offset_ += size_;
  return size_ > 0;
}

bool BatchLines::read(std::string& line) {
  line.clear();
  too_long_ = whole_ = false;
  begin_ = read_;
  while (!whole_ && (at_ < size_ || fill())) {
    const char* first = buffer_.data() + at_;
    const std::size_t left = size_ - at_;
    const void* newline = std::memchr(first, '\n', left);
    whole_ = newline != nullptr;
    const std::size_t count =
        whole_ ? static_cast<std::size_t>(static_cast<const char*>(newline) - first) : left;
    const std::size_t taken = count + (whole_ ? 1 : 0);
    hash_ = fnv(hash_, first, taken);
    at_ += taken;
    read_ += taken;
    too_long_ = too_long_ || line.size() + count > longest_;
    if (too_long_)
      line.clear();
    else
      line.append(first, count);
  }
  if (read_ == begin_) return false;
  if (!line.empty() && line.back() == '\r') line.pop_back();
  if (++number_ == 1) take_mark_off(line, name_);
  return true;
}

BatchInput::BatchInput(const std::string& path)
    : name_("'" + path + "'"), fd_(opened(path, name_)), reader_(fd_, name_, kLongest) {
  try {
    std::string line;
    while (reader_.read(line))
      if (!blank(line) || reader_.too_long()) ++requests_;
  } catch (...) {
    ::close(fd_);
    throw;
  }
  lines_ = reader_.number();
  bytes_ = reader_.position();
  fingerprint_ = reader_.hash();
  reader_ = BatchLines(fd_, name_, kLongest, bytes_);
}

BatchInput::~BatchInput() { ::close(fd_); }

bool BatchInput::next(std::string& line) {
  while (reader_.read(line))
    if (!blank(line) || reader_.too_long()) return true;
  if (reader_.position() != bytes_ || reader_.hash() != fingerprint_)
    throw std::runtime_error(name_ + " was changed while it was read");
  return false;
}

}  // namespace cli
