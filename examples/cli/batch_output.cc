#include "cli/batch_output.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <span>
#include <stdexcept>
#include <string_view>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/batch_lines.h"
#include "cli/json_text.h"
#include "cli/scratch.h"

namespace cli {
namespace {

constexpr std::size_t kLongest = 100'000'000;  // what parse_json takes

std::string id_prefix(std::uint64_t fingerprint) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "batch_req_%016llx_",
                static_cast<unsigned long long>(fingerprint));
  return text.data();
}

// The id of a line of results; none if it is another kind of line.
std::optional<std::string> id_of(const std::string& text) {
  const auto value = parse_json(text);
  if (!value || !value->is_object()) return std::nullopt;
  const auto id = value->find("id");
  if (id == value->end() || !id->is_string()) return std::nullopt;
  auto name = id->get<std::string>();
  if (!name.starts_with("batch_req_")) return std::nullopt;
  return name;
}

std::optional<std::size_t> number_of(std::string_view text) {
  std::size_t value = 0;
  const auto [stopped, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stopped != text.data() + text.size()) return std::nullopt;
  return value;
}

// What a line of results that was cut looks like: its beginning is that of every one.
bool may_be_cut(std::string_view text) {
  constexpr std::string_view kBegin = R"({"id":"batch_req_)";
  const std::size_t size = std::min(text.size(), kBegin.size());
  return text.substr(0, size) == kBegin.substr(0, size);
}

}  // namespace

BatchOutput::BatchOutput(const std::filesystem::path& file, std::uint64_t fingerprint,
                         std::size_t lines)
    : file_(file), prefix_(id_prefix(fingerprint)), done_(lines + 1) {
  ::signal(SIGXFSZ, SIG_IGN);  // beyond `ulimit -f` a write fails, and the line is taken back
  // A pipe or device is opened without waiting for its other end, to be refused.
  std::error_code error;
  made_ = !std::filesystem::exists(std::filesystem::symlink_status(file, error));
  fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
  if (fd_ < 0) cannot_write(file);
  try {
    lock();
    read_results();
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

BatchOutput::~BatchOutput() {
  if (made_ && end_ == 0) ::unlink(file_.c_str());
  ::close(fd_);
}

void BatchOutput::lock() {
  struct stat about {};
  if (::fstat(fd_, &about) != 0) cannot_write(file_);
  if (!S_ISREG(about.st_mode))
    throw std::runtime_error("cannot write '" + file_.string() + "': it is no plain file");
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    throw std::runtime_error("another process is writing '" + file_.string() + "'");
}

void BatchOutput::read_results() {
  const std::string name = "'" + file_.string() + "'";
  BatchLines lines(fd_, name, kLongest);
  std::string text;
  while (lines.read(text)) {
    if (!lines.whole()) {
      if (!may_be_cut(text))
        throw std::runtime_error(name + " ends in something that is no result of `dsv32 batch`");
      end_ = lines.begin();
      if (::ftruncate(fd_, static_cast<off_t>(end_)) != 0) cannot_write(file_);
      return;
    }
    take(text, lines.number());
    end_ = lines.position();
  }
}

void BatchOutput::take(const std::string& text, std::size_t number) {
  const std::string where = "line " + std::to_string(number) + " of '" + file_.string() + "'";
  const std::optional<std::string> id = id_of(text);
  if (!id) throw std::runtime_error(where + " is no result of `dsv32 batch`");
  const auto line = id->starts_with(prefix_)
                        ? number_of(std::string_view(*id).substr(prefix_.size()))
                        : std::nullopt;
  if (!line || *line == 0 || *line >= done_.size())
    throw std::runtime_error(where +
                             " answers another input: results of this one need a file of "
                             "their own");
  if (!done_[*line]) ++results_;
  done_[*line] = true;
}

std::string BatchOutput::id(std::size_t line) const { return prefix_ + std::to_string(line); }

void BatchOutput::write(std::size_t line, const std::string& text) {
  const std::string whole = text + "\n";
  try {
    write_at(fd_, end_, std::as_bytes(std::span(whole)), file_);
  } catch (...) {
    [[maybe_unused]] const int cut = ::ftruncate(fd_, static_cast<off_t>(end_));
    throw;
  }
  end_ += whole.size();
  if (!done_[line]) ++results_;
  done_[line] = true;
}

}  // namespace cli
