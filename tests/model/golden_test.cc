// The forward pass against HF transformers in fp32, with every kernel set
// (tests/golden/model/make_golden.py).
#include <filesystem>

#include "tests/conformance/conformance.h"
#include "tests/support/catch.h"

namespace dsv32::test {
namespace {

int run(const std::string& name) {
  return conformance::run_model(
      {"--kernels", "all", std::string(DSV32_SOURCE_DIR) + "/tests/golden/model/" + name});
}

TEST_CASE("golden FP8 with F32 scales") { CHECK(run("fp8") == 0); }
TEST_CASE("golden FP8 with odd scales") { CHECK(run("fp8-odd-scales") == 0); }
TEST_CASE("golden FP8 with E8M0 scales") { CHECK(run("fp8-e8m0") == 0); }
TEST_CASE("golden BF16") { CHECK(run("bf16") == 0); }
TEST_CASE("golden F16") { CHECK(run("f16") == 0); }
TEST_CASE("golden F32") { CHECK(run("f32") == 0); }
TEST_CASE("golden dense V3") { CHECK(run("v3-dense") == 0); }

}  // namespace
}  // namespace dsv32::test
