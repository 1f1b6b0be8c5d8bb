// What runs beside the model on the host: tokenizer, sampler, tool-call parser.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dsv32/sampler.h"
#include "dsv32/tokenizer.h"
#include "dsv32/tool_call_parser.h"

#include "benchmarks/harness.h"
#include "lib/base/check.h"

namespace dsv32::bench {
namespace {

namespace fs = std::filesystem;

// tokenizer.json of DeepSeek-V3.2, and en.txt, code.txt, zh.txt (scripts/lib/make_texts.py).
fs::path texts_folder() {
  const char* folder = std::getenv("DSV32_BENCH_TEXTS");
  return folder ? fs::path(folder) : fs::path(DSV32_SOURCE_DIR) / "build/bench-texts";
}

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

fs::path tokenizer_file(const Bench& bench) {
  return bench.smoke() ? fs::path(DSV32_SOURCE_DIR) / "examples/tiny_model/tokenizer.json"
                       : texts_folder() / "tokenizer.json";
}

std::string text_of(const Bench& bench, const std::string& name) {
  return bench.smoke() ? "Some text, \xE4\xB8\xAD\xE6\x96\x87, f(x);\n"
                       : read(texts_folder() / name);
}

std::string no_file(const fs::path& path) {
  return fs::exists(path) ? "" : "there is no " + path.string() + " (scripts/lib/make_texts.py)";
}

std::string vocabulary_note(const Tokenizer& tokenizer) {
  const int size = tokenizer.vocab_size();
  return size > 100'000 ? "" : formatted("; another vocabulary, of {} tokens", size);
}

// What a scalar loop reaches over the same bytes in the same minute: FNV-1a, a multiplication a
// byte.
std::string scalar_bytes(Bench& bench, std::string_view text) {
  volatile std::uint64_t sink = 0;
  const double time = bench.best([&] {
    std::uint64_t hash = 0xCBF29CE484222325u;
    for (const char c : text)
      hash = (hash ^ static_cast<unsigned char>(c)) * std::uint64_t{0x100000001B3};
    sink = hash;
  });
  static_cast<void>(sink);
  return formatted("; a scalar FNV-1a beside it: {:.0f} MB/s",
                   static_cast<double>(text.size()) / time / 1e6);
}

// The same for logits: the sum of std::exp, one by one.
std::string scalar_exponentials(Bench& bench, const std::vector<float>& row, float temperature) {
  volatile float sink = 0;
  const double time = bench.best([&] {
    float sum = 0;
    for (const float x : row) sum += std::exp((x - 30.0f) / temperature);
    sink = sum;
  });
  static_cast<void>(sink);
  return formatted("a scalar sum of std::exp beside it: {:.0f} us", 1e6 * time);
}

Result encode(Bench& bench, const std::string& name) {
  if (const std::string no = no_file(tokenizer_file(bench)); !no.empty()) return skipped(no);
  const std::string text = text_of(bench, name);
  if (text.empty()) return skipped("no text: scripts/lib/make_texts.py");
  const Tokenizer tokenizer = Tokenizer::load(tokenizer_file(bench));
  std::size_t tokens = 0;
  const double time = bench.best([&] { tokens = tokenizer.encode(text, true).size(); });
  return {.value = static_cast<double>(text.size()) / time / 1e6,
          .note = formatted("{} bytes, {} tokens{}{}", text.size(), tokens,
                            vocabulary_note(tokenizer), scalar_bytes(bench, text))};
}

Result decode(Bench& bench) {
  if (const std::string no = no_file(tokenizer_file(bench)); !no.empty()) return skipped(no);
  const Tokenizer tokenizer = Tokenizer::load(tokenizer_file(bench));
  double worst = 0;
  std::string note;
  for (const char* name : {"en.txt", "code.txt", "zh.txt"}) {
    const std::string text = text_of(bench, name);
    if (text.empty()) return skipped("no text: scripts/lib/make_texts.py");
    const std::vector<TokenId> tokens = tokenizer.encode(text, true);
    if (tokenizer.decode(tokens) != text) return missed("decode(encode(text)) is not the text");
    const double time = bench.best([&] { static_cast<void>(tokenizer.decode(tokens)); });
    const double rate = static_cast<double>(tokens.size()) / time / 1e6;
    worst = worst == 0 ? rate : std::min(worst, rate);
    note += formatted("{} {:.0f}; ", name, rate);
  }
  return {.value = worst,
          .note = note + "the slowest counts" + scalar_bytes(bench, text_of(bench, "zh.txt"))};
}

Result load(Bench& bench) {
  const fs::path file = tokenizer_file(bench);
  if (const std::string no = no_file(file); !no.empty()) return skipped(no);
  const double time = bench.best([&] { static_cast<void>(Tokenizer::load(file)); });
  const std::string json = read(file);
  return {.value = 1e3 * time,
          .note = formatted("{} bytes of JSON{}", json.size(), scalar_bytes(bench, json))};
}

// Normal logits; peaked: twenty of them stand out, as a trained model's do.
Result sample(Bench& bench, float temperature, bool peaked) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 2.5f);
  std::vector<float> row(129280);
  for (float& x : row) x = normal(random);
  for (std::size_t i = 7; peaked && i < row.size(); i += 6464) row[i] = 18.0f + normal(random);
  Sampler sampler({.temperature = temperature, .top_p = 0.95f, .seed = 1});
  return {.value = 1e6 * bench.best([&] { sampler.sample(row); }),
          .note = scalar_exponentials(bench, row, temperature)};
}

