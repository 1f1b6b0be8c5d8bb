// `dsv32 batch`: many requests from a file, answered at once, into another file.
#include <array>
#include <chrono>
#include <cstdio>
#include <memory>

#include "cli/batch_run.h"
#include "cli/cli.h"
#include "cli/output.h"

namespace cli {
namespace {

constexpr int kMostSequences = 4096;

struct BatchCommand {
  ModelOptions model{};
  std::string out{};
  int at_once = 16;
};

// The input's name: what follows the model.
std::string take_input(const ModelOptions& options) {
  if (options.words.empty()) throw UsageError("no requests: name a file of JSON lines");
  if (options.words.size() > 1)
    throw UsageError("one argument too many: '" + options.words[1] + "'");
  return options.words[0];
}

std::unique_ptr<BatchInput> open_input(const std::string& path) {
  try {
    return std::make_unique<BatchInput>(path);
  } catch (const std::runtime_error& error) {
    throw UsageError(error.what());
  }
}

std::unique_ptr<BatchOutput> open_output(const std::string& path, const std::string& in,
                                         const BatchInput& input) {
  std::error_code none;
  if (std::filesystem::equivalent(path, in, none))
    throw UsageError("'" + path + "' is what is read: results need a file of their own");
  try {
    return std::make_unique<BatchOutput>(path, input.fingerprint(), input.lines());
  } catch (const std::runtime_error& error) {
    throw UsageError(error.what());
  }
}

struct Report {
  std::size_t lines = 0, before = 0, answered = 0, failed = 0;
  double seconds = 0;
  dsv32::EngineStats stats{};
};

Json to_json(const Report& report) {
  const dsv32::EngineStats& stats = report.stats;
  return {{"requests", report.lines},
          {"answered_before", report.before},
          {"answered", report.answered},
          {"errors", report.failed},
          {"seconds", report.seconds},
          {"steps", stats.steps},
          {"prompt_tokens", stats.prompt_tokens},
          {"reused_tokens", stats.reused_tokens},
          {"computed_tokens", stats.computed_tokens},
          {"recomputed_tokens", stats.recomputed_tokens},
          {"generated_tokens", stats.generated_tokens},
          {"preemptions", stats.preemptions},
          {"drafted", stats.drafted},
          {"accepted", stats.accepted},
          {"step_seconds", stats.step_seconds}};
}

std::string as_text(const Report& report) {
  const dsv32::EngineStats& stats = report.stats;
  std::string text = std::to_string(report.answered) + " answered, " +
                     std::to_string(report.failed) + " with an error";
  if (report.before > 0) text += ", " + std::to_string(report.before) + " from before";
  const std::size_t left = report.lines - report.before - report.answered - report.failed;
  if (left > 0) text += ", " + std::to_string(left) + " to do";
  text += "; prompts: " + std::to_string(stats.prompt_tokens) + " tokens, " +
          std::to_string(stats.reused_tokens) +
          " of them cached; answers: " + std::to_string(stats.generated_tokens) + " tokens";
  std::array<char, 64> rate{};
  if (report.seconds > 0)
    std::snprintf(rate.data(), rate.size(), ", %.1f tokens/s",
                  static_cast<double>(stats.generated_tokens) / report.seconds);
  return text + rate.data();
}

// Loads the model and answers what is left. False: Ctrl-C.
bool answer(const BatchCommand& command, const std::filesystem::path& dir, BatchInput& input,
            BatchOutput& output, const Terminal& terminal, Report& report) {
  Interrupt interrupt;
  dsv32::LoadOptions load = load_options(command.model);
  load.max_sequences = command.at_once;
  const dsv32::Model model = load_model(dir, load, terminal, interrupt);
  static_cast<void>(model.tokenizer());  // what no line could mend is found here
  static_cast<void>(model.chat_template());
  BatchRun run(model, input, output,
               {.max_sequences = command.at_once,
                .draft_tokens = command.model.drafts,
                .model = dir.filename().string(),
                .cancel = interrupt.token()});
  const auto start = std::chrono::steady_clock::now();
  Progress progress(terminal, "answering");
  const auto on_step = [&](std::size_t results) {
    if (terminal.draws_progress())
      progress.update(static_cast<double>(results) / static_cast<double>(input.requests()));
  };
  const bool whole = run.run(on_step);
  report.answered = run.answered();
  report.failed = run.failed();
  report.stats = run.stats();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return whole;
}

int run_batch(BatchCommand& command, const GlobalOptions& global) {
  const Terminal terminal(global.color, global.quiet);
  const auto dir = take_model(command.model, true);
  const std::string in = take_input(command.model);
  const auto input = open_input(in);
  const auto output = open_output(command.out, in, *input);
  Report report{.lines = input->requests(), .before = output->results()};
  const bool whole =
      report.before == report.lines || answer(command, dir, *input, *output, terminal, report);
  if (whole) output->keep();
  if (global.json) terminal.write(one_line(to_json(report)) + "\n");
  terminal.note(as_text(report));
  if (whole) return kOk;
  terminal.note("(stopped; the same command goes on from there)");
  return kInterrupted;
}

}  // namespace

void add_batch(CLI::App& root, Context& context) {
  auto command = std::make_shared<BatchCommand>();
  CLI::App* app =
      root.add_subcommand("batch", "Answer a file of chat requests, many of them at once");
  add_model_name(*app, command->model,
                 "the requests, lines of OpenAI's batch format: {\"custom_id\", \"body\"}");
  app->add_option("-o,--out", command->out,
                  "A line for each result, in the order in which they end; a run that was stopped "
                  "goes on where this file ends")
      ->required()
      ->type_name("FILE");
  app->add_option("--at-once", command->at_once, "Answers that are written at the same time")
      ->check(CLI::Range(1, kMostSequences));
  add_load_options(*app, command->model);
  add_drafts(*app, command->model);
  app->callback([command, &context] {
    context.run = [command, &context] { return run_batch(*command, context.options); };
  });
}

}  // namespace cli
