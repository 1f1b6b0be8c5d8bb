// `dsv32 chat`: a conversation, typed or from a script.
#include <algorithm>
#include <fcntl.h>
#include <memory>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/conversation.h"
#include "cli/line_reader.h"

namespace cli {
namespace {

constexpr const char* kHelp =
    "/help             this list\n"
    "/reset            forget the conversation\n"
    "/system [TEXT]    show or change the system message, and forget the conversation\n"
    "/tools            the tools the model may call\n"
    "/think [on|off]   whether it thinks before it answers\n"
    "/stats            tokens, speed, keys that attention read\n"
    "/exit             leave; so does Ctrl-D\n"
    "Ctrl-C stops an answer, twice ends the program. A line that ends in \\ goes on.\n";

struct ChatCommand {
  ModelOptions model{};
  SamplingOptions sampling{};
  ConversationOptions conversation{};
  std::string tools{};
  std::string script{};
  bool no_think = false;
};

// One loop for typed lines, piped lines and scripts.
class Repl {
 public:
  Repl(Conversation& conversation, const Terminal& terminal, Interrupt& interrupt, bool typed,
       bool json)
      : conversation_(conversation),
        terminal_(terminal),
        interrupt_(interrupt),
        typed_(typed),
        json_(json) {}

  int run(LineReader& reader) {
    std::string line;
    for (;;) {
      switch (reader.read(line)) {
        case LineReader::Result::end:
          if (typed_) terminal_.write("\n");
          return finish();
        case LineReader::Result::interrupted:
          if (!typed_) return kInterrupted;
          terminal_.note("\n(Ctrl-C once more, or /exit, to leave)");
          continue;
        case LineReader::Result::line:
          break;
      }
      interrupt_.begin();
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      if (!typed_ && line[0] == '#') continue;  // scripts have comments
      if (!typed_ && !json_) terminal_.write_foreign("> " + line + "\n");
      if (line[0] == '/') {
        if (!command(line)) return finish();
      } else if (const int code = say(line); code != kOk) {
        return code;
      }
    }
  }

 private:
  int finish() {
    if (json_) terminal_.write(one_line({{"turns", turns_}}) + "\n");
    return failed_ ? kFailure : kOk;
  }

  // Typed: what goes wrong is said, and the conversation goes on. A script ends.
  int say(const std::string& text) {
    try {
      const auto outcome = conversation_.say(text);
      turns_.push_back({{"user", text}, {"rounds", conversation_.rounds()}});
      if (outcome == Conversation::Outcome::stopped) {
        terminal_.note("(stopped; this exchange is forgotten)");
        return typed_ ? kOk : kInterrupted;
      }
      if (outcome == Conversation::Outcome::too_many_calls) {
        terminal_.error(
            "the model went on calling tools; this exchange is forgotten (see --max-tool-rounds)");
        failed_ = !typed_;
      }
    } catch (const dsv32::Error& error) {
      if (!typed_ || error.code() == dsv32::ErrorCode::device) throw;
      terminal_.error(std::string(error.what()) + "; " + advice(error.code()));
    }
    return kOk;
  }

  bool command(const std::string& line) {
    const auto space = line.find(' ');
    const std::string word = line.substr(1, space == std::string::npos ? space : space - 1);
    const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
    ConversationOptions& options = conversation_.options();
    if (word == "exit" || word == "quit") return false;
    if (word == "help") {
      say_text(kHelp);
    } else if (word == "reset") {
      conversation_.reset();
      say_text("(forgotten)\n");
    } else if (word == "system") {
      if (!rest.empty()) {
        options.system = rest;
        conversation_.reset();
      }
      say_text("system: " + options.system + "\n");
    } else if (word == "tools") {
      if (options.tools.empty()) say_text("(none; see --tools)\n");
      for (const Tool& tool : options.tools) say_text(tool.schema_json + "\n");
    } else if (word == "think") {
      if (!rest.empty() && rest != "on" && rest != "off") {
        complain("/think takes on or off");
        return true;
      }
      options.thinking = rest.empty() ? !options.thinking : rest == "on";
      say_text(options.thinking ? "(it thinks first)\n" : "(it answers at once)\n");
    } else if (word == "stats") {
      say_text(summary(conversation_.last_usage()) + conversation_.last_ending() +
               "\nthe session holds " + std::to_string(conversation_.tokens()) +
               " tokens; all its turns: " + one_line(to_json(conversation_.sparse_stats())) + "\n");
    } else {
      complain("no command /" + word + " (try /help)");
    }
    return true;
  }

