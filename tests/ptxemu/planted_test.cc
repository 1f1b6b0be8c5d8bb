// Are the detectors any good? Kernels with one mistake planted, in their CUDA (with nvcc) or in
// their PTX. The kernels without one have to pass first, on every seed and order; a mistake counts
// as caught only by a wrong value or by a finding, never by a test program that ended badly.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>
#include <random>
#include <regex>
#include <sstream>

#include "tests/ptxemu/kernel_world.h"
#include "tests/ptxemu/numbers.h"

namespace dsv32::ptxemu {
namespace {

struct Outcome {
  bool wrong = false;
  std::string findings;
  bool caught() const { return wrong || !findings.empty(); }
};

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<std::uint16_t> random_bf16(std::size_t count, float size, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<std::uint16_t> values(count);
  for (std::uint16_t& value : values) value = to_bf16(size * normal(random));
  return values;
}

void compare(const std::vector<double>& expected, const std::vector<float>& found, double tolerance,
             Outcome& outcome) {
  double error = 0, size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    error += (expected[i] - found[i]) * (expected[i] - found[i]);
    size += expected[i] * expected[i];
  }
  // Not a number is wrong, too.
  outcome.wrong = outcome.wrong || !(std::sqrt(error) <= tolerance * std::sqrt(size));
}

// Rows that are no multiple of the tile; the output ends right behind the last one.
void run_gemm(World& world, const Module& module, Outcome& outcome) {
  constexpr int kM = 19, kN = 64, kK = 96;
  std::mt19937 random(1);
  const auto a = random_bf16(kM * kK, 1, random), b = random_bf16(kN * kK, 1, random);
  std::vector<double> expected(kM * kN);
  for (int m = 0; m < kM; ++m) {
    for (int n = 0; n < kN; ++n) {
      for (int k = 0; k < kK; ++k) {
        expected[static_cast<std::size_t>(m * kN + n)] +=
            double{from_bf16(a[static_cast<std::size_t>(m * kK + k)])} *
            from_bf16(b[static_cast<std::size_t>(n * kK + k)]);
      }
    }
  }
  const Address out = world.machine.allocate(kM * kN * sizeof(float), "c");
  const Report report =
      world.run_kernel(module, "planted_gemm", {{kN / 32, (kM + 15) / 16, 1}, {64, 1, 1}, 0, {}},
                       world.put(a, "a"), world.put(b, "b"), out, kM, kN, kK);
  outcome.findings += report.text();
  compare(expected, world.get<float>(out, kM * kN), 1e-5, outcome);
}

// `size`: of the queries. With large ones one key takes all, and a wrong maximum shows.
void run_attention(World& world, const Module& module, float size, Outcome& outcome) {
  constexpr int kHeads = 16, kWidth = 32, kTokens = 50, kCount = 41;
  constexpr float kScale = 0.2f * 1.44269504f;
  std::mt19937 random(2);
  const auto q = random_bf16(kHeads * kWidth, size, random);
  const auto keys = random_bf16(kTokens * kWidth, 1, random);
  std::vector<int> list(kCount);
  for (int i = 0; i < kCount; ++i) list[static_cast<std::size_t>(i)] = (i * 7 + 3) % kTokens;
  list[5] = list[38] = -1;
  std::vector<double> expected(kHeads * kWidth);
  for (int head = 0; head < kHeads; ++head) {
    std::vector<double> scores;
    for (const int token : list) {
      double score = 0;
      for (int i = 0; i < kWidth && token >= 0; ++i) {
        score += double{from_bf16(q[static_cast<std::size_t>(head * kWidth + i)])} *
                 from_bf16(keys[static_cast<std::size_t>(token * kWidth + i)]);
      }
      scores.push_back(token < 0 ? -INFINITY : score * kScale);
    }
    const double most = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& score : scores) sum += score = std::exp2(score - most);
    for (std::size_t at = 0; at < scores.size(); ++at) {
      for (int i = 0; i < kWidth && list[at] >= 0; ++i) {
        expected[static_cast<std::size_t>(head * kWidth + i)] +=
            scores[at] / sum * from_bf16(keys[static_cast<std::size_t>(list[at] * kWidth + i)]);
      }
    }
  }
  const Address out = world.machine.allocate(kHeads * kWidth * sizeof(float), "out");
  const Report report =
      world.run_kernel(module, "planted_attention", {{}, {64, 1, 1}, 0, {}}, world.put(q, "q"),
                       world.put(keys, "keys"), world.put(list, "list"), out, kCount, kScale);
  outcome.findings += report.text();
  // Probabilities are rounded to bf16.
  compare(expected, world.get<float>(out, kHeads * kWidth), 4e-3, outcome);
}

