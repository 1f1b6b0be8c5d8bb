#include "lib/engine/request_state.h"

#include <algorithm>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/seconds.h"
#include "lib/sampling/sampler_access.h"

namespace dsv32 {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostLogitBytes = std::size_t{64} << 20;  // of a prompt's rows, in one step

GenerateOptions with_seed(const GenerateOptions& asked, const LoadedModel& model,
                          std::uint64_t seed) {
  GenerateOptions options = asked;
  if (!options.sampling) options.sampling = model.sampling;
  options.sampling->seed = seed;
  return options;
}

std::size_t sum(std::size_t x, std::size_t y) { return y > SIZE_MAX - x ? SIZE_MAX : x + y; }

}  // namespace

Answer::Answer(RequestState& of, int number, const GenerateOptions& asked, std::uint64_t its_seed)
    : request(of),
      index(number),
      options(with_seed(asked, *of.model, its_seed)),
      seed(its_seed),
      generation({.tokenizer = of.model->tokenizer,
                  .end_tokens = of.model->end_tokens,
                  .sampling = of.model->sampling,
                  .vocab_size = of.model->config.vocab_size,
                  .kernel_set = of.model->kernel_set()},
                 of.prompt, options),
      sequence(of.model),
      node(Scheduler::make_node(*this)) {
  prompt = tokens = of.prompt.size();
  const auto positions = static_cast<std::size_t>(of.model->config.max_position_embeddings);
  most = std::min(sum(tokens, options.max_tokens), positions);
  if (!of.prompt_logprobs || index > 0) return;
  const auto row = sizeof(float) * static_cast<std::size_t>(of.model->config.vocab_size);
  most_at_once = std::max<std::size_t>(1, kMostLogitBytes / row);
  reader_.emplace(SamplingParams{.temperature = 0.0f});
  SamplerAccess::use_kernels(*reader_, of.model->kernel_set());
}

void Answer::prepare() noexcept {
  try {
    generation.prepare();
  } catch (...) {
    fail(std::current_exception());
  }
}

void Answer::begin() noexcept {
  started = false;
  if (!has_begun()) begun_ = Clock::now();
  computed = std::max(computed, cached);
}

void Answer::take_rows(const StepResult& result) noexcept {
  try {
    part.count(request.model->config, result, sparse_);
    if (reads_prompt()) read_prompt(result);
  } catch (...) {
    fail(std::current_exception());
  }
}

// Row i is of the token behind position i. Those of an earlier run are known.
void Answer::read_prompt(const StepResult& result) {
  const auto vocab = static_cast<std::size_t>(request.model->config.vocab_size);
  const std::span<const float> logits = part.logits(result, vocab);
  const std::size_t last = request.prompt.size() - 1;
  for (std::size_t row = 0; row < part.logits_count; ++row) {
    const std::size_t position = part.rows.position + row;
    if (position < prompt_read_.size() || position >= last) continue;
    const TokenId token = request.prompt[position + 1];
    const Sample sample = SamplerAccess::force(*reader_, logits.subspan(row * vocab, vocab), token);
    prompt_read_.push_back({.token = token, .logprob = sample.logprob});
  }
  if (prompt_read_.size() < last) return;
  update_.prompt_logprobs.swap(prompt_read_);
  reader_.reset();
}

std::size_t Answer::most_drafts() const noexcept {
  const auto positions = static_cast<std::size_t>(request.model->config.max_position_embeddings);
  if (tokens != cached + 1 || again > 0 || over() || !has_drawn() || tokens > positions) return 0;
  return std::min(generation.room(), positions - tokens);
}

void Answer::take_guess() noexcept {
  ++accepted_[guesses.taken - 1];
  growth->accept(++guesses.taken);
  cached = computed = sequence.size();
}

void Answer::end_guesses(const StepResult& result) noexcept {
  if (!growth) return;
  const std::size_t bytes = request.model->hidden_bytes();
  dsv32::end_guesses(*growth, guesses, std::span(result.hidden).subspan(part.logits_first * bytes));
  growth.reset();
  again = sequence.rows_again();
}

