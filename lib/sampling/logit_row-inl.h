// The passes of logit_row.h, compiled once for each instruction set (isa_row_*.cc), in its
// namespace. Built without contraction: the wider registers change no bit. Static, and nothing of
// the standard library's templates: a weak symbol from here could end up on a machine that lacks
// the instructions.

constexpr std::size_t kLanes = 8;

using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));
using LaneBits = std::int32_t __attribute__((vector_size(kLanes * sizeof(float))));
using LaneWords = std::uint32_t __attribute__((vector_size(kLanes * sizeof(float))));

// 2^t in place, for t <= 0: n the nearest integer, a polynomial of t - n (Cephes' exp2f; paired
// terms wait less for one another), and n into the exponent. 0 below -124.
static inline void exp2_lanes(Lanes& t) {
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  const Lanes shifted = t + kRound;
  const Lanes f = t - (shifted - kRound), f2 = f * f;
  Lanes p = f * 1.535336188e-4f + 1.339887440e-3f;
  p = p * f2 + (f * 9.618437358e-3f + 5.550332471e-2f);
  p = p * f2 + (f * 2.402264791e-1f + 6.931472029e-1f);
  p = p * f + 1.0f;
  // Unsigned: far below -124 the exponent wraps, and the mask drops it.
  const LaneWords bits =
      reinterpret_cast<LaneWords>(p) + (reinterpret_cast<LaneWords>(shifted) << 23);
  t = reinterpret_cast<Lanes>(bits & reinterpret_cast<LaneWords>(t >= -124.0f));
}

static bool block_maxima(const float* row, std::size_t blocks, float* maxima) {
  LaneBits bad{};
  for (std::size_t b = 0; b < blocks; ++b, row += kLogitBlock) {
    Lanes best = Lanes{} - __builtin_inff();
    for (std::size_t i = 0; i < kLogitBlock; i += kLanes) {
      Lanes x;
      __builtin_memcpy(&x, row + i, sizeof x);
      bad |= ~(x < __builtin_inff());  // NaN, too
      best = x > best ? x : best;
    }
    maxima[b] = best[0];
    for (std::size_t i = 1; i < kLanes; ++i) maxima[b] = best[i] > maxima[b] ? best[i] : maxima[b];
  }
  std::int32_t any = 0;
  for (std::size_t i = 0; i < kLanes; ++i) any |= bad[i];
  return any == 0;
}

static void block_exp2(const float* row, std::size_t blocks, float best, float scale,
                       float* weights, double* sums) {
  for (std::size_t b = 0; b < blocks; ++b, row += kLogitBlock, weights += kLogitBlock) {
    Lanes sum{};
    for (std::size_t i = 0; i < kLogitBlock; i += kLanes) {
      Lanes w;
      __builtin_memcpy(&w, row + i, sizeof w);
      w = (w - best) * scale;
      exp2_lanes(w);
      sum += w;
      __builtin_memcpy(weights + i, &w, sizeof w);
    }
    sums[b] = static_cast<double>(((sum[0] + sum[4]) + (sum[2] + sum[6])) +
                                  ((sum[1] + sum[5]) + (sum[3] + sum[7])));
  }
}
