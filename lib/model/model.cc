// Model::load, and what a loaded model tells about itself.
#include "dsv32/model.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/json.h"
#include "lib/base/thread_pool.h"
#include "lib/model/model_impl.h"
#include "lib/model/plan.h"
#include "lib/text/markers.h"
#include "lib/text/vocabulary.h"

namespace dsv32 {
namespace {

constexpr std::size_t kMaxSmallFile = 1u << 20;

PlanOptions plan_options(const LoadOptions& o) {
  return {.device = o.backend.device,
          .numerics = o.numerics,
          .kv_format = o.kv_format,
          .indexer_keys = o.indexer_keys,
          .access = o.access,
          .kv_cache_tokens = o.kv_cache_tokens,
          .max_batch_tokens = o.max_batch_tokens,
          .num_threads = pool_size(o.backend),
          .mtp = o.mtp};
}

constexpr const char* kGeneration = "generation_config.json";

// The number behind `key`; none if it is absent or null.
std::optional<double> number(const Json& object, std::string_view key) {
  const Json* value = object.find(key);
  if (!value || value->kind == Json::Kind::null) return {};
  if (value->kind == Json::Kind::real) return value->real;
  DSV32_CHECK(value->kind == Json::Kind::integer, bad_format, "{}: key {} is no number",
              kGeneration, key);
  return static_cast<double>(parse_i64(value->text, key));
}

// Temperature, top_p and top_k; greedy if do_sample is false.
SamplingParams read_sampling(const Folder& folder) {
  SamplingParams params;
  if (!folder.has(kGeneration)) return params;
  const Json root = parse_json(read_text(folder, kGeneration, kMaxSmallFile), kGeneration);
  DSV32_CHECK(root.is_object(), bad_format, "{}: no JSON object", kGeneration);
  if (const auto value = number(root, "temperature")) {
    params.temperature = static_cast<float>(*value);
  }
  if (const auto value = number(root, "top_p")) params.top_p = static_cast<float>(*value);
  if (const auto value = number(root, "top_k")) {
    DSV32_CHECK(*value >= 0 && *value <= std::numeric_limits<int>::max(), bad_format,
                "{}: top_k is {}", kGeneration, *value);
    params.top_k = static_cast<int>(*value);
  }
  const Json* sample = root.find("do_sample");
  if (sample && sample->kind == Json::Kind::boolean && !sample->boolean) params.temperature = 0.0f;
  try {
    static_cast<void>(Sampler(params));
  } catch (const Error& error) {  // a fault of the file, not of who loads it
    throw Error(ErrorCode::bad_format, formatted("{}: {}", kGeneration, error.what()));
  }
  return params;
}

}  // namespace

void TicketLock::lock() {
  std::unique_lock guard(mutex_);
  const std::uint64_t ticket = next_++;
  turn_.wait(guard, [&] { return serving_ == ticket; });
}

void TicketLock::unlock() {
  const std::lock_guard guard(mutex_);
  ++serving_;
  turn_.notify_all();
}

Model::Impl::Impl(const std::filesystem::path& dir, const LoadOptions& load)
    : options(load),
      files(dir, load.access),
      config(files.config),
      forward_options(dsv32::forward_options(config, plan_options(load))),
      owner_process(getpid()) {
  progress(0.0);
  DSV32_CHECK(!load.require_sparse || config.index_topk > 0, unsupported,
              "require_sparse: a {} model has no indexer", config.model_type);
  DSV32_CHECK(!load.mtp || config.num_nextn_predict_layers > 0, unsupported,
              "mtp: the model has no MTP layer");
  const Plan plan = make_plan(config, files.shards, plan_options(load));
  DSV32_CHECK(plan.fits || load.allow_paging, out_of_memory, "{}", plan.reason);
  pages = PagePool(static_cast<std::size_t>(forward_options.num_pages));
  weight_bytes = plan.weight_bytes;
  if (files.folder.has("tokenizer.json")) {
    tokenizer = Tokenizer::parse(read_text(files.folder, "tokenizer.json", kMaxTokenizerBytes));
  }
  check_tokenizer();
  sampling = read_sampling(files.folder);
  progress(0.1);
  backend = make_cpu_backend(load.backend);
  ModelWeights weights = bind_weights(
      config, files.shards, *backend,
      {.mtp = load.mtp, .allow_unused = load.allow_unused_tensors, .verify = load.verify});
  progress(0.5);
  forward = std::make_unique<Forward>(config, forward_options, *backend, std::move(weights));
  if (load.preload || load.lock_memory) touch_weights();
  progress(1.0);
}

void Model::Impl::progress(double fraction) const {
  DSV32_CHECK(!options.on_progress || options.on_progress(fraction), cancelled,
              "loading was given up by on_progress");
}

void Model::Impl::check_tokenizer() const {
  if (!tokenizer) return;
  DSV32_CHECK(tokenizer->vocab_size() <= config.vocab_size, mismatch,
              "tokenizer.json has {} tokens, the model's vocabulary {}", tokenizer->vocab_size(),
              config.vocab_size);
}

void Model::Impl::touch_weights() const {
  constexpr std::size_t kStep = 4096;
  std::size_t done = 0;
  volatile std::byte sink{};  // keeps the reads
  for (const File& file : files.shards.files) {
    const std::span<const std::byte> bytes = file.bytes();
    for (std::size_t i = 0; i < bytes.size(); i += kStep) sink = bytes[i];
    DSV32_CHECK(!options.lock_memory || mlock(bytes.data(), bytes.size()) == 0, out_of_memory,
                "cannot lock {} bytes of weights in memory", bytes.size());
    progress(0.5 + 0.5 * static_cast<double>(++done) /
                       static_cast<double>(files.shards.files.size() + 1));
  }
  static_cast<void>(sink);
}

bool Model::Impl::is_own_process() const noexcept { return getpid() == owner_process; }

void Model::Impl::check_process() const {
  DSV32_CHECK(is_own_process(), state, "this Model was loaded before fork()");
}

Model::Model(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Model Model::load(const std::filesystem::path& dir, const LoadOptions& options) {
  return Model(std::make_shared<Impl>(dir, options));
}

const ModelConfig& Model::config() const& noexcept { return impl_->config; }

Tokenizer Model::tokenizer() const {
  DSV32_CHECK(impl_->tokenizer, not_found, "the model's folder has no tokenizer.json");
  return *impl_->tokenizer;
}

ChatTemplate Model::chat_template() const {
  if (impl_->options.chat_format) return ChatTemplate(*impl_->options.chat_format);
  DSV32_CHECK(impl_->config.model_type == "deepseek_v32", unsupported,
              "the chat format of a {} model must be named in LoadOptions::chat_format",
              impl_->config.model_type);
  return ChatTemplate(tokenizer().find(markers::kDsml) ? ChatFormat::v32 : ChatFormat::v31);
}

SamplingParams Model::default_sampling() const { return impl_->sampling; }

MemoryUsage Model::memory_usage() const noexcept {
  const Forward& forward = *impl_->forward;
  return {.weight_bytes = impl_->weight_bytes,
          .kv_cache_bytes = forward.kv_cache_bytes(),
          .activation_bytes = forward.activation_bytes() + impl_->backend->scratch_bytes()};
}

std::size_t Model::free_cache_tokens() const noexcept {
  if (!impl_->is_own_process()) return 0;
  const std::lock_guard guard(impl_->lock);
  return impl_->pages.free_pages() * kernels::kPageSize;
}

bool Model::is_sparse() const noexcept { return impl_->config.index_topk > 0; }

std::string_view Model::kernel_set() const noexcept { return impl_->backend->kernel_set(); }

}  // namespace dsv32
