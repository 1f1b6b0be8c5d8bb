// PTX ISA 9.7.3 "Floating-Point Instructions". What the hardware approximates (.approx, .full) is
// computed as exactly as the host's library does; .ftz makes zeroes of subnormal numbers, of
// sources and results; .sat keeps results in [0, 1].
#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>

#include "tests/ptxemu/numbers.h"
#include "tests/ptxemu/rows.h"

namespace dsv32::ptxemu {
namespace {

template <bool Ftz, class T>
T flushed(T x) {
  if (!Ftz) return x;
  return std::fabs(x) < std::numeric_limits<T>::min() ? std::copysign(T{0}, x) : x;
}

template <bool Sat, class T>
T limited(T x) {
  if (!Sat) return x;
  return x > T{0} ? (x < T{1} ? x : T{1}) : T{0};
}

template <class F, class T, bool Ftz, bool Sat>
struct One {
  T operator()(T a) const { return limited<Sat>(flushed<Ftz>(F{}(flushed<Ftz>(a)))); }
};
template <class F, class T, bool Ftz, bool Sat>
struct Two {
  T operator()(T a, T b) const {
    return limited<Sat>(flushed<Ftz>(F{}(flushed<Ftz>(a), flushed<Ftz>(b))));
  }
};
template <class F, class T, bool Ftz, bool Sat>
struct Three {
  T operator()(T a, T b, T c) const {
    return limited<Sat>(flushed<Ftz>(F{}(flushed<Ftz>(a), flushed<Ftz>(b), flushed<Ftz>(c))));
  }
};

// "add" becomes add.f32, add.ftz.f32, add.sat.f32, add.ftz.sat.f32.
template <template <class, class, bool, bool> class Shape, class F>
void add_f32(Rows& rows, const std::string& name, F) {
  add(rows, name + ".f32", Shape<F, float, false, false>{});
  add(rows, name + ".ftz.f32", Shape<F, float, true, false>{});
  add(rows, name + ".sat.f32", Shape<F, float, false, true>{});
  add(rows, name + ".ftz.sat.f32", Shape<F, float, true, true>{});
}

// PTX ISA, min and max: a number beside a NaN is the result, and +0 is more than -0.
template <class T>
T smaller(T a, T b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}
template <class T>
T larger(T a, T b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}
template <class T>
T or_nan(T a, T b, T result) {
  return a != a || b != b ? std::numeric_limits<T>::quiet_NaN() : result;
}

// An operation in another rounding. Through volatile, or it would move out of the brackets.
template <int Mode, class F, class T>
T in_mode(F f, T a, T b, T c) {
  volatile T x = a, y = b, z = c;
  std::fesetround(Mode);
  volatile T result = f(x, y, z);
  std::fesetround(FE_TONEAREST);
  return result;
}

template <int Mode, class T>
void add_rounded(Rows& rows, const std::string& mode, const std::string& type) {
  const std::string end = "." + mode + "." + type;
  add(rows, "add" + end,
      [](T a, T b) { return in_mode<Mode>([](T x, T y, T) { return x + y; }, a, b, b); });
  add(rows, "sub" + end,
      [](T a, T b) { return in_mode<Mode>([](T x, T y, T) { return x - y; }, a, b, b); });
  add(rows, "mul" + end,
      [](T a, T b) { return in_mode<Mode>([](T x, T y, T) { return x * y; }, a, b, b); });
  add(rows, "div" + end,
      [](T a, T b) { return in_mode<Mode>([](T x, T y, T) { return x / y; }, a, b, b); });
  add(rows, "fma" + end, [](T a, T b, T c) {
    return in_mode<Mode>([](T x, T y, T z) { return std::fma(x, y, z); }, a, b, c);
  });
  add(rows, "rcp" + end,
      [](T a) { return in_mode<Mode>([](T x, T, T) { return T{1} / x; }, a, a, a); });
  add(rows, "sqrt" + end,
      [](T a) { return in_mode<Mode>([](T x, T, T) { return std::sqrt(x); }, a, a, a); });
}

template <class T>
void add_rounded_type(Rows& rows, const std::string& type) {
  add_rounded<FE_TOWARDZERO, T>(rows, "rz", type);
  add_rounded<FE_DOWNWARD, T>(rows, "rm", type);
  add_rounded<FE_UPWARD, T>(rows, "rp", type);
}

void add_f32_rows(Rows& rows) {
  add_f32<Two>(rows, "add", [](float a, float b) { return a + b; });
  add_f32<Two>(rows, "sub", [](float a, float b) { return a - b; });
  add_f32<Two>(rows, "mul", [](float a, float b) { return a * b; });
  add_f32<Two>(rows, "div", [](float a, float b) { return a / b; });
  add_f32<Three>(rows, "fma", [](float a, float b, float c) { return std::fma(a, b, c); });
  add_f32<Three>(rows, "mad", [](float a, float b, float c) { return std::fma(a, b, c); });
  add_f32<One>(rows, "neg", [](float a) { return -a; });
  add_f32<One>(rows, "abs", [](float a) { return std::fabs(a); });
  add_f32<One>(rows, "rcp", [](float a) { return 1 / a; });
  add_f32<One>(rows, "sqrt", [](float a) { return std::sqrt(a); });
  add_f32<One>(rows, "rsqrt", [](float a) { return static_cast<float>(1 / std::sqrt(double{a})); });
  add_f32<One>(rows, "ex2", [](float a) { return std::exp2(a); });
  add_f32<One>(rows, "lg2", [](float a) { return std::log2(a); });
  add_f32<One>(rows, "sin", [](float a) { return std::sin(a); });
  add_f32<One>(rows, "cos", [](float a) { return std::cos(a); });
  add_f32<One>(rows, "tanh", [](float a) { return std::tanh(a); });
  add_f32<Two>(rows, "min", [](float a, float b) { return smaller(a, b); });
  add_f32<Two>(rows, "max", [](float a, float b) { return larger(a, b); });
  const auto min_nan = [](float a, float b) { return or_nan(a, b, smaller(a, b)); };
  const auto max_nan = [](float a, float b) { return or_nan(a, b, larger(a, b)); };
  add(rows, "min.NaN.f32", min_nan);
  add(rows, "max.NaN.f32", max_nan);
  add(rows, "min.ftz.NaN.f32", Two<decltype(min_nan), float, true, false>{});
  add(rows, "max.ftz.NaN.f32", Two<decltype(max_nan), float, true, false>{});
  add(rows, "copysign.f32", [](float a, float b) { return std::copysign(b, a); });
}

// The approximations of f64 know its upper half alone.
double upper_half(double x) {
  return std::bit_cast<double>(std::bit_cast<u64>(x) & 0xffff'ffff'0000'0000u);
}

void add_f64_rows(Rows& rows) {
  add(rows, "add.f64", [](double a, double b) { return a + b; });
  add(rows, "sub.f64", [](double a, double b) { return a - b; });
  add(rows, "mul.f64", [](double a, double b) { return a * b; });
  add(rows, "div.f64", [](double a, double b) { return a / b; });
  add(rows, "fma.f64", [](double a, double b, double c) { return std::fma(a, b, c); });
  add(rows, "mad.f64", [](double a, double b, double c) { return std::fma(a, b, c); });
  add(rows, "neg.f64", [](double a) { return -a; });
  add(rows, "abs.f64", [](double a) { return std::fabs(a); });
  add(rows, "rcp.f64", [](double a) { return 1 / a; });
  add(rows, "sqrt.f64", [](double a) { return std::sqrt(a); });
  add(rows, "rcp.ftz.f64", [](double a) { return upper_half(1 / flushed<true>(a)); });
  add(rows, "rsqrt.f64", [](double a) { return 1 / std::sqrt(a); });
  add(rows, "rsqrt.ftz.f64", [](double a) { return upper_half(1 / std::sqrt(flushed<true>(a))); });
  add(rows, "min.f64", [](double a, double b) { return smaller(a, b); });
  add(rows, "max.f64", [](double a, double b) { return larger(a, b); });
  add(rows, "copysign.f64", [](double a, double b) { return std::copysign(b, a); });
}

}  // namespace

void add_float_rows(Rows& rows) {
  add_f32_rows(rows);
  add_f64_rows(rows);
  add_rounded_type<float>(rows, "f32");
  add_rounded_type<double>(rows, "f64");
}

}  // namespace dsv32::ptxemu
