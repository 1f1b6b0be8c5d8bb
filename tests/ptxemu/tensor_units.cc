#include "tests/ptxemu/tensor_units.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

// The work is done for eight columns of d at a time, so that no lane waits for another: maxima,
// shifts and sums of integers are vector instructions. The same code is compiled twice where that
// needs AVX2 to be fast (a shift of its own for each lane).
#if defined(__x86_64__)
#define PTXEMU_AVX2 __attribute__((target("avx2")))
#endif
#define PTXEMU_INLINE inline __attribute__((always_inline))

namespace dsv32::ptxemu {
namespace {

constexpr int kLanes = 8;
using Ints = std::int32_t __attribute__((vector_size(kLanes * 4)));
using Doubles = double __attribute__((vector_size(kLanes / 2 * 8)));  // of half the lanes

constexpr int kNoExponent = -100'000;       // of a zero: below all others, and so is the sum of two
constexpr int kLowestStep = -132;           // of E
constexpr int kFloatFraction = 23;          // bits behind the point of c
constexpr std::uint32_t kNan = 0x7fffffff;  // as tensor cores write it

struct Format {
  int exponent_bits, fraction_bits;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};

constexpr Format format_of(TensorType type) {
  return type == TensorType::bf16 ? Format{8, 7} : Format{4, 3};
}

// value = significand 2^(exponent - fraction bits); the significand has the sign.
struct Number {
  std::int32_t significand = 0, exponent = kNoExponent;
};

Number split(std::uint32_t bits, Format format) {
  const int fraction = static_cast<int>(bits & ((1u << format.fraction_bits) - 1));
  const int field =
      static_cast<int>(bits >> format.fraction_bits) & ((1 << format.exponent_bits) - 1);
  const bool negative = (bits >> (format.fraction_bits + format.exponent_bits) & 1) != 0;
  const int magnitude = field == 0 ? fraction : fraction | 1 << format.fraction_bits;
  if (magnitude == 0) return {};
  return {negative ? -magnitude : magnitude, std::max(field, 1) - format.bias()};
}

// Of infinity and NaN: the float that an element stands for.
bool is_special(std::uint32_t bits, TensorType type) {
  return type == TensorType::bf16 ? (bits & 0x7f80) == 0x7f80 : (bits & 0x7f) == 0x7f;
}

std::array<double, 256> e4m3_values() {
  std::array<double, 256> out;
  for (std::uint32_t bits = 0; bits < 256; ++bits) {
    const Number number = split(bits, format_of(TensorType::e4m3));
    const int unit = number.exponent - format_of(TensorType::e4m3).fraction_bits;
    out[bits] = is_special(bits, TensorType::e4m3) ? std::numeric_limits<double>::quiet_NaN()
                                                   : std::ldexp(number.significand, unit);
  }
  return out;
}

double value_of(std::uint32_t bits, TensorType type) {
  if (type == TensorType::bf16) return std::bit_cast<float>(bits << 16);
  static const std::array<double, 256> e4m3 = e4m3_values();
  return e4m3[bits & 0xff];
}

// A strip of operands: all k of one row of a, and of eight columns of b.
struct Columns {
  std::vector<Ints> significand, exponent;  // [k]
  std::vector<Doubles> value;               // [k][2], for the ideal sum
};

struct Rows {
  std::vector<Number> number;  // [m][k]
  std::vector<double> value;
};

struct Strip {
  TensorShape shape;
  TensorRule rule;
  int product_fraction = 0;  // bits behind the point of a product of significands
  const Rows* a = nullptr;
  const Columns* b = nullptr;
};

// total 2^scale, cut to `fraction` bits behind the leading one; a subnormal float keeps that many
// behind the lowest exponent's.
std::uint32_t cut(std::int64_t total, int scale, int fraction) {
  if (total == 0) return 0;
  const std::uint32_t sign = total < 0 ? 0x80000000u : 0;
  const std::uint64_t magnitude = static_cast<std::uint64_t>(total < 0 ? -total : total);
  const int exponent = static_cast<int>(std::bit_width(magnitude)) - 1 + scale;
  if (exponent > 127) return sign | 0x7f800000u;
  const int unit = std::max(exponent, -126) - fraction;  // the last bit that stays
  if (unit - scale >= 64) return 0;
  std::uint64_t kept = unit > scale ? magnitude >> (unit - scale) : magnitude << (scale - unit);
  if (kept == 0) return 0;
  kept <<= kFloatFraction - fraction;
  const std::uint32_t field = exponent < -126 ? 0 : static_cast<std::uint32_t>(exponent + 127);
  return sign | field << kFloatFraction | (static_cast<std::uint32_t>(kept) & 0x7fffff);
}

PTXEMU_INLINE Ints larger(Ints x, Ints y) { return x > y ? x : y; }
PTXEMU_INLINE Ints magnitude_of(Ints x) { return x < 0 ? -x : x; }

// One step for eight outputs of a row: products [first, first + rule.products) and c.
PTXEMU_INLINE void hardware_step(const Strip& strip, int row, int first, std::uint32_t* d) {
  const TensorRule& rule = strip.rule;
  const Number* a =
      strip.a->number.data() + static_cast<std::ptrdiff_t>(row) * strip.shape.k + first;
  const Ints* b = strip.b->significand.data() + first;
  const Ints* b_exponent = strip.b->exponent.data() + first;
  Ints c{}, c_exponent{};
  for (int lane = 0; lane < kLanes; ++lane) {
    const Number number = split(d[lane], {8, kFloatFraction});
    c[lane] = number.significand;
    c_exponent[lane] = number.exponent;
  }
  Ints top = larger(c_exponent, Ints{} + kLowestStep);
  for (int i = 0; i < rule.products; ++i) top = larger(top, a[i].exponent + b_exponent[i]);
  // A product of significands is below 2^16 (bf16), cut at F it is below 2^(F + 2): sixteen with
  // F = 25, or 32 with F = 13, fit 32 bits. c does not any more.
  const int up = rule.fraction - strip.product_fraction;
  Ints sum{};
  for (int i = 0; i < rule.products; ++i) {
    const Ints product = a[i].significand * b[i];
    const Ints down = top - (a[i].exponent + b_exponent[i]);
    const Ints term = (magnitude_of(product) << up) >> (down > 31 ? Ints{} + 31 : down);
    sum += product < 0 ? -term : term;
  }
  const Ints c_down = top - c_exponent + std::max(kFloatFraction - rule.fraction, 0);
  const Ints c_term = (magnitude_of(c) << std::max(rule.fraction - kFloatFraction, 0)) >>
                      (c_down > 31 ? Ints{} + 31 : c_down);
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::int64_t total =
        std::int64_t{sum[lane]} + (c[lane] < 0 ? -c_term[lane] : c_term[lane]);
    d[lane] = cut(total, top[lane] - rule.fraction, rule.result_fraction);
  }
}

PTXEMU_INLINE void hardware_rows(const Strip& strip, int stride, std::uint32_t* d) {
  for (int row = 0; row < strip.shape.m; ++row) {
    for (int first = 0; first < strip.shape.k; first += strip.rule.products) {
      hardware_step(strip, row, first, d + static_cast<std::ptrdiff_t>(row) * stride);
    }
  }
}

PTXEMU_INLINE void ideal_rows(const Strip& strip, int stride, std::uint32_t* d) {
  const Doubles* b = strip.b->value.data();
  for (int row = 0; row < strip.shape.m; ++row, d += stride) {
    const double* a = strip.a->value.data() + static_cast<std::ptrdiff_t>(row) * strip.shape.k;
    Doubles low{}, high{};
    for (int i = 0; i < strip.shape.k; ++i) {
      low += a[i] * b[2 * i];
      high += a[i] * b[2 * i + 1];
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      const double sum = lane < kLanes / 2 ? low[lane] : high[lane - kLanes / 2];
      const double total = sum + static_cast<double>(std::bit_cast<float>(d[lane]));
      d[lane] = std::bit_cast<std::uint32_t>(static_cast<float>(total));
    }
  }
}

void rows_plainly(const Strip& strip, bool ideal, int stride, std::uint32_t* d) {
  ideal ? ideal_rows(strip, stride, d) : hardware_rows(strip, stride, d);
}

#if defined(PTXEMU_AVX2)
PTXEMU_AVX2 void rows_avx2(const Strip& strip, bool ideal, int stride, std::uint32_t* d) {
  ideal ? ideal_rows(strip, stride, d) : hardware_rows(strip, stride, d);
}
#endif

void rows(const Strip& strip, bool ideal, int stride, std::uint32_t* d) {
#if defined(PTXEMU_AVX2)
  static const bool avx2 = __builtin_cpu_supports("avx2") != 0;
  if (avx2) return rows_avx2(strip, ideal, stride, d);
#endif
  rows_plainly(strip, ideal, stride, d);
}

Rows read_rows(TensorType type, TensorShape shape, bool ideal, const std::uint16_t* a) {
  const std::size_t count = static_cast<std::size_t>(shape.m) * static_cast<std::size_t>(shape.k);
  Rows out;
  if (ideal) {
    out.value.resize(count);
    for (std::size_t i = 0; i < count; ++i) out.value[i] = value_of(a[i], type);
  } else {
    out.number.resize(count);
    for (std::size_t i = 0; i < count; ++i) out.number[i] = split(a[i], format_of(type));
  }
  return out;
}

void read_columns(TensorType type, TensorShape shape, bool ideal, const std::uint16_t* b,
                  Columns& out) {
  const std::size_t k = static_cast<std::size_t>(shape.k);
  out.significand.resize(ideal ? 0 : k);
  out.exponent.resize(ideal ? 0 : k);
  out.value.resize(ideal ? 2 * k : 0);
  for (std::size_t i = 0; i < k; ++i, b += shape.n) {
    for (int lane = 0; lane < kLanes; ++lane) {
      if (ideal) {
        out.value[2 * i + (lane >= kLanes / 2 ? 1 : 0)][lane % (kLanes / 2)] =
            value_of(b[lane], type);
        continue;
      }
      const Number number = split(b[lane], format_of(type));
      out.significand[i][lane] = number.significand;
      out.exponent[i][lane] = number.exponent;
    }
  }
}

// Infinity and NaN: what IEEE 754 says, whatever the order; the NaN is the hardware's.
void put_special(TensorType type, TensorShape shape, const std::uint16_t* a, const std::uint16_t* b,
                 const std::vector<std::uint32_t>& c, std::uint32_t* d) {
  for (int i = 0; i < shape.m * shape.n; ++i) {
    const std::uint16_t* row = a + static_cast<std::ptrdiff_t>(i / shape.n) * shape.k;
    const std::uint16_t* column = b + i % shape.n;
    double sum = std::bit_cast<float>(c[static_cast<std::size_t>(i)]);
    bool special = !std::isfinite(sum);
    for (int j = 0; j < shape.k; ++j) {
      const std::uint16_t other = column[static_cast<std::ptrdiff_t>(j) * shape.n];
      special = special || is_special(row[j], type) || is_special(other, type);
      sum += value_of(row[j], type) * value_of(other, type);
    }
    if (!special) continue;
    d[i] = std::isnan(sum) ? kNan : std::bit_cast<std::uint32_t>(static_cast<float>(sum));
  }
}

bool any_special(TensorType type, TensorShape shape, const std::uint16_t* a, const std::uint16_t* b,
                 const std::uint32_t* c) {
  // Counted to the end, without a branch: a loop of vector instructions.
  int found = 0;
  for (int i = 0; i < shape.m * shape.k; ++i) found += is_special(a[i], type) ? 1 : 0;
  for (int i = 0; i < shape.k * shape.n; ++i) found += is_special(b[i], type) ? 1 : 0;
  for (int i = 0; i < shape.m * shape.n; ++i) found += (c[i] & 0x7f800000) == 0x7f800000 ? 1 : 0;
  return found != 0;
}

}  // namespace