// An answer with reasoning, text, and calls whose arguments are files.
std::string tool_calls(std::size_t size) {
  std::string body;
  for (int line = 0; line < 100; ++line)
    body += formatted("  const auto x{} = f(\"{}\", {});  // line\n", line, line * 7, line * line);
  std::string out = "I look at it.\n\nFirst the files.</think>Here they are.";
  out += "\n\n<｜DSML｜function_calls>\n";
  for (int call = 0; out.size() < size; ++call) {
    out += formatted(
        "<｜DSML｜invoke name=\"write\">\n<｜DSML｜parameter name=\"path\" string=\"true\">a{}.cc"
        "</｜DSML｜parameter>\n<｜DSML｜parameter name=\"text\" "
        "string=\"true\">{}</｜DSML｜parameter>\n"
        "<｜DSML｜parameter name=\"mode\" string=\"false\">[1, {{\"a\": 2}}]</｜DSML｜parameter>\n"
        "</｜DSML｜invoke>\n",
        call, body);
  }
  return out + "</｜DSML｜function_calls>";
}

double parse_seconds(Bench& bench, std::string_view text, std::size_t piece) {
  return bench.best([&] {
    ToolCallParser parser(ChatFormat::v32, true, {.max_calls = 1 << 20});
    for (std::size_t at = 0; at < text.size(); at += piece) parser.feed(text.substr(at, piece));
    parser.finish(FinishReason::stop);
    if (!parser.faults().empty()) throw Error(ErrorCode::internal, "the benchmark's text is wrong");
  });
}

