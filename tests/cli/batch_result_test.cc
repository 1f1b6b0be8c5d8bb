// A result in OpenAI's words, byte for byte but for its time.
#include "cli/batch_result.h"

#include <exception>
#include <new>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

const Tokenizer& bundled() {
  static const Tokenizer tokenizer =
      Tokenizer::load(std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model/tokenizer.json");
  return tokenizer;
}

const cli::BatchId kId{.id = "batch_req_f_7", .custom_id = "mine"};

ChatTurn turn_of(const std::string& content, FinishReason reason, std::uint64_t seed) {
  ChatTurn turn{.message = {.role = Role::assistant, .content = content}, .finish_reason = reason};
  turn.usage = {
      .prompt_tokens = 9, .cached_tokens = 4, .generated_tokens = 3, .thinking_tokens = 1};
  turn.generation.seed = seed;
  return turn;
}

cli::Json body_of(const cli::BatchRequest& request, const std::vector<ChatTurn>& turns) {
  cli::Json line = cli::batch_result(kId, request, turns, bundled());
  CHECK(line["id"] == "batch_req_f_7");
  CHECK(line["custom_id"] == "mine");
  CHECK(line["error"].is_null());
  CHECK(line["response"]["status_code"] == 200);
  cli::Json body = line["response"]["body"];
  CHECK(body["created"].get<std::int64_t>() > 1'700'000'000);
  body.erase("created");
  return body;
}

}  // namespace

TEST_CASE("answers become choices of one chat.completion") {
  ChatTurn second = turn_of("no", FinishReason::length, 6);
  second.message.reasoning = "hm";
  const cli::Json body =
      body_of({.model = "m", .n = 2}, {turn_of("yes", FinishReason::stop, 5), second});
  CHECK(body == cli::Json::parse(R"({"id": "chatcmpl-req_f_7", "object": "chat.completion",
    "model": "m", "choices": [
      {"index": 0, "message": {"role": "assistant", "content": "yes"}, "logprobs": null,
       "finish_reason": "stop", "seed": 5},
      {"index": 1, "message": {"role": "assistant", "content": "no", "reasoning_content": "hm"},
       "logprobs": null, "finish_reason": "length", "seed": 6}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15,
      "prompt_tokens_details": {"cached_tokens": 4},
      "completion_tokens_details": {"reasoning_tokens": 2}}})"));
}

TEST_CASE("calls, a stop string and faults are said") {
  ChatTurn turn = turn_of("", FinishReason::stop, 1);
  turn.message.tool_calls = {{.name = "f", .arguments_json = "{\"a\": 1}"}, {.name = "g"}};
  turn.faults = {ParseEvent::Fault::unknown_tool};
  cli::Json choice = body_of({}, {turn})["choices"][0];
  CHECK(choice["finish_reason"] == "tool_calls");
  CHECK(choice["faults"] == cli::Json::parse(R"(["unknown_tool"])"));
  CHECK(choice["message"] == cli::Json::parse(R"({"role": "assistant", "content": null,
    "tool_calls": [
      {"id": "call_req_f_7_0_0", "type": "function",
       "function": {"name": "f", "arguments": "{\"a\": 1}"}},
      {"id": "call_req_f_7_0_1", "type": "function", "function": {"name": "g", "arguments": ""}}]})"));
  turn.finish_reason = FinishReason::length;
  CHECK(body_of({}, {turn})["choices"][0]["finish_reason"] == "length");
  turn.finish_reason = FinishReason::stop;
  turn.stop_string = "END";
  choice = body_of({}, {turn})["choices"][0];
  CHECK(choice["finish_reason"] == "stop");
  CHECK(choice["stop_string"] == "END");
}

TEST_CASE("logprobs have each token's bytes, also of half a character") {
  const TokenId token = bundled().encode("A").at(0);
  ChatTurn turn = turn_of("A", FinishReason::stop, 1);
  turn.generation.samples = {{token, -0.5f, {{token, -0.5f}}}};
  const cli::Json logprobs = body_of({.logprobs = true}, {turn})["choices"][0]["logprobs"];
  CHECK(logprobs == cli::Json::parse(R"({"content": [{"token": "A", "logprob": -0.5, "bytes": [65],
    "top_logprobs": [{"token": "A", "logprob": -0.5, "bytes": [65]}]}]})"));
}

TEST_CASE("a line's error is a response, and an error by itself") {
  CHECK(cli::batch_failure(kId, cli::BatchError("\"body.x\" is not honoured", "body.x")) ==
        cli::Json::parse(R"({"id": "batch_req_f_7", "custom_id": "mine", "response": {
    "status_code": 400, "request_id": "batch_req_f_7", "body": {"error": {
      "message": "\"body.x\" is not honoured", "type": "invalid_request_error", "param": "body.x",
      "code": "invalid_argument"}}},
    "error": {"code": "invalid_argument", "message": "\"body.x\" is not honoured",
      "param": "body.x"}})"));
  const cli::Json other =
      cli::batch_failure({.id = "i"}, cli::BatchError("NaN", "", "numeric", 500));
  CHECK(other["custom_id"].is_null());
  CHECK(other["response"]["body"]["error"]["type"] == "server_error");
  CHECK(other["error"]["param"].is_null());
}

TEST_CASE("what a request did is its error, what befell the run ends it") {
  const auto met = [](ErrorCode code) {
    return cli::request_error(std::make_exception_ptr(Error(code, "said")));
  };
  for (const auto& [code, status] : {std::pair{ErrorCode::context_length, 400},
                                     {ErrorCode::capacity, 400},
                                     {ErrorCode::invalid_argument, 400},
                                     {ErrorCode::limit, 400},
                                     {ErrorCode::numeric, 500},
                                     {ErrorCode::internal, 500}}) {
    const cli::BatchError error = met(code);
    CHECK(error.status == status);
    CHECK(error.code == to_string(code));
    CHECK(std::string(error.what()) == "said");
  }
  for (const auto code : {ErrorCode::device, ErrorCode::mismatch, ErrorCode::out_of_memory})
    CHECK_THROWS_AS(met(code), Error);
  CHECK_THROWS_AS(cli::request_error(std::make_exception_ptr(std::bad_alloc())), std::bad_alloc);
}

}  // namespace dsv32::test
