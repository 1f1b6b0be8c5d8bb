#include "tests/ptxemu/link.h"

#include <algorithm>
#include <unordered_set>

#include "tests/ptxemu/syntax.h"

namespace dsv32::ptxemu {
namespace {

void resolve_calls(const Code& code, Function& function) {
  for (Call& call : function.calls) {
    if (call.reg != kNone) continue;
    for (std::uint32_t k = 0; k < code.functions.size(); ++k) {
      if (code.functions[k].name == call.name) call.function = k;
    }
    const bool there = call.function != kNone &&
                       (code.functions[call.function].defined || call.name == "__assertfail");
    if (!there) syntax_error(call.line, "a function without a body: " + call.name);
  }
}

// All functions that a kernel may come to; one that it calls by address may be any.
std::unordered_set<std::uint32_t> reached(const Code& code, std::uint32_t from) {
  std::unordered_set<std::uint32_t> all{from};
  std::vector<std::uint32_t> open{from};
  const auto add = [&](std::uint32_t k) {
    if (all.insert(k).second) open.push_back(k);
  };
  while (!open.empty()) {
    const Function& function = code.functions[open.back()];
    open.pop_back();
    for (const Call& call : function.calls) {
      if (call.reg == kNone) {
        add(call.function);
        continue;
      }
      for (std::uint32_t k = 0; k < code.functions.size(); ++k) {
        if (!code.functions[k].entry) add(k);
      }
    }
  }
  return all;
}

// First what the module has of its own, then, all of it at one place, what the launch adds.
SharedLayout lay_out_shared(const Code& code, std::uint32_t function) {
  SharedLayout layout;
  layout.offsets.assign(code.shared.size(), kNone);
  std::vector<bool> used(code.shared.size());
  for (const std::uint32_t k : reached(code, function)) {
    for (const Fill& fill : code.functions[k].fills) {
      if (fill.what == Special::shared_variable) used[fill.index] = true;
    }
  }
  for (const bool dynamic : {false, true}) {
    const std::uint32_t before = layout.static_bytes;
    for (std::size_t k = 0; k < used.size(); ++k) {
      const SharedVariable& variable = code.shared[k];
      if (!used[k] || variable.dynamic != dynamic) continue;
      const std::uint32_t from = dynamic ? before : layout.static_bytes;
      layout.offsets[k] = (from + variable.alignment - 1) / variable.alignment * variable.alignment;
      layout.static_bytes = std::max(layout.static_bytes, layout.offsets[k] + variable.bytes);
    }
  }
  return layout;
}

}  // namespace

void link(Code& code) {
  for (Function& function : code.functions) resolve_calls(code, function);
  for (std::size_t k = 0; k < code.kernels.size(); ++k) {
    code.layouts.push_back(lay_out_shared(code, code.kernel_functions[k]));
    code.kernels[k].static_shared = code.layouts.back().static_bytes;
  }
}

}  // namespace dsv32::ptxemu