Result parse(Bench& bench) {
  const std::string text = tool_calls(bench.pick<std::size_t>(1'000'000, 10'000));
  const auto rate = [&](std::size_t piece) {
    return static_cast<double>(text.size()) / parse_seconds(bench, text, piece) / 1e6;
  };
  return {.value = rate(64),
          .note = formatted("whole {:.0f}, in pieces of 16 bytes {:.0f}, of 4 {:.0f}{}",
                            rate(text.size()), rate(16), rate(4), scalar_bytes(bench, text))};
}

// What no answer needs: white space and half markup, in the states that it could be slow in.
struct Flood {
  std::string_view name;
  std::string begin, unit;
};

std::vector<Flood> floods() {
  const std::string open = "\n\n<｜DSML｜function_calls>\n",
                    invoke = "<｜DSML｜invoke name=\"f\">\n";
  const std::string key = invoke + "<｜DSML｜parameter name=\"a\"",
                    value = key + " string=\"true\">";
  const std::string call = invoke + "</｜DSML｜invoke>", close = "</｜DSML｜function_calls>";
  std::vector<Flood> out{{"openers in text", "", "\n\n<｜DSML｜calls>\n"},
                         {"calls that break off", "", invoke},
                         {"tags between calls", open + call, "<｜DSML｜"},
                         {"broken calls", open, "<｜DSML｜invoke>\n"}};
  for (const auto& [name, begin] : {std::pair<std::string_view, std::string>{"text", ""},
                                    {"a name", open + "<｜DSML｜invoke"},
                                    {"a head", open + invoke},
                                    {"a key", open + key},
                                    {"a value", open + value},
                                    {"a value without its block", value},
                                    {"a parameter's end", open + value + "</｜DSML｜parameter>"},
                                    {"between calls", open + call},
                                    {"a broken call", open + invoke + "x</｜DSML｜invoke"},
                                    {"behind calls", open + call + close},
                                    {"behind the end", "<｜end▁of▁sentence｜>"}}) {
    out.push_back({name, begin, "\n"});
  }
  return out;
}

double flood_seconds(Bench& bench, const Flood& flood, std::size_t size, std::size_t piece) {
  std::string text = flood.begin;
  while (text.size() < size) text += flood.unit;
  return bench.best([&] {
    ToolCallParser parser(ChatFormat::v32, false);
    const std::string_view all = text;
    for (std::size_t at = 0; at < text.size(); at += piece) parser.feed(all.substr(at, piece));
    parser.finish(FinishReason::length);
  });
}

// Time of all floods together: one that is read again and again would be most of it.
Result parse_linear(Bench& bench) {
  const std::size_t size = bench.pick<std::size_t>(1'000'000, 10'000);
  double once = parse_seconds(bench, tool_calls(size), 64);
  double twice = parse_seconds(bench, tool_calls(2 * size), 64);
  for (const Flood& flood : floods()) {
    once += flood_seconds(bench, flood, size / 10, 1);
    twice += flood_seconds(bench, flood, size / 5, 1);
  }
  return {.value = twice / once};
}

Result parse_flood(Bench& bench) {
  const std::size_t size = bench.pick<std::size_t>(200'000, 2'000);
  double slowest = 0.0;
  std::string_view name;
  for (const Flood& flood : floods()) {
    const double seconds = flood_seconds(bench, flood, size, 1);
    if (seconds <= slowest) continue;
    slowest = seconds;
    name = flood.name;
  }
  return {.value = static_cast<double>(size) / slowest / 1e6,
          .note = formatted("slowest: {}", name)};
}

const Register rows([](std::vector<Row>& out) {
  const auto add = [&](std::string name, std::string shape, std::string unit, double goal,
                       bool higher, std::string basis, std::function<Result(Bench&)> run) {
    out.push_back({std::move(name), std::move(shape), std::move(unit), goal, higher,
                   std::move(basis), std::move(run)});
  };
  const auto texts = [](const char* name) {
    return [name](Bench& bench) { return encode(bench, name); };
  };
  const std::string vocabulary = "vocabulary of DeepSeek-V3.2, 1 thread";
  add("tokenizer_encode_en", "English, " + vocabulary, "MB/s", 25, true,
      "eight times Hugging Face's tokenizers", texts("en.txt"));
  add("tokenizer_encode_code", "code, " + vocabulary, "MB/s", 20, true,
      "eight times Hugging Face's tokenizers", texts("code.txt"));
  add("tokenizer_encode_zh", "Chinese, " + vocabulary, "MB/s", 25, true,
      "five times Hugging Face's tokenizers", texts("zh.txt"));
  add("tokenizer_decode", vocabulary, "Mtoken/s", 50, true, "a copy of a few bytes", decode);
  add("tokenizer_load", vocabulary, "ms", 180, false, "one pass over 8 MB of JSON", load);
  for (const bool peaked : {true, false}) {
    for (const float temperature : {1.0f, 0.6f}) {
      add(formatted("sampler_{}_t{:02}", peaked ? "peaked" : "flat",
                    static_cast<int>(temperature * 10 + 0.5f)),
          formatted("129,280 logits, temperature {}, top_p 0.95", temperature), "us",
          peaked ? 100 : 0, false, "two exponentials a logit in vector registers",
          [=](Bench& bench) { return sample(bench, temperature, peaked); });
    }
  }
  add("toolcall_parse", "1 MB of DSML in pieces of 64 bytes", "MB/s", 200, true,
      "every byte is looked at and copied a few times", parse);
  add("toolcall_parse_linear", "2 MB over 1 MB, and floods of white space", "times", 2.2, false,
      "linear: 2", parse_linear);
  add("toolcall_flood", "the slowest of 15 floods of white space or half markup, a byte a piece",
      "MB/s", 5, true, "a token's text is more than a byte", parse_flood);
});

}  // namespace
}  // namespace dsv32::bench
