// Every field of a request changes something that a caller can see, or is refused by its name.
#include <limits>
#include <string>
#include <vector>

#include "dsv32/chat.h"

#include "tests/model/reports_C11.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

DSV32_ALL_FIELDS(SamplingParams, temperature, top_p, top_k, min_p, repetition_penalty,
                 presence_penalty, frequency_penalty, logit_bias, top_logprobs, seed);
DSV32_ALL_FIELDS(LogitBias, token, bias);
DSV32_ALL_FIELDS(GenerateOptions, sampling, max_tokens, stop_token_ids, stop_strings,
                 thinking_budget, stops_in_reasoning, allowed, allowed_in_reasoning, repetition,
                 draft_tokens, cancel);
DSV32_ALL_FIELDS(Repetition, window, ngram, times);
DSV32_ALL_FIELDS(TraceOptions, logits, selection, experts, mtp_logits);
DSV32_ALL_FIELDS(SessionTokens, session, tokens);
DSV32_ALL_FIELDS(RenderOptions, drop_thinking, add_bos, add_generation_prompt, context, log);
DSV32_ALL_FIELDS(ToolCall, id, name, arguments_json);
DSV32_ALL_FIELDS(Message, role, content, reasoning, tool_calls, tool_call_id, prefix, tools_json,
                 response_format_json);
DSV32_ALL_FIELDS(ToolCallParserOptions, strict, max_call_bytes, max_calls, max_parameters,
                 tool_names, calls);
DSV32_ALL_FIELDS(ChatOptions, generate, parser, render, markers_by_text);

// ---- sampling

// What 200 draws from a row of four tokens give; with a seed, so the same each time.
std::vector<int> drawn(SamplingParams params) {
  const float logits[] = {2.0f, 1.5f, 1.0f, -1.0f};
  params.seed = params.seed.value_or(7);
  std::vector<int> counts(4);
  Sampler sampler(params);
  sampler.observe(std::vector<TokenId>{0});
  for (int i = 0; i < 200; ++i) ++counts[static_cast<std::size_t>(sampler.sample(logits).token)];
  return counts;
}

SamplingParams whole() { return {.top_p = 1.0f}; }

bool changes(const SamplingParams& params) { return drawn(params) != drawn(whole()); }

const Check kSamplingChecks[] = {
    {"temperature", [] { CHECK(drawn({.temperature = 0.0f})[0] == 200); }},
    {"top_p", [] { CHECK(drawn({.top_p = 0.1f})[0] == 200); }},
    {"top_k", [] { CHECK(drawn({.top_p = 1.0f, .top_k = 1})[0] == 200); }},
    {"min_p", [] { CHECK(drawn({.top_p = 1.0f, .min_p = 0.9f})[0] == 200); }},
    {"repetition_penalty", [] { CHECK(changes({.top_p = 1.0f, .repetition_penalty = 50.0f})); }},
    {"presence_penalty", [] { CHECK(changes({.top_p = 1.0f, .presence_penalty = 5.0f})); }},
    {"frequency_penalty", [] { CHECK(changes({.top_p = 1.0f, .frequency_penalty = 0.5f})); }},
    {"logit_bias",
     [] {
       SamplingParams params = whole();
       params.logit_bias = {{.token = 0, .bias = -std::numeric_limits<float>::infinity()}};
       CHECK(drawn(params)[0] == 0);
     }},
    {"top_logprobs",
     [] {
       const float logits[] = {2.0f, 1.5f, 1.0f, -1.0f};
       CHECK(Sampler({.top_logprobs = 2, .seed = 1}).sample(logits).top.size() == 2);
       CHECK(Sampler({.seed = 1}).sample(logits).top.empty());
     }},
    {"seed",
     [] {
       SamplingParams params = whole();
       params.seed = 8;
       CHECK(changes(params));
     }},
};

TEST_CASE("reports_C11 every field of SamplingParams") {
  check_all(kSamplingParams, kSamplingChecks);
}

