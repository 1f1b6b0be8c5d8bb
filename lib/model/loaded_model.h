// What a Model handle points to: all shared state, and the one door to compute.
#ifndef DSV32_LIB_MODEL_LOADED_MODEL_H_
#define DSV32_LIB_MODEL_LOADED_MODEL_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/model.h"

#include "lib/backend/backend.h"
#include "lib/base/float_state.h"
#include "lib/base/function_ref.h"
#include "lib/model/forward.h"
#include "lib/model/page_pool.h"
#include "lib/model/turn.h"
#include "lib/weights/checkpoint_impl.h"

namespace dsv32 {

class LoadedModel {
 public:
  LoadedModel(const std::filesystem::path& dir, const LoadOptions& options);
  ~LoadedModel();
  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;

  // tokenizer.json, if there is one; throws mismatch if its tokens are more than the model's.
  static std::optional<Tokenizer> read_tokenizer(const CheckpointFiles& files);

  bool is_own_process() const noexcept;  // not a forked child
  void check_process() const;            // throws state in one

  // Runs a step when it is its turn: nothing else computes. Throws cancelled while it waits or
  // between layers, state in a forked child or as Turns::wait, and, once the device has failed,
  // that error for ever.
  void step(const Batch& batch, StepResult& result, const std::stop_token& cancel);

  // The bytes of pages for a file, one behind the other, when it is their turn; and back. Throw as
  // step(), `cancel` ends the wait.
  struct PagePart {
    std::int32_t page = 0;
    PageTokens tokens{};
    std::span<const std::byte> hidden{};  // takes the place of the page's hidden row, if any
  };
  std::size_t page_bytes() const { return forward_->page_bytes(); }
  std::size_t hidden_bytes() const { return forward_->hidden_bytes(); }
  void read_pages(std::span<const PagePart> pages, std::span<std::byte> out,
                  const std::stop_token& cancel);
  void write_pages(std::span<const std::int32_t> pages, std::span<const std::byte> in,
                   const std::stop_token& cancel);

  // "key=value" a line: what the bytes of a page and the logits depend on. `weights` is of samples,
  // as in Checkpoint::fingerprint; where the whole of them was verified, `all_weights` is there,
  // too. `kernel_set` is for information. Thread-safe; reads files the first time.
  std::string description() const;

  void log(LogLevel level, const std::string& message) const noexcept;

  std::size_t kv_cache_bytes() const { return forward_->kv_cache_bytes(); }
  std::size_t activation_bytes() const {
    return forward_->activation_bytes() + backend_->scratch_bytes();
  }
  std::string_view kernel_set() const { return backend_->kernel_set(); }
  // Of its own, as the caller asked for: who wanted one thread, or has an Executor, gets no other.
  bool has_threads() const { return !options.backend.executor && backend_->workers().there > 1; }
  bool has_mtp() const { return forward_->has_mtp(); }
  PagePool& pages() const { return *pages_; }  // has a lock of its own

  // Whether the files are as they were loaded, as far as can be seen; throws mismatch. A look at
  // each, microseconds.
  void check_files() const;

 private:
  // While the constructor runs; first, so that it holds for all that members compute.
  mutable std::optional<FloatState> loading_;

 public:
  // Constant after construction.
  LoadOptions options;
  CheckpointFiles files;
  const ModelConfig& config;
  ForwardOptions forward_options;
  std::size_t weight_bytes = 0;
  std::optional<Tokenizer> tokenizer;
  SamplingParams sampling;          // generation_config.json's
  std::vector<TokenId> end_tokens;  // config.json's, then those that generation_config.json adds
  std::int32_t owner_process;

 private:
  std::string weights_print(Verify verify) const;
  void progress(double fraction) const;
  // Throws as step().
  void in_turn(const std::stop_token& cancel, FunctionRef<void()> work);
  void warn(const std::string& message) const noexcept;  // unless it is empty
  void check_wishes() const;
  void check_memory();
  void read_files();
  void load_forward();
  void touch_weights() const;
  void read_defaults();
  void say_nan(const StepResult& result);

  double read_until_ = 0.0;  // the part of loading that reading files takes, behind kFilesRead
  std::unique_ptr<PagePool> pages_;
  std::unique_ptr<Turns> turns_;
  // By turns.
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Forward> forward_;
  std::optional<Error> broken_;
  std::atomic<bool> said_nan_{false};
  mutable std::mutex prints_mutex_;
  mutable std::array<std::string, 3> prints_;  // by Verify; empty: not asked for yet
};

class Model::Impl : public LoadedModel {
 public:
  static constexpr std::string_view kOwner = "Model";
  using LoadedModel::LoadedModel;
};

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_LOADED_MODEL_H_
