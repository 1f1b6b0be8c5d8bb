#include "cli/batch_request.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>
#include <utility>

#include "cli/batch_fields.h"
#include "cli/json_text.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;
using dsv32::Message;
using dsv32::Role;

constexpr std::size_t kLongestId = 512;
constexpr std::uint64_t kMostAnswers = 128;
constexpr std::uint64_t kMostLogprobs = 20;

[[noreturn]] void wrong(const std::string& name, const std::string& what) {
  throw BatchError("\"" + name + "\" " + what, name);
}

std::string at(const std::string& list, std::size_t i) {
  return list + "[" + std::to_string(i) + "]";
}

// A text, or a list of {"type": "text", "text"}, whose texts follow each other.
std::string content_of(const Json& value, const std::string& name) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) wrong(name, "is neither text nor a list of texts");
  std::string all;
  for (std::size_t i = 0; i < value.size(); ++i) {
    Fields part(value[i], at(name, i));
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

Message message_of(const Json& value, const std::string& name) {
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
        message.tool_calls.push_back(call_of((*calls)[i], at(fields.name("tool_calls"), i)));
    }
  }
  fields.end();
  return message;
}

std::vector<Message> messages_of(Fields& body) {
  const Json& list = body.need("messages");
  if (!list.is_array() || list.empty()) wrong("body.messages", "is no list of messages");
  std::vector<Message> messages;
  for (std::size_t i = 0; i < list.size(); ++i)
    messages.push_back(message_of(list[i], at("body.messages", i)));
  return messages;
}

// Tools belong to the first system message, else to the first developer's, else to one of their
// own.
void add_tools(Fields& body, std::vector<Message>& messages) {
  const Json* choice = body.find("tool_choice");
  if (choice != nullptr && *choice != "auto" && *choice != "none")
    wrong("body.tool_choice", "is neither \"auto\" nor \"none\"");
  if (!body.flag("parallel_tool_calls", true))
    wrong("body.parallel_tool_calls", "is false, which is not honoured");
  const Json* tools = body.find("tools");
  if (tools == nullptr) return;
  if (!tools->is_array()) wrong("body.tools", "is no list");
  if (tools->empty() || (choice != nullptr && *choice == "none")) return;
  const auto of = [&](Role role) {
    return std::find_if(messages.begin(), messages.end(),
                        [&](const Message& message) { return message.role == role; });
  };
  auto owner = of(Role::system);
  if (owner == messages.end()) owner = of(Role::developer);
  if (owner == messages.end())
    owner = messages.insert(messages.begin(), Message{.role = Role::system});
  for (std::size_t i = 0; i < tools->size(); ++i) {
    Fields tool((*tools)[i], at("body.tools", i));
    if (tool.text("type", "function") != "function")
      wrong(tool.name("type"), "is not \"function\"");
    Fields function(tool.need("function"), tool.name("function"));
    if (function.flag("strict")) wrong(function.name("strict"), "is true, which is not honoured");
    tool.end();
    owner->tools_json.push_back((*tools)[i].dump());
  }
}

std::vector<std::string> stops_of(Fields& body) {
  const Json* stop = body.find("stop");
  if (stop == nullptr) return {};
  if (stop->is_string()) return {stop->get<std::string>()};
  const auto is_text = [](const Json& value) { return value.is_string(); };
  if (!stop->is_array() || !std::all_of(stop->begin(), stop->end(), is_text))
    wrong("body.stop", "is neither text nor a list of texts");
  return stop->get<std::vector<std::string>>();
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

void read_limits(Fields& body, dsv32::GenerateOptions& options) {
  constexpr auto kMost = std::uint64_t{std::numeric_limits<std::size_t>::max()};
  const std::uint64_t newer = body.count("max_completion_tokens", 1, kMost, 0);
  const std::uint64_t older = body.count("max_tokens", 1, kMost, newer);
  if (newer != 0 && older != newer)
    wrong("body.max_tokens", "differs from \"body.max_completion_tokens\"");
  if (older != 0) options.max_tokens = static_cast<std::size_t>(older);
  options.stop_strings = stops_of(body);
}

void read_logprobs(Fields& body, BatchRequest& request, dsv32::SamplingParams& params) {
  request.logprobs = body.flag("logprobs");
  params.top_logprobs = static_cast<int>(body.count("top_logprobs", 0, kMostLogprobs, 0));
  if (params.top_logprobs > 0 && !request.logprobs)
    wrong("body.top_logprobs", "needs \"body.logprobs\"");
}

// Thinking is asked for, or there is none.
void read_thinking(Fields& body, BatchRequest& request) {
  const Json* value = body.find("thinking");
  if (value == nullptr) return;
  Fields thinking(*value, "body.thinking");
  thinking.need("type");
  const std::string type = thinking.text("type");
  if (type != "enabled" && type != "disabled")
    wrong("body.thinking.type", "is neither \"enabled\" nor \"disabled\"");
  if (type == "enabled") {
    request.mode = dsv32::ThinkingMode::thinking;
    request.options.thinking_budget = static_cast<std::size_t>(
        thinking.count("budget_tokens", 1, std::numeric_limits<std::size_t>::max(), 0));
  }
  thinking.end();
}

// What a key may say only if it changes nothing.
void read_constants(Fields& body) {
  if (body.flag("stream")) wrong("body.stream", "is true: a batch has results, not streams");
  if (const Json* format = body.find("response_format")) {
    Fields fields(*format, "body.response_format");
    if (fields.text("type") != "text")
      wrong("body.response_format", "is not honoured but for {\"type\": \"text\"}");
    fields.end();
  }
}

BatchRequest read_body(const Json& value, const dsv32::SamplingParams& defaults) {
  Fields body(value, "body");
  BatchRequest request;
  dsv32::SamplingParams params = defaults;
  request.model = body.text("model");
  request.messages = messages_of(body);
  add_tools(body, request.messages);
  read_sampling(body, params);
  read_limits(body, request.options);
  read_logprobs(body, request, params);
  read_thinking(body, request);
  read_constants(body);
  request.n = static_cast<int>(body.count("n", 1, kMostAnswers, 1));
  body.end();
  request.options.sampling = std::move(params);
  return request;
}

std::string custom_id_of(Fields& line) {
  line.need("custom_id");
  std::string id = line.text("custom_id");
  if (id.empty() || id.size() > kLongestId)
    wrong("custom_id", "has no bytes, or more than " + std::to_string(kLongestId));
  return id;
}

}  // namespace

BatchLine read_batch_line(std::string_view text, const dsv32::SamplingParams& defaults) {
  BatchLine result;
  try {
    const auto value = parse_json(text);
    if (!value || !value->is_object())
      throw BatchError("the line is no JSON object", "", "bad_format");
    Fields line(*value, "");
    result.custom_id = custom_id_of(line);
    if (line.text("method", "POST") != "POST") wrong("method", "is not \"POST\"");
    if (line.text("url", "/v1/chat/completions") != "/v1/chat/completions")
      wrong("url", "is not \"/v1/chat/completions\"");
    result.request = read_body(line.need("body"), defaults);
    line.end();
  } catch (const BatchError& error) {
    result.error = error;
  }
  return result;
}

}  // namespace cli
