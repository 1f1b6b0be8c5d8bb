// A plug-in of some application, with the library linked into it.
#include <cstdint>
#include <functional>
#include <memory>

#include "dsv32/dsv32.h"

namespace {

using RunElsewhere = void (*)(void (*call)(void*), void* argument);

// Runs parts on a thread of the application's, which lives longer than the plug-in.
class Threads final : public dsv32::Executor {
 public:
  explicit Threads(RunElsewhere elsewhere) : run_(elsewhere) {}
  int concurrency() const noexcept override { return 2; }
  void run(int count, const std::function<void(int)>& part) override {
    struct Parts {
      int count;
      const std::function<void(int)>& part;
    } parts{count, part};
    run_(
        [](void* all) {
          const auto& [last, one] = *static_cast<Parts*>(all);
          for (int i = 0; i < last; ++i) one(i);
        },
        &parts);
  }

 private:
  RunElsewhere run_;
};

}  // namespace

// The best token behind a few of `model`; -1 for an error. `run`: on which thread, or null: our
// own.
extern "C" __attribute__((visibility("default"))) int best_token(const char* model,
                                                                 RunElsewhere run) {
  try {
    dsv32::LoadOptions options{.backend = {.num_threads = 2}, .kv_cache_tokens = 256};
    if (run != nullptr) options.backend.executor = std::make_shared<Threads>(run);
    dsv32::Session session(dsv32::Model::load(model, options));
    const dsv32::TokenId tokens[] = {1, 2, 3};
    return dsv32::Sampler({.temperature = 0.0f}).sample(session.append(tokens)).token;
  } catch (const dsv32::Error&) {
    return -1;
  }
}
