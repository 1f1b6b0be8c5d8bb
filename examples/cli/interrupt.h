// Ctrl-C: the first press stops the answer, the second ends the program. Other signals end it.
#ifndef EXAMPLES_CLI_INTERRUPT_H_
#define EXAMPLES_CLI_INTERRUPT_H_

#include <atomic>
#include <mutex>
#include <signal.h>
#include <stop_token>
#include <string>
#include <termios.h>
#include <thread>

namespace cli {

// Blocks SIGINT, SIGTERM, SIGHUP and SIGQUIT for this thread and all that it starts, and waits for
// them on a thread of its own, so that stopping is an ordinary call and no code runs inside a
// signal handler. Whatever ends the program ends a running tool's group with it, and leaves the
// terminal as it was. Signals other than SIGINT that were ignored (nohup) stay so. One a program,
// made before the model is loaded. Where the system gives no thread, the first press ends the
// program.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  std::stop_token token() const;  // of the answer that began last
  bool pressed() const { return token().stop_requested(); }
  void begin();  // a new answer, or a prompt: a new token, earlier presses forgotten
  void press();  // as if the key had been pressed; ends the program at the second
  int wake_fd() const noexcept { return wake_[0]; }  // readable after a press
  void clear_wake() const;
  const std::string& problem() const noexcept { return problem_; }  // a warning; or empty

 private:
  void wait();
  void end_at_first_press();

  mutable std::mutex mutex_;
  std::stop_source source_;
  int presses_ = 0;
  sigset_t signals_{};  // waited for
  int wake_[2] = {-1, -1};
  std::atomic<bool> quit_{false};
  std::string problem_;
  bool has_terminal_ = false;
  termios terminal_{};  // restored before the program ends
  std::thread thread_;
};

}  // namespace cli

#endif  // EXAMPLES_CLI_INTERRUPT_H_
