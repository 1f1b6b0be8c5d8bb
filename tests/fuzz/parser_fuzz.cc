// Model output in any pieces, by its text or by its tokens: the same events as in one, every byte
// in one of them, and arguments that are JSON.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "dsv32/tool_call_parser.h"

#include "lib/base/json.h"
#include "lib/text/utf8.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/parse_events.h"

namespace {

using namespace dsv32;

// The input's first byte.
enum Flag : unsigned {
  kV31 = 1,
  kReasoning = 2,
  kStrict = 4,
  kStop = 8,
  kNoCalls = 16,
  kDeclared = 32,
  kByTokens = 64,
  kRoomy = 128,
};

struct Piece {
  std::string text;
  bool marker = false;
};

// Two bytes stand for floods of white space, longer than what is held between calls.
std::string flooded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\x01' && out.size() < 100'000) {
      out.append(5000, '\n');
    } else if (c == '\x02' && out.size() < 100'000) {
      out.append(5000, ' ');
    } else {
      out += c;
    }
  }
  return out;
}

// With tokens every marker is one, but for those behind a byte of 3.
std::vector<Piece> pieces_of(std::string text, bool by_tokens) {
  std::vector<Piece> out(1);
  if (!by_tokens) {
    out[0].text = std::move(text);
    return out;
  }
  for (std::size_t at = 0; at < text.size();) {
    const auto found = std::ranges::find_if(test::kMarkers, [&](const std::string& marker) {
      return text.compare(at, marker.size(), marker) == 0;
    });
    if (found == test::kMarkers.end() || (at > 0 && text[at - 1] == '\x03')) {
      out.back().text += text[at++];
      continue;
    }
    out.push_back({*found, true});
    out.emplace_back();
    at += found->size();
  }
  return out;
}

struct Reading {
  ToolCallParser parser;
  std::vector<ParseEvent> events{};

  void take(std::vector<ParseEvent> more) { events.insert(events.end(), more.begin(), more.end()); }
};

Reading read(ToolCallParser parser, const std::vector<Piece>& pieces, bool by_tokens,
             std::size_t size, FinishReason finish) {
  Reading out{.parser = std::move(parser)};
  for (const Piece& piece : pieces) {
    const std::string_view text = piece.text;
    const std::size_t step = piece.marker ? std::max<std::size_t>(text.size(), 1) : size;
    for (std::size_t at = 0; at < text.size(); at += std::min(step, text.size() - at)) {
      const std::string_view part = text.substr(at, step);
      out.take(by_tokens ? out.parser.feed(part, piece.marker) : out.parser.feed(part));
    }
  }
  out.take(out.parser.finish(finish));
  return out;
}

void check(const Reading& got, const std::string& text, bool strict) {
  fuzz::require(test::range_fault(got.events, text, strict).empty());
  std::string content, reasoning;
  for (const ParseEvent& event : got.events) {
    if (event.kind == ParseEvent::Kind::content) content += event.text;
    if (event.kind == ParseEvent::Kind::reasoning) reasoning += event.text;
  }
  const Message& message = got.parser.message();
  fuzz::require(content == message.content && reasoning == message.reasoning);
  for (const ToolCall& call : message.tool_calls) {
    if (!strict) fuzz::require(parse_json(call.arguments_json, "arguments").is_object());
  }
}

bool same(const Message& x, const Message& y) {
  if (x.content != y.content || x.reasoning != y.reasoning) return false;
  return std::ranges::equal(x.tool_calls, y.tool_calls, [](const ToolCall& a, const ToolCall& b) {
    return a.name == b.name && a.arguments_json == b.arguments_json;
  });
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const unsigned flags = data[0];
  ToolCallParserOptions options{.strict = (flags & kStrict) != 0};
  if ((flags & kRoomy) == 0) options.max_call_bytes = 200;
  options.max_calls = 3;
  options.calls = (flags & kNoCalls) == 0;
  if ((flags & kDeclared) != 0) options.tool_names = {"f", "w"};
  const ToolCallParser parser((flags & kV31) != 0 ? ChatFormat::v31 : ChatFormat::v32,
                              (flags & kReasoning) != 0, options);
  const FinishReason finish = (flags & kStop) != 0 ? FinishReason::stop : FinishReason::length;
  const bool by_tokens = (flags & kByTokens) != 0;
  const std::vector<Piece> pieces =
      pieces_of(flooded(fuzz::text_of(data + 2, size - 2)), by_tokens);
  return fuzz::run([&] {
    std::string text;
    for (const Piece& piece : pieces) text += valid_utf8(piece.text);
    const Reading whole = read(parser, pieces, by_tokens, text.size() + 1, finish);
    const Reading parts = read(parser, pieces, by_tokens, 1 + data[1] % 16, finish);
    check(whole, text, options.strict);
    check(parts, text, options.strict);
    fuzz::require(test::same_events(whole.events, parts.events));
    fuzz::require(same(whole.parser.message(), parts.parser.message()));
    fuzz::require(std::ranges::equal(whole.parser.faults(), parts.parser.faults()));
    fuzz::require(options.calls || whole.parser.message().tool_calls.empty());
  });
}
