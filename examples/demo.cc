// What the bundled model shows: an answer, a tool call, a fact found far outside any window, and
// many answers at once.
// Takes its questions from MODEL_DIR/demo.json; exits 1 unless everything happens.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dsv32/dsv32.h"

#include "cli/json_text.h"
#include "cli/tools.h"

namespace {

using Json = nlohmann::ordered_json;
using dsv32::ThinkingMode;

constexpr std::size_t kTimesTopk = 16;  // the document's length, in index_topk

void require(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error(what);
}

Json read_json(const std::filesystem::path& file) {
  std::ifstream stream(file);
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  std::optional<Json> value = cli::parse_json(text);
  require(value.has_value(), file.string() + " is missing or not JSON");
  return *value;
}

bool contains_all(const std::string& text, const Json& words) {
  bool all = !words.empty();
  for (const Json& word : words)
    all = all && text.find(word.get<std::string>()) != std::string::npos;
  return all;
}

double per_second(std::size_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

double per_cent(std::uint64_t part, std::uint64_t whole) {
  return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0;
}

void print_usage(const dsv32::Usage& usage) {
  std::printf("  [%zu prompt tokens, %zu kept from before, %.0f/s; %zu written, %.0f/s]\n",
              usage.prompt_tokens, usage.cached_tokens,
              per_second(usage.prompt_tokens - usage.cached_tokens, usage.prefill_seconds),
              usage.generated_tokens, per_second(usage.generated_tokens, usage.decode_seconds));
  const dsv32::SparseStats& sparse = usage.sparse;
  std::printf(
      "  [keys visible %llu, scored by the indexer %llu, read by attention %llu: %.1f %%]\n",
      static_cast<unsigned long long>(sparse.keys_visible),
      static_cast<unsigned long long>(sparse.keys_scored),
      static_cast<unsigned long long>(sparse.keys_read),
      per_cent(sparse.keys_read, sparse.keys_visible));
}

void print_question(const std::string& text) {
  constexpr std::size_t kShown = 160;
  if (text.size() <= kShown)
    std::printf("  user: %s\n", text.c_str());
  else
    std::printf("  user: %s\n  ... (%zu bytes) ...\n%s\n", text.substr(0, kShown / 2).c_str(),
                text.size(), text.substr(text.size() - kShown / 2).c_str());
}

dsv32::ChatOptions greedy() {
  dsv32::ChatOptions options;
  options.generate.sampling = dsv32::SamplingParams{.temperature = 0.0f};
  options.generate.max_tokens = 400;
  return options;
}

// One answer, printed as it comes: thinking in brackets.
dsv32::ChatTurn ask(dsv32::Session& session, const std::vector<dsv32::Message>& messages,
                    ThinkingMode mode) {
  const dsv32::ChatOptions options = greedy();
  bool thinking = false;
  std::printf("  model: ");
  const dsv32::ChatTurn turn =
      dsv32::chat(session, messages, mode, options, [&](const dsv32::ParseEvent& event) {
        const bool reasoning = event.kind == dsv32::ParseEvent::Kind::reasoning;
        if (!reasoning && event.kind != dsv32::ParseEvent::Kind::content) return true;
        if (reasoning != thinking) std::fputs(reasoning ? "(" : ") ", stdout);
        thinking = reasoning;
        std::fputs(event.text.c_str(), stdout);
        std::fflush(stdout);
        return true;
      });
  std::printf("%s\n", thinking ? ")" : "");
  print_usage(turn.usage);
  return turn;
}

ThinkingMode mode_of(const Json& part) {
  return part.value("thinking", true) ? ThinkingMode::thinking : ThinkingMode::chat;
}

// {"question", "expect": [words], "thinking"}
void plain_answer(const dsv32::Model& model, const Json& part) {
  std::printf("\n== An answer\n");
  dsv32::Session session(model);
  const auto question = part.at("question").get<std::string>();
  print_question(question);
  const auto turn = ask(session, {{.role = dsv32::Role::user, .content = question}}, mode_of(part));
  require(turn.message.tool_calls.empty(), "the plain question led to a tool call");
  require(contains_all(turn.message.content, part.at("expect")), "the plain answer is wrong");
}

// The model's calls as JSON, checked; their results as messages.
std::vector<dsv32::Message> run_calls(const std::vector<dsv32::ToolCall>& calls,
                                      const std::vector<cli::Tool>& tools, const Json& part) {
  std::vector<dsv32::Message> results;
  std::string all_results;
  require(calls.size() == part.at("calls").size(), "the model made another number of calls");
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const std::optional<Json> read = cli::parse_json(calls[i].arguments_json);
    require(read.has_value(), "the arguments are not JSON");
    const Json& arguments = *read;
    const Json call = {{"name", calls[i].name}, {"arguments", arguments}};
    std::printf("  tool call: %s\n", call.dump().c_str());
    require(nlohmann::json(call) == nlohmann::json(part.at("calls")[i]),
            "it is not the call that was expected");
    const auto result = cli::run_tool_by_name(tools, calls[i].name, calls[i].arguments_json, {});
    std::printf("  tool result: %s\n", result.text.c_str());
    require(result.ok, "the tool failed");
    all_results += result.text;
    results.push_back({.role = dsv32::Role::tool, .content = result.text});
  }
  require(contains_all(all_results, part.at("expect")), "the tools did not say what was expected");
  return results;
}

// {"question", "calls": [{"name", "arguments"}], "expect": [words], "system", "tools": [names]}
void tool_call(const dsv32::Model& model, const std::vector<cli::Tool>& tools, const Json& part) {
  std::printf("\n== Thinking with a tool\n");
  const auto question = part.at("question").get<std::string>();
  const Json words = part.at("expect");
  for (const Json& word : words)
    require(question.find(word.get<std::string>()) == std::string::npos,
            "the question already holds the answer");
  dsv32::Message system{.role = dsv32::Role::system,
                        .content = part.value("system", "You are a helpful assistant.")};
  for (const Json& name : part.at("tools"))
    for (const cli::Tool& tool : tools)
      if (tool.name == name.get<std::string>()) system.tools_json.push_back(tool.schema_json);
  require(system.tools_json.size() == part.at("tools").size(), "a tool is missing from tools.json");

  dsv32::Session session(model);
  std::vector<dsv32::Message> messages = {system, {.role = dsv32::Role::user, .content = question}};
  print_question(question);
  const auto first = ask(session, messages, ThinkingMode::thinking);
  require(!first.message.reasoning.empty(), "the model did not think");
  messages.push_back(first.message);
  for (auto& result : run_calls(first.message.tool_calls, tools, part))
    messages.push_back(std::move(result));
  const auto second = ask(session, messages, ThinkingMode::thinking);
  require(second.message.tool_calls.empty(), "the model called again instead of answering");
  require(contains_all(second.message.content, words), "the answer does not use the tool's result");
}

// {"document", "question", "expect": [words], "before": text in front of the document}
void far_fact(const dsv32::Model& model, const Json& part) {
  const auto topk = static_cast<std::size_t>(model.config().index_topk);
  const auto document = part.at("document").get<std::string>();
  const auto question = part.at("question").get<std::string>();
  const auto before = part.value("before", "Read this text:\n");
  const auto tokenizer = model.tokenizer();
  const std::vector<dsv32::TokenId> ids = tokenizer.encode(document);
  require(ids.size() >= kTimesTopk * topk, "the document is too short to prove anything");
  const auto ask_about = [&](const std::string& text) {
    dsv32::Session session(model);
    const std::string content = before + text + "\n\n" + question;
    print_question(content);
    return ask(session, {{.role = dsv32::Role::user, .content = content}}, mode_of(part));
  };

  std::printf("\n== A fact in a document of %zu tokens; each query reads %zu\n", ids.size(), topk);
  const auto found = ask_about(document);
  require(contains_all(found.message.content, part.at("expect")), "the fact was not found");
  const dsv32::SparseStats& sparse = found.usage.sparse;
  require(sparse.keys_scored > 0 && sparse.keys_read < sparse.keys_visible / 4,
          "attention was not sparse");

  std::printf("\n== The same question with the document's last %zu tokens: a window of that size\n",
              topk);
  const auto window = tokenizer.decode(std::span(ids).last(topk));
  const auto missed = ask_about(window);
  require(!contains_all(missed.message.content, part.at("expect")),
          "the window holds the fact, so finding it proves nothing");
  std::printf("  as it must be: the fact is not in the window\n");
}

// Whether two answers are the same tokens with the same logprobs, bit for bit.
bool same_answer(const dsv32::ChatTurn& x, const dsv32::ChatTurn& y) {
  const auto same = [](const dsv32::Sample& a, const dsv32::Sample& b) {
    return a.token == b.token && std::memcmp(&a.logprob, &b.logprob, sizeof a.logprob) == 0;
  };
  const auto &a = x.generation.samples, &b = y.generation.samples;
  return x.message.content == y.message.content && x.finish_reason == y.finish_reason &&
         std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

// Runs the engine until all have answered; how many passes had a row of each of them.
std::size_t run_together(dsv32::Engine& engine, std::vector<dsv32::ChatStream>& streams) {
  std::size_t full = 0;
  while (!engine.idle()) {
    std::size_t rows = 0;
    for (const dsv32::RequestUpdate& update : engine.step()) {
      if (update.error) std::rethrow_exception(update.error);
      const bool ended = update.finish_reason != dsv32::FinishReason::none;
      rows += !update.tokens.empty() || ended ? 1 : 0;
      for (const dsv32::GeneratedToken& token : update.tokens) streams[update.tag].feed(token);
      if (!ended) continue;
      dsv32::Generation end{.finish_reason = update.finish_reason, .usage = update.usage};
      end.stop_token = update.stop_token;
      streams[update.tag].finish(end);
    }
    full += rows == streams.size() ? 1 : 0;
  }
  return full;
}

// {"questions": [{"question", "expect"}], "thinking"}
void together(const dsv32::Model& model, const Json& part) {
  const Json& list = part.at("questions");
  std::printf("\n== %zu questions at once\n", list.size());
  const auto messages = [&](std::size_t i) {
    return std::vector<dsv32::Message>{{.content = list[i].at("question").get<std::string>()}};
  };
  dsv32::Engine engine(model);
  std::vector<dsv32::ChatStream> streams;
  for (std::size_t i = 0; i < list.size(); ++i) {
    dsv32::ChatStream& stream = streams.emplace_back(model, messages(i), mode_of(part), greedy());
    engine.submit({.prompt = {stream.prompt().begin(), stream.prompt().end()},
                   .options = stream.generate_options(),
                   .tag = i});
  }
  const std::size_t full = run_together(engine, streams);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const dsv32::ChatTurn turn = streams[i].turn();
    std::printf("  user: %s\n  model: (%s) %s\n", messages(i)[0].content.c_str(),
                turn.message.reasoning.c_str(), turn.message.content.c_str());
    require(contains_all(turn.message.content, list[i].at("expect")), "this answer is wrong");
    dsv32::Session session(model);
    require(same_answer(turn, dsv32::chat(session, messages(i), mode_of(part), greedy())),
            "this answer is another one alone");
  }
  const dsv32::EngineStats stats = engine.stats();
  std::printf("  each is, bit for bit, what it is alone; of %llu passes %zu had a row of all %zu\n",
              static_cast<unsigned long long>(stats.steps), full, list.size());
  require(2 * full >= stats.steps, "less than half of the passes had a row of each");
}

dsv32::Model load(const std::filesystem::path& dir) {
  std::size_t fp8 = 0;
  std::size_t all = 0;
  {
    const auto checkpoint = dsv32::Checkpoint::open(dir);
    for (const dsv32::TensorInfo& tensor : checkpoint.tensors()) {
      all += tensor.data.size();
      fp8 += tensor.dtype == "F8_E4M3" ? tensor.data.size() : 0;
    }
  }
  require(fp8 > 0, "the model's weights are not in FP8");
  const auto model = dsv32::Model::load(dir, {.kv_cache_tokens = 8192, .require_sparse = true});
  const dsv32::ModelConfig& config = model.config();
  std::printf("%s: %d layers, %.1f of %.1f MB in FP8, kernels %s\n", dir.string().c_str(),
              config.num_hidden_layers, static_cast<double>(fp8) / 1e6,
              static_cast<double>(all) / 1e6, std::string(model.kernel_set()).c_str());
  std::printf("sparse attention: the indexer chooses %d tokens for each query and layer\n",
              config.index_topk);
  return model;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) return std::fprintf(stderr, "usage: %s MODEL_DIR TOOLS_DIR\n", argv[0]), 2;
  const std::filesystem::path dir = argv[1];
  const Json demo = read_json(dir / "demo.json");
  const auto tools = cli::load_tools(std::filesystem::path(argv[2]) / "tools.json");
  const dsv32::Model model = load(dir);
  plain_answer(model, demo.at("answer"));
  tool_call(model, tools, demo.at("tool"));
  far_fact(model, demo.at("far_fact"));
  together(model, demo.at("together"));
  return 0;
} catch (const std::exception& error) {
  std::fflush(stdout);
  return std::fprintf(stderr, "demo: %s\n", error.what()), 1;
}
