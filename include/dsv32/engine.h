// Many requests at once, continuously batched: the engine plans, the application calls step().
#ifndef DSV32_ENGINE_H_
#define DSV32_ENGINE_H_

#include <chrono>
#include <exception>
#include <string>
#include <string_view>

#include "dsv32/session.h"

namespace dsv32 {

using RequestId = std::uint64_t;  // 1, 2, ..; never used twice

struct Request {
  std::vector<TokenId> prompt{};
  // As for Session::generate. max_tokens 0: only cache the prompt, then end with `length`.
  // `allowed` is copied for each answer and called by step(), as what copies share must allow.
  GenerateOptions options{};
  int n = 1;         // answers; number i is what a request of its own with seed + i would get
  int priority = 0;  // higher first, always; equal ones in order of arrival
  // Prompts share cached pages within one scope only: what others asked cannot be found out by
  // timing. Empty: shared with all that have none.
  std::string cache_scope{};
  bool prompt_logprobs = false;  // of every prompt token; its rows are run, cached or not
  std::uint64_t tag = 0;         // the application's; comes back with every update
};

// What one step did for one answer.
struct RequestUpdate {
  RequestId id = 0;
  std::uint64_t tag = 0;
  int index = 0;                         // 0 .. n - 1
  std::vector<GeneratedToken> tokens{};  // new ones, without the end token
  std::string text{};                    // theirs; with the last update also what was held back
  std::size_t prompt_done = 0;           // tokens of the prompt cached by now
  Reuse reuse{};                         // of the prompt, against the nearest cached one
  std::vector<TokenLogprob> prompt_logprobs{};      // [prompt - 1], once, with index 0
  FinishReason finish_reason = FinishReason::none;  // any other: the last update of this answer
  std::string stop_string{};                        // the one that ended it
  std::optional<TokenId> stop_token{};              // likewise
  int preemptions = 0;                              // so far; they cost time, never a bit
  std::uint64_t seed = 0;                           // what is drawn with, asked for or not
  Usage usage{};                                    // so far
  std::exception_ptr error{};                       // set if, and only if, finish_reason is `error`
};

struct EngineOptions {
  int max_sequences = 0;   // answers that run at once; 0 = LoadOptions::max_sequences, more: error
  int max_waiting = 1024;  // answers; beyond: submit() throws capacity
  // How long a step should take while several answers run. Prompts are cut so that it holds, by
  // the speed measured so far; so a stream gets its next token, and a cancelled request ends, in
  // about this time. 0: as many tokens as LoadOptions::max_batch_tokens.
  std::chrono::milliseconds step_target{200};
  bool reuse_prefixes = true;  // keep the pages of finished requests for equal prompt prefixes
};

// Gauges of now, and counters since the engine was made. Tokens of cache are whole pages.
struct EngineStats {
  int running = 0, waiting = 0;           // answers
  std::size_t cache_tokens = 0;           // what the Model's pool holds
  std::size_t cache_tokens_used = 0;      // by answers that run and by Sessions
  std::size_t cache_tokens_reusable = 0;  // only by the prefix cache: the oldest go when needed
  std::uint64_t steps = 0;
  std::uint64_t prompt_tokens = 0;      // of requests that got to run; an n counts once
  std::uint64_t reused_tokens = 0;      // of these, found in the cache
  std::uint64_t computed_tokens = 0;    // of these; once all have run, prompt = reused + computed
  std::uint64_t recomputed_tokens = 0;  // after preemptions, and for late ones of n answers
  std::uint64_t generated_tokens = 0, evicted_tokens = 0, preemptions = 0;
  std::uint64_t finished = 0, cancelled = 0, failed = 0;  // answers, each in one of them
  double step_seconds = 0.0;
};

// Starts no thread. Move-only; a moved-from one may only be destroyed or assigned: functions that
// may throw throw state, the others return empty values. So do they in a child of fork().
//
// An answer is, token for token and logit for logit, what Session::generate gives for its prompt
// and options alone: whatever runs beside it, however it was cut, cached or preempted.
//
// Each step advances every running answer, and prompts in what time is left (at least a quarter):
// several at once, the oldest first. Within a priority at most `max_sequences` that came later get
// to run before one that waits. If pages run out, first unused prefixes go, then the youngest
// answer of the lowest priority waits, and comes back only when all it had fits again; a waiting
// request of higher priority takes its slot likewise. An answer that alone no longer fits the pool
// ends with `error` (capacity). A request that fits the pool but not beside what Sessions hold
// waits: step() returns after `wait`, stats().waiting shows it.
//
// Threads: step() one at a time, a second call throws busy; everything else from any. Sessions and
// other engines of the same Model take turns with the steps. No call may be running when it is
// destroyed. The Model's Executor, if it has one, must not call step() from a part.
class DSV32_API Engine {
 public:
  // Throws invalid_argument for options out of range; mismatch as Session's constructor.
  explicit Engine(Model model, const EngineOptions& options = {});
  ~Engine();  // ends what is left without further updates; never waits
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  // Throws what Session::generate throws before it runs a prompt (but what `allowed` alone shows),
  // and capacity if too many wait or the prompt can never fit. The engine is then as before.
  RequestId submit(Request request);

  // All its answers; their last update says `cancelled`, their pages are back by then. A request
  // that waits ends at once, one that runs with the running step at the latest. Unknown and
  // finished ids are ignored. GenerateOptions::cancel does the same.
  void cancel(RequestId id) noexcept;

  // One forward pass over what fits; if there is nothing to do, waits at most `wait` for it, until
  // submit(), cancel() or GenerateOptions::cancel. One answer's failure is that answer's update;
  // step() itself throws only busy, state, std::bad_alloc (nothing is lost, the next call goes on),
  // and, for good, device and communication.
  std::vector<RequestUpdate> step(std::chrono::milliseconds wait = {});

  bool idle() const noexcept;  // nothing runs or waits, and step() has returned every update
  EngineStats stats() const noexcept;

  // The prefix cache speaks in Sessions; no KV is copied. cached() gives one that holds the longest
  // cached prefix of `tokens`, maybe none: while it lives its pages are not evicted. cache() offers
  // a Session's whole pages to later prompts; one of another Model throws invalid_argument, one in
  // use busy. forget() drops a scope's unused pages.
  Session cached(std::span<const TokenId> tokens, std::string_view cache_scope = {}) const;
  void cache(const Session& session, std::string_view cache_scope = {});
  void forget(std::string_view cache_scope = {}) noexcept;

 private:
  class Impl;
  Impl& state() const;  // throws state, if it was moved from
  std::unique_ptr<Impl> impl_;
};

}  // namespace dsv32

#endif  // DSV32_ENGINE_H_
