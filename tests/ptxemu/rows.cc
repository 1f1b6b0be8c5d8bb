#include "tests/ptxemu/rows.h"

#include <unordered_map>

#include "tests/ptxemu/decoder.h"

namespace dsv32::ptxemu {
namespace {

const std::unordered_map<std::string, Row>& table() {
  static const std::unordered_map<std::string, Row> kTable = [] {
    Rows rows;
    add_integer_rows(rows);
    add_carry_rows(rows);
    add_float_rows(rows);
    add_half_rows(rows);
    add_logic_rows(rows);
    add_video_rows(rows);
    std::unordered_map<std::string, Row> all;
    for (Row& row : rows) all.emplace(row.key, std::move(row));
    return all;
  }();
  return kTable;
}

// Rounding to nearest is what a float instruction does anyway, "approx" and "full" are what this
// machine does exactly.
std::string key_of(const Statement& statement) {
  const bool is_float = statement.type().find('f') != std::string_view::npos;
  std::string key;
  for (const std::string_view word : statement.words) {
    if (is_float && (word == "rn" || word == "approx" || word == "full")) continue;
    if (!key.empty()) key += '.';
    key += word;
  }
  return key;
}

}  // namespace

void decode_row(Decoder& decoder, const Statement& statement, Instruction& i) {
  const auto found = table().find(key_of(statement));
  if (found == table().end()) decoder.fail("no such form of an instruction");
  const Row& row = found->second;
  if (statement.operands.size() != row.sources.size() + 1) {
    decoder.fail(std::to_string(row.sources.size() + 1) + " operands are needed");
  }
  i.run = row.run;
  for (std::size_t k = 0; k < row.sources.size(); ++k) {
    if (statement.operands[k + 1].negated) decoder.fail("a negation where none may be");
    i.reg[k + 1] = decoder.source(statement.operands[k + 1], row.sources[k]);
  }
  i.reg[0] = decoder.target(statement.operands[0], row.result);
}

}  // namespace dsv32::ptxemu
