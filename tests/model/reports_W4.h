// What the tests of floating-point states share: states, and calls made in them.
#ifndef DSV32_TESTS_MODEL_REPORTS_W4_H_
#define DSV32_TESTS_MODEL_REPORTS_W4_H_
#if defined(__x86_64__)

#include <cstdint>
#include <exception>
#include <functional>
#include <span>
#include <string>

#include "dsv32/dsv32.h"

#include "tests/model/sessions.h"
#include "tests/support/catch.h"

namespace dsv32::test {

// MXCSR, and the x87's control word.
struct State {
  std::uint32_t vector = 0x1F80;
  std::uint16_t x87 = 0x037F;

  static State now() {
    State state;
    asm volatile("stmxcsr %0" : "=m"(state.vector));
    asm volatile("fnstcw %0" : "=m"(state.x87));
    return state;
  }
  void set() const {
    asm volatile("fnclex");
    asm volatile("fldcw %0" ::"m"(x87));
    asm volatile("ldmxcsr %0" ::"m"(vector) : "memory");
  }
  bool operator==(const State&) const = default;
};

struct Alien {
  const char* name;
  State state;
};
inline const Alien kAliens[] = {
    {"upward", {0x1F80 | 0x4000, 0x037F | 0x0800}},
    {"downward", {0x1F80 | 0x2000, 0x037F | 0x0400}},
    {"toward zero", {0x1F80 | 0x6000, 0x037F | 0x0C00}},
    {"subnormal numbers are zero", {0x1F80 | 0x8040, 0x037F}},
    {"every exception traps", {0x0000, 0x0340}},
    {"single precision, flags set", {0x1F80 | 0x003F, 0x007F}},
    {"all of it", {0x8040 | 0x6000, 0x0C40}},
};

// What `call` returns, or throws, on a thread in this state; the thread's state must be so again.
inline std::string in_state(const State& state, const std::function<std::string()>& call) {
  std::string out;
  const State before = State::now();
  state.set();
  try {
    out = call();
  } catch (const std::exception& error) {
    out = error.what();
  }
  const State after = State::now();
  before.set();
  CHECK(after.vector == state.vector);
  CHECK(after.x87 == state.x87);
  return out;
}

inline std::string bytes(std::span<const float> row) {
  return {reinterpret_cast<const char*>(row.data()), row.size_bytes()};
}

inline std::string bytes(const Sample& sample) {
  std::string out = std::to_string(sample.token) + " " + bytes(std::span(&sample.logprob, 1));
  for (const TokenLogprob& one : sample.top)
    out += " " + std::to_string(one.token) + " " + bytes(std::span(&one.logprob, 1));
  return out;
}

inline const std::string kTiny = std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model";

inline Model load_with_threads(int threads = 2) {
  return Model::load(golden("fp8"), {.backend = {.num_threads = threads},
                                     .kv_cache_tokens = 1024,
                                     .max_batch_tokens = 64,
                                     .mtp = true,
                                     .preload = true});
}

inline const Model& bundled() {
  static const Model model = Model::load(kTiny, {.kv_cache_tokens = 4096});
  return model;
}

inline const Tokens& text() {
  static const Tokens tokens = some_tokens(150, 11);
  return tokens;
}

// Of a session of its own.
inline std::string logits(const Model& model, std::span<const TokenId> tokens) {
  Session session(model);
  return bytes(session.append(tokens));
}

}  // namespace dsv32::test

#endif
#endif  // DSV32_TESTS_MODEL_REPORTS_W4_H_
