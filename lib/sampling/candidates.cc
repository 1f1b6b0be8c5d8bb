#include "lib/sampling/candidates.h"

#include <algorithm>
#include <cstdint>

#include "lib/base/check.h"

namespace dsv32 {

void Candidates::rank(float best, float scale) {
  constexpr float kLast = static_cast<float>(kBuckets - 1);
  // Rounding keeps the order: a lower logit never lands in an earlier bucket.
  const auto bucket_of = [&](const Candidate& c) {
    return static_cast<std::size_t>(std::min((best - c.logit) * scale * 64.0f, kLast));
  };
  begin_.fill(0);
  weight_.fill(0.0);
  for (const Candidate& c : items_) {
    const std::size_t b = bucket_of(c);
    ++begin_[b + 1];
    weight_[b] += static_cast<double>(c.weight);
  }
  for (std::size_t b = 0; b < kBuckets; ++b) begin_[b + 1] += begin_[b];
  scratch_.resize(items_.size());
  std::array<std::size_t, kBuckets + 1> next = begin_;
  for (const Candidate& c : items_) scratch_[next[bucket_of(c)]++] = c;
  items_.swap(scratch_);
}

double Candidates::total() const {
  double total = 0.0;
  for (const double weight : weight_) total += weight;
  return total;
}

std::size_t Candidates::bucket_end(std::size_t bucket) const {
  return std::min(begin_[bucket + 1], items_.size());
}

void Candidates::sort_bucket(std::size_t bucket) {
  const auto at = [&](std::size_t i) { return items_.begin() + static_cast<std::ptrdiff_t>(i); };
  std::sort(at(begin_[bucket]), at(bucket_end(bucket)), [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
  });
}

void Candidates::truncate(std::size_t count) {
  if (count >= items_.size()) return;
  items_.resize(count);
  for (std::size_t b = 0; b < kBuckets; ++b) {
    if (begin_[b + 1] <= count) continue;
    weight_[b] = 0.0;
    for (std::size_t i = begin_[b]; i < count; ++i)
      weight_[b] += static_cast<double>(items_[i].weight);
    begin_[b] = std::min(begin_[b], count);
  }
}

std::size_t Candidates::find(double target) {
  DSV32_CHECK(!items_.empty(), internal, "no candidate is left to draw from");
  double sum = 0.0;
  for (std::size_t b = 0; b < kBuckets; ++b) {
    if (begin_[b] >= bucket_end(b)) continue;
    if (sum + weight_[b] < target) {
      sum += weight_[b];
      continue;
    }
    sort_bucket(b);
    for (std::size_t i = begin_[b]; i < bucket_end(b); ++i) {
      sum += static_cast<double>(items_[i].weight);
      if (sum >= target) return i;
    }
  }
  return items_.size() - 1;
}

void Candidates::keep_best(std::size_t count) {
  if (count >= items_.size()) return;
  std::size_t b = 0;
  while (bucket_end(b) < count) ++b;
  sort_bucket(b);
  truncate(count);
}

void Candidates::keep_weight(double target) { truncate(find(target) + 1); }

void Candidates::drop_below(float weight) {
  for (std::size_t b = 0; b < kBuckets; ++b) {
    const auto low = [&](const Candidate& c) { return c.weight < weight; };
    const auto at = [&](std::size_t i) { return items_.begin() + static_cast<std::ptrdiff_t>(i); };
    if (begin_[b] >= bucket_end(b)) continue;
    if (std::none_of(at(begin_[b]), at(bucket_end(b)), low)) continue;
    sort_bucket(b);
    const auto first = std::find_if(at(begin_[b]), at(bucket_end(b)), low) - items_.begin();
    return truncate(static_cast<std::size_t>(first));
  }
}

TokenId Candidates::at_weight(double target) { return items_[find(target)].token; }

}  // namespace dsv32
