// A loaded checkpoint.
#ifndef DSV32_MODEL_H_
#define DSV32_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "dsv32/backend.h"
#include "dsv32/chat_template.h"
#include "dsv32/checkpoint.h"
#include "dsv32/communicator.h"
#include "dsv32/config.h"
#include "dsv32/export.h"
#include "dsv32/sampler.h"
#include "dsv32/tokenizer.h"
#include "dsv32/types.h"

namespace dsv32 {

struct LoadOptions {
  BackendOptions backend{};
  Communicator communicator{};  // default: this process alone
  Numerics numerics = Numerics::native;
  KvFormat kv_format = KvFormat::fp8;
  IndexerKeys indexer_keys = IndexerKeys::fp8;
  std::size_t kv_cache_tokens = 32768;  // tokens that all sessions together can hold
  int max_batch_tokens = 2048;          // rows of one forward pass; sizes the activations
  int max_sequences = 16;               // that one forward pass can hold, 1 to 4,096
  bool mtp = false;                     // bind the MTP layer, too
  bool require_sparse = false;          // throw unsupported rather than run dense
  FileAccess access = FileAccess::mmap;
  Verify verify = Verify::scales;     // scales are read in any case
  bool allow_unused_tensors = false;  // a warning in the log rather than mismatch
  bool allow_paging = false;  // load although weights, cache and activations exceed free memory
  bool preload = false;       // touch every weight before load() returns
  bool lock_memory = false;   // mlock the weights
  std::optional<ChatFormat> chat_format{};             // default: what the tokenizer's markers say
  std::function<bool(double fraction)> on_progress{};  // return false to give up: cancelled
  // Called by load(), at most once for a cause and then once when it is done, and later by the
  // first pass that meets NaN (SparseStats::nan_queries).
  LogSink log{};
};

struct MemoryUsage {
  std::size_t weight_bytes = 0;  // mapped or on the device
  std::size_t kv_cache_bytes = 0;
  std::size_t activation_bytes = 0;  // with scratch; independent of how long contexts are now
};

// Weights, page pool and executor of one rank. A copyable handle to shared state: the last handle
// or Session to go frees it. All memory is taken in load(); nothing allocates on a device later.
//
// Threads: const methods from any thread; none waits for a pass. Forward passes of different
// Sessions take turns, a chunk at a time and in order of arrival.
// After fork() the child may only destroy what it inherited; other calls throw state. So do those
// of a moved-from one that may throw; the others return empty values.
class DSV32_API Model {
 public:
  // `dir` holds config.json, *.safetensors and, unless only tokens matter, tokenizer.json and
  // generation_config.json.
  static Model load(const std::filesystem::path& dir, const LoadOptions& options = {});

  const ModelConfig& config() const&;
  const ModelConfig& config() && = delete;
  Tokenizer tokenizer() const;  // a cheap handle; throws not_found if `dir` has none
  // Throws unsupported for a family whose chat format LoadOptions::chat_format must name and does
  // not; mismatch if the tokenizer lacks a marker of the format.
  ChatTemplate chat_template() const;
  SamplingParams default_sampling() const;  // generation_config.json, or SamplingParams{}
  // What ends an answer: config.json's eos_token_id, then those that generation_config.json adds.
  std::span<const TokenId> end_tokens() const&;
  std::span<const TokenId> end_tokens() && = delete;
  MemoryUsage memory_usage() const noexcept;
  std::size_t free_cache_tokens() const noexcept;  // 0 in a child of fork()
  bool is_sparse() const noexcept;                 // has an indexer
  std::string_view kernel_set() const noexcept;

 private:
  friend class Engine;
  friend class Session;
  class Impl;
  explicit Model(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace dsv32

#endif  // DSV32_MODEL_H_
