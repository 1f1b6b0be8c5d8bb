#include "lib/text/tokenizer_keys.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>

#include "lib/base/check.h"
#include "lib/base/neutral.h"

namespace dsv32 {
namespace {

void check_block(const Json* block, const char* path,
                 std::initializer_list<std::string_view> known) {
  if (block == nullptr) return;
  for (const JsonMember& member : block->members) {
    const bool read = std::find(known.begin(), known.end(), member.key) != known.end();
    DSV32_CHECK(read || is_neutral(member.value), unsupported,
                "tokenizer.json: nobody reads the key {}",
                quote(formatted("{}{}", path, member.key)));
  }
}

void check_steps(const Json* pre) {
  check_block(pre, "pre_tokenizer.", {"type", "pretokenizers"});
  const Json* steps = pre ? pre->find("pretokenizers") : nullptr;
  if (steps == nullptr) return;
  for (const Json& step : steps->items) {
    // trim_offsets: of places in the text, which encode() does not give.
    check_block(
        &step, "pre_tokenizer.pretokenizers.",
        {"type", "pattern", "behavior", "invert", "add_prefix_space", "use_regex", "trim_offsets"});
    check_block(step.find("pattern"), "pre_tokenizer.pretokenizers.pattern.", {"Regex"});
  }
}

}  // namespace

void refuse_unread_keys(const Json& file) {
  // Nobody reads the four on the second line: templates write what a post_processor would add.
  check_block(&file, "",
              {"added_tokens", "normalizer", "pre_tokenizer", "decoder", "model", "version",
               "truncation", "padding", "post_processor"});
  check_block(file.find("model"), "model.",
              {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
               "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  check_block(file.find("normalizer"), "normalizer.", {"type", "normalizers"});
  check_steps(file.find("pre_tokenizer"));
  // A ByteLevel decoder looks at none of its settings.
  check_block(file.find("decoder"), "decoder.",
              {"type", "add_prefix_space", "trim_offsets", "use_regex"});
  const Json* added = file.find("added_tokens");
  if (added == nullptr) return;
  for (const Json& token : added->items) {
    check_block(&token, "added_tokens.",
                {"id", "content", "special", "normalized", "lstrip", "rstrip", "single_word"});
  }
}

}  // namespace dsv32
