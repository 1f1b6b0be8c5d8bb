// Handles, files and callbacks that go away or come back while something runs.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <stdexcept>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "dsv32/chat.h"

#include "tests/model/sessions.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

namespace fs = std::filesystem;

TEST_CASE("MM-02 a file that is cut while sessions run, in read mode") {
  const TempFolder folder;
  fs::copy(golden_model("fp8") / "config.json", folder.path() / "config.json");
  const fs::path file = folder.path() / "model.safetensors";
  fs::copy(golden_model("fp8") / "model.safetensors", file);
  const Model model = Model::load(folder.path(), {.backend = {.num_threads = 1},
                                                  .kv_cache_tokens = 4096,
                                                  .max_batch_tokens = 16,
                                                  .access = FileAccess::read});
  const Model other =
      Model::load(golden_model("fp8"), {.backend = {.num_threads = 1}, .kv_cache_tokens = 256});
  const Tokens text = some_tokens(120, 3);
  Bits want;
  {
    Session session(model);
    want = copy(session.append(text));
  }
  std::atomic<int> started{0}, right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      Session session(model);
      session.append(std::span(text).first(60));
      ++started;
      for (std::size_t i = 60; i + 1 < text.size(); ++i) session.append(text[i]);
      right += copy(session.append(text.back())) == want ? 1 : 0;
    });
  }
  while (started == 0) std::this_thread::yield();
  fs::resize_file(file, fs::file_size(file) - 4096);
  Session beside(other);
  CHECK(copy(beside.append(text)) == want);
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 8);
}

TEST_CASE("SE-11 sessions outlive the handles that made them") {
  const Tokens text = some_tokens(100, 4);
  std::optional<Model> model =
      Model::load(golden_model("fp8"), {.backend = {.num_threads = 1}, .kv_cache_tokens = 4096});
  Bits want;
  {
    Session session(*model);
    want = copy(session.append(text));
  }
  std::atomic<int> started{0}, right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, session = Session(*model)]() mutable {
      session.append(std::span(text).first(50));
      ++started;
      for (std::size_t i = 50; i + 1 < text.size(); ++i) session.append(text[i]);
      right += copy(session.append(text.back())) == want ? 1 : 0;
    });
  }
  while (started == 0) std::this_thread::yield();
  model.reset();
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 8);
}

TEST_CASE("reports_D1 Model, and what is made of one that was moved from") {
  Model model = Model::load(golden_model("fp8"), {.backend = {.num_threads = 1}});
  Model other = std::move(model);
  const auto moved_from = [](auto&& call) {
    check_error(ErrorCode::state, "this Model was moved from", call);
  };
  moved_from([&] { static_cast<void>(model.config()); });
  moved_from([&] { static_cast<void>(model.tokenizer()); });
  moved_from([&] { static_cast<void>(model.chat_template()); });
  moved_from([&] { static_cast<void>(model.default_sampling()); });
  moved_from([&] { const Session session(model); });
  CHECK(model.memory_usage().weight_bytes == 0);
  CHECK(model.free_cache_tokens() == 0);
  CHECK_FALSE(model.is_sparse());
  CHECK(model.kernel_set().empty());
  const Model copy = model;
  moved_from([&] { static_cast<void>(copy.config()); });
  model = other;
  Session session(model);
  CHECK_FALSE(session.append(some_tokens(5, 1)).empty());
}

TEST_CASE("SE-14 pages that another session used tell nothing") {
  const Model model =
      Model::load(golden_model("fp8"), {.backend = {.num_threads = 1}, .kv_cache_tokens = 128});
  const Tokens text = some_tokens(70, 5);
  Bits want;
  {
    const Model fresh =
        Model::load(golden_model("fp8"), {.backend = {.num_threads = 1}, .kv_cache_tokens = 128});
    Session session(fresh);
    want = copy(session.append(text));
  }
  for (std::uint64_t pair = 0; pair < (kSanitized ? 20 : 100); ++pair) {
    {
      Session canary(model);
      canary.append(some_tokens(100 + pair % 28, 100 + pair));
    }
    REQUIRE(model.free_cache_tokens() == 128);
    Session session(model);
    session.append(std::span(text).first(1 + pair % 60));
    REQUIRE(copy(session.append(std::span(text).subspan(1 + pair % 60))) == want);
  }
}

