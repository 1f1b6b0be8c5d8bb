// Whatever floating-point state a thread comes with: the same bits, no trap, and its state back.
#if defined(__x86_64__)

#include "tests/model/reports_W4.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/float_state.h"
#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

const Message* messages() {
  static const Message list[] = {
      {.role = Role::system,
       .content = "s",
       .tools_json = {R"({"name": "f", "x": [0.1, 1e-7, 2.5e20, 123456789.123456789]})"}},
      {.content = "What is 47 + 38?"}};
  return list;
}

std::string parsed() {
  ToolCallParser parser(ChatFormat::v32, false);
  parser.feed(
      "Hi\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"a\" "
      "string=\"false\">0.1</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>");
  parser.finish(FinishReason::stop);
  return parser.message().tool_calls.at(0).arguments_json;
}

std::string sampled(const SamplingParams& params, std::span<const float> logits) {
  Sampler sampler(params);
  sampler.observe(text());
  sampler.accept(7);
  return bytes(sampler.sample(logits)) + bytes(sampler.sample(logits));
}

struct Call {
  const char* name;
  std::function<std::string()> call;
};

// Before and behind loading.
std::vector<Call> calls_of_files() {
  const std::string config = conformance::read_file(golden("fp8") + "/config.json");
  return {
      {"ModelConfig::from_json",
       [config] {
         const ModelConfig c = ModelConfig::from_json(config);
         const float values[] = {c.rms_norm_eps, c.rope_theta, c.routed_scaling_factor, c.mscale};
         return bytes(values);
       }},
      {"Checkpoint::open",
       [] {
         const Checkpoint checkpoint = Checkpoint::open(golden("fp8"));
         return checkpoint.tensors()[0].name;
       }},
      {"Checkpoint::problems",
       [] {
         const auto problems = Checkpoint::open(golden("fp8"), 1).problems(Verify::all);
         return problems.empty() ? std::string("none") : problems[0].message;
       }},
      {"Checkpoint::fingerprint", [] { return Checkpoint::open(golden("fp8")).fingerprint(); }},
      {"Checkpoint::plan",
       [] {
         const Plan plan = Checkpoint::open(golden("fp8")).plan({.memory_bytes = 12345});
         return plan.reason;
       }},
      {"available_backends", [] { return available_backends()[0].name; }},
      {"resolve_model", [] { return resolve_model(golden("fp8"), "/").string(); }},
      {"Model::load", [] { return logits(load_with_threads(), text()); }},
      {"Model::default_sampling",
       [] {
         const SamplingParams p = Model::load(kTiny, {.kv_cache_tokens = 64}).default_sampling();
         const float values[] = {p.temperature, p.top_p};
         return bytes(values);
       }},
      {"Model::load, given up",
       [] {
         const Model model =
             Model::load(golden("fp8"), {.on_progress = [](double part) { return part < 0.3; }});
         return std::string("loaded");
       }},
      {"Tokenizer::load",
       [] {
         const Tokenizer tokenizer = Tokenizer::load(kTiny + "/tokenizer.json");
         return tokenizer.decode(tokenizer.encode("abc 1.5 \xE6\x97\xA5"));
       }},
  };
}

std::vector<Call> calls_of_sessions(const Model& model) {
  const std::span all(text());
  GenerateOptions options;
  options.sampling = SamplingParams{.temperature = 0.7f,
                                    .top_p = 0.9f,
                                    .min_p = 0.01f,
                                    .repetition_penalty = 1.1f,
                                    .top_logprobs = 3,
                                    .seed = 5};
  options.max_tokens = 8;
  return {
      {"append", [=] { return logits(model, all); }},
      {"append, a token that is none", [=] { return logits(model, Tokens{-1}); }},
      {"sync",
       [=] {
         Session session(model);
         session.sync(all.first(100));
         return bytes(session.sync(all)) + std::to_string(session.last_reuse().matched);
       }},
      {"append_together",
       [=] {
         Session a(model), b(model);
         const SessionTokens list[] = {{&a, all.first(70)}, {&b, all.subspan(70)}};
         append_together(list);
         const Session fork = a.fork();
         return bytes(a.logits()) + bytes(b.logits()) + bytes(fork.logits());
       }},
      {"generate",
       [=] {
         Session session(model);
         std::string out;
         session.generate(all, options, [&](const GeneratedToken& token) {
           out += bytes(token.sample);
           return true;
         });
         return out;
       }},
      {"chat",
       [] {
         Session session(bundled());
         ChatOptions chat_options;
         chat_options.generate.max_tokens = 30;
         chat_options.generate.sampling = SamplingParams{.seed = 3};
         const ChatTurn turn = chat(session, {messages(), 2}, ThinkingMode::thinking, chat_options);
         return turn.message.reasoning + turn.message.content;
       }},
  };
}

