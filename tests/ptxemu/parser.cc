// A module's text (PTX ISA, "Directives"): variables and functions.
#include <algorithm>
#include <bit>
#include <cstring>

#include "tests/ptxemu/decoder.h"
#include "tests/ptxemu/link.h"
#include "tests/ptxemu/module_access.h"

namespace dsv32::ptxemu {
namespace {

constexpr std::uint64_t kMaxBytes = 1u << 28;  // of a variable

struct Declaration {
  std::string name;
  unsigned element = 0;  // bytes
  std::uint32_t bytes = 0, alignment = 1;
  bool open = false;  // name[]
  int line = 0;
};

class Parser {
 public:
  explicit Parser(std::string_view text) : tokens_(text) {}

  Code parse() {
    while (tokens_.peek().type != Token::Type::end) directive();
    link(code_);
    for (const Variable& variable : code_.variables) code_.symbols.push_back(variable.symbol);
    if (code_.version == 0) tokens_.fail("no .version");
    code_.last_line = tokens_.peek().line;
    return std::move(code_);
  }

 private:
  void directive() {
    if (tokens_.take(".version")) return version();
    if (tokens_.take(".target")) return target();
    if (tokens_.take(".address_size")) {
      if (tokens_.number() != 64) tokens_.fail("addresses of 64 bits alone are known here");
      return;
    }
    if (tokens_.take(".file")) return file();
    if (tokens_.take(".section")) return section();
    if (tokens_.take(".pragma")) return skip_statement();
    bool is_extern = false;
    for (;; tokens_.next()) {
      if (tokens_.peek().is(".extern"))
        is_extern = true;
      else if (!tokens_.peek().is(".visible") && !tokens_.peek().is(".weak") &&
               !tokens_.peek().is(".common"))
        break;
    }
    if (tokens_.take(".entry")) return function(true);
    if (tokens_.take(".func")) return function(false);
    if (tokens_.take(".shared")) return shared_variables(is_extern);
    if (tokens_.take(".global")) return variables(false, is_extern);
    if (tokens_.take(".const")) return variables(true, is_extern);
    tokens_.fail("unknown directive: " + std::string(tokens_.peek().text));
  }

  void version() {
    const std::string text(tokens_.next().text);
    const std::size_t dot = text.find('.');
    if (dot == text.npos || dot == 0 || dot + 1 >= text.size()) tokens_.fail("no version: " + text);
    code_.version = 10 * (text[dot - 1] - '0') + (text[dot + 1] - '0');
  }

  void target() {
    code_.target = std::string(tokens_.word().text);
    while (tokens_.take(",")) tokens_.word();
  }

  void file() {  // .file 1 "name"[, time, size]
    tokens_.number();
    tokens_.next();
    while (tokens_.take(",")) tokens_.number();
  }

  void section() {
    tokens_.word();
    tokens_.expect("{");
    for (int depth = 1; depth > 0;) {
      const Token token = tokens_.next();
      depth += token.is("{") ? 1 : token.is("}") ? -1 : 0;
    }
  }

  void skip_statement() {
    while (!tokens_.take(";")) tokens_.next();
  }

  void location() {  // .loc 1 2 3[, function_name name, inlined_at 1 2 3]
    for (int k = 0; k < 3; ++k) tokens_.number();
    while (tokens_.take(",")) {
      if (tokens_.word().is("function_name")) {
        tokens_.operand();
      } else {
        for (int k = 0; k < 3; ++k) tokens_.number();
      }
    }
  }

  // [.align n] [.vN] .type [.ptr ...] name[n][m]
  Declaration declaration() {
    Declaration d;
    d.line = tokens_.peek().line;
    unsigned vector = 1;
    bool aligned = false;
    while (tokens_.peek().text.substr(0, 1) == ".") {
      const std::string_view word = tokens_.next().text;
      if (word == ".align") {
        const auto alignment = static_cast<std::uint32_t>(tokens_.number());
        if (pointer_) continue;
        if (!std::has_single_bit(alignment) || alignment > 4096) tokens_.fail("no such alignment");
        d.alignment = alignment;
        aligned = true;
      } else if (word == ".v2" || word == ".v4") {
        vector = word == ".v2" ? 2 : 4;
      } else if (word == ".ptr") {
        pointer_ = true;  // what follows is about what it points to
      } else if (word == ".attribute") {
        tokens_.operand();
      } else if (type_bytes(word.substr(1)) != kNoType) {
        d.element = type_bytes(word.substr(1));
      } else if (!pointer_) {
        tokens_.fail("unknown word of a declaration: " + std::string(word));
      }
    }
    pointer_ = false;
    d.name = std::string(tokens_.word().text);
    std::uint64_t count = vector;
    while (tokens_.take("[")) {
      if (tokens_.take("]")) {
        d.open = true;
        continue;
      }
      count *= tokens_.number();
      if (count > kMaxBytes) tokens_.fail("a variable too large: " + d.name);
      tokens_.expect("]");
    }
    if (d.element == 0) tokens_.fail("a variable without a type: " + d.name);
    d.bytes = static_cast<std::uint32_t>(count * d.element);
    if (!aligned) d.alignment = d.element * vector;
    return d;
  }

