// Several sessions' tokens in common passes: plan, run, take apart, and commit when all have run.
#ifndef DSV32_LIB_ENGINE_COMMON_APPEND_H_
#define DSV32_LIB_ENGINE_COMMON_APPEND_H_

#include <cstddef>
#include <deque>
#include <span>
#include <stop_token>
#include <vector>

#include "lib/engine/pass_part.h"
#include "lib/engine/sequence.h"
#include "lib/engine/session_state.h"

namespace dsv32 {

class CommonAppend {
 public:
  // Takes the pages of all parts, or throws. The sessions are marked as in use by the caller.
  explicit CommonAppend(std::span<const SessionState::Part> parts);

  // Until all tokens have run; then the sessions have them. After an error they are as before.
  void run(const std::stop_token& cancel);

 private:
  // One session's part, and what is its when everything has run.
  struct Member {
    explicit Member(const SessionState::Part& of);

    SessionState& session;
    Growth growth;
    std::vector<float> logits{};
    SparseStats stats;
    PassPart part{};  // of the running pass
    std::size_t mtp_logits_first = 0;
  };

  bool done() const;
  void share_rows(std::vector<std::size_t>& shares) const;
  void plan(Batch& batch);
  void add(Batch& batch, Member& member, std::size_t count) const;
  void take(const Batch& batch, StepResult& result);
  void show(const Batch& batch, const StepResult& result, Member& member, int sequences) const;

  LoadedModel& model_;
  std::deque<Member> members_;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_COMMON_APPEND_H_
