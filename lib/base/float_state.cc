// Instructions where we know them: <cfenv> knows no flushing of subnormal numbers, and takes
// longer. Out of line and with memory clobbered, so that no arithmetic is moved across.
#include "lib/base/float_state.h"

namespace dsv32 {

#if defined(__x86_64__)
namespace {

constexpr std::uint32_t kVector = 0x1F80;   // to nearest, everything masked, no flag
constexpr std::uint16_t kControl = 0x037F;  // the same, 64 bits of precision
constexpr std::uint16_t kFlags = 0x007F;

std::uint16_t x87_status() noexcept {
  std::uint16_t status = 0;
  asm volatile("fnstsw %0" : "=m"(status));
  return status;
}

}  // namespace

void FloatState::enter() noexcept {
  asm volatile("stmxcsr %0" : "=m"(vector_)::"memory");
  asm volatile("ldmxcsr %0" ::"m"(kVector) : "memory");
  asm volatile("fnstcw %0" : "=m"(control_));
  status_ = x87_status();
  if (control_ == kControl) return;
  asm volatile("fnstenv %0" : "=m"(x87_));  // masks all, so the next one does not trap
  asm volatile("fldcw %0" ::"m"(kControl) : "memory");
}

void FloatState::leave() noexcept {
  asm volatile("ldmxcsr %0" ::"m"(vector_) : "memory");
  if (control_ == kControl) {
    if (((x87_status() ^ status_) & kFlags) == 0) return;
    asm volatile("fnstenv %0" : "=m"(x87_));
    x87_[1] = (x87_[1] & ~std::uint32_t{kFlags}) | (status_ & kFlags);
  }
  asm volatile("fldenv %0" ::"m"(x87_) : "memory");
}

#elif defined(__aarch64__)

void FloatState::enter() noexcept {
  asm volatile("mrs %0, fpcr" : "=r"(control_)::"memory");
  asm volatile("mrs %0, fpsr" : "=r"(status_));
  asm volatile("msr fpcr, %0" ::"r"(std::uint64_t{0}) : "memory");
}

void FloatState::leave() noexcept {
  asm volatile("msr fpsr, %0" ::"r"(status_) : "memory");
  asm volatile("msr fpcr, %0" ::"r"(control_) : "memory");
}

#else

void FloatState::enter() noexcept {
  std::feholdexcept(&all_);
  std::fesetenv(FE_DFL_ENV);
}

void FloatState::leave() noexcept { std::fesetenv(&all_); }

#endif

}  // namespace dsv32
