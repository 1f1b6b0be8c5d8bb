// Ctrl-C: a thread that waits for signals.
#include "cli/interrupt.h"

#include <cerrno>
#include <fcntl.h>
#include <signal.h>
#include <string>
#include <system_error>
#include <unistd.h>

#include "cli/scratch.h"
#include "cli/tools.h"

namespace cli {
namespace {

void make_pipe(int (&ends)[2]) {
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
    throw std::system_error(errno, std::generic_category(),
                            "no pipe for Ctrl-C (`ulimit -n` limits open files)");
}

const termios* g_terminal = nullptr;  // what end_program() restores; set before it can run

void leave_nothing_behind() {
  kill_running_tool();
  remove_scratch();
  if (g_terminal != nullptr) ::tcsetattr(STDIN_FILENO, TCSANOW, g_terminal);
}

// Two presses, or one without a thread: the model may be in the middle of a long step.
[[noreturn]] void end_program() {
  leave_nothing_behind();
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, "\n", 1);
  ::_exit(130);
}

sigset_t only(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  return set;
}

sigset_t awaited() {
  sigset_t set = only(SIGINT);
  for (const int signal : {SIGTERM, SIGHUP, SIGQUIT}) {
    struct sigaction action {};
    if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler != SIG_IGN)
      sigaddset(&set, signal);
  }
  return set;
}

// As if it had never been held back: handlers that are there run, or the program dies of it.
void end_by(int signal) {
  leave_nothing_behind();
  const sigset_t set = only(signal);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::raise(signal);
}

// Without a thread: both are safe in a handler, and what they touch is nobody's meanwhile.
void end_at_once(int signal) {
  if (signal == SIGINT) end_program();
  leave_nothing_behind();
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

}  // namespace

Interrupt::Interrupt() {
  has_terminal_ = ::tcgetattr(STDIN_FILENO, &terminal_) == 0;
  if (has_terminal_) g_terminal = &terminal_;
  make_pipe(wake_);
  signals_ = awaited();
  ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
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
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT})
      if (sigismember(&signals_, signal) == 1) ::signal(signal, SIG_DFL);
  }
  g_terminal = nullptr;
  for (const int fd : wake_) ::close(fd);
  ::pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
}

void Interrupt::end_at_first_press() {
  struct sigaction action {};
  action.sa_handler = end_at_once;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT})
    if (sigismember(&signals_, signal) == 1) ::sigaction(signal, &action, nullptr);
  ::pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
}

std::stop_token Interrupt::token() const {
  const std::lock_guard lock(mutex_);
  return source_.get_token();
}

void Interrupt::begin() {
  const std::lock_guard lock(mutex_);
  if (source_.stop_requested()) source_ = std::stop_source();
  presses_ = 0;
  clear_wake();
}

void Interrupt::press() {
  // All of it at once: who sees the answer stop and begins anew has seen the whole press.
  const std::lock_guard lock(mutex_);
  if (++presses_ > 1) end_program();
  [[maybe_unused]] const ssize_t written = ::write(wake_[1], "!", 1);
  source_.request_stop();
}

void Interrupt::clear_wake() const {
  char buffer[16];
  while (::read(wake_[0], buffer, sizeof buffer) > 0) {
  }
}

void Interrupt::wait() {
  for (;;) {
    int signal = 0;
    if (::sigwait(&signals_, &signal) != 0) continue;
    if (quit_.load()) return;
    if (signal == SIGINT)
      press();
    else
      end_by(signal);
  }
}

}  // namespace cli
