#include "cli/batch_run.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <utility>

namespace cli {
namespace {

constexpr std::size_t kMostAnswers = 128;  // of a line

// Enough that a slot which becomes free is never empty.
std::size_t most_open(int max_sequences) { return 2 * static_cast<std::size_t>(max_sequences); }

dsv32::EngineOptions engine_options(const BatchOptions& options) {
  return {.max_sequences = options.max_sequences,
          .max_waiting = static_cast<int>(most_open(options.max_sequences) + kMostAnswers),
          .step_target = std::chrono::milliseconds(0),  // nobody waits for a token
          .draft_tokens = options.draft_tokens};
}

}  // namespace

BatchRun::BatchRun(const dsv32::Model& model, BatchInput& input, BatchOutput& output,
                   const BatchOptions& options)
    : model_(model),
      tokenizer_(model.tokenizer()),
      input_(input),
      output_(output),
      options_(options),
      engine_(model, engine_options(options)) {}

bool BatchRun::run(const std::function<void(std::size_t)>& on_step) {
  for (;;) {
    fill();
    on_step(output_.results());
    if (options_.cancel.stop_requested()) return false;
    if (jobs_.empty()) return true;
    for (const dsv32::RequestUpdate& update : engine_.step(std::chrono::milliseconds(100)))
      take(update);
  }
}

void BatchRun::fill() {
  std::string text;
  while (more_ && open_ < most_open(options_.max_sequences) && !options_.cancel.stop_requested()) {
    more_ = input_.next(text);
    if (more_) begin(text);
  }
}

void BatchRun::begin(const std::string& text) {
  const std::size_t line = input_.number();
  Job job{.line = line, .id = {.id = output_.id(line)}};
  BatchLine read;
  if (input_.too_long())
    read.error = BatchError(
        "the line has more than " + std::to_string(BatchInput::kLongest) + " bytes", "", "limit");
  else
    read = read_batch_line(text, model_.default_sampling());
  job.id.custom_id = read.custom_id;
  if (read.custom_id) {
    const auto [other, fresh] = lines_.emplace(*read.custom_id, line);
    if (!fresh)
      read.error =
          BatchError("\"custom_id\" is that of line " + std::to_string(other->second), "custom_id");
  }
  if (output_.has(line)) return;
  if (read.error) return fail(line, job.id, *read.error);
  job.request = std::move(read.request);
  if (job.request.model.empty()) job.request.model = options_.model;
  const auto place = jobs_.emplace(next_, std::move(job)).first;
  next_ += kMostAnswers;
  submit(place->second);
  if (place->second.error && place->second.answers.empty()) write(place);
}

void BatchRun::submit(Job& job) {
  const std::uint64_t first = next_ - kMostAnswers;
  dsv32::ChatOptions chat{.generate = job.request.options};
  chat.generate.cancel = options_.cancel;
  const std::optional<std::uint64_t> seed = chat.generate.sampling->seed;
  try {
    for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(job.request.n); ++i) {
      if (seed) chat.generate.sampling->seed = *seed + i;
      dsv32::ChatStream stream(model_, job.request.messages, job.request.mode, chat);
      const std::span<const dsv32::TokenId> prompt = stream.prompt();
      dsv32::Request request{.prompt = {prompt.begin(), prompt.end()},
                             .options = stream.generate_options(),
                             .tag = first + i};
      job.answers.push_back({.stream = std::move(stream)});
      try {
        job.answers.back().request = engine_.submit(std::move(request));
      } catch (...) {
        job.answers.pop_back();
        throw;
      }
      ++open_;
    }
  } catch (const std::exception&) {
    job.error = request_error(std::current_exception());
    stop(job);
  }
}

void BatchRun::stop(Job& job) {
  for (Answer& answer : job.answers) {
    if (answer.finished || answer.stopping) continue;
    answer.stopping = true;
    engine_.cancel(answer.request);
  }
}

void BatchRun::take(const dsv32::RequestUpdate& update) {
  const auto place = std::prev(jobs_.upper_bound(update.tag));
  Job& job = place->second;
  Answer& answer = job.answers[update.tag - place->first];
  for (const dsv32::GeneratedToken& token : update.tokens) answer.stream.feed(token);
  if (update.finish_reason != dsv32::FinishReason::none) {
    finish(answer, job, update);
    const bool all = std::all_of(job.answers.begin(), job.answers.end(),
                                 [](const Answer& other) { return other.finished; });
    if (all) write(place);
  } else if (answer.stream.ended() && !answer.stopping) {
    answer.stopping = true;
    engine_.cancel(answer.request);
  }
}

void BatchRun::finish(Answer& answer, Job& job, const dsv32::RequestUpdate& update) {
  answer.finished = true;
  --open_;
  if (update.finish_reason == dsv32::FinishReason::error) {
    if (!job.error) job.error = request_error(update.error);
    return stop(job);
  }
  job.dropped = job.dropped || (update.finish_reason == dsv32::FinishReason::cancelled &&
                                !answer.stopping && !answer.stream.ended());
  dsv32::Generation end{.finish_reason = update.finish_reason, .usage = update.usage};
  end.stop_token = update.stop_token;
  end.seed = update.seed;
  answer.stream.finish(end);
}

void BatchRun::write(Jobs::iterator place) {
  Job job = std::move(place->second);
  jobs_.erase(place);
  if (job.dropped) return;
  if (job.error) return fail(job.line, job.id, *job.error);
  std::vector<dsv32::ChatTurn> turns;
  for (const Answer& answer : job.answers) turns.push_back(answer.stream.turn());
  output_.write(job.line, one_line(batch_result(job.id, job.request, turns, tokenizer_)));
  ++answered_;
}

void BatchRun::fail(std::size_t line, const BatchId& id, const BatchError& error) {
  output_.write(line, one_line(batch_failure(id, error)));
  ++failed_;
}

}  // namespace cli
