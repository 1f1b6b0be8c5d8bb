// The library's values as JSON and as words.
#include "cli/output.h"

#include <array>
#include <cstdio>

#include "cli/json_text.h"
#include "cli/terminal.h"

namespace cli {
namespace {

std::string per_second(std::size_t count, double seconds) {
  if (count == 0 || !(seconds > 0)) return "";
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), ", %.1f tokens/s", static_cast<double>(count) / seconds);
  return text.data();
}

// "5 of 8 and 2 of 5 drafts taken": those of the first place, then of the second ..
std::string drafts_text(const dsv32::Usage& usage) {
  std::string text;
  for (std::size_t i = 0; i < usage.drafted.size() && usage.drafted[i] > 0; ++i) {
    text += text.empty() ? "; " : " and ";
    text += std::to_string(usage.accepted[i]) + " of " + std::to_string(usage.drafted[i]);
  }
  return text.empty() ? text : text + " drafts taken";
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
          {"sparse", to_json(usage.sparse)},
          {"drafted", usage.drafted},
          {"accepted", usage.accepted}};
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

std::size_t decoded_tokens(const dsv32::Generation& generation) {
  const std::size_t sampled = generation.tokens.size() + (generation.stop_token ? 1 : 0);
  return sampled - std::min(sampled, std::size_t{1});
}

std::string cut_short(const dsv32::Generation& generation, std::size_t max_tokens, bool answered) {
  if (generation.finish_reason == dsv32::FinishReason::repetition)
    return std::string(answered ? "cut short" : "cut short before it answered") +
           ": it goes in circles (--loop)";
  if (generation.finish_reason != dsv32::FinishReason::length) return "";
  const bool limit = generation.tokens.size() >= max_tokens;
  std::string text = answered ? "cut short" : "cut short before it answered";
  text += limit ? " at " + std::to_string(max_tokens) + " tokens (-n)" : ": the context is full";
  const std::size_t thought = generation.usage.thinking_tokens;
  if (!answered && thought > 0)
    text += "; " + std::to_string(thought) + " tokens went into thinking (--think-budget)";
  return text;
}

std::string summary(const dsv32::Usage& usage, std::size_t decoded) {
  std::array<char, 240> text{};
  const std::size_t computed =
      usage.prompt_tokens - std::min(usage.prompt_tokens, usage.cached_tokens);
  std::string result = "prompt: " + std::to_string(usage.prompt_tokens) + " tokens, " +
                       std::to_string(usage.cached_tokens) + " of them cached" +
                       per_second(computed, usage.prefill_seconds) +
                       "; answer: " + std::to_string(usage.generated_tokens) + " tokens (" +
                       std::to_string(usage.thinking_tokens) + " of thinking)" +
                       per_second(decoded, usage.decode_seconds) + "; ";
  const dsv32::SparseStats& sparse = usage.sparse;
  const double share = sparse.keys_visible == 0 ? 0.0
                                                : 100.0 * static_cast<double>(sparse.keys_read) /
                                                      static_cast<double>(sparse.keys_visible);
  std::snprintf(text.data(), text.size(), "keys: %llu visible, %llu scored, %llu read (%.1f %%)",
                static_cast<unsigned long long>(sparse.keys_visible),
                static_cast<unsigned long long>(sparse.keys_scored),
                static_cast<unsigned long long>(sparse.keys_read), share);
  return result + text.data() + drafts_text(usage);
}

std::string bytes_or_unknown(const Json& value) {
  return value.is_null() ? "unknown" : human_bytes(value.get<double>());
}

std::string one_line(const Json& value) {
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  // JSON lets these stand in strings, where alone they can be; terminals act on them.
  std::string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : '\0');
    const bool c1 = byte == 0xC2 && next >= 0x80 && next < 0xA0;
    if (!c1 && byte != 0x7F) {
      result += text[i];
      continue;
    }
    std::array<char, 8> escape{};
    std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(c1 ? next : byte));
    result += escape.data();
    i += c1 ? 1 : 0;
  }
  return result;
}

}  // namespace cli
