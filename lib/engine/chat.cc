// chat() and ChatStream: render, generate, parse.
#include "dsv32/chat.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <unordered_map>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/float_state.h"
#include "lib/base/held.h"
#include "lib/base/json.h"
#include "lib/engine/turn_reader.h"
#include "lib/text/markers.h"
#include "lib/text/message_checks.h"

namespace dsv32 {
namespace {

// Messages that are in a session already need no such help: sync() finds them there. Without
// their text the prompt would lack the end tokens that the session does not hold.
Prompt render(const Model& model, std::span<const Message> messages, ThinkingMode mode,
              const RenderOptions& options) {
  DSV32_CHECK(options.context == 0, invalid_argument,
              "chat() renders the whole conversation: context is {}, not 0", options.context);
  DSV32_CHECK(options.add_generation_prompt, invalid_argument,
              "chat() asks for an answer: add_generation_prompt is false");
  return model.chat_template().render(messages, mode, options);
}

std::vector<std::string> declared_tools(std::span<const Message> messages) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    for (std::size_t k = 0; k < messages[i].tools_json.size(); ++k) {
      const Json tool = declared_function(messages, i, k);
      const Json* name = tool.find("name");
      if (name && name->is_string()) names.push_back(name->text);
    }
  }
  return names;
}

ToolCallParserOptions parser_options(ChatFormat format, std::span<const Message> messages,
                                     ToolCallParserOptions options) {
  if (options.tool_names.empty()) options.tool_names = declared_tools(messages);
  options.calls =
      options.calls && format != ChatFormat::v32_speciale && !options.tool_names.empty();
  return options;
}

// The tokens that are markers, with their texts.
std::unordered_map<TokenId, std::string_view> marker_tokens(const Tokenizer& tokenizer) {
  using namespace markers;
  std::unordered_map<TokenId, std::string_view> found;
  for (const std::string_view text : {kThink, kEndThink, kBos, kEos, kDsml, kCallsBegin, kCallsEnd,
                                      kCallBegin, kCallEnd, kOutputBegin, kOutputEnd, kSeparator}) {
    if (const std::optional<TokenId> id = tokenizer.find(text)) found.emplace(*id, text);
  }
  return found;
}

void append(std::vector<ParseEvent>& events, std::vector<ParseEvent> more) {
  std::move(more.begin(), more.end(), std::back_inserter(events));
}

}  // namespace

class ChatStream::Impl {
 public:
  static constexpr std::string_view kOwner = "ChatStream";

  Impl(const Model& model, std::span<const Message> messages, ThinkingMode mode,
       const ChatOptions& options)
      : Impl(model, render(model, messages, mode, options.render),
             parser_options(model.chat_template().format(), messages, options.parser), options) {}

  std::span<const TokenId> prompt() const { return prompt_; }
  const GenerateOptions& options() const { return options_; }
  bool ended() const { return finished_ || reader_.stopped(); }

  std::vector<ParseEvent> feed(const Sample& sample) {
    if (ended()) return {};
    generation_.tokens.push_back(sample.token);
    generation_.samples.push_back(sample);
    reader_.begin_token();
    const std::string text = decoder_.push(sample.token);
    generation_.text += text;
    if (by_text_) return reader_.feed(text, PieceKind::by_text);
    const auto marker = markers_.find(sample.token);
    if (marker == markers_.end()) return reader_.feed(text, PieceKind::text);
    // In front of it may be what the tokens before left unfinished.
    const std::size_t size = std::min(marker->second.size(), text.size());
    const std::string_view whole = text;
    std::vector<ParseEvent> events =
        reader_.feed(whole.substr(0, whole.size() - size), PieceKind::text);
    append(events, reader_.feed(whole.substr(whole.size() - size), PieceKind::marker));
    return events;
  }

  std::vector<ParseEvent> finish(const Generation& end) {
    if (finished_) return {};
    std::vector<ParseEvent> events;
    for (std::size_t i = generation_.samples.size(); i < end.samples.size(); ++i)
      append(events, feed(end.samples[i]));
    const std::string tail = decoder_.flush();
    generation_.text += tail;
    append(events, reader_.feed(tail, by_text_ ? PieceKind::by_text : PieceKind::text));
    append(events, reader_.finish(reason_to_parse(end)));
    finished_ = true;
    generation_.usage = end.usage;
    generation_.seed = end.seed;
    generation_.finish_reason = end.finish_reason;
    generation_.stop_token = end.stop_token;
    if (reader_.stopped()) {
      generation_.finish_reason = FinishReason::stop;
      generation_.stop_token.reset();
    }
    return events;
  }

