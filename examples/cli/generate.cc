// `dsv32 generate`: one completion, or one chat turn.
#include <memory>

#include "cli/cli.h"
#include "cli/output.h"

namespace cli {
namespace {

struct GenerateCommand {
  ModelOptions model{};
  SamplingOptions sampling{};
  std::string file{};
  std::string system{};
  bool chat = false;
  bool think = false;
  bool ids = false;
  bool special = false;
  bool no_bos = false;
  bool stats = false;
};

// Ids that no load could make right are found before one.
std::vector<dsv32::TokenId> checked_ids(const std::string& text, const std::filesystem::path& dir) {
  std::vector<dsv32::TokenId> ids = parse_ids(text);
  if (ids.empty()) throw UsageError("an empty list of token ids");
  const auto checkpoint = dsv32::Checkpoint::open(dir);
  const int vocab = checkpoint.config().vocab_size;
  for (const dsv32::TokenId id : ids)
    if (id >= vocab)
      throw UsageError("token " + std::to_string(id) + " is not in the model's vocabulary of " +
                       std::to_string(vocab));
  return ids;
}

std::vector<dsv32::TokenId> prompt_ids(const GenerateCommand& command, const dsv32::Model& model,
                                       const std::string& text) {
  std::vector<dsv32::TokenId> ids = model.tokenizer().encode(text, command.special);
  const dsv32::TokenId bos = model.config().bos_token_id;
  const bool has_bos = !ids.empty() && ids.front() == bos;
  if (!command.no_bos && !has_bos) ids.insert(ids.begin(), bos);
  return ids;
}

Json result_json(const dsv32::Generation& generation, bool ids) {
  Json result = {{"text", generation.text}};
  if (ids) result["ids"] = generation.tokens;
  result["tool_calls"] = Json::array();
  add_ending(result, generation);
  result["faults"] = Json::array();
  result["usage"] = to_json(generation.usage);
  return result;
}

// On stderr: that it was cut short, and with --stats how.
void tell_how_it_ended(const GenerateCommand& command, const dsv32::Generation& generation,
                       bool answered, const Terminal& terminal) {
  const std::string cut = cut_short(generation, command.sampling.max_tokens, answered);
  if (!cut.empty()) terminal.aside("(" + cut + ")");
  if (command.stats)
    terminal.note(summary(generation.usage, decoded_tokens(generation)) + ending(generation));
}

int complete(const GenerateCommand& command, const dsv32::Model& model,
             const std::vector<dsv32::TokenId>& prompt, const dsv32::GenerateOptions& options,
             const Terminal& terminal, bool json) {
  dsv32::Session session(model);
  const bool stream = !json && !command.ids;
  std::size_t shown = 0;
  const auto show = [&](const dsv32::GeneratedToken& token) {
    terminal.check_reader();
    if (stream) terminal.write_foreign(token.text);
    shown += token.text.size();
    return true;
  };
  const dsv32::Generation generation = session.generate(prompt, options, show);
  if (stream)  // what was held back until the end
    terminal.write_foreign(std::string_view(generation.text).substr(shown));
  if (json)
    terminal.write(one_line(result_json(generation, command.ids)));
  else if (command.ids)
    terminal.write(one_line(generation.tokens));
  terminal.write("\n");
  tell_how_it_ended(command, generation, true, terminal);
  return generation.finish_reason == dsv32::FinishReason::cancelled ? kInterrupted : kOk;
}

int one_turn(const GenerateCommand& command, const dsv32::Model& model, const std::string& text,
             const dsv32::GenerateOptions& options, const Terminal& terminal, bool json) {
  dsv32::Session session(model);
  std::vector<dsv32::Message> messages;
  if (!command.system.empty())
    messages.push_back({.role = dsv32::Role::system, .content = command.system});
  messages.push_back({.role = dsv32::Role::user, .content = text});
  const auto mode = command.think ? dsv32::ThinkingMode::thinking : dsv32::ThinkingMode::chat;
  dsv32::ChatOptions chat_options;
  chat_options.generate = options;
  const dsv32::ChatTurn turn =
      dsv32::chat(session, messages, mode, chat_options, [&](const dsv32::ParseEvent& event) {
        terminal.check_reader();
        if (!json && event.kind == dsv32::ParseEvent::Kind::content)
          terminal.write_foreign(event.text);
        return true;
      });
  if (json) terminal.write(one_line(to_json(turn)));
  terminal.write("\n");
  const bool answered = !turn.message.content.empty() || !turn.message.tool_calls.empty();
  tell_how_it_ended(command, turn.generation, answered, terminal);
  return turn.finish_reason == dsv32::FinishReason::cancelled ? kInterrupted : kOk;
}

int run_generate(GenerateCommand& command, const GlobalOptions& global) {
  const Terminal terminal(global.color, global.quiet);
  if (command.chat && command.ids) throw UsageError("--chat and --ids do not go together");
  if (command.think && !command.chat) throw UsageError("--think needs --chat");
  const auto dir = take_model(command.model, true);
  check_sampling(command.sampling);
  const std::string text = read_prompt(command.model.words, command.file);
  std::vector<dsv32::TokenId> ids;
  if (command.ids) ids = checked_ids(text, dir);
  Interrupt interrupt;
  const dsv32::Model model = load_model(dir, load_options(command.model), terminal, interrupt);
  dsv32::GenerateOptions options = generate_options(command.sampling, model);
  options.draft_tokens = command.model.drafts;
  options.cancel = interrupt.token();
  if (command.chat) return one_turn(command, model, text, options, terminal, global.json);
  if (!command.ids) ids = prompt_ids(command, model, text);
  return complete(command, model, ids, options, terminal, global.json);
}

}  // namespace

void add_generate(CLI::App& root, Context& context) {
  auto command = std::make_shared<GenerateCommand>();
  CLI::App* app = root.add_subcommand("generate", "Complete a text, or answer once");
  add_model_name(*app, command->model, "the prompt (else -f, else stdin)");
  app->add_option("-f,--file", command->file, "Prompt from a file; - = stdin")->type_name("FILE");
  app->add_flag("--chat", command->chat,
                "The prompt is a user's message, not a text to go on with");
  app->add_option("--system", command->system, "System message, with --chat");
  app->add_flag("--think", command->think, "Think before answering, with --chat");
  app->add_flag("--ids", command->ids, "Prompt and result are JSON lists of token ids");
  app->add_flag("--special", command->special, "Markers in the prompt become special tokens");
  app->add_flag("--no-bos", command->no_bos, "Do not begin with the begin-of-sentence token");
  app->add_flag("--stats", command->stats, "Tokens and speed on stderr");
  add_sampling(*app, command->sampling);
  add_load_options(*app, command->model);
  add_drafts(*app, command->model);
  app->callback([command, &context] {
    context.run = [command, &context] { return run_generate(*command, context.options); };
  });
}

}  // namespace cli
