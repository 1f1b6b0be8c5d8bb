// As many drafts as a test wants, whether they pay or not.
#ifndef DSV32_TESTS_MODEL_FORCED_DRAFTS_H_
#define DSV32_TESTS_MODEL_FORCED_DRAFTS_H_

#include <functional>

namespace dsv32::test {

// While it lives, `drafts` says how many the policy wants for the next step: 0 to 4.
class ForcedDrafts {
 public:
  explicit ForcedDrafts(std::function<int()> drafts);
  ~ForcedDrafts();
  ForcedDrafts(const ForcedDrafts&) = delete;
  ForcedDrafts& operator=(const ForcedDrafts&) = delete;
};

}  // namespace dsv32::test

#endif  // DSV32_TESTS_MODEL_FORCED_DRAFTS_H_
