// `dsv32 best-of`: one question, many answers over one prompt, a vote among the longest thoughts.
// The method of DeepSeek-V3.2-Speciale's competition results (the paper's appendix): drop what is
// not valid, keep the longest reasonings, take what most of them answer.
#include <memory>
#include <optional>
#include <vector>

#include "cli/cli.h"
#include "cli/limited_regex.h"
#include "cli/output.h"
#include "cli/vote.h"

namespace cli {
namespace {

constexpr int kMostCandidates = 128;
constexpr std::chrono::milliseconds kSearch{1000};  // an expression may take so long

struct BestOfCommand {
  ModelOptions model{};
  SamplingOptions sampling{};
  std::string file{};
  std::string system{};
  std::string answer{};
  int of = 16;
  int keep = 4;
};

// Every candidate is a request of its own, with a seed of its own: the Engine shares the prompt.
class Candidates {
 public:
  Candidates(const dsv32::Model& model, const std::vector<dsv32::Message>& messages,
             const dsv32::GenerateOptions& options, int count, int drafts)
      : model_(model), engine_(model, {.draft_tokens = drafts}) {
    dsv32::ChatOptions chat{.generate = options};
    const std::uint64_t seed = dsv32::Sampler(*options.sampling).seed();
    for (int i = 0; i < count; ++i) {
      chat.generate.sampling->seed = seed + static_cast<std::uint64_t>(i);
      dsv32::ChatStream stream(model, messages, dsv32::ThinkingMode::thinking, chat);
      const std::span<const dsv32::TokenId> prompt = stream.prompt();
      const dsv32::RequestId id = engine_.submit({.prompt = {prompt.begin(), prompt.end()},
                                                  .options = stream.generate_options(),
                                                  .tag = static_cast<std::uint64_t>(i)});
      answers_.push_back({.stream = std::move(stream), .request = id});
    }
  }

  // Runs all of them; throws what one of them failed with.
  std::vector<Candidate> run(Progress& progress) {
    std::size_t ended = 0;
    while (!engine_.idle()) {
      for (const dsv32::RequestUpdate& update : engine_.step()) {
        if (update.error) std::rethrow_exception(update.error);
        ended += take(answers_[update.tag], update) ? 1 : 0;
      }
      progress.update(static_cast<double>(ended) / static_cast<double>(answers_.size()));
    }
    std::vector<Candidate> candidates;
    for (const Answer& answer : answers_) {
      Candidate candidate{.turn = answer.stream.turn()};
      candidate.seed = candidate.turn.generation.seed;
      candidate.fault = amiss(candidate.turn, model_.end_tokens());
      candidates.push_back(std::move(candidate));
    }
    return candidates;
  }

 private:
  struct Answer {
    dsv32::ChatStream stream;
    dsv32::RequestId request = 0;
    bool stopping = false;
  };

  // Whether it has ended.
  bool take(Answer& answer, const dsv32::RequestUpdate& update) {
    for (const dsv32::GeneratedToken& token : update.tokens) answer.stream.feed(token);
    if (update.finish_reason == dsv32::FinishReason::none) {
      if (answer.stream.ended() && !std::exchange(answer.stopping, true))  // by a stop string
        engine_.cancel(answer.request);
      return false;
    }
    dsv32::Generation end{.finish_reason = update.finish_reason, .usage = update.usage};
    end.stop_token = update.stop_token;
    end.seed = update.seed;
    answer.stream.finish(end);
    return true;
  }