void run_top_k(World& world, const Module& module, bool ties, Outcome& outcome) {
  constexpr int kRows = 2, kN = 700, kK = 100;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> rows(kRows * kN);
  for (float& x : rows) x = ties ? static_cast<float>(random() % 7) - 3 : normal(random);
  std::vector<int> expected;
  for (int row = 0; row < kRows; ++row) {
    const float* x = rows.data() + row * kN;
    std::vector<int> order(kN);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return x[a] > x[b]; });
    std::sort(order.begin(), order.begin() + kK);
    expected.insert(expected.end(), order.begin(), order.begin() + kK);
  }
  const Address out = world.machine.allocate(kRows * kK * sizeof(int), "out");
  const Report report =
      world.run_kernel(module, "planted_top_k", {{kRows, 1, 1}, {128, 1, 1}, 0, {}},
                       world.put(rows, "rows"), out, kN, kK);
  outcome.findings += report.text();
  outcome.wrong = outcome.wrong || world.get<int>(out, kRows * kK) != expected;
}

Outcome outcome_of(const std::string& ptx, const Options& options) {
  const Module module = parsed(ptx);
  World world;
  world.options = options;
  world.options.max_instructions = 300'000;
  Outcome outcome;
  run_gemm(world, module, outcome);
  run_attention(world, module, 0.5f, outcome);
  run_attention(world, module, 20.0f, outcome);
  run_attention(world, module, 300.0f, outcome);  // a maximum that is another head's: 0 or infinity
  run_top_k(world, module, false, outcome);
  run_top_k(world, module, true, outcome);
  return outcome;
}

void check_control(const std::string& ptx) {
  REQUIRE_FALSE(ptx.empty());
  for (const Mode mode : {Mode::ideal, Mode::sm80, Mode::sm89, Mode::sm90}) {
    for (const Order order : {Order::random, Order::forward, Order::backward}) {
      for (std::uint64_t seed = 1; seed <= (order == Order::random ? 3 : 1); ++seed) {
        Options options;
        options.mode = mode;
        options.order = order;
        options.seed = seed;
        options.eager = seed == 2;
        const Outcome outcome = outcome_of(ptx, options);
        INFO(outcome.findings);
        REQUIRE_FALSE(outcome.wrong);
        REQUIRE(outcome.findings.empty());
      }
    }
  }
}

std::string control_text() {
  return read_file(DSV32_SOURCE_DIR "/tests/ptxemu/planted/kernels.ptx");
}

// The n-th place where `pattern` matches is replaced.
std::string with_change(const std::string& text, const std::string& pattern,
                        const std::string& replacement, int n) {
  const std::regex expression(pattern);
  auto at = std::sregex_iterator(text.begin(), text.end(), expression);
  for (; n > 0 && at != std::sregex_iterator(); --n) ++at;
  REQUIRE(at != std::sregex_iterator());
  const auto begin = static_cast<std::size_t>(at->position());
  return text.substr(0, begin) + at->format(replacement) +
         text.substr(begin + static_cast<std::size_t>(at->length()));
}

TEST_CASE("the kernels without a mistake are right and clean") { check_control(control_text()); }

struct Mutant {
  const char* what;
  const char* pattern;
  const char* replacement;
  int n;
};

