#include "lib/engine/cost_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace dsv32 {
namespace {

constexpr double kKeep = 0.98;   // of an older step's weight, with each new one of its kind
constexpr double kRidge = 3e-3;  // for terms that nearly always go together: noise decides nothing
constexpr int kFirstSteps = 8;
constexpr double kLeast = 1e-9;                      // seconds: no clock sees less
constexpr std::size_t kMost = std::size_t{1} << 30;  // tokens

// Solves m x = v over the terms that `used` names, by elimination; the others are 0. `m` is
// symmetric with a diagonal of 1 + kRidge.
template <class Matrix, class Vector, class Mask>
Vector solve(Matrix m, Vector v, const Mask& used) {
  const std::size_t n = v.size();
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t row = i + 1; used[i] && row < n; ++row) {
      if (!used[row]) continue;
      const double factor = m[row][i] / m[i][i];
      for (std::size_t col = i; col < n; ++col) m[row][col] -= factor * m[i][col];
      v[row] -= factor * v[i];
    }
  }
  Vector x{};
  for (std::size_t i = n; i-- > 0;) {
    if (!used[i]) continue;
    double rest = v[i];
    for (std::size_t col = i + 1; col < n; ++col) rest -= m[i][col] * x[col];
    x[i] = rest / m[i][i];
  }
  return x;
}

}  // namespace

void CostModel::observe(const StepWork& work, double seconds) noexcept {
  const double time = std::max(seconds, kLeast);
  const Terms x = terms(work);
  Products& products = kinds_[work.prompt > 0.0 ? 1 : 0];
  for (std::size_t i = 0; i < kTerms; ++i) {
    for (std::size_t j = 0; j < kTerms; ++j) {
      double& square = products.square[i][j];
      square = kKeep * square + x[i] * x[j] / (time * time);
    }
    products.sum[i] = kKeep * products.sum[i] + x[i] / time;
  }
  fit();
  if (work.prompt <= 0.0) return;
  limit_ = std::max(limit_, static_cast<std::size_t>(std::min(2.0 * work.prompt, 1e9)));
  first_token_ = ++first_steps_ <= kFirstSteps ? std::max(first_token_, time / work.prompt) : 0.0;
}

void CostModel::fit() noexcept {
  std::array<Terms, kTerms> m{};
  Terms v{}, scale{};
  std::array<bool, kTerms> used{};
  const auto square = [&](std::size_t i, std::size_t j) {
    return kinds_[0].square[i][j] + kinds_[1].square[i][j];
  };
  for (std::size_t i = 0; i < kTerms; ++i) {
    used[i] = square(i, i) > 0.0;
    scale[i] = used[i] ? 1.0 / std::sqrt(square(i, i)) : 0.0;
  }
  for (std::size_t i = 0; i < kTerms; ++i) {
    for (std::size_t j = 0; j < kTerms; ++j) m[i][j] = square(i, j) * scale[i] * scale[j];
    m[i][i] += kRidge;
    v[i] = (kinds_[0].sum[i] + kinds_[1].sum[i]) * scale[i];
  }
  for (std::size_t round = 0; round < kTerms; ++round) {
    const Terms x = solve(m, v, used);
    const auto least = std::min_element(x.begin(), x.end());
    for (std::size_t i = 0; i < kTerms; ++i) factors_[i] = std::max(0.0, x[i]) * scale[i];
    if (*least >= 0.0) break;
    used[static_cast<std::size_t>(least - x.begin())] = false;
  }
}

double CostModel::seconds(const StepWork& work) const noexcept {
  const Terms x = terms(work);
  double sum = 0.0;
  for (std::size_t i = 0; i < kTerms; ++i) sum += factors_[i] * x[i];
  return sum;
}

double CostModel::prompt_seconds(std::size_t position, std::size_t count) const noexcept {
  StepWork more;
  more.add(position, count);
  return seconds(more) - factors_[0];
}

// Solves d/2 n^2 + (c + d * position) n = seconds for n.
std::size_t CostModel::prompt_tokens(double seconds, std::size_t position) const noexcept {
  if (!(seconds > 0.0)) return 0;
  const double half = factors_[3] / 2.0;
  const double linear =
      std::max(factors_[2], first_token_) + factors_[3] * (static_cast<double>(position) + 0.5);
  // As 2 s / (linear + sqrt(linear^2 + 4 half s)), which no small factor makes wrong.
  const double root = linear + std::sqrt(linear * linear + 4.0 * half * seconds);
  const double count = root > 0.0 ? 2.0 * seconds / root : std::numeric_limits<double>::max();
  return count < static_cast<double>(kMost) ? static_cast<std::size_t>(count) : kMost;
}

}  // namespace dsv32