  void say_text(const std::string& text) const {
    if (!json_) terminal_.write_foreign(text);
  }
  void complain(const std::string& text) {
    terminal_.error(text);
    failed_ = failed_ || !typed_;
  }

  Conversation& conversation_;
  const Terminal& terminal_;
  Interrupt& interrupt_;
  bool typed_;
  bool json_;
  bool failed_ = false;
  Json turns_ = Json::array();
};

// The script's file, or stdin.
class Input {
 public:
  explicit Input(const std::string& path) {
    if (path.empty() || path == "-") return;
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) throw UsageError("cannot read script '" + path + "'");
  }
  ~Input() {
    if (fd_ != STDIN_FILENO) ::close(fd_);
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  int fd() const noexcept { return fd_; }

 private:
  int fd_ = STDIN_FILENO;
};

int run_chat(ChatCommand& command, const GlobalOptions& global) {
  const Terminal terminal(global.color, global.quiet);
  const Input input(command.script);
  const bool typed = command.script.empty() && ::isatty(STDIN_FILENO) != 0;
  if (global.json && typed) throw UsageError("--json needs --script or lines on stdin");
  ConversationOptions options = command.conversation;
  options.thinking = !command.no_think;
  options.silent = global.json;
  if (!command.tools.empty()) {
    try {
      options.tools = load_tools(command.tools);
    } catch (const std::runtime_error& error) {
      throw UsageError(error.what());
    }
  }
  check_sampling(command.sampling);
  const auto dir = take_model(command.model);
  Interrupt interrupt;
  const dsv32::Model model = load_model(dir, load_options(command.model), terminal, interrupt);
  options.chat.generate = generate_options(command.sampling, model);
  Conversation conversation(dsv32::Session(model), std::move(options), terminal, interrupt);
  LineReader reader(input.fd(), typed && terminal.stdout_is_tty(), interrupt);
  if (typed)
    terminal.note(std::string(model.is_sparse() ? "sparse" : "dense") + " attention, kernels " +
                  std::string(model.kernel_set()) + "; /help lists the commands");
  return Repl(conversation, terminal, interrupt, typed, global.json).run(reader);
}

}  // namespace

void add_chat(CLI::App& root, Context& context) {
  auto command = std::make_shared<ChatCommand>();
  CLI::App* app = root.add_subcommand("chat", "Talk to a model, with thinking and tools");
  add_model_name(*app, command->model);
  app->add_option("--system", command->conversation.system, "System message");
  app->add_option("--tools", command->tools,
                  "JSON list of {\"type\", \"function\", \"command\"}: local programs that get the "
                  "arguments as JSON on stdin and print the result")
      ->type_name("FILE");
  app->add_option("--script", command->script, "Take the user's lines from a file; # = comment")
      ->type_name("FILE");
  app->add_flag("--no-think", command->no_think, "Answer at once");
  app->add_flag("--hide-thinking", command->conversation.hide_thinking,
                "Think, but do not show it");
  app->add_option("--max-tool-rounds", command->conversation.max_tool_rounds,
                  "Answers to one message, tool calls included")
      ->check(CLI::Range(1, 1000));
  add_sampling(*app, command->sampling);
  add_load_options(*app, command->model);
  app->callback([command, &context] {
    context.run = [command, &context] { return run_chat(*command, context.options); };
  });
}

}  // namespace cli
