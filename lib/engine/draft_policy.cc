#include "lib/engine/draft_policy.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "lib/base/float_state.h"

namespace dsv32 {
namespace {

constexpr double kKeep = 0.9;       // of an older step's weight, with each new one
constexpr double kTrials = 0.005;   // of all time may be lost to trials
constexpr double kFirst = 0.51;     // steps' time that may be lost before anything is known
constexpr double kMostSaved = 4.0;  // steps' time of budget that is kept
constexpr double kEnough = 3.0;     // steps that tell more than others' do

// How often a draft was right, if a step with so many gave so many tokens: solves
// 1 + p + .. + p^drafts = tokens.
double right_part(int drafts, double tokens) {
  double low = 0.0, high = 1.0;
  for (int i = 0; i < 20; ++i) {
    const double p = (low + high) / 2.0;
    double sum = 1.0, power = 1.0;
    for (int k = 0; k < drafts; ++k) sum += power *= p;
    (sum < tokens ? low : high) = p;
  }
  return low;
}

}  // namespace

int DraftPolicy::best() const noexcept {
  const FloatState ours;
  int best = 0;
  for (int i = 1; i <= most_; ++i) {
    if (arm(i).seen() && arm(i).per_token() < arm(best).per_token()) best = i;
  }
  return best;
}

// Seconds that a step with so many drafts is expected to lose. Of one more than what is best, and
// hardly known, by what the others took and gave; of the first draft half a step.
double DraftPolicy::loss(int drafts, int best) const noexcept {
  const Arm &tried = arm(drafts), &now = arm(best);
  double seconds = tried.seen() ? tried.seconds / tried.steps : 0.0;
  double tokens = tried.seen() ? tried.tokens / tried.steps : 0.0;
  if (tried.steps < kEnough && drafts > best) {
    if (best == 0) return arm(0).per_token() / 2.0;
    const double mean = now.seconds / now.steps, given = now.tokens / now.steps;
    seconds = mean + std::max(0.0, mean - arm(0).per_token()) / best;
    tokens = given + std::pow(right_part(best, given), drafts);
  }
  return std::max(0.0, seconds - tokens * now.per_token());
}

int DraftPolicy::next() const noexcept {
  const FloatState ours;
  if (most_ == 0 || !arm(0).seen()) return 0;
  const int now = best();
  const bool up = now == 0 || (now < most_ && !upwards_);  // each in its turn
  const int other = up ? now + 1 : now - 1;
  return loss(other, now) < budget_ ? other : now;
}

void DraftPolicy::observe(int drafts, double seconds, double tokens) noexcept {
  const FloatState ours;
  if (!(tokens > 0.0) || !(seconds > 0.0)) return;
  const bool first = !arm(0).seen();
  const int now = best();
  Arm& seen = arms_[static_cast<std::size_t>(drafts)];
  if (drafts != now) {
    budget_ -= std::max(0.0, seconds - tokens * arm(now).per_token());
    upwards_ = drafts > now;
  }
  seen.seconds = kKeep * seen.seconds + seconds;
  seen.tokens = kKeep * seen.tokens + tokens;
  seen.steps = kKeep * seen.steps + 1.0;
  if (!arm(0).seen()) return;
  const double step = arm(0).per_token();
  if (first) budget_ = kFirst * step;
  budget_ = std::min(budget_ + kTrials * seconds, kMostSaved * step);
}

}  // namespace dsv32
