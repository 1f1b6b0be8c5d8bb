// A turn read from tokens: which of them are markers, what calls, what stops it.
#include <filesystem>

#include "tests/conformance/conformance.h"
#include "tests/model/scripted.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;
using Kind = ParseEvent::Kind;

constexpr ThinkingMode kChat = ThinkingMode::chat, kThinking = ThinkingMode::thinking;

// The bundled model with another tokenizer.json, or as another format.
Model variant(const TempFolder& folder, const std::string& tokenizer, LoadOptions options = {}) {
  const fs::path own = fs::path(DSV32_SOURCE_DIR) / "examples/tiny_model";
  for (const char* file : {"config.json", "model.safetensors"})
    fs::create_symlink(own / file, folder.path() / file);
  write_text(folder.path() / "tokenizer.json", tokenizer);
  options.kv_cache_tokens = 4096;
  options.backend.num_threads = 1;
  return Model::load(folder.path(), options);
}

std::string own_tokenizer() {
  return conformance::read_file(fs::path(DSV32_SOURCE_DIR) / "examples/tiny_model/tokenizer.json");
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

TEST_CASE("reports_T1 no tools declared means no calls, whoever wrote the markup") {
  for (const bool markers : {true, false}) {
    const std::string text = "So:\n\n" + kCall;
    const Told told = tell(question(), kChat, ids_of({{text, markers}}));
    CHECK(told.turn.message.tool_calls.empty());
    CHECK(told.turn.message.content == text);
    CHECK(told.turn.faults.empty());
  }
  // Names that the caller gives stand for tools that no message declares.
  ChatOptions options;
  options.parser.tool_names = {"get_weather"};
  CHECK(tell(question(), kChat, ids_of({{kCall}}), options).turn.message.tool_calls.size() == 1);
  options.parser.calls = false;
  CHECK(tell(question(true), kChat, ids_of({{kCall}}), options).turn.message.tool_calls.empty());
}

TEST_CASE("reports_T1 chat knows the names of the tools that are declared") {
  const Told told = tell(question(true), kChat, ids_of({{"Let me look.\n\n" + kCall}}));
  REQUIRE(told.turn.message.tool_calls.size() == 1);
  CHECK(told.turn.message.tool_calls[0].name == "get_weather");
  CHECK(told.turn.faults.empty());
  const std::string other = replaced(kCall, "get_weather", "rm_tree");
  const Told unknown = tell(question(true), kChat, ids_of({{other}}));
  CHECK(unknown.turn.faults == std::vector{ParseEvent::Fault::unknown_tool});
  // In prose, by its own token, an invoke that is no declared tool's is no call.
  const std::string prose = "A call starts with `<｜DSML｜invoke name=\"tool\">` and goes on.";
  const Told told_prose = tell(question(true), kChat, ids_of({{prose}}));
  CHECK(told_prose.turn.message.tool_calls.empty());
  CHECK(told_prose.turn.message.content == prose);
}

TEST_CASE("reports_T1 V3.2-Speciale makes no calls, and its next turn can be rendered") {
  const TempFolder folder;
  const Model model = variant(folder, own_tokenizer(), {.chat_format = ChatFormat::v32_speciale});
  std::vector<Message> messages = question();
  ChatOptions options;
  options.parser.tool_names = {"get_weather"};
  for (const bool by_text : {false, true}) {
    options.markers_by_text = by_text;
    const Told told = tell(messages, kThinking, ids_of({{"Hm.</think>" + kCall}}), options, model);
    CHECK(told.turn.message.tool_calls.empty());
    CHECK(told.turn.message.reasoning == "Hm.");
    CHECK(told.turn.message.content == kCall);
    messages.push_back(told.turn.message);
    messages.push_back({.content = "And in Rome?"});
    CHECK_NOTHROW(ChatStream(model, messages, kThinking, options));
  }
}

TEST_CASE("reports_T2 only a marker's own token is a marker") {
  const std::string code =
      "Use this:\n```python\ntext = re.sub(r\"<think>.*?</think>\", \"\", "
      "text)\na = text.split(\"</think>\")[-1]\n```\nDone.";
  const Told literal = tell(question(), kChat, ids_of({{code, false}}));
  CHECK(literal.turn.message.content == code);
  CHECK(literal.turn.faults.empty());
  const std::string thought = "It keeps what follows the `</think>` tag, so I name it.";
  const std::vector<Segment> segments = {
      {thought, false}, {"</think>"}, {"It ends <｜end▁of▁sentence｜> so.", false}};
  const Told named = tell(question(), kThinking, ids_of(segments));
  CHECK(named.turn.message.reasoning == thought);
  CHECK(named.turn.message.content == segments[2].text);
  CHECK(named.turn.faults.empty());
  // The old reading, if it is asked for.
  ChatOptions by_text;
  by_text.markers_by_text = true;
  const Told old = tell(question(), kThinking, ids_of(segments), by_text);
  CHECK(old.turn.message.reasoning == "It keeps what follows the `");
  CHECK(old.turn.message.content.starts_with("` tag"));
}

TEST_CASE("reports_T2 a document that the model quotes opens no call unless it writes the token") {
  for (const char* wrap : {"", "```\n"}) {
    const std::string quoted = wrap + kCall + wrap;
    const Told text = tell(question(true), kChat, ids_of({{quoted, false}}));
    CHECK(text.turn.message.tool_calls.empty());
    CHECK(text.turn.message.content == quoted);
    // Half of its markup by the token, half not: nothing that ends is a call.
    const std::string opener = "<｜DSML｜function_calls>\n";
    const Told half = tell(question(true), kChat, ids_of({{opener}, {kInvoke, false}}));
    CHECK(half.turn.message.tool_calls.empty());
  }
  CHECK(tell(question(true), kChat, ids_of({{kCall}})).turn.message.tool_calls.size() == 1);
  ChatOptions by_text;
  by_text.markers_by_text = true;
  CHECK(tell(question(true), kChat, ids_of({{kCall, false}}), by_text)
            .turn.message.tool_calls.size() == 1);
  // The same through a model: its tokens count, not the text that they were decoded to.
  Session session(tiny());
  for (const bool markers : {false, true}) {
    ChatOptions options;
    options.generate = scripted(ids_of({{kCall, markers}}));
    const ChatTurn turn = chat(session, question(true), kChat, options);
    CHECK(turn.finish_reason == FinishReason::stop);
    CHECK(turn.message.tool_calls.size() == (markers ? 1 : 0));
    if (!markers) CHECK(turn.message.content == kCall);
  }
}

TEST_CASE("reports_T2 a marker is known by its id, whatever the tokenizer calls special") {
  for (const char* flag : {"true", "false"}) {
    const TempFolder folder;
    const std::string all = replaced(
        own_tokenizer(), flag == std::string("true") ? "\"special\": false" : "\"special\": true",
        std::string("\"special\": ") + flag);
    REQUIRE(all != own_tokenizer());
    const Model model = variant(folder, all);
    const Told told = tell(question(true), kThinking, ids_of({{"Hm.</think>" + kCall}}), {}, model);
    CHECK(told.turn.message.reasoning == "Hm.");
    CHECK(told.turn.message.tool_calls.size() == 1);
  }
}

TEST_CASE("reports_T2 what a marker interrupts stays in front of it") {
  // Half a character, then the marker.
  const Tokenizer tokenizer = tiny().tokenizer();
  std::vector<TokenId> ids = tokenizer.encode("€");
  REQUIRE(ids.size() > 1);
  ids.pop_back();
  const std::vector<TokenId> rest = ids_of({{"</think>"}, {"Yes"}});
  ids.insert(ids.end(), rest.begin(), rest.end());
  const Told told = tell(question(), kThinking, ids);
  CHECK(told.turn.message.reasoning.find("\xEF\xBF\xBD") != std::string::npos);
  CHECK(told.turn.message.content == "Yes");
  CHECK(told.turn.generation.text.ends_with("</think>Yes"));
}

// The events' texts and ranges, and the tokens up to the end of each, are those of the output.
void check_ranges(const Told& told, const std::vector<TokenId>& ids) {
  const std::string& output = told.turn.generation.text;
  std::size_t at = 0;
  for (const ParseEvent& event : told.events) {
    CHECK(event.byte_offset == at);
    at = event.byte_offset + event.byte_length;
    REQUIRE(at <= output.size());
    if (event.kind == Kind::content || event.kind == Kind::reasoning)
      CHECK(event.text == output.substr(event.byte_offset, event.byte_length));
    // As many tokens as it takes to write the output so far.
    TokenDecoder decoder(tiny().tokenizer());
    std::size_t written = 0, count = 0;
    while (written < at && count < ids.size()) written += decoder.push(ids[count++]).size();
    CHECK(event.tokens_end == count);
  }
  CHECK(at == output.size());
}

TEST_CASE("reports_T3 a stop string ends content, not thinking") {
  const std::vector<TokenId> ids =
      ids_of({{"47*53 = 2491, so say so.</think>The product = 2491."}});
  for (const bool through_model : {false, true}) {
    ChatOptions options;
    options.generate = scripted(ids);
    options.generate.stop_strings = {"=", "so.The"};
    const auto ask = [&] {
      if (!through_model) return tell(question(), kThinking, ids, options).turn;
      Session session(tiny());
      return chat(session, question(), kThinking, options);
    };
    const ChatTurn turn = ask();
    CHECK(turn.message.reasoning == "47*53 = 2491, so say so.");
    CHECK(turn.message.content == "The product ");
    CHECK(turn.finish_reason == FinishReason::stop);
    CHECK(turn.stop_string == "=");
    CHECK(turn.generation.stop_string == "=");
    CHECK(!turn.generation.stop_token);
    CHECK(turn.generation.text == "47*53 = 2491, so say so.</think>The product ");
    CHECK(turn.generation.tokens.size() < ids.size());
    options.generate.stops_in_reasoning = true;
    const ChatTurn early = ask();
    CHECK(early.message.reasoning == "47*53 ");
    CHECK(early.message.content.empty());
    CHECK(early.stop_string == "=");
    CHECK(early.generation.text == "47*53 ");
  }
}

TEST_CASE("reports_T3 no stop string is found in a marker, across one, or in a call") {
  const std::vector<TokenId> ids = ids_of({{"I think.</think>Let me look.\n\n" + kCall}});
  for (const char* stop : {"think>", "</think", "think.</think>Let", "<", "｜", "DSML", "Oslo",
                           "function_calls", "get_weather", "\n\n<"}) {
    INFO(stop);
    ChatOptions options;
    options.generate.stop_strings = {stop};
    options.generate.stops_in_reasoning = true;
    const Told told = tell(question(true), kThinking, ids, options);
    CHECK(told.turn.stop_string.empty());
    CHECK(told.turn.message.reasoning == "I think.");
    CHECK(told.turn.message.tool_calls.size() == 1);
    CHECK(told.read == ids.size());
    check_ranges(told, ids);
  }
}

TEST_CASE(
    "reports_T3 a stop string is found wherever tokens break, and what only began one is kept") {
  const std::string answer = "One, two, three, four.";
  const std::vector<TokenId> ids = ids_of({{answer}});
  for (std::size_t begin = 0; begin < answer.size(); ++begin) {
    for (const std::size_t size : {1u, 2u, 5u, 9u}) {
      const std::string stop = answer.substr(begin, size);
      ChatOptions options;
      options.generate.stop_strings = {stop, "four. Five"};
      const Told told = tell(question(), kChat, ids, options);
      CHECK(told.turn.stop_string == stop);
      CHECK(told.turn.message.content == answer.substr(0, answer.find(stop)));
      check_ranges(told, ids);
    }
  }
  ChatOptions options;
  options.generate.stop_strings = {"four. Five"};
  const Told whole = tell(question(), kChat, ids, options);
  CHECK(whole.turn.message.content == answer);
  CHECK(whole.turn.stop_string.empty());
  check_ranges(whole, ids);
}

TEST_CASE("reports_D5 events say which tokens they stand for, and the turn has them all") {
  const std::vector<TokenId> ids =
      ids_of({{"Caf\u00e9, \u20ac 5, I think.</think>Look \u65e5\u672c:\n\n" + kCall}});
  const Told told = tell(question(true), kThinking, ids);
  CHECK(told.turn.generation.tokens == ids);
  CHECK(told.turn.generation.samples.size() == ids.size());
  CHECK(told.turn.generation.text == tiny().tokenizer().decode(ids));
  REQUIRE(!told.events.empty());
  CHECK(told.events.back().tokens_end == ids.size());
  check_ranges(told, ids);
}

TEST_CASE("a stream takes what it was not fed from the generation, and ends once") {
  const std::vector<TokenId> ids = ids_of({{"Hm.</think>Yes"}});
  Generation generation{.finish_reason = FinishReason::length, .seed = 9};
  for (const TokenId id : ids) generation.samples.push_back({.token = id, .logprob = -1.0f});
  ChatStream stream(tiny(), question(), kThinking);
  CHECK(stream.turn().finish_reason == FinishReason::none);
  stream.feed({.sample = generation.samples[0], .text = "another text"});
  CHECK(!stream.ended());
  stream.finish(generation);
  CHECK(stream.ended());
  CHECK(stream.finish(generation).empty());
  CHECK(stream.feed({.sample = {.token = ids[0]}}).empty());
  const ChatTurn turn = stream.turn();
  CHECK(turn.message.reasoning == "Hm.");
  CHECK(turn.message.content == "Yes");
  CHECK(turn.finish_reason == FinishReason::length);
  CHECK(turn.generation.seed == 9);
  CHECK(turn.generation.samples.back().logprob == -1.0f);
  ChatStream other = std::move(stream);
  CHECK(stream.ended());
  check_error(ErrorCode::state, "ChatStream", [&] { static_cast<void>(stream.turn()); });
  check_error(ErrorCode::state, "ChatStream", [&] { stream.feed({}); });
  check_error(ErrorCode::state, "ChatStream", [&] { static_cast<void>(stream.prompt()); });
  CHECK(other.turn().message.content == "Yes");
}

TEST_CASE("a token of the application's that ends an answer is not the model's own end") {
  ChatStream stream(tiny(), question(), kThinking);
  for (const TokenId id : ids_of({{"Hm, so"}})) stream.feed({.sample = {.token = id}});
  Generation end{.finish_reason = FinishReason::stop, .stop_token = 700};
  stream.finish(end);
  CHECK(stream.turn().faults.empty());  // cut short, rather than a think tag that was forgotten
  CHECK(stream.turn().generation.stop_token == 700);
}

}  // namespace
}  // namespace dsv32::test
