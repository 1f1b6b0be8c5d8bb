// What a public class holds behind its one pointer, which is null once the object was moved from.
#ifndef DSV32_LIB_BASE_HELD_H_
#define DSV32_LIB_BASE_HELD_H_

#include <memory>
#include <type_traits>

#include "lib/base/check.h"

namespace dsv32 {

// *impl; throws state if there is none. The class is named by its Impl::kOwner.
template <class Pointer>
auto& held(const Pointer& impl) {
  using Impl = std::remove_cvref_t<decltype(*impl)>;
  DSV32_CHECK(impl != nullptr, state, "this {} was moved from", Impl::kOwner);
  return *impl;
}

// For copy constructors: a copy of nothing is nothing.
template <class Impl>
std::unique_ptr<Impl> copy_held(const std::unique_ptr<Impl>& impl) {
  return impl != nullptr ? std::make_unique<Impl>(*impl) : nullptr;
}

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_HELD_H_
