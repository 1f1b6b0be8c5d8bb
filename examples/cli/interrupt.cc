// Ctrl-C: a thread that waits for SIGINT.
#include "cli/interrupt.h"

#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <system_error>
#include <unistd.h>

namespace cli {
namespace {

void make_pipe(int (&ends)[2]) {
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
    throw std::system_error(errno, std::generic_category(), "pipe");
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
  make_pipe(wake_);
  make_pipe(quit_);
  const sigset_t set = only_sigint();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal_fd_ = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signal_fd_ < 0) throw std::system_error(errno, std::generic_category(), "signalfd");
  thread_ = std::thread([this] { wait(); });
}

Interrupt::~Interrupt() {
  ::close(quit_[1]);
  thread_.join();
  for (const int fd : {quit_[0], wake_[0], wake_[1], signal_fd_}) ::close(fd);
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
    if (++presses_ > 1) {
      if (has_terminal_) ::tcsetattr(STDIN_FILENO, TCSANOW, &terminal_);
      [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, "\n", 1);
      ::_exit(130);  // the model may be in the middle of a long step
    }
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
  for (;;) {
    pollfd fds[2] = {{.fd = signal_fd_, .events = POLLIN, .revents = 0},
                     {.fd = quit_[0], .events = POLLIN, .revents = 0}};
    if (::poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents != 0) return;
    signalfd_siginfo info;
    if (::read(signal_fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) press();
  }
}

}  // namespace cli
