// The floating-point state that results are defined for, whatever state the calling thread has.
#ifndef DSV32_LIB_BASE_FLOAT_STATE_H_
#define DSV32_LIB_BASE_FLOAT_STATE_H_

#include <array>
#include <cfenv>
#include <cstdint>

namespace dsv32 {

// While it lives, the thread rounds to nearest, keeps subnormal numbers and traps nothing; then the
// thread's own state is back, its sticky flags, too. Every function that computes and may be called
// by an application's thread has one, and every thread that runs parts of a loop.
class FloatState {
 public:
  FloatState() noexcept { enter(); }
  ~FloatState() { leave(); }
  FloatState(const FloatState&) = delete;
  FloatState& operator=(const FloatState&) = delete;

 private:
  friend class CallersFloatState;
  void enter() noexcept;
  void leave() noexcept;

#if defined(__x86_64__)
  std::uint32_t vector_ = 0;            // MXCSR
  std::uint16_t control_ = 0;           // of the x87, which strtod() asks how to round
  std::uint16_t status_ = 0;            // its flags
  std::array<std::uint32_t, 7> x87_{};  // all of it, if its control word is not the usual one
#elif defined(__aarch64__)
  std::uint64_t control_ = 0, status_ = 0;  // FPCR, FPSR
#else
  std::fenv_t all_{};
#endif
};

// Inside a FloatState: while a callback of the application runs, the state that was replaced. What
// the callback makes of it stays.
class CallersFloatState {
 public:
  explicit CallersFloatState(FloatState& ours) noexcept : ours_(ours) { ours_.leave(); }
  ~CallersFloatState() { ours_.enter(); }
  CallersFloatState(const CallersFloatState&) = delete;
  CallersFloatState& operator=(const CallersFloatState&) = delete;

 private:
  FloatState& ours_;
};

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_FLOAT_STATE_H_