  void shared_variables(bool is_extern) {
    do {
      const Declaration d = declaration();
      code_.shared.push_back({d.name, d.open ? 0 : d.bytes, d.alignment, is_extern || d.open});
    } while (tokens_.take(","));
    tokens_.expect(";");
  }

  void variables(bool constant, bool is_extern) {
    if (is_extern) tokens_.fail("a variable of another module");
    do {
      const Declaration d = declaration();
      Variable variable;
      variable.symbol = {d.name, d.bytes, std::max(d.alignment, 1u), constant};
      if (tokens_.take("=")) {
        variable.initialised = true;
        initialiser(variable, d.element);
        if (d.open) variable.symbol.bytes = variable.first.size();
        if (variable.first.size() > variable.symbol.bytes) tokens_.fail("too many values");
      }
      code_.variables.push_back(std::move(variable));
    } while (tokens_.take(","));
    tokens_.expect(";");
  }

  void initialiser(Variable& variable, unsigned element) {
    if (tokens_.take("{")) {
      do {
        if (variable.first.size() > kMaxBytes) tokens_.fail("too many values");
        if (!tokens_.peek().is("}")) initialiser(variable, element);
      } while (tokens_.take(","));
      tokens_.expect("}");
      return;
    }
    const std::size_t at = variable.first.size();
    variable.first.resize(at + element);
    Operand value = tokens_.operand();
    if (value.name == "generic" && tokens_.peek().is("(")) {
      const Operand inside = tokens_.operand();
      if (inside.parts.size() != 1) tokens_.fail("generic() of one address");
      value = inside.parts[0];
    }
    if (value.type == Operand::Type::number) {
      std::memcpy(&variable.first[at], &value.bits, std::min<std::size_t>(element, 8));
      return;
    }
    if (element != 8) tokens_.fail("an address in less than 64 bits");
    variable.relocations.push_back({at, std::string(value.name), value.offset});
  }

  std::vector<Declaration> parameters() {
    std::vector<Declaration> list;
    if (!tokens_.take("(")) return list;
    if (tokens_.take(")")) return list;
    do {
      tokens_.expect(".param");
      list.push_back(declaration());
    } while (tokens_.take(","));
    tokens_.expect(")");
    return list;
  }

  void size3(Size3& size) {
    size.x = static_cast<unsigned>(tokens_.number());
    size.y = tokens_.take(",") ? static_cast<unsigned>(tokens_.number()) : 1;
    size.z = tokens_.take(",") ? static_cast<unsigned>(tokens_.number()) : 1;
  }

  void attributes(Kernel& kernel) {
    while (tokens_.peek().text.substr(0, 1) == ".") {
      const std::string_view word = tokens_.next().text;
      if (word == ".maxntid") {
        size3(kernel.max_block);
      } else if (word == ".reqntid") {
        size3(kernel.required_block);
      } else if (word == ".minnctapersm" || word == ".maxnreg" || word == ".maxnctapersm") {
        tokens_.number();
      } else if (word == ".pragma") {
        skip_statement();
      } else if (word != ".noreturn") {
        tokens_.fail("unknown word of a function: " + std::string(word));
      }
    }
  }

  std::size_t function_index(const std::string& name) {
    for (std::size_t k = 0; k < code_.functions.size(); ++k) {
      if (code_.functions[k].name == name) return k;
    }
    code_.functions.emplace_back();
    code_.functions.back().name = name;
    return code_.functions.size() - 1;
  }

