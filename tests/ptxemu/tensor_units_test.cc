// The arithmetic of tensor cores: outputs of real ones bit for bit, and the rule as ten lines of
// double precision say it.
#include "tests/ptxemu/tensor_units.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace dsv32::ptxemu::test {
namespace {

constexpr int kColumns = 8;

double e4m3_value(std::uint32_t bits) {
  const double sign = (bits & 0x80) != 0 ? -1 : 1;
  const int exponent = static_cast<int>(bits >> 3 & 15), fraction = static_cast<int>(bits & 7);
  if (exponent == 0) return sign * std::ldexp(fraction, -9);
  return sign * std::ldexp(8 + fraction, exponent - 10);
}

double value(TensorType type, std::uint16_t bits) {
  if (type == TensorType::e4m3) return e4m3_value(bits);
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// The bits of an element whose value a file holds as a float's bits.
std::uint16_t element(TensorType type, std::uint32_t word) {
  if (type == TensorType::bf16) {
    REQUIRE((word & 0xffff) == 0);
    return static_cast<std::uint16_t>(word >> 16);
  }
  const double wanted = std::bit_cast<float>(word);
  for (std::uint16_t bits = 0; bits < 256; ++bits) {
    if ((bits & 0x7f) == 0x7f) continue;
    if (e4m3_value(bits) == wanted && std::signbit(e4m3_value(bits)) == std::signbit(wanted)) {
      return bits;
    }
  }
  FAIL("no e4m3 number: " << wanted);
  return 0;
}

struct Unit {
  const char* file;
  Mode mode;
  TensorType type;
  TensorInstruction instruction;
  int k;        // products in a case
  bool with_c;  // c enters
};

// Eight cases at a time: case i is row i of a and column i of b, its output d[i][i]. The other
// outputs keep the unit busy with sums that are nobody's.
int matching_cases(const Unit& unit, const std::vector<std::uint32_t>& words) {
  const std::size_t k = static_cast<std::size_t>(unit.k), row = 2 * k + 2;
  int matching = 0;
  for (std::size_t first = 0; first + kColumns * row <= words.size(); first += kColumns * row) {
    std::vector<std::uint16_t> a(kColumns * k), b(k * kColumns);
    std::array<std::uint32_t, kColumns * kColumns> c{}, d{};
    for (std::size_t i = 0; i < kColumns; ++i) {
      const std::uint32_t* from = words.data() + first + i * row;
      for (std::size_t j = 0; j < k; ++j) {
        a[i * k + j] = element(unit.type, from[j]);
        b[j * kColumns + i] = element(unit.type, from[k + j]);
      }
      if (unit.with_c) c[i * kColumns + i] = from[2 * k];
    }
    tensor_mma(unit.mode, unit.type, unit.instruction, {kColumns, kColumns, unit.k}, a.data(),
               b.data(), c.data(), d.data());
    for (std::size_t i = 0; i < kColumns; ++i) {
      matching += d[i * kColumns + i] == words[first + i * row + 2 * k + 1] ? 1 : 0;
    }
  }
  return matching;
}

// All 400 outputs of a real unit; the files lie beside the sources, or nowhere.
void check_unit(const Unit& unit) {
  const std::string path =
      std::string(DSV32_SHARED_DIR) + "/conformance/tensor_core/" + unit.file + ".u32";
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    std::printf("skipped: no file %s\n", path.c_str());
    return;
  }
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  std::vector<std::uint32_t> words(bytes.size() / 4);
  for (std::size_t i = 0; i < words.size(); ++i) {
    for (std::size_t j = 4; j-- > 0;) {
      words[i] = words[i] << 8 | static_cast<unsigned char>(bytes[i * 4 + j]);
    }
  }
  REQUIRE(words.size() == 400 * (2 * static_cast<std::size_t>(unit.k) + 2));
  CHECK(tensor_refusal(unit.mode, unit.type, unit.instruction) == nullptr);
  CHECK(matching_cases(unit, words) == 400);
}

int exponent_of(double x, int lowest) { return std::max(std::ilogb(x), lowest); }

// One step as the rule is written down. Everything here is exact in double precision.
double plain_step(const TensorRule& rule, int lowest, const std::vector<std::array<double, 2>>& ab,
                  double c) {
  int top = c != 0 ? exponent_of(c, -126) : -132;
  for (const auto& [a, b] : ab) {
    if (a != 0 && b != 0) top = std::max(top, exponent_of(a, lowest) + exponent_of(b, lowest));
  }
  const int unit = std::max(top, -132) - rule.fraction;
  double sum = std::trunc(std::ldexp(c, -unit));
  for (const auto& [a, b] : ab) sum += std::trunc(std::ldexp(a * b, -unit));
  if (sum == 0) return 0;
  const int last = exponent_of(std::ldexp(sum, unit), -126) - rule.result_fraction;
  return std::ldexp(std::trunc(std::ldexp(sum, unit - last)), last);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  // Any finite number of the type; about one in eight is a zero, one in eight subnormal.
  std::uint16_t element(TensorType type, int exponents) {
    const int fraction_bits = type == TensorType::bf16 ? 7 : 3;
    const int highest = type == TensorType::bf16 ? 254 : 14;
    const std::uint32_t bits = static_cast<std::uint32_t>(engine_());
    if (bits >> 29 == 0)
      return static_cast<std::uint16_t>((bits & 1) << (type == TensorType::bf16 ? 15 : 7));
    int field = std::min(
        highest, low_ + static_cast<int>((bits >> 8 & 0xff) % static_cast<unsigned>(exponents)));
    if (bits >> 29 == 1) field = 0;
    const std::uint32_t fraction = bits & ((1u << fraction_bits) - 1);
    const std::uint32_t sign = bits >> 28 & 1;
    return static_cast<std::uint16_t>(
        (sign << (type == TensorType::bf16 ? 8 : 4) | static_cast<std::uint32_t>(field))
            << fraction_bits |
        fraction);
  }
  void lowest_exponent(int field) { low_ = field; }
  std::uint32_t accumulator(int low, int exponents) {
    const std::uint32_t bits = static_cast<std::uint32_t>(engine_());
    if (bits % 5 == 0) return 0;
    const int field =
        std::clamp(low + static_cast<int>(engine_() % static_cast<unsigned>(exponents)), 0, 254);
    return (bits & 0x807fffff) | static_cast<std::uint32_t>(field) << 23;
  }

 private:
  std::mt19937_64 engine_;
  int low_ = 0;
};

struct Operands {
  TensorShape shape;
  std::vector<std::uint16_t> a, b;
  std::vector<std::uint32_t> c;
};

// Exponents of a and b in [low, low + exponents), of c around those of products.
Operands random_operands(Random& random, TensorType type, TensorShape shape, int low,
                         int exponents) {
  Operands out{shape, {}, {}, {}};
  random.lowest_exponent(low);
  for (int i = 0; i < shape.m * shape.k; ++i) out.a.push_back(random.element(type, exponents));
  for (int i = 0; i < shape.k * shape.n; ++i) out.b.push_back(random.element(type, exponents));
  const int bias = type == TensorType::bf16 ? 127 : 7;
  for (int i = 0; i < shape.m * shape.n; ++i) {
    out.c.push_back(random.accumulator(2 * (low - bias) + 127 - 10, 2 * exponents + 20));
  }
  return out;
}

std::vector<std::uint32_t> plain_mma(Mode mode, TensorType type, const Operands& x) {
  const TensorRule rule = tensor_rule(mode, type);
  std::vector<std::uint32_t> out;
  for (int i = 0; i < x.shape.m * x.shape.n; ++i) {
    const int row = i / x.shape.n, column = i % x.shape.n;
    double sum = std::bit_cast<float>(x.c[static_cast<std::size_t>(i)]);
    for (int first = 0; first < x.shape.k; first += rule.products) {
      std::vector<std::array<double, 2>> ab;
      for (int j = first; j < first + rule.products; ++j) {
        ab.push_back({value(type, x.a[static_cast<std::size_t>(row * x.shape.k + j)]),
                      value(type, x.b[static_cast<std::size_t>(j * x.shape.n + column)])});
      }
      sum = plain_step(rule, type == TensorType::bf16 ? -126 : -6, ab, sum);
    }
    out.push_back(std::bit_cast<std::uint32_t>(static_cast<float>(sum)));
  }
  return out;
}

std::vector<std::uint32_t> unit_mma(Mode mode, TensorType type, const Operands& x) {
  std::vector<std::uint32_t> d(x.c.size());
  const bool wgmma = mode == Mode::sm90 && type == TensorType::e4m3;
  tensor_mma(mode, type, wgmma ? TensorInstruction::wgmma : TensorInstruction::mma_sync, x.shape,
             x.a.data(), x.b.data(), x.c.data(), d.data());
  return d;
}

}  // namespace

