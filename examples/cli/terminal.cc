// Colours, dim thinking, progress.
#include "cli/terminal.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <unistd.h>

namespace cli {
namespace {

constexpr auto kBeforeBar = std::chrono::milliseconds(300);
constexpr auto kBetweenBars = std::chrono::milliseconds(100);
constexpr auto kBetweenLines = std::chrono::seconds(5);
constexpr int kBarWidth = 24;

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

bool wants_color(const std::string& mode, bool tty, bool dumb) {
  if (mode != "auto") return mode == "always";
  return tty && !dumb && !is_set("NO_COLOR");
}

bool put(std::FILE* file, std::string_view text) {
  return std::fwrite(text.data(), 1, text.size(), file) == text.size();
}

[[noreturn]] void cannot_write(int error) {
  throw OutputError(std::string("cannot write to stdout: ") + std::strerror(error));
}

// The bytes of the character that begins `text`; 0 if they are not UTF-8.
std::size_t character_size(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const std::size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() < size) return 0;
  const bool whole =
      std::all_of(text.begin() + 1, text.begin() + static_cast<std::ptrdiff_t>(size),
                  [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; });
  return whole ? size : 0;
}

}  // namespace

Terminal::Terminal(const std::string& color, bool quiet) : quiet_(quiet) {
  const char* term = std::getenv("TERM");
  out_tty_ = ::isatty(STDOUT_FILENO) != 0;
  err_tty_ = ::isatty(STDERR_FILENO) != 0;
  dumb_ = term == nullptr || std::string_view(term) == "dumb";
  color_ = wants_color(color, out_tty_, dumb_);
  error_color_ = wants_color(color, err_tty_, dumb_);
}

void Terminal::write(std::string_view text) const {
  if (!put(stdout, text) || std::fflush(stdout) != 0) cannot_write(errno);
}

void Terminal::check_reader() const {
  pollfd out{.fd = STDOUT_FILENO, .events = 0, .revents = 0};
  if (::poll(&out, 1, 0) > 0 && (out.revents & POLLERR) != 0) cannot_write(EPIPE);
}

void Terminal::write_foreign(std::string_view text) const {
  write(out_tty_ ? visible(text) : std::string(text));
}

void Terminal::dim() const {
  if (color_) write("\x1b[2m");
}

void Terminal::plain() const {
  if (color_) write("\x1b[0m");
}

void Terminal::note(std::string_view text) const {
  if (!quiet_) put(stderr, (err_tty_ ? visible(text) : std::string(text)) + "\n");
}

void Terminal::aside(std::string_view text) const {
  if (!error_color_) return note(text);
  if (!quiet_) put(stderr, "\x1b[2m" + visible(text) + "\x1b[0m\n");
}

void Terminal::error(std::string_view text) const {
  std::string line = visible(text);
  std::replace(line.begin(), line.end(), '\n', ' ');
  put(stderr, error_color_ ? "\x1b[31mdsv32: error:\x1b[0m " : "dsv32: error: ");
  put(stderr, line + "\n");
}

std::string visible(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  const auto escape = [&result](unsigned code) {
    std::array<char, 8> written{};
    std::snprintf(written.data(), written.size(), "\\x%02x", code);
    result += written.data();
  };
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text.front());
    const std::size_t size = character_size(text);
    const auto next = static_cast<unsigned char>(size == 2 ? text[1] : '\0');
    // U+0080 to U+009F are controls, too: some terminals act on them.
    if (byte == 0xC2 && next < 0xA0)
      escape(next == 0 ? byte : next);
    else if (size == 0 || (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F)
      escape(byte);
    else
      result += text.substr(0, size);
    text.remove_prefix(std::max(size, std::size_t{1}));
  }
  return result;
}

Progress::Progress(const Terminal& terminal, std::string what)
    : terminal_(terminal), what_(std::move(what)), start_(Clock::now()), last_(start_) {}

Progress::~Progress() {
  if (drawn_) put(stderr, "\r\x1b[K");
}

void Progress::update(double fraction) {
  const auto now = Clock::now();
  const bool bar = terminal_.draws_progress();
  if (terminal_.quiet() || (bar ? now - start_ < kBeforeBar : now - last_ < kBetweenLines)) return;
  if (drawn_ && now - last_ < kBetweenBars) return;
  last_ = now;
  fraction = std::clamp(fraction, 0.0, 1.0);
  const double seconds = std::chrono::duration<double>(now - start_).count();
  std::array<char, 64> rest{};
  if (fraction > 0)
    std::snprintf(rest.data(), rest.size(), "%.0f %%, %.0f s left", 100 * fraction,
                  seconds * (1 - fraction) / fraction);
  if (bar) {
    const auto full = static_cast<std::size_t>(fraction * kBarWidth);
    put(stderr, "\r\x1b[K" + what_ + " [" + std::string(full, '#') +
                    std::string(kBarWidth - full, ' ') + "] " + rest.data());
    drawn_ = true;
  } else {
    put(stderr, what_ + ": " + rest.data() + "\n");
  }
}

std::string human_bytes(double bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < kUnits.size(); ++unit) bytes /= 1024;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", bytes, kUnits[unit]);
  return text.data();
}

}  // namespace cli
