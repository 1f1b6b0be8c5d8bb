// Tokens end where characters do not: what is unfinished waits.
#include <string_view>
#include <utility>

#include "dsv32/tokenizer.h"

#include "lib/base/held.h"
#include "lib/text/utf8.h"

namespace dsv32 {

class TokenDecoder::Impl {
 public:
  static constexpr std::string_view kOwner = "TokenDecoder";
  explicit Impl(Tokenizer t) : tokenizer(std::move(t)) {}
  Tokenizer tokenizer;
  std::string tail{};  // the beginning of a character: at most 3 bytes
};

TokenDecoder::TokenDecoder(Tokenizer tokenizer)
    : impl_(std::make_unique<Impl>(std::move(tokenizer))) {}
TokenDecoder::TokenDecoder(const TokenDecoder& other) : impl_(copy_held(other.impl_)) {}
TokenDecoder::TokenDecoder(TokenDecoder&&) noexcept = default;
TokenDecoder& TokenDecoder::operator=(TokenDecoder other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}
TokenDecoder::~TokenDecoder() = default;

std::string TokenDecoder::push(TokenId token) {
  Impl& impl = held(impl_);
  const std::string bytes = impl.tail + std::string(impl.tokenizer.bytes(token));
  std::string out;
  std::string_view rest = bytes;
  while (!rest.empty()) {
    const Utf8Char c = next_utf8(rest);
    if (c.state == Utf8Char::State::incomplete) break;
    out += c.state == Utf8Char::State::valid ? rest.substr(0, c.size) : kReplacement;
    rest.remove_prefix(c.size);
  }
  impl.tail = rest;
  return out;
}

std::string TokenDecoder::flush() { return valid_utf8(std::exchange(held(impl_).tail, {})); }

}  // namespace dsv32
