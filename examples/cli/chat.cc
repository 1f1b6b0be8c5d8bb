// `dsv32 chat`: a conversation, typed or from a script.
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <optional>
#include <unistd.h>

#include "cli/chat_keeper.h"
#include "cli/cli.h"
#include "cli/conversation.h"
#include "cli/line_reader.h"

namespace cli {
namespace {

constexpr const char* kHelp =
    "/help             this list\n"
    "/reset            forget the conversation\n"
    "/undo             forget the last exchange\n"
    "/drop [N]         forget the N oldest exchanges (1): room in a full context\n"
    "/system [TEXT]    show or change the system message; a change forgets the conversation\n"
    "/tools            the tools the model may call\n"
    "/think [on|off]   show or change whether it thinks before it answers\n"
    "/save             write the conversation and its cache now (with --save)\n"
    "/load [NAME]      the saved conversations; or go on in one\n"
    "/fork NAME        go on in a copy of this one\n"
    "/stats            tokens, speed, keys that attention read\n"
    "/exit             leave; so does Ctrl-D\n"
    "Ctrl-C stops an answer; twice, it ends the program. A line that ends in \\ goes on.\n";

struct ChatCommand {
  ModelOptions model{};
  SamplingOptions sampling{};
  ConversationOptions conversation{};
  std::string tools{};
  std::string script{};
  std::string save{};
  std::string name = "chat";
  bool no_think = false;
  bool json_lines = false;
};

enum class Format { text, json, json_lines };

// One loop for typed lines, piped lines and scripts.
class Repl {
 public:
  // `keeper` may be null.
  Repl(Conversation& conversation, ChatKeeper* keeper, const Terminal& terminal,
       Interrupt& interrupt, bool typed, Format format)
      : conversation_(conversation),
        keeper_(keeper),
        terminal_(terminal),
        interrupt_(interrupt),
        typed_(typed),
        format_(format) {}

  // Whatever ends it, --json gets the turns so far.
  int run(LineReader& reader) {
    try {
      const int code = answer_lines(reader);
      finish();
      return code;
    } catch (const OutputError&) {
      throw;
    } catch (...) {
      finish();
      throw;
    }
  }

 private:
  int answer_lines(LineReader& reader) {
    std::string line;
    for (;;) {
      switch (next(reader, line)) {
        case LineReader::Result::end:
          if (typed_) terminal_.write("\n");
          return ended();
        case LineReader::Result::interrupted:
          if (!typed_) return kInterrupted;
          terminal_.note("\n(Ctrl-C once more, or /exit, to leave)");
          continue;
        case LineReader::Result::dropped:
          terminal_.write("\n");
          break;
        case LineReader::Result::cut:
          terminal_.error(
              "this terminal cuts longer lines, so nothing was sent: end parts of it "
              "in \\, or use --script");
          break;
        case LineReader::Result::line:
          interrupt_.begin();
          if (const auto code = take(line)) return *code;
          break;
      }
      interrupt_.begin();  // what was pressed meant the answer
    }
  }

  static LineReader::Result next(LineReader& reader, std::string& line) {
    try {
      return reader.read(line);
    } catch (const std::runtime_error& error) {
      throw UsageError(error.what());
    }
  }

  // An exit code, if that was the last line.
  std::optional<int> take(const std::string& line) {
    if (line.find_first_not_of(" \t") == std::string::npos) return {};
    if (!typed_ && line[0] == '#') return {};  // scripts have comments
    if (!typed_ && format_ == Format::text && !terminal_.quiet())
      terminal_.write_foreign("> " + line + "\n");
    if (line[0] == '/') {
      if (!command(line)) return ended();
      keep([](ChatKeeper& keeper) { keeper.after_turn(); });  // many change what is kept
      return {};
    }
    const int code = say(line);
    keep([](ChatKeeper& keeper) { keeper.after_turn(); });
    return code == kOk ? std::nullopt : std::optional(code);
  }

  int ended() const { return failed_ ? kFailure : kOk; }
  void finish() {
    keep([](ChatKeeper& keeper) { keeper.at_end(); });
    if (format_ == Format::json) terminal_.write(one_line({{"turns", turns_}}) + "\n");
  }

  // Typed: what goes wrong is said, and the conversation goes on. A script ends.
  int say(const std::string& text) {
    try {
      const auto outcome = conversation_.say(text);
      keep_turn(text, "");
      if (outcome == Conversation::Outcome::stopped) {
        terminal_.aside("(stopped; /undo forgets this exchange)");
        return typed_ ? kOk : kInterrupted;
      }
      if (outcome == Conversation::Outcome::too_many_calls) {
        terminal_.error("the model went on calling tools (see --max-tool-rounds)");
        failed_ = !typed_;
      }
    } catch (const dsv32::Error& error) {
      keep_turn(text, error.what());
      if (!typed_ || error.code() == dsv32::ErrorCode::device) throw;
      terminal_.error(std::string(error.what()) + remedy(error.code()));
    }
    return kOk;
  }

