// A callable that lives elsewhere: two words, no allocation.
#ifndef DSV32_LIB_BASE_FUNCTION_REF_H_
#define DSV32_LIB_BASE_FUNCTION_REF_H_

#include <memory>
#include <type_traits>
#include <utility>

namespace dsv32 {

template <class Signature>
class FunctionRef;

// For parameters only: what it refers to must outlive the call.
template <class Result, class... Arguments>
class FunctionRef<Result(Arguments...)> {
 public:
  // Implicit, so that a lambda fits where it is asked for.
  template <class F,
            class = std::enable_if_t<!std::is_same_v<std::remove_cvref_t<F>, FunctionRef> &&
                                     std::is_invocable_r_v<Result, F&, Arguments...>>>
  FunctionRef(F&& f) noexcept
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, Arguments... arguments) -> Result {
          return (*static_cast<std::remove_reference_t<F>*>(object))(
              std::forward<Arguments>(arguments)...);
        }) {}

  Result operator()(Arguments... arguments) const {
    return call_(object_, std::forward<Arguments>(arguments)...);
  }

 private:
  void* object_;
  Result (*call_)(void*, Arguments...);
};

}  // namespace dsv32

#endif  // DSV32_LIB_BASE_FUNCTION_REF_H_
