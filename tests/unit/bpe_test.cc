// The pair encoder against the definition: look for the pair of lowest rank, merge it, again.
#include "lib/text/bpe.h"

#include <map>
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
      std::vector<TokenId> got;
      encoder.encode(text, got);
      Parts parts;
      for (const TokenId id : got) parts.emplace_back(v.bytes(id));
      REQUIRE(parts == merged(ranks, text));
    }
  }
  CHECK(whole > 100);
  CHECK(apart > 100);
}

}  // namespace
}  // namespace dsv32::test
