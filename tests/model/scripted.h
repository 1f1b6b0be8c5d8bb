// A model that writes what the test wants: the bundled one, led by a mask.
#ifndef DSV32_TESTS_MODEL_SCRIPTED_H_
#define DSV32_TESTS_MODEL_SCRIPTED_H_

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dsv32/chat.h"

namespace dsv32::test {

inline const Model& tiny() {
  static const Model model = Model::load(std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model",
                                         {.backend = {.num_threads = 1}, .kv_cache_tokens = 8192});
  return model;
}

// Texts, each written with the markers' own tokens or with ordinary ones.
struct Segment {
  std::string text;
  bool markers = true;
};

inline std::vector<TokenId> ids_of(const std::vector<Segment>& segments,
                                   const Tokenizer& tokenizer = tiny().tokenizer()) {
  std::vector<TokenId> ids;
  for (const Segment& segment : segments) {
    const std::vector<TokenId> more = tokenizer.encode(segment.text, segment.markers);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

// Options under which exactly `ids` are generated, then the end token.
inline GenerateOptions scripted(std::vector<TokenId> ids) {
  struct Script {
    std::vector<TokenId> ids;
    std::vector<std::uint32_t> mask;
  };
  auto script = std::make_shared<Script>();
  ids.push_back(1);
  script->ids = std::move(ids);
  script->mask.resize(2048 / 32);
  GenerateOptions options;
  options.sampling = SamplingParams{.temperature = 0.0f};
  options.max_tokens = script->ids.size() + 8;
  options.allowed_in_reasoning = true;
  options.allowed = [script](std::span<const TokenId> output) {
    std::fill(script->mask.begin(), script->mask.end(), 0u);
    const auto id = static_cast<std::size_t>(script->ids.at(output.size()));
    script->mask[id / 32] = 1u << (id % 32);
    return std::span<const std::uint32_t>(script->mask);
  };
  return options;
}

// What a stream makes of `ids` and an end.
struct Told {
  std::vector<ParseEvent> events;
  ChatTurn turn;
  std::size_t read = 0;  // tokens that it wanted
};

inline Told tell(ChatStream& stream, const std::vector<TokenId>& ids,
                 FinishReason reason = FinishReason::stop) {
  Told told;
  const auto take = [&](std::vector<ParseEvent> events) {
    for (ParseEvent& event : events) told.events.push_back(std::move(event));
  };
  for (const TokenId id : ids) {
    if (stream.ended()) break;
    take(stream.feed({.sample = {.token = id}}));
    ++told.read;
  }
  Generation end;
  end.finish_reason = reason;
  if (reason == FinishReason::stop) end.stop_token = 1;
  take(stream.finish(end));
  told.turn = stream.turn();
  return told;
}

inline Told tell(const std::vector<Message>& messages, ThinkingMode mode,
                 const std::vector<TokenId>& ids, const ChatOptions& options = {},
                 const Model& model = tiny()) {
  ChatStream stream(model, messages, mode, options);
  return tell(stream, ids);
}

inline const std::string kWeatherTool =
    R"({"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}})";

inline std::vector<Message> question(bool tools = false) {
  std::vector<Message> messages;
  if (tools)
    messages.push_back({.role = Role::system, .content = "Help.", .tools_json = {kWeatherTool}});
  messages.push_back({.content = "What is the weather in Oslo?"});
  return messages;
}

inline const std::string kInvoke =
    "<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" "
    "string=\"true\">Oslo</｜DSML｜parameter>\n</｜DSML｜invoke>\n";
inline const std::string kCall =
    "<｜DSML｜function_calls>\n" + kInvoke + "</｜DSML｜function_calls>";

}  // namespace dsv32::test

#endif  // DSV32_TESTS_MODEL_SCRIPTED_H_
