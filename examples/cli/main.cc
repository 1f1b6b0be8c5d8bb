// The program `dsv32`: parses the command line, runs a subcommand, turns errors into exit codes.
#include <algorithm>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fcntl.h>
#include <iostream>
#include <new>
#include <span>
#include <string>
#include <unistd.h>
#include <vector>

#include "cli/cli.h"
#include "cli/output.h"

namespace cli {
namespace {

void describe(CLI::App& root, Context& context) {
  root.option_defaults()->always_capture_default();  // and so are those of the subcommands
  root.require_subcommand(0, 1);                     // without one is said in other words
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
  add_batch(root, context);
  add_best_of(root, context);
  add_tokenize(root, context);
  add_inspect(root, context);
  add_info(root, context);
  add_trace(root, context);
  add_make_model(root, context);
  add_quantize(root, context);
}

// The first word that may be a subcommand, and is none; or nothing at all.
std::string no_subcommand(const CLI::App& root) {
  std::string names;
  for (const CLI::App* app : root.get_subcommands({}))
    names += (names.empty() ? "" : ", ") + app->get_name();
  const std::vector<std::string> words = root.remaining();
  const auto word = std::find_if(words.begin(), words.end(),
                                 [](const std::string& text) { return !text.starts_with('-'); });
  if (word == words.end()) return "no subcommand; there are " + names;
  return "unknown subcommand '" + *word + "'; there are " + names;
}

// Whether all that was written to stdout arrived. The reason is known if it is the last piece that
// did not.
int written(int code, const Terminal& terminal) {
  std::cout.flush();
  const bool flushed = std::fflush(stdout) == 0;
  const int error = errno;
  if (flushed && std::cout.good() && std::ferror(stdout) == 0) return code;
  terminal.error("cannot write to stdout" +
                 (flushed ? std::string() : std::string(": ") + std::strerror(error)));
  return kFailure;
}

// Help and version go to stdout with 0; anything else that the parser says is wrong usage.
int parse_failure(const CLI::App& root, const CLI::ParseError& error, const Terminal& terminal) {
  if (error.get_exit_code() == 0) {
    root.exit(error);
    return written(kOk, terminal);
  }
  const bool subcommand = !root.get_subcommands().empty();
  terminal.error(
      (subcommand || root.remaining().empty() ? std::string(error.what()) : no_subcommand(root)) +
      " (try --help)");
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
  for (CLI::Option* option : app.get_options()) {
    if (option->get_default_str() == "[]") option->default_str("");  // an empty list: say nothing
    option->transform(
        [](std::string word) { return word.starts_with(kMark) ? word.substr(1) : word; });
  }
  for (CLI::App* command : app.get_subcommands({})) take_marks_off(*command);
}

int run(const Context& context, const CLI::App& root, const Terminal& terminal) {
  try {
    return written(context.run(), terminal);
  } catch (const dsv32::Error& error) {
    const std::string next = advice(error, root);
    terminal.error(error.what() + (next.empty() ? "" : "; " + next));
    return exit_code(error.code());
  } catch (const UsageError& error) {
    terminal.error(std::string(error.what()) + " (try --help)");
    return kUsage;
  } catch (const std::bad_alloc&) {
    const std::string next = memory_advice(root);
    terminal.error("out of memory" + (next.empty() ? "" : "; " + next));
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
  const Terminal terminal(context.options.color, context.options.quiet);
  if (!context.run) {
    terminal.error(no_subcommand(root) + " (try --help)");
    return kUsage;
  }
  return run(context, root, terminal);
}

// A file that is opened later must not become stdin, stdout or stderr where one of them was closed.
// Opened the wrong way round, so that reading or writing fails as it would have.
void occupy_standard_files() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
    [[maybe_unused]] const int got =
        ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);  // the lowest: this one
  }
}

}  // namespace
}  // namespace cli

int main(int argc, char** argv) {
  cli::occupy_standard_files();
  std::setlocale(LC_CTYPE, "");  // for typed characters; numbers stay as they are
  try {
    return cli::program(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dsv32: error: %s\n", error.what());
    return cli::kFailure;
  }
}
