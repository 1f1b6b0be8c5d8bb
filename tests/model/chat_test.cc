// generate() and chat() on the bundled model: stops, budgets, reuse, statistics, observers, chat.
#include "dsv32/chat.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "lib/text/utf8.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

const Model& bundled() {
  static const Model model = Model::load(std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model",
                                         {.kv_cache_tokens = 8192});
  return model;
}

std::vector<TokenId> question(const std::string& text, ThinkingMode mode = ThinkingMode::thinking) {
  const Message messages[] = {{.content = text}};
  return bundled().tokenizer().encode(bundled().chat_template().render(messages, mode));
}

const std::string kSum = "What is 47 + 38?";

TEST_CASE("the model thinks, answers and stops") {
  Session session(bundled());
  const Generation got = session.generate(question(kSum), greedy());
  CHECK(got.finish_reason == FinishReason::stop);
  CHECK(got.text.ends_with("</think>47 + 38 = 85."));
  CHECK(got.usage.generated_tokens == got.tokens.size());
  CHECK(got.usage.thinking_tokens > 0);
  CHECK(got.usage.thinking_tokens < got.usage.generated_tokens);
  CHECK(got.usage.prompt_tokens == question(kSum).size());
}

TEST_CASE("SA-11 a stop string ends the text before it, wherever tokens break") {
  Session session(bundled());
  const std::string whole = session.generate(question(kSum), greedy()).text;
  for (std::size_t at = 5; at + 6 < whole.size(); at += kSanitized ? 12 : 3) {
    const std::string stop = whole.substr(at, 5);
    GenerateOptions options = greedy();
    options.stop_strings = {"never there", stop};
    std::string streamed;
    const Generation got = session.generate(question(kSum), options, [&](const GeneratedToken& t) {
      streamed += t.text;
      return true;
    });
    CHECK(got.text == whole.substr(0, whole.find(stop)));
    CHECK(got.stop_string == stop);
    CHECK(got.text.starts_with(streamed));
  }
  GenerateOptions empty = greedy();
  empty.stop_strings = {""};
  check_error(ErrorCode::invalid_argument, "", [&] { session.generate(question(kSum), empty); });
}

TEST_CASE("limits: tokens, thinking budget") {
  Session session(bundled());
  const Generation cut = session.generate(question(kSum), greedy(4));
  CHECK(cut.finish_reason == FinishReason::length);
  CHECK(cut.tokens.size() == 4);
  GenerateOptions budget = greedy();
  budget.thinking_budget = 6;
  const Generation forced = session.generate(question(kSum), budget);
  CHECK(forced.text.find("</think>") != std::string::npos);
  CHECK(forced.usage.thinking_tokens <= 7);
}

TEST_CASE("a full context ends the answer") {
  const TempFolder folder;
  std::filesystem::copy(golden("fp8"), folder.path());
  std::ifstream file(folder.path() / "config.json");
  std::string config{std::istreambuf_iterator<char>(file), {}};
  const std::string key = "\"max_position_embeddings\": ";
  config.replace(config.find(key + "4096"), key.size() + 4, key + "100");
  write_text(folder.path() / "config.json", config);
  Session session(Model::load(folder.path(), {.kv_cache_tokens = 256}));
  const std::vector<TokenId> nearly(97, 70);
  const Generation full = session.generate(nearly, greedy());
  CHECK(full.finish_reason == FinishReason::length);
  CHECK(full.tokens.size() == 4);  // the last one drawn needs no place
}

TEST_CASE("the next turn computes what is new only") {
  Session session(bundled());
  const std::vector<TokenId> first = question(kSum);
  const Generation one = session.generate(first, greedy());
  std::vector<TokenId> second = first;
  second.insert(second.end(), one.tokens.begin(), one.tokens.end());
  const std::vector<TokenId> more = question("Thank you!");
  second.insert(second.end(), more.begin(), more.end());
  const Generation two = session.generate(second, greedy());
  CHECK(two.usage.cached_tokens + 1 >= first.size() + one.tokens.size());
  Session fresh(bundled());
  CHECK(fresh.generate(second, greedy()).tokens == two.tokens);
}

