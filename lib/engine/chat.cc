// chat(): render, generate, parse.
#include "dsv32/chat.h"

#include <iterator>
#include <utility>

#include "lib/base/check.h"
#include "lib/engine/turn_reader.h"

namespace dsv32 {

std::vector<ParseEvent> TurnReader::finish(const Generation& generation) {
  std::vector<ParseEvent> events = feed(std::string_view(generation.text).substr(read_));
  // Only the model's own end token means that it had finished; a stop string cut it short.
  const bool cut =
      generation.finish_reason == FinishReason::stop && !generation.stop_string.empty();
  std::vector<ParseEvent> last =
      parser_.finish(cut ? FinishReason::length : generation.finish_reason);
  std::move(last.begin(), last.end(), std::back_inserter(events));
  return events;
}

ChatTurn TurnReader::turn(const Generation& generation) const {
  const auto faults = parser_.faults();
  return {.message = parser_.message(),
          .finish_reason = generation.finish_reason,
          .faults = {faults.begin(), faults.end()},
          .usage = generation.usage};
}

ChatTurn chat(Session& session, std::span<const Message> messages, ThinkingMode mode,
              const ChatOptions& options, const std::function<bool(const ParseEvent&)>& on_event) {
  // Messages that are in the session already need no such help: sync() finds them there. Without
  // their text the prompt would lack the end tokens that the session does not hold.
  DSV32_CHECK(options.render.context == 0, invalid_argument,
              "chat() renders the whole conversation: context is {}, not 0",
              options.render.context);
  DSV32_CHECK(options.render.add_generation_prompt, invalid_argument,
              "chat() asks for an answer: add_generation_prompt is false");
  const ChatTemplate format = session.model().chat_template();
  const Prompt prompt = format.render(messages, mode, options.render);
  TurnReader reader(format.format(), prompt.in_reasoning, options.parser);
  bool going = true;
  const auto emit = [&](const std::vector<ParseEvent>& events) {
    for (std::size_t i = 0; i < events.size() && going && on_event; ++i)
      going = on_event(events[i]);
    return going;
  };
  const Generation generation =
      session.generate(session.model().tokenizer().encode(prompt), options.generate,
                       [&](const GeneratedToken& token) { return emit(reader.feed(token.text)); });
  emit(reader.finish(generation));
  ChatTurn turn = reader.turn(generation);
  if (!going) turn.finish_reason = FinishReason::cancelled;
  return turn;
}

}  // namespace dsv32
