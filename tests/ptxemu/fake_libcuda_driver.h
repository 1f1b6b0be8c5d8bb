// The fake driver's state: devices, contexts and what lives in them, work that waits in streams.
//
// Work is deferred: it runs when somebody waits, and then in an order that streams and events
// allow, taken at random over all streams. A wait that is missing shows as a wrong value.
#ifndef DSV32_TESTS_PTXEMU_FAKE_LIBCUDA_DRIVER_H_
#define DSV32_TESTS_PTXEMU_FAKE_LIBCUDA_DRIVER_H_

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "tests/ptxemu/fake_libcuda_api.h"
#include "tests/ptxemu/machine.h"

namespace dsv32::fakecuda {

// clang-format off
enum class Call : std::size_t {
#define FAKECUDA_ENUMERATOR(name, parameters) name,
  FAKECUDA_CALLS(FAKECUDA_ENUMERATOR)
#undef FAKECUDA_ENUMERATOR
  count
};
// clang-format on
inline constexpr std::size_t kCalls = static_cast<std::size_t>(Call::count);

struct Settings {
  long long devices = 2, major = 8, minor = 7, memory = 8LL << 30, version = 13'000, stub = 0;
  long long seed = 1, mode = 0, order = 0, eager = 0, detect = 1, ignored = 0;
  long long early = 0, host_memory = 4LL << 30, strict = 1;
  long long* find(const std::string& name);
};

// CU_STREAM_LEGACY: a number, no pointer.
inline const Handle kLegacyStream = reinterpret_cast<Handle>(1);  // NOLINT

enum class ObjectKind { context, stream, event, module, function, graph, executable, count };

struct Context;

// Whatever has a handle. Handles are numbers that no pointer is, and are not used twice.
struct Object {
  Object(ObjectKind of, std::shared_ptr<Context> in) : kind(of), context(std::move(in)) {}
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  const ObjectKind kind;
  const std::shared_ptr<Context> context;  // null: it is one itself
  bool destroyed = false;
};

struct Block {  // of device or pinned memory
  std::size_t bytes = 0;
  std::uint64_t id = 0;  // no other block's, even at the same address
};

struct Device {
  explicit Device(std::size_t bytes) : machine(bytes) {}
  ptxemu::Machine machine;
  std::shared_ptr<Context> primary;  // null while nobody retains it
};

struct Context : Object {
  Context(int of, std::shared_ptr<Device> on)
      : Object(ObjectKind::context, nullptr), ordinal(of), device(std::move(on)) {}
  ptxemu::Machine& machine() const { return device->machine; }
  const int ordinal;
  const std::shared_ptr<Device> device;
  Handle handle = nullptr;
  int retained = 0;
  Result sticky = success;  // once the device has failed: every call's result
  std::map<DevicePointer, Block> memory;
  std::map<const char*, Block> pinned;
};

struct Module : Object {
  static constexpr ObjectKind kKind = ObjectKind::module;
  explicit Module(std::shared_ptr<Context> in) : Object(kKind, std::move(in)) {}
  ptxemu::Module code;
  ptxemu::Machine::Loaded loaded = 0;
};

struct Function : Object {
  static constexpr ObjectKind kKind = ObjectKind::function;
  explicit Function(std::shared_ptr<Module> of)
      : Object(kKind, of->context), module(std::move(of)) {}
  const std::shared_ptr<Module> module;
  const ptxemu::Kernel* kernel = nullptr;
  std::size_t max_dynamic_shared = 48 * 1024;
};

// A launch, copy or fill: what may fail when it is executed.
struct Task {
  bool is_kernel = false;
  std::function<Result()> run;
};

struct Node {
  std::shared_ptr<const Task> task;
  std::vector<std::size_t> after;  // nodes
};

struct Graph : Object {
  static constexpr ObjectKind kKind = ObjectKind::graph;
  explicit Graph(std::shared_ptr<Context> in) : Object(kKind, std::move(in)) {}
  std::vector<Node> nodes;
};

struct Executable : Object {
  static constexpr ObjectKind kKind = ObjectKind::executable;
  explicit Executable(std::shared_ptr<Context> in) : Object(kKind, std::move(in)) {}
  std::vector<Node> nodes;
  bool running = false;  // two launches of one never overlap
};

struct Capture {
  std::shared_ptr<Graph> graph;
  const Object* origin = nullptr;
  std::thread::id thread;
  int mode = capture_global;
  bool invalid = false, ended = false;
};

struct Event : Object {
  static constexpr ObjectKind kKind = ObjectKind::event;
  explicit Event(std::shared_ptr<Context> in) : Object(kKind, std::move(in)) {}
  bool timing = true;
  std::uint64_t recorded = 0, completed = 0;  // versions
  std::uint64_t clock = 0;
  std::shared_ptr<Capture> capture;  // it was last recorded in one: a point in a graph
  std::vector<std::size_t> point;
};

// A launch of a graph that has begun.
struct GraphRun {
  std::shared_ptr<Executable> executable;
  std::vector<bool> done;
  std::size_t left = 0;
};

// What stands in a stream: one of these four.
struct Entry {
  std::shared_ptr<const Task> task{};
  std::shared_ptr<GraphRun> graph{};
  std::shared_ptr<Event> event{};
  std::uint64_t version = 0;  // of the event
  bool waits = false;         // for the event; else it records it
};

struct Stream : Object {
  static constexpr ObjectKind kKind = ObjectKind::stream;
  explicit Stream(std::shared_ptr<Context> in) : Object(kKind, std::move(in)) {}
  bool blocking = true;
  std::deque<Entry> queue;
  std::shared_ptr<Capture> capture;
  std::vector<std::size_t> point;  // in the capture: what the next node comes after
};

// Counts down to the call, or the piece of work, that fails.
struct Failure {
  std::string name;
  long long left = 0;
  Result result = unknown;
};

// All of it, behind one lock. A call is a function object that runs under that lock.
class Driver {
 public:
  static Driver& get();
  std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex_); }

  // control (fake_libcuda_control.cc)
  Settings settings;
  void read_environment();
  void reset();
  void report() const;  // to stderr
  // Counts a call; its result, if it fails before it begins.
  Result enter(Call call);
  Result take_failure(const std::string& name);
  void finding(const std::string& text);

  // contexts and handles (fake_libcuda_driver.cc)
  Result initialize();
  std::shared_ptr<Device> device(int ordinal) const;
  Result retain(int ordinal, Handle& context);
  Result release(int ordinal, bool all);
  Result current(std::shared_ptr<Context>& context, bool broken_too = false);
  template <class T>
  Handle add(std::shared_ptr<T> object);
  template <class T>
  Result find(Handle handle, std::shared_ptr<T>& object);  // of the current context
  std::shared_ptr<Context> find_context(Handle handle);
  void destroy(Handle handle);
  std::uint64_t live(const std::string& kind) const;
  std::uint64_t new_id() { return ++ids_; }

  // work (fake_libcuda_work.cc)
  Result submit(Handle stream, Task task);
  bool is_captured(Handle stream);
  Result enqueue(Stream& stream, Entry entry);
  void add_stream(const std::shared_ptr<Stream>& stream) { streams_.push_back(stream); }
  Result record(Stream& stream, const std::shared_ptr<Event>& event);
  Result wait(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Event>& event);
  Result drain(Stream& stream);
  Result drain_until(Event& event);
  Result drain_context(Context& context, bool blocking_only);
  bool step();        // false: nothing can run
  void step_early();  // now and then
  void break_context(Context& context, Result result);
  void end_capture(Capture& capture);
  Result refuse_in_capture(Context& context);  // a call that may not be made in one

  std::uint64_t kernels = 0, copies = 0, instructions = 0, allocations = 0, device_peak = 0;
  std::array<std::uint64_t, kCalls> calls{};
  std::vector<std::string> findings;
  std::vector<Failure> failures;
  long long vanish_in = 0;  // calls; 0: it stays
  bool vanished = false;
  Result vanish_result = unknown;
  std::uint64_t clock = 0;  // of events
  ptxemu::Options run_options();

 private:
  Driver() { read_environment(); }
  bool runnable(const Stream& stream) const;
  void run_front(Stream& stream);
  Result run_task(const Task& task);
  void run_graph_node(Stream& stream, GraphRun& run);
  void destroy_context(Device& device);
  void forget(Object& object);
  std::uint64_t random();

  std::mutex mutex_;
  bool initialized_ = false;
  int process_ = 0;  // that called cuInit
  std::vector<std::shared_ptr<Device>> devices_;
  std::unordered_map<Handle, std::shared_ptr<Object>> objects_;
  std::vector<std::shared_ptr<Stream>> streams_;  // destroyed ones, too, while work is in them
  std::uint64_t ids_ = 0, launches_ = 0, random_state_ = 0;
};

