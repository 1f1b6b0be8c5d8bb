// The kernel set that a caller forces reaches the sampler of generate(). As no bit shows it, the
// linker lets this file see the call (-Wl,--wrap).
#include <string_view>

#include "lib/sampling/sampler_access.h"
#include "tests/model/sessions.h"
#include "tests/support/catch.h"

#include "kernels/cpu/table.h"

namespace dsv32::test {
namespace {
std::string_view sampler_set;  // of the last Sampler that was given one
}

// SamplerAccess::use_kernels: the call, and what it calls.
void wrap_use_kernels(Sampler& sampler, std::string_view kernel_set) asm(
    "__wrap__ZN5dsv3213SamplerAccess11use_kernelsERNS_7SamplerESt17basic_string_viewIcSt11char_"
    "traitsIcEE");
void real_use_kernels(Sampler& sampler, std::string_view kernel_set) asm(
    "__real__ZN5dsv3213SamplerAccess11use_kernelsERNS_7SamplerESt17basic_string_viewIcSt11char_"
    "traitsIcEE");

void wrap_use_kernels(Sampler& sampler, std::string_view kernel_set) {
  real_use_kernels(sampler, kernel_set);
  sampler_set = SamplerAccess::kernels(sampler);
}

namespace {

TEST_CASE("a forced kernel set reaches the sampler of generate") {
  const kernels::CpuTables sets = kernels::runnable_cpu_tables();
  for (int i = 0; i < sets.count; ++i) {
    const std::string_view name = sets.tables[i]->name;
    INFO(name);
    const Model model = Model::load(
        golden("fp8"),
        {.backend = {.num_threads = 1, .kernel_set = std::string(name)}, .kv_cache_tokens = 1024});
    sampler_set = {};
    Session session(model);
    static_cast<void>(session.generate(Tokens{1, 2, 3},
                                       {.sampling = SamplingParams{.seed = 7}, .max_tokens = 2}));
    CHECK(sampler_set == (name == "reference" ? "generic" : name));
  }
}

}  // namespace
}  // namespace dsv32::test