TEST_CASE("tensor_core_h200_e4m3: what an H200's FP8 unit made of 400 cases") {
  check_unit({"h200_e4m3", Mode::sm90, TensorType::e4m3, TensorInstruction::wgmma, 32, false});
}

TEST_CASE("tensor_core_h200_bf16: what an H200's BF16 unit made of 400 cases") {
  check_unit({"h200_bf16", Mode::sm90, TensorType::bf16, TensorInstruction::mma_sync, 16, true});
}

TEST_CASE("tensor_core_ada_e4m3: what an Ada's FP8 unit made of 400 cases") {
  check_unit({"ada_e4m3", Mode::sm89, TensorType::e4m3, TensorInstruction::mma_sync, 32, true});
}

TEST_CASE("tensor_core_ada_bf16: what an Ada's BF16 unit made of 400 cases") {
  check_unit({"ada_bf16", Mode::sm89, TensorType::bf16, TensorInstruction::mma_sync, 8, true});
}

TEST_CASE("tensor_core_a100_bf16: what an A100's BF16 unit made of 400 cases") {
  check_unit({"a100_bf16", Mode::sm80, TensorType::bf16, TensorInstruction::mma_sync, 8, true});
}

TEST_CASE("tensor_core_rule: integers and double precision agree, subnormal numbers too") {
  Random random(2);
  for (const Mode mode : {Mode::sm80, Mode::sm89, Mode::sm90}) {
    for (int round = 0; round < 60; ++round) {
      // Fields of exponents: narrow, wide, at the subnormal end, where products of two are.
      const int low = std::array<int, 5>{120, 90, 0, 60, 55}[static_cast<std::size_t>(round % 5)];
      const int exponents =
          std::array<int, 5>{6, 60, 20, 8, 20}[static_cast<std::size_t>(round % 5)];
      const Operands x = random_operands(random, TensorType::bf16, {16, 16, 16}, low, exponents);
      CHECK(unit_mma(mode, TensorType::bf16, x) == plain_mma(mode, TensorType::bf16, x));
      if (mode == Mode::sm80) continue;
      const Operands y = random_operands(random, TensorType::e4m3, {16, 8, 32}, 0, 1 + round % 15);
      CHECK(unit_mma(mode, TensorType::e4m3, y) == plain_mma(mode, TensorType::e4m3, y));
    }
  }
}