  const dsv32::Model& model_;
  dsv32::Engine engine_;
  std::vector<Answer> answers_;
};

Json result_json(const std::vector<Candidate>& candidates, std::optional<std::size_t> winner) {
  Json list = Json::array();
  for (const Candidate& candidate : candidates) {
    Json one = to_json(candidate.turn);
    one["valid"] = candidate.fault.empty();
    one["fault"] = candidate.fault;
    one["kept"] = candidate.kept;
    one["answer"] = candidate.answer ? Json(*candidate.answer) : Json();
    list.push_back(std::move(one));
  }
  Json result = {{"winner", winner ? Json(*winner) : Json()}};
  result["answer"] =
      winner && candidates[*winner].answer ? Json(*candidates[*winner].answer) : Json();
  result["content"] = winner ? Json(candidates[*winner].turn.message.content) : Json();
  result["candidates"] = std::move(list);
  return result;
}

// "3  seed 45  812 tokens of thinking  kept: 85"
std::string line_of(std::size_t number, const Candidate& candidate, bool wins) {
  std::string line = (wins ? "* " : "  ") + std::to_string(number) + "  seed " +
                     std::to_string(candidate.seed) + "  " +
                     std::to_string(candidate.turn.usage.thinking_tokens) + " tokens of thinking  ";
  if (!candidate.fault.empty()) return line + candidate.fault;
  if (!candidate.kept) return line + "shorter than those that are kept";
  return line + (candidate.answer ? "kept: " + one_line(*candidate.answer) : "kept: no answer");
}

int run_best_of(BestOfCommand& command, const GlobalOptions& global) {
  const Terminal terminal(global.color, global.quiet);
  if (command.keep > command.of) throw UsageError("--keep is more than --of");
  const auto dir = take_model(command.model, true);
  check_sampling(command.sampling);
  std::optional<LimitedRegex> regex;
  if (!command.answer.empty()) {
    regex.emplace(command.answer, kSearch);
    try {
      regex->check();
    } catch (const std::runtime_error& error) {
      throw UsageError("--answer '" + command.answer + "': " + error.what());
    }
  }
  const std::string text = read_prompt(command.model.words, command.file);
  Interrupt interrupt;
  dsv32::LoadOptions load = load_options(command.model);
  load.max_sequences = std::max(load.max_sequences, command.of);
  const dsv32::Model model = load_model(dir, load, terminal, interrupt);
  std::vector<dsv32::Message> messages;
  if (!command.system.empty())
    messages.push_back({.role = dsv32::Role::system, .content = command.system});
  messages.push_back({.role = dsv32::Role::user, .content = text});
  dsv32::GenerateOptions options = generate_options(command.sampling, model);
  options.cancel = interrupt.token();
  std::vector<Candidate> candidates;
  {
    Progress progress(terminal, "answers");
    candidates =
        Candidates(model, messages, options, command.of, command.model.drafts).run(progress);
  }
  if (interrupt.pressed()) return kInterrupted;
  const auto winner = vote(candidates, static_cast<std::size_t>(command.keep),
                           [&](std::string_view content) -> std::optional<std::string> {
                             if (!regex) return final_answer(content);
                             const auto found = regex->last_match(content);
                             return found ? std::optional(normalised(*found)) : std::nullopt;
                           });
  if (global.json) {
    terminal.write(one_line(result_json(candidates, winner)) + "\n");
  } else {
    for (std::size_t i = 0; i < candidates.size(); ++i)
      terminal.note(line_of(i, candidates[i], winner == i));
    if (winner) terminal.write_foreign(candidates[*winner].turn.message.content + "\n");
  }
  if (!winner) terminal.error("none of the " + std::to_string(command.of) + " answers counts");
  return winner ? kOk : kFailure;
}

}  // namespace

void add_best_of(CLI::App& root, Context& context) {
  auto command = std::make_shared<BestOfCommand>();
  CLI::App* app =
      root.add_subcommand("best-of", "Answer once, as most of the longest of many thoughts do");
  add_model_name(*app, command->model, "the question (else -f, else stdin)");
  app->add_option("-f,--file", command->file, "Question from a file; - = stdin")->type_name("FILE");
  app->add_option("--system", command->system, "System message");
  app->add_option("--of", command->of, "Candidates; number i has the seed plus i")
      ->check(CLI::Range(1, kMostCandidates))
      ->capture_default_str();
  app->add_option("--keep", command->keep, "The longest reasonings of those that count, which vote")
      ->check(CLI::Range(1, kMostCandidates))
      ->capture_default_str();
  app->add_option("--answer", command->answer,
                  "What a candidate votes for: the last match, or its first group; else the last "
                  "\\boxed{}, else the last line")
      ->type_name("REGEX");
  add_sampling(*app, command->sampling);
  add_load_options(*app, command->model);
  add_drafts(*app, command->model);
  app->callback([command, &context] {
    context.run = [command, &context] { return run_best_of(*command, context.options); };
  });
}

}  // namespace cli