const char* tensor_refusal(Mode mode, TensorType type, TensorInstruction instruction) {
  if (mode == Mode::ideal) return nullptr;
  if (instruction == TensorInstruction::wgmma) {
    if (mode != Mode::sm90) return "wgmma is sm_90a's alone";
    return nullptr;
  }
  if (type == TensorType::e4m3) {
    if (mode == Mode::sm80) return "mma.sync of e4m3 needs sm_89";
    if (mode == Mode::sm90)
      return "mma.sync of e4m3 on sm_90 is another unit, whose sums are unknown";
  }
  return nullptr;
}

TensorRule tensor_rule(Mode mode, TensorType type) {
  if (type == TensorType::e4m3) return {mode == Mode::sm90 ? 32 : 16, 13, 13};
  if (mode == Mode::sm90) return {16, 25, 23};
  return {8, 24, 23};
}

void tensor_mma(Mode mode, TensorType type, TensorInstruction, TensorShape shape,
                const std::uint16_t* a, const std::uint16_t* b, const std::uint32_t* c,
                std::uint32_t* d) {
  const bool ideal = mode == Mode::ideal;
  const std::size_t outputs = static_cast<std::size_t>(shape.m) * static_cast<std::size_t>(shape.n);
  const bool special = any_special(type, shape, a, b, c);
  std::vector<std::uint32_t> kept;
  if (special) kept.assign(c, c + outputs);
  if (d != c) std::memcpy(d, c, outputs * sizeof *d);
  const Rows left = read_rows(type, shape, ideal, a);
  Columns right;
  Strip strip{shape, tensor_rule(mode, type), 2 * format_of(type).fraction_bits, &left, &right};
  for (int column = 0; column < shape.n; column += kLanes) {
    read_columns(type, shape, ideal, b + column, right);
    rows(strip, ideal, shape.n, d + column);
  }
  if (special) put_special(type, shape, a, b, kept, d);
}

}  // namespace dsv32::ptxemu
