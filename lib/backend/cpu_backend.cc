// The CPU's Backend: memory, and the steps of topics dense, gemm and moe. Shapes are checked here.
#include "lib/backend/cpu_backend.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <new>
#include <optional>
#include <utility>

#include "lib/backend/kernel_set.h"
#include "lib/backend/system.h"
#include "lib/base/check.h"
#include "lib/base/memory.h"

namespace dsv32 {
namespace {

constexpr std::size_t kAlignment = 64;
// From so many bytes on memory is the system's own: what the heap keeps of many models' buffers, or
// cannot give back for what lies behind them, would grow with every one that goes.
#if defined(__SANITIZE_ADDRESS__)  // which watches the heap's ends
constexpr std::size_t kMappedFrom = kLargePagesFrom;
#else
constexpr std::size_t kMappedFrom = std::size_t{64} << 10;
#endif
constexpr int kChunksPerWorker = 4;  // items a worker, so that a slow one holds nobody up

std::int64_t round_up(std::int64_t count) { return (count + 15) / 16 * 16; }

// Fills an activation's FP8 form from its dense one.
void quantise_rows(const kernels::CpuKernels& k, const Activation& a, int first, int last) {
  if (a.fp8.data == nullptr) return;
  const TensorView x = a.dense.slice(first, last - first);
  k.quantise({.x = x.data,
              .out = data_as<std::uint8_t>(a.fp8.slice(first, 0)),
              .scale = data_as<float>(a.scale.slice(first, 0)),
              .x_stride = x.stride,
              .type = value_type(x.dtype),
              .pow2 = a.pow2_scales,
              .num_rows = last - first,
              .cols = static_cast<int>(x.cols)});
}

}  // namespace

CpuScratch::CpuScratch(const BackendLimits& limits) {
  using kernels::kRowTile;
  const std::int64_t index_row = std::int64_t{limits.indexer.heads} * limits.indexer.dim;
  packed = round_up(kernels::kLinearRows * kernels::packed_row_bytes(limits.max_width) /
                    std::int64_t{sizeof(float)});
  index_q = round_up(kRowTile * index_row);
  index_weights = round_up(std::int64_t{kRowTile} * limits.indexer.heads);
  index_scores =
      limits.indexer.heads > 0 ? round_up(std::int64_t{kRowTile} * limits.max_context) : 0;
  const kernels::CacheLayout layout{.format = kernels::CacheLayout::Format::f32,
                                    .latent = limits.mla.latent,
                                    .rope = limits.mla.rope,
                                    .index_dim = limits.indexer.dim};
  worker = round_up(
      std::max({kernels::sparse_mla_scratch(layout, limits.mla.heads), kernels::kLinearScratch,
                kernels::mla_project_scratch(limits.mla.nope, limits.mla.v, limits.mla.latent),
                std::int64_t{kernels::kPageSize} * (limits.indexer.dim + 1),
                kernels::top_k_scratch(std::min(limits.indexer.top_k, limits.max_context)),
                std::int64_t{limits.num_experts} + limits.n_group}));
}

std::int64_t CpuScratch::total(int workers) const {
  return packed + index_q + index_weights + index_scores + worker * workers;
}

std::size_t cpu_scratch_bytes(const BackendLimits& limits, int workers) {
  return static_cast<std::size_t>(CpuScratch(limits).total(workers)) * sizeof(float);
}

CpuBackend::CpuBackend(const BackendOptions& options)
    : kernels_(&choose_kernels(options.kernel_set, kernels::cpu_features())),
      info_(cpu_info()),
      pool_(options) {}

std::shared_ptr<void> CpuBackend::allocate(std::size_t bytes) {
  if (bytes >= kMappedFrom) {
    std::shared_ptr<std::byte> pages = map_memory(bytes);
    DSV32_CHECK(pages, out_of_memory, "could not map {}", human_bytes(bytes));
    return pages;
  }
  void* memory = ::operator new (bytes, std::align_val_t{kAlignment}, std::nothrow);
  DSV32_CHECK(memory != nullptr, out_of_memory, "could not allocate {}", human_bytes(bytes));
  return {memory, [](void* p) { ::operator delete (p, std::align_val_t{kAlignment}); }};
}

void CpuBackend::reserve(const BackendLimits& limits) {
  const CpuScratch need(limits);
  const std::int64_t floats = need.total(pool_.size());
  scratch_ = allocate(static_cast<std::size_t>(floats) * sizeof(float));
  limits_ = limits;
  float* next = static_cast<float*>(scratch_.get());
  packed_ = reinterpret_cast<std::byte*>(std::exchange(next, next + need.packed));
  index_q_ = std::exchange(next, next + need.index_q);
  index_weights_ = std::exchange(next, next + need.index_weights);
  index_scores_ = std::exchange(next, next + need.index_scores);
  worker_scratch_ = next;
  worker_floats_ = need.worker;
}

std::size_t CpuBackend::scratch_bytes() const { return cpu_scratch_bytes(limits_, pool_.size()); }

CpuWeight::CpuWeight(const Linear& w)
    : BoundWeight(w.weight.rows, w.weight.cols, w.reads_fp8()), matrix(w) {}

CpuExperts::CpuExperts(std::span<const Linear> experts)
    : BoundExperts(static_cast<std::int64_t>(experts.size()), experts[0].weight.rows,
                   experts[0].weight.cols, all_read_fp8(experts)),
      matrices_(experts.begin(), experts.end()) {}

WeightHandle CpuBackend::bind(const Linear& w, BindProgress progress) {
  progress(value_bytes(w) + scale_bytes(w));
  return std::make_shared<const CpuWeight>(w);
}

ExpertsHandle CpuBackend::bind_experts(std::span<const Linear> experts, BindProgress progress) {
  check_experts(experts);
  for (const Linear& w : experts) progress(value_bytes(w) + scale_bytes(w));
  return std::make_shared<const CpuExperts>(experts);
}

void CpuBackend::upload(TensorView dst, const void* src) {
  std::memcpy(dst.data, src, contiguous_bytes(dst));
}

void CpuBackend::download(std::span<const Download> parts) {
  for (const Download& part : parts)
    std::memcpy(part.to, part.from.data, contiguous_bytes(part.from));
}

void CpuBackend::copy(TensorView dst, TensorView src) {
  check_shape(dst.rows == src.rows && dst.cols == src.cols && dst.dtype == src.dtype, "copy");
  static_cast<void>(contiguous_bytes(src));
  upload(dst, src.data);
}

void CpuBackend::ranges(std::int64_t count, std::int64_t grain,
                        FunctionRef<void(int, int, int)> body) {
  const std::int64_t items = std::int64_t{pool_.size()} * kChunksPerWorker;
  const std::int64_t size = std::max(grain, (count + items - 1) / items);
  pool_.parallel_for(static_cast<int>((count + size - 1) / size), [&](int item, int worker) {
    body(static_cast<int>(item * size), static_cast<int>(std::min(count, (item + 1) * size)),
         worker);
  });
}

void CpuBackend::quantise_all(const Activation& a) {
  ranges(a.dense.rows, 1,
         [&](int first, int last, int) { quantise_rows(*kernels_, a, first, last); });
}

void CpuBackend::embed(const BatchView& b, const BoundWeight& table, TensorView out) {
  check_shape(table.cols == out.cols && b.tokens.cols == out.rows, "embed");
  kernels_->embed({.tokens = data_as<std::int32_t>(b.tokens),
                   .table = matrix_of(table).matrix,
                   .out = out.data,
                   .type = value_type(out.dtype),
                   .num_rows = static_cast<int>(out.rows),
                   .cols = static_cast<int>(out.cols)});
}

void CpuBackend::add_rms_norm(TensorView x, TensorView residual, TensorView gain, float eps,
                              const Activation& out) {
  check_shape(x.cols == gain.cols && x.cols == out.dense.cols && x.rows == out.dense.rows,
              "add_rms_norm");
  ranges(x.rows, 1, [&](int first, int last, int) {
    const TensorView in = x.slice(first, last - first);
    kernels_->add_rms_norm({.x = in.data,
                            .residual = residual.data ? residual.slice(first, 0).data : nullptr,
                            .gain = data_as<float>(gain),
                            .out = out.dense.slice(first, 0).data,
                            .x_stride = x.stride,
                            .residual_stride = residual.stride,
                            .out_stride = out.dense.stride,
                            .eps = eps,
                            .x_type = value_type(x.dtype),
                            .type = value_type(out.dense.dtype),
                            .num_rows = last - first,
                            .cols = static_cast<int>(x.cols)});
    quantise_rows(*kernels_, out, first, last);
  });
}

void CpuBackend::silu_mul(TensorView gate, TensorView up, const Activation& out) {
  check_shape(gate.rows == up.rows && gate.cols == up.cols && gate.rows == out.dense.rows,
              "silu_mul");
  ranges(gate.rows, 1, [&](int first, int last, int) {
    kernels_->silu_mul({.gate = gate.slice(first, 0).data,
                        .up = up.slice(first, 0).data,
                        .out = out.dense.slice(first, 0).data,
                        .type = value_type(gate.dtype),
                        .num_rows = last - first,
                        .cols = static_cast<int>(gate.cols)});
    quantise_rows(*kernels_, out, first, last);
  });
}

void CpuBackend::copy_rows(TensorView from, TensorView from_rows, TensorView to,
                           TensorView to_rows) {
  const bool listed = from_rows.data != nullptr, placed = to_rows.data != nullptr;
  const std::int64_t count = listed ? from_rows.cols : placed ? to_rows.cols : to.rows;
  check_shape(from.cols == to.cols && from.dtype == to.dtype &&
                  (!placed || to_rows.cols == count) && (listed || from.rows >= count) &&
                  (placed || to.rows >= count),
              "copy_rows");
  const auto *source = data_as<std::int32_t>(from_rows), *target = data_as<std::int32_t>(to_rows);
  const auto bytes = static_cast<std::size_t>(from.cols * dtype_size(from.dtype));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t read = listed ? source[i] : i, write = placed ? target[i] : i;
    if (read < 0 || write < 0) continue;
    std::memcpy(to.slice(write, 1).data, from.slice(read, 1).data, bytes);
  }
}