TEST_CASE("tensor_core_order: a step's sum depends neither on its order nor on who is a") {
  Random random(3);
  for (const Mode mode : {Mode::sm80, Mode::sm89, Mode::sm90}) {
    const int k = tensor_rule(mode, TensorType::bf16).products;
    const Operands x = random_operands(random, TensorType::bf16, {8, 8, k}, 110, 30);
    Operands turned = x;  // k backwards, a and b exchanged, so d transposed
    for (int i = 0; i < 8; ++i) {
      for (int j = 0; j < k; ++j) {
        turned.a[static_cast<std::size_t>(i * k + j)] =
            x.b[static_cast<std::size_t>((k - 1 - j) * 8 + i)];
        turned.b[static_cast<std::size_t>(j * 8 + i)] =
            x.a[static_cast<std::size_t>(i * k + k - 1 - j)];
      }
      for (int j = 0; j < 8; ++j) {
        turned.c[static_cast<std::size_t>(i * 8 + j)] = x.c[static_cast<std::size_t>(j * 8 + i)];
      }
    }
    const auto straight = unit_mma(mode, TensorType::bf16, x);
    auto back = unit_mma(mode, TensorType::bf16, turned);
    for (int i = 0; i < 8; ++i) {
      for (int j = 0; j < i; ++j) {
        std::swap(back[static_cast<std::size_t>(i * 8 + j)],
                  back[static_cast<std::size_t>(j * 8 + i)]);
      }
    }
    CHECK(straight == back);
  }
}

