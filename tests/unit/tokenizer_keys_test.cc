// Every key of tokenizer.json is read, refused, or in the documented list of those that change no
// id.
#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "dsv32/tokenizer.h"

#include "lib/base/json.h"
#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"
#include "tests/support/checkpoint_files.h"

namespace dsv32::test {
namespace {

// The documents' list. `normalized` decides only which of two markers that overlap wins.
constexpr std::string_view kIgnored[] = {"version",           "truncation",
                                         "padding",           "post_processor",
                                         "trim_offsets",      "decoder.add_prefix_space",
                                         "decoder.use_regex", "normalized"};

// The bundled tokenizer with a few of its markers.
Json small_file() {
  Json file = parse_json(
      conformance::read_file(std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model/tokenizer.json"),
      "tokenizer");
  for (JsonMember& member : file.members) {
    if (member.key == "added_tokens") member.value.items.resize(4);
  }
  return file;
}

// What a caller sees of a tokenizer.
std::string seen(const Tokenizer& tokenizer) {
  std::string text = std::to_string(tokenizer.vocab_size());
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    text += tokenizer.is_special(id) ? "!" : ".";
    text += tokenizer.bytes(id);
  }
  for (const char* words : {" a b  c12345\n\n漢字 x.y", "<｜begin▁of▁sentence｜> <｜User｜>it's"}) {
    for (const bool special : {false, true})
      for (const TokenId id : tokenizer.encode(words, special)) text += "," + std::to_string(id);
  }
  return text;
}

class Walk {
 public:
  explicit Walk(Json file) : file_(std::move(file)), before_(seen(load(file_))) {}

  void all() { object(file_, ""); }
  int checked = 0;

 private:
  Tokenizer load(const Json& file) const {
    write_text(folder_.path() / "tokenizer.json", python_json(file));
    return Tokenizer::load(folder_.path() / "tokenizer.json");
  }

  void object(Json& block, const std::string& path) {
    for (JsonMember& member : block.members) {
      const std::string key = path + member.key;
      if (key == "model.vocab" || key == "model.merges") continue;  // tables: tests of their own
      const bool ignored =
          std::any_of(std::begin(kIgnored), std::end(kIgnored),
                      [&](std::string_view name) { return name == member.key || name == key; });
      if (!ignored && member.value.is_object()) {
        object(member.value, key + ".");
      } else if (!ignored && member.value.is_array()) {
        for (std::size_t i = 0; i < std::min<std::size_t>(member.value.items.size(), 4); ++i)
          if (member.value.items[i].is_object()) object(member.value.items[i], key + ".");
      } else {
        change(member.value, member.key, key, ignored);
      }
    }
    // A key that nobody knows.
    Json other;
    other.kind = Json::Kind::integer;
    other.text = "7";
    block.members.push_back({"some_new_key", other});
    INFO(path);
    check_error(ErrorCode::unsupported, path + "some_new_key", [&] { load(file_); });
    block.members.back().value = Json();
    CHECK_NOTHROW(load(file_));
    block.members.pop_back();
  }

  void change(Json& value, const std::string& key, const std::string& path, bool ignored) {
    const Json kept = value;
    if (value.kind == Json::Kind::boolean) {
      value.boolean = !value.boolean;
    } else {
      value = Json();
      value.kind = kept.is_string() || kept.kind == Json::Kind::null ? Json::Kind::string
                                                                     : Json::Kind::integer;
      value.text = value.is_string() ? "another" : "3000";
    }
    INFO(path);
    try {
      const std::string after = seen(load(file_));
      CHECK((after != before_ || ignored));
      CHECK_FALSE((after != before_ && ignored));
    } catch (const Error& error) {  // by the name of the key or of its block
      const std::string message = error.what(), block = path.substr(0, path.find('.'));
      INFO(message);
      const bool named = message.find(key) != message.npos || message.find(block) != message.npos;
      CHECK((named || message.find("token \"") != message.npos ||
             message.find("normalizer") != message.npos ||
             message.find("given twice") != message.npos));
      CHECK_FALSE(ignored);
    }
    value = kept;
    ++checked;
  }

  Json file_;
  TempFolder folder_;
  std::string before_;
};

TEST_CASE("reports_C11 every key of tokenizer.json is read, refused or documented") {
  Walk walk(small_file());
  walk.all();
  CHECK(walk.checked > 40);
}

TEST_CASE("the keys of tokenizer.json that change no id are those of docs/formats.md") {
  const std::string docs =
      conformance::read_file(std::string(DSV32_SOURCE_DIR) + "/docs/formats.md");
  for (const std::string_view key : kIgnored) {
    INFO(key);
    CHECK(docs.find("`" + std::string(key) + "`") != std::string::npos);
  }
}

}  // namespace
}  // namespace dsv32::test
