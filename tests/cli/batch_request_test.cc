// A line of a batch: every key reaches what it names, and one that reaches nothing is refused.
#include "cli/batch_request.h"

#include <cmath>
#include <string>

#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

const std::string kMessages = R"("messages": [{"role": "user", "content": "Hi"}])";

std::string line_of(const std::string& body) {
  return R"({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {)" + body +
         "}}";
}

cli::BatchLine read(const std::string& text, const SamplingParams& defaults = {}) {
  return cli::read_batch_line(text, defaults);
}

cli::BatchRequest request(const std::string& more, const SamplingParams& defaults = {}) {
  const cli::BatchLine line = read(line_of(kMessages + more), defaults);
  INFO(more << (line.error ? line.error->what() : ""));
  REQUIRE_FALSE(line.error);
  CHECK(line.custom_id == "a");
  return line.request;
}

// The line's error, which names `param`.
void refused(const std::string& text, const std::string& param, const std::string& part) {
  const cli::BatchLine line = read(text);
  INFO(text);
  REQUIRE(line.error);
  INFO(line.error->what());
  CHECK(line.error->param == param);
  CHECK(line.error->status == 400);
  CHECK(std::string(line.error->what()).find(part) != std::string::npos);
  CHECK(std::string(line.error->what()).find(param) != std::string::npos);
}

void body_refused(const std::string& more, const std::string& param, const std::string& part = "") {
  refused(line_of(kMessages + more), param, part);
}

void message_refused(const std::string& message, const std::string& key) {
  refused(line_of(R"("messages": [{"role": "user", "content": "Hi"}, )" + message + "]"),
          "body.messages[1]." + key, "");
}

}  // namespace

TEST_CASE("a body says what is asked for, and the model's defaults the rest") {
  const SamplingParams defaults{.temperature = 0.6f, .top_k = 20, .min_p = 0.05f};
  const cli::BatchRequest plain = request("", defaults);
  CHECK(plain.mode == ThinkingMode::chat);
  CHECK(plain.n == 1);
  CHECK_FALSE(plain.logprobs);
  CHECK(plain.options.max_tokens == GenerateOptions{}.max_tokens);
  REQUIRE(plain.options.sampling);
  CHECK(plain.options.sampling->temperature == 0.6f);
  CHECK(plain.options.sampling->top_k == 20);
  CHECK_FALSE(plain.options.sampling->seed);

  const cli::BatchRequest full = request(
      R"(, "model": "m", "temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.25,
         "repetition_penalty": 1.5, "presence_penalty": -1, "frequency_penalty": 2,
         "seed": 18446744073709551615, "logit_bias": {"7": -100, "9": 2.5}, "max_tokens": 5,
         "max_completion_tokens": 5, "stop": ["x", "y"], "logprobs": true, "top_logprobs": 4,
         "n": 3, "stream": false, "response_format": {"type": "text"}, "user": null,
         "thinking": {"type": "enabled", "budget_tokens": 8})",
      defaults);
  const SamplingParams& params = *full.options.sampling;
  CHECK(full.model == "m");
  CHECK(params.temperature == 0.0f);
  CHECK(params.top_p == 0.5f);
  CHECK(params.top_k == 3);
  CHECK(params.min_p == 0.25f);
  CHECK(params.repetition_penalty == 1.5f);
  CHECK(params.presence_penalty == -1.0f);
  CHECK(params.frequency_penalty == 2.0f);
  CHECK(params.seed == 18446744073709551615u);
  CHECK(params.top_logprobs == 4);
  REQUIRE(params.logit_bias.size() == 2);
  CHECK((params.logit_bias[1].token == 9 && params.logit_bias[1].bias == 2.5f));
  CHECK(full.options.max_tokens == 5);
  CHECK(full.options.stop_strings == std::vector<std::string>{"x", "y"});
  CHECK(full.options.thinking_budget == 8);
  CHECK(full.mode == ThinkingMode::thinking);
  CHECK((full.n == 3 && full.logprobs));
  CHECK(request(R"(, "stop": "x")").options.stop_strings == std::vector<std::string>{"x"});
  CHECK(request(R"(, "thinking": {"type": "disabled"})").mode == ThinkingMode::chat);
  CHECK(request(R"(, "thinking": null)").mode == ThinkingMode::chat);
}