const Check kBiasChecks[] = {
    {"token",
     [] {
       SamplingParams params = whole();
       params.logit_bias = {{.token = 3, .bias = 50.0f}};
       CHECK(drawn(params)[3] == 200);
     }},
    {"bias",
     [] {
       SamplingParams params = whole();
       params.logit_bias = {{.token = 3, .bias = 3.0f}};
       CHECK(drawn(params)[3] > drawn(whole())[3]);
     }},
};

TEST_CASE("reports_C11 every field of LogitBias") { check_all(kLogitBias, kBiasChecks); }

// ---- generation, on the bundled model

const Model& bundled() {
  static const Model model = Model::load(std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model",
                                         {.kv_cache_tokens = 2048});
  return model;
}

std::vector<TokenId> question() {
  const Message messages[] = {{.content = "What is 47 + 38?"}};
  return bundled().tokenizer().encode(
      bundled().chat_template().render(messages, ThinkingMode::thinking));
}

Generation generated(const GenerateOptions& options) {
  return Session(bundled()).generate(question(), options);
}

ChatTurn answered(const ChatOptions& options) {
  Session session(bundled());
  const Message messages[] = {{.content = "What is 47 + 38?"}};
  return chat(session, messages, ThinkingMode::thinking, options);
}

ChatOptions short_answer() {
  ChatOptions options;
  options.generate = greedy(24);
  return options;
}

// How 24 times the same token end.
FinishReason in_circles(const Repetition& repetition) {
  GenerateOptions options = greedy(24);
  std::vector<std::uint32_t> mask((2048 + 31) / 32);
  mask[1] = 1u << 8;  // token 40
  options.allowed = [&](std::span<const TokenId>) { return std::span(mask); };
  options.allowed_in_reasoning = true;
  options.repetition = repetition;
  return generated(options).finish_reason;
}

const Check kGenerateChecks[] = {
    {"sampling",
     [] {
       GenerateOptions options = greedy(24);
       options.sampling = SamplingParams{.temperature = 5.0f, .top_p = 1.0f, .seed = 3};
       CHECK(generated(options).tokens != generated(greedy(24)).tokens);
     }},
    {"max_tokens",
     [] {
       GenerateOptions options = greedy(24);
       options.max_tokens = 3;
       CHECK(generated(options).tokens.size() == 3);
     }},
    {"stop_token_ids",
     [] {
       GenerateOptions options = greedy(24);
       options.stop_token_ids = {generated(greedy(24)).tokens.at(4)};
       CHECK(generated(options).tokens.size() <= 4);
     }},
    {"stop_strings",
     [] {
       GenerateOptions options = greedy(24);
       options.stop_strings = {generated(greedy(24)).text.substr(5, 3)};
       CHECK(generated(options).stop_string == options.stop_strings[0]);
     }},
    {"thinking_budget",
     [] {
       GenerateOptions options = greedy(24);
       options.thinking_budget = 2;
       CHECK(generated(options).usage.thinking_tokens <
             generated(greedy(24)).usage.thinking_tokens);
     }},
    {"stops_in_reasoning",  // of a chat
     [] {
       ChatOptions options = short_answer();
       options.generate.stop_strings = {answered(options).message.reasoning.substr(5, 3)};
       CHECK(answered(options).stop_string.empty());
       options.generate.stops_in_reasoning = true;
       CHECK(answered(options).stop_string == options.generate.stop_strings[0]);
     }},
    {"allowed",
     [] {
       GenerateOptions options = greedy(24);
       std::vector<std::uint32_t> mask((2048 + 31) / 32);
       mask[1] = 1u << 8;  // token 40
       options.allowed = [&](std::span<const TokenId>) { return std::span(mask); };
       options.thinking_budget = 1;  // the mask may begin behind it
       const std::vector<TokenId> tokens = generated(options).tokens;
       CHECK(tokens.back() == 40);
     }},
    {"allowed_in_reasoning",
     [] {
       GenerateOptions options = greedy(24);
       std::vector<std::uint32_t> mask((2048 + 31) / 32);
       mask[1] = 1u << 8;  // token 40
       options.allowed = [&](std::span<const TokenId>) { return std::span(mask); };
       options.allowed_in_reasoning = true;
       CHECK(generated(options).tokens.front() == 40);
     }},
    {"repetition",
     [] { CHECK(in_circles({.window = 8, .ngram = 2, .times = 3}) == FinishReason::repetition); }},
    {"draft_tokens",
     [] {
       const Model model = Model::load(std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model",
                                       {.kv_cache_tokens = 2048, .mtp = true});
       GenerateOptions options = greedy(100);
       const Generation plain = Session(model).generate(question(), options);
       options.draft_tokens = 2;
       const Generation drafted = Session(model).generate(question(), options);
       CHECK(plain.usage.drafted[0] == 0);
       CHECK(drafted.usage.drafted[0] > 0);
       CHECK(drafted.tokens == plain.tokens);
     }},
    {"cancel",
     [] {
       std::stop_source source;
       source.request_stop();
       GenerateOptions options = greedy(24);
       options.cancel = source.get_token();
       CHECK(generated(options).finish_reason == FinishReason::cancelled);
     }},
};

