// The encoding of DeepSeek-V3.1 and V3.2-Exp, after their chat template: tool calls as tokens with
// raw JSON; tools themselves as the model card writes them.
#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/json.h"
#include "lib/text/markers.h"
#include "lib/text/message_checks.h"
#include "lib/text/prompt_builder.h"

namespace dsv32 {
namespace {

constexpr std::string_view kToolsHead = "## Tools\nYou have access to the following tools:\n";
constexpr std::string_view kToolsTail = R"(
IMPORTANT: ALWAYS adhere to this exact format for tool use:
<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>

Where:
- `tool_call_name` must be an exact match to one of the available tools
- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema
- For multiple tool calls, chain them directly without separators or spaces
)";

class Renderer {
 public:
  Renderer(std::span<const Message> messages, ThinkingMode mode, const RenderOptions& options)
      : messages_(messages), thinking_(mode == ThinkingMode::thinking), options_(options) {}

  Prompt render() {
    for (std::size_t i = 0; i < messages_.size(); ++i) check(i);
    only_system_ = system_text();
    for (std::size_t i = 0; i < messages_.size();) {
      if (i == options_.context) forget_context();
      i = render_at(i);
    }
    if (options_.context == messages_.size()) forget_context();
    if (options_.add_generation_prompt && !after_tool_ && !is_continued_) open_turn();
    if (is_continued_) out_.set_in_reasoning(thinking_ && !after_tool_);
    return std::move(out_).take();
  }

 private:
  void check(std::size_t i) const {
    const Message& message = messages_[i];
    DSV32_CHECK(message.role != Role::developer, unsupported,
                "messages[{}]: V3.1 has no developer role", i);
    DSV32_CHECK(message.response_format_json.empty(), unsupported,
                "messages[{}]: V3.1 has no response format", i);
    DSV32_CHECK(message.tools_json.empty() || !thinking_, unsupported,
                "messages[{}]: V3.1 calls tools in chat mode only", i);
    DSV32_CHECK(message.role != Role::system || options_.context == 0 || i < options_.context,
                invalid_argument, "messages[{}]: system text stands at the start, which is sent",
                i);
  }
  // It decides the state and is not printed.
  void forget_context() {
    if (options_.context > 0) out_ = PromptBuilder();
  }
  // The last message, those apart that stand at the start.
  bool is_last(std::size_t i) const {
    const auto is_system = [](const Message& m) { return m.role == Role::system; };
    return std::ranges::all_of(messages_.subspan(i + 1), is_system);
  }
  void open_turn() {
    out_.trusted(markers::kAssistant);
    out_.hand_over(thinking_);
  }

  // All system messages, wherever they stand, and their tools. False: there is none.
  bool system_text() {
    if (options_.add_bos) out_.trusted(markers::kBos);
    bool found = false, tools = false;
    for (const Message& message : messages_) {
      if (message.role != Role::system) continue;
      if (found) out_.trusted("\n\n");
      out_.trusted(message.content);
      found = true;
      tools = tools || !message.tools_json.empty();
    }
    if (tools) declare_tools();
    return found;
  }

  void declare_tools() {
    out_.trusted("\n\n");
    out_.trusted(kToolsHead);
    for (std::size_t i = 0; i < messages_.size(); ++i) {
      if (messages_[i].role != Role::system) continue;
      for (std::size_t k = 0; k < messages_[i].tools_json.size(); ++k) declare_tool(i, k);
    }
    out_.trusted(kToolsTail);
  }

  void declare_tool(std::size_t i, std::size_t k) {
    const Json function = declared_function(messages_, i, k);
    const Json* name = function.find("name");
    const Json* description = function.find("description");
    const Json* parameters = function.find("parameters");
    DSV32_CHECK(name != nullptr && name->is_string(), bad_format,
                "messages[{}].tools_json[{}]: no name", i, k);
    out_.trusted("\n### ");
    out_.untrusted(name->text);
    out_.trusted("\nDescription: ");
    if (description != nullptr && description->is_string()) out_.untrusted(description->text);
    out_.trusted("\n\nParameters: ");
    out_.untrusted(parameters == nullptr ? "{}" : python_json(*parameters));
    out_.trusted("\n");
  }

