// The encoding of DeepSeek-V3.1 and V3.2-Exp, after their chat template: tool calls as tokens with
// raw JSON; tools themselves as the model card writes them.
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/json.h"
#include "lib/text/markers.h"
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
    for (std::size_t i = 0; i < messages_.size(); ++i) {
      render_at(i);
      // The context decides the state and is not printed.
      if (i + 1 == options_.context) out_ = PromptBuilder();
    }
    if (options_.add_generation_prompt && !after_tool_ &&
        (after_user_ || only_system_ || !has_prefix_)) {
      out_.trusted(markers::kAssistant);
      out_.hand_over(thinking_);
    }
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
    // Without its call a result would be read as the model's own words.
    DSV32_CHECK(message.role != Role::tool || (i > 0 && answers(messages_[i - 1])),
                invalid_argument, "messages[{}]: a tool result without its call", i);
  }
  static bool answers(const Message& before) {
    return before.role == Role::tool || !before.tool_calls.empty();
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

  void render_at(std::size_t i) {
    const Message& message = messages_[i];
    switch (message.role) {
      case Role::system:
        return;  // stands at the start
      case Role::user:
        out_.trusted(markers::kUser);
        out_.untrusted(message.content);
        after_user_ = true;
        after_tool_ = false;
        break;
      case Role::assistant:
        message.tool_calls.empty() ? answer(message) : call(message);
        after_user_ = after_tool_ = false;
        break;
      case Role::tool:
        out_.trusted(markers::kOutputBegin);
        out_.untrusted(message.content);
        out_.trusted(markers::kOutputEnd);
        after_user_ = false;
        after_tool_ = true;
        break;
      case Role::developer:
        throw Error(ErrorCode::internal, "developer role reached the V3.1 renderer");
    }
    only_system_ = false;
  }

  void answer(const Message& message) {
    if (after_user_) {
      out_.trusted(markers::kAssistant);
      out_.trusted(message.prefix && thinking_ ? markers::kThink : markers::kEndThink);
    }
    has_prefix_ = has_prefix_ || message.prefix;
    std::string_view content = message.content;
    const std::size_t end_think = content.find(markers::kEndThink);
    if (!after_tool_ && end_think != std::string_view::npos) {
      content.remove_prefix(end_think + markers::kEndThink.size());
    }
    out_.untrusted(content);
    out_.trusted(markers::kEos);
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
      out_.untrusted(call.arguments_json);
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
  bool only_system_ = false;  // there is system text, and nothing else so far
  bool has_prefix_ = false;   // some answer was begun for the model
};

}  // namespace

Prompt render_v31(std::span<const Message> messages, ThinkingMode mode,
                  const RenderOptions& options) {
  return Renderer(messages, mode, options).render();
}

}  // namespace dsv32
