// A request and its answers, from submit() to their last updates.
#ifndef DSV32_LIB_ENGINE_REQUEST_STATE_H_
#define DSV32_LIB_ENGINE_REQUEST_STATE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "dsv32/engine.h"

#include "lib/engine/draft_passes.h"
#include "lib/engine/generation.h"
#include "lib/engine/pass_part.h"
#include "lib/engine/scheduler.h"
#include "lib/engine/sequence.h"
#include "lib/engine/swap_space.h"

namespace dsv32 {

struct RequestState;

// One of a request's answers. What is not said to be under the engine's lock belongs to the thread
// that steps.
class Answer : public Job {
 public:
  // Throws as GenerateOptions::validate and GenerationState.
  Answer(RequestState& of, int number, const GenerateOptions& asked, std::uint64_t its_seed);

  // Asks for the first mask; what it throws is the answer's failure.
  void prepare() noexcept;
  // It has pages, and runs: for the first time, or once more.
  void begin() noexcept;
  // Counts a piece that has run, and reads what it says of the prompt's tokens.
  void take_rows(const StepResult& result) noexcept;
  // The next token, given the logits behind all that is known.
  void draw(std::span<const float> logits) noexcept;
  void fail(std::exception_ptr error) noexcept;
  void cancel() noexcept { generation.end(FinishReason::cancelled); }
  bool over() const { return generation.ended() || update_.error != nullptr; }
  FinishReason reason() const { return update_.finish_reason; }  // when it is concluded
  std::size_t new_tokens() noexcept;                             // since it was asked last
  bool has_begun() const { return begun_ != std::chrono::steady_clock::time_point(); }
  bool has_drawn() const { return drawn_ != std::chrono::steady_clock::time_point(); }
  // It is over: what was held back, and why it ended. Once.
  void conclude() noexcept;
  RequestUpdate take_update() noexcept;

  // Rows that the next step may run behind its last token, for guesses.
  std::size_t most_drafts() const noexcept;
  // The guess behind the rows that count is what was drawn: its row counts, too.
  void take_guess() noexcept;
  // What was wrong goes.
  void end_guesses(const StepResult& result) noexcept;
  DraftCounts& drafted() { return drafted_; }

  // Whether rows of the prompt are run for what they say of it, cached or not.
  bool reads_prompt() const { return reader_.has_value(); }

  RequestState& request;
  const int index;
  const GenerateOptions options;
  const std::uint64_t seed;
  GenerationState generation;

  Sequence sequence;
  std::optional<Growth> growth;  // from the plan until the pass has run
  PassPart part{};               // of the pass
  Guesses guesses{};             // while its growth has more rows than are known to be right
  std::vector<TokenId> known;    // prompt and output, while it runs or has run
  std::size_t computed = 0;      // the most of them that has been in the cache
  Reuse reuse{};
  bool started = false;                 // has pages since this plan
  bool deferred = false;                // in the last plan: another one computes what it needs
  bool cold = false;                    // begins without what is cached
  bool swap_asked = false;              // since its last pass: whether its pages are worth a copy
  std::optional<SwappedPages> swapped;  // the copy
  bool arriving = false;                // its pages take their bytes from there before the pass
  std::size_t arriving_from = 0;        // those behind so many
  bool news = false;                    // something to tell of this step
  bool concluded = false;

  // Under the lock.
  Scheduler::Node node;  // while it is in no queue
  bool in_pass = false;  // has rows in the pass that runs, and its request goes on
  bool ended = false;    // it is in no queue, has no pages, and its last update is to be told
  bool told = false;     // is in the list of those with something to tell
  Answer* next_told = nullptr;

 private:
  void read_prompt(const StepResult& result);
  void accept(std::span<const float> logits);
  Usage usage() const noexcept;

  RequestUpdate update_{};
  std::size_t reported_ = 0;               // bytes of text
  std::size_t counted_ = 0;                // tokens
  std::optional<Sampler> reader_;          // of the prompt's logprobs, until they are all there
  std::vector<TokenLogprob> prompt_read_;  // so far
  SparseStats sparse_{};
  DraftCounts drafted_{}, accepted_{};
  Usage usage_{};  // when it is over
  std::chrono::steady_clock::time_point begun_{}, drawn_{}, last_{};
};

struct RequestState {
  // Throws what is wrong with `asked`. Its answers are in no queue.
  RequestState(std::shared_ptr<LoadedModel> model, Request asked, RequestId number);

  const std::shared_ptr<LoadedModel> model;
  const RequestId id;
  const std::uint64_t tag;
  const std::vector<TokenId> prompt;
  const std::string scope;
  const bool prompt_logprobs;
  const std::chrono::steady_clock::time_point submitted = std::chrono::steady_clock::now();
  std::atomic<bool> cancelled{false};

  // Under the engine's lock.
  std::deque<Answer> answers;
  bool taken = false;       // from the inbox
  std::size_t left = 0;     // answers whose last update has not been returned
  std::size_t queued = 0;   // answers that the scheduler has been given: the first, then the others
  std::size_t counted = 0;  // tokens of the prompt that statistics know
  bool begun = false;

  // When the prompt has run, for the other answers: all of it, and the logits behind it.
  std::optional<Sequence> prompt_sequence;
  std::vector<float> prompt_logits;

  std::unique_ptr<RequestState> next_dead;
  // Last, so that it ends first: it may be running on another thread.
  std::optional<std::stop_callback<std::function<void()>>> on_cancel;
};

}  // namespace dsv32

#endif  // DSV32_LIB_ENGINE_REQUEST_STATE_H_