  // Returns the next message's index.
  std::size_t render_at(std::size_t i) {
    const Message& message = messages_[i];
    switch (message.role) {
      case Role::system:
        return i + 1;  // stands at the start
      case Role::user:
        out_.trusted(markers::kUser);
        out_.untrusted(message.content);
        after_user_ = true;
        after_tool_ = false;
        break;
      case Role::assistant:
        is_continued_ = options_.add_generation_prompt && message.prefix && is_last(i);
        if (is_continued_) {
          begin_answer(i);
          break;
        }
        message.tool_calls.empty() ? answer(message) : call(message);
        after_user_ = after_tool_ = false;
        break;
      case Role::tool:
        only_system_ = after_user_ = false;
        after_tool_ = true;
        return results(i);
      case Role::developer:
        throw Error(ErrorCode::internal, "developer role reached the V3.1 renderer");
    }
    only_system_ = false;
    return i + 1;
  }

  // What follows its <think> if the reasoning is in the content; nothing is cut behind a result.
  std::string_view shown(const Message& message) const {
    std::string_view content = message.content;
    const std::size_t end_think = content.find(markers::kEndThink);
    if (!after_tool_ && end_think != std::string_view::npos) {
      content.remove_prefix(end_think + markers::kEndThink.size());
    }
    return content;
  }

  void answer(const Message& message) {
    if (after_user_) {
      out_.trusted(markers::kAssistant);
      out_.trusted(message.prefix && thinking_ ? markers::kThink : markers::kEndThink);
    }
    out_.untrusted(shown(message));
    out_.trusted(markers::kEos);
  }

  // The model goes on where message i ends.
  void begin_answer(std::size_t i) {
    DSV32_CHECK(messages_[i].tool_calls.empty(), invalid_argument,
                "messages[{}]: a prefix cannot have tool calls", i);
    if (!after_tool_) open_turn();
    out_.untrusted(shown(messages_[i]));
  }

  // A run of tool messages from its first one.
  std::size_t results(std::size_t begin) {
    const ResultRun run = result_run(messages_, begin, options_.context);
    if (begin < options_.context && options_.context < run.end) forget_context();
    for (const std::size_t i : run.order) {
      if (i < options_.context && options_.context < run.end) continue;
      out_.trusted(markers::kOutputBegin);
      out_.untrusted(messages_[i].content);
      out_.trusted(markers::kOutputEnd);
    }
    return run.end;
  }

  void call(const Message& message) {
    if (after_user_ || only_system_) {
      out_.trusted(markers::kAssistant);
      out_.trusted(markers::kEndThink);
    }
    out_.untrusted(message.content);
    out_.trusted(markers::kCallsBegin);
    for (const ToolCall& call : message.tool_calls) {
      out_.trusted(markers::kCallBegin);
      out_.untrusted(call.name);
      out_.trusted(markers::kSeparator);
      out_.untrusted(is_blank(call.arguments_json) ? "{}" : std::string_view(call.arguments_json));
      out_.trusted(markers::kCallEnd);
    }
    out_.trusted(markers::kCallsEnd);
    out_.trusted(markers::kEos);
  }

  std::span<const Message> messages_;
  bool thinking_;
  const RenderOptions& options_;
  PromptBuilder out_;
  bool after_user_ = false, after_tool_ = false;
  bool only_system_ = false;   // there is system text, and nothing else so far
  bool is_continued_ = false;  // the last answer was begun for the model
};

}  // namespace

Prompt render_v31(std::span<const Message> messages, ThinkingMode mode,
                  const RenderOptions& options) {
  return Renderer(messages, mode, options).render();
}

}  // namespace dsv32
