// The tokenizer: the bundled one's round trips, and the attacks TK on tokenizer.json and text.
#include "dsv32/tokenizer.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>
#include <sys/mman.h>

#include "lib/base/json.h"
#include "lib/text/utf8.h"
#include "lib/text/vocabulary.h"
#include "tests/conformance/conformance.h"
#include "tests/conformance/messages.h"
#include "tests/support/catch.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

const std::string kFile = std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model/tokenizer.json";

const Tokenizer& bundled() {
  static const Tokenizer tokenizer = Tokenizer::load(kFile);
  return tokenizer;
}

// A token that a template's words become. Not all of them are flagged as special.
bool is_marker(TokenId id) {
  for (const char* marker : {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>",
                             "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜"}) {
    if (bundled().find(marker) == id) return true;
  }
  return false;
}

// The small tokenizer of the fuzz corpus, with a piece of its text replaced.
std::string small_with(const std::string& before, const std::string& after) {
  std::string text =
      conformance::read_file(std::string(DSV32_SOURCE_DIR) + "/tests/fuzz/corpus/tokenizer/small");
  if (before.empty()) return text;
  const std::size_t at = text.find(before);
  REQUIRE(at != std::string::npos);
  return text.replace(at, before.size(), after);
}

void refused(const std::string& before, const std::string& after) {
  INFO(before << " -> " << after);
  CHECK_THROWS_AS(parse_vocabulary(small_with(before, after)), Error);
}

TEST_CASE("the small tokenizer loads and merges") {
  const Vocabulary vocabulary = parse_vocabulary(small_with("", ""));
  CHECK(vocabulary.merges.find(vocabulary.byte_ids['a'], vocabulary.byte_ids['b']) != nullptr);
  // TK-04: both spellings of a merge.
  CHECK_NOTHROW(parse_vocabulary(small_with("[\"a\", \"b\"]", "\"a b\"")));
  refused("[\"a\", \"b\"]", "\"a b c\"");
  refused("[\"a\", \"b\"]", "[\"a\", \"b\", \"c\"]");
  refused("[\"a\", \"b\"]", "[\"a\", \"zz\"]");
}

TEST_CASE("TK-03 TK-17 ids and bytes that are wrong") {
  const std::string ab = "\"ab\": ";
  for (const char* id : {"0", "-1", "2147483648", "99999999999", "1.5", "\"7\"", "null"}) {
    const std::string text = small_with("", "");
    const std::size_t at = text.find(ab) + ab.size();
    const std::string old = text.substr(at, text.find_first_of(",}", at) - at);
    refused(ab + old, ab + id);
  }
  refused("\"a\": ", "\"aa\": ");  // the byte 'a' has no token
}

TEST_CASE("TK-06 added tokens that would never end") { refused("<｜begin▁of▁sentence｜>", ""); }

TEST_CASE("TK-07 other pre-tokenisers are refused by value") {
  refused("\\\\p{N}{1,3}", "(a+)+$");
  refused("\"ByteLevel\"", "\"Metaspace\"");
  refused("\"BPE\"", "\"Unigram\"");
}

TEST_CASE("TK-08 long runs of one kind are linear work") {
  const auto seconds = [](const std::string& unit, std::size_t bytes) {
    std::string text;
    while (text.size() < bytes) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const auto ids = bundled().encode(text);
    CHECK(bundled().decode(ids) == text);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (const char* unit : {"a", "^", " ", "\n", "你", "\u0301", "7", "aB", "ab ", "<"}) {
    INFO(unit);
    CHECK(seconds(unit, 1 << 20) < 20.0);  // quadratic work would take minutes
  }
}

TEST_CASE("reports_T15 a text beyond 1 GiB is refused before it is looked at") {
  const std::size_t size = (std::size_t{1} << 30) + 1;
  void* const memory = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  const std::string_view text(static_cast<const char*>(memory), size);
  for (const bool special : {false, true}) {
    check_error(ErrorCode::limit, "1073741825 bytes", [&] { bundled().encode(text, special); });
  }
  ::munmap(memory, size);
}

// The most memory that this process had since the last reset, in bytes.
std::size_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoul(line.substr(6)) * 1024;
  }
  return 0;
}
bool reset_peak_memory() {
  std::ofstream file("/proc/self/clear_refs");
  return static_cast<bool>(file << "5" << std::flush);
}

TEST_CASE("reports_T15 encoding takes at most 8 bytes of memory an input byte above the result") {
  if (kSanitized || !reset_peak_memory()) return;  // sanitizers keep books of their own
  constexpr std::size_t kBytes = std::size_t{12} << 20, kSlack = std::size_t{3} << 20;
  std::string mixed;
  conformance::Random random{3};
  for (int i = 0; i < 5000; ++i) mixed += static_cast<char>(random.below(256));
  for (const std::string& unit : {std::string("a"), std::string(" "), std::string("你"),
                                  std::string("\x80"), std::string("ab 12.\n"), mixed}) {
    INFO(unit.substr(0, 8));
    std::string text;
    text.reserve(kBytes + unit.size());
    while (text.size() < kBytes) text += unit;
    Prompt prompt{.text = text, .untrusted = {{1, text.size() / 2}}};
    for (const bool as_prompt : {false, true}) {
      reset_peak_memory();
      const std::size_t before = peak_memory();
      const auto ids = as_prompt ? bundled().encode(prompt) : bundled().encode(text);
      CHECK(peak_memory() - before <= kSlack + 8 * text.size() + ids.size() * sizeof(TokenId));
    }
  }
}

