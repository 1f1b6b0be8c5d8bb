// The program `dsv32`: parses the command line, runs a subcommand, turns errors into exit codes.
#include <algorithm>
#include <clocale>
#include <cstdio>
#include <exception>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "cli/cli.h"
#include "cli/output.h"

namespace cli {
namespace {

void describe(CLI::App& root, Context& context) {
  root.require_subcommand(1);
  root.fallthrough();
  root.set_version_flag("--version", "dsv32 " + std::string(dsv32::version()));
  root.add_flag("--json", context.options.json, "Results as one JSON object on stdout");
  root.add_flag("-q,--quiet", context.options.quiet, "Nothing on stderr but errors");
  root.add_option("--color", context.options.color, "auto: on a terminal, unless NO_COLOR is set")
      ->check(CLI::IsMember({"auto", "always", "never"}));
  root.footer(
      "A model is a folder, a file in one, or org/name[@revision] in the Hugging Face cache.\n"
      "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 model missing or malformed, 4 does not fit,\n"
      "5 this machine or build cannot, 130 Ctrl-C.");
  add_chat(root, context);
  add_generate(root, context);
  add_tokenize(root, context);
  add_inspect(root, context);
  add_info(root, context);
  add_trace(root, context);
  add_make_model(root, context);
  add_quantize(root, context);
}

// Help and version go to stdout with 0; anything else that the parser says is wrong usage.
int parse_failure(const CLI::App& root, const CLI::ParseError& error, const Terminal& terminal) {
  if (error.get_exit_code() == 0) return root.exit(error);
  terminal.error(std::string(error.what()) + " (try --help)");
  return kUsage;
}

// The parser takes "[a, b]" apart in a list of words, and behind "--" it still looks for options. A
// mark before such words keeps them as they are; every option takes it off again.
constexpr char kMark = '\x1f';

std::vector<std::string> marked_words(int argc, char** argv) {  // last one first
  std::vector<std::string> words;
  bool plain = false;
  for (const std::string word : std::span(argv, static_cast<std::size_t>(argc)).subspan(1)) {
    if (!plain && word == "--") {
      plain = true;
    } else if (plain || (word.starts_with('[') && word.ends_with(']'))) {
      words.push_back(kMark + word);
    } else {
      words.push_back(word);
    }
  }
  std::reverse(words.begin(), words.end());
  return words;
}

void take_marks_off(CLI::App& app) {
  for (CLI::Option* option : app.get_options())
    option->transform(
        [](std::string word) { return word.starts_with(kMark) ? word.substr(1) : word; });
  for (CLI::App* command : app.get_subcommands({})) take_marks_off(*command);
}

int run(const Context& context, const Terminal& terminal) {
  try {
    const int code = context.run();
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
    terminal.error("cannot write to stdout");
    return kFailure;
  } catch (const dsv32::Error& error) {
    const std::string next = advice(error.code());
    terminal.error(error.what() + (next.empty() ? "" : "; " + next));
    return exit_code(error.code());
  } catch (const UsageError& error) {
    terminal.error(std::string(error.what()) + " (try --help)");
    return kUsage;
  } catch (const std::bad_alloc&) {
    terminal.error("out of memory; a smaller --ctx or --batch needs less");
    return kDoesNotFit;
  } catch (const std::exception& error) {
    terminal.error(error.what());
    return kFailure;
  }
}

int program(int argc, char** argv) {
  CLI::App root("DeepSeek-V3.2 models with sparse attention, on this machine", "dsv32");
  Context context;
  std::string shell;
  describe(root, context);
  root.add_option("--completion", shell, "Print a completion script for this shell")
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->trigger_on_parse()
      ->each([&root](const std::string& name) {
        std::fputs(completion(root, name).c_str(), stdout);
        throw CLI::Success();
      });
  take_marks_off(root);
  try {
    root.parse(marked_words(std::max(argc, 1), argv));
  } catch (const CLI::ParseError& error) {
    return parse_failure(root, error, Terminal(context.options.color, false));
  }
  return run(context, Terminal(context.options.color, context.options.quiet));
}

}  // namespace
}  // namespace cli

int main(int argc, char** argv) {
  std::setlocale(LC_CTYPE, "");  // for typed characters; numbers stay as they are
  try {
    return cli::program(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dsv32: error: %s\n", error.what());
    return cli::kFailure;
  }
}
