// Contexts and handles of the fake driver, and what every call passes before it begins.
#include "tests/ptxemu/fake_libcuda_driver.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace dsv32::fakecuda {
namespace {

// Results after which a context answers nothing else any more.
bool breaks_context(Result result) {
  const int code = result;
  return code == ecc_uncorrectable || code == illegal_address || code == launch_timeout ||
         (code >= 714 && code <= 719) || code == 710 || code == 721;
}

bool before_init(Call which) {
  return which == Call::cuInit || which == Call::cuDriverGetVersion ||
         which == Call::cuGetErrorName || which == Call::cuGetErrorString ||
         which == Call::cuGetProcAddress_v2;
}

bool allocates(Call which) { return which == Call::cuMemAlloc_v2 || which == Call::cuMemHostAlloc; }

}  // namespace

const char* call_name(Call which) {
  static constexpr std::array<const char*, kCalls> kNames{
#define FAKECUDA_NAME(name, parameters) #name,
      FAKECUDA_CALLS(FAKECUDA_NAME)
#undef FAKECUDA_NAME
  };
  return kNames[static_cast<std::size_t>(which)];
}

// A thread's own. A program's static destructors come behind those of its main thread: they get
// one more, which nobody destroys.
ContextStack& context_stack() {
  thread_local bool gone = false;
  struct Own {
    ~Own() { gone = true; }
    ContextStack stack;
  };
  thread_local Own own;
  static ContextStack* const last = new ContextStack;
  return gone ? *last : own.stack;
}

// Never destroyed: a program may call from its own static destructors.
Driver& Driver::get() {
  static Driver* const driver = new Driver;
  return *driver;
}

Result Driver::enter(Call which) {
  if (initialized_ && process_ != getpid()) {
    // A real driver's answers in a forked child are undefined: nobody may ask.
    std::fprintf(stderr, "fakecuda: %s in a process forked after cuInit\n", call_name(which));
    _exit(70);
  }
  ++calls[static_cast<std::size_t>(which)];
  if (settings.stub != 0) return stub_library;
  if (which == Call::cuGetErrorName || which == Call::cuGetErrorString) return success;
  if (vanish_in > 0 && --vanish_in == 0) vanished = true;
  if (vanished) return vanish_result;
  Result result = take_failure(call_name(which));
  if (result == success && allocates(which)) result = take_failure("allocation");
  if (result != success) {
    std::shared_ptr<Context> context;
    if (breaks_context(result) && current(context) == success) break_context(*context, result);
    return result;
  }
  return initialized_ || before_init(which) ? success : not_initialized;
}

Result Driver::take_failure(const std::string& name) {
  Result result = success;
  for (Failure& failure : failures) {
    if (failure.name == name && --failure.left == 0) result = failure.result;
  }
  std::erase_if(failures, [](const Failure& failure) { return failure.left <= 0; });
  return result;
}

void Driver::finding(const std::string& text) {
  std::fprintf(stderr, "fakecuda: %s\n", text.c_str());
  if (findings.size() < 1000) findings.push_back(text);
}

Result Driver::initialize() {
  if (settings.devices <= 0) return no_device;
  const bool in_use = std::any_of(devices_.begin(), devices_.end(),
                                  [](const auto& device) { return device->primary != nullptr; });
  if (!in_use) {
    devices_.clear();
    for (long long i = 0; i < settings.devices; ++i) {
      devices_.push_back(std::make_shared<Device>(static_cast<std::size_t>(settings.memory)));
    }
  }
  initialized_ = true;
  process_ = getpid();
  return success;
}

std::shared_ptr<Device> Driver::device(int ordinal) const {
  const bool there = ordinal >= 0 && static_cast<std::size_t>(ordinal) < devices_.size();
  return there ? devices_[static_cast<std::size_t>(ordinal)] : nullptr;
}

Result Driver::retain(int ordinal, Handle& context) {
  const std::shared_ptr<Device> on = device(ordinal);
  if (on == nullptr) return invalid_device;
  if (on->primary == nullptr) {
    on->primary = std::make_shared<Context>(ordinal, on);
    on->primary->handle = add(on->primary);
  }
  ++on->primary->retained;
  context = on->primary->handle;
  return success;
}

Result Driver::release(int ordinal, bool all) {
  const std::shared_ptr<Device> on = device(ordinal);
  if (on == nullptr) return invalid_device;
  if (on->primary == nullptr) return all ? success : invalid_context;
  on->primary->retained = all ? 0 : on->primary->retained - 1;
  if (on->primary->retained == 0) destroy_context(*on);
  return success;
}

