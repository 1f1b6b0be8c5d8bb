#include "cli/batch_result.h"

#include <array>
#include <ctime>

#include "cli/message_json.h"

namespace cli {
namespace {

// "call_FINGERPRINT_LINE_CHOICE_CALL": no other call of this batch has it.
Json with_ids(dsv32::Message message, const std::string& call_id) {
  for (std::size_t i = 0; i < message.tool_calls.size(); ++i)
    message.tool_calls[i].id = call_id + std::to_string(i);
  message.role = dsv32::Role::assistant;
  return message_json(message);
}

Json token_json(dsv32::TokenId token, float logprob, const dsv32::Tokenizer& tokenizer) {
  const std::string_view bytes = tokenizer.bytes(token);
  Json numbers = Json::array();
  for (const char byte : bytes) numbers.push_back(static_cast<unsigned char>(byte));
  return {{"token", std::string(bytes)}, {"logprob", logprob}, {"bytes", numbers}};
}

// Of all that was written: thinking and markup are among it.
Json logprobs_json(const dsv32::Generation& generation, const dsv32::Tokenizer& tokenizer) {
  Json list = Json::array();
  for (const dsv32::Sample& sample : generation.samples) {
    Json token = token_json(sample.token, sample.logprob, tokenizer);
    Json& top = token["top_logprobs"] = Json::array();
    for (const dsv32::TokenLogprob& other : sample.top)
      top.push_back(token_json(other.token, other.logprob, tokenizer));
    list.push_back(std::move(token));
  }
  return {{"content", list}};
}

std::string_view finish_reason(const dsv32::ChatTurn& turn) {
  if (turn.finish_reason == dsv32::FinishReason::length) return "length";
  return turn.message.tool_calls.empty() || !turn.stop_string.empty() ? "stop" : "tool_calls";
}

Json choice_json(std::size_t index, const dsv32::ChatTurn& turn, const BatchRequest& request,
                 const std::string& call_id, const dsv32::Tokenizer& tokenizer) {
  Json choice = {
      {"index", index},
      {"message", with_ids(turn.message, call_id)},
      {"logprobs", request.logprobs ? logprobs_json(turn.generation, tokenizer) : Json()},
      {"finish_reason", finish_reason(turn)},
      {"seed", turn.generation.seed}};
  if (!turn.stop_string.empty()) choice["stop_string"] = turn.stop_string;
  if (!turn.faults.empty()) {
    Json& faults = choice["faults"] = Json::array();
    for (const auto fault : turn.faults) faults.push_back(dsv32::to_string(fault));
  }
  return choice;
}

// The prompt of several answers counts once.
Json usage_json(std::span<const dsv32::ChatTurn> turns) {
  const dsv32::Usage& first = turns.front().usage;
  std::size_t written = 0, thought = 0;
  for (const dsv32::ChatTurn& turn : turns) {
    written += turn.usage.generated_tokens;
    thought += turn.usage.thinking_tokens;
  }
  return {{"prompt_tokens", first.prompt_tokens},
          {"completion_tokens", written},
          {"total_tokens", first.prompt_tokens + written},
          {"prompt_tokens_details", {{"cached_tokens", first.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", thought}}}};
}

Json line_json(const BatchId& id, int status, Json body, Json error) {
  Json response = {{"status_code", status}, {"request_id", id.id}};
  response["body"] = std::move(body);
  Json line = {{"id", id.id}};
  line["custom_id"] = id.custom_id ? Json(*id.custom_id) : Json();
  line["response"] = std::move(response);
  line["error"] = std::move(error);
  return line;
}

int status_of(dsv32::ErrorCode code) {
  using dsv32::ErrorCode;
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::bad_format:
    case ErrorCode::limit:
    case ErrorCode::unsupported:
    case ErrorCode::capacity:
    case ErrorCode::context_length:
      return 400;
    default:
      return 500;
  }
}

bool is_of_the_run(dsv32::ErrorCode code) {
  using dsv32::ErrorCode;
  switch (code) {
    case ErrorCode::out_of_memory:
    case ErrorCode::mismatch:
    case ErrorCode::io:
    case ErrorCode::state:
    case ErrorCode::busy:
    case ErrorCode::device:
    case ErrorCode::communication:
      return true;
    default:
      return false;
  }
}

}  // namespace

Json batch_result(const BatchId& id, const BatchRequest& request,
                  std::span<const dsv32::ChatTurn> turns, const dsv32::Tokenizer& tokenizer) {
  const std::string name = id.id.substr(id.id.find('_') + 1);  // without "batch"
  Json choices = Json::array();
  for (std::size_t i = 0; i < turns.size(); ++i)
    choices.push_back(choice_json(i, turns[i], request,
                                  "call_" + name + "_" + std::to_string(i) + "_", tokenizer));
  Json body = {{"id", "chatcmpl-" + name},
               {"object", "chat.completion"},
               {"created", static_cast<std::int64_t>(std::time(nullptr))},
               {"model", request.model}};
  body["choices"] = std::move(choices);
  body["usage"] = usage_json(turns);
  return line_json(id, 200, std::move(body), Json());
}

Json batch_failure(const BatchId& id, const BatchError& error) {
  const bool asked = error.status < 500;
  const Json param = error.param.empty() ? Json() : Json(error.param);
  const Json said = {{"message", error.what()},
                     {"type", asked ? "invalid_request_error" : "server_error"},
                     {"param", param},
                     {"code", error.code}};
  return line_json(id, error.status, {{"error", said}},
                   {{"code", error.code}, {"message", error.what()}, {"param", param}});
}

BatchError request_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const dsv32::Error& known) {
    if (is_of_the_run(known.code())) throw;
    return BatchError(known.what(), "", std::string(dsv32::to_string(known.code())),
                      status_of(known.code()));
  }
}

}  // namespace cli
