// Every instruction that is known, by the first word of its mnemonic.
#include <unordered_map>

#include "tests/ptxemu/decoder.h"

namespace dsv32::ptxemu {

Decode decode_of(std::string_view root) {
  static const std::unordered_map<std::string_view, Decode> kAll = [] {
    std::unordered_map<std::string_view, Decode> all;
    static constexpr std::string_view kRows[] = {
        "add",   "addc",      "sub",   "subc",  "mul",   "mad",   "madc",      "mul24", "mad24",
        "div",   "rem",       "min",   "max",   "sad",   "neg",   "abs",       "bfe",   "bfi",
        "bfind", "popc",      "clz",   "brev",  "szext", "bmsk",  "fma",       "rcp",   "sqrt",
        "rsqrt", "ex2",       "lg2",   "sin",   "cos",   "tanh",  "copysign",  "and",   "or",
        "xor",   "not",       "cnot",  "shl",   "shr",   "shf",   "dp4a",      "dp2a",  "vadd4",
        "vsub4", "vabsdiff4", "vmin4", "vmax4", "vadd2", "vsub2", "vabsdiff2", "vmin2", "vmax2"};
    for (const std::string_view row : kRows) all[row] = decode_row;
    const std::pair<std::string_view, Decode> others[] = {
        {"setp", decode_setp},
        {"set", decode_set},
        {"selp", decode_selp},
        {"slct", decode_slct},
        {"testp", decode_testp},
        {"mov", decode_mov},
        {"cvt", decode_cvt},
        {"cvta", decode_cvta},
        {"isspacep", decode_isspacep},
        {"lop3", decode_lop3},
        {"prmt", decode_prmt},
        {"ld", decode_ld},
        {"ldu", decode_ld},
        {"st", decode_st},
        {"atom", decode_atom},
        {"red", decode_atom},
        {"fence", decode_fence},
        {"membar", decode_fence},
        {"cp", decode_cp},
        {"shfl", decode_shfl},
        {"vote", decode_vote},
        {"match", decode_match},
        {"redux", decode_redux},
        {"elect", decode_elect},
        {"activemask", decode_activemask},
        {"mma", decode_mma},
        {"ldmatrix", decode_ldmatrix},
        {"stmatrix", decode_stmatrix},
        {"movmatrix", decode_movmatrix},
        {"bar", decode_bar},
        {"barrier", decode_bar},
        {"bra", decode_bra},
        {"brx", decode_brx},
        {"call", decode_call},
        {"ret", decode_ret},
        {"exit", decode_exit},
        {"trap", decode_trap},
        {"brkpt", decode_trap},
        {"nanosleep", decode_nothing},
        {"prefetch", decode_nothing},
        {"prefetchu", decode_nothing},
        {"pmevent", decode_nothing},
    };
    for (const auto& [name, decode] : others) all[name] = decode;
    return all;
  }();
  const auto found = kAll.find(root);
  return found == kAll.end() ? nullptr : found->second;
}

}  // namespace dsv32::ptxemu
