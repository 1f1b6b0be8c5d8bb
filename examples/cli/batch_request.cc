#include "cli/batch_request.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>
#include <utility>

#include "cli/batch_fields.h"
#include "cli/json_text.h"
#include "cli/message_json.h"

namespace cli {
namespace {

using dsv32::Message;
using dsv32::Role;

constexpr std::size_t kLongestId = 512;
constexpr std::uint64_t kMostAnswers = 128;
constexpr std::uint64_t kMostLogprobs = 20;

std::vector<Message> messages_of(Fields& body) {
  const Json& list = body.need("messages");
  if (!list.is_array() || list.empty()) wrong("body.messages", "is no list of messages");
  std::vector<Message> messages;
  for (std::size_t i = 0; i < list.size(); ++i)
    messages.push_back(read_message(list[i], list_name("body.messages", i)));
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
    Fields tool((*tools)[i], list_name("body.tools", i));
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