  void function(bool entry) {
    const int line = tokens_.peek().line;
    while (tokens_.take(".noreturn")) {
    }
    const std::vector<Declaration> results = entry ? std::vector<Declaration>{} : parameters();
    const std::string name(tokens_.word().text);
    const std::vector<Declaration> formals = parameters();
    Kernel kernel;
    kernel.name = name;
    attributes(kernel);
    const std::size_t index = function_index(name);
    if (tokens_.take(";")) return;  // a prototype
    Function function;
    function.name = name;
    function.entry = entry;
    function.defined = true;
    function.line = line;
    if (code_.functions[index].defined) tokens_.fail("a function twice: " + name);
    Decoder decoder(code_, function);
    tokens_.expect("{");
    decoder.open();
    declare(decoder, function, kernel, results, formals);
    body(decoder);
    decoder.finish();
    kernel.registers = std::min(function.registers, 255u);
    kernel.local_bytes = function.local_bytes;
    code_.functions[index] = std::move(function);
    if (!entry) return;
    code_.kernels.push_back(std::move(kernel));
    code_.kernel_functions.push_back(static_cast<std::uint32_t>(index));
  }

  void declare(Decoder& decoder, Function& function, Kernel& kernel,
               const std::vector<Declaration>& results, const std::vector<Declaration>& formals) {
    for (const Declaration& d : results) {
      decoder.declare_param(d.name, d.bytes, d.alignment);
      function.results.push_back(decoder.param(d.name)->slice);
    }
    for (const Declaration& d : formals) {
      if (!function.entry) {
        decoder.declare_param(d.name, d.bytes, d.alignment);
        function.formals.push_back(decoder.param(d.name)->slice);
        continue;
      }
      const std::size_t offset =
          (kernel.parameter_bytes + d.alignment - 1) / d.alignment * d.alignment;
      kernel.parameters.push_back({d.name, offset, d.bytes});
      kernel.parameter_bytes = offset + d.bytes;
      decoder.declare_kernel_param(d.name, {static_cast<std::uint32_t>(offset), d.bytes});
    }
  }

  void body(Decoder& decoder) {
    for (int depth = 1; depth > 0;) {
      const Token token = tokens_.peek();
      if (token.type == Token::Type::end) tokens_.next();  // an error
      if (tokens_.take("{")) {
        decoder.open();
        ++depth;
      } else if (tokens_.take("}")) {
        decoder.close();
        --depth;
      } else if (tokens_.take(";")) {
        continue;
      } else if (tokens_.peek(1).is(":")) {
        label(decoder);
      } else if (token.text.substr(0, 1) == ".") {
        tokens_.next();
        body_directive(decoder, token.text);
      } else {
        decoder.instruction(tokens_.statement());
      }
    }
  }

  void label(Decoder& decoder) {
    const Token name = tokens_.word();
    tokens_.expect(":");
    if (tokens_.take(".branchtargets")) {
      std::vector<std::string> labels;
      do {
        labels.emplace_back(tokens_.word().text);
      } while (tokens_.take(","));
      tokens_.expect(";");
      return decoder.table(std::string(name.text), std::move(labels));
    }
    if (tokens_.peek().is(".callprototype") || tokens_.peek().is(".calltargets")) {
      return skip_statement();
    }
    decoder.label(std::string(name.text), name.line);
  }

  void body_directive(Decoder& decoder, std::string_view word) {
    if (word == ".reg") return registers(decoder, tokens_.word().text.substr(1));
    if (word.substr(0, 5) == ".reg.") return registers(decoder, word.substr(5));
    if (word == ".shared") return shared_variables(false);
    if (word == ".loc") return location();
    if (word == ".pragma") return skip_statement();
    if (word != ".local" && word != ".param") {
      tokens_.fail("unknown directive: " + std::string(word));
    }
    do {
      const Declaration d = declaration();
      if (word == ".local") decoder.declare_local(d.name, d.bytes, d.alignment);
      if (word == ".param") decoder.declare_param(d.name, d.bytes, d.alignment);
    } while (tokens_.take(","));
    tokens_.expect(";");
  }

  void registers(Decoder& decoder, std::string_view type) {
    const unsigned bytes = type_bytes(type);
    if (bytes == kNoType) tokens_.fail("no such type: " + std::string(type));
    do {
      const std::string name(tokens_.word().text);
      if (tokens_.take("<")) {
        tokens_.number();
        tokens_.expect(">");
        decoder.declare_range(name, bytes);
      } else {
        decoder.declare_register(name, bytes);
      }
    } while (tokens_.take(","));
    tokens_.expect(";");
  }

  Tokens tokens_;
  Code code_;
  bool pointer_ = false;
};

}  // namespace

ParseResult parse(std::string_view ptx) {
  ParseResult result;
  try {
    ModuleAccess::set(result.module, std::make_shared<const Code>(Parser(ptx).parse()));
    result.ok = true;
  } catch (const SyntaxError& error) {
    result.error = error.text;
    result.line = error.line;
  }
  return result;
}

}  // namespace dsv32::ptxemu
