// DeepSeek-V3.2's encoding, after its encoding_dsv32.py: DSML tool calls, thinking kept through the
// tool rounds of the last turn.
#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/check.h"
#include "lib/base/json.h"
#include "lib/text/markers.h"
#include "lib/text/prompt_builder.h"

namespace dsv32 {
namespace {

// The words before and after the list of functions (the model repository's, MIT).
constexpr std::string_view kToolsHead = R"(## Tools

You have access to a set of tools you can use to answer the user's question.
You can invoke functions by writing a "<｜DSML｜function_calls>" block like the following as part of your reply to the user:
<｜DSML｜function_calls>
<｜DSML｜invoke name="$FUNCTION_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$FUNCTION_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜function_calls>

String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should use JSON format. The "string" attribute should be set to "true" for string type parameters and "false" for other types (numbers, booleans, arrays, objects).

If the thinking_mode is enabled, then after function results you should strongly consider outputting a thinking block. Here is an example:

<｜DSML｜function_calls>
...
</｜DSML｜function_calls>

<function_results>
...
</function_results>

<think>...thinking about results</think>

Here are the functions available in JSONSchema format:
<functions>
)";
constexpr std::string_view kToolsTail = "\n</functions>\n";
constexpr std::string_view kResponseFormat =
    "## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n";

class Renderer {
 public:
  Renderer(std::span<const Message> messages, ThinkingMode mode, const RenderOptions& options)
      : messages_(messages), thinking_(mode == ThinkingMode::thinking), options_(options) {
    for (std::size_t i = 0; i < messages.size(); ++i) {
      if (asks(messages[i])) turn_begin_ = i;
    }
  }

  Prompt render() {
    if (options_.add_bos && options_.context == 0) out_.trusted(markers::kBos);
    for (std::size_t i = options_.context; i < messages_.size();) i = render_at(i);
    return std::move(out_).take();
  }

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};

  static bool asks(const Message& message) {
    return message.role == Role::user || message.role == Role::developer;
  }
  // Behind the last question: where reasoning is shown and asked for.
  bool in_last_turn(std::size_t i) const { return turn_begin_ == kNone || i > turn_begin_; }

  // Returns the next message's index.
  std::size_t render_at(std::size_t i) {
    const Message& message = messages_[i];
    switch (message.role) {
      case Role::system:
        out_.trusted(message.content);
        declare(i);
        return i + 1;
      case Role::developer:
        DSV32_CHECK(!message.content.empty(), invalid_argument,
                    "messages[{}]: a developer message needs content", i);
        out_.trusted(markers::kUser);
        declare(i);
        out_.trusted("\n\n# The user's message is: ");
        return ask(i);
      case Role::user:
        out_.trusted(markers::kUser);
        return ask(i);
      case Role::assistant:
        answer(i);
        return i + 1;
      case Role::tool:
        return results(i);
    }
    throw Error(ErrorCode::invalid_argument, formatted("messages[{}]: unknown role", i));
  }

  std::size_t ask(std::size_t i) {
    out_.untrusted(messages_[i].content);
    out_.trusted(markers::kAssistant);
    out_.hand_over(thinking_ && i == turn_begin_);
    return i + 1;
  }

  // Tools and response format of a system or developer message.
  void declare(std::size_t i) {
    const Message& message = messages_[i];
    if (!message.tools_json.empty()) {
      out_.trusted("\n\n");
      out_.trusted(kToolsHead);
      for (std::size_t k = 0; k < message.tools_json.size(); ++k) {
        if (k > 0) out_.trusted("\n");
        out_.untrusted(python_json(declared_function(messages_, i, k)));
      }
      out_.trusted(kToolsTail);
    }
    if (!message.response_format_json.empty()) {
      const std::string what = formatted("messages[{}].response_format_json", i);
      out_.trusted("\n\n");
      out_.trusted(kResponseFormat);
      out_.untrusted(python_json(parse_json(message.response_format_json, what)));
    }
  }

  void answer(std::size_t i) {
    const Message& message = messages_[i];
    DSV32_CHECK(!message.prefix, unsupported, "messages[{}]: V3.2 has no prefix", i);
    if (thinking_ && in_last_turn(i)) {
      DSV32_CHECK(!message.reasoning.empty() || !message.tool_calls.empty(), invalid_argument,
                  "messages[{}]: in thinking mode an answer to the last question needs its "
                  "reasoning or tool calls",
                  i);
      out_.untrusted(message.reasoning);
      out_.trusted(markers::kEndThink);
    }
    out_.untrusted(message.content);
    if (!message.tool_calls.empty()) {
      out_.trusted("\n\n");
      out_.trusted(markers::kBlockOpen);
      for (std::size_t k = 0; k < message.tool_calls.size(); ++k) invoke(i, k);
      out_.trusted("\n");
      out_.trusted(markers::kBlockClose);
    }
    out_.trusted(markers::kEos);
  }

