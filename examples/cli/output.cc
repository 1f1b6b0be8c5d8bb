// The library's values as JSON and as words.
#include "cli/output.h"

#include <array>
#include <cstdio>

#include "cli/json_text.h"
#include "cli/terminal.h"

namespace cli {
namespace {

double per_second(std::size_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
}

}  // namespace

Json to_json(const dsv32::SparseStats& stats) {
  return {{"keys_visible", stats.keys_visible},
          {"keys_scored", stats.keys_scored},
          {"keys_read", stats.keys_read},
          {"nan_queries", stats.nan_queries}};
}

Json to_json(const dsv32::Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"cached_tokens", usage.cached_tokens},
          {"generated_tokens", usage.generated_tokens},
          {"thinking_tokens", usage.thinking_tokens},
          {"prefill_seconds", usage.prefill_seconds},
          {"decode_seconds", usage.decode_seconds},
          {"sparse", to_json(usage.sparse)}};
}

Json to_json(const dsv32::ToolCall& call) {
  return {{"name", call.name},
          {"arguments", parse_json(call.arguments_json).value_or(Json(call.arguments_json))}};
}

void add_ending(Json& object, const dsv32::Generation& generation) {
  object["finish_reason"] = dsv32::to_string(generation.finish_reason);
  object["stop_string"] = generation.stop_string;
  object["stop_token"] = generation.stop_token ? Json(*generation.stop_token) : Json();
  object["seed"] = generation.seed;
}

Json to_json(const dsv32::ChatTurn& turn) {
  Json calls = Json::array();
  for (const dsv32::ToolCall& call : turn.message.tool_calls) calls.push_back(to_json(call));
  Json faults = Json::array();
  for (const auto fault : turn.faults) faults.push_back(dsv32::to_string(fault));
  Json result = {{"reasoning", turn.message.reasoning},
                 {"content", turn.message.content},
                 {"tool_calls", calls}};
  add_ending(result, turn.generation);
  result["faults"] = faults;
  result["usage"] = to_json(turn.usage);
  return result;
}

std::string ending(const dsv32::Generation& generation) {
  std::string text = "; ended by ";
  if (generation.stop_token)
    text += "token " + std::to_string(*generation.stop_token);
  else if (!generation.stop_string.empty())
    text += "stop string " + one_line(generation.stop_string);
  else
    text += dsv32::to_string(generation.finish_reason);
  return text + "; seed " + std::to_string(generation.seed);
}

std::string summary(const dsv32::Usage& usage) {
  std::array<char, 240> text{};
  const std::size_t computed =
      usage.prompt_tokens - std::min(usage.prompt_tokens, usage.cached_tokens);
  std::snprintf(text.data(), text.size(),
                "prompt: %zu tokens, %zu of them cached, %.1f tokens/s; answer: %zu tokens (%zu of "
                "thinking), %.1f tokens/s; ",
                usage.prompt_tokens, usage.cached_tokens,
                per_second(computed, usage.prefill_seconds), usage.generated_tokens,
                usage.thinking_tokens, per_second(usage.generated_tokens, usage.decode_seconds));
  std::string result = text.data();
  const dsv32::SparseStats& sparse = usage.sparse;
  const double share = sparse.keys_visible == 0 ? 0.0
                                                : 100.0 * static_cast<double>(sparse.keys_read) /
                                                      static_cast<double>(sparse.keys_visible);
  std::snprintf(text.data(), text.size(), "keys: %llu visible, %llu scored, %llu read (%.1f %%)",
                static_cast<unsigned long long>(sparse.keys_visible),
                static_cast<unsigned long long>(sparse.keys_scored),
                static_cast<unsigned long long>(sparse.keys_read), share);
  return result + text.data();
}

std::string bytes_or_unknown(const Json& value) {
  return value.is_null() ? "unknown" : human_bytes(value.get<double>());
}

std::string one_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace cli
