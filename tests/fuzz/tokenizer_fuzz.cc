// A tokenizer.json, which then must encode and decode every byte.
#include <string>
#include <utility>

#include "lib/text/bpe.h"
#include "lib/text/utf8.h"
#include "lib/text/vocabulary.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dsv32;
  return fuzz::run([&] {
    const Vocabulary vocabulary = parse_vocabulary(fuzz::text_of(data, size));
    BytePairEncoder encoder(vocabulary);
    std::string bytes;
    for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
    const auto encode = [](BytePairEncoder& e, std::string_view text) {
      TokenList ids(text.size());
      e.encode(text, ids);
      return std::move(ids).take();
    };
    std::string back;
    for (const TokenId id : encode(encoder, bytes)) back += vocabulary.bytes(id);
    fuzz::require(back == bytes);
    // A long text comes out of small windows as it does of one.
    BytePairEncoder windows(vocabulary, 16);
    const std::string text = valid_utf8(std::string(fuzz::text_of(data, size).substr(0, 2000)));
    fuzz::require(encode(windows, text) == encode(encoder, text));
  });
}
