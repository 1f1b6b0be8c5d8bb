// Text to tokens: markers first, in two passes, then pieces, then pairs.
#include "dsv32/tokenizer.h"

#include <algorithm>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/file.h"
#include "lib/base/float_state.h"
#include "lib/base/held.h"
#include "lib/text/added_tokens.h"
#include "lib/text/bpe.h"
#include "lib/text/pretokenize.h"
#include "lib/text/utf8.h"
#include "lib/text/vocabulary.h"

namespace dsv32 {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

void check_ranges(const Prompt& prompt) {
  std::size_t end = 0;
  for (const ByteRange& range : prompt.untrusted) {
    DSV32_CHECK(range.begin >= end && range.end >= range.begin && range.end <= prompt.text.size(),
                invalid_argument, "untrusted range {} to {} is out of order or of the text",
                range.begin, range.end);
    end = range.end;
  }
}

void check_size(std::string_view text) {
  DSV32_CHECK(text.size() <= kMaxTextBytes, limit, "{} bytes of text, at most {} a call",
              text.size(), kMaxTextBytes);
}

bool is_well_formed(std::string_view text) { return valid_prefix(text) == text.size(); }

// `ranges` of `text`, in replace_ill_formed(text). One that begins or ends inside of a character
// holds all of it.
std::vector<ByteRange> moved_along(std::vector<ByteRange> ranges, std::string_view text) {
  const std::size_t borders = 2 * ranges.size();
  const auto border = [&](std::size_t k) -> std::size_t& {
    return k % 2 == 0 ? ranges[k / 2].begin : ranges[k / 2].end;
  };
  std::size_t next = 0, moved = 0;
  for (std::size_t at = 0; at < text.size() && next < borders;) {
    const Utf8Char c = next_utf8(text.substr(at));
    const std::size_t size = c.state == Utf8Char::State::valid ? c.size : kReplacement.size();
    for (; next < borders && border(next) < at + c.size; ++next) {
      const bool ends_inside = next % 2 == 1 && border(next) > at;
      border(next) = moved + (ends_inside ? size : 0);
    }
    moved += size;
    at += c.size;
  }
  while (next < borders) border(next++) = moved;
  return ranges;
}

}  // namespace

class Tokenizer::Impl {
 public:
  static constexpr std::string_view kOwner = "Tokenizer";

  explicit Impl(Vocabulary parsed) : vocabulary(std::move(parsed)) {
    for (const AddedToken& token : vocabulary.added) {
      (token.normalized ? second_ : first_).insert(token.text, token.id);
    }
  }

  // `text` is well formed; markers match only outside of `untrusted`.
  std::vector<TokenId> encode(std::string_view text, std::span<const ByteRange> untrusted) const {
    TokenList ids(text.size());
    BytePairEncoder encoder(vocabulary);
    const auto encode_plain = [&](std::string_view piece) {
      pretokenize(piece, [&](std::string_view p) { encoder.encode(p, ids); });
    };
    const auto in_second = [&](std::size_t begin, std::size_t end) {
      split(second_, text, {begin, end}, untrusted, ids,
            [&](std::size_t b, std::size_t e) { encode_plain(text.substr(b, e - b)); });
    };
    split(first_, text, {0, text.size()}, untrusted, ids, in_second);
    return std::move(ids).take();
  }

  Vocabulary vocabulary;

 private:
  // Goes over `part` of `text`: adds what `tokens` matches to `ids`, gives the rest to `on_rest`.
  template <class OnRest>
  static void split(const AddedTokens& tokens, std::string_view text, ByteRange part,
                    std::span<const ByteRange> untrusted, TokenList& ids, const OnRest& on_rest) {
    std::size_t rest = part.begin, at = part.begin;
    auto range = std::partition_point(untrusted.begin(), untrusted.end(),
                                      [&](const ByteRange& r) { return r.end <= part.begin; });
    while (at < part.end) {
      while (range != untrusted.end() && (range->end <= at || range->begin == range->end)) ++range;
      const bool ahead = range != untrusted.end();
      if (ahead && range->begin <= at) {
        at = std::min(range->end, part.end);
        continue;
      }
      const std::size_t limit = ahead ? std::min(range->begin, part.end) : part.end;
      const AddedTokens::Match match = tokens.match(text, at, limit);
      if (match.size == 0) {
        ++at;
        continue;
      }
      if (at > rest) on_rest(rest, at);
      ids.append(std::span(&match.id, 1), match.size);
      rest = at += match.size;
    }
    if (part.end > rest) on_rest(rest, part.end);
  }

  AddedTokens first_{}, second_{};
};

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Tokenizer Tokenizer::load(const std::filesystem::path& tokenizer_json) {
  const FloatState ours;  // paths compute with floats when they grow
  const std::filesystem::path parent = tokenizer_json.parent_path();
  const Folder folder(parent.empty() ? std::filesystem::path(".") : parent);
  return parse(read_text(folder, tokenizer_json.filename().string(), kMaxTokenizerBytes));
}

Tokenizer Tokenizer::parse(std::string_view json) {
  const FloatState ours;  // hash tables compute with floats when they grow
  return Tokenizer(std::make_shared<const Impl>(parse_vocabulary(json)));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool parse_special) const {
  const Impl& impl = held(impl_);
  check_size(text);
  std::string replaced;
  if (!is_well_formed(text)) text = replaced = replace_ill_formed(text);
  const ByteRange all{0, text.size()};
  return impl.encode(text, std::span(&all, parse_special ? 0 : 1));
}

std::vector<TokenId> Tokenizer::encode(const Prompt& prompt) const {
  const Impl& impl = held(impl_);
  check_size(prompt.text);
  check_ranges(prompt);
  if (is_well_formed(prompt.text)) return impl.encode(prompt.text, prompt.untrusted);
  const std::string text = replace_ill_formed(prompt.text);
  return impl.encode(text, moved_along(prompt.untrusted, prompt.text));
}

std::string Tokenizer::decode(std::span<const TokenId> tokens, bool skip_special) const {
  const Vocabulary& v = held(impl_).vocabulary;
  const auto bytes_of = [&](TokenId id) {
    return skip_special && is_special(id) ? std::string_view() : v.bytes(id);
  };
  std::size_t size = 0;
  for (const TokenId id : tokens) size += bytes_of(id).size();
  std::string bytes(size, '\0');
  std::size_t at = 0;
  for (const TokenId id : tokens) at += bytes_of(id).copy(bytes.data() + at, size - at);
  return valid_utf8(std::move(bytes));
}

std::string_view Tokenizer::bytes(TokenId token) const {
  return held(impl_).vocabulary.bytes(token);
}

bool Tokenizer::is_special(TokenId token) const noexcept {
  if (impl_ == nullptr) return false;
  const Vocabulary& v = impl_->vocabulary;
  return token >= 0 && token < v.size() && v.special[static_cast<std::size_t>(token)] != 0;
}

std::optional<TokenId> Tokenizer::find(std::string_view token) const {
  const auto& ids = held(impl_).vocabulary.ids;
  const auto found = ids.find(token);
  if (found == ids.end()) return std::nullopt;
  return found->second;
}

int Tokenizer::vocab_size() const noexcept {
  return impl_ != nullptr ? impl_->vocabulary.size() : 0;
}

}  // namespace dsv32
