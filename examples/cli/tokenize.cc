// `dsv32 tokenize`: text to ids and back.
#include <memory>

#include "cli/cli.h"
#include "cli/output.h"

namespace cli {
namespace {

struct TokenizeCommand {
  ModelOptions model{};
  std::string file{};
  bool special = false;
  bool decode = false;
  bool pieces = false;
};

// As JSON text has to be UTF-8, a piece of a character is shown with replacement characters.
std::string piece(const dsv32::Tokenizer& tokenizer, dsv32::TokenId id) {
  return std::string(tokenizer.bytes(id));
}

void print_ids(const dsv32::Tokenizer& tokenizer, const std::vector<dsv32::TokenId>& ids,
               bool pieces, const Terminal& terminal, bool json) {
  if (json) {
    Json texts = Json::array();
    for (const dsv32::TokenId id : ids) texts.push_back(piece(tokenizer, id));
    terminal.write(one_line({{"ids", ids}, {"pieces", texts}}) + "\n");
  } else if (pieces) {
    for (const dsv32::TokenId id : ids)
      terminal.write(std::to_string(id) + "\t" + one_line(piece(tokenizer, id)) + "\n");
  } else {
    terminal.write(one_line(ids) + "\n");
  }
}

int run_tokenize(TokenizeCommand& command, const GlobalOptions& global) {
  const Terminal terminal(global.color, global.quiet);
  const auto dir = take_model(command.model, true);
  const std::string text = read_prompt(command.model.words, command.file);
  const auto tokenizer = dsv32::Tokenizer::load(dir / "tokenizer.json");
  if (!command.decode) {
    print_ids(tokenizer, tokenizer.encode(text, command.special), command.pieces, terminal,
              global.json);
    return kOk;
  }
  const std::string decoded = tokenizer.decode(parse_ids(text), command.special);
  if (global.json)
    terminal.write(one_line({{"text", decoded}}) + "\n");
  else
    terminal.write_foreign(decoded);
  return kOk;
}

}  // namespace

void add_tokenize(CLI::App& root, Context& context) {
  auto command = std::make_shared<TokenizeCommand>();
  CLI::App* app = root.add_subcommand("tokenize", "Text to token ids, and back");
  add_model_name(*app, command->model, "the text (else -f, else stdin)");
  app->add_option("-f,--file", command->file, "Text from a file; - = stdin")->type_name("FILE");
  app->add_flag("--special", command->special,
                "Markers become special tokens; with --decode: leave them out");
  app->add_flag("--decode", command->decode, "From a JSON list of ids to text");
  app->add_flag("--pieces", command->pieces, "One line a token: id, tab, text as JSON");
  app->callback([command, &context] {
    context.run = [command, &context] { return run_tokenize(*command, context.options); };
  });
}

}  // namespace cli