TEST_CASE("messages of a body become the library's") {
  const cli::BatchLine line = read(line_of(R"("messages": [
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": "d"},
    {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
    {"role": "assistant", "content": null, "reasoning_content": "r", "tool_calls": [
      {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "result"},
    {"role": "assistant", "content": "Well", "reasoning": "r2", "prefix": true}])"));
  REQUIRE_FALSE(line.error);
  const std::vector<Message>& list = line.request.messages;
  REQUIRE(list.size() == 6);
  CHECK((list[0].role == Role::system && list[0].content == "Be brief."));
  CHECK(list[1].role == Role::developer);
  CHECK((list[2].role == Role::user && list[2].content == "one two"));
  CHECK((list[3].role == Role::assistant && list[3].reasoning == "r"));
  REQUIRE(list[3].tool_calls.size() == 1);
  CHECK(list[3].tool_calls[0].id == "c1");
  CHECK(list[3].tool_calls[0].name == "f");
  CHECK(list[3].tool_calls[0].arguments_json == "{\"a\": 1}");
  CHECK((list[4].role == Role::tool && list[4].tool_call_id == "c1"));
  CHECK((list[5].reasoning == "r2" && list[5].prefix));
}

TEST_CASE("tools go onto the first system message, or a developer's, or one of their own") {
  const std::string tools = R"(, "tools": [{"type": "function", "function": {"name": "f"}}])";
  const std::string tool = R"({"type":"function","function":{"name":"f"}})";
  const cli::BatchRequest own = request(tools);
  REQUIRE(own.messages.size() == 2);
  CHECK((own.messages[0].role == Role::system && own.messages[0].content.empty()));
  CHECK(own.messages[0].tools_json == std::vector<std::string>{tool});
  const auto owner = [&](const std::string& roles) {
    const cli::BatchLine line = read(line_of("\"messages\": [" + roles + "]" + tools));
    REQUIRE_FALSE(line.error);
    for (std::size_t i = 0; i < line.request.messages.size(); ++i)
      if (!line.request.messages[i].tools_json.empty()) return i;
    return std::size_t{99};
  };
  const std::string user = R"({"role": "user", "content": "u"})",
                    developer = R"({"role": "developer", "content": "d"})",
                    system = R"({"role": "system", "content": "s"})";
  CHECK(owner(user + "," + developer) == 1);
  CHECK(owner(developer + "," + system + "," + system) == 1);
  CHECK(request(tools + R"(, "tool_choice": "auto")").messages.size() == 2);
  CHECK(request(tools + R"(, "tool_choice": "none")").messages.size() == 1);
  CHECK(request(R"(, "tools": [])").messages.size() == 1);
}

TEST_CASE("a key that is not honoured is named, wherever it stands") {
  refused(R"({"custom_id": "a", "priority": 1, "body": {)" + kMessages + "}}", "priority",
          "not honoured");
  for (const char* key : {"functions", "user", "metadata", "reasoning_effort", "temprature"})
    body_refused(std::string(", \"") + key + "\": 1", std::string("body.") + key, "not honoured");
  body_refused(R"(, "thinking": {"type": "enabled", "effort": 1})", "body.thinking.effort");
  body_refused(R"(, "response_format": {"type": "json_object"})", "body.response_format");
  body_refused(R"(, "stream": true)", "body.stream");
  body_refused(R"(, "tool_choice": "required")", "body.tool_choice");
  body_refused(R"(, "tool_choice": {"type": "function"})", "body.tool_choice");
  body_refused(R"(, "parallel_tool_calls": false)", "body.parallel_tool_calls");
  body_refused(R"(, "tools": [{"type": "function", "function": {"name": "f", "strict": true}}])",
               "body.tools[0].function.strict");
  body_refused(R"(, "tools": [{"type": "function", "function": {}, "x": 1}])", "body.tools[0].x");
  message_refused(R"({"role": "user", "content": "Hi", "name": "Bob"})", "name");
  message_refused(R"({"role": "user", "content": "Hi", "prefix": true})", "prefix");
  message_refused(R"({"role": "user", "content": "Hi", "tool_call_id": "x"})", "tool_call_id");
  message_refused(R"({"role": "user", "content": [{"type": "text", "text": "x", "y": 1}]})",
                  "content[0].y");
  message_refused(R"({"role": "assistant", "tool_calls": [{"index": 0, "function":
                     {"name": "f", "arguments": "{}"}}]})",
                  "tool_calls[0].index");
  CHECK_FALSE(read(line_of(kMessages + R"(, "user": null, "anything": null)")).error);
}