TEST_CASE("reports_C11 every field of GenerateOptions") {
  check_all(kGenerateOptions, kGenerateChecks);
}

const Check kRepetitionChecks[] = {
    {"window",
     [] { CHECK(in_circles({.window = 0, .ngram = 2, .times = 3}) == FinishReason::length); }},
    {"ngram",
     [] { CHECK(in_circles({.window = 64, .ngram = 9, .times = 3}) == FinishReason::length); }},
    {"times",
     [] { CHECK(in_circles({.window = 64, .ngram = 2, .times = 13}) == FinishReason::length); }},
};

TEST_CASE("reports_C11 every field of Repetition") { check_all(kRepetition, kRepetitionChecks); }

// Whether an observer that asks for this gets something that it does not get otherwise.
void check_traced(const TraceOptions& options, bool (*given)(const Trace&)) {
  const Model model = Model::load(
      golden("fp8"), {.backend = {.num_threads = 1}, .kv_cache_tokens = 256, .mtp = true});
  for (const TraceOptions& asked : {options, TraceOptions{}}) {
    bool any = false;
    Session session(model);
    session.observe(asked, [&](const Trace& trace) { any = any || given(trace); });
    session.append(some_tokens(40, 1));
    const bool wanted = asked.logits || asked.selection || asked.experts || asked.mtp_logits;
    CHECK(any == wanted);
  }
}

const Check kTraceChecks[] = {
    {"logits",
     [] { check_traced({.logits = true}, [](const Trace& t) { return !t.logits.empty(); }); }},
    {"selection",
     [] {
       check_traced({.selection = true}, [](const Trace& t) { return !t.selection.empty(); });
     }},
    {"experts",
     [] { check_traced({.experts = true}, [](const Trace& t) { return !t.experts.empty(); }); }},
    {"mtp_logits",
     [] {
       check_traced({.mtp_logits = true}, [](const Trace& t) { return !t.mtp_logits.empty(); });
     }},
};

TEST_CASE("reports_C11 every field of TraceOptions") { check_all(kTraceOptions, kTraceChecks); }

void append(Session* session, const Tokens& tokens) {
  const SessionTokens list[] = {{session, tokens}};
  append_together(list);
}

const Check kSessionTokensChecks[] = {
    {"session", [] { check_error(ErrorCode::invalid_argument, "", [] { append(nullptr, {1}); }); }},
    {"tokens",
     [] {
       Session session(bundled());
       append(&session, {5, 6});
       CHECK(session.tokens().size() == 2);
       check_error(ErrorCode::invalid_argument, "", [&] { append(&session, {}); });
     }},
};

TEST_CASE("reports_C11 every field of SessionTokens") {
  check_all(kSessionTokens, kSessionTokensChecks);
}