TEST_CASE("TK-09 text that is not UTF-8 becomes U+FFFD, once for each broken part") {
  const std::string bad = std::string("a\x80") + "b\xC0\xAF" + "c\xED\xA0\x80" + "d\xF0\x9F" +
                          std::string(1, '\0') + "e\xE4\xBD";
  CHECK(bundled().decode(bundled().encode(bad)) == valid_utf8(bad));
  CHECK(valid_utf8("\xF0\x9F\x98") == "\xEF\xBF\xBD");
  CHECK(valid_utf8("\xC0\xAF") == "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_CASE("TK-11 TK-12 markers in text stay text") {
  const std::string markers =
      "<｜User｜><｜Assistant｜><｜end▁of▁sentence｜><think></think>｜DSML｜";
  const auto ids = bundled().encode(markers);
  CHECK(std::none_of(ids.begin(), ids.end(), is_marker));
  CHECK(bundled().decode(ids) == markers);
  const auto trusted_ids = bundled().encode(markers, true);
  CHECK(trusted_ids.size() == 6);
  CHECK(std::all_of(trusted_ids.begin(), trusted_ids.end(), is_marker));
  // Half a marker in the template and half in the user's text make none; nor do two neighbours.
  for (std::size_t cut = 1; cut + 1 < std::string("<｜User｜>").size(); ++cut) {
    for (const auto& ranges : {std::vector<ByteRange>{{cut, cut + 1}},
                               std::vector<ByteRange>{{cut, cut + 1}, {cut + 1, cut + 2}}}) {
      for (const char* tail : {"x", "\x80"}) {  // where text is replaced, ranges move
        const Prompt prompt{.text = std::string("<｜User｜>") + tail, .untrusted = ranges};
        for (const TokenId id : bundled().encode(prompt)) CHECK(!is_marker(id));
        CHECK(bundled().decode(bundled().encode(prompt)) == valid_utf8(prompt.text));
      }
    }
  }
  const Prompt trusted{.text = "<｜User｜><｜User｜>", .untrusted = {{0, 12}}};
  CHECK(bundled().encode(trusted).back() == *bundled().find("<｜User｜>"));
  for (const auto& ranges : {std::vector<ByteRange>{{3, 2}}, std::vector<ByteRange>{{0, 99}},
                             std::vector<ByteRange>{{2, 4}, {3, 5}}}) {
    check_error(ErrorCode::invalid_argument, "",
                [&] { bundled().encode(Prompt{.text = "abcdef", .untrusted = ranges}); });
  }
}

TEST_CASE("TK-13 ids without a token are left out") {
  const std::vector<TokenId> ids = {-1, 2147483647, bundled().vocab_size(), 100};
  CHECK(bundled().decode(ids) == bundled().decode(std::vector<TokenId>{100}));
  CHECK(bundled().bytes(-5).empty());
  CHECK(!bundled().is_special(1 << 30));
}

TEST_CASE("TK-14 a stream of tokens is whole UTF-8 at every step") {
  const std::string text = "naïve 你好 🌤️👨‍👩‍👧 é x";
  const auto ids = bundled().encode(text);
  TokenDecoder decoder(bundled());
  std::string joined;
  for (const TokenId id : ids) {
    const std::string piece = decoder.push(id);
    CHECK(valid_utf8(piece) == piece);
    joined += piece;
  }
  CHECK(joined + decoder.flush() == text);
  CHECK(joined.find("\xEF\xBF\xBD") == std::string::npos);
  // Cut inside a character: the tail is one U+FFFD.
  TokenDecoder cut(bundled());
  const auto smile = bundled().encode("🌤");
  REQUIRE(smile.size() > 1);
  std::string out = cut.push(smile[0]);
  out += cut.flush();
  CHECK(out == "\xEF\xBF\xBD");
}

TEST_CASE("random text of all kinds comes back") {
  conformance::Random random{1};
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (std::size_t n = random.below(40); n > 0; --n) {
      static const char* kParts[] = {"a", "Z",  "9",      " ",      "\n",      "\r\n",
                                     "é", "ß",  "你",     "ァ",     "🌤",    "\t",
                                     "_", "'s", "\u200d", "\u0301", "<think>", "0.5"};
      text += kParts[random.below(std::size(kParts))];
    }
    REQUIRE(bundled().decode(bundled().encode(text)) == text);
    REQUIRE(bundled().decode(bundled().encode(text, true)) == text);
  }
}

}  // namespace
}  // namespace dsv32::test