TEST_CASE("SE-18 a token callback may use other sessions, and not its own") {
  const Model model =
      Model::load(golden_model("fp8"), {.backend = {.num_threads = 1}, .kv_cache_tokens = 1024});
  const Tokens prompt = some_tokens(20, 6);
  Session session(model);
  const Tokens want = session.generate(prompt, greedy(6)).tokens;
  std::optional<Session> other(std::in_place, model);
  other->append(prompt);
  std::stop_source stop;
  GenerateOptions options = greedy(6);
  options.cancel = stop.get_token();
  int calls = 0;
  const Generation got = session.generate(prompt, options, [&](const GeneratedToken&) {
    check_error(ErrorCode::busy, "", [&] { session.append(1); });
    check_error(ErrorCode::busy, "", [&] { session.truncate(0); });
    check_error(ErrorCode::busy, "", [&] { static_cast<void>(session.fork()); });
    check_error(ErrorCode::busy, "", [&] { session.generate(prompt, greedy(1)); });
    Session made(model);
    CHECK(made.generate(prompt, greedy(6)).tokens == want);
    if (other) other->append(prompt[0]);
    if (++calls == 2) other.reset();
    if (calls == 4) stop.request_stop();
    return true;
  });
  CHECK(got.finish_reason == FinishReason::cancelled);
  CHECK(got.tokens == Tokens(want.begin(), want.begin() + 4));
  CHECK(session.generate(prompt, greedy(6)).tokens == want);
}

TEST_CASE("SA-14 a mask hook that is wrong ends its generation only") {
  const Model model =
      Model::load(golden_model("fp8"), {.backend = {.num_threads = 1}, .kv_cache_tokens = 1024});
  const Tokens prompt = some_tokens(20, 7);
  Session session(model), other(model);
  const Tokens want = other.generate(prompt, greedy(5)).tokens;
  const std::vector<std::uint32_t> short_mask(1, ~0u), long_mask(999, ~0u), none(256 / 32, 0u);
  for (const auto* mask : {&short_mask, &long_mask, &none}) {
    GenerateOptions options = greedy(5);
    options.allowed = [&](std::span<const TokenId>) { return std::span(*mask); };
    check_error(ErrorCode::invalid_argument, "", [&] { session.generate(prompt, options); });
    CHECK(session.generate(prompt, greedy(5)).tokens == want);
  }
  GenerateOptions options = greedy(5);
  options.allowed = [](std::span<const TokenId>) -> std::span<const std::uint32_t> {
    throw std::runtime_error("mine");
  };
  CHECK_THROWS_AS(session.generate(prompt, options), std::runtime_error);
  CHECK(session.generate(prompt, greedy(5)).tokens == want);
  CHECK(other.generate(prompt, greedy(5)).tokens == want);
}

TEST_CASE("SA-07 SA-10 SA-11 SA-13 lists that are foreign or long") {
  const Model model = Model::load(fs::path(DSV32_SOURCE_DIR) / "examples/tiny_model",
                                  {.backend = {.num_threads = 1}, .kv_cache_tokens = 8192});
  Session session(model);
  const Tokens prompt = some_tokens(20, 8);
  const Generation want = session.generate(prompt, greedy(8));
  GenerateOptions options = greedy(8);
  for (const TokenId token : {-1, 2048, std::numeric_limits<TokenId>::min()}) {
    options.stop_token_ids = {token};
    check_error(ErrorCode::invalid_argument, "token", [&] { session.generate(prompt, options); });
  }
  options.stop_token_ids.assign(1000000, 2047);
  CHECK(session.generate(prompt, options).tokens == want.tokens);
  options = greedy(8);
  options.sampling->logit_bias.assign(1000000, {2047, -1.0f});
  CHECK(session.generate(prompt, options).tokens == want.tokens);
  options = greedy(8);
  options.sampling->top_logprobs = 1000000;
  check_error(ErrorCode::invalid_argument, "top_logprobs",
              [&] { session.generate(prompt, options); });
  options = greedy(8);
  for (int i = 0; i < 1000; ++i) options.stop_strings.push_back("never " + std::to_string(i));
  CHECK(session.generate(prompt, options).text == want.text);
  options.stop_strings = {std::string(1 << 20, 'x')};
  check_error(ErrorCode::limit, "stop strings", [&] { session.generate(prompt, options); });
  const Tokens million(1000000, 5);
  check_error(ErrorCode::context_length, "", [&] { session.append(million); });
  const Tokens before(session.tokens().begin(), session.tokens().end());
  check_error(ErrorCode::context_length, "", [&] { session.generate(million, greedy(1)); });
  CHECK(std::ranges::equal(session.tokens(), before));
  CHECK(session.generate(prompt, greedy(8)).tokens == want.tokens);
}

