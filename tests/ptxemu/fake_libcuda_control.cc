// What tests ask of the fake driver, and its settings from the environment (which the fake may
// read; the library never does).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/ptxemu/fake_libcuda.h"
#include "tests/ptxemu/fake_libcuda_driver.h"

namespace dsv32::fakecuda {
namespace {

bool known_name(const std::string& name) {
  for (std::size_t i = 0; i < kCalls; ++i) {
    if (name == call_name(static_cast<Call>(i))) return true;
  }
  return name == "allocation" || name == "kernel" || name == "copy";
}

constexpr const char* kSettings[] = {"devices", "major",   "minor", "memory",      "version",
                                     "stub",    "seed",    "mode",  "order",       "eager",
                                     "detect",  "ignored", "early", "host_memory", "strict"};

// A number, or the word for one.
long long number_of(const std::string& text) {
  constexpr const char* kModes[] = {"ideal", "sm80", "sm89", "sm90"};
  constexpr const char* kOrders[] = {"random", "forward", "backward"};
  for (long long i = 0; i < 4; ++i) {
    if (text == kModes[i]) return i;
  }
  for (long long i = 0; i < 3; ++i) {
    if (text == kOrders[i]) return i;
  }
  char* end = nullptr;
  const long long value = std::strtoll(text.c_str(), &end, 0);
  if (text.empty() || *end != '\0') {
    std::fprintf(stderr, "fakecuda: no number: '%s'\n", text.c_str());
    std::_Exit(70);  // else a test would run, and mean nothing
  }
  return value;
}

std::vector<std::string> parts(const std::string& text, char separator) {
  std::vector<std::string> out{""};
  for (const char c : text) {
    if (c == separator) {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
}

// FAKECUDA_FAIL=cuMemAlloc_v2:3:2,kernel:1:719
void read_failures(std::vector<Failure>& failures) {
  const char* text = std::getenv("FAKECUDA_FAIL");
  if (text == nullptr) return;
  for (const std::string& each : parts(text, ',')) {
    const std::vector<std::string> fields = parts(each, ':');
    if (fields.size() != 3 || !known_name(fields[0])) {
      std::fprintf(stderr, "fakecuda: FAKECUDA_FAIL=%s: not NAME:N:RESULT[,..]\n", text);
      std::_Exit(70);
    }
    failures.push_back(
        {fields[0], number_of(fields[1]), static_cast<Result>(number_of(fields[2]))});
  }
}

}  // namespace

long long* Settings::find(const std::string& name) {
  long long* const places[] = {&devices, &major,   &minor, &memory,      &version,
                               &stub,    &seed,    &mode,  &order,       &eager,
                               &detect,  &ignored, &early, &host_memory, &strict};
  static_assert(std::size(places) == std::size(kSettings));
  for (std::size_t i = 0; i < std::size(places); ++i) {
    if (name == kSettings[i]) return places[i];
  }
  return nullptr;
}

void Driver::read_environment() {
  for (const std::string name : kSettings) {
    std::string variable = "FAKECUDA_";
    for (const char c : name) variable += c == '_' ? c : static_cast<char>(c - 'a' + 'A');
    const char* value = std::getenv(variable.c_str());
    if (value != nullptr) *settings.find(name) = number_of(value);
  }
  read_failures(failures);
  if (const char* vanish = std::getenv("FAKECUDA_VANISH"); vanish != nullptr) {
    const std::vector<std::string> fields = parts(vanish, ':');
    vanish_in = number_of(fields[0]);
    if (fields.size() > 1) vanish_result = static_cast<Result>(number_of(fields[1]));
  }
  static bool at_exit = false;
  if (std::getenv("FAKECUDA_REPORT") != nullptr && !at_exit) {
    at_exit = true;
    std::atexit([] { Driver::get().report(); });
  }
}

void Driver::report() const {
  std::fprintf(stderr, "fakecuda: %llu kernels, %llu copies, %llu instructions, %llu allocations\n",
               static_cast<unsigned long long>(kernels), static_cast<unsigned long long>(copies),
               static_cast<unsigned long long>(instructions),
               static_cast<unsigned long long>(allocations));
  for (std::size_t i = 0; i < kCalls; ++i) {
    if (calls[i] == 0) continue;
    std::fprintf(stderr, "fakecuda: %-28s %llu\n", call_name(static_cast<Call>(i)),
                 static_cast<unsigned long long>(calls[i]));
  }
  for (const char* kind :
       {"device", "host", "allocation", "module", "stream", "event", "graph", "exec", "context"}) {
    if (live(kind) == 0) continue;
    std::fprintf(stderr, "fakecuda: still there: %s %llu\n", kind,
                 static_cast<unsigned long long>(live(kind)));
  }
  std::fprintf(stderr, "fakecuda: %zu findings\n", findings.size());
}

}  // namespace dsv32::fakecuda

using dsv32::fakecuda::Call;
using dsv32::fakecuda::Driver;
using dsv32::fakecuda::Result;

#define FAKECUDA_EXPORT extern "C" __attribute__((visibility("default")))

FAKECUDA_EXPORT unsigned long long fakecuda_calls(const char* name) {
  Driver& driver = Driver::get();
  const auto lock = driver.lock();
  unsigned long long sum = 0;
  for (std::size_t i = 0; i < driver.calls.size(); ++i) {
    const bool meant =
        name == nullptr || std::strcmp(name, dsv32::fakecuda::call_name(static_cast<Call>(i))) == 0;
    if (meant) sum += driver.calls[i];
  }
  return sum;
}

FAKECUDA_EXPORT void fakecuda_reset_calls(void) {
  Driver& driver = Driver::get();
  const auto lock = driver.lock();
  driver.calls = {};
  driver.kernels = driver.copies = driver.instructions = driver.allocations = 0;
  driver.device_peak = 0;
}

FAKECUDA_EXPORT unsigned long long fakecuda_count(const char* what) {
  Driver& driver = Driver::get();
  const auto lock = driver.lock();
  const std::string name = what;
  if (name == "kernels") return driver.kernels;
  if (name == "copies") return driver.copies;
  if (name == "instructions") return driver.instructions;
  if (name == "allocations") return driver.allocations;
  if (name == "device_peak") return driver.device_peak;
  return 0;
}

FAKECUDA_EXPORT unsigned long long fakecuda_live(const char* kind) {
  Driver& driver = Driver::get();
  const auto lock = driver.lock();
  return driver.live(kind);
}

FAKECUDA_EXPORT int fakecuda_fail(const char* name, int nth, int result) {
  Driver& driver = Driver::get();
  const auto lock = driver.lock();
  if (nth < 1 || !dsv32::fakecuda::known_name(name)) return -1;
  driver.failures.push_back({name, nth, static_cast<Result>(result)});
  return 0;
}

FAKECUDA_EXPORT void fakecuda_vanish(int nth, int result) {
  Driver& driver = Driver::get();
  const auto lock = driver.lock();
  driver.vanish_in = nth;
  driver.vanish_result = static_cast<Result>(result);
  driver.vanished = false;
}

FAKECUDA_EXPORT int fakecuda_set(const char* what, long long value) {
  Driver& driver = Driver::get();
  const auto lock = driver.lock();
  long long* setting = driver.settings.find(what);
  if (setting == nullptr) return -1;
  *setting = value;
  return 0;
}

FAKECUDA_EXPORT void fakecuda_reset(void) {
  Driver& driver = Driver::get();
  const auto lock = driver.lock();
  driver.reset();
}

FAKECUDA_EXPORT size_t fakecuda_findings(char* text, size_t bytes) {
  Driver& driver = Driver::get();
  const auto lock = driver.lock();
  std::string all;
  for (const std::string& each : driver.findings) all += each + "\n";
  if (text != nullptr && bytes > 0) std::snprintf(text, bytes, "%s", all.c_str());
  return driver.findings.size();
}

FAKECUDA_EXPORT void fakecuda_clear_findings(void) {
  Driver& driver = Driver::get();
  const auto lock = driver.lock();
  driver.findings.clear();
}
