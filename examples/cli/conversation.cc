// A conversation with tools.
#include "cli/conversation.h"

#include <algorithm>
#include <utility>

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
  for (std::size_t i = 0; i < sum.drafted.size(); ++i) {
    sum.drafted[i] += part.drafted[i];
    sum.accepted[i] += part.accepted[i];
  }
}

std::vector<dsv32::Message> with_system(const std::string& system, std::vector<std::string> tools,
                                        const std::vector<dsv32::Message>& messages) {
  std::vector<dsv32::Message> result;
  if (!system.empty() || !tools.empty()) {
    result.push_back({.role = dsv32::Role::system, .content = system});
    result.back().tools_json = std::move(tools);
  }
  result.insert(result.end(), messages.begin(), messages.end());
  return result;
}

}  // namespace

Conversation::Conversation(dsv32::Session session, ConversationOptions options,
                           const Terminal& terminal, Interrupt& interrupt)
    : session_(std::move(session)),
      options_(std::move(options)),
      terminal_(terminal),
      interrupt_(interrupt) {}

std::vector<dsv32::Message> Conversation::messages() const {
  std::vector<std::string> tools;
  for (const Tool& tool : options_.tools) tools.push_back(tool.schema_json);
  return with_system(options_.system, std::move(tools), history_);
}

SavedChat Conversation::saved() const {
  SavedChat chat{.system = options_.system, .thinking = options_.thinking};
  for (const Tool& tool : options_.tools) chat.tools_json.push_back(tool.schema_json);
  chat.sampling = options_.chat.generate.sampling.value_or(model().default_sampling());
  chat.messages = history_;
  return chat;
}

void Conversation::resume(SavedChat chat, dsv32::Session session) {
  const std::vector<dsv32::Message> all = with_system(chat.system, chat.tools_json, chat.messages);
  const auto mode = chat.thinking ? dsv32::ThinkingMode::thinking : dsv32::ThinkingMode::chat;
  static_cast<void>(model().chat_template().render(all, mode, {.add_generation_prompt = false}));
  std::vector<Tool> tools;
  for (const std::string& schema : chat.tools_json) {
    const auto same = std::find_if(options_.tools.begin(), options_.tools.end(),
                                   [&](const Tool& tool) { return tool.schema_json == schema; });
    tools.push_back(same != options_.tools.end() ? *same : tool_of_schema(schema));
  }
  reset();
  session_ = std::move(session);
  options_.system = std::move(chat.system);
  options_.tools = std::move(tools);
  options_.thinking = chat.thinking;
  options_.chat.generate.sampling = std::move(chat.sampling);
  history_ = std::move(chat.messages);
  for (std::size_t i = 0; i < history_.size(); ++i)
    if (history_[i].role == dsv32::Role::user) begins_.push_back(i);
}

void Conversation::reset() {
  history_.clear();
  begins_.clear();
  usage_ = {};
  decoded_ = 0;
  ending_.clear();
  session_ = dsv32::Session(session_.model());
}

std::size_t Conversation::drop_oldest(std::size_t count) {
  count = std::min(count, begins_.size());
  const std::size_t size = count == begins_.size() ? history_.size() : begins_[count];
  history_.erase(history_.begin(), history_.begin() + static_cast<std::ptrdiff_t>(size));
  begins_.erase(begins_.begin(), begins_.begin() + static_cast<std::ptrdiff_t>(count));
  for (std::size_t& begin : begins_) begin -= size;
  return count;
}

std::size_t Conversation::drop_newest() {
  if (begins_.empty()) return 0;
  history_.resize(begins_.back());
  begins_.pop_back();
  return 1;
}

Conversation::Outcome Conversation::say(const std::string& text) {
  interrupt_.begin();
  usage_ = {};
  decoded_ = 0;
  ending_.clear();
  rounds_ = Json::array();
  partial_ = {};
  begins_.push_back(history_.size());
  history_.push_back({.role = dsv32::Role::user, .content = text});
  try {
    const Outcome outcome = answer_with_tools();
    close_exchange();
    return outcome;
  } catch (...) {
    // Whatever happens, the history stays a conversation that can be rendered.
    const bool nothing = history_.size() == begins_.back() + 1 && partial_.content.empty() &&
                         partial_.reasoning.empty();
    nothing ? static_cast<void>(drop_newest()) : close_exchange();
    throw;
  }
}

Conversation::Outcome Conversation::answer_with_tools() {
  for (int round = 0; round < options_.max_tool_rounds; ++round) {
    dsv32::ChatTurn turn = answer();
    rounds_.push_back(to_json(turn));
    ending_ = ending(turn.generation);
    decoded_ += decoded_tokens(turn.generation);
    add(usage_, turn.usage);
    const bool stopped = turn.finish_reason == dsv32::FinishReason::cancelled;
    partial_ = turn.message;
    if (stopped || turn.message.tool_calls.empty()) {
      partial_.tool_calls.clear();  // calls that nobody answers
      return stopped ? Outcome::stopped : Outcome::answered;
    }
    history_.push_back(std::exchange(partial_, {}));
    call_tools(turn.message.tool_calls);
    if (interrupt_.pressed()) return Outcome::stopped;
  }
  return Outcome::too_many_calls;
}

// An exchange ends with an answer, be it an empty one.
void Conversation::close_exchange() {
  partial_.role = dsv32::Role::assistant;
  history_.push_back(std::exchange(partial_, {}));
}

void Conversation::end_line() {
  if (in_thinking_) terminal_.plain();
  if (line_open_) terminal_.write("\n");
  in_thinking_ = line_open_ = false;
}

dsv32::ChatTurn Conversation::answer() {
  dsv32::ChatOptions chat = options_.chat;
  chat.generate.cancel = interrupt_.token();
  const auto mode = options_.thinking ? dsv32::ThinkingMode::thinking : dsv32::ThinkingMode::chat;
  const auto on_event = [this](const dsv32::ParseEvent& event) {
    terminal_.check_reader();
    if (event.kind == dsv32::ParseEvent::Kind::reasoning) partial_.reasoning += event.text;
    if (event.kind == dsv32::ParseEvent::Kind::content) partial_.content += event.text;
    if (!options_.silent) show(event);
    return true;
  };
  try {
    dsv32::ChatTurn turn = dsv32::chat(session_, messages(), mode, chat, on_event);
    end_line();
    if (options_.silent) return turn;
    for (const auto fault : turn.faults)
      terminal_.note(std::string("(the model's output had a fault: ") +
                     std::string(dsv32::to_string(fault)) + ")");
    const bool answered = !turn.message.content.empty() || !turn.message.tool_calls.empty();
    const std::string cut = cut_short(turn.generation, chat.generate.max_tokens, answered);
    if (!cut.empty()) terminal_.aside("(" + cut + ")");
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
        interrupt_.pressed()
            ? ToolResult{.ok = false, .text = R"({"error":"stopped"})"}
            : run_tool_by_name(options_.tools, call.name, call.arguments_json, interrupt_.token());
    if (!options_.silent) terminal_.write_foreign("tool result: " + result.text + "\n");
    shown[i]["ok"] = result.ok;
    shown[i]["result"] = result.text;
    history_.push_back(
        {.role = dsv32::Role::tool, .content = result.text, .tool_call_id = call.id});
  }
}

}  // namespace cli
