// Reads tokenizer.json in one scan. Everything in it is checked before it is used: it is a file
// from somewhere.
#include "lib/text/vocabulary.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "lib/base/check.h"
#include "lib/base/json.h"
#include "lib/text/pretokenize.h"
#include "lib/text/tokenizer_keys.h"
#include "lib/text/utf8.h"
#include "lib/text/whole_characters.h"

namespace dsv32 {
namespace {

constexpr std::string_view kFile = "tokenizer.json";

// The byte that a character of a token's spelling stands for: GPT-2's stand-ins, which are the
// printable Latin-1 characters themselves, and U+0100 on for the other bytes in order. -1: none.
class StandIns {
 public:
  StandIns() {
    table_.fill(-1);
    std::size_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      table_[printable ? static_cast<std::size_t>(byte) : next++] = byte;
    }
  }
  int byte_of(char32_t c) const { return c < table_.size() ? table_[c] : -1; }

 private:
  std::array<int, 324> table_{};
};

std::string bytes_of(std::string_view spelling, const StandIns& stand_ins) {
  std::string out;
  for (std::string_view rest = spelling; !rest.empty();) {
    const Utf8Char c = next_utf8(rest);
    const int byte = c.state == Utf8Char::State::valid ? stand_ins.byte_of(c.code) : -1;
    DSV32_CHECK(byte >= 0, bad_format, "{}: token {} is not in byte-level form", kFile,
                quote(spelling));
    out += static_cast<char>(byte);
    rest.remove_prefix(c.size);
  }
  return out;
}

TokenId parse_id(std::string_view digits) {
  const std::int64_t id = parse_i64(digits, kFile);
  DSV32_CHECK(id >= 0 && id <= kMaxTokenId, limit, "{}: token id {} is not in 0 to {}", kFile, id,
              kMaxTokenId);
  return static_cast<TokenId>(id);
}

using Kind = JsonEvent::Kind;

// Collects the two big tables from events, and the small rest as a Json tree.
class Reader {
 public:
  void operator()(const JsonEvent& event) {
    const bool opens = event.kind == Kind::begin_object || event.kind == Kind::begin_array;
    const bool closes = event.kind == Kind::end_object || event.kind == Kind::end_array;
    if (closes) --depth_;
    if (section_ == Section::vocab && depth_ >= 3) {
      on_vocab(event);
    } else if (section_ == Section::merges && depth_ >= 3) {
      on_merge(event);
    } else {
      on_rest(event);
    }
    if (opens) ++depth_;
  }

  Json rest{};  // the file without model.vocab and model.merges
  std::vector<std::pair<std::string, TokenId>> vocab{};
  std::vector<std::pair<std::string, std::string>> merges{};

 private:
  enum class Section : std::uint8_t { rest, vocab, merges };

  void on_vocab(const JsonEvent& event) {
    if (event.kind == Kind::key) {
      key_ = event.text;
      return;
    }
    DSV32_CHECK(event.kind == Kind::integer, bad_format, "{}: vocab: {} has no integer id", kFile,
                quote(key_));
    vocab.emplace_back(key_, parse_id(event.text));
  }

  void on_merge(const JsonEvent& event) {
    if (event.kind == Kind::begin_array && depth_ == 3) {
      pair_.clear();
    } else if (event.kind == Kind::string && depth_ == 4) {
      pair_.emplace_back(event.text);
      DSV32_CHECK(pair_.size() <= 2, bad_format, "{}: merge {} has over two parts", kFile,
                  merges.size());
    } else if (event.kind == Kind::end_array && depth_ == 3) {
      add_merge(pair_);
    } else {
      DSV32_CHECK(event.kind == Kind::string && depth_ == 3, bad_format,
                  "{}: merge {} is neither text nor a pair", kFile, merges.size());
      const std::size_t gap = event.text.find(' ');
      DSV32_CHECK(gap != event.text.npos && event.text.find(' ', gap + 1) == event.text.npos,
                  bad_format, "{}: merge {} is not two parts: {}", kFile, merges.size(),
                  quote(event.text));
      merges.emplace_back(event.text.substr(0, gap), event.text.substr(gap + 1));
    }
  }

