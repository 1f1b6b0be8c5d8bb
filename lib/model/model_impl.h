// What a Model handle points to: all shared state, and the lock that passes take turns by.
#ifndef DSV32_LIB_MODEL_MODEL_IMPL_H_
#define DSV32_LIB_MODEL_MODEL_IMPL_H_

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "dsv32/model.h"

#include "lib/backend/backend.h"
#include "lib/model/forward.h"
#include "lib/model/page_pool.h"
#include "lib/weights/checkpoint_impl.h"

namespace dsv32 {

// First come, first served.
class TicketLock {
 public:
  void lock();
  void unlock();

 private:
  std::mutex mutex_;
  std::condition_variable turn_;
  std::uint64_t next_ = 0, serving_ = 0;
};

class Model::Impl {
 public:
  Impl(const std::filesystem::path& dir, const LoadOptions& options);

  bool is_own_process() const noexcept;  // not a forked child
  void check_process() const;            // throws state in one

  // Constant after construction.
  LoadOptions options;
  CheckpointFiles files;
  const ModelConfig& config;
  ForwardOptions forward_options;
  std::size_t weight_bytes = 0;
  std::optional<Tokenizer> tokenizer;
  SamplingParams sampling;
  std::int32_t owner_process;

  // Under `lock`.
  mutable TicketLock lock;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Forward> forward;
  PagePool pages{0};

 private:
  void progress(double fraction) const;
  void touch_weights() const;
  void check_tokenizer() const;
};

}  // namespace dsv32

#endif  // DSV32_LIB_MODEL_MODEL_IMPL_H_
