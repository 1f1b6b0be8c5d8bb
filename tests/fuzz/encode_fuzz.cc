// Any text through the bundled tokenizer: it comes back, and no marker gets in.
#include "dsv32/tokenizer.h"

#include "lib/text/utf8.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dsv32;
  static const Tokenizer tokenizer =
      Tokenizer::load(DSV32_SOURCE_DIR "/examples/tiny_model/tokenizer.json");
  return fuzz::run([&] {
    const std::string text = valid_utf8(std::string(fuzz::text_of(data, size)));
    const auto ids = tokenizer.encode(fuzz::text_of(data, size));
    fuzz::require(tokenizer.decode(ids) == text);
    TokenDecoder decoder(tokenizer);
    std::string stream;
    for (const TokenId id : ids) {
      fuzz::require(!tokenizer.is_special(id));
      stream += decoder.push(id);
    }
    fuzz::require(stream + decoder.flush() == text);
    fuzz::require(tokenizer.decode(tokenizer.encode(text, true)) == text);
    const Prompt prompt{.text = text, .untrusted = {{0, text.size()}}};
    if (!text.empty()) fuzz::require(tokenizer.encode(prompt) == ids);
  });
}
