// Any output, in any pieces, with and without its tokens: nothing is lost, and the pieces do not
// show.
#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include "dsv32/tool_call_parser.h"

#include "lib/base/json.h"
#include "lib/text/utf8.h"
#include "tests/conformance/messages.h"
#include "tests/support/catch.h"
#include "tests/support/new_seed.h"
#include "tests/support/parse_events.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

using conformance::Random;

constexpr int kOutputs = kSanitized ? 1500 : 20000;

// What a model wrote. Text alone is one piece; with tokens a marker is a piece of its own.
struct Piece {
  std::string text;
  bool marker = false;
};
struct Output {
  std::vector<Piece> pieces;
  bool by_tokens = false;

  std::string text() const {
    std::string out;
    for (const Piece& piece : pieces) out += valid_utf8(piece.text);
    return out;
  }
};

class OutputMaker {
 public:
  explicit OutputMaker(std::uint64_t seed) : random_{seed} {}

  Output make(ChatFormat format) {
    Output out{.pieces = {{}}, .by_tokens = random_.below(2) == 0};
    const std::size_t count = 1 + random_.below(24);
    for (std::size_t i = 0; i < count; ++i) {
      if (random_.below(3) == 0) {
        add(out, format == ChatFormat::v31 ? v31_call() : dsml_call());
      } else {
        add(out, word());
      }
    }
    return out;
  }
  Random& random() { return random_; }

 private:
  template <std::size_t n>
  std::string one_of(const std::array<const char*, n>& list) {
    return list.at(random_.below(n));
  }
  bool often() { return random_.below(8) != 0; }

  std::string word() {
    static constexpr std::array kWords{"The tide",
                                       " ",
                                       "\n",
                                       "\n\n",
                                       "\t\v",
                                       "<",
                                       "</",
                                       "｜",
                                       "<｜DS",
                                       "｜DSML｜",
                                       "\xEF\xBD",
                                       "\xFF",
                                       "潮",
                                       "🌊",
                                       "<think>",
                                       "</think>",
                                       "</thin",
                                       "<｜begin▁of▁sentence｜>",
                                       "<｜end▁of▁sentence｜>",
                                       "<｜DSML｜",
                                       "</｜DSML｜",
                                       "<｜DSML｜invoke",
                                       "<｜DSML｜invoke name=\"f\"",
                                       "<｜DSML｜invoke name=\"f\">\n",
                                       "</｜DSML｜invoke>",
                                       "</｜DSML｜invoke",
                                       "\n\n<｜DSML｜function_calls>\n",
                                       "<｜DSML｜function_calls\n",
                                       "</｜DSML｜function_calls>",
                                       "<｜DSML｜tool_calls>\r\n",
                                       "</｜DSML｜tool_calls>",
                                       "<｜DSML｜parameter name=\"a\" string=\"",
                                       "</｜DSML｜parameter>",
                                       "\n</｜DSML｜parameter",
                                       "name=",
                                       ">",
                                       "\"",
                                       "function_calls>",
                                       "<｜tool▁calls▁begin｜>",
                                       "<｜tool▁calls▁end｜>",
                                       "<｜tool▁call▁begin｜>",
                                       "<｜tool▁call▁end｜>",
                                       "<｜tool▁sep｜>",
                                       "{\"a\": 1}",
                                       "{}"};
    if (random_.below(40) == 0)
      return std::string(random_.below(9000), random_.below(2) ? ' ' : '\n');
    return one_of(kWords);
  }

  std::string space(const char* right) {
    static constexpr std::array kSpaces{"", "\n", "\n\n", "  \n", "\r\n"};
    return often() ? right : one_of(kSpaces);
  }

  std::string dsml_parameter() {
    static constexpr std::array kNames{"a", "b", "天", "a b"};
    static constexpr std::array kValues{
        "1", "{\"k\": [2]}", "x\ny", "<div>", "\xC3", "<｜DSML｜invoke>", "1}, \"admin\": true",
        "",  "\"\\ud800\""};
    return "<｜DSML｜parameter name=\"" + one_of(kNames) + "\" string=\"" +
           (random_.below(2) ? "true" : "false") + "\">" + one_of(kValues) +
           (often() ? "</｜DSML｜parameter>" : "") + space("\n");
  }

  std::string dsml_call() {
    static constexpr std::array kOpen{"\n\n<｜DSML｜function_calls>\n",
                                      "<｜DSML｜function_calls>",
                                      "<｜DSML｜function_calls\n",
                                      "\n<｜DSML｜tool_calls>\n",
                                      "",
                                      "\n\n"};
    static constexpr std::array kNames{"f", "g", "rm", ""};
    std::string out = often() ? std::string(kOpen[random_.below(2)]) : one_of(kOpen);
    for (std::size_t n = random_.below(3); n + 1 > 0; --n) {
      out += "<｜DSML｜invoke name=\"" + one_of(kNames) + "\">" + space("\n");
      for (std::size_t m = random_.below(4); m > 0; --m) out += dsml_parameter();
      if (often()) out += "</｜DSML｜invoke>";
      out += space("\n");
      if (random_.below(6) == 0) out += word();
    }
    return out + (often() ? "</｜DSML｜function_calls>" : "");
  }

  std::string v31_call() {
    static constexpr std::array kArguments{"{}", "{\"a\": 1}", "", " \n", "[1]", "{\"a\":", "{} x"};
    std::string out = often() ? "<｜tool▁calls▁begin｜>" : "";
    for (std::size_t n = random_.below(3); n + 1 > 0; --n) {
      out += "<｜tool▁call▁begin｜>" + std::string(often() ? "f" : "") + "<｜tool▁sep｜>" +
             one_of(kArguments) + (often() ? "<｜tool▁call▁end｜>" : "") + space("");
    }
    return out + (often() ? "<｜tool▁calls▁end｜>" : "");
  }

