// A prompt under construction, with the ranges that someone else wrote.
#ifndef DSV32_LIB_TEXT_PROMPT_BUILDER_H_
#define DSV32_LIB_TEXT_PROMPT_BUILDER_H_

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "dsv32/chat_template.h"

namespace dsv32 {

class PromptBuilder {
 public:
  // The template's own words, and the system message's.
  void trusted(std::string_view text) {
    prompt_.text += text;
    prompt_.in_reasoning = false;
  }
  // Text from anybody else. Neighbours become one range.
  void untrusted(std::string_view text) {
    if (text.empty()) return;
    const std::size_t begin = prompt_.text.size();
    trusted(text);
    if (!prompt_.untrusted.empty() && prompt_.untrusted.back().end == begin) {
      prompt_.untrusted.back().end = prompt_.text.size();
    } else {
      prompt_.untrusted.push_back({begin, prompt_.text.size()});
    }
  }
  // From here on the model writes.
  void hand_over(bool thinking);
  // Whether what the model writes first is reasoning, where the last words do not say so.
  void set_in_reasoning(bool in_reasoning) { prompt_.in_reasoning = in_reasoning; }

  Prompt take() && { return std::move(prompt_); }

 private:
  Prompt prompt_{};
};

// The formats. `messages` counts the context; only those from options.context on are rendered.
Prompt render_v32(std::span<const Message> messages, ThinkingMode mode,
                  const RenderOptions& options);
Prompt render_v31(std::span<const Message> messages, ThinkingMode mode,
                  const RenderOptions& options);

}  // namespace dsv32

#endif  // DSV32_LIB_TEXT_PROMPT_BUILDER_H_
