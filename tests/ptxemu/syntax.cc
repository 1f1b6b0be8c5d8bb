#include "tests/ptxemu/syntax.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace dsv32::ptxemu {
namespace {

bool begins_word(char c) {
  return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' || c == '%' ||
         c == '.';
}

bool goes_on(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '$' || c == '.';
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> all() {
    std::vector<Token> list;
    while (skip_blanks()) list.push_back(token());
    list.push_back({Token::Type::end, "end of the text", line_});
    return list;
  }

 private:
  char at(std::size_t i) const { return i < text_.size() ? text_[i] : '\0'; }

  bool skip_blanks() {
    while (at_ < text_.size()) {
      if (text_[at_] == '\n') ++line_;
      if (text_.substr(at_, 2) == "//") {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (text_.substr(at_, 2) == "/*") {
        const std::size_t end = text_.find("*/", at_);
        if (end == text_.npos) syntax_error(line_, "a comment without an end");
        line_ +=
            static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                        text_.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
        at_ = end + 2;
      } else if (text_[at_] == '\0' || std::isspace(static_cast<unsigned char>(text_[at_])) != 0) {
        ++at_;
      } else {
        return true;
      }
    }
    return false;
  }

  Token token() {
    const std::size_t begin = at_;
    Token token{Token::Type::mark, {}, line_};
    if (text_[at_] == '"') {
      token.type = Token::Type::string;
      const std::size_t end = text_.find('"', at_ + 1);
      if (end == text_.npos) syntax_error(line_, "a string without an end");
      at_ = end + 1;
      token.text = text_.substr(begin + 1, end - begin - 1);
      return token;
    }
    if (std::isdigit(static_cast<unsigned char>(text_[at_])) != 0) {
      token.type = Token::Type::number;
      while (goes_on(at(at_))) ++at_;
    } else if (begins_word(text_[at_])) {
      token.type = Token::Type::word;
      ++at_;
      // "::" is part of a word: ld.global.L1::evict_last
      while (goes_on(at(at_)) || text_.substr(at_, 2) == "::") at_ += goes_on(at(at_)) ? 1 : 2;
    } else {
      ++at_;
    }
    token.text = text_.substr(begin, at_ - begin);
    return token;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int line_ = 1;
};

std::uint64_t digits(const Token& token, std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) {
    syntax_error(token.line, "no number: " + std::string(token.text));
  }
  return value;
}

void part(std::string_view mnemonic, std::vector<std::string_view>& words) {
  while (!mnemonic.empty()) {
    const std::size_t dot = std::min(mnemonic.find('.'), mnemonic.size());
    words.push_back(mnemonic.substr(0, dot));
    mnemonic.remove_prefix(std::min(dot + 1, mnemonic.size()));
  }
}

}  // namespace

void syntax_error(int line, const std::string& text) { throw SyntaxError{line, text}; }

std::vector<Token> tokens_of(std::string_view text) { return Lexer(text).all(); }

bool Statement::has(std::string_view word) const {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// PTX ISA, "Constants": 0x.. 0b.. 0.. decimal, each perhaps with U; 0f and 0d are bits.
Operand number_operand(const Token& token) {
  Operand operand;
  operand.type = Operand::Type::number;
  std::string_view text = token.text;
  const char second = text.size() > 1 && text[0] == '0' ? text[1] : '\0';
  if (second == 'f' || second == 'F' || second == 'd' || second == 'D') {
    operand.written = second == 'f' || second == 'F' ? 'f' : 'd';
    operand.bits = digits(token, text.substr(2), 16);
    return operand;
  }
  if (text.back() == 'U') text.remove_suffix(1);
  if (second == 'x' || second == 'X') {
    operand.bits = digits(token, text.substr(2), 16);
  } else if (second == 'b' || second == 'B') {
    operand.bits = digits(token, text.substr(2), 2);
  } else {
    operand.bits = digits(token, text, text.size() > 1 && text[0] == '0' ? 8 : 10);
  }
  return operand;
}

const Token& Tokens::peek(std::size_t ahead) const {
  return list_[std::min(at_ + ahead, list_.size() - 1)];
}

Token Tokens::next() {
  const Token token = peek();
  if (token.type == Token::Type::end) fail("the text ends in the middle");
  ++at_;
  return token;
}

bool Tokens::take(std::string_view what) {
  if (!peek().is(what)) return false;
  ++at_;
  return true;
}

Token Tokens::expect(std::string_view what) {
  if (!peek().is(what)) {
    fail("expected '" + std::string(what) + "' before '" + std::string(peek().text) + "'");
  }
  return next();
}

Token Tokens::word() {
  if (peek().type != Token::Type::word) fail("no name: " + std::string(peek().text));
  return next();
}

std::uint64_t Tokens::number() {
  const bool negative = take("-");
  if (peek().type != Token::Type::number) fail("no number: " + std::string(peek().text));
  const std::uint64_t value = number_operand(next()).bits;
  return negative ? 0 - value : value;
}

void Tokens::fail(const std::string& text) const { syntax_error(peek().line, text); }

void Tokens::offset(Operand& operand) {
  if (take("+")) {
    operand.offset += static_cast<std::int64_t>(number());
  } else if (peek().is("-")) {
    operand.offset += static_cast<std::int64_t>(number());
  }
}

Operand Tokens::list(std::string_view closing) {
  Operand operand;
  operand.type = Operand::Type::list;
  if (take(closing)) return operand;
  do {
    operand.parts.push_back(this->operand());
  } while (take(","));
  expect(closing);
  return operand;
}

Operand Tokens::address() {
  Operand operand;
  if (peek().type == Token::Type::number) {
    operand.bits = number();
  } else {
    operand.name = word().text;
    offset(operand);
  }
  operand.type = Operand::Type::address;
  expect("]");
  return operand;
}

Operand Tokens::operand() {
  constexpr int kMaxDepth = 8;
  if (++depth_ > kMaxDepth) fail("operands too deep in each other");
  Operand operand = operand_here();
  --depth_;
  return operand;
}

Operand Tokens::operand_here() {
  if (take("[")) return address();
  if (take("{")) return list("}");
  if (take("(")) return list(")");
  if (take("!")) {
    Operand operand = this->operand();
    operand.negated = true;
    return operand;
  }
  if (peek().is("-")) {
    Operand operand;
    operand.type = Operand::Type::number;
    operand.bits = number();
    return operand;
  }
  if (peek().type == Token::Type::number) return number_operand(next());
  Operand operand;
  operand.name = word().text;
  offset(operand);
  if (!take("|")) return operand;
  Operand pair;
  pair.type = Operand::Type::pair;
  pair.parts.push_back(std::move(operand));
  pair.parts.push_back(this->operand());
  return pair;
}

Statement Tokens::statement() {
  Statement statement;
  statement.line = peek().line;
  if (take("@")) {
    statement.guard_negated = take("!");
    statement.guard = word().text;
  }
  statement.mnemonic = word().text;
  part(statement.mnemonic, statement.words);
  while (!take(";")) {
    statement.operands.push_back(operand());
    if (!peek().is(";")) expect(",");
  }
  return statement;
}

}  // namespace dsv32::ptxemu
