// Lines from a terminal, file or pipe.
#include "cli/line_reader.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <string_view>
#include <unistd.h>

#include "cli/text_input.h"

#ifdef DSV32_CLI_LIBEDIT
#include "cli/line_editor.h"
#endif

namespace cli {

#ifndef DSV32_CLI_LIBEDIT
class LineEditor {};
#endif

LineReader::LineReader(int fd, std::string name, bool prompt, Interrupt& interrupt)
    : fd_(fd),
      name_(std::move(name)),
      prompt_(prompt),
      tty_(::isatty(fd) != 0),
      interrupt_(interrupt) {
#ifdef DSV32_CLI_LIBEDIT
  const char* term = std::getenv("TERM");
  const bool smart = term != nullptr && std::string_view(term) != "dumb";
  if (prompt && smart && fd == STDIN_FILENO)
    editor_ = std::make_unique<LineEditor>(interrupt.wake_fd());
#endif
}

LineReader::~LineReader() = default;

LineReader::Result LineReader::read(std::string& line) {
  line.clear();
  for (bool continued = false;; continued = true) {
    std::string part;
    const Result result = read_one(part, continued);
    if (result == Result::end) return continued ? Result::line : result;
    if (result != Result::line) return result;
    const bool more = !part.empty() && part.back() == '\\';
    if (more) part.back() = '\n';
    line += part;
    if (!more) return Result::line;
  }
}

LineReader::Result LineReader::read_one(std::string& line, bool continued) {
#ifdef DSV32_CLI_LIBEDIT
  if (editor_ != nullptr) {
    switch (editor_->read(line, continued)) {
      case LineEditor::Result::line:  // this long, it came before the editor had the terminal
        return line.size() == kTypedLine ? Result::cut : Result::line;
      case LineEditor::Result::end:
        return Result::end;
      case LineEditor::Result::dropped:
        return Result::dropped;
      case LineEditor::Result::interrupted:
        interrupt_.press();
        [[fallthrough]];
      case LineEditor::Result::woken:
        interrupt_.clear_wake();
        return Result::interrupted;
    }
  }
#endif
  if (prompt_) {
    std::fputs(continued ? ". " : "> ", stdout);
    std::fflush(stdout);
  }
  return read_plain(line);
}

bool LineReader::take_line(std::string& line) {
  const auto newline = buffer_.find('\n');
  if (newline == std::string::npos && !end_) return false;
  if (at_start_ && !tty_) take_mark_off(buffer_, name_);
  at_start_ = false;
  const std::size_t size = std::min(buffer_.find('\n'), buffer_.size());
  line = buffer_.substr(0, size);
  buffer_.erase(0, size + 1);
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return true;
}

LineReader::Result LineReader::read_plain(std::string& line) {
  for (;;) {
    if (end_ && buffer_.empty()) return Result::end;
    if (take_line(line)) return tty_ && line.size() >= kTypedLine ? Result::cut : Result::line;
    std::array<pollfd, 2> fds = {{{.fd = fd_, .events = POLLIN, .revents = 0},
                                  {.fd = interrupt_.wake_fd(), .events = POLLIN, .revents = 0}}};
    if (::poll(fds.data(), fds.size(), -1) < 0) continue;
    if (fds[1].revents != 0) {
      interrupt_.clear_wake();
      buffer_.clear();
      return Result::interrupted;
    }
    std::array<char, 4096> bytes{};
    const std::size_t count = read_some(fd_, bytes.data(), bytes.size(), name_);
    if (count == 0) end_ = true;
    buffer_.append(bytes.data(), count);
  }
}

}  // namespace cli