// ---- text

using Messages = std::vector<Message>;

std::string rendered(const Messages& messages, const RenderOptions& options = {},
                     ChatFormat format = ChatFormat::v32) {
  return ChatTemplate(format).render(messages, ThinkingMode::thinking, options).text;
}

const char* const kTool = R"({"type": "function", "function": {"name": "add", "description": "",
                            "parameters": {"type": "object", "properties": {}}}})";

// A question, a call with its answer.
Messages called(const ToolCall& call = {.id = "1", .name = "add", .arguments_json = "{}"}) {
  Message system{.role = Role::system, .content = "Be brief."};
  system.tools_json = {kTool};
  Message assistant{.role = Role::assistant, .reasoning = "So."};
  assistant.tool_calls = {call};
  return {system,
          {.content = "2+2?"},
          assistant,
          {.role = Role::tool, .content = "4", .tool_call_id = "1"}};
}

const Check kRenderChecks[] = {
    {"drop_thinking",  // as its header says, the text is the same either way
     [] { CHECK(rendered(called(), {.drop_thinking = false}) == rendered(called())); }},
    {"add_bos", [] { CHECK(rendered(called(), {.add_bos = false}) != rendered(called())); }},
    {"add_generation_prompt",
     [] {
       const Messages one = {{.content = "2+2?"}};
       CHECK(rendered(one, {.add_generation_prompt = false}, ChatFormat::v31) !=
             rendered(one, {}, ChatFormat::v31));
     }},
    {"context", [] { CHECK(rendered(called(), {.context = 1}) != rendered(called())); }},
    {"log",
     [] {
       int lines = 0;
       const ToolCall half{.id = "1", .name = "add", .arguments_json = R"({"x": "\ud800"})"};
       rendered(called(half), {.log = [&](LogLevel, std::string_view) { ++lines; }});
       CHECK(lines == 1);
     }},
};

TEST_CASE("reports_C11 every field of RenderOptions") { check_all(kRenderOptions, kRenderChecks); }

const Check kCallChecks[] = {
    {"id",
     [] {
       check_error(ErrorCode::invalid_argument, "",
                   [] { rendered(called({.id = "2", .name = "add", .arguments_json = "{}"})); });
     }},
    {"name",
     [] {
       CHECK(rendered(called({.id = "1", .name = "sum", .arguments_json = "{}"})) !=
             rendered(called()));
     }},
    {"arguments_json",
     [] {
       CHECK(rendered(called({.id = "1", .name = "add", .arguments_json = R"({"x": 1})"})) !=
             rendered(called()));
     }},
};

TEST_CASE("reports_C11 every field of ToolCall") { check_all(kToolCall, kCallChecks); }

// Whether `change` of one message changes the prompt.
void check_message(std::size_t index, void (*change)(Message&)) {
  Messages messages = called();
  change(messages.at(index));
  CHECK(rendered(messages) != rendered(called()));
}

const Check kMessageChecks[] = {
    {"role", [] { check_message(0, [](Message& m) { m.role = Role::developer; }); }},
    {"content", [] { check_message(1, [](Message& m) { m.content = "3+3?"; }); }},
    {"reasoning", [] { check_message(2, [](Message& m) { m.reasoning = "Well."; }); }},
    {"tool_calls", [] { check_message(2, [](Message& m) { m.tool_calls[0].name = "another"; }); }},
    {"tool_call_id",
     [] {
       Messages messages = called();
       messages[3].tool_call_id = "another";
       check_error(ErrorCode::invalid_argument, "", [&] { rendered(messages); });
     }},
    {"prefix",
     [] {
       Messages messages = {{.content = "2+2?"}, {.role = Role::assistant, .content = "It is"}};
       const std::string without = rendered(messages, {}, ChatFormat::v31);
       messages[1].prefix = true;
       CHECK(rendered(messages, {}, ChatFormat::v31) != without);
     }},
    {"tools_json", [] { check_message(0, [](Message& m) { m.tools_json.clear(); }); }},
    {"response_format_json",
     [] {
       check_message(0, [](Message& m) { m.response_format_json = "{\"type\": \"object\"}"; });
     }},
};

