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

struct WeightBytes {
  std::size_t read = 0;    // of whole files in memory: all, or those that could not be mapped
  std::size_t mapped = 0;  // of what is bound in the others
  std::size_t bound = 0;   // in all
};

WeightBytes weight_bytes(const ModelConfig& config, const Shards& shards, FileAccess access,
                         bool mtp) {
  WeightBytes bytes;
  std::vector<std::span<const std::byte>> read;
  for (const File& file : shards.files) {
    if (access == FileAccess::mmap && file.is_mapped()) continue;
    read.push_back(file.bytes());
    bytes.read += file.bytes().size();
  }
  const auto in_read = [&](const TensorInfo& tensor) {
    return std::any_of(read.begin(), read.end(), [&](std::span<const std::byte> file) {
      return holds(file, tensor.data.data());
    });
  };
  const std::string mtp_prefix = formatted("model.layers.{}.", config.num_hidden_layers);
  for (const TensorInfo& tensor : shards.tensors) {
    if (!mtp && tensor.name.starts_with(mtp_prefix)) continue;
    bytes.bound += tensor.data.size();
    if (!in_read(tensor)) bytes.mapped += tensor.data.size();
  }
  return bytes;
}

BackendOptions backend_options(const PlanOptions& options) {
  return {.device = options.device,
          .device_index = options.device_index,
          .num_threads = options.num_threads,
          .module_path = options.module_path};
}

std::string shortage(const char* where, std::size_t need, std::size_t there) {
  return formatted("{} are available{}: {} too few", human_bytes(there), where,
                   human_bytes(need - there));
}

// What the device has, if it has memory of its own, and what the host has.
void compare(Plan& plan, bool own_memory) {
  const bool on_host = !plan.available_bytes || plan.host_bytes <= *plan.available_bytes;
  const bool on_device =
      !plan.device_available_bytes || plan.device_bytes <= *plan.device_available_bytes;
  plan.fits = on_host && on_device;
  if (plan.fits) return;
  const std::size_t need = own_memory && on_device ? plan.host_bytes
                           : own_memory            ? plan.device_bytes
                                                   : plan.host_bytes;
  if (own_memory && on_device) {
    plan.reason = formatted("needs {} of the host's memory, {}", human_bytes(need),
                            shortage("", need, *plan.available_bytes));
    return;
  }
  plan.reason =
      formatted("needs {} (weights {}, cache {}, activations {}), {}", human_bytes(need),
                human_bytes(plan.weight_bytes), human_bytes(plan.kv_cache_bytes),
                human_bytes(plan.activation_bytes),
                own_memory ? shortage(" on the device", need, *plan.device_available_bytes)
                           : shortage("", need, *plan.available_bytes));
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
  const bool own_memory = kind.staging_bytes > 0;
  DSV32_CHECK(own_memory || options.device_memory_bytes == 0, invalid_argument,
              "device_memory_bytes is {}: the device {} has no memory of its own",
              options.device_memory_bytes, to_string(options.device));
  const WeightBytes weights = weight_bytes(config, shards, options.access, forward.buffers.mtp);
  Plan plan;
  plan.weight_bytes = own_memory ? weights.bound : weights.read + weights.mapped;
  plan.kv_cache_bytes = cache_bytes(config, forward);
  plan.activation_bytes = Buffers(config, forward.buffers, nullptr).bytes +
                          kind.scratch_bytes(backend_limits(config, forward.buffers), backend);
  const std::size_t model = plan.weight_bytes + plan.kv_cache_bytes + plan.activation_bytes;
  plan.host_bytes = own_memory ? weights.read + kind.staging_bytes : model;
  plan.device_bytes = own_memory ? model : 0;
  plan.available_bytes = options.memory_bytes > 0
                             ? options.memory_bytes
                             : backend_kind(Device::cpu).available_memory(backend);
  if (own_memory) {
    plan.device_available_bytes = options.device_memory_bytes > 0 ? options.device_memory_bytes
                                                                  : kind.available_memory(backend);
  }
  compare(plan, own_memory);
  return plan;
}

Plan Checkpoint::plan(const PlanOptions& options) const {
  const Impl& impl = held(impl_);
  const FloatState ours;
  return make_plan(impl.config, impl.shards, options);
}

}  // namespace dsv32