  void add_merge(std::vector<std::string>& pair) {
    DSV32_CHECK(pair.size() == 2, bad_format, "{}: merge {} is not two parts", kFile,
                merges.size());
    merges.emplace_back(std::move(pair[0]), std::move(pair[1]));
  }

  // Builds `rest`; `open_` leads to the container being filled.
  void on_rest(const JsonEvent& event) {
    if (event.kind == Kind::key) {
      key_ = event.text;
      return;
    }
    if (event.kind == Kind::end_object || event.kind == Kind::end_array) {
      open_.pop_back();
      if (depth_ == 2) section_ = Section::rest;
      return;
    }
    Json& value = place();
    value.boolean = event.boolean;
    value.real = event.real;
    value.text = event.text;
    value.kind = json_kind(event.kind);
    if (!value.is_object() && !value.is_array()) return;
    open_.push_back(&value);
    if (depth_ == 2 && in_model_) {
      if (key_ == "vocab" && value.is_object()) section_ = Section::vocab;
      if (key_ == "merges" && value.is_array()) section_ = Section::merges;
    }
    if (depth_ == 1) in_model_ = key_ == "model";
  }

  Json& place() {
    if (open_.empty()) return rest;
    Json& parent = *open_.back();
    if (parent.is_array()) return parent.items.emplace_back();
    return parent.members.emplace_back(JsonMember{key_, {}}).value;
  }

  static Json::Kind json_kind(Kind kind) {
    switch (kind) {
      case Kind::boolean:
        return Json::Kind::boolean;
      case Kind::integer:
        return Json::Kind::integer;
      case Kind::real:
        return Json::Kind::real;
      case Kind::string:
        return Json::Kind::string;
      case Kind::begin_object:
        return Json::Kind::object;
      case Kind::begin_array:
        return Json::Kind::array;
      default:
        return Json::Kind::null;
    }
  }

  std::vector<Json*> open_{};  // parents do not move while a child is open
  std::vector<std::string> pair_{};
  std::string key_{};
  int depth_ = 0;
  Section section_ = Section::rest;
  bool in_model_ = false;
};

bool is_null_or_false(const Json* value) {
  return value == nullptr || value->kind == Json::Kind::null ||
         (value->kind == Json::Kind::boolean && !value->boolean) ||
         (value->is_string() && value->text.empty());
}

bool flag(const Json& object, std::string_view key) {
  const Json* value = object.find(key);
  if (value == nullptr || value->kind == Json::Kind::null) return false;
  DSV32_CHECK(value->kind == Json::Kind::boolean, bad_format, "{}: {} of an added token is no bool",
              kFile, quote(key));
  return value->boolean;
}

const Json& at(const Json& object, std::string_view key) {
  const Json* value = object.find(key);
  DSV32_CHECK(value != nullptr, bad_format, "{}: no {}", kFile, quote(key));
  return *value;
}

bool has_type(const Json& object, std::string_view type) {
  const Json* value = object.find("type");
  return value != nullptr && value->is_string() && value->text == type;
}

void check_pretokenizer(const Json& pre) {
  const Json* steps = pre.find("pretokenizers");
  bool known = has_type(pre, "Sequence") && steps != nullptr &&
               steps->items.size() == kSplitPatterns.size() + 1;
  for (std::size_t i = 0; known && i < kSplitPatterns.size(); ++i) {
    const Json& step = steps->items[i];
    const Json* pattern = step.find("pattern");
    const Json* regex = pattern != nullptr ? pattern->find("Regex") : nullptr;
    const Json* behavior = step.find("behavior");
    known = has_type(step, "Split") && regex != nullptr && regex->text == kSplitPatterns[i] &&
            behavior != nullptr && behavior->text == "Isolated" &&
            is_null_or_false(step.find("invert"));
  }
  known = known && has_type(steps->items.back(), "ByteLevel") &&
          is_null_or_false(steps->items.back().find("add_prefix_space")) &&
          is_null_or_false(steps->items.back().find("use_regex"));
  DSV32_CHECK(known, unsupported, "{}: pre_tokenizer is not DeepSeek-V3's", kFile);
}

void check_pipeline(const Json& file) {
  DSV32_CHECK(file.is_object(), bad_format, "{}: not an object", kFile);
  const Json& model = at(file, "model");
  DSV32_CHECK(has_type(model, "BPE"), unsupported, "{}: model.type is not BPE", kFile);
  for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                          "fuse_unk", "byte_fallback", "ignore_merges"}) {
    DSV32_CHECK(is_null_or_false(model.find(key)), unsupported, "{}: model.{} is set", kFile, key);
  }
  const Json *vocab = model.find("vocab"), *merges = model.find("merges");
  DSV32_CHECK(vocab != nullptr && vocab->is_object(), bad_format,
              "{}: model.vocab is missing or no object", kFile);
  DSV32_CHECK(merges != nullptr && merges->is_array(), bad_format,
              "{}: model.merges is missing or no list", kFile);
  const Json* normalizer = file.find("normalizer");
  if (!is_null_or_false(normalizer)) {
    const Json* steps = normalizer->find("normalizers");
    DSV32_CHECK(has_type(*normalizer, "Sequence") && steps != nullptr && steps->items.empty(),
                unsupported, "{}: a normalizer is set", kFile);
  }
  check_pretokenizer(at(file, "pre_tokenizer"));
  const Json* decoder = file.find("decoder");
  DSV32_CHECK(decoder != nullptr && has_type(*decoder, "ByteLevel"), unsupported,
              "{}: decoder is not ByteLevel", kFile);
}

