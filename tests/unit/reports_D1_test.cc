// Objects that were moved from: what may throw throws `state`, what may not returns what is empty,
// and copying, assigning and destroying them is fine.
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "dsv32/chat_template.h"
#include "dsv32/checkpoint.h"
#include "dsv32/communicator.h"
#include "dsv32/sampler.h"
#include "dsv32/tokenizer.h"
#include "dsv32/tool_call_parser.h"

#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

const std::vector<float> kLogits = {1.0f, 0.5f, 0.0f, -0.5f, 2.0f, -1.0f, 1.5f, 0.25f};
const std::string kEuro = "€";

const Tokenizer& bundled() {
  static const Tokenizer tokenizer =
      Tokenizer::load(std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model/tokenizer.json");
  return tokenizer;
}

template <class Call>
void refused(const char* owner, Call&& call) {
  check_error(ErrorCode::state, std::string(owner) + " was moved from", call);
}

// Every way to become, to hand on and to stop being moved from. Both checks take any object and
// leave it as it is.
template <class T>
void walk(const T& whole, void (*check_whole)(const T&), void (*check_moved)(T&)) {
  static_assert(std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T>);
  T object = whole;
  T taken = std::move(object);
  check_whole(taken);
  check_moved(object);
  check_moved(object);  // a call that is refused changes nothing

  T copy = object;
  check_moved(copy);
  T moved = std::move(copy);
  check_moved(moved);
  check_moved(copy);
  moved = object;
  check_moved(moved);
  T& same = object;  // compilers warn of the plain spelling
  object = std::move(same);
  check_moved(object);

  object = taken;
  check_whole(object);
  check_whole(taken);
  object = std::move(same);
  check_whole(object);
  moved = std::move(object);
  check_whole(moved);
  check_moved(object);
  std::swap(object, moved);
  check_whole(object);
  check_moved(moved);
  taken = moved;  // a whole one ends
  check_moved(taken);
}

TEST_CASE("reports_D1 a Tokenizer that was moved from") {
  walk<Tokenizer>(
      bundled(),
      [](const Tokenizer& tokenizer) {
        CHECK(tokenizer.decode(tokenizer.encode("to and fro")) == "to and fro");
        CHECK(tokenizer.vocab_size() == bundled().vocab_size());
      },
      [](Tokenizer& tokenizer) {
        constexpr const char* kOwner = "Tokenizer";
        refused(kOwner, [&] { tokenizer.encode("text"); });
        refused(kOwner, [&] { tokenizer.encode("", true); });
        refused(kOwner, [&] { tokenizer.encode(Prompt{.text = "text"}); });
        refused(kOwner, [&] { tokenizer.encode(Prompt{.text = "", .untrusted = {{2, 1}}}); });
        refused(kOwner, [&] { tokenizer.decode(std::vector<TokenId>{1, 2}); });
        refused(kOwner, [&] { tokenizer.decode({}, true); });
        refused(kOwner, [&] { tokenizer.bytes(0); });
        refused(kOwner, [&] { tokenizer.bytes(-1); });
        refused(kOwner, [&] { tokenizer.find("a"); });
        CHECK(!tokenizer.is_special(0));
        CHECK(!tokenizer.is_special(-1));
        CHECK(tokenizer.vocab_size() == 0);
      });
}

TEST_CASE("reports_D1 a TokenDecoder that was moved from") {
  TokenDecoder half(bundled());
  const std::vector<TokenId> euro = bundled().encode(kEuro);
  REQUIRE(euro.size() > 1);  // so that the decoder holds a part of a character
  CHECK(half.push(euro[0]).empty());
  walk<TokenDecoder>(
      half,
      [](const TokenDecoder& decoder) {
        TokenDecoder going_on = decoder;
        std::string text;
        const std::vector<TokenId> tokens = bundled().encode(kEuro);
        for (std::size_t i = 1; i < tokens.size(); ++i) text += going_on.push(tokens[i]);
        CHECK(text == kEuro);
      },
      [](TokenDecoder& decoder) {
        refused("TokenDecoder", [&] { decoder.push(0); });
        refused("TokenDecoder", [&] { decoder.flush(); });
      });
}

TEST_CASE("reports_D1 a TokenDecoder without a tokenizer") {
  Tokenizer tokenizer = bundled();
  const Tokenizer taken = std::move(tokenizer);
  TokenDecoder decoder(tokenizer);
  TokenDecoder copy = decoder;
  refused("Tokenizer", [&] { copy.push(0); });
  CHECK(copy.flush().empty());
  decoder = TokenDecoder(taken);
  CHECK(decoder.push(taken.encode("a").front()) == "a");
}

TEST_CASE("reports_D1 a Sampler that was moved from") {
  walk<Sampler>(
      Sampler({.seed = 7}),
      [](const Sampler& sampler) {
        CHECK(sampler.seed() == 7);
        Sampler one = sampler, fresh({.seed = 7});
        for (int i = 0; i < 8; ++i) CHECK(one.sample(kLogits).token == fresh.sample(kLogits).token);
      },
      [](Sampler& sampler) {
        refused("Sampler", [&] { sampler.observe(std::vector<TokenId>{1}); });
        refused("Sampler", [&] { sampler.observe({}); });
        refused("Sampler", [&] { sampler.accept(1); });
        refused("Sampler", [&] { sampler.sample(kLogits); });
        refused("Sampler", [&] { sampler.sample({}); });
        CHECK(sampler.seed() == 0);
      });
}

TEST_CASE("reports_D1 a ToolCallParser that was moved from") {
  for (const ChatFormat format : {ChatFormat::v32, ChatFormat::v31}) {
    ToolCallParser begun(format, true);
    begun.feed("why</think></think>because");
    walk<ToolCallParser>(
        begun,
        [](const ToolCallParser& parser) {
          ToolCallParser going_on = parser;
          going_on.feed(" so");
          going_on.finish(FinishReason::stop);
          CHECK(going_on.message().reasoning == "why");
          CHECK(going_on.message().content == "because so");
          CHECK(!parser.faults().empty());
          CHECK(parser.faults().size() == going_on.faults().size());
        },
        [](ToolCallParser& parser) {
          refused("ToolCallParser", [&] { parser.feed("text"); });
          refused("ToolCallParser", [&] { parser.feed(""); });
          refused("ToolCallParser", [&] { parser.feed("text", true); });
          refused("ToolCallParser", [&] { parser.finish(FinishReason::stop); });
          refused("ToolCallParser", [&] { static_cast<void>(parser.message()); });
          CHECK(parser.faults().empty());
          CHECK(!parser.in_tool_call());
        });
  }
}

TEST_CASE("reports_D1 a Checkpoint that was moved from") {
  walk<Checkpoint>(
      Checkpoint::open(golden_model("fp8")),
      [](const Checkpoint& checkpoint) {
        CHECK(checkpoint.config().vocab_size > 0);
        CHECK(!checkpoint.tensors().empty());
        CHECK(checkpoint.fingerprint() == Checkpoint::open(golden_model("fp8")).fingerprint());
      },
      [](Checkpoint& checkpoint) {
        constexpr const char* kOwner = "Checkpoint";
        refused(kOwner, [&] { static_cast<void>(checkpoint.config()); });
        refused(kOwner, [&] { checkpoint.problems(); });
        refused(kOwner, [&] { checkpoint.plan(); });
        refused(kOwner, [&] { checkpoint.plan({.max_batch_tokens = -1}); });
        refused(kOwner, [&] { checkpoint.fingerprint(); });
        CHECK(checkpoint.tensors().empty());
      });
}

// These hold no pointer of their own: moved from, they are values like others.
TEST_CASE("reports_D1 plain values that were moved from") {
  Prompt prompt{.text = "text that is too long for the string itself", .untrusted = {{0, 4}}};
  const Prompt taken = std::move(prompt);
  CHECK(bundled().encode(prompt).empty());
  CHECK(bundled().encode(taken).size() > 1);

  ChatTemplate chat(ChatFormat::v31);
  const ChatTemplate same_chat = std::move(chat);
  const std::vector<Message> messages = {{.content = "Hello"}};
  CHECK(chat.format() == ChatFormat::v31);
  CHECK(chat.render(messages, ThinkingMode::chat).text ==
        same_chat.render(messages, ThinkingMode::chat).text);

  Communicator group;
  const Communicator same_group = std::move(group);
  CHECK(group.size() == same_group.size());
  CHECK(group.rank() == same_group.rank());
}

}  // namespace
}  // namespace dsv32::test