void Answer::draw(std::span<const float> logits) noexcept {
  try {
    last_ = Clock::now();
    if (!has_drawn()) drawn_ = last_;
    accept(logits);
  } catch (...) {
    fail(std::current_exception());
  }
}

void Answer::accept(std::span<const float> logits) {
  update_.tokens.reserve(update_.tokens.size() + 1);
  std::optional<GeneratedToken> token = generation.accept(logits);
  if (!token) return;
  const LoadedModel& model = *request.model;
  update_.tokens.push_back(*std::move(token));
  known.push_back(update_.tokens.back().sample.token);
  update_.text += update_.tokens.back().text;
  reported_ = generation.text_size();
  if (over()) return;
  tokens = known.size();
  if (tokens > static_cast<std::size_t>(model.config.max_position_embeddings))
    return generation.end(FinishReason::length);
  const std::size_t pages = pages_for(tokens);
  DSV32_CHECK(pages <= model.pages().num_pages(), capacity,
              "the cache is full: {} tokens need {} pages of 64, there are {} in all", tokens,
              pages, model.pages().num_pages());
}

void Answer::fail(std::exception_ptr error) noexcept {
  if (!update_.error) update_.error = std::move(error);
}

void Answer::conclude() noexcept {
  usage_ = usage();
  concluded = true;
  try {
    Generation end = generation.finish();
    update_.finish_reason = end.finish_reason;
    update_.stop_token = end.stop_token;
    update_.text += std::string_view(end.text).substr(std::min(reported_, end.text.size()));
    reported_ = end.text.size();
    update_.stop_string = std::move(end.stop_string);
  } catch (...) {
    fail(std::current_exception());
  }
  if (update_.error) update_.finish_reason = FinishReason::error;
}

std::size_t Answer::new_tokens() noexcept {
  const std::size_t now = generation.usage().generated_tokens;
  return now - std::exchange(counted_, now);
}

Usage Answer::usage() const noexcept {
  Usage usage = generation.usage();
  usage.prompt_tokens = request.prompt.size();
  usage.cached_tokens = reuse.matched;
  usage.queue_seconds = seconds_between(request.submitted, has_begun() ? begun_ : Clock::now());
  if (has_begun())
    usage.prefill_seconds = seconds_between(begun_, has_drawn() ? drawn_ : Clock::now());
  if (has_drawn()) usage.decode_seconds = seconds_between(drawn_, last_);
  usage.sparse = sparse_;
  usage.drafted = drafted_;
  usage.accepted = accepted_;
  return usage;
}

RequestUpdate Answer::take_update() noexcept {
  RequestUpdate out = std::exchange(update_, RequestUpdate{});
  out.id = request.id;
  out.tag = request.tag;
  out.index = index;
  out.prompt_done = std::min(computed, request.prompt.size());
  out.reuse = reuse;
  out.preemptions = preemptions;
  out.seed = seed;
  out.usage = concluded ? usage_ : usage();
  return out;
}

RequestState::RequestState(std::shared_ptr<LoadedModel> of, Request asked, RequestId number)
    : model(std::move(of)),
      id(number),
      tag(asked.tag),
      prompt(std::move(asked.prompt)),
      scope(std::move(asked.cache_scope)),
      prompt_logprobs(asked.prompt_logprobs) {
  const SamplingParams& params = asked.options.sampling ? *asked.options.sampling : model->sampling;
  asked.options.validate(model->config.vocab_size);
  const std::uint64_t seed = params.seed ? *params.seed : Sampler(params).seed();
  for (int i = 0; i < asked.n; ++i) {
    Answer& answer =
        answers.emplace_back(*this, i, asked.options, seed + static_cast<std::uint64_t>(i));
    answer.priority = asked.priority;
  }
  left = answers.size();
}

}  // namespace dsv32