  std::string remedy(dsv32::ErrorCode code) const {
    const std::string advised = advice(code);
    const bool full =
        code == dsv32::ErrorCode::capacity || code == dsv32::ErrorCode::context_length;
    if (full && conversation_.exchanges() > 0)
      return "; /drop forgets the oldest exchange, /drop N more of them, /reset all" +
             std::string(code == dsv32::ErrorCode::capacity ? "; a larger --ctx makes room" : "");
    return advised.empty() ? "" : "; " + advised;
  }

  void keep_turn(const std::string& text, const std::string& error) {
    if (format_ == Format::text) return;
    Json turn = {{"user", text}, {"rounds", conversation_.rounds()}};
    if (!error.empty()) turn["error"] = error;
    if (format_ == Format::json_lines)
      terminal_.write(one_line(turn) + "\n");
    else
      turns_.push_back(std::move(turn));
  }

  // False: leave.
  bool command(const std::string& line) {
    const auto space = line.find(' ');
    const std::string word = line.substr(1, space == std::string::npos ? space : space - 1);
    const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
    if (word == "exit" || word == "quit") return false;
    if (word == "help") {
      say_text(kHelp);
    } else if (word == "reset") {
      conversation_.reset();
      say_text("(forgotten)\n");
    } else if (word == "undo") {
      forgotten(conversation_.drop_newest());
    } else if (word == "drop") {
      drop(rest);
    } else if (word == "system") {
      system(rest);
    } else if (word == "tools") {
      const std::vector<Tool>& tools = conversation_.options().tools;
      if (tools.empty()) say_text("(none; see --tools)\n");
      for (const Tool& tool : tools) say_text(tool.schema_json + "\n");
    } else if (word == "think") {
      think(rest);
    } else if (word == "stats") {
      stats();
    } else if (word == "save") {
      kept([&] { keeper_->save(); });
    } else if (word == "load") {
      load(rest);
    } else if (word == "fork") {
      kept([&] { keeper_->fork(rest); });
    } else {
      complain("no command /" + word + " (try /help)");
    }
    return true;
  }

  void drop(const std::string& rest) {
    int count = 1;
    const char* end = rest.data() + rest.size();
    const auto [stopped, error] = std::from_chars(rest.data(), end, count);
    if (!rest.empty() && (error != std::errc() || stopped != end || count < 1))
      return complain("/drop takes a number of exchanges");
    forgotten(conversation_.drop_oldest(static_cast<std::size_t>(count)));
  }
  void forgotten(std::size_t count) const {
    say_text("(" + std::to_string(count) + " forgotten, " +
             std::to_string(conversation_.exchanges()) + " left)\n");
  }
  void system(const std::string& rest) {
    if (!rest.empty()) {
      conversation_.options().system = rest;
      conversation_.reset();
    }
    const std::string& text = conversation_.options().system;
    say_text("system: " + (text.empty() ? "(none)" : text) + "\n");
  }
  void think(const std::string& rest) {
    if (!rest.empty() && rest != "on" && rest != "off") return complain("/think takes on or off");
    bool& thinking = conversation_.options().thinking;
    if (!rest.empty()) thinking = rest == "on";
    say_text(thinking ? "think: on (it thinks first)\n" : "think: off (it answers at once)\n");
  }
  void stats() const {
    const std::string& ending = conversation_.last_ending();
    const std::string last =
        ending.empty() ? "(no answer yet)"
                       : summary(conversation_.last_usage(), conversation_.last_decoded()) + ending;
    say_text(last + "\nthe session holds " + std::to_string(conversation_.tokens()) +
             " tokens; all its turns: " + one_line(to_json(conversation_.sparse_stats())) + "\n");
  }

  // What cannot be written is said, and the conversation goes on.
  template <class Work>
  void keep(Work&& work) {
    if (keeper_ == nullptr) return;
    try {
      work(*keeper_);
    } catch (const std::runtime_error& error) {
      complain(error.what());
    }
  }
  std::string where() const {
    return "(" + keeper_->name() + ": " + std::to_string(conversation_.exchanges()) +
           " exchanges, " + std::to_string(conversation_.tokens()) + " tokens at hand)";
  }
  // A command that needs a folder.
  template <class Work>
  void kept(Work&& work) {
    if (keeper_ == nullptr) return complain("there is no folder (start with --save DIR)");
    try {
      work();
      say_text(where() + "\n");
    } catch (const std::runtime_error& error) {
      complain(error.what());
    }
  }
  void load(const std::string& name) {
    if (!name.empty() || keeper_ == nullptr) return kept([&] { keeper_->load(name); });
    for (const std::string& each : keeper_->folder().names())
      say_text(each + (each == keeper_->name() ? " *" : "") + "\n");
  }