TEST_CASE("PA-16 an event callback that throws, stops, or uses its session") {
  const Model model =
      Model::load(fs::path(DSV32_SOURCE_DIR) / "examples/tiny_model", {.kv_cache_tokens = 1024});
  Session session(model);
  const std::vector<Message> messages = {{.content = "What is 47 + 38?"}};
  ChatOptions options;
  options.generate = greedy(60);
  const auto ask = [&](const std::function<bool(const ParseEvent&)>& on_event) {
    return chat(session, messages, ThinkingMode::thinking, options, on_event);
  };
  const std::string want = ask({}).message.content;
  int events = 0;
  CHECK_THROWS_AS(ask([&](const ParseEvent&) -> bool {
                    if (++events == 3) throw std::runtime_error("mine");
                    return true;
                  }),
                  std::runtime_error);
  CHECK(events == 3);
  CHECK(ask({}).message.content == want);
  events = 0;
  CHECK(ask([&](const ParseEvent&) {
          check_error(ErrorCode::busy, "", [&] { session.append(1); });
          return ++events < 2;
        }).finish_reason == FinishReason::cancelled);
  CHECK(events == 2);
  CHECK(ask({}).message.content == want);
}

TEST_CASE("what tokens() returned may be appended, synced and continued") {
  const Model model =
      Model::load(golden_model("fp8"), {.backend = {.num_threads = 1}, .kv_cache_tokens = 4096});
  const Tokens text = some_tokens(70, 12);
  Tokens twice = text;
  twice.insert(twice.end(), text.begin(), text.end());
  Session plain(model), session(model);
  const Bits want = copy(plain.append(twice));
  session.append(text);
  CHECK(copy(session.append(session.tokens())) == want);
  CHECK(Tokens(session.tokens().begin(), session.tokens().end()) == twice);
  session.truncate(100);
  const Bits half = copy(plain.sync(std::span(twice).first(100)));
  CHECK(copy(session.sync(session.tokens())) == half);
  CHECK(session.generate(session.tokens(), greedy(4)).tokens ==
        plain.generate(std::span(twice).first(100), greedy(4)).tokens);
}

TEST_CASE("a child of fork() may destroy its sessions, whatever ran at that moment") {
  if (kSanitized) return;
  // Forks inside a pass, while the lock of passes is held.
  class Forking final : public Executor {
   public:
    int concurrency() const noexcept override { return 2; }
    void run(int count, const std::function<void(int)>& part) override {
      if (std::exchange(armed, false)) in_pass();
      for (int i = 0; i < count; ++i) part(i);
    }
    bool armed = false;
    std::function<void()> in_pass;
  };
  const auto executor = std::make_shared<Forking>();
  const Model model =
      Model::load(golden_model("fp8"), {.backend = {.executor = executor}, .kv_cache_tokens = 256});
  const Tokens text = some_tokens(40, 13);
  std::optional<Session> other(model);
  const Bits want = copy(other->append(text));
  int status = -1;
  executor->in_pass = [&] {
    const pid_t child = ::fork();
    if (child == 0) {
      alarm(20);  // a child that hangs dies
      const bool empty = model.free_cache_tokens() == 0;
      bool refused = false;
      try {
        other->append(1);
      } catch (const Error& error) {
        refused = error.code() == ErrorCode::state;
      }
      other.reset();
      _exit(empty && refused ? 0 : 1);
    }
    waitpid(child, &status, 0);
  };
  executor->armed = true;
  Session session(model);
  CHECK(copy(session.append(text)) == want);
  CHECK(status == 0);
}

}  // namespace
}  // namespace dsv32::test
