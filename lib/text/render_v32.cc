// DeepSeek-V3.2's encoding, after its encoding_dsv32.py: DSML tool calls, thinking kept through the
// tool rounds of the last turn.
#include <cstddef>
#include <string>
#include <string_view>

#include "lib/base/check.h"
#include "lib/base/json.h"
#include "lib/text/markers.h"
#include "lib/text/message_checks.h"
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
    const bool is_question = options_.add_generation_prompt && !messages_.empty();
    if (is_question) check_question();
    if (options_.add_bos && options_.context == 0) out_.trusted(markers::kBos);
    for (std::size_t i = options_.context; i < messages_.size();) i = render_at(i);
    if (is_question) {  // the hand-over may be in the context
      const Message& last = messages_.back();
      out_.set_in_reasoning(thinking_ && (last.role != Role::assistant || last.content.empty()));
    }
    return std::move(out_).take();
  }

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};

  // A prompt that is to be answered ends where the model writes. Behind a hand-over nothing else
  // may stand, or the answer is read for what it is not.
  void check_question() const {
    const std::size_t last = messages_.size() - 1;
    for (std::size_t i = 0; i < last; ++i) {
      DSV32_CHECK(!messages_[i].prefix, invalid_argument,
                  "messages[{}]: only the last message can be a prefix", i);
    }
    DSV32_CHECK(messages_[last].role != Role::system, invalid_argument,
                "messages[{}]: a system message cannot stand last, behind the place where the "
                "answer begins: put it at the start or in front of the user's message",
                last);
    if (messages_[last].role != Role::assistant) return check_handed_over(last);
    DSV32_CHECK(messages_[last].prefix, invalid_argument,
                "messages[{}]: an answer stands last: add a user message, or set its prefix to "
                "have it continued",
                last);
    DSV32_CHECK(messages_[last].tool_calls.empty(), invalid_argument,
                "messages[{}]: a prefix cannot have tool calls", last);
    DSV32_CHECK(last > 0, invalid_argument, "messages[0]: a prefix without a question");
    check_handed_over(last - 1);
  }
  void check_handed_over(std::size_t i) const {
    const Role role = messages_[i].role;
    DSV32_CHECK(asks(messages_[i]) || role == Role::tool, invalid_argument,
                "messages[{}]: a prefix must follow a user message or tool results", i + 1);
    if (role != Role::tool) return;
    const ResultRun run = result_run(messages_, i, options_.context);
    DSV32_CHECK(run.complete(), invalid_argument,
                "messages[{}]: {} results for {} calls: the model cannot go on before it has all",
                i, run.end - run.begin, run.calls);
  }
  bool is_continued(std::size_t i) const {
    return options_.add_generation_prompt && messages_[i].prefix && i + 1 == messages_.size();
  }

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
        is_continued(i) ? begin_answer(messages_[i]) : answer(i);
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

  // The model goes on where `message` ends.
  void begin_answer(const Message& message) {
    if (thinking_) out_.untrusted(message.reasoning);
    if (thinking_ && !message.content.empty()) out_.trusted(markers::kEndThink);
    out_.untrusted(message.content);
  }

  void answer(std::size_t i) {
    const Message& message = messages_[i];
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
    const Json arguments = arguments_of(messages_, i, k, options_.log);
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
    const ResultRun run = result_run(messages_, begin, options_.context);
    if (begin == run.begin) out_.trusted("\n\n<function_results>");
    for (const std::size_t i : run.order) {
      if (i < begin) continue;
      out_.trusted("\n<result>");
      out_.untrusted(messages_[i].content);
      out_.trusted("</result>");
    }
    if (run.complete()) {
      out_.trusted("\n</function_results>\n\n");
      out_.hand_over(thinking_ && in_last_turn(run.end - 1));
    }
    return run.end;
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