TEST_CASE("mistakes in PTX are caught") {
  const std::string control = control_text();
  REQUIRE_FALSE(outcome_of(control, {}).caught());
  static constexpr Mutant kMutants[] = {
      {"operands of cvt.rn.bf16x2 swapped", R"(cvt\.rn\.bf16x2\.f32 (%r\d+), (%f\d+), (%f\d+))",
       "cvt.rn.bf16x2.f32 $1, $3, $2", 0},
      {"a wait too weak, gemm", R"(wait_group 1)", "wait_group 2", 0},
      {"a wait too weak, attention", R"(wait_group 1)", "wait_group 2", 1},
      {"words of a fragment of A swapped", R"(\}, \{(%r\d+), (%r\d+), (%r\d+), (%r\d+)\})",
       "}, {$1, $3, $2, $4}", 0},
      {"words of the accumulator swapped", R"(f32 \{(%f\d+), (%f\d+), (%f\d+), (%f\d+)\})",
       "f32 {$1, $3, $2, $4}", 0},
      {".trans forgotten", R"(x4\.trans)", "x4", 0},
      {".trans too many", R"(x4\.shared)", "x4.trans.shared", 1},
      {"a vote inverted", R"(ballot\.b32\s+(%r\d+), (%p\d+))", "ballot.b32 $1, !$2", 1},
      {"a shuffle the other way", R"(shfl\.sync\.up)", "shfl.sync.down", 0},
      {"a shuffle among too few",
       R"(shfl\.sync\.bfly\.b32\s+(\S+), (%r\d+), (%r\d+), (%r\d+), (%r\d+))",
       "shfl.sync.bfly.b32 $1, $2, $3, $4, 0x0000ffff", 0},
      {"an atomic that is none", R"(atom\.shared\.add\.u32\s+(%r\d+), \[(%r\d+)\], 1;)",
       "ld.shared.u32 $1, [$2]; add.u32 $1, $1, 1; st.shared.u32 [$2], $1;", 0},
      {"a sum that is a difference", R"(add\.f32)", "sub.f32", 1},
      {"a warp's barrier gone", R"(bar\.warp\.sync[^;]*;)", "", 0},
  };
  for (const Mutant& mutant : kMutants) {
    INFO(mutant.what);
    CHECK(outcome_of(with_change(control, mutant.pattern, mutant.replacement, mutant.n), {})
              .caught());
  }
}

TEST_CASE("each barrier that is taken away is missed") {
  const std::string control = control_text();
  const std::regex barrier(R"(bar\.sync\s+0;)");
  const auto count = std::distance(std::sregex_iterator(control.begin(), control.end(), barrier),
                                   std::sregex_iterator());
  CHECK(count >= 12);
  for (int n = 0; n < count; ++n) {
    const Outcome outcome = outcome_of(with_change(control, R"(bar\.sync\s+0;)", "", n), {});
    INFO("barrier " << n << " of " << count);
    CHECK(outcome.caught());
  }
}

#ifdef DSV32_PLANTED_DIR
struct Bug {
  int number;
  const char* what;
};
constexpr Bug kBugs[] = {
    {11, "gemm: a wait too weak"},
    {12, "gemm: no barrier behind the wait"},
    {13, "gemm: another swizzle where B is read"},
    {14, "gemm: no barrier before a buffer is filled again"},
    {15, "gemm: row M is written"},
    {21, "attention: -1 in the list is gathered"},
    {22, "attention: no barrier between the copy and the scores"},
    {23, "attention: another distance in the shuffle for the maximum"},
    {24, "attention: no barrier around the shared maximum"},
    {25, "attention: the sums are not scaled when the maximum changes"},
    {26, "attention: no barrier between probabilities and their product"},
    {31, "top k: no barrier behind clearing the counts"},
    {32, "top k: no barrier behind choosing a digit"},
    {33, "top k: one position too far"},
    {34, "top k: no barrier at the end of a round"},
    {35, "top k: no __syncwarp between reads of a word and the write by one lane"},
};

TEST_CASE("mistakes in CUDA are caught") {
  check_control(read_file(DSV32_PLANTED_DIR "/bug_0.ptx"));
  for (const Bug& bug : kBugs) {
    const std::string ptx =
        read_file(DSV32_PLANTED_DIR "/bug_" + std::to_string(bug.number) + ".ptx");
    INFO(bug.number << ": " << bug.what);
    REQUIRE_FALSE(ptx.empty());
    CHECK(outcome_of(ptx, {}).caught());
  }
}
#endif

}  // namespace
}  // namespace dsv32::ptxemu
