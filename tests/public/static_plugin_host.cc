// Loads a plug-in, uses it and unloads it, a hundred times. usage: static_plugin_host FILE MODEL
#include <condition_variable>
#include <cstdio>
#include <dlfcn.h>
#include <fstream>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

namespace {

constexpr int kTimes = 100;

// A thread that lives as long as the program, and runs what it is given.
class OtherThread {
 public:
  OtherThread()
      : thread_([this](const std::stop_token& stop) {
          std::unique_lock lock(mutex_);
          while (news_.wait(lock, stop, [this] { return call_ != nullptr; })) {
            call_(argument_);
            call_ = nullptr;
            news_.notify_all();
          }
        }) {}
  void run(void (*call)(void*), void* argument) {
    std::unique_lock lock(mutex_);
    call_ = call;
    argument_ = argument;
    news_.notify_all();
    news_.wait(lock, [this] { return call_ == nullptr; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any news_;
  void (*call_)(void*) = nullptr;
  void* argument_ = nullptr;
  std::jthread thread_;
};

OtherThread* other_thread = nullptr;

bool is_loaded(const std::string& file) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.ends_with(file)) return true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  OtherThread other;
  other_thread = &other;
  const auto elsewhere = [](void (*call)(void*), void* argument) {
    other_thread->run(call, argument);
  };
  using RunElsewhere = void (*)(void (*)(void*), void*);
  int first = -1;
  for (int i = 0; i < kTimes; ++i) {
    void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 1;
    const auto best =
        reinterpret_cast<int (*)(const char*, RunElsewhere)>(dlsym(library, "best_token"));
    const int token = best(argv[2], i % 2 ? RunElsewhere(elsewhere) : nullptr);
    if (i == 0) first = token;
    if (token < 0 || token != first)
      return std::fprintf(stderr, "time %d: token %d\n", i, token), 1;
    dlclose(library);
    if (is_loaded(argv[1])) return std::fprintf(stderr, "time %d: it stays loaded\n", i), 1;
  }
  return std::printf("token %d, %d times\n", first, kTimes) > 0 ? 0 : 1;
}
