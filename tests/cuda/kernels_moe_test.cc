// Topic moe on the emulated GPU: choices and places exact, weights and sums close to the twin's.
#include <algorithm>

#include "tests/cuda/kernels_machine.h"

namespace dsv32::test {
namespace {

struct Gate {
  int experts, groups, kept, top;
  bool norm = true;
};

struct Choice {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};

Choice twin_choice(const Gate& c, const std::vector<float>& scores, const std::vector<float>& bias,
                   int rows) {
  Choice out{std::vector<std::int32_t>(static_cast<std::size_t>(rows * c.top)),
             std::vector<float>(static_cast<std::size_t>(rows * c.top))};
  std::vector<float> scratch(static_cast<std::size_t>(c.experts + c.groups));
  reference_twins().moe_gate({.scores = scores.data(),
                              .bias = bias.data(),
                              .ids = out.ids.data(),
                              .weights = out.weights.data(),
                              .scratch = scratch.data(),
                              .num_tokens = rows,
                              .num_experts = c.experts,
                              .n_group = c.groups,
                              .topk_group = c.kept,
                              .top = c.top,
                              .routed_scaling_factor = 2.5f,
                              .norm_topk_prob = c.norm});
  return out;
}

Choice gpu_choice(KernelMachine& gpu, const Gate& c, const std::vector<float>& scores,
                  const std::vector<float>& bias, int rows) {
  auto* ids = gpu.empty<std::int32_t>(rows * c.top);
  auto* weights = gpu.empty<float>(rows * c.top);
  gpu.run(cuda::MoeGateArguments{.scores = gpu.put(scores),
                                 .bias = gpu.put(bias),
                                 .ids = ids,
                                 .weights = weights,
                                 .num_tokens = rows,
                                 .num_experts = c.experts,
                                 .n_group = c.groups,
                                 .topk_group = c.kept,
                                 .top = c.top,
                                 .routed_scaling_factor = 2.5f,
                                 .norm_topk_prob = c.norm});
  return {gpu.get(ids, rows * c.top), gpu.get(weights, rows * c.top)};
}

TEST_CASE("the gate chooses as its twin, ties included", "[quick]") {
  Data data(241);
  const int rows = 7;
  const Gate cases[] = {
      {8, 4, 2, 2}, {24, 4, 2, 5, false}, {256, 8, 4, 8}, {40, 1, 1, 6}, {72, 9, 3, 24}};
  for (const Gate& c : cases) {
    for (const bool ties : {false, true}) {
      std::vector<float> scores = data.floats(rows * c.experts, 2.0f),
                         bias = data.floats(c.experts);
      if (ties) {
        for (float& x : scores) x = std::round(x);
        std::fill(bias.begin(), bias.end(), 0.25f);
      }
      KernelMachine gpu;
      const Choice got = gpu_choice(gpu, c, scores, bias, rows);
      const Choice want = twin_choice(c, scores, bias, rows);
      INFO(c.experts << " experts, ties " << ties);
      CHECK(got.ids == want.ids);
      CHECK(deviation({got.weights.begin(), got.weights.end()},
                      {want.weights.begin(), want.weights.end()}) < 2e-6);
    }
  }
}

TEST_CASE("the gate gives distinct experts in range for any scores", "[quick]") {
  Data data(242);
  for (int round = 0; round < 40; ++round) {
    const int groups = 1 << data.integer(0, 3), size = data.integer(2, 9);
    const int kept = data.integer(1, groups);
    const Gate c{groups * size, groups, kept, data.integer(1, kept * size)};
    auto scores = data.floats(c.experts, 2.0f);
    for (float& x : scores) {
      const int draw = data.integer(0, 19);
      if (draw < 4 * (round % 5)) x = draw % 4 == 0 ? INFINITY : draw % 4 == 1 ? -INFINITY : NAN;
    }
    if (round % 5 == 4) std::ranges::fill(scores, NAN);
    const auto bias = data.floats(c.experts, 0.3f);
    KernelMachine gpu;
    const auto ids = gpu_choice(gpu, c, scores, bias, 1).ids;
    REQUIRE(ids == twin_choice(c, scores, bias, 1).ids);
    REQUIRE(ids.front() >= 0);
    REQUIRE(ids.back() < c.experts);
    REQUIRE(std::ranges::adjacent_find(ids) == ids.end());
  }
}

void check_dispatch(Data& data, int rows, int top, int experts, int first, int here) {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < rows * top; ++i) ids.push_back(data.integer(0, experts - 1));
  KernelMachine gpu(static_cast<std::uint64_t>(rows));
  auto* offsets = gpu.empty<std::int32_t>(here + 1);
  auto* places = gpu.empty<std::int32_t>(rows * top);
  const cuda::MoeDispatchArguments arguments{.ids = gpu.put(ids),
                                             .offsets = offsets,
                                             .rows = places,
                                             .first_expert = first,
                                             .copies = rows * top,
                                             .experts = here};
  gpu.run(cuda::launch_of_count(arguments), arguments);
  gpu.run(cuda::launch_of_place(arguments), arguments);
  std::vector<std::int32_t> want_offsets{0}, want(ids.size(), -1);
  std::int32_t next = 0;
  for (int e = first; e < first + here; ++e) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] == e) want[i] = next++;
    }
    want_offsets.push_back(next);
  }
  INFO(rows << " rows, " << here << " of " << experts << " experts");
  CHECK(gpu.get(offsets, here + 1) == want_offsets);
  CHECK(gpu.get(places, rows * top) == want);
}

