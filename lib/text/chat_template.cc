// Which format renders, and what it refuses.
#include "dsv32/chat_template.h"

#include <algorithm>

#include "lib/base/check.h"
#include "lib/text/markers.h"
#include "lib/text/prompt_builder.h"

namespace dsv32 {
namespace {

bool uses_tools(const Message& message) {
  return !message.tools_json.empty() || !message.tool_calls.empty() || message.role == Role::tool;
}

}  // namespace

void PromptBuilder::hand_over(bool thinking) {
  trusted(thinking ? markers::kThink : markers::kEndThink);
  prompt_.in_reasoning = thinking;
}

Json declared_function(std::span<const Message> messages, std::size_t i, std::size_t k) {
  const std::string& text = messages[i].tools_json[k];
  const std::string what = formatted("messages[{}].tools_json[{}]", i, k);
  DSV32_CHECK(text.size() <= kMaxToolBytes, limit, "{}: {} bytes, at most {}", what, text.size(),
              kMaxToolBytes);
  const Json tool = parse_json(text, what);
  DSV32_CHECK(tool.is_object(), bad_format, "{}: not an object", what);
  const Json* function = tool.find("function");
  return function == nullptr ? tool : *function;
}

Prompt ChatTemplate::render(std::span<const Message> messages, ThinkingMode mode,
                            const RenderOptions& options) const {
  DSV32_CHECK(mode == ThinkingMode::chat || mode == ThinkingMode::thinking, invalid_argument,
              "thinking mode {} is unknown", static_cast<int>(mode));
  DSV32_CHECK(options.context <= messages.size(), invalid_argument,
              "context of {} messages, but there are {}", options.context, messages.size());
  for (const Message& message : messages) {
    DSV32_CHECK(message.tools_json.size() <= kMaxTools, limit, "{} tools in a message, at most {}",
                message.tools_json.size(), kMaxTools);
  }
  if (format_ == ChatFormat::v31) return render_v31(messages, mode, options);
  DSV32_CHECK(format_ == ChatFormat::v32 || std::ranges::none_of(messages, uses_tools), unsupported,
              "V3.2-Speciale has no tools");
  return render_v32(messages, mode, options);
}

}  // namespace dsv32
