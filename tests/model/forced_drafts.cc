// The linker puts these in front of DraftPolicy's (--wrap in tests/CMakeLists.txt).
#include "tests/model/forced_drafts.h"

#include <utility>

#include "lib/engine/draft_policy.h"

namespace dsv32::test {
namespace {

std::function<int()> forced;

}  // namespace

ForcedDrafts::ForcedDrafts(std::function<int()> drafts) { forced = std::move(drafts); }
ForcedDrafts::~ForcedDrafts() { forced = nullptr; }

}  // namespace dsv32::test

// NOLINTBEGIN(bugprone-reserved-identifier): the linker's names.
extern "C" {
int __real__ZNK5dsv3211DraftPolicy4nextEv(const dsv32::DraftPolicy* policy) noexcept;
int __wrap__ZNK5dsv3211DraftPolicy4nextEv(const dsv32::DraftPolicy* policy) noexcept;
int __real__ZNK5dsv3211DraftPolicy4bestEv(const dsv32::DraftPolicy* policy) noexcept;
int __wrap__ZNK5dsv3211DraftPolicy4bestEv(const dsv32::DraftPolicy* policy) noexcept;
}

int __wrap__ZNK5dsv3211DraftPolicy4nextEv(const dsv32::DraftPolicy* policy) noexcept {
  return dsv32::test::forced ? dsv32::test::forced()
                             : __real__ZNK5dsv3211DraftPolicy4nextEv(policy);
}
int __wrap__ZNK5dsv3211DraftPolicy4bestEv(const dsv32::DraftPolicy* policy) noexcept {
  return dsv32::test::forced ? dsv32::test::forced()
                             : __real__ZNK5dsv3211DraftPolicy4bestEv(policy);
}
// NOLINTEND(bugprone-reserved-identifier)
