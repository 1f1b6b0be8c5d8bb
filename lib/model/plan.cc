// Bytes of weights, caches and activations against the memory there is.
#include "lib/model/plan.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/backend/backend_kind.h"
#include "lib/base/check.h"
#include "lib/base/float_state.h"
#include "lib/base/held.h"
#include "lib/model/check_options.h"
#include "lib/weights/checkpoint_impl.h"

namespace dsv32 {
namespace {

bool holds(std::span<const std::byte> file, const std::byte* data) {
  const std::less<> before;
  return !before(data, file.data()) && before(data, file.data() + file.size());
}

// Mapped, what is bound; read, whole files, also those that could not be mapped.
std::size_t weight_bytes(const ModelConfig& config, const Shards& shards, FileAccess access,
                         bool mtp) {
  std::size_t bytes = 0;
  std::vector<std::span<const std::byte>> read;
  for (const File& file : shards.files) {
    if (access == FileAccess::mmap && file.is_mapped()) continue;
    read.push_back(file.bytes());
    bytes += file.bytes().size();
  }
  if (read.size() == shards.files.size()) return bytes;
  const auto in_read = [&](const TensorInfo& tensor) {
    return std::any_of(read.begin(), read.end(), [&](std::span<const std::byte> file) {
      return holds(file, tensor.data.data());
    });
  };
  const std::string mtp_prefix = formatted("model.layers.{}.", config.num_hidden_layers);
  for (const TensorInfo& tensor : shards.tensors) {
    if ((mtp || !tensor.name.starts_with(mtp_prefix)) && !in_read(tensor))
      bytes += tensor.data.size();
  }
  return bytes;
}

BackendOptions backend_options(const PlanOptions& options) {
  return {.device = options.device, .num_threads = options.num_threads};
}

}  // namespace

ForwardOptions forward_options(const ModelConfig& config, const PlanOptions& options) {
  check_options(options);
  DSV32_CHECK(options.indexer_keys == IndexerKeys::fp8 || config.index_topk > 0, unsupported,
              "indexer_keys is int8: a {} model has no indexer", config.model_type);
  DSV32_CHECK(!options.mtp || config.num_nextn_predict_layers > 0, unsupported,
              "mtp: the model has no MTP layer");
  const auto pages = static_cast<std::int64_t>((options.kv_cache_tokens + kernels::kPageSize - 1) /
                                               kernels::kPageSize);
  return {
      .buffers = {.numerics = options.numerics,
                  .max_batch_tokens = options.max_batch_tokens,
                  .max_sequences = options.max_sequences,
                  .max_context = static_cast<int>(std::min<std::int64_t>(
                      pages * kernels::kPageSize, config.max_position_embeddings)),
                  .attention_rows =
                      backend_kind(options.device).shapes(backend_options(options)).attention_rows,
                  .mtp = options.mtp},
      .kv_format = options.kv_format,
      .indexer_keys = options.indexer_keys,
      .num_pages = pages};
}

Plan make_plan(const ModelConfig& config, const Shards& shards, const PlanOptions& options) {
  const ForwardOptions forward = forward_options(config, options);
  const BackendKind& kind = backend_kind(options.device);
  const BackendOptions backend = backend_options(options);
  Plan plan;
  plan.weight_bytes = weight_bytes(config, shards, options.access, forward.buffers.mtp);
  plan.kv_cache_bytes = cache_bytes(config, forward);
  plan.activation_bytes = Buffers(config, forward.buffers, nullptr).bytes +
                          kind.scratch_bytes(backend_limits(config, forward.buffers), backend);
  plan.available_bytes =
      options.memory_bytes > 0 ? options.memory_bytes : kind.available_memory(backend);
  const std::size_t need = plan.weight_bytes + plan.kv_cache_bytes + plan.activation_bytes;
  plan.fits = !plan.available_bytes || need <= *plan.available_bytes;
  if (!plan.fits) {
    plan.reason =
        formatted("needs {} (weights {}, cache {}, activations {}), {} are available: {} too few",
                  human_bytes(need), human_bytes(plan.weight_bytes),
                  human_bytes(plan.kv_cache_bytes), human_bytes(plan.activation_bytes),
                  human_bytes(*plan.available_bytes), human_bytes(need - *plan.available_bytes));
  }
  return plan;
}

Plan Checkpoint::plan(const PlanOptions& options) const {
  const Impl& impl = held(impl_);
  const FloatState ours;
  return make_plan(impl.config, impl.shards, options);
}

}  // namespace dsv32