void CpuBackend::moe_gate(TensorView scores, TensorView bias, const GateParams& gate,
                          TensorView ids, TensorView weights) {
  check_shape(scores.cols == bias.cols && ids.rows == scores.rows && weights.rows == scores.rows,
              "moe_gate");
  ranges(scores.rows, 1, [&](int first, int last, int worker) {
    kernels_->moe_gate({.scores = data_as<float>(scores.slice(first, 0)),
                        .bias = data_as<float>(bias),
                        .ids = data_as<std::int32_t>(ids.slice(first, 0)),
                        .weights = data_as<float>(weights.slice(first, 0)),
                        .scratch = worker_scratch(worker),
                        .num_tokens = last - first,
                        .num_experts = static_cast<int>(scores.cols),
                        .n_group = gate.n_group,
                        .topk_group = gate.topk_group,
                        .top = static_cast<int>(ids.cols),
                        .routed_scaling_factor = gate.routed_scaling_factor,
                        .norm_topk_prob = gate.norm_topk_prob});
  });
}

void CpuBackend::moe_dispatch(const Activation& x, TensorView ids, std::int32_t first_expert,
                              const Activation& out, TensorView offsets, TensorView rows) {
  const std::int64_t copies = ids.rows * ids.cols, experts = offsets.cols - 1;
  check_shape(out.dense.rows == copies && rows.rows == ids.rows, "moe_dispatch");
  const auto* id = data_as<std::int32_t>(ids);
  auto *offset = data_as<std::int32_t>(offsets), *row = data_as<std::int32_t>(rows);
  // Counting sort, stable in the order of tokens. offset[e + 1] first counts expert e.
  std::fill_n(offset, experts + 1, 0);
  const auto expert = [&](std::int64_t i) { return std::int64_t{id[i]} - first_expert; };
  const auto here = [&](std::int64_t i) { return expert(i) >= 0 && expert(i) < experts; };
  for (std::int64_t i = 0; i < copies; ++i) {
    if (here(i)) ++offset[expert(i) + 1];
  }
  for (std::int64_t e = 0; e < experts; ++e) offset[e + 1] += offset[e];
  for (std::int64_t i = 0; i < copies; ++i) row[i] = here(i) ? offset[expert(i)]++ : -1;
  for (std::int64_t e = experts; e > 0; --e) offset[e] = offset[e - 1];
  offset[0] = 0;
  const auto copy_row = [](TensorView from, std::int64_t source, TensorView to,
                           std::int64_t target) {
    std::memcpy(to.slice(target, 1).data, from.slice(source, 1).data,
                static_cast<std::size_t>(from.cols * dtype_size(from.dtype)));
  };
  ranges(copies, 8, [&](int first, int last, int) {
    for (int i = first; i < last; ++i) {
      if (row[i] < 0) continue;
      if (x.dense.data != nullptr) copy_row(x.dense, i / ids.cols, out.dense, row[i]);
      if (x.fp8.data == nullptr) continue;
      copy_row(x.fp8, i / ids.cols, out.fp8, row[i]);
      copy_row(x.scale, i / ids.cols, out.scale, row[i]);
    }
  });
}