  void invoke(std::size_t i, std::size_t k) {
    const ToolCall& call = messages_[i].tool_calls[k];
    const std::string what = formatted("messages[{}].tool_calls[{}].arguments_json", i, k);
    const Json arguments = parse_json(call.arguments_json, what);
    DSV32_CHECK(arguments.is_object(), bad_format, "{}: not an object", what);
    out_.trusted("\n");
    out_.trusted(markers::kInvokeOpen);
    out_.trusted(" name=\"");
    out_.untrusted(call.name);
    out_.trusted("\">\n");
    for (std::size_t p = 0; p < arguments.members.size(); ++p) {
      if (p > 0) out_.trusted("\n");
      parameter(arguments.members[p]);
    }
    out_.trusted("\n");
    out_.trusted(markers::kInvokeClose);
  }

  void parameter(const JsonMember& member) {
    const bool is_string = member.value.is_string();
    out_.trusted(markers::kParameterOpen);
    out_.trusted(" name=\"");
    out_.untrusted(member.key);
    out_.trusted(is_string ? "\" string=\"true\">" : "\" string=\"false\">");
    out_.untrusted(is_string ? member.value.text : python_json(member.value));
    out_.trusted(markers::kParameterClose);
  }

  // A run of tool messages, from its first one that is not in the context.
  std::size_t results(std::size_t begin) {
    std::size_t first = begin, end = begin;
    while (first > 0 && messages_[first - 1].role == Role::tool) --first;
    while (end < messages_.size() && messages_[end].role == Role::tool) ++end;
    DSV32_CHECK(first > 0 && messages_[first - 1].role == Role::assistant, invalid_argument,
                "messages[{}]: a tool result must follow an assistant message", begin);
    const std::vector<ToolCall>& calls = messages_[first - 1].tool_calls;
    DSV32_CHECK(end - first <= calls.size(), invalid_argument,
                "messages[{}]: a tool result without its call", first + calls.size());
    const std::vector<std::size_t> order = in_call_order(first, end, calls);
    if (begin == first) out_.trusted("\n\n<function_results>");
    for (const std::size_t i : order) {
      if (i < begin) continue;
      out_.trusted("\n<result>");
      out_.untrusted(messages_[i].content);
      out_.trusted("</result>");
    }
    if (end - first == calls.size()) {
      out_.trusted("\n</function_results>\n\n");
      out_.hand_over(thinking_ && in_last_turn(end - 1));
    }
    return end;
  }

  // The prompt names results by their place only, so those with an id go to their call's place.
  std::vector<std::size_t> in_call_order(std::size_t first, std::size_t end,
                                         const std::vector<ToolCall>& calls) const {
    std::vector<std::size_t> by_call(calls.size(), kNone);
    for (std::size_t i = first; i < end; ++i) {
      const std::string& id = messages_[i].tool_call_id;
      if (id.empty()) continue;
      const auto call = std::ranges::find(calls, id, &ToolCall::id);
      DSV32_CHECK(call != calls.end(), invalid_argument,
                  "messages[{}]: no call of the last answer has the id {}", i, quote(id));
      std::size_t& slot = by_call[static_cast<std::size_t>(call - calls.begin())];
      DSV32_CHECK(slot == kNone, invalid_argument, "messages[{}]: a second result for call {}", i,
                  quote(id));
      slot = i;
    }
    auto free = by_call.begin();
    for (std::size_t i = first; i < end; ++i) {
      if (!messages_[i].tool_call_id.empty()) continue;
      free = std::find(free, by_call.end(), kNone);
      *free = i;
    }
    std::erase(by_call, kNone);
    return by_call;
  }

  std::span<const Message> messages_;
  bool thinking_;
  const RenderOptions& options_;
  std::size_t turn_begin_ = kNone;  // the last user or developer message
  PromptBuilder out_;
};

}  // namespace

Prompt render_v32(std::span<const Message> messages, ThinkingMode mode,
                  const RenderOptions& options) {
  return Renderer(messages, mode, options).render();
}

}  // namespace dsv32
