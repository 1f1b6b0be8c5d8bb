// Topic moe: the gate's choice is exact, its weights and the combination close.
#include "tests/kernels/data.h"

namespace dsv32::test {
namespace {

using kernels::CpuKernels;

TEST_CASE("moe_gate chooses and weighs as its twin") {
  Data data(4);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (int round = 0; round < 60; ++round) {
      const int groups = 1 << data.integer(0, 3), size = data.integer(2, 9);
      const int experts = groups * size, kept = data.integer(1, groups);
      const int top = data.integer(1, kept * size), tokens = data.integer(1, 9);
      const auto scores = data.floats(tokens * experts, 2.0f), bias = data.floats(experts, 0.3f);
      const bool norm = round % 2 == 0;
      const auto run = [&](const CpuKernels& kernel, std::vector<std::int32_t>& ids) {
        ids.assign(static_cast<std::size_t>(tokens * top), -1);
        std::vector<float> weights(ids.size()), scratch(static_cast<std::size_t>(experts + groups));
        kernel.moe_gate({.scores = scores.data(),
                         .bias = bias.data(),
                         .ids = ids.data(),
                         .weights = weights.data(),
                         .scratch = scratch.data(),
                         .num_tokens = tokens,
                         .num_experts = experts,
                         .n_group = groups,
                         .topk_group = kept,
                         .top = top,
                         .routed_scaling_factor = 2.5f,
                         .norm_topk_prob = norm});
        return std::vector<double>(weights.begin(), weights.end());
      };
      std::vector<std::int32_t> ids, twin_ids;
      const auto weights = run(table, ids), twin_weights = run(reference, twin_ids);
      REQUIRE(ids == twin_ids);
      // A sigmoid in f32, a sum of a few and a quotient.
      CHECK(deviation(weights, twin_weights) < 2e-6);
    }
  });
}

TEST_CASE("moe_combine equals its twin") {
  Data data(5);
  const int tokens = 5, top = 3, cols = 37;
  std::vector<std::int32_t> rows;
  for (int i = 0; i < tokens * top; ++i) rows.push_back(i % 4 == 1 ? -1 : i * 7 % (tokens * top));
  const auto weights = data.floats(tokens * top);
  for_tables([&](const CpuKernels& table, const CpuKernels& reference) {
    for (const auto& [type, out_type] : {std::pair{ValueType::f32, ValueType::f32},
                                         {ValueType::bf16, ValueType::bf16},
                                         {ValueType::bf16, ValueType::f32}}) {
      const Bytes x = data.values(tokens * top * cols, type),
                  shared = data.values(tokens * cols, type);
      for (const std::byte* added : {shared.data(), static_cast<const std::byte*>(nullptr)}) {
        const auto run = [&](const CpuKernels& kernel, ValueType to) {
          Bytes out(static_cast<std::size_t>(tokens * cols) * (to == ValueType::f32 ? 4 : 2));
          kernel.moe_combine({.x = x.data(),
                              .rows = rows.data(),
                              .weights = weights.data(),
                              .shared = added,
                              .out = out.data(),
                              .type = type,
                              .out_type = to,
                              .num_tokens = tokens,
                              .top = top,
                              .cols = cols});
          return read(out, to);
        };
        // An f32 result was not rounded on its way.
        CHECK(deviation(run(table, out_type), run(reference, out_type)) < tolerance(out_type));
      }
    }
  });
}

}  // namespace
}  // namespace dsv32::test
