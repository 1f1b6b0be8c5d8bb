// How many drafts a step makes: as many as have paid so far.
#ifndef DSV32_LIB_ENGINE_DRAFT_POLICY_H_
#define DSV32_LIB_ENGINE_DRAFT_POLICY_H_

#include <array>
#include <cstddef>

namespace dsv32 {

inline constexpr int kMostDrafts = 4;

// Compares the time that a token took with so many drafts. One more or one fewer than what is best
// is tried now and then: what trials lose is paid from a budget, a small part of all the time.
// Reads no clock.
class DraftPolicy {
 public:
  explicit DraftPolicy(int most = 0) noexcept : most_(most) {}
  void set_most(int most) noexcept { most_ = most; }

  // For a step that is observed, and for one that is not.
  int next() const noexcept;
  int best() const noexcept;

  // A step with so many drafts took so long and gave so many tokens an answer.
  void observe(int drafts, double seconds, double tokens) noexcept;

 private:
  struct Arm {
    double seconds = 0.0, tokens = 0.0, steps = 0.0;  // older steps count less
    bool seen() const { return steps > 0.0; }
    double per_token() const { return seconds / tokens; }
  };
  const Arm& arm(int drafts) const { return arms_[static_cast<std::size_t>(drafts)]; }
  double loss(int drafts, int best) const noexcept;

  int most_;
  std::array<Arm, kMostDrafts + 1> arms_{};
  double budget_ = 0.0;   // seconds
  bool upwards_ = false;  // the latest trial was of more drafts
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_DRAFT_POLICY_H_
