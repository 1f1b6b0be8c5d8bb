// Memory that is not there, and memory that holds anything.
#include <new>
#include <string>
#include <vector>

#include "dsv32/chat_template.h"
#include "dsv32/model.h"
#include "dsv32/session.h"
#include "dsv32/tool_call_parser.h"

#include "lib/base/thread_pool.h"
#include "tests/faults/fail_each.h"
#include "tests/faults/seams.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

Model load(const std::string& name, int threads = 1) {
  LoadOptions options;
  options.kv_cache_tokens = 1024;
  options.max_batch_tokens = 48;
  options.backend.num_threads = threads;
  options.mtp = name == "fp8";
  return Model::load(golden_model(name), options);
}

TEST_CASE("a cache that does not fit is refused before memory is taken for it") {
  LoadOptions options;
  options.kv_cache_tokens = std::size_t{1} << 35;
  const CountAllocations count;
  check_error(ErrorCode::out_of_memory, "needs",
              [&] { Model::load(golden_model("fp8"), options); });
  CHECK(count.bytes() < 16u << 20);
}

TEST_CASE("RS-01 an allocation that fails in a step leaves the session as it was") {
  const Tokens text = some_tokens(160, 11);
  const auto part = [&](std::size_t first, std::size_t count) {
    return std::span(text).subspan(first, count);
  };
  for (const char* name : {"fp8", "v3-dense"}) {
    const Model model = load(name);
    Bits want, want_next;
    {
      Session session(model);
      want = copy(session.append(part(0, 150)));
      want_next = copy(session.append(text[150]));
    }
    const std::size_t free = model.free_cache_tokens();
    {
      Session session(model);
      session.append(part(0, 100));
      const std::size_t left = model.free_cache_tokens();
      bool done = false;
      fail_each_allocation(
          5,
          [&] {
            session.append(part(100, 50));  // two chunks, a new page
            done = true;
          },
          [&] {
            if (done) {
              session.truncate(100);
              done = false;
            }
            REQUIRE(session.tokens().size() == 100);
            REQUIRE(model.free_cache_tokens() == left);
          });
      CHECK(copy(session.append(part(100, 50))) == want);
      // One token, behind a fork whose page must be copied first.
      fail_each_allocation(
          2,
          [&] {
            Session fork = session.fork();
            fork.append(text[150]);
          },
          [&] { REQUIRE(session.tokens().size() == 150); });
      fail_each_allocation(
          7, [&] { session.sync(part(0, 160)); },
          [&] {
            REQUIRE(std::ranges::equal(session.tokens(), part(0, session.tokens().size())));
            if (session.tokens().size() == 160) session.truncate(90);
          });
      CHECK(copy(session.sync(part(0, 151))) == want_next);
    }
    CHECK(model.free_cache_tokens() == free);
  }
}

TEST_CASE("RS-01 an allocation that fails in generate, load, render, encode or parse") {
  const Model model = load("fp8");
  const Tokens prompt = some_tokens(70, 11);
  GenerateOptions options;
  options.sampling = SamplingParams{.seed = 5};
  options.max_tokens = 4;
  Session session(model);
  const Tokens want = session.generate(prompt, options).tokens;
  bool same = true;  // Catch's own checks would swallow bad_alloc
  fail_each_allocation(
      13, [&] { same = same && session.generate(prompt, options).tokens == want; }, [] {});
  CHECK(session.generate(prompt, options).tokens == want);

  fail_each_allocation(
      37, [] { load("fp8"); }, [] {});
  fail_each_allocation(
      1, [] { ThreadPool pool({.num_threads = 4}); }, [] {});
  CHECK_NOTHROW(load("fp8"));

  const std::string file = std::string(DSV32_SOURCE_DIR) + "/tests/fuzz/corpus/tokenizer/small";
  fail_each_allocation(
      5, [&] { Tokenizer::load(file); }, [] {});
  const Tokenizer tokenizer = Tokenizer::load(file);
  const Tokens ids = tokenizer.encode("ab abc \xF0\x9F\x8C\xA4 <｜User｜>");
  fail_each_allocation(
      1, [&] { same = same && tokenizer.encode("ab abc \xF0\x9F\x8C\xA4 <｜User｜>") == ids; },
      [] {});

  const std::vector<Message> messages = {
      {.role = Role::system, .content = "s", .tools_json = {R"({"name": "f", "x": [1, {}]})"}},
      {.content = "u"}};
  const std::string text = ChatTemplate().render(messages, ThinkingMode::chat).text;
  fail_each_allocation(
      1, [&] { same = same && ChatTemplate().render(messages, ThinkingMode::chat).text == text; },
      [] {});

  const std::string output =
      "Hi\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n"
      "<｜DSML｜parameter name=\"a\" string=\"true\">1</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
      "</｜DSML｜function_calls>";
  fail_each_allocation(
      1,
      [&] {
        ToolCallParser parser(ChatFormat::v32, false);
        parser.feed(output);
        parser.finish(FinishReason::stop);
        same = same && parser.message().tool_calls.size() == 1;
      },
      [] {});
  CHECK(same);
}

TEST_CASE("SE-15 nothing is read before it is written") {
  const Tokens text = some_tokens(200, 11);
  for (const char* name : {"fp8", "fp8-e8m0", "bf16", "v3-dense"}) {
    const auto run = [&] {
      const Model model = load(name, 2);
      Session session(model);
      std::vector<Bits> rows;
      rows.push_back(copy(session.append(std::span(text).first(130))));
      Session fork = session.fork();
      rows.push_back(copy(fork.append(std::span(text).subspan(130, 3))));
      session.truncate(65);
      rows.push_back(copy(session.append(std::span(text).subspan(65, 135))));
      return rows;
    };
    const std::vector<Bits> want = run();
    const PoisonMemory poison;
    CHECK(run() == want);
  }
}

}  // namespace
}  // namespace dsv32::test
