// PTX ISA 9.7.4 "Half Precision Floating-Point Instructions": f16 and bf16, one or two in a
// register. Each result is the exact one, rounded once.
#include <cmath>
#include <limits>

#include "tests/ptxemu/numbers.h"
#include "tests/ptxemu/rows.h"

namespace dsv32::ptxemu {
namespace {

struct F16 {
  static constexpr const char* kName = "f16";
  static double from(u32 bits) { return decode(bits, kF16); }
  static u16 to(double x) { return to_f16(x); }
};
struct Bf16 {
  static constexpr const char* kName = "bf16";
  static double from(u32 bits) { return from_bf16(bits & 0xffff); }
  static u16 to(double x) { return static_cast<u16>(encode(x, kBf16, Rounding::nearest, false)); }
};

// a * b + c with its last bit set if anything was cut, so that rounding again to fewer bits is
// right: a * b is exact in a double.
double exact_enough(double a, double b, double c) {
  const double product = a * b;
  const double sum = product + c;
  if (!std::isfinite(sum)) return sum;
  const double c_there = sum - product;
  const double rest = (product - (sum - c_there)) + (c - c_there);
  if (rest == 0 || (std::bit_cast<u64>(sum) & 1) != 0) return sum;
  return std::nextafter(sum, rest > 0 ? std::numeric_limits<double>::infinity()
                                      : -std::numeric_limits<double>::infinity());
}

double smallest(double a, double b) {
  if (a != a) return b;
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}
double largest(double a, double b) { return -smallest(-a, -b); }
double nan_or(double a, double b, double result) {
  return a != a || b != b ? std::numeric_limits<double>::quiet_NaN() : result;
}
double saturated(double x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
double relu(double x) { return x != x ? x : (x > 0 ? x : 0); }

template <class Type, class F>
void add_one(Rows& rows, const std::string& name, F) {
  const std::string type = Type::kName;
  add(rows, name + "." + type, [](u16 a) { return Type::to(F{}(Type::from(a))); });
  add(rows, name + "." + type + "x2", [](u32 a) {
    const u32 low = Type::to(F{}(Type::from(a & 0xffff)));
    return low | u32{Type::to(F{}(Type::from(a >> 16)))} << 16;
  });
}

template <class Type, class F>
void add_two(Rows& rows, const std::string& name, F) {
  const std::string type = Type::kName;
  add(rows, name + "." + type,
      [](u16 a, u16 b) { return Type::to(F{}(Type::from(a), Type::from(b))); });
  add(rows, name + "." + type + "x2", [](u32 a, u32 b) {
    const u32 low = Type::to(F{}(Type::from(a & 0xffff), Type::from(b & 0xffff)));
    return low | u32{Type::to(F{}(Type::from(a >> 16), Type::from(b >> 16)))} << 16;
  });
}

template <class Type, class F>
void add_three(Rows& rows, const std::string& name, F) {
  const std::string type = Type::kName;
  add(rows, name + "." + type, [](u16 a, u16 b, u16 c) {
    return Type::to(F{}(Type::from(a), Type::from(b), Type::from(c)));
  });
  add(rows, name + "." + type + "x2", [](u32 a, u32 b, u32 c) {
    const u32 low =
        Type::to(F{}(Type::from(a & 0xffff), Type::from(b & 0xffff), Type::from(c & 0xffff)));
    const u32 high = Type::to(F{}(Type::from(a >> 16), Type::from(b >> 16), Type::from(c >> 16)));
    return low | high << 16;
  });
}

template <class Type>
void add_format(Rows& rows) {
  add_two<Type>(rows, "add", [](double a, double b) { return a + b; });
  add_two<Type>(rows, "sub", [](double a, double b) { return a - b; });
  add_two<Type>(rows, "mul", [](double a, double b) { return a * b; });
  add_two<Type>(rows, "add.sat", [](double a, double b) { return saturated(a + b); });
  add_two<Type>(rows, "sub.sat", [](double a, double b) { return saturated(a - b); });
  add_two<Type>(rows, "mul.sat", [](double a, double b) { return saturated(a * b); });
  add_three<Type>(rows, "fma", [](double a, double b, double c) { return exact_enough(a, b, c); });
  add_three<Type>(rows, "fma.sat",
                  [](double a, double b, double c) { return saturated(exact_enough(a, b, c)); });
  add_three<Type>(rows, "fma.relu",
                  [](double a, double b, double c) { return relu(exact_enough(a, b, c)); });
  add_one<Type>(rows, "neg", [](double a) { return -a; });
  add_one<Type>(rows, "abs", [](double a) { return std::fabs(a); });
  add_two<Type>(rows, "min", [](double a, double b) { return smallest(a, b); });
  add_two<Type>(rows, "max", [](double a, double b) { return largest(a, b); });
  add_two<Type>(rows, "min.NaN", [](double a, double b) { return nan_or(a, b, smallest(a, b)); });
  add_two<Type>(rows, "max.NaN", [](double a, double b) { return nan_or(a, b, largest(a, b)); });
  add_one<Type>(rows, "ex2", [](double a) { return std::exp2(a); });
  add_one<Type>(rows, "ex2.ftz", [](double a) { return std::exp2(a); });
  add_one<Type>(rows, "tanh", [](double a) { return std::tanh(a); });
}

}  // namespace

void add_half_rows(Rows& rows) {
  add_format<F16>(rows);
  add_format<Bf16>(rows);
}

}  // namespace dsv32::ptxemu