TEST_CASE("tensor_core_ideal: an exact sum, rounded once to nearest") {
  Operands x{{1, 8, 16}, std::vector<std::uint16_t>(16), std::vector<std::uint16_t>(16 * 8), {}};
  x.c.assign(8, 0);
  x.a[0] = 0x3f80;  // 1
  x.b = std::vector<std::uint16_t>(16 * 8, 0x3f80);
  x.a[1] = 0x3300;  // 2^-25
  x.a[2] = 0x3300;  // both: half of 1's last bit, to even
  CHECK(unit_mma(Mode::ideal, TensorType::bf16, x)[3] == 0x3f800000);
  x.a[15] = 0x2900;  // 2^-45 more: up
  CHECK(unit_mma(Mode::ideal, TensorType::bf16, x)[3] == 0x3f800001);
  CHECK(unit_mma(Mode::sm90, TensorType::bf16, x)[3] == 0x3f800000);  // cut
  x.c[3] = 0xbf800000;
  CHECK(unit_mma(Mode::ideal, TensorType::bf16, x)[3] == 0x33800004);  // 2^-24 + 2^-45
}

TEST_CASE("tensor_core_special: infinity and NaN go their way, and touch one output") {
  for (const Mode mode : {Mode::ideal, Mode::sm80, Mode::sm89, Mode::sm90}) {
    Operands x{{2, 8, 16},
               std::vector<std::uint16_t>(32, 0x3f80),
               std::vector<std::uint16_t>(128, 0x3f80),
               {}};
    x.c.assign(16, 0);
    x.b[2] = 0x7f80;      // infinity in column 2
    x.b[8 + 3] = 0x7fc0;  // NaN in column 3
    x.b[4] = 0x7f80;      // infinity - infinity in column 4
    x.b[8 + 4] = 0xff80;
    x.c[8 + 5] = 0xff800000;  // c alone, in row 1
    const auto d = unit_mma(mode, TensorType::bf16, x);
    CHECK(d[0] == 0x41800000);
    CHECK(d[2] == 0x7f800000);
    CHECK(d[3] == 0x7fffffff);
    CHECK(d[4] == 0x7fffffff);
    CHECK(d[5] == 0x41800000);
    CHECK(d[8 + 5] == 0xff800000);
    x.a[0] = 0;  // 0 times infinity
    CHECK(unit_mma(mode, TensorType::bf16, x)[2] == 0x7fffffff);
  }
  Operands y{
      {1, 8, 32}, std::vector<std::uint16_t>(32, 0x38), std::vector<std::uint16_t>(256, 0x38), {}};
  y.c.assign(8, 0);
  y.b[1] = 0xff;  // e4m3's NaN
  const auto d = unit_mma(Mode::sm90, TensorType::e4m3, y);
  CHECK(d[0] == 0x42000000);
  CHECK(d[1] == 0x7fffffff);
}

TEST_CASE("tensor_core_refusals: what a chip has not, or nobody knows the bits of") {
  using Type = TensorType;
  using Instruction = TensorInstruction;
  CHECK(tensor_refusal(Mode::sm80, Type::e4m3, Instruction::mma_sync) != nullptr);
  CHECK(tensor_refusal(Mode::sm90, Type::e4m3, Instruction::mma_sync) != nullptr);
  CHECK(tensor_refusal(Mode::sm89, Type::e4m3, Instruction::wgmma) != nullptr);
  CHECK(tensor_refusal(Mode::sm80, Type::bf16, Instruction::wgmma) != nullptr);
  CHECK(tensor_refusal(Mode::ideal, Type::e4m3, Instruction::wgmma) == nullptr);
  CHECK(tensor_refusal(Mode::ideal, Type::e4m3, Instruction::mma_sync) == nullptr);
  CHECK(tensor_refusal(Mode::sm90, Type::bf16, Instruction::wgmma) == nullptr);
}

}  // namespace dsv32::ptxemu::test
