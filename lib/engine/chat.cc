// chat(): render, generate, parse.
#include "dsv32/chat.h"

#include <utility>

#include "lib/base/check.h"

namespace dsv32 {

ChatTurn chat(Session& session, std::span<const Message> messages, ThinkingMode mode,
              const ChatOptions& options, const std::function<bool(const ParseEvent&)>& on_event) {
  const ChatTemplate format = session.model().chat_template();
  const Prompt prompt = format.render(messages, mode, options.render);
  const Tokenizer tokenizer = session.model().tokenizer();
  ToolCallParser parser(format.format(), prompt.in_reasoning, options.parser);
  bool going = true;
  const auto emit = [&](const std::vector<ParseEvent>& events) {
    for (std::size_t i = 0; i < events.size() && going && on_event; ++i)
      going = on_event(events[i]);
  };
  std::vector<TokenId> ids;
  if (options.render.context > 0) {  // those messages are in the session already
    const auto cached = session.tokens();
    ids.assign(cached.begin(), cached.end());
  }
  const std::vector<TokenId> rendered = tokenizer.encode(prompt);
  ids.insert(ids.end(), rendered.begin(), rendered.end());
  std::size_t parsed = 0;  // bytes of the generated text that the parser has seen
  const Generation generation =
      session.generate(ids, options.generate, [&](const GeneratedToken& token) {
        parsed += token.text.size();
        emit(parser.feed(token.text));
        return going;
      });
  emit(parser.feed(std::string_view(generation.text).substr(parsed)));
  // Only the model's own end token means that it had finished; a stop string cut it short.
  const bool cut =
      generation.finish_reason == FinishReason::stop && !generation.stop_string.empty();
  emit(parser.finish(cut ? FinishReason::length : generation.finish_reason));
  const auto faults = parser.faults();
  return {.message = parser.message(),
          .finish_reason = going ? generation.finish_reason : FinishReason::cancelled,
          .faults = {faults.begin(), faults.end()},
          .usage = generation.usage};
}

}  // namespace dsv32
