// Lines from a terminal, file or pipe.
#include "cli/line_reader.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <string_view>
#include <unistd.h>

#ifdef DSV32_CLI_LIBEDIT
#include <histedit.h>
#endif

namespace cli {

#ifdef DSV32_CLI_LIBEDIT
// libedit turns the terminal's own Ctrl-C off, so that it arrives here as a key.
class LineReader::Editor {
 public:
  Editor() : edit_(::el_init("dsv32", stdin, stdout, stderr)), history_(::history_init()) {
    HistEvent event;
    ::history(history_, &event, H_SETSIZE, 1000);
    ::el_set(edit_, EL_CLIENTDATA, this);
    ::el_set(edit_, EL_PROMPT, &Editor::show);
    ::el_set(edit_, EL_EDITOR, "emacs");
    ::el_set(edit_, EL_SIGNAL, 0);
    ::el_set(edit_, EL_HIST, ::history, history_);
    ::el_set(edit_, EL_SETTY, "-d", "-isig", nullptr);
    ::el_set(edit_, EL_ADDFN, "dsv32-interrupt", "stop", &Editor::on_interrupt);
    ::el_set(edit_, EL_BIND, "^C", "dsv32-interrupt", nullptr);
  }
  ~Editor() {
    ::history_end(history_);
    ::el_end(edit_);
  }
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  Result read(std::string& line, bool continued) {
    continued_ = continued;
    interrupted_ = false;
    int count = 0;
    const char* text = ::el_gets(edit_, &count);
    if (interrupted_) {
      ::el_reset(edit_);
      return Result::interrupted;
    }
    if (text == nullptr || count <= 0) return Result::end;
    line.assign(text, static_cast<std::size_t>(count));
    HistEvent event;
    if (line != "\n") ::history(history_, &event, H_ENTER, line.c_str());
    if (!line.empty() && line.back() == '\n') line.pop_back();
    return Result::line;
  }

 private:
  static Editor& self(EditLine* edit) {
    void* data = nullptr;
    ::el_get(edit, EL_CLIENTDATA, &data);
    return *static_cast<Editor*>(data);
  }
  static char* show(EditLine* edit) {
    static char first[] = "> ";
    static char next[] = ". ";
    return self(edit).continued_ ? next : first;
  }
  static unsigned char on_interrupt(EditLine* edit, int) {
    self(edit).interrupted_ = true;
    return CC_EOF;
  }

  EditLine* edit_;
  History* history_;
  bool continued_ = false;
  bool interrupted_ = false;
};
#else
class LineReader::Editor {
 public:
  Result read(std::string&, bool) { return Result::end; }
};
#endif

LineReader::LineReader(int fd, bool prompt, Interrupt& interrupt)
    : fd_(fd), prompt_(prompt), interrupt_(interrupt) {
#ifdef DSV32_CLI_LIBEDIT
  const char* term = std::getenv("TERM");
  const bool smart = term != nullptr && std::string_view(term) != "dumb";
  if (prompt && smart && fd == STDIN_FILENO) editor_ = std::make_unique<Editor>();
#endif
}

LineReader::~LineReader() = default;

LineReader::Result LineReader::read(std::string& line) {
  line.clear();
  for (bool continued = false;; continued = true) {
    std::string part;
    const Result result = read_one(part, continued);
    if (result == Result::interrupted) return result;
    if (result == Result::end) return continued ? Result::line : result;
    const bool more = !part.empty() && part.back() == '\\';
    if (more) part.back() = '\n';
    line += part;
    if (!more) return Result::line;
  }
}

LineReader::Result LineReader::read_one(std::string& line, bool continued) {
  if (editor_ != nullptr) {
    // Pressed while the terminal was not yet the editor's: a signal, which it would not see.
    pollfd woken{.fd = interrupt_.wake_fd(), .events = POLLIN, .revents = 0};
    if (::poll(&woken, 1, 0) > 0) {
      interrupt_.clear_wake();
      return Result::interrupted;
    }
    const Result result = editor_->read(line, continued);
    if (result == Result::interrupted) interrupt_.press();
    interrupt_.clear_wake();
    return result;
  }
  if (prompt_) {
    std::fputs(continued ? ". " : "> ", stdout);
    std::fflush(stdout);
  }
  return read_plain(line);
}

LineReader::Result LineReader::read_plain(std::string& line) {
  for (;;) {
    if (const auto newline = buffer_.find('\n'); newline != std::string::npos) {
      line = buffer_.substr(0, newline);
      buffer_.erase(0, newline + 1);
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return Result::line;
    }
    if (end_) {
      line.swap(buffer_);
      buffer_.clear();
      return line.empty() ? Result::end : Result::line;
    }
    std::array<pollfd, 2> fds = {{{.fd = fd_, .events = POLLIN, .revents = 0},
                                  {.fd = interrupt_.wake_fd(), .events = POLLIN, .revents = 0}}};
    if (::poll(fds.data(), fds.size(), -1) < 0) continue;
    if (fds[1].revents != 0) {
      interrupt_.clear_wake();
      buffer_.clear();
      return Result::interrupted;
    }
    std::array<char, 4096> bytes{};
    const ssize_t count = ::read(fd_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      end_ = true;
    else
      buffer_.append(bytes.data(), static_cast<std::size_t>(count));
  }
}

}  // namespace cli