void CpuBackend::moe_combine(TensorView x, TensorView rows, TensorView weights, TensorView shared,
                             TensorView out) {
  const bool adds = shared.data != nullptr;
  check_shape(x.cols == out.cols && rows.rows == out.rows &&
                  (!adds || (shared.cols == out.cols && shared.dtype == x.dtype)),
              "moe_combine");
  ranges(out.rows, 1, [&](int first, int last, int) {
    kernels_->moe_combine({.x = x.data,
                           .rows = data_as<std::int32_t>(rows.slice(first, 0)),
                           .weights = data_as<float>(weights.slice(first, 0)),
                           .shared = adds ? shared.slice(first, 0).data : nullptr,
                           .out = out.slice(first, 0).data,
                           .type = value_type(x.dtype),
                           .out_type = value_type(out.dtype),
                           .num_tokens = last - first,
                           .top = static_cast<int>(rows.cols),
                           .cols = static_cast<int>(out.cols)});
  });
}

namespace {

std::vector<BackendInfo> cpu_devices(const BackendOptions&) { return {cpu_info()}; }

std::unique_ptr<Backend> open_cpu(const BackendOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

// Asked for before anything else: says what open() would say, too.
StepShapes cpu_shapes(const BackendOptions& options) {
  DSV32_CHECK(options.device_index == 0, invalid_argument, "device_index is {}, there is one CPU",
              options.device_index);
  DSV32_CHECK(options.spin_us >= 0, invalid_argument, "spin_us is {}, not in 0..{}",
              options.spin_us, std::numeric_limits<int>::max());
  static_cast<void>(pool_size(options));
  static_cast<void>(choose_kernels(options.kernel_set, kernels::cpu_features()));
  return kCpuShapes;
}

std::size_t cpu_scratch(const BackendLimits& limits, const BackendOptions& options) {
  return cpu_scratch_bytes(limits, pool_size(options));
}

std::optional<std::size_t> cpu_memory(const BackendOptions&) { return available_memory(); }

}  // namespace

constinit const BackendKind cpu_backend_kind = {.device = Device::cpu,
                                                .devices = cpu_devices,
                                                .open = open_cpu,
                                                .shapes = cpu_shapes,
                                                .scratch_bytes = cpu_scratch,
                                                .available_memory = cpu_memory};

}  // namespace dsv32
