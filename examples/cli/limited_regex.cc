#include "cli/limited_regex.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <poll.h>
#include <regex>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace cli {
namespace {

constexpr rlim_t kMostMemory = rlim_t{1} << 30;  // beyond what the process has already
constexpr rlim_t kMostStack = rlim_t{256} << 20;

// What the process says, in front of a text: a match, none, or what is wrong with the expression.
enum class Answer : char { match = 'm', none = 'n', wrong = 'w' };

std::string search(const std::string& expression, std::string_view text) {
  const auto said = [](Answer answer, const std::string& rest) {
    return std::string(1, static_cast<char>(answer)) + rest;
  };
  try {
    const std::regex regex(expression, std::regex::ECMAScript);
    std::cmatch last;
    const char* at = text.data();
    const char* const end = at + text.size();
    for (std::cregex_iterator it(at, end, regex), none; it != none; ++it) last = *it;
    if (last.empty()) return said(Answer::none, "");
    const bool group = last.size() > 1 && last[1].matched;
    return said(Answer::match, last[group ? 1 : 0].str());
  } catch (const std::regex_error& error) {
    return said(Answer::wrong, error.what());
  }
}

void lower(int resource, rlim_t most) {
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return;
  limit.rlim_cur = std::min(most, limit.rlim_max);
  setrlimit(static_cast<__rlimit_resource>(resource), &limit);
}

[[noreturn]] void be_the_process(const std::string& expression, std::string_view text, int to) {
  for (const int number : {SIGSEGV, SIGBUS, SIGABRT, SIGINT, SIGTERM, SIGHUP, SIGQUIT})
    ::signal(number, SIG_DFL);  // what handlers do is for the program that started it
  lower(RLIMIT_CORE, 0);
  lower(RLIMIT_STACK, kMostStack);
  lower(RLIMIT_DATA, kMostMemory);
  std::string answer;
  try {
    answer = search(expression, text);
  } catch (...) {
    _exit(1);
  }
  for (std::size_t at = 0; at < answer.size();) {
    const ssize_t n = ::write(to, answer.data() + at, answer.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    at += static_cast<std::size_t>(n);
  }
  _exit(0);
}

// All that comes before the time is up; whether it ended by itself.
bool read_until(int from, std::chrono::steady_clock::time_point end, std::string& out) {
  std::array<char, 4096> buffer{};
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd waits{.fd = from, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&waits, 1, static_cast<int>(left.count()));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    const ssize_t n = ::read(from, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n == 0;
    out.append(buffer.data(), static_cast<std::size_t>(n));
  }
}

}  // namespace

std::optional<std::string> LimitedRegex::run(std::string_view text, bool check) const {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("no pipe for the expression's process");
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    be_the_process(expression_, text, ends[1]);
  }
  ::close(ends[1]);
  std::string out;
  const bool ended =
      child > 0 && read_until(ends[0], std::chrono::steady_clock::now() + limit_, out);
  ::close(ends[0]);
  if (child > 0) {
    if (!ended) ::kill(child, SIGKILL);
    while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  const bool whole = ended && !out.empty();
  if (check && !whole) throw std::runtime_error("it takes too long, or too much memory");
  if (check && out[0] == static_cast<char>(Answer::wrong)) throw std::runtime_error(out.substr(1));
  if (!whole || out[0] != static_cast<char>(Answer::match)) return {};
  return out.substr(1);
}

}  // namespace cli