  // With tokens, what looks like a marker is one or not, by chance.
  void add(Output& out, const std::string& text) {
    if (!out.by_tokens) {
      out.pieces.back().text += text;
      return;
    }
    const bool as_tokens = often();
    for (std::size_t at = 0; at < text.size();) {
      std::size_t size = 0;
      for (const std::string& marker : kMarkers) {
        if (as_tokens && text.compare(at, marker.size(), marker) == 0) size = marker.size();
      }
      if (size > 0) {
        out.pieces.push_back({text.substr(at, size), true});
        out.pieces.push_back({});
      } else {
        out.pieces.back().text += text[at];
        size = 1;
      }
      at += size;
    }
  }

  Random random_;
};

struct Reading {
  std::vector<ParseEvent> events{};
  Message message{};
  std::vector<ParseEvent::Fault> faults{};
};

enum class Cut { whole, bytes, random };

// On the way the parser is left for its copy once.
Reading read(ToolCallParser parser, const Output& output, FinishReason finish, Cut cut,
             Random& random) {
  Reading out;
  const auto take = [&](std::vector<ParseEvent> events) {
    out.events.insert(out.events.end(), events.begin(), events.end());
  };
  for (const Piece& piece : output.pieces) {
    const std::string_view text = piece.text;
    if (piece.marker) {
      take(parser.feed(text, true));
      continue;
    }
    for (std::size_t at = 0, size = 0; at < text.size(); at += size) {
      size = cut == Cut::whole ? text.size() : cut == Cut::bytes ? 1 : 1 + random.below(40);
      const std::string_view part = text.substr(at, size);
      take(output.by_tokens ? parser.feed(part, false) : parser.feed(part));
      if (cut == Cut::random && random.below(8) == 0) {
        ToolCallParser copy = parser;
        parser.feed("</｜DSML｜invoke>");
        parser = std::move(copy);
      }
    }
  }
  take(parser.finish(finish));
  out.message = parser.message();
  out.faults.assign(parser.faults().begin(), parser.faults().end());
  return out;
}

bool same_message(const Message& x, const Message& y) {
  return x.content == y.content && x.reasoning == y.reasoning &&
         std::ranges::equal(x.tool_calls, y.tool_calls, [](const ToolCall& a, const ToolCall& b) {
           return a.name == b.name && a.arguments_json == b.arguments_json;
         });
}

// "" or what is wrong with one reading.
std::string fault_of(const Reading& got, const std::string& text, bool strict) {
  if (const std::string fault = range_fault(got.events, text, strict); !fault.empty()) return fault;
  std::string content, reasoning;
  std::size_t calls = 0;
  for (const ParseEvent& event : got.events) {
    if (event.kind == ParseEvent::Kind::content) content += event.text;
    if (event.kind == ParseEvent::Kind::reasoning) reasoning += event.text;
    if (event.kind == ParseEvent::Kind::call_end) ++calls;
  }
  if (content != got.message.content || reasoning != got.message.reasoning) return "texts differ";
  if (calls != got.message.tool_calls.size()) return "calls differ";
  for (const ToolCall& call : got.message.tool_calls) {
    if (!strict && !parse_json(call.arguments_json, "arguments").is_object()) return "no object";
  }
  if (got.faults.size() > 23) return "a list of faults that grows";
  return {};
}

TEST_CASE("nothing that a model writes is lost, in any pieces") {
  const std::uint64_t seed = new_seed();
  std::printf("DSV32_TEST_SEED=%llu repeats these outputs\n",
              static_cast<unsigned long long>(seed));
  OutputMaker maker(seed);
  Random& random = maker.random();
  std::size_t calls = 0, recovered = 0;
  for (int i = 0; i < kOutputs; ++i) {
    const ChatFormat format = random.below(3) == 0 ? ChatFormat::v31 : ChatFormat::v32;
    ToolCallParserOptions options{.strict = random.below(3) == 0};
    if (random.below(4) == 0) options.tool_names = {"f", "g"};
    if (random.below(8) == 0) options.max_call_bytes = random.below(300);
    if (random.below(8) == 0) options.calls = false;
    const bool in_reasoning = random.below(3) == 0;
    const FinishReason finish = random.below(2) ? FinishReason::stop : FinishReason::length;
    const Output output = maker.make(format);
    const std::string text = output.text();
    INFO("seed " << seed << ", output " << i << ": " << text);
    const ToolCallParser parser(format, in_reasoning, options);
    const Reading whole = read(parser, output, finish, Cut::whole, random);
    REQUIRE(fault_of(whole, text, options.strict) == "");
    for (const Cut cut : {Cut::bytes, Cut::random}) {
      const Reading other = read(parser, output, finish, cut, random);
      REQUIRE(fault_of(other, text, options.strict) == "");
      REQUIRE(same_events(whole.events, other.events));
      REQUIRE(same_message(whole.message, other.message));
      REQUIRE(whole.faults == other.faults);
    }
    if (!options.calls) REQUIRE(whole.message.tool_calls.empty());
    calls += whole.message.tool_calls.size();
    recovered += std::ranges::count(whole.faults, ParseEvent::Fault::block_not_opened) > 0 ? 1 : 0;
  }
  CHECK(calls > kOutputs / 4);  // the outputs are not only noise
  CHECK(recovered > kOutputs / 100);
}

}  // namespace
}  // namespace dsv32::test