// All that lives in it goes with it. A broken one has to be left like that, a healthy one not.
void Driver::destroy_context(Device& device) {
  const std::shared_ptr<Context> context = device.primary;
  std::array<int, static_cast<std::size_t>(ObjectKind::count)> left{};
  for (auto at = objects_.begin(); at != objects_.end();) {
    if (at->second->context == context) {
      ++left[static_cast<std::size_t>(at->second->kind)];
      forget(*at->second);
      at = objects_.erase(at);
    } else {
      ++at;
    }
  }
  const auto of = [&left](ObjectKind kind) { return left[static_cast<std::size_t>(kind)]; };
  const std::size_t blocks = context->memory.size() + context->pinned.size();
  const int others = of(ObjectKind::stream) + of(ObjectKind::event) + of(ObjectKind::module) +
                     of(ObjectKind::graph) + of(ObjectKind::executable);
  if (context->sticky == success && (blocks != 0 || others != 0)) {
    finding("left behind in a context that was destroyed: " + std::to_string(blocks) +
            " allocations, " + std::to_string(of(ObjectKind::stream)) + " streams, " +
            std::to_string(of(ObjectKind::event)) + " events, " +
            std::to_string(of(ObjectKind::module)) + " modules, " +
            std::to_string(of(ObjectKind::graph)) + " graphs, " +
            std::to_string(of(ObjectKind::executable)) + " executable graphs");
  }
  std::erase_if(streams_, [&](const auto& stream) { return stream->context == context; });
  for (const auto& [address, block] : context->memory) device.machine.release(address);
  for (const auto& [address, block] : context->pinned) std::free(const_cast<char*>(address));
  context->memory.clear();
  context->pinned.clear();
  context->destroyed = true;
  objects_.erase(context->handle);
  device.primary = nullptr;
}

// What an object has beside its handle.
void Driver::forget(Object& object) {
  object.destroyed = true;
  if (object.kind == ObjectKind::module) {
    Module& module = static_cast<Module&>(object);
    module.context->machine().unload(module.loaded);
  }
}

Result Driver::current(std::shared_ptr<Context>& context, bool broken_too) {
  if (context_stack().empty() || context_stack().back() == nullptr) return invalid_context;
  context = context_stack().back();
  if (context->destroyed) return context_is_destroyed;
  return broken_too ? success : context->sticky;
}

std::shared_ptr<Context> Driver::find_context(Handle handle) {
  const auto found = objects_.find(handle);
  if (found == objects_.end() || found->second->kind != ObjectKind::context) return nullptr;
  return std::static_pointer_cast<Context>(found->second);
}

void Driver::destroy(Handle handle) {
  const auto found = objects_.find(handle);
  const std::shared_ptr<Object> object = found->second;
  objects_.erase(found);
  forget(*object);
  if (object->kind == ObjectKind::module) {  // its functions go with it
    std::erase_if(objects_, [&](const auto& entry) {
      return entry.second->kind == ObjectKind::function &&
             static_cast<const Function&>(*entry.second).module == object;
    });
  }
}

std::uint64_t Driver::live(const std::string& kind) const {
  static const std::map<std::string, ObjectKind> kinds{{"module", ObjectKind::module},
                                                       {"stream", ObjectKind::stream},
                                                       {"event", ObjectKind::event},
                                                       {"graph", ObjectKind::graph},
                                                       {"exec", ObjectKind::executable}};
  std::uint64_t sum = 0;
  if (const auto found = kinds.find(kind); found != kinds.end()) {
    for (const auto& [handle, object] : objects_) sum += object->kind == found->second ? 1u : 0u;
    return sum;
  }
  for (const auto& device : devices_) {
    if (device->primary == nullptr) continue;
    const Context& context = *device->primary;
    if (kind == "context") sum += static_cast<std::uint64_t>(context.retained);
    if (kind == "allocation") sum += context.memory.size() + context.pinned.size();
    if (kind == "device") {
      for (const auto& [address, block] : context.memory) sum += block.bytes;
    }
    if (kind == "host") {
      for (const auto& [address, block] : context.pinned) sum += block.bytes;
    }
  }
  return sum;
}

void Driver::reset() {
  for (const auto& device : devices_) {
    if (device->primary == nullptr) continue;
    device->primary->sticky =
        device->primary->sticky == success ? unknown : device->primary->sticky;
    destroy_context(*device);
  }
  devices_.clear();
  objects_.clear();
  streams_.clear();
  initialized_ = false;
  failures.clear();
  vanish_in = 0;
  vanished = false;
  findings.clear();
  calls = {};
  kernels = copies = instructions = allocations = device_peak = 0;
  launches_ = random_state_ = 0;
  settings = {};
  read_environment();
}

}  // namespace dsv32::fakecuda