std::vector<AddedToken> read_added(const Json& file) {
  std::vector<AddedToken> added;
  const Json* list = file.find("added_tokens");
  if (list == nullptr) return added;
  DSV32_CHECK(list->is_array(), bad_format, "{}: added_tokens is no list", kFile);
  for (const Json& item : list->items) {
    const Json& content = at(item, "content");
    DSV32_CHECK(content.is_string() && !content.text.empty(), bad_format,
                "{}: an added token without content", kFile);
    for (const char* key : {"lstrip", "rstrip", "single_word"}) {
      DSV32_CHECK(!flag(item, key), unsupported, "{}: added token {} has {}", kFile,
                  quote(content.text), key);
    }
    const Json& id = at(item, "id");
    DSV32_CHECK(id.kind == Json::Kind::integer, bad_format, "{}: added token {} has no integer id",
                kFile, quote(content.text));
    added.push_back({.id = parse_id(id.text),
                     .text = content.text,
                     .special = flag(item, "special"),
                     .normalized = flag(item, "normalized")});
  }
  return added;
}

// Lays the tokens' bytes out by id. An added token may repeat an entry of the vocabulary (BOS
// does); anything else twice is refused.
void lay_out(Vocabulary& v, std::vector<std::pair<std::string, TokenId>>& vocab) {
  TokenId last = -1;
  for (const auto& [text, id] : vocab) last = std::max(last, id);
  for (const AddedToken& token : v.added) last = std::max(last, token.id);
  DSV32_CHECK(last >= 0, bad_format, "{}: no tokens", kFile);
  const std::size_t size = static_cast<std::size_t>(last) + 1;
  std::vector<const std::string*> by_id(size, nullptr);
  for (const auto& [text, id] : vocab) {
    DSV32_CHECK(by_id[static_cast<std::size_t>(id)] == nullptr, bad_format,
                "{}: id {} is given twice", kFile, id);
    by_id[static_cast<std::size_t>(id)] = &text;
  }
  std::vector<std::uint8_t> is_added(size, 0);
  v.special.assign(size, 0);
  for (const AddedToken& token : v.added) {
    const auto i = static_cast<std::size_t>(token.id);
    const bool repeats = by_id[i] != nullptr && *by_id[i] == token.text && is_added[i] == 0;
    DSV32_CHECK(by_id[i] == nullptr || repeats, bad_format, "{}: id {} is given twice", kFile,
                token.id);
    by_id[i] = &token.text;
    is_added[i] = 1;
    v.special[i] = token.special ? 1 : 0;
  }
  const StandIns stand_ins;
  v.begin.reserve(size + 1);
  for (std::size_t i = 0; i < size; ++i) {
    v.begin.push_back(static_cast<std::uint32_t>(v.text.size()));
    if (by_id[i] == nullptr) continue;
    v.text += is_added[i] != 0 ? *by_id[i] : bytes_of(*by_id[i], stand_ins);
  }
  v.begin.push_back(static_cast<std::uint32_t>(v.text.size()));
}