std::vector<Call> calls_of_text_and_samplers() {
  static const Bits plain = [] {
    Bits row;
    for (int i = 0; i < 5000; ++i)
      row.push_back(static_cast<float>((i * 7919) % 1000) * 0.0137f - 3.0f);
    row[17] = 1e-42f;  // subnormal
    return row;
  }();
  static const Bits spoilt(300, std::nanf(""));
  std::vector<Call> calls = {
      {"render",
       [] {
         return ChatTemplate().render({messages(), 2}, ThinkingMode::chat).text;
       }},
      {"ToolCallParser", parsed},
      {"a NaN", [] { return sampled({}, spoilt); }},
      {"no sampler", [] { return sampled({.temperature = std::nanf("")}, plain); }},
  };
  for (const float temperature : {0.0f, 0.3f, 1.0f, 1.7f}) {
    const SamplingParams cut{.temperature = temperature,
                             .top_p = 0.8f,
                             .top_k = temperature > 1 ? 40 : 0,
                             .min_p = 0.01f,
                             .repetition_penalty = 1.3f,
                             .frequency_penalty = 0.1f,
                             .logit_bias = {{3, 0.1f}},
                             .top_logprobs = 5,
                             .seed = 9};
    calls.push_back({"sample", [cut] { return sampled(cut, plain); }});
    calls.push_back({"sample, no limits", [temperature] {
                       return sampled({.temperature = temperature, .top_p = 1.0f, .seed = 2},
                                      plain);
                     }});
  }
  return calls;
}

// A path that grows computes with floats; whether that is exact depends on how many parts it has.
std::vector<Call> calls_with_paths(const std::string& deep) {
  const std::string dir = golden("fp8") + deep, none = dir + "/none.so";
  return {
      {"available_backends", [=] { return available_backends(none)[0].name; }},
      {"available_backends, relative",
       [=] { return available_backends("none.so" + deep)[0].name; }},
      {"unavailable_reason", [=] { return unavailable_reason(Device::cuda, none); }},
      {"relative", [=] { return unavailable_reason(Device::cuda, "none.so" + deep); }},
      {"resolve_model", [=] { return resolve_model(dir, "/").string(); }},
      {"a file", [=] { return resolve_model(dir + "/config.json", "/").string(); }},
      {"none in the hub", [=] { return resolve_model("a/b", dir).string(); }},
      {"Checkpoint::open", [=] { return Checkpoint::open(dir).fingerprint(); }},
      {"Checkpoint::open, none", [=] { return Checkpoint::open(none).fingerprint(); }},
      {"Tokenizer::load",
       [=] { return Tokenizer::load(kTiny + deep + "/tokenizer.json").decode(Tokens{9}); }},
      {"Model::load",
       [=] {
         const Model model = Model::load(dir, {.kv_cache_tokens = 64});
         return std::to_string(model.config().vocab_size);
       }},
  };
}

void check_calls(const std::vector<Call>& calls) {
  for (const Call& one : calls) {
    INFO(one.name);
    const std::string want = in_state({}, one.call);
    CHECK_FALSE(want.empty());
    for (const Alien& alien : kAliens) {
      // Instruments see memory and threads, not roundings: the two states that trap will do.
      if (kSanitized && (alien.state.vector & 0x1F80) != 0) continue;
      INFO(alien.name);
      CHECK((in_state(alien.state, one.call) == want));
    }
  }
}

TEST_CASE("reports_W4 files are read and models loaded to the same bits in any state") {
  check_calls(calls_of_files());
}

TEST_CASE("reports_W4 paths of any depth are read in any state") {
  for (std::string deep; deep.size() < 12; deep += "/.") {
    INFO(deep);
    check_calls(calls_with_paths(deep));
  }
}

TEST_CASE("reports_W4 passes have the same bits in any state, whatever the threads") {
  bundled();
  for (const int threads : {3, 1}) {
    check_calls(calls_of_sessions(load_with_threads(threads)));
    if (kSanitized) break;  // one thread has nobody to race with
  }
}

TEST_CASE("reports_W4 draws and texts are the same in any state") {
  check_calls(calls_of_text_and_samplers());
}

TEST_CASE("reports_W4 a model loaded in one state and asked in another has the same bits") {
  const std::string want = logits(load_with_threads(1), text());
  for (const Alien& alien : kAliens) {
    INFO(alien.name);
    std::optional<Model> model;
    in_state(alien.state, [&] { return model = load_with_threads(4), std::string(); });
    for (int i = 0; i < (kSanitized ? 2 : 5); ++i) CHECK((logits(*model, text()) == want));
  }
}

TEST_CASE("reports_W4 a state of its own costs less than half a percent of a step") {
  if (kSanitized) return;
  using Clock = std::chrono::steady_clock;
  const auto best = [](int times, auto&& call) {
    auto least = Clock::duration::max();
    for (int i = 0; i < times; ++i) {
      const auto start = Clock::now();
      call();
      least = std::min(least, Clock::now() - start);
    }
    return std::chrono::duration<double>(least).count();
  };
  constexpr int kMany = 1000, kOfAStep = 3;  // the pass, the draw, the clock
  const double many = best(20, [] {
    for (int i = 0; i < kMany; ++i) const FloatState ours;
  });
  Session session(bundled());
  session.append(text());
  const double step = best(50, [&] { session.append(TokenId{5}); });
  INFO(many / kMany << " s of " << step);
  CHECK(many / kMany * kOfAStep < 0.005 * step);
}

}  // namespace
}  // namespace dsv32::test

#endif
