// How long a step takes: t = a + b * rows + c * prompt tokens + d * attended keys, fitted while the
// steps run.
#ifndef DSV32_LIB_ENGINE_COST_MODEL_H_
#define DSV32_LIB_ENGINE_COST_MODEL_H_

#include <array>
#include <cstddef>

namespace dsv32 {

struct StepWork {
  double rows = 0.0;      // that go on with an answer, one token each
  double prompt = 0.0;    // tokens of prompts
  double attended = 0.0;  // keys that all rows see together

  // `count` tokens behind `position` others.
  void add(std::size_t position, std::size_t count) {
    const auto n = static_cast<double>(count), before = static_cast<double>(position);
    (count == 1 ? rows : prompt) += n;
    attended += n * before + n * (n + 1.0) / 2.0;
  }
};

// Least squares of relative errors, no factor below 0; old steps count less and less.
class CostModel {
 public:
  void observe(const StepWork& work, double seconds) noexcept;

  double seconds(const StepWork& work) const noexcept;  // 0 before the first step
  // What `count` tokens of a prompt behind `position` others add to a step.
  double prompt_seconds(std::size_t position, std::size_t count) const noexcept;
  // Tokens of a prompt behind `position` others that so many seconds are enough for.
  std::size_t prompt_tokens(double seconds, std::size_t position) const noexcept;
  // What one step may hold of prompts, as long as longer ones have not been seen: twice the most.
  std::size_t prompt_limit() const noexcept { return limit_; }

 private:
  static constexpr std::size_t kTerms = 4;
  using Terms = std::array<double, kTerms>;
  static Terms terms(const StepWork& work) { return {1.0, work.rows, work.prompt, work.attended}; }
  void fit() noexcept;

  // Products of the observed terms, weighed: of steps without prompts, and of those with some, so
  // that many of one kind do not make the other forgotten.
  struct Products {
    std::array<Terms, kTerms> square{};
    Terms sum{};
  };
  std::array<Products, 2> kinds_{};
  Terms factors_{};
  std::size_t limit_ = 64;
  // Of the first steps with prompts, which do not tell yet what is a token's and what the step's:
  // the most that a token may have taken.
  int first_steps_ = 0;
  double first_token_ = 0.0;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_COST_MODEL_H_
