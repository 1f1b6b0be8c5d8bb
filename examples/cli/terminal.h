// Colours, dim thinking, progress: what depends on where output goes.
#ifndef EXAMPLES_CLI_TERMINAL_H_
#define EXAMPLES_CLI_TERMINAL_H_

#include <chrono>
#include <stdexcept>
#include <string>
#include <string_view>

namespace cli {

// Nobody reads stdout any more, or nothing more fits: there is no point in going on.
struct OutputError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Results go to stdout, everything else to stderr.
class Terminal {
 public:
  // color: "always", "never", or "auto": a tty, TERM is not "dumb", and NO_COLOR is unset or empty.
  Terminal(const std::string& color, bool quiet);

  bool color() const noexcept { return color_; }  // of stdout
  bool quiet() const noexcept { return quiet_; }
  bool stdout_is_tty() const noexcept { return out_tty_; }
  bool draws_progress() const noexcept { return err_tty_ && !dumb_ && !quiet_; }

  void write(std::string_view text) const;  // to stdout, as it is; throws OutputError
  // Throws OutputError if stdout is a pipe without a reader: for work whose result is written last.
  void check_reader() const;
  // To stdout; text that someone else wrote: on a tty its control characters become visible.
  void write_foreign(std::string_view text) const;
  void dim() const;  // until plain()
  void plain() const;
  // A line on stderr, foreign as in write_foreign(); nothing with --quiet. An aside is dim.
  void note(std::string_view text) const;
  void aside(std::string_view text) const;
  void error(std::string_view text) const;  // "dsv32: error: ..." on stderr

 private:
  bool out_tty_ = false;
  bool err_tty_ = false;
  bool dumb_ = false;
  bool color_ = false;
  bool error_color_ = false;
  bool quiet_ = false;
};

// Control characters and bytes that are no UTF-8 as visible escapes; newline and tab stay.
std::string visible(std::string_view text);

// A bar on a tty, a line every five seconds elsewhere; nothing if the work is soon done.
class Progress {
 public:
  Progress(const Terminal& terminal, std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(double fraction);

 private:
  using Clock = std::chrono::steady_clock;
  const Terminal& terminal_;
  std::string what_;
  Clock::time_point start_;
  Clock::time_point last_;
  bool drawn_ = false;
};

// 1536 -> "1.5 KiB"
std::string human_bytes(double bytes);

}  // namespace cli

#endif  // EXAMPLES_CLI_TERMINAL_H_
