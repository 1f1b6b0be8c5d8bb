#include "tests/waiting/hooked_backend.h"

#include <array>
#include <memory>
#include <mutex>
#include <utility>

#include "lib/backend/backend_kind.h"
#include "tests/support/forwarding_backend.h"

namespace dsv32 {
namespace {

struct Hook {
  std::mutex mutex;
  std::shared_ptr<const std::function<void()>> call;

  void set(std::shared_ptr<const std::function<void()>> value) {
    const std::lock_guard guard(mutex);
    call = std::move(value);
  }
  std::shared_ptr<const std::function<void()>> get() {
    const std::lock_guard guard(mutex);
    return call;
  }
};

Hook& hook() {
  static Hook the_hook;
  return the_hook;
}

class HookedBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  void run(std::uint64_t key, FunctionRef<void()> pass) override {
    if (const auto call = hook().get()) (*call)();
    inner_->run(key, pass);
  }
};

std::unique_ptr<Backend> open_hooked(const BackendOptions& options) {
  return std::make_unique<HookedBackend>(cpu_backend_kind.open(options));
}

}  // namespace

// This program's list, instead of the library's.
std::span<const BackendKind* const> backend_kinds() {
  static const BackendKind kind = {.device = Device::cpu,
                                   .devices = cpu_backend_kind.devices,
                                   .open = open_hooked,
                                   .shapes = cpu_backend_kind.shapes,
                                   .scratch_bytes = cpu_backend_kind.scratch_bytes,
                                   .available_memory = cpu_backend_kind.available_memory};
  static const std::array<const BackendKind*, 1> kinds = {&kind};
  return kinds;
}

namespace test {

PassHook::PassHook(std::function<void()> call) {
  hook().set(std::make_shared<const std::function<void()>>(std::move(call)));
}
PassHook::~PassHook() { hook().set(nullptr); }

}  // namespace test
}  // namespace dsv32
