// A Session's state: its tokens, its pages, the logits after the last token.
#ifndef DSV32_LIB_ENGINE_SESSION_IMPL_H_
#define DSV32_LIB_ENGINE_SESSION_IMPL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <stop_token>
#include <vector>

#include "dsv32/session.h"

#include "lib/model/model_impl.h"

namespace dsv32 {

class Session::Impl {
 public:
  explicit Impl(Model model);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  std::span<const float> append(std::span<const TokenId> tokens, const std::stop_token& cancel);
  std::span<const float> sync(std::span<const TokenId> tokens, const std::stop_token& cancel);
  void truncate(std::size_t length);
  std::unique_ptr<Impl> fork();
  void observe(const TraceOptions& options, TraceSink sink);

  const Model model;
  std::vector<TokenId> tokens;
  Reuse reuse;
  SparseStats stats;
  std::atomic<bool> in_use{false};

  class Generator;  // generate()'s loop

 private:
  Model::Impl& shared() const { return *model_; }
  void check_tokens(std::span<const TokenId> list, std::size_t before) const;
  void extend_pages(std::size_t new_length);
  void shrink_pages(std::size_t length) noexcept;
  void refresh_mtp(const std::stop_token& cancel);
  void run_chunk(std::size_t first, std::size_t count, bool last, const std::stop_token& cancel);
  Batch make_batch(std::size_t first, std::size_t count) const;
  void count_stats(std::size_t first, std::size_t count);
  void emit_trace(std::size_t first, std::size_t count, Capture& capture,
                  std::span<const float> logits);
  std::size_t chunk_tokens() const;

  std::shared_ptr<Model::Impl> model_;
  std::vector<std::int32_t> pages_;
  std::vector<float> logits_;  // after the last token; empty: unknown
  MtpState mtp_;
  TraceOptions trace_;
  TraceSink sink_;
};

// Marks a session as in use; a second user gets busy.
class InUse {
 public:
  explicit InUse(std::atomic<bool>& flag);
  ~InUse() { flag_.store(false, std::memory_order_release); }
  InUse(const InUse&) = delete;
  InUse& operator=(const InUse&) = delete;

 private:
  std::atomic<bool>& flag_;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_SESSION_IMPL_H_
