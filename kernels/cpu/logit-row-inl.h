// Topic logits: logit_maxima, logit_weights. Vectors of the compiler's, eight lanes in every set,
// and no fused product (the flags of kernel files): wider registers change no bit. `reference`
// alone has others.

constexpr int kRowLanes = 8;

using RowLanes = float __attribute__((vector_size(kRowLanes * sizeof(float))));
using RowInts = std::int32_t __attribute__((vector_size(kRowLanes * sizeof(float))));
using RowWords = std::uint32_t __attribute__((vector_size(kRowLanes * sizeof(float))));

// 2^t in place, for t <= 0: n the nearest integer, a polynomial of t - n (Cephes' exp2f; paired
// terms wait less for one another), and n into the exponent. 0 below -124.
static inline void exp2_row(RowLanes& t) {
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  const RowLanes shifted = t + kRound;
  const RowLanes f = t - (shifted - kRound), f2 = f * f;
  RowLanes p = f * 1.535336188e-4f + 1.339887440e-3f;
  p = p * f2 + (f * 9.618437358e-3f + 5.550332471e-2f);
  p = p * f2 + (f * 2.402264791e-1f + 6.931472029e-1f);
  p = p * f + 1.0f;
  // Unsigned: far below -124 the exponent wraps, and the mask drops it.
  const RowWords bits = reinterpret_cast<RowWords>(p) + (reinterpret_cast<RowWords>(shifted) << 23);
  t = reinterpret_cast<RowLanes>(bits & reinterpret_cast<RowWords>(t >= -124.0f));
}

static void logit_maxima(const LogitMaximaParams& p) {
  RowInts bad{};
  const float* row = p.row;
  for (std::int64_t b = 0; b < p.num_blocks; ++b, row += kLogitBlock) {
    RowLanes best = RowLanes{} - __builtin_inff();
    for (int i = 0; i < kLogitBlock; i += kRowLanes) {
      RowLanes x;
      __builtin_memcpy(&x, row + i, sizeof x);
      bad |= ~(x < __builtin_inff());  // NaN, too
      best = x > best ? x : best;
    }
    float largest = best[0];
    for (int i = 1; i < kRowLanes; ++i) largest = best[i] > largest ? best[i] : largest;
    p.maxima[b] = largest;
  }
  std::int32_t any = 0;
  for (int i = 0; i < kRowLanes; ++i) any |= bad[i];
  *p.usable = any == 0;
}

static void logit_weights(const LogitWeightsParams& p) {
  const float* row = p.row;
  float* weights = p.weights;
  for (std::int64_t b = 0; b < p.num_blocks; ++b, row += kLogitBlock, weights += kLogitBlock) {
    RowLanes sum{};
    for (int i = 0; i < kLogitBlock; i += kRowLanes) {
      RowLanes w;
      __builtin_memcpy(&w, row + i, sizeof w);
      w = (w - p.best) * p.scale;
      exp2_row(w);
      sum += w;
      __builtin_memcpy(weights + i, &w, sizeof w);
    }
    p.sums[b] = static_cast<double>(((sum[0] + sum[4]) + (sum[2] + sum[6])) +
                                    ((sum[1] + sum[5]) + (sum[3] + sum[7])));
  }
}
