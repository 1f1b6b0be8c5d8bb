// A conversation with tools.
#include "cli/conversation.h"

namespace cli {
namespace {

void add(dsv32::Usage& sum, const dsv32::Usage& part) {
  // The prompt of a later round holds the earlier ones.
  sum.prompt_tokens = part.prompt_tokens;
  sum.cached_tokens = part.cached_tokens;
  sum.generated_tokens += part.generated_tokens;
  sum.thinking_tokens += part.thinking_tokens;
  sum.prefill_seconds += part.prefill_seconds;
  sum.decode_seconds += part.decode_seconds;
  sum.sparse.keys_visible += part.sparse.keys_visible;
  sum.sparse.keys_scored += part.sparse.keys_scored;
  sum.sparse.keys_read += part.sparse.keys_read;
  sum.sparse.nan_queries += part.sparse.nan_queries;
}

}  // namespace

Conversation::Conversation(dsv32::Session session, ConversationOptions options,
                           const Terminal& terminal, Interrupt& interrupt)
    : session_(std::move(session)),
      options_(std::move(options)),
      terminal_(terminal),
      interrupt_(interrupt) {}

std::vector<dsv32::Message> Conversation::messages() const {
  std::vector<dsv32::Message> result;
  if (!options_.system.empty() || !options_.tools.empty()) {
    dsv32::Message system{.role = dsv32::Role::system, .content = options_.system};
    for (const Tool& tool : options_.tools) system.tools_json.push_back(tool.schema_json);
    result.push_back(std::move(system));
  }
  result.insert(result.end(), history_.begin(), history_.end());
  return result;
}

Conversation::Outcome Conversation::say(const std::string& text) {
  const std::size_t before = history_.size();
  // Whatever happens, the history stays a conversation that can be rendered.
  struct Rollback {
    std::vector<dsv32::Message>& history;
    std::size_t size;
    bool active = true;
    ~Rollback() {
      if (active) history.resize(size);
    }
  } rollback{history_, before};

  interrupt_.begin();
  usage_ = {};
  ending_.clear();
  rounds_ = Json::array();
  history_.push_back({.role = dsv32::Role::user, .content = text});
  for (int round = 0; round < options_.max_tool_rounds; ++round) {
    dsv32::ChatTurn turn = answer();
    rounds_.push_back(to_json(turn));
    ending_ = ending(turn.generation);
    add(usage_, turn.usage);
    if (turn.finish_reason == dsv32::FinishReason::cancelled) return Outcome::stopped;
    history_.push_back(turn.message);
    if (turn.message.tool_calls.empty()) {
      rollback.active = false;
      return Outcome::answered;
    }
    call_tools(turn.message.tool_calls);
    if (interrupt_.pressed()) return Outcome::stopped;
  }
  return Outcome::too_many_calls;
}

dsv32::ChatTurn Conversation::answer() {
  dsv32::ChatOptions chat = options_.chat;
  chat.generate.cancel = interrupt_.token();
  const auto mode = options_.thinking ? dsv32::ThinkingMode::thinking : dsv32::ThinkingMode::chat;
  const auto end_line = [this] {
    if (in_thinking_) terminal_.plain();
    if (line_open_) terminal_.write("\n");
    in_thinking_ = line_open_ = false;
  };
  try {
    dsv32::ChatTurn turn =
        dsv32::chat(session_, messages(), mode, chat, [this](const dsv32::ParseEvent& event) {
          if (!options_.silent) show(event);
          return true;
        });
    end_line();
    if (!options_.silent)
      for (const auto fault : turn.faults)
        terminal_.note(std::string("(the model's output had a fault: ") +
                       std::string(dsv32::to_string(fault)) + ")");
    return turn;
  } catch (...) {
    end_line();
    throw;
  }
}

void Conversation::show(const dsv32::ParseEvent& event) {
  using Kind = dsv32::ParseEvent::Kind;
  if (event.text.empty()) return;
  const bool thinking = event.kind == Kind::reasoning;
  if (!thinking && event.kind != Kind::content && event.kind != Kind::malformed) return;
  if (thinking && options_.hide_thinking) return;
  if (thinking != in_thinking_) {
    if (in_thinking_) {
      terminal_.plain();
      terminal_.write("\n");
    } else {
      terminal_.dim();
      if (!terminal_.color()) terminal_.write("(thinking) ");
    }
    in_thinking_ = thinking;
  }
  terminal_.write_foreign(event.text);
  line_open_ = event.text.back() != '\n';
}

void Conversation::call_tools(const std::vector<dsv32::ToolCall>& calls) {
  Json& shown = rounds_.back()["tool_calls"];
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const dsv32::ToolCall& call = calls[i];
    if (!options_.silent) terminal_.write_foreign("tool call: " + one_line(to_json(call)) + "\n");
    const ToolResult result =
        run_tool_by_name(options_.tools, call.name, call.arguments_json, interrupt_.token());
    if (!options_.silent) terminal_.write_foreign("tool result: " + result.text + "\n");
    shown[i]["ok"] = result.ok;
    shown[i]["result"] = result.text;
    history_.push_back(
        {.role = dsv32::Role::tool, .content = result.text, .tool_call_id = call.id});
  }
}

}  // namespace cli