void index_tokens(Vocabulary& v) {
  v.ids.reserve(v.special.size());
  v.byte_ids.fill(-1);
  std::vector<std::uint8_t> is_added(v.special.size(), 0);
  for (const AddedToken& token : v.added) is_added[static_cast<std::size_t>(token.id)] = 1;
  for (TokenId id = 0; id < v.size(); ++id) {
    const std::string_view bytes = v.bytes(id);
    if (bytes.empty()) continue;
    DSV32_CHECK(v.ids.emplace(bytes, id).second, bad_format, "{}: token {} is given twice", kFile,
                quote(bytes));
    if (bytes.size() == 1 && is_added[static_cast<std::size_t>(id)] == 0) {
      v.byte_ids[static_cast<unsigned char>(bytes[0])] = id;
    }
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    DSV32_CHECK(v.byte_ids[byte] >= 0, bad_format, "{}: no token for the byte {}", kFile, byte);
  }
}

// Without merges text becomes bytes and added tokens, and all other tokens would never be met.
void check_needs_no_merges(const Vocabulary& v) {
  std::vector<std::uint8_t> is_added(v.special.size(), 0);
  for (const AddedToken& token : v.added) is_added[static_cast<std::size_t>(token.id)] = 1;
  for (TokenId id = 0; id < v.size(); ++id) {
    DSV32_CHECK(is_added[static_cast<std::size_t>(id)] != 0 || v.bytes(id).size() <= 1, bad_format,
                "{}: model.merges is empty, but the token {} is no byte", kFile,
                quote(v.bytes(id)));
  }
}

void index_merges(Vocabulary& v, const std::vector<std::pair<std::string, std::string>>& merges) {
  if (merges.empty()) check_needs_no_merges(v);
  v.merges = MergeTable(merges.size());
  const StandIns stand_ins;
  const auto id_of = [&](const std::string& bytes, std::size_t rank) {
    const auto found = v.ids.find(bytes);
    DSV32_CHECK(found != v.ids.end(), bad_format, "{}: merge {} needs {}, which is no token", kFile,
                rank, quote(bytes));
    return found->second;
  };
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string left = bytes_of(merges[rank].first, stand_ins);
    const std::string right = bytes_of(merges[rank].second, stand_ins);
    DSV32_CHECK(!left.empty() && !right.empty(), bad_format, "{}: merge {} has an empty part",
                kFile, rank);
    const Merge merge{static_cast<std::int32_t>(rank), id_of(left + right, rank)};
    DSV32_CHECK(v.merges.insert(id_of(left, rank), id_of(right, rank), merge), bad_format,
                "{}: merge {} is there twice", kFile, rank);
  }
}

}  // namespace

MergeTable::MergeTable(std::size_t expected)
    : slots_(std::bit_ceil(expected * 2 + 2)),
      present_(slots_.size() / 8 + 1),
      mask_(slots_.size() - 1),
      shift_(64 - std::countr_zero(slots_.size())) {}

bool MergeTable::insert(TokenId left, TokenId right, Merge merge) {
  std::size_t slot = slot_of(key_of(left, right));
  while (slots_[slot].key != kEmpty) {
    if (slots_[slot].key == key_of(left, right)) return false;
    slot = (slot + 1) & mask_;
  }
  slots_[slot] = {key_of(left, right), merge};
  present_[bit_of(key_of(left, right)) / 64] |= std::uint64_t{1}
                                                << (bit_of(key_of(left, right)) % 64);
  return true;
}

Vocabulary parse_vocabulary(std::string_view json) {
  DSV32_CHECK(json.size() <= kMaxTokenizerBytes, limit, "{}: over {} bytes", kFile,
              kMaxTokenizerBytes);
  Reader reader;
  scan_json(json, kFile, [&](const JsonEvent& event) { reader(event); });
  check_pipeline(reader.rest);
  refuse_unread_keys(reader.rest);
  Vocabulary v;
  v.added = read_added(reader.rest);
  lay_out(v, reader.vocab);
  index_tokens(v);
  index_merges(v, reader.merges);
  v.characters = whole_characters(v);
  return v;
}

}  // namespace dsv32
