// Memory of models goes back to the system, and small buffers take small pages.
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "lib/backend/backend_kind.h"
#include "lib/base/memory.h"
#include "tests/model/reports_C11.h"
#include "tests/support/catch.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

TEST_CASE("reports_C13 models that go give their memory back") {
  if (kSanitized || backend_kind(Device::cpu).shapes({}).fixed_width) return;  // a double's memory
  const auto round = [] {
    std::vector<Model> models;
    for (int i = 0; i < 50; ++i) {
      models.push_back(Model::load(
          i % 5 ? golden("fp8") : std::string(DSV32_SOURCE_DIR) + "/examples/tiny_model",
          {.backend = {.num_threads = 2},
           .kv_cache_tokens = 1024,
           .max_batch_tokens = 96,
           .access = i % 2 ? FileAccess::mmap : FileAccess::read}));
      run(models.back(), 100);
    }
  };
  round();
  const std::size_t once = proc_kib("VmRSS");
  for (int i = 0; i < 5; ++i) round();
  const std::size_t after = proc_kib("VmRSS");
  INFO(once << " KiB, then " << after);
  CHECK(after < once + (16u << 10));
}

TEST_CASE("reports_C13 large pages are asked for from 8 MiB on, and not for less") {
  const auto flags = [](const std::shared_ptr<std::byte>& memory) {
    std::ifstream lines("/proc/self/smaps");
    const auto at = reinterpret_cast<std::uintptr_t>(memory.get());
    bool inside = false;
    for (std::string line; std::getline(lines, line);) {
      std::size_t dash = 0;
      if (line.find('-') < line.find(' ')) {
        const std::uintptr_t first = std::stoull(line, &dash, 16);
        inside = first <= at && at < std::stoull(line.substr(dash + 1), nullptr, 16);
      }
      if (inside && line.starts_with("VmFlags:")) return line + " ";
    }
    return std::string();
  };
  const auto small = map_memory(kLargePagesFrom - 1), large = map_memory(3 * kLargePagesFrom);
  const std::shared_ptr<std::byte> middle(large, large.get() + kLargePagesFrom);
  CHECK(flags(small).find(" nh ") != std::string::npos);
  CHECK(flags(middle).find(" hg ") != std::string::npos);
  CHECK(large.get()[3 * kLargePagesFrom - 1] == std::byte{0});
}

}  // namespace
}  // namespace dsv32::test
