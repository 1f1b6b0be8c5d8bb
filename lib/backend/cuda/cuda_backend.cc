// Memory, order and weights; the steps are in cuda_steps.cc and cuda_attention.cc.
#include "lib/backend/cuda/cuda_backend.h"

#include <utility>
#include <vector>

#include "lib/backend/views.h"
#include "lib/base/check.h"

namespace dsv32::cuda {
namespace {

constexpr std::size_t kAlign = 256;  // so that kernels load whole vectors

std::size_t rounded(std::size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

std::size_t bound_bytes(const Linear& w) {
  return rounded(value_bytes(w)) + rounded(scale_bytes(w));
}

std::int64_t whole(std::int64_t floats) { return (floats + 63) / 64 * 64; }

}  // namespace

CudaScratch::CudaScratch(const BackendLimits& limits) {
  const std::int64_t rows = kCudaShapes.attention_rows, heads = limits.indexer.heads;
  index_q = whole(rows * heads * limits.indexer.dim);
  index_weights = whole(rows * heads);
  index_scores = heads > 0 ? whole(rows * limits.max_context) : 0;
}

std::size_t CudaScratch::bytes() const {
  return static_cast<std::size_t>(index_q + index_weights + index_scores) * sizeof(float);
}

CudaBackend::CudaBackend(std::shared_ptr<Gpu> device)
    : device_(std::move(device)), stream_(device_) {}

void CudaBackend::reserve(const BackendLimits& limits) {
  DSV32_CHECK(
      kernels::cuda::smxx_takes(limits.cache, limits.num_experts), unsupported,
      "CUDA: kernel set {} has no kernels for an index_head_dim of {}, a kv_lora_rank of {} "
      "and {} experts",
      kKernelSet, limits.cache.index_dim, limits.cache.latent, limits.num_experts);
  const CudaScratch need(limits);
  scratch_ = allocate(need.bytes());
  limits_ = limits;
  index_q_ = static_cast<float*>(scratch_.get());
  index_weights_ = index_q_ + need.index_q;
  index_scores_ = index_weights_ + need.index_weights;
}

kernels::Matrix CudaBackend::take_over(const Linear& w, std::byte* memory, std::size_t& offset,
                                       BindProgress progress) {
  Linear own = w;
  const auto take = [&](TensorView& view, std::size_t bytes) {
    if (bytes == 0) return;
    std::byte* to = memory + offset;
    stream_.upload(to, view.data, bytes, progress);
    view.data = to;
    offset += rounded(bytes);
  };
  take(own.weight, value_bytes(w));
  take(own.scale, scale_bytes(w));
  return kernel_matrix(own);
}

WeightHandle CudaBackend::bind(const Linear& w, BindProgress progress) {
  std::shared_ptr<void> memory = allocate(bound_bytes(w));
  std::size_t offset = 0;
  const kernels::Matrix matrix =
      take_over(w, static_cast<std::byte*>(memory.get()), offset, progress);
  return std::make_shared<const CudaWeight>(w, std::move(memory), matrix);
}

// One block: their descriptions, then their bytes.
ExpertsHandle CudaBackend::bind_experts(std::span<const Linear> experts, BindProgress progress) {
  check_experts(experts);
  std::size_t offset = rounded(experts.size() * sizeof(kernels::Matrix)), bytes = offset;
  for (const Linear& w : experts) bytes += bound_bytes(w);
  std::shared_ptr<void> memory = allocate(bytes);
  std::vector<kernels::Matrix> matrices;
  for (const Linear& w : experts)
    matrices.push_back(take_over(w, static_cast<std::byte*>(memory.get()), offset, progress));
  // At once: what waits for the next call may find the memory given back.
  stream_.upload(memory.get(), matrices.data(), matrices.size() * sizeof(kernels::Matrix),
                 [](std::size_t) {});
  CudaExperts::Kinds kinds;
  for (const kernels::Matrix& w : matrices)
    (kernels::cuda::is_exact_in_bf16(w.type) ? kinds.exact_in_bf16 : kinds.others) = true;
  return std::make_shared<const CudaExperts>(experts, all_read_fp8(experts), kinds,
                                             std::move(memory));
}

std::shared_ptr<void> CudaBackend::allocate(std::size_t bytes) {
  return device_memory(device_, bytes);
}

void CudaBackend::upload(TensorView dst, const void* src) {
  stream_.upload(dst.data, src, contiguous_bytes(dst));
}

void CudaBackend::download(std::span<const Download> parts) { stream_.download(parts); }

void CudaBackend::copy(TensorView dst, TensorView src) {
  check_shape(dst.rows == src.rows && dst.cols == src.cols && dst.dtype == src.dtype, "copy");
  static_cast<void>(contiguous_bytes(dst));
  stream_.copy(dst.data, src.data, contiguous_bytes(src));
}

void CudaBackend::synchronize() { stream_.synchronize(); }

void CudaBackend::run(std::uint64_t key, FunctionRef<void()> pass) { stream_.run(key, pass); }

}  // namespace dsv32::cuda
