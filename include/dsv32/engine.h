// Many requests at once, continuously batched: the engine plans, the application calls step().
#ifndef DSV32_ENGINE_H_
#define DSV32_ENGINE_H_

#include <chrono>
#include <exception>

#include "dsv32/session.h"

namespace dsv32 {

using RequestId = std::uint64_t;  // 1, 2, ..; never used twice

struct Request {
  std::vector<TokenId> prompt{};
  // As for Session::generate, a copy for each answer. max_tokens 0: the prompt is cached, no more.
  GenerateOptions options{};
  int n = 1;         // answers; number i is what a request of its own with seed + i would get
  int priority = 0;  // higher first, always; equal ones in order of arrival
  // Prompts share cached pages within one scope only: timing tells nothing of other scopes.
  std::string cache_scope{};
  bool prompt_logprobs = false;  // of every prompt token; its rows are run, cached or not
  std::uint64_t tag = 0;         // the application's; comes back with every update
};

// What one step did for one answer.
struct RequestUpdate {
  RequestId id = 0;
  std::uint64_t tag = 0, seed = 0;       // the request's; what is drawn with, asked for or not
  int index = 0, preemptions = 0;        // 0 .. n - 1; so far: they cost time, never a bit
  std::vector<GeneratedToken> tokens{};  // new ones, without the end token
  std::string text{};                    // theirs; with the last update also what was held back
  std::size_t prompt_done = 0;           // tokens of the prompt that have been in the cache
  Reuse reuse{};                         // of the prompt, against the nearest cached one
  std::vector<TokenLogprob> prompt_logprobs{};      // [prompt - 1], once, with index 0
  FinishReason finish_reason = FinishReason::none;  // any other: the last update of this answer
  std::string stop_string{};                        // the one that ended it
  std::optional<TokenId> stop_token{};              // likewise
  Usage usage{};                                    // so far
  std::exception_ptr error{};                       // set if, and only if, finish_reason is `error`
};

struct EngineOptions {
  int max_sequences = 0;   // answers that run at once; 0 = LoadOptions::max_sequences, more: error
  int max_waiting = 1024;  // answers; beyond: submit() throws capacity
  // How long a step should take while several answers run; prompts are cut so, by the speed that
  // was measured. 0: as many tokens as LoadOptions::max_batch_tokens.
  std::chrono::milliseconds step_target{200};
  bool reuse_prefixes = true;  // keep the pages of finished requests for equal prompt prefixes
  int draft_tokens = 0;        // of every answer that runs: as GenerateOptions::draft_tokens says
  // Host memory for the pages of preempted answers, whose tokens are else computed again: used
  // where that is slower than to copy them, as far as was measured.
  std::size_t swap_bytes = 0;
};

// Gauges of now, and counters since the engine was made. Tokens of cache are whole pages.
struct EngineStats {
  int running = 0, waiting = 0;  // answers
  // What the Model's pool holds; of it owned by answers and Sessions; kept only to be found again.
  std::size_t cache_tokens = 0, cache_tokens_used = 0, cache_tokens_reusable = 0;
  // Of the prompts that got to run (one for n answers), found cached, and not. When all have run:
  // prompt = reused + computed; what runs once more, after preemptions, is apart.
  std::uint64_t prompt_tokens = 0, reused_tokens = 0, computed_tokens = 0, recomputed_tokens = 0;
  std::uint64_t generated_tokens = 0, evicted_tokens = 0, preemptions = 0, steps = 0;
  std::uint64_t finished = 0, cancelled = 0, failed = 0;  // answers, each in one of them
  std::uint64_t swapped_tokens = 0;                       // that came back from host memory
  DraftCounts drafted{}, accepted{};
  double step_seconds = 0.0;  // of passes, waits for turns with them
};

// Starts no thread. Move-only; of a moved-from one, and in a child of fork(), functions that may
// throw throw state, the others return empty values.
// An answer is, token for token and logit for logit, what Session::generate gives for its prompt
// and options alone: whatever runs beside it, however it was cut, cached, preempted or drafted.
// Each step advances every running answer, and prompts in what time is left (at least a quarter).
// Within a priority at most `max_sequences` that came later run before one that waits. If pages run
// out, unused prefixes go, then the youngest answer of the lowest priority waits until all it had
// fits again; a waiting request of higher priority takes its slot likewise. An answer that alone
// outgrows the pool ends with `error` (capacity). A request that Sessions leave no pages for waits.
// Threads: step() one at a time, a second call throws busy; everything else from any. Sessions and
// other engines of the Model take turns with the steps. No call may run when it is destroyed.
class DSV32_API Engine {
 public:
  // Throws invalid_argument for options out of range; mismatch as Session's constructor.
  explicit Engine(Model model, const EngineOptions& options = {});
  ~Engine();  // ends what is left without further updates; never waits
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  // Throws what Session::generate throws before it runs a prompt (but for `allowed`), and capacity
  // if too many wait or the prompt can never fit. The engine is then as before.
  RequestId submit(Request request);

  // All its answers: what waits ends at once, what runs with the step; their last update says
  // `cancelled`. Unknown and finished ids are ignored. GenerateOptions::cancel does the same.
  void cancel(RequestId id) noexcept;

  // One forward pass over what fits; where there is none, waits at most `wait` for submit() or a
  // cancel. One answer's failure is that answer's update; step() itself throws only busy, state,
  // out of memory (nothing is lost, the next call goes on), and, for good, device and
  // communication.
  std::vector<RequestUpdate> step(std::chrono::milliseconds wait = {});

  bool idle() const noexcept;  // nothing runs or waits, and step() has returned every update
  EngineStats stats() const noexcept;

  // The prefix cache in Sessions; no KV is copied. cached(): one with the longest cached prefix of
  // `tokens`, maybe none, which stays while it lives. cache(): a Session's whole pages for later
  // prompts; throws invalid_argument for another Model's, busy. forget(): a scope's unused pages
  // go.
  Session cached(std::span<const TokenId> tokens, std::string_view cache_scope = {}) const;
  void cache(const Session& session, std::string_view cache_scope = {});
  void forget(std::string_view cache_scope = {}) noexcept;

 private:
  class Impl;
  Impl& state() const;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dsv32

#endif  // DSV32_ENGINE_H_
