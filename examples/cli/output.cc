// The library's values as JSON and as words.
#include "cli/output.h"

#include <array>
#include <cstdio>

#include "cli/json_text.h"

namespace cli {
namespace {

double per_second(std::size_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
}

}  // namespace

const char* name(dsv32::FinishReason reason) noexcept {
  using dsv32::FinishReason;
  switch (reason) {
    case FinishReason::none:
      return "none";
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::error:
      return "error";
  }
  return "unknown";
}

const char* name(dsv32::ErrorCode code) noexcept {
  // In the order of the enumeration.
  constexpr std::array kNames = {
      "invalid_argument", "not_found",     "io",       "bad_format",     "limit",   "mismatch",
      "unsupported",      "out_of_memory", "capacity", "context_length", "state",   "busy",
      "cancelled",        "numeric",       "device",   "communication",  "internal"};
  const auto index = static_cast<std::size_t>(code);
  return index < kNames.size() ? kNames[index] : "unknown";
}

const char* name(dsv32::ParseEvent::Fault fault) noexcept {
  // In the order of the enumeration.
  constexpr std::array kNames = {"none",
                                 "think_not_closed",
                                 "think_opened_twice",
                                 "block_not_opened",
                                 "parameter_not_closed",
                                 "extra_whitespace",
                                 "invalid_json_value",
                                 "special_token_dropped",
                                 "special_token_in_content",
                                 "special_token_in_reasoning",
                                 "thinking_format",
                                 "summary_format",
                                 "call_format",
                                 "missing_token",
                                 "name_format",
                                 "parameter_format",
                                 "duplicate_parameter",
                                 "text_after_calls",
                                 "text_after_end",
                                 "special_token",
                                 "unknown_tool",
                                 "too_long",
                                 "incomplete"};
  const auto index = static_cast<std::size_t>(fault);
  return index < kNames.size() ? kNames[index] : "unknown";
}

Json to_json(const dsv32::SparseStats& stats) {
  return {{"keys_visible", stats.keys_visible},
          {"keys_scored", stats.keys_scored},
          {"keys_read", stats.keys_read}};
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

std::string one_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace cli
