// DeepSeek's own chat vectors (tests/golden/chat), and every split of each output.
#include "tests/conformance/conformance.h"
#include "tests/conformance/messages.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

using conformance::Parsed;
const std::string kFolder = std::string(DSV32_SOURCE_DIR) + "/tests/golden/chat/";

TEST_CASE("official requests render to the official prompts, and their answers come back") {
  CHECK(conformance::run_chat(
            {kFolder + "test_input.json", kFolder + "test_input_search_wo_date.json"}) == 0);
}

TEST_CASE("prompts and parses equal the reference's") {
  CHECK(conformance::run_chat({kFolder + "public.jsonl", kFolder + "v31_public.jsonl"}) == 0);
}

TEST_CASE("what models get wrong is mended or refused alike in every split") {
  CHECK(conformance::run_stream({kFolder + "stream_cases.jsonl"}) == 0);
}

// The answers of a request, as the model would have written them.
std::vector<std::string> official_outputs(const std::string& name) {
  const Json request = parse_json(conformance::read_file(kFolder + name), name);
  const auto messages = conformance::to_messages(*request.find("messages"));
  std::vector<std::string> outputs;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != Role::assistant || messages[i].reasoning.empty()) continue;
    outputs.push_back(ChatTemplate()
                          .render(std::span(messages).first(i + 1), ThinkingMode::thinking,
                                  {.add_generation_prompt = false, .context = i})
                          .text);
  }
  REQUIRE(!outputs.empty());
  return outputs;
}

TEST_CASE("official outputs parse alike when cut at any byte") {
  for (const char* name : {"test_input.json", "test_input_search_wo_date.json"}) {
    for (const std::string& text : official_outputs(name)) {
      const ToolCallParser parser(ChatFormat::v32, true);
      const Parsed whole = conformance::parse(parser, text, {}, FinishReason::stop);
      CHECK(whole.faults.empty());
      CHECK(whole.broken.empty());
      std::size_t differ = 0;
      for (std::size_t cut = 1; cut < text.size(); ++cut) {
        differ += same(whole, conformance::parse(parser, text, {cut}, FinishReason::stop)) ? 0 : 1;
      }
      CHECK(differ == 0);
    }
  }
}

TEST_CASE("official outputs parse alike in ten thousand random splits") {
  std::vector<std::string> outputs = official_outputs("test_input.json");
  for (std::string& text : official_outputs("test_input_search_wo_date.json")) {
    outputs.push_back(std::move(text));
  }
  conformance::Random random{7};
  std::size_t differ = 0;
  for (int i = 0; i < 10000; ++i) {
    const std::string& text = outputs[random.below(outputs.size())];
    const ToolCallParser parser(ChatFormat::v32, true);
    const Parsed whole = conformance::parse(parser, text, {}, FinishReason::stop);
    const auto cuts = conformance::random_cuts(text, random);
    differ += same(whole, conformance::parse(parser, text, cuts, FinishReason::stop)) ? 0 : 1;
  }
  CHECK(differ == 0);
}

}  // namespace
}  // namespace dsv32::test
