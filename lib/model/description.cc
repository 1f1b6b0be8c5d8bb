// What a model is, in words: for files that must not be of another one.
#include "lib/base/format.h"
#include "lib/base/hash.h"
#include "lib/config/logit_values.h"
#include "lib/model/loaded_model.h"

namespace dsv32 {

std::string LoadedModel::description() const {
  std::string text = formatted("numerics={}\n", to_string(options.numerics));
  text += formatted("kv_format={}\n", to_string(forward_options.kv_format));
  text += formatted("indexer_keys={}\n", to_string(forward_options.indexer_keys));
  text += formatted("mtp={}\npage_tokens={}\n", has_mtp() ? "on" : "off", kPageTokens);
  text += logit_values(config);
  text += formatted("weights={}\n", weights_print(Verify::scales));
  if (options.verify == Verify::all)
    text += formatted("all_weights={}\n", weights_print(Verify::all));
  return text + formatted("kernel_set={}\n", kernel_set());
}

std::string LoadedModel::weights_print(Verify verify) const {
  const std::lock_guard guard(prints_mutex_);
  std::string& print = prints_.at(static_cast<std::size_t>(verify));
  if (print.empty()) {
    Hash hash;
    add_model(hash, files, verify);
    print = hash.hex();
  }
  return print;
}

}  // namespace dsv32
