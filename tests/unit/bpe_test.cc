// The pair encoder against the definition: look for the pair of lowest rank, merge it, again.
#include "lib/text/bpe.h"

#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "lib/text/whole_characters.h"
#include "tests/conformance/messages.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

using Ranks = std::map<std::pair<std::string, std::string>, int>;
using Parts = std::vector<std::string>;

Parts merged(const Ranks& ranks, const std::string& text) {
  Parts parts;
  for (const char byte : text) parts.emplace_back(1, byte);
  for (;;) {
    int best = static_cast<int>(ranks.size());
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = ranks.find({parts[i], parts[i + 1]});
      if (found != ranks.end() && found->second < best) best = found->second, at = i;
    }
    if (best == static_cast<int>(ranks.size())) return parts;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

// Characters that share bytes, and one byte of another class.
std::string random_text(conformance::Random& random, std::size_t most) {
  static const char* kCharacters[] = {"中", "丰", "一", "丁", "上", "乭", "é", "a"};
  std::string text;
  for (std::size_t n = 1 + random.below(most); n > 0; --n)
    text += kCharacters[random.below(std::size(kCharacters))];
  return text;
}

// Merges as training finds them, but of pairs drawn at random: some lie across characters.
Ranks random_ranks(conformance::Random& random) {
  Ranks ranks;
  for (int i = 0; i < 60; ++i) {
    const Parts parts = merged(ranks, random_text(random, 4));
    if (parts.size() < 2) continue;
    const std::size_t at = random.below(parts.size() - 1);
    ranks.emplace(std::pair(parts[at], parts[at + 1]), static_cast<int>(ranks.size()));
  }
  return ranks;
}

Vocabulary vocabulary_of(const Ranks& ranks) {
  Vocabulary v;
  std::map<std::string, TokenId> ids;
  const auto add = [&](const std::string& bytes) {
    const auto [found, is_new] = ids.emplace(bytes, static_cast<TokenId>(ids.size()));
    if (!is_new) return found->second;
    v.begin.push_back(static_cast<std::uint32_t>(v.text.size()));
    v.text += bytes;
    v.special.push_back(0);
    return found->second;
  };
  for (int byte = 0; byte < 256; ++byte)
    v.byte_ids[static_cast<std::size_t>(byte)] = add(std::string(1, static_cast<char>(byte)));
  v.merges = MergeTable(ranks.size());
  for (const auto& [pair, rank] : ranks) {
    const TokenId result = add(pair.first + pair.second);
    v.merges.insert(add(pair.first), add(pair.second), {rank, result});
  }
  v.begin.push_back(static_cast<std::uint32_t>(v.text.size()));
  v.characters = whole_characters(v);
  return v;
}

std::vector<TokenId> encoded(BytePairEncoder& encoder, const std::string& text) {
  TokenList list(text.size());
  encoder.encode(text, list);
  return std::move(list).take();
}

TEST_CASE("pairs merge in the order of their ranks, whole characters or not") {
  conformance::Random random{7};
  std::size_t whole = 0, apart = 0;
  for (int round = 0; round < 300; ++round) {
    const Ranks ranks = random_ranks(random);
    const Vocabulary v = vocabulary_of(ranks);
    for (const char32_t code : U"中丰一丁上乭") {
      if (code == 0) continue;
      (v.characters[code] >= 0 ? whole : apart) += 1;
    }
    BytePairEncoder encoder(v);
    for (int i = 0; i < 20; ++i) {
      const std::string text = random_text(random, i % 2 == 0 ? 8 : 60);  // scan, and heap
      Parts parts;
      for (const TokenId id : encoded(encoder, text)) parts.emplace_back(v.bytes(id));
      REQUIRE(parts == merged(ranks, text));
    }
  }
  CHECK(whole > 100);
  CHECK(apart > 100);
}

TEST_CASE("reports_T15 windows of a long piece change no token") {
  conformance::Random random{15};
  std::size_t tokens = 0, long_ones = 0;
  for (int round = 0; round < 200; ++round) {
    const Vocabulary v = vocabulary_of(random_ranks(random));
    BytePairEncoder whole(v);
    for (const std::size_t window : {8U, 16U, 40U, 100U}) {
      BytePairEncoder windows(v, window);
      for (int i = 0; i < 4; ++i) {
        // Random, and of one unit again and again: what a place becomes depends on far ones.
        const std::string unit = random_text(random, 6);
        std::string text = random_text(random, 300);
        for (int k = 0; i % 2 == 0 && k < 60; ++k) text += unit;
        const auto got = encoded(windows, text);
        REQUIRE(got == encoded(whole, text));
        tokens += got.size();
        for (const TokenId id : got) long_ones += v.bytes(id).size() > 8 ? 1 : 0;
      }
    }
  }
  CHECK(tokens > 100000);
  CHECK(long_ones > 1000);  // longer than the shortest window
}

TEST_CASE("reports_T15 windows grow where the far end decides") {
  // Each pair of neighbours may merge, the later the sooner: from the end on every second does.
  constexpr int kUnits = 48;
  Ranks ranks;
  std::string text;
  const auto unit = [](int i) { return std::string(1, static_cast<char>('0' + i)); };
  for (int i = 0; i < kUnits; ++i) text += unit(i);
  for (int i = kUnits - 1; i > 0; --i) {
    ranks.emplace(std::pair(unit(i - 1), unit(i)), static_cast<int>(ranks.size()));
  }
  const Vocabulary v = vocabulary_of(ranks);
  for (const std::string& part : {text, text.substr(1), text + text.substr(0, 47) + text}) {
    BytePairEncoder windows(v, 8);
    Parts parts;
    for (const TokenId id : encoded(windows, part)) parts.emplace_back(v.bytes(id));
    CHECK(parts == merged(ranks, part));
  }
}

TEST_CASE("reports_T15 a list of tokens grows by what it has seen") {
  TokenList list(1000);
  const std::vector<TokenId> ids(1000, 7);
  for (std::size_t i = 0; i < 500; i += 10) list.append(std::span(ids).first(10), 20);
  const std::vector<TokenId> got = std::move(list).take();
  CHECK(got == std::vector<TokenId>(500, 7));
  CHECK(got.capacity() <= 1000);
  TokenList none(0);
  CHECK(std::move(none).take().empty());
  TokenList dense(4);
  dense.append(std::span(ids).first(1000), 1000);  // more bytes than were said
  CHECK(std::move(dense).take().size() == 1000);
}

}  // namespace
}  // namespace dsv32::test