// Stack of contexts of this thread.
using ContextStack = std::vector<std::shared_ptr<Context>>;
ContextStack& context_stack();
const char* call_name(Call call);
std::size_t shared_limit(const Settings& settings);  // of a block that asks for it

template <class T>
Handle Driver::add(std::shared_ptr<T> object) {
  const Handle handle = reinterpret_cast<Handle>(0x10000 + 16 * new_id());  // NOLINT: never read
  objects_.emplace(handle, std::move(object));
  return handle;
}

template <class T>
Result Driver::find(Handle handle, std::shared_ptr<T>& object) {
  std::shared_ptr<Context> context;
  if (const Result result = current(context); result != success) return result;
  const auto found = objects_.find(handle);
  if (found == objects_.end() || found->second->kind != T::kKind ||
      found->second->context != context) {
    return invalid_handle;
  }
  object = std::static_pointer_cast<T>(found->second);
  return success;
}

// Every exported function is one of these: counted, then its body under the lock.
template <class Body>
Result call(Call which, Body&& body) {
  Driver& driver = Driver::get();
  const auto lock = driver.lock();
  if (const Result result = driver.enter(which); result != success) return result;
  return body(driver);
}

#define FAKECUDA_API extern "C" __attribute__((visibility("default"))) ::dsv32::fakecuda::Result
#define FAKECUDA_TRY(expression)                                \
  do {                                                          \
    if (const ::dsv32::fakecuda::Result result_ = (expression); \
        result_ != ::dsv32::fakecuda::success) {                \
      return result_;                                           \
    }                                                           \
  } while (false)

}  // namespace dsv32::fakecuda

// Declared as listed, so that a definition that differs does not compile.
namespace dsv32::fakecuda::exported {
#define FAKECUDA_DECLARE(name, parameters) FAKECUDA_API name parameters;
FAKECUDA_CALLS(FAKECUDA_DECLARE)
#undef FAKECUDA_DECLARE
}  // namespace dsv32::fakecuda::exported

#endif  // DSV32_TESTS_PTXEMU_FAKE_LIBCUDA_DRIVER_H_
