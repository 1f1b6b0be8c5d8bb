// Topic moe through the seam: choices and places exact, weights and sums close to the twin's.
#include <algorithm>

#include "tests/backend/backends.h"

namespace dsv32::test {
namespace {

constexpr int kRowCounts[] = {1, 7, 64, 65};

TEST_CASE("through the seam: the gate chooses as its twin, ties included") {
  Data data(121);
  const auto all = open_backends(test_limits());
  const int experts = 24, groups = 4, kept = 2, top = 5;
  for (const int rows : kRowCounts) {
    for (const bool ties : {false, true}) {
      std::vector<float> scores = data.floats(rows * experts, 2.0f), bias = data.floats(experts);
      if (ties) {
        for (float& x : scores) x = std::round(x);
        std::fill(bias.begin(), bias.end(), 0.25f);
      }
      std::vector<std::int32_t> ids(static_cast<std::size_t>(rows * top));
      std::vector<float> weights(ids.size()), scratch(experts + groups);
      reference_table().moe_gate({.scores = scores.data(),
                                  .bias = bias.data(),
                                  .ids = ids.data(),
                                  .weights = weights.data(),
                                  .scratch = scratch.data(),
                                  .num_tokens = rows,
                                  .num_experts = experts,
                                  .n_group = groups,
                                  .topk_group = kept,
                                  .top = top,
                                  .routed_scaling_factor = 2.5f,
                                  .norm_topk_prob = ties});
      for (const OpenBackend& b : all) {
        INFO(b.name << ", " << rows << " rows, ties " << ties);
        DeviceData device(*b.backend);
        const TensorView got = device.empty(DType::i32, rows, top),
                         got_weights = device.empty(DType::f32, rows, top);
        b->moe_gate(device.put(scores, rows, experts), device.put(bias, 1, experts),
                    {.n_group = groups,
                     .topk_group = kept,
                     .routed_scaling_factor = 2.5f,
                     .norm_topk_prob = ties},
                    got, got_weights);
        CHECK(device.integers(got) == ids);
        // A sigmoid in f32, a sum of a few and a quotient.
        CHECK(deviation(device.values(got_weights), {weights.begin(), weights.end()}) < 2e-6);
      }
    }
  }
}

// Places of copies by the letter: experts ascending, within one in the order of tokens.
struct Places {
  std::vector<std::int32_t> offsets{0}, rows;  // of each copy

  Places(const std::vector<std::int32_t>& ids, int experts) : rows(ids.size()) {
    std::int32_t next = 0;
    for (int e = 0; e < experts; ++e) {
      for (std::size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] == e) rows[i] = next++;
      }
      offsets.push_back(next);
    }
  }
};

// Rows of `from`, one for each copy of a token, where `places` says.
Bytes dispatched(const Bytes& from, std::size_t row, const Places& places, int top) {
  Bytes out(places.rows.size() * row);
  for (std::size_t i = 0; i < places.rows.size(); ++i) {
    std::copy_n(
        from.begin() + static_cast<std::ptrdiff_t>(i / static_cast<std::size_t>(top) * row), row,
        out.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(places.rows[i]) * row));
  }
  return out;
}

TEST_CASE("through the seam: dispatch places copies by expert, then token") {
  Data data(122);
  const auto all = open_backends(test_limits());
  const int experts = 11, top = 3, cols = 200, blocks = 2;
  for (const int rows : kRowCounts) {
    std::vector<std::int32_t> ids;
    for (int t = 0; t < rows; ++t) {
      const int first = data.integer(0, experts - 6);  // expert 10 gets none
      for (int j = 0; j < top; ++j) ids.push_back(first + 2 * j);
    }
    const Places want(ids, experts);
    const Bytes dense = data.values(rows * cols, ValueType::bf16),
                codes = data.values(rows * cols, ValueType::e4m3),
                scale = data.values(rows * blocks, ValueType::f32);
    for (const OpenBackend& b : all) {
      for (const int forms : {1, 2, 3}) {  // dense, FP8, both
        INFO(b.name << ", " << rows << " rows, forms " << forms);
        DeviceData device(*b.backend);
        Activation x{
            .dense = device.put(dense, ValueType::bf16, rows, cols), .fp8 = {}, .scale = {}};
        if ((forms & 1) == 0) x.dense.data = nullptr;
        if ((forms & 2) != 0) {
          x.fp8 = device.put(codes, ValueType::e4m3, rows, cols);
          x.scale = device.put(scale, ValueType::f32, rows, blocks);
        }
        const Activation out = device.activation(ValueType::bf16, rows * top, cols, forms != 1);
        const TensorView offsets = device.empty(DType::i32, 1, experts + 1),
                         places = device.empty(DType::i32, rows, top);
        const TensorView chosen = device.put(ids.data(), DType::i32, rows, top);
        b->moe_dispatch(x, chosen, 0, out, offsets, places);
        CHECK(device.integers(offsets) == want.offsets);
        CHECK(device.integers(places) == want.rows);
        if ((forms & 1) != 0)
          CHECK((device.bytes(out.dense) == dispatched(dense, cols * 2, want, top)));
        if ((forms & 2) == 0) continue;
        CHECK((device.bytes(out.fp8) == dispatched(codes, cols, want, top)));
        CHECK((device.bytes(out.scale) == dispatched(scale, blocks * 4, want, top)));
      }
    }
  }
}

