// Threads of ours take no signals: what an application does with them is for its own.
#ifndef DSV32_LIB_BASE_SIGNAL_BLOCK_H_
#define DSV32_LIB_BASE_SIGNAL_BLOCK_H_

#include <pthread.h>
#include <signal.h>

namespace dsv32 {

// Blocks every signal for this thread and those it starts, while it lives.
class SignalBlock {
 public:
  SignalBlock() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalBlock() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_SIGNAL_BLOCK_H_