  void say_text(const std::string& text) const {
    if (format_ == Format::text) terminal_.write_foreign(text);
  }
  void complain(const std::string& text) {
    terminal_.error(text);
    failed_ = failed_ || !typed_;
  }

  Conversation& conversation_;
  ChatKeeper* keeper_;
  const Terminal& terminal_;
  Interrupt& interrupt_;
  bool typed_;
  Format format_;
  bool failed_ = false;
  Json turns_ = Json::array();
};

// The script's file, or stdin.
class Input {
 public:
  explicit Input(const std::string& path) {
    if (path.empty() || path == "-") {  // closed, it would become the next file that is opened
      if (::fcntl(fd_, F_GETFD) < 0)
        throw UsageError(std::string("cannot read stdin: ") + std::strerror(errno));
      return;
    }
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) throw UsageError("cannot read script '" + path + "': " + std::strerror(errno));
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

// Goes on in what is there of that name. What options say counts, where they say something.
std::unique_ptr<ChatKeeper> open_keeper(const ChatCommand& command, Conversation& conversation,
                                        const Terminal& terminal) {
  if (command.save.empty()) return nullptr;
  try {
    auto keeper = std::make_unique<ChatKeeper>(command.save, command.name, conversation, terminal);
    if (!keeper->folder().has(command.name)) return keeper;
    const ConversationOptions asked = conversation.options();
    keeper->load(command.name);
    ConversationOptions& now = conversation.options();
    if (!asked.system.empty()) now.system = asked.system;
    if (!asked.tools.empty()) now.tools = asked.tools;
    if (command.no_think) now.thinking = false;
    now.chat.generate.sampling =
        generate_options(command.sampling, *now.chat.generate.sampling).sampling;
    terminal.note("(going on in '" + command.name + "': " +
                  std::to_string(conversation.exchanges()) + " exchanges; /reset forgets them)");
    return keeper;
  } catch (const dsv32::Error&) {
    throw;
  } catch (const std::runtime_error& error) {
    throw UsageError(error.what());
  }
}

int run_chat(ChatCommand& command, const GlobalOptions& global) {
  const Terminal terminal(global.color, global.quiet);
  const Input input(command.script);
  const bool typed = command.script.empty() && ::isatty(STDIN_FILENO) != 0;
  const Format format = command.json_lines ? Format::json_lines
                        : global.json      ? Format::json
                                           : Format::text;
  if (format != Format::text && typed)
    throw UsageError("--json and --jsonl need --script or lines on stdin");
  ConversationOptions options = command.conversation;
  options.thinking = !command.no_think;
  options.silent = format != Format::text;
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
  options.chat.generate.draft_tokens = command.model.drafts;
  Conversation conversation(dsv32::Session(model), std::move(options), terminal, interrupt);
  const std::string name = input.fd() == STDIN_FILENO ? "stdin" : "script '" + command.script + "'";
  LineReader reader(input.fd(), name, typed && terminal.stdout_is_tty(), interrupt);
  if (typed)
    terminal.note(std::string(model.is_sparse() ? "sparse" : "dense") + " attention, kernels " +
                  std::string(model.kernel_set()) + "; /help lists the commands");
  const std::unique_ptr<ChatKeeper> keeper = open_keeper(command, conversation, terminal);
  return Repl(conversation, keeper.get(), terminal, interrupt, typed, format).run(reader);
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
  app->add_flag(
      "--jsonl", command->json_lines,
      "Each turn as one line of JSON, when it ends (--json: all in one object at the end)");
  app->add_option(
         "--save", command->save,
         "Keep the conversation in this folder, and go on in it: NAME.json after each turn, "
         "NAME.kv to spare a prefill")
      ->type_name("DIR");
  app->add_option("--name", command->name, "Of the conversation in --save's folder")
      ->type_name("NAME")
      ->capture_default_str();
  app->add_flag("--no-think", command->no_think, "Answer at once");
  app->add_flag("--hide-thinking", command->conversation.hide_thinking,
                "Think, but do not show it");
  app->add_option("--max-tool-rounds", command->conversation.max_tool_rounds,
                  "Answers to one message, tool calls included")
      ->check(CLI::Range(1, 1000));
  add_sampling(*app, command->sampling);
  add_load_options(*app, command->model);
  add_drafts(*app, command->model);
  app->callback([command, &context] {
    context.run = [command, &context] { return run_chat(*command, context.options); };
  });
}

}  // namespace cli