// As ranks do it: each sends rows to its own experts and adds up what they give, in f32.
TEST_CASE("through the seam: experts of another rank are left out, and parts add up to the whole") {
  Data data(124);
  const int rows = 7, experts = 11, top = 3, cols = 37, split = 4;
  std::vector<std::int32_t> ids;
  for (int t = 0; t < rows; ++t) {
    for (int j = 0; j < top; ++j) ids.push_back((t + 4 * j) % experts);
  }
  const Bytes dense = data.values(rows * cols, ValueType::bf16),
              shared = data.values(rows * cols, ValueType::bf16);
  const auto weights = data.floats(rows * top);
  for (const OpenBackend& b : open_backends(test_limits())) {
    INFO(b.name);
    DeviceData device(*b.backend);
    const Activation x{
        .dense = device.put(dense, ValueType::bf16, rows, cols), .fp8 = {}, .scale = {}};
    const TensorView chosen = device.put(ids.data(), DType::i32, rows, top),
                     weight = device.put(weights, rows, top),
                     added = device.put(shared, ValueType::bf16, rows, cols);
    // The sum over experts [first, first + count), with the shared expert or without.
    const auto part = [&](int first, int count, TensorView with) {
      const Activation out = device.activation(ValueType::bf16, rows * top, cols, false);
      const TensorView offsets = device.empty(DType::i32, 1, count + 1),
                       places = device.empty(DType::i32, rows, top),
                       sum = device.empty(DType::f32, rows, cols);
      b->moe_dispatch(x, chosen, first, out, offsets, places);
      const auto place = device.integers(places);
      std::int32_t here = 0;
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const bool mine = ids[i] >= first && ids[i] < first + count;
        CHECK((place[i] >= 0) == mine);
        here += mine ? 1 : 0;
      }
      CHECK(device.integers(offsets).back() == here);
      b->moe_combine(out.dense, places, weight, with, sum);
      return device.values(sum);
    };
    const auto whole = part(0, experts, added), low = part(0, split, added),
               high = part(split, experts - split, {});
    auto both = low;
    for (std::size_t i = 0; i < both.size(); ++i) both[i] += high[i];
    CHECK(deviation(both, whole) < tolerance(ValueType::f32));
    CHECK(deviation(low, whole) > 0.01);
  }
}

TEST_CASE("through the seam: combine equals its twin") {
  Data data(123);
  const auto all = open_backends(test_limits());
  const int top = 3, cols = 37;
  for (const ValueType type : {ValueType::f32, ValueType::bf16}) {
    for (const int rows : kRowCounts) {
      const Bytes x = data.values(rows * top * cols, type), shared = data.values(rows * cols, type);
      const auto weights = data.floats(rows * top);
      std::vector<std::int32_t> places;
      for (int i = 0; i < rows * top; ++i) places.push_back(i);
      std::reverse(places.begin(), places.end());
      Bytes want(shared.size());
      reference_table().moe_combine({.x = x.data(),
                                     .rows = places.data(),
                                     .weights = weights.data(),
                                     .shared = shared.data(),
                                     .out = want.data(),
                                     .type = type,
                                     .out_type = type,
                                     .num_tokens = rows,
                                     .top = top,
                                     .cols = cols});
      for (const OpenBackend& b : all) {
        INFO(b.name << ", " << rows << " rows");
        DeviceData device(*b.backend);
        const TensorView out = device.empty(dtype_of(type), rows, cols);
        b->moe_combine(device.put(x, type, rows * top, cols),
                       device.put(places.data(), DType::i32, rows, top),
                       device.put(weights, rows, top), device.put(shared, type, rows, cols), out);
        CHECK(deviation(device.values(out), read(want, type)) < tolerance(type));
      }
    }
  }
}

}  // namespace
}  // namespace dsv32::test