  ChatTurn turn() const {
    ChatTurn turn{.message = reader_.message(),
                  .finish_reason = generation_.finish_reason,
                  .faults = reader_.faults(),
                  .usage = generation_.usage,
                  .stop_string = reader_.stop_string(),
                  .generation = generation_};
    turn.generation.stop_string = turn.stop_string;
    turn.generation.text.resize(std::min(turn.generation.text.size(), reader_.size()));
    return turn;
  }

 private:
  Impl(const Model& model, const Prompt& prompt, ToolCallParserOptions parser,
       const ChatOptions& options)
      : tokenizer_(model.tokenizer()),
        prompt_(tokenizer_.encode(prompt)),
        end_tokens_(model.end_tokens().begin(), model.end_tokens().end()),
        markers_(marker_tokens(tokenizer_)),
        by_text_(options.markers_by_text),
        options_(options.generate),
        decoder_(tokenizer_),
        reader_(
            ToolCallParser(model.chat_template().format(), prompt.in_reasoning, std::move(parser)),
            options.generate.stop_strings, options.generate.stops_in_reasoning) {
    options_.validate(model.config().vocab_size);
    options_.stop_strings.clear();  // the reader's
  }

  // Only the model's own end token means that it had finished; whatever else stopped it cut it
  // short.
  FinishReason reason_to_parse(const Generation& end) const {
    const bool cut = !end.stop_string.empty() ||
                     (end.stop_token && std::find(end_tokens_.begin(), end_tokens_.end(),
                                                  *end.stop_token) == end_tokens_.end());
    return end.finish_reason == FinishReason::stop && cut ? FinishReason::length
                                                          : end.finish_reason;
  }

  Tokenizer tokenizer_;
  std::vector<TokenId> prompt_, end_tokens_;
  std::unordered_map<TokenId, std::string_view> markers_;
  bool by_text_;
  GenerateOptions options_;
  TokenDecoder decoder_;
  TurnReader reader_;
  Generation generation_{};
  bool finished_ = false;
};

ChatStream::ChatStream(const Model& model, std::span<const Message> messages, ThinkingMode mode,
                       const ChatOptions& options)
    : impl_([&] {
        const FloatState ours;
        return std::make_unique<Impl>(model, messages, mode, options);
      }()) {}
ChatStream::ChatStream(ChatStream&&) noexcept = default;
ChatStream& ChatStream::operator=(ChatStream&&) noexcept = default;
ChatStream::~ChatStream() = default;

std::span<const TokenId> ChatStream::prompt() const& { return held(impl_).prompt(); }
const GenerateOptions& ChatStream::generate_options() const& { return held(impl_).options(); }
std::vector<ParseEvent> ChatStream::feed(const GeneratedToken& token) {
  return held(impl_).feed(token.sample);
}
bool ChatStream::ended() const noexcept { return impl_ == nullptr || impl_->ended(); }
std::vector<ParseEvent> ChatStream::finish(const Generation& generation) {
  return held(impl_).finish(generation);
}
ChatTurn ChatStream::turn() const { return held(impl_).turn(); }

ChatTurn chat(Session& session, std::span<const Message> messages, ThinkingMode mode,
              const ChatOptions& options, const std::function<bool(const ParseEvent&)>& on_event) {
  ChatStream stream(session.model(), messages, mode, options);
  bool going = true;
  const auto emit = [&](const std::vector<ParseEvent>& events) {
    for (std::size_t i = 0; i < events.size() && going && on_event; ++i)
      going = on_event(events[i]);
  };
  const Generation generation = session.generate(stream.prompt(), stream.generate_options(),
                                                 [&](const GeneratedToken& token) {
                                                   emit(stream.feed(token));
                                                   return going && !stream.ended();
                                                 });
  emit(stream.finish(generation));
  ChatTurn turn = stream.turn();
  if (!going) turn.finish_reason = turn.generation.finish_reason = FinishReason::cancelled;
  return turn;
}

}  // namespace dsv32
