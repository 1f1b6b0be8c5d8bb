// Lanes are queries: 48 of them in three registers, against tiles of eight keys or eight dimensions
// of the values, whose pairs are broadcast. 24 accumulators.
#include "benchmarks/mha.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "benchmarks/attention.h"
#include "benchmarks/harness.h"
#include "benchmarks/limits.h"

#include "kernels/numbers.h"

namespace dsv32::bench {
namespace {

constexpr int kTile = 8;
constexpr int kLanes = kMhaQueries / 16;
constexpr float kScale = 0.0722f;

// Of one call: scores and probabilities of a block of keys, and the running state.
struct Scratch {
  float scores[kMhaKeys][kMhaQueries];
  std::uint32_t pairs[kMhaKeys / 2][kMhaQueries];
  float out[kMhaValue][kMhaQueries];
  float best[kMhaQueries], total[kMhaQueries], keep[kMhaQueries];
};

double value_of(const std::byte* data, std::int64_t i) {
  return static_cast<double>(kernels::load_value(data, kernels::ValueType::bf16, i));
}

}  // namespace

bool MhaHead::runs_here() { return isa().bf16; }

MhaHead::MhaHead(int keys)
    : queries_(huge_memory(2 * kMhaWidth * kMhaQueries)),
      keys_(huge_memory(static_cast<std::size_t>(keys) * kMhaWidth * 2)),
      values_(huge_memory(static_cast<std::size_t>(keys) * kMhaValue * 2)),
      scratch_(huge_memory(sizeof(Scratch))) {
  fill_bf16(queries_.get(), kMhaWidth * kMhaQueries, 1);
  fill_bf16(keys_.get(), std::min(keys, 4096) * kMhaWidth, 2);
  fill_bf16(values_.get(), std::min(keys, 4096) * kMhaValue, 3);
  for (std::size_t done = 4096; done < static_cast<std::size_t>(keys); done += 4096) {
    const std::size_t n = std::min<std::size_t>(4096, static_cast<std::size_t>(keys) - done);
    std::memcpy(keys_.get() + done * kMhaWidth * 2, keys_.get(), n * kMhaWidth * 2);
    std::memcpy(values_.get() + done * kMhaValue * 2, values_.get(), n * kMhaValue * 2);
  }
}

#if defined(__x86_64__)
namespace {

#define DSV32_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

DSV32_BF16 inline __m512bh pair(std::uint32_t bits) {
  return (__m512bh)_mm512_set1_epi32(static_cast<int>(bits));
}

DSV32_BF16 inline std::uint32_t load_pair(const std::byte* p) {
  std::uint32_t bits;
  std::memcpy(&bits, p, 4);
  return bits;
}

// out [8][48] = eight rows of `a` [pairs][8] times `b` [pairs][48]; starts from out * keep if there
// is one.
DSV32_BF16 void tile(const std::byte* a, const std::byte* b, int pairs, const float* keep,
                     float* out) {
  __m512 sum[kTile][kLanes];
#pragma GCC unroll 8
  for (int r = 0; r < kTile; ++r) {
#pragma GCC unroll 3
    for (int l = 0; l < kLanes; ++l) {
      sum[r][l] = keep == nullptr ? _mm512_setzero_ps()
                                  : _mm512_mul_ps(_mm512_loadu_ps(out + r * kMhaQueries + 16 * l),
                                                  _mm512_loadu_ps(keep + 16 * l));
    }
  }
  for (int p = 0; p < pairs; ++p) {
    __m512bh x[kLanes];
#pragma GCC unroll 3
    for (int l = 0; l < kLanes; ++l)
      x[l] = (__m512bh)_mm512_loadu_si512(b + (std::int64_t{kMhaQueries} * p + 16 * l) * 4);
#pragma GCC unroll 8
    for (int r = 0; r < kTile; ++r) {
      const __m512bh y = pair(load_pair(a + (std::int64_t{kTile} * p + r) * 4));
#pragma GCC unroll 3
      for (int l = 0; l < kLanes; ++l) sum[r][l] = _mm512_dpbf16_ps(sum[r][l], y, x[l]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kTile; ++r) {
#pragma GCC unroll 3
    for (int l = 0; l < kLanes; ++l) _mm512_storeu_ps(out + r * kMhaQueries + 16 * l, sum[r][l]);
  }
}

// e^x for x <= 0, within 1e-5: more than BF16 probabilities need.
DSV32_BF16 inline __m512 exp_below_zero(__m512 x) {
  const __m512 scaled =
      _mm512_max_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _mm512_set1_ps(-126.0f));
  const __m512 whole = _mm512_roundscale_ps(scaled, _MM_FROUND_TO_NEAREST_INT);
  const __m512 r = _mm512_sub_ps(scaled, whole);
  __m512 p = _mm512_set1_ps(0.00961813f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0555041f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.240226507f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693147181f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(p, whole);
}

DSV32_BF16 inline __m512i rounded(__m512 x) {
  return _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
}

// Scores of one block to pairs of probabilities; best, total and keep of sixteen queries.
DSV32_BF16 void soften(Scratch& s, int lane) {
  const __m512 scale = _mm512_set1_ps(kScale);
  const __m512 old_best = _mm512_loadu_ps(s.best + lane);
  __m512 best = old_best;
  for (int k = 0; k < kMhaKeys; ++k)
    best = _mm512_max_ps(best, _mm512_mul_ps(_mm512_loadu_ps(&s.scores[k][lane]), scale));
  const __m512 keep = exp_below_zero(_mm512_sub_ps(old_best, best));
  __m512 total = _mm512_mul_ps(_mm512_loadu_ps(s.total + lane), keep);
  for (int k = 0; k < kMhaKeys; k += 2) {
    const __m512 a =
        exp_below_zero(_mm512_fmsub_ps(_mm512_loadu_ps(&s.scores[k][lane]), scale, best));
    const __m512 b =
        exp_below_zero(_mm512_fmsub_ps(_mm512_loadu_ps(&s.scores[k + 1][lane]), scale, best));
    total = _mm512_add_ps(total, _mm512_add_ps(a, b));
    const __m512i low = _mm512_srli_epi32(rounded(a), 16);
    const __m512i high = _mm512_and_si512(rounded(b), _mm512_set1_epi32(-65536));
    _mm512_storeu_si512(&s.pairs[k / 2][lane], _mm512_or_si512(low, high));
  }
  _mm512_storeu_ps(s.best + lane, best);
  _mm512_storeu_ps(s.total + lane, total);
  _mm512_storeu_ps(s.keep + lane, keep);
}

// `bytes` to come soon, into the second-level cache. Always inline: GCC 12 drops calls to a
// function that only prefetches.
[[gnu::always_inline]] inline void fetch(const std::byte* data, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += 64) _mm_prefetch(data + i, _MM_HINT_T1);
}

}  // namespace

void MhaHead::attend(int length) {
  auto& s = *reinterpret_cast<Scratch*>(scratch_.get());
  std::fill_n(&s.out[0][0], kMhaValue * kMhaQueries, 0.0f);
  std::fill_n(s.best, kMhaQueries, -1e30f);
  std::fill_n(s.total, kMhaQueries, 0.0f);
  for (int first = 0; first < length; first += kMhaKeys) {
    const std::byte* keys = keys_.get() + static_cast<std::size_t>(first) * kMhaWidth * 2;
    for (int k = 0; k < kMhaKeys; k += kTile) {
      // The same place of the next block; behind the last one the address is never read.
      fetch(keys + static_cast<std::size_t>(kMhaKeys + k) * kMhaWidth * 2, kTile * kMhaWidth * 2);
      tile(keys + static_cast<std::size_t>(k) * kMhaWidth * 2, queries_.get(), kMhaWidth / 2,
           nullptr, s.scores[k]);
    }
    for (int lane = 0; lane < kMhaQueries; lane += 16) soften(s, lane);
    const std::byte* values = values_.get() + static_cast<std::size_t>(first) * kMhaValue * 2;
    for (int d = 0; d < kMhaValue; d += kTile) {
      constexpr std::int64_t kPart = kMhaKeys * kMhaValue * 2 / (kMhaValue / kTile);
      const std::byte* part = values + std::int64_t{d} / kTile * kPart;
      fetch(part + std::int64_t{kMhaKeys} * kMhaValue * 2, kPart);
      tile(part, reinterpret_cast<const std::byte*>(s.pairs), kMhaKeys / 2, s.keep, s.out[d]);
    }
  }
}
#else
void MhaHead::attend(int) {}
#endif

double MhaHead::deviation(int length) const {
  const auto& s = *reinterpret_cast<const Scratch*>(scratch_.get());
  std::vector<double> scores, expected(kMhaValue, 0.0);
  double best = -1e30, total = 0;
  for (int k = 0; k < length; ++k) {
    double sum = 0;
    for (int c = 0; c < kMhaWidth; ++c) {
      const std::int64_t query = std::int64_t{c / 2} * kMhaQueries * 2 + c % 2;
      const std::int64_t key =
          (std::int64_t{k / kTile} * (kMhaWidth / 2) + c / 2) * kTile * 2 + k % kTile * 2 + c % 2;
      sum += value_of(queries_.get(), query) * value_of(keys_.get(), key);
    }
    scores.push_back(sum * static_cast<double>(kScale));
    best = std::max(best, scores.back());
  }
  for (int k = 0; k < length; ++k) {
    const double weight = std::exp(scores[static_cast<std::size_t>(k)] - best);
    total += weight;
    for (int d = 0; d < kMhaValue; ++d) {
      const std::int64_t place = std::int64_t{k / kMhaKeys} * kMhaKeys * kMhaValue +
                                 (d / kTile * (kMhaKeys / 2) + k % kMhaKeys / 2) * kTile * 2 +
                                 d % kTile * 2 + k % 2;
      expected[static_cast<std::size_t>(d)] += weight * value_of(values_.get(), place);
    }
  }
  double worst = 0, size = 1e-30;
  for (int d = 0; d < kMhaValue; ++d) {
    const double want = expected[static_cast<std::size_t>(d)] / total;
    const double off = std::fabs(static_cast<double>(s.out[d][0] / s.total[0]) - want);
    worst = std::max(worst, std::isnan(off) ? INFINITY : off);
    size = std::max(size, std::fabs(want));
  }
  return worst / size;
}

}  // namespace dsv32::bench
