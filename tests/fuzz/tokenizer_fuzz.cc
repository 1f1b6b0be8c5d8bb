// A tokenizer.json, which then must encode and decode every byte.
#include <string>

#include "lib/text/bpe.h"
#include "lib/text/vocabulary.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dsv32;
  return fuzz::run([&] {
    const Vocabulary vocabulary = parse_vocabulary(fuzz::text_of(data, size));
    BytePairEncoder encoder(vocabulary);
    std::string bytes;
    for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
    std::vector<TokenId> ids;
    encoder.encode(bytes, ids);
    std::string back;
    for (const TokenId id : ids) back += vocabulary.bytes(id);
    fuzz::require(back == bytes);
  });
}