TEST_CASE("what a key may not say is named, too") {
  for (const char* value : {"\"1\"", "true", "[]"})
    body_refused(std::string(", \"temperature\": ") + value, "body.temperature", "no number");
  for (const char* value : {"0", "-1", "1.0", "\"9\"", "129"})
    body_refused(std::string(", \"n\": ") + value, "body.n", "from 1 to 128");
  for (const char* value : {"-1", "1.5", "18446744073709551616"})
    body_refused(std::string(", \"seed\": ") + value, "body.seed");
  body_refused(R"(, "max_tokens": 0)", "body.max_tokens");
  body_refused(R"(, "max_tokens": 4, "max_completion_tokens": 5)", "body.max_tokens", "differs");
  body_refused(R"(, "stop": [1])", "body.stop");
  body_refused(R"(, "top_logprobs": 3)", "body.top_logprobs", "needs");
  body_refused(R"(, "logprobs": true, "top_logprobs": 21)", "body.top_logprobs");
  body_refused(R"(, "logit_bias": {"x": 1})", "body.logit_bias");
  body_refused(R"(, "logit_bias": {"-1": 1})", "body.logit_bias");
  body_refused(R"(, "logit_bias": {"1": "x"})", "body.logit_bias.1");
  body_refused(R"(, "thinking": true)", "body.thinking", "no object");
  body_refused(R"(, "thinking": {})", "body.thinking.type", "missing");
  body_refused(R"(, "thinking": {"type": "auto"})", "body.thinking.type");
  body_refused(R"(, "tools": {})", "body.tools");
  message_refused(R"({"role": "robot", "content": "x"})", "role");
  message_refused(R"({"content": "x"})", "role");
  message_refused(R"({"role": "user"})", "content");
  message_refused(R"({"role": "user", "content": 7})", "content");
  message_refused(R"({"role": "user", "content": [{"type": "image_url"}]})", "content[0].type");
  message_refused(R"({"role": "assistant", "tool_calls": [{"function": {"name": "f",
                     "arguments": {}}}]})",
                  "tool_calls[0].function.arguments");
  message_refused(R"({"role": "assistant", "content": "x", "reasoning_content": "a",
                     "reasoning": "b"})",
                  "reasoning");
  refused(line_of(R"("messages": [])"), "body.messages", "");
  refused(line_of(R"("messages": ["Hi"])"), "body.messages[0]", "no object");
  refused(line_of(""), "body.messages", "missing");
}

TEST_CASE("a line that is wrong keeps the id that it has") {
  refused(R"({"custom_id": "a", "body": 7})", "body", "no object");
  refused(R"({"custom_id": "a"})", "body", "missing");
  refused(R"({"custom_id": "a", "method": "GET", "body": {}})", "method", "POST");
  refused(R"({"custom_id": "a", "url": "/v1/embeddings", "body": {}})", "url", "");
  CHECK(read(R"({"custom_id": "a", "body": 7})").custom_id == "a");
  for (const char* id : {"7", "null", "\"\"", "[]"}) {
    const cli::BatchLine line = read(std::string("{\"custom_id\": ") + id + ", \"body\": {}}");
    REQUIRE(line.error);
    CHECK(line.error->param == "custom_id");
    CHECK_FALSE(line.custom_id);
  }
  refused(R"({"custom_id": ")" + std::string(513, 'x') + "\"}", "custom_id", "512");
  for (const char* text :
       {"", "x", "[]", "7", "{\"custom_id\": \"a\"", "{} {}", "{\"a\":1,\"a\":1}"}) {
    const cli::BatchLine line = read(text);
    REQUIRE(line.error);
    CHECK((line.error->code == "bad_format" || line.error->param == "custom_id"));
  }
}

}  // namespace dsv32::test
