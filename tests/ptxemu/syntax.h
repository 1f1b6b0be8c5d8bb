// PTX text as tokens and statements (PTX ISA, "Syntax"); what they mean is the parser's part.
#ifndef DSV32_TESTS_PTXEMU_SYNTAX_H_
#define DSV32_TESTS_PTXEMU_SYNTAX_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dsv32::ptxemu {

// Thrown within the parser alone; parse() makes a value of it.
struct SyntaxError {
  int line = 0;
  std::string text;
};
[[noreturn]] void syntax_error(int line, const std::string& text);

struct Token {
  enum class Type : std::uint8_t { word, number, string, mark, end };
  Type type = Type::end;
  std::string_view text;
  int line = 0;
  bool is(std::string_view what) const { return text == what && type != Type::string; }
};
std::vector<Token> tokens_of(std::string_view text);  // ends in Type::end

struct Operand {
  enum class Type : std::uint8_t { name, number, address, list, pair };
  Type type = Type::name;
  std::string_view name;    // of a name or an address
  std::uint64_t bits = 0;   // of a number, or of an address without a name
  char written = 'i';       // the number: i, f (f32's bits) or d (f64's bits)
  std::int64_t offset = 0;  // name+offset
  bool negated = false;     // !name
  std::vector<Operand> parts;
};

struct Statement {
  int line = 0;
  std::string_view guard;  // @guard or @!guard
  bool guard_negated = false;
  std::string_view mnemonic;
  std::vector<std::string_view> words;  // of the mnemonic, between its dots; "::" parts no word
  std::vector<Operand> operands;

  bool has(std::string_view word) const;
  std::string_view type() const { return words.back(); }
};

class Tokens {
 public:
  explicit Tokens(std::string_view text) : list_(tokens_of(text)) {}

  const Token& peek(std::size_t ahead = 0) const;
  Token next();
  bool take(std::string_view what);  // if it is next
  Token expect(std::string_view what);
  Token word();
  std::uint64_t number();  // a whole one, perhaps negative
  Operand operand();
  Statement statement();  // an instruction up to its semicolon
  [[noreturn]] void fail(const std::string& text) const;

 private:
  Operand operand_here();
  Operand list(std::string_view closing);
  Operand address();
  void offset(Operand& operand);

  std::vector<Token> list_;
  std::size_t at_ = 0;
  int depth_ = 0;  // of operands in operands
};

Operand number_operand(const Token& token);

}  // namespace dsv32::ptxemu

#endif  // DSV32_TESTS_PTXEMU_SYNTAX_H_
