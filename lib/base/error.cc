// Error's out-of-line members, and how a message is kept short and printable.
#include "dsv32/error.h"

#include "dsv32/types.h"

#include "lib/base/check.h"

namespace dsv32 {
namespace {

constexpr std::size_t kMaxMessage = 512;
constexpr std::size_t kMaxQuoted = 64;

// The longest prefix of at most `limit` bytes that does not cut a UTF-8 sequence.
std::string_view utf8_prefix(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0) == 0x80) --limit;
  return text.substr(0, limit);
}

bool printable(unsigned char c) { return c >= 0x20 && c < 0x7F && c != '"' && c != '\\'; }

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    out += printable(byte) ? std::string(1, c) : formatted("\\x{:02x}", byte);
  }
  return out;
}

}  // namespace

Error::Error(ErrorCode code, const std::string& message)
    : std::runtime_error(std::string(utf8_prefix(message, kMaxMessage))), code_(code) {}

Error::~Error() = default;

std::string quote(std::string_view foreign) {
  return '"' + escaped(foreign.substr(0, kMaxQuoted)) +
         (foreign.size() > kMaxQuoted ? "..\"" : "\"");
}

std::string quote_path(std::string_view path) {
  if (path.size() <= kMaxQuoted) return quote(path);
  return "\".." + escaped(path.substr(path.size() - kMaxQuoted)) + '"';
}

std::string_view version() noexcept { return DSV32_VERSION; }

}  // namespace dsv32
