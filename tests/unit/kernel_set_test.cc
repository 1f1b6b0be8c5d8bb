// Which kernel set runs on which processor: the choice is a function of what the processor has.
#include "lib/backend/kernel_set.h"

#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "dsv32/backend.h"

#include "tests/support/catch.h"
#include "tests/support/kernel_sets.h"
#include "tests/support/sanitized.h"

namespace dsv32::test {
namespace {

using kernels::CpuFeatures;
using kernels::CpuKernels;

constexpr CpuFeatures kHaswell = kernels::kAvx2 | kernels::kFma | kernels::kF16c;
constexpr CpuFeatures kSkylake =
    kHaswell | kernels::kAvx512F | kernels::kAvx512Bw | kernels::kAvx512Vl | kernels::kAvx512Dq;
constexpr CpuFeatures kZen4 =
    kSkylake | kernels::kAvx512Vbmi | kernels::kAvx512Vnni | kernels::kAvx512Bf16;

std::vector<const CpuKernels*> tables() {
  const kernels::CpuTables all = kernels::all_cpu_tables();
  return {all.tables, all.tables + all.count};
}

TEST_CASE("every kernel set of the build has a name of its own and every entry") {
  std::set<std::string> names;
  for (const CpuKernels* table : tables()) {
    INFO(table->name);
    CHECK(names.insert(table->name).second);
    using Entry = void (*)();
    constexpr std::size_t kFirst = offsetof(CpuKernels, embed);
    static_assert((sizeof(CpuKernels) - kFirst) % sizeof(Entry) == 0);
    Entry entries[(sizeof(CpuKernels) - kFirst) / sizeof(Entry)];
    std::memcpy(entries, reinterpret_cast<const std::byte*>(table) + kFirst, sizeof entries);
    for (const Entry entry : entries) CHECK(entry != nullptr);
  }
  CHECK(names.contains("generic"));
  CHECK(names.contains("reference"));
#if defined(__x86_64__)
  CHECK(names == std::set<std::string>{"avx512bf16", "avx512", "avx2", "generic", "reference"});
#endif
}

TEST_CASE("a processor without extensions runs the portable kernel set") {
  CHECK(choose_kernels("", 0).name == std::string("generic"));
  CHECK(choose_kernels("generic", 0).name == std::string("generic"));
  CHECK(choose_kernels("reference", 0).name == std::string("reference"));
}

TEST_CASE("a name that no kernel set has is refused, with those that run") {
  for (const char* name : {"sse9", "AVX2", "avx", " generic", "generic,avx2"}) {
    const std::string message =
        check_error(ErrorCode::unsupported, std::string("\"") + name + "\" in this build",
                    [&] { choose_kernels(name, 0); });
    CHECK(message.find("generic, reference") != std::string::npos);
  }
  check_error(ErrorCode::unsupported, "there is no kernel set",
              [] { choose_kernels(std::string(10000, '\n'), 0); });
}

#if defined(__x86_64__)
TEST_CASE("the best kernel set that a processor can run is chosen") {
  CHECK(choose_kernels("", kHaswell).name == std::string("avx2"));
  CHECK(choose_kernels("", kSkylake).name == std::string("avx512"));
  CHECK(choose_kernels("", kZen4).name == std::string("avx512bf16"));
  CHECK(choose_kernels("", ~CpuFeatures{0}).name == std::string("avx512bf16"));
  CHECK(choose_kernels("avx2", kZen4).name == std::string("avx2"));
  // Each feature that a set needs counts: without it the next set runs.
  for (int i = 0; i < kernels::kCpuFeatureCount; ++i) {
    const CpuFeatures have = kZen4 & ~(CpuFeatures{1} << i);
    const std::string name = choose_kernels("", have).name;
    INFO(kernels::cpu_feature_name(i));
    CHECK(name == (i < 3 ? "generic" : i < 7 ? "avx2" : "avx512"));
  }
}

TEST_CASE("a kernel set that the processor lacks instructions for is refused, and they are named") {
  const auto refused = [](const char* name, CpuFeatures have, const std::string& missing,
                          const std::string& running) {
    const std::string start =
        "kernel set \"" + std::string(name) + "\" needs " + missing + ", which";
    const std::string message =
        check_error(ErrorCode::unsupported, start, [&] { choose_kernels(name, have); });
    CHECK(message.ends_with("run here: " + running));
  };
  refused("avx2", 0, "avx2, fma, f16c", "generic, reference");
  refused("avx2", kHaswell & ~kernels::kFma, "fma", "generic, reference");
  refused("avx512", kHaswell, "avx512f, avx512bw, avx512vl, avx512dq", "avx2, generic, reference");
  refused("avx512bf16", kSkylake, "avx512_vbmi, avx512_vnni, avx512_bf16",
          "avx512, avx2, generic, reference");
  refused("avx512bf16", kZen4 & ~kernels::kAvx512Bf16, "avx512_bf16",
          "avx512, avx2, generic, reference");
}
#endif

TEST_CASE("what runs here is listed, best first") {
  std::vector<std::string> names;
  for (const CpuKernels* table : tables()) {
    if ((table->needs & ~kernels::cpu_features()) == 0) names.emplace_back(table->name);
  }
  CHECK(available_backends().front().kernel_sets == names);
}

TEST_CASE("tests go through all kernel sets, or through those that the build names") {
  const std::vector<std::string> all = {"avx512", "avx2", "generic", "reference"};
  CHECK(only_tested(all, "") == all);
  CHECK(only_tested(all, "generic avx2") == std::vector<std::string>{"avx2", "generic"});
  CHECK(only_tested(all, "avx") == std::vector<std::string>{});  // a name, not its beginning
  if (!kSanitized) CHECK(tested_kernel_sets().empty());
  CHECK(is_tested("generic"));
}

}  // namespace
}  // namespace dsv32::test