TEST_CASE("sparse statistics are arithmetic") {
  Session session(bundled());
  const std::size_t n = 300;
  session.append(std::vector<TokenId>(n, 321));
  const auto layers = static_cast<std::uint64_t>(bundled().config().num_hidden_layers);
  const auto top = static_cast<std::uint64_t>(bundled().config().index_topk);
  std::uint64_t visible = 0, scored = 0, read = 0;
  for (std::uint64_t t = 1; t <= n; ++t) {
    visible += t;
    scored += t > top ? t : 0;
    read += std::min(t, top);
  }
  const SparseStats stats = session.sparse_stats();
  CHECK(stats.keys_visible == visible * layers);
  CHECK(stats.keys_scored == scored * layers);
  CHECK(stats.keys_read == read * layers);
}

TEST_CASE("observing changes no bit, and shows what was read") {
  const std::vector<TokenId> tokens(200, 321);
  Session plain(bundled()), watched(bundled());
  std::size_t rows = 0, too_far = 0;
  watched.observe({.logits = true, .selection = true, .experts = true}, [&](const Trace& trace) {
    rows += trace.logits.size() / static_cast<std::size_t>(bundled().config().vocab_size);
    for (const std::int32_t position : trace.selection) too_far += position >= 200 ? 1 : 0;
  });
  const auto x = plain.append(tokens);
  const std::vector<float> want(x.begin(), x.end());
  const auto y = watched.append(tokens);
  CHECK(std::vector<float>(y.begin(), y.end()) == want);
  CHECK(rows == 200);
  CHECK(too_far == 0);
}

TEST_CASE("reports_T7 chat refuses messages that are in the session already, before any work") {
  Session session(bundled());
  session.append(question(kSum));
  const std::vector<TokenId> before(session.tokens().begin(), session.tokens().end());
  const SparseStats stats = session.sparse_stats();
  const std::vector<Message> messages = {
      {.content = kSum}, {.role = Role::assistant, .content = "85"}, {.content = "Thank you!"}};
  for (const std::size_t context : {std::size_t{1}, std::size_t{2}, ~std::size_t{0}}) {
    ChatOptions options;
    options.render.context = context;
    check_error(ErrorCode::invalid_argument, "context is " + std::to_string(context), [&] {
      chat(session, messages, ThinkingMode::thinking, options, [](const ParseEvent&) {
        FAIL("an event");
        return true;
      });
    });
  }
  CHECK(std::vector<TokenId>(session.tokens().begin(), session.tokens().end()) == before);
  CHECK(session.sparse_stats().keys_visible == stats.keys_visible);
  CHECK(session.last_reuse().first_difference == 0);  // no sync()
  CHECK(!session.logits().empty());
}

TEST_CASE("a chat calls a tool, gets its result, and answers with it") {
  Session session(bundled());
  const std::string tool =
      R"({"type": "function", "function": {"name": "get_weather", "description": "Get the weather of)"
      R"( a city.", "parameters": {"type": "object", "properties": {"city": {"type": "string",)"
      R"( "description": "City name"}}, "required": ["city"]}}})";
  std::vector<Message> messages = {
      {.role = Role::system, .content = "You are a helpful assistant.", .tools_json = {tool}},
      {.role = Role::user, .content = "What is the weather in Reykjavik?"}};
  ChatOptions options;
  options.generate = greedy(300);
  std::string content, reasoning;
  const auto listen = [&](const ParseEvent& event) {
    if (event.kind == ParseEvent::Kind::content) content += event.text;
    if (event.kind == ParseEvent::Kind::reasoning) reasoning += event.text;
    CHECK(valid_utf8(event.text) == event.text);
    return true;
  };
  const ChatTurn call = chat(session, messages, ThinkingMode::thinking, options, listen);
  REQUIRE(call.message.tool_calls.size() == 1);
  CHECK(call.message.tool_calls[0].arguments_json == R"({"city": "Reykjavik"})");
  CHECK(call.faults.empty());
  CHECK(call.message.reasoning == reasoning);
  CHECK(content.empty());
  messages.push_back(call.message);
  messages.push_back({.role = Role::tool, .content = R"({"temp": 7, "sky": "light rain"})"});
  const ChatTurn answer = chat(session, messages, ThinkingMode::thinking, options);
  CHECK(answer.message.tool_calls.empty());
  CHECK(answer.message.content.find("7 degrees") != std::string::npos);
  CHECK(answer.usage.cached_tokens > 300);
  // A listener that says no ends the turn.
  const ChatTurn stopped = chat(session, messages, ThinkingMode::thinking, options,
                                [](const ParseEvent&) { return false; });
  CHECK(stopped.finish_reason == FinishReason::cancelled);
}

}  // namespace
}  // namespace dsv32::test
