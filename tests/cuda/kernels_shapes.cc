#include "tests/cuda/kernels_shapes.h"

#include <cstring>
#include <numeric>

namespace dsv32::test {

cuda::LinearArguments linear_of(KernelMachine& gpu, Data& data, int rows, int outs, int cols) {
  const std::int64_t blocks = cols / kernels::kBlock;
  std::vector<float> w_scale(static_cast<std::size_t>((outs + 127) / 128 * blocks), 0.5f);
  std::vector<float> x_scale(static_cast<std::size_t>(rows * blocks), 0.25f);
  const kernels::Matrix w{.data = gpu.put(data.values(std::int64_t{outs} * cols, ValueType::e4m3)),
                          .type = ValueType::e4m3,
                          .stride = cols,
                          .scale = reinterpret_cast<const std::byte*>(gpu.put(w_scale)),
                          .scale_type = kernels::ScaleType::f32,
                          .scale_stride = blocks,
                          .scales_are_pow2 = true};
  const Bytes codes = data.values(std::int64_t{rows} * cols, ValueType::e4m3);
  auto* out = gpu.empty_rows(std::int64_t{rows} * outs, ValueType::bf16);
  return {.w = w,
          .x = {.dense = gpu.put(data.values(std::int64_t{rows} * cols, ValueType::bf16)),
                .fp8 = {reinterpret_cast<std::uint8_t*>(gpu.put(codes)), gpu.put(x_scale)},
                .stride = cols,
                .type = ValueType::bf16},
          .out = out,
          .out_stride = outs,
          .type = ValueType::bf16,
          .num_rows = rows,
          .cols = cols,
          .outs = outs};
}

cuda::SparseMlaArguments attention_of(KernelMachine& gpu, Data& data, int queries, int heads,
                                      int keys) {
  const int slots = keys * queries;
  Bytes pages = data.values(slots * kDeployed.latent_record(), ValueType::e4m3);
  std::vector<std::int32_t> indices(static_cast<std::size_t>(slots));
  std::iota(indices.begin(), indices.end(), 0);
  const float one = 1.0f;
  for (int slot = 0; slot < slots; ++slot) {  // scales and rotary values that are numbers
    std::byte* tail = pages.data() + slot * kDeployed.latent_record() + kDeployed.latent;
    for (int i = 0; i < 4; ++i) std::memcpy(tail + 4 * i, &one, 4);
    std::memset(tail + 16, 0, 2 * static_cast<std::size_t>(kDeployed.rope));
  }
  const std::int64_t rows = std::int64_t{queries} * heads;
  return {.q = gpu.put(data.values(rows * 576, ValueType::bf16)),
          .latent = gpu.put(pages),
          .indices = gpu.put(indices),
          .out = gpu.empty_rows(rows * 512, ValueType::bf16),
          .layout = kDeployed,
          .type = ValueType::bf16,
          .num_tokens = queries,
          .num_heads = heads,
          .top_k = keys,
          .scale = 0.01f,
          .bf16_probabilities = true,
          .block_heads = 64};
}

namespace {

cuda::VisibleKeys all_keys(KernelMachine& gpu, int queries, int keys) {
  const int pages = (keys + kernels::kPageSize - 1) / kernels::kPageSize;
  std::vector<std::int32_t> table(static_cast<std::size_t>(pages));
  std::iota(table.begin(), table.end(), 0);
  const auto each = static_cast<std::size_t>(queries);
  return {.positions = gpu.put(std::vector<std::int32_t>(each, keys - 1)),
          .seq_of_token = gpu.put(std::vector<std::int32_t>(each, 0)),
          .page_table = gpu.put(table),
          .page_stride = pages};
}

}  // namespace

cuda::IndexScoresArguments scores_of(KernelMachine& gpu, Data& data, int queries, int keys) {
  const int pages = (keys + kernels::kPageSize - 1) / kernels::kPageSize;
  const std::int64_t heads = std::int64_t{queries} * 64;
  return {.q = gpu.put(data.floats(heads * 128)),
          .weights = gpu.put(data.floats(heads)),
          .pages = gpu.put(data.values(pages * kDeployed.index_page(), ValueType::e4m3)),
          .keys = all_keys(gpu, queries, keys),
          .scores = gpu.empty<float>(std::int64_t{queries} * keys),
          .score_stride = keys,
          .layout = kDeployed,
          .num_tokens = queries,
          .num_heads = 64,
          .top_k = 2048};
}

cuda::TopKArguments choice_of(KernelMachine& gpu, Data& data, int queries, int keys) {
  return {.scores = gpu.put(data.floats(std::int64_t{queries} * keys)),
          .score_stride = keys,
          .keys = all_keys(gpu, queries, keys),
          .indices = gpu.empty<std::int32_t>(std::int64_t{queries} * 2048),
          .nan_queries = nullptr,
          .num_tokens = queries,
          .top_k = 2048};
}

}  // namespace dsv32::test
