#include "cli/message_json.h"

#include <charconv>
#include <limits>
#include <map>
#include <utility>

namespace cli {
namespace {

using dsv32::Message;
using dsv32::Role;

// A text, or a list of {"type": "text", "text"}, whose texts follow each other.
std::string content_of(const Json& value, const std::string& name) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) wrong(name, "is neither text nor a list of texts");
  std::string all;
  for (std::size_t i = 0; i < value.size(); ++i) {
    Fields part(value[i], list_name(name, i));
    if (part.text("type") != "text") wrong(part.name("type"), "is not \"text\"");
    part.need("text");
    all += part.text("text");
    part.end();
  }
  return all;
}

dsv32::ToolCall call_of(const Json& value, const std::string& name) {
  Fields call(value, name);
  if (call.text("type", "function") != "function") wrong(call.name("type"), "is not \"function\"");
  Fields function(call.need("function"), call.name("function"));
  dsv32::ToolCall result{.id = call.text("id")};
  function.need("name");
  result.name = function.text("name");
  function.need("arguments");
  result.arguments_json = function.text("arguments");
  function.end();
  call.end();
  return result;
}

Role role_of(Fields& message) {
  static const std::map<std::string, Role> roles = {{"system", Role::system},
                                                    {"developer", Role::developer},
                                                    {"user", Role::user},
                                                    {"assistant", Role::assistant},
                                                    {"tool", Role::tool}};
  message.need("role");
  const auto role = roles.find(message.text("role"));
  if (role == roles.end()) wrong(message.name("role"), "is no role");
  return role->second;
}

// Thinking comes back under one of two names.
std::string reasoning_of(Fields& message) {
  const std::string reasoning = message.text("reasoning_content");
  if (reasoning.empty()) return message.text("reasoning");
  if (message.text("reasoning", reasoning) != reasoning)
    wrong(message.name("reasoning"), "differs from \"reasoning_content\"");
  return reasoning;
}

std::vector<dsv32::LogitBias> biases_of(const Json& value) {
  if (!value.is_object()) wrong("body.logit_bias", "is no object of token ids and numbers");
  std::vector<dsv32::LogitBias> biases;
  for (const auto& [key, bias] : value.items()) {
    dsv32::TokenId token = 0;
    const auto [stopped, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (key.empty() || error != std::errc() || stopped != key.data() + key.size() || token < 0)
      wrong("body.logit_bias", "names a token that is no number");
    if (!bias.is_number()) wrong("body.logit_bias." + key, "is no number");
    biases.push_back({token, static_cast<float>(bias.get<double>())});
  }
  return biases;
}

}  // namespace

Message read_message(const Json& value, const std::string& name) {
  Fields fields(value, name);
  Message message{.role = role_of(fields)};
  const bool answer = message.role == Role::assistant;
  const Json* content = answer ? fields.find("content") : &fields.need("content");
  if (content != nullptr) message.content = content_of(*content, fields.name("content"));
  if (message.role == Role::tool) message.tool_call_id = fields.text("tool_call_id");
  if (answer) {
    message.reasoning = reasoning_of(fields);
    message.prefix = fields.flag("prefix");
    if (const Json* calls = fields.find("tool_calls")) {
      if (!calls->is_array()) wrong(fields.name("tool_calls"), "is no list");
      for (std::size_t i = 0; i < calls->size(); ++i)
        message.tool_calls.push_back(call_of((*calls)[i], list_name(fields.name("tool_calls"), i)));
    }
  }
  fields.end();
  return message;
}

void read_sampling(Fields& body, dsv32::SamplingParams& params) {
  params.temperature = body.number("temperature", params.temperature);
  params.top_p = body.number("top_p", params.top_p);
  params.top_k = static_cast<int>(body.count("top_k", 0, std::numeric_limits<int>::max(),
                                             static_cast<std::uint64_t>(params.top_k)));
  params.min_p = body.number("min_p", params.min_p);
  params.repetition_penalty = body.number("repetition_penalty", params.repetition_penalty);
  params.presence_penalty = body.number("presence_penalty", params.presence_penalty);
  params.frequency_penalty = body.number("frequency_penalty", params.frequency_penalty);
  if (body.find("seed") != nullptr)
    params.seed = body.count("seed", 0, std::numeric_limits<std::uint64_t>::max(), 0);
  if (const Json* biases = body.find("logit_bias")) params.logit_bias = biases_of(*biases);
}

void wrong(const std::string& name, const std::string& what) {
  throw BatchError("\"" + name + "\" " + what, name);
}

std::string list_name(const std::string& list, std::size_t i) {
  return list + "[" + std::to_string(i) + "]";
}

Json message_json(const Message& message) {
  Json result = {{"role", dsv32::to_string(message.role)}};
  const bool calls = !message.tool_calls.empty();
  result["content"] = calls && message.content.empty() ? Json() : Json(message.content);
  if (!message.reasoning.empty()) result["reasoning_content"] = message.reasoning;
  if (!message.tool_call_id.empty()) result["tool_call_id"] = message.tool_call_id;
  if (!calls) return result;
  Json& list = result["tool_calls"] = Json::array();
  for (const dsv32::ToolCall& call : message.tool_calls) {
    list.push_back({{"id", call.id},
                    {"type", "function"},
                    {"function", {{"name", call.name}, {"arguments", call.arguments_json}}}});
  }
  return result;
}

Json sampling_json(const dsv32::SamplingParams& params) {
  Json result = {{"temperature", params.temperature},
                 {"top_p", params.top_p},
                 {"top_k", params.top_k},
                 {"min_p", params.min_p},
                 {"repetition_penalty", params.repetition_penalty},
                 {"presence_penalty", params.presence_penalty},
                 {"frequency_penalty", params.frequency_penalty}};
  if (params.seed) result["seed"] = *params.seed;
  for (const dsv32::LogitBias& bias : params.logit_bias)
    result["logit_bias"][std::to_string(bias.token)] = bias.bias;
  return result;
}

}  // namespace cli