TEST_CASE("dispatch places copies by expert, then token", "[quick]") {
  Data data(243);
  for (const int rows : {1, 7, 64, 65, 130}) {
    check_dispatch(data, rows, 3, 11, 0, 11);
    check_dispatch(data, rows, 3, 11, 4, 5);  // others are another rank's
  }
  check_dispatch(data, 40, 8, 256, 0, 256);
}

TEST_CASE("combine equals its twin", "[quick]") {
  Data data(244);
  const int top = 3;
  for (const auto& [type, out_type] :
       {std::pair{ValueType::f32, ValueType::f32}, std::pair{ValueType::bf16, ValueType::bf16},
        std::pair{ValueType::bf16, ValueType::f32}}) {
    for (const int cols : {37, 256}) {
      for (const bool adds : {true, false}) {
        const int rows = 9;
        const Bytes x = data.values(rows * top * cols, type),
                    shared = data.values(rows * cols, type);
        const auto weights = data.floats(rows * top);
        std::vector<std::int32_t> places;
        for (int i = 0; i < rows * top; ++i) places.push_back(i % 5 == 4 ? -1 : i);
        std::reverse(places.begin(), places.end());
        Bytes want(static_cast<std::size_t>(rows * cols * bytes_of(out_type)));
        reference_twins().moe_combine({.x = x.data(),
                                       .rows = places.data(),
                                       .weights = weights.data(),
                                       .shared = adds ? shared.data() : nullptr,
                                       .out = want.data(),
                                       .type = type,
                                       .out_type = out_type,
                                       .num_tokens = rows,
                                       .top = top,
                                       .cols = cols});
        KernelMachine gpu;
        auto* out = gpu.empty_rows(rows * cols, out_type);
        const auto* on_gpu = gpu.put(shared);
        gpu.run(cuda::MoeCombineArguments{.x = gpu.put(x),
                                          .rows = gpu.put(places),
                                          .weights = gpu.put(weights),
                                          .shared = adds ? on_gpu : nullptr,
                                          .out = out,
                                          .type = type,
                                          .out_type = out_type,
                                          .num_tokens = rows,
                                          .top = top,
                                          .cols = cols});
        INFO("type " << int(type) << ", out " << int(out_type) << ", " << cols);
        CHECK(deviation(gpu.values(out, rows * cols, out_type), read(want, out_type)) <
              tolerance(out_type));
      }
    }
  }
}

}  // namespace
}  // namespace dsv32::test
