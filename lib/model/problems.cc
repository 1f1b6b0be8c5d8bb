// Checkpoint::problems: all files of a folder, as a load would read them.
#include <string>
#include <utility>
#include <vector>

#include "dsv32/checkpoint.h"

#include "lib/base/check.h"
#include "lib/base/check_enum.h"
#include "lib/base/float_state.h"
#include "lib/base/held.h"
#include "lib/model/generation_config.h"
#include "lib/model/loaded_model.h"
#include "lib/weights/binder.h"
#include "lib/weights/checkpoint_impl.h"

namespace dsv32 {
namespace {

// What `read` throws about a file.
template <class Read>
void collect(std::vector<Problem>& problems, Read&& read) {
  try {
    read();
  } catch (const Error& error) {
    problems.push_back({error.code(), error.what()});
  }
}

}  // namespace

std::vector<Problem> Checkpoint::problems(Verify verify) const {
  const Impl& impl = held(impl_);
  const FloatState ours;
  check_enum("verify", verify, Verify::all);
  Binder binder(impl.config, impl.shards,
                {.mtp = impl.config.num_nextn_predict_layers > 0, .verify = verify});
  binder.walk();
  std::vector<Problem> problems = binder.problems();
  collect(problems, [&] { static_cast<void>(LoadedModel::read_tokenizer(impl)); });
  collect(problems,
          [&] { static_cast<void>(read_generation_config(impl.folder, impl.config.vocab_size)); });
  return problems;
}

}  // namespace dsv32
