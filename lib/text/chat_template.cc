// Which format renders, and what it refuses.
#include "dsv32/chat_template.h"

#include <algorithm>

#include "lib/base/check.h"
#include "lib/base/check_enum.h"
#include "lib/text/markers.h"
#include "lib/text/message_checks.h"
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

ChatTemplate::ChatTemplate(ChatFormat format) : format_(format) {
  check_enum("chat format", format, ChatFormat::v31);
}

Prompt ChatTemplate::render(std::span<const Message> messages, ThinkingMode mode,
                            const RenderOptions& options) const {
  check_enum("thinking mode", mode, ThinkingMode::thinking);
  DSV32_CHECK(options.context <= messages.size(), invalid_argument,
              "context of {} messages, but there are {}", options.context, messages.size());
  check_messages(messages);
  if (format_ == ChatFormat::v31) return render_v31(messages, mode, options);
  DSV32_CHECK(format_ == ChatFormat::v32 || std::ranges::none_of(messages, uses_tools), unsupported,
              "V3.2-Speciale has no tools");
  return render_v32(messages, mode, options);
}

}  // namespace dsv32
