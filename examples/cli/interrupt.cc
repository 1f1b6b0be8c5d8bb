// Ctrl-C: a thread that waits for SIGINT.
#include "cli/interrupt.h"

#include <cerrno>
#include <fcntl.h>
#include <signal.h>
#include <string>
#include <system_error>
#include <unistd.h>

namespace cli {
namespace {

void make_pipe(int (&ends)[2]) {
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
    throw std::system_error(errno, std::generic_category(),
                            "no pipe for Ctrl-C (`ulimit -n` limits open files)");
}

const termios* g_terminal = nullptr;  // what end_program() restores; set before it can run

// Two presses, or one without a thread: the model may be in the middle of a long step.
[[noreturn]] void end_program() {
  if (g_terminal != nullptr) ::tcsetattr(STDIN_FILENO, TCSANOW, g_terminal);
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, "\n", 1);
  ::_exit(130);
}

sigset_t only_sigint() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

Interrupt::Interrupt() {
  has_terminal_ = ::tcgetattr(STDIN_FILENO, &terminal_) == 0;
  if (has_terminal_) g_terminal = &terminal_;
  make_pipe(wake_);
  const sigset_t set = only_sigint();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  try {
    thread_ = std::thread([this] { wait(); });
  } catch (const std::system_error& error) {
    problem_ = std::string("no thread to wait for Ctrl-C: ") + error.code().message() +
               " (`ulimit -u` and the cgroup's pids.max limit them); it ends the program at once";
    end_at_first_press();
  }
}

Interrupt::~Interrupt() {
  if (thread_.joinable()) {
    quit_.store(true);
    ::pthread_kill(thread_.native_handle(), SIGINT);  // ends its wait
    thread_.join();
  } else {
    ::signal(SIGINT, SIG_DFL);
  }
  g_terminal = nullptr;
  for (const int fd : wake_) ::close(fd);
  const sigset_t set = only_sigint();
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void Interrupt::end_at_first_press() {
  struct sigaction action {};
  action.sa_handler = [](int) { end_program(); };
  ::sigaction(SIGINT, &action, nullptr);
  const sigset_t set = only_sigint();
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

std::stop_token Interrupt::token() const {
  const std::lock_guard lock(mutex_);
  return source_.get_token();
}

void Interrupt::begin() {
  const std::lock_guard lock(mutex_);
  if (source_.stop_requested()) source_ = std::stop_source();
  presses_ = 0;
}

void Interrupt::press() {
  std::stop_source source;
  {
    const std::lock_guard lock(mutex_);
    if (++presses_ > 1) end_program();
    source = source_;
  }
  source.request_stop();
  [[maybe_unused]] const ssize_t written = ::write(wake_[1], "!", 1);
}

void Interrupt::clear_wake() const {
  char buffer[16];
  while (::read(wake_[0], buffer, sizeof buffer) > 0) {
  }
}

void Interrupt::wait() {
  const sigset_t set = only_sigint();
  for (;;) {
    int signal = 0;
    if (::sigwait(&set, &signal) != 0) continue;
    if (quit_.load()) return;
    press();
  }
}

}  // namespace cli
