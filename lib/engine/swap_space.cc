#include "lib/engine/swap_space.h"

#include <algorithm>

#include "lib/base/float_state.h"

namespace dsv32 {
namespace {

constexpr double kLearn = 0.25;  // of what is known, from each copy
constexpr double kLeast = 1e-12;

}  // namespace

bool SwapSpace::pays(std::size_t bytes, double seconds) const noexcept {
  const FloatState ours;
  return 2.0 * byte_seconds_ * static_cast<double>(bytes) < seconds;
}

void SwapSpace::observe(std::size_t bytes, double seconds) noexcept {
  const FloatState ours;
  const double now =
      std::max(kLeast, seconds / static_cast<double>(std::max<std::size_t>(1, bytes)));
  byte_seconds_ = byte_seconds_ > 0.0 ? byte_seconds_ + kLearn * (now - byte_seconds_) : now;
}

}  // namespace dsv32