TEST_CASE("reports_C11 every field of Message") { check_all(kMessage, kMessageChecks); }

// The calls of one output, and what the parser had to say.
struct Parsed {
  std::size_t calls = 0;
  std::vector<ParseEvent::Fault> faults;
  bool operator==(const Parsed&) const = default;
};

Parsed parsed(const ToolCallParserOptions& options, bool misspelt = false) {
  std::string output = "Hm.\n\n<｜DSML｜function_calls>\n";
  for (int i = 0; i < 2; ++i) {
    output += "<｜DSML｜invoke name=\"add\">\n";
    for (const char* name : {"x", "y"})
      output += "<｜DSML｜parameter name=\"" + std::string(name) + "\" string=\"false\">" +
                (misspelt ? "one" : "1") + "</｜DSML｜parameter>\n";
    output += "</｜DSML｜invoke>\n";
  }
  ToolCallParser parser(ChatFormat::v32, false, options);
  parser.feed(output + "</｜DSML｜function_calls>");
  parser.finish(FinishReason::stop);
  return {parser.message().tool_calls.size(), {parser.faults().begin(), parser.faults().end()}};
}

const Check kParserChecks[] = {
    {"strict", [] { CHECK(parsed({.strict = true}, true) != parsed({}, true)); }},
    {"max_call_bytes", [] { CHECK(parsed({.max_call_bytes = 4}) != parsed({})); }},
    {"max_calls", [] { CHECK(parsed({.max_calls = 1}).calls == 1); }},
    {"max_parameters", [] { CHECK(parsed({.max_parameters = 1}) != parsed({})); }},
    {"tool_names",
     [] {
       ToolCallParserOptions options;
       options.tool_names = {"another"};
       CHECK(parsed(options).faults != parsed({}).faults);
     }},
    {"calls", [] { CHECK(parsed({.calls = false}).calls == 0); }},
};

TEST_CASE("reports_C11 every field of ToolCallParserOptions") {
  CHECK(parsed({}).calls == 2);
  check_all(kToolCallParserOptions, kParserChecks);
}

// ---- chat

const Check kChatChecks[] = {
    {"generate",
     [] {
       ChatOptions options = short_answer();
       options.generate.max_tokens = 2;
       CHECK(answered(options).usage.generated_tokens == 2);
     }},
    {"parser",  // of an answer that is cut
     [] {
       ChatOptions options = short_answer();
       options.generate.max_tokens = 2;
       const ChatTurn lenient = answered(options);
       options.parser.strict = true;
       CHECK(answered(options).faults != lenient.faults);
     }},
    {"render",
     [] {
       ChatOptions options = short_answer();
       options.render.add_bos = false;
       CHECK(answered(options).usage.prompt_tokens + 1 ==
             answered(short_answer()).usage.prompt_tokens);
     }},
    {"markers_by_text",  // which text is one, tests of chat show on scripted tokens
     [] {
       const std::string quoted = "</think>";
       for (const bool by_text : {false, true}) {
         ChatOptions options = short_answer();
         options.markers_by_text = by_text;
         const Message messages[] = {{.content = "What is 47 + 38?"}};
         ChatStream stream(bundled(), messages, ThinkingMode::thinking, options);
         Generation end{.finish_reason = FinishReason::stop};
         for (const TokenId id : bundled().tokenizer().encode("a" + quoted + "b")) {
           end.samples.push_back({.token = id});
           end.tokens.push_back(id);
         }
         stream.finish(end);
         CHECK(stream.turn().message.content == (by_text ? "b" : ""));
       }
     }},
};

TEST_CASE("reports_C11 every field of ChatOptions") { check_all(kChatOptions, kChatChecks); }

}  // namespace
}  // namespace dsv32::test
