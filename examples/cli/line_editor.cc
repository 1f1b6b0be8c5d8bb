// A typed line, edited with libedit.
#include "cli/line_editor.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cwchar>
#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include "cli/line_history.h"

namespace cli {
namespace {

termios g_cooked{};  // before a line was asked for; what the shell gets at Ctrl-Z

// The shell gets its terminal, and the line goes on as it was afterwards.
void suspend(int) {
  termios raw{};
  const bool known = ::tcgetattr(STDIN_FILENO, &raw) == 0;
  if (known) ::tcsetattr(STDIN_FILENO, TCSANOW, &g_cooked);
  ::kill(::getpid(), SIGSTOP);
  if (known) ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

// While a line is read.
class Suspending {
 public:
  Suspending() {
    if (::tcgetattr(STDIN_FILENO, &g_cooked) != 0) return;
    struct sigaction action {};
    action.sa_handler = suspend;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGTSTP, &action, &before_);
    if (before_.sa_handler == SIG_IGN) ::sigaction(SIGTSTP, &before_, nullptr);
    active_ = true;
  }
  ~Suspending() {
    if (active_) ::sigaction(SIGTSTP, &before_, nullptr);
  }
  Suspending(const Suspending&) = delete;
  Suspending& operator=(const Suspending&) = delete;

 private:
  struct sigaction before_ {};
  bool active_ = false;
};

}  // namespace

class LineEditor::Impl {
 public:
  explicit Impl(int wake)
      : wake_(wake), edit_(::el_init("dsv32", stdin, stdout, stderr)), list_(::history_init()) {
    HistEvent event;
    ::history(list_, &event, H_SETSIZE, static_cast<int>(LineHistory::kLines));
    ::history(list_, &event, H_SETUNIQUE, 1);
    for (const std::string& line : history_.lines())
      ::history(list_, &event, H_ENTER, (line + "\n").c_str());
    ::el_set(edit_, EL_CLIENTDATA, this);
    ::el_set(edit_, EL_PROMPT, &Impl::show);
    ::el_set(edit_, EL_EDITOR, "emacs");
    ::el_set(edit_, EL_SIGNAL, 0);
    ::el_set(edit_, EL_GETCFN, &Impl::next_character);
    ::el_set(edit_, EL_HIST, ::history, list_);
    // Keys that would be signals are read where the line is, once.
    ::el_set(edit_, EL_SETTY, "-d", "-isig", nullptr);
    ::el_set(edit_, EL_ADDFN, "dsv32-suspend", "stop the program", &Impl::on_suspend);
    ::el_set(edit_, EL_ADDFN, "dsv32-quit", "end the program", &Impl::on_quit);
    bind("^Z", "dsv32-suspend");
    bind("^\\", "dsv32-quit");
    ::el_set(edit_, EL_ADDFN, "dsv32-interrupt", "drop the line", &Impl::on_interrupt);
    bind("^C", "dsv32-interrupt");
    bind("^R", "em-inc-search-prev");
    bind("\\e[1~", "ed-move-to-beg");
    bind("\\e[4~", "ed-move-to-end");
    bind("\\e[3~", "ed-delete-next-char");
    bind("\\e[1;5C", "em-next-word");
    bind("\\e[1;5D", "ed-prev-word");
    ::el_source(edit_, nullptr);
  }
  ~Impl() {
    ::history_end(list_);
    ::el_end(edit_);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Result read(std::string& line, bool continued) {
    continued_ = continued;
    interrupted_ = typed_ = woken_ = false;
    ::el_resize(edit_);
    int count = 0;
    const Suspending suspending;
    ::el_set(edit_, EL_PREP_TERM, 1);  // before the prompt: what is typed behind it is keys
    const char* text = ::el_gets(edit_, &count);
    if (interrupted_ || woken_) {
      ::el_reset(edit_);
      if (woken_) return Result::woken;
      return typed_ ? Result::dropped : Result::interrupted;
    }
    if (text == nullptr || count <= 0) return Result::end;
    line.assign(text, static_cast<std::size_t>(count));
    HistEvent event;
    if (line != "\n") ::history(list_, &event, H_ENTER, line.c_str());
    if (!line.empty() && line.back() == '\n') line.pop_back();
    history_.add(line);
    return Result::line;
  }

 private:
  void bind(const char* key, const char* what) { ::el_set(edit_, EL_BIND, key, what, nullptr); }
  static Impl& self(EditLine* edit) {
    void* data = nullptr;
    ::el_get(edit, EL_CLIENTDATA, &data);
    return *static_cast<Impl*>(data);
  }
  static char* show(EditLine* edit) {
    static char first[] = "> ";
    static char next[] = ". ";
    return self(edit).continued_ ? next : first;
  }
  static unsigned char on_interrupt(EditLine* edit, int) {
    const LineInfo* line = ::el_line(edit);
    self(edit).typed_ = line->lastchar != line->buffer || self(edit).continued_;
    self(edit).interrupted_ = true;
    return CC_EOF;
  }

  // Waits for a key or a press of Ctrl-C that came as a signal: the terminal is the editor's only
  // from the first key that it waits for.
  static int next_character(EditLine* edit, wchar_t* character) {
    Impl& editor = self(edit);
    std::mbstate_t state{};
    for (;;) {
      std::array<pollfd, 2> fds = {{{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                                    {.fd = editor.wake_, .events = POLLIN, .revents = 0}}};
      if (::poll(fds.data(), fds.size(), -1) < 0) continue;
      editor.woken_ = fds[1].revents != 0;
      if (editor.woken_) return 0;
      char byte = '\0';
      const ssize_t count = ::read(STDIN_FILENO, &byte, 1);
      if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (count <= 0) return static_cast<int>(count);
      const std::size_t used = std::mbrtowc(character, &byte, 1, &state);
      if (used == static_cast<std::size_t>(-1)) {
        state = {};  // no character of this locale: left out
      } else if (used != static_cast<std::size_t>(-2)) {
        if (used == 0) *character = L'\0';
        return 1;
      }
    }
  }

  // What the terminal would send, and to whom.
  static unsigned char on_suspend(EditLine*, int) {
    ::kill(0, SIGTSTP);
    return CC_REDISPLAY;
  }
  static unsigned char on_quit(EditLine*, int) {
    ::kill(0, SIGQUIT);
    return CC_NORM;
  }

  LineHistory history_;
  int wake_;
  EditLine* edit_;
  History* list_;
  bool continued_ = false;
  bool interrupted_ = false;
  bool typed_ = false;  // there was something to drop
  bool woken_ = false;
};

LineEditor::LineEditor(int wake) : impl_(std::make_unique<Impl>(wake)) {}
LineEditor::~LineEditor() = default;
LineEditor::Result LineEditor::read(std::string& line, bool continued) {
  return impl_->read(line, continued);
}

}  // namespace cli
