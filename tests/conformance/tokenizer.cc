// tokenizer DIR FILE...: ids and texts of the vectors; DIR holds <name>/tokenizer.json.
#include "dsv32/tokenizer.h"

#include <map>

#include "lib/base/check.h"
#include "tests/conformance/conformance.h"

namespace dsv32::conformance {
namespace {

std::vector<TokenId> ids_of(const Json& list) {
  std::vector<TokenId> ids;
  for (const Json& item : list.items) {
    ids.push_back(static_cast<TokenId>(parse_i64(item.text, "ids")));
  }
  return ids;
}

// The whole stream's text, token by token.
std::string decode_streaming(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  TokenDecoder decoder(tokenizer);
  std::string text;
  for (const TokenId id : ids) text += decoder.push(id);
  return text + decoder.flush();
}

std::string check_encode(const Tokenizer& tokenizer, const Json& row) {
  const std::string& text = member(row, "text").text;
  const std::vector<TokenId> want = ids_of(member(row, "ids"));
  const std::vector<TokenId> got = tokenizer.encode(text, true);
  const std::size_t shared = std::min(got.size(), want.size());
  for (std::size_t i = 0; i < shared; ++i) {
    if (got[i] != want[i]) return formatted("id {} is {}, not {}", i, got[i], want[i]);
  }
  if (got.size() != want.size()) return formatted("{} ids, not {}", got.size(), want.size());
  if (tokenizer.encode(Prompt{.text = text}) != want) return "a trusted prompt differs";
  if (tokenizer.decode(want) != text) return "does not decode to itself";
  if (decode_streaming(tokenizer, want) != text) return "does not stream to itself";
  if (tokenizer.decode(tokenizer.encode(text)) != text) return "plain text does not round-trip";
  const Json* skipped = row.find("decoded_skip_special");
  if (skipped != nullptr && tokenizer.decode(want, true) != skipped->text) {
    return "skip_special differs";
  }
  return {};
}

std::string check_decode(const Tokenizer& tokenizer, const Json& row) {
  const std::vector<TokenId> ids = ids_of(member(row, "ids"));
  const bool skip_special = member(row, "skip_special").boolean;
  const std::string& want = member(row, "text").text;
  if (tokenizer.decode(ids, skip_special) != want) return "text differs";
  if (!skip_special && decode_streaming(tokenizer, ids) != want) return "stream differs";
  return {};
}

}  // namespace

int run_tokenizer(const Args& args) {
  if (args.size() < 2) throw UsageError("usage: tokenizer DIR FILE...");
  std::map<std::string, Tokenizer> tokenizers;
  Report report;
  for (std::size_t i = 1; i < args.size(); ++i) {
    for_each_row(args[i], report, [&](const Json& row) {
      const std::string& name = member(row, "tokenizer").text;
      auto found = tokenizers.find(name);
      if (found == tokenizers.end()) {
        const auto path = std::filesystem::path(args[0]) / name / "tokenizer.json";
        found = tokenizers.emplace(name, Tokenizer::load(path)).first;
      }
      const std::string& kind = member(row, "kind").text;
      std::string fault = formatted("unknown kind {}", quote(kind));
      if (kind == "encode") fault = check_encode(found->second, row);
      if (kind == "decode") fault = check_decode(found->second, row);
      report.result(member(row, "name").text, fault.empty(), fault);
    });
  }
  return report.finish();
}

}  // namespace dsv32::conformance
